"""Gains over vanilla by how far the driver's vector lies outside the subject's recording, as a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from raflib.report._style import PALETTE, QUERIES, QUIET, STYLE, as_image, plain_axes
from raflib.report.tables import require_columns


def outside_figure(
    table: pd.DataFrame, path: str | Path | None = None, unit: str = "PSNR of the face, dB"
) -> Image.Image:
    """A group of points with intervals for each part of the frames, from the nearest to the farthest.

    Args:
        table: `raflib.report.gains_by_distance`.
        path: file to write, or None.
        unit: what a gain is measured in.

    Raises RafError for a table without rows or columns.
    """
    require_columns(table, ["label", "part", "from", "to", "mean", "low", "high"])
    labels = list(dict.fromkeys(table["label"]))
    others = iter((*QUERIES, PALETTE["driver"], PALETTE["control"]))
    known = {"raf": PALETTE["raf"], "noise-matched": PALETTE["noise"]}
    colours = {label: known[label] if label in known else next(others, QUIET) for label in labels}
    parts = table.drop_duplicates("part").sort_values("part")
    with rc_context(STYLE):
        figure = Figure(figsize=(6.6, 3.1))
        ax = figure.subplots()
        ax.axhline(0, color=QUIET, linewidth=1)
        for number, label in enumerate(labels):
            rows = table[table["label"] == label]
            places = rows["part"] + 0.7 * ((number + 0.5) / len(labels) - 0.5)
            reach = np.abs(rows[["low", "high"]].to_numpy().T - rows["mean"].to_numpy())
            ax.errorbar(places, rows["mean"], reach, fmt="o", color=colours[label], markersize=5, label=label)
        names = [f"{one['from']:.2f} to {one['to']:.2f}" for _, one in parts.iterrows()]
        ax.set_xticks(parts["part"], names)
        ax.set_xlim(0.5, parts["part"].max() + 0.5)
        ax.set_xlabel("distance of the driver's vector to what the subject's recording shows")
        ax.set_ylabel(f"gain over vanilla,\n{unit}")
        plain_axes(ax)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=min(len(labels), 5))
        return as_image(figure, path)
