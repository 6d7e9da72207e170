"""How far one driving clip is from a training set, frame by frame. It needs no trained avatar."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from raflib.coverage.pairs import nearest
from raflib.coverage.spread import spacing
from raflib.errors import RafError

STRETCHES = 10  # a recording without named sequences is cut into this many


@dataclass(frozen=True, eq=False)
class ClipDistance:
    """How far a clip of T frames is from a training set.

    Attributes:
        distance: [T] L2 distance to the nearest training frame, in feature units; NaN where no face was found.
        nearest: [T] that training frame's row; −1 where no face was found.
        yardstick: the training set's own spacing, the 95th percentile of `raflib.coverage.spacing`.
        worst: rows of the clip, farthest first, each at least `apart` frames from those before it.
    """

    distance: Float[np.ndarray, " T"]
    nearest: Int[np.ndarray, " T"]
    yardstick: float
    worst: Int[np.ndarray, " W"]

    @property
    def mean(self) -> float:
        """Mean distance over the frames with a face: the clip's B2T."""
        return float(np.nanmean(self.distance))

    @property
    def beyond(self) -> float:
        """Share of the frames with a face that lie beyond the yardstick."""
        return float((self.distance > self.yardstick).sum() / np.isfinite(self.distance).sum())

    def __str__(self) -> str:
        faces = int(np.isfinite(self.distance).sum())
        return (
            f"{faces} of {len(self.distance)} frames with a face; mean distance {self.mean:.2f}, "
            f"{100 * self.beyond:.0f} % beyond {self.yardstick:.2f}; farthest frames {', '.join(map(str, self.worst))}"
        )


def stretches(count: int) -> np.ndarray:
    """Names [N] of `STRETCHES` stretches of time for `count` frames in order, in place of names of sequences."""
    return (np.arange(count) * STRETCHES // max(count, 1)).astype(str)


def clip_distance(
    train: Float[np.ndarray, "N d"],
    clip: Float[np.ndarray, "T d"],
    sequence: Iterable[str] | None = None,
    worst: int = 5,
    apart: int = 5,
) -> ClipDistance:
    """How far the frames of a driving `clip` are from the training frames `train`, and which are the worst.

    Raises RafError when no frame of the clip has a face, and for other widths, NaN in `train`, or too few training
    frames.

    Args:
        train: the training frames.
        clip: the clip's frames in order; frames without a face are rows of NaN.
        sequence: [N] the recording of each training frame, for the yardstick. Without it, the training frames are
            treated as one video, in order, and cut into ten stretches of time.
        worst: how many of the farthest frames are returned at most.
        apart: how many frames they are from each other at least, since neighbours in time show the same face.
    """
    train, clip = np.asarray(train), np.asarray(clip)
    if clip.ndim != 2 or worst < 1 or apart < 1:
        raise RafError(
            f"clip_distance: clip of shape {clip.shape}, worst {worst}, apart {apart}; expected [T, d], and 1 or more"
        )
    seen = ~np.isnan(clip).all(1)
    if not seen.any():
        raise RafError(f"clip_distance: none of the {len(clip)} frames has a face; give a clip that shows one")
    if sequence is None:
        sequence = stretches(len(train))
    distance, rows = np.full(len(clip), np.nan), np.full(len(clip), -1)
    distance[seen], rows[seen] = nearest(clip[seen], train)
    yardstick = float(np.quantile(spacing(train, sequence), 0.95))
    picked: list[int] = []
    for row in np.argsort(-np.where(seen, distance, -np.inf), kind="stable")[: seen.sum()]:
        if len(picked) < worst and all(abs(row - other) >= apart for other in picked):
            picked.append(int(row))
    return ClipDistance(distance, rows, yardstick, np.array(picked))
