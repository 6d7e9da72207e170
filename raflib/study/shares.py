"""Preference shares with intervals that respect repeated raters and queries, and a test against chance.

Answers of one rater resemble each other, and so do answers about one question. An interval that counts every answer as
a new piece of information is then too narrow. Here the variance of a mean comes from two-way clusters (Cameron, Gelbach
and Miller 2011): over questions, plus over raters, minus over single answers. The Wilson interval is then computed with
the number of independent answers that would have this variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from raflib.coverage.intervals import student
from raflib.errors import RafError
from raflib.study.raters import OUTCOMES

FLIPS = 9999
"""Random sign flips of the test against chance."""


@dataclass(frozen=True)
class Share:
    """A share, its 95 % interval, and `effective`, the number of independent answers that tell as much."""

    value: float
    low: float
    high: float
    effective: float


def share(hits: Bool[np.ndarray, " n"], question: Int[np.ndarray, " n"], rater: Int[np.ndarray, " n"]) -> Share:
    """Share of `hits` among answers, with a Wilson interval for other questions and other raters.

    `question` and `rater` are codes from 0. Clusters of a single question or rater give no information about others:
    then the interval holds for these only. With few clusters, Student's quantile replaces the normal one. RafError for
    no answer.
    """
    count = len(hits)
    if not count:
        raise RafError("share: there is no answer, expected at least one")
    value = float(np.mean(hits))
    alone = value * (1 - value) / count
    variance, freedom = -alone, []
    for codes in (question, rater):
        sums = np.bincount(codes, weights=hits - value)
        clusters = int((np.bincount(codes) > 0).sum())
        if clusters > 1:
            variance += (sums**2).sum() / count**2 * clusters / (clusters - 1)
            freedom.append(clusters - 1)
        else:
            variance += alone
    effective = count * min(1.0, alone / variance) if alone > 0 and variance > 0 else float(count)
    low, high = wilson(value, effective, student(min(freedom)) if freedom else 1.959964)
    return Share(value, low, high, effective)


def wilson(value: float | int, count: float | int, z: float | int = 1.959964) -> tuple[float, float]:
    """Wilson's interval of a share `value` of `count` independent answers; `z` is the quantile, 95 % by default."""
    centre = (value + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(value * (1 - value) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def against_chance(
    nearest: Float[np.ndarray, " n"], question: Int[np.ndarray, " n"], seed: int = 0, flips: int = FLIPS
) -> float:
    """Two-sided p-value of the hypothesis that raters cannot tell which candidate is the nearest.

    `nearest` is +1 for an answer that names the nearest row, −1 for the other one and 0 for a tie. The study chose the
    side of the nearest row at random for each question. Under the hypothesis all answers to a question would therefore
    change their sign together if the sides were chosen again. The test flips the signs of whole questions at random, so
    it stays valid whatever raters have in common, such as a preferred side. (`make_study` also balances the sides,
    which makes the test cautious when raters prefer a side.) The smallest p-value is 1 / (flips + 1).
    """
    sums = np.bincount(question, weights=nearest)
    sums, rng, reached = sums[sums != 0], np.random.default_rng(seed), 0
    for start in range(0, flips, 1000):
        signs = rng.integers(0, 2, (min(1000, flips - start), len(sums)), np.int8) * 2 - 1
        reached += int((np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9).sum())
    return (1 + reached) / (1 + flips)


def preferences(kept: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The numbers of Figure 3: one row per group, feature space, comparison and axis.

    `kept` is the table of `raters.counted`. Columns: `answers`, `questions`, `raters`; the shares `nearest`, `tie` and
    `other`, which sum to 1; `decided`, the share of the nearest row among answers that are no tie; each with `_low` and
    `_high`; and `p`, against chance. No column counts ties as half for each side.
    """
    rows = []
    for keys, part in kept.groupby(["group", "space", "condition", "axis"], sort=True):
        question, rater = (pd.factorize(part[name])[0] for name in ("question", "rater"))
        outcome = part.outcome.to_numpy()
        row: dict[str, object] = dict(zip(("group", "space", "condition", "axis"), keys, strict=True))
        row |= {"answers": len(part), "questions": int(question.max()) + 1, "raters": int(rater.max()) + 1}
        found = {name: share(outcome == name, question, rater) for name in OUTCOMES}
        decided = outcome != "tie"
        if decided.any():
            codes = (pd.factorize(each[decided])[0] for each in (question, rater))
            found["decided"] = share(outcome[decided] == "nearest", *codes)
        for name in (*OUTCOMES, "decided"):
            each = found.get(name, Share(np.nan, np.nan, np.nan, 0.0))
            row |= {name: each.value, f"{name}_low": each.low, f"{name}_high": each.high}
        signs = (outcome == "nearest").astype(float) - (outcome == "other")
        rows.append({**row, "p": against_chance(signs, question, seed)})
    return pd.DataFrame(rows)
