"""What a sampler feeds an avatar: the training set it amounts to, measured as table 1 measures one.

A training set here is what a sampler gives when every training frame is asked for once: as many vectors for every
sampler. It is compared with unseen drivers (`raflib.coverage`), and with the heads that the frames show
(`raflib.coverage.pose`). Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from raflib import coverage
from raflib.bank.leaks import refuse_leaks
from raflib.capture import Capture, shown
from raflib.coverage.pose import centred, pose_correlation, pose_r2
from raflib.errors import RafError
from raflib.sampler.raf import Conditioner, Sampler

if TYPE_CHECKING:
    import pandas

MEASURES = ("mmd", "kl", "b2t", "pose_r2", "pose_r", "displacement", "expected_p", "people")


def fed(condition: Conditioner, frames: Int[np.ndarray, " N"], seed: int) -> Float[np.ndarray, "N d"]:
    """What the conditioner gives for each of `frames`, drawn once."""
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

    * `mmd`, `kl`, `b2t`: to the pooled `targets` (drivers by name), with one bandwidth and one PCA, the target's;
    * `pose_r2`: how well the head's rotation in a frame is predicted from what is fed for it (`pose_r2`, by sequence);
    * `pose_r`: correlation of the frame's rotation with that of the first neighbour's frame, each less its person's
      mean, where there are neighbours and the bank has rotations;
    * `displacement`: mean distance of what is fed from the frame's own expression, where it is another;
    * `expected_p`: how often it is another; `people`: how many different people's rows can be drawn.

    `value` is the mean over `repeats` draws and `low`, `high` the 2.5th and 97.5th percentiles, equal where nothing is
    random; NaN where a measure does not apply. Raises RafError as the samplers' `bind` does, and when a bank holds a
    target's frames, unless `allow_leak`.
    """
    import pandas

    if repeats < 1 or not targets:
        raise RafError(f"compare_samplers: repeats is {repeats} for {len(targets)} targets; expected 1 or more of both")
    frames = np.flatnonzero(capture.train)
    people, checked = {**targets, capture.subject: capture.expression[capture.detected]}, set()
    measure = _Measures(np.concatenate(list(targets.values())), capture, frames)
    rows = []
    for method, sampler in tqdm(samplers.items(), desc=f"samplers, {capture.subject}", disable=not progress):
        bank = getattr(sampler, "bank", None)
        if bank is not None and bank.checksum not in checked:
            refuse_leaks("compare_samplers: the bank", bank, people, allow_leak, excluded=capture.subject)
            checked.add(bank.checksum)
        condition = sampler.bind(shown(capture), capture.subject, capture.feature_space, capture.pose)
        fixed = measure.of(condition)
        drawn = [
            measure.drawn(fed(condition, frames, seed + i)) for i in range(repeats if condition.chance.any() else 1)
        ]
        for metric in MEASURES:
            values = np.array([{**fixed, **draw}[metric] for draw in drawn], dtype=np.float64)
            low, high = np.quantile(values, (0.025, 0.975))
            rows.append((capture.subject, method, metric, values.mean(), low, high, len(frames)))
    return pandas.DataFrame(rows, columns=["subject", "method", "metric", "value", "low", "high", "n"])


class _Measures:
    """Everything that is the same for all samplers, computed once."""

    def __init__(self, target: Float[np.ndarray, "M d"], capture: Capture, frames: Int[np.ndarray, " N"]):
        self.target, self.bandwidth = target, coverage.median_distance(target)
        self.own, self.rotation = capture.expression[frames], capture.pose[frames, :3].astype(np.float64)
        self.sequence = capture.sequence[frames]

    def drawn(self, given: Float[np.ndarray, "N d"]) -> dict[str, float]:
        """Of one training set."""
        moved = np.linalg.norm(given - self.own, axis=1)
        return {
            "mmd": coverage.mmd(given, self.target, self.bandwidth),
            "kl": coverage.kl(given, self.target),
            "b2t": coverage.b2t(given, self.target),
            "pose_r2": pose_r2(given, self.rotation, self.sequence)["all"],
            "displacement": float(moved[moved > 0].mean()) if moved.any() else np.nan,
        }

    def of(self, condition: Conditioner) -> dict[str, float]:
        """Of a sampler, whatever is drawn."""
        known = condition.summary()
        bank, correlation = getattr(condition, "bank", None), np.nan
        if bank is not None and bank.rotation is not None:
            turned = centred(bank.rotation, bank.subjects)[condition.neighbours[condition.detected, 0]]
            correlation = pose_correlation(self.rotation, turned)["all"]
        people = known.get("distinct_people", np.nan)
        return {"pose_r": correlation, "expected_p": known["expected_p"], "people": people}
