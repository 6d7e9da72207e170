"""Figure 2 of the paper: an expression bank in its first two principal components, and parts of it in the same plane.

A bank is an `ExpressionBank`, or an object with `features` [N,d] where no people are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int
from matplotlib import patheffects, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure, SubFigure
from PIL import Image

from raflib.bank import ExpressionBank
from raflib.bank.nearest_people import first_of_each
from raflib.coverage import Projection, pca
from raflib.errors import RafError
from raflib.geometry import farthest_row
from raflib.report._style import INK, QUERIES, QUIET, STYLE, as_image, require_faces

CELLS = 64
"""Hexagons across the plane in which rows are counted; 83,000 overlapping dots would show only an outline."""

SHOWN = 3
"""Neighbours that are shown beside the plane for each query."""


@runtime_checkable
class Features(Protocol):
    """An `ExpressionBank`, or another object with its `features` and `subjects`."""

    features: Float[np.ndarray, "N d"]
    subjects: np.ndarray


@dataclass(frozen=True, eq=False)
class Plane(Projection):
    """The plane of a bank's largest variance: a PCA space with the `share` [2] of the variance along either axis."""

    share: Float64[np.ndarray, "2"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "N d"]) -> Plane:
        """The plane of these features; RafError for fewer than 2 rows or dimensions."""
        features = np.asarray(features, dtype=np.float64)
        if min(features.shape) < 2:
            raise RafError(f"plane: features of shape {features.shape}, expected at least 2 rows and 2 dimensions")
        space = pca(features, 2)
        return cls(space.mean, space.axes, space.scale, space.scale**2 / features.var(0, ddof=1).sum())

    def __call__(self, features: Float[np.ndarray, "N d"]) -> Float64[np.ndarray, "N 2"]:
        """Coordinates of features in the plane."""
        return self.project(features)

    def name_axes(self) -> tuple[str, str]:
        """Labels of the two axes."""
        return (
            f"first principal component ({100 * self.share[0]:.0f} % of variance)",
            f"second principal component ({100 * self.share[1]:.0f} %)",
        )


def pca_figure(
    bank: Features,
    queries: Float[np.ndarray, "Q d"],
    neighbours: Int[np.ndarray, "Q k"],
    path: str | Path | None = None,
    labels: Sequence[str] | None = None,
    images: Sequence[np.ndarray] | None = None,
    faces: Mapping[int, np.ndarray] | None = None,
) -> Image.Image:
    """Figure 2: the bank as density, queries as numbered stars, the rows found for them as dots of their colour.

    Args:
        bank: the bank.
        queries: expression vectors [Q,d].
        neighbours: rows [Q,k] found in the original space; they need not be the nearest in this plane.
        path: file to write, or None.
        labels: names of the queries.
        images: the queries' own images. With them, each query is shown beside the plane with its nearest neighbours,
            one of each person, and their distances.
        faces: images of bank rows, by row; needed with `images`.

    Raises RafError when queries, neighbours, labels and images differ in number, or a row that is shown has no face.
    """
    for name, given in (("neighbours", neighbours), ("labels", labels), ("images", images)):
        if given is not None and len(given) != len(queries):
            raise RafError(f"pca figure: {len(given)} {name} for {len(queries)} queries; give one of each a query")
    plane = Plane.of(bank.features)
    with rc_context(STYLE):
        figure = Figure(figsize=(9.2, 4.5) if images else (5.6, 4.9))
        left, right = figure.subfigures(1, 2, width_ratios=(1.12, 1)) if images else (figure, None)
        ax = left.subplots()
        _density(ax, plane(bank.features), _shades("#F1F1F1", "#7D7D7D"))
        for q, (star, near) in enumerate(zip(plane(queries), neighbours, strict=True)):
            colour = QUERIES[q % len(QUERIES)]
            ax.scatter(*plane(bank.features[near]).T, s=30, color=colour, edgecolor="white", linewidth=0.7, zorder=2)
            # The star is empty, because a filled one would hide the nearest dots.
            ax.scatter(*star, s=260, marker="*", facecolor="none", edgecolor="black", linewidth=1.1, zorder=3)
            note = ax.annotate(
                str(q + 1), star, (9, 8), textcoords="offset points", weight="bold", color=colour, zorder=4
            )
            note.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])
        ax.scatter([], [], s=110, marker="*", facecolor="none", edgecolor="black", label="query")
        ax.scatter([], [], s=30, color=QUIET, label=f"its {np.shape(neighbours)[1]} nearest, other people")
        ax.scatter([], [], s=60, marker="h", color="#BBBBBB", label=f"bank, {len(bank.features):,} frames")
        left.legend(loc="outside lower center", ncols=3, columnspacing=1.2, handletextpad=0.3)
        ax.set(xlabel=plane.name_axes()[0], ylabel=plane.name_axes()[1], aspect="equal")
        if right is not None:
            lines = [_nearest_people(bank, query, near) for query, near in zip(queries, neighbours, strict=True)]
            require_faces("pca figure", [row for line in lines for row in line], faces or {})
            shown = [[(faces[row], f"{apart:.2f}") for row, apart in line.items()] for line in lines]
            _margin(right, images, shown, labels)
        return as_image(figure, path)


def variants_figure(bank: Features, variants: Mapping[str, Features], path: str | Path | None = None) -> Image.Image:
    """Parts of a bank in the plane of the whole bank, one panel for each part.

    Cells in which the part has rows are coloured, darker for more rows. Cells in which only other rows lie are grey.
    """
    plane = Plane.of(bank.features)
    points = plane(bank.features)
    with rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(variants), 4.1))
        axes = figure.subplots(1, len(variants), sharex=True, sharey=True, squeeze=False)[0]
        for ax, (name, part) in zip(axes, variants.items(), strict=True):
            _density(ax, points, _shades("#D0D0D0", "#D0D0D0"), points)
            _density(ax, plane(part.features), _shades("#CFE6F5", "#00466E"), points)
            ax.set_title(f"{name}   {len(part.features):,} rows", loc="left")
            ax.set_aspect("equal")
            ax.set_xlabel(f"first principal component ({100 * plane.share[0]:.0f} %)")
        axes[0].set_ylabel(plane.name_axes()[1])
        legend = (("#5A93BA", "rows of this part (the darker, the more)"), ("#D0D0D0", "only the whole bank has rows"))
        for colour, label in legend:
            axes[0].scatter([], [], s=60, marker="h", color=colour, label=label)
        figure.legend(loc="outside lower center", ncols=2 if len(variants) > 1 else 1)
        return as_image(figure, path)


def evenly(bank: ExpressionBank, count: int, people: int = 40, seed: int = 0) -> Int[np.ndarray, " R"]:
    """`count` rows spread evenly over the plane of a bank, from at most `people` random people.

    The first row is the nearest to the centre, each further one the farthest in the plane from all before it. Few
    people are used because a new person costs time before a face can be rendered. Fewer rows are returned where there
    are not as many.
    """
    chosen = np.random.default_rng(seed).permutation(bank.people)[:people]
    rows = np.flatnonzero(np.isin(bank.subjects, chosen))
    points = Plane.of(bank.features)(bank.features[rows])
    picked = [int((points**2).sum(1).argmin())]
    while len(picked) < min(count, len(rows)):
        picked.append(farthest_row(points, picked))
    return rows[picked]


def _shades(light: str, dark: str) -> LinearSegmentedColormap:
    """A colour map from `light` to `dark`."""
    return LinearSegmentedColormap.from_list("shades", [light, dark])


def _density(
    ax: Axes,
    points: Float64[np.ndarray, "N 2"],
    shades: LinearSegmentedColormap,
    frame: Float64[np.ndarray, "M 2"] | None = None,
) -> None:
    """Plot rows counted in hexagons, shaded by the logarithm of the count; the grid spans `frame` (default: points)."""
    frame = points if frame is None else frame
    edges = [*np.stack([frame.min(0), frame.max(0)]).T.ravel()]
    width, height = np.ptp(frame, axis=0)
    grid = CELLS, max(1, round(CELLS * height / width / np.sqrt(3)))
    most = max(2.0, len(points) / 400)  # a cell with this share of all rows is as dark as it gets
    ax.hexbin(
        *points.T, gridsize=grid, extent=edges, mincnt=1, norm=LogNorm(1, most), cmap=shades, linewidths=0.2, zorder=0
    )


def _nearest_people(bank: Features, query: Float[np.ndarray, " d"], rows: Int[np.ndarray, " k"]) -> dict[int, float]:
    """The first row of each of the first `SHOWN` people among `rows`, and its distance to the query."""
    first = rows[first_of_each(bank.subjects[rows])[:SHOWN]]
    return {int(row): float(np.linalg.norm(bank.features[row] - query)) for row in first}


def _margin(
    part: SubFigure, images: Sequence[np.ndarray], shown: Sequence[Sequence], labels: Sequence[str] | None
) -> None:
    """Plot one line for each query: its image, then (face, text below) of each row found, framed in its colour."""
    axes = part.subplots(len(images), 1 + SHOWN, squeeze=False)
    for q, (image, found, places) in enumerate(zip(images, shown, axes, strict=True)):
        colour = QUERIES[q % len(QUERIES)]
        tiles = [(image, "query"), *found]
        for ax in places[len(tiles) :]:
            ax.set_axis_off()
        for i, (ax, (face, below)) in enumerate(zip(places, tiles, strict=False)):
            ax.imshow(face, interpolation="lanczos")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color=colour, linewidth=1.2 if i else 3)
            ax.set_xlabel(below, labelpad=2)
        text = f"{q + 1}" + (f"   {labels[q]}" if labels else "")
        heading = places[0].set_title(text, loc="left", fontsize=9, color=colour, weight="bold")
        heading.set_in_layout(False)  # it is wider than the image below it
    part.supxlabel("nearest neighbours, one a person, and their distances", fontsize=9, color=INK)
