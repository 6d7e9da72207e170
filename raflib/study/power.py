"""How many raters a study needs: simulated raters, and the width of an interval before anybody is asked.

A simulated rater names the nearest row with a probability that depends on the rater and on the question, so that
answers cluster as those of people do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int
from scipy.optimize import brentq
from scipy.special import expit

from raflib.errors import RafError, finite, whole
from raflib.study.format import SIDES, Answer, Study
from raflib.study.raters import OUTCOMES

POINT = 0.01
"""One percentage point."""


@dataclass(frozen=True)
class Crowd:
    """Simulated raters.

    Attributes:
        nearest: share of answers that name the nearest row, over all raters and questions.
        tie: share of ties.
        rater_spread, question_spread: standard deviations, over raters and over questions, of the log odds of naming
            the nearest row (normal distributions). 0: all alike.
    """

    nearest: float | int
    tie: float | int = 0.0
    rater_spread: float | int = 0.0
    question_spread: float | int = 0.0

    def __post_init__(self) -> None:
        for name, most in (("nearest", 1), ("tie", 1), ("rater_spread", 10), ("question_spread", 10)):
            finite(f"crowd: {name}", getattr(self, name), 0, most)
        if self.nearest + self.tie > 1:
            raise RafError(f"crowd: nearest {self.nearest} and tie {self.tie} are more than 1 together")

    def outcomes(
        self, question: Int[np.ndarray, " n"], rater: Int[np.ndarray, " n"], rng: np.random.Generator
    ) -> Int[np.ndarray, " n"]:
        """Random answers to questions by raters (codes from 0), as places in `OUTCOMES`."""
        by_question = self.question_spread * rng.standard_normal(int(question.max()) + 1)[question]
        by_rater = self.rater_spread * rng.standard_normal(int(rater.max()) + 1)[rater]
        named = expit(self._middle() + by_question + by_rater)
        tied = (1 - named) * (self.tie / (1 - self.nearest) if self.nearest < 1 else 0)
        chance = rng.random(len(question))
        return np.where(chance < named, 0, np.where(chance < named + tied, 1, 2))

    def _middle(self) -> float:
        """Log odds of the middle rater and question with which the mean over all of them is `nearest`."""
        points, weights = np.polynomial.hermite_e.hermegauss(60)
        spread = np.hypot(self.rater_spread, self.question_spread) * points

        def excess(middle: float) -> float:
            return float(weights @ expit(middle + spread) / weights.sum()) - self.nearest

        return float(brentq(excess, -60, 60)) if 0 < self.nearest < 1 else 80.0 * (2 * self.nearest - 1)


def simulated_answers(study: Study, raters: Iterable[str], crowds: dict[str, Crowd], seed: int = 0) -> list[Answer]:
    """Answers of simulated raters to whole lists of a study: one rater per list, from the first list on.

    `crowds` gives the behaviour for each axis. Attention checks are answered right. A name that begins with "observer:"
    keeps simulated answers apart from those of people.
    """
    truths, rng, answers = study.truths(), np.random.default_rng(seed), []
    asked = [
        (number, name, question)
        for number, (name, own) in enumerate(zip(raters, study.lists, strict=False))
        for question in own
    ]
    rater = np.array([number for number, _, _ in asked])
    place = {name: code for code, name in enumerate(truths)}
    question = np.array([place[each] for *_, each in asked])
    for axis, crowd in crowds.items():
        for (_, name, each), outcome in zip(asked, crowd.outcomes(question, rater, rng), strict=True):
            truth = truths[each]
            named = "nearest" if truth.kind == "attention" else OUTCOMES[outcome]
            side = truth.nearest if named == "nearest" else SIDES[truth.nearest == SIDES[0]]
            choice = "tie" if named == "tie" else side
            answers.append(Answer(study.id, name, each, axis, choice, 4000, "2026-01-01T00:00:00+00:00"))
    return answers


def half_width(
    value: float,
    questions: int,
    each: float | int,
    raters: float | int,
    question_share: float | int = 0.0,
    rater_share: float | int = 0.0,
) -> float:
    """Half of the 95 % interval that a study will have, as a share.

    Args:
        value: expected share.
        questions: number of questions of one comparison.
        each: raters who are asked each question.
        raters: number of raters, who share all answers evenly.
        question_share, rater_share: parts of an answer's variance that all answers to one question have in common, and
            all answers of one rater (intraclass correlations; `common_parts` measures them).
    """
    single = max(0.0, 1 - question_share - rater_share) / (questions * each)
    variance = value * (1 - value) * (single + question_share / questions + rater_share / raters)
    return 1.959964 * float(np.sqrt(variance))


def raters_needed(
    half: float,
    value: float,
    questions: int,
    each: float | int,
    question_share: float | int = 0.0,
    rater_share: float | int = 0.0,
) -> float:
    """Fewest raters for a 95 % interval of ± `half`; infinite where more raters cannot reach it with these questions.

    A rater answers at most every question once, so there are at least `each` raters. Other arguments as in
    `half_width`.
    """
    whole("power: questions", questions, 1)
    left = (half / 1.959964) ** 2 / (value * (1 - value))
    left -= max(0.0, 1 - question_share - rater_share) / (questions * each) + question_share / questions
    if left <= 0:
        return float("inf")
    return max(float(np.ceil(each)), float(np.ceil(rater_share / left)))


def common_parts(kept: pd.DataFrame, outcome: str = "nearest") -> dict[str, float]:
    """Parts of the variance of hits that answers to one question share, and answers of one rater, from real answers.

    Each is the mean product of deviations over pairs of answers with the same question (rater), over the variance;
    negative estimates count as 0. NaN where nobody answered two questions, or no question has two answers.
    """
    deviation = (kept.outcome == outcome).to_numpy(float)
    deviation -= deviation.mean()
    variance, parts = float((deviation**2).mean()), {}
    for name in ("question", "rater"):
        codes = pd.factorize(kept[name])[0]
        sums, counts = np.bincount(codes, deviation), np.bincount(codes)
        pairs = float((counts * (counts - 1)).sum())
        common = ((sums**2).sum() - (deviation**2).sum()) / pairs if pairs and variance else np.nan
        parts[name] = max(0.0, float(common) / variance) if np.isfinite(common) else float("nan")
    return parts
