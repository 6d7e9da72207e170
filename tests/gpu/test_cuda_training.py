"""Training on CUDA: it starts like the CPU, learns, and moves between devices (needs a CUDA device and gsplat)."""

from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import torch
from synthetic import ball_capture, dying_at, training

from raflib.config import SurfaceConfig, train_config
from raflib.render.gsplat_backend import probe
from raflib.runs import load_tensors
from raflib.sampler import Vanilla
from raflib.training import Run, fit
from raflib.training.start import guided
from raflib.training.start.tetrahedra import TetrahedralGrid

pytestmark = pytest.mark.gpu

TABLE = SurfaceConfig(
    grid=12, hidden=(), steps=40, size=32, refresh=4, rate_field=1e-2, rate_mlp=4e-3, opacity=0.8, focus=1.5
)
NETWORK = replace(TABLE, hidden=(24, 24), fit_steps=100, batch=512, rate_fit=1e-2)


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
    monkeypatch.setattr(training.Trainer, "one_step", dying_at(30))
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


def test_meshes_are_the_cpus():
    grid = TetrahedralGrid.regular([-1.3] * 3, [1.2] * 3, 16)
    here = grid.march(grid.points.norm(dim=1) - 1, grid.points)
    there = grid.to("cuda")
    mesh = there.march((grid.points.norm(dim=1) - 1).to("cuda"), there.points)
    assert mesh.faces.is_cuda and torch.equal(mesh.faces.cpu(), here.faces)
    torch.testing.assert_close(mesh.vertices.cpu(), here.vertices)
    rows, weight = there.locate(mesh.vertices)
    torch.testing.assert_close((there.points[rows] * weight[..., None]).sum(1), mesh.vertices, atol=1e-5, rtol=0)


def test_the_first_step_on_a_surface_is_the_cpus(capture, tmp_path, monkeypatch):
    seen, total = [], guided.total
    monkeypatch.setattr(guided, "total", lambda parts, config: seen.append(parts) or total(parts, config))
    one = config(1, steps=0, landmark_steps=0, surface=replace(TABLE, steps=1))
    for device in ("cpu", "cuda"):
        fit(capture, Vanilla(), one, tmp_path / device, progress=False, device=device)
    for name, value in seen[0].items():
        np.testing.assert_allclose(seen[1][name].item(), value.item(), rtol=2e-3, err_msg=name)


@pytest.mark.parametrize("surface", [TABLE, NETWORK], ids=["table", "network"])
def test_a_training_starts_on_a_surface(capture, tmp_path, surface):
    run = fit(capture, Vanilla(), config(1, surface=surface), tmp_path / "run", progress=False, device="cuda")
    assert run.avatar.xyz.is_cuda and psnr(run, capture)[0] > 10


def test_an_avatar_moves_whole(capture, tmp_path):
    run = fit(capture, Vanilla(), config(1, steps=1), tmp_path / "run", progress=False, device="cpu")
    before = psnr(run, capture)[1]
    run.avatar.to("cuda")
    run.background = run.background.to("cuda")
    assert np.abs(psnr(run, capture)[1] - before).mean() < 2e-3
