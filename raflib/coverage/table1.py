"""Table 1 (paper §3): equal-sized Vanilla and +RAF training sets of one subject against unseen drivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from raflib.bank.leaks import refuse_leaks
from raflib.coverage.intervals import jackknife
from raflib.coverage.metrics import measures
from raflib.coverage.pairs import detected
from raflib.coverage.spread import effective_rank, precision_recall
from raflib.errors import RafError, whole

if TYPE_CHECKING:
    import pandas

    from raflib.bank import ExpressionBank

METRICS = ("mmd", "kl", "b2t")
OUTER = (0.025, 0.975)
COLUMNS = (
    "subject", "method", "metric", "value", "low", "high", "draws_low", "draws_high", "change", "change_low",
    "change_high", "change_draws_low", "change_draws_high", "n", "leaked",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class TrainingSets:
    """Equal-sized training sets of one subject, sampled several times.

    Attributes:
        subject: the subject's id.
        pool: [P,d] all vectors that sets are made of: the subject's frames, then their neighbours.
        vanilla, raf: for each repeat, the rows [n] of `pool` in the Vanilla and in the +RAF set.
        drivers: the frames [M,d] of each driver that the sets are measured on.
        leaked: how many rows of the bank are a driver's, or the subject's under another name.
    """

    subject: str
    pool: Float[np.ndarray, "P d"]
    vanilla: list[np.ndarray]
    raf: list[np.ndarray]
    drivers: list[np.ndarray]
    leaked: int

    @property
    def n(self) -> int:
        """Number of vectors in a set."""
        return len(self.vanilla[0])


def training_sets(
    expression: Float[np.ndarray, "T d"],
    subject: str,
    targets: Mapping[str, Float[np.ndarray, "M d"]] | Float[np.ndarray, "M d"],
    bank: ExpressionBank,
    n: SupportsIndex | None = None,
    repeats: SupportsIndex = 20,
    seed: SupportsIndex = 0,
    feature_space: str | None = None,
    allow_leak: bool = False,
    top_k: SupportsIndex = 1,
) -> TrainingSets:
    """The training sets that Table 1 compares, sampled `repeats` times.

    Vanilla is n of the subject's frames, sampled without replacement. +RAF keeps the first n/2 of them and adds the
    bank's nearest neighbour, among other people, of each kept frame. This is the paper's "N/2 subject training
    expressions with N/2 nearest-neighbor expressions (for those sampled training frames)", read literally. Frames
    without a face (NaN) are left out everywhere.

    Raises RafError when the bank holds a target's frames, by name or by their vectors, or the subject's under another
    name, unless `allow_leak` (`leaked` counts those rows); when n is odd or larger than the training set; and for
    another width or (if given) feature space.

    Args:
        expression: the subject's training frames.
        subject: the subject's id.
        targets: the unseen drivers' frames, by name.
        bank: where neighbours are searched.
        n: size of a set, even; by default all detected frames (less one if odd), so that every Vanilla set is the same.
        repeats: how many pairs of sets are sampled.
        seed: seed of all random choices.
        feature_space: the features' space, compared with the bank's if given.
        allow_leak: whether a bank that holds frames of the targets is accepted.
        top_k: each neighbour is one of this many nearest, each equally likely (§5).
    """
    targets = targets if isinstance(targets, Mapping) else {"target": targets}
    own, targets = detected(expression), {name: detected(frames) for name, frames in targets.items()}
    people = {**targets, subject: np.concatenate([own, targets.get(subject, own[:0])])}
    leaks = refuse_leaks("training_sets: the bank", bank, people, allow_leak, excluded=subject)
    leaked = len(set().union(*(leak.rows.tolist() for leak in leaks)))
    n = len(own) // 2 * 2 if n is None else whole("training_sets: n", n)
    repeats, top_k = whole("training_sets: repeats", repeats), whole("training_sets: top_k", top_k, 1)
    if n < 2 or n % 2 or n > len(own) or repeats < 1:
        raise RafError(
            f"training_sets: n is {n} and repeats {repeats}, expected an even n from 2 to {len(own)} and repeats from 1"
        )
    rows = bank.search(own, k=top_k, exclude=subject, feature_space=feature_space)[1]
    neighbours = bank.features[rows.T.ravel()]  # the nearest of every frame, then the second of every frame, …
    random = np.random.default_rng(whole("seed", seed, 0))
    vanilla = [random.permutation(len(own))[:n] for _ in range(repeats)]
    which = random.integers(1, top_k + 1, (repeats, n // 2))
    raf = [
        np.concatenate([chosen[: n // 2], chosen[: n // 2] + len(own) * rank])
        for chosen, rank in zip(vanilla, which, strict=True)
    ]
    drivers = [frames for frames in targets.values() if len(frames)] or [own[:0]]
    return TrainingSets(subject, np.concatenate([own, neighbours]), vanilla, raf, drivers, leaked)


def table(sets: TrainingSets, components: SupportsIndex = 8, squared: bool = False) -> pandas.DataFrame:
    """One subject's row of Table 1 in long form, with the columns `COLUMNS`.

    `components` are the PCA components of KL; with `squared`, MMD² stands in place of its root. The paper leaves both
    open, as well as the n of `training_sets`.

    MMD's bandwidth is the target's median distance and KL's PCA the target's, so both methods share their rulers.

    `value` is the mean over the repeats. `change` is the share by which +RAF differs, value_raf / value_vanilla − 1
    (NaN in the rows of Vanilla, and where value_vanilla is not positive). Each has two 95 % intervals:

    * `draws_low` … `draws_high` and `change_draws_low` … `change_draws_high`, for **other random training sets**: the
      percentiles over the repeats, in which both methods keep the same frames.
    * `low` … `high` and `change_low` … `change_high`, for **other drivers**: what another set of as many people would
      give, for this subject's recording and this bank. NaN for one driver, and where a measure cannot be computed
      without one of the drivers, because the others have too few different frames.

    The second kind leaves out one driver at a time (`raflib.coverage.intervals.jackknife`). Everything is computed
    again, rulers included, for both methods on the same drivers and repeats, so the change's interval is a paired one.
    The standard error of the mean over repeats is added. No frame is counted twice, as a bootstrap would do: that makes
    every nearest neighbour and density look worse.
    """
    import pandas

    values = _measured(sets, components, squared)
    vanilla, raf = (_estimate(values[:, m].mean(1), values[0, m]) for m in range(2))
    means = values.mean(2)  # [S,2,K]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(means[:, 0] > 0, means[:, 1] / means[:, 0] - 1, np.nan)
        change_of_repeat = values[0, 1] / values[0, 0] - 1
    changes = {"vanilla": np.full_like(vanilla, np.nan), "raf": _estimate(change, change_of_repeat)}
    rows = [
        (sets.subject, method, metric, *estimate[:, k], *changes[method][:, k], sets.n, sets.leaked)
        for method, estimate in (("vanilla", vanilla), ("raf", raf))
        for k, metric in enumerate(METRICS)
    ]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def _measured(sets: TrainingSets, components: SupportsIndex, squared: bool) -> Float[np.ndarray, "S 2 R K"]:
    """The K metrics of Vanilla's and +RAF's set of each of R repeats, against S sets of drivers.

    The first set holds all D drivers. Where there are several, D more follow, each without one of them. A metric is NaN
    against those that have too few different frames for it; RafError where all drivers together have.
    """
    from threadpoolctl import threadpool_limits

    driver_sets = [sets.drivers]
    if len(sets.drivers) > 1:
        driver_sets += [sets.drivers[:d] + sets.drivers[d + 1 :] for d in range(len(sets.drivers))]
    values = np.empty((len(driver_sets), 2, len(sets.vanilla), len(METRICS)))
    with threadpool_limits(1):  # blocks of pairs are too small to share: threads would wait for each other
        for s, drivers in enumerate(tqdm(driver_sets, desc=f"coverage of {sets.subject}", unit="driver", delay=10)):
            measure = measures(sets.pool, np.concatenate(drivers), components, squared, partial=s > 0)
            values[s] = [[measure(rows) for rows in repeats] for repeats in (sets.vanilla, sets.raf)]
    return values


def _estimate(value: Float[np.ndarray, "S K"], by_repeat: Float[np.ndarray, "R K"]) -> Float[np.ndarray, "5 K"]:
    """A value against all drivers, its interval for other drivers and its interval for other random training sets.

    `value` holds the mean over repeats for each set of drivers of `_measured`, `by_repeat` the values of the first set.
    """
    noise = by_repeat.std(0) / np.sqrt(max(len(by_repeat) - 1, 1))
    return np.stack([value[0], *jackknife(value[0], value[1:], noise), *np.quantile(by_repeat, OUTER, axis=0)])


def further(sets: TrainingSets) -> pandas.DataFrame:
    """Further measures of the same sets: subject, method, effective_rank, precision, recall; means over the repeats.

    The row "drivers" has the effective rank of the drivers' frames, for comparison.
    """
    import pandas

    target = np.concatenate(sets.drivers)
    rows = []
    for method, draws in (("vanilla", sets.vanilla), ("raf", sets.raf)):
        values = [(effective_rank(sets.pool[r]), *precision_recall(sets.pool[r], target)) for r in draws]
        rows.append((sets.subject, method, *np.mean(values, axis=0)))
    rows.append((sets.subject, "drivers", effective_rank(target), np.nan, np.nan))
    return pandas.DataFrame(rows, columns=["subject", "method", "effective_rank", "precision", "recall"])
