"""Tracked signals beside the true ones over time, and their correlation for each action."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from raflib.errors import RafError
from raflib.report._style import INK, PALETTE, STYLE, as_image, plain_axes
from raflib.report.tables import require_columns

WITHIN, POOLED = "#4D4D4D", "#BDBDBD"
"""Colours of the two correlations."""


def signals_figure(
    seconds: Float[np.ndarray, " T"],
    true: Float[np.ndarray, "T n"] | None,
    tracked: Float[np.ndarray, "T n"],
    names: Sequence[str],
    path: str | Path | None = None,
) -> Image.Image:
    """True and tracked features over time, a panel for each of `names` [n], with their correlation in its title.

    `seconds` are the times of the frames. Where nothing true is known, `true` is None and panels show what was tracked.
    Raises RafError when the sizes of the arguments differ.
    """
    known, tracked = true is not None, np.asarray(tracked)
    true = np.asarray(true) if known else tracked
    if not true.shape == tracked.shape == (len(seconds), len(names)):
        shapes = f"true {true.shape}, tracked {tracked.shape}"
        raise RafError(
            f"signals figure: {shapes}, expected ({len(seconds)}, {len(names)}): a row a frame, a column a name"
        )
    scores = np.nanmin(tracked, initial=0) >= 0 and np.nanmax(tracked, initial=0) <= 1
    with rc_context(STYLE):
        figure = Figure(figsize=(8.6, 1.25 * len(names) + 1.2))
        panels = figure.subplots(len(names), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for i, (ax, name) in enumerate(zip(panels, names, strict=True)):
            if known:
                ax.plot(seconds, true[:, i], color=PALETTE["truth"], linewidth=1.2, label="true")
            ax.plot(seconds, tracked[:, i], color=PALETTE["vanilla"], linewidth=1.8, label="tracked")
            still = min(true[:, i].std(), tracked[:, i].std()) < 1e-6
            told = "one of the two does not move" if still else f"correlation {_correlation(true, tracked, i):.2f}"
            ax.set_title(f"{name}   {told}" if known else name, loc="left")
            if scores:
                ax.set_yticks((0, 0.5, 1))
            ax.grid(axis="y", color="#EEEEEE")
        panels[-1].set_xlabel("time in the sequence, s")
        figure.supylabel("strength of the action, 0 to 1" if scores else "value of the feature", fontsize=9)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        return as_image(figure, path)


def agreement_figure(table: pd.DataFrame, path: str | Path | None = None) -> Image.Image:
    """`raflib.openbank.tracker_agreement` as bars: for each action its correlation within a person and over people."""
    require_columns(table, ["within", "pooled"])
    places = np.arange(len(table))
    with rc_context(STYLE):
        figure = Figure(figsize=(7.4, 0.19 * len(table) + 1.1))
        ax = figure.subplots()
        for shift, kind, colour in ((-0.2, "within", WITHIN), (0.2, "pooled", POOLED)):
            told = {"within": "within a person", "pooled": "pooled over people"}[kind]
            label = f"{told} (median {table[kind].median():.2f})"
            ax.barh(places + shift, table[kind], 0.4, color=colour, label=label)
        for place in places[(table["within"] == 0) & (table["pooled"] == 0)]:
            ax.annotate("the tracker's channel never moves", (0.01, place), va="center", color=INK)
        ax.set_yticks(places, table.index)
        ax.set_ylim(len(places) - 0.4, -0.6)
        ax.set_xlabel("correlation of tracked with true")
        plain_axes(ax)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        return as_image(figure, path)


def _correlation(true: Float[np.ndarray, "T n"], tracked: Float[np.ndarray, "T n"], column: int) -> float:
    return float(np.corrcoef(true[:, column], tracked[:, column])[0, 1])
