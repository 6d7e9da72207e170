"""The driver is killed in many ways: no process goes on, and the next run ends as if it had not been killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from processes import MARK, marked

from raflib.runs import TEMPORARY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
ROOT = Path(__file__).resolve().parents[1]
STEPS = 12

WORK = f"""
import hashlib, time
from raflib.reading import read_json
from raflib.runs import atomic_write, runs_root, write_json
folder = runs_root() / f"work_{{subject}}"
state = read_json(folder / "state.json") if (folder / "state.json").is_file() else {{"step": 0, "value": subject}}
for step in range(state["step"], {STEPS}):
    with atomic_write(folder / "picture.bin") as path, open(path, "wb") as file:
        for part in range(10):
            file.write(hashlib.sha256(f"{{step}} {{part}} {{state['value']}}".encode()).digest() * 1000)
            file.flush()
            time.sleep(0.025)
    state = {{"step": step + 1, "value": hashlib.sha256(state["value"].encode()).hexdigest()}}
    write_json(folder / "state.json", state)
"""
AFTER = """
from raflib.reading import read_json
from raflib.runs import runs_root, write_json
write_json(runs_root() / f"after_{subject}" / "found.json", read_json(runs_root() / f"work_{subject}" / "state.json"))
"""
DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import demo
from raflib.lab import steps
steps.READS["after"] = "work"
stage = [[demo.Step(name, {"subject": person}) for name in ("work", "after")] for person in sys.argv[3:]]
sys.exit(demo.run_plan("demo", [stage], 1, lambda: None))
"""


class Project:
    """A chain of two notebooks for each of `people`, in a folder of their own, and the processes that run them."""

    def __init__(self, root: Path, *people: str):
        self.root, self.runs, self.people = root, root / "runs", people
        (root / "notebooks").mkdir(parents=True)
        (root / "raflib").symlink_to(ROOT / "raflib")
        for name, source in (("work", WORK), ("after", AFTER)):
            cells = [nbformat.v4.new_code_cell("subject = ''", metadata={"tags": ["parameters"]})]
            notebook = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(source)])
            notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")

    def half_written(self) -> set[Path]:
        return set(self.runs.glob(f"work_*/{TEMPORARY}*"))

    def start(self) -> subprocess.Popen:
        self.left_before = self.half_written()
        named = {"RAF_RUNS": self.runs, "RAF_CACHE": self.root / "cache", "RAF_ROOT": self.root, MARK: self.root}
        paths = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
        environment = {**os.environ, **{name: str(value) for name, value in named.items()}, "PYTHONPATH": paths}
        command = [sys.executable, "-c", DRIVER, str(self.root), str(ROOT / "scripts"), *self.people]
        with open(self.root / "said", "wb") as said:
            return subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)

    def said(self) -> str:
        return (self.root / "said").read_text()

    def ports(self) -> list[int]:
        about = [
            json.loads(path.read_text()) for path in self.runs.glob("notebooks/.kernels/*.json") if path.stat().st_size
        ]
        return [value for kernel in about for name, value in kernel.items() if name.endswith("_port")]

    def results(self) -> dict[str, bytes]:
        """Return everything in the folder of runs: content of results, and names of logs, receipts and copies."""
        files = sorted(path for path in self.runs.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.runs)): b"" if path.parent.name == "notebooks" else path.read_bytes()
            for path in files
        }

    def wait_until(self, condition, process: subprocess.Popen) -> None:
        deadline = time.monotonic() + 60
        while not condition() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)

    def nothing_runs(self, ports: list[int]) -> None:
        """Check that all processes end long before their work is done, and that their ports are free."""
        deadline = time.monotonic() + 1.5
        while (marked(self.root) or not all(map(free, ports))) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not marked(self.root) and all(map(free, ports)), self.said()


def free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def result(person: str) -> dict[str, bytes]:
    """Return the results of an undisturbed driver for one person."""
    value = person
    for step in range(STEPS):
        parts = (f"{step} {part} {value}" for part in range(10))
        picture = b"".join(hashlib.sha256(part.encode()).digest() * 1000 for part in parts)
        value = hashlib.sha256(value.encode()).hexdigest()
    state = (json.dumps({"step": STEPS, "value": value}, indent=1, sort_keys=True) + "\n").encode()
    found = {"work_{}/picture.bin": picture, "work_{}/state.json": state, "after_{}/found.json": state}
    found |= {f"notebooks/{name}_{{}}.{kind}": b"" for name in ("work", "after") for kind in ("ipynb", "json", "log")}
    return {name.format(person): content for name, content in found.items()}


def starting(project: Project) -> bool:
    return bool(project.ports())


def writing(project: Project) -> bool:
    return bool(project.half_written() - project.left_before)


def kill(project: Project, moment, number: int, kind: str = "") -> int:
    """Start the driver, wait for the moment, kill it or one of its processes of a `kind`; the driver's exit status."""
    driver = project.start()
    project.wait_until(lambda: moment(project), driver)
    assert driver.poll() is None, f"it ended before the moment came: {project.said()}"
    ports = project.ports()
    os.kill(marked(project.root, kind)[0] if kind else driver.pid, number)
    status = driver.wait(30)
    project.nothing_runs(ports)
    return status


def goes_on(project: Project) -> None:
    assert project.start().wait(60) == 0, project.said()
    project.nothing_runs([])
    expected = {name: content for person in project.people for name, content in result(person).items()}
    assert project.results() == expected


def test_a_driver_killed_during_a_write_goes_on(tmp_path):
    project = Project(tmp_path, "1")
    assert kill(project, writing, signal.SIGKILL) == -signal.SIGKILL
    goes_on(project)


def test_a_terminated_driver_tidies_up(tmp_path):
    project = Project(tmp_path, "1")
    assert kill(project, writing, signal.SIGTERM) == 128 + signal.SIGTERM
    assert "demo: stopped; the same command goes on where it was" in project.said()
    assert [path.name for path in project.runs.glob("notebooks/*")] == ["work_1.log"]
    assert not project.half_written()


def test_a_killed_kernel_is_named(tmp_path):
    project = Project(tmp_path, "1")
    assert kill(project, writing, signal.SIGKILL, "ipykernel_launcher") == 1
    assert "demo: notebook work failed (work_1): its kernel died" in project.said()
    assert not list(project.runs.glob("notebooks/*.json"))


@pytest.mark.slow
def test_six_kills_change_nothing(tmp_path):
    project, draw = Project(tmp_path, "1", "2"), random.Random(0)

    def random_moment(project: Project) -> bool:
        """Wait for a random time after the first kernel has started."""
        if starting(project):
            time.sleep(draw.uniform(0, 1))
            return True
        return False

    kill(project, starting, signal.SIGKILL)
    kill(project, writing, signal.SIGKILL)
    kill(project, random_moment, signal.SIGHUP)
    kill(project, writing, signal.SIGKILL, "ipykernel_launcher")
    kill(project, random_moment, signal.SIGINT)
    kill(project, random_moment, signal.SIGKILL, "launch.py")
    goes_on(project)
