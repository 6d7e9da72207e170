"""How good is *nearest*? Retrieval measured where the truth is known.

A neighbour is near in tracked features. What RAF needs is that its *true* expression is near. Between a random row and
the truly nearest one, retrieval covers a share of the way:

    share = (random − found) / (random − nearest)

with mean L2 distances in the truth from queries to random rows, to the rows that were found, and to the truly nearest
rows, all among other people. A share of 0 is a random row, 1 is perfect retrieval. Pure functions on arrays: the truth
may be facial actions, head rotations or anything else with a distance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from raflib.bank import ExpressionBank
from raflib.coverage.pairs import nearest_distance, samples
from raflib.errors import RafError, whole


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
    random = np.mean([np.linalg.norm(others - query, axis=1).mean() for query in queries])
    return float(random), float(nearest_distance(queries, others).mean())


def retrieval_table(
    bank: ExpressionBank,
    truth: Float[np.ndarray, "N a"],
    sizes: Iterable[int] = (),
    ks: Iterable[int] = (1, 5),
    queries: int = 50,
    seed: int = 0,
    subjects: Iterable[str] | None = None,
) -> pd.DataFrame:
    """Each person of a bank in turn as the subject, the others as the bank: one row a person, bank size and k.

    Args:
        bank: people whose truth is known.
        truth: of each row.
        sizes: numbers of other people in the bank, chosen at random for each subject; all of them by default.
        ks: numbers of neighbours.
        queries: random rows of each subject that are queries.
        seed: of all random choices; those of a person depend on the seed and the name only.
        subjects: the people who take a turn as the subject; all by default.

    Returns columns `subject`, `people`, `k`, `found`, `random`, `nearest`, `share`. Raises RafError for a bank of fewer
    than two people, a truth of another length, and a size or subject that the bank does not have.
    """
    sizes = sorted({whole("retrieval: size", size, 1) for size in sizes} or {len(bank.people) - 1})
    if len(bank.people) < 2 or sizes[-1] >= len(bank.people):
        raise RafError(f"retrieval: {sizes[-1]} other people asked for, the bank holds {len(bank.people)} in all")
    if len(truth) != len(bank):
        raise RafError(f"retrieval: a truth of {len(truth)} rows for a bank of {len(bank)}")
    turns = bank.people if subjects is None else tuple(subjects)
    if absent := sorted(set(turns) - set(bank.people)):
        raise RafError(f"retrieval: no rows of subject {absent[0]!r}; see bank.people for whom it holds")
    who, records, ks = np.asarray(bank.subjects), [], list(ks)
    for person in turns:
        rng = np.random.default_rng([seed, *person.encode()])
        own = np.sort(rng.permutation(np.flatnonzero(who == person))[:queries])
        order = rng.permutation([name for name in bank.people if name != person])
        for size in sizes:
            kept = np.flatnonzero(np.isin(who, order[:size]))
            asked, held = samples(truth[own], truth[kept])
            rows, ends = bank.restrict(rows=kept).search(bank.features[own], max(ks))[1], _ends(asked, held)
            for k in ks:
                told = Retrieval(_found(asked, held, rows[:, :k]), *ends)
                records.append({"subject": person, "people": size, "k": k, **vars(told), "share": told.share})
    return pd.DataFrame(records)
