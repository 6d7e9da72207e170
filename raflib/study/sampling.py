"""Which faces a study compares, and which rater is asked what.

Queries are random rows. In each feature space every query is asked in two comparisons (paper §3): the nearest row of
the whole bank against a random row, and against the nearest row of the small bank. Attention checks show the reference
itself beside a very different face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.study.format import SIDES, Truth

REFERENCE = -1
"""In place of a bank's row: the candidate is the reference itself."""
AWAY = 200
"""The other face of an attention check is the farthest of this many random rows."""


@dataclass(frozen=True)
class Comparison:
    """Two candidates for one query: `better` is the nearest row of the whole bank, or the right answer of a check."""

    space: str
    condition: str
    kind: str
    query: int
    better: int
    other: int

    def truth(self, name: str, better_left: bool) -> Truth:
        """The truth of question `name`, with `better` on the left or on the right."""
        sides = (self.better, self.other) if better_left else (self.other, self.better)
        return Truth(name, self.space, self.condition, self.kind, SIDES[not better_left], self.query, *sides)


def comparisons(
    bank: ExpressionBank, queries: ExpressionBank, chosen: Int[np.ndarray, " Q"], small: ExpressionBank, seed: int
) -> list[Comparison]:
    """Both comparisons of the chosen rows of `queries`, in the feature space of the bank.

    No candidate shows the query's person, and the random row shows a third person. The nearest row of the small bank
    may be of the same person as that of the whole bank: to exclude this person would make the small bank look worse
    than it is. Where both banks find the same row there is nothing to compare, and this comparison is left out.
    Raises RafError for a bank of too few people and a small bank with rows that `bank` does not hold.
    """
    who, space = queries.subjects[chosen], bank.feature_space
    asked = queries.in_space(space).features[chosen]
    nearest = bank.search(asked, exclude=who)[1][:, 0]
    fewer = _rows_in(bank, small)[small.in_space(space).search(asked, exclude=who)[1][:, 0]]
    random = _third_people(bank, who, nearest, seed)
    pairs = {"nearest_vs_random": random, "whole_vs_small": fewer}
    return [
        Comparison(space, condition, "real", int(query), int(best), int(other))
        for condition, others in pairs.items()
        for query, best, other in zip(chosen, nearest, others, strict=True)
        if best != other
    ]


def attention_checks(
    bank: ExpressionBank, queries: ExpressionBank, chosen: Int[np.ndarray, " C"], seed: int
) -> list[Comparison]:
    """Checks whose answer is known: the reference itself against the farthest of `AWAY` random rows of other people."""
    rng, checks = np.random.default_rng([seed, 3]), []
    features = queries.in_space(bank.feature_space).features
    for query in chosen.tolist():
        others = np.flatnonzero(np.asarray(bank.subjects) != str(queries.subjects[query]))
        some = rng.permutation(others)[:AWAY]
        far = some[np.linalg.norm(bank.features[some] - features[query], axis=1).argmax()]
        checks.append(Comparison("", "", "attention", query, REFERENCE, int(far)))
    return checks


def balanced_sides(compared: Sequence[Comparison], rng: np.random.Generator) -> np.ndarray:
    """Whether `better` is on the left, boolean: half of each kind, space and comparison, in random order."""
    left = np.zeros(len(compared), bool)
    groups: dict[tuple[str, str, str], list[int]] = {}
    for place, each in enumerate(compared):
        groups.setdefault((each.kind, each.space, each.condition), []).append(place)
    for places in groups.values():
        left[rng.permutation(places)[: (len(places) + int(rng.integers(2))) // 2]] = True
    return left


def rater_lists(
    real: Sequence[str], checks: Sequence[str], each: int, length: int, rng: np.random.Generator
) -> list[list[str]]:
    """Lists of questions for raters: a block design that asks each real question of exactly `each` raters.

    All questions are put in random order and split into lists of at most `length`, `each` times. So no list holds a
    question twice, and two lists share questions by chance only. One attention check follows every ten questions, at a
    random place that is not the first.
    """
    lists = []
    for _ in range(each):
        order = rng.permutation(np.asarray(real))
        for part in np.array_split(order, -(-len(order) // length)):
            own = part.tolist()
            for check in rng.permutation(np.asarray(checks))[: checks_in(len(own))].tolist():
                own.insert(int(rng.integers(1, len(own) + 1)), check)
            lists.append(own)
    return lists


def checks_in(length: int) -> int:
    """Number of attention checks in a list of `length` real questions."""
    return -(-length // 10)


def _rows_in(bank: ExpressionBank, part: ExpressionBank) -> Int[np.ndarray, " n"]:
    """Rows of `bank` that are the rows of `part`; RafError naming one that is not in the bank."""
    rows = {name: row for row, name in reversed(list(enumerate(_names(bank))))}
    names = _names(part)
    if absent := [name for name in names if name not in rows]:
        raise RafError(f"study: the small bank holds frame {absent[0]}, which the whole bank does not; restrict it")
    return np.array([rows[name] for name in names])


def _names(bank: ExpressionBank) -> list[tuple[str, str, int]]:
    """Person, sequence and frame of each row."""
    columns = (np.asarray(bank.subjects).tolist(), np.asarray(bank.sequence).tolist(), np.asarray(bank.frame).tolist())
    return list(zip(*columns, strict=True))


def _third_people(
    bank: ExpressionBank, who: np.ndarray, nearest: Int[np.ndarray, " Q"], seed: int
) -> Int[np.ndarray, " Q"]:
    """A random row for each query, of neither the query's person nor the nearest row's."""
    subjects, rng = np.asarray(bank.subjects), np.random.default_rng([seed, 1])
    for first, second in sorted(set(zip(who.tolist(), subjects[nearest].tolist(), strict=True))):
        if not set(bank.people) - {first, second}:
            raise RafError(f"study: the bank holds {len(bank.people)} people, expected one beside {first} and {second}")
    rows = rng.integers(len(bank), size=len(nearest))
    while len(wrong := np.flatnonzero((subjects[rows] == who) | (subjects[rows] == subjects[nearest]))):
        rows[wrong] = rng.integers(len(bank), size=len(wrong))
    return rows
