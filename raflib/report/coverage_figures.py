"""Figures of coverage: Table 1, the share of each training sequence, actions out of range, distances of a clip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from raflib.errors import RafError
from raflib.report._style import INK, PALETTE, QUERIES, QUIET, STYLE, as_image, plain_axes
from raflib.report.tables import LOWER_IS_BETTER, require_columns

if TYPE_CHECKING:
    from raflib.coverage import ClipDistance

MEASURES = {
    **{name: f"{name.upper()} ↓" for name in LOWER_IS_BETTER},
    "effective_rank": "effective rank ↑",
    "precision": "precision ↑",
    "recall": "recall ↑",
}
"""Columns that `coverage_figure` plots, and their titles."""
LARGEST = {"precision": 1.0, "recall": 1.0}
"""The last tick on the axis of a share."""
LIGHT = "#86D1BC"
"""A lighter green than the colour of RAF, for its second interval."""
CLIPS = (PALETTE["vanilla"], QUERIES[0], *QUERIES[2:])
"""Colours of clips; the first is for the subject's own clip."""


def coverage_figure(rows: pd.DataFrame, path: str | Path | None = None) -> Image.Image:
    """Table 1 as an image: for each measure and subject, the value of Vanilla and that of +RAF.

    `rows` has `subject`, `method` ("vanilla", "raf") and a column for each measure, any of `MEASURES`. Values of the
    method "drivers", where there are any, are plotted as the goal. Axes begin near the values, because a change of some
    percent would be invisible from 0. They span at least a quarter of the value, so the change does not look large.
    """
    measures = [name for name in MEASURES if name in rows]
    require_columns(rows, ["subject", "method"])
    if not measures:
        raise RafError(f"coverage figure: none of the columns {', '.join(MEASURES)} is there")
    wide = rows.pivot_table(index="subject", columns="method", values=measures, sort=False)
    names = [str(name) for name in wide.index]
    places = np.arange(len(names))
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(measures) + 0.6, 0.5 * len(names) + 1.5))
        axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for ax, measure in zip(axes, measures, strict=True):
            before, after = wide[measure, "vanilla"].to_numpy(), wide[measure, "raf"].to_numpy()
            goal = wide[measure].get("drivers", pd.Series(np.nan, wide.index)).to_numpy()
            ax.set_title(f"{MEASURES[measure]}{_change(before, after)}".replace("-", "−"), loc="left", fontsize=9)
            ax.plot([before, after], [places - 0.18, places + 0.18], color="#C8C8C8", linewidth=2, zorder=1)
            _marks(ax, before, after, places - 0.18, PALETTE["vanilla"], "o", "Vanilla")
            _marks(ax, after, before, places + 0.18, PALETTE["raf"], "D", "+RAF")
            _marks(ax, goal, np.full(len(names), -np.inf), places, PALETTE["truth"], "|", "the drivers' own (the goal)")
            low, high = (f([before, after, goal]) for f in (np.nanmin, np.nanmax))
            room = max(0.25 * abs(high) - (high - low), 0.8 * (high - low)) / 2  # the numbers stand beside the marks
            room = room or 0.5  # all values are 0
            ax.set_xlim(low - room, high + room)
            ax.locator_params(axis="x", nbins=4)
            ax.set_xticks([x for x in ax.get_xticks() if low - room <= x <= min(high + room, LARGEST.get(measure, x))])
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.set_yticks(places, names)
            plain_axes(ax)
        axes[0].set_ylabel("subject")
        goals = wide.columns.get_level_values("method") == "drivers"
        count = 3 if wide.loc[:, goals].notna().any(axis=None) else 2
        handles, texts = (every[:count] for every in axes[0].get_legend_handles_labels())
        note = "axes do not begin at 0; each spans a quarter of its value or more"
        figure.legend(handles, texts, loc="outside lower center", ncols=count, title=note)
        return as_image(figure, path)


def _change(before: np.ndarray, after: np.ndarray) -> str:
    """The change of the means in percent, as the end of a title; nothing where it begins at 0."""
    start = np.nanmean(before)
    if start == 0:
        return ""
    return f"   ({100 * (np.nanmean(after) / start - 1):+.0f} %{' on average' if len(before) > 1 else ''})"


def _marks(
    ax: Axes, values: np.ndarray, others: np.ndarray, places: np.ndarray, colour: str, marker: str, label: str
) -> None:
    """Plot one method's value of each subject, its number on the side away from the other method's value."""
    size = 160 if marker == "|" else 40
    ax.scatter(values, places, s=size, color=colour, label=label, marker=marker, zorder=3)
    for value, other, place in zip(values, others, places, strict=True):
        if np.isnan(value):
            continue
        side, align = (1, "left") if value >= other else (-1, "right")
        note = f"{value:#.3g}", (value, place), (7 * side, 0)
        ax.annotate(*note, textcoords="offset points", va="center", ha=align, fontsize=9, color=INK)


def change_figure(wide: pd.DataFrame, path: str | Path | None = None) -> Image.Image:
    """`raflib.report.table1` as changes in % with both intervals; the average and the paper's average stand below.

    All panels have the same axis, over the measured changes and intervals. A paper's value beyond the axis is shown as
    an arrow with its number at the edge.
    """
    metrics = list(dict.fromkeys(metric for metric, _ in wide.columns))
    if len(wide) == 3:  # one subject is its own average
        wide = wide.drop(index="Average")
    places, own = np.arange(len(wide)), wide.iloc[:-1]
    parts = ["change", "low", "high", "draws_low", "draws_high"]
    seen = 100 * own.loc[:, [(metric, part) for metric in metrics for part in parts]].to_numpy(float)
    low, high = min(0.0, np.nanmin(seen)), max(0.0, np.nanmax(seen))
    low, high = low - 0.1 * (high - low), high + 0.1 * (high - low)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(metrics) + 0.9, 0.42 * len(wide) + 1.7))
        axes = figure.subplots(1, len(metrics), sharex=True, sharey=True, squeeze=False)[0]
        for ax, metric in zip(axes, metrics, strict=True):
            ends = {part: 100 * own[metric, part].to_numpy(float) for part in parts}
            ax.axvline(0, color=QUIET, linewidth=1)
            drivers = "95 % for other drivers (in the average's row: other subjects)"
            lines = places[:-1] - 0.14, ends["low"], ends["high"]
            ax.hlines(*lines, color=PALETTE["raf"], linewidth=3, label=drivers)
            lines = places[:-1] + 0.14, ends["draws_low"], ends["draws_high"]
            ax.hlines(*lines, color=LIGHT, linewidth=3, label="95 % for other samples of the training vectors")
            ax.scatter(ends["change"], places[:-1], s=30, color=PALETTE["raf"], marker="D", label="+RAF", zorder=3)
            _paper(ax, 100 * wide[metric, "change"].iloc[-1], places[-1], low, high)
            ax.set_title(f"change of {metric.upper()}, %", loc="left")
            ax.set_xlim(low, high)
            ax.set_ylim(len(wide) - 0.5, -0.5)
            ax.set_yticks(places, [str(name) for name in wide.index])
            plain_axes(ax)
        handles, texts = axes[0].get_legend_handles_labels()
        order = [texts.index("+RAF"), *(i for i, text in enumerate(texts) if text.startswith("95"))]
        beyond = not (100 * wide.iloc[-1][[(metric, "change") for metric in metrics]]).between(low, high).all()
        note = "left of 0: +RAF is closer to the drivers" + ("; arrows: beyond the axis" if beyond else "")
        shown = [handles[i] for i in order], [texts[i] for i in order]
        figure.legend(*shown, loc="outside lower center", ncols=1, title=note)
        return as_image(figure, path)


def _paper(ax: Axes, change: float, place: int | np.integer, low: float, high: float) -> None:
    """Plot the paper's change as a star; where it lies beyond the axis, as an arrow with its number at the edge."""
    if low <= change <= high:
        ax.scatter(change, place, s=46, color=PALETTE["truth"], marker="*", zorder=3)
        return
    edge, side = (low, 1) if change < low else (high, -1)
    ax.annotate(
        f"{change:+.0f} %".replace("-", "−"), (edge, place), (26 * side, 0), textcoords="offset points", va="center",
        ha="left" if side > 0 else "right", fontsize=9, color=INK, arrowprops={"arrowstyle": "->", "color": INK},
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def sequence_figure(rows: pd.DataFrame, path: str | Path | None = None) -> Image.Image:
    """`raflib.coverage.by_sequence` as bars and dots, one line for each training sequence.

    Left: the share of drivers' frames whose nearest training frame is in the sequence. Right: the drivers' mean
    distance to the nearest frame when only this sequence is used.
    """
    require_columns(rows, ["sequence", "b2t_alone", "nearest_share"])
    rows = rows.sort_values("nearest_share", ascending=False)
    places = np.arange(len(rows))
    with rc_context(STYLE):
        figure = Figure(figsize=(7.6, 0.22 * len(rows) + 1.1))
        left, right = figure.subplots(1, 2, sharey=True)
        left.barh(places, 100 * rows["nearest_share"], color=PALETTE["vanilla"], height=0.7)
        left.set_title("drivers' frames nearest to it, %", loc="left")
        right.scatter(rows["b2t_alone"], places, s=26, color=PALETTE["vanilla"])
        right.set_title("drivers' mean distance to it alone", loc="left")
        right.set_xlabel("feature distance; not from 0")
        left.set_yticks(places, rows["sequence"])
        left.set_ylim(len(rows) - 0.4, -0.6)
        for ax in (left, right):
            plain_axes(ax)
        return as_image(figure, path)


def dimension_figure(rows: pd.DataFrame, path: str | Path | None = None, count: int = 15) -> Image.Image:
    """`raflib.coverage.by_dimension` for the first `count` rows, the dimensions that contribute most to the distance.

    Panels: ranges over training and driver frames, share of the squared distance, drivers' frames out of range.
    """
    require_columns(rows, ["name", "low", "high", "target_low", "target_high", "outside", "share"])
    rows = rows.head(count)
    places = np.arange(len(rows))
    with rc_context(STYLE):
        figure = Figure(figsize=(8.6, 0.28 * len(rows) + 1.5))
        ranges, share, outside = figure.subplots(1, 3, sharey=True, width_ratios=(2, 1, 1))
        training = places - 0.18, rows["low"], rows["high"]
        drivers = places + 0.18, rows["target_low"], rows["target_high"]
        ranges.hlines(*training, color=PALETTE["vanilla"], linewidth=5, label="training frames, all")
        ranges.hlines(*drivers, color=PALETTE["driver"], linewidth=5, label="drivers' frames, the middle 98 %")
        ranges.set_title("range of the coefficient", loc="left")
        share.barh(places, 100 * rows["share"], color="#A8A8A8", height=0.7)
        share.set_title("share of the squared\ndistance, %", loc="left")
        outside.barh(places, 100 * rows["outside"], color=PALETTE["driver"], height=0.7)
        outside.set_title("drivers' frames outside\nthe training range, %", loc="left")
        ranges.set_yticks(places, rows["name"])
        ranges.set_ylim(len(rows) - 0.4, -0.6)
        for ax in (ranges, share, outside):
            plain_axes(ax)
        figure.legend(*ranges.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return as_image(figure, path)


def clip_figure(
    clips: Mapping[str, ClipDistance],
    path: str | Path | None = None,
    seconds: Mapping[str, Float[np.ndarray, " T"]] | None = None,
) -> Image.Image:
    """Distance of clips to a training set over time: one line for each clip, its farthest frames marked.

    The yardstick, which is dashed, is that of the first clip; all clips are measured against the same training set.
    `seconds` holds the time of each frame of each clip; without it frames are numbered. RafError without a clip.
    """
    if not clips:
        raise RafError("clip figure: no clips were given; pass at least one of raflib.coverage.clip_distance")
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.4 + 0.1 * len(clips)))
        ax = figure.subplots()
        for i, (name, clip) in enumerate(clips.items()):
            colour = CLIPS[i % len(CLIPS)]
            time = np.arange(len(clip.distance)) if seconds is None else np.asarray(seconds[name])
            ax.plot(time, clip.distance, color=colour, linewidth=1.5, label=f"{name}: {100 * clip.beyond:.0f} % beyond")
            ax.scatter(time[clip.worst], clip.distance[clip.worst], s=28, color=colour, zorder=3)
        ax.scatter([], [], s=28, color=QUIET, label="farthest frames of a clip")
        yardstick = next(iter(clips.values())).yardstick
        label = "yardstick (95 % of training frames)"
        ax.axhline(yardstick, color=INK, linestyle="--", linewidth=1, label=label)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("frame of the clip" if seconds is None else "time in the clip, s")
        ax.set_ylabel("distance of features\nto the nearest training frame")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return as_image(figure, path)
