"""Fitting a linear face model to landmarks: Gauss-Newton over all frames of one person at once.

Unknowns are the person's identity and size, shared by all frames, and each frame's expression and rigid pose.
Observations are pixels in any number of calibrated views, or points in space. Both are reduced to one quadratic for
each landmark, its 3×3 information and gradient in the head's frame, so that the rest of the solver treats them alike. A
Schur complement separates shared unknowns from those of the frames, so a step costs one small solve for each frame.

Landmarks with large residuals weigh less (Geman-McClure, scaled by the median residual). Coefficients have a normal
prior. Landmark errors are alike in neighbouring points and in all frames of a face, so they are not independent
evidence. For this reason the prior is multiplied by `PRIOR`, and for shared unknowns by the number of frames too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from raflib.geometry import Camera, axis_angle_to_matrix, matrix_to_axis_angle, rigid_align, triangulate

UNIT = 0.1
"""Metres of a unit of canonical head space, in which models are written (decimetres)."""
PRIOR = 4.0
"""Weight of the prior in squared median residuals. It is about the best for landmarks of tracked studio faces: with 1
and with 20 they are a twentieth worse."""
SIZE_DEVIATION = 0.01
"""Standard deviation of the logarithm of a person's size, relative to the model with the person's identity."""
REACH = 3.0
"""A residual of this many medians has a quarter of the weight."""
SHARED_FRAMES = 96
"""Most frames from which identity and size are found, evenly spaced; the others are then fitted to that person."""
CHUNK = 64
"""Number of frames in memory at once."""
ITERATIONS, ENOUGH = 12, 0.02
"""Most Gauss-Newton steps; they end when no coefficient moves by more than `ENOUGH` standard deviations."""
SMALLEST = 1e-9
"""Smallest median residual, for data without error."""

Quadratics = tuple[Float[np.ndarray, "T L 3 3"], Float[np.ndarray, "T L 3"], Float[np.ndarray, "T O L"]]
"""Per landmark: information, gradient (towards the observation), and residual lengths of O observations (NaN: none)."""
Observe = Callable[[Int[np.ndarray, "T"], Float[np.ndarray, "T L 3"], float], Quadratics]
"""(frames, world points, residual with a quarter of the weight) → the quadratics of robustly weighted squares."""


def pixels_seen(points: Float[np.ndarray, "T V L 2"], cameras: Sequence[Camera]) -> Observe:
    """Observations in pixels of V calibrated views; NaN where a view has none."""
    projection = np.stack([camera.intrinsic @ camera.extrinsic[:3] for camera in cameras])

    def observe(frames: Int[np.ndarray, "T"], world: Float[np.ndarray, "T L 3"], reach: float) -> Quadratics:
        image = np.einsum("vij,tlj->tvli", projection[:, :, :3], world) + projection[:, None, :, 3]
        depth = np.maximum(image[..., 2:], 1e-6)
        predicted = image[..., :2] / depth
        offset = points[frames] - predicted
        length = np.linalg.norm(offset, axis=3)
        weight = _weight(length, reach)
        slope = (projection[:, None, :2, :3] - predicted[..., None] * projection[:, None, 2:, :3]) / depth[..., None]
        slope = slope.transpose(0, 2, 1, 3, 4).reshape(*world.shape[:2], -1, 3)
        weight = np.repeat(weight.transpose(0, 2, 1), 2, axis=2)
        offset = np.nan_to_num(offset.transpose(0, 2, 1, 3).reshape(weight.shape))
        pull = (slope * weight[..., None]).swapaxes(2, 3)
        return pull @ slope, (pull @ offset[..., None])[..., 0], length

    return observe


def points_seen(landmarks: Float[np.ndarray, "T L 3"]) -> Observe:
    """Observations in space (metres); NaN where there is none."""

    def observe(frames: Int[np.ndarray, "T"], world: Float[np.ndarray, "T L 3"], reach: float) -> Quadratics:
        offset = landmarks[frames] - world
        length = np.linalg.norm(offset, axis=2)
        weight = _weight(length, reach)
        return weight[..., None, None] * np.eye(3), weight[..., None] * np.nan_to_num(offset), length[:, None]

    return observe


def _weight(length: np.ndarray, reach: float) -> np.ndarray:
    return np.nan_to_num((1 + (length / reach) ** 2) ** -2, nan=0.0)


class Solver:
    """The unknowns of one person's recording and their improvement.

    Args:
        mean, identity, expression: the model at the landmarks, in decimetres for one standard deviation.
        observe: the quadratics of the observations, from `pixels_seen` or `points_seen`.
        rotation, place: first poses of the frames; places in metres.
    """

    def __init__(
        self,
        mean: Float[np.ndarray, "L 3"],
        identity: Float[np.ndarray, "I L 3"],
        expression: Float[np.ndarray, "E L 3"],
        observe: Observe,
        rotation: Float[np.ndarray, "T 3 3"],
        place: Float[np.ndarray, "T 3"],
    ):
        self.mean, self.observe = mean, observe
        self.identity, self.expression = (basis.reshape(len(basis), mean.size) for basis in (identity, expression))
        self.rotation, self.place = rotation.copy(), place.copy()
        self.shape, self.size = np.zeros(len(identity)), 0.0
        self.shown = np.zeros((len(rotation), len(expression)))
        self.reach = self.noise = np.inf

    def canonical(self, frames: np.ndarray) -> Float[np.ndarray, "t L 3"]:
        """Landmarks in canonical head space (decimetres, size included)."""
        flat = self.mean.ravel() + self.shape @ self.identity + self.shown[frames] @ self.expression
        return np.exp(self.size) * flat.reshape(len(frames), -1, 3)

    def world(self, frames: np.ndarray) -> Float[np.ndarray, "t L 3"]:
        """Landmarks in world metres."""
        turned = self.canonical(frames) @ self.rotation[frames].transpose(0, 2, 1)
        return UNIT * turned + self.place[frames][:, None]

    def residuals(self, frames: np.ndarray) -> Float[np.ndarray, "t O L"]:
        """Lengths of the residuals, in pixels or metres."""
        return np.concatenate([self.observe(part, self.world(part), 1.0)[2] for part in chunks(frames)])

    def improve(self, frames: Int[np.ndarray, "t"], with_shared: bool, bar: tqdm) -> None:
        """Gauss-Newton on `frames`: their expressions and poses, and the shared unknowns if `with_shared`."""
        for step in range(ITERATIONS):
            self._weigh(frames)
            moved = self._step(frames, with_shared)
            bar.update(len(frames))
            if moved < ENOUGH and step >= 2:
                break

    def _weigh(self, frames: np.ndarray) -> None:
        typical = max(float(np.nanmedian(self.residuals(frames))), SMALLEST)
        self.reach, self.noise = REACH * typical, typical

    def _step(self, frames: np.ndarray, with_shared: bool) -> float:
        shared = len(self.shape) + 1 if with_shared else 0
        prior = PRIOR * self.noise**2
        system, right, waiting = np.zeros((shared, shared)), np.zeros(shared), []
        for part in chunks(frames):
            for block, border, corner, own, common in self._normal(part, with_shared, prior):
                solved = np.linalg.solve(block, np.concatenate([border, own[:, None]], 1))
                if with_shared:
                    system += corner - border.T @ solved[:, :-1]
                    right += common - border.T @ solved[:, -1]
                waiting.append(solved)
        change = np.zeros(shared)
        if with_shared:
            weight = np.full(shared, prior * len(frames))
            weight[-1] /= SIZE_DEVIATION**2
            system[np.diag_indices(shared)] += weight
            change = np.linalg.solve(system, right - weight * np.append(self.shape, self.size))
            self.shape, self.size = self.shape + change[:-1], self.size + change[-1]
        own = np.stack([solved[:, -1] - solved[:, :-1] @ change for solved in waiting])
        count = self.shown.shape[1]
        self.shown[frames] += own[:, :count]
        turn = axis_angle_to_matrix(torch.from_numpy(own[:, count : count + 3])).numpy()
        self.place[frames] += np.einsum("tij,tj->ti", self.rotation[frames], own[:, count + 3 :])
        self.rotation[frames] = self.rotation[frames] @ turn
        return float(max(np.abs(change).max(initial=0), np.abs(own[:, :count]).max(initial=0)))

    def _normal(
        self, frames: Int[np.ndarray, "t"], with_shared: bool, prior: float
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """For each frame, the parts of the normal equations.

        These are the frame's own block, the border to the shared unknowns, the shared block, and the right-hand sides
        of the frame's own and of the shared unknowns.
        """
        world, canonical = self.world(frames), self.canonical(frames)
        information, gradient, _ = self.observe(frames, world, self.reach)
        rotation, scale = self.rotation[frames], UNIT * np.exp(self.size)
        information = rotation[:, None].swapaxes(2, 3) @ information @ rotation[:, None]
        gradient = gradient @ rotation
        own, count = len(self.expression) + 6, len(self.expression)
        columns = np.zeros((self.mean.size, own + (len(self.identity) + 1 if with_shared else 0)))
        columns[:, :count] = scale * self.expression.T
        columns[:, count + 3 : own] = np.tile(np.eye(3), (len(self.mean), 1))
        if with_shared:
            columns[:, own:-1] = scale * self.identity.T
        for row in range(len(frames)):
            lever = UNIT * canonical[row]
            columns[:, count : count + 3] = -_cross(lever).reshape(-1, 3)
            if with_shared:
                columns[:, -1] = lever.ravel()
            weighted = (information[row] @ columns.reshape(len(self.mean), 3, -1)).reshape(columns.shape)
            normal, side = columns.T @ weighted, columns.T @ gradient[row].ravel()
            normal[np.arange(count), np.arange(count)] += prior
            side[:count] -= prior * self.shown[frames[row]]
            # Pose has no prior; a trace of the identity keeps a frame with hardly any landmark solvable.
            normal[np.arange(own), np.arange(own)] += 1e-12 * np.trace(normal[:own, :own])
            yield normal[:own, :own], normal[:own, own:], normal[own:, own:], side[:own], side[own:]


def _cross(vectors: Float[np.ndarray, "L 3"]) -> Float[np.ndarray, "L 3 3"]:
    """Matrices of the cross product with each vector."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)


def chunks(frames: np.ndarray) -> list[np.ndarray]:
    """`frames` in parts of at most `CHUNK`."""
    return [frames[start : start + CHUNK] for start in range(0, len(frames), CHUNK)]


def solve(
    mean: Float[np.ndarray, "L 3"],
    identity: Float[np.ndarray, "I L 3"],
    expression: Float[np.ndarray, "E L 3"],
    observe: Observe,
    rotation: Float[np.ndarray, "T 3 3"],
    place: Float[np.ndarray, "T 3"],
    progress: bool,
) -> Solver:
    """The fitted unknowns of T frames: first identity and size from up to `SHARED_FRAMES`, then every frame."""
    count = len(rotation)
    solver = Solver(mean, identity, expression, observe, rotation, place)
    chosen = np.unique(np.linspace(0, count - 1, min(count, SHARED_FRAMES)).round().astype(int))
    total = ITERATIONS * (len(chosen) + (count if count > len(chosen) else 0))
    with tqdm(total=total, desc="face model", unit="frame", disable=not progress or total < 2000) as bar:
        solver.improve(chosen, True, bar)
        others = np.setdiff1d(np.arange(count), chosen)
        if len(others):
            solver.shown[others] = 0
            solver.improve(np.arange(count), False, bar)
    return solver


def first_poses(
    mean: Float[np.ndarray, "L 3"], points: Float[np.ndarray, "T V L 2"], cameras: Sequence[Camera]
) -> tuple[Float[np.ndarray, "T 3 3"], Float[np.ndarray, "T 3"], Bool[np.ndarray, "T"]]:
    """Rough poses of the mean face (decimetres), and which frames have one; NaN in the others.

    Poses come from triangulated landmarks, or from the view with most landmarks where views share too few.
    """
    rotations, places = np.full((len(points), 3, 3), np.nan), np.full((len(points), 3), np.nan)
    for row, seen in enumerate(points):
        count = np.isfinite(seen).all(2).sum(1)
        views = np.flatnonzero(count >= 4)
        if len(views) > 1:
            weights = np.isfinite(seen[views]).all(2).astype(float)
            solid = triangulate(np.nan_to_num(seen[views]), [cameras[view] for view in views], weights)
            rotations[row], places[row] = align(mean, solid)
        if len(views) and not np.isfinite(places[row]).all():
            best = int(count.argmax())
            rotations[row], places[row] = _scaled_orthography(mean, seen[best], cameras[best])
    return rotations, places, np.isfinite(places).all(1)


def first_poses_of_points(
    mean: Float[np.ndarray, "L 3"], landmarks: Float[np.ndarray, "T L 3"]
) -> tuple[Float[np.ndarray, "T 3 3"], Float[np.ndarray, "T 3"], Bool[np.ndarray, "T"]]:
    """Rough poses of the mean face (decimetres) at points in space (metres), and which frames have one; else NaN."""
    rotations, places = np.full((len(landmarks), 3, 3), np.nan), np.full((len(landmarks), 3), np.nan)
    for row, solid in enumerate(landmarks):
        rotations[row], places[row] = align(mean, solid)
    return rotations, places, np.isfinite(places).all(1)


def align(mean: Float[np.ndarray, "L 3"], solid: Float[np.ndarray, "L 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and place of the mean face (decimetres) at points in space (metres; NaN where there is none)."""
    known = np.isfinite(solid).all(1)
    if known.sum() < 4:
        return np.full((3, 3), np.nan), np.full(3, np.nan)
    rotation, place, _ = rigid_align(UNIT * mean[known], solid[known])
    return rotation, place


def _scaled_orthography(
    mean: Float[np.ndarray, "L 3"], seen: Float[np.ndarray, "L 2"], camera: Camera
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Pose from one view as if all points were equally far: two rows of a scaled rotation by least squares."""
    known = np.isfinite(seen).all(1)
    ray = np.concatenate([seen[known], np.ones((known.sum(), 1))], 1) @ np.linalg.inv(camera.intrinsic).T
    design = np.concatenate([UNIT * mean[known], np.ones((known.sum(), 1))], 1)
    rows = np.linalg.lstsq(design, ray[:, :2] / ray[:, 2:], rcond=None)[0].T
    nearness = np.linalg.norm(rows[:, :3], axis=1).mean()
    u, _, vt = np.linalg.svd(rows[:, :3], full_matrices=False)
    two = u @ vt
    rotation = np.stack([two[0], two[1], np.cross(two[0], two[1])])
    place = np.append(rows[:, 3], 1.0) / nearness
    view = camera.extrinsic[:3, :3]
    return view.T @ rotation, view.T @ (place - camera.extrinsic[:3, 3])


def join_poses(rotation: Float[np.ndarray, "T 3 3"], place: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 6"]:
    """Poses as in `raflib.geometry`: axis-angle, then translation."""
    return np.concatenate([matrix_to_axis_angle(torch.from_numpy(rotation)).numpy(), place], 1)
