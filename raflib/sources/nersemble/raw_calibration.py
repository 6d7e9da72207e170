"""Calibration files of NeRSemble's second version: cameras in the axes of `raflib.geometry`, and colour matrices.

`camera_params.json` holds one world→camera matrix (4×4, OpenCV, metres) a camera and one intrinsic matrix for all.
`color_calibration.json` holds one colour matrix a camera (`raflib.sources.nersemble.raw_colour`). The dataset's world
becomes that of `raflib.geometry`: axes of the frontal camera, origin at the point that all cameras look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from raflib.errors import RafError
from raflib.geometry import Camera, nearest_to_axes
from raflib.reading import damage_named, read_json
from raflib.sources.nersemble.raw_colour import MONOMIALS

CAMERAS, COLOURS = "calibration/camera_params.json", "calibration/color_calibration.json"
REMEDY = "download it again with `nersemble-data download`"
ORTHONORMAL = 1e-3
"""Largest entry of R Rᵀ − 1 of a rotation."""
OFF_AXIS = 0.35
"""Largest distance of an optical axis from the common point, as a share of the camera's distance to the point."""
DISTANCES = 0.3, 5.0
"""Metres between which the frontal camera's distance from that point is expected."""
ALONE = 1.0
"""Assumed metres from the camera to the head where the cameras' axes show no common point."""

Matrices = dict[str, np.ndarray]


def read_cameras(folder: Path) -> tuple[Matrices, Float[np.ndarray, "3 3"]]:
    """(world→camera matrix [4,4] by serial number, the intrinsic matrix of all cameras) as the file gives them.

    Raises RafError naming the file when it is missing, damaged, or holds no rigid motions and no pinhole camera.
    """
    path = folder / CAMERAS
    stored = read_json(path, {"world_2_cam": dict}, "camera calibration", REMEDY)
    with damage_named(path, "camera calibration", REMEDY):
        if not stored["world_2_cam"]:
            raise ValueError("world_2_cam names no camera")
        motions = {
            serial: _matrix(f"world_2_cam of camera {serial}", values, (4, 4))
            for serial, values in stored["world_2_cam"].items()
        }
        for serial, motion in motions.items():
            rotation = motion[:3, :3]
            if np.abs(rotation @ rotation.T - np.eye(3)).max() > ORTHONORMAL or np.linalg.det(rotation) < 0:
                raise ValueError(f"world_2_cam of camera {serial} does not begin with a rotation")
            if np.abs(motion[3] - [0, 0, 0, 1]).max() > 1e-9:
                raise ValueError(f"world_2_cam of camera {serial} does not end with the row 0 0 0 1")
        lens = _matrix("intrinsics", stored.get("intrinsics"), (3, 3))
        if min(lens[0, 0], lens[1, 1]) <= 0 or np.abs(lens[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]] - [0, 0, 0, 0, 1]).max():
            raise ValueError("intrinsics is not of the form [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
    return motions, lens


def read_colours(folder: Path) -> Matrices:
    """The colour matrix [3,T] of each camera, by serial number. RafError naming the file where it holds no such."""
    path = folder / COLOURS
    stored = read_json(path, None, "colour calibration", REMEDY)
    with damage_named(path, "colour calibration", REMEDY):
        return {serial: _matrix(f"camera {serial}", values, (3, None)) for serial, values in stored.items()}


def _matrix(name: str, values: object, shape: tuple[int, int | None]) -> np.ndarray:
    """A matrix of a file; ValueError naming it where it has another shape or holds anything but finite numbers.

    Without a number of columns it has as many as a list of monomials has entries.
    """
    wide = sorted(MONOMIALS) if shape[1] is None else [shape[1]]
    matrix = None
    if isinstance(values, list) and all(isinstance(row, list) for row in values):
        plain = all(type(number) in (int, float) for row in values for number in row)
        if plain and len(values) == shape[0] and len(values[0]) in wide and len(set(map(len, values))) == 1:
            matrix = np.array(values, np.float64)
    if matrix is None or not np.isfinite(matrix).all():
        raise ValueError(f"{name} is no matrix of {shape[0]} × {' or '.join(map(str, wide))} numbers")
    return matrix


def aligned(motions: Mapping[str, np.ndarray], frontal: str, path: Path) -> tuple[Matrices, list[str]]:
    """(the world→camera matrices of all cameras for the world of `raflib.geometry`, notes for the user).

    The origin is the point nearest to all optical axes (least squares), `ALONE` metres ahead of a single camera.
    Raises RafError naming `path` and a camera that does not look at that point: its matrix follows another convention.
    """
    front, notes = motions[frontal], []
    point = nearest_to_axes(list(motions.values()))
    if point is None:
        point = ALONE * front[2, :3] - front[:3, :3].T @ front[:3, 3]
    for serial, motion in motions.items():
        x, y, z = motion[:3, :3] @ point + motion[:3, 3]
        if z <= 0 or np.hypot(x, y) > OFF_AXIS * z:
            raise RafError(
                f"{path}: camera {serial} does not look at the point that the cameras have in common; expected "
                f"world→camera matrices with z ahead (OpenCV): {REMEDY}"
            )
    ahead = front[:3, :3] @ point + front[:3, 3]
    if not DISTANCES[0] <= ahead[2] <= DISTANCES[1]:
        notes.append(f"{path}: the frontal camera is {ahead[2]:.3g} m from the head, metres may not be its unit")
    back = np.eye(4)
    back[:3, :3], back[:3, 3] = front[:3, :3].T, front[:3, :3].T @ (ahead - front[:3, 3])
    return {serial: motion @ back for serial, motion in motions.items()}, notes


def full_camera(serial: str, motion: np.ndarray, lens: np.ndarray, size: tuple[int, int], path: Path) -> Camera:
    """The camera of a whole image of `size` (width, height); RafError naming `path` where its lens does not fit it."""
    for centre, pixels in zip(lens[:2, 2], size, strict=True):
        if abs(centre / pixels - 0.5) > 0.25:
            raise RafError(
                f"{path}: the principal point ({lens[0, 2]:.0f}, {lens[1, 2]:.0f}) does not lie in the middle of the "
                f"videos' {size[0]}×{size[1]} images; calibration and videos must belong together"
            )
    return Camera(serial, motion, lens, *size)
