"""Approximate search, for banks in which comparing with every row takes too long; its recall is always measured.

    fast = approximate(bank, kind="ivf")        prints and keeps the recall against the exact search
    distances, rows = fast.search(queries, k=5, exclude="422")

There are two faiss indexes. "ivf" sorts rows into √N cells around centres and searches `effort` cells per query. "hnsw"
walks a graph of near rows and keeps `effort` candidates. Distances of the proposed rows are computed again in float64,
and rows are ordered by distance and row as in exact search. Rows of excluded people are never returned. A query for
which the index proposes fewer than k rows is searched exactly. Indexes are built and queried with one thread, so that
the same bank gives the same answers. An index copies the features into memory: N × (4 d + 8) bytes for "ivf", and
N × (4 d + 272) for "hnsw".
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Float, Int

from raflib.bank import exact
from raflib.bank.bank import ExpressionBank
from raflib.errors import RafError, whole

KINDS = ("ivf", "hnsw")
EFFORT = {"ivf": 32, "hnsw": 256}
LINKS, BUILDING = 32, 80  # of hnsw: neighbours kept per row, candidates kept while building
PER_CELL = 64  # rows per cell that its centre is learned from
ADDED = 2**18  # rows added to an index at once
MARGIN = 8  # rows that the index proposes beyond k, for the ranking in float64


@dataclass(frozen=True, eq=False)
class ApproximateSearch:
    """A faiss index over a bank, from `approximate`.

    Attributes:
        bank: the bank that is searched.
        kind, effort: as given to `approximate`.
        index: the faiss index.
        seconds: how long the index took to build.
        recall: for each k, the share of the exact k nearest rows that were found.
        sampled: how many rows of the bank were queries for `recall`, each without rows of its own person.
    """

    bank: ExpressionBank
    kind: str
    effort: int
    index: Any = field(repr=False)
    seconds: float
    recall: dict[int, float]
    sampled: int

    def search(
        self,
        queries: Float[np.ndarray, "Q d"],
        k: SupportsIndex = 1,
        exclude: str | Iterable[str] | None = None,
        feature_space: str | None = None,
    ) -> tuple[Float[np.ndarray, "Q k"], Int[np.ndarray, "Q k"]]:
        """(distances, rows) as `ExpressionBank.search` returns them, but some of the nearest may be missing."""
        queries = self.bank._checked_queries(queries, feature_space)
        squared, rows = _search(self.bank._table, self.kind, self.index, self.effort, queries, k, exclude)
        return np.sqrt(squared), rows

    def summary(self) -> str:
        """One line about the index: kind, effort, building time and recall."""
        found = ", ".join(f"{100 * share:.1f} % of the nearest {k}" for k, share in self.recall.items())
        return (
            f"approximate search ({self.kind}, effort {self.effort}) in {len(self.bank)} rows, built in "
            f"{self.seconds:.1f} s: finds {found} (measured on {self.sampled} rows)"
        )


def approximate(
    bank: ExpressionBank,
    kind: str = "ivf",
    effort: SupportsIndex | None = None,
    sample: SupportsIndex = 200,
    seed: SupportsIndex = 0,
    quiet: bool = False,
) -> ApproximateSearch:
    """An index over the bank, with its recall measured on random rows of at most 20 people.

    Raises RafError for another kind or an effort below 1.

    Args:
        bank: the bank to search.
        kind: "ivf" or "hnsw".
        effort: how many cells ("ivf", default 32) or candidates ("hnsw", default 256) a query looks at. A larger effort
            finds more rows in proportionally more time. "hnsw" needs more than an excluded person's number of rows.
        sample: how many random rows are queries when recall is measured.
        seed: seed of all random choices.
        quiet: whether the summary is not printed.
    """
    if kind not in KINDS:
        raise RafError(f"approximate: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    effort = whole("approximate: effort", EFFORT[kind] if effort is None else effort, 1, 2**31 - 1)
    sample, seed = whole("approximate: sample", sample, 1), whole("approximate: seed", seed, 0, 2**31 - 2)
    if bank._table.largest > exact.HUGE:
        raise RafError("approximate: features this large overflow in float32; scale them, or use bank.search")
    start = time.perf_counter()
    with _one_thread():
        index = _build(bank._table, kind, seed)
    seconds = time.perf_counter() - start
    queries, owners = _sample(bank, sample, seed)
    recall = {}
    for k in (1, 10):
        if k > len(bank) - max(stop - start for start, stop in bank._table.spans.values()):
            continue
        expected = exact.search(bank._table, queries, k, owners)[1]
        found = _search(bank._table, kind, index, effort, queries, k, owners)[1]
        recall[k] = float(np.mean([len(np.intersect1d(*rows)) / k for rows in zip(found, expected, strict=True)]))
    built = ApproximateSearch(bank, kind, effort, index, seconds, recall, len(queries))
    if not quiet:
        print(built.summary())
    return built


def _build(table: exact.Table, kind: str, seed: int) -> Any:
    """Build the faiss index; its ids are lines of the table."""
    import faiss

    count, width = table.features.shape
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(width, LINKS)
        index.hnsw.efConstruction = BUILDING
    else:
        cells = min(2 ** round(np.log2(max(count, 2)) / 2), count)
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells)
        index.cp.seed, index.cp.niter, index.cp.min_points_per_centroid = seed + 1, 10, 1
        chosen = np.random.default_rng(seed).permutation(count)[: PER_CELL * cells]
        index.train(np.ascontiguousarray(table.features[np.sort(chosen)]))
    for first in range(0, count, ADDED):
        index.add(np.ascontiguousarray(table.features[first : first + ADDED]))
    return index


def _search(
    table: exact.Table,
    kind: str,
    index: Any,
    effort: int,
    queries: np.ndarray,
    k: SupportsIndex,
    exclude: str | Iterable[str] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """(squared distances [Q,k], rows [Q,k]), searched in the index."""
    import faiss

    k, asked = exact.check_k(k), exact.groups(exclude, len(queries))
    for subject, _ in asked:
        exact.check_enough(k, exact.available(table.without(subject)), subject)
    squared, rows = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    for subject, members in asked:
        own = None if subject is None else table.spans.get(subject)
        others = faiss.IDSelectorNot(faiss.IDSelectorRange(*own)) if own else None
        if kind == "ivf":
            how = faiss.SearchParametersIVF(sel=others, nprobe=effort)
        else:
            how = faiss.SearchParametersHNSW(sel=others, efSearch=max(effort, k + MARGIN))
        for batch in np.array_split(members, -(-len(members) // exact.BATCH)):
            with _one_thread():
                lines = index.search(queries[batch], k + MARGIN, params=how)[1]
            missing, lines = lines < 0, np.maximum(lines, 0)
            far = exact.squared_distances(queries[batch, None], table.features[lines])
            far[missing] = np.inf
            squared[batch], rows[batch] = exact.rank(far, table.rows(lines), k)
            if len(short := batch[(~missing).sum(1) < k]):
                squared[short], rows[short] = exact.search(table, queries[short], k, subject)
    return squared, rows


def _sample(bank: ExpressionBank, count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """(features, people) of random rows; few people, because queries with one excluded person are searched together."""
    random = np.random.default_rng(seed)
    people = random.permutation(list(bank.people))[:20].tolist()
    spans = [bank._table.spans[name] for name in people]
    lines = np.concatenate([np.arange(*span) for span in spans])
    chosen = random.permutation(len(lines))[:count]
    owners = np.repeat(people, [stop - start for start, stop in spans])[chosen]
    return np.ascontiguousarray(bank._table.features[lines[chosen]]), owners.tolist()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let faiss use one thread, because several would add rows in another order each time."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
