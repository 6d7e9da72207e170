"""Benchmarks: the parts of a training step and their work are counted right. Speeds are not tested."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

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


@pytest.fixture
def trainer(tmp_path):
    config = train_config("tiny", size=32, steps=100, landmark_steps=0, views_per_step=1, weight_perceptual=0.0)
    config = replace(config, avatar=replace(config.avatar, points=200, mouth_points=20))
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
    expected = 0
    for name in ("exp_color", "pose_color", "exp_attributes", "pose_attributes", "exp_deform", "pose_deform"):
        network, blend = getattr(trainer.avatar, name), trainer.avatar._blend
        count = len(blend.near if name.startswith("exp") else blend.far)
        weights = [layer.weight.numel() for layer in network.layers]
        first = sum(part.weight.numel() for part in (network.point_in, network.point_skip) if part is not None)
        # Forward, gradient of the weights, and gradient of the inputs, which fixed encodings do not need.
        expected += 2 * count * (3 * sum(weights) + (2 if name.endswith("deform") else 3) * first)
    assert flops == expected
