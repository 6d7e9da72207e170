"""Points on one head and the head's motion, estimated together: bundle adjustment and resection (robust Gauss-Newton).

A pose moves points [M,3] on the head (metres) into the world. One camera sees each point. `seen` [F,M,2] holds its
pixel in each frame, NaN where it was lost. Residuals have Geman-McClure weights, and their tolerance shrinks from round
to round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from raflib.errors import RafError
from raflib.geometry import Camera, axis_angle_to_matrix, matrix_to_axis_angle

ROUNDS = 10
COARSE, FINE = 3.0, 0.4
"""Typical distance (pixels) of a corner from its place on the head, in the first round and in the last.

The tolerance shrinks between them, so that rough starting poses do not decide which corners count."""
PLACE_PRIOR = 0.012
"""Standard deviation (metres) of a corner's distance from the landmarks' depth."""
ENOUGH = 12
"""Fewest corners for a new pose; a frame with fewer keeps its first pose."""


def extrinsics_of(cameras: Sequence[Camera]) -> Float[np.ndarray, "V 3 4"]:
    """World-to-camera matrices."""
    return np.stack([camera.extrinsic[:3] for camera in cameras])


def common_lens(cameras: Sequence[Camera]) -> Float[np.ndarray, "3 3"]:
    """The cameras' common intrinsic matrix; RafError if they differ."""
    first = cameras[0].intrinsic
    if any(np.abs(camera.intrinsic - first).max() > 1e-6 for camera in cameras):
        raise RafError("map_head: the cameras have different lenses; give images cropped to one")
    return first


def project(
    points: Float[np.ndarray, "M 3"],
    rotations: Float[np.ndarray, "F 3 3"],
    places: Float[np.ndarray, "F 3"],
    views: Float[np.ndarray, "M 3 4"],
    lens: Float[np.ndarray, "3 3"],
) -> tuple[Float[np.ndarray, "F M 2"], Float[np.ndarray, "F M 2 3"], Float[np.ndarray, "F M 3"]]:
    """(pixels [F,M,2], their derivative by the world point [F,M,2,3], the points relative to the head's place)."""
    relative = points @ rotations.transpose(0, 2, 1)
    seen = np.einsum("mij,fmj->fmi", views[:, :, :3], relative + places[:, None]) + views[:, :, 3]
    x, y, z = np.moveaxis(seen, -1, 0)
    fx, fy = lens[0, 0], lens[1, 1]
    pixels = np.stack([fx * x / z + lens[0, 2], fy * y / z + lens[1, 2]], -1)
    zero = np.zeros_like(z)
    by_camera = np.stack([fx / z, zero, -fx * x / z**2, zero, fy / z, -fy * y / z**2], -1).reshape(*z.shape, 2, 3)
    return pixels, np.einsum("fmab,mbc->fmac", by_camera, views[:, :, :3]), relative


def _tolerances() -> Float[np.ndarray, "rounds"]:
    return np.maximum(np.geomspace(COARSE, FINE / 2, ROUNDS), FINE)


def _linearised(
    points: Float[np.ndarray, "M 3"],
    rotations: Float[np.ndarray, "F 3 3"],
    places: Float[np.ndarray, "F 3"],
    seen: Float[np.ndarray, "F M 2"],
    views: Float[np.ndarray, "M 3 4"],
    lens: Float[np.ndarray, "3 3"],
    tolerance: float,
) -> tuple[
    Float[np.ndarray, "F M 2"], Float[np.ndarray, "F M"], Float[np.ndarray, "F M 2 6"], Float[np.ndarray, "F M 2 3"]
]:
    """Residuals [F,M,2], weights [F,M], and derivatives by the pose [F,M,2,6] and by the world point [F,M,2,3]."""
    pixels, by_world, relative = project(points, rotations, places, views, lens)
    there = np.isfinite(seen[..., 0])
    residual = np.where(there[..., None], pixels - np.nan_to_num(seen), 0.0)
    weight = there / (1 + (residual**2).sum(-1) / (2 * tolerance) ** 2) ** 2
    by_turn = np.cross(relative[:, :, None], by_world)  # a left rotation w moves the point by w × relative
    return residual, weight, np.concatenate([by_turn, by_world], -1), by_world


def _turned(rotations: Float[np.ndarray, "F 3 3"], step: Float[np.ndarray, "F 3"]) -> Float[np.ndarray, "F 3 3"]:
    """`rotations` followed by small ones, `step` (axis-angle)."""
    return axis_angle_to_matrix(torch.from_numpy(step)).numpy() @ rotations


def adjust(
    points: Float[np.ndarray, "M 3"],
    rotations: Float[np.ndarray, "F 3 3"],
    places: Float[np.ndarray, "F 3"],
    seen: Float[np.ndarray, "F M 2"],
    views: Float[np.ndarray, "M 3 4"],
    lens: Float[np.ndarray, "3 3"],
) -> tuple[Float[np.ndarray, "M 3"], Float[np.ndarray, "F 3 3"], Float[np.ndarray, "F 3"]]:
    """Points and poses that agree with the pixels `seen`, starting from rough ones.

    Args:
        points: places on the head, metres.
        rotations, places: poses of the frames.
        seen: pixels, NaN where a point was lost.
        views: the extrinsic matrix of each point's camera; `lens` is their common intrinsic matrix.

    Poses are eliminated from the normal equations (Schur complement). A prior holds the points near their start, and
    so keeps the poses' frame of reference.
    """
    start, count = points, len(points)
    hold = (FINE / PLACE_PRIOR) ** 2
    for tolerance in _tolerances():
        state = points, rotations, places
        residual, weight, by_pose, by_world = _linearised(*state, seen, views, lens, tolerance)
        by_point = np.einsum("fmab,fbc->fmac", by_world, rotations)
        scaled = by_pose * weight[..., None, None]
        pose_block = np.einsum("fmai,fmaj->fij", scaled, by_pose, optimize=True) + 1e-3 * np.eye(6)
        pose_right = -np.einsum("fmai,fma->fi", scaled, residual, optimize=True)
        cross = np.einsum("fmai,fmaj->fimj", scaled, by_point, optimize=True).reshape(len(seen), 6, 3 * count)
        weighted = by_point * weight[..., None, None]
        point_block = np.einsum("fmai,fmaj->mij", weighted, by_point, optimize=True) + hold * np.eye(3)
        point_right = -np.einsum("fmai,fma->mi", weighted, residual, optimize=True) - hold * (points - start)
        half = np.linalg.solve(np.linalg.cholesky(pose_block), cross).reshape(-1, 3 * count)
        system = -half.T @ half
        for m in range(count):
            system[3 * m : 3 * m + 3, 3 * m : 3 * m + 3] += point_block[m]
        system[np.diag_indices(3 * count)] += 1e-9 * np.trace(point_block.sum(0)) / (3 * count)
        solved = np.linalg.solve(pose_block, pose_right[..., None])[..., 0]
        right = point_right.ravel() - np.einsum("fim,fi->m", cross, solved)
        step = np.linalg.solve(system, right)
        pose_step = np.linalg.solve(pose_block, (pose_right - cross @ step)[..., None])[..., 0]
        points = points + step.reshape(count, 3)
        rotations, places = _turned(rotations, pose_step[:, :3]), places + pose_step[:, 3:]
    return points, rotations, places


def resected(
    poses: Float[np.ndarray, "T 6"],
    known: Int[np.ndarray, "R"],
    seen: Float[np.ndarray, "T M 2"],
    points: Float[np.ndarray, "M 3"],
    views: Float[np.ndarray, "M 3 4"],
    lens: Float[np.ndarray, "3 3"],
) -> tuple[Float[np.ndarray, "T 6"], Bool[np.ndarray, "T"]]:
    """Poses of the `known` rows, given the points, and which were found. Other rows keep their pose.

    Args:
        poses: rough poses.
        known: rows to estimate.
        seen, points, views, lens: as in `adjust`.
    """
    rotations, places = split(poses[known])
    for tolerance in _tolerances():
        residual, weight, by_pose, _ = _linearised(points, rotations, places, seen[known], views, lens, tolerance)
        scaled = by_pose * weight[..., None, None]
        block = np.einsum("fmai,fmaj->fij", scaled, by_pose, optimize=True) + 1e-3 * np.eye(6)
        right = -np.einsum("fmai,fma->fi", scaled, residual, optimize=True)
        step = np.linalg.solve(block, right[..., None])[..., 0]
        rotations, places = _turned(rotations, step[:, :3]), places + step[:, 3:]
    enough = weight.sum(1) >= ENOUGH
    result, found = np.array(poses, dtype=np.float32), np.zeros(len(poses), dtype=bool)
    found[known] = enough
    result[known[enough]] = join(rotations, places)[enough]
    return result, found


def split(poses: Float[np.ndarray, "F 6"]) -> tuple[Float[np.ndarray, "F 3 3"], Float[np.ndarray, "F 3"]]:
    """Rotation matrices and places of poses; identity where a pose is NaN."""
    clean = np.nan_to_num(np.asarray(poses, dtype=np.float64))
    return axis_angle_to_matrix(torch.from_numpy(clean[:, :3])).numpy(), clean[:, 3:]


def join(rotations: Float[np.ndarray, "F 3 3"], places: Float[np.ndarray, "F 3"]) -> Float[np.ndarray, "F 6"]:
    """Axis-angle and place."""
    return np.concatenate([matrix_to_axis_angle(torch.from_numpy(rotations)).numpy(), places], 1)
