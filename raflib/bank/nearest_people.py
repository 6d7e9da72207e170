"""Search for the nearest people of a face instead of its nearest rows. Needs only numpy and a bank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from jaxtyping import Float, Int

from raflib.errors import RafError, whole

if TYPE_CHECKING:
    from raflib.bank.bank import ExpressionBank


def nearest_people(
    bank: ExpressionBank, queries: Float[np.ndarray, "Q d"], k: SupportsIndex, exclude: str | None = None
) -> tuple[Float[np.ndarray, "Q k"], Int[np.ndarray, "Q k"]]:
    """(distances, rows): for each query the k people other than `exclude` with the nearest rows, and each one's row.

    The nearest person comes first, and equal distances are ordered by row. Many of the nearest rows are often of one
    moment of one person. The search is therefore repeated with more rows until they are of k people. Raises RafError as
    `ExpressionBank.search` does, and for fewer than k people.
    """
    k = whole("nearest people: k", k, 1)
    others = [person for person in bank.people if person != exclude]
    if len(others) < k:
        raise RafError(f"nearest people: {k} people asked for, the bank holds {len(others)} besides {exclude!r}")
    available = len(bank) - int(np.sum(bank.subjects == exclude))
    distances, rows = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    waiting, width = np.arange(len(queries)), 8 * k
    while len(waiting):
        found = bank.search(queries[waiting], min(width, available), exclude)
        first = [first_of_each(bank.subjects[line])[:k] for line in found[1]]
        for place, query in enumerate(waiting):
            if len(first[place]) == k:
                distances[query], rows[query] = (part[place, first[place]] for part in found)
        waiting, width = waiting[[len(places) < k for places in first]], 4 * width
    return distances, rows


def first_of_each(people: Sequence[str] | np.ndarray) -> Int[np.ndarray, " P"]:
    """The place in `people` [n] where each person's name comes first, in ascending order."""
    return np.sort(np.unique(people, return_index=True)[1])
