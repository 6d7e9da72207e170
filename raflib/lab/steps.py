"""Steps: notebooks with their parameters, and the receipts that say which of them need not run again.

A receipt names everything a step's results follow from (its parameters, its notebook, the library's code, versions, the
files of `data`, files that its parameters name, results of other steps that it reads) and everything it left. A step is
finished while all of that is still so.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from raflib.errors import RafError
from raflib.lab.folders import run_folder
from raflib.lab.parameters import NOTEBOOKS
from raflib.reading import read_json
from raflib.runs import VERSIONS_OF, package_versions, runs_root

READS = {"05_evaluate": "04_train"}
"""Notebook → the notebook whose results, made with the same parameters, it reads."""
DATA = (".npz", ".json", ".task")
"""Endings of the files of `data` that the library reads."""
MAY_NAME_FILES = ("bank", "video", "driver")
"""Parameters whose value may be the path of a file or folder."""


@dataclass(frozen=True)
class Step:
    """One notebook with its parameters. `label` tells the three trainings apart; a step that `gathers` what other runs
    left is run every time."""

    notebook: str
    parameters: dict[str, str] = field(default_factory=dict)
    label: str = ""
    gathers: bool = False

    @property
    def name(self) -> str:
        """What its executed copy, log and receipt are called: no two steps of any plan share it."""
        parts = (self.notebook, self.parameters["subject"], self.label, self.parameters.get("profile", ""))
        return "_".join(part for part in parts if part)

    @property
    def results(self) -> Path:
        """The folder of its results; RafError where a parameter names no file that is there."""
        if self.notebook in NOTEBOOKS:
            return run_folder(self.notebook, self.parameters)
        return runs_root() / self.name


def fingerprint(step: Step, root: Path) -> str:
    """sha256 of all that was there before the step and that its results follow from, in the project at `root`."""
    about = [sorted(step.parameters.items()), sorted(package_versions(VERSIONS_OF).items())]
    digest = hashlib.sha256(repr(about).encode())
    for path in _sources(step, root):
        digest.update(f"\n{os.path.relpath(path, root)} {_sha256(path)}".encode())
    return digest.hexdigest()


def _sources(step: Step, root: Path) -> Iterator[Path]:
    """Notebook, code, the banks and models in `data`, and the files that parameters name."""
    yield root / "notebooks" / f"{step.notebook}.ipynb"
    yield from _files(root / "raflib", "**/*.py")
    yield from (path for path in _files(root / "data", "*") if path.suffix in DATA)
    for value in (step.parameters.get(name, "") for name in MAY_NAME_FILES):
        named = root / value
        if value and named.is_file():
            yield named
        elif value and named.is_dir():
            yield from _files(named, "**/*")


def results(step: Step) -> dict[str, str]:
    """sha256 of each file in the step's folder, by its path below `runs_root()`."""
    return {os.path.relpath(path, runs_root()): _sha256(path) for path in _files(step.results, "**/*")}


def read_by(step: Step) -> dict[str, str]:
    """`results` of the step whose results this one reads; empty where it reads none."""
    return results(Step(READS[step.notebook], step.parameters, step.label)) if step.notebook in READS else {}


def finished(step: Step, root: Path, folder: Path) -> bool:
    """Whether an earlier run of this very step ended well, would say the same again, and left what is still there.

    `folder` holds receipts and executed copies.
    """
    receipt = folder / f"{step.name}.json"
    if step.gathers or not receipt.is_file() or not receipt.with_suffix(".ipynb").is_file():
        return False
    try:
        told = read_json(receipt)
    except RafError:
        return False
    lists = told.get("read"), told.get("left")
    if told.get("fingerprint") != fingerprint(step, root) or not all(isinstance(files, dict) for files in lists):
        return False
    return all(_holds(files) for files in lists) and (bool(told["left"]) or step.notebook not in NOTEBOOKS)


def _holds(files: dict[str, str]) -> bool:
    """Whether all these files are what they were; names as `results` has them."""
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
        return False  # a receipt names files of the results alone
    paths = [(runs_root() / name, mark) for name, mark in files.items()]
    try:
        return all(path.is_file() for path, _ in paths) and all(_sha256(path) == mark for path, mark in paths)
    except (OSError, ValueError):  # names that are none
        return False


def _files(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder in order, without hidden ones (locks, half-written files, copies that an editor keeps)."""
    found = (path for path in folder.glob(pattern) if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _sha256(path: Path) -> str:
    """RafError naming a file that cannot be read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise RafError(f"{path}: cannot be read ({error.strerror}); check its permissions, or make it again") from None
