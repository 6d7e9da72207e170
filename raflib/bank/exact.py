"""Exact nearest rows among other people: the same answer on any machine and with any number of threads.

faiss proposes a few more rows than needed, in float32, and their distances are computed again in float64. By faiss's
arithmetic, a row that it left out is at least as far as the last row that it proposed. The largest rounding error of
that arithmetic is known. Rows that are nearer than the last proposed one by more than this error are therefore proved
to be the nearest. The few queries without that proof are scanned in float64. A table is never copied, so it may be a
memory-mapped file.

The nearest row x of a query q has the largest q·x − |x|²/2, so a table keeps −|x|²/2 as one column more and faiss looks
for the largest product with (q, 1): one multiplication of matrices and nothing else. Needs numpy, and faiss when a
search begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import SupportsIndex

import numpy as np
from jaxtyping import Float, Float32, Int

from raflib.bank.columns import names
from raflib.errors import RafError, whole

BATCH = 8192  # queries at once, at most
GATHERED = 2**25  # coordinates of proposed rows in memory at once
ROWS = 8192  # rows at once in the float64 scan, so that they fit a core's cache
UNDERFLOW = 64 * float(np.finfo(np.float32).tiny)  # a coordinate's share of what squares too small for float32 lose
HUGE = 1e37  # squared lengths up to here are safe from overflow in float32
MARGIN = 4  # rows that faiss proposes beyond k, so that its float32 ranking can be proved


@dataclass(frozen=True, eq=False)
class Table:
    """Features sorted by person, each person's rows in ascending order.

    Attributes:
        lines: [N,d+1] the features x of a row and −|x|²/2.
        order: [N] the row number of each line; None where lines are in the order of rows.
        spans: each person's lines, from (included) and to (excluded).
        largest: the largest |x|².
    """

    lines: Float32[np.ndarray, "N c"]
    order: Int[np.ndarray, " N"] | None
    spans: dict[str, tuple[int, int]]
    largest: float

    @classmethod
    def of(cls, features: Float32[np.ndarray, "N d"], subjects: np.ndarray) -> Table:
        """The table of rows in any order: a copy, sorted by person."""
        people, code = np.unique(subjects, return_inverse=True)
        order = np.argsort(code, kind="stable")
        edges = np.searchsorted(code[order], np.arange(len(people) + 1)).tolist()
        spans = {name: (edges[i], edges[i + 1]) for i, name in enumerate(people.tolist())}
        lines, largest = with_lengths(features[order])
        return cls(lines, order, spans, largest)

    @property
    def features(self) -> Float32[np.ndarray, "N d"]:
        """The features of each line."""
        return self.lines[:, :-1]

    def without(self, subject: str | None) -> list[tuple[int, int]]:
        """The lines of everybody else: from and to of at most two ranges."""
        start, stop = (0, 0) if subject is None else self.spans.get(subject, (0, 0))
        return [part for part in ((0, start), (stop, len(self.lines))) if part[0] < part[1]]

    def rows(self, lines: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Row numbers of lines."""
        return lines if self.order is None else self.order[lines]


def with_lengths(features: Float32[np.ndarray, "N d"]) -> tuple[Float32[np.ndarray, "N c"], float]:
    """(a table's lines of these features, the largest squared length)."""
    squared = np.einsum("nd,nd->n", features, features, dtype=np.float64)
    with np.errstate(over="ignore"):
        return np.column_stack([features, (squared / -2).astype(np.float32)]), float(squared.max())


def available(parts: list[tuple[int, int]]) -> int:
    """The number of lines in the ranges."""
    return sum(stop - start for start, stop in parts)


def search(
    table: Table, queries: Float32[np.ndarray, "Q d"], k: SupportsIndex, exclude: str | Iterable[str] | None
) -> tuple[Float[np.ndarray, "Q k"], Int[np.ndarray, "Q k"]]:
    """(squared distances, row numbers) of each query's k nearest rows among people other than `exclude`, ties by row.

    Raises RafError when fewer than k rows remain, and for a list of `exclude` that is not one string a query.
    """
    k, asked = check_k(k), groups(exclude, len(queries))
    for subject, _ in asked:
        check_enough(k, available(table.without(subject)), subject)
    squared, rows = np.empty((len(queries), k)), np.empty((len(queries), k), dtype=np.int64)
    at_once = max(1, min(BATCH, GATHERED // (2 * (k + MARGIN) * queries.shape[1])))
    with _cache_sized_blocks():
        for subject, members in asked:
            parts = table.without(subject)
            for batch in np.array_split(members, -(-len(members) // at_once)):
                squared[batch], rows[batch] = _nearest(table, parts, queries[batch], k)
    return squared, rows


def check_k(k: SupportsIndex) -> int:
    """k as an int; RafError for anything but a whole number of at least 1."""
    return whole("search: k", k, 1)


def check_enough(k: int, rows: int, subject: str | None) -> None:
    """Raises RafError when there are fewer than k rows."""
    if rows < k:
        raise RafError(f"search: k is {k}, the bank has {rows} rows without {subject!r}; add people or lower k")


def groups(exclude: str | Iterable[str] | None, count: int) -> list[tuple[str | None, Int[np.ndarray, " n"]]]:
    """Queries grouped by the person they exclude: [(subject, indexes of the queries)]."""
    if count == 0:
        return []
    if exclude is None or isinstance(exclude, str):
        return [(exclude, np.arange(count))]
    listed = names("exclude", exclude)
    if len(listed) != count:
        raise RafError(f"search: exclude names {len(listed)} subjects, expected one string or one for each of {count}")
    unique, code = np.unique(listed, return_inverse=True)
    return [(name, np.flatnonzero(code == i)) for i, name in enumerate(unique.tolist())]


def squared_distances(queries: np.ndarray, rows: np.ndarray) -> Float[np.ndarray, "..."]:
    """Squared distances along the last axis in float64; all comparisons of this module use this definition."""
    difference = queries.astype(np.float64) - rows
    return (difference * difference).sum(-1)


def rank(
    squared: Float[np.ndarray, "... n"], rows: Int[np.ndarray, "... n"], k: int
) -> tuple[Float[np.ndarray, "... k"], Int[np.ndarray, "... k"]]:
    """The k smallest distances and their rows along the last axis; equal distances are ordered by row."""
    order = np.lexsort((rows, squared), axis=-1)[..., :k]
    return np.take_along_axis(squared, order, -1), np.take_along_axis(rows, order, -1)


def _nearest(table: Table, parts: list[tuple[int, int]], queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """`search` among the lines of `parts`."""
    import faiss

    lengths = squared_distances(queries, np.zeros_like(queries[0]))
    augmented = np.column_stack([queries, np.ones(len(queries), np.float32)])
    proposed, reached = [], np.full(len(queries), np.inf)
    for start, stop in parts:
        width = min(k + MARGIN, stop - start)
        products, found = faiss.knn(augmented, table.lines[start:stop], width, faiss.METRIC_INNER_PRODUCT)
        if width < stop - start:
            reached = np.minimum(reached, lengths - 2 * products[:, -1].astype(np.float64))
        proposed.append(start + np.maximum(found, 0))
    reached[np.maximum(lengths, table.largest) > HUGE] = -np.inf  # float32 may overflow: leave it to the exact scan
    lines = np.concatenate(proposed, axis=1)
    squared, rows = rank(squared_distances(queries[:, None], table.features[lines]), table.rows(lines), k)
    # A row faiss left out is at `reached` or more by its arithmetic. The k found are right if even the largest
    # rounding error a nearer row could have suffered would not have carried it that far.
    reach = 2 * np.sqrt(lengths) + np.sqrt(squared[:, -1])
    safe = reached > squared[:, -1] + _rounding(queries.shape[1], np.float32) * reach**2 + UNDERFLOW * queries.shape[1]
    if len(doubtful := np.flatnonzero(~safe)):
        # The k-th proposed row bounds the distance, unless an overflow left gaps among the proposed.
        limits = np.where(reached == -np.inf, np.inf, squared[:, -1])[doubtful]
        squared[doubtful], rows[doubtful] = _scan(table, parts, queries[doubtful], k, limits)
    return squared, rows


def _rounding(width: int, dtype: type) -> float:
    """Largest error of |q|² − 2 (q·x − |x|²/2) in units of (|q| + |x|)²: twice the usual bound for such sums."""
    return (width + 8) * float(np.finfo(dtype).eps)


def _scan(
    table: Table, parts: list[tuple[int, int]], queries: np.ndarray, k: int, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Exact search in float64, for the few queries whose neighbours float32 cannot tell apart.

    `limits` are squared distances that the k-th row is known not to exceed.
    """
    queries = queries.astype(np.float64)
    squared = np.full((len(queries), k), np.inf)
    rows = np.full((len(queries), k), np.iinfo(np.int64).max)
    for start, stop in parts:
        for first in range(start, stop, ROWS):
            lines = np.arange(first, min(first + ROWS, stop))
            features = table.features[lines].astype(np.float64)
            norms = (features * features).sum(1)
            for i, query in enumerate(queries):
                norm = query @ query
                error = _rounding(len(query), np.float64) * (np.sqrt(norm) + np.sqrt(norms)) ** 2
                limit = min(limits[i], squared[i, -1])
                near = np.flatnonzero(norms + norm - 2 * (features @ query) - error <= limit)
                exact = squared_distances(query, features[near])
                both = np.append(squared[i], exact), np.append(rows[i], table.rows(lines[near]))
                squared[i], rows[i] = rank(*both, k)
    return squared, rows


_blocks_lock, _blocks_users, _blocks_before = Lock(), 0, (0, 0)


@contextmanager
def _cache_sized_blocks() -> Iterator[None]:
    """Let faiss multiply in blocks that fit a core's cache, also for small batches: faster, with the same results.

    The setting is the whole process's. When several threads search at once, the last one to end restores it.
    """
    from faiss import cvar

    global _blocks_users, _blocks_before
    with _blocks_lock:
        if _blocks_users == 0:
            _blocks_before = cvar.distance_compute_blas_query_bs, cvar.distance_compute_blas_threshold
            cvar.distance_compute_blas_query_bs, cvar.distance_compute_blas_threshold = 1024, 1
        _blocks_users += 1
    try:
        yield
    finally:
        with _blocks_lock:
            _blocks_users -= 1
            if _blocks_users == 0:
                cvar.distance_compute_blas_query_bs, cvar.distance_compute_blas_threshold = _blocks_before
