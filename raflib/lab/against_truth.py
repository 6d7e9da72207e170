"""What is tracked beside what is true, for notebook 01: signals, head poses and landmarks of a capture.

Only the studio knows the truth. Elsewhere the tables are empty and a sentence says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from raflib.capture import Capture
from raflib.openbank import pose_errors
from raflib.tracking import ARKIT52, fit_points, open_model

NO_TRUTH = "There is no table here: only the studio knows the truth."
EVERY = 4
"""Every fourth frame is fitted with the face model."""


@dataclass(frozen=True, eq=False)
class Signals:
    """Features over the F held-out frames: `names` [n], `tracked` [F,n], and `true` [F,n], None where it is unknown."""

    names: list[str]
    tracked: Float[np.ndarray, "F n"]
    true: Float[np.ndarray, "F n"] | None

    @property
    def correlation(self) -> dict[str, float]:
        """Correlation of tracked and true by name, NaN for what does not move; empty where the truth is unknown."""
        if self.true is None:
            return {}
        with np.errstate(invalid="ignore"):
            pairs = zip(self.names, self.tracked.T, self.true.T, strict=True)
            return {name: float(np.corrcoef(tracked, true)[0, 1]) for name, tracked, true in pairs}


def signals(capture: Capture, actions: Sequence[str]) -> Signals:
    """Features of the held-out frames: those `actions` where the features are `arkit52`, else as many of the features
    that vary most. RafError naming an action that the tracker does not know."""
    free = capture.free
    if capture.feature_space != "arkit52":
        varying = np.argsort(-np.nanstd(capture.expression[capture.detected], axis=0), kind="stable")[: len(actions)]
        return Signals([f"feature {column}" for column in varying], capture.expression[free][:, varying], None)
    tracked = capture.expression[free][:, [ARKIT52.index(name) for name in actions]]
    if capture.truth is None:
        return Signals(list(actions), tracked, None)
    from raflib.studio import ACTIONS

    return Signals(list(actions), tracked, capture.truth.actions[free][:, [ACTIONS.index(name) for name in actions]])


def pose_table(capture: Capture) -> pd.DataFrame:
    """Errors of the tracked head pose on training and held-out frames; empty without a truth."""
    if capture.truth is None:
        print(NO_TRUTH)
        return pd.DataFrame()
    degrees, millimetres = pose_errors(capture)
    parts = {"training": capture.train, "held out": capture.free}
    return pd.DataFrame(
        {
            name: [np.median(degrees[rows]), np.sqrt((degrees[rows] ** 2).mean()), np.median(millimetres[rows])]
            for name, rows in parts.items()
        },
        index=["rotation, median degrees", "rotation, rms degrees", "translation, median mm"],
    )


def landmark_table(capture: Capture) -> pd.DataFrame:
    """Distances of triangulated and of fitted landmarks from the true ones, in millimetres; empty without a truth."""
    if capture.truth is None:
        print(NO_TRUTH)
        return pd.DataFrame()
    rows = np.flatnonzero(capture.detected)[::EVERY]
    fit = fit_points(open_model(), capture.landmarks[rows], progress=False)
    true, parts = capture.truth.landmarks[rows], {"training": capture.train[rows], "held out": capture.free[rows]}
    kinds = {"triangulated, median mm": capture.landmarks[rows], "fitted with the open model, median mm": fit.landmarks}
    distance = {kind: 1000 * np.linalg.norm(points - true, axis=2) for kind, points in kinds.items()}
    return pd.DataFrame(
        {name: [np.median(found[part]) for found in distance.values()] for name, part in parts.items()},
        index=list(distance),
    )
