"""The expression bank: expression features of many people, saved safely and searched exactly (paper §4.2).

A bank is a frozen table of `features` [N,d]. Each row has its person (`subjects`), `sequence` and `frame`. All rows are
of one named `feature_space`, and searching with features of another space is an error. Rows may carry features of
further `spaces` (`raflib.bank.spaces`). `search` is the argmin of §4.1: exact Euclidean nearest rows among *other*
people, with equal distances ordered by row. Its answer is the same on any machine and with any number of threads. The
module needs only numpy, faiss and, from `raflib`, files and errors. `raflib.bank` tells what to do with more rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from jaxtyping import Float, Int

from raflib.bank import exact, files
from raflib.bank.columns import COLUMNS, Coded, check_finite, check_space, checked, names, plain, row_indexes
from raflib.bank.drawing import draw_frames
from raflib.bank.folder import write_columns
from raflib.bank.header import StoredColumns
from raflib.bank.spaces import Spaces, checked_spaces, joined, seen_in, taken
from raflib.errors import RafError, as_float32, whole
from raflib.reading import checked_file, damage_named

if TYPE_CHECKING:
    from raflib.capture import Capture

IN_MEMORY = 2_000_000  # rows that a bank on the disk copies into memory, at most


@dataclass(frozen=True, eq=False, init=False)
class ExpressionBank:
    """Expression features of many people: one row per frame, read-only.

    Raises RafError when the columns differ in length, a feature or rotation is not finite, or there is no row.

    Attributes:
        features: [N,d] float32.
        subjects, sequence, frame: [N] the person, recording and frame number of each row.
        feature_space: name of the features' space, such as "arkit52".
        provenance: where the rows come from, as text by name.
        rotation: [N,3] head rotations if known: axis-angle in radians, in the axes of `raflib.geometry` (x to the
            image's right, y down, z away). Their zero differs from person to person, so compare them within a person.
        spaces: further features of the same rows, [N,d2] float32 by tag; read-only, and none by default.
    """

    features: Float[np.ndarray, "N d"]
    subjects: np.ndarray | Coded
    sequence: np.ndarray | Coded
    frame: Int[np.ndarray, " N"]
    feature_space: str
    provenance: Mapping[str, str]
    rotation: Float[np.ndarray, "N 3"] | None
    spaces: Spaces

    def __init__(
        self,
        features: Float[np.ndarray, "N d"],
        subjects: Sequence[str] | np.ndarray | Coded,
        sequence: Sequence[str] | np.ndarray | Coded,
        frame: Sequence[int] | np.ndarray,
        feature_space: str,
        provenance: Mapping[str, object] | None = None,
        rotation: np.ndarray | None = None,
        spaces: Spaces | None = None,
    ):
        if not isinstance(feature_space, str) or not feature_space:
            raise RafError(f"bank: feature_space is {feature_space!r}, expected a name such as 'arkit52'")
        provenance = {} if provenance is None else provenance
        if not isinstance(provenance, Mapping):
            raise RafError(f"bank: provenance is a {type(provenance).__name__}, expected a dict")
        columns = checked(features, subjects, sequence, frame, rotation)
        further = checked_spaces({} if spaces is None else spaces, feature_space, len(columns["features"]))
        known = {"feature_space": feature_space, "provenance": plain(provenance), "spaces": further}
        for name, value in {"rotation": None, **columns, **known}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def build(
        cls, captures: Iterable[Capture], per_subject: SupportsIndex = 200, seed: SupportsIndex = 0
    ) -> ExpressionBank:
        """A bank of `per_subject` random detected frames of each capture, without replacement (paper §4.2, §5).

        All frames of a person with fewer detected ones are taken. The choice depends on `seed` and the subject only, so
        adding people does not change other people's rows. Further spaces of the captures are taken too, and only
        frames that have them. Raises RafError for an empty list, a person given twice, mixed feature spaces or widths,
        further spaces that not all captures have, and features that are not finite where a face was detected.
        """
        per_subject, seed = whole("per_subject", per_subject, 1), whole("seed", seed, 0)
        columns, spaces, space, people = draw_frames(captures, per_subject, seed)
        draw = {"per_subject": per_subject, "seed": seed, "people": people}
        return cls(**columns, feature_space=space, provenance=draw, spaces=spaces)

    def restrict(
        self,
        subjects: str | Iterable[str] | None = None,
        rows: Sequence[int] | np.ndarray | None = None,
        exclude: str | Iterable[str] | None = None,
    ) -> ExpressionBank:
        """The bank with fewer rows: those that are of `subjects`, at `rows` and not of `exclude`.

        `rows` are indexes, kept in the order given, or a boolean mask. Excluding a person who is not in the bank
        changes nothing. Raises RafError for `subjects` that are not in the bank, rows out of range or repeated, and
        when no row is left.
        """
        kept = np.arange(len(self)) if rows is None else row_indexes(rows, len(self))
        if subjects is not None:
            wanted = names("subjects", subjects)
            if absent := sorted(set(wanted) - set(self.people)):
                raise RafError(f"bank: no rows of subject {absent[0]!r}; see .people for whom it holds")
            kept = kept[self._of(wanted, kept)]
        if exclude is not None:
            kept = kept[~self._of(names("exclude", exclude), kept)]
        if not len(kept):
            raise RafError("bank: restrict leaves no row; ask for less")
        columns, spaces = self._columns(kept), taken(self.spaces, kept)
        origin = {**self.provenance, "restricted_from": self.checksum[:16]}
        return ExpressionBank(**columns, feature_space=self.feature_space, provenance=origin, spaces=spaces)

    def merge(self, other: ExpressionBank) -> ExpressionBank:
        """Both banks' rows, this one's first; rotations and further spaces where both have them.

        Raises RafError for different feature spaces or widths, or a person in both.
        """
        check_space(self._space, (other.feature_space, other.features.shape[1]), "the other bank")
        if both := sorted(set(self.people) & set(other.people)):
            raise RafError(f"bank: subject {both[0]!r} is in both banks; restrict(exclude=...) one of them first")
        mine, theirs = self._columns(), other._columns()
        columns = {name: np.concatenate([mine[name], theirs[name]]) for name in mine if name in theirs}
        merged = {"merged_from": f"{self.checksum[:16]} {other.checksum[:16]}"}
        spaces = joined(self.spaces, other.spaces)
        return ExpressionBank(**columns, feature_space=self.feature_space, provenance=merged, spaces=spaces)

    def with_space(self, tag: str, features: np.ndarray) -> ExpressionBank:
        """The bank with further features [N,d2] of its rows under `tag`, in place of those that it has there.

        Raises RafError for the tag of its own `features`, another number of rows, and NaN or infinity.
        """
        return replace(self, spaces={**self.spaces, tag: features})

    def in_space(self, tag: str) -> ExpressionBank:
        """The same rows with `features` of the space `tag`; the present features become one of its `spaces`.

        It is the bank itself for its own feature space. Raises RafError for a space that the bank does not have.
        """
        if tag not in self._seen:
            self._seen[tag] = seen_in(self, tag)
        return self._seen[tag]

    @cached_property
    def _seen(self) -> dict[str, ExpressionBank]:
        return {self.feature_space: self}

    def _columns(self, rows: Int[np.ndarray, " n"] | slice = slice(None)) -> dict[str, np.ndarray]:
        """The columns of some rows, in memory."""
        return {name: column[rows] for name in COLUMNS if (column := getattr(self, name)) is not None}

    def _of(self, subjects: Iterable[str], rows: Int[np.ndarray, " n"]) -> np.ndarray:
        """Whether each of the rows is of one of these people, boolean [n]."""
        return np.isin(self.subjects[rows], list(subjects))

    @property
    def _space(self) -> tuple[str, int]:
        return self.feature_space, self.features.shape[1]

    def save(self, path: str | Path, half: bool = False) -> None:
        """Write the bank as a compressed .npz: no pickle, checksummed, atomic.

        `half` rounds features to float16 (half the size, relative error 5e-4); `load` returns float32 in both cases.
        Raises RafError where the file cannot be written or would exceed 4 GiB, or float16 cannot hold a feature.
        """
        columns, spaces = self._columns(), dict(self.spaces)
        if half:
            columns, spaces = files.halved(columns), files.halved(spaces)
        stored = ExpressionBank(**columns, spaces=spaces, feature_space=self.feature_space, provenance=self.provenance)
        files.write(path, columns, spaces, self.feature_space, stored.provenance, stored.checksum)

    @classmethod
    def load(cls, path: str | Path) -> ExpressionBank:
        """The bank saved at `path`: a file of `save`, or a folder of `write_mapped`, which stays on the disk.

        Raises RafError naming a path that is missing, damaged, foreign or of another format.
        """
        path = Path(path)
        if path.is_dir():
            return MappedBank(path)
        checked_file(path, files.WHAT, files.REMEDY, files.MOST_BYTES)
        with damage_named(path, files.WHAT, files.REMEDY):
            columns, spaces, space, provenance, checksum = files.read(path)
            bank = cls(**columns, feature_space=space, provenance=provenance, spaces=spaces)
            if bank.checksum != checksum:
                raise ValueError("its checksum differs")
        return bank

    @cached_property
    def checksum(self) -> str:
        """sha256 over columns, feature spaces and provenance; it does not depend on a file's compression."""
        return files.checksum_of(self)

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def people(self) -> tuple[str, ...]:
        """The names of all people in the bank, sorted."""
        return tuple(np.unique(self.subjects).tolist())

    def search(
        self,
        queries: Float[np.ndarray, "Q d"],
        k: SupportsIndex = 1,
        exclude: str | Iterable[str] | None = None,
        feature_space: str | None = None,
    ) -> tuple[Float[np.ndarray, "Q k"], Int[np.ndarray, "Q k"]]:
        """(distances, rows): each query's k nearest rows by L2 distance among people other than `exclude` (paper §4.1).

        The search is exact: distances are computed in float64 from float32 features, and equal ones are ordered by row.
        Raises RafError for another width or feature space, NaN, a list of the wrong length, names that are not strings,
        and when fewer than k rows remain.

        Args:
            queries: features of the bank's feature space.
            k: how many rows are returned per query.
            exclude: one subject for all queries, one subject for each of them, or None for no exclusion. A subject who
                is not in the bank excludes nothing.
            feature_space: the queries' feature space, compared with the bank's if given.
        """
        queries = self._checked_queries(queries, feature_space)
        squared, rows = exact.search(self._table, queries, k, exclude)
        return np.sqrt(squared), rows

    @cached_property
    def _table(self) -> exact.Table:
        return exact.Table.of(self.features, np.asarray(self.subjects))

    def _checked_queries(self, queries: np.ndarray, feature_space: str | None) -> Float[np.ndarray, "Q d"]:
        """The queries as float32; RafError where they do not fit the bank."""
        queries = np.ascontiguousarray(as_float32("search: queries", queries))
        if queries.ndim != 2:
            raise RafError(f"search: queries of shape {queries.shape}, expected [Q, {self.features.shape[1]}]")
        check_space(self._space, (feature_space, queries.shape[1]), "the queries")
        check_finite(queries, "search: query")
        return queries


class MappedBank(ExpressionBank):
    """A bank whose columns stay on the disk and are searched there.

    `subjects` and `sequence` are `Coded` columns. `restrict` returns a bank in memory. Operations that would copy more
    than `IN_MEMORY` rows into memory (`restrict`, `merge`, `save`) raise RafError. `checksum` is that of the folder.
    A folder holds one feature space, so there are no further `spaces`.
    """

    folder: Path
    subjects: Coded
    _rows: Mapping[str, int]
    _stored: StoredColumns

    def __init__(self, folder: str | Path):
        stored = StoredColumns(Path(folder))
        header = stored.header
        subjects = Coded(list(stored.people), np.repeat(np.arange(len(stored.people), dtype=np.int32), stored.counts))
        found = {
            "folder": stored.folder, "subjects": subjects, "feature_space": header["feature_space"],
            "provenance": header["provenance"], "checksum": header["checksum"], "_rows": stored.people,
            "_stored": stored, "spaces": {},
        }  # fmt: skip
        for name, value in found.items():
            object.__setattr__(self, name, value)

    @cached_property
    def _table(self) -> exact.Table:
        edges = np.cumsum([0, *self._stored.counts]).tolist()
        spans = dict(zip(self._rows, pairwise(edges), strict=True))
        return exact.Table(self._stored["lines"], None, spans, float(self._stored.header["largest"]))

    @cached_property
    def features(self) -> Float[np.ndarray, "N d"]:
        """[N,d], on the disk."""
        return self._stored["lines"][:, :-1]

    @cached_property
    def frame(self) -> Int[np.ndarray, " N"]:
        """[N], on the disk."""
        return self._stored["frame"]

    @cached_property
    def sequence(self) -> Coded:
        """[N], its codes on the disk."""
        return Coded(self._stored.header["sequences"], self._stored["sequence"])

    @cached_property
    def rotation(self) -> Float[np.ndarray, "N 3"] | None:
        """[N,3], on the disk, or None."""
        return self._stored["rotation"] if "rotation" in self._stored.header["files"] else None

    @cached_property
    def people(self) -> tuple[str, ...]:
        """The names of all people in the bank, sorted."""
        return tuple(sorted(self._rows))

    def with_space(self, tag: str, features: np.ndarray) -> ExpressionBank:
        """Raise RafError, because a folder holds one feature space."""
        raise RafError(f"{self.folder}: a folder holds one feature space; restrict the bank into memory to add {tag!r}")

    def verify(self) -> None:
        """Read every file and compare its checksum; RafError names the first changed file."""
        self._stored.verify()

    def __len__(self) -> int:
        return self._stored.shape[0]

    @property
    def _space(self) -> tuple[str, int]:
        return self.feature_space, self._stored.shape[1] - 1

    def _columns(self, rows: Int[np.ndarray, " n"] | slice = slice(None)) -> dict[str, np.ndarray]:
        count = len(self) if isinstance(rows, slice) else len(rows)
        if count > IN_MEMORY:
            raise RafError(
                f"{self.folder}: {count} rows do not go into memory, at most {IN_MEMORY}; restrict the bank to fewer "
                "people, copy its folder to keep it elsewhere, or search several with raflib.bank.sharded_search"
            )
        return super()._columns(rows)

    def _of(self, subjects: Iterable[str], rows: Int[np.ndarray, " n"]) -> np.ndarray:
        return np.isin(self.subjects.codes[rows], np.flatnonzero(np.isin(self.subjects.names, list(subjects))))

    def __reduce__(self) -> tuple:
        return MappedBank, (self.folder,)  # other processes open the folder themselves


def write_mapped(
    folder: str | Path, pieces: Iterable[ExpressionBank], provenance: Mapping[str, object] | None = None
) -> MappedBank:
    """Write the rows of `pieces`, one after the other, as a folder for `ExpressionBank.load`, and open it.

    Each person's rows must be in one piece; inside a piece they are sorted by person. Only one piece is in memory at a
    time if `pieces` is a generator. The folder appears when it is complete, and a write that fails leaves nothing.
    Raises RafError where the folder exists or cannot be written, for no piece, mixed feature spaces, pieces with
    further spaces, a person in two pieces, and rotations in some pieces only.
    """
    write_columns(Path(folder), pieces, provenance or {})
    return MappedBank(folder)
