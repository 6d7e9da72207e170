"""Banks as one .npz: no pickle, checksummed, atomic. Needs only numpy."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from raflib.errors import RafError
from raflib.retrieval.columns import COLUMNS
from raflib.runs import atomic_write

FORMAT, VERSION = "raflib.ExpressionBank", 2
MEMBERS = ("format", "version", "checksum", "feature_space", "provenance", *COLUMNS)
# What numpy, zipfile and json raise on damaged files.
READING = (OSError, EOFError, ValueError, LookupError, MemoryError, RuntimeError, TypeError, AttributeError)
UNREADABLE = (*READING, zipfile.BadZipFile, zlib.error)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside is a damaged bank at `path`, unless it is an error that names the path already."""
    try:
        yield
    except UNREADABLE as error:
        if isinstance(error, RafError) and str(error).startswith(str(path)):
            raise
        raise RafError(f"{path}: damaged expression bank ({error}), expected a whole one; build it again") from None


def check_format(path: Path, name: object, version: object) -> None:
    """Raises RafError where a file is another program's or of another version."""
    if name != FORMAT:
        raise RafError(f"{path}: not an expression bank, expected one written by raflib")
    if version != VERSION:
        raise RafError(f"{path}: bank format {version}, expected {VERSION}; update raflib or build again")


def halved(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features and rotations rounded to float16, infinite where it cannot hold them."""
    with np.errstate(over="ignore"):
        return {k: column.astype(np.float16) if column.dtype == np.float32 else column for k, column in columns.items()}


def write(
    path: str | Path,
    columns: Mapping[str, np.ndarray],
    feature_space: str,
    provenance: Mapping[str, str],
    checksum: str,
) -> None:
    """Write a bank's columns, a compressed .npz. Raises RafError where the file cannot be written."""
    values = (FORMAT, VERSION, checksum, feature_space, json.dumps(provenance, sort_keys=True))
    columns = {"rotation": np.empty((0, 3), np.float32), **columns}
    arrays = (columns[name] for name in COLUMNS)
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **dict(zip(MEMBERS, (*map(np.asarray, values), *arrays), strict=True)))


def read(path: Path) -> tuple[dict[str, np.ndarray], str, dict[str, str], str]:
    """(columns, feature space, provenance, checksum) of a file of `write`; call it inside `damage_named`."""
    with np.load(path, allow_pickle=False) as file:
        name = str(file["format"]) if "format" in file.files else None
        check_format(path, name, int(file["version"]) if name == FORMAT else None)
        content = {member: file[member] for member in MEMBERS}
    columns = {name: content[name] for name in COLUMNS if name != "rotation" or len(content[name])}
    provenance = json.loads(str(content["provenance"]))
    return columns, str(content["feature_space"]), provenance, str(content["checksum"])
