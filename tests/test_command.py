"""The command `raf`: its commands, its errors in one line, and paths with spaces and letters of other scripts."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from toy_avatar import toy_capture, toy_run

from raflib import __main__ as raf
from raflib.lab import driver
from raflib.lab.folders import run_folder
from raflib.lab.recordings import Recordings
from raflib.runs import runs_root
from raflib.training import Run

ROOT = Path(__file__).resolve().parents[1]


def test_one_process_shows_the_commands():
    done = subprocess.run([sys.executable, "-m", "raflib", "--help"], capture_output=True, text=True, check=True)
    for name in ("train", "evaluate", "export", "check"):
        assert f"    {name} " in done.stdout
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"raf": "raflib.__main__:main"}


def test_check_of_a_missing_folder_is_one_line(tmp_path, capsys):
    assert raf.main(["check", str(tmp_path / "no such 片")]) == 2
    error = capsys.readouterr().err
    assert "no such 片" in error and error.count("\n") == 1


@pytest.fixture
def started(monkeypatch):
    """Notebooks are recorded instead of run."""
    found = []
    monkeypatch.setattr(driver, "run_stage", lambda *given: found.append(given))
    return found


def test_train_and_evaluate_run_the_notebooks_with_these_parameters(started, capsys):
    assert raf.main(["train", "443", "--method", "noise", "--profile", "tiny", "--sigma", "0.5", "--threads", "1"]) == 0
    assert raf.main(["evaluate", "443", "--method", "vanilla"]) == 0
    (train, root, copies, cores), (evaluate, *_) = started
    assert [[step.notebook for step in chain] for chain in (*train, *evaluate)] == [["04_train"], ["05_evaluate"]]
    wanted = {"subject": "443", "method": "noise", "profile": "tiny", "sigma": 0.5}
    assert train[0][0].results == run_folder("04_train", wanted)
    assert (root, cores) == (ROOT, 1)
    assert copies == runs_root() / "notebooks" / train[0][0].results.name, "no other step has its copies there"
    assert capsys.readouterr().out.splitlines() == [str(chain[0].results) for chain in (*train, *evaluate)]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["train", "443", "--method", "magic"], "parameter method is 'magic'; choose one of"),
        (["train", "443", "--steps", "many"], "parameter steps must be int, got str 'many'"),
        (["evaluate", "4/3"], "parameter subject is '4/3'"),
        (["export", "no such run", "--html", "a.html"], "no such run: no such folder, neither here nor in"),
        (["export", "no such run"], "nothing to write; give --html FILE, --ply FOLDER or --turntable FILE"),
        (["export", "no such run", "--html", "a.html", "--frames", "-1"], "--frames is -1, expected"),
    ],
)
def test_an_error_is_one_line(started, capsys, words, error):
    assert raf.main(words) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"raf {words[0]}: ") and error in shown and shown.count("\n") == 1
    assert not started


def test_without_the_notebooks_it_says_where_they_are_named(started, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RAF_ROOT", str(tmp_path))
    assert raf.main(["train", "443"]) == 1
    assert (
        "holds no notebooks; go to the project's folder, or name it in the environment variable RAF_ROOT"
        in capsys.readouterr().err
    )


def test_wrong_calls_have_status_2(capsys):
    for words in ([], ["paint"], ["train"], ["train", "443", "--colour", "red"]):
        with pytest.raises(SystemExit) as left:
            raf.main(words)
        assert left.value.code == 2


def test_an_avatar_is_exported(monkeypatch, tmp_path, capsys):
    capture = toy_capture()
    run, other = toy_run(capture), replace(capture, subject="901")
    folder = tmp_path / "ein Lauf 片"
    folder.mkdir()
    monkeypatch.setattr(Run, "load", lambda path: {folder: run}[path])
    monkeypatch.setattr(Recordings, "open", lambda self, name: {"900": capture}[name])
    monkeypatch.setattr(Recordings, "driver", lambda self, name: {"901": other}[name])
    page, splats, film = tmp_path / "a 片.html", tmp_path / "splats 片", tmp_path / "around 片.gif"
    words = ["--html", str(page), "--ply", str(splats), "--frames", "3"]
    assert raf.main(["export", str(folder), *words, "--driver", "901"]) == 0
    assert '"frames": 3' in page.read_text() and len(list(splats.iterdir())) == 3
    assert raf.main(["export", str(folder), "--html", str(page)]) == 0
    assert f'"frames": {int(capture.free.sum())}' in page.read_text(), "its own held-out frames"
    monkeypatch.setattr("raflib.export.turntable", lambda run, expression, path: path)
    assert raf.main(["export", str(folder), "--turntable", str(film)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(path) for path in (page, splats, page, film)]
