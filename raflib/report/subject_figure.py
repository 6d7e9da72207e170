"""Gains of each subject over a baseline, by how far drivers' vectors lie outside the subject's recording."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from raflib.errors import RafError
from raflib.lab.outside import OUTSIDE
from raflib.report._style import QUIET, STYLE, as_image, method_colour, plain_axes
from raflib.report.tables import require_columns


def subject_figure(
    table: pd.DataFrame,
    intervals: Mapping[str, tuple[float, float, float]] | None = None,
    path: str | Path | None = None,
    unit: str = "PSNR of the face, dB",
    baseline: str = "vanilla",
) -> Image.Image:
    """A panel for each method with a point for each subject; the band is the interval of the mean for new people.

    Args:
        table: `raflib.report.gains_by_subject`.
        intervals: mean, low and high of each label, such as those of `raflib.report.hierarchical`; drawn where known.
        path: file to write, or None.
        unit: what a gain is measured in.
        baseline: what the gains are over.

    Raises RafError for a table without rows or columns.
    """
    require_columns(table, ["label", "subject", OUTSIDE, "gain"])
    labels = list(dict.fromkeys(table["label"]))
    if not labels:
        raise RafError("subject_figure: the table has no rows")
    with rc_context(STYLE):
        figure = Figure(figsize=(2.4 * len(labels) + 0.8, 2.9))
        axes = figure.subplots(1, len(labels), sharex=True, sharey=True, squeeze=False)[0]
        for ax, label in zip(axes, labels, strict=True):
            rows = table[table["label"] == label]
            ax.axhline(0, color=QUIET, linewidth=1)
            if intervals and label in intervals:
                mean, low, high = intervals[label]
                ax.axhspan(low, high, color=method_colour(label), alpha=0.15, linewidth=0)
                ax.axhline(mean, color=method_colour(label), linewidth=1.5)
            ax.plot(rows[OUTSIDE], rows["gain"], "o", color=method_colour(label), markersize=5)
            ax.set_title(label)
            plain_axes(ax)
        axes[0].set_ylabel(f"gain over {baseline},\n{unit}")
        figure.supxlabel("mean distance of drivers' vectors\nto what the subject's recording shows", fontsize=9)
        return as_image(figure, path)
