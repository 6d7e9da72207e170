"""Rows of many evaluations in one file, by columns: what tables and figures are made from without training anything.

A row is one rendered frame's scores, as notebook 05 writes them, with the parameters of its run beside them. Texts are
stored once each, numbers as 32-bit floats, so that a million rows take a few megabytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd

from raflib.errors import RafError
from raflib.lab.folders import LEAVES
from raflib.lab.parameters import parameters_of
from raflib.lab.steps import Step
from raflib.reading import Array, damage_named, read_arrays, read_table
from raflib.runs import write_arrays

EVALUATES = "05_evaluate"
WHAT, REMEDY = "table of rows", "gather the rows again"
TEXTS = ("subject", "driver")
"""Columns whose values may look like numbers."""

LAYOUT = {
    "columns": Array("U", "C"), "flags_*": Array("b", "N"), "whole_*": Array("i", "N"),
    "floats_*": Array("f", "N", finite=False), "codes_*": Array("i", "N"), "texts_*": Array("U", None),
}  # fmt: skip
KINDS = ("flags", "whole", "floats", "codes")


def gather(steps: Iterable[Step]) -> pd.DataFrame:
    """The rows of all evaluations among `steps` that have results, with a column for each parameter of their runs.

    Raises RafError for a table that is damaged, and where no step has results.
    """
    tables = []
    for step in steps:
        if step.notebook != EVALUATES or not (path := step.results / LEAVES[EVALUATES]).is_file():
            continue
        table, p = read_table(path, texts=TEXTS), parameters_of(EVALUATES, step.parameters)
        known = {field.name: getattr(p, field.name) for field in fields(p) if field.name not in table}
        tables.append(table.assign(**known))
    if not tables:
        raise RafError("gather: none of these evaluations has results; run them first")
    return pd.concat(tables, ignore_index=True)


def save_rows(rows: pd.DataFrame, path: str | Path) -> None:
    """Write rows to an .npz file, atomically and without pickle. RafError for a column of other things than texts,
    numbers and booleans, and for too many rows."""
    stored: dict[str, np.ndarray] = {"columns": np.array(list(rows.columns), dtype=str)}
    for number, name in enumerate(rows.columns):
        column = rows[name]
        if column.dtype == bool:
            stored[f"flags_{number}"] = column.to_numpy()
        elif pd.api.types.is_integer_dtype(column):
            stored[f"whole_{number}"] = column.to_numpy(np.int64)
        elif pd.api.types.is_float_dtype(column):
            stored[f"floats_{number}"] = column.to_numpy(np.float32)
        elif column.map(lambda value: isinstance(value, str)).all():
            values, codes = np.unique(column.to_numpy(str), return_inverse=True)
            stored[f"texts_{number}"], stored[f"codes_{number}"] = values, codes.astype(np.int32)
        else:
            raise RafError(f"save_rows: column {name!r} holds other things than texts, numbers and booleans")
    write_arrays(path, stored, WHAT, "save fewer rows in one file")


def load_rows(path: str | Path) -> pd.DataFrame:
    """The rows of a file of `save_rows`; RafError naming the file where it is missing or damaged."""
    stored = read_arrays(path, LAYOUT, WHAT, REMEDY)
    with damage_named(path, WHAT, REMEDY):
        columns, found = stored.pop("columns").tolist(), {}
        for number, name in enumerate(columns):
            kind = next((kind for kind in KINDS if f"{kind}_{number}" in stored), None)
            if kind is None:
                raise ValueError(f"column {name} is missing")
            found[name] = stored[f"{kind}_{number}"]
            if kind == "codes":
                values = stored[f"texts_{number}"].astype(object)
                if values.ndim != 1 or not 0 <= found[name].min() <= found[name].max() < len(values):
                    raise ValueError(f"column {name} has codes without a text")
                found[name] = values[found[name]]
    return pd.DataFrame(found)
