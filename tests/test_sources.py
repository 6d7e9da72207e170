"""Sources: the registry, the image store, studio captures and videos, their caches and their errors."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from synthetic import ball_capture

from raflib.capture import Frames
from raflib.errors import RafError
from raflib.images import lanczos
from raflib.sources import _store, _studio_recipe, known_sources, open_capture, studio, video
from raflib.sources._window import square_window

pytest.importorskip("mediapipe", reason="mediapipe is not installed")
av = pytest.importorskip("av", reason="PyAV is not installed")

SMALL = studio.StudioProfile(size=128, tracking_size=192, sequences=2, per_sequence=3, free=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("studio")


@pytest.fixture(autouse=True)
def small_profiles(monkeypatch):
    monkeypatch.setitem(studio.PROFILES, "tiny", SMALL)
    monkeypatch.setitem(video.PROFILES, "tiny", video.VideoProfile(size=96, max_frames=16, clips=3, probes=4))


@pytest.fixture(scope="module")
def capture(folder):
    before = studio.PROFILES["tiny"]
    studio.PROFILES["tiny"] = SMALL
    yield open_capture("studio", "422", "tiny", folder)
    studio.PROFILES["tiny"] = before


def one_line(error, *parts):
    assert "\n" not in str(error.value)
    for part in parts:
        assert str(part) in str(error.value)


def no_tracking(*_, **__):
    raise AssertionError("tracked again")


# --- registry ---


def test_sources_are_the_files_of_the_folder(tmp_path, monkeypatch):
    assert {"studio", "video"} <= set(known_sources()) and "_store" not in known_sources()
    with pytest.raises(RafError) as error:
        open_capture("nowhere", "422")
    one_line(error, "'nowhere'", "studio", "video")
    for source in ("studio", "video"):
        with pytest.raises(RafError) as error:
            open_capture(source, "422", "huge")
        one_line(error, "'huge'", "demo")


# --- picture store ---


def store_of_noise(folder, calls):
    def make(t, c):
        calls.append((t, c))
        generator = np.random.default_rng(100 * t + c)
        return generator.integers(0, 255, (32, 32, 3), dtype=np.uint8), generator.integers(0, 255, (32, 32), np.uint8)

    return _store.ImageStore(folder, make)


def test_pictures_are_made_once_and_damage_is_repaired(tmp_path):
    calls = []
    first = store_of_noise(tmp_path, calls)
    image, mask = first.image(3, 1), first.mask(3, 1)
    assert isinstance(first, Frames) and image.shape == (32, 32, 3) and mask.shape == (32, 32) and calls == [(3, 1)]
    second = store_of_noise(tmp_path, calls)
    np.testing.assert_array_equal(second.image(3, 1), image)
    assert calls == [(3, 1)]
    for damage in (lambda data: data[:-20], lambda data: data[:200] + b"\0" + data[201:], lambda data: b""):
        path = first.path(3, 1)
        path.write_bytes(damage(path.read_bytes()))
        again = store_of_noise(tmp_path, calls)
        np.testing.assert_array_equal(again.image(3, 1), image)
        np.testing.assert_array_equal(again.mask(3, 1), mask)
    assert len(calls) == 4


def test_pictures_belong_to_their_place(tmp_path):
    calls = []
    store = store_of_noise(tmp_path / "a", calls)
    images = [store.image(t, 0) for t in range(2)]
    first, second = (store.path(t, 0) for t in range(2))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    again = store_of_noise(tmp_path / "a", calls)
    for t in range(2):
        np.testing.assert_array_equal(again.image(t, 0), images[t])
    other = store_of_noise(tmp_path / "b", calls)
    other.path(0, 0).parent.mkdir(parents=True)
    other.path(0, 0).write_bytes(first.read_bytes())  # of another capture
    other.image(0, 0)
    assert len(calls) == 5
    store.path(7, 0).mkdir()
    with pytest.raises(RafError, match=r"000007\.png: not a file"):
        store_of_noise(tmp_path / "a", calls).image(7, 0)


def test_tracks_know_their_name_and_frames(tmp_path):
    rows = {"pose": np.full((3, 6), np.nan, np.float32), "detected": np.zeros(3, bool)}
    _store.save_tracks(tmp_path / "a.npz", **rows)
    assert list(_store.load_tracks(tmp_path / "a.npz", ["pose", "detected"])) == ["pose", "detected"]
    assert _store.load_tracks(tmp_path / "none.npz", ["pose"]) is None
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    with pytest.raises(RafError, match=r"b\.npz: damaged cache \(it was written as a\.npz\); delete"):
        _store.load_tracks(tmp_path / "b.npz", ["pose"])
    for change, words in (
        ({"detected": np.ones(3, bool)}, "pose holds NaN"),
        ({"pose": np.zeros((2, 6))}, r"\[T = 2\]"),
    ):
        _store.save_tracks(tmp_path / "a.npz", **(rows | change))
        with pytest.raises(RafError, match=words):
            _store.load_tracks(tmp_path / "a.npz", ["pose", "detected"])


def test_prefetch_makes_what_is_missing(tmp_path):
    calls = []
    store = store_of_noise(tmp_path, calls)
    store.image(0, 0)
    store.prefetch([(0, 0), (1, 0), (1, 0), (np.int64(2), 1)], progress=False)
    assert sorted(calls) == [(0, 0), (1, 0), (2, 1)]
    assert all(store.path(t, c).is_file() for t, c in calls)


def test_memory_stays_bounded(tmp_path):
    store = store_of_noise(tmp_path, [])
    store._memory_bytes = 3 * 32 * 32 * 4
    for t in range(10):
        store.image(t, 0)
    assert len(store._recent) == 3 and store._held == 3 * 32 * 32 * 4


# --- studio ---


def test_studio_capture(capture):
    assert capture.subject == "422" and capture.feature_space == "arkit52" and len(capture) == 2 * 3 + 4
    assert capture.detected.all() and capture.free.sum() == 4 and capture.train.sum() == 6
    assert set(capture.sequence[capture.free]) == {"FREE"}
    assert capture.expression.dtype == np.float32 and capture.pose.dtype == np.float32
    assert capture.landmarks.shape == (10, 478, 3) and capture.neutral.shape == (478, 3)
    assert capture.truth.actions.shape == (10, 52) and capture.truth.pose.shape == (10, 6)
    assert capture.truth.landmarks.shape == (10, 478, 3)
    # Tracked landmarks are near the true ones in every frame, millimetres away but not the same.
    error = np.linalg.norm(capture.landmarks - capture.truth.landmarks, axis=2) * 1000
    assert 0.5 < np.median(error) < 6 and np.median(error, axis=1).max() < 10
    ahead = int(np.abs(capture.truth.angles).sum(1).argmin())  # a turned head hides landmarks from the outermost views
    for c, camera in enumerate(capture.cameras[:4]):
        image, mask = capture.image(ahead, c), capture.mask(ahead, c)
        assert image.shape == (128, 128, 3) and image.dtype == mask.dtype == np.uint8
        assert (image[mask == 0] == 255).all() and 0.2 < (mask > 128).mean() < 0.9
        seen = camera.project(capture.landmarks[ahead]).astype(int)
        assert (mask[seen[:, 1], seen[:, 0]] > 128).mean() > 0.9  # landmarks lie on the person in every view


def test_studio_features_are_tracked_not_true(capture):
    jaw = studio.studio.ACTIONS.index("jawOpen")
    tracked, true = capture.expression[:, 25], capture.truth.actions[:, jaw]
    assert not np.allclose(tracked, true, atol=1e-3)
    assert capture.expression.min() >= 0 and capture.expression.max() <= 1


def test_second_opening_does_not_track(capture, folder, monkeypatch):
    monkeypatch.setattr(studio, "FaceTracker", no_tracking)
    again = open_capture("studio", "422", "tiny", folder)
    for name in ("expression", "pose", "landmarks", "neutral", "detected", "sequence", "frame"):
        np.testing.assert_array_equal(getattr(again, name), getattr(capture, name))
    with pytest.raises(AssertionError, match="tracked again"):  # other settings are other tracks
        monkeypatch.setitem(studio.PROFILES, "tiny", replace(SMALL, tracking_size=200))
        open_capture("studio", "422", "tiny", folder)


def test_what_is_made_in_another_way_is_not_taken(capture, folder, tmp_path, monkeypatch):
    known = _studio_recipe.made_by()
    for name in ("head_model.npz", "landmarks.npz"):
        shutil.copy(_studio_recipe.data_root() / name, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(_studio_recipe, "data_root", lambda: tmp_path)
        assert _studio_recipe.made_by.__wrapped__() == known
        (tmp_path / "landmarks.npz").write_bytes(b"others")
        assert _studio_recipe.made_by.__wrapped__() != known
        (tmp_path / "landmarks.npz").unlink()
        with pytest.raises(RafError) as error:
            _studio_recipe.made_by.__wrapped__()
        one_line(error, "landmarks.npz", "restore")
    for room in (_studio_recipe.studio, _studio_recipe.tracking):
        with monkeypatch.context() as patched:
            patched.setattr(room, "VERSION", room.VERSION + 1)
            assert _studio_recipe.made_by.__wrapped__() != known
    monkeypatch.setattr(studio, "made_by", lambda: "another studio")
    monkeypatch.setattr(studio, "FaceTracker", no_tracking)
    with pytest.raises(AssertionError, match="tracked again"):
        open_capture("studio", "422", "tiny", folder)


def test_damaged_tracks_are_named(capture, folder):
    (path,) = folder.glob("422-*.npz")
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RafError) as error:
            open_capture("studio", "422", "tiny", folder)
        one_line(error, path, "delete")
    finally:
        path.write_bytes(whole)


def test_frames_without_a_face_are_marked(tmp_path, monkeypatch):
    real, calls = studio.track_views, []

    def blind_sometimes(*arguments):
        calls.append(None)
        return None if len(calls) == 2 else real(*arguments)

    monkeypatch.setattr(studio, "track_views", blind_sometimes)
    capture = open_capture("studio", "443", "tiny", tmp_path)
    assert capture.detected.tolist() == [True, False] + [True] * 8
    for signal in (capture.expression, capture.pose, capture.landmarks):
        assert np.isnan(signal[1]).all() and np.isfinite(signal[capture.detected]).all()
    assert not capture.train[1]


def test_driver_profile_is_free_from_the_front(tmp_path, monkeypatch):
    monkeypatch.setitem(studio.PROFILES, "driver", replace(studio.PROFILES["driver"], free=5, tracking_size=192))
    driver = open_capture("studio", "E01", "driver", tmp_path)
    assert len(driver) == 5 and driver.free.all() and [camera.name for camera in driver.cameras] == [studio.FRONTAL]


# --- video ---


def write_video(path, pictures, width=None, height=None):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv420p"
        stream.bit_rate = 4_000_000
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """15 frames of a studio head at the left of a 330 × 250 image; decoders pad rows of that width."""
    camera = next(camera for camera in studio.studio.rig(200) if camera.name == studio.FRONTAL)
    identity, performed = studio.studio.Identity("445"), studio.studio.act("445", "FREE")
    pictures = []
    for number in range(15):
        picture = np.full((250, 330, 3), 190, np.uint8)
        head = studio.studio.render(identity, performed.actions[4 * number], performed.angles[4 * number], camera)[0]
        picture[30:230, 10:210] = head
        pictures.append(picture)
    return write_video(tmp_path_factory.mktemp("video") / "person.mp4", pictures)


def test_video_capture(footage, tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_CACHE", str(tmp_path))
    capture = open_capture("video", "person", "tiny", footage)
    assert capture.subject == "person" and len(capture) == 15 and capture.detected.all()
    assert capture.free.tolist() == [False] * 12 + [True] * 3 and set(capture.sequence[:12]) == {
        "clip-00", "clip-01", "clip-02",
    }  # fmt: skip
    assert capture.image(0, 0).shape == (96, 96, 3) and capture.truth is None
    assert capture.background.shape == (96, 96, 3)
    outside = capture.mask(0, 0) == 0  # the camera stands still, so the room stays
    assert np.abs(capture.background[outside] - capture.image(0, 0)[outside] / 255).mean() < 0.02
    for t in (0, 7, 14):
        mask, inside = capture.mask(t, 0), capture.cameras[0].project(capture.landmarks[t]).astype(int)
        assert 0.2 < (mask > 128).mean() < 0.8 and (mask[inside[:, 1], inside[:, 0]] > 128).mean() > 0.98
    pixels = capture.cameras[0].project(capture.landmarks)
    assert (pixels > 5).all() and (pixels < 91).all()  # the window holds the whole face
    assert np.ptp(pixels[..., 1]) > 30
    assert np.abs(capture.pose[:, 3:]).max() < 0.15

    monkeypatch.setattr(video, "FaceTracker", no_tracking)
    again = open_capture("video", "person", "tiny", footage.parent)
    np.testing.assert_array_equal(again.expression, capture.expression)
    np.testing.assert_array_equal(again.image(7, 0), capture.image(7, 0))
    path = capture.frames.path(3, 0)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RafError) as error:
        open_capture("video", "person", "tiny", footage).image(3, 0)
    one_line(error, path, "delete")


def test_a_camera_that_moves_puts_the_person_on_white(footage, tmp_path, monkeypatch):
    """A wall passes by behind the person, in place of the footage's grey and white."""
    monkeypatch.setenv("RAF_CACHE", str(tmp_path / "cache"))
    coarse = np.random.default_rng(0).integers(60, 250, (10, 24, 3), dtype=np.uint8)
    wall = lanczos(coarse, 600, 250)
    pictures = []
    for number, picture in video.decode(footage):
        room = np.abs(picture.astype(int) - 190).max(-1, keepdims=True) < 12
        room |= picture.min(-1, keepdims=True) > 245
        pictures.append(np.where(room, wall[:, 15 * number : 15 * number + 330], picture))
    capture = open_capture("video", "moving", "tiny", write_video(tmp_path / "moving.mp4", pictures))
    mask, image = capture.mask(7, 0), capture.image(7, 0)
    assert capture.background is None and 0.2 < (mask > 128).mean() < 0.8
    assert (image[:8, :8] == 255).all() and image[mask > 250].mean() < 220


def test_decoded_pictures_are_contiguous_and_upright(footage, tmp_path):
    number, picture = next(video.decode(footage, {2}))
    assert number == 2 and picture.shape == (250, 330, 3) and picture.flags["C_CONTIGUOUS"]
    # A phone's portrait video: the same bytes with a matrix in the track header that says "turn by 90 degrees".
    data = footage.read_bytes()
    upright = b"".join(value.to_bytes(4, "big") for value in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))
    lying = b"".join(
        value.to_bytes(4, "big") for value in (0, 1 << 16, 0, (1 << 32) - (1 << 16), 0, 0, 250 << 16, 0, 1 << 30)
    )
    header = data.index(upright, data.index(b"tkhd"))
    turned = tmp_path / "phone.mp4"
    turned.write_bytes(data[:header] + lying + data[header + len(lying) :])
    _, standing = next(video.decode(turned, {2}))
    np.testing.assert_array_equal(standing, np.rot90(picture, -1))  # the matrix turns clockwise


def test_bad_videos_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_CACHE", str(tmp_path / "cache"))
    missing, text, empty = tmp_path / "missing.mp4", tmp_path / "text.mp4", tmp_path / "empty.mp4"
    text.write_text("not a video")
    write_video(empty, [np.full((128, 128, 3), 60 + number, np.uint8) for number in range(6)])
    for path, words in ((missing, "no such video"), (text, "not a readable video"), (empty, "4 frames looked at")):
        with pytest.raises(RafError) as error:
            open_capture("video", "person", "tiny", path)
        one_line(error, path, words)
    assert not list((tmp_path / "cache").rglob("*.npz"))
    with pytest.raises(RafError) as error:
        open_capture("video", "person", "tiny", tmp_path)
    one_line(error, tmp_path, "0 files")


def test_square_window_stays_inside():
    boxes = np.array([[10.0, 20, 60, 90], [20, 25, 70, 95]])
    assert square_window(boxes, 400, 300, 2.0) == (0, 0, 150)
    assert square_window(boxes + 100, 400, 300, 2.0) == (65, 82, 150)
    x, y, side = square_window(boxes, 120, 90, 2.0)
    assert side == 90 and x == 0 and 0 <= y <= 30


@pytest.mark.clips
@pytest.mark.parametrize("name", ["obama", "franck", "driver_d6"])
def test_real_clips(name, clips, tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_CACHE", str(tmp_path))
    path = clips / f"{name}.mp4"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    capture = open_capture("video", name, "tiny", path)
    assert capture.detected.mean() > 0.95 and capture.free.any() and capture.train.any()
    size = np.ptp(capture.cameras[0].project(capture.landmarks[capture.detected]), axis=1).max(1)
    assert (size > 96 / 4).all()


def test_a_capture_takes_lists_of_frames_and_keeps_free_out():
    ball = ball_capture(frames=6)
    listed = replace(ball)
    for name in ("sequence", "frame", "detected"):
        object.__setattr__(listed, name, getattr(ball, name).tolist())
    listed.__post_init__()  # as without the tests' checks of types
    assert np.array_equal(listed.train, ball.train) and np.array_equal(listed.free, ball.free) and ball.free.any()
    assert listed.fingerprint == ball.fingerprint
