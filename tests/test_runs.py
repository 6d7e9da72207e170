"""What is written is whole: atomic files, named errors for damaged ones, provenance."""

import errno
import json

import pytest
import torch

from raflib import runs
from raflib.errors import RafError
from raflib.reading import read_json


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    runs.write_json(path, {"x": 1})
    with pytest.raises(KeyboardInterrupt), runs.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert read_json(path) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


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


def test_tensors_and_header_come_back(tmp_path):
    path = tmp_path / "c.safetensors"
    runs.save_tensors(path, {"x": torch.arange(3)}, {"step": 7, "deep": [1, {"a": None}]})
    tensors, header = runs.load_tensors(path)
    assert header == {"step": 7, "deep": [1, {"a": None}]} and tensors["x"].tolist() == [0, 1, 2]


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
