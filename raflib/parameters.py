"""Parameters of the notebooks: one dataclass a notebook, the same names and defaults as its parameters cell, read
strictly."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from raflib.config import INITIALISATIONS, PROFILES
from raflib.driving import DRIVES
from raflib.errors import RafError
from raflib.extensions import SAMPLERS


@dataclass(frozen=True)
class SubjectsParameters:
    source: str = "studio"
    subject: str = "422"
    profile: str = "demo"


@dataclass(frozen=True)
class BankParameters:
    subject: str = "422"
    profile: str = "demo"
    bank: str = ""
    people: int = 20
    frames: int = 200
    rebuild: bool = False
    seed: int = 0


@dataclass(frozen=True)
class CoverageParameters:
    source: str = "studio"
    subject: str = "422"
    profile: str = "demo"
    bank: str = ""
    top_k: int = 1
    repeats: int = 20
    seed: int = 0


@dataclass(frozen=True)
class TrainParameters:
    source: str = "studio"
    subject: str = "422"
    method: str = "raf"
    profile: str = "demo"
    bank: str = ""
    p: float = 0.5
    top_k: int = 1
    sigma: float = 0.08
    initialisation: str = ""
    steps: int = 0
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True)
class EvaluateParameters:
    source: str = "studio"
    subject: str = "422"
    method: str = "raf"
    profile: str = "demo"
    bank: str = ""
    top_k: int = 1
    seed: int = 0
    drivers: str = ""
    drive: str = "direct"


@dataclass(frozen=True)
class TablesParameters:
    source: str = "studio"
    subject: str = "422"
    profile: str = "demo"
    bank: str = ""
    seed: int = 0


@dataclass(frozen=True)
class BeyondParameters:
    source: str = "studio"
    subject: str = "422"
    profile: str = "demo"
    bank: str = ""
    repeats: int = 10
    metric: str = "psnr/face"
    seed: int = 0


@dataclass(frozen=True)
class VideoParameters:
    video: str = ""
    driver: str = ""
    method: str = "vanilla"
    profile: str = "demo"
    bank: str = ""
    seconds: float = 20.0
    steps: int = 0
    seed: int = 0
    threads: int = 2


NOTEBOOKS: dict[str, type] = {
    "01_subjects": SubjectsParameters,
    "02_bank": BankParameters,
    "03_coverage": CoverageParameters,
    "04_train": TrainParameters,
    "05_evaluate": EvaluateParameters,
    "06_tables": TablesParameters,
    "08_your_video": VideoParameters,
    "09_beyond": BeyondParameters,
}
_CHOICES = {
    "profile": PROFILES,
    "method": SAMPLERS,
    "drive": DRIVES,
    "initialisation": ("", *INITIALISATIONS),
}
ALL_SUBJECTS = "all"
_TAKE_ALL = {"03_coverage"}
"""Notebooks whose subject may be "all": the benchmark's subjects, one after the other."""


def notebook_parameters(namespace: Mapping[str, Any], notebook: str) -> Any:
    """The parameters of `notebook` from a notebook's `globals()`, checked.

    papermill accepts a mistyped name in silence, turns "074" into 74 and 0.5 into text if asked to: here an unknown
    name or a value of the wrong type is an error that names it. A subject given as a number is that three-digit id.
    """
    cls = NOTEBOOKS[notebook]
    hints = get_type_hints(cls)
    unknown = sorted(_injected(namespace) - set(hints))
    if unknown:
        raise RafError(f"{notebook} has no parameter {', '.join(unknown)}; it knows {', '.join(hints)}")
    return cls(**{name: _checked(notebook, name, namespace.get(name, _MISSING), hints[name]) for name in hints})


_MISSING = object()


def _injected(namespace: Mapping[str, Any]) -> set[str]:
    """Names assigned by the cell that papermill injects (its source begins with '# Parameters')."""
    names: set[str] = set()
    for source in namespace.get("In", []):
        if source.lstrip().startswith("# Parameters\n"):
            for node in ast.parse(source).body:
                if isinstance(node, ast.Assign):
                    names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _checked(notebook: str, name: str, value: Any, kind: type) -> Any:
    if value is _MISSING:
        raise RafError(f"{notebook}: parameter {name} is not set; run the parameters cell first")
    if name == "subject" and type(value) is int and value >= 0:
        value = f"{value:03d}"
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise RafError(f"{notebook}: parameter {name} must be {kind.__name__}, got {type(value).__name__} {value!r}")
    if (
        name == "subject"
        and value.strip().lower() == ALL_SUBJECTS
        and not (notebook in _TAKE_ALL and value == ALL_SUBJECTS)
    ):
        hint = f"write {ALL_SUBJECTS!r}" if notebook in _TAKE_ALL else "give one id; 03_coverage takes them all"
        raise RafError(f"{notebook}: parameter subject is {value!r}; {hint}")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise RafError(f"{notebook}: parameter {name} is {value!r}; choose one of {', '.join(_CHOICES[name])}")
    return value
