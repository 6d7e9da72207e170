"""The whole path for one subject: notebooks 01 to 06 through papermill, trainings side by side.

Executed copies with a log and a receipt each go to `runs/notebooks`. A step is not run again while its parameters,
notebook, library code, data and inputs are unchanged and its results exist (`raflib.lab.steps`). A step that failed is
named with the reason, and the exit status is 1. The last lines printed are the tables and the paths of the images.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

from raflib.config import PROFILES
from raflib.errors import RafError
from raflib.lab.driver import execute, run_stage, run_stages
from raflib.lab.protocol import TRAINING_FRAMES
from raflib.lab.steps import Step, fingerprint, finished
from raflib.runs import project_root, runs_root
from raflib.sampler import PAPER_METHODS
from raflib.system import print_any_text

__all__ = ["Step", "chain", "execute", "fingerprint", "finished", "options_of", "plan", "run_plan", "run_stage"]


def plan(subject: str, profile: str, threads: int) -> list[list[list[Step]]]:
    """Stages in order; a stage is chains of steps that may run side by side, each chain in its order."""
    base = {"subject": subject, "profile": profile}
    return [
        [[Step("01_subjects", base)]],
        [[Step("02_bank", base)]],
        [
            [Step("03_coverage", {**base, "own_frames": TRAINING_FRAMES})],
            *(chain(base, method, threads) for method in PAPER_METHODS),
        ],  # coverage first: evaluation needs the drivers it tracks
        [[Step("06_tables", base, gathers=True)]],
    ]


def chain(base: dict[str, str], method: str, threads: int, drives: Sequence[str] = ("direct",)) -> list[Step]:
    """Steps that train one avatar and evaluate it with each driving map."""
    base = {**base, "method": method}
    steps = [Step("04_train", {**base, "threads": str(threads)}, method)]
    for drive in drives:
        named = {} if drive == "direct" else {"drive": drive}
        steps.append(Step("05_evaluate", {**base, **named}, "_".join([method, *named.values()])))
    return steps


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    options = options_of(__doc__).parse_args(arguments)
    stages = plan(options.subject, options.profile, max(1, options.cores // 2))
    return run_plan("demo", stages, options.cores, lambda: report(stages, "*.txt"))


def options_of(description: str | None) -> argparse.ArgumentParser:
    """A parser of the options that all plans share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", default="422", help="studio subject (default 422)")
    parser.add_argument("--profile", default="demo", choices=PROFILES)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="cores to use (default all)")
    return parser


def run_plan(name: str, stages: list[list[list[Step]]], cores: int, report: Callable[[], None]) -> int:
    """Run all stages in order, then print the report; returns the exit status."""
    print_any_text()
    start = time.monotonic()
    try:
        run_stages(stages, project_root(), runs_root() / "notebooks", cores)
    except RafError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit) as signal:
        print(f"{name}: stopped; the same command goes on where it was", file=sys.stderr)
        return 130 if isinstance(signal, KeyboardInterrupt) else signal.code
    report()
    print(f"\n{name} finished in {(time.monotonic() - start) / 60:.1f} minutes")
    return 0


def report(stages: list[list[list[Step]]], tables: str) -> None:
    """Print the tables of these steps (files whose names match `tables`) and the paths of their images."""
    folders = dict.fromkeys(step.results for stage in stages for chain in stage for step in chain)
    for path in (path for folder in folders for path in sorted(folder.glob(tables))):
        print(f"\n{path.read_text(encoding='utf-8').rstrip()}")
    print("\nimages:")
    for path in sorted(path for folder in folders for path in folder.glob("*")):
        if path.suffix in (".png", ".jpg", ".html"):
            print(f"  {path}")


if __name__ == "__main__":
    raise SystemExit(main())
