"""How near neighbours truly are: by the number of people in the bank, by weighting, and in each truth."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from raflib.report._style import PALETTE, QUERIES, STYLE, as_image, plain_axes
from raflib.report.tables import require_columns

COLOURS = (PALETTE["vanilla"], *QUERIES)
PLAIN = "as_is"
"""The weighting that leaves features as they are."""
DASHES = ("-", "--", ":", "-.")
"""Line styles of numbers of neighbours, in order."""
COLUMNS = ("space", "weighting", "truth", "people", "k", "share", "low", "high")


def retrieval_figure(summary: pd.DataFrame, path: str | Path | None = None) -> Image.Image:
    """Share of the way from a random row to the truly nearest one, in percent, by the space of the search.

    Args:
        summary: rows of `raflib.lab.nearness.nearness`: medians over subjects with their 95 % intervals.
        path: file to write, or None.

    The first panel shows the first truth by bank size and k, with features as they are. The second compares the
    weightings, and the third all truths with features as they are; both show the nearest row of the largest bank.
    Raises RafError for a table without its columns, and for no rows.
    """
    require_columns(summary, COLUMNS)
    spaces = dict(zip(summary.space.unique(), cycle(COLOURS), strict=False))
    first, least = summary.truth.iloc[0], summary.k.min()
    largest = summary[(summary.people == summary.people.max()) & (summary.k == least)]
    weightings = largest[largest.truth == first]
    with rc_context(STYLE):
        tall = max(weightings.weighting.nunique() * 0.16 * (1 + len(spaces)), 2.4)
        figure = Figure(figsize=(11.0, tall + 0.9))
        by_size, by_weighting, by_truth = figure.subplots(1, 3, width_ratios=(1.1, 1, 1))
        _plot_sizes(by_size, summary[(summary.truth == first) & (summary.weighting == PLAIN)], spaces)
        by_size.set_title(f"{first}, features as they are", loc="left")
        _plot_kinds(by_weighting, weightings, "weighting", spaces)
        by_weighting.set_title(f"{first}, by weighting", loc="left")
        _plot_kinds(by_truth, largest[largest.weighting == PLAIN], "truth", spaces)
        by_truth.set_title("features as they are, by truth", loc="left")
        figure.legend(*by_size.get_legend_handles_labels(), loc="outside upper center", ncols=6)
        return as_image(figure, path)


def _plot_sizes(ax: Axes, rows: pd.DataFrame, spaces: dict[str, str]) -> None:
    """Lines over bank sizes with bands of their intervals, for each space and k."""
    sizes = sorted(rows.people.unique())
    for (space, k), line in rows.groupby(["space", "k"], sort=False):
        line = line.sort_values("people")
        dash = DASHES[sorted(rows.k.unique()).index(k) % len(DASHES)]
        label = f"{space}, " + ("nearest row" if k == 1 else f"mean of {k} nearest rows")
        ax.plot(line.people, 100 * line.share, dash, color=spaces[space], marker="o", markersize=4, label=label)
        if k == rows.k.min():
            ax.fill_between(line.people, 100 * line.low, 100 * line.high, color=spaces[space], alpha=0.15, linewidth=0)
    if len(sizes) > 1:
        ax.set_xscale("log")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.set_xlabel("other people in the bank")
    ax.set_ylabel("% of the way from a random row\nto the truly nearest one")
    ax.set_ylim(min(0, ax.get_ylim()[0]), 100)
    ax.set_yticks(np.arange(0, 101, 20))
    ax.grid(axis="y", color="#EEEEEE")
    plain_axes(ax)


def _plot_kinds(ax: Axes, rows: pd.DataFrame, column: str, spaces: dict[str, str]) -> None:
    """A line of dots with intervals for each value of `column`, one dot for each space that has it."""
    kinds = list(dict.fromkeys(rows[column]))
    step = 0.6 / max(1, len(spaces))
    for s, (space, colour) in enumerate(spaces.items()):
        for row in rows[rows.space == space].itertuples():
            y = kinds.index(getattr(row, column)) + (s - (len(spaces) - 1) / 2) * step
            ax.plot([100 * row.low, 100 * row.high], [y, y], color=colour, linewidth=2, alpha=0.5)
            ax.plot(100 * row.share, y, "o", color=colour, markersize=5)
    ax.set_yticks(range(len(kinds)), [str(kind).replace("_", " ") for kind in kinds])
    ax.set_ylim(len(kinds) - 0.5, -0.5)
    ax.set_xlim(min(0, ax.get_xlim()[0]), 100)
    ax.set_xlabel("% of the way, nearest row")
    ax.grid(axis="x", color="#EEEEEE")
    plain_axes(ax)
