"""Captures in other feature spaces: a linear face model is fitted to their landmarks, and its expression coefficients
become the features.

    in_space(capture, "open42")                                  # the open model that ships
    in_space(capture, "bfm64", "models/BFM_model_front.mat")     # models from files of the user's
    in_space(capture, "flame100", "models/flame2023_no_jaw.pkl")
    in_space(capture, "gnm383", "models/gnm_head.npz")
    with_space(capture, "open42")                                # beside the capture's own features

A fit takes seconds to minutes, so its coefficients are cached in `cache_root()/spaces`. The file's name depends on the
capture's fingerprint, on the contents of the model's files, and on the versions of what computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from raflib import tracking
from raflib.capture import Capture
from raflib.errors import RafError
from raflib.reading import Array, damage_named, read_arrays, seal_of
from raflib.reading.names import content_hash, short_name
from raflib.runs import cache_root, data_root, package_versions, write_arrays
from raflib.tracking import LinearFaceModel, open_model, read_basel, read_flame, read_gnm, refit
from raflib.tracking.basel import NAMES_2009
from raflib.tracking.face_model import OPEN_MODEL
from raflib.tracking.flame import EMBEDDING
from raflib.tracking.gnm import landmark_file
from raflib.tracking.landmarks import COUNT

VERSION = 1
"""Raised when features of the same capture and model would come out differently."""
ARITHMETIC = ("numpy", "torch")
"""Packages whose versions change the last bits of a fit, and so name its file."""
STORED = {"expression": Array("f", "T d", finite=False), "detected": Array("b", "T"), "seal": Array("U", "")}
WHAT, REMEDY = "cache", "delete this file and try again"


@dataclass(frozen=True)
class _Space:
    """A face model that captures can be fitted with.

    `model` names it in errors, `read` reads it from the user's file, and `beside` lists other files that `read` uses.
    """

    model: str
    read: Callable[[Path], LinearFaceModel]
    beside: Callable[[Path], list[Path]]


FROM_FILES = {
    "bfm64": _Space("a Basel Face Model", read_basel, lambda path: [path.parent / name for name in NAMES_2009]),
    "flame100": _Space("a FLAME model", read_flame, lambda path: [path.parent / EMBEDDING]),
    "gnm383": _Space("a GNM Head model", read_gnm, lambda path: [landmark_file(path)]),
}
OPEN = "open42"
SPACES = (OPEN, *FROM_FILES)
"""The spaces that `in_space` can fit."""
MEDIAPIPE = "arkit52"
"""The space of MediaPipe's scores, which the sources studio and video give."""
SEARCHED = ("", MEDIAPIPE, *SPACES)
"""Spaces in which neighbours may be searched; "" is the space of the features that the avatar is given."""


def width_of(tag: str) -> int:
    """Number of features of the space `tag`, one of `SEARCHED`; its tag ends with this number."""
    return int(tag.lstrip("abcdefghijklmnopqrstuvwxyz"))


def in_space(capture: Capture, features: str, model: str | Path = "") -> Capture:
    """`capture` with features of the space `features`: the capture itself where it has them already or for "".

    Where the capture has the space as one of its `spaces`, the two change places. Otherwise a face model is fitted to
    the capture's landmarks (`raflib.tracking.refit`): in space, or in the image where the landmarks come from one
    camera, which does not measure depth. Frames that cannot be fitted are marked as not detected; everything else
    stays. The person's identity and size are fitted to frames of the whole recording, as by a tracker that is given all
    of it, so features of training frames depend a little on the landmarks of FREE.

    Args:
        model: the user's file of the face model; "" for "open42", whose model ships.

    Raises RafError for an unknown space, a missing or damaged model, a model of another space, landmarks other than
    MediaPipe's 478, and a damaged cache (naming the file).
    """
    if features in ("", capture.feature_space):
        return capture
    if features in capture.spaces:
        return _exchanged(capture, features)
    if features not in SPACES:
        raise RafError(
            f"features {features!r} are not known; choose one of {', '.join(SPACES)}, or leave it empty for the "
            f"capture's own ({capture.feature_space})"
        )
    if capture.landmarks.shape[1] != COUNT:
        raise RafError(
            f"capture {capture.subject}: features {features} are fitted to MediaPipe's {COUNT} landmarks, and this "
            f"capture has {capture.landmarks.shape[1]}; use its own features ({capture.feature_space})"
        )
    files = _files(features, model)
    path = _cache_file(replace(capture, spaces={}), features, files)
    if path.exists():
        expression, detected = _read(path, len(capture))
        return replace(capture, expression=expression, detected=detected, feature_space=features)
    fitted = refit(capture, _model(features, files), one_view=_seen_by_one_camera(capture))
    _write(path, fitted)
    return fitted


def with_space(capture: Capture, features: str, model: str | Path = "") -> Capture:
    """`capture` with the features of `in_space` as one of its `spaces`; the capture itself where it has them already.

    Rows are NaN where the frame is not detected or cannot be fitted. Raises RafError as `in_space` does.
    """
    if features in ("", capture.feature_space, *capture.spaces):
        return capture
    fitted = in_space(replace(capture, spaces={}), features, model)
    found = np.where(fitted.detected[:, None], fitted.expression, np.float32(np.nan))
    return replace(capture, spaces={**capture.spaces, features: found})


def _exchanged(capture: Capture, features: str) -> Capture:
    """`capture` with its further space `features` as its features, and the former ones as a further space."""
    expression, others = capture.spaces[features], {t: f for t, f in capture.spaces.items() if t != features}
    former = np.where(capture.detected[:, None], capture.expression, np.float32(np.nan))
    return replace(
        capture, expression=expression, feature_space=features, spaces={capture.feature_space: former, **others},
        detected=capture.detected & np.isfinite(expression).all(1),
    )  # fmt: skip


def _files(features: str, model: str | Path) -> list[Path]:
    """The files of the face model, the model itself first. RafError where it is missing or not needed."""
    if features == OPEN:
        if str(model):
            raise RafError(f"features {OPEN} are fitted with the model that ships; leave `model` empty")
        return [data_root() / OPEN_MODEL]
    space, path = FROM_FILES[features], Path(model)
    if not str(model):
        raise RafError(f"features {features} are fitted with {space.model}; give `model`, the path of your file")
    if not path.is_file():
        raise RafError(f"{path}: no such file; features {features} are fitted with {space.model}, correct the path")
    return [path, *(file for file in space.beside(path) if file.is_file())]


def _model(features: str, files: list[Path]) -> LinearFaceModel:
    model = open_model() if features == OPEN else FROM_FILES[features].read(files[0])
    if model.feature_space != features:
        raise RafError(
            f"{files[0]}: its {len(model.expression)} expression components are the space {model.feature_space}, "
            f"expected {features}; use a complete model"
        )
    return model


def _seen_by_one_camera(capture: Capture) -> bool:
    """Whether the depth of the landmarks is a guess. A source that knows the truth triangulates with further cameras
    than those whose images it gives."""
    return len(capture.cameras) == 1 and capture.truth is None


def _cache_file(capture: Capture, features: str, files: list[Path]) -> Path:
    made_by = (VERSION, tracking.VERSION, sorted(package_versions(ARITHMETIC).items()))
    digest = hashlib.sha256(repr((capture.fingerprint, features, made_by)).encode())
    for file in files:
        digest.update(content_hash(file).encode())
    return cache_root() / "spaces" / f"{short_name(capture.subject)}-{features}-{digest.hexdigest()[:16]}.npz"


def _seal(path: Path, expression: np.ndarray, detected: np.ndarray) -> str:
    """sha256 of a fit and of the name under which it is kept."""
    return seal_of({"expression": expression, "detected": detected, "name": np.array(path.name)})


def _write(path: Path, fitted: Capture) -> None:
    expression, detected = fitted.expression, fitted.detected
    seal = np.array(_seal(path, expression, detected))
    stored = {"expression": expression, "detected": detected, "seal": seal}
    write_arrays(path, stored, WHAT, "take a shorter recording")


def _read(path: Path, frames: int) -> tuple[Float[np.ndarray, "T d"], Bool[np.ndarray, "T"]]:
    """Features and detections of a fit. RafError naming the file where it is damaged or another fit's."""
    stored = read_arrays(path, STORED, WHAT, REMEDY)
    expression, detected = stored["expression"], stored["detected"]
    with damage_named(path, WHAT, REMEDY):
        if str(stored["seal"]) != _seal(path, expression, detected):
            raise ValueError("its content does not match its seal")
        if len(detected) != frames:
            raise ValueError(f"it holds {len(detected)} frames, expected {frames}")
    return expression, detected
