"""The coverage meter: how far one expression vector is from the training set, on the person's own yardstick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from raflib.capture import Capture
from raflib.coverage.clip import stretches
from raflib.coverage.spread import spacing

WORDS = ("inside", "edge", "outside")


@dataclass(frozen=True)
class Reading:
    """One vector on the meter: L2 `distance` to the nearest training vector, and its zone, one of `WORDS`."""

    distance: float
    word: str


class Coverage:
    """Distances to the training frames of a capture, beside these frames' own spacing.

    The yardstick is `raflib.coverage.spacing`, the distance of each training frame to the nearest frame of another
    sequence. `typical` is its median, `edge` its 95th percentile (as in `raflib.coverage.clip_distance`). A vector is
    "inside" up to `typical`, at the "edge" up to `edge`, and "outside" beyond. A recording of one sequence is cut into
    ten stretches of time, as there.
    """

    def __init__(self, capture: Capture):
        rows = capture.train
        self._train = capture.expression[rows].astype(np.float64)
        sequence = np.asarray(capture.sequence)[rows].astype(str)
        if len(set(sequence)) < 2:
            sequence = stretches(len(sequence))
        self.typical, self.edge = np.quantile(spacing(self._train, sequence), [0.5, 0.95]).tolist()

    def read(self, expression: Float[np.ndarray, "d"]) -> Reading:
        """The reading of one expression vector."""
        offsets = self._train - expression
        distance = float(np.sqrt(np.einsum("nd,nd->n", offsets, offsets).min()))
        return Reading(distance, WORDS[(distance > self.typical) + (distance > self.edge)])
