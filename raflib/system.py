"""What differs between Linux, macOS and Windows: locks of open files, renaming, processes that are told to end.

Every other room uses these functions, so that no room asks which system it runs on. A lock belongs to an open file. The
system lets go of it when the file is closed and when the process ends, however it ends. The package `filelock` does not
fit here: on Windows it locks the first byte, which no other program can then read or write, and our files have content.

Windows neither renames nor removes a file that any process has open. So the order of closing and renaming differs
(`let_go`), and an open file is safe from `remove_unless_held`.

What child processes get from this one is here, too: `environment`.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

WINDOWS = sys.platform == "win32"
RENAME_SECONDS = 2.0
"""Seconds that a rename on Windows waits for a reader of the old file, such as a virus scanner, to close it."""
CLOSED_SECONDS = 2.0 if WINDOWS else 0.0
"""Age below which a file that no process holds may be about to be renamed, because Windows closes it before."""

if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    class _Overlapped(ctypes.Structure):
        """The place of a locked byte, as `LockFileEx` wants it."""

        _fields_ = (
            ("Internal", ctypes.c_void_p), ("InternalHigh", ctypes.c_void_p), ("Offset", wintypes.DWORD),
            ("OffsetHigh", wintypes.DWORD), ("hEvent", wintypes.HANDLE),
        )  # fmt: skip

    _lock_file_ex = ctypes.WinDLL("kernel32", use_last_error=True).LockFileEx
    _lock_file_ex.restype = wintypes.BOOL
    _lock_file_ex.argtypes = (
        wintypes.HANDLE, wintypes.DWORD, wintypes.DWORD, wintypes.DWORD, wintypes.DWORD, ctypes.POINTER(_Overlapped)
    )  # fmt: skip
    _AT_ONCE, _EXCLUSIVE, _HELD = 1, 2, 33

    def _lock(descriptor: int, wait: bool) -> None:
        # Nobody else can read or write a locked byte, so it lies at 2**62, behind the end of any file.
        place = _Overlapped(OffsetHigh=2**30)
        flags = _EXCLUSIVE | (0 if wait else _AT_ONCE)
        if not _lock_file_ex(msvcrt.get_osfhandle(descriptor), flags, 0, 1, 0, ctypes.byref(place)):
            if ctypes.get_last_error() == _HELD:
                raise BlockingIOError(errno.EAGAIN, "another process holds the lock")
            raise ctypes.WinError(ctypes.get_last_error())

    APART: dict[str, Any] = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    """Arguments of `subprocess.Popen` for a process that does not get the interrupts of this terminal."""
    STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
    """Signals that ask a program to end: an interrupt, a request, and the end of its terminal."""
else:
    import fcntl

    def _lock(descriptor: int, wait: bool) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

    APART = {"start_new_session": True}
    STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def lock(file: IO[Any], wait: bool = False) -> None:
    """Lock an open file for this handle alone, until it is closed or its process ends.

    While another handle has it locked, this waits where `wait` is true and raises BlockingIOError where it is not.
    Programs that do not ask for the lock can read and write the file all the same.
    """
    _lock(file.fileno(), wait)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """In this block environment variables have these values, for child processes that start in it; then as before.

    A value that stayed would change this process, too: numba reads its number of threads anew at every compilation,
    and refuses another one once its threads run.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def let_go(file: IO[Any]) -> Iterator[None]:
    """In this block a locked file can be renamed or removed; after it the file is closed.

    Windows needs the file closed before. Elsewhere it stays locked until the block ends, so that nobody can take it.
    """
    if WINDOWS:
        file.close()
    try:
        yield
    finally:
        file.close()


def replace(source: str | Path, target: str | Path) -> None:
    """`os.replace`, which on Windows waits up to `RENAME_SECONDS` until other programs have closed the files."""
    end = time.monotonic() + RENAME_SECONDS
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if not WINDOWS or time.monotonic() > end:
                raise
        time.sleep(0.05)


def remove_unless_held(path: str | Path) -> None:
    """Remove a file that no process has locked; OSError where one has, or where the file cannot be removed."""
    if WINDOWS:  # where a file that is open, as every locked one is, cannot be removed
        os.unlink(path)
    else:
        with open(path, "rb") as stream:
            lock(stream)
            os.unlink(path)


def ask_to_end(process: subprocess.Popen) -> None:
    """Ask a process that was started with `APART` to end; it may save its work before."""
    if sys.platform == "win32":
        with suppress(OSError):  # without a console it cannot be asked, and the caller kills it after a while
            process.send_signal(signal.CTRL_BREAK_EVENT)
    else:
        process.terminate()


def relative(path: str | Path, folder: str | Path = ".") -> str:
    """`path` as seen from `folder`, with "/" on every system. It is absolute where it lies on another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return Path(path).absolute().as_posix()


def print_any_text() -> None:
    """Make print write an escape for a character that a terminal or log cannot show, instead of failing.

    Files and pipes on Windows have an encoding without most symbols.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
