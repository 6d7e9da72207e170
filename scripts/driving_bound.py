"""What the best driving map would gain in cross-driving, and what each map of `raflib.driving` gains. Studio only.

    python scripts/driving_bound.py --subjects 388 422 443 445 475 --methods vanilla raf --shares 0.2 0.4 0.6

It needs avatars of notebook 04 (`make paper` trains them). Drivers are people who are in no bank and no benchmark (T01
to T08), so maps can be compared and tuned here. It writes `driving_bound.csv` (a row for each frame and map) and a
figure, and prints the gains in dB over the driver's vectors as they are. It takes about a minute for the recording of
each driver and two minutes for each avatar.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from raflib import Run, report
from raflib.driving import DRIVES, Centred
from raflib.errors import RafError
from raflib.lab.driving_bound import distances, driving_gains, gain_table
from raflib.lab.folders import run_folder
from raflib.lab.protocol import BENCHMARK
from raflib.lab.recordings import Recordings
from raflib.runs import atomic_write, runs_root
from raflib.system import print_any_text, relative

PEOPLE = tuple(f"T{number:02d}" for number in range(1, 9))


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=list(BENCHMARK))
    parser.add_argument("--methods", nargs="+", default=["vanilla", "raf"], help="methods of notebook 04")
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--people", nargs="+", default=list(PEOPLE), help="drivers (default T01 to T08)")
    parser.add_argument("--frames", type=int, default=8, help="frames of each driver (default 8)")
    parser.add_argument("--drives", nargs="+", default=list(DRIVES), choices=DRIVES, help="default all driving maps")
    parser.add_argument("--shares", nargs="*", type=float, default=[], help="shares of `centred` to compare, too")
    parser.add_argument("--out", type=Path, help="default runs/driving_bound.csv")
    options = parser.parse_args(arguments)
    print_any_text()
    out = options.out or runs_root() / "driving_bound.csv"
    recordings, tables = Recordings(profile=options.profile), []
    try:
        maps = {name: DRIVES[name]() for name in options.drives}
        maps |= {f"centred {share:g}": Centred(share=share) for share in options.shares}
        about = [
            {"subject": subject, "method": method, "profile": options.profile}
            for subject in options.subjects
            for method in options.methods
        ]
        runs = [Run.load(run_folder("04_train", one)) for one in about]  # before minutes are spent on recordings
        for subject in options.subjects:
            target = recordings.to_measure(subject)
            drivers = [recordings.driver_to_measure(name) for name in options.people if name != subject]
            avatars = [run for run in runs if run.subject == subject]
            tables.append(driving_gains(avatars, target, drivers, maps, options.frames))
    except RafError as error:
        print(f"driving_bound: {error}", file=sys.stderr)
        return 1
    rows = pd.concat(tables, ignore_index=True)
    with atomic_write(out) as path:
        rows.to_csv(path, index=False, lineterminator="\n")
    gains = gain_table(rows)
    report.driving_figure(gains, out.with_suffix(".png"))
    print(gains.round(2).to_string())
    print(f"\ndistance to the own reading:\n{distances(rows).round(3).to_string()}")
    print(f"wrote {relative(out)} and {relative(out.with_suffix('.png'))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
