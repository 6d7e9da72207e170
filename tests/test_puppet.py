"""The puppet: its image is the renderer's, sliders move one thing each, slow renders skip views, the widget follows."""

import io
import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation
from synthetic import ball_capture

from raflib.bank import ExpressionBank
from raflib.capture import most_frontal
from raflib.config import train_config
from raflib.coverage import clip_distance
from raflib.errors import RafError
from raflib.geometry import transform_points
from raflib.sampler import Vanilla
from raflib.tracking import ARKIT52
from raflib.training import fit
from raflib.viewer import Coverage, Drive, Puppet, Scene
from raflib.viewer.controls import Components, kinds_of_controls
from raflib.viewer.drive import drives
from raflib.viewer.neighbours import COUNT, Neighbours
from raflib.viewer.newest import Newest, Pace
from raflib.viewer.scene import NECK, turning_point

CONFIG = train_config("tiny", size=48, steps=0, landmark_steps=0)
CONFIG = replace(CONFIG, avatar=replace(CONFIG.avatar, points=300, mouth_points=20))
SIZE = 64


@pytest.fixture(scope="module")
def capture():
    return ball_capture()


@pytest.fixture(scope="module")
def run(capture, tmp_path_factory):
    """An untrained avatar whose colours follow the first entry of the expression."""
    made = fit(capture, Vanilla(), CONFIG, tmp_path_factory.mktemp("runs") / "ball", progress=False)
    with torch.no_grad():
        for values in made.avatar.exp_linear.parameters():
            values.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    return made


@pytest.fixture(scope="module")
def scene(run, capture):
    return Scene(run, capture, SIZE)


# --- what is shown


def test_the_image_is_the_renderers(scene, run, capture):
    """A scene at the size of the capture's camera shows what an evaluation would score."""
    start = scene.start
    image = scene.image(start)
    camera = capture.cameras[most_frontal(capture.cameras, 1)[0]].resized(SIZE)
    given = [np.float32(value)[None] for value in (start.expression, start.pose, scene.scale)]
    expected = run.render(*given, [camera])[0]
    assert np.array_equal(image, np.round(expected * 255).astype(np.uint8))
    assert image.shape == (*scene.shape, 3) and image.std() > 5


def test_two_avatars_get_the_same_view(run, capture, scene):
    other = replace(run, method="raf", avatar=run.avatar)
    both = Scene([run, other], capture, SIZE)
    view = replace(scene.start, yaw=20.0, azimuth=15.0, zoom=1.3)
    one = scene.image(view)
    assert np.array_equal(both.image(view), np.concatenate([one, one], 1))
    assert both.labels == ["vanilla", "raf"] and both.shape == (SIZE, 2 * SIZE)
    assert Scene([run, run], capture, SIZE).labels == ["ball", "ball"]


def test_the_camera_turns_around_the_head(scene):
    front = scene.camera.centre
    right, above = (scene.seen_from(replace(scene.start, **to)) for to in ({"azimuth": 30.0}, {"elevation": 30.0}))
    middle = scene._centre
    for camera in (right, above):
        assert np.linalg.norm(camera.centre - middle) == pytest.approx(np.linalg.norm(front - middle))
        assert np.allclose(camera.project(middle), scene.camera.project(middle))
    assert right.centre[0] > front[0] + 0.1 and above.centre[1] < front[1] - 0.1
    near = scene.seen_from(replace(scene.start, zoom=2.0))
    assert near.intrinsic[0, 0] == 2 * scene.camera.intrinsic[0, 0] and near.intrinsic[0, 2] == SIZE / 2
    with pytest.raises(RafError, match="elevation"):
        scene.seen_from(replace(scene.start, elevation=90.0))


@pytest.mark.parametrize(("turn", "point", "axis", "sign"), [
    ("yaw", (0, 0, -1), 0, 1), ("pitch", (0, 0, -1), 1, -1), ("roll", (0, -1, 0), 0, 1),
])  # fmt: skip
def test_the_head_turns_about_the_neck(scene, turn, point, axis, sign):
    """Yaw turns the nose right, pitch raises it, roll tips the crown to the right; the neck stays."""
    posed = [scene.pose(replace(scene.start, **{turn: angle})) for angle in (0.0, 25.0)]
    places = []
    for pose in posed:
        given = [torch.from_numpy(np.array(value, float)) for value in ([point, scene.pivot], pose, scene.scale)]
        places.append(transform_points(*given).numpy())
    before, after = places
    assert np.allclose(before[1], after[1])
    moved = (after[0] - after[1]) - (before[0] - before[1])
    assert sign * moved[axis] > 0.02
    change = Rotation.from_rotvec(posed[1][:3]) * Rotation.from_rotvec(posed[0][:3]).inv()
    assert np.degrees(change.magnitude()) == pytest.approx(25)


def test_the_turning_point_is_found_in_a_capture():
    random = np.random.default_rng(0)
    point, turns = np.array([0.2, 0.7, 0.9]), random.normal(0, 0.3, (200, 3))
    place = np.array([0.01, -0.02, 0.03]) - Rotation.from_rotvec(turns).apply(0.1 * point)
    pose = np.concatenate([turns, place], 1).astype(np.float32)
    assert np.allclose(turning_point(pose, np.full(200, 0.1, np.float32)), point, atol=0.03)
    assert np.allclose(turning_point(np.repeat(pose[:1], 9, 0), np.full(9, 0.1, np.float32)), NECK)


def test_wrong_runs_are_refused(run, capture):
    with pytest.raises(RafError, match="no run"):
        Scene([], capture)
    with pytest.raises(RafError, match="an avatar of 900, but the capture is of 422"):
        Scene(run, replace(capture, subject="422"))
    with pytest.raises(RafError, match="52 features, but the capture has 40"):
        Scene(run, ball_capture(expression_dim=40))
    with pytest.raises(RafError, match="NaN"):
        scene = Scene(run, capture, SIZE)
        scene.image(replace(scene.start, expression=np.full(52, np.nan)))


# --- sliders, drivers, meter


def test_every_action_has_one_slider(capture):
    kinds = kinds_of_controls(capture)
    for name, count in (("facial actions", 33), ("facial actions, each side", 51)):
        controls = kinds[name]
        assert sorted(i for some in controls.entries for i in some) == list(range(1, 52))
        assert len(controls.names) == len(set(controls.names)) == count and controls.names[0] == "jawOpen"
    pairs = kinds["facial actions"]
    moved = {
        name: [ARKIT52[i] for i in np.flatnonzero(pairs.write(np.zeros(52), i, 0.7))]
        for i, name in enumerate(pairs.names)
    }
    assert moved["eyeBlink"] == ["eyeBlinkLeft", "eyeBlinkRight"] and moved["mouthLeft"] == ["mouthLeft"]
    assert moved["eyeLook →"] == ["eyeLookInRight", "eyeLookOutLeft"]
    expression = np.random.default_rng(0).uniform(size=52)
    changed = pairs.write(expression, 3, 0.25)
    assert pairs.read(changed)[3] == 0.25 and np.array_equal(
        np.delete(pairs.read(changed), 3), np.delete(pairs.read(expression), 3)
    )


def test_components_are_in_standard_deviations_and_keep_the_rest():
    random = np.random.default_rng(0)
    train = random.normal(size=(300, 6)) @ np.diag([5, 3, 1, 0.5, 0.1, 0])
    controls = Components(train, 3)
    values = np.stack([controls.read(row) for row in train])
    assert np.allclose(values.std(0, ddof=1), 1) and len(controls.names) == 3
    before = train[7] + random.normal(size=6)
    after = controls.write(before, 1, 2.5)
    assert controls.read(after) == pytest.approx([controls.read(before)[0], 2.5, controls.read(before)[2]])
    assert np.abs(after - before)[1] == pytest.approx(np.linalg.norm(after - before), rel=0.01)
    assert len(Components(train).names) == 5, "a direction without variance gets no slider"


def test_other_spaces_have_numbered_sliders():
    capture = replace(ball_capture(expression_dim=40), feature_space="open42")
    controls = kinds_of_controls(capture)["coefficients"]
    assert controls.names[-1] == "coefficient 40"
    assert (controls.low < capture.expression.mean(0)).all() and (controls.high > capture.expression.mean(0)).all()


def test_a_drive_passes_through_its_frames():
    pose = np.zeros((3, 6))
    pose[:, 1], pose[:, 3] = [0, 0.4, 0.2], [0, 0.01, 0.03]
    drive = Drive("mine", np.array([[0.0, 1], [1, 1], [3, 0]]), pose, np.array([5.0, 5.2, 5.4]))
    assert drive.ticks == 11
    for tick, row in ((0, 0), (5, 1), (10, 2), (99, 2)):
        expression, turned = drive.at(tick)
        assert np.allclose(expression, drive.expression[row]) and np.allclose(turned, pose[row])
    expression, turned = drive.at(7)
    assert np.allclose(expression, [1.8, 0.6]) and turned == pytest.approx([0, 0.32, 0, 0.018, 0, 0])
    assert Drive("one", np.ones((1, 2))).at(0)[1] is None and Drive("one", np.ones((1, 2))).ticks == 1
    with pytest.raises(RafError, match="ascend"):
        replace(drive, time=np.array([0.0, 0.2, 0.1]))
    with pytest.raises(RafError, match="expected 3 finite rows"):
        replace(drive, pose=pose[:2])


def test_captures_and_arrays_can_drive(capture):
    driver = ball_capture("E01", seed=5)
    own = Drive("mine", np.zeros((4, 52)))
    found = {drive.name: drive for drive in drives(capture, [driver, own])}
    assert list(found) == ["EXP-1-head", "FREE", "E01: EXP-1-head", "E01: FREE", "mine"]
    assert np.array_equal(found["EXP-1-head"].pose, capture.pose[:12])
    assert np.array_equal(found["E01: FREE"].expression, driver.expression[12:]), "features are passed on unchanged"
    for wrong in (replace(driver, feature_space="open42"), Drive("short", np.zeros((4, 51)))):
        with pytest.raises(RafError, match="one tracker"):
            drives(capture, [wrong])


def test_the_meter_has_the_persons_own_yardstick(capture):
    named = replace(capture, sequence=np.array(["A"] * 6 + ["B"] * 6 + ["FREE"] * 4))
    train = named.expression[:12]
    for given, sequence in ((named, named.sequence[:12]), (capture, None)):
        meter = Coverage(given)
        assert meter.edge == pytest.approx(clip_distance(train, train, sequence).yardstick)
        assert 0 < meter.typical < meter.edge
    assert meter.read(train[3]).distance == pytest.approx(0, abs=1e-6)
    away = np.zeros(52)
    words = [meter.read(train[0] + np.where(np.arange(52) == 51, -step, away)).word for step in (0, 100)]
    assert words == ["inside", "outside"]
    step = (meter.typical + meter.edge) / 2
    alone = Coverage(named)
    alone._train, alone.typical, alone.edge = np.zeros((1, 52)), meter.typical, meter.edge
    assert alone.read(np.where(np.arange(52) == 0, step, away)).word == "edge"


# --- threads


def test_a_slow_worker_takes_the_newest():
    begun, go, done = threading.Event(), threading.Event(), []

    def work(item):
        begun.set()
        go.wait(10)
        done.append(item)

    worker = Newest(work, lambda error: None, "test")
    worker.post(0)
    assert begun.wait(10)
    for item in range(1, 21):
        worker.post(item)
    go.set()
    assert worker.wait(10) and done == [0, 20] and worker.skipped == 19 and worker.done == 2
    worker.close()
    worker.post(21)
    worker._thread.join(10)
    assert done == [0, 20] and not worker._thread.is_alive()


def test_a_failure_is_told_and_the_worker_goes_on():
    told = []
    worker = Newest(lambda item: 1 / item, told.append, "test")
    worker.post(0)
    assert worker.wait(10)
    worker.post(1)
    assert worker.wait(10) and worker.done == 2 and [type(error) for error in told] == [ZeroDivisionError]
    worker.close()


def test_a_sender_waits_for_answers_only_where_somebody_answers():
    pace = Pace(most=2, patience=0.2)
    assert max(pace.wait(number) for number in range(1, 9)) < 0.1
    pace.answer(8)
    assert pace.wait(10) < 0.1 and pace.wait(11) >= 0.2, "the receiver has gone"
    assert pace.wait(12) < 0.1
    pace.answer(12)
    threading.Timer(0.05, pace.answer, [13]).start()
    assert pace.wait(15) < 0.19


# --- the widget


def test_all_of_the_page_ships():
    from raflib.viewer.canvas import Canvas

    assert "export default" in str(Canvas._esm) and ".raf-frame" in str(Canvas._css)
    assert "http" not in str(Canvas._esm) and "url(" not in str(Canvas._css), "nothing is loaded from a network"


class Browser:
    """Collects what a puppet sends to the browser, and answers like it."""

    def __init__(self, puppet):
        self.puppet, self.sent = puppet, []
        puppet.canvas.send = self._receive

    def _receive(self, content, buffers=()):
        self.sent.append((json.loads(json.dumps(content)), *buffers))

    def say(self, **message):
        self.puppet.canvas._handle_custom_msg(message, [])

    @property
    def frames(self):
        """The images of all frames so far, after the last one that was asked for."""
        assert self.puppet.renders.wait(20)
        return [np.asarray(Image.open(io.BytesIO(data))) for content, data in self.messages("frame")]

    def messages(self, kind):
        return [message for message in self.sent if message[0]["kind"] == kind]


@pytest.fixture(scope="module")
def shared(run, capture):
    made = Puppet(run, capture, drivers=[Drive("mine", np.eye(52)[:10])], size=SIZE)
    yield made
    made.close()


@pytest.fixture
def puppet(shared):
    yield shared
    shared._kind.value = "facial actions"
    shared.reset()
    assert shared.renders.wait(20)


def test_the_first_frame_needs_no_browser(puppet):
    shown = np.asarray(Image.open(io.BytesIO(puppet.canvas.frame)))
    assert np.abs(shown.astype(int) - puppet.image()).mean() < 3
    assert puppet.canvas.meter["word"] in ("inside", "edge", "outside") and puppet.canvas.labels == ["vanilla"]


def test_a_slider_changes_the_image(puppet):
    browser, before = Browser(puppet), puppet.image()
    slider = puppet._boxes["facial actions"][0]
    slider.value = 1.0
    (frame,) = browser.frames
    assert puppet.expression[ARKIT52.index("jawOpen")] == 1.0
    assert np.abs(frame.astype(int) - before).mean() > 2
    assert np.abs(frame.astype(int) - puppet.image()).mean() < 3
    assert browser.messages("frame")[0][0]["meter"]["distance"] == pytest.approx(
        puppet.coverage.read(puppet.expression).distance
    )
    puppet._turns["yaw"].value = 40
    assert len(browser.frames) == 2 and puppet.view.yaw == 40
    puppet._reset.click()
    assert slider.value < 0.9 and puppet._turns["yaw"].value == 0 and np.array_equal(puppet.image(), before)
    assert browser.messages("camera")[0][0]["zoom"] == 1


def test_the_mouse_turns_the_camera(puppet):
    browser = Browser(puppet)
    browser.say(kind="orbit", azimuth=25, elevation=-10, zoom=1.5)
    browser.say(kind="shown", number=1)
    assert len(browser.frames) == 1 and puppet.view.azimuth == 25
    assert np.array_equal(puppet.image(), puppet.scene.image(puppet.view))
    browser.say(kind="ready")
    assert len(browser.frames) == 2, "a new view of the widget gets the current frame"


def test_sliders_follow_the_expression_when_frames_stop(puppet):
    browser = Browser(puppet)
    puppet._menu.value = "mine"
    assert puppet._player.layout.display is None and puppet._position.max == 9
    puppet._position.value = 7
    assert np.array_equal(puppet.expression, np.eye(52)[7]) and len(browser.frames) >= 1
    slider = puppet._boxes["facial actions, each side" if puppet._kind.value != "facial actions" else "facial actions"]
    index = puppet._kinds["facial actions"].names.index("cheekSquint")
    assert slider[index].value != 0.5
    browser.say(kind="rest")
    assert slider[index].value == 0.5, "one of both sides is at 1"
    assert np.array_equal(puppet.expression, np.eye(52)[7]), "following changes nothing"
    puppet._menu.value = "EXP-1-head"
    puppet._position.value = 2
    assert np.allclose(puppet.view.pose, puppet._drives["EXP-1-head"].at(2)[1])
    puppet._kind.value = "principal components"
    puppet._boxes["principal components"][0].value = 1.5
    assert puppet._kinds["principal components"].read(puppet.expression)[0] == pytest.approx(1.5)


def test_views_are_skipped_and_the_last_one_is_shown(puppet, monkeypatch):
    browser, image = Browser(puppet), puppet.scene.image

    def slow(view):
        time.sleep(0.05)
        return image(view)

    monkeypatch.setattr(puppet.scene, "image", slow)
    slider, skipped = puppet._boxes["facial actions"][0], puppet.renders.skipped
    for value in np.linspace(0.02, 0.98, 40):
        slider.value = float(value)
    frames = browser.frames
    assert len(frames) < 20 and puppet.renders.skipped > skipped + 20
    assert np.abs(frames[-1].astype(int) - image(puppet.view)).mean() < 3


def test_a_failed_frame_is_told_on_the_page(puppet, monkeypatch):
    browser = Browser(puppet)
    monkeypatch.setattr(puppet.scene, "image", lambda view: 1 / 0)
    puppet.view = puppet.view
    assert browser.frames == [] and "division by zero" in puppet._problem.value
    monkeypatch.undo()
    puppet.view = puppet.view
    assert len(browser.frames) == 1 and puppet._problem.value == ""
    with pytest.raises(RafError, match="expected 52 finite numbers"):
        puppet.expression = np.zeros(51)


# --- nearest faces


@pytest.fixture(scope="module")
def bank(capture):
    return ExpressionBank.build([capture, *(ball_capture(f"E{i}", seed=i) for i in range(5))], per_subject=6, seed=0)


def test_nearest_faces_are_of_other_people_and_made_once(bank, capture):
    asked = []

    def faces(_, rows):
        asked.extend(rows)
        return np.full((len(rows), 8, 8, 3), 99, np.uint8)

    near = Neighbours(bank, capture.subject, faces)
    html = near.html(capture.expression[0])
    people = set(bank.subjects[asked])
    assert len(asked) == len(people) == COUNT == html.count("<img") and capture.subject not in people
    assert near.html(capture.expression[0]) == html and len(asked) == COUNT
    with pytest.raises(RafError, match="nobody beside"):
        Neighbours(bank.restrict(subjects=[capture.subject]), capture.subject)


def test_faces_come_when_a_browser_is_there_and_frames_stop(run, capture, bank):
    puppet = Puppet(run, capture, bank=bank, faces=lambda _, rows: np.zeros((len(rows), 8, 8, 3), np.uint8), size=SIZE)
    browser = Browser(puppet)
    assert puppet._faces.value == ""
    browser.say(kind="ready")
    assert puppet._searches.wait(20) and puppet._faces.value.count("<img") == COUNT
    puppet.close()
    with pytest.raises(RafError, match="arkit52 features, but capture 900 has open42"):
        Puppet(run, replace(capture, feature_space="open42"), bank=bank)
