"""Every notebook has the required form, runs with tiny parameters, and refuses wrong ones.

The table `ROWS` lists the parameters of each notebook and the files that it must write. A notebook that needs another's
result names it, so every test can run alone. A row with the first words of a documented command is run by that command,
unchanged, in a folder with the content of a fresh clone.
"""

from __future__ import annotations

import ast
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import chdir
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from threading import Event, Lock

import documented
import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from nersemble_layout import write_mono
from PIL import Image

from raflib import studio
from raflib.lab import overview
from raflib.lab.folders import run_folder
from raflib.lab.parameters import NOTEBOOKS
from raflib.report.mp4 import write_video
from raflib.runs import runs_root
from raflib.sources.nersemble.names import MONO_HELD_OUT, MONO_PEOPLE, MONO_TRAIN

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
PAGES = ("README.md", "notebooks/RESULTS.md")
PATHS = sorted(FOLDER.glob("*.ipynb"))


# --- form, without a kernel -----------------------------------------------------------------------------------------


def code_cells(path: Path) -> list:
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def test_every_notebook_has_its_parameters_declared_and_a_row_here():
    assert {path.stem for path in PATHS} == set(NOTEBOOKS) == {row.notebook for row in ROWS.values()}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
class TestForm:
    def test_format(self, path):
        raw = json.loads(path.read_text())
        assert (raw["nbformat"], raw["nbformat_minor"]) == (4, 5)
        assert raw["metadata"]["kernelspec"]["name"] == "python3"
        nbformat.validate(nbformat.from_dict(raw))

    def test_ids_are_stable_words(self, path):
        ids = [cell["id"] for cell in nbformat.read(path, 4).cells]
        assert len(set(ids)) == len(ids)
        assert all(not name.replace("-", "").isdigit() and name.islower() for name in ids)

    def test_nothing_was_run(self, path):
        for cell in code_cells(path):
            assert cell.outputs == []
            assert cell.execution_count is None

    def test_parameters_are_commented_literals_with_the_declared_defaults(self, path):
        tagged = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
        assert len(tagged) == 1
        assert tagged[0] is code_cells(path)[0] or tagged[0].id == code_cells(path)[0].id
        values = {}
        for statement in ast.parse(tagged[0].source).body:
            assert isinstance(statement, ast.Assign)
            values[statement.targets[0].id] = ast.literal_eval(statement.value)
        declared = {entry.name: entry.default for entry in fields(NOTEBOOKS[path.stem])}
        assert values == declared
        assert {name: type(value) for name, value in values.items()} == {k: type(v) for k, v in declared.items()}

    def test_second_cell_reads_the_parameters_strictly(self, path):
        assert f'notebook_parameters(globals(), "{path.stem}")' in code_cells(path)[1].source

    def test_the_notebook_narrates_and_the_library_computes(self, path):
        cells = code_cells(path)
        lengths = sorted(len(cell.source.splitlines()) for cell in cells)
        assert lengths[len(lengths) // 2] <= 8, lengths
        assert lengths[-1] <= 40
        for cell in cells:
            for node in ast.walk(ast.parse(cell.source)):
                assert not isinstance(node, ast.ClassDef)
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 8
        prose = sum(len(c.source) for c in nbformat.read(path, 4).cells if c.cell_type == "markdown")
        assert prose > 1_000, "a reader who has not seen the paper needs more than code"


def test_the_overview_looks_for_files_that_notebooks_write():
    for notebook, name in (*overview.LOOK.items(), *overview.DONE.items()):
        written = {name for row in ROWS.values() if row.notebook == notebook for name in row.writes}
        assert fnmatch.filter(written, name), f"{notebook} writes no {name}"


# --- runs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """How a notebook runs in the tests: parameters beside profile "tiny", what must run before, what it must write, and
    how the line of README.md or RESULTS.md begins that runs it, if there is one.

    Without such a line it is run by papermill's command line from the folder of notebooks.
    """

    notebook: str
    parameters: dict = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    line: str = ""

    def values(self) -> dict:
        """All its parameters that are not at their defaults."""
        return {"profile": "tiny", **documented.parameters(self.words()), **located(self.parameters)}

    def words(self) -> list[str]:
        """The documented command; empty if there is none."""
        begins = shlex.split(self.line)
        found = [words for path, words in documented.commands("papermill") if path in PAGES]
        return next(words for words in found if words[: len(begins)] == begins) if self.line else []

    def folder(self) -> Path:
        """Where its results go."""
        with chdir(fresh()):
            return run_folder(self.notebook, self.values())


COVERAGE_PICTURES = ("coverage", "changes", "further", "sequences", "actions", "clips", "farthest")
COVERAGE_FILES = ("table1.txt", "rows.csv", "further.csv", *(f"{name}.png" for name in COVERAGE_PICTURES))
AVATAR = (
    "checkpoint.safetensors",
    "run.json",
    "start.png",
    "curves.png",
    "look.png",
    "budget.png",
    "budget.json",
    "head.ply",
)
SCORES = ("rows.csv", "scale.csv", "table.md", "correlations.csv")
FOLDER_OF_PEOPLE = {"source": "nersemble", "root": "{clone}/benchmark", "subject": "404"}
"""Captures from a folder in the layout of the monocular benchmark."""
AVATAR_THERE = {**FOLDER_OF_PEOPLE, "threads": 1}
ROWS = {
    "00_start": Row("00_start"),
    "01_subjects": Row(
        "01_subjects",
        writes=("contact_sheet.png", "signals.png", "agreement.png", "summary.json"),
        line="papermill notebooks/01_subjects.ipynb",
    ),
    "02_bank": Row(
        "02_bank",
        {"bank": "half2"},
        writes=("neighbours.jpg", "pca.jpg", "pca.html", "variants.png", "retrieval.png", "summary.json"),
        line="papermill notebooks/02_bank.ipynb",
    ),
    "02_bank rebuilt": Row(
        "02_bank",
        {"rebuild": True, "people": 2, "frames": 20, "subject": "074"},
        writes=("bank_open.npz", "summary.json"),
    ),
    "03_coverage": Row(
        "03_coverage", {"repeats": 3}, writes=COVERAGE_FILES, line="papermill notebooks/03_coverage.ipynb runs/03.ipynb"
    ),
    "03_coverage all": Row(
        "03_coverage",
        {"repeats": 2},
        writes=COVERAGE_FILES,
        line="papermill notebooks/03_coverage.ipynb runs/03_all.ipynb",
    ),
    "04_train vanilla": Row("04_train", {"method": "vanilla", "threads": 1}, writes=AVATAR),
    "04_train raf": Row("04_train", {"threads": 1}, writes=AVATAR, line="papermill notebooks/04_train.ipynb"),
    "05_evaluate vanilla": Row("05_evaluate", {"method": "vanilla"}, ("04_train vanilla",), SCORES),
    "05_evaluate raf": Row(
        "05_evaluate", needs=("04_train raf",), writes=SCORES, line="papermill notebooks/05_evaluate.ipynb"
    ),
    "04_train changed": Row(
        "04_train", {"bank": "half1", "p": 0.25, "top_k": 5, "steps": 30, "threads": 1}, writes=("run.json",)
    ),
    "05_evaluate changed": Row(
        "05_evaluate",
        {"bank": "half1", "p": 0.25, "top_k": 5, "steps": 30, "drivers": "443"},
        ("04_train changed",),
        ("rows.csv",),
    ),
    "06_tables": Row(
        "06_tables",
        needs=("05_evaluate vanilla", "05_evaluate raf"),
        writes=("table2.txt", "differences.txt", "strip_422.png", "comparison.mp4", "avatar.html"),
        line="papermill notebooks/06_tables.ipynb",
    ),
    "07_user_study": Row(
        "07_user_study",
        writes=(
            "study/study.json",
            "study/answers/observer.truth.jsonl",
            "questions.jpg",
            "figure3.csv",
            "figure3.png",
            "nearness.png",
            "power.png",
            "summary.json",
        ),
        line="papermill notebooks/07_user_study.ipynb",
    ),
    "08_your_video": Row(
        "08_your_video",
        {"seconds": 1.0, "threads": 1},
        writes=("self.png", *(f"me_driven_by_you_*_1s.{kind}" for kind in ("mp4", "png", "html")), "coverage.png"),
        line="papermill notebooks/08_your_video.ipynb",
    ),
    "05_evaluate relative": Row(
        "05_evaluate", {"method": "vanilla", "drive": "relative"}, ("04_train vanilla",), ("rows.csv",)
    ),
    "09_beyond": Row(
        "09_beyond",
        {"repeats": 2},
        ("05_evaluate vanilla", "05_evaluate raf", "05_evaluate relative"),
        ("samplers.csv", "features.md", "avatars.md", "samplers.png", "drives.png"),
        line="papermill notebooks/09_beyond.ipynb",
    ),
    "10_raf_from_nothing": Row("10_raf_from_nothing", writes=("figure4.png", "figure4.svg", "visits.png")),
    "11_coverage_in_the_plane": Row("11_coverage_in_the_plane", writes=("contributions.png", "raf.png")),
    "12_splats": Row(
        "12_splats",
        writes=("screen.png", "steps.png", "weights.png", "networks.png", "pose.png", "avatar/checkpoint.safetensors"),
    ),
    "01_subjects folder": Row("01_subjects", FOLDER_OF_PEOPLE, writes=("contact_sheet.png", "signals.png")),
    "02_bank folder": Row("02_bank", FOLDER_OF_PEOPLE, writes=("neighbours.jpg", "pca.jpg", "variants.png")),
    "03_coverage folder": Row("03_coverage", {**FOLDER_OF_PEOPLE, "repeats": 3}, writes=COVERAGE_FILES),
    "04_train folder vanilla": Row("04_train", {**AVATAR_THERE, "method": "vanilla"}, writes=AVATAR),
    "04_train folder raf": Row("04_train", AVATAR_THERE, writes=AVATAR),
    "05_evaluate folder vanilla": Row(
        "05_evaluate", {**FOLDER_OF_PEOPLE, "method": "vanilla"}, ("04_train folder vanilla",), SCORES
    ),
    "05_evaluate folder raf": Row("05_evaluate", FOLDER_OF_PEOPLE, ("04_train folder raf",), SCORES),
    "06_tables folder": Row(
        "06_tables",
        FOLDER_OF_PEOPLE,
        ("05_evaluate folder vanilla", "05_evaluate folder raf"),
        ("table2.txt", "differences.txt", "strip_404.png", "comparison.mp4", "avatar.html"),
    ),
    "07_user_study folder": Row(
        "07_user_study", FOLDER_OF_PEOPLE, writes=("study/answers/observer.lpips.jsonl", "questions.jpg", "figure3.png")
    ),
    "09_beyond folder": Row(
        "09_beyond",
        {**FOLDER_OF_PEOPLE, "repeats": 2},
        ("05_evaluate folder vanilla", "05_evaluate folder raf"),
        ("samplers.csv", "features.md", "avatars.md", "samplers.png"),
    ),
}
LONG = {"00_start", "03_coverage all", *(key for key in ROWS if " folder" in key)}
"""Rows that film many people, and notebook 00. `test_coverage`, `test_report` and `test_recordings` check on few or
made-up people what is special about the former; `test_kernel` runs the latter."""


def located(parameters: dict) -> dict:
    """The parameters with the folder of this test's files in place of {clone}."""
    return {
        name: value.format(clone=fresh()) if isinstance(value, str) and "{clone}" in value else value
        for name, value in parameters.items()
    }


@cache
def benchmark() -> None:
    """Write five people in the layout of the monocular benchmark, with all its sequences, into `fresh()`."""
    for name in MONO_PEOPLE:
        write_mono(fresh() / "benchmark", name, dict.fromkeys((*MONO_TRAIN, *MONO_HELD_OUT), 8), 160)


@cache
def fresh() -> Path:
    """A folder with what a fresh clone has for a documented command, and two short films of studio people."""
    folder = runs_root().parent / "clone"
    shutil.copytree(FOLDER, folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (folder / "runs").mkdir()
    shutil.copy(documented.ROOT / "runs" / ".gitignore", folder / "runs")
    for name, subject, sequence in (("me", "443", "EXP-8-jaw-1"), ("you", "E01", "FREE")):
        camera = next(camera for camera in studio.rig(256) if camera.name == "222200037")
        acted, person = studio.act(subject, sequence), studio.Identity(subject)
        frames = np.linspace(0, len(acted.actions) - 1, 50).astype(int)
        pictures = (studio.render(person, acted.actions[t], acted.angles[t], camera)[0] for t in frames)
        write_video(folder / f"{name}.mp4", pictures)
    return folder


class Execution:
    """Runs notebooks two at a time, each row once and after the rows it needs."""

    def __init__(self) -> None:
        self.pool, self.started = ThreadPoolExecutor(2), {}
        self.starting, self.stopped = Lock(), Event()

    def begin(self, key: str) -> Future:
        """Put one row in the queue, behind the rows it needs, unless it is there."""
        if key not in self.started:
            needed = [self.begin(other) for other in ROWS[key].needs]
            self.started[key] = self.pool.submit(self.run, ROWS[key], key, needed)
        return self.started[key]

    def run(self, row: Row, key: str, needed: list[Future]) -> Path:
        """Its executed copy. A row is behind those it needs in the queue, so waiting for them ends."""
        for other in needed:
            other.result()
        words, folder = row.words()[1:], fresh()
        if "root" in row.parameters:
            with self.starting:
                benchmark()
        if not row.line:
            words, folder = [f"{row.notebook}.ipynb", str(copy_of(key.replace(" ", "_")))], FOLDER
        for name, value in {"profile": "tiny", **located(row.parameters)}.items():
            words += ["-r" if name == "subject" else "-p", name, str(value)]
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--log-output", *words]
        log = copy_of(key).with_suffix(".log")
        with open(log, "wb") as stream:
            with self.starting:  # kernels that start at once may choose the same port
                assert not self.stopped.is_set(), "the tests have ended"
                process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream, env=os.environ)
                while process.poll() is None and b"Executing Cell" not in log.read_bytes():
                    time.sleep(0.05)
            while process.poll() is None:
                if self.stopped.wait(0.05):
                    process.terminate()
        assert process.returncode == 0, log.read_text()[-3000:]
        return folder / words[1]

    def close(self) -> None:
        self.stopped.set()
        self.pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def executed(request) -> Iterator[Callable[[str], Path]]:
    """Runs the notebook of one row and what it needs; returns its executed copy.

    Rows of the other selected tests follow in the background, so that both cores have work.
    """
    fresh()
    copy_of("").parent.mkdir(parents=True, exist_ok=True)
    execution = Execution()
    parametrized = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    for item in parametrized:
        if "key" in item.callspec.params:
            execution.begin(item.callspec.params["key"])
    yield lambda key: execution.begin(key).result()
    execution.close()


def copy_of(name: str) -> Path:
    """Where the executed copy of a notebook goes that no documented command names."""
    return runs_root() / "notebooks" / f"{name}.ipynb"


def run(notebook: str, name: str, values: dict, cwd: Path = FOLDER) -> None:
    """Execute a notebook with these parameters in this process's own papermill."""
    copy_of(name).parent.mkdir(parents=True, exist_ok=True)
    source = FOLDER / f"{notebook}.ipynb"
    papermill.execute_notebook(source, copy_of(name), values, cwd=cwd, progress_bar=False, kernel_name="python3")


@pytest.mark.slow
@pytest.mark.parametrize("key", [pytest.param(key, marks=pytest.mark.minutes) if key in LONG else key for key in ROWS])
def test_runs_with_tiny_parameters(key, executed):
    copy, folder = executed(key), ROWS[key].folder()
    for name in ROWS[key].writes:
        (path,) = folder.glob(name)
        assert path.stat().st_size > 0, name
        if path.suffix in (".png", ".jpg"):
            assert np.asarray(Image.open(path).convert("L")).std() > 5, f"{name} is blank"
    shown = [output for cell in code_cells(copy) for output in cell.outputs]
    red = [output.text for output in shown if output.get("name") == "stderr"]
    assert not red, "JupyterLab shows standard error on red"
    words = "".join(output.get("text", "") for output in shown)
    assert "proves only that it runs" in words and not re.search(r"\b0it\b", words)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["05_evaluate raf", "06_tables", "09_beyond"])
def test_tables_are_rendered(key, executed):
    """Tables are shown as Markdown, not as its source text."""
    shown = [output for cell in code_cells(executed(key)) for output in cell.outputs]
    tables = [output["data"]["text/markdown"] for output in shown if "text/markdown" in output.get("data", {})]
    assert tables and all("| --- |" in table for table in tables)
    assert not any("| --- |" in output.get("text", "") for output in shown)


@pytest.mark.slow
def test_the_tables_say_what_they_should(executed):
    executed("06_tables")
    text = (runs_root() / "06_tables_422_tiny_0" / "table2.txt").read_text()
    for word in (
        "vanilla",
        "raf",
        "control",
        "| – | truth |",
        "psnr/face",
        "cross-driving",
        "held-out FREE",
        "neutral",
    ):
        assert word in text
    rows = pd.read_csv(runs_root() / "05_evaluate_422_raf_tiny_0" / "rows.csv", dtype={"subject": str, "driver": str})
    assert set(rows.condition) == {"avatar", "control", "truth"}
    assert set(rows[rows.part == "cross-driving"].driver).isdisjoint({"422"})
    assert np.isfinite(rows["psnr/face"]).any()


@pytest.mark.slow
def test_a_second_training_is_the_first_one(executed):
    """A finished run is loaded, not trained again, and evaluation says which frames it saw."""
    executed("04_train raf")
    checkpoint = runs_root() / "04_train_422_raf_tiny_0" / "checkpoint.safetensors"
    before = checkpoint.stat().st_mtime_ns
    run("04_train", "04_again", {"profile": "tiny", "method": "raf", "threads": 1})
    assert checkpoint.stat().st_mtime_ns == before


# --- wrong parameters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notebook", "values", "message"),
    [
        ("04_train", {"subjct": "422"}, "04_train has no parameter subjct"),
        ("05_evaluate", {"seed": 5}, "05_evaluate needs 04_train.*run: papermill notebooks/04_train.ipynb"),
        ("08_your_video", {}, "set video"),
    ],
)
def test_wrong_parameters_stop_the_run(notebook, values, message):
    with pytest.raises(papermill.PapermillExecutionError, match=message) as caught:
        run(notebook, "wrong", values)
    (line,) = caught.value.traceback
    assert line.startswith("RafError: ") and "\n" not in line, "one line, no traceback"


@pytest.mark.slow
def test_ids_keep_their_leading_zeros_on_the_command_line(tmp_path, executed):
    """In a run from notebooks/, and where a missing run is one line and exit status 1."""
    executed("02_bank rebuilt")
    assert (runs_root() / "02_bank_074_tiny_rebuilt_people2_frames20" / "summary.json").is_file()
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "notebooks/05_evaluate.ipynb"]
    command += [str(tmp_path / "05.ipynb"), "-p", "subject", "099"]
    failed = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, env=os.environ)
    assert failed.returncode != 0
    assert not list(runs_root().glob("05_evaluate_099*")), "nothing is written for what cannot run"
    assert "04_train_099_raf_demo_0" in failed.stderr
