"""Gains over vanilla as one quantity of the training changes at a time: a column for each, a row for each protocol."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from raflib.errors import RafError
from raflib.report._style import QUIET, STYLE, as_image, method_colour, plain_axes
from raflib.report.grid_tables import PROTOCOLS
from raflib.report.tables import require_columns

NAMES = {
    "steps": "training steps,\nshare of the usual", "sequences": "training sequences\nof the subject",
    "bias": "added tracker bias\n(length of offsets)", "p": "probability p\nof a neighbour",
    "top_k": "nearest neighbours k\nto choose from", "half": "whole bank (0),\nhalf #1, half #2",
}  # fmt: skip
"""Labels of the horizontal axes; a quantity without one is labelled by its own name."""
RATIOS = ("steps", "top_k")
"""Quantities on a logarithmic axis."""


def dose_figure(table: pd.DataFrame, path: str | Path | None = None, unit: str = "PSNR of the face, dB") -> Image.Image:
    """Gains over vanilla by quantity: thin lines for each subject, a thick line for the mean over subjects.

    Args:
        table: rows of `raflib.lab.dose.mean_gains` for one metric, with columns `label` and `protocol`. Seeds are
            averaged.
        path: file to write, or None.
        unit: what a gain is measured in.

    Raises RafError for a table without its columns, and for no rows.
    """
    require_columns(table, ["label", "protocol", "quantity", "value", "subject", "gain"])
    if not len(table):
        raise RafError("dose_figure: the table has no rows")
    quantities = [name for name in NAMES if name in set(table.quantity)]
    quantities += [name for name in table.quantity.unique() if name not in quantities]
    protocols = sorted(set(PROTOCOLS) & set(table.protocol))
    with rc_context(STYLE):
        figure = Figure(figsize=(2.5 * len(quantities) + 0.6, 2.2 * len(protocols) + 0.7))
        grid = figure.subplots(len(protocols), len(quantities), sharex="col", sharey="row", squeeze=False)
        for row, protocol in zip(grid, protocols, strict=True):
            for ax, quantity in zip(row, quantities, strict=True):
                _panel(ax, table[(table.quantity == quantity) & (table.protocol == protocol)], quantity)
            row[0].set_ylabel(f"{PROTOCOLS[protocol]}:\ngain over vanilla,\n{unit}")
        for ax, quantity in zip(grid[-1], quantities, strict=True):
            ax.set_xlabel(NAMES.get(quantity, quantity))
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
        return as_image(figure, path)


def _panel(ax: Axes, table: pd.DataFrame, quantity: str) -> None:
    """Gains by the values of one quantity in one protocol."""
    ax.axhline(0, color=QUIET, linewidth=1)
    for label, rows in table.groupby("label", sort=False):
        by_subject = rows.pivot_table("gain", "value", "subject")
        ax.plot(by_subject.index, by_subject, color=method_colour(str(label)), linewidth=0.8, alpha=0.5)
        whole = by_subject.dropna().mean(axis=1)
        ax.plot(whole.index, whole, "o-", color=method_colour(str(label)), linewidth=2, label=f"{label} − vanilla")
    if quantity in RATIOS:
        ax.set_xscale("log")
    values = sorted(table.value.unique())
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.minorticks_off()
    plain_axes(ax)
