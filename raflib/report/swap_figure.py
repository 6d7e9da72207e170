"""Figure 4 of the paper, from one real training step; and what a frame is conditioned on in many visits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from PIL import Image

from raflib.errors import RafError
from raflib.lab.watched import Step
from raflib.report._style import INK, PALETTE, QUIET, STYLE, as_image
from raflib.report.figures import strip
from raflib.runs import atomic_write

OWN, OTHER = PALETTE["vanilla"], PALETTE["raf"]
"""Colours of the subject's own expression and of a neighbour's."""
TOP, BOTTOM, TALL = 0.54, 0.12, 0.29
"""Lower edges of the two rows, and their height, as shares of the figure."""
TERMS = {"l1": "L1", "gradient": "gradients"}
"""Names of the loss's terms in the figure; others keep their names."""


def swap_figure(
    step: Step,
    face: UInt8[np.ndarray, "H W 3"],
    labels: tuple[str, str],
    distance: float,
    p: float,
    names: Sequence[str] = (),
    path: str | Path | None = None,
) -> Image.Image:
    """Figure 4: one training step of RAF, from the frame over the neighbour's vector to the loss.

    Args:
        step: a step whose vector was replaced (`Step.replaced`).
        face: the image of the bank's row whose vector was given.
        labels: who and when the training frame and that face are, at the end of their captions.
        distance: distance of the two vectors.
        p: probability of a replacement.
        names: names of the vectors' entries, to name the strongest; none are named by default.
        path: file to write, ending in .png; the same figure is written beside it as .svg.

    Raises RafError for a step whose frame kept its own vector, and for another ending.
    """
    if not step.replaced:
        raise RafError(f"swap figure: step {step.number} kept the frame's own vector; choose a step that replaced it")
    if path is not None and Path(path).suffix != ".png":
        raise RafError(f"swap figure: {path} does not end in .png; the .svg is written beside it")
    with rc_context({**STYLE, "figure.constrained_layout.use": False, "svg.hashsalt": "swap"}):
        figure = Figure(figsize=(12, 5.2))
        most = max(1e-9, float(np.abs([step.own, step.given]).max()))
        _image(figure, (0.015, TOP), step.target, f"training frame $I_t$, {labels[0]}", OWN)
        _image(figure, (0.015, BOTTOM), face, f"retrieved row, {labels[1]}", OTHER)
        _vector(figure, TOP, step.own, "own vector $\\mathbf{e}_t$", most, names, OWN)
        _vector(figure, BOTTOM, step.given, "retrieved vector $\\hat{\\mathbf{e}}_t$", most, names, OTHER)
        _image(figure, (0.715, TOP), step.target, "target: the frame itself, $I_t$", OWN)
        shown = "rendered avatar\n$\\mathcal{R}(f_\\theta(\\mathcal{G}, \\hat{\\mathbf{e}}_t))$"
        _image(figure, (0.715, BOTTOM), step.render, shown, OTHER)
        _flow(figure, distance, p)
        _loss(figure, step)
        if path is not None:
            with atomic_write(Path(path).with_suffix(".svg")) as temporary:
                figure.savefig(temporary, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
        return as_image(figure, path)


def visits_figure(
    rows: Mapping[str, Sequence[tuple[UInt8[np.ndarray, "H W 3"], bool]]], path: str | Path | None = None
) -> Image.Image:
    """Faces whose vectors condition one frame in its visits: a line for each setting, a column for each visit.

    `rows` holds, by the setting's name, an image and whether it is the frame's own for each visit. Own images have a
    blue frame, those of neighbours a green one. Raises RafError when lines differ in length.
    """
    images = [[framed(image, OWN if own else OTHER) for image, own in line] for line in rows.values()]
    return strip(images, [f"visit {i + 1}" for i in range(len(images[0]))], list(rows), path, tile=112, size=13)


def framed(image: UInt8[np.ndarray, "H W 3"], colour: str, share: float = 0.05) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of `image` with a border of `colour` ("#RRGGBB"), `share` of its height wide."""
    wide, made = max(1, round(share * len(image))), image.copy()
    paint = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)
    for edge in (np.s_[:wide], np.s_[-wide:], np.s_[:, :wide], np.s_[:, -wide:]):
        made[edge] = paint
    return made


def _image(figure: Figure, corner: tuple[float, float], image: np.ndarray, title: str, colour: str) -> None:
    """An image with a coloured border, its title below."""
    ax = figure.add_axes((*corner, TALL * 5.2 / 12, TALL))
    ax.imshow(image, interpolation="lanczos")
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel(title, fontsize=9)
    for spine in ax.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.5)


def _vector(
    figure: Figure, low: float, vector: np.ndarray, title: str, most: float, names: Sequence[str], colour: str
) -> None:
    """A vector as bars, with the names of its three largest entries, without "Left" and "Right"."""
    ax = figure.add_axes((0.225, low + 0.04, 0.185, TALL - 0.1))
    ax.bar(np.arange(len(vector)), vector, 0.8, color=colour)
    ax.set_ylim(min(0.0, float(vector.min())), 1.05 * most)
    ax.set_xlim(-1, len(vector))
    ax.set_xticks([])
    ax.set_title(f"{title}, {len(vector)} numbers", loc="left")
    strongest = [names[i] for i in np.argsort(-np.abs(vector), kind="stable")[: len(names)]]
    stems = list(dict.fromkeys(name.removesuffix("Left").removesuffix("Right") for name in strongest))
    ax.set_xlabel(", ".join(stems[:3]), fontsize=8)


def _flow(figure: Figure, distance: float, p: float) -> None:
    """Arrows and boxes from the frame to the render."""
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 12), ylim=(0, 5.2))
    ax.axis("off")
    top, bottom = 5.2 * (TOP + TALL / 2), 5.2 * (BOTTOM + TALL / 2)
    _arrow(ax, (1.78, top), (2.28, top), INK, "track")
    _arrow(ax, (3.0, 2.72), (3.0, 2.18), OTHER)
    found = "$\\arg\\min_i \\|\\mathbf{e}_i - \\mathbf{e}_t\\|_2$ among\nother people: distance"
    ax.text(3.12, 2.45, f"{found} {distance:.2f}", va="center", fontsize=8.5, color=OTHER)
    _arrow(ax, (2.28, bottom), (1.78, bottom), QUIET, "shown", dashed=True)
    middle = (top + bottom) / 2
    _arrow(ax, (5.0, top), (5.72, middle + 0.3), QUIET, dashed=True)
    _arrow(ax, (5.0, bottom), (5.72, middle - 0.3), OTHER)
    ax.text(5.45, top, f"{1 - p:.0%} of the steps", color=QUIET, fontsize=8.5)
    ax.text(5.45, bottom - 0.1, f"{p:.0%} of the steps,\nso in this one", color=OTHER, fontsize=8.5, va="center")
    ax.add_patch(Circle((5.85, middle), 0.33, facecolor="white", edgecolor=INK, linewidth=1.5))
    ax.text(5.85, middle, f"$p$\n{p:g}", ha="center", va="center", fontsize=9)
    _arrow(ax, (6.2, middle), (6.62, middle), OTHER)
    ax.add_patch(FancyBboxPatch((6.7, middle - 0.55), 1.25, 1.1, "round,pad=0.05", facecolor="#F2F2F2", edgecolor=INK))
    told = "avatar\n$f_\\theta(\\mathcal{G}, \\cdot)$\nis trained"
    ax.text(7.33, middle, told, ha="center", va="center", fontsize=10)
    _arrow(ax, (7.9, middle - 0.62), (8.5, bottom + 0.2), OTHER)
    ax.text(7.75, bottom + 0.25, "render $\\mathcal{R}$", ha="center", fontsize=8.5, color=OTHER)
    over = 5.2 * (TOP + TALL) + 0.42
    ax.plot([0.9, 0.9, 9.35], [5.2 * (TOP + TALL) + 0.06, over, over], color=OWN, linewidth=1.5)
    _arrow(ax, (9.35, over), (9.35, 5.2 * (TOP + TALL) + 0.04), OWN)
    told = "the image is never replaced: the neighbour's vector must explain the subject's own frame"
    ax.text(5.1, over + 0.06, told, ha="center", va="bottom", fontsize=9.5, color=OWN)


def _loss(figure: Figure, step: Step) -> None:
    """The loss of the step and its terms, between render and target."""
    ax = figure.add_axes((0.852, BOTTOM, 0.148, TOP + TALL - BOTTOM))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.axis("off")
    ax.plot([0.0, 0.1, 0.1, 0.0], [0.82, 0.82, 0.2, 0.2], color=INK, linewidth=1.5)
    lines = [f"$\\mathcal{{L}}_{{RAF}}$ = {step.loss:.3f}", "", "means of its terms:"]
    lines += [f"{TERMS.get(name, name)}  {value:.4f}" for name, value in step.terms.items()]
    ax.text(0.17, 0.51, "\n".join(lines), va="center", fontsize=9, linespacing=1.4)
    ax.text(0.17, 0.06, f"training step {step.number}", fontsize=8.5, color=QUIET)


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, text: str = "", dashed: bool = False
) -> None:
    """An arrow, with `text` above its middle."""
    style = {"linestyle": "--" if dashed else "-", "color": colour, "linewidth": 1.5}
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, shrinkA=0, shrinkB=0, **style))
    place = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.06
    ax.text(*place, text, ha="center", va="bottom", fontsize=8.5, color=colour)
