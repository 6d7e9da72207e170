"""The novel-view benchmark's layout, `nvs/<person>`: one sequence of a person, seen by 13 of the 16 cameras.

The layout has films and cameras alone. Features (`arkit52`), landmarks and head poses are therefore found in the
images of the cameras nearest to the front, as those of the open studio are. Images are the largest square around the
middle of the rig. Every third of the 73 frames a second is used, as in the paper.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from raflib.capture import HELD_OUT, Capture, most_frontal
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.runs import cache_root
from raflib.sources._store import load_tracks, save_tracks
from raflib.sources._tracked import evenly, tracked_signals
from raflib.sources.nersemble.benchmark import (
    PROFILES,
    checked_films,
    recording_of,
    seen_through,
    square_window,
)
from raflib.sources.nersemble.benchmark_films import (
    CALIBRATION,
    FilmImages,
    Window,
    count_frames,
    film,
    film_size,
    read_calibration,
)
from raflib.sources.nersemble.names import NVS_SERIALS, RAW_FPS, SEQUENCES
from raflib.tracking import FaceTracker, track_views
from raflib.tracking.head_pose import MIN_FRAMES
from raflib.tracking.landmarks import COUNT, GROUPS

FEATURE_SPACE = "arkit52"
TRACKS_VERSION = 1
"""Raised when tracks of the same folder and settings would come out differently."""
STORED = ("expression", "landmarks", "pose", "scale", "neutral", "detected")
EVERY, TRACKED = 3, 4
"""Step between frames that are used, and number of cameras whose images are tracked."""


def _sequence(person: Path) -> Path:
    found = [person / "sequences" / name for name in SEQUENCES if (person / "sequences" / name).is_dir()]
    if len(found) != 1:
        raise RafError(f"{person}: holds {len(found)} sequences, expected the one of this person; download it again")
    return found[0]


def _track(
    subject: str, sequence: np.ndarray, rows: np.ndarray, store: FilmImages, folder: Path, views: list[tuple]
) -> dict[str, np.ndarray]:
    """The arrays `STORED`; `views` are (index, camera at the tracked size, window) of the tracked cameras, the one
    nearest to the front first."""
    expression = np.full((len(rows), 52), np.nan, np.float32)
    landmarks = np.full((len(rows), COUNT, 3), np.nan)
    cameras: list[Camera] = [camera for _, camera, _ in views]
    with FaceTracker() as tracker:
        films = [store.decode(folder, c) for c, _, _ in views]
        moments = zip(*films, strict=True)
        for moment in tqdm(moments, total=len(rows), desc=f"tracking {subject}", unit="frame"):
            images = [
                Window(window.x, window.y, window.side, camera.width).cut(image)
                for (_, image), (_, camera, window) in zip(moment, views, strict=True)
            ]
            sighting = track_views(images, cameras, tracker, 0)
            if sighting is not None:
                expression[moment[0][0]], landmarks[moment[0][0]] = sighting.expression, sighting.landmarks
    detected = np.isfinite(expression).all(1)
    if detected.sum() < MIN_FRAMES:
        raise RafError(
            f"{folder}: a face in only {detected.sum()} of {len(rows)} frames, at least {MIN_FRAMES} are needed; "
            "download the films again"
        )
    return tracked_signals(expression, landmarks, detected, sequence, rows // EVERY)


def open_nvs(subject: str, profile: str, person: Path) -> Capture:
    """The capture of a person's folder in the novel-view layout; see `raflib.sources.nersemble.open`."""
    settings, calibration = PROFILES[profile], read_calibration(person)
    world, folder = calibration.world(), _sequence(person)
    name = folder.name
    serials = [serial for serial in sorted(calibration.intrinsics) if film(folder, "images", serial).is_file()]
    if len(serials) < 2:
        raise RafError(f"{folder}: films of {len(serials)} calibrated cameras, at least 2 are needed; download more")
    if absent := [serial for serial in NVS_SERIALS if serial not in serials]:
        warnings.warn(f"{folder}: no films of cameras {', '.join(absent)}; they are left out", stacklevel=4)
    said = "is held out, so nothing can be trained" if name == HELD_OUT else f"is no {HELD_OUT}, so nothing is held out"
    warnings.warn(f"{person}: its only sequence {name} {said}", stacklevel=4)
    frames = count_frames(film(folder, "images", serials[0]))
    first = f"{film(folder, 'images', serials[0])}"
    films = [path for serial in serials for path in checked_films(folder, serial, frames, first)]
    rows = EVERY * evenly(len(range(0, frames, EVERY)), settings.alone)

    wholes = [calibration.camera(serial, film_size(film(folder, "images", serial)), world) for serial in serials]
    windows = [square_window(camera, settings.size) for camera in wholes]
    cameras = [seen_through(camera, window) for camera, window in zip(wholes, windows, strict=True)]
    recording = recording_of([person / CALIBRATION, *films], person, asdict(settings), TRACKS_VERSION)
    path = cache_root() / "nersemble" / f"{subject}-{recording[:16]}.npz"
    places = [(c.name, (c.width, c.height), window) for c, window in zip(wholes, windows, strict=True)]
    store = FilmImages(path.with_suffix(""), [folder] * len(rows), rows.tolist(), places)
    sequence = np.array([name] * len(rows))
    tracks = load_tracks(path, STORED)
    if tracks is None:
        chosen = [(c, wholes[c], windows[c]) for c in most_frontal(cameras, TRACKED)]
        views = [(c, seen_through(whole, window, settings.tracking_size), window) for c, whole, window in chosen]
        tracks = _track(subject, sequence, rows, store, folder, views)
        save_tracks(path, **tracks)
    return Capture(
        subject, FEATURE_SPACE, cameras, groups=GROUPS, sequence=sequence, frame=rows, frames=store,
        time=rows / RAW_FPS, recording=recording, **tracks,
    )  # fmt: skip
