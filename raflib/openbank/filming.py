"""Rendering and tracking people of the open bank, several at a time; a frame is rendered only when it is asked for.

A worker is a thread. The studio's kernels run without Python's lock and a tracker is a process of its own, so threads
are as fast as processes here, and none outlives a killed program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from queue import SimpleQueue
from threading import Event, Lock

import numpy as np
from jaxtyping import Float, UInt8
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from raflib import studio
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.studio.rig import FRONTAL
from raflib.tracking import FaceTracker, Observation

SIZE = 256
"""Width and height, in pixels, of the images that are tracked."""

Track = Callable[[UInt8[np.ndarray, "H W 3"]], Observation | None]
"""Tracks an image; None where it shows no face."""


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
        self._camera = frontal_camera(SIZE)

    def image(self, sequence: str, frame: int) -> UInt8[np.ndarray, "H W 3"]:
        """The frontal image of one frame. RafError for a frame that this person does not perform."""
        actions, angles = moment(self.name, self.acted.get(sequence), sequence, frame)
        return studio.render(self.identity, actions, angles, self._camera)[0]


def film_people(people: Iterable[str], work: Callable[[str, Track], None], cores: int | None, bar: tqdm) -> None:
    """Call `work(name, track)` for all of `people`, on `cores` threads, each with a tracker of its own.

    `bar` counts the faces found. The first failure, or an interrupt, stops the other threads at their next frame and is
    raised. `cores` is None for all cores of this machine; RafError where it is below 1.
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

        def track(image: UInt8[np.ndarray, "H W 3"]) -> Observation | None:
            if stop.is_set():
                raise RafError(f"{name}: not finished, because the build was stopped")
            seen = tracker(image)
            if seen is not None:
                with counting:
                    bar.update()
            return seen

        try:
            work(name, track)
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
