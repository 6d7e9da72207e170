"""What each measure of coverage responds to, on samples in two dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from raflib.coverage import b2t, kl, log_density, nearest_distance
from raflib.coverage.metrics import DensityRuler, KernelRuler, mmd
from raflib.coverage.pairs import kernel_means
from raflib.errors import RafError
from raflib.report._style import FAINT, PALETTE, QUIET, STYLE, as_image

ROWS = {
    "MMD": "where the training set\nhas too many frames (red)\nor too few (blue)",
    "KL": "training frames where\ndrivers have fewer\n(red)",
    "B2T": "drivers' frames far from\nevery training frame\n(red)",
}
"""What the colours of each row show."""
GRID = 60
"""Points of the plane along each axis at which the first row is computed."""


def contributions_figure(
    target: Float[np.ndarray, "M 2"], sets: Mapping[str, Float[np.ndarray, "N 2"]], path: str | Path | None = None
) -> Image.Image:
    """MMD, KL and B2T of training sets in the plane: a row for each measure, a column for each set.

    `sets` holds the training frames by the set's name, `target` the drivers' frames. The first row shows MMD's witness
    (mean kernel with the training set minus that with the target), the second each training frame's log ratio of
    densities, the third each target frame's distance to the nearest training frame. Titles hold the measures. Raises
    RafError without a set and where `raflib.coverage` does.
    """
    if not sets:
        raise RafError("contributions figure: no training set is given; give at least one")
    ruler, density = KernelRuler.fit(target), DensityRuler.fit(target, 2)
    values = {
        name: {"MMD": mmd(x, target, ruler.bandwidth), "KL": kl(x, target, 2), "B2T": b2t(x, target)}
        for name, x in sets.items()
    }
    everything = np.concatenate([target, *sets.values()])
    low, high = np.quantile(everything, 0.005, 0) - 0.6, np.quantile(everything, 0.995, 0) + 0.6
    grid = np.stack(np.meshgrid(*np.linspace(low, high, GRID).T), -1)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.15 * len(sets) + 1.7, 7.0))
        panels = figure.subplots(3, len(sets), sharex=True, sharey=True, squeeze=False)
        for column, (name, x) in zip(panels.T, sets.items(), strict=True):
            for ax, measure in zip(column, ROWS, strict=True):
                best = min(entry[measure] for entry in values.values()) == values[name][measure]
                ax.set_title(f"{measure} {values[name][measure]:.2f}", weight="bold" if best else "normal")
                ax.set(xticks=[], yticks=[], xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
            _witness(column[0], ruler, x, grid)
            ratio = log_density(density.scaled(x), density.scaled(x)) - density.across(density.scaled(x))
            _frames(column[1], target, x, x, ratio, 6.0)
            _frames(column[2], x, target, target, nearest_distance(target, x), 1.5)
            column[0].annotate(
                name, (0.5, 1.22), xycoords="axes fraction", ha="center", fontsize=11, annotation_clip=False
            )
        for ax, text in zip(panels[:, 0], ROWS.values(), strict=True):
            ax.set_ylabel(text, rotation=0, ha="right", va="center", labelpad=8)
        return as_image(figure, path, 130)


def _witness(ax: Axes, ruler: KernelRuler, x: Float[np.ndarray, "N 2"], grid: Float[np.ndarray, "G G 2"]) -> None:
    """MMD's witness over the plane."""
    places = ruler.scaled(grid.reshape(-1, 2))
    witness = kernel_means(places, ruler.scaled(x)) - kernel_means(places, ruler.target)
    heat = witness.reshape(len(grid), -1)
    ax.pcolormesh(grid[..., 0], grid[..., 1], heat, cmap="RdBu_r", vmin=-0.25, vmax=0.25, rasterized=True)
    ax.plot(*x.T, ".", color=QUIET, markersize=1.5)


def _frames(
    ax: Axes,
    behind: Float[np.ndarray, "B 2"],
    x: Float[np.ndarray, "N 2"],
    places: Float[np.ndarray, "N 2"],
    heat: Float[np.ndarray, " N"],
    most: float,
) -> None:
    """Frames coloured by `heat` from grey (0 or less) to red (`most`), over those `behind` them."""
    ax.plot(*behind.T, ".", color=PALETTE["driver"] if x is places else FAINT, markersize=1.5, alpha=0.5)
    order = np.argsort(heat, kind="stable")
    ax.scatter(*places[order].T, s=5, c=heat[order], cmap="YlOrRd", vmin=0, vmax=most, linewidths=0)
