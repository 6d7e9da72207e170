"""The header of a folder of `raflib.bank.folder`, and its columns, which must be as the header lists them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from raflib.bank import files
from raflib.reading import FileError, checked_file, damage_named, read_json

HEADER = "bank.json"
TYPES = {"lines": "<f4", "frame": "<i8", "sequence": "<i4", "rotation": "<f4"}
ENTRIES = {
    "format": str, "version": int, "feature_space": str, "largest": (int, float), "people": list, "sequences": list,
    "provenance": dict, "files": dict,
}  # fmt: skip
REMEDY = "copy or build the folder again"
HEADER_BYTES = 2**26


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
