"""Which source a folder or file belongs to, and which people it holds."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from raflib.capture import Capture
from raflib.errors import RafError
from raflib.sources import open_capture
from raflib.sources.gha import open_unseen
from raflib.sources.nersemble.names import MONO, NVS

SOURCES = ("gha", "nersemble", "video")
FILMS = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi"}
CALIBRATION = "calibration/camera_params.json"


@dataclass(frozen=True)
class Place:
    """One person's recording on disk: what `open_capture` needs, its layout in words, and its own folder or file."""

    source: str
    subject: str
    root: Path
    layout: str
    path: Path

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        files = [self.path] if self.path.is_file() else self.path.rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())

    def open(self, profile: str) -> tuple[Capture, list[str], str]:
        """(the capture, what the source warned about, why the source refuses it or ""). Raises RafError where it cannot
        be read at all."""
        refusal = ""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            try:
                capture = open_capture(self.source, self.subject, profile, self.root)
            except RafError as error:
                if self.source != "gha":
                    raise
                refusal, capture = str(error), open_unseen(self.subject, profile, self.root)
        notes = [str(each.message) for each in told if issubclass(each.category, UserWarning)]
        return capture, list(dict.fromkeys(notes)), refusal


def people_in(path: Path, source: str | None = None) -> list[Place]:
    """All people in a folder, or the one of a video file; `source` says what it is, by default it is recognised.

    Raises RafError where nothing is known in it.
    """
    try:
        if not path.exists():
            raise RafError(f"{path}: no such folder or file; check the path")
        found = [place for name in SOURCES if source in (None, name) for place in _FINDERS[name](path.resolve())]
    except OSError as error:
        raise RafError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if not found:
        what = f"nothing of the source {source}" if source else "no capture"
        raise RafError(
            f"{path}: holds {what}; expected <person>/images and <person>/params (gha), "
            f"<person>/{CALIBRATION} (nersemble), or video files"
        )
    return found


def _gha(path: Path) -> list[Place]:
    def is_person(folder: Path) -> bool:
        return (folder / "images").is_dir() and any((folder / part).is_dir() for part in ("params", "cameras"))

    folders = [path] if is_person(path) else [folder for folder in _folders(path) if is_person(folder)]
    layout = {True: "folder of Gaussian Head Avatar, exported", False: "folder of Gaussian Head Avatar"}
    return [Place("gha", folder.name, folder, layout[(folder / "capture.npz").exists()], folder) for folder in folders]


def _nersemble(path: Path) -> list[Place]:
    from raflib.sources.nersemble import layout_of

    if (path / CALIBRATION).is_file():
        folders = [path]
    else:
        roots = [path / MONO, path / NVS, path]
        folders = [folder for root in roots for folder in _folders(root) if (folder / CALIBRATION).is_file()]
    places = []
    for folder in folders:
        try:
            layout = layout_of(folder)
        except RafError as error:
            layout = f"unknown ({error})"
        places.append(Place("nersemble", folder.name, folder, layout, folder))
    return places


def _video(path: Path) -> list[Place]:
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.suffix.lower() in FILMS)
    return [Place("video", file.stem, file, "video with one camera", file) for file in files if file.is_file()]


_FINDERS = {"gha": _gha, "nersemble": _nersemble, "video": _video}


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
