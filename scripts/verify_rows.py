"""Avatars of a file of result rows, trained and evaluated again, and compared row by row.

    python scripts/verify_rows.py data/results/paper_demo.npz --cells 2 --seed 0

It picks random avatars (subject × method × seed), finds the recipe of each in the columns of its rows, and runs the
same notebooks as `scripts/paper.py` in a temporary folder. Captures come from the cache. The exit status is 1 where a
metric differs by more than the tolerance. On the machine and versions that made the rows, differences are those of
32-bit numbers; on others a training goes another way, and the means say how far.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from paper import avatar

from raflib.errors import RafError
from raflib.evaluation import KEYS
from raflib.lab.cells import labelled, recipes
from raflib.lab.rows import gather, load_rows
from raflib.lab.sweep import sweep
from raflib.runs import project_root, runs_root
from raflib.system import environment

Cell = tuple[str, str, int]
LEFT_OUT = ("rendered/", "target/")
"""Beginnings of columns that are not scores; the scores follow from them."""


def picked(rows: pd.DataFrame, count: int, seed: int) -> list[Cell]:
    """Random cells of labelled rows: subject, label, seed. RafError where the rows hold fewer."""
    known = sorted(recipes(rows))
    if not 1 <= count <= len(known):
        raise RafError(f"verify_rows: --cells {count}; the rows hold {len(known)} avatars, so choose 1 to {len(known)}")
    chosen = np.random.default_rng(seed).choice(len(known), count, replace=False)
    return [known[place] for place in sorted(chosen)]


def of_cell(rows: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """The rows of one cell."""
    subject, label, seed = cell
    return rows[(rows["subject"] == subject) & (rows["label"] == label) & (rows["seed"] == seed)]


@contextmanager
def temporary_runs() -> Iterator[None]:
    """In this block `runs_root()` is a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="verify-rows-") as folder, environment({"RAF_RUNS": folder}):
        yield


def made_again(cell: Cell, recipe: dict[str, str], threads: int) -> pd.DataFrame:
    """Rows of the avatar of a recipe, trained and evaluated below `runs_root()`. RafError where a notebook fails."""
    chain = avatar(recipe, f"{cell[1]}-seed{cell[2]}", threads)
    (outcome,) = sweep([[chain]], project_root(), runs_root() / "notebooks", workers=1, threads=threads, tries=1)
    if not outcome.done:
        raise RafError(f"verify_rows: {outcome.name} failed: {outcome.why}")
    return labelled(gather(chain))


def compared(stored: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """Differences of one cell's rows by metric: the largest |difference| / max(1, |value|), and both means.

    Both sides are compared as 32-bit numbers. A value that only one side has, as a face that was found once, is an
    infinite difference. Raises RafError where frames or metrics are not the same.
    """
    keys = [key for key in (*KEYS, "part") if key in stored]
    numbers = [
        name
        for name in stored
        if pd.api.types.is_float_dtype(stored[name]) and not name.startswith(LEFT_OUT) and name not in ("p", "sigma")
    ]
    if absent := [name for name in (*keys, *numbers) if name not in again]:
        if stored[absent].notna().any(axis=None):
            raise RafError(f"verify_rows: {absent[0]} was not measured again; bring the weights that measured it")
        numbers = [name for name in numbers if name not in absent]
    sides = [side.set_index(keys)[numbers].sort_index().astype(np.float32) for side in (stored, again)]
    if not sides[0].index.equals(sides[1].index):
        raise RafError(
            f"verify_rows: {len(sides[1])} rows were made again, {len(sides[0])} are stored, or their frames differ; "
            "the notebooks or the captures have changed since"
        )
    records = []
    for name in numbers:
        old, new = (side[name].to_numpy(np.float64) for side in sides)
        same = (old == new) | (np.isnan(old) & np.isnan(new))
        with np.errstate(invalid="ignore"):
            apart = np.where(same, 0, np.abs(new - old) / np.maximum(1, np.abs(old)))
        apart = np.where(np.isnan(apart), np.inf, apart)
        known = np.isfinite(old) & np.isfinite(new)
        means = (old[known].mean(), new[known].mean()) if known.any() else (np.nan, np.nan)
        records.append({"metric": name, "largest": apart.max(), "stored mean": means[0], "new mean": means[1]})
    return pd.DataFrame(records)


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="file of rows")
    parser.add_argument("--cells", type=int, default=2, help="avatars that are made again (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice")
    parser.add_argument("--threads", type=int, default=1, help="threads of a training (default 1, as make paper)")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="allowed difference / max(1, |value|)")
    options = parser.parse_args(arguments)
    worst = 0.0
    try:
        rows = labelled(load_rows(options.rows))
        known = recipes(rows)
        for cell in picked(rows, options.cells, options.seed):
            print(f"{' '.join(map(str, cell))}: {' '.join(f'{k}={v}' for k, v in known[cell].items())}", flush=True)
            with temporary_runs():
                again = made_again(cell, known[cell], options.threads)
            table = compared(of_cell(rows, cell), again)
            place = table["largest"].idxmax()
            worst = max(worst, float(table["largest"].max()))
            print(table.to_string(index=False, float_format=lambda number: f"{number:.6g}"))
            print(f"largest difference: {table['largest'][place]:.3g} in {table['metric'][place]}", flush=True)
    except RafError as error:
        print(error, file=sys.stderr)
        return 1
    agree = worst <= options.tolerance
    print(f"{'the rows agree' if agree else 'THE ROWS DIFFER'}: {worst:.3g}, tolerance {options.tolerance:g}")
    return 0 if agree else 1


if __name__ == "__main__":
    raise SystemExit(main())
