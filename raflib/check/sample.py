"""What the checks look at: some images of a capture, the faces that are found in them, and a passage with head motion.

Everything is read when a check first asks for it, and kept; images as far as they fit into `KEPT` bytes. An image that
cannot be read is left out and remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from raflib.capture import Capture, most_frontal
from raflib.check.fits import (
    AWAY,
    MOST_UNSURE,
    TURNS,
    away_from_face,
    fitting_convention,
    inside_mask,
    is_sound,
    top_corners,
)
from raflib.check.stillness import Moving, moving
from raflib.errors import RafError
from raflib.images import lanczos
from raflib.tracking import Observation
from raflib.tracking.face import ImageFailed

Look = Callable[[np.ndarray], Any]
"""Image [H,W,3] uint8 -> `Observation` of its face, or None."""
KEPT = 2**28
"""Most bytes of images that stay in memory; others are read again."""
LARGEST = 256
"""Pixels a side of the images in which faces are searched; larger ones are shrunk."""
FAR = 10
"""Frame numbers from one row to the next beyond which motion between them is not followed."""
LAGS = 6
"""Most frames, and 4 rows, by which images and tracks are tried against each other."""
LEAST, ROWS = 8, 12
"""Fewest rows of a passage, and of the one with the most head motion where there are as many."""
TRIED = 6
"""Views that are turned to see whether they show a face."""
FEW = 0.25
"""Share of views in which a face is found below which the images themselves are doubted."""


class Sample:
    """Looks at a capture.

    Args:
        capture: the recording.
        images: number of images that are looked at in general, and of rows of the passage with the most head motion,
            which all cameras show.
        look: finds faces, such as a `raflib.tracking.FaceTracker`; None looks for none.
    """

    def __init__(self, capture: Capture, images: int = 24, look: Look | None = None):
        self.capture, self.count, self._look = capture, images, look
        self._looked, self.broken = False, ""
        self._images: dict[tuple[int, int], UInt8[np.ndarray, "H W 3"]] = {}
        self._tried: set[tuple[int, int]] = set()
        self._faces: dict[tuple[int, int], Observation | None] = {}
        self.unreadable: dict[tuple[int, int], str] = {}

    @cached_property
    def placed(self) -> Int[np.ndarray, "N"]:
        """Rows with a face whose landmarks and pose are known."""
        finite = np.isfinite(self.capture.landmarks).all((1, 2)) & np.isfinite(self.capture.pose).all(1)
        return np.flatnonzero(self.capture.detected & finite)

    @cached_property
    def views(self) -> list[tuple[int, int]]:
        """(row, camera) of images that are looked at: rows spread over the recording, two or more of each camera."""
        cameras = len(self.capture.cameras)
        count = max(self.count, 2 * cameras)
        if not len(self.placed):
            return []
        rows = self.placed[np.linspace(0, len(self.placed) - 1, count).round().astype(int)]
        pairs = dict.fromkeys((int(t), k % cameras) for k, t in enumerate(rows))
        return [pair for pair in pairs if self.sees(*pair)]

    def sees(self, t: int, c: int) -> bool:
        """Whether the image and mask of a row from a camera can be read."""
        if (t, c) not in self._tried:
            self._tried.add((t, c))
            try:
                self._keep((t, c), self.capture.image(t, c))
                self.capture.mask(t, c)
            except RafError as error:
                self.unreadable[t, c] = str(error)
        return (t, c) not in self.unreadable

    def _keep(self, view: tuple[int, int], image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The image, kept in place of the oldest ones."""
        while self._images and (len(self._images) + 1) * image.nbytes > KEPT:
            del self._images[next(iter(self._images))]
        self._images[view] = image
        return image

    def image(self, t: int, c: int) -> UInt8[np.ndarray, "H W 3"]:
        """The image of a row from a camera; RafError where it cannot be read."""
        if not self.sees(t, c):
            raise RafError(self.unreadable[t, c])
        kept = self._images.get((t, c))
        return self._keep((t, c), self.capture.image(t, c)) if kept is None else kept

    def mask(self, t: int, c: int) -> UInt8[np.ndarray, "H W"]:
        """The mask of a view whose image can be read."""
        return self.capture.mask(t, c)

    def face(self, t: int, c: int) -> Float[np.ndarray, "478 2"] | None:
        """Pixels of the 478 points of the face that the tracker finds in a view; None where it finds none."""
        if (t, c) not in self._faces:
            self._faces[t, c] = self._found(t, c)
        face = self._faces[t, c]
        return None if face is None else face.points

    def _found(self, t: int, c: int) -> Any:
        return self._searched(self.image(t, c)) if self.sees(t, c) else None

    def _searched(self, image: UInt8[np.ndarray, "H W 3"]) -> Any:
        """The face in an image; None where there is none or it is not looked for."""
        if self._look is None:
            return None
        height, width = image.shape[:2]
        ratio = min(1.0, LARGEST / max(height, width))
        small = lanczos(np.ascontiguousarray(image), round(width * ratio), round(height * ratio))
        try:
            face = self._look(small)
        except RafError as error:
            if not (self._looked or isinstance(error, ImageFailed)):
                self.broken, self._look = str(error), None
            return None
        self._looked = True
        return _grown(face, 1 / ratio)

    @cached_property
    def faces(self) -> list[tuple[int, int]]:
        """The views in which the tracker finds a face."""
        return [view for view in self.views if self.face(*view) is not None]

    @property
    def faceless(self) -> bool:
        """Whether the tracker looked for faces and found hardly any."""
        found = len(self.faces)  # a tracker that does not run is known after the first search
        return self._look is not None and found < FEW * len(self.views)

    @cached_property
    def distances(self) -> dict[int, float]:
        """Distance from the projected landmarks to the face that is found, over its size: the median of each camera in
        whose images faces are found. Infinite where landmarks lie behind the camera."""
        return {
            c: away_from_face(self.capture, self.capture.cameras[c], [(t, self.face(t, c)) for t in rows])
            for c, rows in _by_camera(self.faces)
        }

    @cached_property
    def away(self) -> dict[int, list[tuple[int, Float[np.ndarray, "478 2"] | None]]]:
        """Rows and found faces of the cameras whose landmarks do not lie on them."""
        cameras = [c for c, far in self.distances.items() if far >= AWAY and is_sound(self.capture.cameras[c])]
        return {c: [(t, self.face(t, c)) for t, own in self.faces if own == c] for c in cameras}

    @cached_property
    def convention(self) -> str:
        """The convention under which the cameras of `away` would fit; "" where there is none."""
        return fitting_convention(self.capture, self.away) if self.away else ""

    @cached_property
    def turned(self) -> str:
        """How images look turned, by the names of `TURNS`; "" for images that stand upright.

        It is tried where hardly any face is found, or faces lie away from the landmarks under every convention.
        """
        if not self.faceless and (not self.away or self.convention):
            return ""
        views = [view for view in self.views if self.faceless or view[1] in self.away]
        views = views[:: max(1, len(views) // TRIED)][:TRIED]
        for words, change in TURNS.items():
            fits = 0
            for t, c in views:
                face = self._searched(np.ascontiguousarray(change(self.image(t, c))))
                seen = [] if face is None else [(t, face.points)]
                fits += away_from_face(self.capture, self.capture.cameras[c], seen) < AWAY
            if 2 * fits > len(views):
                return words
        return ""

    @cached_property
    def trusted(self) -> list[int]:
        """Cameras whose projected landmarks lie on the face, or, where no face is found, not outside of the mask."""
        if self.faceless or self.turned:
            return []
        return [
            c
            for c, camera in enumerate(self.capture.cameras)
            if is_sound(camera) and (self.distances[c] < AWAY if c in self.distances else not self.outside(c))
        ]

    def outside(self, c: int) -> bool:
        """Whether the landmarks of a camera lie outside of masks that show something, but not a background."""
        told = []
        for t in (t for t, own in self.views if own == c):
            mask = self.mask(t, c)
            if MOST_UNSURE < mask.mean() / 255 < 1 - MOST_UNSURE and top_corners(mask) < 0.5:
                told.append(inside_mask(mask, self.capture.cameras[c].project(self.capture.landmarks[t])) < 0.5)
        return bool(told) and float(np.mean(told)) > 0.5

    @cached_property
    def front(self) -> list[int]:
        """The trusted cameras, those with faces first, most frontal first."""
        order = [c for c in most_frontal(self.capture.cameras, len(self.capture.cameras)) if c in self.trusted]
        return sorted(order, key=lambda c: c not in self.distances)

    def passages(self, count: int) -> Iterator[tuple[str, Int[np.ndarray, "N"], Int[np.ndarray, "M"]]]:
        """(sequence, up to `count` rows that follow each other, all rows of it with tracks) of each sequence.

        The rows are those with the most head motion among rows that have tracks before and after them. Sequences whose
        rows are too few or lie too far apart are left out.
        """
        for name in dict.fromkeys(self.capture.sequence[self.placed].tolist()):
            rows = self.placed[self.capture.sequence[self.placed] == name]
            for part in np.split(rows, np.flatnonzero(np.diff(self.capture.frame[rows]) > 3 * FAR) + 1):
                step = np.diff(self.capture.frame[part])
                if len(part) < LEAST + 2 or (step <= 0).any() or np.median(step) > FAR:
                    continue
                ends = margin(step)
                inner = part[ends : len(part) - ends]
                if len(inner) < LEAST:
                    inner = part[1:-1]
                points = self.capture.landmarks[inner][:, list(self.capture.groups["rigid"])]
                moved = np.linalg.norm(np.diff(points, axis=0), axis=2).mean(1)
                length = min(count, len(inner))
                total = np.convolve(moved, np.ones(length - 1), "valid")
                first = int(total.argmax())
                yield name, inner[first : first + length], part

    @cached_property
    def passage(self) -> tuple[str, Int[np.ndarray, "N"], Int[np.ndarray, "M"]] | None:
        """Of `passages`, the one with the most head motion; None where there is none."""

        def motion(passage: tuple[str, np.ndarray, np.ndarray]) -> float:
            points = self.capture.landmarks[passage[1]][:, list(self.capture.groups["rigid"])]
            return float(np.linalg.norm(np.diff(points, axis=0), axis=2).mean(1).sum())

        return max(self.passages(max(self.count, ROWS)), key=motion, default=None)

    def frozen(self, c: int) -> list[int]:
        """Rows of the passage whose image from a camera is bit for bit that of the row before."""
        rows = [int(t) for t in self.passage[1] if self.sees(int(t), c)] if self.passage else []
        return [t for s, t in pairwise(rows) if np.array_equal(self.image(s, c), self.image(t, c))]

    def moving(self, c: int, rows: Int[np.ndarray, "N"], tracked: Int[np.ndarray, "M"]) -> Moving | None:
        """Images of a camera with the tracks around them; None where an image cannot be read or nothing moves."""
        if not all(self.sees(int(t), c) for t in rows):
            return None
        found = moving(self.capture, c, rows, tracked, [self.image(int(t), c) for t in rows])
        return found if np.isfinite(found.pixels).all() else None


def margin(step: Sequence[int] | np.ndarray) -> int:
    """Rows that must lie before and after images so that all of `lags` can be tried."""
    return int(np.ceil(lags(step).max() / np.median(step)))


def lags(step: Sequence[int] | np.ndarray) -> Float[np.ndarray, "J"]:
    """Frames by which images and tracks are tried against each other, for rows that are `step` frames apart."""
    unit = float(np.gcd.reduce(np.asarray(step, int)))
    fine = unit * np.arange(-LAGS, LAGS + 1)
    return np.unique(np.concatenate([fine, float(np.median(step)) * np.arange(-4, 5)]).round(3))


def _by_camera(views: Sequence[tuple[int, int]]) -> list[tuple[int, list[int]]]:
    """(camera, its rows) of views."""
    return [(c, [t for t, own in views if own == c]) for c in sorted({c for _, c in views})]


def _grown(face: Any, ratio: float) -> Any:
    return face if face is None or ratio == 1 else replace(face, points=face.points * np.float32(ratio))
