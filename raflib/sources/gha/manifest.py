"""What a folder of Gaussian Head Avatar's layout cannot say: sequence names, feature space, the landmarks' meaning.

`capture.json` lies in the subject's folder and may be written by hand. All its entries are optional:

    {"sequences": [["EXP-1-head", "0000", "0119"], ["FREE", "0120", "0179"]],
     "feature_space": "bfm64", "resolution": 2048, "cameras": ["222200037"]}

A row of `sequences` is a name with its first and last frame, or a name with its number of frames. `resolution` is the
size of the images that the intrinsics are for, `cameras` are the serials to use, in order. `raflib.export_gha` also
writes `landmarks` and `groups` (see `Manifest`) and, beside it, `capture.npz` with arrays of the capture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from raflib.errors import RafError
from raflib.reading import Array, damage_named, read_arrays, read_json
from raflib.sources.gha.files import GROUPS

MANIFEST, ARRAYS = "capture.json", "capture.npz"
FEATURE_SPACE = "bfm64"
GIVEN = {
    "sequences": list, "feature_space": str, "resolution": int, "cameras": list, "landmarks": str, "groups": dict,
    "composited": bool,
}  # fmt: skip
LANDMARKS = ("lmk_3d", "vertices")


@dataclass(frozen=True)
class Manifest:
    """The entries of `capture.json`; None where it has none.

    Attributes:
        sequences: rows (name, first frame, last frame) or (name, number of frames).
        feature_space: tag of the expression coefficients.
        resolution: width and height of the images that the intrinsics are for.
        cameras: serials of the cameras to use, in order.
        landmarks: the file that holds them, "lmk_3d" or "vertices". None: the 66, and every hundredth vertex.
        groups: rows of the landmarks in each group of a `Capture`.
        composited: whether .png images already stand on their final background, so that no mask is applied.
    """

    sequences: list | None = None
    feature_space: str | None = None
    resolution: int | None = None
    cameras: list | None = None
    landmarks: str | None = None
    groups: dict | None = None
    composited: bool = False


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a subject's folder; an empty one where there is none. RafError naming the file."""
    path = folder / MANIFEST
    if not path.exists():
        return Manifest()
    remedy = "correct it, or delete it to read the folder without"
    stored = read_json(path, what="manifest", remedy=remedy)
    with damage_named(path, "manifest", remedy):
        for name, value in stored.items():
            if name not in GIVEN:
                raise ValueError(f"{name!r} is not known; expected {', '.join(GIVEN)}")
            if not isinstance(value, GIVEN[name]) or (isinstance(value, bool) and GIVEN[name] is not bool):
                raise ValueError(f"{name} is {value!r}, expected {GIVEN[name].__name__}")
        given = Manifest(**stored)
        for row in given.sequences or []:
            if not _is_sequence(row):
                raise ValueError(f'{row!r} is no sequence; expected ["name", "first", "last"] or ["name", count]')
        if len({len(row) for row in given.sequences or []}) > 1:
            raise ValueError("sequences has rows with first and last frame and rows with counts; use one kind")
        if given.resolution is not None and given.resolution < 1:
            raise ValueError(f"resolution is {given.resolution}, expected pixels")
        if given.cameras is not None and (
            not given.cameras or not all(isinstance(serial, str) for serial in given.cameras)
            or len(set(given.cameras)) < len(given.cameras)
        ):  # fmt: skip
            raise ValueError("cameras is not a list of serials, each once")
        if given.landmarks not in (None, *LANDMARKS):
            raise ValueError(f"landmarks is {given.landmarks!r}, expected {' or '.join(LANDMARKS)}")
        return given


def _is_sequence(row: object) -> bool:
    if not isinstance(row, list) or not row or not isinstance(row[0], str) or not row[0]:
        return False
    if len(row) == 2:
        return isinstance(row[1], int) and not isinstance(row[1], bool) and row[1] >= 0
    return len(row) == 3 and all(isinstance(end, str) and end.isdecimal() for end in row[1:])


def sequence_names(folder: Path, rows: list, frames: Sequence[str]) -> np.ndarray:
    """The sequence of each frame, as a manifest's `sequences` name it. RafError unless every frame is in one."""
    path, number = folder / MANIFEST, np.array([int(frame) for frame in frames])
    if rows and len(rows[0]) == 2:
        counts = [count for _, count in rows]
        if sum(counts) != len(frames):
            raise RafError(
                f"{path}: its sequences have {sum(counts)} frames but the folder {len(frames)}; correct the counts, or "
                "give the first and last frame of each sequence"
            )
        return np.repeat([name for name, _ in rows], counts)
    names = np.array([""] * len(frames), dtype=object)
    for name, first, last in rows:
        inside = (number >= int(first)) & (number <= int(last))
        if (names[inside] != "").any():
            frame = frames[int(np.flatnonzero(inside & (names != ""))[0])]
            raise RafError(f"{path}: frame {frame} is in two sequences; correct first and last frames")
        names[inside] = name
    if (names == "").any():
        frame = frames[int(np.flatnonzero(names == "")[0])]
        raise RafError(f"{path}: frame {frame} is in no sequence; add a row for it")
    return names.astype(str)


def landmark_groups(folder: Path, given: Manifest, count: int) -> dict[str, tuple[int, ...]]:
    """The landmark groups of a capture with `count` landmarks: the manifest's, or those of the layout's 66.

    Without `landmarks` in the manifest, further landmarks are vertices of the face and belong to "blend". RafError
    naming the manifest where groups are missing or do not fit.
    """
    if given.groups is None:
        if count != 66 and given.landmarks is not None:
            raise RafError(f"{folder / MANIFEST}: has no groups, which {count} landmarks need; expected 66 landmarks")
        return {**GROUPS, "blend": tuple(range(count))}
    for name, rows in given.groups.items():
        if not isinstance(rows, list) or not all(type(row) is int and 0 <= row < count for row in rows):
            raise RafError(f"{folder / MANIFEST}: group {name} is not a list of landmarks from 0 to {count - 1}")
    if missing := GROUPS.keys() - {name for name, rows in given.groups.items() if rows}:
        raise RafError(f"{folder / MANIFEST}: landmark group {min(missing)} is missing or empty; add it")
    return {name: tuple(rows) for name, rows in given.groups.items()}


@dataclass(frozen=True, eq=False)
class Exported:
    """Arrays of an exported capture that the layout has no place for, by the frames' folders `name`."""

    name: np.ndarray
    frame: Int[np.ndarray, "T"]
    detected: Bool[np.ndarray, "T"]
    neutral: Float[np.ndarray, "L 3"]
    time: Float[np.ndarray, "T"] | None = None
    background: Float[np.ndarray, "H W 3"] | None = None

    def rows(self, path: Path, frames: Sequence[str]) -> Int[np.ndarray, "F"]:
        """The row of each frame; RafError for one that was not exported."""
        place = {str(name): row for row, name in enumerate(self.name)}
        if unknown := [frame for frame in frames if frame not in place]:
            raise RafError(
                f"{path / ARRAYS}: does not know frame {unknown[0]}, which was added later; remove that frame, or "
                "delete this file to read the folder without it"
            )
        return np.array([place[frame] for frame in frames], dtype=int)


def read_exported(folder: Path) -> Exported | None:
    """The arrays that an export wrote; None where there are none. RafError naming the file."""
    path = folder / ARRAYS
    if not path.exists():
        return None
    wanted = {
        "name": Array("U", "T"), "frame": Array("iu", "T"), "detected": Array("b", "T"), "neutral": Array("f", "L 3"),
        "time": Array("f", "T", optional=True), "background": Array("f", "H W 3", optional=True),
    }  # fmt: skip
    remedy = "export the capture again, or delete it to read the folder without"
    exported = Exported(**read_arrays(path, wanted, "part of an export", remedy))
    if odd := [name for name in exported.name.tolist() if not (name.isascii() and name.isdecimal())]:
        raise RafError(f"{path}: {odd[0]!r} is no frame's folder; {remedy}")
    return exported
