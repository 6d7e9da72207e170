"""The studio's 16 calibrated cameras: an arc in three rows like NeRSemble's rig, with the same serial numbers."""

from __future__ import annotations

import numpy as np

from raflib.errors import RafError
from raflib.geometry import Camera

FRONTAL = "222200037"
DISTANCE = 1.05  # metres from the optical centres to the world's origin
VIEW_HEIGHT = 0.365  # metres of the world, at the origin, that fill an image's height
# (serial, yaw, elevation) in degrees; positive yaw: at the right in the frontal camera's image.
STATIONS = (
    ("220700191", -50, 2), ("221501007", -38, -14), ("222200036", -24, 3), ("222200037", 0, 0),
    ("222200038", -12, -15), ("222200039", 24, 3), ("222200040", 38, -14), ("222200041", 50, 2),
    ("222200042", -40, 20), ("222200043", -14, 19), ("222200044", 14, 19), ("222200045", 40, 20),
    ("222200046", 12, -15), ("222200047", -30, -22), ("222200048", 30, -22), ("222200049", 0, 24),
)  # fmt: skip


def rig(size: int = 256) -> list[Camera]:
    """All 16 cameras for square images of `size` pixels, ordered by serial; "222200037" is the frontal one.

    Every camera looks at the world's origin (the middle of a neutral head), where 0.365 m fill its image.
    Raises RafError when `size` is not a whole number between 16 and 4096.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 16 <= size <= 4096:
        raise RafError(f"rig size {size!r}: expected a whole number of pixels between 16 and 4096")
    focal = size * DISTANCE / VIEW_HEIGHT
    intrinsic = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return [Camera(serial, station(yaw, up), intrinsic, int(size), int(size)) for serial, yaw, up in sorted(STATIONS)]


def station(yaw: float | int, elevation: float | int) -> np.ndarray:
    """World→camera matrix [4,4] of a camera that looks at the origin from `DISTANCE`; angles in degrees."""
    turn, lift = np.deg2rad([yaw, elevation])
    about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(lift), -np.sin(lift)], [0, np.sin(lift), np.cos(lift)]])
    extrinsic = np.eye(4)
    extrinsic[:3, :3] = about_x @ about_y
    extrinsic[2, 3] = DISTANCE
    return extrinsic
