"""What is tracked beside what is true, for notebooks 01 and 02: signals of a capture, and neighbours of a bank.

Only the studio knows the truth. Elsewhere the tables are empty and a sentence says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from raflib.bank import ExpressionBank
from raflib.capture import Capture
from raflib.coverage import retrieval_table
from raflib.coverage.weightings import AsIs, LessPersonMean, PerDeviation
from raflib.openbank import pose_errors, with_true_actions
from raflib.openbank.tracker import TRUE_ACTIONS
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


def retrieval_tables(bank: ExpressionBank, people: int = 24, queries: int = 60) -> dict[str, pd.DataFrame]:
    """How near neighbours truly are in facial actions (`raflib.coverage.retrieval_table`), by the space of the search.

    `people` of a studio bank, evenly chosen by name, are subjects in turn and the others are the bank. Searched are the
    features as they are, with each column divided by its standard deviation, and less the person's mean.
    """
    step = max(1, len(bank.people) // people)
    part = with_true_actions(bank.restrict(subjects=bank.people[::step][:people]))
    others = len(part.people) - 1
    sizes = sorted({min(size, others) for size in (5, 10, others)})
    tables = {}
    for weighting in (AsIs(), PerDeviation(), LessPersonMean()):
        fitted = weighting.fit(part)
        searched = fitted.of_bank(part).in_space(fitted.space)
        tables[fitted.space] = retrieval_table(searched, part.spaces[TRUE_ACTIONS], sizes, queries=queries)
    return tables


def shares(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The medians over subjects of `retrieval_tables` for the largest bank and one neighbour, a row for each space."""
    largest = {label: table[(table.people == table.people.max()) & (table.k == 1)] for label, table in tables.items()}
    columns = ["found", "random", "nearest", "share"]
    return pd.DataFrame({label: table[columns].median() for label, table in largest.items()}).T
