"""Folders of a notebook's results, and of the results of other notebooks that it reads: one rule for all names.

A folder's name contains every parameter that changes the results: subject, method, profile and seed where the notebook
has them, and every other one that is not at its default. So different results never share a folder, and the same
parameters lead from one notebook to the other. Parameters without effect (`sigma` of a method that adds no noise,
`threads`) are not in the name.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from raflib.config import PROFILES, train_config
from raflib.errors import RafError
from raflib.lab.banks import bank_suffix
from raflib.lab.parameters import NOTEBOOKS, Parameters, parameters_of
from raflib.lab.protocol import own_frames
from raflib.reading.names import file_name, short_name
from raflib.runs import project_root, read_json, runs_root
from raflib.sampler import PAPER_METHODS, SAMPLERS

LONGEST = 180
"""Bytes of a folder's name, at most; names of files beside it are longer."""
LEAVES = {"04_train": "run.json", "05_evaluate": "rows.csv"}
"""The file by which the results of a notebook are recognised."""


def run_folder(notebook: str, parameters: Parameters | Mapping[str, Any], **changes: Any) -> Path:
    """The folder in `runs_root()` for the results of `notebook` with these parameters. It is not created.

    `parameters` are those of any notebook, or a mapping whose values may be text, as on a command line; `changes`
    replace some of them. Parameters that are not given are at their defaults, and those that `notebook` does not have
    are ignored. Raises RafError for values that are not allowed and for a bank or video that does not exist.
    """
    p = parameters_of(notebook, parameters, **changes)
    parts = [notebook, *_who(p), *(str(getattr(p, name)) for name in _ALWAYS[notebook])]
    name = "_".join(parts) + _NAMES[notebook](p) + _recorded(p)
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return runs_root() / name


def read_name(name: str) -> dict[str, str] | None:
    """What the name of a folder tells: notebook, subject, method, profile, seed, and further parameters as `settings`.

    An entry is "" where the notebook has no such parameter. None for a name that `run_folder` does not give.
    """
    found = next(filter(None, (_pattern(notebook).fullmatch(name) for notebook in NOTEBOOKS)), None)
    if found is None:
        return None
    entries = ("notebook", "subject", "method", "profile", "seed", "settings")
    return {entry: found.groupdict().get(entry) or "" for entry in entries}


@cache
def _pattern(notebook: str) -> re.Pattern[str]:
    """The names of the folders of a notebook, with a group for each part."""
    values = {"method": "|".join(SAMPLERS), "profile": "|".join(PROFILES), "seed": r"\d+"}
    names = {field.name for field in fields(NOTEBOOKS[notebook])}
    parts = [f"(?P<notebook>{notebook})", *(["(?P<subject>.+?)"] if names & {"subject", "video"} else [])]
    parts += [f"(?P<{name}>{values[name]})" for name in _ALWAYS[notebook]]
    return re.compile("_".join(parts) + "(?:_(?P<settings>.+))?")


def made_by(needed: str, parameters: Parameters, asking: str, **changes: Any) -> Path:
    """The folder of the results of notebook `needed` with these parameters, which the notebook `asking` reads.

    Raises RafError with the command that makes them, where there are none or the training was interrupted.
    """
    folder, line = run_folder(needed, parameters, **changes), command(needed, parameters, **changes)
    if not (folder / LEAVES[needed]).is_file():
        raise RafError(f"{asking} needs {needed}, and {folder} holds no results of it; run: {line}")
    if needed == "04_train" and not read_json(folder / LEAVES[needed]).get("finished"):
        raise RafError(
            f"{asking} needs a finished training, and that in {folder} was interrupted; go on with it: {line}"
        )
    return folder


def gathered(needed: str, parameters: Parameters, asking: str, methods: Iterable[str]) -> dict[str, Path]:
    """Folders of the results of notebook `needed` by method; prints the commands for methods without results.

    Raises RafError where no method has any.
    """
    folders = {method: run_folder(needed, parameters, method=method) for method in methods}
    found = {method: folder for method, folder in folders.items() if (folder / LEAVES[needed]).is_file()}
    if not found:
        first = evaluation(parameters, next(iter(folders)))
        raise RafError(f"{asking} needs {needed} for at least one of {', '.join(folders)}; run: {first}")
    print("compared:", ", ".join(found))
    for method in folders.keys() - found.keys():
        print(f"without a result: {method}; made by: {evaluation(parameters, method)}")
    return found


def evaluation(parameters: Parameters, method: str, drive: str = "direct") -> str:
    """The commands that train an avatar by `method` and evaluate it."""
    changes = {"method": method, "drive": drive}
    return " && ".join(command(notebook, parameters, **changes) for notebook in ("04_train", "05_evaluate"))


def command(notebook: str, parameters: Parameters | Mapping[str, Any], **changes: Any) -> str:
    """The command that runs `notebook` with these parameters in the project's folder."""
    p, folder = parameters_of(notebook, parameters, **changes), run_folder(notebook, parameters, **changes)
    inside = folder.is_relative_to(project_root())
    copy = (folder.relative_to(project_root()) if inside else folder).with_name(f"{folder.name}.ipynb")
    words = ["papermill", f"notebooks/{notebook}.ipynb", copy.as_posix()]
    for field in fields(p):
        value = getattr(p, field.name)
        if value != field.default or field.name in ("subject", "method"):
            words += ["-r" if isinstance(value, str) and _reads_as_number(value) else "-p", field.name, str(value)]
    return shlex.join(words)


def _reads_as_number(text: str) -> bool:
    """Whether papermill's option -p would convert it to something other than text."""
    if text in ("True", "False", "None"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _who(p: Any) -> list[str]:
    """The subject or video as part of a folder's name; empty for a notebook without one."""
    if hasattr(p, "video"):
        if not (p.video and p.driver):
            raise RafError(
                f"{p.notebook()}: set video (whose avatar) and driver (whose expressions) to two video files"
            )
        return [file_name(p.video)]
    if not hasattr(p, "subject"):
        return []
    return [file_name(p.subject) if getattr(p, "source", "studio") == "video" else _part(p.subject)]


def _part(text: str) -> str:
    """`short_name` without "_", which joins the parts of a folder's name."""
    name = short_name(text)
    plain = name.replace("_", "-")
    if plain == text or name != text:  # unchanged, or with a hash from short_name
        return plain
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _changed(p: Any, name: str, label: str = "") -> str:
    """ "_", the label and the value of a parameter that is not at its default; "" otherwise."""
    default = {field.name: field.default for field in fields(p)}
    value = getattr(p, name, None)
    if name not in default or value == default[name]:
        return ""
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    return f"_{label}{_part(text)}"


def _recorded(p: Any) -> str:
    """The part of the name for other recordings than the studio's, other features and other held-out sequences.

    A folder is named by its last part and its whole path, a face model by its content.
    """
    name = _changed(p, "source")
    if root := getattr(p, "root", ""):
        whole = str(Path(root).resolve())
        name += f"_{_part(Path(whole).name)}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}"
    name += _changed(p, "features")
    if model := getattr(p, "model", ""):
        name += f"_{_part(file_name(model))}"
    return name + _changed(p, "held_out", "without-")


def _trained(p: Any, methods: Collection[str]) -> str:
    """The part of the name for other parameters of trainings by `methods` than subject, method, profile and seed."""
    widest = max(methods, key=lambda method: (SAMPLERS[method].needs_bank(), "top_k" in SAMPLERS[method].options()))
    options = {option for method in methods for option in SAMPLERS[method].options()}
    name = bank_suffix(p.bank, widest, getattr(p, "top_k", 1))
    name += "".join(_changed(p, option, option) for option in ("p", "sigma") if option in options)
    name += _changed(p, "search", "search-") if "search" in options else ""
    start, steps = getattr(p, "initialisation", ""), p.steps
    if train_config(p.profile, start) != train_config(p.profile):
        name += f"_{start}"
    if steps not in (0, train_config(p.profile, start).steps):
        name += f"_steps{steps}"
    return name


def _bank(p: Any) -> str:
    """The part of the name for the bank of notebook 02."""
    if not p.rebuild:
        return bank_suffix(p.bank)
    return "_rebuilt" + _changed(p, "people", "people") + _changed(p, "frames", "frames")


def _own_frames(p: Any) -> str:
    """The part of the name for other frames of the subject than the profile's own."""
    frames = own_frames(p.own_frames, p.profile)
    return "" if frames == own_frames("", p.profile) else f"_frames-{frames}"


def _driven(p: Any) -> str:
    """The part of the name for drivers, their frames and the driving map."""
    named = _changed(p, "drivers", "drivers-") + _changed(p, "driver_frames", "frames")
    return named + ("" if p.drive == "direct" else f"_{p.drive}")


_ALWAYS = {
    "00_start": ("profile",),
    "01_subjects": ("profile",),
    "02_bank": ("profile",),
    "03_coverage": ("profile",),
    "04_train": ("method", "profile", "seed"),
    "05_evaluate": ("method", "profile", "seed"),
    "06_tables": ("profile", "seed"),
    "07_user_study": ("profile",),
    "08_your_video": ("method", "profile", "seed"),
    "09_beyond": ("profile", "seed"),
    "10_raf_from_nothing": ("profile", "seed"),
    "11_coverage_in_the_plane": ("profile", "seed"),
    "12_splats": ("profile", "seed"),
}
"""Parameters that are always in the name, after the subject."""
_NAMES = {
    "00_start": lambda p: "",
    "01_subjects": lambda p: "",
    "02_bank": lambda p: _bank(p) + _changed(p, "search", "search-") + _changed(p, "seed", "seed"),
    "03_coverage": lambda p: (
        bank_suffix(p.bank, top_k=p.top_k)
        + _changed(p, "search", "search-")
        + _own_frames(p)
        + _changed(p, "repeats", "repeats")
        + _changed(p, "seed", "seed")
    ),
    "04_train": lambda p: _trained(p, [p.method]),
    "05_evaluate": lambda p: _trained(p, [p.method]) + _driven(p),
    "06_tables": lambda p: _trained(p, PAPER_METHODS),
    "07_user_study": lambda p: bank_suffix(p.bank) + _changed(p, "queries", "queries") + _changed(p, "seed", "seed"),
    "08_your_video": lambda p: _trained(p, [p.method]),
    "09_beyond": lambda p: _trained(p, SAMPLERS) + _changed(p, "repeats", "repeats") + _changed(p, "metric", "metric-"),
    "10_raf_from_nothing": lambda p: "",
    "11_coverage_in_the_plane": lambda p: "",
    "12_splats": lambda p: "",
}
"""The end of the name, from the parameters."""
