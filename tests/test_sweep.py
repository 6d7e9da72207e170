"""Sweeps on a small project of test notebooks: reuse, failures, killed processes, and other clusters."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from dataclasses import replace

import pytest
from small_notebooks import write_notebooks

from raflib.errors import RafError
from raflib.lab import sweep as module
from raflib.lab.steps import Step
from raflib.lab.sweep import sweep
from raflib.runs import folder_lock

pytest.importorskip("distributed", reason="dask.distributed is not installed (extra `cluster`)")

SOURCES = {
    "good": "with open(where, 'a') as file:\n    file.write(subject)",
    "bad": "with open(where, 'a') as file:\n    file.write('x')\nraise ValueError('no luck')",
    "long": (
        "import os, time\nwith open(where, 'a') as file:\n    file.write(f'{os.getpid()} ')\n"
        "while not os.path.exists(where + '.go'):\n    time.sleep(0.05)"
    ),
}


SOON = 20
"""Seconds within which notebooks end; Dask alone would let them run for 30 seconds, or to their end."""


@pytest.fixture
def root(tmp_path):
    write_notebooks(tmp_path, SOURCES)
    return tmp_path


@pytest.fixture
def place(root, monkeypatch):
    for name in module.ROOTS:
        monkeypatch.setenv(name, "")  # set again at the end of the test
    return module.Place(root, root / "runs", 1, 1, 0, (str(root), str(root)))


def step(root, notebook, subject):
    return Step(notebook, {"subject": subject, "where": str(root / f"{notebook}{subject}")})


def always():
    return True


def test_a_failed_cell_is_told_and_the_others_go_on(root, capfd):
    cells = [
        [step(root, "good", "1"), step(root, "good", "2")],
        [step(root, "bad", "3"), step(root, "good", "4")],
    ]
    stages = [cells, [[step(root, "good", "5")]]]
    told = sweep(stages, root, root / "runs", workers=2, progress=False)
    assert [(one.name, one.done) for one in told] == [("good_2", True), ("good_4", False), ("good_5", True)]
    assert "no luck" in told[1].why and "failed 2 times" in told[1].why and "\n" not in told[1].why
    assert (root / "bad3").read_text() == "xx" and not (root / "good4").exists()
    assert [(root / f"good{number}").read_text() for number in (1, 2, 5)] == ["1", "2", "5"]
    again = sweep(stages, root, root / "runs", workers=1, progress=False)
    assert again == told and (root / "bad3").read_text() == "xx", "what failed twice is reported, not tried for ever"
    assert (root / "good1").read_text() == "1", "what is finished is not run again"


def test_a_mended_notebook_may_fail_anew(root, place, monkeypatch):
    ran, failing, place = [], step(root, "bad", "1"), replace(place, tries=2)

    def execute(*about):
        ran.append(about[0].name)
        if "no luck" in (root / "notebooks" / "bad.ipynb").read_text():
            raise RafError("no luck")

    monkeypatch.setattr(module.driver, "execute", execute)
    for _ in range(2):
        assert not module.run_cell([failing], place, always).done
    assert len(ran) == 2
    notebook = root / "notebooks" / "bad.ipynb"
    notebook.write_text(notebook.read_text().replace("raise ValueError('no luck')", "pass"))
    assert module.run_cell([failing], place, always).done and len(ran) == 3 and not list(root.rglob("*.failures.json"))


@pytest.mark.slow
def test_a_killed_worker_costs_its_cell_a_start(root):
    """The worker's notebook ends with it, and another worker runs the cell from its beginning or last checkpoint."""
    cells = [[step(root, "long", "1")], [step(root, "good", "2")]]
    with _sweeping(root, cells) as process:
        kernel = _wait_for(lambda: _pids(root, 1))[0]
        os.kill(_worker_of(kernel), signal.SIGKILL)
        second = _wait_for(lambda: _pids(root, 2))[1]
        assert second != kernel and _wait_for(lambda: not _alive(kernel))
        (root / "long1.go").touch()
        assert process.wait(60) == 0
    assert json.loads((root / "told.json").read_text()) == [["long_1", True], ["good_2", True]]


@pytest.mark.slow
def test_nothing_outlives_a_killed_sweep_and_it_goes_on(root):
    cells = [[step(root, "good", "2")], [step(root, "long", "1")]]
    with _sweeping(root, cells) as process:
        kernel = _wait_for(lambda: _pids(root, 1))[0]
        worker = _worker_of(kernel)
        _wait_for(lambda: (root / "runs" / "good_2.json").exists())
        process.kill()
        process.wait()
        assert _wait_for(lambda: not _alive(kernel) and not _alive(worker))
    (root / "long1.go").touch()
    told = sweep([cells], root, root / "runs", workers=1, progress=False)
    assert all(one.done for one in told) and (root / "good2").read_text() == "2"


@pytest.mark.slow
def test_workers_stop_when_their_sweep_or_their_scheduler_is_killed(root, place, caplog):
    """Workers of a cluster outlive both; their notebooks must not, so that the next sweep can go on."""
    cell, kernels, killed = [step(root, "long", "1")], [], []

    def kill_the_scheduler():
        kernels.append(_wait_for(lambda: _pids(root, 2))[1])
        cluster.scheduler.kill()
        killed.append(time.monotonic())

    with _Cluster(root) as cluster:
        with _sweeping(root, [cell], cluster.address) as process:
            kernels.append(_wait_for(lambda: _pids(root, 1))[0])
            process.kill()
            assert _wait_for(lambda: not _alive(kernels[0]), SOON), "the notebook of a killed sweep runs on"
        killer = threading.Thread(target=kill_the_scheduler)
        killer.start()
        with pytest.raises(RafError, match="the scheduler is gone; start the sweep again"):
            sweep([[cell]], root, root / "runs", cluster=cluster.address, progress=False)
        killer.join()
        assert time.monotonic() - killed[0] < SOON
        assert _wait_for(lambda: not _alive(kernels[1]), SOON), "the notebook of a lost worker runs on"
        (root / "long1.go").touch()
        assert module.run_cell(cell, place, always).done
    assert len((root / "long1").read_text().split()) == 3
    assert not [record for record in caplog.records if record.name == "distributed.client"]


def test_a_step_that_another_worker_runs_is_waited_for(root, place, monkeypatch):
    ran, released, cell = [], threading.Event(), [step(root, "good", "1")]
    monkeypatch.setattr(module.driver, "execute", lambda *about: ran.append(released.is_set()))
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with folder_lock(place.folder / module.RUNNING / "good_1", "running good_1"):
        told = module.run_cell(cell, place, always)
        assert not told.done and "in use by" in told.why and "running good_1" in told.why
        assert not list(root.rglob("*.failures.json")), "waiting in vain is no failure of the notebook"
        monkeypatch.setattr(module, "PATIENCE", 60)
        waiting = threading.Thread(target=module.run_cell, args=(cell, place, always))
        waiting.start()
        time.sleep(0.2)
        released.set()
    waiting.join(10)
    assert ran == [True]


def test_a_stopped_step_is_not_done(root, place, monkeypatch):
    """The driver returns without an error when it is stopped."""
    wanted = threading.Event()
    wanted.set()

    def execute(step, root, folder, threads, stop):
        wanted.clear()
        assert stop.wait(10)

    monkeypatch.setattr(module.driver, "execute", execute)
    told = module.run_cell([step(root, "good", "1"), step(root, "good", "2")], place, wanted.is_set)
    assert not told.done and "its sweep or its scheduler has ended" in told.why


def test_other_clusters(root, monkeypatch):
    cells = [[[[step(root, "good", "1")]]], root, root / "runs"]
    with pytest.raises(RafError, match="cluster 'cloud' is not known; choose local, slurm or an address"):
        sweep(*cells, cluster="cloud")
    with pytest.raises(RafError, match="needs dask-jobqueue; pip install dask-jobqueue"):
        sweep(*cells, cluster="slurm")
    with pytest.raises(RafError, match="3 workers for 2 GPUs"):
        sweep(*cells, workers=3, gpus=2)
    asked = []

    class SLURMCluster:
        def __init__(self, **settings):
            asked.append(settings)

        def scale(self, workers):
            asked.append(workers)
            raise RafError("that is all")

    monkeypatch.setitem(sys.modules, "dask_jobqueue", types.SimpleNamespace(SLURMCluster=SLURMCluster))
    with pytest.raises(RafError, match="that is all"):
        sweep(*cells, cluster="slurm", workers=7, threads=4, settings={"queue": "gpu", "memory": "32GB"})
    assert asked == [{"cores": 4, "processes": 1, "memory": "32GB", "queue": "gpu"}, 7]


def test_a_scheduler_without_workers_is_not_waited_for(monkeypatch, root):
    import distributed

    monkeypatch.setattr(module, "ARRIVAL", 0.2)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1", silence_logs=50) as empty,
        pytest.raises(RafError, match=r"has no worker after 0\.2 s; start some with `dask worker tcp://127"),
    ):
        sweep([[[step(root, "good", "1")]]], root, root / "runs", empty.scheduler_address, progress=False)


def test_each_worker_has_a_gpu_of_its_own(root, place, monkeypatch):
    seen = []
    monkeypatch.setattr(module.driver, "execute", lambda *about: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]))
    place = replace(place, gpus=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # set again at the end of the test
    import distributed

    for worker in (0, 1, 2):
        monkeypatch.setattr(distributed, "get_worker", lambda name=worker: types.SimpleNamespace(name=name))
        assert module.run_cell([step(root, "good", "1")], place, always).done
    assert seen == ["0", "1", "0"]


PROGRAM = """
import json, sys
from pathlib import Path
from raflib.lab.steps import Step
from raflib.lab.sweep import sweep
if __name__ == "__main__":
    root, cells = Path(sys.argv[1]), [[Step(*step) for step in cell] for cell in json.loads(sys.argv[2])]
    told = sweep([cells], root, root / "runs", sys.argv[3], workers=2, progress=False)
    (root / "told.json").write_text(json.dumps([[one.name, one.done] for one in told]))
"""


class _sweeping:
    """A sweep of `cells` in a process of its own, which is killed at the end of the block."""

    def __init__(self, root, cells, cluster="local"):
        (root / "program.py").write_text(PROGRAM)
        told = json.dumps([[[one.notebook, one.parameters] for one in cell] for cell in cells])
        self.process = subprocess.Popen([sys.executable, str(root / "program.py"), str(root), told, cluster])

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class _Cluster:
    """A scheduler and a worker of it, in processes of their own, which are killed at the end of the block."""

    def __init__(self, root):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.address, command = f"tcp://127.0.0.1:{port}", [sys.executable, "-m", "dask"]
        here = ["--host", "127.0.0.1", "--no-dashboard"]
        worker = [*command, "worker", self.address, "--no-nanny", "--nthreads", "1", "--local-directory", str(root)]
        with open(root / "dask.log", "w") as log:
            self.scheduler = subprocess.Popen([*command, "scheduler", "--port", port, *here], stdout=log, stderr=log)
            self.worker = subprocess.Popen([*worker, *here], stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in (self.scheduler, self.worker):
            process.kill()
            process.wait()


def _pids(root, count):
    """Processes of the kernels that have begun the long notebook, once there are `count`."""
    path = root / "long1"
    pids = [int(word) for word in path.read_text().split()] if path.exists() else []
    return pids if len(pids) == count else None


def _worker_of(kernel):
    """The process that started the one that started the kernel."""
    return _parent(_parent(kernel))


def _parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])


def _alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for(condition, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")
