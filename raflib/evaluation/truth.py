"""What an avatar should have shown: the target performing the driver's exact expression, where a source owns it.

The open studio owns every performance, so it can film the *target* doing what the *driver* did: same actions (the style
of the driver included), same head angles. That picture is the truth of cross-driving. The avatar is given the pose that
the training's tracker finds on those very pictures, so that the expression alone crosses identities and a metric does
not pay for a pose that nobody could have known. Other sources have no such truth: `transfer_pose` carries the driver's
head motion over to the target's mean pose instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from tqdm import tqdm

from raflib.capture import Capture
from raflib.errors import RafError
from raflib.geometry import Camera, axis_angle_to_matrix, matrix_to_axis_angle, nearest_rotation, rigid_align


@dataclass(frozen=True, eq=False)
class Performed:
    """True pictures of the target and how its head was tracked on them.

    Attributes:
        images: [F,C,H,W,3] from each wanted camera.
        pose: [F,6] in the canonical frame of the target's training capture; NaN where the tracker lost the face.
        scale: [F] metres a canonical unit.
        landmarks: [F,L,3] world metres; NaN where the tracker lost the face.
        detected: [F].
    """

    images: UInt8[np.ndarray, "F C H W 3"]
    pose: Float[np.ndarray, "F 6"]
    scale: Float[np.ndarray, "F"]
    landmarks: Float[np.ndarray, "F L 3"]
    detected: Bool[np.ndarray, "F"]


def performed(
    target: Capture,
    driver: Capture,
    rows: Int[np.ndarray, "F"],
    cameras: Sequence[Camera],
    tracker: object | None = None,
    progress: bool = True,
) -> Performed:
    """The studio's target person performing rows `rows` of the driver's true performance, seen by `cameras`.

    Pictures for the tracker are taken by the views that the studio's captures are tracked with; poses are those of
    `aligned_pose`, made finer by the target's head map where it has one. Raises RafError when a capture has no truth,
    or when a camera is not of one size with the others.
    """
    from raflib import studio
    from raflib.sources.studio import FRONTAL, TRACKING_CAMERAS, StudioProfile
    from raflib.tracking import FaceTracker, grey, track_views

    for capture in (target, driver):
        if capture.truth is None:
            raise RafError(f"capture {capture.subject} has no truth; only the studio can show a performance again")
    if len({(camera.width, camera.height) for camera in cameras}) > 1:
        raise RafError("performed: the wanted cameras have different sizes; ask for one size at a time")
    views = [camera for camera in studio.rig(StudioProfile.tracking_size) if camera.name in TRACKING_CAMERAS]
    frontal = [camera.name for camera in views].index(FRONTAL)
    identity = studio.Identity(target.subject)
    unit = float(np.median(target.scale[target.detected]))
    images, poses, landmarks, greys = [], [], [], []
    own = tracker is None
    tracker = FaceTracker() if own else tracker
    try:
        for t in tqdm(rows, desc=f"{target.subject} performs {driver.subject}", disable=not progress, leave=False):
            act = (identity, driver.truth.actions[t], driver.truth.angles[t])
            images.append(np.stack([studio.render(*act, camera)[0] for camera in cameras]))
            seen = [studio.render(*act, view)[0] for view in views]
            greys.append(np.stack([grey(picture) for picture in seen]))
            sighting = track_views(seen, views, tracker, frontal)
            lost = np.full_like(target.neutral, np.nan, dtype=np.float64)
            landmarks.append(lost if sighting is None else sighting.landmarks)
            poses.append(aligned_pose(target.neutral, landmarks[-1], unit, target.groups["rigid"]))
    finally:
        if own:
            tracker.close()
    found = np.stack(poses)
    if target.head_map is not None:
        found, _ = target.head_map.locate(np.stack(greys), found, views)
    scale = np.full(len(rows), unit, dtype=np.float32)
    return Performed(np.stack(images), found, scale, np.stack(landmarks), np.isfinite(found).all(1))


def aligned_pose(
    neutral: Float[np.ndarray, "L 3"], landmarks: Float[np.ndarray, "L 3"], scale: float, rigid: Sequence[int]
) -> Float[np.ndarray, "6"]:
    """Head pose of one frame: the motion that carries the `rigid` rows of the person's neutral landmarks (canonical
    units × `scale`) onto those of `landmarks` (world metres). NaN where the landmarks are missing."""
    rigid = list(rigid)
    seen = np.asarray(landmarks[rigid], dtype=np.float64)
    if not np.isfinite(seen).all():
        return np.full(6, np.nan, dtype=np.float32)
    rotation, translation, _ = rigid_align(scale * np.asarray(neutral[rigid], dtype=np.float64), seen)
    axis_angle = matrix_to_axis_angle(torch.from_numpy(rotation)).numpy()
    return np.concatenate([axis_angle, translation]).astype(np.float32)


def transfer_pose(
    driver: Capture, target: Capture, rows: Int[np.ndarray, "F"]
) -> tuple[Float[np.ndarray, "F 6"], Float[np.ndarray, "F"]]:
    """Poses [F,6] and scales [F] for the target from the driver's head motion in `rows`.

    Rotation and translation relative to the driver's own mean are applied to the target's mean, in world axes; means
    are over each capture's detected frames. Distances are taken as they are, in metres.
    """
    driver_rotation, driver_place = _mean_pose(driver)
    target_rotation, target_place = _mean_pose(target)
    rotations = _rotations(driver.pose[rows])
    turned = rotations @ driver_rotation.T @ target_rotation
    moved = driver.pose[rows, 3:] - driver_place + target_place
    axis_angle = matrix_to_axis_angle(torch.from_numpy(turned)).numpy()
    scale = np.full(len(rows), np.median(target.scale[target.detected]), dtype=np.float32)
    return np.concatenate([axis_angle, moved], 1).astype(np.float32), scale


def transfer_expression(
    driver: Capture, target: Capture, rows: Int[np.ndarray, "F"], share: float = 0.98
) -> Float[np.ndarray, "F d"]:
    """Expression features for the target from the driver's in `rows`, where nobody knows the truth.

    Two trackers' biases differ by person even at rest, and an avatar knows nothing of features its recording never
    showed. So the driver's features are taken relative to their median over the driver's frames, put on the target's
    median over training frames, and each is held within the range that the middle `share` of the target's training
    frames covers. Benchmarks do not use this: there the driver's features go over as they are (paper §5).
    """
    if driver.feature_space != target.feature_space:
        raise RafError(
            f"driver {driver.subject} has {driver.feature_space} features but {target.subject} {target.feature_space}; "
            "track them with one tracker"
        )
    own = target.expression[target.train]
    moved = driver.expression[rows] - np.median(driver.expression[driver.detected], axis=0) + np.median(own, axis=0)
    low, high = np.quantile(own, [(1 - share) / 2, (1 + share) / 2], axis=0)
    return np.clip(moved, low, high).astype(np.float32)


def pose_errors(capture: Capture) -> tuple[Float[np.ndarray, "T"], Float[np.ndarray, "T"]]:
    """How far tracked head poses are from the true ones: degrees [T] and millimetres [T], NaN where there is no face.

    The canonical frame of a capture is its own, so the constant motion between it and the truth's frame is taken out
    first: the one that fits the training frames best. Raises RafError when the capture has no truth.
    """
    if capture.truth is None:
        raise RafError(f"capture {capture.subject} has no truth; only the studio knows the true head pose")
    tracked, true = _rotations(np.nan_to_num(capture.pose)), _rotations(capture.truth.pose)
    place, true_place = capture.pose[:, 3:].astype(np.float64), capture.truth.pose[:, 3:].astype(np.float64)
    fit = capture.train
    constant = nearest_rotation(np.einsum("tji,tjk->ik", tracked[fit], true[fit]))
    between = np.einsum("tji,tjk->tik", tracked @ constant, true)
    degrees = np.degrees(np.linalg.norm(matrix_to_axis_angle(torch.from_numpy(between)).numpy(), axis=1))
    offset = np.linalg.lstsq(tracked[fit].reshape(-1, 3), (true_place - place)[fit].ravel(), rcond=None)[0]
    millimetres = 1000 * np.linalg.norm(tracked @ offset + place - true_place, axis=1)
    return np.where(capture.detected, degrees, np.nan), np.where(capture.detected, millimetres, np.nan)


def _rotations(pose: Float[np.ndarray, "F 6"]) -> Float[np.ndarray, "F 3 3"]:
    return axis_angle_to_matrix(torch.from_numpy(np.asarray(pose[:, :3], dtype=np.float64))).numpy()


def _mean_pose(capture: Capture) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Mean rotation (the rotation nearest to the mean matrix) and mean translation over detected frames."""
    seen = capture.pose[capture.detected]
    if not len(seen):
        raise RafError(f"capture {capture.subject}: no detected frame to take a mean pose from")
    return nearest_rotation(_rotations(seen).mean(0)), seen[:, 3:].astype(np.float64).mean(0)
