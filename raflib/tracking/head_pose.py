"""Landmarks over time → head poses and the person's neutral landmarks.

Head pose is the rigid motion of the points that do not move with expression (`landmarks.RIGID`), found by generalised
Procrustes analysis: all frames are aligned to their mean until it stops changing. No population model is used. The
recording fixes the canonical frame: its origin is the centroid of the mean rigid points, and its axes are the world's
axes at the mean head rotation of the half of the frames nearest to it. It is upright for a person who faces the camera.

One view shows no distances. `landmarks_from_matrix` puts the tracker's points and relative depth in front of a pinhole
camera with an assumed field of view. With any assumption, the landmarks project onto the tracker's points.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from raflib.errors import RafError
from raflib.geometry import Camera, axis_angle_to_matrix, matrix_to_axis_angle, nearest_rotation
from raflib.tracking.face import FOV_DEGREES, Observation
from raflib.tracking.landmarks import RIGID

SINGLE_VIEW_FOV = 20.0
"""Assumed angle of view, in degrees, of a square crop around head and shoulders, as of a portrait lens."""
MIN_FRAMES = 3


def _align(
    shape: Float[np.ndarray, "R 3"], observed: Float[np.ndarray, "T R 3"], weights: Float[np.ndarray, "R"]
) -> tuple[Float[np.ndarray, "T 3 3"], Float[np.ndarray, "T 3"]]:
    """Rotations and centroids with observed[t] ≈ rotation[t] @ shape + centroid[t]; `shape` has weighted centroid 0."""
    centroid = np.einsum("r,trc->tc", weights, observed)
    return nearest_rotation(np.einsum("r,tri,rj->tij", weights, observed - centroid[:, None], shape)), centroid


def _upright(rotations: Float[np.ndarray, "T 3 3"]) -> Float[np.ndarray, "3 3"]:
    """Mean orientation of the half of the frames nearest to it."""
    chosen = rotations
    for _ in range(5):
        mean = nearest_rotation(chosen.mean(0))
        cosine = np.einsum("tij,ij->t", rotations, mean)
        chosen = rotations[cosine >= np.median(cosine)]
    return nearest_rotation(chosen.mean(0))


def _procrustes(
    observed: Float[np.ndarray, "T R 3"], rounds: int = 12
) -> tuple[Float[np.ndarray, "R 3"], Float[np.ndarray, "R"], Float[np.ndarray, "T 3 3"], Float[np.ndarray, "T 3"]]:
    """(shape, weights, rotations, centroids): the mean rigid shape and its motion; unsteady points weigh less."""
    weights = np.full(observed.shape[1], 1 / observed.shape[1])
    shape = observed[0] - weights @ observed[0]
    for _ in range(rounds):
        rotations, centroids = _align(shape, observed, weights)
        unposed = (observed - centroids[:, None]) @ rotations
        shape = np.median(unposed, 0)
        variance = ((unposed - shape) ** 2).sum(2).mean(0)
        weights = 1 / (variance + np.median(variance))  # no point may outweigh a typical one more than twice
        weights /= weights.sum()
        shape -= weights @ shape
    rotations, centroids = _align(shape, observed, weights)
    return shape, weights, rotations, centroids


def median_of_three(
    values: Float[np.ndarray, "T d"], sequence: np.ndarray, frame: Int[np.ndarray, "T"]
) -> Float[np.ndarray, "T d"]:
    """Median with both neighbours where these are the frames just before and after in the same recording."""
    if len(values) < 3:
        return values
    step = (sequence[1:] == sequence[:-1]) & (frame[1:] - frame[:-1] == 1)
    inside = np.flatnonzero(step[1:] & step[:-1]) + 1
    smooth = values.copy()
    smooth[inside] = np.median([values[inside - 1], values[inside], values[inside + 1]], axis=0)
    return smooth


def head_poses(
    landmarks: Float[np.ndarray, "T 478 3"],
    detected: Bool[np.ndarray, "T"],
    sequence: np.ndarray | None = None,
    frame: Int[np.ndarray, "T"] | None = None,
) -> Float[np.ndarray, "T 6"]:
    """Head poses of one person from landmarks: axis-angle and place (metres), NaN where not detected.

    The frame they refer to is upright and has its origin at the mean rigid points' centroid. `landmarks` are world
    metres; rows that are not `detected` are ignored. With `sequence` and `frame`, poses pass a median of three over
    frames that follow each other directly (number differs by 1) within one sequence; sparse frames stay as they are.

    Raises RafError with fewer than three detected frames.
    """
    rows = np.flatnonzero(detected)
    if len(rows) < MIN_FRAMES:
        raise RafError(f"head pose: a face was found in {len(rows)} frames but {MIN_FRAMES} are needed; add frames")
    seen = np.asarray(landmarks[rows], dtype=np.float64)
    shape, _, rotations, centroids = _procrustes(seen[:, RIGID])
    upright = _upright(rotations)
    shape, rotations = shape @ upright.T, rotations @ upright.T
    # The weighted centroid followed the head; the canonical origin is the plain centroid of the rigid points.
    centroids = centroids + np.einsum("tij,j->ti", rotations, shape.mean(0))
    found = np.concatenate([matrix_to_axis_angle(torch.from_numpy(rotations)).numpy(), centroids], 1)
    if sequence is not None and frame is not None:
        found = median_of_three(found, np.asarray(sequence)[rows], np.asarray(frame)[rows])
    poses = np.full((len(landmarks), 6), np.nan)
    poses[rows] = found
    return poses


def neutral_face(
    landmarks: Float[np.ndarray, "T 478 3"], poses: Float[np.ndarray, "T 6"], world_scale: float
) -> tuple[Float[np.ndarray, "478 3"], Float[np.ndarray, "T 6"], Float[np.ndarray, "T"]]:
    """The person's neutral landmarks, the poses about their origin, and the scale of every frame.

    `poses` come from `head_poses`, or are refined ones; rows with NaN are ignored. `world_scale` is the metres of a
    canonical unit.

    Returns:
        neutral [478,3] float32 in canonical units, with the rigid points' centroid at 0: the median of the quarter of
        frames nearest to the median face; pose [T,6] float32 about that origin, world = R(pose[:3]) @ (scale · x) +
        pose[3:]; and scale [T].
    """
    rows = np.flatnonzero(np.isfinite(poses).all(1))
    pose = np.array(poses, dtype=np.float64)
    rotations = axis_angle_to_matrix(torch.from_numpy(pose[rows, :3])).numpy()
    unposed = (np.asarray(landmarks[rows], dtype=np.float64) - pose[rows, None, 3:]) @ rotations / world_scale
    distance = np.linalg.norm(unposed - np.median(unposed, 0), axis=2).mean(1)
    neutral = np.median(unposed[distance <= np.quantile(distance, 0.25)], 0)
    origin = neutral[list(RIGID)].mean(0)
    pose[rows, 3:] += world_scale * rotations @ origin
    scale = np.full(len(landmarks), world_scale, dtype=np.float32)
    return (neutral - origin).astype(np.float32), pose.astype(np.float32), scale


def single_view_camera(size: int, distance: float, fov_degrees: float = SINGLE_VIEW_FOV, name: str = "video") -> Camera:
    """The assumed camera of a square `size` image, `distance` metres in front of the world's origin."""
    focal = size / 2 / np.tan(np.radians(fov_degrees) / 2)
    extrinsic = np.eye(4)
    extrinsic[2, 3] = distance
    return Camera(name, extrinsic, np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]), size, size)


def landmarks_from_matrix(
    observation: Observation, size: int, fov_degrees: float = SINGLE_VIEW_FOV
) -> Float[np.ndarray, "478 3"]:
    """Metric landmarks in the camera's frame (OpenCV, metres) from one square view of `size` pixels.

    The head's distance is the matrix's, carried from MediaPipe's field of view to the assumed one so that the head
    keeps its size in the image; a point's depth is that distance plus its relative depth at the same scale; its x
    and y follow from its pixel, so `single_view_camera(size, 0, fov_degrees)` projects it back exactly.
    """
    focal = size / 2 / np.tan(np.radians(fov_degrees) / 2)
    virtual_focal = size / 2 / np.tan(np.radians(FOV_DEGREES) / 2)
    distance = -float(observation.matrix[2, 3]) / 100 * focal / virtual_focal
    depth = distance * (1 + observation.depth.astype(np.float64) / focal)
    planar = (observation.points.astype(np.float64) - size / 2) * depth[:, None] / focal
    return np.concatenate([planar, depth[:, None]], 1)


def constant_size(
    landmarks: Float[np.ndarray, "T 478 3"], detected: Bool[np.ndarray, "T"]
) -> Float[np.ndarray, "T 478 3"]:
    """Single-view landmarks (camera frame) of a head of constant size.

    Each frame is scaled about the optical centre until its rigid points have the recording's median size. Projections
    do not change; distances become steady.
    """
    rows = np.flatnonzero(detected)
    rigid = landmarks[rows][:, RIGID]
    size = np.linalg.norm(rigid - rigid.mean(1, keepdims=True), axis=2).mean(1)
    result = np.array(landmarks, dtype=np.float64)
    result[rows] *= (np.median(size) / size)[:, None, None]
    return result
