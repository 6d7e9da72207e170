"""Gains of driving maps over the driver's own vectors, beside what the best map could gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from raflib.errors import RafError
from raflib.report._style import INK, QUIET, STYLE, as_image, method_colour, plain_axes


def driving_figure(table: pd.DataFrame, path: str | Path | None = None) -> Image.Image:
    """A line for each map: a small dot for each subject, and a bar at each method's mean over subjects.

    Args:
        table: `raflib.lab.driving_bound.gain_table`, gains in dB.
        path: file to write, or None.

    Raises RafError for a table without a map beside "direct".
    """
    maps = [name for name in table.columns if name != "direct"]
    if not maps or not len(table):
        raise RafError("driving_figure: the table has no driving map beside direct; measure at least one")
    avatars = table[table.index.get_level_values("subject") != "mean"]
    methods = list(dict.fromkeys(avatars.index.get_level_values("method")))
    places = np.arange(len(maps))[::-1]
    with rc_context(STYLE):
        figure = Figure(figsize=(6.2, 0.36 * len(maps) + 1.1))
        ax = figure.subplots()
        ax.axvline(0, color=QUIET, linewidth=1)
        for number, method in enumerate(methods):
            gains = avatars.xs(method, level="method")[maps]
            lines = places + 0.28 * ((len(methods) - 1) / 2 - number)
            for _, gain in gains.iterrows():
                ax.plot(gain, lines, "o", color=method_colour(method), markersize=3.5, alpha=0.6, linewidth=0)
            ax.plot(gains.mean(), lines, "|", color=INK, markersize=11, markeredgewidth=2)
            ax.plot([], [], "o", color=method_colour(method), markersize=3.5, label=f"{method}, one subject")
        ax.plot([], [], "|", color=INK, markersize=11, markeredgewidth=2, linewidth=0, label="mean over subjects")
        ax.set_yticks(places, maps)
        ax.set_xlabel("gain over the driver's vector as it is, PSNR of the face, dB")
        plain_axes(ax)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=len(methods) + 1)
        return as_image(figure, path)
