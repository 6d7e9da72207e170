"""Results on disk: run folders, atomic writes, safe checkpoints and JSON.

A run is a folder with `run.json` (parameters, commit, versions, seed), `checkpoint.safetensors` (tensors and the config
inside its metadata, no pickle), `log.csv` and the images and tables that a notebook adds. Every write goes to a
temporary file in the same folder and is renamed, so that a killed process leaves either the old file or the new one.
A folder that is written over minutes is locked meanwhile (`folder_lock`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from raflib import system
from raflib.errors import RafError
from raflib.reading import pack_arrays
from raflib.reading import read_json as read_json  # beside write_json, where one looks for it
from raflib.reading.files import MOST_BYTES

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY = ".raf-writing-"
"""Prefix of half-written files' names; `remove_leftovers` removes such files when their writer is gone."""
LOCK = ".raf-lock"
STALE_SECONDS = 60.0
"""Age from which a temporary file that no process holds is a leftover."""
_SWEPT: set[Path] = set()
VERSIONS_OF = ("torch", "numpy", "numba", "mediapipe", "stlpips-pytorch")


def project_root() -> Path:
    """The project's folder, with notebooks and data: the one named by the environment variable RAF_ROOT.

    Without the variable it is the checkout that holds this package. Where the package was installed elsewhere, it is
    the checkout around the current folder, and otherwise the current folder itself.
    """
    if named := os.environ.get("RAF_ROOT"):
        return Path(named).resolve()
    if _is_checkout(package := Path(__file__).resolve().parents[1]):
        return package
    here = Path.cwd()
    return next(filter(_is_checkout, (here, *here.parents)), here)


def _is_checkout(folder: Path) -> bool:
    return all((folder / name).exists() for name in ("pyproject.toml", "notebooks", "data"))


def data_root() -> Path:
    """The small open files that ship with the project. RafError where the project's folder is not known."""
    root = project_root()
    if not (os.environ.get("RAF_ROOT") or _is_checkout(root)):
        raise RafError(
            f"{root}: not the project's folder, whose data are needed; go there, or name it in the environment "
            "variable RAF_ROOT"
        )
    return root / "data"


def cache_root() -> Path:
    """Rendered captures and tracks that can be made again (environment variable RAF_CACHE, default data/cache)."""
    named = os.environ.get("RAF_CACHE")
    return Path(named).resolve() if named else project_root() / "data" / "cache"


def runs_root() -> Path:
    """Results, one folder a run (environment variable RAF_RUNS, default runs)."""
    named = os.environ.get("RAF_RUNS")
    return Path(named).resolve() if named else project_root() / "runs"


def weights_root() -> Path:
    """Weights of other projects that the user brings (environment variable RAF_WEIGHTS, default data/weights)."""
    named = os.environ.get("RAF_WEIGHTS")
    return Path(named).resolve() if named else project_root() / "data" / "weights"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well and vanishes when it does not.

    The file's mode follows the process's umask. The first write into a folder also removes temporary files that killed
    processes left there. Raises RafError naming `path` where the disk is full or the folder cannot be written; the old
    file stays as it was.
    """
    path = Path(path)
    with _named_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _SWEPT:
            _SWEPT.add(path.parent)
            remove_leftovers(path.parent, STALE_SECONDS)
        # Its length does not depend on the name, so that any name that fits can be written.
        temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}{path.suffix[:20]}")
        held = open(temporary, "x+b")  # noqa: SIM115 (open until the end, whoever else opens and closes the file)
    try:
        with _named_os_errors(path):
            system.lock(held)  # tells other processes that it is being written
            yield temporary
            with open(temporary, "r+b") as stream:
                os.fsync(stream.fileno())
            with system.let_go(held):
                system.replace(temporary, path)
    finally:
        with system.let_go(held), suppress(PermissionError):  # on Windows another program may be reading it
            temporary.unlink(missing_ok=True)


@contextmanager
def _named_os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RafError(
            f"{path}: cannot be written ({error.strerror or error}); free some space or choose another folder"
        ) from error


def check_writable(folder: Path, advice: str, named: Path | None = None) -> None:
    """RafError unless files can be made in `folder`, which is made if need be.

    The error names `named` (default `folder`) and ends in `advice`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"1")
            stream.flush()
    except OSError as error:
        raise RafError(f"{named or folder}: cannot be written ({error.strerror}); {advice}") from None


def remove_leftovers(folder: Path, older_than: float = 0.0) -> None:
    """Remove the temporary files of `atomic_write` in `folder` whose writers were killed; those in use stay.

    `older_than` (seconds) spares the file that another process may just have made and not yet locked.
    """
    youngest = max(older_than, system.CLOSED_SECONDS)
    for entry in os.scandir(folder):
        if entry.name.startswith(TEMPORARY) and entry.is_file(follow_symlinks=False):
            with suppress(OSError):
                if time.time() - entry.stat().st_mtime >= youngest:
                    system.remove_unless_held(entry.path)


@contextmanager
def folder_lock(folder: str | Path, what: str) -> Iterator[None]:
    """Only one process at a time writes `folder` inside this block, which is called `what` in the error of others.

    The system lets go of the lock when its process ends, however it ends. Raises RafError naming the holder (process,
    machine, what it does and since when), and where the folder cannot be written.
    """
    folder = Path(folder)
    path = folder / LOCK
    with ExitStack() as stack:
        with _named_os_errors(path):
            if not folder.exists():
                folder.mkdir(parents=True)
                stack.callback(_remove_empty, folder)
            stream = _open_lock(path)
            stack.callback(_remove_lock, stream, path)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            about = {"what": what, "process": os.getpid(), "machine": platform.node(), "since": since}
            stream.truncate(0)
            stream.write(json.dumps(about))
            stream.flush()
            remove_leftovers(folder)
        yield


def _remove_lock(stream: TextIO, path: Path) -> None:
    with system.let_go(stream), suppress(PermissionError):  # on Windows the next process may have opened it
        path.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds something
        folder.rmdir()


def _open_lock(path: Path) -> TextIO:
    """The lock's file, opened and locked; RafError naming who holds it."""
    while True:
        stream = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (closing it lets go of the lock)
        try:
            system.lock(stream)
            if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
            stream.close()  # its holder removed it after we had opened it
        except BlockingIOError:
            stream.seek(0)
            holder = _holder(stream.read())
            stream.close()
            raise RafError(
                f"{path.parent}: in use by {holder}; wait until it has ended, or stop it, or choose another folder"
            ) from None


def _holder(text: str) -> str:
    try:
        about = json.loads(text)
        return f"process {about['process']} on {about['machine']} ({about['what']}, since {about['since']})"
    except (ValueError, LookupError, TypeError):
        return "another process that has just started"


def json_text(value: object) -> str:
    """`value` as readable JSON. NaN, a number that does not exist, becomes null; RafError naming an infinite entry."""
    return json.dumps(_json_value(value, ""), indent=1, sort_keys=True, allow_nan=False) + "\n"


def _json_value(value: object, name: str) -> object:
    """`value` with null for NaN; `name` is the path of its keys."""
    if isinstance(value, Mapping):
        return {key: _json_value(item, f"{name}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item, f"{name}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise RafError(f"{name or 'value'} is {value!r}, which JSON cannot hold; expected a finite number")
    return value


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as `json_text` gives it, atomically. `read_json` reads it back, with None for NaN."""
    text = json_text(value)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_arrays(
    path: str | Path, arrays: Mapping[str, np.ndarray], what: str, remedy: str, most: int = MOST_BYTES
) -> None:
    """Write arrays as a compressed .npz that `read_arrays` reads back, atomically and without pickle.

    `most` is the limit of `read_arrays` for the file and for its content. Raises RafError ("…: the <what> takes more
    than …; <remedy>") where they would be larger; the old file stays as it was. Arrays that are too large by themselves
    are refused before anything is written.
    """
    refused = f"{path}: the {what} takes more than {most} bytes, which would not be read again; {remedy}"
    if sum(np.asarray(array).nbytes for array in arrays.values()) > most:
        raise RafError(refused)
    with atomic_write(path) as temporary:
        if pack_arrays(temporary, arrays) > most:
            raise RafError(refused)


def provenance() -> dict[str, object]:
    """How a result was made: commit, versions and machine. Missing packages are simply not listed."""
    versions = {"python": platform.python_version(), **package_versions(VERSIONS_OF)}
    return {"commit": _commit(), "versions": versions, "machine": f"{platform.machine()}, {os.cpu_count()} cores"}


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed version of each package, by name; one that is missing is simply not listed."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str:
    git = ["git", "-C", str(project_root())]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True).stdout.decode().strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if changed.strip() else "")


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, object]) -> tuple[dict, dict]:
    """Write a safetensors file with `header` (JSON) in its metadata, atomically and sealed by a checksum.

    Returns (tensors, header) as `load_tensors` reads them from the file; the tensors are copies on the CPU.
    """
    from safetensors.torch import save

    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    text = json.dumps(header)
    # Serialised in memory first: safetensors' own writer reports a full disk without the file's name.
    data = save(plain, metadata={"raflib": text, "seal": _seal(plain, text)})
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return plain, json.loads(text)


def load_tensors(path: str | Path) -> tuple[dict, dict]:
    """(tensors, header) of `save_tensors`; RafError naming the file when it is missing, truncated, changed or foreign.

    No pickle: a safetensors file holds numbers only. Its header is checked against the seal before it is used.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise RafError(f"{path}: no such checkpoint; train first or check the path")
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            # Copies, because Windows does not replace a file whose content is mapped into memory.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise RafError(f"{path}: not a readable safetensors file ({error}); delete it and train again") from None
    if "raflib" not in told:
        raise RafError(f"{path}: no raflib header inside; it was written by another program")
    if told.get("seal") != _seal(tensors, told["raflib"]):
        raise RafError(f"{path}: its content does not match its seal, so it was changed or damaged; train again")
    header = json.loads(told["raflib"])
    if not isinstance(header, dict):
        raise RafError(f"{path}: its header is {type(header).__name__}, expected an object; train again")
    return tensors, header


def _seal(tensors: Mapping[str, Tensor], header: str) -> str:
    """sha256 over the header and each tensor's name, type, shape and bytes."""
    import torch

    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"|{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
