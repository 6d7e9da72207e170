"""Names of files and folders made from other names: readable, never too long, never the same for two things."""

from __future__ import annotations

import hashlib
from pathlib import Path

from raflib.errors import RafError

LONGEST = 48
"""Bytes of UTF-8 that one part of a name takes at most; file systems take 255 for the whole name."""


def short_name(text: str, longest: int = LONGEST) -> str:
    """`text` as part of a file's name: at most `longest` bytes of letters, digits, "-", "_" and ".".

    Other characters become "_", and no "." is at an end. Where something was changed or cut, the first 6 hexadecimal
    digits of the text's sha256 follow, so that two texts never get one name. `longest` is at least 8.
    """
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text).strip(".")
    if plain == text and plain and len(plain.encode()) <= longest:
        return plain
    mark = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:6]
    return f"{plain.encode()[: longest - 7].decode(errors='ignore')}-{mark}"


def content_hash(path: str | Path) -> str:
    """sha256 (hexadecimal) of a file's content; RafError naming the file when it cannot be read."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise RafError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


def size_and_time(path: Path) -> str:
    """Size and time of a file, which stand for its content where there is too much to hash."""
    told = path.stat()
    return f"{told.st_size} {told.st_mtime_ns}"


def file_name(path: str | Path) -> str:
    """A name for what is made of a file: its short stem and the first 8 digits of its content's hash.

    Two files of one name and other content get two names. Without a file it is the stem alone; what opens it says that
    it is missing.
    """
    path = Path(path)
    return f"{short_name(path.stem)}-{content_hash(path)[:8]}" if path.is_file() else short_name(path.stem)
