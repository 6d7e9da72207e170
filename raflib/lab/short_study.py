"""The command line of a study of short avatars: train those that are missing, keep their rows, and tell the results.

A study is a program such as `scripts/dose.py`. It says which avatars it wants, how their rows are put together, and
what follows from them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from raflib.config import PROFILES
from raflib.errors import RafError
from raflib.lab.protocol import NEW_PEOPLE
from raflib.lab.rows import load_rows, save_rows
from raflib.lab.short_avatars import ShortAvatar, make_all
from raflib.runs import runs_root
from raflib.system import print_any_text


def study_parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """The options that studies share. Results go into the folder `name` of the runs."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=list(NEW_PEOPLE))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--profile", default="demo", choices=PROFILES)
    parser.add_argument("--steps", type=int, default=2500, help="steps of the usual training (0: the profile's own)")
    parser.add_argument("--workers", type=int, help="avatars at once, one thread each (default: one for each core)")
    parser.add_argument("--rows", type=Path, help="file of rows; nothing is trained")
    parser.add_argument("--out", type=Path, help=f"folder of the results (default runs/{name})")
    return parser


def run_study(
    name: str,
    options: argparse.Namespace,
    planned: Callable[[int], Sequence[ShortAvatar]],
    gathered: Callable[[Sequence[ShortAvatar]], pd.DataFrame],
    tell: Callable[[pd.DataFrame, Path], None],
) -> int:
    """Run the study called `name` with the options of `study_parser`, and return the program's exit status.

    Args:
        planned: the wanted avatars, for a number of workers.
        gathered: the rows of finished avatars. They are kept in NAME.npz.
        tell: writes and prints what follows from the rows, into a folder.

    The status is 0 where all avatars are done. A RafError is printed.
    """
    print_any_text()
    out = options.out or runs_root() / name
    try:
        if options.rows:
            tell(load_rows(options.rows), out)
            return 0
        workers = options.workers or os.cpu_count() or 1
        wanted = planned(workers)
        done = make_all(wanted, workers)
        if done:
            save_rows(gathered(done), out / f"{name}.npz")
            tell(load_rows(out / f"{name}.npz"), out)
    except RafError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0 if len(done) == len(wanted) else 1
