"""Source gha and `export_gha`: folders as the public code of Gaussian Head Avatar writes and reads them."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from layout_mutations import (
    MARKED,
    SAME,
    Mutation,
    array,
    arrays,
    both,
    cut,
    entries,
    image,
    outcomes,
    removed,
    report,
    swapped,
    value,
    written,
)
from PIL import Image
from scipy.spatial.transform import Rotation
from synthetic import ball_capture

from raflib import RafError, export_gha, open_capture, studio
from raflib.capture import Capture, choose_cameras, most_frontal
from raflib.sources.gha import PROFILES, GhaProfile
from raflib.sources.gha.files import GROUPS, IBUG66
from raflib.tracking import landmarks as points

SIZE, SERIALS = 48, ("222200037", "222200046", "220700191")
SIGNALS = ("expression", "pose", "scale", "landmarks", "neutral", "sequence", "frame", "detected")


class Rendered:
    """Images of a studio performance."""

    def __init__(self, identity, actions, angles, cameras):
        moments = zip(actions, angles, strict=True)
        self.rows = [studio.render_views(identity, *moment, cameras) for moment in moments]

    def image(self, t, c):
        return self.rows[t][c][0]

    def mask(self, t, c):
        return self.rows[t][c][1]


@pytest.fixture(scope="module")
def filmed() -> Capture:
    """Five training and two FREE frames of a studio head; the third frame shows no face."""
    identity, cameras = studio.Identity("422"), [camera for camera in studio.rig(SIZE) if camera.name in SERIALS]
    acted = [studio.act("422", name) for name in ("EXP-1-head", "EMO-1-shout+laugh", "FREE")]
    rows = [np.array(rows) for rows in ([10, 60, 61], [40, 70], [30, 90])]
    actions = np.concatenate([each.actions[chosen] for each, chosen in zip(acted, rows, strict=True)])
    angles = np.concatenate([each.angles[chosen] for each, chosen in zip(acted, rows, strict=True)])
    pose = np.stack([studio.head_pose(identity, each) for each in angles])
    marks = np.stack([studio.landmarks(identity, *each) for each in zip(actions, angles, strict=True)])
    expression, seen = actions.astype(np.float32), np.arange(7) != 2
    for signal in (expression, pose, marks):
        signal[~seen] = np.nan
    neutral = studio.landmarks(identity, np.zeros(52), np.zeros(3)) / np.float32(0.1)
    return Capture(
        "422", "arkit52", cameras, expression, pose, np.full(7, 0.1, np.float32), marks, neutral, points.GROUPS,
        np.repeat(["EXP-1-head", "EMO-1-shout+laugh", "FREE"], [3, 2, 2]), np.concatenate(rows), seen,
        Rendered(identity, actions, angles, cameras), time=np.concatenate(rows) / 25,
    )  # fmt: skip


@pytest.fixture(scope="module")
def basel(filmed) -> Capture:
    """The same recording with 66 landmarks and 64 coefficients, without the frame that shows no face."""
    kept = np.flatnonzero(filmed.detected)
    rows = np.array(points.IBUG68)[list(IBUG66)]
    parts = {name: getattr(filmed, name)[kept] for name in ("pose", "scale", "sequence", "detected", "time")}
    expression = np.pad(filmed.expression[kept], ((0, 0), (0, 12))) + np.float32(0.01)
    images = Rendered.__new__(Rendered)
    images.rows = [filmed.frames.rows[t] for t in kept]
    return replace(
        filmed, feature_space="bfm64", expression=expression, landmarks=filmed.landmarks[kept][:, rows],
        neutral=filmed.neutral[rows], groups=GROUPS, frame=np.arange(6), frames=images, **parts,
    )  # fmt: skip


TURN = np.diag([1.0, -1.0, -1.0])
"""The public code's axes have y up and z out of the face."""


def public_folder(capture: Capture, folder: Path) -> Path:
    """Write a capture as the public preprocessing does: JPEG images, other axes, single precision, no manifest."""
    for t in range(len(capture)):
        images, cameras, params = (folder / part / f"{t:04d}" for part in ("images", "cameras", "params"))
        for path in (images, cameras, params):
            path.mkdir(parents=True)
        for c, camera in enumerate(capture.cameras):
            mask = np.repeat(capture.mask(t, c)[..., None], 3, 2)
            for kind, values in {
                "image": capture.image(t, c),
                "mask": mask,
                "visible": np.full_like(mask, 255),
            }.items():
                Image.fromarray(values).save(images / f"{kind}_{camera.name}.jpg", quality=95, subsampling=0)
                if t == 0:  # which `raflib` does not read
                    Image.fromarray(values[::2, ::2]).save(images / f"{kind}_lowres_{camera.name}.jpg")
            extrinsic = np.hstack([camera.extrinsic[:3, :3] @ TURN, camera.extrinsic[:3, 3:]])
            np.savez(cameras / f"camera_{camera.name}.npz", extrinsic=extrinsic, intrinsic=camera.intrinsic)
        turned = TURN @ Rotation.from_rotvec(capture.pose[t, :3]).as_matrix() @ TURN
        pose = np.concatenate([Rotation.from_matrix(turned).as_rotvec(), TURN @ capture.pose[t, 3:]])
        np.savez(
            params / "params.npz", id_coeff=np.zeros((1, 80), np.float32), exp_coeff=capture.expression[t][None],
            scale=capture.scale[t : t + 1], pose=pose[None].astype(np.float32),
        )  # fmt: skip
        np.save(params / "lmk_3d.npy", (capture.landmarks[t] @ TURN).astype(np.float32))
    return folder


NAMES = {
    "sequences": [["EXP-1-head", "0000", "0001"], ["EMO-1-shout+laugh", "0002", "0003"], ["FREE", "0004", "0005"]],
    "cameras": [*SERIALS],
}


@pytest.fixture(scope="module")
def public(basel, tmp_path_factory) -> Path:
    folder = public_folder(basel, tmp_path_factory.mktemp("public") / "422")
    (folder / "capture.json").write_text(json.dumps(NAMES))
    return folder


@pytest.fixture(scope="module")
def exported(filmed, tmp_path_factory) -> Path:
    return export_gha(filmed, tmp_path_factory.mktemp("exported") / "422")


def read(folder: Path) -> Capture:
    return open_capture("gha", folder.name, "paper", folder)


def assert_equal(capture: Capture, other: Capture) -> None:
    for name in SIGNALS:
        one, two = getattr(capture, name), getattr(other, name)
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two, name)
    assert other.feature_space == capture.feature_space
    assert {name: tuple(rows) for name, rows in capture.groups.items()} == other.groups
    for one, two in zip(capture.cameras, other.cameras, strict=True):
        assert (one.name, one.width, one.height) == (two.name, two.width, two.height)
        np.testing.assert_allclose(two.extrinsic, one.extrinsic, atol=1e-6)
        np.testing.assert_allclose(two.intrinsic, one.intrinsic, atol=1e-6)
    for t in range(len(capture)):
        for c in range(len(capture.cameras)):
            np.testing.assert_array_equal(other.image(t, c), capture.image(t, c))
            np.testing.assert_array_equal(other.mask(t, c), capture.mask(t, c))


# --- round trip ---


@pytest.mark.filterwarnings("error")
def test_a_round_trip_is_equal(filmed, exported):
    again = open_capture("gha", "422", "paper", exported.parent)
    assert_equal(filmed, again)
    np.testing.assert_array_equal(again.time, filmed.time)
    assert again.truth is None and again.background is None and again.subject == "422"
    assert not [path for path in exported.parent.iterdir() if path != exported]


def test_other_landmarks_backgrounds_and_orders_come_back(basel, tmp_path):
    ball = ball_capture(frames=4, size=32, cameras=2, expression_dim=7)
    room = np.random.default_rng(0).random((32, 32, 3), np.float32)
    ball = replace(
        ball, feature_space="open7", background=room, cameras=ball.cameras[::-1], pose=ball.pose.astype(np.float64),
        sequence=np.array(["b", "a", "b", "b", "FREE"]),
    )  # fmt: skip
    again = read(export_gha(ball, tmp_path / "900"))
    assert_equal(ball, again)
    np.testing.assert_array_equal(again.background, room)
    small = open_capture("gha", "900", "tiny", tmp_path)
    assert small.background.shape == (32, 32, 3)
    assert_equal(basel, read(export_gha(basel, tmp_path / "basel")))
    rows = np.flatnonzero(basel.train)
    some = read(export_gha(basel, tmp_path / "some", rows))
    np.testing.assert_array_equal(some.expression, basel.expression[rows])
    np.testing.assert_array_equal(some.image(2, 1), basel.image(int(rows[2]), 1))


def test_nothing_is_written_half(filmed, exported, tmp_path):
    class Breaks:
        def image(self, t, c):
            if t == 4:
                raise KeyboardInterrupt
            return filmed.image(t, c)

        mask = filmed.mask

    with pytest.raises(KeyboardInterrupt):
        export_gha(replace(filmed, frames=Breaks()), tmp_path / "new")
    assert not list(tmp_path.iterdir())
    left = tmp_path / ".raf-writing-new"  # of a killed process
    (left / "images" / "0099").mkdir(parents=True)
    (left / "capture.json").write_text("{")
    export_gha(filmed, tmp_path / "new", [0, 1])
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert sorted(os.listdir(tmp_path / "new" / "images")) == ["0000", "0001"]
    (tmp_path / "empty").mkdir()
    export_gha(filmed, tmp_path / "empty", [0])
    odd = replace(filmed.cameras[0], width=50)
    for capture, folder, rows, words in (
        (filmed, exported, None, "exists already"),
        (filmed, tmp_path / "a", [7], "from 0 to 6"),
        (filmed, tmp_path / "a", [1, 1], "each once"),
        (replace(filmed, cameras=[odd]), tmp_path / "a", None, "50×48"),
        (replace(filmed, cameras=[replace(odd, width=48, name="a/b")]), tmp_path / "a", None, "'a/b'"),
        (replace(filmed, cameras=[filmed.cameras[0]] * 2), tmp_path / "a", None, "one name"),
    ):
        with pytest.raises(RafError, match=words):
            export_gha(capture, folder, rows)
    assert not (tmp_path / "a").exists()


# --- the public code's rules ---


class PublicDataset:
    """What the public code's datasets read from a folder, by their rules: exact names, `resolution` as configured."""

    def __init__(self, folder: Path, serials, resolution: int):
        self.folder, self.serials, self.resolution = folder, serials, resolution
        self.frames = os.listdir(folder / "images")

    def shown(self, frame, kind, serial, size):
        picture = Image.open(self.folder / "images" / frame / f"{kind}_{serial}.jpg")
        return np.asarray(picture.resize((size, size))) / 255

    def view(self, frame, serial, low=""):
        size = 256 if low else self.resolution
        image, mask = self.shown(frame, f"image{low}", serial, size), self.shown(frame, f"mask{low}", serial, size)
        mask = mask[:, :, 0:1]  # fails for a mask of one channel
        with np.load(self.folder / "cameras" / frame / f"camera_{serial}.npz") as camera:
            intrinsic, extrinsic = camera["intrinsic"], camera["extrinsic"]
        lens = intrinsic[[0, 1, 0, 1], [0, 1, 2, 2]] * 2 / self.resolution - [0, 0, 1, 1]
        return (image * mask if low else image * mask + 1 - mask), mask, extrinsic[:3], lens

    def tracks(self, frame):
        folder = self.folder / "params" / frame
        with np.load(folder / "params.npz") as given:
            pose, scale, code = given["pose"][0], given["scale"], given["exp_coeff"][0]
        vertices = np.load(folder / "vertices.npy")
        return pose, scale, code, np.concatenate([np.load(folder / "lmk_3d.npy"), vertices[::100]])


def test_the_public_dataset_would_read_what_we_write(filmed, exported):
    dataset = PublicDataset(exported, SERIALS, SIZE)
    assert sorted(dataset.frames) == [f"{t:04d}" for t in range(7)]
    corners = np.array(points.IBUG68)[list(IBUG66)]
    for t in (0, 4):
        frame = f"{t:04d}"
        pose, scale, code, marks = dataset.tracks(frame)
        np.testing.assert_array_equal(code, filmed.expression[t])
        assert marks.shape == (66 + 5, 3) and scale.shape == (1,)
        canonical = (marks - pose[3:]) @ Rotation.from_rotvec(pose[:3]).as_matrix() / scale
        assert canonical[48:66, 1].max() < canonical[27:31, 1].min(), "the mouth lies below the nose, y is up"
        assert canonical[27:31, 2].min() > canonical[0:17, 2].mean(), "the face looks to +z"
        for c, camera in enumerate(filmed.cameras):
            image, mask, extrinsic, lens = dataset.view(frame, camera.name)
            assert image.shape == (SIZE, SIZE, 3) and extrinsic.shape == (3, 4)
            error = np.abs(image * 255 - filmed.image(t, c).astype(float))
            assert error.mean() < 2 and np.abs(mask[..., 0] * 255 - filmed.mask(t, c)).mean() < 2
            local = marks[:66] @ extrinsic[:, :3].T + extrinsic[:, 3]
            pixels = (local[:, :2] / local[:, 2:] * lens[:2] + lens[2:] + 1) * SIZE / 2
            np.testing.assert_allclose(pixels, camera.project(filmed.landmarks[t, corners]), atol=1e-3)
            assert dataset.view(frame, camera.name, "_lowres")[0].shape == (256, 256, 3)


def test_a_public_folder_is_read(basel, public):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        capture = read(public)
    assert capture.feature_space == "bfm64" and capture.groups == GROUPS and capture.landmarks.shape == (6, 66, 3)
    assert capture.sequence.tolist() == basel.sequence.tolist() and capture.frame.tolist() == list(range(6))
    assert capture.detected.all() and capture.train.sum() == 4 and capture.time is None
    for name in ("expression", "scale"):
        np.testing.assert_array_equal(getattr(capture, name), getattr(basel, name))
    np.testing.assert_allclose(capture.pose, basel.pose, atol=1e-6)
    np.testing.assert_allclose(capture.landmarks, basel.landmarks, atol=1e-6)
    # Landmarks that move with the expression differ more; the rigid ones are the person's.
    rigid = list(GROUPS["rigid"])
    assert np.abs(capture.neutral - basel.neutral)[rigid].max() < 0.05 < np.ptp(basel.neutral[:, 1])
    names = [camera.name for camera in basel.cameras]
    for camera in capture.cameras:
        true = basel.cameras[names.index(camera.name)]
        np.testing.assert_allclose(camera.extrinsic, true.extrinsic, atol=1e-6)
        np.testing.assert_allclose(camera.intrinsic, true.intrinsic, atol=1e-6)
        error = capture.image(1, SERIALS.index(camera.name)).astype(int) - basel.image(1, names.index(camera.name))
        assert np.abs(error).mean() < 3
    assert capture.cameras[most_frontal(capture.cameras, 1)[0]].name == "222200037"
    assert len(choose_cameras(capture, 3)) == 3


def test_lost_sequence_names_are_warned_of(public, tmp_path):
    folder = tmp_path / "422"
    shutil.copytree(public, folder)
    (folder / "capture.json").unlink()
    with pytest.warns(UserWarning, match=r"no sequence names.*FREE.*capture\.json"):
        capture = open_capture("gha", "422", "paper", tmp_path)
    assert capture.free.tolist() == [False] * 5 + [True] and capture.sequence[0] == "clip-00"
    (folder / "capture.json").write_text(json.dumps({"sequences": [["SEN-01", 4], ["FREE", 2]]}))
    assert read(folder).sequence.tolist() == ["SEN-01"] * 4 + ["FREE"] * 2


def test_vertices_hidden_parts_lenses_and_sizes(basel, public, tmp_path, monkeypatch):
    """Optional files, a lens that is off-centre, intrinsics for larger images, and smaller images with their cache."""
    monkeypatch.setenv("RAF_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "422"
    shutil.copytree(public, folder)
    for path in sorted(folder.glob("params/*")):
        vertices = np.repeat(np.load(path / "lmk_3d.npy"), 4, 0)
        np.save(path / "vertices.npy", vertices)
    visible = np.full((SIZE, SIZE, 3), 255, np.uint8)
    visible[:, :20] = 0
    Image.fromarray(visible).save(folder / "images" / "0001" / f"visible_{SERIALS[0]}.png")
    square = {"extrinsic": lambda e: np.vstack([e, [0, 0, 0, 1]]).astype(np.float32)}
    arrays(f"cameras/*/camera_{SERIALS[1]}.npz", **square)(folder)
    twice, aside = np.diag([2.0, 2.0, 1.0]), np.array([[0, 0, 5], [0, 0, -3], [0, 0, 0]])
    arrays("cameras/*/*.npz", intrinsic=lambda k: twice @ (k + aside))(folder)
    (folder / "capture.json").write_text(json.dumps(NAMES | {"resolution": 2 * SIZE}))
    capture, plain = read(folder), read(public)
    assert capture.landmarks.shape == (6, 66 + 3, 3) and capture.groups["blend"] == tuple(range(69))
    np.testing.assert_array_equal(capture.landmarks[:, 66], plain.landmarks[:, 0])
    for camera, other in zip(capture.cameras, plain.cameras, strict=True):
        np.testing.assert_allclose(camera.intrinsic[:2, 2], other.intrinsic[:2, 2] + [5, -3])
        np.testing.assert_allclose(camera.extrinsic, other.extrinsic, atol=1e-6)
    assert (capture.mask(1, 0)[:, :20] == 0).all() and (capture.image(1, 0)[:, :20] == 255).all()
    np.testing.assert_array_equal(capture.image(1, 0)[:, 20:], plain.image(1, 0)[:, 20:])
    monkeypatch.setitem(PROFILES, "tiny", GhaProfile(24, 4))
    small = open_capture("gha", "422", "tiny", tmp_path)
    assert len(small) == 4 and small.frame.tolist() == [0, 2, 3, 5] and small.image(1, 2).shape == (24, 24, 3)
    np.testing.assert_allclose(small.cameras[0].intrinsic[:2], capture.cameras[0].intrinsic[:2] / 2)
    assert abs(small.mask(1, 2).mean() - capture.mask(2, 2).mean()) < 2
    assert len(list((tmp_path / "cache" / "gha").rglob("*.png"))) == 1
    assert small.fingerprint != capture.fingerprint == read(folder).fingerprint


# --- damaged folders ---

FRAME, LAST, CAMERA = "0002", "0005", SERIALS[0]
IMAGE, MASK = f"images/{FRAME}/image_{CAMERA}.jpg", f"images/{FRAME}/mask_{CAMERA}.jpg"
VISIBLE, LENS = f"images/{FRAME}/visible_{CAMERA}.jpg", f"cameras/{FRAME}/camera_{CAMERA}.npz"
PARAMS, MARKS = f"params/{FRAME}/params.npz", f"params/{FRAME}/lmk_3d.npy"
OTHER_MARKS = "params/0004/lmk_3d.npy"
MANIFEST = "capture.json"


def rewritten(folder: Path) -> None:
    """Write all files again in the opposite order, so that listings change."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), reverse=True)
    kept = {path: path.read_bytes() for path in files}
    for part in ("images", "cameras", "params"):
        shutil.rmtree(folder / part)
    for path, data in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def inverse(extrinsic):
    return np.linalg.inv(np.vstack([extrinsic, [0, 0, 0, 1]]))


def translation_first(pose):
    return np.roll(pose, 3, axis=1)


PUBLIC = [
    Mutation("image removed", removed(IMAGE), MARKED, "frames 2"),
    Mutation("mask removed", removed(MASK), MARKED, "image, mask"),
    Mutation("visible removed", removed(VISIBLE), SAME),
    Mutation("camera file removed", removed(LENS), MARKED, "(first: 0002)"),
    Mutation("params.npz removed", removed(PARAMS), MARKED, "without tracks"),
    Mutation("lmk_3d.npy removed", removed(MARKS), MARKED, "without tracks"),
    Mutation("images of a frame removed", removed(f"images/{FRAME}"), MARKED),
    Mutation("cameras of a frame removed", removed(f"cameras/{FRAME}"), MARKED),
    Mutation("params of a frame removed", removed(f"params/{FRAME}"), MARKED),
    Mutation("one camera a frame short", removed(f"*/{LAST}/*_{CAMERA}.*"), MARKED, "out of step"),
    Mutation("one camera has no images", removed(f"images/*/image_{CAMERA}.jpg"), words="no frame has all"),
    Mutation("all masks removed", removed("images/*/mask_*"), words="mask_222200037.jpg: no such file"),
    Mutation("all images removed", removed("images/*/*"), words="no such file"),
    Mutation("folder images removed", removed("images"), words="`images`"),
    Mutation("folder cameras removed", removed("cameras"), words="camera_222200037.npz: no such file"),
    Mutation("folder params removed", removed("params"), words="no frame has params.npz"),
    Mutation("image truncated", cut(IMAGE), words=IMAGE),
    Mutation("mask truncated", cut(MASK, 0.9), words=MASK),
    Mutation("visible truncated", cut(VISIBLE), words=VISIBLE),
    Mutation("image empty", written(IMAGE, b""), words=IMAGE),
    Mutation("image is a text", written(IMAGE, "no image"), words=IMAGE),
    Mutation("camera truncated", cut(LENS), words=LENS),
    Mutation("params.npz truncated", cut(PARAMS), words=PARAMS),
    Mutation("lmk_3d.npy truncated", cut(MARKS), words=MARKS),
    Mutation("image of another size", image(IMAGE, lambda shown: shown.resize((40, 40))), words="40×40, expected"),
    Mutation("image not square", image(f"images/0000/image_{CAMERA}.jpg", lambda shown: shown.resize((48, 40))),
             words="48×40"),
    Mutation("image with transparency", image(IMAGE, lambda shown: shown.convert("RGBA"), "png"), words="RGBA"),
    Mutation("mask of another size", image(MASK, lambda shown: shown.resize((40, 48))), words="40×48"),
    Mutation("extrinsic [3,3]", arrays(LENS, extrinsic=lambda e: e[:, :3]), words="[3, 3]"),
    Mutation("extrinsic's last row odd", arrays(LENS, extrinsic=lambda e: np.vstack([e, e[:1]])), words="last row"),
    Mutation("extrinsic no rotation", arrays(LENS, extrinsic=lambda e: 1.1 * e), words="not a rotation"),
    Mutation("extrinsic mirrored", arrays(LENS, extrinsic=lambda e: e * [1, 1, -1, 1]), words="not a rotation"),
    Mutation("extrinsic missing", arrays(LENS, extrinsic=None), words="extrinsic missing"),
    Mutation("intrinsic [4,4]", arrays(LENS, intrinsic=lambda k: np.eye(4)), words="[4, 4]"),
    Mutation("intrinsic of integers", arrays(LENS, intrinsic=lambda k: k.astype(int)), words="int64"),
    Mutation("intrinsic holds NaN", arrays(LENS, intrinsic=value(0, 0, to=np.nan)), words="NaN"),
    Mutation("focal length negative", arrays(LENS, intrinsic=value(0, 0, to=-9.0)), words="positive focal"),
    Mutation("intrinsics for larger images", arrays("cameras/*/*", intrinsic=lambda k: np.diag([9, 9, 1.0]) @ k),
             words="resolution"),
    Mutation("camera moves in one frame", arrays(LENS, extrinsic=lambda e: e + 0.01 * np.eye(3, 4, 3)),
             words=f"{LENS}: extrinsic differs from that of frame 0000 by 0.01"),
    Mutation("camera zooms in one frame", arrays(LENS, intrinsic=lambda k: k * [[1.01], [1], [1]]),
             words="intrinsic differs"),
    Mutation("two cameras exchanged in one frame", swapped(LENS, LENS.replace(CAMERA, SERIALS[1])), words="differs"),
    Mutation("camera→world everywhere", arrays("cameras/*/*", extrinsic=inverse),
             words="world→camera"),
    Mutation("exp_coeff [64]", arrays(PARAMS, exp_coeff=lambda e: e[0]), words="exp_coeff has shape"),
    Mutation("exp_coeff [1,63] in one frame", arrays(PARAMS, exp_coeff=lambda e: e[:, :63]), words="[63] but [64]"),
    Mutation("exp_coeff [1,50] everywhere", arrays("params/*/params.npz", exp_coeff=lambda e: e[:, :50]),
             words="`feature_space`"),
    Mutation("exp_coeff of integers", arrays(PARAMS, exp_coeff=lambda e: e.astype(int)), words="int64"),
    Mutation("pose [1,7]", arrays(PARAMS, pose=lambda p: np.ones((1, 7))), words="pose has shape"),
    Mutation("pose is a text", arrays(PARAMS, pose=lambda p: np.array([["a"] * 6])), words="<U1"),
    Mutation("scale []", arrays(PARAMS, scale=lambda s: s[0]), words="scale has shape"),
    Mutation("pose missing", arrays(PARAMS, pose=None), words="pose missing"),
    Mutation("lmk_3d [68,3] in one frame", array(MARKS, lambda m: np.vstack([m, m[:2]])), words="[68, 3] but [66, 3]"),
    Mutation("lmk_3d [66,2]", array(MARKS, lambda m: m[:, :2]), words="[66, 2]"),
    Mutation("lmk_3d of integers", array(MARKS, lambda m: m.astype(int)), words="int64"),
    Mutation("lmk_3d is pickled", array(MARKS, lambda m: m.astype(object)), words="object"),
    Mutation("NaN in exp_coeff", arrays(PARAMS, exp_coeff=value(0, 5, to=np.nan)), MARKED, "with NaN"),
    Mutation("NaN in pose", arrays(PARAMS, pose=value(0, 5, to=np.nan)), MARKED, "with NaN"),
    Mutation("NaN in scale", arrays(PARAMS, scale=value(0, to=np.nan)), MARKED, "with NaN"),
    Mutation("NaN in lmk_3d", array(MARKS, value(7, 0, to=np.nan)), MARKED, "with NaN"),
    Mutation("infinity in lmk_3d", array(MARKS, value(7, 0, to=np.inf)), MARKED),
    Mutation("scale 0", arrays(PARAMS, scale=value(0, to=0.0)), MARKED),
    Mutation("NaN in every pose", arrays("params/*/params.npz", pose=value(0, 0, to=np.nan)), words="none of 6 frames"),
    Mutation("translation first in one frame", arrays(PARAMS, pose=translation_first), MARKED, "do not fit their pose"),
    Mutation("translation first everywhere", arrays("params/*/params.npz", pose=translation_first), words="axis-angle"),
    Mutation("landmarks of two frames exchanged", swapped(MARKS, OTHER_MARKS), MARKED, "frames 2, 4"),
    Mutation("landmarks in millimetres", array("params/*/lmk_3d.npy", lambda m: 1000 * m), words="landmarks"),
    Mutation("everything y down", both(
        array("params/*/lmk_3d.npy", lambda m: m * np.float32([1, -1, -1])),
        arrays("params/*/params.npz", pose=lambda p: p * np.float32([1, -1, -1, 1, -1, -1])),
        arrays("cameras/*/*", extrinsic=lambda e: e * [1, -1, -1, 1])), words="y must point up"),
    Mutation("written in the opposite order", rewritten, SAME),
    Mutation("a frame's folder without a number", lambda folder: (folder / "images/frame7").mkdir(), words="frame7"),
    Mutation("two folders of one number", lambda folder: (folder / "params" / "2").mkdir(), words="the same number"),
    Mutation("a hidden folder", lambda folder: (folder / "images" / ".trash").mkdir(), SAME),
    Mutation("manifest truncated", cut(MANIFEST), words=MANIFEST),
    Mutation("manifest: an unknown entry", entries(MANIFEST, sequenzes=[]), words="'sequenzes'"),
    Mutation("manifest: wrong counts", entries(MANIFEST, sequences=[["A", 3], ["FREE", 2]]),
             words="5 frames but the folder 6"),
    Mutation("manifest: a frame in no sequence", entries(MANIFEST, sequences=[["A", "0000", "0004"]]),
             words="0005 is in no"),
    Mutation("manifest: a frame in two", entries(MANIFEST, sequences=[["A", "0000", "0004"], ["B", "0004", "0005"]]),
             words="0004 is in two"),
    Mutation("manifest: a camera that is not there", entries(MANIFEST, cameras=["9"]), words="image_9.jpg"),
    Mutation("manifest: vertices that are not there", entries(MANIFEST, landmarks="vertices"),
             words="vertices.npy"),
    Mutation("manifest: a group beyond the landmarks",
             entries(MANIFEST, groups={"rigid": [0], "lips": [66], "blend": [1]}),
             words="from 0 to 65"),
]  # fmt: skip
"""Mutations of a folder as the public preprocessing writes it."""


def packed(**changes):
    return arrays("capture.npz", **changes)


ALL = f"params/{FRAME}/vertices.npy"
LOSSLESS = f"images/0001/image_{CAMERA}.png"
EXPORTED = [
    Mutation("image.png truncated", cut(LOSSLESS), words=LOSSLESS),
    Mutation("both images removed", removed(f"images/0001/image_{CAMERA}.*"), MARKED),
    Mutation("vertices.npy removed", removed("params/0001/vertices.npy"), MARKED, "without tracks"),
    Mutation("lmk_3d.npy removed", removed("params/0001/lmk_3d.npy"), SAME),
    Mutation("a frame removed everywhere", removed("*/0001"), MARKED, "without tracks"),
    Mutation("a frame added", lambda folder: shutil.copytree(folder / "images/0001", folder / "images/0007"),
             words="0007 is in no sequence"),
    Mutation("capture.json removed", removed("capture.json"), words="`feature_space`"),
    Mutation("groups removed", entries(MANIFEST, groups=None), words="has no groups"),
    Mutation("capture.npz truncated", cut("capture.npz"), words="capture.npz"),
    Mutation("neutral of other landmarks", packed(neutral=lambda n: n[:66]), words="66 neutral landmarks"),
    Mutation("neutral removed", packed(neutral=None), words="neutral missing"),
    Mutation("neutral holds NaN", packed(neutral=value(0, 0, to=np.nan)), words="NaN"),
    Mutation("detected a row short", packed(detected=lambda d: d[1:]), words="detected has shape"),
    Mutation("detected of integers", packed(detected=lambda d: d.astype(int)), words="int64"),
    Mutation("a name that is no frame", packed(name=lambda n: np.array(["../a", *n[1:]])), words="no frame's folder"),
]  # fmt: skip
"""Mutations of an exported folder."""


@pytest.mark.parametrize(("title", "table"), [("public", PUBLIC), ("exported", EXPORTED)])
def test_damage_is_named_or_marked(title, table, request, tmp_path):
    found = outcomes(request.getfixturevalue(title), table, read, tmp_path)
    report(f"source gha, {title} folder", found)
    assert [(each.mutation.label, each.kind, each.text) for each in found if not each.right] == []
    assert len({each.label for each in table}) == len(table)


def test_what_cannot_be_opened_is_named(public, tmp_path):
    for words, arguments in (
        ("'huge'", ("422", "huge", public)),
        ("root is None", ("422", "tiny")),
        ("holds a folder `images`", ("422", "tiny", tmp_path)),
    ):
        with pytest.raises(RafError, match=words):
            open_capture("gha", *arguments)
