"""Allowed values of notebook parameters (words, ranges, sources, ids), in one place for all notebooks.

A parameter means the same in every notebook that has it. Errors name the notebook, the parameter, what was expected and
what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from raflib.capture import HELD_OUT
from raflib.config import INITIALISATIONS, MANY, PROFILES, SEEDS
from raflib.driving import DRIVES
from raflib.errors import RafError
from raflib.lab.protocol import FOLDERS, OWN_FRAMES
from raflib.lab.spaces import FROM_FILES, SEARCHED, SPACES
from raflib.sampler import SAMPLERS

ALL_SUBJECTS = "all"
CHOICES = {
    "profile": PROFILES, "method": SAMPLERS, "drive": DRIVES, "initialisation": ("", *INITIALISATIONS),
    "features": ("", *SPACES), "search": SEARCHED, "own_frames": ("", *OWN_FRAMES),
}  # fmt: skip
"""Parameters with a fixed list of values."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; with `above`, low itself is not included."""

    low: int | float
    high: int | float
    above: bool = False

    def __contains__(self, value: int | float) -> bool:
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        return f"above {self.low:,}, at most {self.high:,}" if self.above else f"from {self.low:,} to {self.high:,}"


RANGES = {
    "seed": Range(*SEEDS),
    "steps": Range(0, MANY),
    "threads": Range(1, 256),
    "people": Range(2, 999),  # half of them must be a bank, too; they are called B001 to B999
    "frames": Range(1, 2_000),  # every person performs more than 3,000
    "queries": Range(0, 100_000),
    "driver_frames": Range(0, 100_000),
    "repeats": Range(1, 1_000),
    "top_k": Range(1, 100_000),
    "p": Range(0, 1),
    "sigma": Range(0, 100),
    "seconds": Range(0, 86_400, above=True),
}
"""Ranges of numeric parameters. NaN and infinity are in no range."""
_SOURCES = {"04_train": ("studio", "nersemble", "gha", "video")}
"""Sources of notebooks that take others than `_ANY`."""
_ANY = ("studio", "nersemble", "gha")
_TAKE_ALL = {"03_coverage"}
"""Notebooks whose subject may be "all", which means all benchmark subjects."""


def check(given: Any) -> None:
    """RafError unless all values of a `raflib.lab.parameters.Parameters` are allowed; their types are right."""
    hints, notebook = get_type_hints(type(given)), given.notebook()
    for name, kind in hints.items():
        value = getattr(given, name)
        if name in CHOICES and value not in CHOICES[name]:
            raise RafError(f"{notebook}: parameter {name} is {value!r}; choose one of {', '.join(CHOICES[name])}")
        if name in RANGES and value not in RANGES[name]:
            what = "whole number" if kind is int else "number"
            raise RafError(f"{notebook}: parameter {name} is {value!r}; expected a {what} {RANGES[name]}")
    further = {
        "source": _check_source, "root": _check_root, "subject": _check_subject, "model": _check_model,
        "held_out": _check_held_out, "drivers": _check_drivers, "metric": _check_metric,
    }  # fmt: skip
    for name in further:
        if name in hints:
            further[name](given)
    if getattr(given, "rebuild", False) and given.source != "studio":
        raise RafError(
            f"{notebook}: parameter rebuild makes a bank of the studio's people, but source is {given.source!r}; its "
            "bank is built when it is needed, leave rebuild out"
        )
    if getattr(given, "rebuild", False) and given.bank:
        raise RafError(f"{notebook}: bank is {given.bank!r} and rebuild makes another one; set only one of them")


def of_type(notebook: str, name: str, value: Any, kind: type) -> Any:
    """The value as `kind`; whole numbers are accepted for ids and floats. RafError for another type."""
    if name in ("subject", "drivers") and type(value) is int and value >= 0:
        return f"{value:03d}"
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is not kind:
        raise RafError(f"{notebook}: parameter {name} must be {kind.__name__}, got {type(value).__name__} {value!r}")
    return value + 0.0 if isinstance(value, float) else value  # −0 becomes 0


def _check_source(given: Any) -> None:
    notebook = given.notebook()
    known = _SOURCES.get(notebook, _ANY)
    if given.source not in known:
        raise RafError(
            f"{notebook}: parameter source is {given.source!r}; expected one of {', '.join(known)}. For a video run "
            "08_your_video, or 04_train with source=video"
        )


def _check_root(given: Any) -> None:
    notebook, root = given.notebook(), given.root
    if given.source in ("studio", "video"):
        if root:
            raise RafError(
                f"{notebook}: parameter root is {root!r}, but source {given.source} reads no folder; leave it out"
            )
    elif not root or "\0" in root or not Path(root).is_dir():
        raise RafError(
            f"{notebook}: parameter root is {root!r}; with source={given.source} expected the folder that holds the "
            f"people's folders (looked for {Path(root).absolute() if root else 'nothing'})"
        )


def _check_model(given: Any) -> None:
    """RafError for a file that is not needed, for none where features are fitted with a model of the user's, and for
    two spaces that need a file each."""
    notebook, features, model = given.notebook(), given.features, given.model
    asked = {name: getattr(given, name, "") for name in ("features", "search")}
    fitted = {space: name for name, space in reversed(asked.items()) if space in FROM_FILES}
    if model and not fitted:
        why = f"with features={features!r} no file of a face model is needed; leave it out"
        raise RafError(f"{notebook}: parameter model is {model!r}; {why}")
    if len(fitted) > 1:
        raise RafError(
            f"{notebook}: parameter search is {given.search!r} and features {features!r}; each needs a face model of "
            "its own, and the parameter model names one file, so choose another `search`"
        )
    for space, name in fitted.items():
        if getattr(given, "source", "video") not in FOLDERS and not model:
            raise RafError(
                f"{notebook}: parameter model is {model!r}; with {name}={space!r} expected the path of your file of "
                f"{FROM_FILES[space].model}"
            )
    if model and ("\0" in model or not Path(model).is_file()):
        raise RafError(f"{notebook}: parameter model is {model!r}; there is no such file, check the path")


def _check_held_out(given: Any) -> None:
    names = given.held_out.split()
    if HELD_OUT in names or len(set(names)) < len(names):
        raise RafError(
            f"{given.notebook()}: parameter held_out is {given.held_out!r}; expected names of training sequences, each "
            f"once, to hold out in place of {HELD_OUT}"
        )


def _check_subject(given: Any) -> None:
    notebook, subject = given.notebook(), given.subject
    if getattr(given, "source", "studio") == "video":
        if not subject or "\0" in subject:
            raise RafError(f"{notebook}: parameter subject is {subject!r}; with source=video expected a video file")
    elif subject.strip().lower() != ALL_SUBJECTS:
        _check_id(notebook, "subject", subject)
    elif notebook not in _TAKE_ALL or subject != ALL_SUBJECTS:
        hint = f"write {ALL_SUBJECTS!r}" if notebook in _TAKE_ALL else "give one id; 03_coverage takes them all"
        raise RafError(f"{notebook}: parameter subject is {subject!r}; {hint}")


def _check_drivers(given: Any) -> None:
    """RafError unless drivers are ids, each once, without the subject; self-driving is always measured."""
    listed = given.drivers.split()
    for name in listed:
        _check_id(given.notebook(), "drivers", name)
        if name == given.subject or listed.count(name) > 1:
            what = "is the subject" if name == given.subject else "comes twice"
            raise RafError(f"{given.notebook()}: parameter drivers is {given.drivers!r}; {name} {what}, leave it out")


def _check_id(notebook: str, name: str, value: str) -> None:
    from raflib.studio.identity import SUBJECT

    if not SUBJECT.fullmatch(value):
        raise RafError(
            f"{notebook}: parameter {name} is {value!r}; expected a person's id of 1 to 32 letters, digits, '.', '-' "
            "or '_' such as '422'"
        )


def _check_metric(given: Any) -> None:
    from raflib.evaluation import REGISTRY, SLOW

    measured = [name for name in REGISTRY if name not in SLOW]
    if given.metric not in measured:
        raise RafError(
            f"{given.notebook()}: parameter metric is {given.metric!r}; choose one that 05_evaluate measures: "
            f"{', '.join(measured)}"
        )
