"""People of the open bank before the frontal camera, many at a time, each frame filmed and tracked only when asked for.

A worker is a thread: the studio's kernels run without Python's lock and a tracker is a process of its own, so threads
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
from jaxtyping import UInt8
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from raflib import studio
from raflib.errors import RafError
from raflib.studio.rig import FRONTAL
from raflib.tracking import FaceTracker, Observation

SIZE = 256
"""Pixels a side of the pictures that are tracked."""

Look = Callable[[UInt8[np.ndarray, "H W 3"]], Observation | None]
"""Tracks a picture; None where it shows no face."""


def names(count: int) -> tuple[str, ...]:
    """B001, B002, …: none is a subject of the benchmark or a driver. RafError unless `count` is 1 to 999."""
    if not 1 <= count <= 999:
        raise RafError(f"people is {count}, expected 1 to 999")
    return tuple(f"B{number:03d}" for number in range(1, count + 1))


class Person:
    """Somebody before the camera. `acted`: their performance of every sequence, FREE included, 25 frames a second."""

    def __init__(self, name: str):
        self.identity = studio.Identity(name)
        self.acted = {sequence: studio.act(name, sequence) for sequence in studio.SEQUENCES}
        self._camera = next(camera for camera in studio.rig(SIZE) if camera.name == FRONTAL)

    def picture(self, sequence: str, frame: int) -> UInt8[np.ndarray, "H W 3"]:
        """The frontal picture of one frame. RafError for a moment that this person does not perform."""
        acted = self.acted.get(sequence)
        if acted is None or not 0 <= frame < len(acted):
            raise RafError(
                f"{self.identity.subject}: performs no frame {frame} of sequence {sequence!r}; "
                "only rows that the studio's people made can be filmed again"
            )
        return studio.render(self.identity, acted.actions[frame], acted.angles[frame], self._camera)[0]


def film_everybody(people: Iterable[str], work: Callable[[str, Look], None], cores: int | None, bar: tqdm) -> None:
    """`work(name, look)` for all of `people`, one thread a core, each with a tracker; `bar` counts the faces found.

    The first failure, or an interrupt, stops the others at their next frame and is raised. RafError for `cores` below 1
    (None: all of this machine).
    """
    people = list(people)
    workers = (os.cpu_count() or 1) if cores is None else cores
    if workers < 1:
        raise RafError(f"cores is {cores}, expected at least 1")
    workers = min(workers, max(1, len(people)))
    stop, counting, trackers = Event(), Lock(), SimpleQueue()

    def one(name: str) -> None:
        tracker = trackers.get()

        def look(picture: UInt8[np.ndarray, "H W 3"]) -> Observation | None:
            if stop.is_set():
                raise RafError(f"{name}: not finished, because filming was stopped")
            seen = tracker(picture)
            if seen is not None:
                with counting:
                    bar.update()
            return seen

        try:
            work(name, look)
        finally:
            trackers.put(tracker)

    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1, "blas"))  # the cores are taken; and sums keep one order on any machine
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
