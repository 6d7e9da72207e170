"""Ambient visibility: which share of the surroundings reaches each point of a person."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Int32

from raflib.studio import zbuffer
from raflib.studio.head_model import INDEX, LASHES, TEETH, TONGUE, head_model
from raflib.studio.strands import Strands

DIRECTIONS = 80
MAP_SIZE, MAP_SPAN = 224, 0.62  # samples and metres across a depth map


def visibility(
    points: Float32[np.ndarray, "V 3"], strands: Strands | None
) -> tuple[Float32[np.ndarray, "P"], Float32[np.ndarray, "P"]]:
    """Ambient visibility of the neutral head, and of the same head with its jaw open.

    `points` are the neutral ones (world metres) and `strands` the hair; P counts the points of both.
    """
    model = head_model()
    part = model.part
    jaw = points + 0.7 * model.actions[INDEX["jawOpen"]]
    mouth = np.unique(model.triangles[(part == TEETH) | (part == TONGUE)])
    depth = np.clip((jaw[mouth, 2] + 0.088) / 0.03, 0, 1)  # from the front teeth backwards
    results = []
    for shown in (points, jaw):
        result = _openness(shown, model.triangles[part != LASHES], strands)
        result[mouth] = 0.88 - 0.76 * depth
        results.append(result if strands is None else np.concatenate([result, strands.open]))
    return results[0], results[1]


def _openness(
    points: Float[np.ndarray, "V 3"], triangles: Int32[np.ndarray, "F 3"], strands: Strands | None
) -> Float32[np.ndarray, "V"]:
    """Ambient visibility of the bust's points, which its triangles and its locks of hair block."""
    points = points.astype(np.float32)
    normals = np.empty_like(points)
    zbuffer.vertex_normals(points, triangles, normals)
    if strands is not None:
        triangles = np.concatenate([triangles, strands.triangles + len(points)])
        points = np.concatenate([points, strands.points])
    step = np.arange(DIRECTIONS) + 0.5
    polar, turn = np.arccos(1 - 2 * step / DIRECTIONS), np.pi * (1 + 5**0.5) * step
    directions = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], 1)
    frames = np.stack([frame_along(direction) for direction in directions])
    scale, centre = np.float32(MAP_SIZE / MAP_SPAN), np.array([0, 0.03, 0.01], np.float32)
    return zbuffer.openness(points, normals, directions.astype(np.float32), frames, triangles, MAP_SIZE, scale, centre)


def frame_along(direction: np.ndarray) -> Float32[np.ndarray, "3 3"]:
    """An orthonormal frame whose last row is `direction` (normalised)."""
    last = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    helper = np.array([0.0, 0.0, 1.0]) if abs(last[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    first = np.cross(helper, last)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(last, first), last]).astype(np.float32)
