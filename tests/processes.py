"""Processes of a killed program. They are found by a mark in the environment that they inherit (Linux)."""

from __future__ import annotations

from pathlib import Path

MARK = "RAF_MARK"
"""The environment variable that a test gives the program it will kill."""


def marked(mark: str | Path, kind: str = "") -> list[int]:
    """Numbers of all living processes with this mark, of those with `kind` in their command."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().split(b"\0")
                found += [int(entry.name)] if any(kind.encode() in word for word in command[:6]) else []
        except OSError:
            continue  # another user's process, or one that has just ended
    return found
