"""What the readers of both public benchmarks share: profiles, windows of images, checks of films, names of caches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.reading.names import content_hash
from raflib.sources._tracked import films_tracked_by
from raflib.sources.nersemble.benchmark_films import Window, count_frames, film, film_size


@dataclass(frozen=True)
class BenchmarkProfile:
    """How much of a person's folder is read; None: all of it.

    Attributes:
        size: pixels a side of the capture's images, at most those of the films.
        tracking_size: pixels a side of the images that are tracked.
        sequences: number of training sequences, spread over all.
        per_sequence, held_out: frames of each training and of each held-out sequence, evenly spaced.
        alone: frames of the only sequence that the novel-view benchmark has of a person.
    """

    size: int = 192
    tracking_size: int = 256
    sequences: int | None = None
    per_sequence: int | None = 20
    held_out: int | None = 20
    alone: int | None = 300


PROFILES = {
    "tiny": BenchmarkProfile(size=96, sequences=4, per_sequence=6, held_out=3, alone=24),
    "demo": BenchmarkProfile(),
    "gpu": BenchmarkProfile(size=512, tracking_size=512, per_sequence=None, held_out=None, alone=None),
    "paper": BenchmarkProfile(size=2048, tracking_size=512, per_sequence=None, held_out=None, alone=None),
    "coverage": BenchmarkProfile(per_sequence=None, alone=None),
    "driver": BenchmarkProfile(sequences=4, per_sequence=10, held_out=10, alone=40),
    "bank": BenchmarkProfile(),
}
"""`coverage` has every training frame. `driver` is for driving only; its training frames show where the head is in the
tracks. `bank` is for the people of a bank."""


def square_window(camera: Camera, size: int) -> Window:
    """The largest square of the camera's images around the world's origin, shown with at most `size` pixels a side."""
    side = min(camera.width, camera.height)
    middle = camera.project(np.zeros(3))
    room = camera.width - side, camera.height - side
    x, y = (int(np.clip(round(float(at) - side / 2), 0, most)) for at, most in zip(middle, room, strict=True))
    return Window(x, y, side, min(size, side))


def seen_through(camera: Camera, window: Window, size: int | None = None) -> Camera:
    """The camera of a window of its images, resized to the window's size, or to `size` pixels."""
    return camera.cropped(window.x, window.y, window.side, window.side).resized(window.size if size is None else size)


def recording_of(files: Iterable[Path], person: Path, settings: object, version: int) -> str:
    """sha256 (hex) of the content of the files, by their names below `person`, of the settings and how tracks are
    made."""
    content = [(path.relative_to(person).as_posix(), content_hash(path)) for path in files]
    return hashlib.sha256(repr((content, settings, films_tracked_by(version))).encode()).hexdigest()


def checked_films(sequence: Path, serial: str, frames: int, like: str) -> list[Path]:
    """The films of images and alpha maps of one camera. RafError naming one that is missing, cannot be opened, or has
    another number of frames than `frames`, which is that of the file `like`."""
    films = [film(sequence, kind, serial) for kind in ("images", "alpha_maps")]
    for path in films:
        film_size(path)
        if (count := count_frames(path)) != frames:
            raise RafError(f"{path}: has {count} frames but {like} {frames}; download both again")
    return films
