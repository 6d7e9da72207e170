"""Training on CUDA: starts where the CPU starts, learns, moves between devices (needs a CUDA device and gsplat)."""

from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import torch
from synthetic import ball_capture

from raflib.config import train_config
from raflib.render.gsplat_backend import probe
from raflib.runs import load_tensors
from raflib.sampler import Vanilla
from raflib.training import Run, fit

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def usable():
    problem = probe()
    if problem is not None:
        pytest.skip(problem)


def config(upsampling, **changes):
    made = train_config(
        "tiny", size=64 // upsampling, steps=60, views_per_frame=2, checkpoint_every=25, relocate_every=20,
        perceptual_every=4, perceptual_crop=64, rate_upsampler=0.1, rate_pose=1e-4, decay=0.1, weight_face=0.0,
    )  # fmt: skip
    colours = 3 if upsampling == 1 else 8
    sizes = {"points": 400, "mouth_points": 20, "upsampling": upsampling, "upsampler_capacity": 4}
    return replace(made, avatar=replace(made.avatar, colour_channels=colours, **sizes), **changes)


@pytest.fixture(scope="module")
def capture():
    return replace(ball_capture(size=64), background=np.ones((64, 64, 3)))


def psnr(run, capture):
    t = int(np.flatnonzero(capture.train)[0])
    given = capture.expression[t : t + 1], capture.pose[t : t + 1], capture.scale[t : t + 1]
    picture = run.render(*given, [capture.cameras[1]])[0]
    return 10 * np.log10(1 / ((picture - capture.image(t, 1) / 255) ** 2).mean()), picture


@pytest.mark.parametrize("upsampling", [1, 4])
def test_training_on_a_gpu_learns_and_loads_anywhere(capture, tmp_path, upsampling):
    run = fit(capture, Vanilla(), config(upsampling), tmp_path / "run", progress=False)
    assert run.info["device"] == "cuda" and run.avatar.xyz.is_cuda
    found, picture = psnr(run, capture)
    assert found > 10
    moved = Run.load(run.path, device="cpu")
    assert not moved.avatar.xyz.is_cuda
    assert np.abs(psnr(moved, capture)[1] - picture).mean() < 2e-3


def test_the_first_step_is_the_cpus(capture, tmp_path):
    one = replace(config(4), steps=1, landmark_steps=0)
    logs = [
        fit(capture, Vanilla(), one, tmp_path / device, progress=False, device=device).log for device in ("cpu", "cuda")
    ]
    for name in ("l1", "fine", "perceptual", "landmarks"):
        np.testing.assert_allclose(*(log[name].iloc[-1] for log in logs), rtol=2e-3)


def test_a_run_continues_on_the_other_device(capture, tmp_path, monkeypatch):
    from raflib import training

    one_step = training._Trainer._one_step

    def dies(self):
        if self.step == 30:
            raise KeyboardInterrupt
        return one_step(self)

    monkeypatch.setattr(training._Trainer, "_one_step", dies)
    with pytest.raises(KeyboardInterrupt):
        fit(capture, Vanilla(), config(4), tmp_path / "run", progress=False, device="cpu")
    monkeypatch.undo()
    run = fit(capture, Vanilla(), config(4), tmp_path / "run", progress=False, device="cuda")
    assert run.info["steps"] == 60 and psnr(run, capture)[0] > 10


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}, {"compile": True}])
def test_fewer_bits_and_compiled_code_learn_too(capture, tmp_path, changes, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the tests' checks cannot be compiled
    run = fit(capture, Vanilla(), config(4, **changes), tmp_path / "run", progress=False, device="cuda")
    assert psnr(run, capture)[0] > 9
    tensors = load_tensors(run.path / "checkpoint.safetensors")[0]
    assert all(value.dtype != torch.bfloat16 and "_orig_mod" not in name for name, value in tensors.items())
