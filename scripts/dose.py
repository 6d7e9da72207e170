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
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from raflib import report
from raflib.config import PROFILES
from raflib.errors import RafError
from raflib.lab.dose import DOSES, NOTHING_CHANGED, Dose, dose_named, exists, frame_gains, mean_gains
from raflib.lab.protocol import NEW_PEOPLE
from raflib.lab.rows import load_rows, save_rows
from raflib.lab.short_avatars import IMAGE, KNOWN, ShortAvatar, drives_of, make_all, setting, with_labels
from raflib.report.grid_tables import ordered
from raflib.runs import atomic_write, runs_root
from raflib.system import print_any_text

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=list(NEW_PEOPLE))
    parser.add_argument("--labels", nargs="+", default=["vanilla", "raf"], choices=KNOWN, help="what is compared")
    parser.add_argument("--doses", nargs="+", default=ALL, help="such as p-1 (default: all, days)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--profile", default="demo", choices=PROFILES)
    parser.add_argument("--steps", type=int, default=2500, help="steps of the usual training (0: the profile's own)")
    parser.add_argument("--workers", type=int, help="avatars at once, one thread each (default: one for each core)")
    parser.add_argument("--rows", type=Path, help="file of rows; nothing is trained")
    parser.add_argument("--out", type=Path, help="folder of the results (default runs/dose)")
    options = parser.parse_args(arguments)
    print_any_text()
    out = options.out or runs_root() / "dose"
    try:
        if options.rows:
            tell(load_rows(options.rows), out)
            return 0
        wanted = planned(options)
        done = make_all(wanted, options.workers)
        if done:
            save_rows(gathered(done, options.labels), out / "dose.npz")
            tell(load_rows(out / "dose.npz"), out)
    except RafError as error:
        print(f"dose: {error}", file=sys.stderr)
        return 1
    return 0 if len(done) == len(wanted) else 1


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
