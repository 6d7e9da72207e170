"""The header of a folder of `raflib.bank.folder`, and its columns, which must be as the header lists them."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from raflib.bank import files
from raflib.reading import FileError, checked_file, damage_named, read_json

HEADER = "bank.json"
TYPES = {"lines": "<f4", "frame": "<i8", "sequence": "<i4", "rotation": "<f4"}
ENTRIES: dict[str, type | tuple[type, ...]] = {
    "format": str, "version": int, "feature_space": str, "largest": (int, float), "people": list, "sequences": list,
    "provenance": dict, "files": dict,
}  # fmt: skip
REMEDY = "copy or build the folder again"
HEADER_BYTES = 2**26
CHECKED = 2**20
"""Number of rows of a column that are checked at once."""
_VERIFIED: set[tuple] = set()
"""Files whose checksum this process has compared."""


class StoredColumns:
    """The columns of a folder of `raflib.bank.folder` by name, memory-mapped: `stored["frame"]`.

    Raises RafError naming the folder when it is missing, damaged or of another format.

    Attributes:
        folder: the folder.
        header: the checked content of `bank.json`.
        people: the number of rows of each person, in the order of the rows.
        shape: (N, d+1), the shape of the column "lines".
    """

    def __init__(self, folder: Path):
        with damage_named(folder, files.WHAT, REMEDY):
            self.folder, self.header = folder, read_header(folder)
            self.people: dict[str, int] = dict(self.header["people"])
            listed = self.header["files"].items()
            self._opened = {name: open_column(folder, name, as_listed) for name, as_listed in listed}
        self.shape = self._opened["lines"].shape

    @property
    def counts(self) -> list[int]:
        """The number of rows of each person."""
        return list(self.people.values())

    def __getitem__(self, name: str) -> np.ndarray:
        """One column. Its file's checksum is compared when this process first uses it."""
        with damage_named(self.folder, files.WHAT, REMEDY):
            state = os.stat(self.folder / f"{name}.npy")
        seen = (str(self.folder.resolve()), name, state.st_ino, state.st_mtime_ns, self.header["checksum"])
        if seen not in _VERIFIED:
            self._verify(name)
            _VERIFIED.add(seen)
        return self._opened[name]

    def verify(self) -> None:
        """Read every file and compare its checksum; RafError names the first changed file."""
        for name in self._opened:
            self._verify(name)

    def _verify(self, name: str) -> None:
        path = self.folder / f"{name}.npy"
        with damage_named(path, "column of an expression bank", REMEDY):
            if sha256_of(path) != self.header["files"][name]["sha256"]:
                raise FileError(f"{path}: its checksum differs from {HEADER}'s; build the bank again")
        column, sequences = self._opened[name], len(self.header["sequences"])
        for part in np.array_split(column, -(-len(column) // CHECKED)):
            fits = np.isfinite(part).all() if name != "sequence" else part.min() >= 0 and part.max() < sequences
            if not fits:
                raise FileError(f"{path}: holds numbers that no bank does; build the bank again")


def read_header(folder: Path) -> dict:
    """The checked content of `bank.json` in `folder`; call it inside `damage_named`."""
    path = folder / HEADER
    if not path.is_file():
        raise FileError(f"{folder}: not an expression bank, expected a folder written by raflib.bank.write_mapped")
    header = read_json(path, None, files.WHAT, REMEDY, HEADER_BYTES)
    files.check_format(folder, header.get("format"), header.get("version"))
    if header.pop("checksum", None) != (checksum := checksum_of(header)):
        raise ValueError(f"the checksum of {HEADER} differs")
    for name, kind in ENTRIES.items():
        if not isinstance(header.get(name), kind):
            raise ValueError(f"{name} in {HEADER} is of another type")
    known = set(header["files"])
    if known - {"rotation"} != {"lines", "frame", "sequence"}:  # names become paths
        raise ValueError(f"it lists files {', '.join(sorted(map(repr, known)))}")
    counted = (type(name) is str and type(count) is int and count > 0 for name, count in header["people"])
    if not header["people"] or not all(counted):
        raise ValueError("its people are no names with numbers of rows")
    if not all(type(name) is str for name in header["sequences"]):
        raise ValueError("its sequences are no names")
    count = sum(n for _, n in header["people"])
    if len({name for name, _ in header["people"]}) < len(header["people"]):
        raise ValueError("it names a person twice")
    for name, listed in header["files"].items():
        width = listed["shape"][1:]
        fits = width == {"rotation": [3]}.get(name, []) or (name == "lines" and len(width) == 1 and width[0] > 1)
        if listed["shape"][0] != count or not fits:
            raise ValueError(f"{name} is listed with shape {listed['shape']}, its people have {count} rows")
    return {**header, "checksum": checksum}


def checksum_of(header: Mapping[str, object]) -> str:
    """sha256 of a header without its checksum."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def open_column(folder: Path, name: str, listed: Mapping[str, object]) -> np.ndarray:
    """One column, memory-mapped; ValueError unless it has the listed type and shape and its file the right size."""
    path = checked_file(folder / f"{name}.npy", "column of an expression bank", REMEDY, most=2**50)
    with damage_named(path, "column of an expression bank", REMEDY), open(path, "rb") as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of .npy")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if [dtype.str, list(shape), fortran] != [TYPES[name], listed["shape"], False]:
            raise ValueError(f"{path.name} is {dtype.str} {shape}, expected {TYPES[name]} {listed['shape']}")
        size = stream.tell() + math.prod(shape) * dtype.itemsize
        if path.stat().st_size != size:
            raise ValueError(f"{path.name} has {path.stat().st_size} bytes, expected {size}")
        return np.memmap(path, dtype, "r", stream.tell(), shape).view(np.ndarray)


def sha256_of(path: Path) -> str:
    """sha256 of a file's content."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
