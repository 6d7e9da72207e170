"""When does retrieval help? Avatars with and without RAF while one thing about their training changes at a time.

    python scripts/dose.py --doses p-1 sequences-4 --steps 2500 --workers 2

`raflib.lab.dose` explains the quantities and lists their values. Each avatar is driven by all drivers and compared with
the studio's true images, and by its own held-out sequence. The subjects are those of `scripts/new_people.py`, which
makes the same avatars at the usual dose: they are made once. A program that was stopped goes on where it was; a
training goes on from its last checkpoint. It writes `dose.npz` (all rows), `gains.csv`, `dose.png` and the tables
`dose_PROTOCOL_BASELINE` and `dose_change_PROTOCOL_BASELINE` into runs/dose, and prints the tables. With `--rows FILE`
it trains nothing and reads such a file instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from raflib import report
from raflib.errors import RafError
from raflib.lab.dose import DOSES, NOTHING_CHANGED, Dose, dose_named, exists, frame_gains, mean_gains
from raflib.lab.short_avatars import IMAGE, KNOWN, ShortAvatar, drives_of, setting, with_labels
from raflib.lab.short_study import run_study, study_parser
from raflib.report.grid_tables import ordered
from raflib.runs import atomic_write

STUDY = "dose"
BASELINES = ("vanilla", "raf")
ALL = [Dose(quantity, value).name for quantity, values in DOSES.items() for value in values]


def planned(options: argparse.Namespace) -> list[ShortAvatar]:
    """All avatars, the usual ones first: quantities of a bank are not varied for methods without one."""
    doses = dict.fromkeys([NOTHING_CHANGED, *map(dose_named, options.doses)])
    return [
        ShortAvatar(subject, method, seed, options.profile, options.steps, dose, maps)
        for dose in doses
        for seed in options.seeds
        for subject in options.subjects
        for method, maps in drives_of(options.labels).items()
        if exists(dose, method)
    ]


def gathered(done: Sequence[ShortAvatar], labels: Sequence[str]) -> pd.DataFrame:
    """Rows of all finished avatars, with the columns `dose` and `label`."""
    rows = pd.concat([one.rows().assign(dose=one.dose.name) for one in done], ignore_index=True)
    return with_labels(rows, labels)


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = study_parser(STUDY, __doc__)
    parser.add_argument("--labels", nargs="+", default=["vanilla", "raf"], choices=KNOWN, help="what is compared")
    parser.add_argument("--doses", nargs="+", default=ALL, help="such as p-1 (default: all, days)")
    options = parser.parse_args(arguments)
    return run_study(STUDY, options, lambda _: planned(options), lambda done: gathered(done, options.labels), tell)


def sheets(rows: pd.DataFrame) -> list[report.Sheet]:
    """Gains over each of `BASELINES` that the rows hold. RafError where there is none, or nothing beside it."""
    there = [name for name in BASELINES if name in set(rows["label"])]
    if not there:
        raise RafError(f"the rows hold neither {' nor '.join(BASELINES)}; add --labels {BASELINES[0]}")
    return [sheet for name in there for sheet in report.dose_sheets(rows, name, f"{setting(rows)}.")]


def tell(rows: pd.DataFrame, out: Path) -> None:
    """Write tables and figure, and print the tables."""
    for sheet in sheets(rows):
        report.write_sheet(sheet, out)
        print(report.markdown(sheet))
    first = IMAGE[0]
    tables = [
        mean_gains(frame_gains(part, [first], name), first).assign(label=name, protocol=protocol)
        for protocol, part in rows.groupby("protocol")
        for name in ordered(rows["label"])
        if name != "vanilla"
    ]
    table = pd.concat(tables, ignore_index=True)
    with atomic_write(out / "gains.csv") as path:
        table.to_csv(path, index=False, lineterminator="\n")
    if len(table):
        report.dose_figure(table, out / "dose.png")


if __name__ == "__main__":
    raise SystemExit(main())
