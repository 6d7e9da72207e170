"""NeRSemble's second version, as the official kit downloads it → a multi-view `Capture`.

Protocol (paper §5): every third frame of 73 a second, all sequences but FREE for training, FREE held out. Features are
`arkit52`, tracked from the cameras nearest to the front as the studio's are. Tracks are kept after each sequence, so a
killed run goes on from there. Images are made when they are first used, all of one video in one pass.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int

from raflib.capture import HELD_OUT, Capture, most_frontal
from raflib.errors import RafError, finite
from raflib.geometry import Camera
from raflib.runs import cache_root
from raflib.sources._store import load_tracks, save_tracks
from raflib.sources._tracked import HEAD_MAP, evenly, films_tracked_by
from raflib.sources.nersemble.names import BACKGROUND, FRONTAL, RAW_FPS
from raflib.sources.nersemble.raw_calibration import (
    CAMERAS,
    COLOURS,
    REMEDY,
    Matrices,
    aligned,
    full_camera,
    read_cameras,
    read_colours,
)
from raflib.sources.nersemble.raw_films import FilmStore, Look, Window, image_bytes, in_gigabytes, window_around
from raflib.sources.nersemble.raw_folder import Films, Held, content_of, held_videos, lengths, person_folder
from raflib.sources.nersemble.raw_tracks import SIGNALS, STEP, SequenceTracker
from raflib.tracking import HeadMap
from raflib.tracking.landmarks import GROUPS

FEATURE_SPACE = "arkit52"
VERSION = 1
"""Raised when images or tracks of the same videos and settings would come out differently."""
MOST_GIGABYTES = 100.0
"""Most that images of NeRSemble in the cache may take, unless the environment variable RAF_CACHE_GB says otherwise."""


@dataclass(frozen=True)
class RawProfile:
    """How much of the dataset is used.

    Attributes:
        size, tracking_size: pixels a side of the capture's images, and of the images that are tracked.
        sequences: number of training sequences; None: all.
        per_sequence, free: frames of each training sequence and of FREE; None: every third one.
        cameras: serials of the capture's cameras; None: all.
        tracked: number of cameras whose images are tracked, the frontal one and those nearest to it.
        refined: whether head poses are refined by the head's texture.
        window: side of the square window over the shorter side of a frame. The default shows what public preprocessing
            shows: 2600 pixels of frames that are 2200 wide.
    """

    size: int = 192
    tracking_size: int = 256
    sequences: int | None = None
    per_sequence: int | None = 20
    free: int | None = 80
    cameras: tuple[str, ...] | None = None
    tracked: int = 4
    refined: bool = True
    window: float = 2600 / 2200


PROFILES = {
    "tiny": RawProfile(size=96, sequences=4, per_sequence=6, free=12),
    "demo": RawProfile(),
    "gpu": RawProfile(size=512, per_sequence=40),
    "paper": RawProfile(size=2048, per_sequence=None, free=None),
    "coverage": RawProfile(per_sequence=None, cameras=(FRONTAL,), refined=False),
    "driver": RawProfile(sequences=0, free=40, cameras=(FRONTAL,), tracked=3, refined=False),
    "bank": RawProfile(per_sequence=10, free=20, cameras=(FRONTAL,), tracked=1, refined=False),
}
"""`coverage` and `driver` are as the studio's: every training frame, and FREE only. `bank` takes about 240 frames of
the frontal camera, for a bank."""


def _chosen(films: Films, profile: RawProfile) -> Films:
    """The videos of the sequences that the profile asks for; training sequences are picked evenly."""
    names = [name for name in films if name != HELD_OUT]
    names = [names[index] for index in evenly(len(names), profile.sequences)]
    if HELD_OUT in films and profile.free != 0:
        names.append(HELD_OUT)
    return {name: films[name] for name in names}


def _sequences(films: Films, counts: dict[str, int], profile: RawProfile) -> tuple[np.ndarray, Int[np.ndarray, "T"]]:
    """(sequence, frame) of every row of the capture; frames count every third one of a video."""
    wanted = {name: profile.free if name == HELD_OUT else profile.per_sequence for name in films}
    picked = {name: evenly(len(range(0, counts[name], STEP)), wanted[name]) for name in films}
    names = np.array([name for name, frames in picked.items() for _ in frames])
    return names, np.concatenate(list(picked.values()))


def _square_cameras(
    path: Path, motions: Matrices, lens: np.ndarray, size: tuple[int, int], profile: RawProfile
) -> tuple[list[Camera], Window]:
    """(cameras of the window at its own resolution, the window); `path` is the calibration's."""
    whole = [full_camera(serial, motion, lens, size, path) for serial, motion in motions.items()]
    window = window_around(whole[0], profile.window)
    return [camera.cropped(window.x, window.y, window.side, window.side) for camera in whole], window


def _plates(folder: Path, serials: Sequence[str]) -> tuple[dict[str, Path | None], list[str]]:
    """(the file of each camera's image of the empty room, None where there is none, notes for the user)."""
    paths = {serial: folder / "sequences" / BACKGROUND / f"image_{serial}.jpg" for serial in serials}
    lacking = [serial for serial, path in paths.items() if not path.is_file()]
    note = (
        f"no image of the empty room for cameras {', '.join(lacking)}; their masks are 255 everywhere and the room "
        "stays in their images; download these images with `--assets backgrounds`"
    )
    return {serial: None if serial in lacking else path for serial, path in paths.items()}, [note] if lacking else []


def _most_bytes() -> int:
    named = os.environ.get("RAF_CACHE_GB")
    try:
        return int(1e9 * finite("RAF_CACHE_GB", MOST_GIGABYTES if named is None else float(named), 0))
    except (ValueError, TypeError):
        raise RafError(f"RAF_CACHE_GB is {named!r}; expected a number of gigabytes, such as 100") from None


def open_raw(subject: str, profile: str = "demo", root: str | Path | None = None) -> Capture:
    """The recording of participant `subject` in `root`, the folder into which the official kit downloaded.

    `frame` counts every third frame of a video, `time` is in seconds. Tracks and images are cached in
    `cache_root()/nersemble`. Before images are written, their largest size is printed; RAF_CACHE_GB limits it. Frames
    in which no face was found are marked and hold NaN. Warns about missing sequences, cameras and background images.
    Raises RafError naming the file that is missing or damaged.
    """
    if profile not in PROFILES:
        raise RafError(f"nersemble profile {profile!r} is not known; choose one of {', '.join(PROFILES)}")
    settings, folder, limit = PROFILES[profile], person_folder(root, subject), _most_bytes()
    calibration = folder / CAMERAS
    motions, lens = read_cameras(folder)
    held, colours = held_videos(folder, motions, partial(_chosen, profile=settings)), read_colours(folder)
    motions, unusual = aligned(motions, FRONTAL, calibration)
    films = held.films
    if not films:
        raise RafError(f"{folder}: profile {profile} uses only {HELD_OUT}, which is not there; download it")
    made = films_tracked_by(VERSION)
    content = held.serials, content_of(folder, films)
    key = hashlib.sha256(repr((asdict(settings), made, content)).encode()).hexdigest()[:16]
    path = cache_root() / "nersemble" / f"{folder.name}-{key}.npz"

    tracked = _near_the_front(motions, held, settings.tracked)
    used = [serial for serial in held.serials if settings.cameras is None or serial in settings.cameras]
    serials = list(dict.fromkeys([*tracked, *used]))
    if lacking := [serial for serial in serials if serial not in colours]:
        raise RafError(f"{folder / COLOURS}: holds no matrix for camera {', '.join(lacking)}; {REMEDY}")
    stored = [f"map_{name}" for name in HEAD_MAP] if settings.refined and len(tracked) > 1 else []
    tracks = load_tracks(path, [*SIGNALS, *stored, "notes", "shape"])
    if tracks is None:
        counts, shape, notes = lengths({name: {s: videos[s] for s in serials} for name, videos in films.items()})
        cameras, window = _square_cameras(calibration, {s: motions[s] for s in tracked}, lens, shape, settings)
        names, frame = _sequences(films, counts, settings)
        most = len(frame) * len(used) * image_bytes(settings.size)
        meanwhile = len(frame) * len(tracked) * settings.tracking_size**2 * settings.refined
        print(
            f"participant {folder.name}: {len(frame)} frames of {len(used)} cameras; their images are cached in "
            f"{path.with_suffix('')} when they are used and take up to {in_gigabytes(most)} (RAF_CACHE_GB: "
            f"{limit / 1e9:g}); tracking keeps up to {in_gigabytes(meanwhile)} until it is done",
            flush=True,
        )
        looks = [Look(window, settings.tracking_size, colours[serial], None) for serial in tracked]
        cameras = [camera.resized(settings.tracking_size) for camera in cameras]
        track = SequenceTracker(path.with_suffix(".parts"), films, cameras, looks, settings.refined)
        tracks = track(subject, names, frame)
        tracks |= {"notes": np.array([*notes, *tracks["notes"].tolist()], dtype=str), "shape": np.array(shape)}
        save_tracks(path, **tracks)
        shutil.rmtree(path.with_suffix(".parts"), ignore_errors=True)
    width, height = tracks.pop("shape").tolist()
    cameras, window = _square_cameras(calibration, {s: motions[s] for s in used}, lens, (width, height), settings)
    plates, unmasked = _plates(folder, used)
    for note in (*held.notes, *unusual, *tracks.pop("notes").tolist(), *unmasked):
        warnings.warn(f"participant {folder.name}: {note}", stacklevel=4)
    looks = {serial: Look(window, settings.size, colours[serial], plates[serial]) for serial in used}
    number = STEP * tracks["frame"]
    store = FilmStore(path.with_suffix(""), films, looks, tracks["sequence"], number, (path.parent, limit))
    head_map = HeadMap(*(tracks.pop(name) for name in stored)) if stored else None
    return Capture(
        subject, FEATURE_SPACE, [camera.resized(settings.size) for camera in cameras], groups=GROUPS, frames=store,
        head_map=head_map, time=number / RAW_FPS, recording=f"nersemble {key}", **tracks,
    )  # fmt: skip


def _near_the_front(motions: Matrices, held: Held, count: int) -> list[str]:
    """The serials of the `count` cameras nearest to the frontal one, which is the first."""
    cameras = [Camera(serial, motions[serial], np.eye(3), 1, 1) for serial in held.serials]
    cameras.sort(key=lambda camera: camera.name != FRONTAL)
    return [cameras[index].name for index in most_frontal(cameras, count)]
