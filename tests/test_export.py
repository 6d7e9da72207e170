"""Exports: packed motion repeats the avatar, the page is complete, and splat files and films can be read again."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import av
import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData
from toy_avatar import SIZE, toy_capture, toy_run, toy_signals

from raflib.errors import RafError
from raflib.export import comparison_film, export_html, export_ply_sequence, frontal_camera, turntable
from raflib.export import packing as packing_room
from raflib.export.cameras import head_middle
from raflib.export.motion import posed, starts
from raflib.export.packing import pack
from raflib.render import Gaussians, rasterize


@pytest.fixture(scope="module")
def capture():
    return toy_capture()


@pytest.fixture(scope="module")
def run(capture):
    return toy_run(capture)


@pytest.fixture(scope="module")
def gaussians(capture, run):
    return posed(run, *toy_signals(capture))


@pytest.fixture
def as_for_users(monkeypatch):
    """Annotations are not checked, as outside the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def image(gaussians: Gaussians, camera, blur: float = 0.1) -> np.ndarray:
    return rasterize(gaussians, [camera], SIZE, blur=blur)[0][0].clamp(0, 1).numpy()


def test_motion_that_is_too_large_is_refused_at_the_first_frame(capture, run, monkeypatch):
    made = []
    forward = type(run.avatar).forward
    monkeypatch.setattr(type(run.avatar), "forward", lambda *given: made.append(1) or forward(*given))
    monkeypatch.setattr(packing_room, "MOST", 100)
    with pytest.raises(RafError, match=r"10 frames of \d+ Gaussians are more than 100; export fewer"):
        posed(run, *toy_signals(capture))
    assert len(made) == 1


# --- packed motion --------------------------------------------------------------------------------------------------


def test_packed_motion_is_small_and_looks_like_the_avatar(capture, gaussians):
    camera = capture.cameras[1]
    packed = pack(gaussians, 0.9 / camera.intrinsic[0, 0])
    errors = [image(packed.gaussians(t), camera) - image(gaussians[t], camera) for t in range(len(gaussians))]
    assert 255 * np.abs(errors).mean() < 0.5, "half a grey level"
    assert 255 * np.sqrt(np.mean(np.square(errors), axis=(1, 2, 3))).max() < 2
    assert len(packed.data()) < 0.6 * 4 * 14 * len(gaussians) * packed.count
    moved = np.abs(image(packed.gaussians(0), camera) - image(packed.gaussians(5), camera))
    assert moved.max() > 0.1, "the avatar of this test moves"


def test_a_looser_tolerance_needs_fewer_components(gaussians, monkeypatch):
    before = pack(gaussians, 0.002)
    monkeypatch.setattr(packing_room, "TOLERANCES", dict.fromkeys(packing_room.TOLERANCES, 1e3))
    after = pack(gaussians, 0.002)
    assert sum(part.coefficients.shape[1] for part in before.parts) > 0
    assert [part.coefficients.shape[1] for part in after.parts] == [0, 0, 0, 0]


def test_what_never_shows_is_left_out(gaussians):
    hidden = gaussians.opacities.clone()
    hidden[:, ::2] = 1 / 256
    hidden[1:, 0] = 0.5  # visible in some frames
    packed = pack(replace(gaussians, opacities=hidden), 0.002)
    assert packed.count == gaussians.means.shape[1] // 2 + 1
    with pytest.raises(RafError, match="no Gaussian covers 1/255"):
        pack(replace(gaussians, opacities=torch.zeros_like(hidden)), 0.002)


def test_too_many_frames_are_refused(gaussians, monkeypatch):
    monkeypatch.setattr(packing_room, "MOST", 100)
    with pytest.raises(RafError, match=r"10 frames of \d+ Gaussians are more than 100; export fewer"):
        pack(gaussians, 0.002)


def test_opposite_quaternions_are_one_rotation(gaussians):
    flipped = gaussians.quaternions.clone()
    flipped[1::2] *= -1
    packed = pack(replace(gaussians, quaternions=flipped), 0.002)
    torch.testing.assert_close(packed.gaussians(1).means, pack(gaussians, 0.002).gaussians(1).means)
    assert len(packed.data()) == len(pack(gaussians, 0.002).data()), "a sign costs nothing"


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_is_one_file_that_fetches_nothing(capture, run, tmp_path):
    path = tmp_path / "ein Kopf 片.html"
    title = "<b>\"A\" & 'B'</b> @data@"
    assert export_html(run, *toy_signals(capture), path, times=np.arange(10) / 5, title=title) == path
    text = path.read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", text)
    assert not re.findall(r"https?://|\bfetch\(|import\(|XMLHttpRequest|url\(", text)
    assert "default-src 'none'" in text
    assert "<title>&lt;b&gt;&quot;A&quot; &amp; &#x27;B&#x27;&lt;/b&gt; @data@</title>" in text
    header = json.loads(re.search(r'<script type="application/json" id="header">(.*?)</script>', text)[1])
    assert header["frames"] == 10 and header["times"] == pytest.approx(np.arange(11) / 5)
    assert header["camera"]["width"] == SIZE and header["camera"]["blur"] == run.config.avatar.blur
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_blur_is_counted_in_pixels_of_the_rendered_features(capture, run, tmp_path):
    config = replace(run.config, avatar=replace(run.config.avatar, upsampling=2))
    text = export_html(replace(run, config=config), *toy_signals(capture, 2), tmp_path / "a.html").read_text()
    header = json.loads(re.search(r'id="header">(.*?)</script>', text)[1])
    assert (header["camera"]["width"], header["camera"]["blur"]) == (2 * SIZE, pytest.approx(0.4))


# --- splat files ----------------------------------------------------------------------------------------------------


def test_each_frame_is_a_splat_file(capture, run, gaussians, tmp_path):
    folder = tmp_path / "splats of 片"
    paths = export_ply_sequence(run, *toy_signals(capture, 3), folder)
    assert [path.name for path in paths] == ["frame_00000.ply", "frame_00001.ply", "frame_00002.ply"]
    assert sorted(folder.iterdir()) == paths
    for frame, path in enumerate(paths):
        vertex = PlyData.read(str(path))["vertex"]
        np.testing.assert_allclose(vertex["x"], gaussians.means[frame, :, 0].numpy(), atol=1e-6)
    export_ply_sequence(run, *toy_signals(capture, 4), folder)
    with pytest.raises(RafError, match="frames up to 3 of a longer sequence"):
        export_ply_sequence(run, *toy_signals(capture, 3), folder)
    with pytest.raises(RafError, match="is a file, expected a folder"):
        export_ply_sequence(run, *toy_signals(capture, 1), paths[0])


# --- films ----------------------------------------------------------------------------------------------------------


def mp4_frames(path) -> tuple[list[np.ndarray], list[float]]:
    with av.open(str(path)) as container:
        read = list(container.decode(video=0))
        return [frame.to_ndarray(format="rgb24") for frame in read], [float(frame.time) for frame in read]


def gif_frames(path) -> tuple[list[np.ndarray], list[int]]:
    images, lengths = [], []
    with Image.open(path) as film:
        for number in range(film.n_frames):
            film.seek(number)
            images.append(np.asarray(film.convert("RGB")))
            lengths.append(film.info["duration"])
    return images, lengths


@pytest.fixture(scope="module")
def films(capture, run, tmp_path_factory):
    """The same comparison as MP4 and as GIF: another person drives two avatars."""
    folder = tmp_path_factory.mktemp("films")
    driver = replace(capture, subject="901", expression=capture.expression[::-1].copy())
    runs = {"vanilla": run, "RAF": toy_run(capture, seed=1)}
    rows, camera = np.array([0, 2, 4, 8]), capture.cameras[1]
    paths = [folder / "film.mp4", folder / "film.GIF"]
    for path in paths:
        assert comparison_film(runs, capture, driver, rows, path, camera, tile=96) == path
    return paths, driver, runs, camera


def test_a_comparison_shows_driver_and_avatars_under_their_labels(capture, films):
    (film, moving), driver, runs, camera = films
    frames, times = mp4_frames(film)
    assert times == pytest.approx([0, 0.08, 0.16, 0.32], abs=1e-4), "the times of the recording"
    gifs, lengths = gif_frames(moving)
    assert lengths == [80, 80, 160, 80]
    height, width = frames[0].shape[:2]
    assert width == pytest.approx(3 * 100 + 4, abs=1) and 96 < height < 140
    for read in (frames, gifs):
        heads = [read[0][: height - 100, 4 + 100 * c : 100 + 100 * c] for c in range(3)]
        assert all((head < 128).any() for head in heads), "a label above each column"
        assert read[0][:2, :2].min() >= (255 if read is gifs else 250), "the background is white"
        assert np.abs(read[0].astype(int) - read[3]).max() > 50, "frames differ"
        pose = capture.pose  # the ball's tracker gives the driver the target's head motion
        for c, name in enumerate(runs, 1):
            tile = read[3][height - 100 : height - 4, 4 + 100 * c : 100 + 100 * c].reshape(48, 2, 48, 2, 3).mean((1, 3))
            made = runs[name].render(driver.expression[8:9], pose[8:9], capture.scale[8:9], [camera])[0]
            other = runs["RAF" if name == "vanilla" else "vanilla"]
            wrong = other.render(driver.expression[8:9], pose[8:9], capture.scale[8:9], [camera])[0]
            assert np.abs(tile / 255 - made).mean() < 0.6 * np.abs(tile / 255 - wrong).mean()
        shown = read[3][height - 100 : height - 4, 4:100].reshape(48, 2, 48, 2, 3).mean((1, 3))
        assert np.abs(shown - driver.image(8, 1)).mean() < 12, "the driver's own image comes first"


def test_the_camera_goes_once_around(capture, run, tmp_path):
    path = turntable(run, capture.expression[0], tmp_path / "around.gif", length=0.4, fps=10)
    frames, lengths = gif_frames(path)
    assert len(frames) == 4 and lengths == [100] * 4
    camera, pose, scale = frontal_camera(run), run.avatar.median_pose.numpy()[None], np.array([0.1], np.float32)
    middle = head_middle(pose, scale)
    for frame, angle in zip(frames, (0, np.pi / 2, np.pi, 1.5 * np.pi), strict=True):
        made = run.render(capture.expression[:1], pose, scale, [camera.orbited(middle, angle)])[0]
        assert np.abs(frame / 255 - made).mean() < 0.03
    assert np.abs(frames[0].astype(int) - frames[2]).mean() > 5
    fast = turntable(run, capture.expression[0], tmp_path / "one.mp4", length=0.04, camera=capture.cameras[0])
    assert len(mp4_frames(fast)[0]) == 1


def test_an_orbit_keeps_the_head_in_its_place(capture, run):
    camera, middle = capture.cameras[0], np.array([0.01, -0.02, 0.05])
    for yaw, pitch in ((0.4, 0), (0, 0.3), (-2.0, -0.7)):
        turned = camera.orbited(middle, yaw, pitch)
        np.testing.assert_allclose(turned.project(middle), camera.project(middle), atol=1e-9)
        np.testing.assert_allclose(turned.extrinsic[:3, :3] @ turned.extrinsic[:3, :3].T, np.eye(3), atol=1e-12)
    front = frontal_camera(run, 100)
    assert front.centre[2] < -0.5, "in front of a face that looks along −z"
    assert front.orbited(middle, 0.5).centre[0] > 0.3, "a positive yaw shows the head's left side"
    assert front.orbited(middle, 0, 0.5).centre[1] < -0.3, "a positive pitch shows the head from above"
    np.testing.assert_allclose(front.project(run.avatar.median_pose[3:].numpy()), [50, 50], atol=1e-3)


# --- what cannot be exported ----------------------------------------------------------------------------------------


def test_times_of_frames():
    np.testing.assert_allclose(starts("a", 3, 10), [0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(starts("a", 3, 10, [5, 6, 8]), [0, 1, 3, 4.5])
    np.testing.assert_allclose(starts("a", 1, 10, [5]), [0, 0.1])


def changed(signals, place: int, change):
    """The signals with one of them changed."""
    return tuple(change(values) if i == place else values for i, values in enumerate(signals))


@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        (0, lambda e: e[:, :51], r"expression has shape \[10, 51\], expected \[frames, 52\]: the features"),
        (0, lambda e: e[0], r"expression has shape \[52\]"),
        (0, lambda e: e[:0], "no frames were given"),
        (1, lambda p: p[:9], r"pose has shape \[9, 6\], expected \[10, 6\]"),
        (1, lambda p: np.full_like(p, np.nan), "pose holds NaN or infinite numbers; leave frames without a face out"),
        (2, lambda s: s[:, None], r"scale has shape \[10, 1\], expected \[10\]"),
        (2, lambda s: -s, "scale is -0.1 in a frame"),
        (0, lambda e: "smile", "expression must be numbers"),
    ],
)
def test_wrong_signals_are_named(capture, run, tmp_path, as_for_users, place, change, words):
    signals = changed(toy_signals(capture), place, change)
    for export, name in ((export_html, "a.html"), (export_ply_sequence, "folder")):
        with pytest.raises(RafError, match=rf"{name}: {words}"):
            export(run, *signals, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_wrong_requests_are_named(capture, run, tmp_path, as_for_users):
    signals, rows = toy_signals(capture), np.arange(3)
    blind = replace(capture, detected=np.arange(len(capture)) != 1)
    away = capture.cameras[0].orbited(np.array([0, 0, -2.0]), np.pi)
    runs = {"RAF": run}
    for words, call in {
        r"a\.htmx: a page ends in \.html": lambda: export_html(run, *signals, tmp_path / "a.htmx"),
        r"fps is nan": lambda: export_html(run, *signals, tmp_path / "a.html", fps=float("nan")),
        r"fps is 0": lambda: export_html(run, *signals, tmp_path / "a.html", fps=0),
        "expected 10 increasing times": lambda: export_html(run, *signals, tmp_path / "a.html", times=[0] * 10),
        "choose one that sees the face": lambda: export_html(run, *signals, tmp_path / "a.html", away),
        r"a film ends in \.mp4 or \.gif": lambda: turntable(run, capture.expression[0], tmp_path / "a.webm"),
        "number of frames is 0": lambda: turntable(run, capture.expression[0], tmp_path / "a.gif", length=0),
        r"shape \[1, 51\]": lambda: turntable(run, capture.expression[0, 1:], tmp_path / "a.gif"),
        "no avatars were given": lambda: comparison_film({}, capture, capture, rows, tmp_path / "a.gif"),
        "at least one": lambda: comparison_film(runs, capture, capture, rows[:0], tmp_path / "a.gif"),
        r"rows are \[99\], expected": lambda: comparison_film(runs, capture, capture, [99], tmp_path / "a.gif"),
        r"rows are \[True, False\]": lambda: comparison_film(
            runs, capture, capture, np.array([True, False]), tmp_path / "a.gif"
        ),
        "frame 1 of 900 shows no face": lambda: comparison_film(runs, blind, blind, rows, tmp_path / "a.gif"),
        "avatar RAF is of 900, expected 901": lambda: comparison_film(
            runs, replace(capture, subject="901"), capture, rows, tmp_path / "a.gif"
        ),
        "expected 2 increasing times": lambda: comparison_film(
            runs, capture, capture, np.array([3, 1]), tmp_path / "a.gif"
        ),
    }.items():
        with pytest.raises(RafError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_failed_film_leaves_the_old_one(run, capture, tmp_path, monkeypatch):
    path = tmp_path / "film.gif"
    path.write_bytes(b"an older film")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(run), "render", stop)
    with pytest.raises(KeyboardInterrupt):
        turntable(run, capture.expression[0], path, length=0.2)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"an older film"]
