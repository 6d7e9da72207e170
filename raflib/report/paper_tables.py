"""All tables of the paper's experiments with avatars, from result rows: what notebook 06, RESULTS.md and `make figures`
show. So all of them have the same digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pandas as pd

from raflib.errors import RafError
from raflib.lab.cells import DEFAULTS, settings, title
from raflib.report.grid_tables import claims_sheet, difference_sheets, truth_table
from raflib.report.paper_table2 import table2
from raflib.report.paper_table3 import table3
from raflib.report.sheet import Sheet

BASELINES = ("vanilla", "raf")
"""Methods that all others are compared with."""


@dataclass(frozen=True)
class Tables:
    """The tables of one setting: its `title`, `sheets`, and one line for each table that could not be made."""

    title: str
    sheets: list[Sheet]
    left_out: list[str]


def paper_tables(rows: pd.DataFrame) -> Iterator[Tables]:
    """Tables 2 and 3, true errors, paired differences and claims, for each setting of the rows.

    Names of the sheets end with what is not at its default in the setting, so that all files of a folder differ.
    """
    for values, part in settings(rows):
        about = title(values)
        changed = [f"{name}-{value}" for name, value in values.items() if value != DEFAULTS[name]]
        sheets, left_out, told = [], [], []
        makers: tuple[Callable[[pd.DataFrame, str], Sheet], ...] = (table2, table3, truth_table)
        for make in makers:
            try:
                sheets.append(make(part, about))
            except RafError as error:
                left_out.append(str(error))
        for baseline in BASELINES:
            more, claimed = difference_sheets(part, baseline, about)
            sheets += more
            told.append(claimed)
            if not more:
                left_out.append(f"differences to {baseline}: the rows hold nothing to compare with it")
        claimed = pd.concat(told, ignore_index=True)
        sheets += [claims_sheet(claimed, "claims", about)] if len(claimed) else []
        named = [replace(sheet, name="_".join([sheet.name, *changed]).replace("/", "-")) for sheet in sheets]
        yield Tables(about, named, left_out)
