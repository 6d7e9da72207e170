"""What sources that track their own images share: which frames they pick, and how head poses follow from landmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from raflib import tracking
from raflib.geometry import Camera
from raflib.runs import package_versions
from raflib.sources._store import ARITHMETIC
from raflib.tracking import head_poses, map_head, neutral_face
from raflib.tracking.face import MODEL_SHA256

HEAD_MAP = ("images", "key", "view", "pixels", "points")
"""Fields of a `raflib.tracking.HeadMap`, stored as `map_images` and so on."""


def evenly(length: int, count: int | None) -> Int[np.ndarray, "K"]:
    """Numbers of `count` evenly spaced of `length` things; all for None or too few."""
    if count is None or count >= length:
        return np.arange(length)
    return np.linspace(0, length - 1, count).round().astype(np.int64)


def films_tracked_by(version: int) -> tuple[object, ...]:
    """What tracks of films depend on beside the films and the settings; `version` is the source's own."""
    return version, tracking.VERSION, MODEL_SHA256, sorted(package_versions((*ARITHMETIC, "av")).items())


def tracked_signals(
    expression: Float[np.ndarray, "T d"],
    landmarks: Float[np.ndarray, "T L 3"],
    detected: Bool[np.ndarray, "T"],
    sequence: np.ndarray,
    frame: Int[np.ndarray, "T"],
    cameras: Sequence[Camera] = (),
    greys: UInt8[np.ndarray, "T V H W"] | None = None,
) -> dict[str, np.ndarray]:
    """The signals of a `Capture` by name, with head poses found in world `landmarks` (metres).

    Poses are smoothed over frames that follow each other in `sequence`, as numbered by `frame`. With the `greys` that
    the `cameras` saw they are refined by the head's texture, whose map is then returned as `map_<field>` too.
    """
    rough = head_poses(landmarks, detected, sequence, frame)
    head_map, fine = None, rough
    if greys is not None:
        head_map, fine, _ = map_head(greys, cameras, landmarks, rough)
    neutral, pose, scale = neutral_face(landmarks, fine, 0.1)
    signals = {
        "expression": expression, "landmarks": landmarks.astype(np.float32), "pose": pose, "scale": scale,
        "neutral": neutral, "detected": detected,
    }  # fmt: skip
    if head_map is not None:
        head_map = head_map.about(fine, pose)
        signals |= {f"map_{name}": getattr(head_map, name) for name in HEAD_MAP}
    return signals
