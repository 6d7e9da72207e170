"""Ways of fitting the open face model to the same tracks: how many views, and how many frames share an identity."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from raflib import tracking
from raflib.errors import RafError
from raflib.lab.spaces import ARITHMETIC
from raflib.lab.table1_tracks import Tracks, frontal
from raflib.reading.names import content_hash
from raflib.runs import cache_root, data_root, package_versions
from raflib.sources._store import load_tracks, save_tracks
from raflib.tracking import LinearFaceModel, fit_points, fit_views, open_model
from raflib.tracking.face_model import OPEN_MODEL

VERSION = 1
"""Raised when fits of the same tracks would come out differently."""


@dataclass(frozen=True)
class Way:
    """How a person's frames are fitted.

    Attributes:
        views: 1 for the frontal camera's pixels, 4 for landmarks triangulated from four cameras.
        frames: how many frames share one identity; 1 for an identity of each frame, 0 for all frames of the person.
            The fit finds an identity from 96 of its frames at most (`raflib.tracking.fitting.SHARED_FRAMES`).
    """

    views: int
    frames: int

    @property
    def label(self) -> str:
        """Such as "4 views, all frames"."""
        views = "1 view" if self.views == 1 else f"{self.views} views"
        frames = {0: "all frames", 1: "each frame"}.get(self.frames, f"{self.frames} frames")
        return f"{views}, {frames}"


CAPTURES = Way(4, 0)
"""How captures of the studio are fitted (`raflib.lab.spaces`)."""
ONE_VIEW, SINGLE = Way(1, 0), Way(1, 1)
"""How a video of one camera is fitted, and how single images are."""
OTHERS = (CAPTURES, ONE_VIEW, SINGLE)
"""The ways in which the people of the bank and the drivers are fitted."""
WAYS = tuple(Way(views, frames) for views in (4, 1) for frames in (0, 200, 20, 1))
"""The ways in which subjects are fitted."""


def groups(person: str, count: int, frames: int) -> list[Int[np.ndarray, "_"]]:
    """The frames 0 to `count` − 1 in random groups that share an identity, each in order."""
    if frames == 0 or frames >= count:
        return [np.arange(count)]
    if frames == 1:
        return [np.array([t]) for t in range(count)]
    order = np.random.default_rng([frames, *person.encode()]).permutation(count)
    return [np.sort(order[start : start + frames]) for start in range(0, count, frames)]


def fitted(tracks: Tracks, way: Way) -> Float[np.ndarray, "T 42"]:
    """The `open42` features of these frames, fitted in this way; NaN where a frame cannot be fitted.

    They are kept in `cache_root()/table1/fits`.
    """
    path = cache_root() / "table1" / "fits" / f"{tracks.person}-{way.views}-{way.frames}-{_key(tracks)}.npz"
    stored = load_tracks(path, ["features"])
    if stored is None:
        stored = {"features": _fit(tracks, way)}
        save_tracks(path, **stored)
    return stored["features"]


def _fit(tracks: Tracks, way: Way) -> Float[np.ndarray, "T 42"]:
    model, known = _model(), np.flatnonzero(tracks.seen)
    features = np.full((len(tracks.frame), len(model.expression)), np.nan, np.float32)
    for group in groups(tracks.person, len(known), way.frames):
        rows = known[group]
        try:
            if way.views == 1:
                found = fit_views(model, tracks.points[rows, None], [frontal()], progress=False)
            else:
                found = fit_points(model, tracks.landmarks[rows], progress=False)
        except RafError:  # no frame of the group shows enough landmarks
            continue
        features[rows] = found.expression
    return features


@cache
def _model() -> LinearFaceModel:
    return open_model()


def _key(tracks: Tracks) -> str:
    """A key of everything that fits follow from: the tracks, the model, and the versions of what computes."""
    versions = VERSION, tracking.VERSION, sorted(package_versions(ARITHMETIC).items())
    digest = hashlib.sha256(repr((tracks.person, versions)).encode())
    digest.update(content_hash(data_root() / OPEN_MODEL).encode())
    for array in (tracks.points, tracks.landmarks):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
