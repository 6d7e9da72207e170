"""Every avatar that the paper's tables compare: subjects × methods × seeds, trained and evaluated as one sweep.

    python scripts/paper.py --profile demo --subjects 388 422 443 445 475 --seeds 0 1 2
    python scripts/paper.py --cluster slurm --workers 20 --settings '{"queue": "gpu", "walltime": "02:00:00"}'
    python scripts/paper.py --seeds 1 2 --add-to data/results/paper_demo.npz

A sweep that was stopped goes on where it was (`raflib.lab.sweep`). At the end, and when it is stopped, all rows that
exist are gathered into one file, by columns. With `--add-to`, avatars that a file already holds are not made, and rows
of the others are added to it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

import pandas as pd

from raflib.config import PROFILES
from raflib.errors import RafError
from raflib.lab.cells import CELL, METHODS, avatars_of, labelled
from raflib.lab.parameters import NOTEBOOKS
from raflib.lab.protocol import BENCHMARK, TRAINING_FRAMES
from raflib.lab.rows import gather, load_rows, save_rows
from raflib.lab.steps import Step
from raflib.lab.sweep import LOCAL, sweep
from raflib.runs import project_root, runs_root
from raflib.system import print_any_text, relative

Cells = list[list[Step]]
Avatar = tuple[str, str, int]
"""Subject, label of the method, seed."""
FRAMES = {"demo": 20, "gpu": 20}
"""Frames of each driver that are compared, for profiles whose own number is smaller."""


def plan(
    subjects: list[str],
    methods: list[str],
    seeds: list[int],
    base: dict[str, str],
    threads: int,
    steps: int = 0,
    driver_frames: int = 0,
    without: Collection[Avatar] = (),
) -> list[Cells]:
    """Stages: every subject's captures and drivers, then a cell for each avatar (train, then evaluate).

    Methods that differ in nothing but the driving map share an avatar, which is evaluated once for each.

    `steps` are those of a training, `driver_frames` those of each driver that are compared; 0: the profile's own.
    Evaluations `without` are left out, and a subject with no other.
    """
    given = given_numbers(steps, driver_frames)
    wanted = [(subject, label, seed) for seed in seeds for subject in subjects for label in methods]
    wanted = [cell for cell in wanted if cell not in without]
    first: Cells = [
        [
            Step("01_subjects", {**base, "subject": subject}),
            Step("03_coverage", {**base, "subject": subject, "own_frames": TRAINING_FRAMES}),
        ]
        for subject in subjects
        if any(cell[0] == subject for cell in wanted)
    ]
    avatars: dict[tuple, list[Step]] = {}
    for subject, label, seed in wanted:
        about = {**base, **given, "subject": subject, "seed": str(seed), **METHODS[label]}
        name = f"{label}-seed{seed}" + (f"-steps{steps}" if steps else "")
        train, evaluate = avatar(about, name, threads)
        avatars.setdefault(tuple(sorted(train.parameters.items())), [train]).append(evaluate)
    return [first, list(avatars.values())]


def given_numbers(steps: int, driver_frames: int) -> dict[str, str]:
    """These two numbers as parameters of a notebook, without those that are 0, the profile's own."""
    return {name: str(number) for name, number in (("steps", steps), ("driver_frames", driver_frames)) if number}


def avatar(about: dict[str, str], name: str, threads: int) -> list[Step]:
    """A cell: one avatar with the parameters `about`, trained, then evaluated."""
    trained = {key: value for key, value in about.items() if key in known_to("04_train")}
    return [Step("04_train", {**trained, "threads": str(threads)}, name), Step("05_evaluate", about, name)]


def known_to(notebook: str) -> set[str]:
    """Names of a notebook's parameters."""
    return {field.name for field in fields(NOTEBOOKS[notebook])}


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="studio", help="source of the captures (default studio)")
    parser.add_argument("--root", default="", help="folder of the captures, for other sources")
    parser.add_argument("--profile", default="demo", choices=PROFILES)
    parser.add_argument("--subjects", nargs="+", default=list(BENCHMARK))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=0, help="steps of each training (default: the profile's own)")
    parser.add_argument("--driver-frames", type=int, help="frames of each driver (default: 20; tiny 2, paper all)")
    parser.add_argument("--cluster", default=LOCAL, help="local, slurm, or the address of a Dask scheduler")
    parser.add_argument("--workers", type=int, default=None, help="avatars at once (default: one for each core or GPU)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each (default 1)")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of this machine, one for each worker")
    parser.add_argument("--settings", type=json.loads, default={}, help="further settings of the cluster, as JSON")
    file = parser.add_mutually_exclusive_group()
    file.add_argument("--out", type=Path, help="file of the rows (default runs/paper_<profile>[_steps<steps>].npz)")
    file.add_argument("--add-to", type=Path, metavar="FILE", help="add to the rows of FILE the avatars that it lacks")
    options = parser.parse_args(arguments)
    print_any_text()
    base = {"profile": options.profile}
    base |= {} if options.source == "studio" else {"source": options.source, "root": options.root}
    frames = options.driver_frames if options.driver_frames is not None else FRAMES.get(options.profile, 0)
    name = f"paper_{options.profile}" + (f"_steps{options.steps}" if options.steps else "")
    out = options.add_to or options.out or runs_root() / f"{name}.npz"
    folder = runs_root() / "notebooks"
    how = {name: getattr(options, name) for name in ("cluster", "workers", "threads", "gpus", "settings")}
    grid = options.subjects, options.methods, options.seeds, base, options.threads, options.steps, frames
    given = {**base, **given_numbers(options.steps, frames)}
    try:
        stages = plan(*grid, without=avatars_of(load_rows(out), given) if options.add_to else ())
    except RafError as error:
        print(f"paper: {error}", file=sys.stderr)
        return 1
    try:
        told = sweep(stages, project_root(), folder, **how)
    except RafError as error:
        print(f"paper: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit) as signal:
        print("paper: stopped; the same command goes on where it was", file=sys.stderr)
        return 130 if isinstance(signal, KeyboardInterrupt) else signal.code
    finally:
        _gather(stages, out, given if options.add_to else None)
    done = sum(outcome.done for outcome in told)
    print(f"{done} of {len(told)} cells done")
    return 0 if done == len(told) else 1


def _gather(stages: list[Cells], out: Path, added: dict[str, str] | None) -> None:
    """Write the rows of all finished evaluations, if any.

    With `added`, the parameters of all these avatars, they follow the rows that the file holds by now, which may be
    more than at the start; avatars that are there stay as they are.
    """
    try:
        rows = gather(step for stage in stages for cell in stage for step in cell)
        if added is not None:
            before = load_rows(out)
            there, cells = avatars_of(before, added), labelled(rows)[list(CELL)].itertuples(False, None)
            rows = pd.concat([before, rows[[cell not in there for cell in cells]]], ignore_index=True)
    except RafError as error:
        print(f"paper: {error}", file=sys.stderr)
        return
    save_rows(rows, out)
    print(f"{len(rows)} rows of finished avatars: {relative(out)}")


if __name__ == "__main__":
    raise SystemExit(main())
