"""Notebooks in a real kernel: what a user sees in a new project, after an error and after an interrupt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120
"""Seconds until a cell that does not end fails the test."""
BEFORE = f"""
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, {str(Path(__file__).parent)!r})
from synthetic import ball_capture, training

from raflib import Vanilla, config, fit
from raflib.lab.parameters import TrainParameters

settings = TrainParameters(subject="900", method="vanilla", profile="tiny", steps=12, threads=1)
capture, sampler, details, out = ball_capture(size=96), Vanilla(), {{}}, Path("run")
train_config = partial(config.train_config, weight_perceptual=0.0, landmark_steps=0)  # quicker
one_step = training.Trainer.one_step


def told(self):
    if self.step == 5:
        wait_for_an_interrupt()
    return one_step(self)


def wait_for_an_interrupt():
    handler, heard = signal.getsignal(signal.SIGINT), []
    signal.signal(signal.SIGINT, lambda *about: heard.append(handler(*about)))
    print("five steps", flush=True)
    while not heard:
        time.sleep(0.01)


training.Trainer.one_step = told
"""
"""Stands for the cells of notebook 04 before its training. After five steps it prints a line and waits."""

Execute = Callable[..., tuple[dict, list[dict]]]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory) -> Iterator[Execute]:
    """Run a cell in one kernel; return its reply and its outputs. `until` is printed text that is interrupted."""
    manager, client = start_new_kernel(kernel_name="python3", cwd=tmp_path_factory.mktemp("kernel"))

    def execute(source: str, until: str = "") -> tuple[dict, list[dict]]:
        outputs: list[dict] = []

        def hear(message: dict) -> None:
            outputs.append(message["content"] | {"kind": message["msg_type"]})
            if until and until in message["content"].get("text", ""):
                manager.interrupt_kernel()

        reply = client.execute_interactive(source, timeout=PATIENCE, output_hook=hear)["content"]
        return reply, outputs

    yield execute
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def source_of(notebook: str) -> dict[str, str]:
    """The code of each cell of a notebook, by the cell's id."""
    cells = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", 4).cells
    return {cell.id: cell.source for cell in cells if cell.cell_type == "code"}


def printed(outputs: list[dict]) -> str:
    """The text that a cell printed."""
    return "".join(output["text"] for output in outputs if output["kind"] == "stream")


def test_notebook_00_runs_in_a_new_project(kernel):
    kernel("import os; os.environ |= {'RAF_RUNS': os.path.abspath('runs'), 'RAF_CACHE': os.path.abspath('cache')}")
    shown = {}
    for name, source in source_of("00_start").items():
        reply, outputs = kernel(source)
        assert reply["status"] == "ok", reply
        texts = [output["data"]["text/markdown"] for output in outputs if output["kind"] == "execute_result"]
        shown[name] = "".join(texts)
    assert shown["next"].startswith("**Next:** open [01\\_subjects]")
    assert "no results yet" in shown["results"] and "no recordings yet" in shown["recordings"]


RAISES = """
from raflib.errors import RafError

def inside():
    try:
        1 / 0
    except ZeroDivisionError:
        raise RafError("p is 3, expected a number from 0 to 1")

inside()
"""


def test_an_error_for_users_is_one_line_and_still_an_error(kernel):
    """Also where another error led to it. The cell has failed, so that "run all" stops and papermill reports it."""
    reply, outputs = kernel(RAISES)
    assert reply["status"] == "error" and reply["ename"] == "RafError"
    assert reply["evalue"] == "p is 3, expected a number from 0 to 1"
    (shown,) = (output for output in outputs if output["kind"] == "error")
    assert shown["traceback"] == ["RafError: p is 3, expected a number from 0 to 1"]
    assert printed(outputs) == ""


def test_the_place_of_such_an_error_can_be_shown(kernel):
    kernel(RAISES)
    _, outputs = kernel("import traceback; traceback.print_last()")
    assert "in inside" in printed(outputs) and "ZeroDivisionError" in printed(outputs)


def test_other_errors_keep_their_traceback(kernel):
    reply, outputs = kernel("def inside():\n    return {}['none']\n\ninside()")
    (shown,) = (output for output in outputs if output["kind"] == "error")
    assert reply["ename"] == "KeyError" and "inside" in "".join(shown["traceback"]) and len(shown["traceback"]) > 2


def test_an_interrupted_training_goes_on_when_its_cell_is_run_again(kernel):
    cell, (reply, _) = source_of("04_train")["fit"], kernel(BEFORE)
    assert reply["status"] == "ok", reply
    reply, outputs = kernel(cell, until="five steps")
    assert reply["status"] == "error" and reply["ename"] == "KeyboardInterrupt", reply
    assert "interrupted at step 6 of 12; run again to go on" in printed(outputs)
    reply, outputs = kernel(cell)
    assert reply["status"] == "ok" and "resumed at step 6 of 12" in printed(outputs)
    _, outputs = kernel("print(run.info['steps'], run.finished, sorted(path.name for path in out.iterdir()))")
    assert printed(outputs) == "12 True ['checkpoint.safetensors', 'log.csv', 'run.json']\n"
