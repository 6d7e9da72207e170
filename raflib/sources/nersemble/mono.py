"""The monocular benchmark's layout, `mono_flame_avatar/<person>`, as captures with the features `flame109`.

Features, head pose and scale are those of the FLAME tracks (`flame`). Features are the expression coefficients, and the
rotations of jaw and eyes: without these, the mouth would not open. Landmarks are found in the frontal camera's images
and placed by the tracks (`head`). Masks are the alpha maps, and images have no background. Lengths are metres, as in
the benchmark's calibration.

**Cameras.** A capture has the frontal camera and every other one with a film of each training sequence that is used.
Cameras with films of some sequences only are left out, because training may ask for any frame of any camera.

**Held-out sequences.** All four are named FREE, raflib's mark of what is never trained on. `frame` tells them apart:
it is the row of the tracks plus `NUMBERS[name]`, so FREE itself keeps its numbers (`original`). The benchmark publishes
their tracks only: such a frame counts as detected, has pose and expression, no landmarks (NaN), and no image. Asking
for its image is an error; with films of held-out sequences in the folder, their frames are like all others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from raflib.capture import APART, HELD_OUT, Capture
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.runs import cache_root
from raflib.sources._store import load_tracks, save_tracks
from raflib.sources._tracked import evenly
from raflib.sources.nersemble.benchmark import (
    PROFILES,
    BenchmarkProfile,
    checked_films,
    recording_of,
    seen_through,
    square_window,
)
from raflib.sources.nersemble.benchmark_films import (
    CALIBRATION,
    Calibration,
    FilmImages,
    Window,
    film,
    film_size,
    read_calibration,
)
from raflib.sources.nersemble.flame import FlameTracks, read_flame_tracks, skull_pose
from raflib.sources.nersemble.head import Head, find_head, landmarks_along_rays, place_landmarks
from raflib.sources.nersemble.names import FRONTAL, MONO_HELD_OUT, MONO_TRAIN, RAW_FPS
from raflib.tracking import FaceTracker
from raflib.tracking.head_pose import MIN_FRAMES
from raflib.tracking.landmarks import COUNT, GROUPS

FEATURE_SPACE = "flame109"
TRACKS_VERSION = 1
"""Raised when landmarks of the same folder and settings would come out differently."""
TRACKS = "tracking/flame2023_tracking_v2.npz"
STORED = ("landmarks", "found", "neutral", "joint", "centre")
SPACING = 3 / RAW_FPS
"""Seconds between two frames of the monocular benchmark."""
NUMBERS = {name: APART * k for k, name in enumerate([HELD_OUT, *sorted(set(MONO_HELD_OUT) - {HELD_OUT})])}
"""What `frame` adds to the row of a held-out sequence."""


@dataclass(frozen=True, eq=False)
class Part:
    """One sequence of a capture: its name, folder, tracks, the rows that are used, and whether it has films."""

    name: str
    folder: Path
    tracks: FlameTracks
    rows: np.ndarray
    filmed: bool


class MonoImages(FilmImages):
    """Images of a monocular capture, and what else a submission needs: the person's folder, `head`, the motion `world`
    from the benchmark's world to the capture's, and the films' (width, height)."""

    person: Path
    head: Head
    world: Float[np.ndarray, "4 4"]
    film_size: tuple[int, int]


def original(frame: int) -> tuple[str, int]:
    """(sequence, row of its tracks) of a frame named FREE."""
    names = {number: name for name, number in NUMBERS.items()}
    return names[frame // APART * APART], frame % APART


def read_person(person: Path, names: Iterable[str]) -> dict[str, FlameTracks]:
    """The FLAME tracks of those sequences `names` whose folders exist."""
    folders = {name: person / "sequences" / name for name in names}
    return {name: read_flame_tracks(folder / TRACKS) for name, folder in folders.items() if folder.is_dir()}


def _parts(person: Path, settings: BenchmarkProfile) -> list[Part]:
    """The sequences that are used, held-out ones last. RafError where none may be trained on."""
    present = [name for name in MONO_TRAIN if (person / "sequences" / name).is_dir()]
    if not present:
        raise RafError(f"{person}: holds none of the training sequences such as {MONO_TRAIN[0]}; download them first")
    chosen = [present[index] for index in evenly(len(present), settings.sequences)]
    parts = []
    for name, tracks in read_person(person, [*chosen, *NUMBERS]).items():
        folder, held_out = person / "sequences" / name, name in NUMBERS
        rows = evenly(len(tracks), settings.held_out if held_out else settings.per_sequence)
        filmed = not held_out or any(film(folder, kind, FRONTAL).is_file() for kind in ("images", "alpha_maps"))
        parts.append(Part(name, folder, tracks, rows, filmed))
    if not any(part.name in NUMBERS for part in parts):
        warnings.warn(f"{person}: holds no held-out sequence, so nothing can be evaluated", stacklevel=5)
    return parts


def _serials(parts: list[Part], calibration: Calibration) -> list[str]:
    """The cameras of the capture, the frontal one first."""
    training = [part for part in parts if part.name not in NUMBERS]
    others = [serial for serial in sorted(calibration.intrinsics) if serial != FRONTAL]
    return [FRONTAL, *(s for s in others if all(film(part.folder, "images", s).is_file() for part in training))]


def _films(parts: list[Part], serials: list[str]) -> list[Path]:
    """All films of a capture, checked: each has as many frames as its tracks. RafError naming one that has not."""
    films = []
    for part in parts:
        for serial in serials if part.filmed else ():
            if part.name in NUMBERS and serial != FRONTAL and not film(part.folder, "images", serial).is_file():
                continue
            films += checked_films(part.folder, serial, len(part.tracks), f"{part.folder / TRACKS}")
    return films


def _seen(
    subject: str, parts: list[Part], store: FilmImages, camera: Camera, window: Window
) -> dict[int, Float[np.ndarray, "478 3"]]:
    """Landmarks in the camera's frame by t, where a face was found; all wanted images of the camera are stored."""
    seen = {}
    total = sum(len(part.rows) for part in parts if part.filmed)
    with FaceTracker() as tracker, tqdm(total=total, desc=f"tracking {subject}", unit="frame") as bar:
        for part in (part for part in parts if part.filmed):
            for t, image in store.decode(part.folder, 0):
                observation = tracker(Window(window.x, window.y, window.side, camera.width).cut(image))
                if observation is not None:
                    seen[t] = landmarks_along_rays(observation, camera)
                bar.update()
    return seen


def _placed(
    parts: list[Part],
    seen: dict[int, Float[np.ndarray, "478 3"]],
    camera: Camera,
    world: Float[np.ndarray, "4 4"],
) -> dict[str, np.ndarray]:
    """The arrays `STORED`. The head is found in training frames alone. RafError where these show too few faces."""
    firsts = np.cumsum([0, *(len(part.rows) for part in parts)])
    usable = [
        [t for t, row in enumerate(part.rows, first) if t in seen and part.tracks.complete[row]]
        for part, first in zip(parts, firsts, strict=False)
    ]
    recordings = [
        (part.tracks, part.rows[np.array(here, int) - first], np.stack([seen[t] for t in here]))
        for part, here, first in zip(parts, usable, firsts, strict=False)
        if here and part.name not in NUMBERS
    ]
    if (count := sum(len(rows) for _, rows, _ in recordings)) < MIN_FRAMES:
        raise RafError(
            f"{parts[0].folder.parent}: a face in only {count} tracked training frames, at least {MIN_FRAMES} are "
            "needed; download the films and tracks again"
        )
    head = find_head(recordings, camera, world)
    landmarks = np.full((firsts[-1], COUNT, 3), np.nan, np.float32)
    for part, here, first in zip(parts, usable, firsts, strict=False):
        if here:
            rows, own = part.rows[np.array(here) - first], np.stack([seen[t] for t in here])
            landmarks[here] = place_landmarks(part.tracks, rows, own, (head.centre, head.joint), camera, world)
    return {"landmarks": landmarks, "found": np.isin(np.arange(firsts[-1]), list(seen)), **asdict(head)}


def _signals(parts: list[Part], head: Head, found: np.ndarray, world: Float[np.ndarray, "4 4"]) -> dict[str, Any]:
    """The signals that a capture has from the tracks: everything but the landmarks."""
    columns: dict[str, list[np.ndarray]] = {}
    start = 0
    for part in parts:
        tracks, rows = part.tracks, part.rows
        pose, scale = skull_pose(tracks, head.joint, head.centre, world)
        given = {"expression": tracks.features, "pose": pose, "scale": scale, "detected": tracks.complete}
        given = {name: values[rows] for name, values in given.items()}
        given |= {"frame": rows + NUMBERS.get(part.name, 0), "time": (start + rows) * SPACING}
        given["sequence"] = np.array([HELD_OUT if part.name in NUMBERS else part.name] * len(rows))
        given["filmed"] = np.full(len(rows), part.filmed)
        for name, values in given.items():
            columns.setdefault(name, []).append(values)
        start += len(tracks)
    signals = {name: np.concatenate(values) for name, values in columns.items()}
    signals["detected"] &= found | ~signals.pop("filmed")
    for name in ("expression", "pose", "scale"):
        signals[name] = signals[name].astype(np.float32)
        signals[name][~signals["detected"]] = np.nan
    return signals


def open_mono(subject: str, profile: str, person: Path) -> Capture:
    """The capture of a person's folder in the monocular layout; see `raflib.sources.nersemble.open`."""
    settings, calibration = PROFILES[profile], read_calibration(person)
    parts, world = _parts(person, settings), calibration.world()
    serials = _serials(parts, calibration)
    films = _films(parts, serials)
    sizes = [film_size(film(parts[0].folder, "images", serial)) for serial in serials]
    wholes = [calibration.camera(serial, size, world) for serial, size in zip(serials, sizes, strict=True)]
    windows = [square_window(camera, settings.size) for camera in wholes]
    files = [person / CALIBRATION, *(part.folder / TRACKS for part in parts), *films]
    recording = recording_of(files, person, asdict(settings), TRACKS_VERSION)
    path = cache_root() / "nersemble" / f"{subject}-{recording[:16]}.npz"
    folders = [part.folder for part in parts for _ in part.rows]
    rows = np.concatenate([part.rows for part in parts]).tolist()
    store = MonoImages(path.with_suffix(""), folders, rows, list(zip(serials, sizes, windows, strict=True)))
    kept = load_tracks(path, STORED)
    if kept is None:
        view = seen_through(wholes[0], windows[0], settings.tracking_size)
        kept = _placed(parts, _seen(subject, parts, store, view, windows[0]), view, world)
        save_tracks(path, **kept)
    store.person, store.world, store.film_size = person, world, sizes[0]
    store.head = Head(kept["joint"], kept["centre"], kept["neutral"])
    return Capture(
        subject, FEATURE_SPACE, [seen_through(*pair) for pair in zip(wholes, windows, strict=True)],
        landmarks=kept["landmarks"], neutral=kept["neutral"], groups=GROUPS, frames=store, recording=recording,
        **_signals(parts, store.head, kept["found"], world),
    )  # fmt: skip
