"""The open capture studio → a multi-view `Capture` with the truth beside it.

A subject performs the studio's sequences before its calibrated cameras. Frames are picked evenly, rendered, and tracked
like a real recording: expression from the frontal view, landmarks by triangulation, head pose from the landmarks. The
true actions, head pose and landmarks go into `truth` and nowhere else. Tracks are cached in one file, and each image
when it is first used; both are named by a key of everything they depend on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from raflib import studio
from raflib.capture import HELD_OUT, Capture, Truth
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.runs import cache_root
from raflib.sources._store import ImageStore, load_tracks, save_tracks
from raflib.sources._studio_recipe import FEATURE_SPACE, TRACKING_CAMERAS, StudioProfile, made_by
from raflib.sources._tracked import HEAD_MAP, evenly, tracked_signals
from raflib.sources._truth import performed
from raflib.studio.rig import FRONTAL
from raflib.tracking import FaceTracker, HeadMap, grey, track_views
from raflib.tracking.landmarks import GROUPS

SIGNALS = ("expression", "landmarks", "pose", "scale", "neutral", "detected")


PROFILES = {
    "tiny": StudioProfile(size=96, sequences=4, per_sequence=6, free=12),
    "demo": StudioProfile(),
    "gpu": StudioProfile(size=512, per_sequence=40),
    "paper": StudioProfile(size=2048, per_sequence=None, free=None),
    "coverage": StudioProfile(per_sequence=None, cameras=(FRONTAL,), refined=False),
    "driver": StudioProfile(sequences=0, free=40, cameras=(FRONTAL,), tracked=TRACKING_CAMERAS[:3], refined=False),
}
"""`coverage` has every training frame, 25 a second, from the frontal camera. `driver` is for driving only: FREE from
the frontal camera, with head poses triangulated from three cameras."""


@dataclass(frozen=True, eq=False)
class Moments:
    """The picked frames: `sequence`, `frame` [T], true `actions` [T,52] and head `angles` [T,3]."""

    sequence: np.ndarray
    frame: np.ndarray
    actions: np.ndarray
    angles: np.ndarray


def pick_moments(subject: str, profile: StudioProfile) -> Moments:
    """Evenly spaced frames of every sequence the profile asks for, training sequences first, FREE last."""
    names = list(studio.TRAIN_SEQUENCES)
    names = [names[index] for index in evenly(len(names), profile.sequences)]
    parts = []
    for name, wanted in [*((name, profile.per_sequence) for name in names), (HELD_OUT, profile.free)]:
        performed = studio.act(subject, name)
        frame = evenly(len(performed.actions), wanted)
        parts.append((np.array([name] * len(frame)), frame, performed.actions[frame], performed.angles[frame]))
    return Moments(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _cameras(size: int, serials: tuple[str, ...] | None) -> list[Camera]:
    return [camera for camera in studio.rig(size) if serials is None or camera.name in serials]


def _key(subject: str, profile: StudioProfile, moments: Moments) -> str:
    """A key that changes with the settings, the performance, and how images and tracks are made."""
    digest = hashlib.sha256(repr((subject, asdict(profile), made_by())).encode())
    for values in (moments.actions, moments.angles):
        digest.update(np.round(values.astype(np.float64), 4).tobytes())
    return digest.hexdigest()[:16]


def _rendered(subject: str, moments: Moments, cameras: list[Camera], threads: int = 2) -> Iterator[list[np.ndarray]]:
    """The images of each moment by all `cameras`, rendered a few moments ahead of their use."""
    identity = studio.Identity(subject)

    def film(row: int) -> list[np.ndarray]:
        seen = studio.render_views(identity, moments.actions[row], moments.angles[row], cameras)
        return [image for image, _ in seen]

    with ThreadPoolExecutor(threads) as pool:
        rows = iter(range(len(moments.frame)))
        waiting = [pool.submit(film, row) for row in islice(rows, 2 * threads)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [pool.submit(film, row) for row in islice(rows, 1)]
        finally:
            pool.shutdown(cancel_futures=True)


def _track(subject: str, profile: StudioProfile, moments: Moments) -> dict[str, np.ndarray]:
    cameras = _cameras(profile.tracking_size, profile.tracked)
    frontal = [camera.name for camera in cameras].index(FRONTAL)
    count = len(moments.frame)
    expression = np.full((count, 52), np.nan, np.float32)
    landmarks = np.full((count, 478, 3), np.nan)
    size = profile.tracking_size
    greys = np.empty((count, len(cameras), size, size), np.uint8) if profile.refined else None
    with FaceTracker() as tracker:
        rendered = tqdm(_rendered(subject, moments, cameras), total=count, desc=f"tracking {subject}", unit="frame")
        for row, images in enumerate(rendered):
            if greys is not None:
                greys[row] = [grey(image) for image in images]
            sighting = track_views(images, cameras, tracker, frontal)
            if sighting is not None:
                expression[row], landmarks[row] = sighting.expression, sighting.landmarks
    detected = np.isfinite(expression).all(1)
    return tracked_signals(expression, landmarks, detected, moments.sequence, moments.frame, cameras, greys)


def open(subject: str, profile: str = "demo", root: str | Path | None = None) -> Capture:
    """The studio's recording of `subject`, a person for every plain name ("422", "E01", …).

    `root` is the folder for caches (default: `cache_root()/studio`). Frames in which no face was found are marked and
    hold NaN. `capture.frames.prefetch(pairs)` renders images ahead of their use. Raises RafError for an unknown
    profile, an impossible subject, and a damaged track cache (naming the file).
    """
    if profile not in PROFILES:
        raise RafError(f"studio profile {profile!r} is not known; choose one of {', '.join(PROFILES)}")
    settings, identity = PROFILES[profile], studio.Identity(subject)
    moments = pick_moments(subject, settings)
    folder = cache_root() / "studio" if root is None else Path(root)
    key = _key(subject, settings, moments)
    path = folder / f"{subject}-{key}.npz"
    stored = [f"map_{name}" for name in HEAD_MAP] if settings.refined else []
    tracks = load_tracks(path, [*SIGNALS, *stored])
    if tracks is None:
        tracks = _track(subject, settings, moments)
        save_tracks(path, **tracks)

    head_map = HeadMap(*(tracks.pop(name) for name in stored)) if stored else None
    cameras = _cameras(settings.size, settings.cameras)
    store = ImageStore(
        path.with_suffix(""),
        lambda t, c: studio.render(identity, moments.actions[t], moments.angles[t], cameras[c]),
    )
    head = np.stack([studio.head_pose(identity, angles) for angles in moments.angles]).astype(np.float32)
    acted = zip(moments.actions, moments.angles, strict=True)
    points = np.stack([studio.landmarks(identity, actions, angles) for actions, angles in acted])
    truth = Truth(moments.actions, moments.angles, head, points, performed)
    return Capture(
        subject, FEATURE_SPACE, cameras, groups=GROUPS, sequence=moments.sequence, frame=moments.frame, frames=store,
        head_map=head_map, truth=truth, recording=f"studio {key}", **tracks,
    )  # fmt: skip
