"""The driver runs stages of steps, each notebook in a process of its own. No process outlives a killed driver.

One driver at a time works in a folder of executed copies. An interrupt, SIGTERM or SIGHUP (SIGBREAK on Windows) stops
first the steps, then the driver; after SIGKILL the system ends them (see `launch`). A notebook is executed into a
hidden file, which gets its final name when the notebook has succeeded. So a copy without `.failed` in its name is
always complete.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from raflib import system
from raflib.errors import RafError
from raflib.lab import launch
from raflib.lab.parameters import NOTEBOOKS, parameters_of
from raflib.lab.steps import Step, fingerprint, finished, read_by, results
from raflib.runs import cache_root, folder_lock, remove_leftovers, runs_root, write_json

HEARTBEAT = 30.0
"""Seconds between progress lines of a running step."""
POLL = 0.1
"""Seconds between two checks of a running step."""
START_SECONDS = 120
"""Seconds after which a kernel that has not started is an error."""
STOP_SECONDS = 10.0
"""Seconds that a stopped notebook has to save its work and end before it is killed."""
STARTING = "starting"
"""File in the folder `KERNELS` that is locked while a kernel starts: two kernels that start at once may choose the same
port and get mixed messages."""
KERNELS = ".kernels"
"""Folder of Jupyter's connection files; it is removed at the end, with files that killed kernels left."""
Chain = Sequence[Step]
"""Steps that run one after the other."""


def run_stages(stages: Sequence[Sequence[Chain]], root: Path, folder: Path, cores: int) -> None:
    """Run all stages in order, in the project at `root`; copies, logs and receipts go to `folder`.

    The chains of a stage run in parallel: at most three, and at most one more than `cores`. The first failure stops all
    of them. Raises RafError naming the notebook that failed, or the process that uses `folder`.
    """
    with alone(folder):
        for chains in stages:
            _run_chains(chains, root, folder, cores)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """In this block no other driver works in `folder`, and what an earlier one left half done is removed.

    SIGTERM and SIGHUP raise an exception here, as an interrupt does. RafError naming the process that uses `folder`.
    """
    with folder_lock(folder, "running notebooks"), _orderly_stop():
        _remove_what_was_left(folder)
        try:
            yield
        finally:
            shutil.rmtree(folder / KERNELS, ignore_errors=True)


def run_stage(chains: Sequence[Chain], root: Path, folder: Path, cores: int) -> None:
    """`run_stages` of a single stage."""
    run_stages([chains], root, folder, cores)


def _run_chains(chains: Sequence[Chain], root: Path, folder: Path, cores: int) -> None:
    """Run the chains of one stage in parallel."""
    workers = min(3, cores + 1, len(chains))
    stop, threads = threading.Event(), max(1, cores // workers)

    def run(chain: Chain) -> None:
        for step in chain:
            execute(step, root, folder, threads, stop)

    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(run, chain) for chain in chains]
        try:
            for job in wait(jobs, return_when=FIRST_EXCEPTION).done:
                job.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def execute(step: Step, root: Path, folder: Path, threads: int, stop: threading.Event) -> float:
    """Run one notebook unless it is finished; returns the seconds it took. When `stop` is set it ends without a result.

    If the notebook fails, `stop` is set, which ends the parallel steps, and a RafError names the notebook, the reason
    and the executed copy.
    """
    if stop.is_set():
        return 0.0
    if finished(step, root, folder):
        print(f"[{step.name}] done before", flush=True)
        return 0.0
    receipt, copy, where = folder / f"{step.name}.json", folder / f"{step.name}.ipynb", step.results
    partial, failed = copy.with_name(f".{copy.name}"), copy.with_suffix(".failed.ipynb")
    receipt.unlink(missing_ok=True)
    begun = {"fingerprint": fingerprint(step, root), "read": read_by(step), "parameters": step.parameters}
    start = time.monotonic()
    try:
        problem, left = _run(step, root, folder, partial, threads, stop), {}
        if stop.is_set():
            return 0.0
        if problem is None:
            _remove_half_written(where)
            left = results(step)
            if not left and step.notebook in NOTEBOOKS:
                problem = f"it left nothing in {where}"
        if problem is not None:
            stop.set()
            look = f"its log: {copy.with_suffix('.log')}"
            if partial.is_file():
                system.replace(partial, failed)
                look = f"its copy with the error: {failed}"
            raise RafError(f"notebook {step.notebook} failed ({step.name}): {problem}; {look}")
        system.replace(partial, copy)
        failed.unlink(missing_ok=True)
    finally:
        partial.unlink(missing_ok=True)
    seconds = time.monotonic() - start
    write_json(receipt, {**begun, "left": left, "seconds": seconds})
    print(f"[{step.name}] done in {seconds:.0f} s", flush=True)
    return seconds


def _run(step: Step, root: Path, folder: Path, copy: Path, threads: int, stop: threading.Event) -> str | None:
    """Execute the notebook into `copy`, in a process that has ended when this returns; returns the error or None."""
    log, connection = folder / f"{step.name}.log", folder / KERNELS / f"{step.name}.json"
    connection.parent.mkdir(exist_ok=True)
    about = {"parameters": _typed(step), "seconds": START_SECONDS, "connection": str(connection)}
    command = [sys.executable, "-P", launch.__file__, "notebook", str(os.getpid())]
    command += [str(root / "notebooks" / f"{step.notebook}.ipynb"), str(copy), json.dumps(about)]
    apart: dict[str, Any] = {
        "env": {**os.environ, **thread_limits(threads), "PYTHONUTF8": "1"},  # its log is UTF-8 on Windows, too
        "cwd": root,
        "stdin": subprocess.DEVNULL,
        **system.APART,
    }
    with open(log, "wb") as stream:
        process = None
        try:
            with _one_at_a_time(connection.with_name(STARTING)):
                if stop.is_set():
                    return None
                start = time.monotonic()
                print(f"[{step.name}] started", flush=True)
                process = subprocess.Popen(command, stdout=stream, stderr=stream, **apart)
                while process.poll() is None and not stop.wait(POLL) and b"Executing Cell" not in log.read_bytes():
                    if time.monotonic() > start + START_SECONDS + STOP_SECONDS:
                        return f"its kernel did not start within {START_SECONDS} s"
            beat = start + HEARTBEAT
            while process.poll() is None and not stop.wait(POLL):
                if time.monotonic() > beat:
                    print(f"[{step.name}] {time.monotonic() - start:4.0f} s  {last_line(log)}", flush=True)
                    beat += HEARTBEAT
        finally:
            if process is not None:
                _end(process)
            connection.unlink(missing_ok=True)
    return None if stop.is_set() or process.returncode == 0 else _reason(log, process.returncode)


def thread_limits(threads: int) -> dict[str, str]:
    """Environment variables that limit the numeric libraries of a new process to so many threads."""
    return {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "NUMBA", "MKL", "OPENBLAS")}


def _typed(step: Step) -> dict[str, Any]:
    """The step's parameters as the notebook has them: numbers are numbers, where its parameters are known."""
    if step.notebook not in NOTEBOOKS:
        return dict(step.parameters)
    known = parameters_of(step.notebook, step.parameters)
    return {name: getattr(known, name, value) for name, value in step.parameters.items()}


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until no other thread or process of this machine is in such a block."""
    with open(path, "ab") as stream:
        system.lock(stream, wait=True)
        yield


def _end(process: subprocess.Popen) -> None:
    """Ask a process to end, and kill it after `STOP_SECONDS`."""
    system.ask_to_end(process)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _reason(log: Path, status: int) -> str:
    """Why a notebook's process failed, in one line. Prints the end of its log, unless the reason is a RafError."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    why = next((line for line in reversed(lines) if line.startswith(launch.FAILED)), None)
    if why is None:
        why = f"its process was killed by signal {-status}" if status < 0 else f"its process ended with status {status}"
    why = why.removeprefix(launch.FAILED)
    if why.startswith("RafError: "):
        return why.removeprefix("RafError: ")
    print("\n".join(lines[-15:]), file=sys.stderr)
    return why


def last_line(log: Path) -> str:
    """The last line that a step has printed, cut to fit a terminal."""
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip()[:110] for line in reversed(lines) if line.strip()), "")


def _remove_what_was_left(folder: Path) -> None:
    """Remove connection files, half executed copies and half-written files of a driver that was killed."""
    shutil.rmtree(folder / KERNELS, ignore_errors=True)
    for partial in folder.glob(".*.ipynb"):
        partial.unlink()
    for place in (runs_root(), cache_root()):
        _remove_half_written(place)


def _remove_half_written(folder: Path) -> None:
    """Remove half-written files below `folder` whose writers have ended."""
    for place, _, _ in os.walk(folder):
        with suppress(PermissionError, FileNotFoundError):  # another user's folder, or one just removed
            remove_leftovers(Path(place))


@contextmanager
def _orderly_stop() -> Iterator[None]:
    """In this block SIGTERM and SIGHUP raise an exception, as an interrupt does; further signals are ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: object) -> None:
        for other in system.STOP_SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in system.STOP_SIGNALS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # nohup has it ignored
                signal.signal(number, leave)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
