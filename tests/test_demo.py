"""The driver of `make demo`, on small test notebooks: order, reuse, and errors that name the notebook."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from small_notebooks import write_notebooks

from raflib.errors import RafError
from raflib.lab import driver
from raflib.lab.folders import run_folder

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import beyond
import demo

sys.path.pop(0)


@pytest.fixture
def root(tmp_path):
    """A project with three notebooks: one adds a line to a file, one fails, one was given bad input."""
    sources = {"good": "with open(where, 'a') as file:\n    file.write(subject)", "bad": "raise ValueError('no luck')"}
    sources["refused"] = "from raflib.errors import RafError\nraise RafError('me.mp4: is empty; take another')"
    write_notebooks(tmp_path, sources)
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
    with pytest.raises(RafError, match=r"notebook bad failed \(bad_1\): ValueError: no luck; .*/bad_1\.failed\.ipynb$"):
        demo.run_stage([steps], root, root, 2)
    assert not (root / "ran").exists(), "the rest of a chain does not run after a failure"
    assert "Traceback" in capfd.readouterr().err
    assert "no luck" in (root / "bad_1.failed.ipynb").read_text() and not (root / "bad_1.ipynb").exists()
    assert not demo.finished(steps[0], root, root)


def test_bad_input_is_one_line(root, capfd):
    with pytest.raises(RafError, match=r"refused failed \(refused_1\): me\.mp4: is empty; take another; its copy"):
        demo.run_stage([[demo.Step("refused", {"subject": "1"})]], root, root, 2)
    assert capfd.readouterr() == ("[refused_1] started\n", "")


def test_a_kernel_that_never_starts_is_named(root, monkeypatch):
    (root / "kernels" / "deaf").mkdir(parents=True)
    words = {"argv": ["sleep", "60"], "display_name": "deaf", "language": "python"}
    (root / "kernels" / "deaf" / "kernel.json").write_text(json.dumps(words))
    path = root / "notebooks" / "good.ipynb"
    path.write_text(path.read_text().replace('"python3"', '"deaf"'))
    monkeypatch.setenv("JUPYTER_PATH", str(root))
    monkeypatch.setattr(driver, "START_SECONDS", 1)
    with pytest.raises(RafError, match=r"notebook good failed .*Kernel didn't respond in 1 seconds"):
        demo.run_stage([[demo.Step("good", {"subject": "1", "where": str(root / "ran")})]], root, root, 1)
    monkeypatch.setattr(driver, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(driver.launch, "__file__", str(root / "launch.py"))
    (root / "launch.py").write_text("import time\ntime.sleep(60)")
    with pytest.raises(RafError, match=r"its kernel did not start within 1 s; its log: .*good_1\.log"):
        demo.run_stage([[demo.Step("good", {"subject": "1", "where": str(root / "ran")})]], root, root, 1)


def test_a_step_stops_when_another_failed(root):
    stop = threading.Event()
    stop.set()
    step = demo.Step("good", {"subject": "1", "where": str(root / "ran")})
    demo.execute(step, root, root, 1, stop)
    assert not (root / "ran").exists()
    assert not demo.finished(step, root, root)


def test_kernels_start_one_after_the_other(root, monkeypatch):
    real, launched, early = driver.subprocess.Popen, [], []

    def launch(command, **options):
        early.extend(log for log, process in launched if process.poll() is None and b"Cell 1" not in log.read_bytes())
        launched.append((Path(options["stdout"].name), process := real(command, **options)))
        return process

    monkeypatch.setattr(driver.subprocess, "Popen", launch)
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
    assert names[2][1] == [
        "04_train_422_raf_pose_demo",
        "05_evaluate_422_raf_pose_demo",
        "05_evaluate_422_raf_pose_relative_demo",
    ]
    assert stages[-1] == [[demo.Step("09_beyond", {"subject": "422", "profile": "demo"}, gathers=True)]]
    known = [step for stage in demo.plan("422", "demo", 1) for chain in stage for step in chain]
    assert all(step in known for step in stages[2][0][:2])
    drives = [step.parameters.get("drive") for step in stages[2][1]]
    assert drives == [None, None, "relative"]


def test_clean_keeps_what_git_tracks(tmp_path):
    shutil.copy(Path(__file__).resolve().parents[1] / "Makefile", tmp_path)
    kept = ["runs/.gitignore", "data/bank.npz", "raflib/code.py"]
    gone = ["runs/04_train_1/run.json", "runs/.hidden/x", "data/cache/x/1.png", "raflib/__pycache__/code.pyc"]
    for name in [*kept, *gone, "tests/x", "scripts/x", "benchmarks/x"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    for _ in range(2):
        subprocess.run(["make", "-s", "clean"], cwd=tmp_path, check=True)
        assert all((tmp_path / name).exists() for name in kept) and not any((tmp_path / name).exists() for name in gone)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".gitignore"]
    shutil.rmtree(tmp_path / "runs")
    subprocess.run(["make", "-s", "clean"], cwd=tmp_path, check=True)


def test_the_report_shows_what_the_steps_left_and_nothing_of_other_parameters(capsys):
    stages = demo.plan("R001", "tiny", 1)
    for step in (stages[2][0][0], stages[2][1][0], stages[-1][0][0]):  # 03, a training, 06
        step.results.mkdir(parents=True)
        (step.results / "table.txt").write_text(f"of {step.notebook}\n")
        (step.results / "picture.png").write_bytes(b"")
    other = run_folder("03_coverage", {"subject": "R001", "profile": "tiny", "repeats": 3})
    other.mkdir()
    (other / "table.txt").write_text("of other parameters\n")
    demo.report(stages, "*.txt")
    shown = capsys.readouterr().out
    assert shown.index("of 03_coverage") < shown.index("of 06_tables") and "other parameters" not in shown
    assert shown.count("picture.png") == 3


def test_parameters_reach_a_notebook_with_their_types():
    given = {"subject": "074", "seed": "3", "sigma": "0.5", "threads": "2", "profile": "tiny", "bank": ""}
    typed = driver._typed(demo.Step("04_train", given))
    assert typed == {"subject": "074", "seed": 3, "sigma": 0.5, "threads": 2, "profile": "tiny", "bank": ""}
    assert driver._typed(demo.Step("good", {"where": "3"})) == {"where": "3"}
