"""How good is *nearest*? Retrieval measured where the truth is known.

A neighbour is near in tracked features. What RAF needs is that its *true* expression is near. Between a random row and
the truly nearest one, retrieval covers a share of the way:

    share = (random − found) / (random − nearest)

with mean L2 distances in the truth from queries to random rows, to the rows that were found, and to the truly nearest
rows, all among other people. A share of 0 is a random row, 1 is perfect retrieval. Pure functions on arrays: the truth
may be facial actions, head rotations or anything else with a distance.

`retrieval_tables` compares several ways of searching on the same queries, with several truths. `taken_in_turn` makes
the searches, for distances that must be measured otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from raflib.bank.columns import Coded
from raflib.bank.exact import Table, search
from raflib.coverage.intervals import of_median
from raflib.coverage.pairs import samples
from raflib.errors import RafError, whole

BLOCK = 64
"""Queries whose distances to all rows are in memory at once."""


@dataclass(frozen=True)
class Retrieval:
    """Mean distances in the truth from the queries: to the rows `found`, to a `random` row, to the `nearest` row."""

    found: float
    random: float
    nearest: float

    @property
    def share(self) -> float:
        """The share of the way from a random row to the truly nearest one; NaN where there is no way."""
        way = self.random - self.nearest
        return (self.random - self.found) / way if way > 0 else float("nan")


def retrieval(
    queries: Float[np.ndarray, "Q a"],
    truth: Float[np.ndarray, "N a"],
    rows: np.ndarray,
    allowed: np.ndarray | None = None,
) -> Retrieval:
    """How near the found `rows` are in the truth.

    Args:
        queries: truth of the queries.
        truth: truth of the bank's rows.
        rows: [Q,k] bank rows that were found for each query; with k > 1 their mean distance counts.
        allowed: [N] boolean, the rows of other people; all rows by default.

    Raises RafError for other shapes, NaN, rows that are not allowed, and no allowed row.
    """
    queries, truth = samples(queries, truth)
    allowed = np.ones(len(truth), bool) if allowed is None else np.asarray(allowed, bool)
    rows = np.asarray(rows)
    if rows.ndim != 2 or len(rows) != len(queries) or not rows.size:
        raise RafError(f"retrieval: rows have shape {rows.shape}, expected [{len(queries)}, k]")
    if rows.min() < 0 or rows.max() >= len(truth) or not allowed[rows].all():
        raise RafError("retrieval: a row is outside the bank, or of a person who is not allowed; search with `exclude`")
    return Retrieval(_found(queries, truth, rows), *_ends(queries, truth[allowed]))


def _found(queries: Float[np.ndarray, "Q a"], truth: Float[np.ndarray, "N a"], rows: np.ndarray) -> float:
    """Mean distance from the queries to the rows [Q,k]."""
    return float(np.linalg.norm(truth[rows] - queries[:, None], axis=2).mean())


def _ends(queries: Float[np.ndarray, "Q a"], others: Float[np.ndarray, "N a"]) -> tuple[float, float]:
    """Mean distances from the queries to a random and to the nearest one of `others`."""
    from scipy.spatial.distance import cdist

    random, nearest = np.empty(len(queries)), np.empty(len(queries))
    for start in range(0, len(queries), BLOCK):
        distances = cdist(queries[start : start + BLOCK], others)
        random[start : start + BLOCK], nearest[start : start + BLOCK] = distances.mean(1), distances.min(1)
    return float(random.mean()), float(nearest.mean())


@dataclass(frozen=True, eq=False)
class Turn:
    """One person of a bank as the subject, others as the bank. All rows are rows of the whole bank.

    Attributes:
        subject: the person whose rows are queries.
        people: number of other people in the bank.
        own: [Q] the queries.
        others: [M] the rows of the other people.
        found: [Q,k] the nearest of `others` to each query, nearest first, for each way of searching.
    """

    subject: str
    people: int
    own: Int[np.ndarray, " Q"]
    others: Int[np.ndarray, " M"]
    found: dict[str, Int[np.ndarray, "Q k"]]


def taken_in_turn(
    features: Mapping[str, Float[np.ndarray, "N _"]],
    subjects: np.ndarray | Coded,
    sizes: Iterable[int] = (),
    k: int = 1,
    queries: int = 50,
    seed: int = 0,
    asked: Sequence[str] | None = None,
) -> Iterator[Turn]:
    """Each person in turn as the subject, for each number of other people in `sizes`, smallest first.

    Args:
        features: of the bank's rows, for each way of searching.
        subjects: [N] whose rows they are.
        sizes: numbers of other people, chosen at random for each subject; a larger choice contains the smaller ones.
            All of them by default.
        k: number of neighbours.
        queries: random rows of each subject.
        seed: of all random choices; those of a person depend on the seed and the name only.
        asked: the subjects; everybody by default.

    Raises RafError for fewer than two people, and a size that the bank does not have.
    """
    subjects = np.asarray(subjects)
    people = np.unique(subjects).tolist()
    sizes = sorted({whole("retrieval: size", size, 1) for size in sizes} or {len(people) - 1})
    if len(people) < 2 or sizes[-1] >= len(people):
        raise RafError(f"retrieval: {sizes[-1]} other people asked for, the bank holds {len(people)} in all")
    columns = {name: np.ascontiguousarray(rows, np.float32) for name, rows in features.items()}
    for person in people if asked is None else asked:
        rng = np.random.default_rng([seed, *person.encode()])
        own = np.sort(rng.permutation(np.flatnonzero(subjects == person))[:queries])
        order = rng.permutation([name for name in people if name != person])
        for size in sizes:
            others = np.flatnonzero(np.isin(subjects, order[:size]))
            found = {
                name: others[search(Table.of(rows[others], subjects[others]), rows[own], k, None)[1]]
                for name, rows in columns.items()
            }
            yield Turn(person, size, own, others, found)


def retrieval_tables(
    features: Mapping[str, Float[np.ndarray, "_ _"]],
    truths: Mapping[str, Float[np.ndarray, "_ _"]],
    subjects: np.ndarray | Coded,
    sizes: Iterable[int] = (),
    ks: Iterable[int] = (1, 5),
    queries: int = 50,
    seed: int = 0,
    asked: Sequence[str] | None = None,
) -> pd.DataFrame:
    """`taken_in_turn`, measured in each of `truths`: one row a person, bank size, way of searching, truth and k.

    Returns columns `search` and `truth` (their names), `subject`, `people`, `k`, `found`, `random`, `nearest`, `share`.
    The arguments are those of `taken_in_turn`; `ks` are numbers of neighbours. Raises RafError as it does, and for
    features or a truth of another length.
    """
    for name, rows in {**features, **truths}.items():
        if len(rows) != len(subjects):
            raise RafError(f"retrieval: {name} of {len(rows)} rows for a bank of {len(subjects)}")
    ks, records, truths = list(ks), [], {name: np.asarray(values, np.float64) for name, values in truths.items()}
    for turn in taken_in_turn(features, subjects, sizes, max(ks), queries, seed, asked):
        for truth, values in truths.items():
            here, there = samples(values[turn.own], values[turn.others])
            ends = _ends(here, there)
            for name, rows in turn.found.items():
                for k in ks:
                    told = Retrieval(_found(here, values, rows[:, :k]), *ends)
                    about = {"search": name, "truth": truth, "subject": turn.subject, "people": turn.people, "k": k}
                    records.append({**about, **vars(told), "share": told.share})
    return pd.DataFrame(records)


def over_people(table: pd.DataFrame, by: Sequence[str] = ("search", "truth", "people", "k")) -> pd.DataFrame:
    """`retrieval_tables` over subjects: medians of `found`, `random`, `nearest` and `share`, indexed by `by`.

    `low` and `high` are the 95 % interval of the median share for other subjects (`raflib.coverage.intervals`), and
    `subjects` is their number.
    """
    groups = table.groupby(list(by), sort=False)
    medians = groups[["found", "random", "nearest", "share"]].median()
    ends = [of_median(group.share.to_numpy())[1:] for _, group in groups]
    return medians.assign(
        low=[low for low, _ in ends], high=[high for _, high in ends], subjects=groups.subject.nunique()
    )
