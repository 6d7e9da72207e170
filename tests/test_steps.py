"""Receipts of steps: a receipt is valid while all files that its step read and wrote are unchanged. No kernel runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from raflib.errors import RafError
from raflib.lab import driver
from raflib.lab.steps import Step, finished
from raflib.runs import folder_lock, write_json

BASE = {"subject": "422", "profile": "tiny", "method": "raf"}
TRAIN, EVALUATE = Step("04_train", {**BASE, "threads": "1"}, "raf"), Step("05_evaluate", BASE, "raf")
RELATIVE = Step("05_evaluate", {**BASE, "drive": "relative"}, "raf_relative")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project (its `root`) whose notebooks leave one file each; `ran` names the steps that ran."""
    monkeypatch.setenv("RAF_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RAF_CACHE", str(tmp_path / "cache"))
    texts = {"raflib/one/code.py": "answer = 42\n", "data/bank.npz": "a bank", "data/README.md": "what they are"}
    texts |= {f"notebooks/{name}.ipynb": "{}" for name in ("04_train", "05_evaluate", "plain")}
    texts["mine/bank.json"] = "another bank"
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    ran = []

    def run(step, root, folder, copy, threads, stop):
        ran.append(step.name)
        copy.write_text("executed")
        step.results.mkdir(parents=True, exist_ok=True)
        (step.results / "checkpoint.safetensors").write_text(step.name)

    monkeypatch.setattr(driver, "_run", run)
    return SimpleNamespace(root=tmp_path, ran=ran, folder=tmp_path / "runs" / "notebooks")


def run(project, *chain: Step) -> list[str]:
    """Return the names of the steps of the chain that ran because they were not finished."""
    project.ran.clear()
    driver.run_stage([chain], project.root, project.folder, 1)
    return list(project.ran)


def append(path: Path) -> None:
    path.write_text(path.read_text() + " ")


CHANGES = {
    "the notebook": lambda p: append(p.root / "notebooks" / "04_train.ipynb"),
    "code": lambda p: append(p.root / "raflib" / "one" / "code.py"),
    "code that moved": lambda p: (p.root / "raflib" / "one").rename(p.root / "raflib" / "two"),
    "a bank that was rebuilt": lambda p: append(p.root / "data" / "bank.npz"),
    "a bank that came": lambda p: (p.root / "data" / "more.npz").write_text("more"),
    "a tracker model that came": lambda p: (p.root / "data" / "face.task").write_text("more"),
    "a result that is gone": lambda p: (TRAIN.results / "checkpoint.safetensors").unlink(),
    "a result that changed": lambda p: append(TRAIN.results / "checkpoint.safetensors"),
    "the executed copy": lambda p: (p.folder / f"{TRAIN.name}.ipynb").unlink(),
    "a damaged receipt": lambda p: (p.folder / f"{TRAIN.name}.json").write_text("{"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_step_runs_again_after_a_change_of(project, change):
    assert run(project, TRAIN) == [TRAIN.name] and run(project, TRAIN) == []
    change(project)
    assert run(project, TRAIN) == [TRAIN.name] and run(project, TRAIN) == []


def test_what_a_step_neither_reads_nor_left_does_not_matter(project):
    run(project, TRAIN)
    append(project.root / "data" / "README.md")
    (TRAIN.results / "notes.txt").write_text("mine")
    for folder in (TRAIN.results, project.root / "raflib", project.root / "data"):
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / ".ipynb_checkpoints" / "code.py").write_text("")
    assert run(project, TRAIN) == []


def test_a_bank_that_a_parameter_names_is_read_too(project):
    for named in ("mine", "mine/bank.json", str(project.root / "mine" / "bank.json")):
        step = Step("plain", {**BASE, "bank": named}, "raf")
        assert run(project, step) == [step.name] and run(project, step) == []
        append(project.root / "mine" / "bank.json")
        assert run(project, step) == [step.name]


def test_evaluations_follow_the_training_that_they_read(project):
    everything = [TRAIN, EVALUATE, RELATIVE]
    assert run(project, *everything) == [step.name for step in everything] and run(project, *everything) == []
    append(TRAIN.results / "checkpoint.safetensors")
    assert not any(finished(step, project.root, project.folder) for step in everything)
    assert run(project, TRAIN, EVALUATE) == [TRAIN.name], "the training gave the same bytes again"
    append(EVALUATE.results / "checkpoint.safetensors")
    assert run(project, *everything) == [EVALUATE.name]


def test_new_weights_are_measured_without_another_training(project, monkeypatch):
    monkeypatch.setenv("RAF_WEIGHTS", str(project.root / "weights"))
    assert run(project, TRAIN, EVALUATE) == [TRAIN.name, EVALUATE.name]
    (project.root / "weights").mkdir()
    (project.root / "weights" / "deca_model.tar").write_text("weights")
    assert run(project, TRAIN, EVALUATE) == [EVALUATE.name] and run(project, TRAIN, EVALUATE) == []


def test_profiles_have_copies_of_their_own(project):
    other = Step("04_train", {**TRAIN.parameters, "profile": "demo"}, "raf")
    run(project, TRAIN)
    assert run(project, other) == [other.name] and run(project, TRAIN, other) == []


def test_a_receipt_without_lists_of_files_says_nothing(project):
    run(project, TRAIN)
    receipt = project.folder / f"{TRAIN.name}.json"
    write_json(receipt, {"fingerprint": driver.fingerprint(TRAIN, project.root)})
    assert not finished(TRAIN, project.root, project.folder)
    write_json(receipt, {"fingerprint": driver.fingerprint(TRAIN, project.root), "read": {}, "left": {}})
    assert not finished(TRAIN, project.root, project.folder)


def test_a_notebook_that_leaves_nothing_has_failed(project, monkeypatch):
    monkeypatch.setattr(driver, "_run", lambda step, root, folder, copy, threads, stop: None)
    with pytest.raises(RafError, match=r"04_train failed .*left nothing in .*04_train_422_raf_tiny_0"):
        run(project, TRAIN)
    assert not finished(TRAIN, project.root, project.folder)


def test_a_missing_bank_is_named_before_anything_runs(project):
    with pytest.raises(RafError, match=r"gone\.npz"):
        run(project, Step("04_train", {**BASE, "bank": "gone.npz"}, "raf"))
    assert project.ran == []


def test_a_folder_has_one_driver(project):
    with folder_lock(project.folder, "another demo"), pytest.raises(RafError, match=r"notebooks: in use by .*another"):
        run(project, TRAIN)
    assert project.ran == [] and run(project, TRAIN) == [TRAIN.name]
    assert sorted(path.name for path in project.folder.iterdir()) == [f"{TRAIN.name}.ipynb", f"{TRAIN.name}.json"]


def test_what_a_killed_driver_left_is_removed(project):
    left = [project.folder / ".04_train_443_raf_tiny.ipynb", project.folder / ".kernels" / "x" / "kernel-1.json"]
    left += [project.root / name / "deep" / ".raf-writing-0.png" for name in ("runs", "cache")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    run(project, TRAIN)
    assert not any(path.exists() for path in left)
