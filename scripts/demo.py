"""The whole path for one subject: notebooks 01 to 06 through papermill, trainings side by side.

Executed copies, their logs and a receipt each go to `runs/notebooks`. A step whose receipt names the same parameters,
notebook and library code is not run again; a step that failed is named, with the end of its log, and the exit status
is 1. The last lines printed are the tables and the paths of the pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from raflib.config import PROFILES
from raflib.errors import RafError
from raflib.reading import read_json
from raflib.runs import project_root, runs_root, write_json
from raflib.sampler import PAPER

HEARTBEAT = 30.0
"""Seconds between progress lines of a running step."""
LAUNCH = threading.Lock()
"""Held while a kernel starts: two that start at once may choose the same free port, and read each other's messages."""
LAUNCH_SECONDS = 60.0
"""After which a kernel that has not started keeps others waiting no longer."""


@dataclass(frozen=True)
class Step:
    """One notebook with its parameters. `label` tells the three trainings apart; a step that `gathers` what other runs
    left is run every time."""

    notebook: str
    parameters: dict[str, str] = field(default_factory=dict)
    label: str = ""
    gathers: bool = False

    @property
    def name(self) -> str:
        return "_".join(part for part in (self.notebook, self.parameters["subject"], self.label) if part)


def plan(subject: str, profile: str, threads: int) -> list[list[list[Step]]]:
    """Stages in order; a stage is chains of steps that may run side by side, each chain in its order."""
    base = {"subject": subject, "profile": profile}
    return [
        [[Step("01_subjects", base)]],
        [[Step("02_bank", base)]],
        [
            [Step("03_coverage", base)],
            *(chain(base, method, threads) for method in PAPER),
        ],  # coverage first: evaluation needs the drivers it tracks
        [[Step("06_tables", base, gathers=True)]],
    ]


def chain(base: dict[str, str], method: str, threads: int, drives: Sequence[str] = ("direct",)) -> list[Step]:
    """One avatar trained, and evaluated with each driving map."""
    base = {**base, "method": method}
    steps = [Step("04_train", {**base, "threads": str(threads)}, method)]
    for drive in drives:
        named = {} if drive == "direct" else {"drive": drive}
        steps.append(Step("05_evaluate", {**base, **named}, "_".join([method, *named.values()])))
    return steps


def fingerprint(step: Step, root: Path) -> str:
    """Hash of everything a step's result follows from: its parameters, its notebook and the library's code."""
    digest = hashlib.sha256(repr(sorted(step.parameters.items())).encode())
    for path in [root / "notebooks" / f"{step.notebook}.ipynb", *sorted((root / "raflib").rglob("*.py"))]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def finished(step: Step, root: Path, folder: Path) -> bool:
    """Whether an earlier run of this very step ended well and would say the same again."""
    receipt = folder / f"{step.name}.json"
    if step.gathers or not receipt.is_file():
        return False
    try:
        return read_json(receipt).get("fingerprint") == fingerprint(step, root)
    except RafError:
        return False


def execute(step: Step, root: Path, folder: Path, threads: int, stop: threading.Event) -> float:
    """Run one notebook; returns the seconds it took.

    Raises RafError naming the notebook if it fails, after printing the end of its log, and sets `stop`, which ends
    the steps beside it.
    """
    if finished(step, root, folder):
        print(f"[{step.name}] done before", flush=True)
        return 0.0
    (folder / f"{step.name}.json").unlink(missing_ok=True)
    mark, log = fingerprint(step, root), folder / f"{step.name}.log"
    command = [sys.executable, "-m", "papermill", "--log-output", "--no-progress-bar"]
    command += [str(root / "notebooks" / f"{step.notebook}.ipynb"), str(folder / f"{step.name}.ipynb")]
    for key, value in step.parameters.items():
        command += ["-p" if key == "threads" else "-r", key, value]
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "NUMBA", "MKL", "OPENBLAS")}
    with open(log, "wb") as stream:
        with LAUNCH:
            if stop.is_set():
                return 0.0
            start = time.monotonic()
            print(f"[{step.name}] started", flush=True)
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env={**os.environ, **limits}, cwd=root)
            while process.poll() is None and not stop.wait(0.1):
                if b"Executing Cell" in log.read_bytes() or time.monotonic() > start + LAUNCH_SECONDS:
                    break
        try:
            beat = start + HEARTBEAT
            while process.poll() is None and not stop.wait(0.5):
                if time.monotonic() > beat:
                    print(f"[{step.name}] {time.monotonic() - start:4.0f} s  {last_line(log)}", flush=True)
                    beat += HEARTBEAT
        finally:
            process.terminate()
            process.wait()
    if stop.is_set():
        return 0.0
    if process.returncode:
        stop.set()
        print("\n".join(log.read_text(errors="replace").splitlines()[-15:]), file=sys.stderr)
        copy = log.with_suffix(".ipynb")
        raise RafError(f"notebook {step.notebook} failed ({step.name}); its copy with the error: {copy}")
    seconds = time.monotonic() - start
    write_json(folder / f"{step.name}.json", {"fingerprint": mark, "parameters": step.parameters, "seconds": seconds})
    print(f"[{step.name}] done in {seconds:.0f} s", flush=True)
    return seconds


def last_line(log: Path) -> str:
    """The latest progress a step has printed, cut to fit a terminal."""
    lines = log.read_text(errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip()[:110] for line in reversed(lines) if line.strip()), "")


def run_stage(chains: list[list[Step]], root: Path, folder: Path, cores: int) -> None:
    """All chains of a stage, one more at a time than there are cores (three at most); the first failure ends it."""
    workers = min(3, cores + 1, len(chains))
    stop, threads = threading.Event(), max(1, cores // workers)

    def run(chain: list[Step]) -> None:
        for step in chain:
            execute(step, root, folder, threads, stop)

    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(run, chain) for chain in chains]
        done, waiting = wait(jobs, return_when=FIRST_EXCEPTION)
        for job in waiting:
            job.cancel()
        for job in done:
            job.result()


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", default="422", help="studio subject (default 422)")
    parser.add_argument("--profile", default="demo", choices=PROFILES)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="cores to use (default all)")
    options = parser.parse_args(arguments)
    stages = plan(options.subject, options.profile, max(1, options.cores // 2))
    return run_plan("demo", stages, options.cores, lambda: report(runs_root(), options.subject, options.profile))


def run_plan(name: str, stages: list[list[list[Step]]], cores: int, report: Callable[[], None]) -> int:
    """All stages in order, then the report; the exit status."""
    root, folder, start = project_root(), runs_root() / "notebooks", time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for stage in stages:
            run_stage(stage, root, folder, cores)
    except RafError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    report()
    print(f"\n{name} finished in {(time.monotonic() - start) / 60:.1f} minutes")
    return 0


def report(runs: Path, subject: str, profile: str) -> None:
    """Print the tables that notebooks 03 and 06 wrote and where the pictures are."""
    for folder in (f"03_coverage_{subject}_{profile}", f"06_tables_{subject}_{profile}_0"):
        for path in sorted((runs / folder).glob("*.txt")):
            print(f"\n{path.read_text().rstrip()}")
    print("\npictures:")
    for path in sorted(runs.glob(f"0*_{subject}_*{profile}*/*")):
        if path.suffix in (".png", ".jpg", ".html"):
            print(f"  {path}")


if __name__ == "__main__":
    raise SystemExit(main())
