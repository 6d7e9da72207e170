"""The training set that a sampler gives, measured as in Table 1, without any training.

The set holds what a sampler returns when it is called once for every training frame, so all samplers' sets have the
same size. It is compared with unseen drivers (`raflib.coverage`) and with the frames' head rotations
(`raflib.coverage.pose`). `sets_of` gives Table 1's own sets for a RAF that searches in another feature space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from raflib import coverage
from raflib.bank.leaks import refuse_leaks
from raflib.capture import Capture, shown, shown_spaces
from raflib.coverage.pairs import detected
from raflib.coverage.pose import centred, pose_correlation, pose_r2
from raflib.coverage.table1 import TrainingSets
from raflib.errors import RafError
from raflib.sampler.base import Conditioner, Recording, Sampler
from raflib.sampler.raf import RAF

if TYPE_CHECKING:
    import pandas

MEASURES = ("mmd", "kl", "b2t", "pose_r2", "pose_r", "displacement", "expected_p", "people")


def given_vectors(condition: Conditioner, frames: Int[np.ndarray, " N"], seed: int) -> Float[np.ndarray, "N d"]:
    """The expression vectors that the conditioner returns for `frames`, sampled once."""
    return condition(torch.from_numpy(np.asarray(frames)), torch.Generator().manual_seed(seed)).numpy()


def compare_samplers(
    samplers: Mapping[str, Sampler],
    capture: Capture,
    targets: Mapping[str, Float[np.ndarray, "M d"]],
    repeats: int = 10,
    seed: int = 0,
    allow_leak: bool = False,
    progress: bool = True,
) -> pandas.DataFrame:
    """Each sampler's training set for one subject: subject, method, metric, value, low, high, n.

    * `mmd`, `kl`, `b2t`: distances to the pooled `targets` (drivers by name; rows of undetected frames, which are NaN,
      are left out), with the target's bandwidth and PCA;
    * `pose_r2`: how well a frame's head rotation is predicted from the vector given for it (`pose_r2`, by sequence);
    * `pose_r`: correlation of the frame's rotation with that of the first neighbour's frame, each less its person's
      mean, where there are neighbours and the bank has rotations;
    * `displacement`: mean distance between the given vector and the frame's own, over frames where they differ;
    * `expected_p`: how often they differ; `people`: how many different people's rows can be sampled.

    `value` is the mean over `repeats` and `low`, `high` the 2.5th and 97.5th percentiles, equal where nothing is
    random. Measures that do not apply are NaN. Raises RafError as the samplers' `bind` does, and when a bank holds a
    target's frames, unless `allow_leak`.
    """
    import pandas

    if repeats < 1 or not targets:
        raise RafError(f"compare_samplers: repeats is {repeats} for {len(targets)} targets; expected 1 or more of both")
    frames = np.flatnonzero(capture.train)
    targets = {name: detected(vectors) for name, vectors in targets.items()}
    people, checked = {**targets, capture.subject: capture.expression[capture.detected]}, set()
    measure = _Measures(np.concatenate(list(targets.values())), capture, frames)
    rows = []
    for method, sampler in tqdm(samplers.items(), desc=f"samplers, {capture.subject}", disable=not progress):
        bank = getattr(sampler, "bank", None)
        if bank is not None and bank.checksum not in checked:
            refuse_leaks("compare_samplers: the bank", bank, people, allow_leak, excluded=capture.subject)
            checked.add(bank.checksum)
        condition = sampler.bind(
            shown(capture), capture.subject, capture.feature_space, capture.pose, shown_spaces(capture)
        )
        fixed = measure.of_sampler(condition)
        times = repeats if condition.chance.any() else 1
        sampled = [measure.of_vectors(given_vectors(condition, frames, seed + i)) for i in range(times)]
        for metric in MEASURES:
            values = np.array([{**fixed, **random}[metric] for random in sampled], dtype=np.float64)
            low, high = np.quantile(values, (0.025, 0.975))
            rows.append((capture.subject, method, metric, values.mean(), low, high, len(frames)))
    return pandas.DataFrame(rows, columns=["subject", "method", "metric", "value", "low", "high", "n"])


def sets_of(
    sampler: RAF, capture: Capture, targets: Mapping[str, Float[np.ndarray, "M d"]], repeats: int = 20, seed: int = 0
) -> TrainingSets:
    """The sets that Table 1 compares (`raflib.coverage.training_sets`), with the neighbours that `sampler` finds.

    They are searched in its space `search`, and the vectors are the bank's `features` in any case. The same frames and
    ranks are sampled, whatever the space. Raises RafError as `training_sets` and `RAF.bind` do.
    """
    own = capture.expression[capture.train]
    sets = coverage.training_sets(
        own, capture.subject, targets, sampler.bank, repeats=repeats, seed=seed, top_k=sampler.top_k,
        feature_space=capture.feature_space,
    )  # fmt: skip
    if sampler.search in ("", sampler.bank.feature_space):
        return sets
    seen = Recording(shown(capture), capture.subject, capture.feature_space, capture.pose, shown_spaces(capture))
    rows = sampler.nearest(seen, sampler.top_k)[1]
    return replace(sets, pool=np.concatenate([own, sampler.bank.features[rows.T.ravel()]]))  # in the order of the pool


class _Measures:
    """The measures of `compare_samplers`, with everything that all samplers share computed once."""

    def __init__(self, target: Float[np.ndarray, "M d"], capture: Capture, frames: Int[np.ndarray, " N"]):
        self.target, self.bandwidth = target, coverage.median_distance(target)
        self.own, self.rotation = capture.expression[frames], capture.pose[frames, :3].astype(np.float64)
        self.sequence = capture.sequence[frames]

    def of_vectors(self, given: Float[np.ndarray, "N d"]) -> dict[str, float]:
        """The measures of one training set: the vectors given for the subject's frames."""
        moved = np.linalg.norm(given - self.own, axis=1)
        return {
            "mmd": coverage.mmd(given, self.target, self.bandwidth),
            "kl": coverage.kl(given, self.target),
            "b2t": coverage.b2t(given, self.target),
            "pose_r2": pose_r2(given, self.rotation, self.sequence)["all"],
            "displacement": float(moved[moved > 0].mean()) if moved.any() else np.nan,
        }

    def of_sampler(self, condition: Conditioner) -> dict[str, float]:
        """The measures of a sampler that are the same for all its random training sets."""
        known = condition.summary()
        bank, neighbours = getattr(condition, "bank", None), getattr(condition, "neighbours", None)
        correlation = np.nan
        if bank is not None and neighbours is not None and bank.rotation is not None:
            turned = centred(bank.rotation, np.asarray(bank.subjects))[neighbours[condition.detected, 0]]
            correlation = pose_correlation(self.rotation, turned)["all"]
        people = known.get("distinct_people", np.nan)
        return {"pose_r": correlation, "expected_p": known["expected_p"], "people": people}
