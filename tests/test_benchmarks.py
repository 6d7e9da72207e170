"""Benchmarks: a training step's parts and work are counted right, and the GPU benchmark survives failures of its parts.

Speeds are not tested.
"""

import importlib.util
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from synthetic import ball_capture

from raflib.config import train_config
from raflib.sampler import Vanilla
from raflib.training.trainer import Trainer

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def module(name):
    """Return a benchmark as a module; running it may change the path."""
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location(f"bench_{name}", FOLDER / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    sys.path[:] = before
    return made


@pytest.fixture(params=[True, False], ids=["linear", "networks"])
def trainer(tmp_path, request):
    config = train_config("tiny", size=32, steps=100, landmark_steps=0, views_per_step=1, weight_perceptual=0.0)
    config = replace(config, avatar=replace(config.avatar, points=200, mouth_points=20, exp_linear=request.param))
    made = Trainer(ball_capture(frames=3), Vanilla(), config, tmp_path, {"seconds": 0.0}, False, torch.device("cpu"))
    yield made
    made.images.close()


def test_the_parts_of_a_step_are_found_and_the_trainer_is_left_as_it_was(trainer):
    methods = [trainer.render, torch.Tensor.backward]
    parts = module("_parts").split(trainer, 3)
    assert {name for name, value in parts.items() if value > 0} == {
        "data", "networks_forward", "networks_backward", "projection", "raster_forward", "raster_backward",
        "losses_forward", "losses_backward", "optimiser", "rest",
    }  # fmt: skip
    assert trainer.step == 3 and [trainer.render, torch.Tensor.backward] == methods


def test_the_work_of_a_step_is_counted(trainer):
    pairs, flops = module("_parts").work(trainer, lambda frame, height, width: height * width, steps=2)
    assert pairs == 32 * 32
    avatar, blend, expected = trainer.avatar, trainer.avatar._blend, 0
    names = ["pose_color", "pose_attributes", "pose_deform"]
    if avatar.config.exp_linear:  # the matrix from the code, then the matrix times the features
        size = avatar.config.feature_dim * (11 + 3)
        expected += 2 * 3 * (avatar.config.expression_dim * size + len(blend.near) * size)
    else:
        names += ["exp_color", "exp_attributes", "exp_deform"]
    for name in names:
        network = getattr(avatar, name)
        count = len(blend.near if name.startswith("exp") else blend.far)
        weights = [layer.weight.numel() for layer in network.layers]
        first = sum(part.weight.numel() for part in (network.point_in, network.point_skip) if part is not None)
        # Forward, gradient of the weights, and gradient of the inputs, which fixed encodings do not need.
        expected += 2 * count * (3 * sum(weights) + (2 if name.endswith("deform") else 3) * first)
    assert flops == expected


@pytest.fixture(scope="module")
def gpu():
    return module("gpu")


def job(folder, **changes):
    """A dry run's job for a part of the GPU benchmark."""
    made = {"dry": True, "device": torch.device("cpu"), "out": folder, "capture": None, "result": None}
    return SimpleNamespace(**{**made, "deadline": time.time() + 60, **changes})


def test_a_part_of_the_gpu_benchmark_gives_figures(gpu, tmp_path):
    found = gpu.run_part("raster", job(tmp_path))
    assert found["ok"] and found["48_c3_image_difference"] == 0 and found["48_c32_gpu_ms"] > 0


def test_a_part_that_fails_is_recorded_with_what_it_found(gpu, tmp_path, monkeypatch):
    def wrong(_):
        raise gpu.Failure("they differ", {"difference": 0.5})

    def broken(_):
        raise ValueError("no kernel")

    monkeypatch.setitem(gpu.PARTS, "raster", (wrong, 1))
    monkeypatch.setitem(gpu.PARTS, "frames", (broken, 1))
    assert gpu.run_part("raster", job(tmp_path)) == {"ok": False, "error": "they differ", "difference": 0.5}
    assert gpu.run_part("frames", job(tmp_path))["error"] == "ValueError: no kernel"


def test_one_part_of_the_gpu_benchmark_that_fails_leaves_the_others(gpu, tmp_path, monkeypatch, capsys):
    parts = {"setup": {"ok": False, "error": "no compiler"}, "raster": {"ok": True, "speed": 2.0}}
    monkeypatch.setattr(gpu, "PARTS", dict.fromkeys(parts, (None, 1)))
    monkeypatch.setattr(gpu, "_in_process", lambda name, options, deadline: parts[name])
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path), "--dry"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    stored = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert ended.value.code == 1 and stored["setup"]["error"] == "no compiler" and stored["raster"]["speed"] == 2
    assert "figure raster_speed = 2" in capsys.readouterr().out


def test_without_cuda_the_gpu_benchmark_says_so_in_one_line(gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_a_carried_capture_is_the_one_that_was_kept(tmp_path):
    carried, capture = module("_carried"), ball_capture(frames=6)
    carried.keep(capture, lambda shown: (shown.image(2, 1), shown.mask(3, 0)), tmp_path / "ball.npz")
    again = carried.read(tmp_path / "ball.npz")
    for name in carried.SIGNALS:
        assert np.array_equal(getattr(again, name), getattr(capture, name))
    assert np.array_equal(again.mask(3, 0), capture.mask(3, 0)) and again.groups == capture.groups
    assert np.abs(again.image(2, 1).astype(int) - capture.image(2, 1)).mean() < 2
    assert [camera.name for camera in again.cameras] == [camera.name for camera in capture.cameras]
    with pytest.raises(KeyError):
        again.image(0, 0)
