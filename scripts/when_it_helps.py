"""Where methods gain over vanilla in cross-driving: by how far drivers' vectors lie outside the subject's recording.

    python scripts/when_it_helps.py [--rows FILE] [--labels raf noise-matched vanilla-fitted] [--out FOLDER]

It reads the result rows that ship (or those of `make paper`), tracks the recordings of their subjects and drivers where
they are not in the cache (about a minute each), and writes `when_it_helps.csv`, `rise_with_distance.csv` and
`when_it_helps.png`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from raflib import report
from raflib.errors import RafError
from raflib.lab.cells import METHODS, largest_setting, shipped_rows, title
from raflib.lab.outside import with_outside
from raflib.lab.recordings import Recordings
from raflib.lab.rows import load_rows
from raflib.runs import atomic_write, runs_root
from raflib.system import print_any_text, relative


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="file of rows (default: those in data/results)")
    parser.add_argument("--labels", nargs="+", help="methods to compare with vanilla (default: all in the rows)")
    parser.add_argument("--metric", default="psnr/face")
    parser.add_argument("--out", type=Path, help="folder (default: runs)")
    options = parser.parse_args(arguments)
    print_any_text()
    out = options.out or runs_root()
    try:
        rows = load_rows(options.rows) if options.rows else shipped_rows()
        largest = None if rows is None else largest_setting(rows)
        if largest is None:
            raise RafError("there are no result rows; name a file of `make paper` with --rows")
        chosen, part = largest
        recordings = Recordings(
            **{name: chosen[name] for name in ("source", "root", "features", "model", "profile", "held_out")}
        )
        there = list(dict.fromkeys(part["label"]))
        labels = options.labels or [name for name in METHODS if name in there and name != "vanilla"]
        placed = with_outside(part, cache(recordings.open), cache(recordings.driver))
        print(title(chosen))
        tell(placed, labels, out, options.metric)
    except RafError as error:
        print(f"when_it_helps: {error}", file=sys.stderr)
        return 1
    print(f"wrote {relative(out / 'when_it_helps.png')}")
    return 0


def tell(placed: pd.DataFrame, labels: Sequence[str], out: Path, metric: str = "psnr/face") -> None:
    """Write and print the gains of `labels` by distance and how they rise, from rows of `with_outside`."""
    table = report.gains_by_distance(placed, labels, metric=metric)
    rise = report.rise_with_distance(placed, labels, metric=metric)
    for name, made in (("when_it_helps", table), ("rise_with_distance", rise)):
        with atomic_write(out / f"{name}.csv") as path:
            made.to_csv(path, index=False, lineterminator="\n")
    named = {} if metric == "psnr/face" else {"unit": metric}
    report.outside_figure(table, out / "when_it_helps.png", **named)
    print(table.round(3).to_string(index=False))
    print("Rise of the gain with each unit of distance:")
    print(rise.round(3).to_string(index=False))


if __name__ == "__main__":
    raise SystemExit(main())
