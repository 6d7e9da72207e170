"""The expression bank: expression features of many people, saved safely and searched exactly (paper §4.2).

A bank is a frozen table of `features` [N,d] with, for each row, whose face it was (`subjects`), which `sequence` and
which `frame`, all in one tagged `feature_space`; banks and queries of different spaces never meet. `search` is the
argmin of §4.1: exact Euclidean nearest rows among *other* people, equal distances ordered by row, the same answer on
any machine and with any number of threads. Needs only numpy and faiss; nothing else of `raflib` but files and errors.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from raflib.errors import RafError
from raflib.runs import atomic_write

if TYPE_CHECKING:
    from raflib.capture import Capture

FORMAT, VERSION = "raflib.ExpressionBank", 2
COLUMNS = ("features", "subjects", "sequence", "frame", "rotation")
MEMBERS = ("format", "version", "checksum", "feature_space", "provenance", *COLUMNS)
# What numpy, zipfile and json raise on damaged files.
READING = (OSError, EOFError, ValueError, LookupError, MemoryError, RuntimeError, TypeError, AttributeError)
UNREADABLE = (*READING, zipfile.BadZipFile, zlib.error)
CHUNK = 8192  # queries at once, so that memory stays small whatever is asked
MARGIN = 4  # rows asked of faiss beyond k, so that its float32 ranking can be proved right or found wanting


@dataclass(frozen=True, eq=False)
class ExpressionBank:
    """Expression features of many people: one row a frame, read-only.

    `rotation` [N,3], if known, is how the head was turned in each frame: axis-angle in radians, in the axes of
    `raflib.geometry` (x to the image's right, y down, z away). Its zero is the tracker's and differs from person to
    person, so compare rotations within a person. Raises RafError when the columns differ in length, a feature or
    rotation is not finite, or the bank would be empty.
    """

    features: Float[np.ndarray, "N d"]
    subjects: Sequence[str] | np.ndarray
    sequence: Sequence[str] | np.ndarray
    frame: Sequence[int] | np.ndarray
    feature_space: str
    provenance: Mapping[str, object] = field(default_factory=dict)
    rotation: np.ndarray | None = None

    def __post_init__(self) -> None:
        features = np.array(self.features, dtype=np.float32, order="C")  # copies, so that nobody changes them later
        if features.ndim != 2 or 0 in features.shape:
            raise RafError(f"bank: features of shape {features.shape}, expected [N, d] and at least one row")
        _check_finite(features, "bank: row")
        if not isinstance(self.feature_space, str) or not self.feature_space:
            raise RafError(f"bank: feature_space is {self.feature_space!r}, expected a name such as 'arkit52'")
        texts = {name: np.asarray(getattr(self, name)).tolist() for name in ("subjects", "sequence")}
        columns = {name: np.asarray(_names(f"bank: {name}", text), np.str_) for name, text in texts.items()}
        columns["frame"] = np.array(self.frame, np.int64)
        if self.rotation is not None:
            rotation = np.array(self.rotation, np.float32, order="C")
            if rotation.shape != (len(features), 3) or not np.isfinite(rotation).all():
                raise RafError(
                    f"bank: rotation of shape {rotation.shape}, expected finite [{len(features)}, 3] or None"
                )
            rotation.flags.writeable = False
            object.__setattr__(self, "rotation", rotation)
        for name, column in {"features": features, **columns}.items():
            if len(column) != len(features) or (name != "features" and column.ndim != 1):
                raise RafError(f"bank: {name} has shape {column.shape}, expected one entry a row ({len(features)})")
            column.flags.writeable = False
            object.__setattr__(self, name, column)
        object.__setattr__(self, "provenance", {str(key): str(value) for key, value in self.provenance.items()})

    @classmethod
    def build(cls, captures: Iterable[Capture], per_subject: int = 200, seed: int = 0) -> ExpressionBank:
        """A bank of `per_subject` random detected frames of each capture, without replacement (paper §4.2, §5).

        A person with fewer detected frames gives all they have. The draw depends on `seed` and the subject only, so
        that adding people leaves the others' rows as they were. Raises RafError for an empty list, a person given
        twice, mixed feature spaces or widths, and features that are not finite where a face was detected.
        """
        if per_subject < 1:
            raise RafError(f"per_subject is {per_subject}, expected at least 1")
        pieces, space, width = {}, None, None
        for capture in captures:
            subject, expression = capture.subject, np.asarray(capture.expression)
            space, width = space or capture.feature_space, width or expression.shape[1]
            if subject in pieces:
                raise RafError(f"bank: subject {subject!r} was given twice; give each person's capture once")
            if (capture.feature_space, expression.shape[1]) != (space, width):
                raise RafError(
                    f"bank: subject {subject!r} has {capture.feature_space} features of width {expression.shape[1]}, "
                    f"the people before {space} of width {width}; build one bank for each feature space"
                )
            detected = np.flatnonzero(capture.detected)
            if not len(detected):
                raise RafError(f"bank: subject {subject!r} has no detected frame; leave this person out")
            if len(broken := detected[~np.isfinite(expression[detected]).all(1)]):
                raise RafError(f"bank: subject {subject!r} frame {broken[0]} is detected but not finite; track again")
            draw = np.random.default_rng([seed, *subject.encode()])
            chosen = np.sort(draw.permutation(detected)[:per_subject])
            pose = np.asarray(capture.pose)[:, :3]
            columns = (expression, np.full(len(expression), subject), capture.sequence, capture.frame, pose)
            pieces[subject] = [np.asarray(column)[chosen] for column in columns]
        if not pieces:
            raise RafError("bank: no capture was given; expected at least one")
        columns = dict(zip(COLUMNS, map(np.concatenate, zip(*pieces.values(), strict=True)), strict=True))
        draw = {"per_subject": per_subject, "seed": seed, "people": len(pieces)}
        return cls(**columns, feature_space=space, provenance=draw)

    def restrict(
        self,
        subjects: str | Iterable[str] | None = None,
        rows: Sequence[int] | np.ndarray | None = None,
        exclude: str | Iterable[str] | None = None,
    ) -> ExpressionBank:
        """The bank with fewer rows: those of `subjects`, at `rows`, not of `exclude`; conditions add up.

        `rows` are indexes, kept in the order given, or a boolean mask. Excluding
        somebody who is not in the bank changes nothing. Raises RafError for a subject asked for but absent, rows out of
        range or repeated, or when nothing is left.
        """
        kept = np.arange(len(self)) if rows is None else np.asarray(rows)
        if kept.dtype == bool and kept.shape == (len(self),):
            kept = np.flatnonzero(kept)
        if kept.ndim != 1 or (kept.size and (kept.dtype.kind not in "iu" or kept.min() < 0 or kept.max() >= len(self))):
            raise RafError(f"bank: rows must be indexes from 0 to {len(self) - 1} or a mask of {len(self)} booleans")
        if len(np.unique(kept)) != len(kept):
            raise RafError("bank: rows holds the same index twice; give each row once")
        if subjects is not None:
            wanted = _names("subjects", subjects)
            if absent := sorted(set(wanted) - set(self.people)):
                raise RafError(f"bank: no rows of subject {absent[0]!r}; see .people for whom it holds")
            kept = kept[np.isin(self.subjects[kept], wanted)]
        if exclude is not None:
            kept = kept[~np.isin(self.subjects[kept], _names("exclude", exclude))]
        if not len(kept):
            raise RafError("bank: restrict leaves no row; ask for less")
        columns = {name: column[kept] for name, column in self._columns().items()}
        origin = {**self.provenance, "restricted_from": self.checksum[:16]}
        return ExpressionBank(**columns, feature_space=self.feature_space, provenance=origin)

    def merge(self, other: ExpressionBank) -> ExpressionBank:
        """Both banks' rows, this one's first; rotations where both have them.

        Raises RafError for different feature spaces or a person in both.
        """
        self._check_space(other.feature_space, other.features.shape[1], "the other bank")
        if both := sorted(set(self.people) & set(other.people)):
            raise RafError(f"bank: subject {both[0]!r} is in both banks; restrict(exclude=...) one of them first")
        mine, theirs = self._columns(), other._columns()
        columns = {name: np.concatenate([mine[name], theirs[name]]) for name in mine if name in theirs}
        merged = {"merged_from": f"{self.checksum[:16]} {other.checksum[:16]}"}
        return ExpressionBank(**columns, feature_space=self.feature_space, provenance=merged)

    def _columns(self) -> dict[str, np.ndarray]:
        return {name: column for name in COLUMNS if (column := getattr(self, name)) is not None}

    def save(self, path: str | Path, half: bool = False) -> None:
        """Write the bank as a compressed .npz: no pickle, checksummed, atomic.

        `half` rounds features to float16 (half the size, relative error 5e-4); loading gives float32 either way.
        Raises RafError where the file cannot be written or float16 cannot hold a feature.
        """
        columns = {"rotation": np.empty((0, 3), np.float32), **self._columns()}
        if half:
            with np.errstate(over="ignore"):
                columns |= {name: columns[name].astype(np.float16) for name in ("features", "rotation")}
        stored = _from_file(columns, self.feature_space, self.provenance)
        values = (FORMAT, VERSION, stored.checksum, self.feature_space, json.dumps(stored.provenance, sort_keys=True))
        arrays = (columns[name] for name in COLUMNS)
        with atomic_write(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **dict(zip(MEMBERS, (*map(np.asarray, values), *arrays), strict=True)))

    @classmethod
    def load(cls, path: str | Path) -> ExpressionBank:
        """The bank saved at `path`; RafError naming a file that is missing, damaged, foreign or of another format."""
        path = Path(path)
        if not path.is_file():
            raise RafError(f"{path}: no such expression bank; build one (make bank) or correct the path")
        try:
            with np.load(path, allow_pickle=False) as file:
                if "format" not in file.files or str(file["format"]) != FORMAT:
                    raise RafError(f"{path}: not an expression bank, expected a file written by ExpressionBank.save")
                if (version := int(file["version"])) != VERSION:
                    raise RafError(f"{path}: bank format {version}, expected {VERSION}; update raflib or build again")
                content = {name: file[name] for name in MEMBERS}
            columns = {name: content[name] for name in COLUMNS}
            bank = _from_file(columns, str(content["feature_space"]), json.loads(str(content["provenance"])))
            if bank.checksum != str(content["checksum"]):
                raise ValueError("its checksum differs")
        except UNREADABLE as error:
            if isinstance(error, RafError) and str(error).startswith(str(path)):
                raise
            raise RafError(f"{path}: damaged expression bank ({error}), expected a whole one; build it again") from None
        return bank

    @cached_property
    def checksum(self) -> str:
        """sha256 over all the bank holds (columns, space, provenance), independent of how a file packs it."""
        digest = hashlib.sha256()
        header = [FORMAT, self.feature_space, self.features.shape, self.provenance]
        digest.update(json.dumps(header, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.features, "<f4").tobytes())
        digest.update(np.ascontiguousarray(self.frame, "<i8").tobytes())
        digest.update("\0".join([*self.subjects.tolist(), *self.sequence.tolist()]).encode())
        if self.rotation is not None:
            digest.update(np.ascontiguousarray(self.rotation, "<f4").tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def people(self) -> tuple[str, ...]:
        """Everybody in the bank, sorted."""
        return tuple(np.unique(self.subjects).tolist())

    def search(
        self,
        queries: Float[np.ndarray, "Q d"],
        k: int = 1,
        exclude: str | Iterable[str] | None = None,
        feature_space: str | None = None,
    ) -> tuple[Float[np.ndarray, "Q k"], Int[np.ndarray, "Q k"]]:
        """(distances, rows): each query's k nearest rows by L2 distance among people other than `exclude` (paper §4.1).

        `exclude` is one subject for all queries, one subject for each of them, or None for no exclusion; a subject
        who is not in the bank excludes nothing. Exact: distances are computed in float64 from float32 features, equal
        ones are ordered by row. Raises RafError for another width or feature space, NaN, a list of the wrong length,
        names that are not strings, and when fewer than k rows remain.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2:
            raise RafError(f"search: queries of shape {queries.shape}, expected [Q, {self.features.shape[1]}]")
        self._check_space(feature_space, queries.shape[1], "the queries")
        _check_finite(queries, "search: query")
        if k < 1:
            raise RafError(f"search: k is {k}, expected at least 1")
        distances, rows = np.empty((len(queries), k)), np.empty((len(queries), k), dtype=np.int64)
        with _cache_sized_blocks():
            for subject, members in _groups(exclude, len(queries)):
                for chunk in np.array_split(members, -(-len(members) // CHUNK)):
                    distances[chunk], rows[chunk] = self._search_without(queries[chunk], k, subject)
        return distances, rows

    @cached_property
    def _layout(self) -> tuple[np.ndarray, np.ndarray, dict[str, tuple[int, int]]]:
        """(order, features in that order, each person's slice of it): one person's rows side by side, ascending."""
        names, code = np.unique(self.subjects, return_inverse=True)
        order = np.argsort(code, kind="stable")
        edges = np.searchsorted(code[order], np.arange(len(names) + 1)).tolist()
        blocks = {name: (edges[i], edges[i + 1]) for i, name in enumerate(names.tolist())}
        return order, np.ascontiguousarray(self.features[order]), blocks

    def _search_without(self, queries: np.ndarray, k: int, subject: str | None) -> tuple[np.ndarray, np.ndarray]:
        """`search` for queries that leave out one person: the rows before and after theirs, without a copy, merged."""
        import faiss

        order, features, blocks = self._layout
        start, stop = blocks.get(subject, (0, 0))
        parts = [part for part in ((0, start), (stop, len(self))) if part[0] < part[1]]
        available = sum(last - first for first, last in parts)
        if available < k:
            raise RafError(
                f"search: k is {k}, the bank has {available} rows without {subject!r}; add people or lower k"
            )
        candidates, reached = [], np.full(len(queries), np.inf)
        for first, last in parts:
            width = min(k + MARGIN, last - first)
            approximate, found = faiss.knn(queries, features[first:last], width)
            reached[(found < 0).any(1)] = -np.inf  # float32 overflow: leave it to the exact scan
            if width < last - first:
                reached = np.minimum(reached, approximate[:, -1])
            candidates.append(first + np.maximum(found, 0))
        candidates = np.concatenate(candidates, axis=1)
        squared, rows = _rank(_squared(queries[:, None], features[candidates]), order[candidates], k)
        # A row faiss left out is at `reached` or more by its arithmetic. The k found are right if even the largest
        # rounding error a nearer row could have suffered would not have carried it that far.
        reach = 2 * np.sqrt(_squared(queries, np.zeros_like(queries[0]))) + np.sqrt(squared[:, -1])
        safe = reached > squared[:, -1] + _rounding(queries.shape[1], np.float32) * reach**2
        if len(doubtful := np.flatnonzero(~safe)):
            kept = np.concatenate([np.arange(first, last) for first, last in parts])
            squared[doubtful], rows[doubtful] = _scan(queries[doubtful], features[kept], order[kept], k)
        return np.sqrt(squared), rows

    def _check_space(self, feature_space: str | None, width: int, what: str) -> None:
        mine = self.features.shape[1]
        if (feature_space or self.feature_space) != self.feature_space or width != mine:
            raise RafError(
                f"the bank holds {self.feature_space} features of width {mine} and {what} {feature_space or 'unnamed'} "
                f"features of width {width}; use a bank of the same feature space"
            )


def _from_file(
    columns: Mapping[str, np.ndarray], feature_space: str, provenance: Mapping[str, object]
) -> ExpressionBank:
    """A bank of stored columns, where no rotations are an empty array."""
    known = {name: column for name, column in columns.items() if name != "rotation" or len(column)}
    return ExpressionBank(**known, feature_space=feature_space, provenance=provenance)


@contextmanager
def _cache_sized_blocks() -> Iterator[None]:
    """Have faiss multiply in blocks that fit a core's cache, for small batches too: faster, the same results."""
    from faiss import cvar

    before = cvar.distance_compute_blas_query_bs, cvar.distance_compute_blas_threshold
    cvar.distance_compute_blas_query_bs, cvar.distance_compute_blas_threshold = 1024, 1
    try:
        yield
    finally:
        cvar.distance_compute_blas_query_bs, cvar.distance_compute_blas_threshold = before


def _check_finite(features: np.ndarray, what: str) -> None:
    if len(broken := np.flatnonzero(~np.isfinite(features).all(1))):
        raise RafError(f"{what} {broken[0]} holds NaN or infinity; use detected frames only")


def _names(what: str, names: str | Iterable[str]) -> list[str]:
    names = [names] if isinstance(names, str) or not isinstance(names, Iterable) else list(names)
    for name in names:
        if not isinstance(name, str):
            raise RafError(f"{what} must be strings such as '074', got {name!r}")
    return names


def _groups(exclude: str | Iterable[str] | None, count: int) -> list[tuple[str | None, np.ndarray]]:
    """Queries that leave out the same person, together: [(subject, indexes of the queries)]."""
    if count == 0:
        return []
    if exclude is None or isinstance(exclude, str):
        return [(exclude, np.arange(count))]
    names = _names("exclude", exclude)
    if len(names) != count:
        raise RafError(f"search: exclude names {len(names)} subjects, expected one string or one for each of {count}")
    unique, code = np.unique(names, return_inverse=True)
    return [(name, np.flatnonzero(code == i)) for i, name in enumerate(unique.tolist())]


def _squared(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Squared distances along the last axis in float64: the one definition that every comparison here goes back to."""
    difference = queries.astype(np.float64) - rows
    return (difference * difference).sum(-1)


def _rank(squared: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest of each line, ties by row."""
    order = np.lexsort((rows, squared), axis=-1)[..., :k]
    return np.take_along_axis(squared, order, -1), np.take_along_axis(rows, order, -1)


def _rounding(width: int, dtype: type) -> float:
    """Largest error of |q|² + |x|² − 2 q·x in units of (|q| + |x|)²: the usual bound for such sums, doubled."""
    return (width + 8) * float(np.finfo(dtype).eps)


def _scan(queries: np.ndarray, features: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact search without an index, for the few queries whose neighbours are too close to call in float32."""
    features, queries = features.astype(np.float64), queries.astype(np.float64)
    norms = (features * features).sum(1)
    squared, found = np.empty((len(queries), k)), np.empty((len(queries), k), dtype=np.int64)
    for i, query in enumerate(queries):
        norm = query @ query
        error = _rounding(len(query), np.float64) * (np.sqrt(norm) + np.sqrt(norms)) ** 2
        approximate = norms + norm - 2 * (features @ query)
        limit = np.partition(approximate + error, k - 1)[k - 1]
        near = np.flatnonzero(approximate - error <= limit)
        squared[i], found[i] = _rank(_squared(query, features[near]), rows[near], k)
    return squared, found
