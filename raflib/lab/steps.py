"""Steps: notebooks with their parameters, and the receipts that say which of them need not run again.

A receipt records everything a step's results follow from: its parameters, its notebook, the library's code, versions,
the files of `data`, files that its parameters name, and results of other steps that it reads. It also records every
file of the results. A step is finished as long as none of this has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from raflib.errors import RafError
from raflib.lab.folders import run_folder
from raflib.lab.parameters import NOTEBOOKS
from raflib.reading import read_json
from raflib.reading.names import content_hash, size_and_time
from raflib.runs import VERSIONS_OF, package_versions, runs_root, weights_root
from raflib.system import relative

READS = {"05_evaluate": "04_train"}
"""Notebook → the notebook whose results, made with the same parameters, it reads."""
MEASURES = ("05_evaluate",)
"""Notebooks whose results depend on the weights of other projects that the user brings."""
DATA = (".npz", ".json", ".task")
"""Endings of the files of `data` that the library reads."""
MAY_NAME_FILES = ("bank", "video", "driver", "model")
"""Parameters whose value may be the path of a file or folder."""


@dataclass(frozen=True)
class Step:
    """One notebook with its parameters.

    `label` distinguishes steps of one notebook and subject. A step that `gathers` results of other runs is run every
    time.
    """

    notebook: str
    parameters: dict[str, str] = field(default_factory=dict)
    label: str = ""
    gathers: bool = False

    @property
    def name(self) -> str:
        """Name of its executed copy, log and receipt; no two steps of a plan have the same."""
        parts = (self.notebook, self.parameters.get("subject", ""), self.label, self.parameters.get("profile", ""))
        return "_".join(part for part in parts if part)

    @property
    def results(self) -> Path:
        """The folder of its results; RafError where a parameter names a file that does not exist."""
        if self.notebook in NOTEBOOKS:
            return run_folder(self.notebook, self.parameters)
        return runs_root() / self.name


def fingerprint(step: Step, root: Path) -> str:
    """sha256 of everything that the step's results follow from and that exists before it, in the project at `root`.

    A folder of captures may hold terabytes, and weights are large, so names, sizes and times of these files stand for
    their content.
    """
    about = [sorted(step.parameters.items()), sorted(package_versions(VERSIONS_OF).items())]
    digest = hashlib.sha256(repr(about).encode())
    for path in _sources(step, root):
        digest.update(f"\n{relative(path, root)} {content_hash(path)}".encode())
    if captures := step.parameters.get("root"):
        for path in _files(root / captures, "**/*"):
            digest.update(f"\n{path} {size_and_time(path)}".encode())
    for path in _files(weights_root(), "*") if step.notebook in MEASURES else ():
        digest.update(f"\n{path.name} {size_and_time(path)}".encode())
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
    return {relative(path, runs_root()): content_hash(path) for path in _files(step.results, "**/*")}


def read_by(step: Step) -> dict[str, str]:
    """`results` of the step whose results this one reads; empty where it reads none."""
    return results(Step(READS[step.notebook], step.parameters, step.label)) if step.notebook in READS else {}


def finished(step: Step, root: Path, folder: Path) -> bool:
    """Whether an earlier run of this step succeeded, nothing it follows from has changed, and its results are there.

    `folder` holds receipts and executed copies.
    """
    receipt = folder / f"{step.name}.json"
    if step.gathers or not receipt.is_file() or not receipt.with_suffix(".ipynb").is_file():
        return False
    try:
        told = read_json(receipt)
    except RafError:
        return False
    read, left = told.get("read"), told.get("left")
    if told.get("fingerprint") != fingerprint(step, root) or not isinstance(read, dict) or not isinstance(left, dict):
        return False
    return _holds(read) and _holds(left) and (bool(left) or step.notebook not in NOTEBOOKS)


def _holds(files: dict[str, str]) -> bool:
    """Whether all these files still have the sha256 given here; names are those of `results`."""
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
        return False  # a receipt may name files of the results only
    paths = [(runs_root() / name, mark) for name, mark in files.items()]
    try:
        return all(path.is_file() for path, _ in paths) and all(content_hash(path) == mark for path, mark in paths)
    except (OSError, ValueError):  # names that no file can have
        return False


def _files(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder, sorted, without hidden ones (locks, half-written files, copies of an editor)."""
    found = (path for path in folder.glob(pattern) if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
