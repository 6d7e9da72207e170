"""Checks that tracks, cameras and images of a folder belong together; neutral landmarks from tracks.

A wrong convention (translation before rotation, millimetres, camera→world, y down) reads like any other numbers. It
shows where landmarks are brought back to canonical space, and where they are projected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from raflib.errors import RafError
from raflib.geometry import Camera, axis_angle_to_matrix

SIGNALS = ("expression", "pose", "scale", "landmarks")
UNTRACKED, NOT_FINITE = "without tracks", "with NaN, infinity or scale 0 in their tracks"
INCOMPLETE = "without some camera's image, mask or file"
MISPLACED = "with landmarks that do not fit their pose"
"""Why frames are marked as not detected; a number stands before it."""
NEUTRAL_SHARE = 0.25
"""Share of the frames, those with the smallest expression, whose landmarks' median is the neutral face."""
AWAY = 0.4
"""How far the rigid landmarks may lie from the neutral ones (median), in mean radii of these: about 12 mm. In tracked
studio captures, no frame reaches 0.2."""


def unposed(tracks: Mapping[str, np.ndarray]) -> Float[np.ndarray, "T L 3"]:
    """World landmarks in canonical head space, x = Rᵀ (world − t) / scale; NaN where the tracks hold NaN."""
    pose = tracks["pose"].astype(np.float64)
    rotation = axis_angle_to_matrix(torch.from_numpy(pose[:, :3])).numpy()
    moved = tracks["landmarks"].astype(np.float64) - pose[:, None, 3:]
    scale = np.where(tracks["scale"] > 0, tracks["scale"], np.nan).astype(np.float64)
    return np.einsum("tlj,tji->tli", moved, rotation) / scale[:, None, None]


def neutral_landmarks(tracks: Mapping[str, np.ndarray], rows: Bool[np.ndarray, "T"]) -> Float[np.ndarray, "L 3"]:
    """Median canonical landmarks of the quarter of the frames `rows` whose expression vectors are shortest."""
    kept = np.flatnonzero(rows)
    length = np.linalg.norm(tracks["expression"][kept].astype(np.float64), axis=1)
    calm = kept[np.argsort(length, kind="stable")[: max(1, round(NEUTRAL_SHARE * len(kept)))]]
    return np.median(unposed({name: values[calm] for name, values in tracks.items()}), 0).astype(np.float32)


def lacking(
    tracks: Mapping[str, np.ndarray], complete: Bool[np.ndarray, "T"], known: Bool[np.ndarray, "T"]
) -> dict[str, Bool[np.ndarray, "T"]]:
    """Frames among the `known` ones that lack something, by the reason. `complete` ones have all files of cameras."""
    values = np.concatenate([tracks[name].reshape(len(known), -1).astype(np.float64) for name in SIGNALS], 1)
    blank = np.isnan(values).all(1)
    finite = np.isfinite(values).all(1) & (tracks["scale"] > 0)
    return {
        UNTRACKED: known & blank,
        NOT_FINITE: known & ~finite & ~blank,
        INCOMPLETE: known & ~complete & finite,
    }


def misplaced(
    path: Path,
    tracks: Mapping[str, np.ndarray],
    detected: Bool[np.ndarray, "T"],
    neutral: Float[np.ndarray, "L 3"],
    rigid: Sequence[int],
) -> Bool[np.ndarray, "T"]:
    """Detected frames whose landmarks and pose do not belong together: the rigid ones lie away from the neutral face.

    RafError if these are more than half of the detected frames.
    """
    fixed = neutral[list(rigid)].astype(np.float64)
    radius = np.linalg.norm(fixed - fixed.mean(0), axis=1).mean()
    distance = np.linalg.norm(unposed(tracks)[:, list(rigid)] - fixed, axis=2)
    away = detected & (np.median(distance, axis=1) > AWAY * radius)  # NaN is not away
    if 2 * away.sum() > detected.sum():
        raise RafError(
            f"{path}: landmarks and pose do not belong together in {away.sum()} of {detected.sum()} frames; expected "
            "world = R(pose[:3]) (scale · x) + pose[3:], with axis-angle in radians"
        )
    return away


def check_upright(path: Path, neutral: Float[np.ndarray, "L 3"], groups: Mapping[str, Sequence[int]]) -> None:
    """RafError unless the mouth lies below the rigid landmarks, in the axes of `raflib`."""
    down = neutral[list(groups["lips"])].mean(0) - neutral[list(groups["rigid"])].mean(0)
    if down[1] < max(abs(down[0]), abs(down[2])):
        raise RafError(
            f"{path}: in canonical space the mouth does not lie below nose and eyes; pose must be axis-angle then "
            "translation, and in the files y must point up"
        )


def check_views(path: Path, landmarks: Float[np.ndarray, "T L 3"], cameras: Sequence[Camera]) -> None:
    """RafError unless every camera sees the middle of the landmarks in at least half of the frames.

    Half an image beyond the border counts as seen. `landmarks` are of detected frames only.
    """
    middle = landmarks.astype(np.float64).mean(1)
    for camera in cameras:
        pixels = camera.project(middle) / [camera.width, camera.height]  # NaN behind the camera
        seen = ((pixels > -0.5) & (pixels < 1.5)).all(1)
        if 2 * seen.sum() < len(seen):
            raise RafError(
                f"{path}: camera {camera.name} does not see the head in {len(seen) - int(seen.sum())} of {len(seen)} "
                "frames; extrinsic must be world→camera (OpenCV), and cameras, pose and landmarks of one unit"
            )
