"""The torso: found from masks of one view, kept by captures, and followed by the part of an avatar that is no head."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import ball_capture
from test_training import CONFIG
from test_video import RedIsAFace, film

from raflib.avatar import GaussianAvatar
from raflib.driving import rotations, transfer_torso
from raflib.errors import RafError
from raflib.evaluation import EvaluateOptions, evaluate
from raflib.evaluation.error_budget import error_budget
from raflib.export.motion import posed
from raflib.geometry import axis_angle_to_matrix, quaternion_to_matrix
from raflib.lab.recordings import driven
from raflib.sampler import Vanilla
from raflib.sources import open_capture, video
from raflib.tracking.torso import PIVOT, SIDE, rigid_motion, torso_places, torso_view
from raflib.training import fit
from raflib.training.signals import checked_torso
from raflib.training.start import initialise

BLUE, GREY, RED = (30, 40, 200), (128, 128, 128), (220, 20, 20)


def seated(at=(0, 0), size=192, head=(0, 0), roll=0.0):
    """(image, alpha, face points) of a blue torso displaced by `at` pixels under a face displaced by `head`.

    It has turned by `roll` radians about the middle of its chest before.
    """
    y, x = np.mgrid[:size, :size] / size
    chest = (PIVOT + 0.5) / SIDE
    dx, dy = x - chest[0] - at[0] / size, y - chest[1] - at[1] / size
    across = chest[0] + np.cos(roll) * dx + np.sin(roll) * dy - 0.5
    down = chest[1] - np.sin(roll) * dx + np.cos(roll) * dy
    torso = down > 0.72 + 0.5 * np.abs(across) ** 1.5
    hx, hy = np.array(head) / size
    face = ((x - 0.5 - hx) / 0.16) ** 2 + ((y - 0.42 - hy) / 0.22) ** 2 < 1
    neck = (np.abs(x - 0.5 - hx / 2) < 0.07) & (y > 0.5) & ~torso
    image = np.full((size, size, 3), GREY, np.uint8)
    image[torso] = BLUE
    image[torso & (np.abs(across) < 0.1)] = (200, 200, 90)  # a collar
    image[neck | face] = (210, 160, 140)
    angle = np.linspace(0, 2 * np.pi, 40)
    points = size * np.stack([0.5 + hx + 0.14 * np.cos(angle), 0.45 + hy + 0.16 * np.sin(angle)], 1)
    return image, (255 * (torso | face | neck)).astype(np.uint8), points.astype(np.float32)


def places(views):
    """[T,3]: displacements in compared pixels, rotations in radians."""
    return torso_places(*(np.stack(part) for part in zip(*views, strict=True))) * [SIDE, SIDE, 1]


def test_displacements_are_found_whatever_the_head_does():
    rng = np.random.default_rng(0)
    true = np.cumsum(rng.normal(0, 2.5, (60, 2)), 0).clip(-24, 24)
    found = places([torso_view(*seated(at, head=rng.normal(0, 5, 2))) for at in true])
    wrong = (found - np.median(found, 0))[:, :2] * 192 / SIDE - (true - np.median(true, 0))
    assert np.abs(wrong[:, 1]).max() < 1, np.abs(wrong).max(0)
    assert np.corrcoef(found[:, 0], true[:, 0])[0, 1] > 0.5  # shoulders are level, so this is found in part only


def test_a_torso_that_leans_is_found():
    time = np.arange(60)
    down, roll = 15 * np.sin(time / 7), 0.08 * np.cos(time / 4)
    found = places([torso_view(*seated((0, y), head=(0, 10), roll=angle)) for y, angle in zip(down, roll, strict=True)])
    # A displacement to the side lifts one shoulder, too, so the two cannot be told apart. Shoulders' heights can.
    aside = np.array([-20.0, 20.0])
    lift = 0.75 * np.sqrt(np.abs(aside) / SIDE) * np.sign(aside)  # the slope of a shoulder
    wrong = (
        found[:, 1:2] + found[:, 2:] * aside - found[:, :1] * lift - down[:, None] * SIDE / 192 - roll[:, None] * aside
    )
    assert np.ptp(roll * 20) > 3 and (np.abs(wrong - np.median(wrong, 0)) < 0.6).all(), np.abs(wrong).max(0)
    assert np.corrcoef(found[:, 2], roll)[0, 1] > 0.97


def test_motions_turn_about_the_chest():
    chest = np.array([*(2.0 * ((PIVOT + 0.5) / SIDE - 0.5)), 0])
    motion = rigid_motion(np.array([[0.1, -0.2, 0.0], [0, 0, 0.3], [0.1, -0.2, 0.3]]), 2.0)
    moved = np.einsum("tij,j->ti", rotations(motion), chest) + motion[:, 3:]
    np.testing.assert_allclose(moved - chest, [[0.2, -0.4, 0], [0, 0, 0], [0.2, -0.4, 0]], atol=1e-9)
    beside = np.einsum("tij,j->ti", rotations(motion), chest + np.array([1, 0, 0])) + motion[:, 3:]
    np.testing.assert_allclose((beside - moved)[1], [np.cos(0.3), np.sin(0.3), 0], atol=1e-9)


def test_a_torso_that_is_not_seen_stays_where_it_was():
    views = [torso_view(*seated((0, dy))) for dy in (0, 0, 0, 9, 9, 9, 9)]
    hidden = (views[5][0], np.zeros_like(views[5][1]))
    found = places([*views[:5], hidden, views[6]])
    np.testing.assert_array_equal(found[5], found[4])
    np.testing.assert_array_equal(places([hidden] * 3), np.zeros((3, 3)))
    empty = (np.zeros_like(views[0][0]), views[0][1])
    np.testing.assert_array_equal(places([empty] * 3), np.zeros((3, 3)))


def test_long_hair_is_no_torso():
    rng = np.random.default_rng(2)
    views = []
    for _ in range(40):
        y, x = np.mgrid[:192, :192] / 192
        width = 0.3 + rng.normal(0, 0.01) + 0.1 * rng.normal() * (y - 0.6)
        hair = (np.abs(x - 0.5 - rng.normal(0, 0.01)) < width) & (y > 0.3)
        shade = (80 + 60 * rng.normal(size=(192, 1, 1))).clip(0, 255)
        image = np.where(hair[..., None], shade, GREY).astype(np.uint8)
        views.append(torso_view(image, (255 * hair).astype(np.uint8), seated()[2]))
    assert np.abs(places(views)[:, 1]).max() < 4


def test_a_displacement_that_compares_little_does_not_count():
    rows = np.arange(SIDE)[:, None].repeat(SIDE, 1)
    usual = (rows >= 52).astype(np.float32), rows >= 48
    empty = np.zeros((SIDE, SIDE), np.float32), rows >= 52  # 12 rows further down, it would fit the four that are known
    found = places([usual] * 60 + [empty] + [usual] * 60)
    assert found[60, 1] <= 8 and np.abs(np.delete(found, 60, 0)).max() < 0.1


class BlueAndRed:
    """A matte of blue and red pixels, in a room that is not known."""

    def empty_room(self, images):
        return None

    def cut_out(self, image, room=None):
        person = (np.ptp(image.astype(int), axis=2) > 60)[..., None]
        return np.where(person, image, 255).astype(np.uint8), (255 * person[..., 0]).astype(np.uint8)


def test_a_video_has_a_torso_in_metres(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(video, "FaceTracker", RedIsAFace)
    monkeypatch.setattr(video, "Matte", BlueAndRed)
    settings = video.VideoProfile(size=96, tracking_size=128, max_frames=40, probes=8)
    monkeypatch.setitem(video.PROFILES, "tiny", settings)
    true = np.round(6 * np.sin(np.arange(30) / 3)).astype(int)
    images = []
    for number, down in enumerate(true):
        image = np.full((200, 200, 3), GREY, np.uint8)
        column = np.abs(np.arange(200) - 100) // 3
        for x in range(200):
            image[145 + down + column[x] :, x] = BLUE
        image[70:130, 72 + number % 4 : 132 + number % 4] = RED
        images.append(image)
    capture = open_capture("video", "me", "tiny", film(tmp_path / "me.mp4", images))
    assert capture.torso.shape == (30, 6) and np.isfinite(capture.torso).all()
    assert not capture.torso[:, [0, 1, 5]].any()
    np.testing.assert_allclose(np.median(capture.torso[capture.train], 0), 0, atol=1e-3)
    camera = capture.cameras[0]
    wide = np.ptp(camera.project(capture.landmarks[3].astype(float))[:, 0]) / 60  # the face is 60 pixels wide
    pixels = capture.torso[:, 4] * camera.intrinsic[1, 1] / camera.extrinsic[2, 3] / wide
    calm = np.abs(np.gradient(true.astype(float))) < 3
    wrong = pixels - (true - np.median(true[capture.train]))
    assert np.abs(wrong[calm]).max() < 1.5 and np.ptp(pixels) > 9
    again = open_capture("video", "me", "tiny", tmp_path / "me.mp4")
    np.testing.assert_array_equal(again.torso, capture.torso)


@pytest.fixture
def moving():
    """A capture whose torso moves."""
    capture = ball_capture()
    torso = np.random.default_rng(3).normal(0, 0.02, (len(capture), 6)).astype(np.float32)
    return replace(capture, torso=torso)


def test_captures_check_their_torso(moving):
    assert moving.fingerprint != replace(moving, torso=None).fingerprint
    assert moving.fingerprint != replace(moving, torso=2 * moving.torso).fingerprint
    np.testing.assert_array_equal(moving.torso_at([3, 1]), moving.torso[[3, 1]])
    assert replace(moving, torso=None).torso_at([3, 1]) is None
    hole = moving.torso.copy()
    hole[2] = np.nan
    with pytest.raises(RafError, match="900: torso of a detected frame is not finite"):
        replace(moving, torso=hole)
    lost = np.arange(len(moving)) != 2
    assert np.isnan(replace(moving, torso=hole, detected=lost).torso[2]).all()


@pytest.mark.parametrize("body", ["blend", "rigid"])
def test_what_does_not_follow_the_head_goes_with_the_torso(moving, body):
    config = replace(CONFIG.avatar, body=body)
    torch.manual_seed(0)
    avatar = GaussianAvatar(config, initialise(moving, config, [0, 1, 2, 3]))
    rows = slice(0, 2)
    given = [torch.from_numpy(values[rows]).float() for values in (moving.expression, moving.pose, moving.scale)]
    torso = torch.from_numpy(10 * moving.torso[rows])
    with torch.no_grad():
        if body == "rigid":
            torch.testing.assert_close(avatar(*given, torso).means, avatar(*given).means)
            return
        avatar.follow_logit.fill_(-30)
        rest, moved = avatar(*given), avatar(*given, torso)
        turn = axis_angle_to_matrix(torso[:, :3])
        went = rest.means @ turn.transpose(1, 2) + torso[:, None, 3:]
        torch.testing.assert_close(moved.means, went)
        turned = quaternion_to_matrix(moved.quaternions)
        torch.testing.assert_close(turned, turn[:, None] @ quaternion_to_matrix(rest.quaternions), atol=1e-5, rtol=1e-4)
        assert (went - rest.means).norm(dim=-1).min() > 0.01 and (turn - torch.eye(3)).norm(dim=(1, 2)).min() > 0.1
        avatar.follow_logit.normal_(0, 2)
        share = 1 - avatar.follow_logit.sigmoid()
        apart = avatar(*given, torso).means - avatar(*given).means
        torch.testing.assert_close(apart, share * (went - rest.means), atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(avatar(*given, torch.zeros(2, 6)).means, avatar(*given).means)


def test_training_and_evaluation_follow_the_torso(moving, tmp_path):
    config = replace(CONFIG, steps=12)
    seen = []
    forward = GaussianAvatar.forward

    def noted(self, expression, pose, scale, torso=None):
        seen.append(torso)
        return forward(self, expression, pose, scale, torso)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GaussianAvatar, "forward", noted)
        run = fit(moving, Vanilla(), config, tmp_path / "run", progress=False)
        known = {row.tobytes() for row in moving.torso[moving.train]}
        assert len(seen) == 12 and {one.numpy().tobytes() for one in seen} <= known
        seen.clear()
        evaluate(
            run, "self", moving, metrics=["psnr/face"], options=EvaluateOptions(conditions=("avatar",)), progress=False
        )
        assert [one.numpy().tobytes() for one in seen[:4]] == [row.tobytes() for row in moving.torso[moving.free]]
        seen.clear()
        error_budget(run, moving, frames=2)
        assert seen and all(one is not None for one in seen)
    with torch.no_grad():
        run.avatar.follow_logit.fill_(-20)
    rows = np.flatnonzero(moving.free)[:2]
    signals = moving.expression[rows], moving.pose[rows], moving.scale[rows]
    cameras = moving.cameras[:1] * 2
    moved, still = run.render(*signals, cameras, moving.torso_at(rows)), run.render(*signals, cameras)
    assert np.abs(moved - still).max() > 0.1
    np.testing.assert_array_equal(run.render(*signals, cameras, np.zeros((2, 6))), still)
    with pytest.raises(RafError, match="render: torso holds NaN"):
        run.render(*signals, cameras, np.full((2, 6), np.nan))
    with pytest.raises(RafError, match=r"film: torso has shape \[3, 6\], expected \[2, 6\]"):
        checked_torso("film", 2, moving.torso[:3])
    rest, moved = posed(run, *signals).means, posed(run, *signals, moving.torso[rows]).means
    torso = torch.from_numpy(moving.torso[rows])
    went = rest @ axis_angle_to_matrix(torso[:, :3]).transpose(1, 2) + torso[:, None, 3:]
    torch.testing.assert_close(moved, went, atol=1e-5, rtol=1e-3)


def test_a_driver_moves_the_torso_where_both_have_one(moving):
    driver = replace(ball_capture("901", seed=1), torso=3 * moving.torso)
    rows = np.array([1, 2])
    here, there = (one.pose[one.detected, 3:].mean(0) for one in (driver, moving))
    given = transfer_torso(driver, moving, rows)
    np.testing.assert_array_equal(given[:, :3], driver.torso[rows, :3])

    def moved(motion, point):
        return rotations(motion) @ point + motion[:, 3:] - point

    chest = np.array([0.1, 0.3, -0.1])
    np.testing.assert_allclose(moved(given, there + chest), moved(driver.torso[rows], here + chest), atol=1e-6)
    far = replace(moving, pose=moving.pose + np.float32([0, 0, 0, 0, 0.5, 0]))
    assert np.abs(transfer_torso(driver, far, rows) - given).max() > 0.005
    np.testing.assert_array_equal(driven(moving, driver, rows, moving.cameras[0]).torso, given)
    np.testing.assert_array_equal(driven(moving, moving, rows, moving.cameras[0]).torso, moving.torso[rows])
    for one, other in ((replace(driver, torso=None), moving), (driver, replace(moving, torso=None))):
        assert transfer_torso(one, other, rows) is None and driven(other, one, rows, other.cameras[0]).torso is None
