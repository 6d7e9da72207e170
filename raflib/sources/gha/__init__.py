"""Folders of Gaussian Head Avatar's public preprocessing (Xu et al. 2024) → a multi-view `Capture`.

The files are described in `raflib.sources.gha.files`, the manifest with sequence names in `manifest`, and what
becomes of the images in `images`.

A frame is marked as not detected where a file of a camera or of its tracks is missing, where its tracks hold NaN, and
where landmarks and pose do not belong together. One warning counts these frames. Damaged files are errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from raflib.capture import HELD_OUT, Capture
from raflib.errors import RafError
from raflib.images import resized
from raflib.sources._tracked import evenly
from raflib.sources.gha.checks import (
    INCOMPLETE,
    MISPLACED,
    SIGNALS,
    check_upright,
    check_views,
    lacking,
    misplaced,
    neutral_landmarks,
)
from raflib.sources.gha.export import export_gha as export_gha
from raflib.sources.gha.files import TRACK_FILES, Listing, read_tracks
from raflib.sources.gha.images import read_cameras, read_frames
from raflib.sources.gha.manifest import (
    ARRAYS,
    FEATURE_SPACE,
    MANIFEST,
    Exported,
    Manifest,
    landmark_groups,
    read_exported,
    read_manifest,
    sequence_names,
)


@dataclass(frozen=True)
class GhaProfile:
    """How a folder is read.

    Attributes:
        size: most pixels a side of the capture's images; nothing is enlarged.
        frames: most frames, spread evenly over the folder; None: all.
    """

    size: int
    frames: int | None


PROFILES = {
    "tiny": GhaProfile(96, 60),
    "demo": GhaProfile(192, 1_500),
    "gpu": GhaProfile(512, 3_000),
    "paper": GhaProfile(2048, None),
    "coverage": GhaProfile(192, None),
    "driver": GhaProfile(192, 1_500),
    "bank": GhaProfile(192, 1_500),
}
"""`coverage` has every frame. `driver` is for people who only drive, `bank` for people of a bank."""


def people(root: Path) -> list[str]:
    """Names of the folders in `root` that hold images."""
    return [path.name for path in root.iterdir() if (path / "images").is_dir()]


def find_folder(subject: str, root: str | Path | None) -> Path:
    """The subject's folder: `<subject>` in the folder `root`, or `root` itself; RafError if neither holds images."""
    if root is None:
        raise RafError("source gha: root is None; give the subject's folder, or the folder that holds it")
    inside = Path(root) / subject
    for path in (inside, Path(root)):
        if (path / "images").is_dir():
            return path
    raise RafError(f"{root}: neither it nor {inside} holds a folder `images`; check the path")


def _read_tracks(path: Path, frames: Sequence[str], given: Manifest) -> dict[str, np.ndarray]:
    """The tracks of all `frames`, stacked; NaN where a frame lacks a file. RafError naming an odd frame."""
    vertices = any((path / "params" / frame / "vertices.npy").exists() for frame in frames)
    source = given.landmarks or ("both" if vertices else "lmk_3d")
    read = [read_tracks(path, frame, source) for frame in frames]
    first = next((number for number, tracks in enumerate(read) if tracks is not None), None)
    like = None if first is None else read[first]
    if first is None or like is None:
        files = " and ".join(TRACK_FILES[source])
        raise RafError(f"{path / 'params'}: no frame has {files}; fit the face model to the images first")
    for frame, tracks in zip(frames, read, strict=True):
        for name in SIGNALS:
            if tracks is not None and tracks[name].shape != like[name].shape:
                raise RafError(
                    f"{path / 'params' / frame}: {name} has shape {list(tracks[name].shape)} but "
                    f"{list(like[name].shape)} in frame {frames[first]}; track all frames with one model"
                )
    blank = {name: np.full_like(like[name], np.nan) for name in SIGNALS}
    return {name: np.stack([(tracks or blank)[name] for tracks in read]) for name in SIGNALS}


def _judged(
    path: Path,
    frames: Sequence[str],
    tracks: dict[str, np.ndarray],
    complete: Bool[np.ndarray, "T"],
    sequence: np.ndarray | None,
    given: Manifest,
    exported: Exported | None,
) -> tuple[Bool[np.ndarray, "T"], Float[np.ndarray, "L 3"], dict[str, tuple[int, ...]]]:
    """(detected frames, neutral landmarks, landmark groups), with a warning of the frames that are marked.

    `tracks` become NaN there. An export says which frames show a face, and its landmarks may be those of any tracker,
    so single frames are not judged by them. RafError where no frame can be used, or the tracks' axes or units are
    other ones.
    """
    groups = landmark_groups(path, given, tracks["landmarks"].shape[1])
    known = np.ones(len(frames), bool) if exported is None else exported.detected[exported.rows(path, frames)]
    marked = lacking(tracks, complete, known)
    detected = known & ~np.any(list(marked.values()), axis=0)
    if not detected.any():
        why = ", ".join(f"{rows.sum()} {reason}" for reason, rows in marked.items() if rows.any())
        raise RafError(
            f"{path}: none of {len(frames)} frames can be used ({why or 'no face was found'}); restore files, or list "
            f"the cameras to use in {MANIFEST}"
        )
    if exported is None:
        train = detected if sequence is None else detected & (sequence != HELD_OUT)
        neutral = neutral_landmarks(tracks, train if train.any() else detected)
    else:
        neutral = exported.neutral
    if neutral.shape != tracks["landmarks"].shape[1:]:
        raise RafError(
            f"{path / ARRAYS}: has {len(neutral)} neutral landmarks but frames have {tracks['landmarks'].shape[1]}; "
            "export the capture again, or delete this file to read the folder without"
        )
    if given.groups is None:  # other groups may be of anything
        check_upright(path, neutral, groups)
    away = misplaced(path, tracks, detected, neutral, groups["rigid"])
    if exported is None:
        marked[MISPLACED] = away
        detected &= ~away
    _warn(path, marked, frames)
    for name in ("expression", "pose", "landmarks"):
        tracks[name][known & ~detected] = np.nan
    return detected, neutral, groups


def _clips(detected: Bool[np.ndarray, "T"], path: Path) -> np.ndarray:
    """Sequence names [T] as those of a video, with a warning."""
    from raflib.sources.video import VideoProfile, name_sequences  # needs the packages that decode videos

    warnings.warn(
        f"{path}: the layout has no sequence names, so frames are cut into clips and the last fifth is held out as "
        f'{HELD_OUT}; to name them, write {MANIFEST} with {{"sequences": [["EXP-1-head", "0000", "0119"], …]}}',
        stacklevel=5,
    )
    return name_sequences(detected, VideoProfile())


def open(subject: str, profile: str = "demo", root: str | Path | None = None) -> Capture:
    """The capture in the folder `root`/`subject`, or in `root` itself.

    Without sequence names in the manifest, frames are cut into clips and the last fifth is FREE, as those of a video; a
    warning says so. Unless the folder was exported, the neutral landmarks are estimated from the tracks and `frame`
    holds the numbers of the frames' folders. Raises RafError, one line naming the file, for an unknown profile, files
    that are damaged or do not fit together, cameras that move, and where no frame is complete.
    """
    capture = open_unseen(subject, profile, root)
    check_views(find_folder(subject, root), capture.landmarks[capture.detected], capture.cameras)
    return capture


def open_unseen(subject: str, profile: str = "demo", root: str | Path | None = None) -> Capture:
    """As `open`, but without the check that cameras see the head; for `raflib.check`, which finds out why not."""
    if profile not in PROFILES:
        raise RafError(f"gha profile {profile!r} is not known; choose one of {', '.join(PROFILES)}")
    path, settings = find_folder(subject, root), PROFILES[profile]
    listing, given, exported = Listing.of(path), read_manifest(path), read_exported(path)
    frames = sorted({*listing.frames, *(() if exported is None else exported.name.tolist())}, key=int)
    sequence = None if given.sequences is None else sequence_names(path, given.sequences, frames)
    rows = evenly(len(frames), settings.frames)
    frames = [frames[row] for row in rows]
    serials = given.cameras or listing.serials
    if not serials:
        raise RafError(f"{path / 'images' / frames[0]}: holds no image_<serial>.jpg; check the folder")
    cameras = read_cameras(listing, frames, serials, given.resolution)
    tracks = _read_tracks(path, frames, given)
    if given.feature_space is None and tracks["expression"].shape[1] != 64:
        raise RafError(
            f"{path}: exp_coeff has {tracks['expression'].shape[1]} values but {FEATURE_SPACE} has 64; write their "
            f"`feature_space` into {MANIFEST}"
        )
    complete = np.array([all(listing.missing(frame, serial) is None for serial in serials) for frame in frames])
    named = None if sequence is None else sequence[rows]
    detected, neutral, groups = _judged(path, frames, tracks, complete, named, given, exported)

    size = min(settings.size, cameras[0].width)
    images, recording = read_frames(listing, frames, cameras, size, given.composited)
    numbers = np.array([int(frame) for frame in frames])
    time = background = None
    if exported is not None:
        place = exported.rows(path, frames)
        numbers, time = exported.frame[place], None if exported.time is None else exported.time[place]
        if exported.background is not None:
            background = resized(torch.from_numpy(exported.background)[None], size, size)[0].numpy()
    return Capture(
        subject, given.feature_space or FEATURE_SPACE, [camera.resized(size) for camera in cameras], neutral=neutral,
        groups=groups, sequence=_clips(detected, path) if named is None else named, frame=numbers,
        detected=detected, frames=images, background=background, time=time, recording=f"gha {recording}", **tracks,
    )  # fmt: skip


def _warn(path: Path, marked: Mapping[str, Bool[np.ndarray, "T"]], frames: Sequence[str]) -> None:
    """Warn of the marked frames, with the reasons."""
    counts = [f"{rows.sum()} {why} (first: {frames[int(rows.argmax())]})" for why, rows in marked.items() if rows.any()]
    if counts:
        out = "; a camera that lost frames may be out of step after them" if marked[INCOMPLETE].any() else ""
        warnings.warn(
            f"{path}: of {len(frames)} frames, these are marked as not detected: {', '.join(counts)}{out}", stacklevel=6
        )
