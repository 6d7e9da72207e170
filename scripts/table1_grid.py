"""Why is Table 1 smaller here than in the paper? All experiments, their tables, and the figure.

    python scripts/table1_grid.py --figure figures/table1_grid.png

People of the studio are filmed once and fitted in several ways; all of this stays in the cache. Each finished
experiment is a row of `rows.csv`, so a run that was stopped goes on where it was. It takes about 20 CPU minutes, one
thread, and less than two minutes when everything is in the cache. The last lines are the tables that
notebooks/RESULTS.md quotes, which are also written to `--out`.

`--real FOLDER` adds real people: a folder of tracks as `scripts/real_statistics.py` reads it, with its `--people`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from raflib import report
from raflib.errors import RafError
from raflib.lab import table1_answer as answer
from raflib.lab.table1_grid import REPEATS, TINY, Cast, Plan, units
from raflib.openbank.filming import names
from raflib.runs import atomic_write, runs_root
from raflib.sources._studio_recipe import made_by

EVERY = 20
"""Units after which rows are written."""


def measured(cast: Cast, path: Path) -> pd.DataFrame:
    """The rows of all units; those of an earlier run at `path` are not computed again."""
    done = pd.read_csv(path, dtype={"subject": str}) if path.exists() else pd.DataFrame({"unit": []})
    parts, known = [done], set(done.unit)
    waiting = [unit for unit in units(cast) if unit.name not in known]
    try:
        for number, unit in enumerate(tqdm(waiting, "experiments", unit="unit"), 1):
            parts.append(unit.rows().assign(unit=unit.name))
            if number % EVERY == 0:
                written(pd.concat(parts), path)
    finally:
        written(pd.concat(parts), path)
    return pd.read_csv(path, dtype={"subject": str})


def written(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV."""
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def key(cast: Cast) -> str:
    """Changes with the plan, the open bank, and how images and tracks are made."""
    told = repr((cast.plan, cast.shipped.checksum, REPEATS, made_by()))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def people_of(folder: Path, groups: Path | None) -> dict[str, object]:
    """Features of real people by name."""
    from real_statistics import tracks_by_person

    return {name: features for name, (features, _) in tracks_by_person(folder, groups).items()}


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=runs_root() / "table1_grid", help="folder of the results")
    parser.add_argument("--figure", type=Path, help="also write the figure here")
    parser.add_argument("--real", type=Path, help="folder of tracks of real people")
    parser.add_argument("--people", type=Path, help="which of these tracks show one person")
    parser.add_argument("--tiny", action="store_true", help="few people and frames, to see that everything runs")
    options = parser.parse_args(arguments)
    started = time.process_time()
    try:
        cast = Cast(TINY if options.tiny else Plan())
        real = people_of(options.real, options.people) if options.real else None
        rows = measured(cast, options.out / f"rows_{key(cast)}.csv")
        if real is not None:
            studio = {name: cast.shipped.features[cast.shipped.subjects == name] for name in names(len(real))}
            parts = [answer.of_people(people, who) for who, people in (("real people", real), ("studio", studio))]
            rows = pd.concat([rows, *parts])
        tables = {"changes": answer.changes(rows), "gaps": answer.gaps(cast), "bias": answer.bias(cast, real)}
        for name, table in tables.items():
            written(table, options.out / f"{name}.csv")
            print(f"\n{name}\n{table.round(3).to_string(index=False)}")
        chart = options.out / "table1_grid.png"
        report.hypotheses_figure(answer.shown(tables["changes"]), chart)
        if options.figure:
            report.hypotheses_figure(answer.shown(tables["changes"]), options.figure)
    except RafError as error:
        print(f"table1_grid: {error}", file=sys.stderr)
        return 1
    print(f"\n{chart}: {(time.process_time() - started) / 60:.1f} CPU minutes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
