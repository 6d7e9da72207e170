"""Whether projected landmarks lie on a face or a mask, and which convention of the cameras would put them there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, UInt8

from raflib.capture import Capture
from raflib.geometry import Camera
from raflib.sources.gha.files import IBUG66
from raflib.tracking.landmarks import COUNT, GROUPS, IBUG68

AWAY = 0.17
"""Distance of projected landmarks from the face that is found, over its size, from which they do not lie on it."""
MOST_UNSURE = 0.01
"""Share of a mask below which it counts as empty; it counts as full above one minus this."""
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])

TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "upside down": lambda image: np.rot90(image, 2),
    "mirrored top to bottom": lambda image: image[::-1],
    "turned by a quarter to the left": lambda image: np.rot90(image, -1),
    "turned by a quarter to the right": lambda image: np.rot90(image),
}
"""How images may have been turned, with the way back."""

Faces = Sequence[tuple[int, Float[np.ndarray, "478 2"] | None]]
"""Rows of a capture, with the face that is found in a camera's image."""


def is_sound(camera: Camera) -> bool:
    """Whether a camera's extrinsic is a rigid motion, with positive focal lengths and principal point."""
    turn, lens = camera.extrinsic[:3, :3], camera.intrinsic
    rigid = np.abs(turn @ turn.T - np.eye(3)).max() < 1e-3 and np.linalg.det(turn) > 0
    return bool(rigid and min(lens[0, 0], lens[1, 1], *lens[:2, 2]) > 0)


def comparable(capture: Capture, projected: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the projected landmarks and of a face that is found, which mean the same.

    All of them where landmarks are MediaPipe's or the 66 of iBUG's; else the means of rigid landmarks and of lips.
    """
    count = len(projected)
    if count == COUNT:
        return projected, seen
    if count >= len(IBUG66) and tuple(capture.groups["lips"]) == tuple(range(48, 66)):
        return projected[: len(IBUG66)], seen[[IBUG68[row] for row in IBUG66]]
    names = ("rigid", "lips")
    return tuple(
        np.stack([points[list(groups[name])].mean(0) for name in names])
        for points, groups in ((projected, capture.groups), (seen, GROUPS))
    )  # type: ignore[return-value]


def away_from_face(capture: Capture, camera: Camera, faces: Faces, unit: float = 1.0) -> float:
    """Median distance of the landmarks, projected by `camera`, from the faces that are found, over their size.

    `unit` multiplies the landmarks. Infinite where landmarks lie behind the camera.
    """
    told = []
    for t, seen in faces:
        if seen is not None:
            mine, its = comparable(capture, camera.project(unit * capture.landmarks[t].astype(np.float64)), seen)
            distance = np.linalg.norm(mine - its, axis=1) / np.ptp(seen, axis=0).max()
            told.append(float(np.median(np.where(np.isfinite(distance), distance, np.inf))))
    return float(np.median(told)) if told else np.inf


def inside_mask(mask: UInt8[np.ndarray, "H W"], pixels: Float[np.ndarray, "L 2"]) -> float:
    """Mean of a mask (0 to 1) at pixels; those outside of the image count as 0."""
    height, width = mask.shape
    known = np.isfinite(pixels).all(1)
    x, y = np.where(known[:, None], pixels, -1.0).clip(-1, 1e6).astype(int).T
    inside = known & (x >= 0) & (y >= 0) & (x < width) & (y < height)
    values = np.zeros(len(pixels))
    values[inside] = mask[y[inside], x[inside]] / 255
    return float(values.mean())


def top_corners(mask: UInt8[np.ndarray, "H W"]) -> float:
    """Mean of a mask (0 to 1) in its two upper corners, where there is background."""
    height, width = (max(1, side // 12) for side in mask.shape)
    return float(np.mean([mask[:height, :width].mean(), mask[:height, -width:].mean()])) / 255


def _moved(camera: Camera, extrinsic: np.ndarray) -> Camera:
    return replace(camera, extrinsic=extrinsic)


def _turned_back(camera: Camera) -> Camera:
    extrinsic = camera.extrinsic.copy()
    extrinsic[:3, :3] = extrinsic[:3, :3].T
    return _moved(camera, extrinsic)


def _from_centre(camera: Camera) -> Camera:
    extrinsic = camera.extrinsic.copy()
    extrinsic[:3, 3] = -extrinsic[:3, :3] @ extrinsic[:3, 3]
    return _moved(camera, extrinsic)


def _for_this_size(camera: Camera) -> Camera:
    ratio = 2 * camera.intrinsic[0, 2] / camera.width
    return replace(camera, intrinsic=np.diag([1 / ratio, 1 / ratio, 1.0]) @ camera.intrinsic)


CONVENTIONS: dict[str, Callable[[Camera], Camera]] = {
    "the extrinsics look like camera→world; invert them": lambda c: _moved(c, np.linalg.inv(c.extrinsic)),
    "the rotations look transposed; transpose them and keep the translations": _turned_back,
    "the translations look like the cameras' places; use −R · place instead": _from_centre,
    "the cameras look like OpenGL's, with y up and z backward; change the signs of the extrinsics' second and third "
    "rows": lambda c: _moved(c, FLIP @ c.extrinsic),
    "the world has y and z the other way round; change the signs of the extrinsics' second and third columns": (
        lambda c: _moved(c, c.extrinsic @ FLIP)
    ),
    "the extrinsics look like camera→world of OpenGL cameras; invert them, then change the signs of the second and "
    "third rows": lambda c: _moved(c, FLIP @ np.linalg.inv(c.extrinsic)),
    "the intrinsics look like those of images of another size; multiply them by the ratio of the sizes": _for_this_size,
}
"""Conventions that give other extrinsics than OpenCV's world→camera, by what to say, with the way back."""


def fitting_convention(capture: Capture, faces: Mapping[int, Faces]) -> str:
    """The convention under which the landmarks lie on `faces`, rows and found faces by camera; "" where none does."""
    fits = {}
    for words in CONVENTIONS:
        away = [away_from_face(capture, corrected(capture, c, words, own), own) for c, own in faces.items()]
        fits[words] = float(np.quantile(away, 0.8, method="nearest")) if away else np.inf
    best = min(fits, key=lambda words: fits[words])
    return best if fits[best] < AWAY else ""


def corrected(capture: Capture, c: int, words: str, faces: Faces) -> Camera:
    """A camera whose extrinsic or intrinsic was of the convention `words`, as it should be.

    The convention is tried in the capture's world and in one with y up, in which many programs write cameras. The one
    whose projected landmarks lie nearer to `faces` is returned.
    """
    cameras = []
    for world in (np.eye(4), FLIP):
        changed = CONVENTIONS[words](_moved(capture.cameras[c], capture.cameras[c].extrinsic @ world))
        cameras.append(_moved(changed, changed.extrinsic @ world))
    return min(cameras, key=lambda camera: away_from_face(capture, camera, faces))
