"""The public NeRSemble benchmark's layouts, filled with studio people, and damaged in many ways."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from nersemble_layout import (
    CODES,
    JOINT,
    SCALE,
    flame_tracks,
    performed,
    write_calibration,
    write_film,
    write_mono,
    write_nvs,
)
from PIL import Image
from scipy.spatial.transform import Rotation

from raflib import ExpressionBank, config, open_capture, studio
from raflib.capture import Capture
from raflib.errors import RafError
from raflib.geometry import axis_angle_to_matrix
from raflib.sources import nersemble
from raflib.sources.nersemble import mono, nvs
from raflib.sources.nersemble.mono import TRACKS, original
from raflib.sources.nersemble.names import (
    FRONTAL,
    MONO,
    MONO_HELD_OUT,
    MONO_SERIALS,
    MONO_TRAIN,
    NVS,
    SEQUENCES,
    SERIALS,
)
from raflib.tracking import Observation

LENGTHS = {
    "EXP-1-head": 8, "EXP-5-mouth": 4, "EMO-2-surprise+fear": 4,
    "FREE": 4, "EMO-1-shout+laugh": 2, "SEN-09-frown_events_bad": 2,
}  # fmt: skip
UNFILMED = "EMO-1-shout+laugh"
SHORT = {"EXP-1-head": 4, "EXP-5-mouth": 3, "FREE": 3}
SIZE = 80


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    write_mono(folder, "393", LENGTHS, SIZE, (UNFILMED,))
    write_mono(folder, "404", SHORT, SIZE)
    return folder


@pytest.fixture(scope="module")
def capture(root) -> Capture:
    return open_capture("nersemble", "393", "tiny", root)


class Steady:
    """A tracker that finds the same face in every image."""

    cloud = np.random.default_rng(0).normal(0, 12, (478, 3)).astype(np.float32)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, image):
        matrix = np.eye(4, dtype=np.float32)
        matrix[2, 3] = -60
        points = self.cloud[:, :2] + len(image) / 2
        return Observation(np.zeros(52, np.float32), points, self.cloud[:, 2], matrix)


@pytest.fixture
def steady(monkeypatch, tmp_path):
    monkeypatch.setenv("RAF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mono, "FaceTracker", Steady)


def places(capture: Capture) -> list[tuple[str, int]]:
    """(sequence, row) of each frame, under the benchmark's names."""
    pairs = zip(capture.sequence, capture.frame, strict=True)
    return [original(int(frame)) if name == "FREE" else (str(name), int(frame)) for name, frame in pairs]


def test_names_are_the_datasets():
    assert len(MONO_TRAIN) == 18 and len(SEQUENCES) == 26 and set(MONO_HELD_OUT) < set(SEQUENCES)
    assert sorted(camera.name for camera in studio.rig(64)) == sorted(SERIALS)
    assert set(studio.TRAIN_SEQUENCES) | {"FREE"} <= set(SEQUENCES)
    assert {*config.PROFILES, "coverage", "driver", "bank"} == set(nersemble.PROFILES)
    assert nersemble.PROFILES["gpu"].size == 512


def test_a_person_is_read_back(capture):
    """Images within one level, cameras 1e-6, signals exact."""
    assert capture.feature_space == "flame109" and capture.subject == "393" and len(capture.cameras) == 1
    assert len(capture) == 6 + 4 + 4 + 3 + 2 + 2 and capture.detected.all()
    assert capture.train.sum() == 14 and capture.free.sum() == 7
    found = places(capture)
    assert {name for name, _ in found} == set(LENGTHS) and len(set(found)) == len(found)
    assert (capture.frame[capture.sequence == "FREE"] < 100_000).sum() == 3, "FREE keeps its own numbers"
    assert (np.diff(capture.time) > 0).all() and capture.time[1] == pytest.approx(3 / 73)

    camera = next(camera for camera in studio.rig(SIZE) if camera.name == FRONTAL)
    np.testing.assert_allclose(capture.cameras[0].extrinsic, camera.extrinsic, atol=1e-6)
    np.testing.assert_allclose(capture.cameras[0].intrinsic, camera.intrinsic, atol=1e-6)
    identity, stored = studio.Identity("393"), mono.read_person(capture.frames.person, LENGTHS)
    for t, (name, row) in enumerate(found):
        actions, angles = performed("393", name, LENGTHS[name])
        codes, tracks = (actions[row] @ CODES).astype(np.float32), stored[name]
        np.testing.assert_array_equal(capture.expression[t], np.concatenate([codes, tracks.jaw[row], tracks.eyes[row]]))
        assert np.abs(tracks.jaw[row]).max() > 0 and np.abs(tracks.eyes[row]).max() > 0
        if name != UNFILMED and t % 3 == 0:
            image, mask = studio.render(identity, actions[row], angles[row], camera)
            assert np.abs(capture.image(t, 0).astype(int) - image).max() <= 1
            assert np.abs(capture.mask(t, 0).astype(int) - mask).max() <= 1


def test_poses_are_those_of_the_tracks(capture):
    """Rotation and scale exactly; the place up to the neck joint, which is estimated."""
    head = []
    for name, row in places(capture):
        head.append(studio.head_pose(studio.Identity("393"), performed("393", name, LENGTHS[name])[1][row]))
    head = np.array(head, float)
    true, found = (axis_angle_to_matrix(torch.from_numpy(p[:, :3].astype(float))).numpy() for p in (head, capture.pose))
    np.testing.assert_allclose(found, true, atol=1e-6)
    np.testing.assert_array_equal(capture.scale, np.float32(np.float32(SCALE) * 0.1))
    origin = np.einsum("tji,tj->ti", true, capture.pose[:, 3:] - head[:, 3:])
    assert 1000 * origin.std(0).max() < 0.7, "millimetres by which the canonical origin moves in the head"
    assert np.linalg.norm(capture.frames.head.joint - JOINT) < 0.006


def test_landmarks_follow_the_tracked_head(capture):
    found = [
        studio.landmarks(studio.Identity("393"), *(part[row] for part in performed("393", name, LENGTHS[name])))
        for name, row in places(capture)
    ]
    filmed = np.array([name != UNFILMED for name, _ in places(capture)])
    assert np.isfinite(capture.landmarks[filmed]).all() and np.isnan(capture.landmarks[~filmed]).all()
    apart = np.linalg.norm(capture.landmarks[filmed] - np.array(found)[filmed], axis=2)
    assert 1000 * apart.mean() < 9, "millimetres from the true landmarks"
    assert np.abs(capture.neutral[list(capture.groups["rigid"])].mean(0)).max() < 1e-6
    seen = capture.cameras[0].project(capture.landmarks[filmed])
    true = capture.cameras[0].project(np.array(found)[filmed])
    assert np.linalg.norm(seen - true, axis=2).mean() < 0.02 * SIZE


def test_a_held_out_sequence_may_have_tracks_only(capture):
    t = next(t for t, (name, _) in enumerate(places(capture)) if name == UNFILMED)
    assert capture.detected[t] and capture.free[t] and np.isfinite(capture.pose[t]).all()
    with pytest.raises(RafError, match=r"EMO-1-shout\+laugh/images/cam_222200037\.mp4: no such film; the benchmarks"):
        capture.image(t, 0)


def test_people_of_the_benchmark_make_a_bank(capture, root, steady):
    bank = ExpressionBank.build([capture, open_capture("nersemble", "404", "tiny", root / MONO)], per_subject=5)
    assert bank.feature_space == "flame109" and bank.people == ("393", "404") and len(bank) == 10
    _, rows = bank.search(capture.expression[:4], exclude="393", feature_space=capture.feature_space)
    assert (bank.subjects[rows] == "404").all()


def test_jaw_eyes_and_shape_are_kept_beside(root):
    tracks = nersemble.flame_tracks("393", root)
    assert list(tracks) == [name for name in SEQUENCES if name in LENGTHS]
    for name, part in tracks.items():
        given = flame_tracks("393", *performed("393", name, LENGTHS[name]), np.eye(4))
        for field in ("jaw", "eyes", "neck", "expression", "translation"):
            np.testing.assert_array_equal(getattr(part, field), given[field])
        np.testing.assert_array_equal(part.shape, given["shape"][0])
    assert tracks["FREE"].frames.tolist() == [0, 3, 6, 9]


def test_any_world_of_the_calibration_gives_the_same_capture(root, tmp_path, steady):
    """The capture's world has the axes of the frontal camera and the rig's middle as origin."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", (170, 20, 5), degrees=True).as_matrix()
    motion[:3, 3] = 0.3, -0.2, 1.0
    person = tmp_path / "404"
    shutil.copytree(root / MONO / "404", person)
    write_calibration(person, MONO_SERIALS, SIZE, motion)
    for name, count in SHORT.items():
        np.savez(person / "sequences" / name / TRACKS, **flame_tracks("404", *performed("404", name, count), motion))
    moved, upright = (open_capture("nersemble", "404", "tiny", folder) for folder in (tmp_path, root))
    assert moved.recording != upright.recording
    np.testing.assert_allclose(moved.cameras[0].extrinsic, upright.cameras[0].extrinsic, atol=1e-6)
    for field in ("pose", "landmarks", "neutral"):
        np.testing.assert_allclose(getattr(moved, field), getattr(upright, field), atol=2e-5)


def test_tracks_are_cached_and_images_heal(root, steady, monkeypatch):
    first = open_capture("nersemble", "404", "tiny", root)
    monkeypatch.setattr(mono, "FaceTracker", None)
    again = open_capture("nersemble", "404", "tiny", root)
    assert again.fingerprint == first.fingerprint
    image = again.image(1, 0).copy()
    again.frames.path(1, 0).write_bytes(b"")
    fresh = open_capture("nersemble", "404", "tiny", root)
    np.testing.assert_array_equal(fresh.image(1, 0), image)
    assert again.frames.path(1, 0).stat().st_size > 0


def test_a_camera_needs_films_of_all_training_sequences(root, tmp_path, steady):
    person = tmp_path / "404"
    shutil.copytree(root / MONO / "404", person)
    for name in SHORT:
        for kind in ("images", "alpha_maps"):
            folder = person / "sequences" / name / kind
            shutil.copy(folder / f"cam_{FRONTAL}.mp4", folder / "cam_220700191.mp4")
    (person / "sequences" / "FREE" / "images" / "cam_220700191.mp4").unlink()
    capture = open_capture("nersemble", "404", "tiny", tmp_path)
    assert [camera.name for camera in capture.cameras] == [FRONTAL, "220700191"]
    np.testing.assert_array_equal(capture.image(0, 1), capture.image(0, 0))
    with pytest.raises(RafError, match="no such film; the benchmarks keep"):
        capture.image(len(capture) - 1, 1)
    (person / "sequences" / "EXP-1-head" / "images" / "cam_220700191.mp4").unlink()
    assert [c.name for c in open_capture("nersemble", "404", "tiny", tmp_path).cameras] == [FRONTAL]


# --- novel views -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def views(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    write_nvs(folder, "422", "EXP-2-eyes", serials=("222200036", "222200038", "222200043"))
    return folder


def test_novel_views_open_and_say_what_is_missing(views):
    with pytest.warns(UserWarning) as told:
        capture = open_capture("nersemble", "422", "tiny", views)
    words = " ".join(str(warning.message) for warning in told)
    assert "EXP-2-eyes is no FREE, so nothing is held out" in words and "no films of cameras 220700191" in words
    assert capture.feature_space == "arkit52" and capture.frame.tolist() == [0, 3, 6]
    assert [camera.name for camera in capture.cameras] == ["222200036", "222200038", "222200043"]
    assert capture.detected.all() and capture.train.all() and not capture.free.any()
    cameras = {camera.name: camera for camera in studio.rig(64)}
    act = performed("422", "EXP-2-eyes", 9)
    for c, camera in enumerate(capture.cameras):
        np.testing.assert_allclose(camera.extrinsic, cameras[camera.name].extrinsic, atol=1e-6)
        np.testing.assert_allclose(camera.intrinsic, cameras[camera.name].intrinsic, atol=1e-6)
        image, mask = studio.render(studio.Identity("422"), act[0][3], act[1][3], cameras[camera.name])
        assert np.abs(capture.image(1, c).astype(int) - image).max() <= 1
        assert np.abs(capture.mask(1, c).astype(int) - mask).max() <= 1


def test_a_person_with_free_alone_has_nothing_to_train_on(views, tmp_path, monkeypatch):
    found = {"expression": np.zeros((3, 52), np.float32), "landmarks": np.zeros((3, 478, 3), np.float32)}
    found |= {"pose": np.zeros((3, 6), np.float32), "scale": np.ones(3, np.float32), "detected": np.ones(3, bool)}
    monkeypatch.setattr(nvs, "_track", lambda *_: {**found, "neutral": found["landmarks"][0]})
    person = tmp_path / NVS / "443"
    shutil.copytree(views / NVS / "422", person)
    (person / "sequences" / "EXP-2-eyes").rename(person / "sequences" / "FREE")
    with pytest.warns(UserWarning, match="its only sequence FREE is held out, so nothing can be trained"):
        capture = open_capture("nersemble", "443", "tiny", tmp_path / NVS)
    assert capture.free.all() and not capture.train.any()
    write_film(person / "sequences" / "FREE" / "images" / "cam_222200043.mp4", [np.zeros((96, 64, 3), np.uint8)] * 8)
    with pytest.warns(UserWarning), pytest.raises(RafError, match=r"cam_222200043\.mp4: has 8 frames but"):
        open_capture("nersemble", "443", "tiny", tmp_path)


# --- damage ----------------------------------------------------------------------------------------------------------


def edit_tracks(name, change, sequence="EXP-5-mouth"):
    """A mutation of one array of the tracks; `change` returns the new array, or None for none."""

    def mutate(person):
        path = person / "sequences" / sequence / TRACKS
        with np.load(path) as stored:
            arrays = dict(stored)
        arrays[name] = change(arrays[name])
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})

    return mutate


def edit_calibration(change):
    """A mutation of the calibration's JSON object, in place."""

    def mutate(person):
        path = person / "calibration" / "camera_params.json"
        stored = json.loads(path.read_text())
        change(stored)
        path.write_text(json.dumps(stored))

    return mutate


def on_file(relative, change):
    return lambda person: change(person / relative)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def end_lost(path):
    """A film whose header is whole and whose last frames are lost."""
    noise = np.random.default_rng(0).integers(0, 255, (3, SIZE, SIZE, 3), dtype=np.uint8)
    write_film(path, list(noise), movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])


def with_row(row, value):
    def change(array):
        array = array.copy()
        array[row] = value
        return array

    return change


def grey(count, side=SIZE):
    return lambda path: write_film(path, [np.full((side, side, 3), 128, np.uint8)] * count)


def swap_rows(array):
    return array[[1, 0, *range(2, len(array))]]


CALIBRATION = "calibration/camera_params.json"
IMAGES, ALPHA = f"sequences/EXP-5-mouth/images/cam_{FRONTAL}.mp4", f"sequences/EXP-5-mouth/alpha_maps/cam_{FRONTAL}.mp4"
TRACK = f"sequences/EXP-5-mouth/{TRACKS}"
MARKED = 1
MUTATIONS = {
    "calibration removed": (on_file(CALIBRATION, Path.unlink), "camera_params.json: no such calibration"),
    "tracks removed": (on_file(TRACK, Path.unlink), "tracking_v2.npz: no such FLAME tracks"),
    "images removed": (on_file(IMAGES, Path.unlink), "mp4: no such film; download"),
    "alpha maps removed": (on_file(ALPHA, Path.unlink), "mp4: no such film; download"),
    "alpha maps of FREE removed": (on_file(ALPHA.replace("EXP-5-mouth", "FREE"), Path.unlink), "no such film"),
    "calibration cut short": (on_file(CALIBRATION, cut), "damaged calibration"),
    "tracks cut short": (on_file(TRACK, cut), "damaged FLAME tracks"),
    "images cut short": (on_file(IMAGES, cut), "not a readable video"),
    "the end of images lost": (on_file(IMAGES, end_lost), "damaged film (it cannot be decoded after frame"),
    "alpha maps cut short": (on_file(ALPHA, cut), "not a readable video"),
    "calibration empty": (on_file(CALIBRATION, lambda p: p.write_bytes(b"")), "damaged calibration"),
    "tracks empty": (on_file(TRACK, lambda p: p.write_bytes(b"")), "damaged FLAME tracks"),
    "images empty": (on_file(IMAGES, lambda p: p.write_bytes(b"")), "the file is empty"),
    "images are one photograph": (
        on_file(IMAGES, lambda p: Image.new("RGB", (SIZE, SIZE)).save(p, "png")), "not a video",
    ),
    "images a frame short": (on_file(IMAGES, grey(2)), "has 2 frames but"),
    "alpha maps a frame short": (on_file(ALPHA, grey(2)), "has 2 frames but"),
    "images a frame long": (on_file(IMAGES, grey(4)), "has 4 frames but"),
    "tracks without a frame": (
        lambda person: [edit_tracks(name, lambda a: a[:0])(person) for name in PER_FRAME], "holds no frame",
    ),
    "images of another size": (on_file(IMAGES, grey(3, 64)), "is 64×64, expected 80×80"),
    "alpha maps of another size": (on_file(ALPHA, grey(3, 64)), "is 64×64, expected 80×80"),
    "expression of 50 numbers": (edit_tracks("expression", lambda a: a[:, :50]), "expression has shape [3, 50]"),
    "shape without its first axis": (edit_tracks("shape", lambda a: a[0]), "shape has shape [300]"),
    "two scales": (edit_tracks("scale", lambda a: np.repeat(a, 2, 0)), "scale has shape [2, 1]"),
    "matrices as nine numbers": (edit_tracks("rotation_matrices", lambda a: a.reshape(-1, 9)), "has shape [3, 9]"),
    "neck a row short": (edit_tracks("neck", lambda a: a[:-1]), "has shape"),
    "eyes of three numbers": (edit_tracks("eyes", lambda a: a[:, :3]), "eyes has shape [3, 3]"),
    "no jaw": (edit_tracks("jaw", lambda a: None), "jaw missing"),
    "expression of whole numbers": (edit_tracks("expression", lambda a: a.astype(int)), "expression is of type int64"),
    "frames of fractions": (edit_tracks("frames", lambda a: a + 0.5), "frames are not whole numbers"),
    "frames as text": (edit_tracks("frames", lambda a: a.astype(str)), "frames is of type <U"),
    "translation as text": (edit_tracks("translation", lambda a: a.astype(str)), "translation is of type <U"),
    "expression of Python objects": (
        edit_tracks("expression", lambda a: a.astype(object)), "expression is of type object",
    ),
    "frames in reverse": (edit_tracks("frames", lambda a: a[::-1]), "frames are out of order: entry 1"),
    "a frame twice": (edit_tracks("frames", with_row(1, 0)), "frames are out of order: entry 1"),
    "matrices in another order": (edit_tracks("rotation_matrices", swap_rows), "of frame 0 are different rotations"),
    "angles in another order": (edit_tracks("rotation", swap_rows), "of frame 0 are different rotations"),
    "matrices scaled": (edit_tracks("rotation_matrices", lambda a: 1.1 * a), "of frame 0 is no rotation"),
    "a matrix mirrored": (edit_tracks("rotation_matrices", with_row(1, -np.eye(3))), "of frame 1 is no rotation"),
    "scale of zero": (edit_tracks("scale", lambda a: 0 * a), "scale is 0, expected a number above 0"),
    "NaN in scale": (edit_tracks("scale", with_row(0, np.nan)), "scale holds NaN"),
    "infinite shape": (edit_tracks("shape", with_row(0, np.inf)), "shape holds NaN or infinity"),
    "NaN in expression": (edit_tracks("expression", with_row(1, np.nan)), MARKED),
    "NaN in a matrix": (edit_tracks("rotation_matrices", with_row(1, np.nan)), MARKED),
    "NaN in translation": (edit_tracks("translation", with_row(1, np.nan)), MARKED),
    "NaN in neck": (edit_tracks("neck", with_row(1, np.nan)), MARKED),
    "infinite jaw": (edit_tracks("jaw", with_row(1, np.inf)), MARKED),
    "NaN in eyes of FREE": (edit_tracks("eyes", with_row(1, np.nan), "FREE"), MARKED),
    "NaN everywhere": (
        lambda person: [edit_tracks("neck", lambda a: a * np.nan, name)(person) for name in SHORT],
        "a face in only 0 tracked training frames",
    ),
    "no frontal camera": (
        edit_calibration(lambda c: [part.pop(FRONTAL) for part in c.values()]), "the frontal camera 222200037 is miss",
    ),
    "half a camera": (edit_calibration(lambda c: c["intrinsics"].pop("220700191")), "220700191 has only one of"),
    "no world_2_cam": (edit_calibration(lambda c: c.pop("world_2_cam")), "world_2_cam is missing"),
    "extrinsic of three rows": (
        edit_calibration(lambda c: c["world_2_cam"][FRONTAL].pop()), "has shape [3, 4], expected 4 by 4",
    ),
    "intrinsic as text": (
        edit_calibration(lambda c: c["intrinsics"].update({FRONTAL: "512"})), "expected 3 by 3",
    ),
    "ragged intrinsic": (edit_calibration(lambda c: c["intrinsics"][FRONTAL][0].pop()), "damaged calibration"),
    "extrinsic scaled": (
        edit_calibration(lambda c: c["world_2_cam"][FRONTAL][0].__setitem__(0, 2.0)), "is no rotation",
    ),
    "extrinsic transposed": (
        edit_calibration(lambda c: c["world_2_cam"].update({FRONTAL: [*zip(*c["world_2_cam"][FRONTAL], strict=True)]})),
        "does not end in 0 0 0 1",
    ),
    "focal length below zero": (
        edit_calibration(lambda c: c["intrinsics"][FRONTAL][0].__setitem__(0, -230.0)), "no pinhole camera's",
    ),
    "NaN in an extrinsic": (
        edit_calibration(lambda c: c["world_2_cam"][FRONTAL][0].__setitem__(0, float("nan"))), "expected finite",
    ),
    "no training sequence": (
        lambda person: [shutil.rmtree(person / "sequences" / name) for name in SHORT if name != "FREE"],
        "holds none of the training sequences",
    ),
    "a sequence without files": (
        lambda person: (person / "sequences" / "EMO-2-surprise+fear").mkdir(), "no such FLAME tracks",
    ),
}  # fmt: skip
"""Mutation → words of the error, or `MARKED`: one frame more is not detected."""


def test_several_recordings_of_one_person_are_not_mixed_up(tmp_path):
    places = [tmp_path / "nvs" / "422", tmp_path / "422"]
    for place in places:
        (place / "calibration").mkdir(parents=True)
        (place / "calibration" / "camera_params.json").write_text("{}")
    with pytest.raises(RafError, match=r"several recordings of 422: .*nvs.422, .*422; keep the raw dataset and"):
        nersemble.find_person("422", tmp_path)
    assert [nersemble.find_person("422", place) for place in places] == places
    assert nersemble.find_person("422", tmp_path / "nvs") == places[0]


PER_FRAME = ("expression", "rotation", "rotation_matrices", "translation", "jaw", "neck", "eyes", "frames")


def test_damage_is_named_or_marked(root, tmp_path, steady):
    """Every mutation gives a one-line error that names a file, or a marked frame; run with -s for the table."""
    wrong, table = [], []
    for number, (name, (mutate, expected)) in enumerate(MUTATIONS.items()):
        person = tmp_path / str(number) / "404"
        shutil.copytree(root / MONO / "404", person)
        lines = []
        try:
            mutate(person)
            capture = nersemble.open("404", "tiny", person.parent)
            for t in range(len(capture)):
                capture.image(t, 0)
            lost = np.flatnonzero(~capture.detected)
            marked = [f"{capture.sequence[t]}/{capture.frame[t]}" for t in lost]
            outcome = f"marked: {', '.join(marked)}" if marked else "nothing noticed"
            if len(lost) != expected or not np.isnan(capture.expression[lost]).all():
                wrong.append((name, outcome))
        except RafError as error:
            outcome = str(error).replace(f"{person}/", "")
            lines = str(error).splitlines()
            if not (isinstance(expected, str) and expected in outcome and len(lines) == 1 and "404" in str(error)):
                wrong.append((name, outcome))
        table.append((name, outcome))
    width = max(map(len, MUTATIONS))
    print(*(f"{name:{width}}  {outcome}" for name, outcome in table), sep="\n")
    assert not wrong, wrong
    assert len(table) >= 25


@pytest.mark.parametrize(
    ("subject", "profile", "given", "words"),
    [
        ("42", "tiny", True, "write the three digits"),
        ("E01", "tiny", True, "write the three digits"),
        ("999", "tiny", True, "holds none of mono_flame_avatar/999"),
        ("404", "small", True, "profile 'small' is not known"),
        ("404", "tiny", False, "needs root"),
    ],
)
def test_what_cannot_be_opened_is_named(root, subject, profile, given, words):
    with pytest.raises(RafError, match=words):
        open_capture("nersemble", subject, profile, root if given else None)


def test_a_person_without_held_out_sequences_is_told(root, tmp_path, steady):
    shutil.copytree(root / MONO / "404", tmp_path / "404")
    shutil.rmtree(tmp_path / "404" / "sequences" / "FREE")
    with pytest.warns(UserWarning, match="holds no held-out sequence, so nothing can be evaluated"):
        capture = open_capture("nersemble", "404", "tiny", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert capture.train.all()
