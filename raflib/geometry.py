"""Cameras, rotations and similarity transforms: the conventions every other room uses.

Conventions
-----------
* Cameras are OpenCV's: x right, y down, z forward. An extrinsic is a 4×4 world→camera matrix, an intrinsic a 3×3 matrix
  in pixels. Pixel centres lie at +0.5: the top-left pixel covers [0, 1)² and is sampled at (0.5, 0.5).
* The world is metric (metres). Its axes are those of the frontal camera: x to the image's right (the subject's left),
  y down, z away from the camera, so a face looks towards −z. Its origin is the point the rig looks at.
* Canonical head space has the same axes, in decimetres, its origin at the centroid of the rigid landmarks. A head pose
  is axis-angle (3) then translation (3), and ``world = R(pose[:3]) @ (scale · x) + pose[3:]``, scale ≈ 0.1.
* Quaternions are wxyz. Rotations act on column vectors.
* Images are [H, W, 3] RGB, float32 in [0, 1] inside the model and uint8 on disk, on a white background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from raflib.errors import RafError, finite

__all__ = [
    "HALF_TURN",
    "HEAD_DEPTH",
    "Camera",
    "axis_angle_to_matrix",
    "compose_pose",
    "farthest_row",
    "matrix_to_axis_angle",
    "matrix_to_quaternion",
    "nearest_rotation",
    "quaternion_multiply",
    "quaternion_to_matrix",
    "rigid_align",
    "stack_cameras",
    "transform_points",
    "triangulate",
]

HALF_TURN = (1.0, -1.0, -1.0)
"""Signs of x, y and z after half a circle about x: from the axes used here to those of face models and of the public
avatar code, which have y up and z out of the face, and back."""
HEAD_DEPTH = 0.8
"""Depth of the head's middle behind the centroid of its rigid landmarks (canonical, dm). Cameras orbit around it."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated pinhole camera.

    `extrinsic` [4,4] world→camera (OpenCV, metres), `intrinsic` [3,3] in pixels of a `width` × `height` image.
    """

    name: str
    extrinsic: np.ndarray
    intrinsic: np.ndarray
    width: int
    height: int

    def __post_init__(self):
        for field, shape in (("extrinsic", (4, 4)), ("intrinsic", (3, 3))):
            value = np.asarray(getattr(self, field), dtype=np.float64)
            if value.shape != shape or not np.isfinite(value).all():
                raise RafError(f"camera {self.name}: {field} must be finite and {shape}, got {value.shape}")
            object.__setattr__(self, field, value)

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Optical centre in world metres."""
        return -self.extrinsic[:3, :3].T @ self.extrinsic[:3, 3]

    def resized(self, width: int, height: int | None = None) -> Camera:
        """The same view sampled at `width` × `height` pixels (height defaults to the same aspect)."""
        height = round(self.height * width / self.width) if height is None else height
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return replace(self, intrinsic=scale @ self.intrinsic, width=width, height=height)

    def cropped(self, x: int, y: int, width: int, height: int) -> Camera:
        """The camera of the image window whose top-left pixel is (x, y)."""
        shift = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]])
        return replace(self, intrinsic=shift @ self.intrinsic, width=width, height=height)

    def orbited(self, middle: Float[np.ndarray, "3"], yaw: float | int, pitch: float | int = 0.0) -> Camera:
        """This camera moved on a sphere around `middle` (world metres), which keeps its place in the image.

        A positive `yaw` (radians) brings the head's left side into view, a positive `pitch` the top of the head. The
        exported page's script `player.js` turns its view in the same way. Raises RafError for angles that are not
        finite.
        """
        a, b = finite("yaw (radians)", yaw), finite("pitch (radians)", pitch)
        around = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
        over = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
        turn, there = over @ around, self.to_camera(np.asarray(middle, np.float64))
        extrinsic = np.eye(4)
        extrinsic[:3, :3] = turn @ self.extrinsic[:3, :3]
        extrinsic[:3, 3] = turn @ (self.extrinsic[:3, 3] - there) + there
        return replace(self, extrinsic=extrinsic)

    def to_camera(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """World points in this camera's frame (metres)."""
        return points @ self.extrinsic[:3, :3].T + self.extrinsic[:3, 3]

    def project(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Pixel coordinates of world points; points at or behind the optical centre become NaN."""
        local = self.to_camera(np.asarray(points, dtype=np.float64))
        depth = np.where(local[..., 2:] > 1e-9, local[..., 2:], np.nan)
        return (local @ self.intrinsic.T)[..., :2] / depth


def stack_cameras(cameras: Sequence[Camera]) -> tuple[Float[Tensor, "B 4 4"], Float[Tensor, "B 3 3"]]:
    """Extrinsics and intrinsics of several cameras as float32 tensors."""
    extrinsics = np.stack([camera.extrinsic for camera in cameras])
    intrinsics = np.stack([camera.intrinsic for camera in cameras])
    return torch.from_numpy(extrinsics).float(), torch.from_numpy(intrinsics).float()


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rodrigues' formula, smooth at zero: exp of the cross-product matrix (radians)."""
    squared = (axis_angle * axis_angle).sum(-1, keepdim=True)[..., None]
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    sine = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    cosine = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / angle**2)
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + sine * cross + cosine * (cross @ cross)


def matrix_to_quaternion(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternions (wxyz, w ≥ 0) of rotation matrices, from the best-conditioned of the four classic formulas."""
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    squares = torch.stack([trace, *(2 * m[..., i, i] - trace for i in range(3))], -1)  # 4 q² − 1, for w x y z
    w2, x2, y2, z2 = ((squares + 1) / 4).unbind(-1)
    wx = (m[..., 2, 1] - m[..., 1, 2]) / 4
    wy = (m[..., 0, 2] - m[..., 2, 0]) / 4
    wz = (m[..., 1, 0] - m[..., 0, 1]) / 4
    xy = (m[..., 0, 1] + m[..., 1, 0]) / 4
    xz = (m[..., 0, 2] + m[..., 2, 0]) / 4
    yz = (m[..., 1, 2] + m[..., 2, 1]) / 4
    rows = torch.stack([w2, wx, wy, wz, wx, x2, xy, xz, wy, xy, y2, yz, wz, xz, yz, z2], -1).reshape(*w2.shape, 4, 4)
    best = squares.argmax(-1)
    chosen = torch.gather(rows, -2, best[..., None, None].expand(*best.shape, 1, 4))[..., 0, :]
    chosen = torch.nn.functional.normalize(chosen, dim=-1)
    return torch.where(chosen[..., :1] < 0, -chosen, chosen)


def matrix_to_axis_angle(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Axis-angle (radians, length ≤ π) of rotation matrices."""
    quaternion = matrix_to_quaternion(matrix)
    vector = quaternion[..., 1:]
    length = vector.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, quaternion[..., :1])
    return torch.where(length > 1e-7, vector * angle / length.clamp_min(1e-7), 2 * vector)


def quaternion_to_matrix(quaternion: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrices of quaternions (wxyz, need not be normalised)."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*w.shape, 3, 3)


def quaternion_multiply(a: Float[Tensor, "*b 4"], b: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Hamilton product a ⊗ b (wxyz): the rotation b followed by a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def transform_points(
    points: Float[Tensor, "*b N 3"], pose: Float[Tensor, "*b 6"], scale: Float[Tensor, "*b"]
) -> Float[Tensor, "*b N 3"]:
    """Canonical → world: R(pose[:3]) @ (scale · x) + pose[3:]."""
    rotation = axis_angle_to_matrix(pose[..., :3])
    return (scale[..., None, None] * points) @ rotation.transpose(-1, -2) + pose[..., None, 3:]


def compose_pose(outer: Float[Tensor, "*b 6"], inner: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 6"]:
    """The rigid motion that applies `inner` first and `outer` to its result."""
    rotation = axis_angle_to_matrix(outer[..., :3])
    turned = matrix_to_axis_angle(rotation @ axis_angle_to_matrix(inner[..., :3]))
    moved = (rotation @ inner[..., 3:, None])[..., 0] + outer[..., 3:]
    return torch.cat([turned, moved], -1)


def nearest_rotation(matrix: Float[np.ndarray, "*b 3 3"]) -> Float[np.ndarray, "*b 3 3"]:
    """The rotation nearest to a matrix (least squares); a positive factor on the matrix does not matter."""
    u, _, vt = np.linalg.svd(matrix)
    u[..., 2] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))[..., None]
    return u @ vt


def farthest_row(
    points: Float[np.ndarray, "N d"],
    chosen: Sequence[int] | Int[np.ndarray, " n"],
    among: Int[np.ndarray, " m"] | None = None,
) -> int:
    """The row of `among` (default: all rows) whose point has the largest distance to the nearest `chosen` one.

    The first of equally far rows is returned. Appending the result to `chosen`, again and again, spreads rows evenly.
    """
    rows = np.arange(len(points)) if among is None else np.asarray(among)
    offsets = points[rows][:, None] - points[np.asarray(chosen)]
    return int(rows[(offsets * offsets).sum(2).min(1).argmax()])


def rigid_align(
    source: Float[np.ndarray, "L 3"],
    target: Float[np.ndarray, "L 3"],
    weights: Float[np.ndarray, "L"] | None = None,
    with_scale: bool = False,
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"], float]:
    """Least-squares similarity ``target ≈ s · R @ source + t`` (Umeyama 1991; s = 1 unless `with_scale`)."""
    weights = np.ones(len(source)) if weights is None else weights
    weights = weights / weights.sum()
    source_mean, target_mean = weights @ source, weights @ target
    a, b = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd((b * weights[:, None]).T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / (weights @ (a * a).sum(1))) if with_scale else 1.0
    return rotation, target_mean - scale * rotation @ source_mean, scale


def nearest_to_axes(extrinsics: Sequence[Float[np.ndarray, "4 4"]]) -> Float[np.ndarray, "3"] | None:
    """The point nearest to the optical axes of cameras (world→camera, OpenCV), by least squares; None where all axes
    have nearly one direction, as with a single camera."""
    across = np.stack([np.eye(3) - np.outer(motion[2, :3], motion[2, :3]) for motion in extrinsics])
    system = across.sum(0)
    if np.linalg.cond(system) >= 1e4:
        return None
    centres = np.stack([-motion[:3, :3].T @ motion[:3, 3] for motion in extrinsics])
    return np.linalg.solve(system, np.einsum("cij,cj->i", across, centres))


def triangulate(
    points: Float[np.ndarray, "V L 2"],
    cameras: Sequence[Camera],
    weights: Float[np.ndarray, "V L"] | None = None,
) -> Float[np.ndarray, "L 3"]:
    """World points (metres) seen at pixels `points` by V ≥ 2 cameras: weighted linear least squares in normalised rays.

    A weight of 0 leaves a view out for that point; points seen by fewer than two views become NaN.
    """
    if len(cameras) != len(points):
        raise RafError(f"triangulate: {len(points)} views of points but {len(cameras)} cameras; give one camera a view")
    weights = np.ones(points.shape[:2]) if weights is None else weights
    rows = []
    for camera, seen, weight in zip(cameras, points, weights, strict=True):
        homogeneous = np.concatenate([seen, np.ones((len(seen), 1))], 1)
        ray = homogeneous @ np.linalg.inv(camera.intrinsic).T
        extrinsic = camera.extrinsic[:3]
        for axis in (0, 1):
            equation = ray[:, axis, None] * extrinsic[2] - extrinsic[axis]
            rows.append(np.where(weight[:, None] > 0, equation, 0.0) * weight[:, None])
    system = np.stack(rows, 1)  # [L, 2V, 4]
    normal = np.einsum("lri,lrj->lij", system[..., :3], system[..., :3])
    right = -np.einsum("lri,lr->li", system[..., :3], system[..., 3])
    enough = (weights > 0).sum(0) >= 2
    result = np.full((points.shape[1], 3), np.nan)
    if enough.any():
        result[enough] = np.linalg.solve(normal[enough], right[enough][..., None])[..., 0]
    return result
