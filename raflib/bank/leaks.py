"""Finds frames in a bank of the people that an avatar is trained for or evaluated with: by name, and by vectors.

Scores of an avatar that was trained with its driver's own frames are too good. `find_leaks` compares a bank with people
by their ids and by their vectors, so it also finds a renamed person and rows from another bank. It takes half a second
for 83,000 rows. Training, evaluation and coverage call it through `refuse_leaks`. The module needs only numpy and, from
`raflib`, files and errors.

Vectors are compared after rounding to half precision, in which banks are shipped. A vector and its half-precision copy
round to the same numbers, so copies are found whichever of the two was saved in half precision. No tolerance is needed
that unrelated frames could fall within. A frame tracked again from other images is another vector. Rows whose numbers
are all the same (a neutral face in spaces where that is zero) belong to nobody and never count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt64

from raflib.bank.columns import Coded
from raflib.errors import RafError, as_float32
from raflib.reading import Array, read_arrays, seal_of
from raflib.runs import write_arrays

if TYPE_CHECKING:
    from raflib.bank.bank import ExpressionBank

WHAT, MOST_BYTES = "fingerprints of the run's bank", 2**31
STORED = {"subjects": Array("U", "N"), "sequence": Array("U", "N"), "row": Array("u", "N"), "checksum": Array("U", "")}


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What is needed to recognise a bank's rows: a hundredth of its size, without any expression.

    Attributes:
        subjects, sequence: [N] the bank's columns.
        row: [N] 64 bits of each vector, as `fingerprints` gives them; 0 belongs to nobody.
        checksum: the bank's.
    """

    subjects: np.ndarray | Coded
    sequence: np.ndarray | Coded
    row: UInt64[np.ndarray, " N"]
    checksum: str

    @classmethod
    def of(cls, bank: ExpressionBank) -> Fingerprints:
        """The fingerprints of all rows of a bank."""
        return cls(bank.subjects, bank.sequence, fingerprints(bank.features), bank.checksum)

    def save(self, path: str | Path) -> None:
        """Write the fingerprints as a compressed .npz, atomically and without pickle; RafError for too many rows."""
        kept = {name: np.asarray(getattr(self, name)) for name in STORED}
        arrays = {**kept, "seal": np.array(seal_of(kept))}
        write_arrays(path, arrays, WHAT, "take a bank of fewer rows", MOST_BYTES)

    @classmethod
    def load(cls, path: str | Path) -> Fingerprints:
        """The fingerprints saved at `path`; RafError names the file when it is missing or damaged."""
        wanted = {**STORED, "seal": Array("U", "")}
        stored = read_arrays(path, wanted, WHAT, "train the run again", MOST_BYTES)
        if str(stored.pop("seal")) != seal_of(stored):
            raise RafError(f"{path}: damaged fingerprints of a bank (not what was saved); train the run again")
        return cls(stored["subjects"], stored["sequence"], stored["row"], str(stored["checksum"]))


@dataclass(frozen=True, eq=False)
class Leak:
    """One person who is in a bank and should not be.

    Attributes:
        subject: the person's id.
        by: how the person was found, "name" or "vectors".
        rows: [R] the rows of the bank.
        held_as: the names that the bank gives these rows.
        sequences: how many of the rows are of each of the bank's sequences.
    """

    subject: str
    by: str
    rows: Int[np.ndarray, " R"]
    held_as: tuple[str, ...]
    sequences: Mapping[str, int]

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.sequences.items())
        if self.by == "name":
            return f"{self.subject} by name ({len(self.rows)} rows: {counts})"
        return f"{self.subject} under the name {', '.join(self.held_as)} ({len(self.rows)} equal vectors: {counts})"


def find_leaks(
    bank: ExpressionBank | Fingerprints,
    people: Mapping[str, Float[np.ndarray, "M d"] | None],
    excluded: str | None = None,
) -> list[Leak]:
    """The leaks of `people` in the bank; an empty list if there are none.

    `people` holds for each id the vectors that must not be in the bank, or None if they are not known. A person leaks
    by name when the id is among the bank's people, and by vectors when rows under other names equal theirs. Rows named
    `excluded`, which `ExpressionBank.search` leaves out, do not count. Vectors that are not finite (frames without a
    face) are skipped.
    """
    held = bank if isinstance(bank, Fingerprints) else Fingerprints.of(bank)
    searched = held.subjects != excluded if excluded is not None else np.ones(len(held.row), bool)
    leaks = []
    for subject, vectors in people.items():
        named = held.subjects == subject
        leaks.append(_leak(held, subject, "name", np.flatnonzero(named & searched)))
        if vectors is not None:
            own = fingerprints(vectors)
            equal = np.isin(held.row, own[own != 0])
            leaks.append(_leak(held, subject, "vectors", np.flatnonzero(equal & ~named & searched)))
    return [leak for leak in leaks if len(leak.rows)]


def refuse_leaks(
    what: str,
    bank: ExpressionBank | Fingerprints,
    people: Mapping[str, Float[np.ndarray, "M d"] | None],
    allow: bool,
    excluded: str | None = None,
) -> list[Leak]:
    """`find_leaks`; unless `allow`, leaks raise a RafError that begins with `what` and names them all."""
    leaks = find_leaks(bank, people, excluded)
    if leaks and not allow:
        names = sorted({name for leak in leaks for name in leak.held_as})
        raise RafError(
            f"{what} holds frames of {'; '.join(map(str, leaks))}; take them out with bank.restrict(exclude={names}), "
            "or pass allow_leak=True to go on all the same"
        )
    return leaks


def fingerprints(features: Float[np.ndarray, "N d"]) -> UInt64[np.ndarray, " N"]:
    """64 bits of each row, rounded to half precision; 0 for rows that are not finite or whose numbers are all the same.

    Rows too large for half precision can have no such copy; their float32 numbers are used.
    """
    features = as_float32("fingerprints: features", features)
    if features.ndim != 2:
        raise RafError(f"fingerprints: features of shape {features.shape}, expected [N, d]")
    with np.errstate(over="ignore", invalid="ignore"):
        half = features.astype(np.float16)
    whole = np.all(np.isfinite(half), axis=1)
    codes = np.where(whole, _mix(half), _mix(features))
    rounded = np.where(whole[:, None], half, features)
    telling = np.isfinite(features).all(1) & (rounded != rounded[:, :1]).any(1)
    return np.where(telling, np.maximum(codes, np.uint64(1)), np.uint64(0))


def _mix(values: np.ndarray) -> UInt64[np.ndarray, " N"]:
    """A 64-bit hash of each row: multiply and fold, column by column. Rows that differ in one column never collide."""
    count, width = values.shape
    bits = (values + values.dtype.type(0)).view(f"u{values.dtype.itemsize}")  # −0 becomes 0
    code = np.full(count, width, np.uint64)
    for column in range(width):
        code = (code ^ bits[:, column]) * np.uint64(0x9E3779B97F4A7C15)  # the golden ratio's bits: odd, and irregular
        code ^= code >> np.uint64(32)
    return code


def _leak(held: Fingerprints, subject: str, by: str, rows: Int[np.ndarray, " R"]) -> Leak:
    """The leak of one person in `rows`, which may be empty."""
    counts = Counter(held.sequence[rows].tolist())
    return Leak(subject, by, rows, tuple(np.unique(held.subjects[rows]).tolist()), dict(counts.most_common()))
