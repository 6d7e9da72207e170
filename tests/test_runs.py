"""Written files are complete: atomic writes, errors that name damaged files, provenance."""

import errno
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from raflib import runs
from raflib.errors import RafError
from raflib.reading import read_json


def test_an_installed_package_finds_the_project_around_the_current_folder(tmp_path, monkeypatch):
    project, elsewhere = tmp_path / "Projekt Ü 片", tmp_path / "a b"
    for name in ("notebooks", "data"):
        (project / name).mkdir(parents=True)
    (project / "pyproject.toml").touch()
    elsewhere.mkdir()
    for name in ("RAF_ROOT", "RAF_CACHE", "RAF_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runs, "__file__", str(tmp_path / "site-packages" / "raflib" / "runs.py"))
    monkeypatch.chdir(project / "notebooks")
    assert (runs.data_root(), runs.runs_root()) == (project / "data", project / "runs")
    monkeypatch.chdir(elsewhere)
    assert (runs.runs_root(), runs.cache_root()) == (elsewhere / "runs", elsewhere / "data" / "cache")
    with pytest.raises(RafError, match=r"a b: not the project's folder, whose data are needed; .*RAF_ROOT"):
        runs.data_root()
    monkeypatch.setenv("RAF_ROOT", str(project))
    assert runs.data_root() == project / "data"


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    runs.write_json(path, {"x": 1})
    with pytest.raises(KeyboardInterrupt), runs.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert read_json(path) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_nan_becomes_null_and_infinity_is_refused_by_name(tmp_path):
    path = tmp_path / "a.json"
    runs.write_json(path, {"a": {"b": [1.5, float("nan")]}, "c": np.float64("nan"), "d": (1, "NaN", None, True)})
    assert read_json(path) == {"a": {"b": [1.5, None]}, "c": None, "d": [1, "NaN", None, True]}
    with pytest.raises(RafError, match=r"a\.b\[1\] is -inf, which JSON cannot hold"):
        runs.write_json(path, {"a": {"b": [1.5, float("-inf")]}})
    assert read_json(path)["c"] is None


def test_arrays_that_could_not_be_read_again_are_not_written(tmp_path):
    path, noise = tmp_path / "a.npz", np.random.default_rng(0).bytes(1000)
    runs.write_arrays(path, {"x": np.arange(3)}, "thing", "take less", most=1000)
    first = path.read_bytes()
    for large in (np.zeros(1001, np.uint8), np.frombuffer(noise, np.uint8)):  # by itself, and with what the file adds
        with pytest.raises(RafError, match=r"a\.npz: the thing takes more than 1000 bytes, .*; take less$"):
            runs.write_arrays(path, {"x": large}, "thing", "take less", most=1000)
    assert path.read_bytes() == first and [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_full_disk_is_one_line_naming_the_file(tmp_path, monkeypatch):
    path = tmp_path / "b.safetensors"
    runs.save_tensors(path, {"x": torch.ones(2)}, {"step": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runs.os, "replace", full)
    with pytest.raises(RafError, match=r"b\.safetensors.*No space left") as caught:
        runs.save_tensors(path, {"x": torch.zeros(2)}, {"step": 2})
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert runs.load_tensors(path)[1] == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["b.safetensors"]


def test_files_follow_the_umask_and_any_name_that_fits(tmp_path):
    before = os.umask(0o077)
    try:
        runs.write_json(tmp_path / "private.json", {})
        os.umask(0o022)
        runs.write_json(tmp_path / ("n" * 250 + ".json"), {})
    finally:
        os.umask(before)
    assert (tmp_path / "private.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ("n" * 250 + ".json")).stat().st_mode & 0o777 == 0o644


def _child(function) -> int:
    """Run in a forked process, which may kill itself; return its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_write_leaves_is_removed_and_what_is_being_written_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(runs.os, "replace", _die)
    assert _child(lambda: runs.write_json(tmp_path / "a.json", {})) == signal.SIGKILL
    monkeypatch.undo()
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1 and left[0].startswith(runs.TEMPORARY)
    with runs.atomic_write(tmp_path / "b.json") as temporary:
        temporary.write_text("{}")
        runs.remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


def test_old_leftovers_go_with_the_first_write(tmp_path):
    old, new = (tmp_path / f"{runs.TEMPORARY}{name}.npz" for name in ("old", "new"))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    runs.write_json(tmp_path / "a.json", {})
    assert not old.exists() and new.exists(), "a young one may belong to a process that has not locked it yet"


def test_a_folder_has_one_writer_who_is_named(tmp_path):
    folder = tmp_path / "run"
    with runs.folder_lock(folder, "training 422 raf"):
        holder = rf"run: in use by process {os.getpid()} on .*training 422 raf, since 20"
        with pytest.raises(RafError, match=holder), runs.folder_lock(folder, "training 422 noise"):
            pass
        with runs.folder_lock(tmp_path / "other", "training 422 noise"):
            pass
    with runs.folder_lock(folder, "training 422 noise"):
        pass
    assert not folder.exists(), "a folder that was made for nothing goes, too"


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    def dies():
        with runs.folder_lock(tmp_path, "training"):
            _die()

    assert _child(dies) == signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [runs.LOCK]
    with runs.folder_lock(tmp_path, "training"):
        pass
    assert not list(tmp_path.iterdir())


def test_any_changed_bit_of_a_checkpoint_is_found(tmp_path):
    path = tmp_path / "e.safetensors"
    runs.save_tensors(path, {"x": torch.arange(5.0), "n": torch.tensor(3)}, {"step": 7})
    good = path.read_bytes()
    for at in range(0, len(good), 3):
        path.write_bytes(good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :])
        try:
            tensors, header = runs.load_tensors(path)
        except RafError as error:
            assert "e.safetensors" in str(error)
        else:  # spaces that fill up the header mean nothing
            assert header == {"step": 7} and tensors["x"].tolist() == [0, 1, 2, 3, 4] and int(tensors["n"]) == 3


def test_tensors_and_header_come_back(tmp_path):
    path = tmp_path / "c.safetensors"
    runs.save_tensors(path, {"x": torch.arange(3)}, {"step": 7, "deep": [1, {"a": None}]})
    tensors, header = runs.load_tensors(path)
    assert header == {"step": 7, "deep": [1, {"a": None}]} and tensors["x"].tolist() == [0, 1, 2]
    mapped = Path("/proc/self/maps")
    assert not mapped.exists() or "c.safetensors" not in mapped.read_text(), "the file can be replaced on Windows"


def test_damaged_checkpoints_are_named(tmp_path):
    path = tmp_path / "d.safetensors"
    with pytest.raises(RafError, match=r"d\.safetensors: no such checkpoint"):
        runs.load_tensors(path)
    runs.save_tensors(path, {"x": torch.zeros(100)}, {})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(RafError, match=r"d\.safetensors.*train again"):
        runs.load_tensors(path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(RafError, match="another program"):
        runs.load_tensors(path)


def test_provenance_names_commit_and_versions():
    made = runs.provenance()
    assert made["versions"]["torch"] == torch.__version__ or made["versions"]["torch"].startswith("2.")
    assert json.loads(json.dumps(made)) == made and made["commit"]


def test_roots_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RAF_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("RAF_RUNS", str(tmp_path / "r"))
    assert runs.cache_root() == tmp_path / "c" and runs.runs_root() == tmp_path / "r"
