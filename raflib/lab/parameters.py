"""Parameters of the notebooks: one dataclass a notebook, the same names and defaults as its parameters cell, read
strictly.

An instance always holds allowed values (`raflib.lab.allowed`), so wrong ones are found before anything is rendered.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from raflib.errors import RafError
from raflib.lab import allowed


@dataclass(frozen=True)
class Parameters:
    """Base of all notebooks' parameters; RafError for values that `raflib.lab.allowed` refuses."""

    def __post_init__(self) -> None:
        allowed.check(self)

    @classmethod
    def notebook(cls) -> str:
        """Name of the notebook whose parameters these are."""
        return next(name for name, known in NOTEBOOKS.items() if known is cls)


@dataclass(frozen=True)
class StartParameters(Parameters):
    subject: str = "422"
    profile: str = "demo"


@dataclass(frozen=True)
class SubjectsParameters(Parameters):
    source: str = "studio"
    root: str = ""
    subject: str = "422"
    features: str = ""
    model: str = ""
    profile: str = "demo"


@dataclass(frozen=True)
class BankParameters(Parameters):
    source: str = "studio"
    root: str = ""
    subject: str = "422"
    features: str = ""
    model: str = ""
    profile: str = "demo"
    bank: str = ""
    search: str = ""
    people: int = 20
    frames: int = 200
    rebuild: bool = False
    seed: int = 0


@dataclass(frozen=True)
class CoverageParameters(Parameters):
    source: str = "studio"
    root: str = ""
    subject: str = "422"
    features: str = ""
    model: str = ""
    held_out: str = ""
    profile: str = "demo"
    bank: str = ""
    search: str = ""
    own_frames: str = ""
    top_k: int = 1
    repeats: int = 20
    seed: int = 0


@dataclass(frozen=True)
class TrainParameters(Parameters):
    source: str = "studio"
    root: str = ""
    subject: str = "422"
    features: str = ""
    model: str = ""
    held_out: str = ""
    method: str = "raf"
    profile: str = "demo"
    bank: str = ""
    search: str = ""
    p: float = 0.5
    top_k: int = 1
    sigma: float = 0.08
    initialisation: str = ""
    steps: int = 0
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True)
class EvaluateParameters(Parameters):
    source: str = "studio"
    root: str = ""
    subject: str = "422"
    features: str = ""
    model: str = ""
    held_out: str = ""
    method: str = "raf"
    profile: str = "demo"
    bank: str = ""
    search: str = ""
    p: float = 0.5
    top_k: int = 1
    sigma: float = 0.08
    initialisation: str = ""
    steps: int = 0
    seed: int = 0
    drivers: str = ""
    driver_frames: int = 0
    drive: str = "direct"


@dataclass(frozen=True)
class TablesParameters(Parameters):
    source: str = "studio"
    root: str = ""
    subject: str = "422"
    features: str = ""
    model: str = ""
    held_out: str = ""
    profile: str = "demo"
    bank: str = ""
    search: str = ""
    p: float = 0.5
    top_k: int = 1
    sigma: float = 0.08
    initialisation: str = ""
    steps: int = 0
    seed: int = 0


@dataclass(frozen=True)
class StudyParameters(Parameters):
    source: str = "studio"
    root: str = ""
    subject: str = "422"
    features: str = ""
    model: str = ""
    profile: str = "demo"
    bank: str = ""
    queries: int = 0
    seed: int = 0


@dataclass(frozen=True)
class BeyondParameters(Parameters):
    source: str = "studio"
    root: str = ""
    subject: str = "422"
    features: str = ""
    model: str = ""
    held_out: str = ""
    profile: str = "demo"
    bank: str = ""
    search: str = ""
    p: float = 0.5
    top_k: int = 1
    sigma: float = 0.08
    initialisation: str = ""
    steps: int = 0
    repeats: int = 10
    metric: str = "psnr/face"
    seed: int = 0


@dataclass(frozen=True)
class VideoParameters(Parameters):
    video: str = ""
    driver: str = ""
    features: str = ""
    model: str = ""
    method: str = "vanilla"
    profile: str = "demo"
    bank: str = ""
    drive: str = "fitted"
    seconds: float = 20.0
    steps: int = 0
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True)
class LessonParameters(Parameters):
    """Parameters of a lesson on one person. Lessons use the smallest recording, so each takes seconds."""

    subject: str = "422"
    profile: str = "tiny"
    seed: int = 0


@dataclass(frozen=True)
class SplatLessonParameters(LessonParameters):
    """Parameters of the lesson on splats, which trains an avatar."""


@dataclass(frozen=True)
class PlaneLessonParameters(Parameters):
    """Parameters of the lesson on made-up frames in two dimensions."""

    profile: str = "tiny"
    seed: int = 0


NOTEBOOKS: dict[str, type] = {
    "00_start": StartParameters,
    "01_subjects": SubjectsParameters,
    "02_bank": BankParameters,
    "03_coverage": CoverageParameters,
    "04_train": TrainParameters,
    "05_evaluate": EvaluateParameters,
    "06_tables": TablesParameters,
    "07_user_study": StudyParameters,
    "08_your_video": VideoParameters,
    "09_beyond": BeyondParameters,
    "10_raf_from_nothing": LessonParameters,
    "11_coverage_in_the_plane": PlaneLessonParameters,
    "12_splats": SplatLessonParameters,
}


def notebook_parameters(namespace: Mapping[str, Any], notebook: str) -> Any:
    """The parameters of `notebook` from a notebook's `globals()`, checked.

    papermill accepts a mistyped name without a word, and with -p it turns "074" into 74. Here an unknown name, a value
    of the wrong type or one that is not allowed is an error that names it. A subject given as a number is the id of
    three digits.
    """
    cls = NOTEBOOKS[notebook]
    names = [field.name for field in fields(cls)]
    unknown = sorted(_injected(namespace) - set(names))
    if unknown:
        raise RafError(f"{notebook} has no parameter {', '.join(unknown)}; it knows {', '.join(names)}")
    missing = [name for name in names if name not in namespace]
    if missing:
        raise RafError(f"{notebook}: parameter {missing[0]} is not set; run the parameters cell first")
    return _make(notebook, {name: namespace[name] for name in names})


def parameters_of(notebook: str, given: Any, **changes: Any) -> Any:
    """Parameters of `notebook`: those in `given`, replaced by `changes`; the others are at their defaults.

    `given` are the parameters of any notebook, or a mapping whose values may be text, as on a command line. Names that
    `notebook` does not have are ignored, so one notebook can find the results of another one.
    """
    hints = get_type_hints(NOTEBOOKS[notebook])
    values = {**(asdict(given) if is_dataclass(given) and not isinstance(given, type) else given), **changes}
    return _make(notebook, {name: _from_text(values[name], kind) for name, kind in hints.items() if name in values})


def _make(notebook: str, values: Mapping[str, Any]) -> Any:
    """Parameters of `notebook` from checked values."""
    cls = NOTEBOOKS[notebook]
    hints = get_type_hints(cls)
    return cls(**{name: allowed.of_type(notebook, name, value, hints[name]) for name, value in values.items()})


def _from_text(value: Any, kind: type) -> Any:
    """Text as a value of `kind` where that is possible; the value itself otherwise."""
    if not isinstance(value, str) or kind is str:
        return value
    try:
        return ast.literal_eval(value) if kind is bool else kind(value)
    except (ValueError, SyntaxError):
        return value  # the check names its wrong type


def _injected(namespace: Mapping[str, Any]) -> set[str]:
    """Names assigned by the cell that papermill injects (its source begins with '# Parameters')."""
    names: set[str] = set()
    for source in namespace.get("In", []):
        if source.lstrip().startswith("# Parameters\n"):
            for node in ast.parse(source).body:
                if isinstance(node, ast.Assign):
                    names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names
