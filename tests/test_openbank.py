"""The open bank's builder: the same bytes after every interruption, and rows that can be made again."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from processes import MARK, marked
from synthetic import ball_capture

from raflib import openbank, studio, tracking
from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.lab.protocol import BENCHMARK, EXTERNAL
from raflib.lab.spaces import with_space
from raflib.openbank import building, filming, verifying
from raflib.runs import data_root, folder_lock
from raflib.sources import studio as recordings
from raflib.tracking import Observation
from raflib.tracking.landmarks import GROUPS

pytest.importorskip("mediapipe", reason="mediapipe is not installed")
ROOT = Path(__file__).resolve().parents[1]
SIZES = {"people": 2, "frames": 4, "seed": 3, "progress": False}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return bank, file and cache of two people, built on one core without interruption, and each one's landmarks."""
    folder, fit, landmarks = tmp_path_factory.mktemp("built"), building.open_features, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "open_features", lambda points: landmarks.append(points) or fit(points))
        bank = openbank.build(folder / "bank.npz", cores=1, cache=folder / "cache", **SIZES)
    return bank, folder / "bank.npz", folder / "cache", landmarks


@pytest.fixture(scope="module")
def shipped():
    return ExpressionBank.load(data_root() / "bank_open.npz")


@pytest.fixture
def unfilmed(monkeypatch):
    """Replace images by their names, (sequence, frame) as an array of the image's type, and the fit by a landmark."""
    moments = {}

    def images(self, sequence, frame):
        code = np.array([[[list(self.acted).index(sequence), frame // 200, frame % 200]]], np.uint8)
        moments[code.tobytes()] = (sequence, frame)
        return [code]

    monkeypatch.setattr(filming.Person, "images", images)
    monkeypatch.setattr(building, "open_features", lambda landmarks: landmarks[:, 0])
    return moments


# --- the build -------------------------------------------------------------------------------------------------------


def test_a_bank_has_what_was_asked_for_and_says_how_it_was_made(built):
    bank = built[0]
    assert bank.feature_space == "arkit52" and bank.features.shape == (8, 52) and bank.people == ("B001", "B002")
    assert np.array_equal(bank.subjects, np.repeat(["B001", "B002"], 4))
    assert list(bank.spaces) == ["open42"] and bank.spaces["open42"].shape == (8, 42)
    for features in (bank.features, bank.spaces["open42"]):
        assert np.array_equal(features, features.astype(np.float16))
    for name, sequence, frame, turn in zip(bank.subjects, bank.sequence, bank.frame, bank.rotation, strict=True):
        acted = studio.act(str(name), str(sequence))
        true = studio.head_pose(studio.Identity(str(name)), acted.angles[frame])[:3]
        assert 0 <= frame < len(acted) and abs(turn[1] - true[1]) < 0.1, "yaw, which the tracker reads best"
    told = bank.provenance
    assert (told["people"], told["per_subject"], told["seed"]) == ("2", "4", "3")
    assert float(told["detection_rate"]) >= 0.995 and int(told["looked_at"]) == 8
    assert {"mediapipe", "numpy", "numba", "face_landmarker", "recipe"} <= set(told)
    assert told["arkit52"] == "scores of the frontal view"
    assert all(camera.name in told["open42"] for camera in filming.CAMERAS)
    assert len({*zip(bank.subjects, bank.sequence, bank.frame, strict=True)}) == 8


def test_a_person_is_filmed_and_fitted_as_a_capture_is(built, tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_CACHE", str(tmp_path))
    assert (filming.SIZE, recordings.PROFILES["demo"].tracking_size) == (256, 256)
    told = [(camera.name, camera.width) for camera in recordings._cameras(256, recordings.PROFILES["demo"].tracked)]
    assert [(camera.name, camera.width) for camera in filming.CAMERAS] == told
    for name, points in zip(built[0].people, built[3], strict=True):
        assert points.dtype == np.float32, "captures keep single precision"
        recorded = dataclasses.replace(
            ball_capture(name, frames=3), landmarks=points, neutral=points[0], groups=GROUPS,
            cameras=studio.rig(64)[:4],
        )  # fmt: skip
        fitted = with_space(recorded, "open42").spaces["open42"]
        rows = built[0].restrict(subjects=name).spaces["open42"]
        assert np.array_equal(fitted.astype(np.float16), rows.astype(np.float16)), name


@pytest.mark.parametrize("blind", [(), (0,), (1,), (2, 3), (0, 2, 3)])
def test_only_frames_that_a_capture_could_fit_are_rows(blind):
    """The frontal view is the second of four; `blind` views show no face."""
    points = studio.landmarks(studio.Identity("B001"), np.zeros(52, np.float32), np.zeros(3))
    asked = []

    def tracker(image):
        view = int(image[0, 0, 0])
        asked.append(view)
        if view in blind:
            return None
        seen = filming.CAMERAS[view].project(points).astype(np.float32)
        return Observation(np.full(52, view, np.float32), seen, np.zeros(478, np.float32), np.eye(4, dtype=np.float32))

    seen = filming.sighted([np.full((1, 1, 3), view, np.uint8) for view in range(4)], tracker)
    assert filming.FRONT == 1 and (seen is not None) == (1 not in blind and len(blind) < 3)
    assert sorted(asked) == ([1] if 1 in blind else [0, 1, 2, 3]), "each view is tracked once"
    if seen is not None:
        assert seen.expression[0] == 1 and np.abs(seen.landmarks - points).max() < 1e-5


def test_an_interrupted_build_on_other_cores_ends_in_the_same_bytes(built, tmp_path, monkeypatch):
    film, made = building.film_person, []

    def dies_at_the_second(name, *rest):
        made.append(name)
        if name == "B002":
            raise KeyboardInterrupt
        return film(name, *rest)

    monkeypatch.setattr(building, "film_person", dies_at_the_second)
    out, cache = tmp_path / "bank.npz", tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        openbank.build(out, cores=1, cache=cache, **SIZES)
    assert made == ["B001", "B002"] and not out.exists()
    assert [path.name for path in cache.rglob("*.npz")] == ["B001.npz"]

    monkeypatch.setattr(building, "film_person", lambda name, *rest: made.append(name) or film(name, *rest))
    openbank.build(out, cores=2, cache=cache, **SIZES)
    assert made[2:] == ["B002"] and out.read_bytes() == built[1].read_bytes()


def test_damaged_people_are_made_again_and_finished_ones_are_not(built, tmp_path, monkeypatch):
    cache, film, made = tmp_path / "cache", building.film_person, []
    shutil.copytree(built[2], cache)
    first, second = sorted(cache.rglob("B00?.npz"))
    second.write_bytes(second.read_bytes()[:-100])
    monkeypatch.setattr(building, "film_person", lambda name, *rest: made.append(name) or film(name, *rest))
    openbank.build(tmp_path / "bank.npz", cache=cache, **SIZES)
    assert made == ["B002"] and (tmp_path / "bank.npz").read_bytes() == built[1].read_bytes()
    shutil.copy(first, second)  # another person under this name
    openbank.build(tmp_path / "bank.npz", cache=cache, **SIZES)
    assert made == ["B002", "B002"] and (tmp_path / "bank.npz").read_bytes() == built[1].read_bytes()


def test_more_people_leave_the_others_as_they_were(built, tmp_path, monkeypatch):
    def fails(name, *_):
        raise AssertionError(f"{name} was filmed again")

    monkeypatch.setattr(building, "film_person", fails)
    one = openbank.build(tmp_path / "one.npz", cache=built[2], **{**SIZES, "people": 1})
    assert np.array_equal(one.features, built[0].features[:4]) and np.array_equal(one.frame, built[0].frame[:4])
    with pytest.raises(AssertionError, match="B003"):
        openbank.build(tmp_path / "three.npz", cache=built[2], **{**SIZES, "people": 3})


def test_one_failure_ends_the_build_and_names_itself(tmp_path, monkeypatch):
    finished, filming = [], Event()

    def fails(name, frames, seed, look):
        if name == "B001":
            assert filming.wait(60)
            raise RafError("B001: the film is torn")
        for _ in range(100):
            look([np.full((64, 64, 3), 255, np.uint8)] * 4)
            filming.set()
        finished.append(name)

    monkeypatch.setattr(building, "film_person", fails)
    with pytest.raises(RafError, match="film is torn"):
        openbank.build(tmp_path / "bank.npz", cores=2, cache=tmp_path, **SIZES)
    assert not finished


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
from raflib import openbank

out, cache, sizes = Path(sys.argv[1]), Path(sys.argv[2]), {"people": 2, "frames": 4, "seed": 3, "cores": 1}
draw, killed = random.Random(0), 0
while killed < int(os.environ.get("RAF_KILLS", "4")):  # more take longer and find more
    builder = os.fork()
    if builder == 0:
        os.fsync = lambda file: time.sleep(0.5)  # a slow disk, so that some kills come during a write
        openbank.build(out, cache=cache, progress=False, **sizes)
        os._exit(0)
    time.sleep(draw.uniform(0.2, 4))
    os.kill(builder, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(builder, 0)[1])
    if out.exists():  # it was done: there is work again for the next
        out.unlink()
        next(cache.glob("*/B002.npz")).unlink()
openbank.build(out, cache=cache, progress=False, **sizes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_kills_of_a_build_change_nothing(built, tmp_path):
    """SIGKILL at random moments: no tracker goes on, no half-written file stays, and the bytes are the same."""
    out, cache = tmp_path / "bank.npz", tmp_path / "cache"
    paths = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    environment = {**os.environ, "PYTHONPATH": paths, MARK: str(tmp_path)}
    subprocess.run([sys.executable, "-c", KILLS, str(out), str(cache)], env=environment, check=True, timeout=240)

    deadline = time.monotonic() + 5
    while marked(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not marked(tmp_path)
    assert out.read_bytes() == built[1].read_bytes()
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert [name.split("/")[-1] for name in files] == ["bank.npz", "B001.npz", "B002.npz"]


# --- the draw --------------------------------------------------------------------------------------------------------


def sighting(number):
    return filming.Seen(*(np.full(shape, value, np.float32) for shape, value in (
        (52, number), (3, number / 100), ((478, 3), -number)
    )))  # fmt: skip


def test_a_frame_without_a_face_makes_way_for_the_next_of_the_draw(unfilmed):
    looked = []

    def look(images):
        looked.append(unfilmed[images[0].tobytes()])
        return None if len(looked) % 3 == 0 else sighting(len(looked))

    person = building.film_person("B007", 30, 0, look)
    assert len(person) == 30 and int(person.provenance["looked_at"]) == len(looked) == 44
    moments = [(name, frame) for name in studio.SEQUENCES for frame in range(len(studio.act("B007", name)))]
    assert looked == [moments[i] for i in np.random.default_rng([0, *b"B007"]).permutation(len(moments))[:44]]
    kept = [moment for number, moment in enumerate(looked, 1) if number % 3]
    rows = list(zip(person.sequence.tolist(), person.frame.tolist(), strict=True))
    assert rows == sorted(kept, key=lambda moment: (studio.SEQUENCES.index(moment[0]), moment[1]))
    assert [looked.index(row) + 1 for row in rows] == person.features[:, 0].tolist()  # features stay with their frames
    assert np.array_equal(person.rotation, person.features[:, :3] / 100)
    assert np.array_equal(person.spaces["open42"], -person.features[:, :3])


def test_frames_are_drawn_evenly_from_all_sequences(unfilmed):
    seen = sighting(0)
    person, other = (building.film_person("B001", 800, seed, lambda images: seen) for seed in (0, 1))
    lengths = {name: len(studio.act("B001", name)) for name in studio.SEQUENCES}
    for name, length in lengths.items():
        expected = 800 * length / sum(lengths.values())
        assert abs((person.sequence == name).sum() - expected) < 4 * expected**0.5, name
    free = person.frame[person.sequence == "FREE"]
    assert free.min() < 0.2 * lengths["FREE"] and free.max() > 0.8 * lengths["FREE"]
    assert person.frame.tolist() != other.frame.tolist()


def test_people_are_nobody_who_is_trained_or_drives():
    everybody = openbank.names(openbank.PEOPLE)
    assert len(set(everybody)) == 415 and everybody[0] == "B001" and everybody[-1] == "B415"
    assert not set(everybody) & {*BENCHMARK, *EXTERNAL} and openbank.PEOPLE * openbank.FRAMES == 83_000


def test_the_key_follows_all_that_a_person_s_rows_do(monkeypatch):
    keys = [building.recipe(4, 0), building.recipe(5, 0), building.recipe(4, 1)]
    for module, name in ((building, "DRAW_VERSION"), (studio, "VERSION"), (tracking, "VERSION")):
        monkeypatch.setattr(module, name, getattr(module, name) + 1)
        keys.append(building.recipe(4, 0))
    monkeypatch.setattr(building, "MODEL_SHA256", "another")
    keys.append(building.recipe(4, 0))
    monkeypatch.setattr(building, "CAMERAS", filming.CAMERAS[:3])
    keys.append(building.recipe(4, 0))
    for changed in ("head_model.npz", "open_face_model.npz"):
        hashed = building.content_hash
        monkeypatch.setattr(
            building, "content_hash", lambda path, of=hashed, other=changed: "00" if path.name == other else of(path)
        )
        keys.append(building.recipe(4, 0))
    monkeypatch.setattr(building, "package_versions", lambda names: {"numba": "another"})
    keys.append(building.recipe(4, 0))
    assert len(set(keys)) == len(keys)


# --- verification ----------------------------------------------------------------------------------------------------


def test_a_few_rows_of_the_shipped_bank_are_what_is_tracked_now(shipped, monkeypatch):
    monkeypatch.setattr(verifying, "PEOPLE", 2)
    found = openbank.verify(shipped, 6 / len(shipped), seed=1, progress=False)
    assert len(found.rows) == 6 and 1 <= len(found.people) <= 2 and found.difference.max() <= openbank.TOLERANCE
    assert "6 rows" in str(found)


@pytest.mark.minutes
def test_one_percent_of_the_shipped_bank_is_what_is_tracked_now(shipped):
    found = openbank.verify(shipped, 0.01, progress=False)
    assert len(found.rows) == -(-len(shipped) // 100) and len(found.people) >= min(12, len(shipped.people))
    assert np.median(found.difference) < 0.01


def test_rows_that_are_wrong_are_named(built):
    bank = built[0]
    rows = {
        "subjects": bank.subjects, "sequence": bank.sequence, "frame": bank.frame, "feature_space": "arkit52",
        "spaces": bank.spaces,
    }  # fmt: skip
    good = openbank.verify(bank.in_space("open42"), 1.0, cores=1, progress=False)  # the same rows
    assert good.rows.tolist() == list(range(8)) and good.people == ("B001", "B002")
    assert good.difference.max() < 0.001  # only half precision lies between the two
    assert good.fitted == good.people and good.fit_difference.max() < 0.001 and "whole people" in str(good)
    wrong = bank.features.copy()
    wrong[5, 25] += 0.2
    with pytest.raises(RafError, match=r"1 of 8 rows .* row 5 \(B002, .*differs by 0\.2.* in jawOpen") as error:
        openbank.verify(ExpressionBank(wrong, **rows), 1.0, cores=1, progress=False)
    assert "\n" not in str(error.value)
    fitted = {**rows, "spaces": {"open42": bank.spaces["open42"][[0, 1, 2, 3, 5, 4, 6, 7]]}}
    with pytest.raises(RafError, match=r"open42 of 2 rows .* row [45] \(B002, .* differs by .* \(RMS\)") as error:
        openbank.verify(ExpressionBank(bank.features, **fitted), 1.0, cores=1, progress=False)
    assert "\n" not in str(error.value)
    shifted = ExpressionBank(bank.features, **{**rows, "frame": bank.frame[[3, 2, 1, 0, 7, 6, 5, 4]]})
    with pytest.raises(RafError, match=r"not what is rendered|performs no frame"):
        openbank.verify(shifted, 1.0, cores=1, progress=False)


def test_a_row_whose_face_is_not_found_is_named(built, monkeypatch):
    class Blind:
        def __call__(self, image):
            return None

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(filming, "FaceTracker", Blind)
    with pytest.raises(RafError, match=r"8 of 8 rows .* shows no face"):
        openbank.verify(built[0], 1.0, cores=1, progress=False)


def test_rows_come_from_a_few_people_or_as_many_as_it_takes(monkeypatch):
    monkeypatch.setattr(verifying, "PEOPLE", 1)
    sizes = {"A": 10, "B": 20, "C": 30, "D": 40}
    subjects = np.repeat(list(sizes), list(sizes.values()))
    bank = ExpressionBank(np.zeros((100, 52), np.float32), subjects, ["S"] * 100, range(100), "arkit52")
    draws = [verifying._choose(bank, 5, np.random.default_rng(seed)) for seed in range(30)]
    assert all(len(set(rows.tolist())) == 5 for rows in draws)
    assert all(len(set(bank.subjects[rows])) == 1 for rows in draws)
    assert {name for rows in draws for name in bank.subjects[rows]} == set(sizes)
    assert len(set(bank.subjects[verifying._choose(bank, 45, np.random.default_rng(0))])) > 1
    assert verifying._choose(bank, 100, np.random.default_rng(0)).tolist() == list(range(100))


def test_half_of_the_rows_are_whole_people_where_the_bank_has_a_fitted_space():
    bank = ExpressionBank(
        np.zeros((300, 52), np.float32), np.repeat([f"B{n:03d}" for n in range(30)], 10), ["S"] * 300, range(300),
        "arkit52", spaces={"open42": np.zeros((300, 42), np.float32)},
    )  # fmt: skip
    for count, whole in ((60, 3), (19, 0), (300, 30)):
        rows = verifying._choose(bank, count, np.random.default_rng(5))
        people, counts = np.unique(bank.subjects[rows], return_counts=True)
        assert len(set(rows.tolist())) == count and (counts == 10).sum() >= whole, count
        assert len(people) <= max(verifying.PEOPLE, count // 10)


# --- refusals and the command ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"people": 0}, "people is 0"),
        ({"people": 1000}, "1 to 999"),
        ({"frames": 0}, "frames is 0"),
        ({"cores": 0}, "cores is 0"),
    ],
)
def test_numbers_out_of_range_are_named(tmp_path, options, words):
    with pytest.raises(RafError, match=words):
        openbank.build(tmp_path / "bank.npz", **{**SIZES, "cache": tmp_path, **options})
    assert not (tmp_path / "bank.npz").exists()


def test_what_cannot_end_well_is_refused_before_anything_is_filmed(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "film_person", lambda *_: pytest.fail("somebody was filmed"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for out, options, words in (
        ("bank.npz", {"seed": -1}, "seed is -1, expected"),
        ("bank.npz", {"frames": 10_000}, r"frames is 10000, but B001 performs 3373"),
        ("folder", {}, r"folder: is a folder, expected a file"),
        ("file/bank.npz", {}, r"file/bank\.npz: cannot be written"),
    ):
        with pytest.raises(RafError, match=words):
            openbank.build(tmp_path / out, **{**SIZES, "cache": tmp_path / "cache", **options})
    with pytest.raises(RafError, match=r"file/[0-9a-f]+/\S+: cannot be written"):
        openbank.build(tmp_path / "bank.npz", cache=tmp_path / "file", **SIZES)


def test_a_bank_has_one_builder(built, tmp_path):
    folder = built[2] / building.recipe(4, 3)
    with folder_lock(folder, "another build"), pytest.raises(RafError, match=r"in use by .*another build"):
        openbank.build(tmp_path / "bank.npz", cache=built[2], **SIZES)
    openbank.build(tmp_path / "bank.npz", cache=built[2], **SIZES)
    assert (tmp_path / "bank.npz").read_bytes() == built[1].read_bytes()


def test_bad_banks_and_shares_are_refused(built, unfilmed):
    bank = built[0]
    rows = (bank.features, bank.subjects, bank.sequence, bank.frame)
    for wrong, share, words in (
        (bank, 0.0, "share of 0.0"),
        (bank, 1.5, "share of 1.5"),
        (ExpressionBank(*rows, "bfm64"), 0.5, "bfm64"),
    ):
        with pytest.raises(RafError, match=words):
            openbank.verify(wrong, share, progress=False)
    with pytest.raises(RafError, match=r"0 of .* expected 3"):
        building.film_person("B001", 3, 0, lambda images: None)


def test_a_moment_nobody_performs_is_named():
    person = filming.Person("B001")
    for moment in (("BACKGROUND", 0), ("FREE", 100_000), ("FREE", -1)):
        with pytest.raises(RafError, match=rf"B001: performs no frame {moment[1]} of sequence '{moment[0]}'"):
            person.images(*moment)


def test_the_command_builds_and_verifies(built, tmp_path, monkeypatch, capsys):
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import build_bank
    finally:
        sys.path.pop(0)
    monkeypatch.setenv("RAF_CACHE", str(tmp_path))
    shutil.copytree(built[2], tmp_path / "openbank")
    out = tmp_path / "bank.npz"
    assert build_bank.main(["--people", "2", "--frames", "4", "--seed", "3", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "8 rows of 2 people" in printed and "100.00% of 8 frames" in printed
    assert re.search(rf"^[0-9a-f]{{64}}  {out}$", printed, re.MULTILINE) and out.read_bytes() == built[1].read_bytes()
    assert build_bank.main(["--out", str(out), "--verify", "0.5", "--cores", "1"]) == 0
    assert "4 rows of 2 people rendered and tracked again" in capsys.readouterr().out
    assert build_bank.main(["--out", str(tmp_path / "absent.npz"), "--verify", "0.5"]) == 1
    assert "absent.npz: no such expression bank" in capsys.readouterr().err
    shipped = data_root() / "bank_open.npz"
    before = shipped.stat()
    assert build_bank.main(["--people", "2", "--frames", "4", "--seed", "3"]) == 1
    assert "is for 415 people" in capsys.readouterr().err and shipped.stat() == before
