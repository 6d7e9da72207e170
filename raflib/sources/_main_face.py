"""The main face of a video, frame by frame, and the cuts between its scenes.

One frame shows one face, the tracker's best. Where another face takes its place from one frame to the next, `MainFace`
looks for the main one where it was before. A cut is a large change of the image's colours together with a jump of the
face: light alone changes colours, and a head alone can jump.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from raflib.sources._window import box_of
from raflib.tracking import Observation

JUMP, GROWTH = 0.75, 1.5
"""A face that moves by more than `JUMP` face sizes between two frames, or grows or shrinks by more, is another one."""
MEMORY = 0.4
"""Seconds without the main face after which it may be anywhere."""
AROUND = 2.0
"""Side of the square in which the main face is looked for, in face sizes."""
COLOURS = 6
"""Levels of each channel in a histogram of colours."""
CHANGED = 0.4
"""Share of the pixels that have another colour after a cut."""
MOVED, RESIZED = 0.2, 1.15
"""The smallest jump of the face at a cut, in face sizes, and its smallest change of size."""

Place = tuple[float, float, float]
"""Column and row of a face's centre, and its size (pixels)."""


class MainFace:
    """The main face in the consecutive images of one size. `cuts` counts on: rows of the images that begin a scene.

    Args:
        tracker: returns the face in an image, or None.
        side: pixels a side of the images.
        spacing: seconds from one image to the next.
    """

    def __init__(self, tracker: Callable[[np.ndarray], Observation | None], side: int, spacing: float):
        self.cuts: list[int] = []
        self._tracker, self._side, self._memory = tracker, side, int(MEMORY / spacing)
        self._row = self._last_row = -1
        self._last: Place | None = None  # of the last frame with the main face
        self._before: Place | None = None  # of the frame before, None without a face
        self._colours: np.ndarray | None = None

    def __call__(self, image: UInt8[np.ndarray, "H H 3"]) -> Observation | None:
        """The main face in the next image, or None."""
        self._row += 1
        found = self._tracker(image)
        colours = colours_of(image)
        here = None if found is None else place_of(found)
        changed = self._colours is not None and np.abs(colours - self._colours).sum() / 2 > CHANGED
        if changed and _jumped(self._before, here):
            self.cuts.append(self._row)
            self._last = None
        elif here is not None and self._is_another(here):
            found = self._where_it_was(image, self._last)
            here = None if found is None else place_of(found)
        self._colours, self._before = colours, here
        if here is not None:
            self._last, self._last_row = here, self._row
        return found

    def _is_another(self, here: Place) -> bool:
        recent = self._last is not None and self._row - self._last_row <= self._memory
        return recent and _another(self._last, here)

    def _where_it_was(self, image: np.ndarray, last: Place) -> Observation | None:
        """The face near its last place, or None if that shows no face or another one."""
        column, row, size = last
        side = int(min(max(AROUND * size, 32), self._side))
        x, y = (int(np.clip(middle - side / 2, 0, self._side - side)) for middle in (column, row))
        found = self._tracker(np.ascontiguousarray(image[y : y + side, x : x + side]))
        if found is None:
            return None
        found = found.in_larger_image(x, y, side, self._side, self._side)
        return None if _another(last, place_of(found)) else found


def place_of(face: Observation) -> Place:
    """Centre and size of a face's box."""
    left, top, right, bottom = box_of(face).tolist()
    return (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top)


def colours_of(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "n"]:
    """Share of the pixels that have each colour, of `COLOURS` levels a channel."""
    level = image[::2, ::2].astype(np.int64) * COLOURS // 256
    return np.bincount((level @ [1, COLOURS, COLOURS**2]).ravel(), minlength=COLOURS**3) / level[..., 0].size


def _apart(one: Place, other: Place) -> tuple[float, float]:
    """(distance in sizes of the smaller face, ratio of sizes ≥ 1)."""
    small, large = sorted((one[2], other[2]))
    distance = float(np.hypot(one[0] - other[0], one[1] - other[1]))
    return distance / max(small, 1e-9), large / max(small, 1e-9)


def _another(last: Place, here: Place) -> bool:
    distance, ratio = _apart(last, here)
    return distance > JUMP or ratio > GROWTH


def _jumped(before: Place | None, here: Place | None) -> bool:
    """Whether a face appears, disappears, or has moved or changed its size."""
    if before is None or here is None:
        return before is not here
    distance, ratio = _apart(before, here)
    return distance > MOVED or ratio > RESIZED
