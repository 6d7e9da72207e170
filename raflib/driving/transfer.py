"""A driver's recording carried over to another person: which frames are played, and the motion of the head.

Nothing here is fitted, and no ground truth is known. Expressions go through a map of `raflib.driving.maps`.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from raflib.capture import Capture
from raflib.errors import RafError
from raflib.geometry import axis_angle_to_matrix, matrix_to_axis_angle, nearest_rotation

NOMINAL_FPS = 25
"""Frames per second of recordings whose source has no times of frames (the studio's)."""


def frames_to_play(driver: Capture, seconds: float | int) -> tuple[Int[np.ndarray, "F"], Float[np.ndarray, "F"]]:
    """(frames, times) of the driver's frames with a face, from the first of them to `seconds` later.

    Times are in seconds from the first of them. They come from the capture; where it has none, frames are 1/25 s apart.
    Recordings whose times begin anew follow each other, 1/25 s apart. Raises RafError for seconds that are not a number
    above 0 and when no frame shows a face.
    """
    if not (np.isfinite(seconds) and seconds > 0):
        raise RafError(f"seconds is {seconds}, expected how many seconds of the driver to play, above 0")
    rows = np.flatnonzero(driver.detected)
    if not len(rows):
        raise RafError(f"capture {driver.subject}: no frame with a face to play")
    times = np.arange(len(driver)) / NOMINAL_FPS if driver.time is None else np.asarray(driver.time, np.float64)
    times = times[rows] - times[rows[0]]
    for again in np.flatnonzero(np.diff(times) <= 0) + 1:
        times[again:] += times[again - 1] - times[again] + 1 / NOMINAL_FPS
    played = times < seconds
    return rows[played], times[played]


def transfer_pose(
    driver: Capture, target: Capture, rows: Int[np.ndarray, "F"]
) -> tuple[Float[np.ndarray, "F 6"], Float[np.ndarray, "F"]]:
    """(poses, scales) for the target from the driver's head motion in `rows`.

    Rotation and translation relative to the driver's own mean are applied to the target's mean, in world axes. Means
    are over each capture's detected frames. Translations are in metres and not scaled.
    """
    driver_rotation, driver_place = _mean_pose(driver)
    target_rotation, target_place = _mean_pose(target)
    turned = rotations(driver.pose[rows]) @ driver_rotation.T @ target_rotation
    moved = driver.pose[rows, 3:] - driver_place + target_place
    axis_angle = matrix_to_axis_angle(torch.from_numpy(turned)).numpy()
    scale = np.full(len(rows), np.median(target.scale[target.detected]), dtype=np.float32)
    return np.concatenate([axis_angle, moved], 1).astype(np.float32), scale


def transfer_torso(driver: Capture, target: Capture, rows: Int[np.ndarray, "F"]) -> Float[np.ndarray, "F 6"] | None:
    """The target's torso (see `Capture.torso`), which moves as the driver's does in `rows`.

    Rotations are about points that lie alike from the mean place of each one's head. None where one of them has no
    torso; then the target's rests.
    """
    motion = driver.torso_at(rows)
    if target.torso is None or motion is None:
        return None
    apart = _mean_pose(target)[1] - _mean_pose(driver)[1]
    moved = motion[:, 3:] + apart - rotations(motion) @ apart
    return np.concatenate([motion[:, :3], moved], 1).astype(np.float32)


def rotations(pose: Float[np.ndarray, "F 6"]) -> Float[np.ndarray, "F 3 3"]:
    """Rotation matrices of poses, float64."""
    return axis_angle_to_matrix(torch.from_numpy(np.asarray(pose[:, :3], dtype=np.float64))).numpy()


def _mean_pose(capture: Capture) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Mean rotation (the rotation nearest to the mean matrix) and mean translation over detected frames."""
    seen = capture.pose[capture.detected]
    if not len(seen):
        raise RafError(f"capture {capture.subject}: no detected frame to take a mean pose from")
    return nearest_rotation(rotations(seen).mean(0)), seen[:, 3:].astype(np.float64).mean(0)
