"""A bank's columns: what they must be, and columns of strings that fit millions of rows.

Needs only numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import DTypeLike

from raflib.errors import RafError, as_float32, numbers

COLUMNS = ("features", "subjects", "sequence", "frame", "rotation")


class Coded:
    """A read-only column of strings [N], kept as one number per row: `names[codes]`.

    It is used like an array of strings: `column[rows]` is such an array, and `column == "074"` is a boolean [N]. It
    has no hash, as arrays have none.
    `np.asarray(column)` makes all strings, at four bytes per letter.
    """

    ndim = 1

    def __init__(self, names: Sequence[str] | np.ndarray, codes: Int[np.ndarray, " N"]):
        self.names, self.codes = np.asarray(names, np.str_), codes

    @property
    def shape(self) -> tuple[int]:
        """(N,), like the shape of an array."""
        return (len(self.codes),)

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[np.str_]:
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, index: int | np.integer) -> np.str_: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray | Sequence[int]) -> np.ndarray: ...
    def __getitem__(self, index: int | np.integer | slice | np.ndarray | Sequence[int]) -> np.ndarray | np.str_:
        return self.names[self.codes[index]]

    def __eq__(self, name: object) -> np.ndarray:  # type: ignore[override]  # one boolean per row, as arrays give
        if not isinstance(name, str):
            return np.asarray(self) == name
        return np.isin(self.codes, np.flatnonzero(self.names == name))

    def __ne__(self, name: object) -> np.ndarray:  # type: ignore[override]  # one boolean per row, as arrays give
        return ~(self == name)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def checked(
    features: object, subjects: object, sequence: object, frame: object, rotation: object = None
) -> dict[str, np.ndarray]:
    """A bank's columns as read-only copies of the right type.

    Raises RafError when they differ in length, a feature or rotation is not finite, or there is no row.
    """
    columns = {"features": np.array(as_float32("bank: features", features), order="C")}
    count = len(columns["features"]) if columns["features"].ndim else 0
    if columns["features"].ndim != 2 or 0 in columns["features"].shape:
        raise RafError(f"bank: features of shape {columns['features'].shape}, expected [N, d] and at least one row")
    check_finite(columns["features"], "bank: row")
    for name, text in {"subjects": subjects, "sequence": sequence}.items():
        columns[name] = np.asarray(_texts(f"bank: {name}", text), np.str_)
    numbered = numbers("bank: frame", frame, "iu")
    if numbered.size and numbered.max() > np.iinfo(np.int64).max:
        raise RafError(f"bank: frame holds {numbered.max()}, expected whole numbers below 2^63")
    columns["frame"] = np.array(numbered, np.int64)
    for name, column in columns.items():
        if (name != "features" and column.ndim != 1) or len(column) != count:
            raise RafError(f"bank: {name} has shape {column.shape}, expected one entry a row ({count})")
    if rotation is not None:
        columns["rotation"] = turned = np.array(as_float32("bank: rotation", rotation), order="C")
        if turned.shape != (count, 3) or not np.isfinite(turned).all():
            raise RafError(f"bank: rotation of shape {turned.shape}, expected finite [{count}, 3] or None")
    for column in columns.values():
        column.flags.writeable = False
    return columns


def _texts(what: str, given: object) -> list[str]:
    """A column of names as a list; RafError for masked entries, numbers, and letters that arrays or files lose."""
    if np.ma.is_masked(given):
        raise RafError(f"{what} has masked entries; leave these rows out")
    listed = names(what, given)
    for name in set(listed):
        if any(letter < " " or "\ud800" <= letter <= "\udfff" for letter in name):
            raise RafError(f"{what} must be names without control characters, got {name!r}")
    return listed


def row_indexes(rows: object, count: int) -> Int[np.ndarray, " n"]:
    """Rows of a bank of `count` rows, from indexes or a mask; RafError for rows out of range or repeated."""
    kept = numbers("bank: rows", rows, "iub")
    if kept.dtype == bool and kept.shape == (count,):
        kept = np.flatnonzero(kept)
    if kept.ndim != 1 or (kept.size and (kept.dtype.kind not in "iu" or kept.min() < 0 or kept.max() >= count)):
        raise RafError(f"bank: rows must be indexes from 0 to {count - 1} or a mask of {count} booleans")
    if len(np.unique(kept)) != len(kept):
        raise RafError("bank: rows holds the same index twice; give each row once")
    return kept


def check_finite(features: Float[np.ndarray, "N d"], what: str) -> None:
    """Raises RafError naming the first row that holds NaN or infinity."""
    if len(broken := np.flatnonzero(~np.isfinite(features).all(1))):
        raise RafError(f"{what} {broken[0]} holds NaN or infinity; use detected frames only")


def check_space(held: tuple[str, int], given: tuple[str | None, int], what: str) -> None:
    """Raises RafError unless the (feature space, width) of `what` is the bank's; a space of None is not compared."""
    if (given[0] or held[0], given[1]) != held:
        raise RafError(
            f"the bank holds {held[0]} features of width {held[1]} and {what} {given[0] or 'unnamed'} features of "
            f"width {given[1]}; choose another `bank`, or other `features` of the captures"
        )


def names(what: str, given: object) -> list[str]:
    """One name or several as a list; RafError for anything that is not a string."""
    listed: list[str] = []
    for name in [given] if isinstance(given, str) or not isinstance(given, Iterable) else given:
        if not isinstance(name, str):
            raise RafError(f"{what} must be strings such as '074', got {name!r}")
        listed.append(name)
    return listed


def plain(provenance: Mapping[str, object]) -> dict[str, str]:
    """A bank's provenance as text."""
    return {str(key): str(value) for key, value in provenance.items()}
