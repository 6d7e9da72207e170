"""Banks of millions of rows: a folder of plain .npy files that stays on the disk; a search reads what it needs.

    write_mapped("bank", pieces)            pieces: banks of a few people each; never more than one of them in memory
    bank = ExpressionBank.load("bank")      in a fraction of a second
    bank.verify()                           reads everything again and compares checksums

A folder holds `bank.json` (format, version, space, provenance, people with their numbers of rows, names of sequences,
largest squared length, and for each file its type, shape and sha256, all under one checksum) and `lines.npy` [N,d+1]
float32 (features and −|x|²/2, as the search wants them), `frame.npy` [N] int64, `sequence.npy` [N] int32 (codes into
the names), `rotation.npy` [N,3] float32 if known. One person's rows lie side by side. Opening checks the JSON's
checksum and every file's header and size. A file's own checksum is compared when a process first uses its column, so
that no changed number is ever searched or returned. That takes about a second per gigabyte.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from tqdm.auto import tqdm

from raflib.bank import files
from raflib.bank.columns import check_space, plain
from raflib.bank.header import HEADER, TYPES, checksum_of, sha256_of
from raflib.errors import RafError
from raflib.runs import STALE_SECONDS, TEMPORARY, folder_lock

if TYPE_CHECKING:
    from raflib.bank.bank import ExpressionBank


def write_columns(folder: Path, pieces: Iterable[ExpressionBank], provenance: Mapping[str, object]) -> None:
    """Write the rows of `pieces` as a folder; see `raflib.bank.write_mapped`."""
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
            if piece.spaces:
                raise RafError(
                    f"{folder}: piece {piece.people[0]!r} carries further features ({', '.join(piece.spaces)}) and a "
                    "folder holds one feature space; write dataclasses.replace(piece, spaces=None)"
                )
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
            "people": list(people.items()), "sequences": list(sequences), "provenance": plain(provenance),
            "files": {name: column.finish() for name, column in growing.items()},
        }  # fmt: skip
        text = json.dumps({**header, "checksum": checksum_of(header)}) + "\n"
        (temporary / HEADER).write_text(text, encoding="utf-8", newline="\n")


class _Growing:
    """A .npy file that grows: its number of rows is known at the end."""

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...]):
        self.path, self.dtype, self.shape, self.rows = path, dtype, shape, 0
        self._write_header("wb")

    def append(self, column: np.ndarray) -> None:
        """Append rows."""
        self.rows += len(column)
        with open(self.path, "ab") as stream:
            np.ascontiguousarray(column, self.dtype).tofile(stream)

    def finish(self) -> dict[str, object]:
        """Complete the file and return its type, shape and checksum, for the JSON."""
        self._write_header("r+b")
        return {"dtype": self.dtype, "shape": [self.rows, *self.shape], "sha256": sha256_of(self.path)}

    def _write_header(self, mode: str) -> None:
        """Write the header, whose length does not depend on the number of rows: numpy leaves room for it."""
        header = {"descr": self.dtype, "fortran_order": False, "shape": (self.rows, *self.shape)}
        with open(self.path, mode) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def _atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that is renamed when the block succeeds and removed when it fails.

    Temporary folders that killed processes left beside it are removed.
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
            continue  # another process is writing it


def _codes(column: np.ndarray, known: dict[str, int]) -> Int[np.ndarray, " n"]:
    """The column as numbers into `known`, to which new names are added as they appear."""
    unique, seen, code = np.unique(np.asarray(column), return_index=True, return_inverse=True)
    for name in unique[np.argsort(seen)].tolist():
        known.setdefault(name, len(known))
    return np.array([known[name] for name in unique.tolist()], np.int32)[code]
