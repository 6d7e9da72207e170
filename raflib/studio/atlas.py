"""Maps over the texture atlas that all people share: the place of each texel on the mean head, regions and noise.

Painted features are formulas of position on the mean head (metres).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32

from raflib.studio import zbuffer
from raflib.studio.head_model import ATLAS_SHAPE, SKIN, head_model
from raflib.studio.jit import njit


@dataclass(frozen=True, eq=False)
class Atlas:
    """Per-texel maps: `position` on the mean head (metres), `regions` in [0,1], four noises in [-1,1]."""

    position: Float32[np.ndarray, "R C 3"]
    regions: dict[str, Float32[np.ndarray, "R C"]]
    blotches: Float32[np.ndarray, "R C"]
    pores: Float32[np.ndarray, "R C"]
    strands: Float32[np.ndarray, "R C"]
    strokes: Float32[np.ndarray, "R C"]


@lru_cache(maxsize=2)
def atlas(step: int = 1) -> Atlas:
    """The maps at every `step`-th texel, computed once in a process (about half a second)."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    model = head_model()
    skin = model.part == SKIN
    uv_triangles, triangles = model.uv_triangles[skin], model.triangles[skin]
    shape = (ATLAS_SHAPE[0] // step, ATLAS_SHAPE[1] // step)
    face, depth = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
    texture_points = model.uv / np.float32(step)
    columns, rows = (np.ascontiguousarray(column) for column in texture_points.T)
    ones = np.ones(len(model.uv), np.float32)
    both_sides = np.zeros(len(triangles), np.bool_)
    zbuffer.fill(columns, rows, ones, uv_triangles, both_sides, len(triangles), face, depth)
    covered = face >= 0
    weights = _barycentric(texture_points[uv_triangles[face[covered]]], np.argwhere(covered)[:, ::-1] + 0.5)
    position = np.zeros((*shape, 3), np.float32)
    position[covered] = np.einsum("nk,nkd->nd", weights, model.mean[triangles[face[covered]]])
    # Texels outside the islands take their nearest neighbour's place, so that bilinear reads at seams are right.
    near = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    position = position[near[0], near[1]]
    smooth = {name: gaussian_filter(mask.astype(np.float32) / 255, 1.2) for name, mask in model.masks.items()}
    regions = {name: np.ascontiguousarray(mask[step // 2 :: step, step // 2 :: step]) for name, mask in smooth.items()}
    return Atlas(
        position=position,
        regions=regions,
        blotches=0.65 * value_noise(position, 60, 1) + 0.35 * value_noise(position, 140, 2),
        pores=value_noise(position, 700, 3),
        strands=value_noise(strand_coordinates(position), 1, 4),
        strokes=value_noise(_brow_coordinates(position), 1, 6),
    )


def smoothstep(value: np.ndarray, low: float | int, high: float | int) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    scaled = np.clip((value - low) / (high - low), 0, 1)
    return scaled * scaled * (3 - 2 * scaled)


def strand_coordinates(position: Float32[np.ndarray, "*n 3"]) -> Float32[np.ndarray, "*n 3"]:
    """Coordinates that vary quickly across hair and slowly along it, for hair that hangs from the crown."""
    from_crown = position - np.array([0.0, -0.075, 0.03], np.float32)
    around = np.arctan2(from_crown[..., 0], -from_crown[..., 2])
    down = np.hypot(from_crown[..., 0], from_crown[..., 2])
    coordinates = np.stack([around * 70, down * 60 - from_crown[..., 1] * 60, np.cos(around) * 20], -1)
    return coordinates.astype(np.float32)


def _brow_coordinates(position: np.ndarray) -> np.ndarray:
    """Coordinates of brow hairs, which lean outwards as they rise."""
    across, up = np.abs(position[..., 0]), -position[..., 1]
    return np.stack([(across - 0.9 * up) * 1300, (up + 0.4 * across) * 160, 0 * up], -1).astype(np.float32)


def value_noise(points: Float32[np.ndarray, "*n 3"], frequency: float | int, seed: int) -> Float32[np.ndarray, "*n"]:
    """Smooth lattice noise in [-1,1] with `frequency` cells in a unit of length."""
    table = np.random.default_rng(seed).uniform(-1, 1, 4096).astype(np.float32)
    flat = np.ascontiguousarray(points.reshape(-1, 3), np.float32)
    return _lattice_noise(flat, np.float32(frequency), table).reshape(points.shape[:-1])


@njit(allocates=True)
def _lattice_noise(points, frequency, table):
    result = np.empty(points.shape[0], np.float32)
    for index in range(points.shape[0]):
        x, y, z = points[index, 0] * frequency, points[index, 1] * frequency, points[index, 2] * frequency
        i, j, k = math.floor(x), math.floor(y), math.floor(z)
        fx, fy, fz = x - i, y - j, z - k
        fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
        total = np.float32(0.0)
        for corner in range(8):
            di, dj, dk = corner & 1, (corner >> 1) & 1, corner >> 2
            weight = (fx if di else 1 - fx) * (fy if dj else 1 - fy) * (fz if dk else 1 - fz)
            hashed = ((i + di) * 73856093) ^ ((j + dj) * 19349663) ^ ((k + dk) * 83492791)
            total += table[hashed & 4095] * weight
        result[index] = total
    return result


def _barycentric(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]

    def cross(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]

    area = cross(b - a, c - a)
    wb, wc = cross(points - a, c - a) / area, cross(b - a, points - a) / area
    return np.stack([1 - wb - wc, wb, wc], 1)
