"""`make demo`'s driver on small stand-in notebooks: order, reuse, and failures that name the notebook."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import nbformat
import pytest

from raflib.errors import RafError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import beyond
import demo

sys.path.pop(0)


@pytest.fixture
def root(tmp_path):
    """A project with two notebooks: one adds a line to a file, one fails."""
    sources = {"good": "with open(where, 'a') as file:\n    file.write(subject)", "bad": "raise ValueError('no luck')"}
    for name, source in sources.items():
        cells = [nbformat.v4.new_code_cell("subject = ''\nwhere = ''", metadata={"tags": ["parameters"]})]
        notebook = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(source)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    (tmp_path / "raflib").mkdir()
    (tmp_path / "raflib" / "code.py").write_text("answer = 42\n")
    return tmp_path


def test_a_finished_step_runs_once_until_something_changes(root, capfd):
    step = demo.Step("good", {"subject": "074", "where": str(root / "ran")})
    run = [[step]], root, root, 1
    demo.run_stage(*run)
    demo.run_stage(*run)
    assert (root / "ran").read_text() == "074"
    assert "[good_074] done before" in capfd.readouterr().out
    (root / "raflib" / "code.py").write_text("answer = 43\n")
    demo.run_stage(*run)
    assert (root / "ran").read_text() == "074074"


def test_what_gathers_results_runs_every_time(root, capfd):
    step = demo.Step("good", {"subject": "074", "where": str(root / "ran")}, gathers=True)
    for _ in range(2):
        demo.run_stage([[step]], root, root, 1)
    assert (root / "ran").read_text() == "074074"
    last = [
        plan("422", "tiny", 1, *more)[-1][0][0] for plan, *more in ((demo.plan,), (beyond.plan, ["raf"], ["direct"]))
    ]
    assert [(step.notebook, step.gathers) for step in last] == [("06_tables", True), ("09_beyond", True)]


def test_a_failing_notebook_is_named_and_leaves_no_receipt(root, capfd):
    steps = [demo.Step("bad", {"subject": "1"}), demo.Step("good", {"subject": "1", "where": str(root / "ran")})]
    with pytest.raises(RafError, match="notebook bad failed"):
        demo.run_stage([steps], root, root, 2)
    assert not (root / "ran").exists(), "the rest of a chain does not run after a failure"
    assert "no luck" in capfd.readouterr().err
    assert not demo.finished(steps[0], root, root)


def test_a_step_stops_when_another_failed(root):
    stop = threading.Event()
    stop.set()
    step = demo.Step("good", {"subject": "1", "where": str(root / "ran")})
    demo.execute(step, root, root, 1, stop)
    assert not (root / "ran").exists()
    assert not demo.finished(step, root, root)


def test_kernels_start_one_after_the_other(root, monkeypatch):
    real, launched, early = demo.subprocess.Popen, [], []

    def launch(command, **options):
        early.extend(log for log, process in launched if process.poll() is None and b"Cell 1" not in log.read_bytes())
        launched.append((Path(options["stdout"].name), process := real(command, **options)))
        return process

    monkeypatch.setattr(demo.subprocess, "Popen", launch)
    steps = [demo.Step("good", {"subject": str(number), "where": str(root / "ran")}) for number in range(3)]
    demo.run_stage([[step] for step in steps], root, root, 2)
    assert sorted((root / "ran").read_text()) == ["0", "1", "2"] and len(launched) == 3 and not early


def test_the_plan_trains_before_it_evaluates():
    stages = [[[step.notebook for step in chain] for chain in stage] for stage in demo.plan("422", "demo", 1)]
    order = {name: index for index, stage in enumerate(stages) for chain in stage for name in chain}
    names = ("01_subjects", "02_bank", "03_coverage", "04_train", "05_evaluate", "06_tables")
    assert set(order) == set(names)
    assert order["02_bank"] < order["04_train"] == order["05_evaluate"] < order["06_tables"]
    assert stages[2].count(["04_train", "05_evaluate"]) == 3
    for stage in demo.plan("422", "demo", 1):
        steps = [step.name for chain in stage for step in chain]
        assert len(set(steps)) == len(steps)


def test_beyond_shares_the_demos_steps_and_adds_one_for_each_drive():
    stages = beyond.plan("422", "demo", 1, ["vanilla", "raf_pose"], ["direct", "relative"])
    names = [[[step.name for step in chain] for chain in stage] for stage in stages]
    assert names[2][1] == ["04_train_422_raf_pose", "05_evaluate_422_raf_pose", "05_evaluate_422_raf_pose_relative"]
    assert stages[-1] == [[demo.Step("09_beyond", {"subject": "422", "profile": "demo"}, gathers=True)]]
    known = [step for stage in demo.plan("422", "demo", 1) for chain in stage for step in chain]
    assert all(step in known for step in stages[2][0][:2])
    drives = [step.parameters.get("drive") for step in stages[2][1]]
    assert drives == [None, None, "relative"]
