"""Commands in the texts run as they are written: their files exist, their parameters are known, and none replaces the
results of another. `test_notebooks.py` runs the README's commands."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import asdict

import documented
import pytest
from documented import ROOT

from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.lab.folders import run_folder
from raflib.lab.parameters import NOTEBOOKS, notebook_parameters

PAPERMILL = documented.commands("papermill")
MAKE = documented.commands("make")
PYTHON = [(path, words) for path, words in documented.commands("python") if words[1].endswith(".py")]


def read(notebook: str, given: dict):
    """The notebook's parameters as its second cell reads them when papermill injects `given`.

    FOLDER stands for a folder of the reader's own.
    """
    given = {**given, "root": str(ROOT)} if given.get("root") == "FOLDER" else given
    cell = "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in given.items())
    return notebook_parameters({**asdict(NOTEBOOKS[notebook]()), **given, "In": [cell]}, notebook)


def ids(found):
    return [f"{path}: {' '.join(words)}" for path, words in found]


def test_there_are_commands_of_every_kind():
    assert {words[1].removeprefix("notebooks/") for _, words in PAPERMILL} == {p.name for p in documented.NOTEBOOKS}
    assert len(PAPERMILL) > 15 and len(MAKE) > 8 and len(PYTHON) > 8 and len(documented.fragments()) > 15


@pytest.mark.parametrize(("path", "words"), PAPERMILL, ids=ids(PAPERMILL))
def test_papermill_lines(path, words):
    _, source, target, *options = words
    assert (ROOT / source).is_file()
    assert re.fullmatch(r"runs/[\w.-]+\.ipynb", target), "an output papermill can write in a fresh clone"
    assert options[::3] == ["-p"] * (len(options) // 3)
    notebook = source.removeprefix("notebooks/").removesuffix(".ipynb")
    run_folder(notebook, read(notebook, documented.parameters(words)))


def test_a_fresh_clone_has_the_folder_of_results():
    tracked = subprocess.run(["git", "ls-files", "runs"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    assert tracked.stdout.split() == ["runs/.gitignore"]
    ignored = subprocess.run(["git", "check-ignore", "-q", "runs/01.ipynb"], cwd=ROOT)
    assert ignored.returncode == 0, "results are not committed by accident"


def test_commands_with_other_parameters_write_other_files():
    """Each set of parameters has its own output path and folder of results."""
    folders, copies = {}, {}
    for _, words in PAPERMILL:
        notebook = words[1].removeprefix("notebooks/").removesuffix(".ipynb")
        given = read(notebook, documented.parameters(words))
        folders.setdefault(run_folder(notebook, given), set()).add(given)
        copies.setdefault(words[2], set()).add(given)
    assert all(len(given) == 1 for given in folders.values()), folders
    assert all(len(given) == 1 for given in copies.values()), copies


BESIDE = {"source": {"root": str(ROOT)}, "root": {"source": "nersemble"}}
"""What a parameter needs beside it."""


@pytest.mark.parametrize(("path", "name", "value"), documented.fragments(), ids=str)
def test_parameters_that_a_text_mentions(path, name, value):
    accepted = []
    for notebook in NOTEBOOKS:
        try:
            read(notebook, {**BESIDE.get(name, {}), name: value})
            accepted.append(notebook)
        except RafError:
            continue
    assert accepted, f"no notebook takes {name} = {value!r}"


def made(words: list[str]) -> str:
    """Return the commands that make would run."""
    shown = subprocess.run(["make", "-n", "-s", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


@pytest.mark.parametrize(("path", "words"), MAKE, ids=ids(MAKE))
def test_make_lines(path, words):
    target = words[1].split("=")[0]
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
    made([word for word in words if "…" not in word])


def test_python_lines():
    for path, words in PYTHON:
        script = ROOT / words[1]
        assert script.is_file(), f"{path}: {words}"
        text = script.read_text()
        if "study_parser(" in text:  # options that studies share
            text += (ROOT / "raflib" / "lab" / "short_study.py").read_text()
        for option in (word for word in words if word.startswith("--")):
            assert f'"{option}"' in text, f"{path}: {words} has no {option}"


def test_make_train_leaves_the_demos_notebooks_alone():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import demo
    finally:
        sys.path.pop(0)
    steps = [f"{step.name}.ipynb" for stage in demo.plan("422", "demo", 1) for chain in stage for step in chain]
    outputs = set()
    for profile in ("tiny", "demo"):
        (output,) = re.findall(r"runs/notebooks/(\S+\.ipynb)", made(["make", "train", f"PROFILE={profile}"]))
        outputs.add(output)
    assert len(outputs) == 2 and not outputs & set(steps)


def test_jupyterlab_sees_notebooks_and_results():
    command = made(["make", "lab"])
    assert f'--ServerApp.root_dir="{ROOT}"' in command and "--LabApp.default_url=/lab/tree/notebooks/" in command
    (opened,) = re.findall(r"default_url=/lab/tree/(\S+)", command)
    assert (ROOT / opened).is_file()


def test_cleaning_leaves_what_git_tracks(tmp_path):
    for name in ("raflib", "tests", "scripts", "benchmarks", "runs/01_subjects_422_demo"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("runs/.gitignore", "runs/01.ipynb", "runs/01_subjects_422_demo/summary.json", "runs/.raf-lock"):
        (tmp_path / name).write_text("")
    subprocess.run(["bash", "-ec", made(["make", "clean"])], cwd=tmp_path, check=True)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".gitignore"]


def test_folders_that_texts_name_are_those_of_the_parameters():
    """Every folder of results that a page names is one that some notebook writes with the parameters beside it."""
    written = {run_folder(notebook, {}).name for notebook in NOTEBOOKS if notebook != "08_your_video"}
    for method in ("vanilla", "noise"):
        written |= {run_folder(notebook, {"method": method}).name for notebook in ("04_train", "05_evaluate")}
    given = (
        {"bank": "half1"}, {"p": 0.25}, {"method": "noise", "sigma": 0.5}, {"steps": 20_000},
        {"rebuild": True, "people": 40}, {"search": "open42"},
    )  # fmt: skip
    written |= {run_folder(notebook, some).name for notebook in ("02_bank", "04_train") for some in given}
    for path, text in documented.texts().items():
        named = re.findall(r"\b(?!08)(0\d_[a-z]+_422\w*(?:\.\d+)?\w*(?:-\w+)*)", text)
        assert set(named) <= written, f"{path}: {set(named) - written}"


def test_the_documented_bank_is_the_one_that_ships():
    (named,) = set(re.findall(r'ExpressionBank\.load\("([^"]+)"\)', (ROOT / "README.md").read_text()))
    assert len(ExpressionBank.load(ROOT / named)) == 83_000
