"""Banks of millions of rows: a folder of plain .npy files that stays on the disk and is read where a search needs it.

    write_mapped("bank", pieces)            pieces: banks of a few people each; never more than one of them in memory
    bank = ExpressionBank.load("bank")      in a fraction of a second; search as ever
    bank.verify()                           reads everything and compares checksums

A folder holds `bank.json` (format, version, space, provenance, people with their numbers of rows, names of sequences,
largest squared length, and for each file its type, shape and sha256, all under one checksum) and `lines.npy` [N,d+1]
float32 (features and −|x|²/2, as the search wants them), `frame.npy` [N] int64, `sequence.npy` [N] int32 (codes into
the names), `rotation.npy` [N,3] float32 if known. One person's rows lie side by side. Opening checks the JSON's
checksum and every file's header and size; a changed number inside a file is found by `verify()` only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int
from tqdm.auto import tqdm

from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.retrieval import exact, files
from raflib.retrieval.columns import Coded, check_space, plain

HEADER = "bank.json"
TYPES = {"lines": "<f4", "frame": "<i8", "sequence": "<i4", "rotation": "<f4"}
IN_MEMORY = 2_000_000  # rows; what makes more of them into an ordinary bank is refused


class MappedBank(ExpressionBank):
    """A bank whose columns stay on the disk: searched, restricted and verified as any other, by the memory of a few.

    `subjects` and `sequence` are `Coded` columns. `restrict` gives an ordinary bank; what would bring more than
    `IN_MEMORY` rows into memory (`restrict`, `merge`, `save`) raises RafError. `checksum` is that of the folder.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        with files.damage_named(folder):
            header = _read_header(folder)
            columns = {name: _open(folder, name, listed) for name, listed in header["files"].items()}
            people, counts = zip(*header["people"], strict=True)
            lines, edges = columns["lines"], np.cumsum([0, *counts])
            if {len(column) for column in columns.values()} != {int(edges[-1])}:
                raise ValueError("its files differ in length")
            rotation = columns.get("rotation")
            spans = {name: (int(edges[i]), int(edges[i + 1])) for i, name in enumerate(people)}
            table = exact.Table(lines, None, spans, header["largest"])
            subjects = Coded(people, np.repeat(np.arange(len(people), dtype=np.int32), counts))
            found = {
                "folder": folder, "features": lines[:, :-1], "subjects": subjects, "frame": columns["frame"],
                "sequence": Coded(header["sequences"], columns["sequence"]), "rotation": rotation, "_table": table,
                "feature_space": header["feature_space"], "provenance": header["provenance"],
                "checksum": header["checksum"], "_files": header["files"],
            }  # fmt: skip
        for name, value in found.items():
            object.__setattr__(self, name, value)

    @cached_property
    def people(self) -> tuple[str, ...]:
        """Everybody in the bank, sorted."""
        return tuple(sorted(self._table.spans))

    def verify(self) -> None:
        """Read every file and compare its checksum; RafError naming the first that was changed."""
        for name, listed in self._files.items():
            if _sha256(self.folder / f"{name}.npy") != listed["sha256"]:
                raise RafError(f"{self.folder / name}.npy: its checksum differs from {HEADER}'s; build the bank again")

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
        (temporary / HEADER).write_text(json.dumps({**header, "checksum": _checksum(header)}) + "\n")
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
        return {"dtype": self.dtype, "shape": [self.rows, *self.shape], "sha256": _sha256(self.path)}

    def _write_header(self, mode: str) -> None:
        """Of the same length whatever the number of rows: numpy leaves room for it."""
        header = {"descr": self.dtype, "fortran_order": False, "shape": (self.rows, *self.shape)}
        with open(self.path, mode) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def _atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes its name when the block ends well and vanishes when it does not."""
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError as error:
        raise RafError(
            f"{folder}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _read_header(folder: Path) -> dict:
    path = folder / HEADER
    if not path.is_file():
        raise RafError(f"{folder}: not an expression bank, expected a folder written by raflib.retrieval.write_mapped")
    header = json.loads(path.read_text())
    files.check_format(folder, header.get("format"), header.get("version"))
    if header.pop("checksum", None) != (checksum := _checksum(header)):
        raise ValueError(f"the checksum of {HEADER} differs")
    return {**header, "checksum": checksum}


def _checksum(header: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _open(folder: Path, name: str, listed: Mapping[str, object]) -> np.ndarray:
    """One column, memory-mapped, if it is of the listed type and shape and its file as long as that makes it."""
    path = folder / f"{name}.npy"
    column = np.load(path, mmap_mode="r", allow_pickle=False)
    if [column.dtype.str, list(column.shape)] != [TYPES[name], listed["shape"]] or not column.flags.c_contiguous:
        raise ValueError(f"{path.name} is {column.dtype.str} {column.shape}, expected {TYPES[name]} {listed['shape']}")
    if path.stat().st_size != column.offset + column.nbytes:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, expected {column.offset + column.nbytes}")
    return column.view(np.ndarray)


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _codes(column: np.ndarray, known: dict[str, int]) -> Int[np.ndarray, " n"]:
    """The column as numbers into `known`, to which new names are added as they appear."""
    unique, seen, code = np.unique(np.asarray(column), return_index=True, return_inverse=True)
    for name in unique[np.argsort(seen)].tolist():
        known.setdefault(name, len(known))
    return np.array([known[name] for name in unique.tolist()], np.int32)[code]
