"""Videos from cameras, phones and downloads: the properties in the file are read once and used."""

import os
import struct
import warnings
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import ball_capture

from raflib.driving import frames_to_play
from raflib.errors import RafError
from raflib.reading.names import content_hash, file_name, short_name
from raflib.report import seconds
from raflib.sources import open_capture, video
from raflib.sources._following import following_window
from raflib.sources._lens import window_angle
from raflib.sources._main_face import MainFace
from raflib.sources._video_frames import read_frames
from raflib.sources._video_info import read_info, typical_spacing
from raflib.sources._window import main_place, where_the_face_mostly_is, without_bars
from raflib.sources.video import VideoProfile
from raflib.tracking import Observation

av = pytest.importorskip("av", reason="PyAV is not installed")

RED, GREEN, BLUE, WHITE = (250, 20, 20), (20, 250, 20), (20, 20, 250), (240, 240, 240)
TICK = Fraction(1, 90_000)


def corners(width=96, height=64):
    """An image whose four corners have four colours."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, WHITE
    return image


def film(path, images=None, times=None, codec="libx264", options=None, light=None, **settings):
    """A film of `images` (10 of `corners` by default), 25 a second or at `times`; `settings` are the stream's."""
    images = [corners()] * 10 if images is None else images
    with av.open(f"file:{path}", "w", format=settings.pop("format", None), options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = settings.pop("pixels", "yuv420p")
        if "turn" in settings:
            stream.set_display_rotation(*settings.pop("turn"))
        if times is not None:
            stream.time_base = stream.codec_context.time_base = TICK
        container.metadata.update(settings.pop("tags", {}))
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] / TICK), TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def images_of(path, wanted=None):
    return [image for _, image in read_frames(read_info(path), wanted)]


def one_line(error, *parts):
    assert "\n" not in str(error.value)
    for part in parts:
        assert str(part) in str(error.value)


# --- pictures as they are shown -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turned_and_mirrored_films_stand_upright(tmp_path, degrees, mirrored):
    path = film(tmp_path / "phone.mp4", turn=(degrees, mirrored))
    expected = np.rot90(corners(), degrees // 90)
    expected = expected[:, ::-1] if mirrored else expected
    info = read_info(path)
    assert (info.height, info.width) == expected.shape[:2]
    (image,) = images_of(path, {3})
    assert image.shape == expected.shape and image.flags["C_CONTIGUOUS"]
    assert np.abs(image.astype(int) - expected).mean() < 6


@pytest.mark.parametrize(
    ("shape", "turn", "size"),
    [
        (Fraction(4, 3), None, (64, 128)),
        (Fraction(1, 2), None, (128, 96)),
        (Fraction(4, 3), (90, False), (128, 64)),
        (Fraction(511, 512), None, (64, 96)),
    ],
)
def test_pixels_become_square(tmp_path, shape, turn, size):
    settings = {} if turn is None else {"turn": turn}
    path = film(tmp_path / "wide.mp4", sample_aspect_ratio=shape, **settings)
    assert images_of(path)[0].shape[:2] == size == (read_info(path).height, read_info(path).width)


def test_a_film_that_changes_its_size_keeps_one(tmp_path):
    """Two recordings are joined into one file and time stamps begin again, as in recordings of video calls."""
    first = film(tmp_path / "first.ts", [corners()] * 10)
    second = film(tmp_path / "second.ts", [corners(64, 96)] * 6)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    info = read_info(joined)
    assert (info.width, info.height, len(info.times)) == (96, 64, 16)
    np.testing.assert_allclose(np.diff(info.times), 0.04, atol=1e-3)
    assert "change size (96×64 from 0.0 s on, 64×96 from 0.4 s on)" in info.notes[0]
    images = images_of(joined)
    assert {image.shape for image in images} == {(64, 96, 3)}
    later = images[-1]
    assert (later[:, :24] == 0).all() and (later[:, -24:] == 0).all()  # fitted, not stretched
    assert np.abs(later[8, 30].astype(int) - RED).max() < 30 and np.abs(later[-8, -30].astype(int) - WHITE).max() < 30


def test_more_light_than_white_becomes_white(tmp_path):
    """HLG at 0.75 is the white of paper, 0.38 a grey; without conversion they would be 191 and 97."""
    greys = [np.full((16, 16, 3), round(255 * value), np.uint8) for value in (0.75, 0.38)]
    light = {"color_trc": 18, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    path = film(tmp_path / "phone.mp4", greys, pixels="yuv420p10le", **light)
    assert read_info(path).hdr == "HLG"
    white, grey = (image.mean() for image in images_of(path))
    assert white > 240 and 100 < grey < 125


def test_a_cover_image_is_not_the_film(tmp_path):
    """A tag editor puts the cover before the tracks: it is stream 0 then."""

    def box(kind, content):
        return struct.pack(">I4s", 8 + len(content), kind) + content

    source = film(tmp_path / "plain.mp4").read_bytes()
    Image.new("RGB", (128, 128)).save(tmp_path / "cover.jpg")
    cover = struct.pack(">II", 13, 0) + (tmp_path / "cover.jpg").read_bytes()
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    tags = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", box(b"covr", box(b"data", cover)))))
    at = source.find(b"moov") - 4
    size = struct.unpack(">I", source[at : at + 4])[0]
    inside = source[at + 8 : at + size]
    header = struct.unpack(">I", inside[:4])[0]
    path = tmp_path / "tagged.mp4"
    path.write_bytes(source[:at] + box(b"moov", inside[:header] + tags + inside[header:]) + source[at + size :])
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "mjpeg"
    assert len(images_of(path)) == 10 and images_of(path)[0].shape == (64, 96, 3)


# --- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_times_are_those_of_the_file(tmp_path, suffix):
    times = np.array([0.0, 0.033, 0.067, 0.5, 0.533, 2.0, 2.033, 2.067, 2.1])
    info = read_info(film(tmp_path / f"variable.{suffix}", [corners()] * len(times), times))
    np.testing.assert_allclose(info.times, times, atol=2e-3)
    assert info.notes == ()


def test_films_without_time_stamps_have_their_rate(tmp_path):
    info = read_info(film(tmp_path / "raw.h264"))
    np.testing.assert_allclose(info.times, np.arange(10) / 25)


@pytest.mark.parametrize(
    ("rate", "count", "kept"),
    [
        (25, 100, 100),
        (30.3, 100, 100),
        (60, 120, 60),
        (59.258, 120, 60),
        (120, 400, 100),
        (25, 480, 120),
        (25, 121, 120),
    ],
)
def test_films_are_thinned_evenly_in_time(rate, count, kept):
    rows = video.thinned(np.arange(count) / rate, VideoProfile(max_fps=30.0, max_frames=120))
    assert len(rows) == kept and rows[0] == 0 and len(set(np.diff(rows))) <= 2 and np.ptp(np.diff(rows)) <= 1


def test_a_long_gap_does_not_cost_the_frames_around_it():
    times = np.concatenate([np.arange(200) / 30, 1e6 + np.arange(10) / 30])
    assert 100 <= len(video.thinned(times, VideoProfile(max_fps=30.0, max_frames=120))) <= 120
    assert typical_spacing(times) == pytest.approx(1 / 30)


# --- files that are damaged, foreign or oddly named -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.ts", "cut.avi"])
def test_a_download_cut_short_is_used_as_far_as_it_goes(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (30, 64, 96, 3), dtype=np.uint8)
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    path = film(tmp_path / name, list(noise), codec="mpeg4" if name.endswith("avi") else "libx264", options=options)
    assert read_info(path).notes == () and len(read_info(path).times) == 30
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    info = read_info(path)
    assert 15 <= len(info.times) < 30 and len(images_of(path)) == len(info.times)
    assert "cut short" in info.notes[0] and f"{len(info.times)} frames" in info.notes[0]


def test_sound_may_be_longer_than_the_film(tmp_path):
    path = tmp_path / "talk.mkv"
    with av.open(str(path), "w") as container:
        pictures, sound = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=44_100)
        pictures.width, pictures.height, pictures.pix_fmt = 96, 64, "yuv420p"
        for _ in range(10):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(corners(), format="rgb24")))
        for number in range(80):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 44_100, 1024 * number
            container.mux(sound.encode(frame))
        container.mux(pictures.encode())
        container.mux(sound.encode())
    info = read_info(path)
    assert len(info.times) == 10 and info.notes == ()


def _sound_only(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


FOREIGN = {
    "empty.mp4": (lambda path: path.write_bytes(b""), "is empty"),
    "noise.mp4": (lambda path: path.write_bytes(bytes(range(256)) * 100), "not a readable video"),
    "image.mp4": (lambda path: Image.new("RGB", (64, 64)).save(path, "png"), "not a video of a format"),
    "sound.mp4": (_sound_only, "holds no images"),
    "single.mp4": (lambda path: film(path, [corners()]), "holds 1 frames, at least 3"),
    "list.m3u8": (lambda path: path.write_text("#EXTM3U\n#EXTINF:9,\nother.ts\n#EXT-X-ENDLIST\n"), "video"),
    "list.mp4": (lambda path: path.write_text("ffconcat version 1.0\nfile other.ts\n"), "format"),
}
"""Files that are not a film with a face. Some are lists of other files; a video must not open another file."""


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_film_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setenv("RAF_CACHE", str(tmp_path / "cache"))
    make, words = FOREIGN[name]
    make(tmp_path / name)
    film(tmp_path / "other.ts")
    with pytest.raises(RafError) as error:
        open_capture("video", "person", "tiny", tmp_path / name)
    one_line(error, tmp_path / name, words, ";")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["12:30.mp4", "file:x.mp4", "%03d?#[1].mp4", os.fsdecode(b"\xff\xfe.mp4")])
def test_any_name_can_be_read(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "plain.mp4").rename(tmp_path / name)
    assert len(read_info(Path(name)).times) == 10


def test_short_names_fit_and_differ(tmp_path):
    assert short_name("person.1") == "person.1"
    for text in ("n" * 300, "片" * 80, "12:30", "a/../b", "", ".hidden", "dot.", os.fsdecode(b"\xff\xfe")):
        name = short_name(text)
        assert name != text and len(name.encode()) <= 48 and not set(name) & set("/:\0")
        assert not name.startswith(".") and not name.endswith("."), "Windows removes a dot at the end"
    assert len({short_name(text) for text in ("a:b", "a/b", "a_b", "n" * 300, "n" * 301)}) == 5
    for folder, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "me.mp4").write_bytes(content)
    first, second, third = (file_name(tmp_path / folder / "me.mp4") for folder in "abc")
    assert first == third != second and first.startswith("me-")
    assert file_name(tmp_path / "none.mp4") == "none"
    with pytest.raises(RafError, match=r"none\.mp4: cannot be read"):
        content_hash(tmp_path / "none.mp4")


# --- captures, with a stand-in for the tracker ----------------------------------------------------------------------


CLOUD = np.random.default_rng(0).normal(0, 0.2, (478, 3))


class RedIsAFace:
    """A tracker that finds a red square in place of a face, with the noise of a real tracker."""

    unsteady = 0.1

    def __init__(self):
        self.noise = np.random.default_rng(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, image):
        rows, columns = np.nonzero((image[..., 0] > 150) & (image[..., 1] < 100) & (image[..., 2] < 100))
        if len(rows) < 9:
            return None
        size = float(np.ptp(columns) + 1)
        points = np.array([columns.mean(), rows.mean()]) + np.clip(CLOUD[:, :2], -0.5, 0.5) * size
        points += self.noise.normal(0, self.unsteady, points.shape)
        matrix = np.eye(4, dtype=np.float32)
        matrix[2, 3] = -5000 / size
        expression = np.full(52, size / len(image), np.float32)
        return Observation(expression, points.astype(np.float32), (CLOUD[:, 2] * size).astype(np.float32), matrix)


@pytest.fixture
def red_faces(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(video, "FaceTracker", RedIsAFace)
    monkeypatch.setitem(video.PROFILES, "tiny", VideoProfile(size=48, tracking_size=64, max_frames=40, probes=8))


def scene(at=(40, 20), size=24, width=256, height=96):
    """A grey image with a red square at column and row `at`; without one where `at` is None."""
    image = np.full((height, width, 3), 128, np.uint8)
    if at is not None:
        image[at[1] : at[1] + size, at[0] : at[0] + size] = (220, 20, 20)
    return image


def test_a_capture_knows_when_each_frame_was_shown(tmp_path, red_faces):
    images = [scene((40 + number % 5, 20)) for number in range(20)]
    times = np.concatenate([np.arange(10) * 0.1, 3 + np.arange(10) * 0.2])
    capture = open_capture("video", "me", "tiny", film(tmp_path / "me.mp4", images, times))
    np.testing.assert_allclose(capture.time, times, atol=1e-3)
    rows, played = frames_to_play(capture, 3.3)
    assert rows.tolist() == list(range(12)) and played[-1] == pytest.approx(3.2, abs=1e-3)
    again = open_capture("video", "me", "tiny", tmp_path / "me.mp4")
    np.testing.assert_array_equal(again.time, capture.time)
    np.testing.assert_array_equal(seconds(capture), capture.time)


@pytest.mark.parametrize(("most", "rate", "apart"), [(60, 25, False), (24, 25, True), (60, 10, False), (60, 60, False)])
def test_only_frames_close_in_time_smooth_each_other(tmp_path, red_faces, monkeypatch, most, rate, apart):
    numbers, poses = [], video.head_poses
    monkeypatch.setattr(video, "head_poses", lambda *given: numbers.append(given[3]) or poses(*given))
    monkeypatch.setitem(video.PROFILES, "tiny", replace(video.PROFILES["tiny"], max_frames=most))
    images = [scene((40 + number % 7, 20)) for number in range(48)]
    open_capture("video", "me", "tiny", film(tmp_path / "me.mp4", images, np.arange(48) / rate))
    assert set(np.diff(numbers[0]).tolist()) == {2 if apart else 1}


def test_recordings_whose_times_begin_anew_follow_each_other():
    times = np.array([0, 0.1, 0.2, 0, 0.1, 0.2, 0, 0.1])
    capture = replace(ball_capture(frames=6), time=times)
    rows, played = frames_to_play(capture, 0.45)
    assert rows.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(played, [0, 0.1, 0.2, 0.24, 0.34, 0.44])


@pytest.mark.parametrize(
    "value, focal", [("26", 26), ("50.00mm", 50), ("-13", None), ("0", None), ("2e3", None), ("wide", None)]
)
def test_the_lens_is_read_from_the_file(tmp_path, value, focal):
    tags = {"com.apple.quicktime.camera.focal_length.35mm_equivalent": value, "title": "26"}
    path = film(tmp_path / "phone.mov", tags=tags, options={"movflags": "use_metadata_tags"})
    assert read_info(path).focal_35mm == focal


def test_a_window_sees_its_share_of_the_lens():
    """36 mm on film are 24 mm high; a window as high as the image sees 2·atan(12 / 36) on a lens of 36 mm."""
    assert window_angle(36.0, 1536, 1024, 1024) == pytest.approx(2 * np.degrees(np.arctan(12 / 36)))
    assert window_angle(36.0, 1024, 1536, 512) == pytest.approx(2 * np.degrees(np.arctan(6 / 36)))


def test_the_capture_has_the_lens_of_the_file(tmp_path, red_faces):
    images = [scene((40 + number % 5, 20)) for number in range(20)]
    tags, options = {"camera.focal_length.35mm_equivalent": "26"}, {"movflags": "use_metadata_tags"}
    known = open_capture("video", "a", "tiny", film(tmp_path / "a.mov", images, tags=tags, options=options))
    assumed = open_capture("video", "b", "tiny", film(tmp_path / "b.mov", images))
    focal = [capture.cameras[0].intrinsic[0, 0] for capture in (known, assumed)]
    size = known.cameras[0].width
    window = size / focal[0] * 26 / np.hypot(36, 24) * np.hypot(256, 96)  # pixels of the film
    assert 44 < window < 64, "a window of twice the face's 24 to 28 pixels"
    assert focal[1] == pytest.approx(size / 2 / np.tan(np.radians(10)))
    seen = [capture.cameras[0].project(capture.landmarks[capture.detected]) for capture in (known, assumed)]
    np.testing.assert_allclose(seen[0], seen[1], atol=0.5, err_msg="with any lens, landmarks lie where they are seen")


def test_equal_names_are_not_equal_recordings(tmp_path, red_faces):
    paths = []
    for folder, shift in (("anna", 0), ("ben", 4), ("copy", 0)):
        (tmp_path / folder).mkdir()
        paths.append(film(tmp_path / folder / f"{'video' * 40}.mp4", [scene((40 + shift, 20))] * 8))
    anna, ben, copy = (open_capture("video", "video", "tiny", path) for path in paths)
    assert anna.recording == copy.recording != ben.recording and anna.fingerprint != ben.fingerprint
    assert len(list((tmp_path / "cache" / "video").glob("*.npz"))) == 2


def test_the_window_goes_where_the_face_mostly_is(tmp_path, red_faces):
    stays, elsewhere = scene((20, 30)), scene((210, 30))
    path = film(tmp_path / "passer.mp4", [stays] * 14 + [elsewhere] * 5 + [stays] * 14)
    with pytest.warns(UserWarning, match=r"passer\.mp4: of 8 frames looked at, 7 show a face in one place and 1 else"):
        capture = open_capture("video", "passer", "tiny", path)
    assert capture.detected.tolist() == [True] * 14 + [False] * 5 + [True] * 14
    path = film(tmp_path / "seat.mp4", [stays] * 20 + [elsewhere] * 17)
    for _ in range(2):  # the warning is part of the cache
        with pytest.warns(UserWarning, match=r"5 show a face in one place and 3 elsewhere"):
            assert open_capture("video", "seat", "tiny", path).detected.sum() == 20


def test_a_head_that_moves_has_one_window():
    moving = np.array([[x, 20, x + 60, 80] for x in range(100, 160, 5)], float)
    assert where_the_face_mostly_is(moving, 360, 640, 2.0).all()
    with_stranger = np.concatenate([moving, [[500, 20, 560, 80]]])
    assert where_the_face_mostly_is(with_stranger, 360, 640, 2.0).tolist() == [True] * 12 + [False]


def test_frames_with_a_face_are_held_out(tmp_path, red_faces):
    images = [scene()] * 2 + [scene(None)] * 3 + [scene()] * 18 + [scene(None)] * 10
    capture = open_capture("video", "leaves", "tiny", film(tmp_path / "leaves.mp4", images))
    assert capture.detected.sum() == 20 and capture.free.sum() == 4 and capture.train.sum() == 16
    assert (capture.sequence[19:] == "FREE").all() and "FREE" not in capture.sequence[:19]
    for count in (3, 4, 7):
        names = video.name_sequences(np.arange(count + 5) < count, VideoProfile())
        assert 1 <= (names[:count] == "FREE").sum() < count


def test_a_face_in_too_few_frames_says_what_was_seen(tmp_path, red_faces):
    images = [scene((20, 30))] * 2 + [scene(None)] * 19 + [scene((210, 30))] * 2 + [scene(None)]
    path = film(tmp_path / "short.mp4", images)
    with pytest.raises(RafError) as error:
        open_capture("video", "short", "tiny", path)
    one_line(error, path, "a face in only 2 of 24 frames", "elsewhere")


def test_a_photograph_is_no_film_of_a_face(tmp_path, red_faces, monkeypatch):
    monkeypatch.setattr(RedIsAFace, "unsteady", 0.0)
    path = film(tmp_path / "photograph.mp4", [scene()] * 8)
    with pytest.raises(RafError) as error:
        open_capture("video", "photograph", "tiny", path)
    one_line(error, path, "does not move")


def test_a_frame_that_cannot_be_tracked_is_named(tmp_path, red_faces, monkeypatch):
    class Fails(RedIsAFace):
        def __call__(self, image):
            if (image[..., 2] > 200).any() and image.shape[0] == 64:
                raise RafError("FaceTracker: MediaPipe failed")
            return super().__call__(image)

    monkeypatch.setattr(video, "FaceTracker", Fails)
    images = [scene() for _ in range(8)]
    images[5][:, 60:] = (20, 20, 250)
    path = film(tmp_path / "bad.mp4", images)
    with pytest.raises(RafError) as error:
        open_capture("video", "bad", "tiny", path)
    one_line(error, f"{path}: frame 5: FaceTracker")


def test_images_of_a_person_follow_the_umask(tmp_path, red_faces):
    before = os.umask(0o077)
    try:
        open_capture("video", "me", "tiny", film(tmp_path / "me.mp4", [scene()] * 5))
    finally:
        os.umask(before)
    made = list((tmp_path / "cache").rglob("*"))
    assert len(made) > 5 and not any(path.stat().st_mode & 0o077 for path in made)


def test_seconds_are_checked(tmp_path, red_faces):
    capture = open_capture("video", "me", "tiny", film(tmp_path / "me.mp4", [scene()] * 5))
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RafError, match="seconds is"):
            frames_to_play(capture, wrong)


# --- bars, cuts, several faces --------------------------------------------------------------------------------------


def test_black_bars_are_left_out(tmp_path, red_faces):
    inner = scene((40, 10), width=120, height=70)
    framed = np.zeros((110, 150, 3), np.uint8)
    framed[20:90, 30:] = inner
    capture = open_capture("video", "framed", "tiny", film(tmp_path / "framed.mp4", [framed] * 8))
    plain = open_capture("video", "plain", "tiny", film(tmp_path / "plain.mp4", [inner[1:-1, 2:]] * 8))
    first, second = (item.cameras[0].project(item.landmarks[0]) for item in (capture, plain))
    np.testing.assert_allclose(first, second, atol=2)


def test_only_bars_at_the_border_count():
    peaks = np.full(100, 200, np.uint8)
    assert without_bars(peaks) == (0, 100)
    peaks[:12], peaks[90:], peaks[50:60] = 20, 35, 0
    assert without_bars(peaks) == (13, 89)
    peaks[:45] = 10
    assert without_bars(peaks) == (0, 89), "a dark half is a dark room"
    assert without_bars(np.zeros(100, np.uint8)) == (0, 100)


def test_the_main_face_is_the_largest_where_it_is_seen_about_as_often():
    small = np.array([[300, 20, 330, 50]] * 6, float)
    large = np.array([[100, 20, 190, 110]] * 5, float)
    assert main_place(np.concatenate([small, large]), 360, 640, 2.0).tolist() == [False] * 6 + [True] * 5
    assert main_place(small, 360, 640, 2.0).all()


def test_a_cut_starts_a_sequence_and_is_told(tmp_path, red_faces):
    before, after = scene((40, 20)), scene((58, 20))
    after[after[..., 0] == 128] = (60, 120, 200)
    path = film(tmp_path / "cut.mp4", [before] * 9 + [after] * 11)
    with pytest.warns(UserWarning, match=r"cut\.mp4: it has 1 cut \(at 0\.4 s\); each starts a new sequence"):
        capture = open_capture("video", "cut", "tiny", path)
    assert capture.detected.all() and set(capture.sequence[:9]).isdisjoint(capture.sequence[9:])
    lit = scene((40, 20))
    lit[lit[..., 0] == 128] = (200, 200, 60)
    for others in ([lit] * 6, [scene((50, 20))] * 6):  # another light, and a head that moves
        path.unlink()
        film(path, [before] * 6 + others)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            open_capture("video", "cut", "tiny", path)


def test_names_of_sequences_with_cuts():
    profile = VideoProfile(clips=2, held_out=0.2)
    names = video.name_sequences(np.ones(10, bool), profile, [2, 9])
    assert names.tolist() == ["clip-00"] * 2 + ["clip-01"] * 2 + ["clip-02"] * 4 + ["FREE"] * 2


def test_another_face_does_not_take_the_main_ones_place():
    """The stand-in for the tracker returns the face of the higher number; a number is a grey square."""

    def tracker(image):
        best = image.max()
        if best < 100:
            return None
        rows, columns = np.nonzero(image[..., 0] == best)
        corners = np.array([[columns.min(), rows.min()], [columns.max(), rows.max()]], np.float32)
        points = np.resize(corners, (478, 2))
        return Observation(np.zeros(52, np.float32), points, np.zeros(478, np.float32), np.eye(4, dtype=np.float32))

    def image(*faces):
        made = np.zeros((128, 128, 3), np.uint8)
        for column, row, size, number in faces:
            made[row : row + size, column : column + size] = number
        return made

    main, other = (20, 40, 30, 150), (80, 40, 30, 200)
    follow = MainFace(tracker, 128, 0.04)
    places = [follow(image(*faces)) for faces in ([main], [main, other], [other], [main])]
    assert [None if found is None else round(float(found.points[0, 0])) for found in places] == [20, 20, None, 20]
    for _ in range(10):
        assert follow(image(other)) is None
    assert follow(image(other)).points[0, 0] == 80, "after some time the main face may be anywhere"
    assert follow.cuts == []
    slow = MainFace(tracker, 128, 1.0)  # between images that are a second apart, a head may be anywhere
    assert [slow(image(face)).points[0, 0] for face in (main, other)] == [20, 80]


def test_the_window_follows_a_face_that_moves_through_the_image(tmp_path, red_faces):
    places = [(10 + round(5.5 * number), 30) for number in range(38)]
    path = film(tmp_path / "walks.mp4", [scene(place, 16, 256) for place in places])
    with pytest.warns(UserWarning, match=r"walks\.mp4: the face moves through the image; the window follows it"):
        capture = open_capture("video", "walks", "tiny", path)
    assert capture.detected.all() and capture.background is None
    middle = capture.cameras[0].project(capture.landmarks).mean(1)
    assert (np.abs(middle - 24) < 20).all(), "the face stays in the window"


def test_a_window_follows_only_steady_travel():
    times = np.arange(60) / 10
    boxes = np.array([[10 + 6 * k, 50, 40 + 6 * k, 80] for k in range(60)], float)
    corners, side = following_window(boxes, times, times, (0, 10, 400, 200), 2.0)
    assert side == 75 and np.abs(corners[15:45, 0] + side / 2 - (25 + 6 * np.arange(15, 45))).max() < 3
    assert (corners >= [0, 10]).all() and (corners + side <= [400, 200]).all()
    fewer, _ = following_window(boxes[::4], times[::4], times, (0, 10, 400, 200), 2.0)
    assert np.abs(fewer - corners)[:45].max() < 6
    boxes[30:] += [60, 0, 60, 0]
    assert following_window(boxes, times, times, (0, 10, 400, 200), 2.0) is None
