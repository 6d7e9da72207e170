"""True images of cross-driving: the target person with the driver's exact expression, where a source can render it.

The open studio knows every performance, so it can render the *target* doing what the *driver* did: the same actions,
with the driver's style, and the same head angles. That image is the ground truth of cross-driving. The avatar receives
the pose that the training's tracker finds on the same images, so that only the expression crosses identities and no
metric counts a pose that could not be known. For sources without truth, `raflib.driving.transfer_pose` carries the
driver's head motion over to the target's mean pose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from raflib.capture import Capture, Performed
from raflib.errors import RafError
from raflib.geometry import Camera, matrix_to_axis_angle, rigid_align
from raflib.runs import cache_root

PERFORMED_VERSION = 1
"""Raised with every change after which true images are chosen or aligned differently."""
KEPT_BYTES = 2**25
"""Images of one driver up to this size in bytes are kept for the next avatar's evaluation."""
RENDERED = ("images", "pose", "landmarks")


def performed(
    target: Capture,
    driver: Capture,
    rows: Int[np.ndarray, "F"],
    cameras: Sequence[Camera],
    tracker: object | None = None,
    progress: bool = True,
) -> Performed:
    """The studio's target person performing rows `rows` of the driver's true performance, seen by `cameras`.

    The tracker sees the views that the studio's captures are tracked with. Poses are those of `aligned_pose`, refined
    by the target's head map where it has one. Results are kept in `cache_root()/performed`, unless they are large or
    `tracker` is not a `FaceTracker` of single images. Raises RafError when a capture has no truth, when the cameras
    differ in size, or for a damaged file (naming it).
    """
    from raflib.sources._store import load_tracks, save_tracks
    from raflib.tracking import FaceTracker

    for capture in (target, driver):
        if capture.truth is None:
            raise RafError(f"capture {capture.subject} has no truth; only the studio can render a performance again")
    if len({(camera.width, camera.height) for camera in cameras}) > 1:
        raise RafError("performed: the wanted cameras have different sizes; ask for one size at a time")
    size = 3 * len(rows) * sum(camera.width * camera.height for camera in cameras)
    kept = size <= KEPT_BYTES and (tracker is None or (type(tracker) is FaceTracker and tracker.mode == "image"))
    path = _file(target, driver, rows, cameras) if kept else None
    rendered = load_tracks(path, RENDERED) if kept else None
    if rendered is None:
        rendered = _render(target, driver, rows, cameras, tracker, progress)
        if kept:
            save_tracks(path, **rendered)
    scale = np.full(len(rows), _unit(target), dtype=np.float32)
    return Performed(**rendered, scale=scale, detected=np.isfinite(rendered["pose"]).all(1))


def _render(
    target: Capture,
    driver: Capture,
    rows: Int[np.ndarray, "F"],
    cameras: Sequence[Camera],
    tracker: object | None,
    progress: bool,
) -> dict[str, np.ndarray]:
    """The arrays `RENDERED` of `performed`."""
    from raflib import studio
    from raflib.sources._studio_recipe import TRACKING_CAMERAS, StudioProfile
    from raflib.studio.rig import FRONTAL
    from raflib.tracking import FaceTracker, grey, track_views

    views = [camera for camera in studio.rig(StudioProfile.tracking_size) if camera.name in TRACKING_CAMERAS]
    frontal = [camera.name for camera in views].index(FRONTAL)
    identity, unit = studio.Identity(target.subject), _unit(target)
    images, poses, landmarks, greys = [], [], [], []
    own = tracker is None
    tracker = FaceTracker() if own else tracker
    try:
        for t in tqdm(rows, desc=f"{target.subject} performs {driver.subject}", disable=not progress, leave=False):
            act = (identity, driver.truth.actions[t], driver.truth.angles[t])
            shown = [image for image, _ in studio.render_views(*act, [*cameras, *views])]
            images.append(np.stack(shown[: len(cameras)]))
            seen = shown[len(cameras) :]
            greys.append(np.stack([grey(image) for image in seen]))
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
    return dict(zip(RENDERED, (np.stack(images), found, np.stack(landmarks)), strict=True))


def _unit(target: Capture) -> float:
    """Metres of a canonical unit."""
    return float(np.median(target.scale[target.detected]))


def _file(target: Capture, driver: Capture, rows: Int[np.ndarray, "F"], cameras: Sequence[Camera]) -> Path:
    """The cache file of `performed`, named by everything that the result depends on."""
    from raflib.sources._studio_recipe import made_by
    from raflib.sources._tracked import HEAD_MAP

    rows = np.asarray(rows)
    made = PERFORMED_VERSION, made_by(), target.subject, [*target.groups["rigid"]]
    digest = hashlib.sha256(repr(made).encode())
    arrays = [driver.truth.actions[rows], driver.truth.angles[rows], target.neutral, np.float64(_unit(target))]
    for camera in cameras:
        digest.update(repr((camera.width, camera.height)).encode())
        arrays += [camera.intrinsic, camera.extrinsic]
    if target.head_map is not None:
        arrays += [getattr(target.head_map, name) for name in HEAD_MAP]
    for values in arrays:
        values = np.ascontiguousarray(values)
        digest.update(repr((values.shape, values.dtype.str)).encode() + values.tobytes())
    return cache_root() / "performed" / f"{target.subject}-{driver.subject}-{digest.hexdigest()[:16]}.npz"


def aligned_pose(
    neutral: Float[np.ndarray, "L 3"], landmarks: Float[np.ndarray, "L 3"], scale: float, rigid: Sequence[int]
) -> Float[np.ndarray, "6"]:
    """Head pose of one frame: the rigid motion from the neutral landmarks to `landmarks`; NaN where these are missing.

    Args:
        neutral: the person's neutral landmarks in canonical units; `scale` is the metres of a unit.
        landmarks: world metres.
        rigid: the rows that are aligned.
    """
    rigid = list(rigid)
    seen = np.asarray(landmarks[rigid], dtype=np.float64)
    if not np.isfinite(seen).all():
        return np.full(6, np.nan, dtype=np.float32)
    rotation, translation, _ = rigid_align(scale * np.asarray(neutral[rigid], dtype=np.float64), seen)
    axis_angle = matrix_to_axis_angle(torch.from_numpy(rotation)).numpy()
    return np.concatenate([axis_angle, translation]).astype(np.float32)
