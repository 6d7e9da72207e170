"""Tracks for the experiment on Table 1: each frame as one camera sees it and as four cameras see it.

Captures keep triangulated landmarks only. To ask what a face model makes of one view, the frontal camera's points are
needed too, of the same frames. `tracks_of` renders and tracks a person of the studio once and keeps the arrays in
`cache_root()/table1`, one file per person and choice of frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from raflib import studio
from raflib.capture import HELD_OUT
from raflib.geometry import Camera
from raflib.runs import cache_root
from raflib.sources._store import load_tracks, save_tracks
from raflib.sources._studio_recipe import TRACKING_CAMERAS, made_by
from raflib.sources._tracked import evenly
from raflib.studio.rig import FRONTAL
from raflib.tracking import FaceTracker, Observation, track_views
from raflib.tracking.landmarks import COUNT

SIZE = 256
"""Width and height, in pixels, of the images that are tracked."""
VERSION = 1
"""Raised when tracks of the same frames would come out differently."""

Moments = list[tuple[str, int]]
"""Frames of a person: sequence and frame number of each, 25 frames a second."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """Tracked frames of one person of the studio; NaN where a frame shows no face, or where views disagree.

    Attributes:
        person: the person's id.
        expression: [T,52] MediaPipe's scores in the frontal view (`arkit52`).
        points: [T,478,2] landmarks in the frontal view, pixels.
        landmarks: [T,478,3] landmarks triangulated from four views, world metres; NaN where only one was rendered.
        sequence, frame: [T] name and frame number.
    """

    person: str
    expression: Float[np.ndarray, "T 52"]
    points: Float[np.ndarray, "T 478 2"]
    landmarks: Float[np.ndarray, "T 478 3"]
    sequence: np.ndarray
    frame: Int[np.ndarray, " T"]

    @property
    def seen(self) -> Bool[np.ndarray, " T"]:
        """[T] whether the frontal view shows a face."""
        return np.isfinite(self.expression).all(1)

    @property
    def free(self) -> Bool[np.ndarray, " T"]:
        """[T] whether the frame is of the held-out sequence."""
        return np.asarray(self.sequence) == HELD_OUT

    def rows(self, chosen: np.ndarray) -> Tracks:
        """The chosen frames only."""
        arrays = (self.expression, self.points, self.landmarks, self.sequence, self.frame)
        return Tracks(self.person, *(array[chosen] for array in arrays))


def frontal() -> Camera:
    """The studio's frontal camera, which `Tracks.points` belong to."""
    return _cameras((FRONTAL,))[0]


def even_moments(person: str, per_sequence: int | None, free: int | None) -> Moments:
    """Evenly spaced frames of each training sequence, then of the held-out one; None: all of them."""
    wanted = [*((name, per_sequence) for name in studio.TRAIN_SEQUENCES), (HELD_OUT, free)]
    return [(name, int(t)) for name, count in wanted for t in evenly(len(studio.act(person, name)), count)]


def random_moments(person: str, count: int) -> Moments:
    """The first random frames that the open bank takes of this person, in the order of their sequences."""
    all_of_them = [(name, t) for name in studio.SEQUENCES for t in range(len(studio.act(person, name)))]
    chosen = np.random.default_rng([0, *person.encode()]).permutation(len(all_of_them))[:count]
    return [all_of_them[row] for row in np.sort(chosen)]


def tracks_of(person: str, moments: Moments, several_views: bool = True, progress: bool = True) -> Tracks:
    """The tracks of these frames, from the cache where they were made before.

    Args:
        person: any name; the studio has a person for each.
        moments: the frames.
        several_views: whether landmarks are triangulated from four views; otherwise only the frontal one is rendered.
        progress: whether a bar is shown.
    """
    path = cache_root() / "table1" / f"{person}-{_key(person, moments, several_views)}.npz"
    stored = load_tracks(path, ("expression", "points", "landmarks"))
    if stored is None:
        stored = _track(person, moments, several_views, progress)
        save_tracks(path, **stored)
    sequence, frame = zip(*moments, strict=True)
    return Tracks(person, **stored, sequence=np.array(sequence), frame=np.array(frame))


def _track(person: str, moments: Moments, several_views: bool, progress: bool) -> dict[str, np.ndarray]:
    cameras = _cameras(TRACKING_CAMERAS if several_views else (FRONTAL,))
    front = [camera.name for camera in cameras].index(FRONTAL)
    identity, count = studio.Identity(person), len(moments)
    expression = np.full((count, 52), np.nan, np.float32)
    points = np.full((count, COUNT, 2), np.nan, np.float32)
    landmarks = np.full((count, COUNT, 3), np.nan, np.float32)
    acted = {name: studio.act(person, name) for name in dict(moments)}
    with FaceTracker() as tracker:
        for row, (name, t) in enumerate(tqdm(moments, f"tracking {person}", unit="frame", disable=not progress)):
            actions, angles = acted[name].actions[t], acted[name].angles[t]
            images = [image for image, _ in studio.render_views(identity, actions, angles, cameras)]
            seen = [tracker(image) for image in images]
            found = seen[front]
            if found is None:
                continue
            expression[row], points[row] = found.expression, found.points
            sighting = track_views(images, cameras, _known(images, seen), front) if several_views else None
            if sighting is not None:
                landmarks[row] = sighting.landmarks
    return {"expression": expression, "points": points, "landmarks": landmarks}


def _known(images: Sequence[np.ndarray], seen: Sequence[Observation | None]):
    """A tracker that returns what was seen in each of these images."""
    found = {id(image): observation for image, observation in zip(images, seen, strict=True)}
    return lambda image: found[id(image)]


def _cameras(serials: Iterable[str]) -> list[Camera]:
    wanted = set(serials)
    return [camera for camera in studio.rig(SIZE) if camera.name in wanted]


def _key(person: str, moments: Moments, several_views: bool) -> str:
    """A key of everything that tracks follow from: how images are made, the frames, and the performance."""
    digest = hashlib.sha256(repr((VERSION, SIZE, person, several_views, made_by(), moments)).encode())
    for name in dict(moments):
        acted = studio.act(person, name)
        for values in (acted.actions, acted.angles):
            digest.update(np.round(np.asarray(values, np.float64), 4).tobytes())
    return digest.hexdigest()[:16]
