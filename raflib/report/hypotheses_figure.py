"""Changes of Table 1 under many conditions, grouped by the hypothesis that they test."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from raflib.report._style import INK, PALETTE, QUERIES, QUIET, STYLE, as_image, plain_axes
from raflib.report.paper_table1 import PAPER
from raflib.report.tables import require_columns

COLOURS = (PALETTE["vanilla"], *QUERIES)


def hypotheses_figure(
    table: pd.DataFrame, path: str | Path | None = None, limits: tuple[float, float] = (-65.0, 25.0)
) -> Image.Image:
    """Changes of MMD, KL and B2T by +RAF in percent, one line per condition, with the paper's averages.

    Args:
        table: columns `group`, `label`, `metric` ("mmd", "kl", "b2t"), `usual` (whether the metric has its usual
            definition), and the shares `change`, `low`, `high`. Groups and lines keep their order. A line may lack a
            metric. Changes by other definitions are open circles.
        path: file to write, or None.
        limits: ends of the axes in percent. An arrow means that a change lies outside.

    Raises RafError for a table without these columns or without a row.
    """
    require_columns(table, ["group", "label", "metric", "usual", "change", "low", "high"])
    lines = list(dict.fromkeys(zip(table.group, table.label, strict=True)))
    groups = list(dict.fromkeys(table.group))
    places, titles, place = {}, {}, 0.0
    for group in groups:
        titles[group], place = place, place + 1
        for line in lines:
            if line[0] == group:
                places[line], place = place, place + 1
        place += 0.3
    colours = dict(zip(groups, cycle(COLOURS), strict=False))
    with rc_context(STYLE):
        figure = Figure(figsize=(10.4, 0.225 * place + 0.9))
        axes = figure.subplots(1, len(PAPER), sharey=True)
        for ax, (metric, (vanilla, raf)) in zip(axes, PAPER.items(), strict=True):
            ax.axvline(0, color=QUIET, linewidth=1)
            ax.axvline(100 * (raf / vanilla - 1), color=INK, linewidth=1, linestyle="--", label="the paper's average")
            for row in table[table.metric == metric].itertuples():
                _line(ax, row, places[row.group, row.label], colours[row.group], limits)
            ax.set_xlim(*limits)
            ax.set_title(metric.upper(), loc="left")
            ax.set_xlabel("change by +RAF, %")
            plain_axes(ax)
        axes[0].set_yticks([*titles.values(), *places.values()], [*titles, *(label for _, label in places)])
        for text in axes[0].get_yticklabels()[: len(titles)]:
            text.set_color(colours[text.get_text()])
            text.set_fontweight("bold")
        axes[0].set_ylim(place, -0.8)
        handles, texts = axes[0].get_legend_handles_labels()
        handles += [Line2D([], [], color=INK, marker="o", markerfacecolor=colour) for colour in (INK, "white")]
        texts += ["MMD, KL with 8 components, B2T", "MMD², KL with 30 components"]
        figure.legend(handles, texts, loc="outside lower right", ncols=3)
        return as_image(figure, path)


def _line(ax: Axes, row: Any, place: float, colour: str, limits: tuple[float, float]) -> None:
    """A change and its interval; an arrow at the edge where the change lies outside of it."""
    change, low, high = 100 * row.change, 100 * row.low, 100 * row.high
    place = place if row.usual else place + 0.28
    if np.isfinite(low):
        width = 2 if row.usual else 1
        ax.plot(np.clip([low, high], *limits), [place, place], color=colour, linewidth=width, solid_capstyle="butt")
    if limits[0] <= change <= limits[1]:
        ax.scatter(change, place, s=26, facecolor=colour if row.usual else "white", edgecolor=colour, zorder=3)
        return
    edge = limits[0] if change < limits[0] else limits[1]
    ax.scatter(edge, place, s=36, marker="<" if change < limits[0] else ">", color=colour, zorder=3, clip_on=False)
    inside = 6 if change < limits[0] else -6
    ax.annotate(
        f"{change:+.0f}".replace("-", "−"), (edge, place), xytext=(inside, 0), textcoords="offset points", va="center",
        ha="left" if inside > 0 else "right", color=colour, fontsize=STYLE["font.size"], backgroundcolor="white",
    )  # fmt: skip
