"""One row a person: the nearest people of a face instead of its nearest rows. Needs only numpy and a bank."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from jaxtyping import Float, Int

from raflib.errors import RafError, whole

if TYPE_CHECKING:
    from raflib.bank.bank import ExpressionBank


def nearest_people(
    bank: ExpressionBank, queries: Float[np.ndarray, "Q d"], k: SupportsIndex, exclude: str | None = None
) -> tuple[Float[np.ndarray, "Q k"], Int[np.ndarray, "Q k"]]:
    """(distances, rows): for each query the k people other than `exclude` with the nearest row, and that row of each.

    Nearest person first, equal distances by row. Nearest rows come in bursts, several of one moment of one person, so
    more and more of them are asked for until there are k people among them. Raises RafError as
    `ExpressionBank.search` does, and for fewer than k people.
    """
    k = whole("nearest people: k", k, 1)
    others = [person for person in bank.people if person != exclude]
    if len(others) < k:
        raise RafError(f"nearest people: {k} people asked for, the bank holds {len(others)} besides {exclude!r}")
    available = len(bank) - int((bank.subjects == exclude).sum())
    distances, rows = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    waiting, width = np.arange(len(queries)), 8 * k
    while len(waiting):
        found = bank.search(queries[waiting], min(width, available), exclude)
        first = [np.sort(np.unique(bank.subjects[line], return_index=True)[1])[:k] for line in found[1]]
        for place, query in enumerate(waiting):
            if len(first[place]) == k:
                distances[query], rows[query] = (part[place, first[place]] for part in found)
        waiting, width = waiting[[len(places) < k for places in first]], 4 * width
    return distances, rows
