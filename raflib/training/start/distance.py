"""First signed distances of stage 1, from masks and landmarks, before anything is learned.

A grid point is inside where almost all masks of frames near the median pose cover it (with fewer than three views: in
an ellipsoid for the skull or a slab for the body, sized by the landmarks). Silhouettes do not show the hollows of a
face, but landmarks do: points in front of the surface that they span count as outside. Nothing here reads truth.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from raflib.capture import Capture
from raflib.config import SurfaceConfig
from raflib.errors import RafError
from raflib.training.start.field import TRUNCATED
from raflib.training.start.simple import carve, hull_box, median_frames, on_face, skull_and_body
from raflib.training.start.tetrahedra import TetrahedralGrid

FACE_SAMPLES, FACE_REACH, FACE_MARGIN = 6_000, 0.1, 0.25
"""Points on the landmarks' surface; how far sideways it cuts (dm); how far around it the grid is fine (dm)."""


def head_grid(capture: Capture, config: SurfaceConfig, cameras: list[int], seed: int = 0) -> TetrahedralGrid:
    """A grid around the head and what else the masks show, `config.focus` times finer around the face landmarks."""
    if len(cameras) >= 3:
        rows = median_frames(capture, np.flatnonzero(capture.train))
        low, high = hull_box(capture, rows, cameras, np.random.default_rng([seed, 12]))
    else:
        centre, radius, low, high = skull_and_body(capture)
        low, high = np.minimum(low, centre - radius), np.maximum(high, centre + radius)
    low, high = np.minimum(low, capture.neutral.min(0)) - 0.2, np.maximum(high, capture.neutral.max(0)) + 0.2
    axes = []
    for near, far, face in zip(low, high, capture.neutral.T, strict=True):
        knots = np.array([near, *np.clip([face.min() - FACE_MARGIN, face.max() + FACE_MARGIN], near, far), far])
        steps = np.cumsum([0, *(np.diff(knots) * [1, config.focus, 1])])
        axes.append(torch.from_numpy(np.interp(np.linspace(0, steps[-1], config.grid + 1), steps, knots)).float())
    return TetrahedralGrid(*axes)


def first_distances(
    capture: Capture, grid: TetrahedralGrid, cameras: list[int], seed: int = 0
) -> tuple[Float[Tensor, "V"], Float[Tensor, "V 3"]]:
    """(signed distance, negative inside, up to `TRUNCATED`; mean colour over the views that see the point in the mask).

    Both are on the grid's device. Raises RafError when no grid point is inside.
    """
    points, neutral = grid.points.cpu().double().numpy(), capture.neutral
    colours = np.full((len(points), 3), 0.5)
    if len(cameras) >= 3:
        inside, colours = carve(capture, median_frames(capture, np.flatnonzero(capture.train)), cameras, points)
    else:
        centre, radius, low, high = skull_and_body(capture)
        inside = (((points - centre) / radius) ** 2).sum(1) < 1
        inside |= ((points > low) & (points < high)).all(1)
    # a surface that leaves the box would have a hole, so it is closed at the side of the box
    border = grid.border.cpu().numpy()
    inside &= ~border
    if not inside.any():
        raise RafError(f"capture {capture.subject}: its masks agree on no point of a grid around the head")
    distance = _to_other_side(points, inside)
    face = on_face(neutral, FACE_SAMPLES, np.random.default_rng([seed, 13]), even=True)
    columns, depth = points[:: grid.shape[2], :2], grid.shape[2]
    aside, nearest = (np.repeat(column, depth) for column in cKDTree(face[:, :2]).query(columns))
    rows = np.flatnonzero(aside < FACE_REACH)
    away = _nearest(cKDTree(face), points[rows])
    front = np.where(points[rows, 2] < face[nearest[rows], 2], away, -away)
    distance[rows] = np.maximum(distance[rows], front)
    distance = np.where(border, np.maximum(distance, 1e-3), distance)
    return torch.from_numpy(distance).to(grid.points), torch.from_numpy(colours).to(grid.points)


def _to_other_side(points: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Distance to the nearest point of the other class, less half a cell: the surface passes between the two."""
    distance = np.empty(len(points))
    for side in (True, False):
        here = inside == side
        away = _nearest(cKDTree(points[~here]), points[here])
        distance[here] = (-1 if side else 1) * (away - 0.5 * away.min())
    return distance


def _nearest(tree: cKDTree, points: np.ndarray) -> np.ndarray:
    """Distance to the tree's nearest point, at most `TRUNCATED`."""
    return np.minimum(tree.query(points, distance_upper_bound=TRUNCATED)[0], TRUNCATED)
