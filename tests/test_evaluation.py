"""Metrics and protocols on a painted face with known results, without renderer and MediaPipe."""

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation
from synthetic import BallFrames, ball_capture

import raflib
from raflib import studio
from raflib.bank import ExpressionBank
from raflib.bank.leaks import Fingerprints
from raflib.capture import Capture, Performed, Truth, most_frontal
from raflib.coverage.identity import REST, neutral
from raflib.driving import Nearest, transfer_pose
from raflib.errors import RafError
from raflib.evaluation import (
    REGISTRY,
    EvaluateOptions,
    Metric,
    calibrate,
    correlations,
    describe,
    evaluate,
    expression_distance,
    landmark_distance,
    lpips,
    psnr,
    register,
    rotation_distance,
    ssim,
)
from raflib.evaluation.calibrate import neutral_frame
from raflib.evaluation.metrics.base import Target
from raflib.evaluation.options import pick_frames
from raflib.evaluation.scoring import image_name
from raflib.geometry import Camera
from raflib.images import face_box
from raflib.lab.protocol import unseen_drivers
from raflib.openbank import pose_errors
from raflib.sources._studio_recipe import TRACKING_CAMERAS
from raflib.sources._truth import aligned_pose, performed
from raflib.tracking import ARKIT52, FaceTracker, Observation, track_views
from raflib.tracking.landmarks import GROUPS

SIZE = 64
JAW, BLINK = ARKIT52.index("jawOpen"), ARKIT52.index("eyeBlinkLeft")
FACE = slice(16, 48)


def camera(name="front", turn=0.0):
    cosine, sine = np.cos(turn), np.sin(turn)
    extrinsic = np.array([[cosine, 0, sine, 0], [0, 1, 0, 0], [-sine, 0, cosine, 1], [0, 0, 0, 1.0]])
    return Camera(name, extrinsic, np.array([[200, 0, 32], [0, 200, 32], [0, 0, 1.0]]), SIZE, SIZE)


def paint(expression):
    """A face box on white: its mouth is as bright as the jaw is open, its eye as the blink."""
    x = np.mgrid[:SIZE, :SIZE][1]
    image = np.ones((SIZE, SIZE, 3), dtype=np.float32)
    image[FACE, FACE] = (0.5 + 0.2 * np.sin(x / 3.0)[..., None] * [1.0, 0.7, 0.4])[FACE, FACE]
    image[36:44, 24:40] = np.clip(expression[JAW], 0, 1)
    image[20:26, 20:28] = np.clip(expression[BLINK], 0, 1)
    return image


class Eyes:
    """A tracker that reads the painted face; it does not find a face that is painted over in black."""

    def __init__(self):
        self.calls = 0

    def __call__(self, image):
        assert image.dtype == np.uint8
        self.calls += 1
        if image[FACE, FACE].max() < 10:
            return None
        expression = np.zeros(52, dtype=np.float32)
        expression[JAW], expression[BLINK] = image[40, 32, 0] / 255, image[22, 24, 0] / 255
        points = np.stack(np.meshgrid(np.linspace(16, 48, 2), np.linspace(16, 48, 239)), -1).reshape(478, 2)
        points[:, 1] += 4 * expression[JAW]
        return Observation(
            expression, points.astype(np.float32), np.zeros(478, np.float32), np.eye(4, dtype=np.float32)
        )


def capture(subject, seed, frames=20, space="arkit52"):
    rng = np.random.default_rng(seed)
    expression = np.zeros((frames, 52), dtype=np.float32)
    expression[:, [JAW, BLINK]] = np.round(rng.uniform(size=(frames, 2)) * 255) / 255
    corners = np.array([[x, y, 0.0] for x in (-0.08, 0.08) for y in (-0.08, 0.08)])
    pose = np.zeros((frames, 6), dtype=np.float32)
    pose[:, 3:] = rng.normal(scale=0.01, size=(frames, 3))

    class Pictures:
        def image(self, t, c):
            return (paint(expression[t]) * 255 + 0.5).astype(np.uint8)

        def mask(self, t, c):
            return np.full((SIZE, SIZE), 255, dtype=np.uint8)

    detected = np.ones(frames, dtype=bool)
    detected[frames // 2 + 1] = False
    return Capture(
        subject=subject,
        feature_space=space,
        cameras=[camera("left", 0.6), camera("front"), camera("right", -0.3), camera("far", 1.0)],
        expression=expression,
        pose=pose,
        scale=np.full(frames, 0.1, dtype=np.float32),
        landmarks=np.tile(corners, (frames, 1, 1)),
        neutral=corners * 10,
        groups={"rigid": (0, 1, 2, 3), "blend": (0, 1, 2, 3), "lips": (2, 3)},
        sequence=np.where(np.arange(frames) < frames // 2, "EXP-1-head", "FREE"),
        frame=np.arange(frames) % (frames // 2) * 3,
        detected=detected,
        frames=Pictures(),
    )


class FakeRun:
    """An avatar that paints the wanted expression with some noise; it loses faces whose jaw is nearly shut."""

    def __init__(self, subject="422", sigma=0.01, lost_below=-1.0, bank=None):
        self.subject, self.method, self.config = subject, "raf", SimpleNamespace(seed=3)
        self.feature_space = "arkit52"
        self.control_expression = np.full(52, 0.5, dtype=np.float32)
        self.sigma, self.lost_below, self.bank, self.poses = sigma, lost_below, bank, []

    def render(self, expression, pose, scale, cameras):
        assert len(expression) == len(pose) == len(scale) == len(cameras)
        self.poses.extend(pose)
        noise = np.random.default_rng(0).normal(scale=self.sigma, size=(SIZE, SIZE, 3)) if self.sigma else 0
        images = np.stack([np.clip(paint(e) + noise, 0, 1) for e in expression]).astype(np.float32)
        images[expression[:, JAW] < self.lost_below] = 0
        return images


@pytest.fixture
def target():
    return capture("422", 0)


def quick(run, target, **changes):
    """`evaluate` with a painted face's tracker, one camera and `changes`, whichever of them are options."""
    given = {"capture": target, "tracker": Eyes(), "progress": False, "cameras": [1]} | changes
    names = [field.name for field in fields(EvaluateOptions) if field.name in given]
    options = EvaluateOptions(**{name: given.pop(name) for name in names})
    return evaluate(run, **given, options=options)


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_psnr_is_exact():
    x = np.full((20, 30, 3), 0.5)
    assert psnr(x, x) == np.inf
    assert psnr(x, x + 0.1) == pytest.approx(20.0, abs=1e-9)
    assert psnr(x, x + 0.01) == pytest.approx(40.0, abs=1e-9)
    half = np.zeros((20, 30))
    half[:10] = 255
    y = x.copy()
    y[:10] += 0.1
    assert psnr(x, y) == pytest.approx(20 + 10 * np.log10(2), abs=1e-9)
    assert psnr(x, y, mask=half) == pytest.approx(20.0, abs=1e-9)
    with pytest.raises(RafError, match="empty"):
        psnr(x, y, mask=np.zeros((20, 30)))
    with pytest.raises(RafError, match="one shape"):
        psnr(x, y[:10])


def test_ssim_and_lpips_order_pictures():
    truth = paint(np.full(52, 0.3))
    noise = np.random.default_rng(0).normal(size=truth.shape)
    slight, strong = (np.clip(truth + s * noise, 0, 1).astype(np.float32) for s in (0.02, 0.2))
    assert ssim(truth, truth) == pytest.approx(1) and lpips(truth, truth) == 0
    assert 1 > ssim(slight, truth) > ssim(strong, truth) > 0
    assert 0 < lpips(slight, truth) < lpips(strong, truth)


def test_face_box_holds_the_projected_landmarks_and_stays_inside():
    landmarks = np.array([[-0.02, -0.04, 0], [0.02, 0.14, 0], [np.nan] * 3])
    # x 28..36 is 8 px wide and y 24..60 is 36 px high; a quarter of 36 is 9 px more on every side, cut at 64.
    assert face_box(landmarks, camera(), margin=0.25) == (19, 15, 32, 49)
    assert face_box(landmarks, camera(), margin=0.5) == (10, 6, 44, 58)
    assert face_box(landmarks * 100, camera(), margin=0.25) == (0, 0, SIZE, SIZE)
    x, y, width, height = face_box(np.array([[0.158, 0, 0], [0.159, 0.001, 0]]), camera(), margin=0.0)
    assert (width, height) == (32, 32) and x + width <= SIZE and y >= 0
    with pytest.raises(RafError, match=r"front.*detected"):
        face_box(np.full((3, 3), np.nan), camera())


def test_tracked_distances():
    assert expression_distance(np.zeros(4), np.array([1.0, 0, 0, -1])) == 0.5
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    scaled = 7 * turn
    assert rotation_distance(np.eye(4), scaled) == pytest.approx(np.degrees(0.3), abs=1e-9)
    assert rotation_distance(scaled, turn) == pytest.approx(0, abs=1e-9)
    assert rotation_distance(np.diag([1.0, -1, -1, 1]), np.eye(4)) == pytest.approx(180)
    points = np.random.default_rng(0).uniform(size=(478, 2))
    points[[33, 133]], points[[362, 263]] = [10.0, 5.0], [30.0, 5.0]
    assert landmark_distance(points + np.array([3.0, 4.0]), points) == pytest.approx(5 / 20)


def test_metrics_describe_themselves_and_keep_their_tags_apart():
    table = describe().set_index("metric")
    assert {"psnr/face", "ssim/whole", "lpips/stlpips-alex/face", "aed/arkit52/l1", "lmd/mediapipe/iod"} <= set(
        table.index
    )
    assert table.better["psnr/face"] == "higher" and table.better["aed/arkit52/l1"] == "lower"
    with pytest.raises(RafError, match="psnr/face is taken"):
        register(Metric("psnr/face", "higher", "another one", lambda *_: 0.0))
    with pytest.raises(RafError, match="better must be"):
        Metric("mine", "up", "", lambda *_: 0.0)
    assert "mine" not in REGISTRY


@pytest.mark.parametrize("tag", ["psnr/whole", "ssim/face", "lpips/stlpips-alex/face"])
def test_a_metric_of_images_without_a_true_image_says_so(tag):
    with pytest.raises(RafError, match="without a true image"):
        REGISTRY[tag].function(np.zeros((SIZE, SIZE, 3), np.float32), None, Target(box=(0, 0, 32, 32)))


def test_expression_is_compared_with_the_driver_or_with_the_truth():
    faces = [SimpleNamespace(expression=np.full(52, value)) for value in (0.5, 0.3, 0.1)]
    (rendered, true, driver), picture = faces, np.zeros((1, 1, 3))
    target = Target(face=true, driver_face=driver)
    assert REGISTRY["aed/arkit52/l1"].function(picture, rendered, target) == pytest.approx(0.4)
    assert REGISTRY["aed/arkit52/l1/truth"].function(picture, rendered, target) == pytest.approx(0.2)
    assert np.isnan(REGISTRY["aed/arkit52/l1/truth"].function(picture, rendered, replace(target, face=None)))


# --- self-driving ----------------------------------------------------------------------------------------------------


def test_self_driving_scores_every_held_out_frame_and_beats_the_control(target):
    run = FakeRun()
    assert len(quick(run, target, metrics=["psnr/face"])) == 9 * 2  # ten FREE frames less one undetected
    table = quick(run, target, cameras=None, frames=5)
    assert len(table) == 5 * 3 * 2  # three most frontal cameras, two conditions
    assert set(table.camera) == {"left", "front", "right"} and set(table.sequence) == {"FREE"}
    assert set(table.driver) == {"422"} and set(table.seed) == {3} and table.detected.all()
    means = table.groupby("condition").mean(numeric_only=True)
    avatar, control = means.loc["avatar"], means.loc["control"]
    for tag in ("psnr/whole", "psnr/face", "ssim/face"):
        assert avatar[tag] > control[tag], tag
    for tag in ("lpips/stlpips-alex/face", "aed/arkit52/l1", "lmd/mediapipe/iod"):
        assert avatar[tag] < control[tag], tag
    assert avatar["psnr/whole"] == pytest.approx(40, abs=3) and avatar["psnr/face"] < avatar["psnr/whole"] + 3
    assert "lpips/stlpips-alex/whole" not in table  # only when asked for


def test_known_psnr_to_a_millionth(target):
    run = FakeRun()
    run.render = lambda expression, pose, scale, cameras: np.stack(
        [(paint(e) * 255 + 0.5).astype(np.uint8) / np.float32(255) * np.float32(0.5) for e in expression]
    )
    table = quick(run, target, frames=[12], metrics=["psnr/whole"], conditions=["avatar"])
    true = target.image(12, 1).astype(np.float64) / 255
    assert table["psnr/whole"].item() == pytest.approx(-10 * np.log10(((true / 2) ** 2).mean()), abs=1e-6)


def test_lost_faces_are_nan_and_counted_never_zero(target):
    rows = np.flatnonzero(target.free)
    threshold = np.sort(target.expression[rows, JAW])[3]
    run = FakeRun(lost_below=threshold)
    run.control_expression = np.ones(52, dtype=np.float32)
    table = quick(run, target)
    avatar = table[table.condition == "avatar"]
    lost = avatar[~avatar.detected]
    assert len(lost) == 3 and avatar.reference_detected.all()
    assert lost[["aed/arkit52/l1", "apd/mediapipe/deg", "lmd/mediapipe/iod", "rendered/jawOpen"]].isna().all(axis=None)
    assert lost["psnr/face"].notna().all()
    assert avatar[avatar.detected]["aed/arkit52/l1"].notna().all()
    assert table[table.condition == "control"].detected.all()


def test_training_frames_and_frame_choice(target):
    table = quick(FakeRun(), target, split="train", frames=4, conditions=["avatar"], metrics=["psnr/face"])
    assert set(table.sequence) == {"EXP-1-head"} and table.frame.tolist() == [0, 9, 18, 27]
    assert pick_frames([3, 5, 8], None).tolist() == [3, 5, 8] and pick_frames([3, 5, 8], 99).tolist() == [3, 5, 8]
    with pytest.raises(RafError, match="frame 11 is not a detected frame"):
        quick(FakeRun(), target, frames=[10, 11])


def test_no_tracker_is_asked_for_picture_metrics(target):
    eyes = Eyes()
    table = quick(FakeRun(), target, metrics=["psnr/face"], tracker=None, frames=2)
    assert len(table) == 4 and not [name for name in table if name.startswith("rendered/")]
    quick(FakeRun(), target, tracker=eyes, frames=2)
    assert eyes.calls == 2 * 3  # the true image once, the render once a condition
    quick(FakeRun(), target, tracker=eyes, frames=2, conditions=["truth"])
    assert eyes.calls == 2 * 4  # the true image as a render has the same face


def test_scored_images_are_written_for_other_programs(target, tmp_path):
    drivers = [capture("E01", 1)]
    given = {"drivers": drivers, "truth": fake_truth, "frames": 2, "metrics": [], "images": tmp_path / "seen"}
    rows = quick(FakeRun(sigma=0.0), target, protocol="cross", **given)
    first = rows.iloc[0].to_dict()  # the head of the second frame is lost, so it has no images
    kinds = ("avatar", "control", "driver", "truth")
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {image_name(first, kind) for kind in kinds}
    images = {kind: np.asarray(Image.open(tmp_path / "seen" / image_name(first, kind))) for kind in kinds}
    assert np.array_equal(images["avatar"], images["truth"]) and not np.array_equal(images["control"], images["truth"])


def test_metrics_with_weights_are_measured_where_the_weights_are(target, monkeypatch):
    loaded = []
    for name, line in (("here", None), ("away", "the file is missing; get it")):
        network = SimpleNamespace(name=name, missing=lambda line=line: line, load=lambda name=name: loaded.append(name))
        metric = Metric(f"mine/{name}", "lower", "", lambda *_: 1.0, regressor=network)
        monkeypatch.setitem(REGISTRY, metric.tag, metric)
    table = quick(FakeRun(), target, frames=1)
    assert "mine/here" in table and "mine/away" not in table and loaded == ["here"]
    with pytest.raises(RafError, match=r"metric mine/away: the file is missing; get it"):
        quick(FakeRun(), target, frames=1, metrics=["mine/away"])


def test_own_metric_and_resized_pictures(target):
    width = Metric("width", "higher", "picture width", lambda rendered, face, pair: float(pair.image.shape[1]))
    run = FakeRun()
    run.render = lambda expression, pose, scale, cameras: np.zeros((len(cameras), 40, 40, 3), np.float32)
    table = quick(run, target, metrics=[width], size=40, frames=1, tracker=None)
    assert table["width"].tolist() == [40.0, 40.0]


def test_a_drive_changes_what_the_avatar_is_given_and_is_written_down(target):
    class Watched(FakeRun):
        def render(self, expression, *rest):
            self.given = [*getattr(self, "given", []), *expression]
            return super().render(expression, *rest)

    run, options = Watched(), {"metrics": ["psnr/face"], "frames": 3, "conditions": ["avatar"]}
    direct, relative = (quick(run, target, drive=drive, **options) for drive in ("direct", "relative"))
    assert set(direct.drive) == {"direct"} and set(relative.drive) == {"relative"}
    free, train = target.expression[target.free], target.expression[target.train]
    rest = neutral(train, REST) - neutral(free, REST)
    np.testing.assert_allclose(run.given[3:], np.array(run.given[:3]) + rest, atol=1e-6)
    run.given = []
    driver = capture("443", 1)
    table = quick(
        run, target, protocol="cross", drivers=[driver], truth=False, drive=Nearest(), **options | {"metrics": []}
    )
    assert set(table.drive) == {"nearest"} and set(table.protocol) == {"cross"}
    assert all((given == train).all(1).any() for given in run.given)


# --- cross-driving ---------------------------------------------------------------------------------------------------


def fake_truth(target, driver, rows, cameras, tracker=None, progress=True):
    """The target with the driver's expression; the head is lost in the last frame."""
    images = np.stack([[(paint(driver.expression[t]) * 255 + 0.5).astype(np.uint8) for _ in cameras] for t in rows])
    pose = np.tile(np.float32([0, 0, 0, 0.5, 0, 0]), (len(rows), 1))
    pose[-1] = np.nan
    landmarks = np.tile(target.landmarks[:1], (len(rows), 1, 1))
    return Performed(images, pose, np.full(len(rows), 0.1, np.float32), landmarks, np.isfinite(pose).all(1))


def test_cross_driving_against_a_truth(target):
    run = FakeRun()
    drivers = [capture("E01", 1), capture("E02", 2)]
    table = quick(
        run,
        target,
        protocol="cross",
        drivers=drivers,
        truth=fake_truth,
        frames=4,
        conditions=["avatar", "control", "truth"],
    )
    assert len(table) == 2 * 4 * 3 and set(table.driver) == {"E01", "E02"}
    lost = table[~table.reference_detected]
    assert len(lost) == 2 * 3 and lost["psnr/face"].isna().all()
    assert all(pose[3] == 0.5 for pose in run.poses)  # the pose found on the true images, not the driver's
    means = table.groupby("condition").mean(numeric_only=True)
    assert means.loc["truth", "psnr/face"] == np.inf and means.loc["truth", "aed/arkit52/l1"] == 0
    assert means.loc["truth", "aed/arkit52/l1/truth"] == 0
    assert means.loc["avatar", "psnr/face"] > means.loc["control", "psnr/face"]
    assert means.loc["avatar", "aed/arkit52/l1"] < means.loc["control", "aed/arkit52/l1"]


def test_the_head_pose_of_cross_driving_is_the_truth_s_or_the_driver_s(target):
    run, driver = FakeRun(), capture("E01", 1)
    given = {"protocol": "cross", "drivers": [driver], "truth": fake_truth, "metrics": ["psnr/face"]}
    oracle = quick(run, target, **given)
    assert set(oracle.head_pose) == {"truth"} and all(pose[3] == 0.5 for pose in run.poses)
    run.poses = []
    moved = quick(run, target, head_pose="driver", **given)
    expected, _ = transfer_pose(driver, target, np.flatnonzero(driver.free)[:-1])
    assert set(moved.head_pose) == {"driver"} and np.allclose(run.poses[:8], expected[:8], atol=1e-6)
    assert moved["psnr/face"].isna().tolist() == oracle["psnr/face"].isna().tolist()  # the lost frame stays lost
    assert set(quick(run, target, **given | {"truth": False, "metrics": []}).head_pose) == {"driver"}
    assert set(quick(run, target, metrics=["psnr/face"], frames=1).head_pose) == {"own"}


def test_the_public_form_takes_protocol_drivers_and_metrics(target):
    table = raflib.evaluate(FakeRun(), protocol="cross", capture=target, drivers=[capture("E01", 1)], metrics=[])
    assert set(table.driver) == {"E01"} and set(table.camera) == {"front"} and len(table) == 9 * 2
    with pytest.raises(AttributeError):
        EvaluateOptions().frames = 3


def test_cross_driving_without_a_truth_measures_against_the_driver_only(target):
    run, driver = FakeRun(sigma=0.0), capture("E01", 1)
    table = quick(run, target, protocol="cross", drivers=[driver])
    assert not any(tag in table for tag in ("psnr/face", "lmd/mediapipe/iod"))
    assert table[table.condition == "avatar"]["aed/arkit52/l1"].max() < 1e-3
    expected, _ = transfer_pose(driver, target, np.flatnonzero(driver.free))
    assert np.allclose(run.poses[:8], expected[:8], atol=1e-6)  # the first batch
    with pytest.raises(RafError, match=r"psnr/face needs a true image and driver E01"):
        quick(run, target, protocol="cross", drivers=[driver], metrics=["psnr/face"])


def test_transfer_pose_keeps_motion_and_moves_the_mean(target):
    driver = capture("E01", 1)
    driver.pose[:, :3] = np.random.default_rng(5).normal(scale=0.05, size=(20, 3))
    target.pose[:, :3] = [0.0, 0.2, 0.0]
    rows = np.flatnonzero(driver.detected)
    pose, scale = transfer_pose(driver, target, rows)
    assert np.allclose(pose[:, 3:].mean(0), target.pose[target.detected, 3:].mean(0), atol=1e-6)
    assert np.allclose(np.diff(pose[:, 3:], axis=0), np.diff(driver.pose[rows, 3:], axis=0), atol=1e-6)
    assert np.allclose(pose[:, :3].mean(0), [0, 0.2, 0], atol=0.02) and np.allclose(scale, 0.1)
    same, _ = transfer_pose(driver, driver, rows)
    assert np.allclose(same, driver.pose[rows], atol=1e-5)


def test_aligned_pose_is_the_rigid_motion():
    neutral = np.random.default_rng(0).normal(size=(478, 3))
    angle = 0.4
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    pose = aligned_pose(neutral, 0.1 * neutral @ rotation.T + [0.1, -0.2, 0.3], 0.1, range(478))
    assert np.allclose(pose, [0, angle, 0, 0.1, -0.2, 0.3], atol=1e-5)
    assert np.isnan(aligned_pose(neutral, np.full((478, 3), np.nan), 0.1, range(478))).all()


def test_pose_errors_leave_out_the_constant_motion_between_frames():
    rng = np.random.default_rng(0)
    true = np.concatenate([rng.normal(0, 0.2, (20, 3)), rng.normal(0, 0.01, (20, 3))], 1).astype(np.float32)
    turn, shift = Rotation.from_rotvec([0.1, -0.3, 0.2]), np.array([0.02, -0.01, 0.05])
    turned = Rotation.from_rotvec(true[:, :3]) * turn
    tracked = np.concatenate([turned.as_rotvec(), Rotation.from_rotvec(true[:, :3]).apply(shift) + true[:, 3:]], 1)
    base = capture("700", 0)
    truth = Truth(*(np.zeros((20, n), np.float32) for n in (52, 3)), true, np.zeros((20, 478, 3), np.float32))
    exact = replace(base, pose=tracked.astype(np.float32), truth=truth)
    degrees, millimetres = pose_errors(exact)
    assert np.nanmax(degrees) < 1e-3 and np.nanmax(millimetres) < 1e-2
    held_out = np.flatnonzero(exact.free)[0]
    off = tracked.copy()
    off[held_out, :3] = (turned[held_out] * Rotation.from_rotvec([np.radians(2.0), 0, 0])).as_rotvec()
    assert pose_errors(replace(exact, pose=off.astype(np.float32)))[0][held_out] == pytest.approx(2.0, abs=1e-3)
    with pytest.raises(RafError, match="no truth"):
        pose_errors(replace(base, truth=None))
    with pytest.raises(RafError, match="capture 700 has no training frame with a face"):
        pose_errors(replace(exact, detected=exact.free))


@pytest.mark.slow
def test_the_studio_films_the_target_doing_what_the_driver_did(target, tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_CACHE", str(tmp_path))
    front = next(camera for camera in studio.rig(96) if camera.name == "222200037")
    actions, angles = np.zeros((3, 52), np.float32), np.zeros((3, 3), np.float32)
    actions[1, studio.ACTIONS.index("jawOpen")] = 0.9
    angles[2] = [15, 0, 0]
    still, points = np.zeros((3, 6), np.float32), np.zeros((3, 478, 3), np.float32)
    driver = replace(capture("E01", 1, frames=3), truth=Truth(actions, angles, still, points))
    views = [camera for camera in studio.rig(256) if camera.name in TRACKING_CAMERAS]
    identity, rigid = studio.Identity("422"), list(GROUPS["rigid"])
    with FaceTracker() as tracker:
        still = [studio.render(identity, actions[0], angles[0], camera)[0] for camera in views]
        seen = track_views(still, views, tracker, [camera.name for camera in views].index("222200037")).landmarks
        neutral = (seen - seen[rigid].mean(0)) / 0.1
        target = replace(
            target,
            neutral=neutral,
            landmarks=np.zeros((len(target), 478, 3), np.float32),
            groups=GROUPS,
            truth=Truth(*(np.zeros((20, *n), np.float32) for n in ((52,), (3,), (6,), (478, 3)))),
        )
        shown = performed(target, driver, np.arange(3), [front], tracker=tracker, progress=False)
    assert shown.images.shape == (3, 1, 96, 96, 3) and shown.detected.all()
    for row in range(3):
        picture, _ = studio.render(identity, actions[row], angles[row], front)
        assert np.array_equal(shown.images[row, 0], picture)
    turns = np.degrees(np.linalg.norm(shown.pose[:, :3], axis=1))
    assert turns[0] < 0.1 and turns[1] < 3 and 11 < turns[2] < 18
    with pytest.raises(RafError, match="E01 has no truth"):
        performed(target, capture("E01", 1), np.arange(1), [front])

    monkeypatch.setattr("raflib.tracking.track_views", lambda *_: pytest.fail("filmed again"))
    again = performed(target, driver, np.arange(3), [front], progress=False)
    for name in ("images", "pose", "scale", "landmarks", "detected"):
        np.testing.assert_array_equal(getattr(again, name), getattr(shown, name))
    changed = replace(driver, truth=replace(driver.truth, angles=angles + 1))
    for other in [
        (replace(target, neutral=neutral + 1e-3), driver, np.arange(3), [front]),
        (target, changed, np.arange(3), [front]),
        (target, driver, np.arange(2), [front]),
        (target, driver, np.arange(3), [front.resized(64)]),
    ]:
        with pytest.raises(pytest.fail.Exception, match="filmed again"):
            performed(*other, progress=False)
    monkeypatch.setattr("raflib.sources._studio_recipe.made_by", lambda: "another studio")
    with pytest.raises(pytest.fail.Exception, match="filmed again"):
        performed(target, driver, np.arange(3), [front], progress=False)
    monkeypatch.setattr("raflib.sources._truth.KEPT_BYTES", 0)
    with pytest.raises(pytest.fail.Exception, match="filmed again"):
        performed(target, driver, np.arange(3), [front], progress=False)
    monkeypatch.undo()
    monkeypatch.setenv("RAF_CACHE", str(tmp_path))
    (kept,) = (tmp_path / "performed").iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(RafError, match=f"{kept.name}: damaged"):
        performed(target, driver, np.arange(3), [front], progress=False)


def test_unseen_drivers_are_the_paper_s_without_the_subject():
    assert unseen_drivers("422")[:5] == ["388", "443", "445", "475", "E01"] and len(unseen_drivers("422")) == 14
    assert len(unseen_drivers("900")) == 15


# --- calibration and correlation -------------------------------------------------------------------------------------


def test_calibration_brackets_every_metric(target):
    tags = ["psnr/face", "ssim/face", "lpips/stlpips-alex/face", "aed/arkit52/l1", "apd/mediapipe/deg"]
    frames = np.flatnonzero(target.free)[:5]
    table = calibrate(target, [1], frames, tags, tracker=Eyes(), progress=False).set_index("metric")
    assert table.identical[tags].tolist() == pytest.approx([np.inf, 1, 0, 0, 0])
    assert table.shuffled["psnr/face"] < 30 and table.shuffled["ssim/face"] < 1
    assert table.shuffled["lpips/stlpips-alex/face"] > 0 and table.shuffled["aed/arkit52/l1"] > 0.001
    still = neutral_frame(target)
    rest = neutral(target.expression[target.train], REST)
    assert np.linalg.norm(target.expression[still] - rest) < 1e-6 and target.train[still]  # one frame is its own mean
    expected = np.abs(target.expression[frames] - target.expression[still]).mean()
    assert table.neutral["aed/arkit52/l1"] == pytest.approx(expected, abs=1e-6)
    assert (table.pairs == len(frames)).all() and (table.undetected == 0).all()
    with pytest.raises(RafError, match="at least two"):
        calibrate(target, [1], frames[:1], tags, tracker=Eyes())
    unseen = replace(target, detected=target.detected & ~target.train)
    with pytest.raises(RafError, match=f"capture {target.subject}: no training frame with a face"):
        calibrate(unseen, [1], frames, tags, tracker=Eyes(), progress=False)


def test_correlations_tell_a_moving_face_from_a_still_one(target):
    table = correlations(
        quick(FakeRun(), target, metrics=["aed/arkit52/l1"]),
        by=["condition"],
        actions=["jawOpen", "eyeBlinkLeft", "mouthSmileLeft"],
    )
    table = table.set_index("condition")
    assert table.jawOpen["avatar"] > 0.99 and table.eyeBlinkLeft["avatar"] > 0.99
    assert np.isnan(table.jawOpen["control"]) and np.isnan(table.mouthSmileLeft["avatar"])
    assert table["median"]["avatar"] > 0.99 and table.frames["avatar"] == 9


# --- refusals --------------------------------------------------------------------------------------------------------


def test_most_frontal_cameras_come_first(target):
    assert most_frontal(target.cameras, 3) == [1, 2, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "both"}, "protocol 'both'"),
        ({"protocol": "cross", "split": "train"}, "split 'train'"),
        ({"protocol": "cross"}, "needs drivers"),
        ({"split": "FREE"}, "split 'FREE'; choose one of free, train"),
        ({"conditions": ["mean"]}, "conditions"),
        ({"conditions": []}, "conditions"),
        ({"conditions": "truth"}, "must be a list of"),
        ({"metrics": ["psnr"]}, r"'psnr' is not known; choose from psnr/whole"),
        ({"frames": 0}, "frames is 0, expected a whole number of at least 1"),
        ({"frames": np.array([0.5])}, "frames must be whole numbers"),
        ({"batch": 0}, "batch is 0, expected a whole number of at least 1"),
        ({"size": 0}, "size is 0, expected a whole number of at least 1"),
        ({"cameras": []}, "cameras is empty"),
        ({"cameras": [-1]}, "camera is -1, expected a whole number of at least 0"),
        ({"cameras": [1, 4]}, "camera 4 of capture 422, which has 0 to 3"),
        ({"truth": "always"}, "truth is 'always'"),
        ({"drive": "fast"}, "drive is 'fast'"),
        ({"head_pose": "mine"}, "head pose 'mine'; choose one of truth, driver"),
        ({"capture": None}, "pass the capture of subject 422"),
        ({"capture": capture("443", 0)}, "subject 422 but the capture of 443"),
        ({"capture": capture("422", 0, space="arkit52/per_deviation")}, "52 features in the space arkit52, but"),
        ({"protocol": "cross", "drivers": [capture("422", 1)]}, "its own driver"),
        ({"protocol": "cross", "drivers": [capture("E01", 1, space="bfm64")]}, "E01 has bfm64 features.*arkit52"),
    ],
)
def test_refusals_name_what_is_wrong(target, options, message):
    with pytest.raises(RafError, match=message) as error:
        quick(FakeRun(), target, **options)
    assert "\n" not in str(error.value)


def test_cameras_of_several_sizes_have_the_same_scores_in_any_batch():
    class Flat(FakeRun):
        def render(self, expression, pose, scale, cameras):
            assert len({(camera.width, camera.height) for camera in cameras}) == 1
            pairs = zip(expression, cameras, strict=True)
            return np.stack([np.full((camera.height, camera.width, 3), row[0]) for row, camera in pairs])

    ball = ball_capture("422", frames=9)
    cameras = [camera.resized(size) for camera, size in zip(ball.cameras, (48, 48, 32, 48), strict=True)]
    mixed = replace(ball, cameras=cameras, frames=BallFrames(cameras, ball.frames.centres, ball.frames.redness))
    scores = [
        evaluate(Flat(), "self", mixed, metrics=["psnr/whole"], options=EvaluateOptions(cameras=range(4), batch=batch))
        for batch in (1, 5, 100)
    ]
    assert len(scores[0]) == 2 * 3 * 4 and np.isfinite(scores[0]["psnr/whole"]).all()
    assert scores[0].equals(scores[1]) and scores[0].equals(scores[2])


def test_an_avatar_of_ones_own_that_is_not_finished_is_refused(target):
    run = FakeRun()
    run.finished, run.config.steps = False, 100
    with pytest.raises(RafError, match="run 422/raf holds an avatar after some of 100 steps"):
        quick(run, target)


def bank_of(**people):
    """Return what a run records of a bank with these people's vectors."""
    rows = np.concatenate(list(people.values()))
    subjects = np.repeat(list(people), [len(vectors) for vectors in people.values()])
    return Fingerprints.of(ExpressionBank(rows, subjects, ["FREE"] * len(rows), np.arange(len(rows)), "arkit52"))


def test_a_bank_with_the_drivers_or_the_subjects_own_frames_is_refused(target):
    driver, stranger = capture("E01", 1), np.random.default_rng(0).random((5, 52), np.float32)
    options = {"protocol": "cross", "drivers": [driver], "frames": 1}
    by_name = FakeRun(bank=bank_of(B001=stranger, E01=stranger[:2] + 1))
    with pytest.raises(RafError, match=r"bank of run 422/raf holds frames of E01 by name \(2 rows"):
        quick(by_name, target, **options)
    assert len(quick(by_name, target, allow_leak=True, **options)) == 2
    renamed = FakeRun(bank=bank_of(B001=stranger, B002=driver.expression[driver.free][:1].astype(np.float16)))
    with pytest.raises(RafError, match=r"E01 under the name B002 \(1 equal vectors.*exclude=\['B002'\]"):
        quick(renamed, target, **options)
    assert len(quick(renamed, target, allow_leak=True, **options)) == 2
    own = FakeRun(bank=bank_of(B003=target.expression[target.free][:2]))
    for protocol in ({"frames": 1}, options):
        with pytest.raises(RafError, match="422 under the name B003"):
            quick(own, target, **protocol)
    assert len(quick(FakeRun(bank=bank_of(B001=stranger)), target, **options)) == 2
