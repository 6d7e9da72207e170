"""Pictures of coverage: Table 1, what each training sequence gives, which actions lie outside, how far a clip is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from raflib.errors import RafError
from raflib.report._drawing import INK, PALETTE, QUERIES, QUIET, SPARE, STYLE, drawn, plain_axes
from raflib.report.tables import LOWER_IS_BETTER, require_columns

if TYPE_CHECKING:
    from raflib.coverage import ClipDistance

MEASURES = {
    **{name: f"{name.upper()} ↓" for name in LOWER_IS_BETTER},
    "effective_rank": "effective rank ↑",
    "precision": "precision ↑",
    "recall": "recall ↑",
}
"""Columns `coverage_figure` draws, and what it calls them."""


def coverage_figure(rows: pd.DataFrame, path: str | Path | None = None) -> Image.Image:
    """Table 1 as a picture: per measure, each subject's Vanilla value and where +RAF moves it.

    `rows` has `subject`, `method` ("vanilla", "raf") and a column a measure, any of `MEASURES`.
    """
    measures = [name for name in MEASURES if name in rows]
    require_columns(rows, ["subject", "method"])
    if not measures:
        raise RafError(f"coverage figure: none of the columns {', '.join(MEASURES)} is there")
    wide = rows.pivot_table(index="subject", columns="method", values=measures, sort=False)
    names = [str(name) for name in wide.index]
    places = np.arange(len(names))
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(measures) + 0.6, 0.32 * len(names) + 1.3))
        axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for ax, measure in zip(axes, measures, strict=True):
            before, after = wide[measure, "vanilla"].to_numpy(), wide[measure, "raf"].to_numpy()
            ax.hlines(places, before, after, color="#C8C8C8", linewidth=3, zorder=1)
            ax.scatter(before, places, s=46, color=PALETTE["vanilla"], label="Vanilla", zorder=2)
            ax.scatter(after, places, s=46, color=PALETTE["raf"], label="+RAF", marker="D", zorder=3)
            change = 100 * (np.nanmean(after) / np.nanmean(before) - 1)
            mean = " on average" if len(names) > 1 else ""
            ax.set_title(f"{MEASURES[measure]}   ({change:+.0f} %{mean})".replace("-", "−"), loc="left", fontsize=9)
            ax.set_xlim(0, 1.08 * np.nanmax([before, after]))
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.set_yticks(places, names)
            plain_axes(ax)
        axes[0].set_ylabel("subject")
        handles, texts = axes[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=2)
        return drawn(figure, path)


def change_figure(wide: pd.DataFrame, path: str | Path | None = None) -> Image.Image:
    """`raflib.coverage.table1` as changes in % with their intervals, the average and the paper's average below."""
    metrics = list(dict.fromkeys(metric for metric, _ in wide.columns))
    if len(wide) == 3:  # one subject is its own average
        wide = wide.drop(index="Average")
    places = np.arange(len(wide))
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(metrics) + 0.9, 0.32 * len(wide) + 1.1))
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for ax, metric in zip(axes, metrics, strict=True):
            change, low, high = (100 * wide[metric, part].to_numpy() for part in ("change", "low", "high"))
            ax.axvline(0, color=QUIET, linewidth=1)
            ax.hlines(places, low, high, color=PALETTE["raf"], linewidth=2)
            ax.scatter(change[:-1], places[:-1], s=36, color=PALETTE["raf"], marker="D", zorder=3)
            ax.scatter(change[-1:], places[-1:], s=46, color=SPARE[0], marker="*", zorder=3)
            ax.set_title(f"change of {metric.upper()}, %", loc="left")
            ax.set_ylim(len(wide) - 0.5, -0.5)
            ax.set_yticks(places, [str(name) for name in wide.index])
            plain_axes(ax)
        figure.supxlabel("left of the line: +RAF is closer to the drivers; bars are 95 % intervals", fontsize=8)
        return drawn(figure, path)


def sequence_figure(rows: pd.DataFrame, path: str | Path | None = None) -> Image.Image:
    """`raflib.coverage.by_sequence`: whose frames are the nearest ones, and how far drivers would be with one alone."""
    require_columns(rows, ["sequence", "b2t_alone", "nearest_share"])
    rows = rows.sort_values("nearest_share", ascending=False)
    places = np.arange(len(rows))
    with rc_context(STYLE):
        figure = Figure(figsize=(7.6, 0.2 * len(rows) + 1.0))
        left, right = figure.subplots(1, 2, sharey=True)
        left.barh(places, 100 * rows["nearest_share"], color=PALETTE["vanilla"], height=0.7)
        left.set_title("% of drivers' frames nearest to it", loc="left")
        right.scatter(rows["b2t_alone"], places, s=26, color=PALETTE["vanilla"])
        right.set_title("mean distance to it alone", loc="left")
        right.set_xlim(0, 1.08 * rows["b2t_alone"].max())
        left.set_yticks(places, rows["sequence"])
        left.set_ylim(len(rows) - 0.4, -0.6)
        for ax in (left, right):
            plain_axes(ax)
        return drawn(figure, path)


def dimension_figure(rows: pd.DataFrame, path: str | Path | None = None, count: int = 15) -> Image.Image:
    """`raflib.coverage.by_dimension`: the `count` dimensions that make drivers far, training and driver ranges."""
    require_columns(rows, ["name", "low", "high", "target_low", "target_high", "outside", "share"])
    rows = rows.head(count)
    places = np.arange(len(rows))
    with rc_context(STYLE):
        figure = Figure(figsize=(7.6, 0.26 * len(rows) + 1.3))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
        left.hlines(places - 0.15, rows["low"], rows["high"], color=PALETTE["vanilla"], linewidth=5, label="training")
        ends = rows["target_low"], rows["target_high"]
        left.hlines(places + 0.2, *ends, color=PALETTE["noise"], linewidth=5, label="drivers (98 %)")
        left.set_title("range of the coefficient", loc="left")
        right.barh(places, 100 * rows["share"], color="#C8C8C8", height=0.7)
        for place, outside, share in zip(places, rows["outside"], rows["share"], strict=True):
            right.text(100 * share, place, f" {100 * outside:.0f} % outside", va="center", fontsize=7, color=INK)
        right.set_xlim(0, 150 * rows["share"].max())
        right.set_title("% of the squared distance", loc="left")
        left.set_yticks(places, rows["name"])
        left.set_ylim(len(rows) - 0.4, -0.6)
        for ax in (left, right):
            plain_axes(ax)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return drawn(figure, path)


def clip_figure(clips: Mapping[str, ClipDistance], path: str | Path | None = None) -> Image.Image:
    """How far clips are from a training set, frame by frame: a line a clip, the yardstick dashed, worst frames marked.

    All clips are measured against the same training set, whose yardstick is that of the first.
    """
    if not clips:
        raise RafError("clip figure: no clips were given; pass at least one of raflib.coverage.clip_distance")
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.6))
        ax = figure.subplots()
        for i, (name, clip) in enumerate(clips.items()):
            colour = QUERIES[i % len(QUERIES)]
            ax.plot(clip.distance, color=colour, linewidth=1.5, label=f"{name} ({100 * clip.beyond:.0f} % beyond)")
            ax.scatter(clip.worst, clip.distance[clip.worst], s=28, color=colour, zorder=3)
        yardstick = next(iter(clips.values())).yardstick
        ax.axhline(yardstick, color=QUIET, linestyle="--", linewidth=1, label="95 % of the training set's own spacing")
        ax.set_ylim(bottom=0)
        ax.set_xlabel("frame of the clip")
        ax.set_ylabel("distance to training")
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return drawn(figure, path)
