"""The monocular benchmark's submission: films of the held-out sequences by avatars of its people, in one zip file.

The zip holds `<person>/<sequence>/cam_<serial>.mp4` for four sequences and four cameras of a person: 512 by 512 pixels
on white, one frame for each frame of the FLAME tracks, at the benchmark's rate and quality. Before the file takes its
name, its films are opened again and compared with the tracks.
"""

from __future__ import annotations

import io
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from raflib.capture import Capture
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.report.mp4 import write_video
from raflib.runs import atomic_write
from raflib.sources.nersemble.driving import Driving, driving_of, submission_cameras
from raflib.sources.nersemble.mono import MonoImages
from raflib.sources.nersemble.names import BENCHMARK_FPS, MONO, MONO_HELD_OUT, MONO_PEOPLE, MONO_SERIALS, MONO_SIZE

if TYPE_CHECKING:
    from raflib.training import Run

CRF, BATCH = 14, 8
"""The codec's quality that the benchmark asks for, and frames that are rendered together."""
NAME = f"{MONO}_submission.zip"
DATE = (1980, 1, 1, 0, 0, 0)
"""Date of the films in the zip file, so that equal films make equal files."""


@dataclass(frozen=True, eq=False)
class _Person:
    """One avatar with the tracks that drive it, by sequence, and the cameras that see it."""

    run: Run
    driving: dict[str, Driving]
    cameras: list[Camera]


def export_submission(
    runs: Run | Sequence[Run], path: str | Path, captures: Capture | Sequence[Capture], progress: bool = True
) -> Path:
    """Write the monocular benchmark's submission and return its path.

    Args:
        runs: one trained avatar, or one of each person.
        path: the zip file, or a folder for `mono_flame_avatar_submission.zip`.
        captures: the captures that the avatars were trained on, of the source `nersemble`; they know the tracks.
        progress: whether to show a progress bar.

    A frame whose track holds NaN shows the expression and pose of the last complete frame before it. Warns when people
    of the benchmark are missing, because the leaderboard wants all five. Raises RafError, and leaves an older file as
    it was, for a run without its capture, a capture of another layout or recording, an unfinished run, tracks that are
    missing, and films that differ from the tracks in length or size.
    """
    runs = list(runs) if isinstance(runs, Sequence) else [runs]
    captures = list(captures) if isinstance(captures, Sequence) else [captures]
    path = Path(path)
    path = path if path.suffix.lower() == ".zip" else path / NAME
    people = [_person(run, captures) for run in runs]
    names = [person.run.subject for person in people]
    if not people or len(set(names)) < len(names):
        raise RafError(
            f"{path}: runs of {', '.join(names) or 'nobody'}; give one run for each person, and at least one"
        )
    if absent := [name for name in MONO_PEOPLE if name not in names]:
        warnings.warn(f"{path}: without {', '.join(absent)}; the leaderboard wants all people", stacklevel=2)
    total = sum(len(part.pose) for person in people for part in person.driving.values()) * len(MONO_SERIALS)
    with atomic_write(path) as temporary, tqdm(total=total, unit="frame", disable=not progress) as bar:
        with zipfile.ZipFile(temporary, "w") as archive, tempfile.TemporaryDirectory() as scratch:
            for person in people:
                for sequence, driving in person.driving.items():
                    for camera in person.cameras:
                        name = f"{person.run.subject}/{sequence}/cam_{camera.name}.mp4"
                        bar.set_description(name)
                        frames = _rendered(person.run, driving, camera, bar)
                        film = write_video(Path(scratch) / "film.mp4", frames, BENCHMARK_FPS, crf=CRF)
                        archive.writestr(zipfile.ZipInfo(name, DATE), film.read_bytes())
        _compare(path, temporary, people)
    return path


def _person(run: Run, captures: Sequence[Capture]) -> _Person:
    """The avatar with what it needs. RafError where this cannot be had."""
    capture = next((capture for capture in captures if capture.subject == run.subject), None)
    if capture is None:
        raise RafError(f"submission: no capture of subject {run.subject}; give the one that the run was trained on")
    if not isinstance(capture.frames, MonoImages):
        raise RafError(
            f"submission: the capture of {run.subject} is not of the layout {MONO}; open it with source nersemble"
        )
    if not run.finished:
        raise RafError(f"submission: the run of {run.subject} is not finished; train it to the end first")
    if run.info.get("recording") != capture.fingerprint:
        raise RafError(
            f"submission: the run of {run.subject} was trained on another recording; open the capture with the profile "
            "of its training"
        )
    driving = driving_of(capture)
    if absent := [name for name in MONO_HELD_OUT if name not in driving]:
        raise RafError(f"{capture.frames.person}: no tracks of {', '.join(absent)}; download these sequences")
    cameras = [camera.resized(MONO_SIZE, MONO_SIZE) for camera in submission_cameras(capture)]
    return _Person(run, driving, cameras)


def _rendered(run: Run, driving: Driving, camera: Camera, bar: tqdm) -> Iterator[Float[np.ndarray, "H W 3"]]:
    """The frames of one film, on white."""
    for start in range(0, len(driving.pose), BATCH):
        rows = slice(start, start + BATCH)
        signals = driving.expression[rows], driving.pose[rows], driving.scale[rows]
        images = run.render(*signals, [camera] * len(signals[0]))
        yield from images
        bar.update(len(images))


def _compare(path: Path, written: Path, people: Sequence[_Person]) -> None:
    """RafError naming `path` unless the zip file `written` holds exactly the expected films."""
    expected = {
        f"{person.run.subject}/{sequence}/cam_{serial}.mp4": len(driving.pose)
        for person in people
        for sequence, driving in person.driving.items()
        for serial in MONO_SERIALS
    }
    with zipfile.ZipFile(written) as archive:
        if odd := sorted(set(archive.namelist()) ^ set(expected)):
            raise RafError(f"{path}: {odd[0]} is missing or not wanted; {len(expected)} films are expected")
        for name, frames in expected.items():
            with av.open(io.BytesIO(archive.read(name))) as film:
                sizes = [(frame.width, frame.height) for frame in film.decode(video=0)]
            if len(sizes) != frames or set(sizes) != {(MONO_SIZE, MONO_SIZE)}:
                raise RafError(
                    f"{path}: {name} has {len(sizes)} frames of {sizes[0] if sizes else 'no size'}, expected {frames} "
                    f"of {MONO_SIZE} by {MONO_SIZE} pixels; write it again"
                )
