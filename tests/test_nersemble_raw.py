"""NeRSemble as the official kit downloads it: folders made from the studio are read back; damage is named or marked."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from nersemble_raw import COLOURS, HEIGHT, PLATE, SEQUENCES, SERIALS, WIDTH, Written, write_film, write_person
from PIL import Image

import raflib
from raflib.errors import RafError
from raflib.sources import _tracked
from raflib.sources.nersemble import raw
from raflib.sources.nersemble import raw_films as films
from raflib.sources.nersemble import raw_tracks as tracks
from raflib.sources.nersemble.raw_calibration import CAMERAS, read_cameras, read_colours
from raflib.sources.nersemble.raw_calibration import COLOURS as COLOUR_FILE
from raflib.sources.nersemble.raw_colour import MONOMIALS, corrected
from raflib.sources.nersemble.raw_folder import held_videos
from raflib.tracking import FaceTracker, Sighting, default_model

pytest.importorskip("mediapipe", reason="mediapipe is not installed")
av = pytest.importorskip("av", reason="PyAV is not installed")

SIDE = 130  # of the window in frames of 110 × 160
SMALL = raw.RawProfile(size=SIDE, tracking_size=192, per_sequence=None, free=None)
MOMENTS = 4
FRONTAL = SERIALS[0]
EMPTY_ROOM = f"sequences/BACKGROUND/image_{SERIALS[1]}.jpg"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Written:
    return write_person(tmp_path_factory.mktemp("nersemble"), moments=MOMENTS)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setitem(raw.PROFILES, "tiny", SMALL)
    monkeypatch.setenv("RAF_CACHE", str(tmp_path / "cache"))


def opened(root, subject="422", profile="tiny"):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        capture = raw.open_raw(subject, profile, root)
    return capture, [str(warning.message) for warning in told]


@pytest.fixture(scope="module")
def capture(written, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAF_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setitem(raw.PROFILES, "tiny", SMALL)
        yield opened(written.root)[0]


def by_formula(image, matrix):
    """The documented correction in double precision, three terms: sRGB to linear, matrix, back."""
    value = image / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ np.array(matrix).T
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def in_window(image, fill):
    """The window of 130 × 130 pixels about the middle of a frame of 110 × 160."""
    return np.pad(image[15:145], ((0, 0), (10, 10), *([(0, 0)] * (image.ndim - 2))), constant_values=fill)


def test_a_folder_is_read_back(written, capture):
    assert capture.subject == "422" and capture.feature_space == "arkit52" and capture.truth is None
    assert capture.sequence.tolist() == [name for name in SEQUENCES for _ in range(MOMENTS)]
    assert capture.frame.tolist() == 2 * list(range(MOMENTS)) and capture.detected.all()
    np.testing.assert_allclose(capture.time, capture.frame * 3 / 73)
    assert capture.train.sum() == capture.free.sum() == MOMENTS
    assert [camera.name for camera in capture.cameras] == sorted(SERIALS)
    for c, camera in enumerate(capture.cameras):
        true = next(each for each in written.cameras if each.name == camera.name)
        np.testing.assert_allclose(camera.extrinsic, true.extrinsic, atol=1e-6)
        shifted = np.add(true.intrinsic, [[0, 0, 10], [0, 0, -15], [0, 0, 0]])
        np.testing.assert_allclose(camera.intrinsic, shifted, atol=1e-6)
        assert (camera.width, camera.height) == (SIDE, SIDE)
        for t in range(len(capture)):
            frames = written.frames[capture.sequence[t], camera.name]
            image, mask = capture.image(t, c), capture.mask(t, c)
            wanted = in_window(by_formula(frames[3 * capture.frame[t]], COLOURS[camera.name]), 255.0)
            assert np.abs(image[mask == 255] - wanted[mask == 255]).max() <= 1
            assert (image[mask == 0] == 255).all() and set(np.unique(mask)) == {0, 255}
            person = in_window(written.masks[capture.sequence[t], camera.name][t % MOMENTS], 0)
            assert ((mask > 0) == (person > 127)).mean() > 0.98
    # Tracked landmarks lie on the person, and the head looks to -z as in the studio.
    seen = capture.cameras[sorted(SERIALS).index(FRONTAL)].project(capture.landmarks[0]).astype(int)
    assert (capture.mask(0, sorted(SERIALS).index(FRONTAL))[seen[:, 1], seen[:, 0]] == 255).mean() > 0.95
    assert capture.head_map is not None and np.abs(capture.pose[:, 3:]).max() < 0.2
    assert capture.neutral[1, 2] < capture.neutral[[234, 454], 2].min()


def test_without_a_background_the_room_stays(written, capture, tmp_path, monkeypatch):
    root = tmp_path / "data"
    shutil.copytree(written.root, root)
    shutil.rmtree(root / "422/sequences/BACKGROUND")
    flat = {serial: np.eye(3).tolist() for serial in SERIALS}
    (root / "422" / COLOUR_FILE).write_text(json.dumps(flat))
    monkeypatch.setattr(raw, "SequenceTracker", lambda *_: lambda *_: untracked(capture))
    again, told = opened(root)
    assert any("no image of the empty room" in note for note in told)
    for c, serial in enumerate(sorted(SERIALS)):
        frame = written.frames["FREE", serial][3]
        np.testing.assert_array_equal(again.image(MOMENTS + 1, c), in_window(frame, 255))
        assert (again.mask(MOMENTS + 1, c) == 255).all()


def untracked(capture):
    """Signals of another capture, as the tracker returns them."""
    signals = {name: getattr(capture, name) for name in raw.SIGNALS}
    maps = {f"map_{name}": getattr(capture.head_map, name) for name in raw.HEAD_MAP}
    return {**signals, **maps, "notes": np.array([], dtype=str)}


def test_one_pass_makes_all_images_of_a_video(written, capture, tmp_path, monkeypatch):
    calls, read = [], films.read_film
    monkeypatch.setattr(films, "read_film", lambda path, wanted: calls.append(path) or read(path, wanted))
    monkeypatch.setattr(raw, "SequenceTracker", lambda *_: lambda *_: untracked(capture))
    again, _ = opened(written.root)
    again.frames.prefetch([(t, c) for t in range(len(again)) for c in range(4)], progress=False, workers=4)
    assert len(calls) == len(set(calls)) == 8
    path = again.frames.path(5, 2)
    path.write_bytes(b"damaged")
    other, _ = opened(written.root)
    np.testing.assert_array_equal(other.image(5, 2), capture.image(5, 2))
    assert len(calls) == 9 and sum(path.stat().st_size for path in other.frames.folder.rglob("*.png")) < 5e6


def test_the_cache_is_bounded(written, capture, monkeypatch, capsys):
    monkeypatch.setenv("RAF_CACHE_GB", "0.0005")
    monkeypatch.setattr(raw, "SequenceTracker", lambda *_: lambda *_: untracked(capture))
    again, _ = opened(written.root)
    assert "8 frames of 4 cameras" in (said := capsys.readouterr().out) and "2.2 MB (RAF_CACHE_GB: 0.0005)" in said
    again.image(0, 0)  # one video fits: 4 images of 69 KB at most
    with pytest.raises(RafError, match=r"the limit is 0\.5 MB .* raise RAF_CACHE_GB"):
        for c in range(4):
            again.image(0, c)
    assert sum(path.stat().st_size for path in again.frames.folder.parent.rglob("*.png")) < 5e5
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv("RAF_CACHE_GB", wrong)
        with pytest.raises(RafError, match="RAF_CACHE_GB is '"):
            opened(written.root)


class Idle(FaceTracker):
    """A tracker without a process."""

    def __init__(self):
        self._process = None

    def close(self):
        pass


@pytest.fixture
def fast(capture, monkeypatch):
    """Frames are decoded as always, but their landmarks are random (the same for an image), poses are not refined."""

    def seen(images, *_):
        noise = np.random.default_rng(int(images[0].sum())).normal(0, 1e-3, (478, 3))
        return Sighting(capture.expression[0], capture.landmarks[0] + noise, np.ones(4, bool), 0.0)

    profile = raw.RawProfile(size=48, tracking_size=48, per_sequence=None, free=None, tracked=2)
    monkeypatch.setitem(raw.PROFILES, "tiny", profile)
    monkeypatch.setattr(tracks, "FaceTracker", Idle)
    monkeypatch.setattr(tracks, "track_views", seen)
    monkeypatch.setattr(_tracked, "map_head", lambda _, cameras, marks, rough: (capture.head_map, rough, None))


def test_a_killed_run_goes_on_after_the_last_sequence(written, fast, monkeypatch, tmp_path):
    whole, _ = opened(written.root)
    shutil.rmtree(tmp_path / "cache")
    track, done = tracks.SequenceTracker._sequence, []

    def dies(self, sequence, *rest):
        if done == ["EXP-5-mouth"]:
            done.append("killed")
            raise KeyboardInterrupt
        done.append(sequence)
        return track(self, sequence, *rest)

    monkeypatch.setattr(tracks.SequenceTracker, "_sequence", dies)
    with pytest.raises(KeyboardInterrupt):
        opened(written.root)
    again, _ = opened(written.root)
    assert done == ["EXP-5-mouth", "killed", "FREE"]
    for name in raw.SIGNALS:
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    assert again.fingerprint == whole.fingerprint and not list((tmp_path / "cache/nersemble").glob("*.parts"))
    with pytest.warns(UserWarning, match="participant 422: sequences EXP-1-head"):
        through = raflib.open_capture("nersemble", "422", "tiny", written.root)
    assert done[2:] == ["FREE"] and through.fingerprint == whole.fingerprint
    with pytest.raises(RafError, match=r"'huge' is not known.*bank"):
        raflib.open_capture("nersemble", "422", "huge", written.root)


def test_the_frontal_camera_alone_is_enough_for_a_bank(written, capture):
    bank, _ = opened(written.root, profile="bank")
    assert [camera.name for camera in bank.cameras] == [FRONTAL] and bank.detected.all() and bank.head_map is None
    assert np.abs(bank.expression - capture.expression).max() < 0.35  # larger images
    apart = bank.cameras[0].project(bank.landmarks) - bank.cameras[0].project(capture.landmarks)
    assert np.median(np.linalg.norm(apart, axis=2)) < 3
    assert np.abs(bank.pose[:, 3:] - capture.pose[:, 3:]).max() < 0.1


def test_cameras_need_videos_of_the_sequences_that_are_used(written, tmp_path):
    person = Path(shutil.copytree(written.root / "422", tmp_path / "422"))
    for path in (person / "sequences").glob("*/images/cam_*.mp4"):
        if path.stem != f"cam_{FRONTAL}" and path.parts[-3] != "FREE":
            path.unlink()
    motions = read_cameras(person)[0]
    free = held_videos(person, motions, lambda films: {"FREE": films["FREE"]})
    assert set(free.serials) == set(SERIALS) and list(free.films) == ["FREE"]
    assert not any("left out" in note for note in free.notes)
    every = held_videos(person, motions)
    assert every.serials == (FRONTAL,) and list(every.films)[-1] == "FREE"
    assert sum("is left out: it has no video of" in note for note in every.notes) == len(SERIALS) - 1


def test_every_list_of_monomials_corrects():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    assert list(MONOMIALS) == [3, 4, 5, 7, 8, 10, 11, 14, 16, 17, 19, 20, 22, 35]
    for count, words in MONOMIALS.items():
        assert len(words) == len({"".join(sorted(word)) for word in words}) == count
        matrix = np.zeros((3, count))
        matrix[:, :3] = COLOURS[FRONTAL]
        assert np.abs(corrected(image, matrix) - by_formula(image, COLOURS[FRONTAL])).max() < 0.51
        matrix[:, :3] = np.eye(3) - 0.1
        matrix[:, 3:] = 0.3 / count  # positive everywhere, so that every monomial matters
        assert (corrected(image, matrix) != corrected(image, np.eye(3) - 0.1)).any() or count == 3


def test_the_officials_reader_sees_the_same(written, capture):
    """The official kit reads the same folder: names, images, cameras and colours agree."""
    reason = "the kit's reader is not installed (nersemble-data, and dreifus, which it needs but does not name)"
    kit = pytest.importorskip("nersemble_data.data.nersemble_data", reason=reason)
    from nersemble_data.util.color_correction import correct_color

    theirs = kit.NeRSembleParticipantDataManager(str(written.root), 422)
    assert kit.NeRSembleDataManager(str(written.root)).list_participants() == [422]
    assert set(theirs.list_sequences()) == {*SEQUENCES, "BACKGROUND"}
    colours = theirs.load_color_calibration()
    for serial, matrix in read_colours(written.root / "422").items():
        np.testing.assert_array_equal(colours[serial], matrix)
    motions, lens = read_cameras(written.root / "422")
    calibration = theirs.load_camera_calibration()
    np.testing.assert_allclose(np.asarray(calibration.intrinsics), lens, atol=1e-6)
    assert set(calibration.world_2_cam) == set(motions)
    for serial, motion in motions.items():
        np.testing.assert_allclose(np.asarray(calibration.world_2_cam[serial]), motion, atol=1e-6)
    front = next(camera for camera in capture.cameras if camera.name == FRONTAL)
    for camera in capture.cameras:  # what does not depend on the world
        pair = (np.asarray(calibration.world_2_cam[each], np.float64) for each in (camera.name, FRONTAL))
        relative = np.matmul(next(pair), np.linalg.inv(next(pair)))
        np.testing.assert_allclose(camera.extrinsic @ np.linalg.inv(front.extrinsic), relative, atol=1e-6)
    for sequence in SEQUENCES:
        assert sorted(theirs.list_cameras(sequence)) == sorted(SERIALS)
        assert theirs.get_n_timesteps(sequence) == 3 * MOMENTS - 2
        for t in np.flatnonzero(capture.sequence == sequence):
            for c, serial in enumerate(sorted(SERIALS)):
                image = theirs.load_image(sequence, serial, 3 * int(capture.frame[t]), apply_color_correction=True)
                image, mask = in_window(255 * image.clip(0, 1), 255), capture.mask(int(t), c)
                assert np.abs(image - capture.image(int(t), c))[mask == 255].max() <= 1
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for count in MONOMIALS:
        matrix = rng.normal(0, 0.3, (3, count)) + np.eye(3, count)
        wanted = 255 * correct_color(image / 255, matrix).clip(0, 1)
        assert np.abs(corrected(image, matrix) - wanted).max() < 0.52


# --- mutations ---


def edited(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    """A mutation of one of the calibration files: `change` alters its content in place or returns another one."""

    def mutate(person: Path) -> None:
        content = json.loads((person / name).read_text())
        content = change(content) or content
        (person / name).write_text(json.dumps(content))

    return mutate


def motions(change: Callable[[np.ndarray], np.ndarray], only: str | None = None) -> Callable[[Path], None]:
    def mutate(content: dict) -> None:
        for serial, motion in content["world_2_cam"].items():
            if only in (None, serial):
                content["world_2_cam"][serial] = np.asarray(change(np.array(motion))).tolist()

    return edited(CAMERAS, mutate)


def unnamed(serial: str) -> Callable[[dict], None]:
    """A change of the cameras' calibration that removes a camera."""
    return lambda content: content["world_2_cam"].pop(serial) and None


def coloured(matrix: list) -> Callable[[Path], None]:
    return edited(COLOUR_FILE, lambda content: dict.fromkeys(content, matrix))


def scaled(motion: np.ndarray) -> np.ndarray:
    motion[:3, 3] *= 1000
    return motion


def halved(path: str) -> Callable[[Path], None]:
    return lambda person: (person / path).write_bytes(
        (person / path).read_bytes()[: (person / path).stat().st_size // 2]
    )


def removed(path: str) -> Callable[[Path], None]:
    return lambda person: (person / path).unlink()


def film(serial: str, sequence: str = "FREE") -> str:
    return f"sequences/{sequence}/images/cam_{serial}.mp4"


def filmed(change: Callable[[np.ndarray], np.ndarray], serial: str = SERIALS[1]) -> Callable[[Path], None]:
    """A mutation of one video of FREE: its frames changed and encoded again."""

    def mutate(person: Path) -> None:
        with av.open(str(person / film(serial))) as container:
            frames = np.array([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        write_film(person / film(serial), change(frames))

    return mutate


def cut_short(person: Path) -> None:
    """A video whose tables are whole (they come first) but whose last frames are missing."""
    path, other = person / film(SERIALS[1]), person / "other.mp4"
    with av.open(str(path)) as source, av.open(str(other), "w", options={"movflags": "faststart"}) as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    data = other.read_bytes()
    path.write_bytes(data[: int(0.6 * len(data))])
    other.unlink()


def packet_lost(person: Path) -> None:
    """The content of the last frame's packet is overwritten in a tracked video."""
    path = person / film(FRONTAL)
    with av.open(str(path)) as source:
        last = max((packet for packet in source.demux(video=0) if packet.size), key=lambda packet: packet.pos)
        place, size = last.pos, last.size
    data = bytearray(path.read_bytes())
    data[place : place + size] = bytes(size)
    path.write_bytes(data)


def plate(values: np.ndarray) -> Callable[[Path], None]:
    return lambda person: Image.fromarray(values).save(person / EMPTY_ROOM)


@dataclass(frozen=True)
class Outcome:
    """What opening a mutated folder must end in: an error, a warning with these words, or marked frames."""

    label: str
    change: Callable[[Path], object]
    kind: str
    words: str = ""
    cameras: int = 4


MUTATIONS = (
    Outcome("nothing changed", lambda person: None, "opens"),
    Outcome("tables of the dataset removed", lambda person: [p.unlink() for p in person.parent.glob("*.csv")], "opens"),
    Outcome("person removed", shutil.rmtree, "error", "422/sequences: no such folder"),
    Outcome("cameras: removed", removed(CAMERAS), "error", "camera_params.json: no such camera calibration"),
    Outcome("cameras: cut in half", halved(CAMERAS), "error", "camera_params.json: damaged camera calibration"),
    Outcome("cameras: no motions", edited(CAMERAS, lambda c: {"intrinsics": c["intrinsics"]}), "error", "world_2_cam"),
    Outcome("cameras: 3 × 4", motions(lambda m: m[:3], FRONTAL), "error", "no matrix of 4 × 4"),
    Outcome("cameras: text", edited(CAMERAS, lambda c: {**c, "intrinsics": "wide"}), "error", "is no matrix"),
    Outcome("cameras: NaN", motions(lambda m: m * np.nan, FRONTAL), "error", "it holds NaN"),
    Outcome("cameras: a scaled rotation", motions(lambda m: m * [[1.1], [1], [1], [1]], FRONTAL), "error", "rotation"),
    Outcome("cameras: a mirrored rotation", motions(lambda m: m * [[-1], [1], [1], [1]]), "error", "a rotation"),
    Outcome("cameras: last row", motions(lambda m: m + np.eye(4)[[3]] * [[0], [0], [0], [1]]), "error", "0 0 0 1"),
    Outcome("cameras: camera to world", motions(np.linalg.inv), "error", "does not look at the point"),
    Outcome("cameras: OpenGL axes", motions(lambda m: m * [[1], [-1], [-1], [1]]), "error", "z ahead (OpenCV)"),
    Outcome("cameras: one turned away", motions(lambda m: m * [[-1], [1], [-1], [1]], SERIALS[1]), "error", SERIALS[1]),
    Outcome("cameras: millimetres", motions(scaled), "warning", "metres may not be its unit"),
    Outcome(
        "cameras: lens of larger images",
        edited(CAMERAS, lambda c: {**c, "intrinsics": (np.array(c["intrinsics"]) * [[4], [4], [1]]).tolist()}),
        "error", "principal point (220, 320)",
    ),
    Outcome("cameras: skewed lens", edited(CAMERAS, lambda c: c["intrinsics"][0].__setitem__(1, 3.0)), "error", "cx"),
    Outcome("cameras: no frontal one", edited(CAMERAS, unnamed(FRONTAL)), "error", FRONTAL),
    Outcome("cameras: one unknown", edited(CAMERAS, unnamed(SERIALS[1])), "warning",
            f"cameras {SERIALS[1]} are left out", 3),
    Outcome("colours: removed", removed(COLOUR_FILE), "error", "color_calibration.json: no such colour calibration"),
    Outcome("colours: cut in half", halved(COLOUR_FILE), "error", "damaged colour calibration"),
    Outcome("colours: one missing", edited(COLOUR_FILE, lambda c: c.pop(SERIALS[2]) and None), "error", SERIALS[2]),
    Outcome("colours: six terms", coloured(np.eye(3, 6).tolist()), "error", "3 × 3 or"),
    Outcome("colours: infinite", coloured([[float("inf")] * 3] * 3), "error", "Infinity"),
    Outcome("video removed", removed(film(SERIALS[3])), "warning", "it has no video of FREE", 3),
    Outcome("frontal video removed", removed(film(FRONTAL, "EXP-5-mouth")), "warning", "EXP-5-mouth are left out"),
    Outcome("frontal videos removed", lambda p: [removed(film(FRONTAL, s))(p) for s in SEQUENCES], "error", "no video"),
    Outcome("FREE removed", lambda person: shutil.rmtree(person / "sequences/FREE"), "warning", "FREE,"),
    Outcome("FREE empty", lambda p: [path.unlink() for path in p.glob("sequences/FREE/images/*")], "warning", "FREE"),
    Outcome("video empty", lambda person: (person / film(SERIALS[1])).write_bytes(b""), "error", "the file is empty"),
    Outcome("video is text", lambda p: (p / film(SERIALS[1])).write_text("no"), "error", "not a readable video"),
    Outcome("video cut in half", halved(film(SERIALS[1])), "error", "not a readable video"),
    Outcome("video's end lost", cut_short, "error", "frames but another camera 10"),
    Outcome("video a frame short", filmed(lambda frames: frames[:-1]), "warning", "has 9 frames, others up to 10"),
    Outcome("video of other size", filmed(lambda frames: frames[:, 10:-10]), "error", "images of 110×140 pixels"),
    Outcome("frame damaged", packet_lost, "marked", "1 frames cannot be decoded"),
    Outcome("background removed", removed(EMPTY_ROOM), "warning", "empty room"),
    Outcome("background cut in half", halved(EMPTY_ROOM), "error", "background image"),
    Outcome("background of other size", plate(np.zeros((40, 30, 3), np.uint8)), "error", "30×40 pixels"),
)  # fmt: skip


def restored(source: Path, target: Path) -> None:
    """Copy the files of `source` that are not in `target`, or were changed there."""
    for path in source.rglob("*.*"):
        other = target / path.relative_to(source)
        if not other.exists() or (other.stat().st_mtime_ns, other.stat().st_size) != (
            path.stat().st_mtime_ns,
            path.stat().st_size,
        ):
            other.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, other)


def test_mutations_are_named_or_marked(written, fast, tmp_path, capsys):
    """Prints the table of mutations and outcomes. Tracking is replaced by fixed landmarks; decoding is real."""
    lines, wrong = [], []
    for case in MUTATIONS:
        restored(written.root, tmp_path / "data")
        case.change(tmp_path / "data/422")
        try:
            again, told = opened(tmp_path / "data")
            told = [note for note in told if "EXP-1-head" not in note or "FREE" in note]
            names = [camera.name for camera in again.cameras]
            again.image(len(again) - 1, names.index(SERIALS[1]) if SERIALS[1] in names else 0)
            marked = int((~again.detected).sum())
            kind, words = ("marked" if marked else "warning" if told else "opens"), " | ".join(told)
            assert len(again.cameras) == case.cameras and marked == (case.kind == "marked")
        except RafError as error:
            kind, words = "error", str(error)
        words = words.replace(str(tmp_path / "data"), "")
        lines.append(f"{case.label:32} {kind:8} {words[:150]}")
        if kind != case.kind or case.words not in words or "\n" in words:
            wrong.append(lines[-1])
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    assert not wrong and len(lines) >= 20


# --- planner ---


def test_the_plan_counts_what_was_recorded(tmp_path):
    plan = raflib.plan_download("some folder", bank_people=400)
    avatars, bank = plan.parts
    assert (avatars.people, avatars.videos, bank.videos) == (5, 5 * 23 * 16, 400 * 23)
    assert not any("tongue" in name or name in ("GLASSES", "BACKGROUND") for name in avatars.sequences)
    assert 8e6 * avatars.videos < avatars.size < 1e7 * avatars.videos and plan.size == avatars.size + bank.size
    assert avatars.command.startswith("nersemble-data download 'some folder' --participant 388,422,443,445,475 --seq")
    assert "--camera 222200037 " in bank.command and "--participant all" in bank.command
    assert "estimate" in str(plan) and all(part.command in str(plan) for part in plan.parts)
    head = "ID,wears_glasses,BACKGROUND,GLASSES,EXP-1-head,EXP-6-tongue-1,FREE,SEN-07-fond_note_friend"
    rows = ["17,,x,x,x,x,x,", "18,x,x,,m,,,x", "20,,x,,,,x,x", "422,,x,x,x,x,x,x"]
    (tmp_path / "metadata_sequences.csv").write_text("\n".join([head, *rows]) + "\n")
    plan = raflib.plan_download(tmp_path, subjects=["422"], bank_people=2, drivers=["020"], cameras=[FRONTAL])
    avatars, drivers, bank = plan.parts
    assert (avatars.videos, drivers.videos, bank.videos) == (3, 16, 2 + 2)
    assert bank.participants == ("17", "18") and "--participant 17,18 " in bank.command
    assert "SEN-07-fond_note_friend" in avatars.sequences  # spelled as in the table
    assert "fewer than the 3" in str(raflib.plan_download(tmp_path, ["422"], 3, ["20"]))
    for arguments, words in (
        ((["7"],), "participants 7 are not in it"),
        ((["x"],), "'x' is no number"),
        (((), 5, (), ["1"]), "cameras 1 are not"),
        (((), -1), "bank_people"),
    ):
        with pytest.raises(RafError, match=words):
            raflib.plan_download(tmp_path, *arguments)
    (tmp_path / "metadata_sequences.csv").write_text(head + "\n17,,x\n")
    with pytest.raises(RafError, match=r"metadata_sequences\.csv: damaged table of sequences"):
        raflib.plan_download(tmp_path)


def test_the_writer_makes_what_the_layout_says(written):
    assert default_model().is_file() and (WIDTH, HEIGHT) == (110, 160) and len(PLATE) == 3
    names = {str(path.relative_to(written.root)) for path in written.root.rglob("*") if path.is_file()}
    videos = {f"422/sequences/{sequence}/images/cam_{serial}.mp4" for sequence in SEQUENCES for serial in SERIALS}
    plates = {f"422/sequences/BACKGROUND/image_{serial}.jpg" for serial in SERIALS}
    calibration = {"422/calibration/camera_params.json", "422/calibration/color_calibration.json"}
    assert names == videos | plates | calibration | {"metadata_participants.csv", "metadata_sequences.csv"}
