"""Cameras of exported avatars: one in front of the face, and the middle of the head, around which others turn."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from raflib.errors import RafError, whole
from raflib.geometry import HEAD_DEPTH, Camera, axis_angle_to_matrix
from raflib.training import Run

AWAY = 10.5
"""Distance of the frontal camera to the face in canonical units (dm), like that of the studio's cameras."""
IN_VIEW = 3.65
"""Height of what it sees there, in the same units."""


def frontal_camera(run: Run, size: int | None = None) -> Camera:
    """A camera in front of the avatar's median training pose, for square images of `size` pixels.

    The default size is that of the training's images, which the avatar's blur suits.
    """
    size = run.config.size * run.config.avatar.upsampling if size is None else whole("size (pixels)", size, 1)
    place = run.avatar.median_pose[3:].double().cpu().numpy()
    unit = float(run.avatar.median_scale)
    extrinsic = np.eye(4)
    extrinsic[:3, 3] = np.array([0, 0, AWAY * unit]) - place
    focal = size * AWAY / IN_VIEW
    intrinsic = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera("frontal", extrinsic, intrinsic, size, size)


def head_middle(pose: Float[np.ndarray, "F 6"], scale: Float[np.ndarray, "F"]) -> Float[np.ndarray, "3"]:
    """The middle of the head (world metres), a mean over frames."""
    turned = axis_angle_to_matrix(torch.from_numpy(np.asarray(pose[:, :3], np.float64))).numpy()
    return (HEAD_DEPTH * scale[:, None] * turned[:, :, 2] + pose[:, 3:]).mean(0)


def depth_of(camera: Camera, middle: Float[np.ndarray, "3"]) -> float:
    """Distance of `middle` (world metres) along the camera's axis; RafError where it is not in front of the camera."""
    depth = float(camera.to_camera(np.asarray(middle, np.float64))[2])
    if depth <= 0.02:
        raise RafError(f"camera {camera.name}: the head is {depth:.2f} m in front of it; choose one that sees the face")
    return depth
