"""`raflib.check`: good folders have no problem, and each kind of damage is found and named, without false alarms."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from layout_mutations import arrays
from nersemble_layout import write_mono
from PIL import Image

from raflib import RafError, export_gha, studio
from raflib.capture import Capture
from raflib.check import CHECKS, Problem, __main__, inspect, register
from raflib.check.places import people_in
from raflib.check.sample import Sample
from raflib.runs import runs_root
from raflib.sources.nersemble import mono
from raflib.tracking import FaceTracker
from raflib.tracking import landmarks as points
from raflib.tracking.face import ImageFailed

SIZE, SERIALS, IMAGES = 96, ("222200037", "222200039", "222200046"), 8
LEFT, EVERY = SERIALS[1], range(3)
PARTS = {"EXP-1-head": range(8, 48, 2), "HAIR": range(0, 44, 2), "FREE": range(30, 46, 2)}
CODES = np.random.default_rng(64).normal(0, 0.3, (52, 64))


class Rendered:
    """Images of a studio performance, rendered when they are first used."""

    def __init__(self, identity, moments, cameras):
        self.identity, self.moments, self.cameras, self.rows = identity, moments, cameras, {}

    def _view(self, t, c):
        if (t, c) not in self.rows:
            self.rows[t, c] = studio.render(self.identity, *self.moments[t], self.cameras[c])
        return self.rows[t, c]

    def image(self, t, c):
        return self._view(t, c)[0]

    def mask(self, t, c):
        return self._view(t, c)[1]


class Remembering:
    """A face tracker that answers at once for an image that it has seen."""

    def __init__(self):
        self.tracker, self.known = FaceTracker(), {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, image):
        key = image.tobytes()
        if key not in self.known:
            self.known[key] = self.tracker(image)
        return self.known[key]


@pytest.fixture(scope="module")
def look():
    remembering = Remembering()
    yield remembering
    remembering.tracker.close()


@pytest.fixture(scope="module")
def filmed() -> Capture:
    """Three sequences of a studio head, every second frame, with exact tracks and 64 coefficients."""
    identity, cameras = studio.Identity("422"), [camera for camera in studio.rig(SIZE) if camera.name in SERIALS]
    acted = {name: studio.act("422", name) for name in PARTS}
    actions = np.concatenate([acted[name].actions[list(rows)] for name, rows in PARTS.items()])
    angles = np.concatenate([acted[name].angles[list(rows)] for name, rows in PARTS.items()])
    moments = list(zip(actions, angles, strict=True))
    count = len(moments)
    return Capture(
        "422", "bfm64", cameras, (actions @ CODES).astype(np.float32),
        np.stack([studio.head_pose(identity, each) for each in angles]), np.full(count, 0.1, np.float32),
        np.stack([studio.landmarks(identity, *each) for each in moments]),
        studio.landmarks(identity, np.zeros(52), np.zeros(3)) / np.float32(0.1), points.GROUPS,
        np.repeat(list(PARTS), [len(rows) for rows in PARTS.values()]), np.concatenate([[*r] for r in PARTS.values()]),
        np.ones(count, bool), Rendered(identity, moments, cameras),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(filmed, tmp_path_factory) -> Path:
    """Twelve training frames and two FREE ones, in the layout of Gaussian Head Avatar."""
    rows = [*range(20, 32), *range(42, 44)]
    return export_gha(filmed, tmp_path_factory.mktemp("exported") / "422", rows)


# --- damages ---


class Changed:
    """Images of another capture: `image` and `mask` change them, and (t, c) becomes `place`(t, c)."""

    def __init__(self, frames, image=None, mask=None, place=None):
        self.frames, self.changes, self.place = frames, (image, mask), place

    def _get(self, kind, t, c):
        t, c = self.place(t, c) if self.place else (t, c)
        values, change = getattr(self.frames, kind)(t, c), self.changes[kind == "mask"]
        return change(values) if change else values

    def image(self, t, c):
        return self._get("image", t, c)

    def mask(self, t, c):
        return self._get("mask", t, c)


def pixels(**changes):
    """Change images or masks."""
    return lambda capture: replace(capture, frames=Changed(capture.frames, **changes))


def moments(row, cameras=EVERY):
    """The images of the `cameras` in row t show row `row(t)`."""
    return pixels(place=lambda t, c: (row(t) if c in cameras else t, c))


def cameras(change, which=EVERY):
    """Change the [4,4] extrinsics of some cameras."""
    return lambda capture: replace(
        capture,
        cameras=[
            replace(camera, extrinsic=change(camera.extrinsic)) if c in which else camera
            for c, camera in enumerate(capture.cameras)
        ],
    )


def turned_back(extrinsic):
    extrinsic = extrinsic.copy()
    extrinsic[:3, :3] = extrinsic[:3, :3].T
    return extrinsic


def at_centre(extrinsic):
    extrinsic = extrinsic.copy()
    extrinsic[:3, 3] = -extrinsic[:3, :3].T @ extrinsic[:3, 3]
    return extrinsic


def lens(change):
    return lambda capture: replace(
        capture, cameras=[replace(camera, intrinsic=change(camera.intrinsic)) for camera in capture.cameras]
    )


def signal(name, change):
    """Change a signal after the capture was made, as a source never would."""

    def made(capture):
        again = replace(capture)
        object.__setattr__(again, name, change(getattr(capture, name).copy()))
        return again

    return made


def value(place, to):
    def change(values):
        values[place] = to
        return values

    return change


def frozen(values):
    """Two rows of three repeat the one before."""
    return values[ALL - ALL % 3]


def lengths(factor, cameras_too):
    def made(capture):
        unit = np.repeat([1, factor], 3).astype(np.float32)
        capture = replace(
            capture, pose=capture.pose * unit, landmarks=capture.landmarks * np.float32(factor),
            scale=capture.scale * np.float32(factor),
        )  # fmt: skip
        return (
            cameras(lambda e: e * [1, 1, 1, factor] ** np.array([[1], [1], [1], [0]]))(capture)
            if cameras_too
            else capture
        )

    return made


def sequences(**names):
    """Give sequences other names."""
    return lambda capture: replace(
        capture, sequence=np.array([names.get(name.split("-")[0], name) for name in capture.sequence])
    )


def rows_in(order):
    """All signals and images of the rows in another order; names and numbers stay."""

    def made(capture):
        signals = {name: getattr(capture, name)[order] for name in ("expression", "pose", "scale", "landmarks")}
        return replace(moments(lambda t: int(order[t]))(capture), **signals)

    return made


def unreadable(frames, broken):
    class Broken(Changed):
        def image(self, t, c):
            if t == broken:
                raise RafError("a.png: no such file; restore it")
            return super().image(t, c)

    return Broken(frames)


class OneTurned(Changed):
    """Images and masks of the camera `LEFT` are turned by a quarter."""

    def _get(self, kind, t, c):
        values = super()._get(kind, t, c)
        return np.rot90(values) if c == 1 else values


RNG = np.random.default_rng(3)
FLIP, MIRROR = np.diag([1.0, -1, -1, 1]), np.diag([-1.0, 1, 1, 1])
HAIR, ALL = np.arange(20, 42), np.arange(50)
SHUFFLED, MIXED = ALL.copy(), ALL.copy()
SHUFFLED[HAIR], MIXED[:20] = RNG.permutation(HAIR), RNG.permutation(20)
DAMAGES = {
    "camera→world": (cameras(np.linalg.inv), "convention", "look like camera→world; invert"),
    "camera→world, one camera": (cameras(np.linalg.inv, [1]), "convention", f"lie behind camera {LEFT}; the ext"),
    "camera→world of OpenGL": (cameras(lambda e: np.linalg.inv(FLIP @ e)), "convention", "camera→world of OpenGL"),
    "OpenGL cameras": (cameras(lambda e: FLIP @ e), "convention", "the cameras look like OpenGL's"),
    "world with y up": (cameras(lambda e: e @ FLIP), "convention", "y and z the other way round"),
    "rotations transposed": (cameras(turned_back), "convention", "the rotations look transposed"),
    "the same with y up": (cameras(lambda e: turned_back(e @ FLIP) @ FLIP), "convention", "look transposed"),
    "places as translations": (cameras(at_centre), "convention", "look like the cameras' places"),
    "one camera turned": (cameras(turned_back, [1]), "convention", f"projected by camera {LEFT}, lie"),
    "intrinsics of larger images": (lens(lambda k: k * [[1.8], [1.8], [1]]), "convention", "images of another size"),
    "intrinsics of a crop": (lens(lambda k: k + 200 * np.eye(3, k=2)), "intrinsics", "principal point"),
    "no focal length": (lens(lambda k: k * [[0], [1], [1]]), "intrinsics", "no positive focal lengths"),
    "mirrored": (cameras(lambda e: MIRROR @ e), "rotations", "a mirroring"),
    "no rotation": (cameras(lambda e: e * [1.1, 1.1, 1.1, 1]), "rotations", "no rotation"),
    "one camera 3 rows late": (
        moments(lambda t: min(t + 3, 49), [1]), "out_of_step", f"camera {LEFT} run 6 frames ahead of",
    ),
    "all cameras 2 rows early": (moments(lambda t: max(t - 2, 0)), "out_of_step", "all 3 cameras run 4 frames behind"),
    "images of a sequence shuffled": (moments(lambda t: int(SHUFFLED[t])), "pairing", "images of HAIR do not follow"),
    "a sequence shuffled": (rows_in(MIXED), "order", "in EXP-1-head the head jumps"),
    "frozen images": (moments(lambda t: t - t % 4), "duplicates", "bit for bit those of the frame before"),
    "frozen tracks": (
        lambda c: signal("pose", frozen)(signal("expression", frozen)(c)), "duplicates", "tracks of 32 frames",
    ),
    "masks inverted": (pixels(mask=lambda m: 255 - m), "masks", "inverted"),
    "masks empty": (pixels(mask=np.zeros_like), "masks", "are empty"),
    "masks full": (pixels(mask=lambda m: np.full_like(m, 255)), "masks", "255 everywhere"),
    "BGR": (pixels(image=lambda i: i[..., ::-1]), "colours", "look like BGR"),
    "dark": (pixels(image=lambda i: i // 9), "colours", "very dark"),
    "overexposed": (pixels(image=lambda i: np.where(i > 90, 255, i).astype(np.uint8)), "colours", "pixels are white"),
    "upside down": (pixels(image=lambda i: i[::-1, ::-1]), "faces", "look upside down"),
    "one camera on its side": (
        lambda c: replace(c, frames=OneTurned(c.frames)), "faces", f"of camera {LEFT} look turned by a quarter",
    ),
    "an image is missing": (lambda c: replace(c, frames=unreadable(c.frames, 0)), "readable", "a.png: no such file"),
    "NaN in features": (signal("expression", value(5, np.nan)), "finite", "holds NaN or infinity in 1 frame with"),
    "NaN in landmarks": (signal("landmarks", value(np.s_[5:7], np.nan)), "finite", "landmarks holds NaN"),
    "constant features": (signal("expression", value(..., 1)), "constant", "the same in all frames"),
    "constant columns": (signal("expression", value(np.s_[:, :2], 0)), "constant", "2 of 64 features never change"),
    "an outlier": (signal("expression", value(24, 99)), "outliers", "worst: HAIR, frame 8"),
    "the head elsewhere": (signal("pose", value(np.s_[24, 3], 9)), "outliers", "head position of 1 frame"),
    "millimetres": (lengths(1000, True), "scale", "divide by 1000 those of landmarks, poses and cameras"),
    "millimetres, cameras in metres": (lengths(1000, False), "scale", "the cameras are in metres"),
    "half the size": (lengths(0.3, True), "scale", "give all lengths in metres"),
    "few faces": (signal("detected", value(np.s_[2:20], False)), "few_faces", "only 64%"),
    "no FREE": (sequences(FREE="EMO-1-shout+laugh"), "protocol", "sequence FREE"),
    "no training frames": (sequences(EXP="FREE", HAIR="FREE"), "protocol", "this person can only drive"),
    "few training frames": (signal("sequence", value(np.s_[4:], "FREE")), "protocol", "only 4 frames may be trained"),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(filmed, look) -> dict[str, list[Problem]]:
    before = inspect(filmed, None, IMAGES, look)
    assert before.problems == () and before.errors == 0
    return {label: [*inspect(change(filmed), None, IMAGES, look).problems] for label, (change, *_) in DAMAGES.items()}


def test_every_damage_is_found_and_nothing_else(outcomes):
    width = max(map(len, DAMAGES))
    print(f"\n{len(DAMAGES)} damages")
    for label, problems in outcomes.items():
        for problem in problems or [None]:
            said = "NOT FOUND" if problem is None else f"{problem.severity:<7} {problem.kind:<11} {problem.text}"
            print(f"  {label:<{width}}  {said[:200]}")
    for label, (_, kind, words) in DAMAGES.items():
        assert {problem.kind for problem in outcomes[label]} == {kind}, (label, outcomes[label])
        assert any(words in problem.text for problem in outcomes[label]), (label, outcomes[label])
    assert set(CHECKS) <= {kind for _, kind, _ in DAMAGES.values()}, "each check has a damage"


def test_a_tracker_that_finds_nothing(filmed):
    """Without a face in any image nothing is said about what images would show."""
    (problem,) = inspect(cameras(np.linalg.inv)(filmed), None, 8, look=lambda image: None).problems
    assert problem.kind == "faces" and "finds a face in 0 of 8 images" in problem.text


def test_a_tracker_that_does_not_run_is_told_and_no_image_is_blamed(filmed, look):
    def broken(image):
        raise RafError("FaceTracker: MediaPipe's process ended (no libGLESv2); check its installation")

    problems = inspect(filmed, None, 8, look=broken).problems
    assert len(problems) == 1, problems
    (problem,) = problems
    assert (problem.kind, problem.severity) == ("tracker", "error") and "no libGLESv2" in problem.text
    assert "checks that need faces were left out" in problem.text
    sample = Sample(filmed, 8, broken)
    assert not sample.faceless and not sample.faceless and sample.trusted == [0, 1, 2]
    calls = []

    def fails_at_times(image):
        calls.append(image)
        if len(calls) % 5 == 2:
            raise ImageFailed("FaceTracker: MediaPipe failed on an image") if len(calls) % 2 else RafError("it ended")
        return look(image)

    assert inspect(filmed, None, 24, look=fails_at_times).problems == () and len(calls) > 10


def test_images_that_do_not_fit_into_memory_are_read_again(filmed, look, monkeypatch):
    whole = Sample(filmed, 8, look)
    shown = {view: whole.image(*view) for view in whole.views}
    monkeypatch.setattr("raflib.check.sample.KEPT", 2 * filmed.image(0, 0).nbytes)
    small = Sample(filmed, 8, look)
    for view in [*shown, *shown]:
        np.testing.assert_array_equal(small.image(*view), shown[view])
    assert len(small._images) == 2 < len(shown) == len(whole._images)


VISIBLE = {
    "camera→world, one camera": 350, "one camera 3 rows late": 900, "images of a sequence shuffled": 350,
    "a sequence shuffled": 350, "frozen images": 350, "masks inverted": 600, "BGR": 600, "upside down": 600,
    "half the size": 600, "few faces": 350, "an outlier": 350,
}  # fmt: skip
"""Least height in pixels of the image of a problem."""


def test_what_can_be_seen_has_an_image(outcomes):
    for label, height in VISIBLE.items():
        (problem,) = outcomes[label]
        image = problem.figure()
        assert image.width > 300 and image.height > height, (label, image.size)
        assert len(image.resize((64, 64)).getcolors(64 * 64)) > 20, label
    without = {label for label, problems in outcomes.items() if any(p.figure is None for p in problems)}
    assert not without & set(VISIBLE)


# --- the command ---


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("benchmark")
    write_mono(root, "393", {"EXP-1-head": 10, "FREE": 2}, 80)
    return root


@pytest.fixture
def command(look, monkeypatch, capsys):
    """Run the command with the tracker that remembers; returns the exit status and what was printed."""
    monkeypatch.setattr(__main__, "FaceTracker", lambda: look)
    monkeypatch.setattr(mono, "FaceTracker", lambda: look)

    def run(*words):
        status = __main__.main([str(word) for word in words])
        return status, capsys.readouterr()

    return run


def test_good_folders_have_no_problem(folder, benchmark, command):
    status, told = command(folder, "--images", 8)
    assert status == 0 and "problems   none" in told.out
    for words in (
        "person 422", "gha, folder of Gaussian Head Avatar, exported", f"3 of {SIZE} × {SIZE} pixels: {SERIALS[0]}",
        "14: 12 for training, 2 held out, 100% with a face", "HAIR 12, FREE 2", "FREE exists",
        "bfm64, 64 wide, spread 1.",
        "the person covers", "MB in ", "8 images, a face found in",
    ):  # fmt: skip
        assert words in told.out, (words, told.out)
    status, told = command(benchmark, "--subject", "393")
    assert status == 0 and "problems   none" in told.out
    assert "nersemble, mono_flame_avatar" in told.out and "flame109, 109 wide" in told.out


def test_problems_are_printed_with_their_images(folder, tmp_path, command):
    """A folder with three people: one whose cameras the source refuses, one whose masks and a track are damaged, and
    one that cannot be read."""
    for name in ("422", "443", "445"):
        shutil.copytree(folder, tmp_path / "two" / name)
    (tmp_path / "two" / "445" / "capture.json").write_text("{")
    arrays("cameras/*/*", extrinsic=lambda e: np.linalg.inv(np.vstack([e, [0, 0, 0, 1]]))[:3])(tmp_path / "two" / "422")
    arrays("params/0005/params.npz", exp_coeff=lambda e: e * np.float32(np.nan))(tmp_path / "two" / "443")
    for path in (tmp_path / "two" / "443").glob("images/*/mask_*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    status, told = command(tmp_path / "two", "--images", 8, "--out", tmp_path / "out")
    text = " ".join(told.out.split())
    assert status == 1 and text.startswith("3 people: 422, 443, 445 person 422 ")
    first, second, third = re.split("person (?:443|445)", text)
    assert "problems 2 errors error:" in first and "extrinsic must be world→camera (OpenCV)" in first
    assert "the extrinsics look like camera→world; invert them" in first
    assert "problems 1 error, 1 warning error:" in second and "are inverted" in second and "1 with NaN" in second
    assert "problems 1 error error:" in third and "capture.json" in third and "cameras" not in third
    images = [tmp_path / "out" / "422" / "01_convention.png", tmp_path / "out" / "443" / "01_masks.png"]
    assert sorted(each for each in (tmp_path / "out").rglob("*") if each.is_file()) == images
    assert all(Image.open(path).width > 300 and f"see {path}" in told.out for path in images)


def test_images_go_to_the_folder_of_results(folder, tmp_path):
    (place,) = people_in(folder)
    assert __main__._out(place, None, 1) == __main__._out(place, None, 9) == runs_root() / "check_422"
    assert __main__._out(place, tmp_path, 1) == tmp_path and __main__._out(place, tmp_path, 2) == tmp_path / "422"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere: no such folder or file"),
        (["{empty}"], "holds no capture; expected <person>/images"),
        (["{folder}", "--source", "video"], "holds nothing of the source video"),
        (["{folder}", "--subject", "074"], "holds no person 074, but 422"),
        (["{folder}", "--images", "4"], "--images is 4, expected at least 8"),
        (["{folder}", "--source", "studio"], "invalid choice: 'studio'"),
        ([], "the following arguments are required: folder"),
    ],
)
def test_wrong_usage(words, said, folder, tmp_path, capsys):
    given = [word.format(folder=folder, empty=tmp_path) for word in words]
    try:
        status = __main__.main(given)
    except SystemExit as end:
        status = end.code
    assert status == 2 and said in capsys.readouterr().err


def test_people_are_found_in_every_layout(folder, benchmark, tmp_path):
    def found(path):
        return [(place.source, place.subject, place.layout.split(",")[0], place.path) for place in people_in(path)]

    avatar = "folder of Gaussian Head Avatar"
    person = benchmark / "mono_flame_avatar" / "393"
    assert found(folder) == found(folder.parent) == [("gha", "422", avatar, folder)]
    for path in (benchmark, benchmark / "mono_flame_avatar", person):
        assert found(path) == [("nersemble", "393", "mono_flame_avatar", person)]
    shared = {"world_2_cam": {}, "intrinsics": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}
    for name, text in (("074", json.dumps(shared)), ("075", "{")):
        (tmp_path / name / "calibration").mkdir(parents=True)
        (tmp_path / name / "calibration" / "camera_params.json").write_text(text)
    for name in ("me.MP4", "you.mov", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [each[:2] for each in found(tmp_path)] == [
        ("nersemble", "074"), ("nersemble", "075"), ("video", "me"), ("video", "you"),
    ]  # fmt: skip
    assert found(tmp_path)[0][2] == "raw" and found(tmp_path)[1][2].startswith("unknown")
    assert found(tmp_path / "me.MP4") == [("video", "me", "video with one camera", tmp_path / "me.MP4")]


# --- checks by name ---


def test_a_new_check_is_one_function(filmed, look, monkeypatch):
    monkeypatch.setattr("raflib.check.problems.CHECKS", known := dict(CHECKS))
    monkeypatch.setattr("raflib.check.inspection.CHECKS", {})

    def check_hats(capture, sample):
        return [Problem("hats", "error", f"{capture.subject} wears a hat; take it off")]

    assert register(check_hats) is check_hats and known["hats"] is check_hats
    monkeypatch.setattr("raflib.check.inspection.CHECKS", {"hats": check_hats})
    report = inspect(filmed, None, 8, look, notes=["the source says so"])
    assert [problem.text for problem in report.problems] == ["422 wears a hat; take it off", "the source says so"]
    assert report.errors == 1 and "problems   1 error, 1 warning" in str(report)

    def check_masks(capture, sample):
        return []

    with pytest.raises(RafError, match="the check 'masks' exists in raflib"):
        register(check_masks)
    with pytest.raises(RafError, match="severity must be"):
        Problem("hats", "bad", "")
    with pytest.raises(RafError, match="images is 3"):
        inspect(filmed, None, 3, look)
    with pytest.raises(RafError, match="capture 422: holds no cameras to check"):
        inspect(replace(filmed, cameras=[]), None, 8, look)
