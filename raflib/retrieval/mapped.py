"""Banks of millions of rows: a folder of plain .npy files that stays on the disk and is read where a search needs it.

    write_mapped("bank", pieces)            pieces: banks of a few people each; never more than one of them in memory
    bank = ExpressionBank.load("bank")      in a fraction of a second; search as ever
    bank.verify()                           reads everything anew and compares checksums

A folder holds `bank.json` (format, version, space, provenance, people with their numbers of rows, names of sequences,
largest squared length, and for each file its type, shape and sha256, all under one checksum) and `lines.npy` [N,d+1]
float32 (features and −|x|²/2, as the search wants them), `frame.npy` [N] int64, `sequence.npy` [N] int32 (codes into
the names), `rotation.npy` [N,3] float32 if known. One person's rows lie side by side. Opening checks the JSON's
checksum and every file's header and size. A file's own checksum is compared when a process first uses its column (about
a second a gigabyte), so that no changed number is ever searched or handed out.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Int
from tqdm.auto import tqdm

from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.reading import FileError, damage_named
from raflib.retrieval import exact, files
from raflib.retrieval.columns import Coded, check_space, plain
from raflib.retrieval.header import HEADER, REMEDY, TYPES, checksum_of, open_column, read_header, sha256_of
from raflib.runs import STALE_SECONDS, TEMPORARY, folder_lock

IN_MEMORY = 2_000_000  # rows; what makes more of them into an ordinary bank is refused
CHECKED = 2**20  # rows looked at at once
_VERIFIED: set[tuple] = set()


class MappedBank(ExpressionBank):
    """A bank whose columns stay on the disk: searched, restricted and verified as any other, by the memory of a few.

    `subjects` and `sequence` are `Coded` columns. `restrict` gives an ordinary bank; what would bring more than
    `IN_MEMORY` rows into memory (`restrict`, `merge`, `save`) raises RafError. `checksum` is that of the folder.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        with damage_named(folder, files.WHAT, REMEDY):
            header = read_header(folder)
            rows = dict(header["people"])
            opened = {name: open_column(folder, name, listed) for name, listed in header["files"].items()}
            codes = np.repeat(np.arange(len(rows), dtype=np.int32), list(rows.values()))
            found = {
                "folder": folder, "subjects": Coded(list(rows), codes), "feature_space": header["feature_space"],
                "provenance": header["provenance"], "checksum": header["checksum"], "_rows": rows, "_header": header,
                "_opened": opened,
            }  # fmt: skip
        for name, value in found.items():
            object.__setattr__(self, name, value)

    @cached_property
    def _table(self) -> exact.Table:
        edges = np.cumsum([0, *self._rows.values()]).tolist()
        spans = dict(zip(self._rows, pairwise(edges), strict=True))
        return exact.Table(self._column("lines"), None, spans, float(self._header["largest"]))

    @cached_property
    def features(self) -> np.ndarray:
        """[N,d], on the disk."""
        return self._column("lines")[:, :-1]

    @cached_property
    def frame(self) -> np.ndarray:
        """[N], on the disk."""
        return self._column("frame")

    @cached_property
    def sequence(self) -> Coded:
        """[N], its codes on the disk."""
        return Coded(self._header["sequences"], self._column("sequence"))

    @cached_property
    def rotation(self) -> np.ndarray | None:
        """[N,3], on the disk, or None."""
        return self._column("rotation") if "rotation" in self._opened else None

    @cached_property
    def people(self) -> tuple[str, ...]:
        """Everybody in the bank, sorted."""
        return tuple(sorted(self._rows))

    def verify(self) -> None:
        """Read every file and compare its checksum; RafError naming the first that was changed."""
        for name in self._opened:
            self._verify(name)

    def _column(self, name: str) -> np.ndarray:
        """One column, after its file's checksum was compared once in this process."""
        with damage_named(self.folder, files.WHAT, REMEDY):
            state = os.stat(self.folder / f"{name}.npy")
        seen = (str(self.folder.resolve()), name, state.st_ino, state.st_mtime_ns, self.checksum)
        if seen not in _VERIFIED:
            self._verify(name)
            _VERIFIED.add(seen)
        return self._opened[name]

    def _verify(self, name: str) -> None:
        path = self.folder / f"{name}.npy"
        with damage_named(path, "column of an expression bank", REMEDY):
            if sha256_of(path) != self._header["files"][name]["sha256"]:
                raise FileError(f"{path}: its checksum differs from {HEADER}'s; build the bank again")
        column, sequences = self._opened[name], len(self._header["sequences"])
        for part in np.array_split(column, -(-len(column) // CHECKED)):
            fits = np.isfinite(part).all() if name != "sequence" else part.min() >= 0 and part.max() < sequences
            if not fits:
                raise FileError(f"{path}: holds numbers that no bank does; build the bank again")

    def __len__(self) -> int:
        return self._opened["lines"].shape[0]

    @property
    def _space(self) -> tuple[str, int]:
        return self.feature_space, self._opened["lines"].shape[1] - 1

    def _columns(self, rows: Int[np.ndarray, " n"] | slice = slice(None)) -> dict[str, np.ndarray]:
        count = len(self) if isinstance(rows, slice) else len(rows)
        if count > IN_MEMORY:
            raise RafError(
                f"{self.folder}: {count} rows do not go into memory, at most {IN_MEMORY}; restrict the bank to fewer "
                "people, copy its folder to keep it elsewhere, or search several with raflib.retrieval.sharded_search"
            )
        return super()._columns(rows)

    def _of(self, subjects: Iterable[str], rows: Int[np.ndarray, " n"]) -> np.ndarray:
        return np.isin(self.subjects.codes[rows], np.flatnonzero(np.isin(self.subjects.names, list(subjects))))

    def __reduce__(self):
        return MappedBank, (self.folder,)  # other processes open the folder themselves


def write_mapped(
    folder: str | Path, pieces: Iterable[ExpressionBank], provenance: Mapping[str, object] | None = None
) -> MappedBank:
    """Write the rows of `pieces`, one after the other, as a folder for `ExpressionBank.load`, and open it.

    Each person's rows must be in one piece; inside a piece they are sorted by person. Only one piece is looked at at a
    time, so that a generator keeps memory small. The folder appears when it is complete, and nothing is left of a
    write that fails. Raises RafError where the folder exists or cannot be written, for no piece, mixed feature spaces,
    a person in two pieces, and rotations in some pieces only.
    """
    folder = Path(folder)
    if folder.exists():
        raise RafError(f"{folder}: exists already; delete it or choose another folder")
    people: dict[str, int] = {}
    sequences: dict[str, int] = {}
    first, largest = None, 0.0
    with _atomic_folder(folder) as temporary:
        growing: dict[str, _Growing] = {}
        for piece in tqdm(pieces, desc=folder.name, unit="piece", disable=None):
            first = first or (piece._space, piece.rotation is not None)
            check_space(first[0], piece._space, f"piece {piece.people[0]!r}")
            if (piece.rotation is not None) != first[1]:
                raise RafError(f"{folder}: head rotations are in some pieces only; give them in all or none")
            table = piece._table
            if twice := sorted(people.keys() & table.spans.keys()):
                raise RafError(f"{folder}: subject {twice[0]!r} is in two pieces; give each person's rows in one")
            people |= {name: stop - start for name, (start, stop) in table.spans.items()}
            largest = max(largest, table.largest)
            rows = slice(None) if table.order is None else table.order
            kept = {
                "lines": table.lines,
                "frame": piece.frame[rows],
                "sequence": _codes(piece.sequence[rows], sequences),
            }
            if first[1]:
                kept["rotation"] = piece.rotation[rows]
            for name, column in kept.items():
                if name not in growing:
                    growing[name] = _Growing(temporary / f"{name}.npy", TYPES[name], column.shape[1:])
                growing[name].append(column)
        if first is None:
            raise RafError(f"{folder}: no piece was given; expected at least one bank")
        header = {
            "format": files.FORMAT, "version": files.VERSION, "feature_space": first[0][0], "largest": largest,
            "people": list(people.items()), "sequences": list(sequences), "provenance": plain(provenance or {}),
            "files": {name: column.finish() for name, column in growing.items()},
        }  # fmt: skip
        (temporary / HEADER).write_text(json.dumps({**header, "checksum": checksum_of(header)}) + "\n")
    return MappedBank(folder)


class _Growing:
    """A .npy file whose number of rows is known at the end."""

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...]):
        self.path, self.dtype, self.shape, self.rows = path, dtype, shape, 0
        self._write_header("wb")

    def append(self, column: np.ndarray) -> None:
        """More rows."""
        self.rows += len(column)
        with open(self.path, "ab") as stream:
            np.ascontiguousarray(column, self.dtype).tofile(stream)

    def finish(self) -> dict[str, object]:
        """Complete the file; what the JSON keeps of it."""
        self._write_header("r+b")
        return {"dtype": self.dtype, "shape": [self.rows, *self.shape], "sha256": sha256_of(self.path)}

    def _write_header(self, mode: str) -> None:
        """Of the same length whatever the number of rows: numpy leaves room for it."""
        header = {"descr": self.dtype, "fortran_order": False, "shape": (self.rows, *self.shape)}
        with open(self.path, mode) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def _atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes its name when the block ends well and vanishes when it does not.

    Those that killed processes left beside it are removed.
    """
    temporary = folder.with_name(f"{TEMPORARY}{secrets.token_hex(6)}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder.parent)
        with folder_lock(temporary, f"writing {folder.name}"):
            yield temporary
        temporary.rename(folder)
    except OSError as error:
        raise RafError(
            f"{folder}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    """Remove half-written folders whose writers were killed; those in use, and very new ones, stay."""
    for entry in parent.glob(f"{TEMPORARY}*/"):
        try:
            if entry.is_dir() and time.time() - entry.stat().st_mtime > STALE_SECONDS:
                with folder_lock(entry, "removing what a killed process left"):
                    shutil.rmtree(entry, ignore_errors=True)
        except (RafError, OSError):
            continue  # somebody is writing it


def _codes(column: np.ndarray, known: dict[str, int]) -> Int[np.ndarray, " n"]:
    """The column as numbers into `known`, to which new names are added as they appear."""
    unique, seen, code = np.unique(np.asarray(column), return_index=True, return_inverse=True)
    for name in unique[np.argsort(seen)].tolist():
        known.setdefault(name, len(known))
    return np.array([known[name] for name in unique.tolist()], np.int32)[code]
