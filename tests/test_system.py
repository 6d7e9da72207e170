"""Locks of files, renames, and code that works on Linux, macOS and Windows alike."""

from __future__ import annotations

import ast
import ctypes
import fcntl
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from raflib import runs, system
from raflib.errors import RafError
from raflib.lab import launch

ROOT = Path(__file__).resolve().parents[1]
HOLD = """
import sys, time
from raflib import system
with open(sys.argv[1], "r+b") as stream:
    system.lock(stream)
    print("held", flush=True)
    time.sleep(60)
"""


def started(code: str, *arguments: object) -> subprocess.Popen:
    """A Python process that has printed its first line."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, **system.APART)
    assert process.stdout.readline(), "it ended before it printed anything"
    return process


def test_a_lock_is_held_by_one_process_until_it_is_killed(tmp_path):
    path = tmp_path / "a file 片.bin"
    path.write_bytes(b"content")
    with started(HOLD, path) as holder, open(path, "r+b") as stream:
        with pytest.raises(BlockingIOError):
            system.lock(stream)
        with pytest.raises(BlockingIOError):
            system.remove_unless_held(path)
        assert stream.read() == b"content", "a lock is for those who ask for it; others can read and write"
        threading.Timer(0.2, holder.kill).start()
        system.lock(stream, wait=True)
        assert holder.wait() == -signal.SIGKILL
    system.remove_unless_held(path)
    assert not path.exists()


def test_two_handles_of_one_process_exclude_each_other(tmp_path):
    with open(tmp_path / "a", "ab") as first, open(tmp_path / "a", "ab") as second:
        system.lock(first)
        with pytest.raises(BlockingIOError):
            system.lock(second)
        with system.let_go(first), pytest.raises(BlockingIOError):
            system.lock(second)  # nobody takes it while the file is renamed or removed
        system.lock(second)


def test_a_process_that_is_asked_to_end_may_save_its_work():
    code = """
import os, signal, sys, time
def leave(*_):
    os.write(1, b"saved\\n")  # print may be at work when the signal comes
    sys.exit(3)
signal.signal(signal.SIGTERM, leave)
print("on", flush=True)
time.sleep(60)
"""
    with started(code) as process:
        system.ask_to_end(process)
        assert (process.wait(), process.stdout.read()) == (3, b"saved\n")


@pytest.fixture
def windows(monkeypatch):
    """Files behave as on Windows: none that this process has open is renamed or removed."""

    def checked(function):
        def call(*paths, **options):
            busy = {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
            if busy & {os.path.realpath(path) for path in paths}:
                raise PermissionError(13, "used by a process", str(paths[0]))
            return function(*paths, **options)

        return call

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not list open files")
    monkeypatch.setattr(system, "WINDOWS", True)
    monkeypatch.setattr(system, "CLOSED_SECONDS", 2.0)
    for name in ("replace", "unlink"):
        monkeypatch.setattr(os, name, checked(getattr(os, name)))


def test_files_are_closed_before_windows_renames_or_removes_them(windows, tmp_path):
    runs.write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(KeyboardInterrupt), runs.atomic_write(tmp_path / "a.json"):
        raise KeyboardInterrupt
    with runs.folder_lock(tmp_path / "run", "training"):
        (tmp_path / "run" / "result").touch()
        with pytest.raises(RafError, match="in use by process"), runs.folder_lock(tmp_path / "run", "again"):
            pass
    assert runs.read_json(tmp_path / "a.json") == {"x": 1}
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.json", "result", "run"]


def test_on_windows_what_was_left_goes_and_what_is_open_or_just_closed_stays(windows, tmp_path):
    left, closed, written = (tmp_path / f"{runs.TEMPORARY}{name}" for name in ("left", "closed", "written"))
    for path in (left, closed, written):
        path.touch()
    for path in (left, written):
        os.utime(path, (0, 0))
    with open(written, "rb"):
        runs.remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([closed, written])


def test_a_rename_waits_for_a_reader_on_windows_only(windows, tmp_path, monkeypatch):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"old"), new.write_bytes(b"new")
    reader = open(old, "rb")  # noqa: SIM115 (closed by the timer)
    threading.Timer(0.15, reader.close).start()
    system.replace(new, old)
    assert old.read_bytes() == b"new"
    monkeypatch.setattr(system, "RENAME_SECONDS", 0.1)
    new.touch()
    with open(old, "rb"), pytest.raises(PermissionError):
        system.replace(new, old)


def test_the_lock_of_windows_lies_behind_the_file(monkeypatch, tmp_path):
    """The other branch of the module runs with stand-ins for the calls of Windows."""
    calls = []

    def lock_file_ex(handle, flags, reserved, low, high, place):
        calls.append((flags, reserved, low, high, place._obj.OffsetHigh * 2**32 + place._obj.Offset))
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if flags & 1 else 0))
        except BlockingIOError:
            return 0
        return 1

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(get_osfhandle=lambda descriptor: descriptor))
    kernel = SimpleNamespace(LockFileEx=lock_file_ex)
    monkeypatch.setattr(ctypes, "WinDLL", lambda name, use_last_error: kernel, raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: 33, raising=False)
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    spec = importlib.util.spec_from_file_location("system_of_windows", system.__file__)
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    with open(tmp_path / "a", "ab") as first, open(tmp_path / "a", "ab") as second:
        other.lock(first)
        with pytest.raises(BlockingIOError):
            other.lock(second)
        first.close()
        other.lock(second, wait=True)
    assert calls == [(3, 0, 1, 0, 2**62), (3, 0, 1, 0, 2**62), (2, 0, 1, 0, 2**62)]
    monkeypatch.setattr(signal, "CTRL_BREAK_EVENT", 1, raising=False)
    asked = []
    other.ask_to_end(SimpleNamespace(send_signal=asked.append))
    assert (asked, other.APART, other.WINDOWS) == ([1], {"creationflags": 512}, True)
    assert other.STOP_SIGNALS == (signal.SIGINT, signal.SIGTERM, 21)


def test_a_process_ends_with_its_parent_where_the_system_does_not_end_it():
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(launch.__file__).parent)!r})
import launch
launch.watch(int(sys.argv[1]))
print("on", flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with started(code, parent.pid) as child:
        parent.kill()
        parent.wait()
        assert child.wait(20) == -signal.SIGTERM
    with pytest.raises(SystemExit):
        launch.watch(parent.pid)


def test_paths_are_shown_with_slashes_and_whole_on_another_drive(monkeypatch, tmp_path):
    assert system.relative(tmp_path / "a b" / "ü", tmp_path) == "a b/ü"
    assert system.relative(ROOT, ROOT / "raflib") == ".."

    def another_drive(*_):
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    monkeypatch.setattr(os.path, "relpath", another_drive)
    assert system.relative(tmp_path / "a") == (tmp_path / "a").as_posix()


def test_environment_variables_are_as_before_after_their_block(monkeypatch):
    monkeypatch.setenv("RAF_TEST_KEPT", "old")
    monkeypatch.delenv("RAF_TEST_NEW", raising=False)
    shown = "import os; print(os.environ['RAF_TEST_KEPT'], os.environ['RAF_TEST_NEW'])"
    values = {"RAF_TEST_KEPT": "changed", "RAF_TEST_NEW": "1"}
    with pytest.raises(ValueError, match="inside"), system.environment(values):
        child = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
        raise ValueError("inside")
    assert child.stdout.split() == ["changed", "1"]
    assert os.environ["RAF_TEST_KEPT"] == "old" and "RAF_TEST_NEW" not in os.environ


def test_a_log_that_cannot_show_a_character_gets_an_escape(monkeypatch):
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding="cp1252"))
    system.print_any_text()
    print("σ → Zoë", flush=True)
    assert data.getvalue().decode("cp1252").strip() == r"\u03c3 \u2192 Zoë"


POSIX_MODULES = {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {
    "os": {
        "fork", "forkpty", "killpg", "setsid", "setpgid", "getpgid", "getuid", "geteuid", "getgid", "mkfifo", "statvfs",
        "sched_getaffinity", "posix_spawn", "wait3", "wait4", "chown", "uname", "nice", "getloadavg", "O_CLOEXEC",
        "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "system", "popen",
    },
    "signal": {"SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "alarm", "setitimer"},
}  # fmt: skip
"""Names that Windows does not have, and `os.system` and `os.popen`, which start a shell."""
ASKS_FIRST = {"raflib/system.py", "raflib/lab/launch.py", "scripts/chromium.py"}
"""Files that use such names only after they asked for the system."""


def faults(tree: ast.Module) -> list[str]:
    """What in a module does not work everywhere, with line numbers."""
    found = []
    for node in ast.walk(tree):
        told: list[str] = []
        if isinstance(node, ast.Import):
            told = [f"imports {alias.name}" for alias in node.names if alias.name in POSIX_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in POSIX_MODULES:
            told = [f"imports {node.module}"]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            told = [f"{node.value.id}.{node.attr}"] if node.attr in POSIX_NAMES.get(node.value.id, ()) else []
        elif isinstance(node, ast.Call):
            told = call_faults(node)
        found += [f"{node.lineno}: {fault}" for fault in told]
    return found


def call_faults(node: ast.Call) -> list[str]:
    """What in a call does not work everywhere: encodings and line ends that depend on the system, shells, forks."""
    given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}  # name → value, if it is a literal
    function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    needed = {"read_text": ["encoding"], "write_text": ["encoding", "newline"], "to_csv": ["lineterminator"]}
    found = [f"{function} without {name}" for name in needed.get(function, ()) if name not in given]
    if isinstance(node.func, ast.Name) and function == "open" and "encoding" not in given:
        mode = node.args[1] if len(node.args) > 1 else ast.Constant("r")
        found += ["open without encoding"] if isinstance(mode, ast.Constant) and "b" not in mode.value else []
    if given.get("text") is True and "encoding" not in given:
        found.append("text without encoding")
    if given.get("shell") is True:
        found.append("shell=True")
    ways = [getattr(argument, "value", None) for argument in node.args[:1]]
    if function in ("get_context", "set_start_method") and ways != ["spawn"]:
        found.append(f"{function} without spawn")
    return found


def code_of(path: Path) -> str:
    """The code of a module or a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")


def test_the_code_assumes_no_system():
    wrong, everywhere = [], ("raflib/**/*.py", "scripts/*.py", "notebooks/*.ipynb")
    for path in (path for pattern in everywhere for path in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        free = ("imports", "os.", "signal.") if name in ASKS_FIRST else ()
        if not name.startswith("raflib/"):  # their line ends may be those of the system
            free += ("write_text without newline", "to_csv without lineterminator")
        told = faults(ast.parse(code_of(path)))
        wrong += [f"{name}:{fault}" for fault in told if not fault.split(": ")[1].startswith(free)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "code",
    [
        "import fcntl", "from resource import getrusage", "import os\nos.killpg(1, 2)", "import signal\nsignal.SIGKILL",
        "open('a')", "open('a', 'w')", "path.read_text()", "path.write_text('', encoding='utf-8')", "os.system('ls')",
        "run('ls', shell=True)", "run(['git'], text=True)", "table.to_csv('a.csv')", "get_context('fork')",
    ],
)  # fmt: skip
def test_each_assumption_is_found(code):
    assert len(faults(ast.parse(code))) == 1
