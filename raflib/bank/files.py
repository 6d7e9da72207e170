"""Banks as one .npz: no pickle, checksummed, atomic. Needs only numpy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raflib.bank.columns import COLUMNS
from raflib.reading import Array, FileError, parsed_json, read_arrays
from raflib.runs import write_arrays

if TYPE_CHECKING:
    from raflib.bank.bank import ExpressionBank

FORMAT, VERSION = "raflib.ExpressionBank", 2
WITH_SPACES = 3
"""Version of files with further feature spaces; those without are of `VERSION`."""
SPACE = "space:"
"""Start of the names of arrays that hold a further space; its tag follows."""
MEMBERS = ("format", "version", "checksum", "feature_space", "provenance", *COLUMNS)
WHAT, REMEDY = "expression bank", "expected a whole one, build it (make bank) or correct the path"
TOO_LARGE = "keep it as a folder (raflib.bank.write_mapped), or save fewer rows"
HEAD = {"format": Array("U", ""), "version": Array("iu", "")}
STORED = {
    **HEAD, "checksum": Array("U", ""), "feature_space": Array("U", ""), "provenance": Array("U", ""),
    "features": Array("f", "N d"), "subjects": Array("U", "N"), "sequence": Array("U", "N"), "frame": Array("iu", "N"),
    "rotation": Array("f", "R 3"), f"{SPACE}*": Array("f", None),
}  # fmt: skip
MOST_BYTES = 2**32


def check_format(path: Path, name: object, version: object, known: tuple[int, ...] = (VERSION,)) -> None:
    """Raises RafError where a file is of another program or not of a `known` version."""
    if name != FORMAT:
        raise FileError(f"{path}: not an expression bank, expected one written by raflib")
    if version not in known:
        expected = " or ".join(map(str, known))
        raise FileError(f"{path}: bank format {version}, expected {expected}; update raflib or build again")


def checksum_of(bank: ExpressionBank) -> str:
    """sha256 over a bank's columns, feature spaces and provenance."""
    digest = hashlib.sha256()
    header = [FORMAT, bank.feature_space, bank.features.shape, bank.provenance]
    digest.update(json.dumps(header, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(bank.features, "<f4").tobytes())
    digest.update(np.ascontiguousarray(bank.frame, "<i8").tobytes())
    digest.update("\0".join([*np.asarray(bank.subjects).tolist(), *np.asarray(bank.sequence).tolist()]).encode())
    if bank.rotation is not None:
        digest.update(np.ascontiguousarray(bank.rotation, "<f4").tobytes())
    for tag, features in bank.spaces.items():
        digest.update(json.dumps(["space", tag, features.shape]).encode())
        digest.update(np.ascontiguousarray(features, "<f4").tobytes())
    return digest.hexdigest()


def halved(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns with features and rotations rounded to float16; too large numbers become infinite."""
    with np.errstate(over="ignore"):
        return {k: column.astype(np.float16) if column.dtype == np.float32 else column for k, column in columns.items()}


def write(
    path: str | Path,
    columns: Mapping[str, np.ndarray],
    spaces: Mapping[str, np.ndarray],
    feature_space: str,
    provenance: Mapping[str, str],
    checksum: str,
) -> None:
    """Write a bank's columns and further spaces, a compressed .npz of at most `MOST_BYTES`, packed or unpacked.

    RafError where they are larger or the file cannot be written.
    """
    values = (
        FORMAT,
        WITH_SPACES if spaces else VERSION,
        checksum,
        feature_space,
        json.dumps(provenance, sort_keys=True),
    )
    columns = {"rotation": np.empty((0, 3), np.float32), **columns}
    arrays = (columns[name] for name in COLUMNS)
    stored: dict[str, Any] = dict(zip(MEMBERS, (*map(np.asarray, values), *arrays), strict=True))
    stored |= {f"{SPACE}{tag}": features for tag, features in spaces.items()}
    write_arrays(path, stored, WHAT, TOO_LARGE, MOST_BYTES)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], str, dict[str, str], str]:
    """(columns, further spaces, feature space, provenance, checksum) of a file of `write`.

    Call it inside `damage_named`.
    """
    optional = {name: Array(array.kinds, array.shape, optional=True) for name, array in HEAD.items()}
    head = read_arrays(path, optional, WHAT, REMEDY, MOST_BYTES)
    check_format(path, str(head.get("format")), int(head.get("version", 0)), (VERSION, WITH_SPACES))
    content = read_arrays(path, STORED, WHAT, REMEDY, MOST_BYTES)
    columns = {name: content[name] for name in COLUMNS if name != "rotation" or len(content[name])}
    provenance = parsed_json(str(content["provenance"]))
    spaces = {name.removeprefix(SPACE): content[name] for name in content if name.startswith(SPACE)}
    return columns, spaces, str(content["feature_space"]), provenance, str(content["checksum"])
