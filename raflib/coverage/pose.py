"""How much of the head's pose an expression feature carries (paper §3, §6), and the feature without it.

Trackers estimate expressions from images of turned heads, so features depend on the rotation. The nearest feature of
another person tends to have a similar head rotation. Rotations are axis-angle in radians in the axes of
`raflib.geometry`; for heads that look roughly ahead their components are pitch, yaw and roll. Their zero differs from
person to person, so each person's mean is subtracted before people are compared (`centred`). Pure functions on arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from raflib.errors import RafError

AXES = ("pitch", "yaw", "roll")
RIDGE = 1e-3
"""Penalty of `pose_r2`'s regression, in units of the features' mean variance."""


def centred(values: Float[np.ndarray, "N c"], people: Sequence[str] | np.ndarray) -> Float[np.ndarray, "N c"]:
    """`values` minus the mean over the same person's rows; `people` [N] names the person of each row."""
    values = np.asarray(values, dtype=np.float64)
    names, who = np.unique(np.asarray(people), return_inverse=True)
    if values.ndim != 2 or len(who) != len(values):
        raise RafError(f"centred: values of shape {values.shape} for {len(who)} names, expected one row a name")
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, who, values)
    return values - (sums / np.bincount(who)[:, None])[who]


def pose_slope(
    features: Float[np.ndarray, "N d"], rotation: Float[np.ndarray, "N 3"], people: Sequence[str] | np.ndarray
) -> Float[np.ndarray, "3 d"]:
    """How features change per radian of head rotation: least squares between both, each centred within persons.

    Every frame has the same weight. Three regressors need no penalty; an axis about which no head turns gets slope 0.
    """
    _check(features, rotation)
    return np.linalg.lstsq(centred(rotation, people), centred(features, people), rcond=1e-10)[0]


def without_pose(
    features: Float[np.ndarray, "N d"],
    rotation: Float[np.ndarray, "N 3"],
    people: Sequence[str] | np.ndarray,
    slope: Float[np.ndarray, "3 d"],
) -> Float[np.ndarray, "N d"]:
    """Features without the part that `slope` predicts from rotation; each person's mean feature is unchanged."""
    _check(features, rotation)
    return np.asarray(features, dtype=np.float64) - centred(rotation, people) @ slope


def pose_r2(
    features: Float[np.ndarray, "N d"],
    rotation: Float[np.ndarray, "N 3"],
    groups: Sequence[str] | np.ndarray,
    folds: int = 5,
) -> dict[str, float]:
    """How well the head's rotation is predicted from the feature: cross-validated R² of a ridge regression.

    R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)², summed over held-out frames, with ȳ the mean of the frames fitted on. `groups` [N]
    (sequences of one person, or people) go into folds whole, in a fixed random order, so that no frame is predicted
    from its neighbours in time. Returns pitch, yaw, roll and `all` three together. The maximum is 1; 0 or less means
    that nothing can be predicted. For several people, pass both arguments `centred`. Raises RafError for fewer than two
    groups.
    """
    from sklearn.linear_model import Ridge

    _check(features, rotation)
    x, y = np.asarray(features, dtype=np.float64), np.asarray(rotation, dtype=np.float64)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(group) != len(x) or len(names) < 2:
        raise RafError(
            f"pose_r2: {len(names)} groups named by {len(group)} entries, expected at least 2 and {len(x)} entries"
        )
    fold = np.random.default_rng(0).permutation(len(names))[group] % min(folds, len(names))
    wrong, total = np.zeros((2, 3))
    for number in range(fold.max() + 1):
        fit, held = fold != number, fold == number
        penalty = RIDGE * fit.sum() * x[fit].var(0).mean() + 1e-12
        ridge = Ridge(alpha=penalty, solver="cholesky").fit(x[fit], y[fit])
        wrong += ((y[held] - ridge.predict(x[held])) ** 2).sum(0)
        total += ((y[held] - y[fit].mean(0)) ** 2).sum(0)
    if not (total > 0).all():
        raise RafError("pose_r2: the head does not turn about every axis in these frames; use frames in which it moves")
    return {**dict(zip(AXES, (1 - wrong / total).tolist(), strict=True)), "all": float(1 - wrong.sum() / total.sum())}


def pose_correlation(first: Float[np.ndarray, "N 3"], second: Float[np.ndarray, "N 3"]) -> dict[str, float]:
    """Correlation over pairs of frames of their head rotations: pitch, yaw, roll, and `all`, their mean.

    For frames and their neighbours of other people, pass both after `centred`. An axis without motion gives NaN.
    """
    _check(first, second)
    first, second = (np.asarray(side, dtype=np.float64) - np.mean(side, axis=0) for side in (first, second))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (first * second).sum(0) / np.sqrt((first**2).sum(0) * (second**2).sum(0))
    return {**dict(zip(AXES, found.tolist(), strict=True)), "all": float(found.mean())}


def _check(features: Float[np.ndarray, "N d"], rotation: Float[np.ndarray, "N 3"]) -> None:
    """Raise RafError for other shapes and for NaN or infinity."""
    shapes = np.shape(features), np.shape(rotation)
    if len(shapes[0]) != 2 or shapes[1] != (shapes[0][0], 3) or 0 in shapes[0]:
        raise RafError(f"pose leakage: shapes {shapes[0]} and {shapes[1]}, expected [N, d] and [N, 3] with frames")
    if not (np.isfinite(features).all() and np.isfinite(rotation).all()):
        raise RafError("pose leakage: a feature or rotation is NaN or infinite; leave undetected frames out")
