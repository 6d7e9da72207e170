"""Gaussians step by step: seen from above, as ellipses on the screen, and composited one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from PIL import Image

from raflib.report._style import INK, QUIET, STYLE, as_image


def screen_figure(
    points: Float[np.ndarray, "N 3"],
    centres: Float[np.ndarray, "N 2"],
    covariances: Float[np.ndarray, "N 2 2"],
    colours: Float[np.ndarray, "N 3"],
    size: int,
    path: str | Path | None = None,
) -> Image.Image:
    """Gaussians seen from above, and their ellipses of one and two standard deviations on the screen.

    Numbers count the Gaussians from front to back.

    Args:
        points: centres in the camera's frame (metres).
        centres: the same on the screen (pixels).
        covariances: of the splats (pixels²).
        colours: RGB in [0,1].
        size: width and height of the screen (pixels).
        path: file to write, or None.
    """
    rank = np.argsort(np.argsort(points[:, 2], kind="stable")) + 1
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.6))
        above, screen = figure.subplots(1, 2, width_ratios=(1, 1.05))
        above.scatter(points[:, 0], points[:, 2], s=130, c=colours, edgecolor=INK, zorder=2)
        above.plot(0, 0, marker="^", color=INK, markersize=12)
        above.annotate("camera, looks up", (0, 0), textcoords="offset points", xytext=(10, -3))
        for i, (x, _, z) in enumerate(points):
            above.plot([0, x], [0, z], color=QUIET, linewidth=0.7, zorder=1)
            above.annotate(str(rank[i]), (x, z), ha="center", va="center", color=_contrast(colours[i]), zorder=3)
        above.set(xlabel="x, m", ylabel="depth z, m", ylim=(-0.08 * points[:, 2].max(), 1.12 * points[:, 2].max()))
        above.set_title("from above: five centres and their rays", loc="left")
        _ellipses(screen, centres, covariances, colours, rank)
        screen.set(xlim=(0, size), ylim=(size, 0), aspect="equal", xlabel="u, pixels", ylabel="v, pixels")
        screen.set_title("on the screen: one and two standard deviations", loc="left")
        return as_image(figure, path)


def _ellipses(
    ax: Axes,
    centres: Float[np.ndarray, "N 2"],
    covariances: Float[np.ndarray, "N 2 2"],
    colours: Float[np.ndarray, "N 3"],
    rank: np.ndarray | Sequence[int],
) -> None:
    """Ellipses of one and two standard deviations, the farthest first."""
    for i in np.argsort(-np.asarray(rank)):
        variance, axes = np.linalg.eigh(covariances[i])
        angle = float(np.degrees(np.arctan2(axes[1, 1], axes[0, 1])))
        for deviations, alpha in ((2, 0.25), (1, 0.65)):
            wide, high = 2 * deviations * np.sqrt(variance[::-1])
            ax.add_patch(Ellipse(tuple(centres[i]), wide, high, angle=angle, color=colours[i], alpha=alpha))
        ax.annotate(str(rank[i]), tuple(centres[i]), ha="center", va="center", color=_contrast(colours[i]))


def _contrast(colour: Float[np.ndarray, "3"]) -> str:
    """Black or white, whichever can be read on `colour`."""
    return "white" if colour @ [0.3, 0.59, 0.11] < 0.5 else "black"
