"""How near neighbours truly are, by the number of people in the bank."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from raflib.errors import RafError
from raflib.report._style import PALETTE, QUERIES, STYLE, as_image, plain_axes
from raflib.report.tables import require_columns

COLOURS = (PALETTE["vanilla"], *QUERIES)


def retrieval_figure(tables: Mapping[str, pd.DataFrame], path: str | Path | None = None) -> Image.Image:
    """Share of the way from a random row to the truly nearest one, for each feature space, by bank size and k.

    Args:
        tables: a table of `raflib.coverage.retrieval_table` for each line, by its label.
        path: file to write, or None.

    A panel for each k. Lines are medians over subjects, bands hold the middle half of the subjects. Raises RafError for
    a table without its columns, and for no table.
    """
    if not tables:
        raise RafError("retrieval figure: no table was given, expected at least one")
    for table in tables.values():
        require_columns(table, ["people", "k", "share"])
    ks = sorted({k for table in tables.values() for k in table.k})
    sizes = sorted({size for table in tables.values() for size in table.people})
    with rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(ks) + 0.6, 3.0))
        axes = figure.subplots(1, len(ks), sharey=True, squeeze=False)[0]
        for ax, k in zip(axes, ks, strict=True):
            for (label, table), colour in zip(tables.items(), cycle(COLOURS), strict=False):
                shares = 100 * table[table.k == k].groupby("people").share.quantile([0.25, 0.5, 0.75]).unstack()
                ax.fill_between(shares.index, shares[0.25], shares[0.75], color=colour, alpha=0.15, linewidth=0)
                ax.plot(shares.index, shares[0.5], color=colour, marker="o", markersize=4, label=label)
            if len(sizes) > 1:
                ax.set_xscale("log")
            ax.set_xticks(sizes, [str(size) for size in sizes])
            ax.minorticks_off()
            ax.set_title("the nearest row" if k == 1 else f"mean of the {k} nearest rows", loc="left")
            ax.set_xlabel("other people in the bank")
            ax.set_ylim(min(0, ax.get_ylim()[0]), 100)
            ax.grid(axis="y", color="#EEEEEE")
            plain_axes(ax)
        axes[0].set_ylabel("% of the way from a random row\nto the truly nearest one")
        axes[0].set_yticks(np.arange(0, 101, 20))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        return as_image(figure, path)
