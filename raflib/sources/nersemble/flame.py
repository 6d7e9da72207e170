"""FLAME tracks of the monocular benchmark, and the head pose that they describe.

FLAME's vertices v are in metres: x to the subject's left, y up, z out of the face. The tracks place those of the skull,
which follow the neck joint and neither jaw nor eyes, in the world (metres) at

    x = s · M · (N · (v − j) + j) + t

with s `scale`, M `rotation_matrices` (Rx · Ry · Rz of the angles `rotation`), N the rotation of the axis-angle `neck`,
t `translation`, and j the place of FLAME's neck joint. A canonical point q of `raflib.geometry` (decimetres, y down, z
into the head) is v = c + D q / 10 with D = diag(1, −1, −1) and the canonical origin c. The head pose follows:

    x = (s / 10) · (M N D) · q + s · M · (N · (c − j) + j) + t

Rotation and scale are therefore exact. FLAME computes j from its vertices, and its licence does not allow shipping
them, so j is estimated (`raflib.sources.nersemble.head`). An error of j moves the head by s · M · (1 − N) of it, which
is 2 mm for 1 cm at 10 degrees of neck. FLAME's pose-dependent corrections of vertices are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from raflib.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from raflib.reading import Array, damage_named, read_arrays

EXPRESSIONS = 100
PER_FRAME = {
    "expression": f"T {EXPRESSIONS}", "rotation": "T 3", "rotation_matrices": "T 3 3", "translation": "T 3",
    "jaw": "T 3", "neck": "T 3", "eyes": "T 6",
}  # fmt: skip
STORED = {
    "shape": Array("f", "1 300"), "scale": Array("f", "1 1"), "frames": Array("iuf", "T"),
    **{name: Array("f", shape, finite=False) for name, shape in PER_FRAME.items()},
}  # fmt: skip
WHAT, REMEDY = "FLAME tracks", "download this file again"
UPRIGHT = np.diag([1.0, -1.0, -1.0])
"""Canonical axes of `raflib.geometry` in FLAME's axes, the D of the module's equations."""
CANONICAL = 0.1
"""Metres a canonical unit."""
TOLERANCE = 1e-2
"""Largest difference of an entry of a rotation matrix, from an orthonormal one or from that of the angles."""


@dataclass(frozen=True, eq=False)
class FlameTracks:
    """FLAME's parameters in the T frames of one sequence, as the benchmark gives them.

    Attributes:
        shape: [300] identity, and `scale`: metres of the world for a metre of FLAME.
        expression: [T,100] coefficients, without the jaw and the eyes, which joints turn.
        rotation: [T,3] angles (radians) about x, then the moved y, then the moved z; `matrices` [T,3,3] are the same.
        translation: [T,3] world metres.
        neck, jaw: [T,3] axis-angle (radians) of these joints; `eyes` [T,6] of the left and the right eye.
        frames: [T] frame numbers in the original recording.
        complete: [T] whether every number of the frame is finite.
    """

    shape: Float[np.ndarray, "300"]
    scale: float
    expression: Float[np.ndarray, "T 100"]
    rotation: Float[np.ndarray, "T 3"]
    matrices: Float[np.ndarray, "T 3 3"]
    translation: Float[np.ndarray, "T 3"]
    neck: Float[np.ndarray, "T 3"]
    jaw: Float[np.ndarray, "T 3"]
    eyes: Float[np.ndarray, "T 6"]
    frames: Int[np.ndarray, "T"]
    complete: Bool[np.ndarray, "T"]

    def __len__(self) -> int:
        return len(self.expression)

    @property
    def features(self) -> Float[np.ndarray, "T 109"]:
        """The features `flame109`: expression, then `jaw` and `eyes` in radians. Expression coefficients alone do not
        open the mouth or move the eyes."""
        return np.concatenate([self.expression, self.jaw, self.eyes], 1)


def read_flame_tracks(path: Path) -> FlameTracks:
    """The tracks of one sequence. Frames with a NaN are not `complete`.

    Raises RafError naming the file when it is missing or damaged, when an array has another type or shape, when frame
    numbers do not increase, and when a matrix is no rotation or another one than its angles say.
    """
    stored = read_arrays(path, STORED, WHAT, REMEDY)
    with damage_named(path, WHAT, REMEDY):
        if not len(stored["frames"]):
            raise ValueError("it holds no frame")
        complete = np.all([np.isfinite(stored[name]).reshape(len(stored[name]), -1).all(1) for name in PER_FRAME], 0)
        frames = stored["frames"].astype(np.int64)
        if (frames != stored["frames"]).any():
            raise ValueError("frames are not whole numbers")
        if len(late := np.flatnonzero(np.diff(frames) <= 0)):
            raise ValueError(f"frames are out of order: entry {late[0] + 1} does not come after entry {late[0]}")
        scale = float(stored["scale"][0, 0])
        if not scale > 0:
            raise ValueError(f"scale is {scale:g}, expected a number above 0")
        matrices, rows = stored["rotation_matrices"].astype(np.float64), np.flatnonzero(complete)
        wrong = np.abs(matrices @ matrices.swapaxes(1, 2) - np.eye(3)).max((1, 2)) > TOLERANCE
        wrong |= np.linalg.det(np.where(np.isfinite(matrices), matrices, 0)) < 0
        if wrong[rows].any():
            raise ValueError(f"rotation_matrices of frame {rows[wrong[rows]][0]} is no rotation")
        apart = np.abs(_about_moving_axes(stored["rotation"].astype(np.float64)) - matrices).max((1, 2)) > TOLERANCE
        if apart[rows].any():
            raise ValueError(f"rotation and rotation_matrices of frame {rows[apart[rows]][0]} are different rotations")
    plain = {name: stored[name] for name in PER_FRAME if name != "rotation_matrices"}
    return FlameTracks(stored["shape"][0], scale, matrices=matrices, frames=frames, complete=complete, **plain)


def _about_moving_axes(angles: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 3 3"]:
    """Rx · Ry · Rz of angles (radians) about x, y and z."""
    x, y, z = (axis_angle_to_matrix(torch.from_numpy(angles[:, k, None] * np.eye(3)[k])).numpy() for k in range(3))
    return x @ y @ z


def neck_rotations(tracks: FlameTracks) -> Float[np.ndarray, "T 3 3"]:
    """The rotations N of the neck; NaN where the track is."""
    return axis_angle_to_matrix(torch.from_numpy(tracks.neck.astype(np.float64))).numpy()


def skull_pose(
    tracks: FlameTracks,
    joint: Float[np.ndarray, "3"],
    centre: Float[np.ndarray, "3"],
    world: Float[np.ndarray, "4 4"],
) -> tuple[Float[np.ndarray, "T 6"], Float[np.ndarray, "T"]]:
    """Head pose [T,6] (axis-angle, metres) and scale [T] (metres a canonical unit) by the equation of this module.

    `joint` and `centre` are j and c in FLAME's metres. `world` is the rigid motion from the benchmark's world to the
    capture's. Both are float64, with NaN in frames that are not complete.
    """
    neck, turn = neck_rotations(tracks), world[:3, :3]
    rotation = turn @ tracks.matrices @ neck @ UPRIGHT
    place = tracks.scale * np.einsum("tij,tj->ti", tracks.matrices, neck @ (centre - joint) + joint)
    place = (place + tracks.translation) @ turn.T + world[:3, 3]
    axis_angle = matrix_to_axis_angle(torch.from_numpy(np.where(np.isfinite(rotation), rotation, 0.0))).numpy()
    pose = np.where(tracks.complete[:, None], np.concatenate([axis_angle, place], 1), np.nan)
    return pose, np.where(tracks.complete, CANONICAL * tracks.scale, np.nan)
