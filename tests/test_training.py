"""Training learns, resumes to the same bits, keeps the last good checkpoint, and refuses foreign files."""

import os
import shutil
import signal
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import BallFrames, ball_capture, dying_at, training

from raflib.capture import choose_cameras
from raflib.config import train_config
from raflib.errors import RafError
from raflib.evaluation import evaluate
from raflib.images import face_box
from raflib.runs import folder_lock, load_tensors, save_tensors
from raflib.sampler import RandomNoise, Vanilla
from raflib.training import Run, fit, losses
from raflib.training.data import TrainingImages, random_square

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


def test_what_cannot_be_rendered_is_named(capture, trained):
    two = slice(0, 2)
    signals = {name: getattr(capture, name)[two] for name in ("expression", "pose", "scale")}
    cameras = capture.cameras[:2]
    assert trained.render(**signals, cameras=cameras).shape == (2, 48, 48, 3)
    small = [cameras[0], cameras[1].resized(32)]
    for changes, message in (
        ({"cameras": cameras[:1]}, "1 cameras for 2 rows"), ({"cameras": []}, "0 cameras for 2 rows"),
        ({"cameras": small}, "cameras of 32×32 and 48×48 pixels"),
        ({"expression": signals["expression"][:, :7]}, "features that this avatar was trained on"),
        ({"pose": np.full((2, 6), np.nan)}, "pose holds NaN"),
    ):  # fmt: skip
        with pytest.raises(RafError, match=message):
            trained.render(**{**signals, "cameras": cameras, **changes})


def test_a_training_leaves_the_callers_random_numbers_alone(capture, tmp_path):
    few, numbers = replace(CONFIG, steps=1), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        expected = torch.rand(2)
        torch.manual_seed(seed)
        fit(capture, Vanilla(), few, tmp_path / str(seed), progress=False)
        numbers.append(torch.rand(2))
        assert torch.equal(numbers[-1], expected)
    first, second = (load_tensors(tmp_path / name / "checkpoint.safetensors")[0] for name in ("1", "2"))
    assert all(torch.equal(first[name], second[name]) for name in first), "the seed is the configuration's"


@pytest.mark.parametrize(
    ("details", "message"),
    [({"count": np.int64(3)}, "cannot be written"), ({"bank": "mine"}, "name bank"), ({"seed": 3}, "name seed")],
)
def test_details_that_do_not_fit_are_refused_before_training(capture, tmp_path, details, message):
    with pytest.raises(RafError, match=f"fit: details .*{message}"):
        fit(capture, Vanilla(), CONFIG, tmp_path / "run", details, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_camera_that_is_not_trained_on_may_be_small(capture):
    mixed = replace(capture, cameras=[*capture.cameras[:3], capture.cameras[3].resized(16)])
    with pytest.raises(RafError, match="filmed 16×16 pixels"):
        TrainingImages(mixed, [0, 3], CONFIG)
    assert len(TrainingImages(mixed, [0, 1], CONFIG))


def test_a_finished_run_loads_as_it_was_and_is_not_trained_again(capture, trained):
    before = (trained.path / "checkpoint.safetensors").stat().st_mtime_ns
    again = fit(capture, Vanilla(), CONFIG, trained.path, progress=False)
    assert (trained.path / "checkpoint.safetensors").stat().st_mtime_ns == before
    for name, value in trained.avatar.state_dict().items():
        assert torch.equal(value, again.avatar.state_dict()[name])
    assert again.info["finished"] and again.info["commit"] and again.info["steps"] == CONFIG.steps


def test_a_checkpoint_is_read_once(capture, trained, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(sys.modules["raflib.training.run"], "load_tensors", lambda p: read.append(p) or load_tensors(p))
    fit(capture, Vanilla(), CONFIG, trained.path, progress=False)  # finished
    assert len(read) == 1
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(training.Trainer, "one_step", dying_at(16))
        fit(capture, Vanilla(), replace(CONFIG, steps=18), tmp_path / "run", progress=False)
    again = fit(capture, Vanilla(), replace(CONFIG, steps=18), tmp_path / "run", progress=False)  # continued
    assert len(read) == 2
    loaded = Run.load(tmp_path / "run")
    assert again.info == loaded.info and again.log.equals(loaded.log) and again.path == loaded.path
    assert all(torch.equal(a, b) for a, b in zip(again.avatar.parameters(), loaded.avatar.parameters(), strict=True))


def test_a_killed_run_resumes_to_the_same_bits(capture, trained, tmp_path, monkeypatch):
    out = tmp_path / "killed"
    monkeypatch.setattr(training.Trainer, "one_step", dying_at(22))
    with pytest.raises(KeyboardInterrupt):
        fit(capture, Vanilla(), CONFIG, out, progress=False)
    monkeypatch.undo()
    assert load_tensors(out / "checkpoint.safetensors")[1]["step"] == 15
    resumed = fit(capture, Vanilla(), CONFIG, out, progress=False)
    for name, value in trained.avatar.state_dict().items():
        assert torch.equal(value, resumed.avatar.state_dict()[name]), name


def test_a_run_killed_before_its_first_step_starts_anew(capture, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(training.Trainer, "one_step", dying_at(0))
    with pytest.raises(KeyboardInterrupt):
        fit(capture, Vanilla(), CONFIG, tmp_path / "killed", progress=False)
    monkeypatch.undo()
    assert not (tmp_path / "killed" / "checkpoint.safetensors").exists()
    again = fit(capture, Vanilla(), CONFIG, tmp_path / "killed", progress=False)
    for name, value in trained.avatar.state_dict().items():
        assert torch.equal(value, again.avatar.state_dict()[name]), name


def test_pose_corrections_are_learned_centred_and_resumed_only_where_asked_for(capture, trained, tmp_path, monkeypatch):
    assert "pose_correction" not in load_tensors(trained.path / "checkpoint.safetensors")[0]
    config = replace(CONFIG, rate_pose=1e-3)
    whole = fit(capture, Vanilla(), config, tmp_path / "whole", progress=False)
    monkeypatch.setattr(training.Trainer, "one_step", dying_at(22))
    with pytest.raises(KeyboardInterrupt):
        fit(capture, Vanilla(), config, tmp_path / "killed", progress=False)
    monkeypatch.undo()
    resumed = fit(capture, Vanilla(), config, tmp_path / "killed", progress=False)
    stored = [load_tensors(run.path / "checkpoint.safetensors")[0]["pose_correction"] for run in (whole, resumed)]
    assert torch.equal(*stored) and stored[0][capture.train].abs().sum() > 0
    assert not stored[0][~capture.train].any()
    assert trained.pose_corrections == {} and whole.pose_corrections.keys() == resumed.pose_corrections.keys()


def in_another_order(capture, order, renamed=()):
    """`capture` with only its rows `order`, in that order; rows in `renamed` get a frame number of their own."""
    rows = ("expression", "pose", "scale", "landmarks", "sequence", "detected")
    frame = capture.frame + 1000 * np.isin(np.arange(len(capture)), renamed)
    ball = capture.frames
    frames = BallFrames(ball.cameras, ball.centres[order], ball.redness[order])
    changed = {name: getattr(capture, name)[order] for name in rows}
    return replace(capture, **changed, frame=frame[order], frames=frames)


def test_pose_corrections_are_found_again_by_the_name_of_their_frame(capture, tmp_path, monkeypatch):
    config = replace(CONFIG, rate_pose=1e-3, steps=30)
    monkeypatch.setattr(training.Trainer, "one_step", dying_at(26))
    with pytest.raises(KeyboardInterrupt):
        fit(capture, Vanilla(), config, tmp_path / "run", progress=False)
    monkeypatch.undo()
    learned = Run.load(tmp_path / "run").pose_corrections
    assert set(learned) == {f"{s}/{f}" for s, f in zip(capture.sequence, capture.frame, strict=True)}
    stored = load_tensors(tmp_path / "run" / "checkpoint.safetensors")
    state = stored[0]["pose.0.exp_avg"]

    def resumed(changed):
        info = {"seconds": 0.0, **dict.fromkeys(training.MADE_BY, "")}
        trainer = training.Trainer(changed, Vanilla(), config, tmp_path / "run", info, False, torch.device("cpu"))
        trainer.start(stored)
        return trainer

    order = np.random.default_rng(0).permutation(len(capture))
    trainer = resumed(in_another_order(capture, order))
    assert torch.equal(trainer.optimisers.tensors()["pose.0.exp_avg"], state[order])
    for row, name in enumerate(trainer.poses.names):
        np.testing.assert_array_equal(trainer.poses(row)[0].detach().numpy(), learned[name])
    trainer = resumed(in_another_order(capture, order[3:], renamed=order[-2:]))
    start = {name: trainer.poses(row)[0].detach().numpy() for row, name in enumerate(trainer.poses.names)}
    shift = {name: start[name] - learned.get(name, 0) for name in start}
    trained = [name for row, name in enumerate(trainer.poses.names) if row in trainer.poses.trained]
    np.testing.assert_allclose(np.mean([start[name] for name in trained], 0), 0, atol=1e-8)
    for name in trained:  # all moved by the one vector that takes the mean away
        np.testing.assert_allclose(shift[name], shift[trained[0]], atol=1e-7)
    twice = replace(capture, frame=np.zeros_like(capture.frame))
    with pytest.raises(RafError, match=r"EXP-1-head/0 occurs twice"):
        fit(twice, Vanilla(), config, tmp_path / "twice", progress=False)


def upsampled(factor, **changes):
    config = replace(CONFIG, size=16, landmark_steps=0, weight_landmarks=0.0, weight_face=0.0, relocate_every=0)
    avatar = replace(config.avatar, upsampling=factor, upsampler_capacity=4, colour_channels=8)
    return replace(config, avatar=avatar, rate_upsampler=0.1, decay=0.1, **changes)


@pytest.mark.parametrize("factor", [2, 4])
def test_an_upsampled_avatar_learns_and_shows_full_pictures(factor, tmp_path):
    large = ball_capture(size=16 * factor)
    config = upsampled(factor, steps=80, rate_pose=1e-4)
    run = fit(replace(large, background=np.ones((9, 9, 3))), Vanilla(), config, tmp_path / "run", progress=False)
    assert run.background.shape == (16, 16, 8) and len(run.pose_corrections) == len(large)
    assert run.log["fine"].iloc[-1] < 0.5 * 0.45 and run.log["psnr"].iloc[-1] > 11  # grey everywhere: 0.45 and 6.6 dB
    t = int(np.flatnonzero(large.train)[0])
    given = large.expression[t : t + 1], large.pose[t : t + 1], large.scale[t : t + 1]
    picture = run.render(*given, [large.cameras[1]])[0]
    assert picture.shape == (16 * factor, 16 * factor, 3)
    assert 10 * np.log10(1 / ((picture - large.image(t, 1) / 255) ** 2).mean()) > 10
    assert run.render(*given, [large.cameras[1].resized(24 * factor)])[0].shape == (24 * factor, 24 * factor, 3)
    with pytest.raises(RafError, match=rf"cam1: 17×17 pixels cannot be divided by {factor}"):
        run.render(*given, [large.cameras[1].resized(17)])


def test_a_killed_upsampled_run_resumes_to_the_same_bits_with_any_memory(tmp_path, monkeypatch):
    capture = ball_capture(size=64)
    config = upsampled(4, steps=28, weight_perceptual=0.1, perceptual_every=9, perceptual_crop=32, rate_pose=1e-4)
    whole = fit(capture, Vanilla(), config, tmp_path / "whole", progress=False)
    monkeypatch.setattr(training.Trainer, "one_step", dying_at(22))
    with pytest.raises(KeyboardInterrupt):
        fit(capture, Vanilla(), replace(config, cache_gib=0.0), tmp_path / "killed", progress=False)
    monkeypatch.undo()
    resumed = fit(capture, Vanilla(), replace(config, cache_gib=1e-4), tmp_path / "killed", progress=False)
    stored, again = (load_tensors(run.path / "checkpoint.safetensors")[0] for run in (whole, resumed))
    assert "upsampler.up2.conv.double_conv.3.weight" in stored and set(stored) == set(again)
    for name, value in stored.items():
        assert torch.equal(value, again[name]), name
    assert whole.log["perceptual"].notna().all()


def test_pictures_are_never_enlarged(capture, tmp_path):
    with pytest.raises(
        RafError, match=r"camera cam0 filmed 48×48 pixels, training wants 64 \(size 16 × upsampling 4\)"
    ):
        fit(capture, Vanilla(), upsampled(4), tmp_path / "a", progress=False)
    assert not (tmp_path / "a").exists()


def test_what_the_machine_cannot_do_is_refused_before_training(capture, tmp_path):
    with pytest.raises(RafError, match="device is 'tpu'"):
        fit(capture, Vanilla(), CONFIG, tmp_path / "a", progress=False, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(RafError, match=r"device 'cuda': torch sees no CUDA device"):
            fit(capture, Vanilla(), CONFIG, tmp_path / "a", progress=False, device="cuda")
    for changes in ({"precision": "bfloat16"}, {"compile": True}):
        with pytest.raises(RafError, match="for CUDA"):
            fit(capture, Vanilla(), upsampled(2, **changes), tmp_path / "a", progress=False, device="cpu")
    assert not (tmp_path / "a").exists()


def test_a_folder_is_continued_with_the_same_recording_sampler_and_configuration_only(capture, trained):
    before = {path.name: path.read_bytes() for path in trained.path.iterdir()}
    another = ball_capture(seed=7)  # another person under the same name
    assert another.subject == capture.subject and another.fingerprint != capture.fingerprint
    for given, sampler, config, odd in (
        (another, Vanilla(), CONFIG, "recording"),
        (replace(capture, recording="edited"), Vanilla(), CONFIG, "recording"),
        (replace(capture, subject="901"), Vanilla(), CONFIG, "subject"),
        (capture, RandomNoise(), CONFIG, "sampler"),
        (capture, Vanilla(), replace(CONFIG, seed=5), "config"),
    ):
        with pytest.raises(RafError, match=f"holds a run with another {odd};"):
            fit(given, sampler, config, trained.path, progress=False)
    assert {path.name: path.read_bytes() for path in trained.path.iterdir()} == before


def test_the_checkpoint_alone_says_whose_it_is(capture, tmp_path, monkeypatch):
    """A process killed between the first checkpoint and the first run.json leaves a folder of a known run."""

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "write_copies", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(capture, Vanilla(), CONFIG, tmp_path / "run", progress=False)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint.safetensors"]
    with pytest.raises(RafError, match=r"run\.json: .*once more"):
        Run.load(tmp_path / "run")
    with pytest.raises(RafError, match="another subject, recording, sampler"):
        fit(ball_capture("901", seed=9), RandomNoise(), CONFIG, tmp_path / "run", progress=False)
    assert fit(capture, Vanilla(), CONFIG, tmp_path / "run", progress=False).finished


def test_one_process_trains_in_a_folder(capture, tmp_path):
    with folder_lock(tmp_path / "run", "training 900 raf"), pytest.raises(RafError, match=r"in use.*900 raf"):
        fit(capture, Vanilla(), CONFIG, tmp_path / "run", progress=False)


@pytest.mark.parametrize("at", [15, 40])  # a step that writes a checkpoint, and the last one
def test_a_gradient_that_is_not_finite_stops_before_anything_is_written(capture, tmp_path, monkeypatch, at):
    real, count = losses.total, iter(range(1, 1000))

    def broken(parts, config):
        value = real(parts, config)
        return value + (0 * value).sqrt() if next(count) == at else value  # finite, but its gradient is NaN

    monkeypatch.setattr(losses, "total", broken)
    with pytest.raises(RafError, match=rf"run: stopped at step {at - 1} \(frame EXP-1-head/\d+ of 900\): the grad"):
        fit(capture, Vanilla(), replace(CONFIG, checkpoint_every=5), tmp_path / "run", progress=False)
    tensors, header = load_tensors(tmp_path / "run" / "checkpoint.safetensors")
    assert header["step"] == at - 5 and all(torch.isfinite(value).all() for value in tensors.values())


def test_weights_that_are_not_finite_are_not_saved(capture, tmp_path):
    config = replace(CONFIG, rate_scale=1e36, rate_xyz=1e36, checkpoint_every=1, decay=1.0)
    with pytest.raises(RafError, match=r"nan: stopped at step \d+ \(frame EXP-1-head.*finite"):
        fit(capture, Vanilla(), config, tmp_path / "nan", progress=False)
    for path in (tmp_path / "nan").glob("checkpoint*"):
        assert all(torch.isfinite(value).all() for value in load_tensors(path)[0].values())


def test_saving_often_changes_no_bit_and_an_interrupt_loses_no_step(capture, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)  # before every step, so between two refreshes of the blend, too
    one_step = training.Trainer.one_step

    def interrupted(self):
        if self.step == 17:
            os.kill(os.getpid(), signal.SIGINT)
        return one_step(self)

    monkeypatch.setattr(training.Trainer, "one_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(capture, Vanilla(), CONFIG, tmp_path / "run")
    assert "interrupted at step 18 of 40; run again to go on" in capsys.readouterr().out
    monkeypatch.setattr(training.Trainer, "one_step", one_step)
    stopped = Run.load(tmp_path / "run")
    assert not stopped.finished and stopped.info["steps"] == 18
    with pytest.raises(RafError, match=r"run holds an avatar after 18 of 40 steps; train it to the end"):
        evaluate(stopped, "self", capture, metrics=["psnr/whole"], progress=False)
    resumed = fit(capture, Vanilla(), CONFIG, tmp_path / "run")
    assert "resumed at step 18 of 40" in capsys.readouterr().out
    for name, value in trained.avatar.state_dict().items():
        assert torch.equal(value, resumed.avatar.state_dict()[name]), name


def test_who_made_which_steps_is_kept(capture, tmp_path, monkeypatch):
    for name, step in (("first", 12), ("first", 22), ("second", 99)):
        made = {"commit": name, "versions": {"torch": "1"}, "machine": "A"}
        monkeypatch.setattr(sys.modules["raflib.training.fit"], "provenance", lambda made=made: made)
        monkeypatch.setattr(training.Trainer, "one_step", dying_at(step))
        with suppress(KeyboardInterrupt):
            fit(capture, Vanilla(), replace(CONFIG, checkpoint_every=10), tmp_path / "run", progress=False)
        monkeypatch.undo()
    info = Run.load(tmp_path / "run").info
    assert info["commit"] == "first" and [(p["step"], p["commit"]) for p in info["continued"]] == [(20, "second")]


def test_counts_out_of_range_are_refused_before_anything_is_made(capture, tmp_path):
    for threads in (0, -1):
        with pytest.raises(RafError, match="threads is"):
            fit(capture, Vanilla(), CONFIG, tmp_path / "a", threads=threads, progress=False)
    for name, value in (("steps", -5), ("seed", -1), ("seed", 2**80), ("rate_mlp", float("nan")), ("decay", 0.0)):
        with pytest.raises(RafError, match=rf"TrainConfig\.{name} is"):
            replace(CONFIG, **{name: value})
    assert not (tmp_path / "a").exists()


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained.path, tmp_path / "copy")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("run.json", lambda text: text.replace('"900"', '"901"')),
        ("run.json", lambda text: "[" * 100_000),
        ("run.json", lambda text: ""),
        ("log.csv", lambda text: text[:-20]),
        ("log.csv", lambda text: "\n".join(text.splitlines()[:-1]) + "\n"),
        ("log.csv", lambda text: None),
    ],
)
def test_copies_that_say_something_else_are_named_and_written_anew(capture, copied, name, change):
    good = (copied / name).read_text()
    text = change(good)
    if text is None:
        (copied / name).unlink()
    else:
        (copied / name).write_text(text)
    with pytest.raises(RafError, match=name):
        Run.load(copied)
    fit(capture, Vanilla(), CONFIG, copied, progress=False)
    assert (copied / name).read_text() == good


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, header: (tensors, {}),
        lambda tensors, header: (tensors, {**header, "config": {**header["config"], "sizes": 3}}),
        lambda tensors, header: ({k: v for k, v in tensors.items() if k != "avatar.xyz"}, header),
        lambda tensors, header: ({**tensors, "avatar.xyz": tensors["avatar.xyz"].reshape(-1)}, header),
        lambda tensors, header: ({**tensors, "avatar.xyz": tensors["avatar.xyz"][1:]}, header),
        lambda tensors, header: (tensors, _deep(header, 10**9)),
    ],
)
def test_a_checkpoint_of_another_make_is_named(copied, change):
    path = copied / "checkpoint.safetensors"
    save_tensors(path, *change(*load_tensors(path)))
    with pytest.raises(RafError, match=r"checkpoint\.safetensors: not .*train it again"):
        Run.load(copied)


def _deep(header, width):
    avatar = {**header["config"]["avatar"], "exp_deform": [width]}
    return {**header, "config": {**header["config"], "avatar": avatar}}


def test_a_truncated_checkpoint_is_named(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained.path, copy)
    file = copy / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RafError, match=r"checkpoint\.safetensors"):
        Run.load(copy)
    with pytest.raises(RafError, match=r"nowhere.*no such checkpoint"):
        Run.load(tmp_path / "nowhere")


def test_background_of_a_static_camera_is_learned(capture, tmp_path):
    room = replace(capture, background=np.full((48, 48, 3), 0.25))
    run = fit(room, Vanilla(), replace(CONFIG, rate_background=0.2), tmp_path / "room", progress=False)
    assert run.background[:5].mean() > 0.5  # the first rows went from 0.25 towards the white around the ball


def test_epochs_make_the_steps_where_none_are_given(capture, tmp_path, monkeypatch):
    config = replace(CONFIG, steps=None, epochs=1, landmark_steps=0, checkpoint_every=5)
    frames = int(capture.train.sum())
    assert config.total_steps(frames) == frames and replace(config, steps=7).total_steps(frames) == 7
    whole = fit(capture, Vanilla(), config, tmp_path / "whole", progress=False)
    assert whole.finished and whole.info["steps"] == whole.info["total_steps"] == frames
    monkeypatch.setattr(training.Trainer, "one_step", dying_at(7))
    with pytest.raises(KeyboardInterrupt):
        fit(capture, Vanilla(), config, tmp_path / "part", progress=False)
    monkeypatch.undo()
    with pytest.raises(RafError, match=rf"after 5 of {frames} steps"):
        evaluate(Run.load(tmp_path / "part"), capture=capture, metrics=["psnr/face"], progress=False)
    again = fit(capture, Vanilla(), config, tmp_path / "part", progress=False)
    assert torch.equal(again.avatar.xyz, whole.avatar.xyz)


def test_the_profile_gpu_trains_on_a_cpu_too(tmp_path):
    config = train_config("gpu", size=64, steps=3, landmark_steps=2, perceptual_net="alex", perceptual_crop=48)
    config = replace(config, avatar=replace(config.avatar, points=300, mouth_points=30))
    run = fit(ball_capture(size=64), Vanilla(), config, tmp_path / "run", progress=False)
    assert run.info["steps"] == 3 and torch.isfinite(run.avatar.xyz).all()


def test_optimisers_follow_their_settings(capture, tmp_path):
    """Adam's first step moves by the rate, whatever its betas; the warm-up makes the first steps smaller."""
    moved = {}
    for warm_up in (0, 10):
        config = replace(CONFIG, steps=1, landmark_steps=0, warm_up=warm_up, betas=(0.5, 0.6), epsilon=1e-20)
        trainer = training.Trainer(capture, Vanilla(), config, tmp_path, {"seconds": 0.0}, False, torch.device("cpu"))
        assert trainer.optimisers.adam.defaults["betas"] == (0.5, 0.6)
        assert trainer.optimisers.adam.defaults["eps"] == 1e-20
        before = trainer.avatar.xyz.detach().clone()
        trainer.one_step()
        trainer.images.close()
        moved[warm_up] = (trainer.avatar.xyz - before).abs().max().item()
    assert moved[0] == pytest.approx(CONFIG.rate_xyz, rel=1e-3) and moved[10] == pytest.approx(moved[0] / 10, rel=1e-3)


def test_the_avatar_takes_width_and_units_of_the_features_from_the_capture(tmp_path):
    """Networks see the same codes, turned, when features are shifted, in other units and have more channels."""
    config, values = replace(CONFIG, steps=2, landmark_steps=2), []
    known = ball_capture()
    rng = np.random.default_rng(0)
    wide = np.linalg.qr(rng.normal(size=(100, 52)))[0].T
    for expression in (known.expression, (50 * known.expression @ wide + rng.normal(size=100)).astype(np.float32)):
        other = replace(known, expression=expression, feature_space=f"space{expression.shape[1]}")
        run = fit(other, Vanilla(), config, tmp_path / other.feature_space, progress=False)
        assert run.config.avatar.expression_dim == expression.shape[1] == len(run.control_expression)
        code = run.avatar.code(torch.from_numpy(expression[other.train]))
        assert code.norm(dim=1).square().mean().sqrt() == pytest.approx(config.avatar.expression_norm, rel=1e-4)
        values.append(code @ code.T)
    torch.testing.assert_close(*values, atol=1e-3, rtol=1e-3)


def test_weight_decay_shrinks_the_matrix_of_the_linear_decoder_alone(capture, tmp_path):
    states = []
    for decay in (0.0, 2.0):
        config = replace(CONFIG, landmark_steps=0, warm_up=0, weight_decay=decay)
        trainer = training.Trainer(capture, Vanilla(), config, tmp_path, {"seconds": 0.0}, False, torch.device("cpu"))
        torch.nn.init.normal_(trainer.avatar.exp_linear.bases.weight, std=0.1)
        before = {name: p.detach().clone() for name, p in trainer.avatar.named_parameters()}
        trainer.one_step()
        trainer.images.close()
        states.append({name: p.detach().clone() for name, p in trainer.avatar.named_parameters()})
    for name, start in before.items():
        lost = 2 * CONFIG.rate_mlp * start if name == "exp_linear.bases.weight" else torch.zeros_like(start)
        torch.testing.assert_close(states[0][name] - states[1][name], lost, atol=1e-6, rtol=1e-3, msg=name)


@pytest.mark.parametrize(("views", "together", "steps"), [(2, 1, 2), (2, 2, 1), (3, 2, 2), (4, 3, 2)])
def test_pictures_visit_every_pair_once_a_cycle_and_depend_on_the_step_alone(capture, views, together, steps):
    config = replace(CONFIG, views_per_frame=views, views_per_step=together)
    images = TrainingImages(capture, choose_cameras(capture, 4), config)
    assert len(images) == steps * capture.train.sum()
    first = [images.shot(step) for step in range(len(images))]
    seen = [(shot.t, camera.name) for shot in first for camera in shot.cameras]
    assert sorted(seen) == sorted((t, capture.cameras[c].name) for t, c in images.pairs)
    assert len(set(seen)) == views * capture.train.sum()
    for shot in first:
        assert len(shot.images) == len(shot.boxes) == len(shot.cameras) <= together
        names = [camera.name for camera in capture.cameras]
        for picture, camera in zip(shot.images, shot.cameras, strict=True):
            assert np.array_equal((255 * picture).numpy().round(), capture.image(shot.t, names.index(camera.name)))
    images.shot(3 * len(images))
    assert [images.shot(step).t for step in range(len(images))] == [shot.t for shot in first]
    assert not capture.free[[t for t, _ in images.pairs]].any()


def test_views_of_a_step_are_some_of_the_frames():
    with pytest.raises(RafError, match=r"views_per_step is 3; expected 1 to views_per_frame, 2"):
        replace(CONFIG, views_per_step=3)


def test_expressive_frames_are_visited_more_often(capture):
    images = TrainingImages(capture, choose_cameras(capture, 4), replace(CONFIG, favour_expressive=1.0))
    visits = np.bincount([images.shot(step).t for step in range(40 * len(images))], minlength=len(capture))[
        capture.train
    ]
    expression = capture.expression[capture.train]
    distance = np.linalg.norm(expression - expression.mean(0), axis=1)
    np.testing.assert_allclose(visits / visits.sum(), distance / distance.sum(), atol=0.01)


@pytest.mark.parametrize("frames", [1, 12])
def test_frames_without_a_difference_are_visited_equally_often(capture, frames):
    same = np.broadcast_to(capture.expression[:1], capture.expression.shape).copy()
    few = replace(capture, expression=same, detected=capture.detected & (np.arange(len(capture)) < frames))
    images = TrainingImages(few, choose_cameras(capture, 4), replace(CONFIG, favour_expressive=1.0))
    groups = [tuple(images._group(step)) for step in range(3 * len(images))]
    assert set(Counter(groups).values()) == {3} and len(set(groups)) == len(images)


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


def test_the_perceptual_network_looks_at_squares_around_the_face():
    generator, box = torch.Generator().manual_seed(0), torch.tensor([30, 10, 8, 12])
    squares = [random_square(box, 32, 64, generator) for _ in range(200)]
    for x, y, size in squares:
        assert size == 32 and 0 <= x <= 32 and 0 <= y <= 32
        assert 30 <= x + 16 <= 38 and y + 16 <= 22
    assert len({x for x, _, _ in squares}) == 9 and min(y for _, y, _ in squares) == 0


def test_the_perceptual_network_looks_anywhere_in_an_upsampled_picture(tmp_path):
    capture, config = ball_capture(size=64), upsampled(4, weight_perceptual=0.1, perceptual_every=2, perceptual_crop=40)
    info = {"seconds": 0.0}
    trainer = training.Trainer(capture, Vanilla(), config, tmp_path, info, False, torch.device("cpu"))
    crops = trainer.comparison.crops
    generator = torch.Generator().manual_seed(0)
    squares = [square for _ in range(200) for square in crops(None, 2, 0, generator)]
    for axis in (0, 1):
        found = {square[axis] for square in squares}
        assert found == set(range(25)) and all(square[2] == 40 for square in squares)
    assert crops(None, 2, 1, generator) is None


def test_total_is_the_named_weighted_sum():
    render, picture = torch.rand(1, 8, 8, 3), torch.rand(1, 8, 8, 3)
    parts = losses.terms(
        render, picture, torch.ones(1, 8, 8, 1), lambda x, y: (x - y).square().mean((1, 2, 3)), [(2, 1, 4)]
    )
    config = replace(CONFIG, weight_l1=2.0, weight_gradient=0.5, weight_perceptual=0.1, perceptual_every=3)
    expected = 2 * (render - picture).abs().mean() + 0.5 * parts["gradient"].mean()
    expected += 0.3 * (render - picture)[:, 1:5, 2:6].square().mean()
    torch.testing.assert_close(losses.total(parts, config), expected)
    assert set(parts) == {"l1", "gradient", "perceptual"}
    fine = losses.fine_terms(render, picture, torch.ones(1, 8, 8, 1))
    expected = 3 * (render - picture).abs().mean()
    torch.testing.assert_close(losses.total(fine, replace(CONFIG, weight_fine=3.0)), expected)
