"""First checks of every reader: that the path is a file of allowed size; and errors that name the file."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raflib.errors import RafError

MOST_BYTES = 2**30
"""Most that a file, and what it unpacks to, may take unless the caller names another limit."""
FREE_BYTES, MOST_RATIO = 2**26, 50
"""Content of more than `FREE_BYTES` may be at most `MOST_RATIO` times as large as its packed file.

`pack_arrays` writes no file that exceeds it.
"""


class FileError(RafError):
    """A file that is missing, damaged or another than expected; the message begins with its path."""


@contextmanager
def damage_named(path: str | Path, what: str, remedy: str) -> Iterator[None]:
    """Every error inside the block becomes a RafError: the `what` at `path` is damaged. It ends with `remedy`.

    A `FileError` passes unchanged. Only for code that parses the content of a file: a library that is given damaged
    bytes may raise anything.
    """
    try:
        yield
    except FileError:
        raise
    except Exception as error:
        words = str(error) or type(error).__name__
        words = words if len(words) <= 1000 else f"{words[:1000]}…"
        raise FileError(f"{path}: damaged {what} ({words}); {remedy}") from None


def checked_file(path: str | Path, what: str, remedy: str, most: int = MOST_BYTES) -> Path:
    """`path`, if it is a file of at most `most` bytes. RafError naming it otherwise.

    Folders, pipes and devices are refused: reading some of them never ends.
    """
    path = Path(path)
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise FileError(f"{path}: no such {what}; {remedy}") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be opened as {what} ({error}); {remedy}") from None
    if not stat.S_ISREG(found.st_mode):
        raise FileError(f"{path}: not a file, expected a {what}; {remedy}")
    if found.st_size > most:
        raise FileError(f"{path}: has {found.st_size} bytes but a {what} at most {most}; {remedy}")
    return path


def allowed_bytes(packed: int, most: int) -> int:
    """Most bytes that a file of `packed` bytes may unpack to."""
    return min(most, max(FREE_BYTES, MOST_RATIO * packed))


def read_bytes(path: str | Path, what: str, remedy: str, most: int = MOST_BYTES) -> bytes:
    """The content of a file of at most `most` bytes. RafError naming it when it cannot be read."""
    path = checked_file(path, what, remedy, most)
    with damage_named(path, what, remedy), open(path, "rb") as stream:
        data = stream.read(most + 1)
        if len(data) > most:
            raise ValueError(f"it grew beyond {most} bytes while it was read")
    return data
