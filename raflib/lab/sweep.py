"""A sweep: many chains of notebooks at once, on this machine's cores or GPUs or on a cluster, with Dask.

A cell of the sweep is a chain of steps that run one after the other, such as a training and its evaluations. Finished
steps are known by their receipts (`raflib.lab.steps`), so a sweep that was stopped or killed goes on where it was. A
step that was killed while it trained goes on from its last checkpoint. A cell whose notebook fails is tried again, at
most `tries` times in all sweeps together, and reported; the others go on.

Workers of a cluster outlive the sweep. Where the sweep or its scheduler has ended, even by SIGKILL, they stop their
notebooks within seconds, and a new sweep waits for that before it runs the same step.

    sweep([cells], project_root(), runs_root() / "notebooks", workers=2)              this machine
    sweep([cells], …, cluster="slurm", workers=20, settings={"queue": "gpu"})         workers are Slurm jobs
    sweep([cells], …, cluster="tcp://head:8786")                                      workers that run already
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from raflib.errors import RafError, whole
from raflib.lab import driver
from raflib.lab.steps import Step, fingerprint, finished
from raflib.reading import read_json
from raflib.runs import cache_root, folder_lock, runs_root, write_json

if TYPE_CHECKING:
    from distributed import Client

Chain = Sequence[Step]
LOCAL, SLURM = "local", "slurm"
ROOTS = ("RAF_RUNS", "RAF_CACHE")
"""Environment variables that workers on other machines need."""
RUNNING = ".running"
"""Folder of locks, one for each step that a worker runs."""
PATIENCE = 60.0
"""Seconds to wait for another worker that runs the same step."""
ARRIVAL = 60.0
"""Seconds to wait for the first worker of a scheduler that runs already."""
GONE = "sweep: the scheduler is gone; start the sweep again, finished cells are not run again"


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: its `name` (its last step's), whether it is `done`, and `why` not, in one line."""

    name: str
    done: bool
    why: str = ""


@dataclass(frozen=True)
class Place:
    """Where and how cells run: project, folder of copies and receipts, threads of a cell, tries, GPUs, and `ROOTS`."""

    root: Path
    folder: Path
    threads: int
    tries: int
    gpus: int
    roots: tuple[str, ...]


def sweep(
    stages: Sequence[Sequence[Chain]],
    root: Path,
    folder: Path,
    cluster: str = LOCAL,
    workers: int | None = None,
    threads: int = 1,
    gpus: int = 0,
    tries: int = 2,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> list[Outcome]:
    """Run all cells; a stage begins when the one before it has ended. Returns the outcomes of all cells in their order.

    Args:
        stages: the cells of each stage, which do not depend on each other.
        root: the project.
        folder: place of executed copies, logs and receipts; one sweep at a time works in it.
        cluster: "local", "slurm" (needs dask-jobqueue), or the address of a Dask scheduler that runs already.
        workers: cells that run at once; default the number of `gpus`, or of cores over `threads`.
        threads: threads of a cell.
        gpus: GPUs of this machine, one for each worker; 0 where cells use none, or where the cluster deals them out.
        tries: how often a cell may fail in all sweeps together, before it is only reported. Remove the file
            `<step>.failures.json` to try it again.
        settings: further arguments of `dask_jobqueue.SLURMCluster`, such as queue, memory and walltime.
        progress: show a progress bar with the time that is left.

    Raises RafError for a cluster that is not known or cannot be reached, for numbers out of range, and where another
    process works in `folder`.
    """
    gpus, threads, tries = whole("sweep: gpus", gpus), whole("sweep: threads", threads, 1), whole("tries", tries, 1)
    workers = whole("sweep: workers", workers or gpus or max(1, (os.cpu_count() or 1) // threads), 1)
    if gpus and workers > gpus:
        raise RafError(f"sweep: {workers} workers for {gpus} GPUs; each worker needs one of its own")
    place = Place(root, folder, threads, tries, gpus, (str(runs_root()), str(cache_root())))
    cells = [cell for stage in stages for cell in stage]
    told: dict[int, Outcome] = {}
    with (
        driver.alone(folder),
        _client(cluster, workers, threads, settings or {}) as client,
        tqdm(total=len(cells), desc="cells", unit="cell", smoothing=0, disable=not progress) as bar,
    ):
        for stage in stages:
            _run_stage(client, stage, place, told, bar)
    return [told[id(cell)] for cell in cells]


def _run_stage(client: Client, stage: Sequence[Chain], place: Place, told: dict[int, Outcome], bar: tqdm) -> None:
    """Run the cells of a stage and put their outcomes into `told`, by the identity of the cell."""
    from distributed import CancelledError, as_completed
    from distributed.scheduler import KilledWorker

    if client.status != "running":
        raise RafError(GONE)
    jobs = {}
    for cell in stage:
        if all(finished(step, place.root, place.folder) for step in cell):
            told[id(cell)] = Outcome(cell[-1].name, True)
            bar.total -= 1  # what was done before says nothing about the time that is left
            bar.refresh()
        else:
            jobs[client.submit(_run_while_wanted, cell, place, pure=False)] = cell
    for job in as_completed(jobs):
        cell = jobs[job]
        try:
            told[id(cell)] = job.result()
        except KilledWorker:
            told[id(cell)] = Outcome(cell[-1].name, False, "its worker died again and again; memory may have run out")
        except (CancelledError, OSError):
            raise RafError(GONE) from None
        if not told[id(cell)].done:
            bar.write(f"failed: {told[id(cell)].name}: {told[id(cell)].why}")
        bar.set_postfix(failed=sum(not outcome.done for outcome in told.values()))
        bar.update()


def _run_while_wanted(cell: Chain, place: Place) -> Outcome:
    """`run_cell`, in a worker, as long as the sweep and the scheduler exist.

    Dask cannot stop a thread. It would leave the notebook running for half a minute after the scheduler has ended, and
    to its end after the sweep was killed.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        forgotten = task is None or task.state in ("cancelled", "resumed")
        return not forgotten and worker.status.name not in ("closing", "closed", "failed")

    return run_cell(cell, place, wanted)


def run_cell(cell: Chain, place: Place, wanted: Callable[[], bool]) -> Outcome:
    """Run the steps of one cell, in a worker, while it is `wanted`; a step that fails is tried again while it may."""
    from distributed import get_worker

    os.environ.update(zip(ROOTS, place.roots, strict=True))
    if place.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(int(get_worker().name) % place.gpus)
    for step in cell:
        try:
            with _no_other_worker(step, place, wanted):
                problem = _run_step(step, place, wanted)
        except RafError as error:
            problem = str(error)
        if problem:
            return Outcome(cell[-1].name, False, problem)
    return Outcome(cell[-1].name, True)


def _run_step(step: Step, place: Place, wanted: Callable[[], bool]) -> str:
    """Run a step until it succeeds, as often as it may fail; returns why it did not, or an empty text."""
    while (failure := _failures(step, place))[0] < place.tries:
        try:
            with (
                contextlib.redirect_stdout(None),
                contextlib.redirect_stderr(None),
                _set_when_unwanted(wanted) as stop,
            ):
                driver.execute(step, place.root, place.folder, place.threads, stop)
        except RafError as error:
            _record(step, place, failure[0] + 1, str(error))
            continue
        if not wanted():
            return "it was stopped, as its sweep or its scheduler has ended"
        _failed(step, place).unlink(missing_ok=True)
        return ""
    return f"{failure[1]} (failed {failure[0]} times, not tried again)"


@contextmanager
def _no_other_worker(step: Step, place: Place, wanted: Callable[[], bool]) -> Iterator[None]:
    """In this block no other worker runs the step, such as one that has just lost its scheduler.

    Waits for the other worker to end the step; RafError naming it after `PATIENCE` seconds.
    """
    end = time.monotonic() + PATIENCE
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(folder_lock(place.folder / RUNNING / step.name, f"running {step.name}"))
                break
            except RafError:
                if time.monotonic() > end or not wanted():
                    raise
                time.sleep(driver.POLL)
        yield


@contextmanager
def _set_when_unwanted(wanted: Callable[[], bool]) -> Iterator[threading.Event]:
    """An event that is set as soon as the cell is not `wanted` any more."""
    stop, ended = threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.wait(driver.POLL):
            if not wanted():
                stop.set()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield stop
    finally:
        ended.set()
        watcher.join()


def _failed(step: Step, place: Place) -> Path:
    return place.folder / f"{step.name}.failures.json"


def _failures(step: Step, place: Place) -> tuple[int, str]:
    """How often the step has failed as it is now, and why the last time."""
    path = _failed(step, place)
    if not path.is_file():
        return 0, ""
    try:
        told = read_json(path)
    except RafError:  # damaged: as if it had never been written
        return 0, ""
    if told.get("fingerprint") != fingerprint(step, place.root):
        return 0, ""
    return int(told["times"]), str(told["why"])


def _record(step: Step, place: Place, times: int, why: str) -> None:
    about = {"fingerprint": fingerprint(step, place.root), "times": times, "why": why}
    write_json(_failed(step, place), about)


@contextmanager
def _client(cluster: str, workers: int, threads: int, settings: Mapping[str, Any]) -> Iterator[Client]:
    """A client of the named cluster. Local workers end with this process, however it ends, and notebooks with them."""
    try:
        import distributed
    except ImportError:
        raise RafError("sweep: needs dask; pip install 'raflib[cluster]'") from None
    with contextlib.ExitStack() as stack:
        stack.enter_context(_no_tracebacks())
        if cluster == LOCAL:
            started = distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1",
                memory_limit=0, silence_logs=50,
            )  # fmt: skip
        elif cluster == SLURM:
            started = _slurm(workers, threads, settings)
        elif "://" in cluster:
            started = None
        else:
            raise RafError(
                f"sweep: cluster {cluster!r} is not known; choose {LOCAL}, {SLURM} or an address (tcp://host:port)"
            )
        if started is not None:
            stack.enter_context(started)
        try:
            client = stack.enter_context(distributed.Client(started or cluster, timeout=20))
        except OSError as error:
            raise RafError(f"sweep: no scheduler answers at {cluster} ({error}); start it, or correct it") from None
        if started is None:
            try:
                client.wait_for_workers(1, timeout=ARRIVAL)
            except TimeoutError:
                raise RafError(
                    f"sweep: the scheduler at {cluster} has no worker after {ARRIVAL:g} s; start some with "
                    f"`dask worker {cluster}`"
                ) from None
        yield client


@contextmanager
def _no_tracebacks() -> Iterator[None]:
    """In this block Dask's client logs nothing; `sweep` says what went wrong."""
    log = logging.getLogger("distributed.client")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _slurm(workers: int, threads: int, settings: Mapping[str, Any]) -> Any:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise RafError("sweep: cluster 'slurm' needs dask-jobqueue; pip install dask-jobqueue") from None
    cluster = SLURMCluster(**{"cores": threads, "processes": 1, "memory": "8GB", **settings})
    cluster.scale(workers)
    return cluster
