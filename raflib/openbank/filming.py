"""Rendering and tracking people of the open bank, several at a time; a frame is rendered only when it is asked for.

A frame is rendered by the cameras that captures are tracked with. Its scores come from the frontal view, its landmarks
from all of them, and the open face model is fitted to a person's landmarks as to those of a capture
(`raflib.lab.spaces`), so that bank and captures are measured alike.

A worker is a thread. The studio's kernels run without Python's lock and a tracker is a process of its own, so threads
are as fast as processes here, and none outlives a killed program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Lock

import numpy as np
from jaxtyping import Float, Float32, UInt8
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from raflib import studio
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.sources._studio_recipe import TRACKING_CAMERAS, StudioProfile
from raflib.studio.rig import FRONTAL
from raflib.tracking import FaceTracker, Observation, fit_points, open_model, track_views

SIZE = StudioProfile.tracking_size
"""Width and height, in pixels, of the images that are tracked."""
CAMERAS = tuple(camera for camera in studio.rig(SIZE) if camera.name in TRACKING_CAMERAS)
FRONT = [camera.name for camera in CAMERAS].index(FRONTAL)


@dataclass(frozen=True, eq=False)
class Seen:
    """A tracked frame.

    Attributes:
        expression: [52] scores of the frontal view.
        rotation: [3] the head's rotation in the frontal view, as in `raflib.tracking.Observation`.
        landmarks: [478,3] world metres, from all views that agree.
    """

    expression: Float[np.ndarray, "52"]
    rotation: Float[np.ndarray, "3"]
    landmarks: Float32[np.ndarray, "478 3"]


See = Callable[[Sequence[UInt8[np.ndarray, "H W 3"]]], Seen | None]
"""Tracks the images of one frame by `CAMERAS`; None where the frame cannot be a row, see `sighted`."""


def names(count: int) -> tuple[str, ...]:
    """The first `count` people of the open bank: B001, B002, …. None of them is a benchmark subject or a driver.

    RafError unless `count` is 1 to 999.
    """
    if not 1 <= count <= 999:
        raise RafError(f"people is {count}, expected 1 to 999")
    return tuple(f"B{number:03d}" for number in range(1, count + 1))


def frontal_camera(size: int) -> Camera:
    """The studio's frontal camera, with images of `size` × `size` pixels."""
    return next(camera for camera in studio.rig(size) if camera.name == FRONTAL)


def moment(
    name: str, acted: studio.Performance | None, sequence: str, frame: int
) -> tuple[Float[np.ndarray, "52"], Float[np.ndarray, "3"]]:
    """Actions and head angles (yaw, pitch, roll; degrees) of frame `frame` of a performance.

    RafError for a frame that this person does not perform; `acted` is None where they do not perform the sequence.
    """
    if acted is None or not 0 <= frame < len(acted):
        raise RafError(
            f"{name}: performs no frame {frame} of sequence {sequence!r}; only rows of the studio's people can be "
            "rendered again"
        )
    return acted.actions[frame], acted.angles[frame]


class Person:
    """One person of the bank; `acted` holds their performance of every sequence, FREE included, 25 frames a second."""

    def __init__(self, name: str) -> None:
        self.name, self.identity = name, studio.Identity(name)
        self.acted = {sequence: studio.act(name, sequence) for sequence in studio.SEQUENCES}

    def images(self, sequence: str, frame: int) -> list[UInt8[np.ndarray, "H W 3"]]:
        """The images of one frame by `CAMERAS`. RafError for a frame that this person does not perform."""
        actions, angles = moment(self.name, self.acted.get(sequence), sequence, frame)
        return [image for image, _ in studio.render_views(self.identity, actions, angles, CAMERAS)]


def sighted(
    images: Sequence[UInt8[np.ndarray, "H W 3"]], tracker: Callable[[UInt8[np.ndarray, "H W 3"]], Observation | None]
) -> Seen | None:
    """The frame that `CAMERAS` saw in `images`; each image is tracked once.

    None where the frontal view shows no face, and where a capture would hold no landmarks (`tracking.track_views`).
    Every other frame can be fitted, because its landmarks are complete.
    """
    front = tracker(images[FRONT])
    if front is None:
        return None
    views = track_views(images, CAMERAS, lambda image: front if image is images[FRONT] else tracker(image), FRONT)
    if views is None or not np.isfinite(views.landmarks).all():
        return None
    return Seen(front.expression, front.rotation, views.landmarks.astype(np.float32))  # captures keep float32


def open_features(landmarks: Float32[np.ndarray, "T 478 3"]) -> Float32[np.ndarray, "T 42"]:
    """Features in the space of the open face model: one person's frames fitted together, as `tracking.refit` does."""
    return fit_points(open_model(), landmarks, progress=False).expression.astype(np.float32)


def film_people(people: Iterable[str], work: Callable[[str, See], None], cores: int | None, bar: tqdm) -> None:
    """Call `work(name, see)` for all of `people`, on `cores` threads, each with a tracker of its own.

    `bar` counts the frames that `see` returned. The first failure, or an interrupt, stops the other threads at their
    next frame and is raised. `cores` is None for all cores of this machine; RafError where it is below 1.
    """
    people = list(people)
    workers = (os.cpu_count() or 1) if cores is None else cores
    if workers < 1:
        raise RafError(f"cores is {cores}, expected at least 1")
    workers = min(workers, max(1, len(people)))
    stop, counting = Event(), Lock()
    trackers: SimpleQueue[FaceTracker] = SimpleQueue()

    def one(name: str) -> None:
        tracker = trackers.get()

        def see(images: Sequence[UInt8[np.ndarray, "H W 3"]]) -> Seen | None:
            if stop.is_set():
                raise RafError(f"{name}: not finished, because the build was stopped")
            seen = sighted(images, tracker)
            if seen is not None:
                with counting:
                    bar.update()
            return seen

        try:
            work(name, see)
        finally:
            trackers.put(tracker)

    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1, "blas"))  # sums keep one order on any machine
        for _ in range(workers if people else 0):
            trackers.put(stack.enter_context(FaceTracker()))
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        tasks = [pool.submit(one, name) for name in people]
        try:
            for task in as_completed(tasks):
                task.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
