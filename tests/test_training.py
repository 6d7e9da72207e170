"""Training learns, resumes to the same bits, keeps the last good checkpoint, and refuses what does not belong."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import ball_capture

from raflib import losses, training
from raflib.config import train_config
from raflib.errors import RafError
from raflib.pictures import Pictures, choose_cameras, face_box
from raflib.runs import load_tensors
from raflib.sampler import RandomNoise, Vanilla
from raflib.training import Run, fit

CONFIG = train_config(
    "tiny",
    size=48,
    steps=40,
    views_per_frame=2,
    checkpoint_every=15,
    relocate_every=10,
    weight_perceptual=0.0,
    favour_expressive=0.0,
)
CONFIG = replace(CONFIG, avatar=replace(CONFIG.avatar, points=400, mouth_points=20))


@pytest.fixture(scope="module")
def capture():
    return ball_capture()


@pytest.fixture(scope="module")
def trained(capture, tmp_path_factory):
    return fit(capture, Vanilla(), CONFIG, tmp_path_factory.mktemp("runs") / "vanilla", progress=False)


def test_training_beats_its_start_and_follows_the_expression(capture, trained):
    log = trained.log
    t = int(np.flatnonzero(capture.train)[0])
    rows = slice(t, t + 1)
    camera = capture.cameras[1]
    render = trained.render(capture.expression[rows], capture.pose[rows], capture.scale[rows], [camera])[0]
    truth = capture.image(t, 1) / 255
    assert 10 * np.log10(1 / ((render - truth) ** 2).mean()) > 15
    assert log["step"].iloc[-1] == CONFIG.steps and log["psnr"].notna().all()
    still = trained.render(trained.control_expression[None], capture.pose[rows], capture.scale[rows], [camera])[0]
    assert np.abs(still - render).max() > 0.01


def test_a_finished_run_loads_as_it_was_and_is_not_trained_again(capture, trained):
    before = (trained.path / "checkpoint.safetensors").stat().st_mtime_ns
    again = fit(capture, Vanilla(), CONFIG, trained.path, progress=False)
    assert (trained.path / "checkpoint.safetensors").stat().st_mtime_ns == before
    for name, value in trained.avatar.state_dict().items():
        assert torch.equal(value, again.avatar.state_dict()[name])
    assert again.info["finished"] and again.info["commit"] and again.info["steps"] == CONFIG.steps


def test_a_killed_run_resumes_to_the_same_bits(capture, trained, tmp_path, monkeypatch):
    out = tmp_path / "killed"
    one_step = training._Trainer._one_step

    def dies(self):
        if self.step == 22:
            raise KeyboardInterrupt
        return one_step(self)

    monkeypatch.setattr(training._Trainer, "_one_step", dies)
    with pytest.raises(KeyboardInterrupt):
        fit(capture, Vanilla(), CONFIG, out, progress=False)
    monkeypatch.undo()
    assert load_tensors(out / "checkpoint.safetensors")[1]["step"] == 15
    resumed = fit(capture, Vanilla(), CONFIG, out, progress=False)
    for name, value in trained.avatar.state_dict().items():
        assert torch.equal(value, resumed.avatar.state_dict()[name]), name


def test_pose_corrections_are_learned_centred_and_resumed_only_where_asked_for(capture, trained, tmp_path, monkeypatch):
    assert "pose_correction" not in load_tensors(trained.path / "checkpoint.safetensors")[0]
    config = replace(CONFIG, rate_pose=1e-3)
    whole = fit(capture, Vanilla(), config, tmp_path / "whole", progress=False)
    one_step = training._Trainer._one_step

    def dies(self):
        if self.step == 22:
            raise KeyboardInterrupt
        return one_step(self)

    monkeypatch.setattr(training._Trainer, "_one_step", dies)
    with pytest.raises(KeyboardInterrupt):
        fit(capture, Vanilla(), config, tmp_path / "killed", progress=False)
    monkeypatch.undo()
    resumed = fit(capture, Vanilla(), config, tmp_path / "killed", progress=False)
    stored = [load_tensors(run.path / "checkpoint.safetensors")[0]["pose_correction"] for run in (whole, resumed)]
    assert torch.equal(*stored) and stored[0][capture.train].abs().sum() > 0
    assert not stored[0][~capture.train].any()


def test_another_method_or_subject_in_the_folder_is_refused(capture, trained):
    with pytest.raises(RafError, match="another sampler"):
        fit(capture, RandomNoise(), CONFIG, trained.path, progress=False)
    with pytest.raises(RafError, match="another config"):
        fit(capture, Vanilla(), replace(CONFIG, seed=5), trained.path, progress=False)


def test_nan_stops_and_keeps_the_checkpoint(capture, tmp_path):
    config = replace(CONFIG, rate_scale=1e9, checkpoint_every=1, decay=1.0)
    with pytest.raises(RafError, match=r"not finite|NaN|finite"):
        fit(capture, Vanilla(), config, tmp_path / "nan", progress=False)
    tensors, _ = load_tensors(tmp_path / "nan" / "checkpoint.safetensors")
    assert all(torch.isfinite(value).all() for name, value in tensors.items() if name == "avatar.feature")


def test_a_truncated_checkpoint_is_named(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained.path, copy)
    file = copy / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RafError, match=r"checkpoint\.safetensors"):
        Run.load(copy)
    with pytest.raises(RafError, match=r"nowhere.*no such file"):
        Run.load(tmp_path / "nowhere")


def test_background_of_a_static_camera_is_learned(capture, tmp_path):
    room = replace(capture, background=np.full((48, 48, 3), 0.25))
    run = fit(room, Vanilla(), replace(CONFIG, rate_background=0.2), tmp_path / "room", progress=False)
    assert run.background[:5].mean() > 0.5  # the first rows went from 0.25 towards the white around the ball


def test_pictures_visit_every_pair_once_an_epoch_and_depend_on_the_step_alone(capture):
    pictures = Pictures(capture, choose_cameras(capture, 4), CONFIG)
    assert len(pictures) == 2 * capture.train.sum()
    first = [pictures.shot(step).t for step in range(len(pictures))]
    assert sorted(first) == sorted(t for t, _ in pictures.pairs)
    pictures.shot(3 * len(pictures))
    assert [pictures.shot(step).t for step in range(len(pictures))] == first
    assert not capture.free[[t for t, _ in pictures.pairs]].any()


def test_expressive_frames_are_visited_more_often(capture):
    pictures = Pictures(capture, choose_cameras(capture, 4), replace(CONFIG, favour_expressive=1.0))
    visits = np.bincount([pictures.shot(step).t for step in range(40 * len(pictures))], minlength=len(capture))[
        capture.train
    ]
    expression = capture.expression[capture.train]
    distance = np.linalg.norm(expression - expression.mean(0), axis=1)
    np.testing.assert_allclose(visits / visits.sum(), distance / distance.sum(), atol=0.01)


def test_cameras_are_spread_over_azimuth(capture):
    assert choose_cameras(capture, 2) == [0, 3] and choose_cameras(capture, 9) == [0, 1, 2, 3]


def test_face_box_and_weights_cover_the_landmarks(capture):
    camera = capture.cameras[1]
    box = face_box(capture.landmarks[0], camera)
    pixels = camera.project(capture.landmarks[0].astype(float))
    low, size = np.array(box[:2]), np.array(box[2:])
    assert (pixels >= low).all() and (pixels <= low + size).all()
    weights = losses.face_weights(torch.tensor([box]), 48, 3.0)
    assert weights.sum() == 48 * 48 + 3 * box[2] * box[3]


def test_total_is_the_named_weighted_sum():
    render, picture = torch.rand(1, 8, 8, 3), torch.rand(1, 8, 8, 3)
    parts = losses.terms(
        render, picture, torch.ones(1, 8, 8, 1), lambda x, y: (x - y).square().mean((1, 2, 3)), (2, 1, 4)
    )
    config = replace(CONFIG, weight_l1=2.0, weight_gradient=0.5, weight_perceptual=0.1, perceptual_every=3)
    expected = 2 * (render - picture).abs().mean() + 0.5 * parts["gradient"].mean()
    expected += 0.3 * (render - picture)[:, 1:5, 2:6].square().mean()
    torch.testing.assert_close(losses.total(parts, config), expected)
    assert set(parts) == {"l1", "gradient", "perceptual"}
