"""Figure 3: which candidate people prefer, separately for head pose and expression; and figures beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from raflib.report._style import FAINT, INK, PALETTE, QUERIES, STYLE, as_image, plain_axes
from raflib.report.tables import require_columns

SHARES = {
    "nearest": (PALETTE["raf"], "nearest row of the whole bank"),
    "tie": (FAINT, "tie"),
    "other": (PALETTE["noise"], "the other candidate"),
}
AXES = {"pose": "head pose", "expression": "expression"}
HEADINGS = {
    "nearest_vs_random": "nearest of the whole bank, or a random row",
    "whole_vs_small": "nearest of the whole bank, or of the small bank",
}
LEAST = 0.07
"""Narrowest part of a bar that has its number inside."""


def study_figure(preferences: pd.DataFrame, path: str | Path | None = None) -> Image.Image:
    """Shares of answers for each candidate and for ties, with 95 % intervals, as bars.

    Args:
        preferences: the table of `raflib.study.preferences`.
        path: file to write, or None.

    One row of panels per feature space, one column per axis, and one bar per comparison and group of raters. The lines
    below a bar are intervals: of where the nearest row's part ends, and of where the other candidate's part begins.
    Raises RafError for a table without its columns, and for an empty one.
    """
    names = ["nearest", "tie", "other"]
    ends = [f"{name}_{end}" for name in ("nearest", "other") for end in ("low", "high")]
    require_columns(preferences, ["group", "space", "condition", "axis", "raters", "questions", *names, *ends])
    spaces = list(dict.fromkeys(preferences.space))
    conditions = [name for name in HEADINGS if name in set(preferences.condition)]
    groups = sorted(set(preferences.group), key=lambda name: (name != "people", name))
    height = len(conditions) * (len(groups) + 0.75)
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, 0.9 + len(spaces) * (0.5 + 0.3 * height)))
        panels = figure.subplots(len(spaces), 2, sharex=True, sharey=True, squeeze=False)
        for line, space in zip(panels, spaces, strict=True):
            for ax, axis in zip(line, AXES, strict=True):
                part = preferences[(preferences.space == space) & (preferences.axis == axis)]
                _bars(ax, part, conditions, groups)
                ax.set_title(f"{AXES[axis]} (neighbours by {space})", loc="left", pad=8)
        for ax in panels[-1]:
            ax.set_xlabel("% of answers")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        shown = dict(zip(labels, handles, strict=True))
        figure.legend(shown.values(), shown, loc="outside upper center", ncols=3)
        return as_image(figure, path)


def nearness_figure(table: pd.DataFrame, path: str | Path | None = None) -> Image.Image:
    """How much nearer the nearest row truly is than a random row, by bank size, for each axis and feature space.

    Args:
        table: the table of `raflib.study.closer_than_random`.
        path: file to write, or None.

    Raises RafError for a table without its columns, and for an empty one.
    """
    require_columns(table, ["space", "axis", "people", "closer", "low", "high"])
    sizes, spaces = sorted(set(table.people)), list(dict.fromkeys(table.space))
    colours = (PALETTE["raf"], *QUERIES)
    with rc_context(STYLE):
        figure = Figure(figsize=(7.4, 3.1))
        panels = figure.subplots(1, 2, sharey=True)
        for ax, axis in zip(panels, AXES, strict=True):
            for number, space in enumerate(spaces):
                part = table[(table.space == space) & (table.axis == axis)].sort_values("people")
                colour = colours[number % len(colours)]
                ax.fill_between(part.people, 100 * part.low, 100 * part.high, color=colour, alpha=0.15, linewidth=0)
                ax.plot(part.people, 100 * part.closer, color=colour, marker="o", markersize=4, label=space)
            ax.axhline(0, color=INK, linewidth=0.8)
            if len(sizes) > 1:
                ax.set_xscale("log")
            ax.set_xticks(sizes, [str(size) for size in sizes])
            ax.minorticks_off()
            ax.set_title(f"true {AXES[axis]}", loc="left")
            ax.set_xlabel("other people in the bank")
            plain_axes(ax)
            ax.grid(axis="y", color="#EEEEEE")
        panels[0].set_ylabel("% nearer than a random row")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        return as_image(figure, path)


def power_figure(
    widths: Mapping[str, Mapping[int, float]], goal: float = 0.03, path: str | Path | None = None
) -> Image.Image:
    """Half of the 95 % interval of a share by the number of raters: one line per label of `widths`.

    `widths` holds half widths (as shares) by numbers of raters; `goal` is marked by a line.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2))
        ax = figure.subplots()
        for (label, line), colour in zip(widths.items(), (PALETTE["raf"], PALETTE["vanilla"], *QUERIES), strict=False):
            ax.plot(list(line), [100 * half for half in line.values()], color=colour, marker="o", ms=3, label=label)
        ax.axhline(100 * goal, color=INK, linewidth=0.8, linestyle="--")
        ax.annotate(f"±{100 * goal:g} points", (0.01, 97 * goal), xycoords=("axes fraction", "data"), va="top")
        ax.set_xscale("log")
        ticks = sorted({count for line in widths.values() for count in line})
        ax.set_xticks(ticks, [str(count) for count in ticks])
        ax.minorticks_off()
        ax.set_ylim(0)
        ax.set_xlabel("raters")
        ax.set_ylabel("half of the 95 % interval,\npercentage points")
        plain_axes(ax)
        ax.grid(axis="y", color="#EEEEEE")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        return as_image(figure, path)


def _bars(ax: Axes, part: pd.DataFrame, conditions: list[str], groups: list[str]) -> None:
    """One panel of Figure 3."""
    places, labels, y = [], [], 0.0
    for condition in conditions:
        ax.text(0, y - 0.6, HEADINGS[condition], color=INK, fontsize=9, va="center")
        for group in groups:
            found = part[(part.condition == condition) & (part.group == group)]
            places.append(y)
            labels.append(_label(group, part))
            if len(found):
                _bar(ax, y, found.iloc[0])
            y += 1.0
        y += 0.75
    ax.set_yticks(places, labels)
    ax.set_ylim(y - 1.2, -1.0)
    ax.set_xlim(0, 100)
    ax.axvline(50, color="white", linewidth=1)
    plain_axes(ax)


def _bar(ax: Axes, y: float, row: pd.Series) -> None:
    """One stacked bar with its numbers and intervals."""
    left = 0.0
    for name, (colour, label) in SHARES.items():
        width = float(row[name])
        ax.barh(y, 100 * width, left=100 * left, height=0.5, color=colour, label=label, linewidth=0)
        if width >= LEAST:
            ink = INK if name == "tie" else "white"
            place = 100 * (left + (width / 2 if name == "tie" else width if name == "other" else 0))
            place += {"nearest": 1.5, "other": -1.5}.get(name, 0)
            side = {"nearest": "left", "other": "right"}.get(name, "center")
            ax.text(place, y, f"{100 * width:.0f}", color=ink, va="center", ha=side, fontsize=9, fontweight="bold")
        left += width
    ends = {"nearest": (row.nearest_low, row.nearest_high), "other": (1 - row.other_high, 1 - row.other_low)}
    for below, (name, (low, high)) in zip((0.3, 0.38), ends.items(), strict=True):
        ax.plot([100 * low, 100 * high], [y + below] * 2, color=SHARES[name][0], linewidth=1.6, solid_capstyle="butt")


def _label(group: str, part: pd.DataFrame) -> str:
    """The group with its number of people, or the observer's name marked as such."""
    counts = part[part.group == group].raters
    if group != "people":
        return f"program: {group.split(':')[-1]}"
    return f"people ({int(counts.max())})" if len(counts) else "people"
