"""Gains over vanilla as one quantity of the training changes at a time: one panel for each quantity."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from raflib.errors import RafError
from raflib.report._style import PALETTE, QUERIES, QUIET, STYLE, as_image, plain_axes
from raflib.report.tables import require_columns

NAMES = {
    "steps": "training steps, share of the usual", "sequences": "training sequences of the subject",
    "bias": "added tracker bias (length of offsets)", "p": "probability p of a neighbour",
    "top_k": "nearest neighbours k to choose from",
}  # fmt: skip
"""Labels of the horizontal axes; a quantity without one is labelled by its own name."""
RATIOS = ("steps", "top_k")
"""Quantities on a logarithmic axis."""


def dose_figure(table: pd.DataFrame, path: str | Path | None = None, unit: str = "PSNR of the face, dB") -> Image.Image:
    """Gains over vanilla by quantity: thin lines for each subject, a thick line for the mean over subjects.

    Args:
        table: rows of `raflib.lab.dose.gains` for one metric, with a column `method`. Seeds are averaged.
        path: file to write, or None.
        unit: what a gain is measured in.

    Raises RafError for a table without its columns, and for no rows.
    """
    require_columns(table, ["method", "quantity", "value", "subject", "gain"])
    if not len(table):
        raise RafError("dose_figure: the table has no rows")
    quantities = [name for name in NAMES if name in set(table.quantity)]
    quantities += [name for name in table.quantity.unique() if name not in quantities]
    colours = dict(zip(table.method.unique(), (PALETTE["raf"], *QUERIES), strict=False))
    with rc_context(STYLE):
        figure = Figure(figsize=(2.5 * len(quantities) + 0.6, 2.9))
        axes = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
        for ax, quantity in zip(axes, quantities, strict=True):
            ax.axhline(0, color=QUIET, linewidth=1)
            for method, rows in table[table.quantity == quantity].groupby("method", sort=False):
                by_subject = rows.pivot_table("gain", "value", "subject")
                ax.plot(by_subject.index, by_subject, color=colours[method], linewidth=0.8, alpha=0.5)
                whole = by_subject.dropna().mean(axis=1)
                ax.plot(whole.index, whole, "o-", color=colours[method], linewidth=2, label=f"{method} − vanilla")
            if quantity in RATIOS:
                ax.set_xscale("log")
            values = sorted(table[table.quantity == quantity].value.unique())
            ax.set_xticks(values, [f"{value:g}" for value in values])
            ax.minorticks_off()
            ax.set_xlabel(NAMES.get(quantity, quantity))
            plain_axes(ax)
        axes[0].set_ylabel(f"gain over vanilla,\n{unit}")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
        return as_image(figure, path)
