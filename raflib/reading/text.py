"""JSON objects and tables (.csv), bounded in size and depth, with the entries and columns the caller names."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raflib.reading.files import damage_named, read_bytes

if TYPE_CHECKING:
    import pandas

JSON_BYTES, TABLE_BYTES = 2**22, 2**25
JSON_DEPTH = 32
Types = Mapping[str, type | tuple[type, ...]]


def read_json(
    path: str | Path,
    wanted: Types | None = None,
    what: str = "JSON file",
    remedy: str = "make it again",
    most: int = JSON_BYTES,
) -> dict:
    """The JSON object in `path`, which has at least the entries `wanted` (names and their types; bool is no int).

    Raises RafError naming the file when it is missing, larger than `most` bytes, damaged, nested deeper than
    `JSON_DEPTH`, not an object, names an entry twice, holds NaN or infinity, or lacks what is wanted.
    """
    data = read_bytes(path, what, remedy, most)
    with damage_named(path, what, remedy):
        return parsed_json(data, wanted)


def parsed_json(data: bytes | str, wanted: Types | None = None) -> dict:
    """As `read_json`, of text that is part of another file: ValueError where it is not what is wanted."""
    text = data if isinstance(data, str) else data.decode("utf-8")
    value = json.loads(text, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, expected an object")
    if _depth(value) > JSON_DEPTH:
        raise ValueError(f"it is nested deeper than {JSON_DEPTH}")
    for name, kind in (wanted or {}).items():
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if name not in value:
            raise ValueError(f"{name} is missing")
        if not isinstance(value[name], kinds) or (isinstance(value[name], bool) and bool not in kinds):
            expected = " or ".join(each.__name__ for each in kinds)
            raise ValueError(f"{name} is of type {type(value[name]).__name__}, expected {expected}")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it names an entry twice")
    return found


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"it holds {word}, expected finite numbers")
    return number


def _depth(value: object) -> int:
    """How deep objects and lists are nested; the parser has bounded it by Python's own limit."""
    if not isinstance(value, (dict, list)):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def read_table(
    path: str | Path,
    numbers: Sequence[str] = (),
    texts: Sequence[str] = (),
    what: str = "table",
    remedy: str = "make it again",
    most: int = TABLE_BYTES,
) -> pandas.DataFrame:
    """The rows of a .csv with the columns' names on top, among them `numbers` and `texts`.

    `texts` stay strings ("074"). In `numbers` an empty cell is NaN and any other must be a finite number. Further
    columns become what pandas makes of them. Raises RafError naming the file when it is missing, larger than `most`
    bytes, not a table, has a row of another length, or lacks what is wanted.
    """
    import pandas

    data = read_bytes(path, what, remedy, most)
    with damage_named(path, what, remedy):
        text = data.decode("utf-8")
        if "\0" in text:
            raise ValueError("it holds bytes of value 0, which no text does")
        head, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if len(set(head)) < len(head) or "" in head:
            raise ValueError("its first line does not give every column a name of its own")
        if odd := [line for line, row in enumerate(rows, 2) if len(row) != len(head)]:
            raise ValueError(f"row {odd[0]} has {len(rows[odd[0] - 2])} cells, expected {len(head)}")
        if missing := [name for name in (*numbers, *texts) if name not in head]:
            raise ValueError(f"column {missing[0]} is missing")
        empty = {name: [""] for name in head if name not in texts}  # "NA" may be a name
        types = dict.fromkeys(texts, str)
        table = pandas.read_csv(io.StringIO(text), dtype=types, keep_default_na=False, na_values=empty, index_col=False)
        for name in numbers:
            column = pandas.to_numeric(table[name])
            if column.dtype == bool or np.isinf(column).any():
                raise ValueError(f"column {name} holds what is not a finite number")
        return table
