"""Cells of the grid behind the paper's tables 2 and 3: subject × method × seed, found again in result rows.

The grid takes days, so rows are often there for a part of it only. `settings` splits rows into comparable ones,
`labelled` names the method of each row, and `presence` says which cells are there and which are missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from raflib.errors import RafError
from raflib.lab.parameters import EvaluateParameters, parameters_of
from raflib.lab.protocol import BENCHMARK
from raflib.lab.rows import load_rows
from raflib.runs import data_root
from raflib.sampler import SAMPLERS

METHODS: dict[str, dict[str, str]] = {
    "vanilla": {"method": "vanilla"},
    "noise-matched": {"method": "noise_matched"},
    "noise-0.08": {"method": "noise"},
    "noise-0.5": {"method": "noise", "sigma": "0.5"},
    "raf": {"method": "raf"},
    "raf-top5": {"method": "raf", "top_k": "5"},
    "raf-half1": {"method": "raf", "bank": "half1"},
    "raf-half2": {"method": "raf", "bank": "half2"},
    "raf-aligned": {"method": "raf_aligned"},
    "raf-open42": {"method": "raf", "search": "open42"},
    "oracle": {"method": "raf_oracle"},
    "vanilla-fitted": {"method": "vanilla", "drive": "fitted"},
    "raf-fitted": {"method": "raf", "drive": "fitted"},
}
"""Parameters of each compared method, by its label: those of the paper's tables 2 and 3; noise as strong as RAF's
steps, RAF on aligned features, RAF that searches in the face model's space, and (studio only) among true actions; and
the avatars of vanilla and RAF whose drivers' vectors go through a driving map (`raflib.driving`)."""

DEFAULTS = {field.name: field.default for field in fields(EvaluateParameters)}
OPTIONS = ("bank", "search", "p", "top_k", "sigma", "drive")
"""Parameters that distinguish methods of the same name."""
APART = tuple(name for name in DEFAULTS if name not in ("subject", "method", "seed", *OPTIONS))
"""Parameters that are the same in all rows of one table."""
CELL = ("subject", "label", "seed")
LISTED = 12
"""Missing pairs of method and subject that a caption lists; it counts the others."""


def shipped_rows() -> pd.DataFrame | None:
    """The rows of the paper's tables that ship (`data/results/paper_*.npz`); None where there are none."""
    paths = sorted((data_root() / "results").glob("paper_*.npz"))
    return pd.concat([load_rows(path) for path in paths], ignore_index=True) if paths else None


def settings(rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Parts of the rows that can be compared with each other: (parameters `APART`, labelled rows) of each.

    Raises RafError for rows without the parameters of their runs, which `raflib.lab.rows.gather` adds.
    """
    if missing := [name for name in (*APART, *OPTIONS, "subject", "method", "seed") if name not in rows]:
        raise RafError(f"rows: column {missing[0]!r} is missing; gather them with raflib.lab.rows.gather")
    for values, part in rows.groupby(list(APART), sort=False, dropna=False):
        yield dict(zip(APART, values, strict=True)), labelled(part)


def avatars_of(rows: pd.DataFrame, given: Mapping[str, str]) -> set[tuple[str, str, int]]:
    """Subject, label and seed of the avatars in `rows` whose other parameters are `given`, or else the defaults.

    Raises RafError as `settings`, and for a parameter that notebook 05 does not have or accept.
    """
    wanted = parameters_of("05_evaluate", given)
    parts = [
        part for values, part in settings(rows) if all(_same(values[name], getattr(wanted, name)) for name in APART)
    ]
    return {cell for part in parts for cell in part[list(CELL)].drop_duplicates().itertuples(False, None)}


def largest_setting(rows: pd.DataFrame) -> tuple[dict[str, Any], pd.DataFrame] | None:
    """Of `settings`, the one with the most avatars, the first of several; None where there are no rows."""
    return max(settings(rows), key=lambda entry: len(entry[1][list(CELL)].drop_duplicates()), default=None)


def title(setting: Mapping[str, Any]) -> str:
    """The parameters of `settings` as a short sentence: source, profile, and what is not at its default."""
    changed = [f"{name} {value}" for name, value in setting.items() if value != DEFAULTS[name]]
    always = [f"{name} {setting[name]}" for name in ("source", "profile") if setting[name] == DEFAULTS[name]]
    return f"{', '.join(always + changed).capitalize()}."


def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the column `label`: a key of `METHODS`, or the method with its changed options."""
    names = ["method", *OPTIONS]
    known = rows[names].drop_duplicates()
    labels = {values: label_of(dict(zip(names, values, strict=True))) for values in known.itertuples(False, None)}
    return rows.assign(label=[labels[values] for values in rows[names].itertuples(False, None)])


def label_of(values: Mapping[str, Any]) -> str:
    """The label of a method with these `OPTIONS`. Options that it does not have make no difference."""
    method = str(values["method"])
    if method not in SAMPLERS:
        return method
    sampler = SAMPLERS[method]
    has = {*sampler.options(), "drive", *(["bank"] if sampler.needs_bank() else [])}
    relevant = [name for name in OPTIONS if name in has]
    for label, given in METHODS.items():
        wanted = {**DEFAULTS, **given}
        if method == wanted["method"] and all(_same(values[name], wanted[name]) for name in relevant):
            return label
    changed = [f"{name} {_text(values[name])}" for name in relevant if not _same(values[name], DEFAULTS[name])]
    return " ".join([method, *changed])


def recipes(rows: pd.DataFrame) -> dict[tuple[str, str, int], dict[str, str]]:
    """Parameters of notebook 05 for each cell of labelled rows, as text: those that are not at their defaults.

    Raises RafError naming a cell whose rows are of several settings.
    """
    names = [name for name in DEFAULTS if name in rows]
    found = {}
    for cell, part in rows.groupby(list(CELL), sort=True):
        if mixed := [name for name in names if name in APART and part[name].nunique(dropna=False) > 1]:
            values = ", ".join(map(str, part[mixed[0]].unique()))
            raise RafError(
                f"rows of {' '.join(map(str, cell))} are of several settings ({mixed[0]}: {values}); give the rows of "
                "one of them"
            )
        values = part.iloc[0]
        given = {name: _text(values[name]) for name in names if not _same(values[name], DEFAULTS[name])}
        found[cell] = {**given, "subject": str(cell[0]), "seed": str(cell[2]), "method": str(values["method"])}
    return found


def expected_subjects(rows: pd.DataFrame) -> list[str]:
    """Subjects that a whole table has: the paper's five where all rows are of these, else those of the rows."""
    there = sorted(set(rows["subject"]))
    return list(BENCHMARK) if set(there) <= set(BENCHMARK) else there


def presence(rows: pd.DataFrame, labels: Iterable[str]) -> str:
    """What labelled rows hold of a table of these methods, and which cells are missing, in two sentences."""
    rows, labels = rows[rows["label"].isin(list(labels))], list(labels)
    cells = set(rows[list(CELL)].drop_duplicates().itertuples(False, None))
    seeds, subjects = sorted(set(rows["seed"])), sorted(set(rows["subject"]))
    drivers = set(rows.loc[rows["protocol"] == "cross", "driver"])
    without = [label for label in labels if label not in set(rows["label"])]
    names = [f"{label} (all)" for label in without]
    for label in (label for label in labels if label not in without):
        for subject in expected_subjects(rows):
            if absent := [str(seed) for seed in seeds if (subject, label, seed) not in cells]:
                names.append(f"{label} {subject} ({', '.join(absent)})")
    whole = len(labels) * len(expected_subjects(rows)) * len(seeds)
    text = (
        f"{_counted(subjects, 'subject')}, {_counted(seeds, 'seed')}, {len(drivers)} drivers; "
        f"{len(cells)} of {whole} avatars (subject × method × seed)."
    )
    if names:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        text += f" Missing, with their seeds: {', '.join(names[:LISTED])}{more}."
    return text


def _counted(names: list[Any], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'} ({', '.join(map(str, names))})"


def _same(value: Any, other: Any) -> bool:
    """Whether two values of a parameter agree; rows store numbers as 32-bit floats, and `METHODS` as text."""
    if isinstance(value, str):
        return value == other
    return bool(np.isclose(float(value), float(other), rtol=1e-6, atol=0))


def _text(value: Any) -> str:
    """A parameter as on a command line; numbers without the digits that 32-bit floats add."""
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)
