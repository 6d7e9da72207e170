"""Banks as one .npz: no pickle, checksummed, atomic. Needs only numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from raflib.bank.columns import COLUMNS
from raflib.reading import Array, FileError, parsed_json, read_arrays
from raflib.runs import atomic_write

FORMAT, VERSION = "raflib.ExpressionBank", 2
MEMBERS = ("format", "version", "checksum", "feature_space", "provenance", *COLUMNS)
WHAT, REMEDY = "expression bank", "expected a whole one, build it (make bank) or correct the path"
HEAD = {"format": Array("U", ""), "version": Array("iu", "")}
STORED = {
    **HEAD, "checksum": Array("U", ""), "feature_space": Array("U", ""), "provenance": Array("U", ""),
    "features": Array("f", "N d"), "subjects": Array("U", "N"), "sequence": Array("U", "N"), "frame": Array("iu", "N"),
    "rotation": Array("f", "R 3"),
}  # fmt: skip
MOST_BYTES = 2**32


def check_format(path: Path, name: object, version: object) -> None:
    """Raises RafError where a file is of another program or another version."""
    if name != FORMAT:
        raise FileError(f"{path}: not an expression bank, expected one written by raflib")
    if version != VERSION:
        raise FileError(f"{path}: bank format {version}, expected {VERSION}; update raflib or build again")


def halved(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns with features and rotations rounded to float16; too large numbers become infinite."""
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
    stored: dict[str, Any] = dict(zip(MEMBERS, (*map(np.asarray, values), *arrays), strict=True))
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **stored)


def read(path: Path) -> tuple[dict[str, np.ndarray], str, dict[str, str], str]:
    """(columns, feature space, provenance, checksum) of a file of `write`; call it inside `damage_named`."""
    optional = {name: Array(array.kinds, array.shape, optional=True) for name, array in HEAD.items()}
    head = read_arrays(path, optional, WHAT, REMEDY, MOST_BYTES)
    check_format(path, str(head.get("format")), int(head.get("version", 0)))
    content = read_arrays(path, STORED, WHAT, REMEDY, MOST_BYTES)
    columns = {name: content[name] for name in COLUMNS if name != "rotation" or len(content[name])}
    provenance = parsed_json(str(content["provenance"]))
    return columns, str(content["feature_space"]), provenance, str(content["checksum"])
