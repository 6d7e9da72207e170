"""The fixed square window of a video around head and shoulders of the main person, found in a few frames.

Black bars at the image's borders are left out. Where faces are in several places, the main face is the one whose area,
summed over the frames, is largest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from raflib.errors import RafError
from raflib.tracking import Observation

SPREAD = 2.5
"""Largest extent of all boxes of one place, in sizes of one face; a moving head stays within it."""
OVERLAP = 0.1
"""Share of a face's size by which its box may leave the window."""
BLACK = 40
"""Brightest value of a channel in a black bar; compression makes bars uneven."""
BAR = 0.4
"""Largest share of the image that a bar takes on one side; a wider dark border is a dark room."""


def square_window(boxes: Float[np.ndarray, "P 4"], height: int, width: int, margin: float) -> tuple[int, int, int]:
    """The fixed window (x, y, side) around a person's head and shoulders.

    `boxes` are (left, top, right, bottom) of the face in some frames. The window's side is `margin` times the larger
    side of their common box, and it is centred on that box as far as the image allows.
    """
    left, top = boxes[:, :2].min(0)
    right, bottom = boxes[:, 2:].max(0)
    extent = max(right - left, bottom - top)
    side = int(min(margin * extent, height, width))
    x = (left + right - side) / 2
    y = (top + bottom - side) / 2
    return int(np.clip(x, 0, width - side)), int(np.clip(y, 0, height - side)), side


def where_the_face_mostly_is(
    boxes: Float[np.ndarray, "P 4"], height: int, width: int, margin: float
) -> Bool[np.ndarray, "P"]:
    """Which of the `boxes` lie where most of them are, so that one window holds them.

    As long as the boxes spread too far, the one farthest from the median centre is left out. Such boxes show a
    passer-by, or the seat where the person sat for the shorter time.
    """
    boxes = np.clip(boxes, 0, [width, height, width, height])
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(1)
    kept = np.ones(len(boxes), bool)
    while kept.sum() > 1:
        face = np.median(size[kept])
        x, y, side = square_window(boxes[kept], height, width, margin)
        outside = np.maximum([x, y] - boxes[kept, :2], boxes[kept, 2:] - [x + side, y + side])
        extent = (boxes[kept, 2:].max(0) - boxes[kept, :2].min(0)).max()
        if extent <= SPREAD * face and outside.max() <= OVERLAP * face:
            break
        away = np.linalg.norm(centre - np.median(centre[kept], axis=0), axis=1)
        kept[np.argmax(np.where(kept, away, -1))] = False
    return kept


def without_bars(peaks: UInt8[np.ndarray, "n"]) -> tuple[int, int]:
    """(first, end) of the rows that are not black bars; `peaks` is the brightest value of each row in all frames.

    One row beside a bar is left out, too, since scaling mixes it with the bar. The same holds for columns.
    """
    bright = np.flatnonzero(peaks > BLACK)
    if not len(bright):
        return 0, len(peaks)
    first, end = int(bright[0]), int(bright[-1]) + 1
    first = first + 1 if 0 < first <= BAR * len(peaks) else 0
    return first, (end - 1 if 0 < len(peaks) - end <= BAR * len(peaks) else len(peaks))


@dataclass(frozen=True)
class Window:
    """A fixed square window.

    Attributes:
        x, y, side: its place in the image (pixels).
        inner: (left, top, right, bottom) of the image without black bars.
        note: a sentence if faces lie outside of the window, else "".
    """

    x: int
    y: int
    side: int
    inner: tuple[int, int, int, int]
    note: str


def find_window(
    name: str, images: Iterable[np.ndarray], margin: float, tracker: Callable[[np.ndarray], Observation | None]
) -> Window:
    """The window for a video's `images` (all of one size).

    Raises RafError, beginning with `name`, when no image shows a face.
    """
    boxes, looked, rows, columns = [], 0, np.uint8(0), np.uint8(0)
    for image in images:
        looked += 1
        rows, columns = np.maximum(rows, image.max((1, 2))), np.maximum(columns, image.max((0, 2)))
        found = tracker(image)
        if found is not None:
            boxes.append(box_of(found))
    if not boxes:
        raise RafError(f"{name}: no face in any of the {looked} frames looked at; use a video that shows a face")
    (top, bottom), (left, right) = without_bars(rows), without_bars(columns)
    shown = np.array(boxes, float) - np.array([left, top, left, top])
    shape = (bottom - top, right - left)
    kept = main_place(shown, *shape, margin)
    x, y, side = square_window(shown[kept], *shape, margin)
    note = "" if kept.all() else (
        f"of {looked} frames looked at, {kept.sum()} show a face in one place and {(~kept).sum()} elsewhere (another "
        "person or another seat); only the first place is cut out"
    )  # fmt: skip
    return Window(x + left, y + top, side, (left, top, right, bottom), note)


def box_of(face: Observation) -> Float[np.ndarray, "4"]:
    """(left, top, right, bottom) of a face's landmarks."""
    return np.concatenate([face.points.min(0), face.points.max(0)])


def main_place(boxes: Float[np.ndarray, "P 4"], height: int, width: int, margin: float) -> Bool[np.ndarray, "P"]:
    """Which of the `boxes` belong to the place whose faces have the largest area, summed over the frames.

    A place holds the boxes that `where_the_face_mostly_is` keeps together; what it leaves out makes further places.
    """
    left, places = np.arange(len(boxes)), []
    while len(left):
        inside = where_the_face_mostly_is(boxes[left], height, width, margin)
        places.append(left[inside])
        left = left[~inside]
    area = [np.prod(boxes[place, 2:] - boxes[place, :2], axis=1).sum() for place in places]
    kept = np.zeros(len(boxes), bool)
    kept[places[int(np.argmax(area))]] = True
    return kept
