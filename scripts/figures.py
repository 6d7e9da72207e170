"""Every table of the paper's experiments with avatars from result rows, and figures 1 and 5 from trained avatars.

    python scripts/figures.py                                  from the rows that ship in data/results
    python scripts/figures.py --rows runs/paper_demo.npz       from those of `make paper`

Tables need no training and take less than a minute. They are written to `runs/figures` as Markdown, CSV and LaTeX, with
a figure of the paired differences and the page of verdicts. Figures 1 and 5 show the subjects whose avatars are in
`runs`; for the others the reason is printed.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from pathlib import Path

import pandas as pd

from raflib import Run, report
from raflib.capture import Capture
from raflib.errors import RafError
from raflib.lab.cells import recipes, settings, shipped_rows, title
from raflib.lab.folders import LEAVES, run_folder
from raflib.lab.parameters import parameters_of
from raflib.lab.recordings import Recordings
from raflib.lab.rows import load_rows
from raflib.reading import read_json
from raflib.report.grid_tables import PROTOCOLS, differences
from raflib.runs import runs_root
from raflib.system import print_any_text, relative

FIGURES = {"cross": "figure1", "self": "figure5"}
"""Names of the figures of trained avatars, by protocol."""
METRIC = "psnr/face"


def write_tables(rows: pd.DataFrame, folder: Path) -> None:
    """Write all tables; prints what could not be made."""
    for tables in report.paper_tables(rows):
        print(f"{tables.title} {len(tables.sheets)} tables")
        for sheet in tables.sheets:
            report.write_sheet(sheet, folder)
        for line in tables.left_out:
            print(f"  left out: {line}")
    report.write_sheet(report.verdict_sheet(rows), folder)


def plot_differences(part: pd.DataFrame, folder: Path, name: str) -> None:
    """Plot the paired differences to vanilla and RAF in both protocols."""
    panels = {
        f"{PROTOCOLS[protocol]}: difference to {baseline}": differences(part, baseline, protocol)
        for baseline in ("vanilla", "raf")
        for protocol in PROTOCOLS
    }
    known = {place: table for place, table in panels.items() if table is not None}
    if known:
        report.differences_figure(known, METRIC, folder / f"differences{name}.png", columns=2)


def plot_avatars(part: pd.DataFrame, folder: Path, name: str) -> None:
    """Plot figures 1 and 5 of the avatars that are in `runs`."""
    known = recipes(part)

    @cache
    def recordings(subject: str) -> Recordings:
        given = next(recipe for cell, recipe in known.items() if cell[0] == subject)
        return Recordings.of(parameters_of("05_evaluate", given))

    @cache
    def capture_of(person: str, drives: bool) -> Capture:
        if not drives:
            return recordings(person).to_measure(person)
        return recordings(next(iter(known))[0]).driver_to_measure(person)

    def run_of(subject: str, label: str, seed: int) -> Run | None:
        if (subject, label, seed) not in known:
            return None
        trained = run_folder("04_train", known[subject, label, seed])
        leaf = trained / LEAVES["04_train"]
        return Run.load(trained) if leaf.is_file() and read_json(leaf).get("finished") else None

    for protocol, figure in FIGURES.items():
        path = folder / f"{figure}{name}.png"
        if report.avatars_figure(part, protocol, run_of, capture_of, path) is None:
            print(f"{figure}: no subject has all avatars in {relative(runs_root())}; train them with make paper")


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="file of rows (default: those in data/results)")
    parser.add_argument("--out", type=Path, default=runs_root() / "figures", help="folder of the results")
    options = parser.parse_args(arguments)
    print_any_text()
    try:
        rows = load_rows(options.rows) if options.rows else shipped_rows()
        if rows is None:
            raise RafError("no rows ship in data/results yet; name a file of rows with --rows (make paper makes one)")
        write_tables(rows, options.out)
        for number, (values, part) in enumerate(settings(rows)):
            name = f"_{number}" if number else ""
            print(f"figures{name}: {title(values)}")
            plot_differences(part, options.out, name)
            plot_avatars(part, options.out, name)
    except RafError as error:
        print(f"figures: {error}", file=sys.stderr)
        return 1
    print(f"written: {relative(options.out)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
