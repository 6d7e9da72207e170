"""Sources of captures: one module for each, with `open(subject, profile, root) -> Capture`.

Every module or package of this folder whose name has no leading underscore is a source, so a new source is a new file
or folder. It is imported when it is opened, so that the others do not need its dependencies.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from raflib.capture import Capture
from raflib.errors import RafError


def known_sources() -> tuple[str, ...]:
    """Names that `open_capture` accepts."""
    return tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))


def open_capture(source: str, subject: str, profile: str = "demo", root: str | Path | None = None) -> Capture:
    """One person's recording.

    Args:
        source: one of `known_sources()`.
        subject: the person's id, always a string ("074" is not 74).
        profile: number and size of images, by a name of the source ("tiny", "demo", "paper", …).
        root: the folder or file the source reads; None where the source needs none.

    Raises RafError for an unknown source, a subject that is not a string, and for what the source cannot open.
    """
    if source not in known_sources():
        raise RafError(f"source {source!r} is not known; choose one of {', '.join(known_sources())}")
    if not isinstance(subject, str) or not subject:
        raise RafError(f"subject {subject!r} must be a non-empty string; write it in quotes")
    return import_module(f"{__name__}.{source}").open(subject, profile, root)


def known_people(source: str, root: str | Path) -> list[str]:
    """Ids of all people whose recordings the folder `root` holds, sorted, for sources that have a function `people`.

    Nothing is opened. Raises RafError for a folder that does not exist, and for a source that reads no folder of people
    (studio, video).
    """
    reader = import_module(f"{__name__}.{source}")
    if not hasattr(reader, "people"):
        raise RafError(f"source {source} reads no folder of several people, so {root} cannot be listed")
    if not Path(root).is_dir():
        raise RafError(f"{root}: no such folder; give the folder that holds the people's folders as root")
    return sorted(reader.people(Path(root)))
