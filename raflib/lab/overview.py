"""What exists already, for notebook 00: results in `runs/`, recordings in the cache, and the notebook to run next.

Names of folders and small files tell it, so it takes a second. Nothing is changed on disk. A folder or file that cannot
be read is listed as such.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from raflib.errors import RafError
from raflib.lab.folders import LEAVES, command, read_name, run_folder
from raflib.lab.main_number import UNREADABLE, main_number, unfinished
from raflib.lab.parameters import NOTEBOOKS
from raflib.reading import Array, read_arrays, read_json
from raflib.runs import cache_root, project_root, runs_root
from raflib.sources.studio import PROFILES
from raflib.studio import TRAIN_SEQUENCES

PLAN = (
    ("01_subjects", ""), ("02_bank", ""), ("03_coverage", ""), ("04_train", "vanilla"), ("04_train", "raf"),
    ("05_evaluate", "vanilla"), ("05_evaluate", "raf"), ("06_tables", ""),
)  # fmt: skip
"""(notebook, method) in the order in which they are run for one subject."""
DONE = {
    **LEAVES, "01_subjects": "summary.json", "02_bank": "summary.json", "03_coverage": "rows.csv",
    "06_tables": "table2.txt",
}  # fmt: skip
"""The file by which a step of `PLAN` is recognised as done."""
LOOK = {
    "01_subjects": "contact_sheet.png", "02_bank": "neighbours.jpg", "03_coverage": "coverage.png",
    "04_train": "look.png", "05_evaluate": "table.md", "06_tables": "strip_*.png", "07_user_study": "figure3.png",
    "08_your_video": "self.png", "09_beyond": "samplers.png", "10_raf_from_nothing": "figure4.png",
    "11_coverage_in_the_plane": "contributions.png", "12_splats": "networks.png",
}  # fmt: skip
"""The file of a notebook's results to look at first, as a pattern."""
MOST_ROWS, MOST_COPIES = 30, 40
"""Most folders that a table shows, and most executed copies without a receipt that are read; the newest ones."""
COPY_BYTES = 2**24
NO_BREAK = "\N{NON-BREAKING HYPHEN}"
PROFILE_OF = {
    (len(TRAIN_SEQUENCES) if kind.sequences is None else kind.sequences) * kind.per_sequence + kind.free:
    f" (profile {name})"
    for name, kind in PROFILES.items() if kind.free is not None and kind.per_sequence is not None
}  # fmt: skip
"""Number of frames of a studio recording → its profile, for profiles with a fixed number."""
SOURCES = ("studio", "video", "nersemble")
"""Folders of the cache that hold one file of tracks for each recording."""


@dataclass(frozen=True)
class Result:
    """A folder of results.

    Attributes:
        folder: its path.
        told: the entries of `raflib.lab.folders.read_name`.
        when: time of its newest file, in seconds since 1970.
    """

    folder: Path
    told: Mapping[str, str]
    when: float


def results() -> list[Result]:
    """All folders of results in `runs_root()` that hold a file, the newest first."""
    found = []
    for folder in _listed(runs_root()):
        told = read_name(folder.name)
        times = [_time(path) for path in _listed(folder)] if told else []
        if told and times:
            found.append(Result(folder, told, max(times)))
    return sorted(found, key=lambda result: -result.when)


def results_table(most: int = MOST_ROWS) -> str:
    """Markdown: the newest `most` results by notebook, with links to an image or table and to the executed copy."""
    found, copies, rows = results(), executed_copies(), []
    if not found:
        return f"There are no results yet in `{_shown(runs_root())}`."
    for result in sorted(found[:most], key=lambda result: result.told["notebook"]):
        notebook, folder = result.told["notebook"], result.folder
        looks = [path for path in _listed(folder) if path.match(LOOK.get(notebook, "?"))]
        links = [_link("table" if path.suffix == ".md" else "image", path) for path in looks]
        links += [_link("notebook", copies[folder.name])] if folder.name in copies else []
        told = [_plain(result.told[name]) for name in ("notebook", "subject", "method", "profile", "seed", "settings")]
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(result.when)).replace("-", NO_BREAK)
        rows.append([*told, when, _plain(main_number(notebook, folder)), ", ".join(links)])
    head = ["notebook", "subject", "method", "profile", "seed", "other parameters", "when", "main number", "look at"]
    if not any(row[5] for row in rows):
        head, rows = head[:5] + head[6:], [row[:5] + row[6:] for row in rows]
    left = len(found) - len(rows)
    below = f" {left} older ones are not shown; `overview.results()` lists all." if left else ""
    return f"{_table(head, rows)}\n\nThe folders are in `{_shown(runs_root())}`.{below}"


def executed_copies() -> dict[str, Path]:
    """Folder's name → the newest executed copy of the notebook that wrote it.

    It lies in `runs_root()` or below its folder `notebooks`, where `make demo` and sweeps write copies and receipts.
    """
    paths = [*runs_root().glob("*.ipynb"), *(runs_root() / "notebooks").rglob("*.ipynb")]
    whole = [path for path in paths if not path.name.startswith(".") and not path.name.endswith(".failed.ipynb")]
    found: dict[str, Path] = {}
    read = 0
    for path in sorted(whole, key=_time, reverse=True):
        receipt = path.with_suffix(".json")
        read += not receipt.is_file()
        try:
            if receipt.is_file():
                found.setdefault(_left_by(receipt), path)
            elif read <= MOST_COPIES:
                found.setdefault(_written_by(path), path)
        except RafError:
            continue
    return {name: path for name, path in found.items() if name}


def recordings_table() -> str:
    """Markdown: the recordings in the cache by source and profile, and how many of their images are stored."""
    groups: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for source in SOURCES:
        for path in (path for path in _listed(cache_root() / source) if path.suffix == ".npz"):
            images = sum(1 for _ in path.with_suffix("").glob("*/*.png"))
            groups.setdefault((source, _recorded(source, path)), []).append((path.stem.rpartition("-")[0], images))
    rows = []
    for (source, what), people in groups.items():
        names = ", ".join(sorted({_plain(name) for name, _ in people}))
        rows.append([source, what, names, f"{sum(count for _, count in people):,}"])
    if not rows:
        return f"There are no recordings yet in `{_shown(cache_root())}`. A notebook that needs one makes it."
    return _table(("source", "frames", "people", "stored images"), rows)


def plan_table(subject: str, profile: str) -> str:
    """Markdown: how to run the next step of `PLAN` for a subject with a profile, and which steps are done."""
    rows, following = [], ""
    for number, (notebook, method) in enumerate(PLAN, 1):
        given = {"subject": subject, "profile": profile, **({"method": method} if method else {})}
        state = _state(notebook, run_folder(notebook, given))
        if state != "done" and not following:
            kept = {name for name, value in given.items() if name != "method" and value == _default(notebook, name)}
            changed = [f'`{name} = "{value}"`' for name, value in given.items() if name not in kept]
            setting = f", set {', '.join(changed)} in its first cell," if changed else ""
            following = (
                f"open {_notebook(notebook)}{setting} and run all cells. In a terminal: `{command(notebook, given)}`"
            )
            state = ", ".join(["**next**", *([state] if state else [])])
        rows.append([str(number), _notebook(notebook), method, state])
    further = [_notebook(name) for name in ("07_user_study", "08_your_video", "09_beyond")]
    following = following or f"all steps are done. Go on with another subject, or with {', '.join(further)}."
    return f"**Next:** {following}\n\n{_table(('step', 'notebook', 'method', 'state'), rows)}"


def _state(notebook: str, folder: Path) -> str:
    """ "done", what a started training has reached, or "" where there are no results."""
    if not (folder / DONE[notebook]).is_file():
        return ""
    try:
        return (unfinished(folder) if notebook == "04_train" else "") or "done"
    except RafError:
        return UNREADABLE


def _default(notebook: str, name: str) -> str:
    """Default of a notebook's parameter."""
    return getattr(NOTEBOOKS[notebook], name)


# --- files ----------------------------------------------------------------------------------------------------------


def _listed(folder: Path) -> list[Path]:
    """Entries of a folder, sorted, without hidden ones; none where it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _time(path: Path) -> float:
    """When a file was last written, in seconds since 1970; 0 where it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _left_by(receipt: Path) -> str:
    """Name of the folder of results that a receipt of `raflib.lab.steps` lists; "" for none."""
    return next((parts[0] for name in read_json(receipt, {"left": dict})["left"] if (parts := Path(name).parts)), "")


def _written_by(copy: Path) -> str:
    """Name of the folder of results that an executed copy wrote, from what papermill noted in it; "" for none."""
    noted = read_json(copy, {"metadata": dict}, most=COPY_BYTES)["metadata"].get("papermill")
    if not isinstance(noted, dict) or noted.get("exception") or not isinstance(noted.get("parameters"), dict):
        return ""
    notebook = Path(str(noted.get("input_path"))).stem
    return run_folder(notebook, noted["parameters"]).name if notebook in NOTEBOOKS else ""


def _recorded(source: str, path: Path) -> str:
    """The number of frames of a recording; for the studio, with the profile that has this number."""
    try:
        frames = len(read_arrays(path, {"detected": Array("b", "T")}, "recording", "delete it")["detected"])
    except RafError:
        return UNREADABLE
    return f"{frames:,}{PROFILE_OF.get(frames, '') if source == 'studio' else ''}"


# --- Markdown -------------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|&])", r"\\\1", " ".join(text.split()))


def _link(text: str, path: Path) -> str:
    """A link that holds in the folders of notebooks and of results; the text alone for a file outside the project."""
    if not path.is_relative_to(project_root()):
        return _plain(text)
    return f"[{_plain(text)}](../{quote(path.relative_to(project_root()).as_posix())})"


def _notebook(name: str) -> str:
    """A link to a notebook."""
    return _link(name, project_root() / "notebooks" / f"{name}.ipynb")


def _shown(folder: Path) -> str:
    """A folder's path, from the project's folder where it lies inside."""
    inside = folder.is_relative_to(project_root())
    return (folder.relative_to(project_root()) if inside else folder).as_posix()
