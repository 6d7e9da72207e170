"""Mutations of folders that hold a person's recording, and what comes of reading them.

A mutation changes a copy of a good folder. `outcomes` reads every copy, with the images of its detected frames, and
says what came of it: a clear error, marked frames, or the same capture as before. Everything else is "WRONG". `report`
prints the table, for `pytest -s`.
"""

from __future__ import annotations

import io
import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from raflib.capture import Capture
from raflib.errors import RafError

ERROR, MARKED, SAME = "error", "marked", "same"
SIGNALS = ("expression", "pose", "scale", "landmarks")
Change = Callable[[Path], object]


@dataclass(frozen=True)
class Mutation:
    """`change(folder)` does the damage; `expected` is the outcome, whose text holds `words`."""

    label: str
    change: Change
    expected: str = ERROR
    words: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of reading a mutated folder: its kind, and the error or the number of frames."""

    mutation: Mutation
    kind: str
    text: str

    @property
    def right(self) -> bool:
        """Whether this is the expected outcome."""
        return self.kind == self.mutation.expected and self.mutation.words in self.text


class Restored:
    """A copy of a folder that can be put right again; only what changed is written."""

    def __init__(self, good: Path, folder: Path):
        self.folder = folder
        shutil.copytree(good, folder)
        self.content = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.marks = {path: self._mark(path) for path in self.content}

    @staticmethod
    def _mark(path: Path) -> tuple[int, int, int] | None:
        if not path.is_file():
            return None
        about = path.stat()
        return about.st_ino, about.st_size, about.st_mtime_ns

    def restore(self) -> None:
        """Put the folder right."""
        folders = {parent for path in self.content for parent in path.parents}
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_dir() and path not in folders:
                path.rmdir()
            elif not path.is_dir() and path not in self.content:
                path.unlink()
        for path, data in self.content.items():
            if self._mark(path) != self.marks[path]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                self.marks[path] = self._mark(path)


def outcomes(
    good: Path, mutations: Iterable[Mutation], read: Callable[[Path], Capture], scratch: Path
) -> list[Outcome]:
    """Outcomes of reading `good` after each mutation. `read` is called on a folder of the same name as `good`."""
    before, found, copy = read(good), [], Restored(good, scratch / "mutated" / good.name)
    for mutation in mutations:
        mutation.change(copy.folder)
        found.append(Outcome(mutation, *_outcome(copy.folder, read, before)))
        copy.restore()
    again = _outcome(copy.folder, read, before)
    assert again[0] == SAME, f"a mutation was not taken back: {again[1]}"
    return found


def _outcome(folder: Path, read: Callable[[Path], Capture], before: Capture) -> tuple[str, str]:
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            after = read(folder)
            pairs = [(t, c) for t in np.flatnonzero(after.detected).tolist() for c in range(len(after.cameras))]
            views = {pair: (after.image(*pair), after.mask(*pair)) for pair in pairs}
    except RafError as error:
        text = str(error)
        if "\n" in text or str(folder) not in text:
            return "WRONG", f"an error without the file: {text}"
        return ERROR, text.replace(f"{folder.parent}/", "")
    except Exception as error:
        return "WRONG", f"{type(error).__name__}: {error}"
    return _compared(before, after, views, [str(each.message).replace(f"{folder.parent}/", "") for each in told])


def _compared(before: Capture, after: Capture, views: Mapping, told: list[str]) -> tuple[str, str]:
    """The outcome of a folder that could be read: detected frames must be as they were, found by their numbers."""
    place = {frame: row for row, frame in enumerate(before.frame.tolist())}
    if [camera.name for camera in after.cameras] != [camera.name for camera in before.cameras]:
        return "WRONG", f"cameras {[camera.name for camera in after.cameras]}"
    for t in np.flatnonzero(after.detected):
        row = place[int(after.frame[t])]
        for name in SIGNALS:
            if not np.array_equal(getattr(after, name)[t], getattr(before, name)[row]):
                return "WRONG", f"{name} of frame {after.frame[t]} changed unnoticed"
        for c in range(len(after.cameras)):
            image, mask = views[int(t), c]
            if not np.array_equal(image, before.image(row, c)) or not np.array_equal(mask, before.mask(row, c)):
                return "WRONG", f"image of frame {after.frame[t]} changed unnoticed"
    lost = sorted(set(before.frame[before.detected].tolist()) - set(after.frame[after.detected].tolist()))
    if not lost:
        return SAME, ""
    if not told:
        return "WRONG", f"frames {lost} are marked without a warning"
    return MARKED, f"frames {', '.join(map(str, lost))}: {' '.join(told)}"


def report(title: str, found: list[Outcome]) -> None:
    """Print the table of mutations and outcomes."""
    width = max(len(each.mutation.label) for each in found)
    print(f"\n{title}: {len(found)} mutations")
    for each in found:
        print(f"  {each.mutation.label:<{width}}  {each.kind:<7} {each.text[:150]}")


def removed(*paths: str) -> Change:
    """Remove files and folders; paths may hold wildcards, and each must match something."""

    def change(folder: Path) -> None:
        for pattern in paths:
            matches = list(folder.glob(pattern))
            assert matches, f"{pattern} matches nothing"
            for path in matches:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def cut(path: str, share: float = 0.5) -> Change:
    """Keep only the first `share` of a file."""
    return lambda folder: (folder / path).write_bytes((data := (folder / path).read_bytes())[: int(share * len(data))])


def written(path: str, data: bytes | str) -> Change:
    """Replace a file's content."""
    return lambda folder: (folder / path).write_bytes(data.encode() if isinstance(data, str) else data)


def entries(path: str, **changes: object) -> Change:
    """Change entries of a JSON file, or remove them (None)."""

    def change(folder: Path) -> None:
        stored = json.loads((folder / path).read_text()) | changes
        (folder / path).write_text(json.dumps({name: value for name, value in stored.items() if value is not None}))

    return change


def arrays(pattern: str, **changes: Callable[[np.ndarray], object] | None) -> Change:
    """Change arrays of the .npz files that match, or remove them (None)."""

    def change(folder: Path) -> None:
        for path in sorted(folder.glob(pattern)):
            with np.load(path) as stored:
                kept = {name: stored[name] for name in stored.files if changes.get(name, 0) is not None}
            made = {name: made(kept[name]) for name, made in changes.items() if made is not None}
            np.savez(path, **(kept | made))

    return change


def array(pattern: str, made: Callable[[np.ndarray], object]) -> Change:
    """Change the .npy files that match."""

    def change(folder: Path) -> None:
        for path in sorted(folder.glob(pattern)):
            np.save(path, made(np.load(path)))

    return change


def image(path: str, made: Callable[[Image.Image], Image.Image], kind: str = "") -> Change:
    """Change an image file, keeping its format unless another `kind` is given."""

    def change(folder: Path) -> None:
        shown = Image.open(io.BytesIO((folder / path).read_bytes()))
        made(shown).save(folder / path, kind or shown.format)

    return change


def swapped(one: str, other: str) -> Change:
    """Exchange two files or folders."""

    def change(folder: Path) -> None:
        (folder / one).rename(folder / "between")
        (folder / other).rename(folder / one)
        (folder / "between").rename(folder / other)

    return change


def value(*place: int | slice, to: float) -> Callable[[np.ndarray], np.ndarray]:
    """Set one place of an array."""

    def made(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[place] = to
        return values

    return made


def both(*changes: Change) -> Change:
    """Do several changes, one after the other."""
    return lambda folder: [change(folder) for change in changes]
