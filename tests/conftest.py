"""Set-up of all tests: shapes are checked at every call, there is no network, and the user's cache is not used."""

from __future__ import annotations

import ast
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

for _library in ("OMP", "NUMBA", "MKL", "OPENBLAS"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", str(os.cpu_count() or 1))
# Several processes share the cores: a thread that waits must not keep a core busy.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# On some processors MKL rounds by where a matrix lies in memory, so that two equal trainings differ in the last bit.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"

# A program in the background ignores interrupts and hang-ups, and its child programs would do the same.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# Results and rendered captures of the tests never mix with the user's.
_SCRATCH = tempfile.TemporaryDirectory(prefix="raf-tests-")
os.environ["RAF_CACHE"] = str(Path(_SCRATCH.name) / "cache")
os.environ["RAF_RUNS"] = str(Path(_SCRATCH.name) / "runs")

# No connection leaves the machine, neither from this process nor from its child processes.
_OFFLINE = str(Path(__file__).parent / "offline")
# Child processes use this checkout, even when another one is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (_OFFLINE, str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")))
)
sys.path.insert(0, _OFFLINE)
sys.modules.pop("sitecustomize", None)
import sitecustomize  # noqa: E402, F401
from jaxtyping import _import_hook  # noqa: E402

# Every annotation of the library is checked at every call, in tests only. Compiled functions are left alone: the hook
# would put a Python wrapper between numba and their code.
_COMPILED = ("jit", "njit", "vectorize", "guvectorize", "intrinsic", "overload", "generated_jit")
_unchecked = _import_hook._is_no_type_check


def _compiled_or_unchecked(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in _COMPILED or _unchecked(decorator)


_import_hook._is_no_type_check = _compiled_or_unchecked
_import_hook.install_import_hook("raflib", "beartype.beartype")

CLIPS = Path(os.environ.get("RAF_CLIPS", Path(__file__).parents[2] / "shared" / "data" / "clips"))


ALLOWED = 720
"""Seconds that the whole suite may take on 2 cores. It is printed beside the measured time and fails nothing."""
_STARTED = time.monotonic()


def pytest_sessionfinish():
    _SCRATCH.cleanup()


def pytest_unconfigure(config):
    """Print the time as the last line."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"suite: {time.monotonic() - _STARTED:.0f} s of {ALLOWED} s allowed on 2 cores")


LONGEST_FIRST = ("test_notebooks.py", "test_driver.py", "test_training.py", "test_coverage.py", "test_tracking.py")
"""Files that take longest. They begin first, so that no process has to wait for them at the end."""


def pytest_collection_modifyitems(items):
    """Put the longest files first, and skip, with the reason, what this machine cannot run."""
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))
    missing_gpu = _why_no_gpu() if any(item.get_closest_marker("gpu") for item in items) else None
    for item in items:
        if missing_gpu and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=missing_gpu))
        if item.get_closest_marker("minutes") and not os.environ.get("RAF_MINUTES"):
            item.add_marker(pytest.mark.skip(reason="takes minutes (set RAF_MINUTES=1 to run it)"))
        if item.get_closest_marker("clips") and not CLIPS.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"video clips not found in {CLIPS} (set RAF_CLIPS)"))


@pytest.fixture(autouse=True)
def _environment_stays() -> Iterator[None]:
    """No test, and nothing that it calls, leaves another value in an environment variable: later tests would see it."""
    before = dict(os.environ)
    yield
    changed = {name: (value, os.environ.get(name)) for name, value in before.items() if os.environ.get(name) != value}
    changed.pop("PYTEST_CURRENT_TEST", None)
    assert not changed, f"changed and not set back: {changed}"


def _why_no_gpu() -> str | None:
    import torch

    if not torch.cuda.is_available():
        return "no CUDA device"
    try:
        import gsplat  # noqa: F401
    except ImportError:
        return "gsplat is not installed"
    return None


@pytest.fixture(scope="session")
def clips() -> Path:
    """Folder with clips of real people; tests that use it carry the marker `clips`."""
    return CLIPS


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A headless Chromium of `scripts/chromium.py`; tests that use it are skipped where there is none."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
    try:
        import chromium
    finally:
        sys.path.pop(0)
    if chromium.program() is None:
        pytest.skip("no Chromium on the path")
    with chromium.Chromium() as running:
        yield running
