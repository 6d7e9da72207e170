"""What the sliders of a puppet mean: facial actions, numbered coefficients, or principal components.

Each kind of sliders reads its values from an expression vector and writes one value into it. The vector itself stays
the only state, so kinds can be exchanged at any time, and what no slider shows is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from raflib.capture import Capture
from raflib.coverage import pca

COMPONENTS = 10
"""Most principal components that get a slider."""
FLAT = 1e-4
"""Components with a smaller deviation, relative to the first one's, get no slider."""
SPAN = 3.0
"""Range of sliders without a natural one, in standard deviations to both sides of the training mean."""
REGIONS = ("jaw", "mouth", "eye", "brow", "cheek", "nose")
"""Facial actions in this order; names begin with these words."""
LOOKS = {
    "eyeLook ←": ("eyeLookInLeft", "eyeLookOutRight"),
    "eyeLook →": ("eyeLookInRight", "eyeLookOutLeft"),
}
"""Both eyes look to one side of the image when one turns in and the other one out; the subject's left is the image's
right."""
ONE_SIDED = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")
"""Actions whose name ends in a side to which they move. They are no pairs."""


class Entries:
    """Sliders that each stand for entries of the vector: one entry, or several that get the same value.

    Args:
        names: of the sliders.
        entries: of each slider, the entries of the vector.
        low, high: [n] ranges.
    """

    def __init__(self, names: Sequence[str], entries: Sequence[Sequence[int]], low: np.ndarray, high: np.ndarray):
        self.names, self.entries, self.low, self.high = list(names), [list(some) for some in entries], low, high

    def read(self, expression: Float[np.ndarray, "d"]) -> Float[np.ndarray, "n"]:
        """Values of all sliders; the mean where a slider has several entries."""
        return np.array([expression[some].mean() for some in self.entries], np.float64)

    def write(self, expression: Float[np.ndarray, "d"], slider: int, value: float | int) -> Float[np.ndarray, "d"]:
        """A copy of the expression vector in which this slider's entries have this value."""
        changed = np.array(expression, np.float64)
        changed[self.entries[slider]] = value
        return changed


class Components:
    """Sliders along the principal components of training vectors, in standard deviations from their mean.

    `train` [N,d] are the vectors; `raflib.coverage.pca` finds the components.
    """

    def __init__(self, train: Float[np.ndarray, "N d"], count: int = COMPONENTS):
        lengths = np.linalg.svd(train - train.mean(0), compute_uv=False)
        self._space = pca(train, min(count, int((lengths > FLAT * lengths[0]).sum())))
        share = self._space.scale**2 / np.var(train.astype(np.float64), axis=0, ddof=1).sum()
        self.names = [f"component {k + 1} ({part:.0%})" for k, part in enumerate(share)]
        self.high = np.full(len(share), SPAN)
        self.low = -self.high

    def read(self, expression: Float[np.ndarray, "d"]) -> Float[np.ndarray, "n"]:
        """Values of all sliders, in standard deviations."""
        return (np.asarray(expression, np.float64) - self._space.mean) @ self._space.axes / self._space.scale

    def write(self, expression: Float[np.ndarray, "d"], slider: int, value: float | int) -> Float[np.ndarray, "d"]:
        """A copy of the expression vector, moved along this component alone."""
        way = (value - self.read(expression)[slider]) * self._space.scale[slider]
        return np.asarray(expression, np.float64) + way * self._space.axes[:, slider]


Controls = Entries | Components
"""One kind of sliders: `names`, ranges `low` and `high` [n], and the methods `read` and `write`."""


def kinds_of_controls(capture: Capture) -> dict[str, Controls]:
    """The kinds of sliders for a capture's feature space, by the name that a menu shows; the first one is the default.

    `arkit52` has a slider for each facial action, from 0 to 1, with or without left and right together. Other spaces
    have a slider for each coefficient. All have principal components of the training frames.
    """
    train = capture.expression[capture.train].astype(np.float64)
    found: dict[str, Controls] = {}
    if capture.feature_space == "arkit52":
        found["facial actions"] = _pairs()
        found["facial actions, each side"] = _actions()
    else:
        middle, spread = train.mean(0), np.maximum(train.std(0), 1e-3)
        names = [f"coefficient {i + 1}" for i in range(train.shape[1])]
        single = [[i] for i in range(train.shape[1])]
        found["coefficients"] = Entries(names, single, middle - SPAN * spread, middle + SPAN * spread)
    if len(train) > 2 and train.std(0).any():
        found["principal components"] = Components(train)
    return found


def _actions() -> Entries:
    """A slider for every facial action."""
    from raflib.tracking import ARKIT52

    names = sorted((n for n in ARKIT52 if not n.startswith("_")), key=_order)
    return Entries(names, [[ARKIT52.index(name)] for name in names], np.zeros(len(names)), np.ones(len(names)))


def _pairs() -> Entries:
    """A slider for every facial action, with left and right together where both sides have the same name."""
    from raflib.tracking import ARKIT52

    groups: dict[str, list[int]] = {}
    sideways = {action: name for name, pair in LOOKS.items() for action in pair}
    for index, action in enumerate(ARKIT52):
        if not action.startswith("_"):
            stem = action if action in ONE_SIDED else action.removesuffix("Left").removesuffix("Right")
            groups.setdefault(sideways.get(action, stem), []).append(index)
    names = sorted(groups, key=_order)
    return Entries(names, [groups[name] for name in names], np.zeros(len(names)), np.ones(len(names)))


def _order(name: str) -> tuple[int, bool, str]:
    """Key of a facial action's place: by region, and `jawOpen` first of all."""
    return next(i for i, region in enumerate(REGIONS) if name.startswith(region)), name != "jawOpen", name
