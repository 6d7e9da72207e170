"""Figure 2 of the paper: an expression bank in its first two principal components, and parts of it in the same plane.

A bank is an `ExpressionBank` or anything with `features` [N,d].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, Int
from matplotlib import patheffects, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure, SubFigure
from PIL import Image

from raflib.bank.nearest_people import first_of_each
from raflib.coverage import Projection, pca
from raflib.errors import RafError
from raflib.geometry import farthest_row
from raflib.report._drawing import INK, QUERIES, QUIET, STYLE, drawn, require_faces

CELLS = 64
"""Hexagons across the plane in which rows are counted: 83,000 dots on top of each other would show only an outline."""

SHOWN = 3
"""Neighbours beside the plane, a query."""


@dataclass(frozen=True, eq=False)
class Plane(Projection):
    """The plane of a bank's largest variance: a PCA space with the `share` [2] of the variance along either axis."""

    share: Float64[np.ndarray, "2"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "N d"]) -> Plane:
        """That of features; RafError for fewer than 2 rows or dimensions."""
        features = np.asarray(features, dtype=np.float64)
        if min(features.shape) < 2:
            raise RafError(f"plane: features of shape {features.shape}, expected at least 2 rows and 2 dimensions")
        space = pca(features, 2)
        return cls(space.mean, space.axes, space.scale, space.scale**2 / features.var(0, ddof=1).sum())

    def __call__(self, features: Float[np.ndarray, "N d"]) -> Float64[np.ndarray, "N 2"]:
        """Where features lie in the plane."""
        return self.project(features)

    def name_axes(self) -> tuple[str, str]:
        """What to write beside the axes."""
        return (
            f"first principal component ({100 * self.share[0]:.0f} % of variance)",
            f"second principal component ({100 * self.share[1]:.0f} %)",
        )


def pca_figure(
    bank,
    queries: Float[np.ndarray, "Q d"],
    neighbours: Int[np.ndarray, "Q k"],
    path: str | Path | None = None,
    labels: Sequence[str] | None = None,
    pictures: Sequence[np.ndarray] | None = None,
    faces: Mapping[int, np.ndarray] | None = None,
) -> Image.Image:
    """Figure 2: the bank as density, queries as numbered stars, the rows found for them as dots of their colour.

    `neighbours` are rows found in the original space, which is why they need not be the nearest in this plane.
    `labels` say what the queries are. With their `pictures` and the `faces` of rows, each query is shown beside the
    plane with its nearest neighbours, one a person, and their distances. Raises RafError when there is not one of each
    a query, or a row that is shown has no face.
    """
    for name, given in (("neighbours", neighbours), ("labels", labels), ("pictures", pictures)):
        if given is not None and len(given) != len(queries):
            raise RafError(f"pca figure: {len(given)} {name} for {len(queries)} queries; give one of each a query")
    plane = Plane.of(bank.features)
    with rc_context(STYLE):
        figure = Figure(figsize=(9.2, 4.5) if pictures else (5.6, 4.9))
        left, right = figure.subfigures(1, 2, width_ratios=(1.12, 1)) if pictures else (figure, None)
        ax = left.subplots()
        _density(ax, plane(bank.features), _shades("#F1F1F1", "#7D7D7D"))
        for q, (star, near) in enumerate(zip(plane(queries), neighbours, strict=True)):
            colour = QUERIES[q % len(QUERIES)]
            ax.scatter(*plane(bank.features[near]).T, s=30, color=colour, edgecolor="white", linewidth=0.7, zorder=2)
            # The star is empty: a full one would hide the nearest dots.
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
            _margin(right, pictures, shown, labels)
        return drawn(figure, path)


def variants_figure(bank, variants: Mapping[str, object], path: str | Path | None = None) -> Image.Image:
    """Where parts of a bank lie in its plane, a panel each: cells in which a part has rows in colour, the darker the
    more; cells in which only the whole bank has any in grey."""
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
        return drawn(figure, path)


def evenly(bank, count: int, people: int = 40, seed: int = 0) -> Int[np.ndarray, " R"]:
    """`count` rows spread evenly over the plane of an `ExpressionBank`, of `people` random people at most.

    Each is, of those people's rows, the one farthest in the plane from all before it; the first is nearest to the
    centre. Few people, because each has to be met before a face can be shown. Fewer rows where there are not as many.
    """
    chosen = np.random.default_rng(seed).permutation(bank.people)[:people]
    rows = np.flatnonzero(np.isin(bank.subjects, chosen))
    points = Plane.of(bank.features)(bank.features[rows])
    picked = [int((points**2).sum(1).argmin())]
    while len(picked) < min(count, len(rows)):
        picked.append(farthest_row(points, picked))
    return rows[picked]


def _shades(light: str, dark: str) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("shades", [light, dark])


def _density(ax: Axes, points: np.ndarray, shades: LinearSegmentedColormap, frame: np.ndarray | None = None) -> None:
    """Rows counted in hexagons whose grid spans `frame` (default the points), shaded by the logarithm of the count."""
    frame = points if frame is None else frame
    edges = [*np.stack([frame.min(0), frame.max(0)]).T.ravel()]
    width, height = np.ptp(frame, axis=0)
    grid = CELLS, max(1, round(CELLS * height / width / np.sqrt(3)))
    most = max(2.0, len(points) / 400)  # a cell with this share of all rows is as dark as it gets
    ax.hexbin(
        *points.T, gridsize=grid, extent=edges, mincnt=1, norm=LogNorm(1, most), cmap=shades, linewidths=0.2, zorder=0
    )


def _nearest_people(bank, query: np.ndarray, rows: np.ndarray) -> dict[int, float]:
    """The first rows of as many people as are shown, and how far they are from the query."""
    first = rows[first_of_each(bank.subjects[rows])[:SHOWN]]
    return {int(row): float(np.linalg.norm(bank.features[row] - query)) for row in first}


def _margin(part: SubFigure, pictures: Sequence[np.ndarray], shown: Sequence[Sequence], labels) -> None:
    """A line a query: its picture, and (picture, what to write below) of those found for it, framed in its colour."""
    axes = part.subplots(len(pictures), 1 + SHOWN, squeeze=False)
    for q, (picture, found, places) in enumerate(zip(pictures, shown, axes, strict=True)):
        colour = QUERIES[q % len(QUERIES)]
        tiles = [(picture, "query"), *found]
        for ax in places[len(tiles) :]:
            ax.set_axis_off()
        for i, (ax, (face, below)) in enumerate(zip(places, tiles, strict=False)):
            ax.imshow(face, interpolation="lanczos")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color=colour, linewidth=1.2 if i else 3)
            ax.set_xlabel(below, labelpad=2)
        text = f"{q + 1}" + (f"   {labels[q]}" if labels else "")
        heading = places[0].set_title(text, loc="left", fontsize=9, color=colour, weight="bold")
        heading.set_in_layout(False)  # it is wider than the picture below it
    part.supxlabel("nearest neighbours, one a person, and their distances", fontsize=9, color=INK)
