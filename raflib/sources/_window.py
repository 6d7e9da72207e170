"""The fixed square window of a video around head and shoulders, found in a few frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Bool, Float

from raflib.errors import RafError
from raflib.tracking import Observation

SPREAD = 2.5
"""Largest extent of all boxes of one place, in sizes of one face; a moving head stays within it."""
OVERLAP = 0.1
"""Share of a face's size by which its box may leave the window."""


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


def find_window(
    name: str, images: Iterable[np.ndarray], margin: float, tracker: Callable[[np.ndarray], Observation | None]
) -> tuple[tuple[int, int, int], str]:
    """The window (x, y, side) for a video's `images` (all of one size), and a note if faces lie outside it, else "".

    Raises RafError, beginning with `name`, when no image shows a face.
    """
    boxes, looked, shape = [], 0, (0, 0)
    for image in images:
        looked, shape = looked + 1, image.shape[:2]
        found = tracker(image)
        if found is not None:
            boxes.append(np.concatenate([found.points.min(0), found.points.max(0)]))
    if not boxes:
        raise RafError(f"{name}: no face in any of the {looked} frames looked at; use a video that shows a face")
    boxes = np.array(boxes, float)
    kept = where_the_face_mostly_is(boxes, *shape, margin)
    window = square_window(boxes[kept], *shape, margin)
    if kept.all():
        return window, ""
    return window, (
        f"of {looked} frames looked at, {kept.sum()} show a face in one place and {(~kept).sum()} elsewhere (another "
        "person or another seat); only the first place is cut out"
    )
