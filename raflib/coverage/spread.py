"""Further measures of coverage, for any tracked data: how wide a set is, what lies outside, what each part contributes.

As in Table 1, `train` is the training set [N,d] and `target` the drivers' frames [M,d]. Distances are L2 in the
features' own unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex

import numpy as np
from jaxtyping import Float

from raflib.coverage.pairs import nearest, nearest_distance, samples, squared_radii, within_radii
from raflib.errors import RafError, whole

if TYPE_CHECKING:
    import pandas


def effective_rank(points: Float[np.ndarray, "N d"]) -> float:
    """The effective number of directions in which a set varies, from 1 to d.

        exp(−Σₖ pₖ ln pₖ),   pₖ = λₖ / Σ λ,   λ the eigenvalues of the covariance

    (Roy and Vetterli 2007, with the covariance's spectrum.) Raises RafError for one point, or points that all coincide.
    """
    points, _ = samples(points, points)
    spectrum = np.maximum(np.linalg.eigvalsh(np.cov(points, rowvar=False, ddof=0).reshape(points.shape[1], -1)), 0)
    if not spectrum.sum() > 0:
        raise RafError(f"effective_rank: the {len(points)} points do not vary; give different frames")
    share = spectrum[spectrum > 0] / spectrum.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


class PrecisionRecall(NamedTuple):
    """Shares: `precision` of x in the region of y, `recall` of y in the region of x."""

    precision: float
    recall: float


def precision_recall(x: Float[np.ndarray, "N d"], y: Float[np.ndarray, "M d"], k: SupportsIndex = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al., NeurIPS 2019) of a training set x for a target y.

    The region of a sample is the union of balls around its points, each reaching to that point's k-th nearest other
    point: precision = 1/N Σᵢ [∃j: ‖xᵢ − yⱼ‖ ≤ r_k(yⱼ)], recall = 1/M Σⱼ [∃i: ‖yⱼ − xᵢ‖ ≤ r_k(xᵢ)].

    Recall is the share of the drivers' frames inside the training set's region, precision the share of training frames
    inside the drivers' region. Exact, in float64. Balls shrink when a set grows denser, so compare only sets of equal
    size that were sampled in the same way. Raises RafError unless 1 ≤ k < N, M.
    """
    x, y = samples(x, y)
    k = whole("precision_recall: k", k, 1, min(len(x), len(y)) - 1)
    center = y.mean(0)
    x, y = x - center, y - center
    x_inside, y_inside = within_radii(x, y, squared_radii(x, k), squared_radii(y, k))
    return PrecisionRecall(float(x_inside.mean()), float(y_inside.mean()))


def spacing(train: Float[np.ndarray, "N d"], sequence: Iterable[str]) -> Float[np.ndarray, " N"]:
    """Distance of each training frame to the nearest frame of *another* sequence; `sequence` [N] names each frame's.

    Neighbouring frames of one video are always close, so distances within a sequence would be a misleading yardstick.
    Raises RafError for fewer than two sequences and for another number of names.
    """
    train, sequence = np.asarray(train), np.asarray(sequence)
    if len(sequence) != len(train):
        raise RafError(f"coverage: {len(sequence)} sequence names for {len(train)} training frames, expected one each")
    if len(np.unique(sequence)) < 2:
        raise RafError("coverage: the training frames are all of one sequence, expected at least two to compare")
    distance = np.empty(len(sequence))
    for name in np.unique(sequence):
        distance[sequence == name] = nearest_distance(train[sequence == name], train[sequence != name])
    return distance


def beyond(train: Float[np.ndarray, "N d"], target: Float[np.ndarray, "M d"], sequence: Iterable[str]) -> float:
    """Share of target frames whose distance to the training set exceeds the 95th percentile of its `spacing`."""
    return float((nearest_distance(target, train) > np.quantile(spacing(train, sequence), 0.95)).mean())


def by_sequence(
    train: Float[np.ndarray, "N d"], sequence: Iterable[str], target: Float[np.ndarray, "M d"]
) -> pandas.DataFrame:
    """What each training sequence contributes: sequence, frames, b2t_alone, b2t_without, nearest_share.

    `b2t_alone` is B2T with that sequence only, `b2t_without` with all others. `nearest_share` is the share of target
    frames whose nearest training frame is in it (earlier names win ties). `sequence` [N] names the recording of each
    training frame; at least two are needed.
    """
    import pandas

    sequence = np.asarray(sequence)
    names = np.unique(sequence)
    if len(names) < 2 or len(sequence) != len(train):
        raise RafError(
            f"by_sequence: {len(sequence)} entries naming {len(names)} sequences, expected {len(train)} and 2"
        )
    distances = np.stack([nearest_distance(target, np.asarray(train)[sequence == name]) for name in names])
    closest = distances.argmin(0)
    rows = [
        (
            name,
            (sequence == name).sum(),
            distances[i].mean(),
            np.delete(distances, i, 0).min(0).mean(),
            (closest == i).mean(),
        )
        for i, name in enumerate(names.tolist())
    ]
    return pandas.DataFrame(rows, columns=["sequence", "frames", "b2t_alone", "b2t_without", "nearest_share"])


def by_dimension(
    train: Float[np.ndarray, "N d"],
    target: Float[np.ndarray, "M d"],
    names: Sequence[str] | None = None,
    margin: float = 0.02,
) -> pandas.DataFrame:
    """How each dimension contributes to the target's distance: one row per dimension, the largest `share` first.

    * `dimension`, `name`: its number, and its entry of `names` [d] (default the number);
    * `low`, `high`: the training range;
    * `target_low`, `target_high`: the target's 1st and 99th percentiles;
    * `outside`: the share of target frames outside the training range by more than `margin` of its length;
    * `excess`: how far those are outside on average, 0 if there are none;
    * `share`: its part of the squared distance of target frames to their nearest training frames (sums to 1).
    """
    import pandas

    train, target = samples(train, target)
    names = [str(number) for number in range(train.shape[1])] if names is None else list(names)
    if len(names) != train.shape[1]:
        raise RafError(f"by_dimension: {len(names)} names for {train.shape[1]} dimensions, expected one each")
    low, high = train.min(0), train.max(0)
    excess = np.maximum(low - target, 0) + np.maximum(target - high, 0)
    excess[excess <= margin * (high - low)] = 0
    outside = (excess > 0).sum(0)
    gap = ((target - train[nearest(target, train)[1]]) ** 2).sum(0)
    target_low, target_high = np.quantile(target, (0.01, 0.99), axis=0)
    columns = {
        "dimension": np.arange(len(names)),
        "name": names,
        "low": low,
        "high": high,
        "target_low": target_low,
        "target_high": target_high,
        "outside": outside / len(target),
        "excess": excess.sum(0) / np.maximum(outside, 1),
        "share": gap / max(gap.sum(), np.finfo(float).tiny),
    }
    return pandas.DataFrame(columns).sort_values("share", ascending=False, kind="stable", ignore_index=True)
