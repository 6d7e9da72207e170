"""Gains over vanilla at each dose (`raflib.lab.dose`), with intervals for new people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from raflib.errors import RafError
from raflib.lab.dose import changes, dose_named, frame_gains
from raflib.report.grid_tables import COMPARED, PROTOCOLS, STAR, ordered, starred
from raflib.report.hierarchical import bootstrap, counted, told
from raflib.report.sheet import Entry, Sheet
from raflib.report.tables import arrow, require_columns

BLOCK, RESAMPLES = 25, 1000


def dose_sheets(rows: pd.DataFrame, baseline: str = "vanilla", about: str = "") -> list[Sheet]:
    """Two tables for each protocol: gains over `baseline` at each dose, and how much they differ from the usual one.

    Args:
        rows: those of `scripts/dose.py`: an evaluation's, with the columns dose (`Dose.name`) and label.
        baseline: the method that gains are over, which has a row at each dose.
        about: what captions say of the rows.

    Intervals are those of `raflib.report.hierarchical`. Raises RafError where nothing can be compared.
    """
    require_columns(rows, ["dose", "label", "protocol"])
    sheets = []
    for protocol in PROTOCOLS:
        part = rows[rows["protocol"] == protocol]
        metrics = [tag for tag in COMPARED[protocol] if tag in part and part[tag].notna().any()]
        labels = [name for name in ordered(part["label"]) if name != baseline]
        found = {name: frame_gains(part, metrics, name, baseline) for name in labels} if metrics else {}
        changed = {name: changes(table, metrics) for name, table in found.items()}
        begin = f"{PROTOCOLS[protocol].capitalize()}. {about}"
        what = f"Gains over {baseline} at the same dose; for p, top_k and half, over {baseline} at its usual dose."
        sheets += _sheet(f"dose_{protocol}_{baseline}", found, metrics, f"{begin} {what}")
        what = f"How much larger the gain over {baseline} is than at the usual dose (p, top_k, half: what they gain)."
        sheets += _sheet(f"dose_change_{protocol}_{baseline}", changed, metrics, f"{begin} {what}")
    if not sheets:
        raise RafError(f"dose_sheets: the rows hold no frame that {baseline} and another method have at the same dose")
    return sheets


def _sheet(name: str, tables: dict[str, pd.DataFrame], metrics: Sequence[str], about: str) -> list[Sheet]:
    """A line for each method and dose, the usual one first; no sheet without lines."""
    lines: list[list[Entry]] = []
    intervals, resampled = [], Counter[str]()
    for label, frames in tables.items():
        doses = [dose_named(name) for name in frames["dose"].unique()]
        for dose in sorted(doses, key=lambda dose: (not dose.usual, dose.quantity, dose.value)):
            part = frames[frames["dose"] == dose.name]
            found, members = bootstrap(part, metrics, BLOCK, RESAMPLES)
            resampled |= Counter(members)
            table = pd.DataFrame(found, index=list(metrics))[["mean", "low", "high"]]
            values = [starred(tag, *numbers) for tag, *numbers in table.itertuples()]
            lines.append([label, dose.name, *values, part["subject"].nunique(), part["seed"].nunique(), len(part)])
            intervals.append(table)
    if not lines:
        return []
    head = ["method", "dose", *(f"{tag} {arrow(tag)}".strip() for tag in metrics), "subjects", "seeds", "frames"]
    end = f"{STAR} The interval excludes 0. {counted(pd.concat(intervals))}"
    return [Sheet(name, head, lines, f"{about} {told(resampled, BLOCK, RESAMPLES)} {end}")]
