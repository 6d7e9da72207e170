"""Captures, people and banks of notebooks (`raflib.lab.recordings`), with folders of real captures' layouts."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
from nersemble_layout import write_mono
from synthetic import ball_capture
from test_nersemble_benchmark import Steady

from raflib import RAF, ExpressionBank, Vanilla, export_gha, fit
from raflib import studio as studio_acts
from raflib.capture import APART, hold_out, shown, shown_spaces
from raflib.config import train_config
from raflib.coverage import training_sets
from raflib.errors import RafError
from raflib.lab import banks, recordings
from raflib.lab.banks import open_bank
from raflib.lab.folders import run_folder
from raflib.lab.parameters import NOTEBOOKS
from raflib.lab.protocol import Roles, roles, unseen_drivers
from raflib.lab.ready import check_sampler, sampler_of, usable_samplers
from raflib.lab.recordings import BLANK, Recordings, driven, image_of
from raflib.runs import cache_root
from raflib.sampler.compare import compare_samplers, sets_of
from raflib.sources import gha, known_people
from raflib.sources.nersemble import benchmark, mono, raw
from raflib.sources.nersemble.names import MONO
from raflib.sources.studio import PROFILES as STUDIO_PROFILES
from raflib.sources.studio import pick_moments

LENGTHS = {"EXP-1-head": 4, "EXP-5-mouth": 4, "EMO-2-surprise+fear": 4, "FREE": 3}
PEOPLE = ("393", "404", "461", "477")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    for name in PEOPLE:  # only 404 has images of FREE
        write_mono(folder, name, LENGTHS, 64, () if name == "404" else ("FREE",))
    return folder


@pytest.fixture(scope="module")
def reading(root, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAF_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(mono, "FaceTracker", Steady)
        yield Recordings("nersemble", str(root), profile="tiny")


@pytest.mark.parametrize(
    ("subject", "people", "bank", "drivers"),
    [
        ("422", ["422", "443", "018", "074", "445"], ["018", "074"], ["443", "445"]),  # the paper's protocol
        ("393", ["486", "477", "461", "404", "393"], ["404", "477"], ["461", "486"]),  # the monocular benchmark
        ("461", ["486", "477", "461", "404", "393"], ["477", "393"], ["486", "404"]),
        ("422", ["422", "443", "445"], ["443"], ["445"]),
        ("a", ["a", "b"], ["b"], []),
        ("a", ["a"], [], []),
    ],
)
def test_who_is_in_the_bank_and_who_drives(subject, people, bank, drivers):
    assert roles(subject, people) == Roles(tuple(bank), tuple(drivers))


def test_the_studio_keeps_the_papers_protocol_and_the_bank_that_ships():
    studio = Recordings.of(NOTEBOOKS["04_train"]())
    assert studio == Recordings() and studio.drivers("422") == unseen_drivers("422") and studio.people == []
    assert studio.space("422") == ("arkit52", 52)
    assert len(studio.open_bank("422").people) == 415


def test_people_are_listed_without_opening_them(root, tmp_path):
    assert known_people("nersemble", root) == known_people("nersemble", root / MONO) == list(PEOPLE)
    with pytest.raises(RafError, match="no such folder"):
        known_people("gha", tmp_path / "absent")
    with pytest.raises(RafError, match="reads no folder"):
        known_people("studio", root)


def test_a_bank_of_the_folders_people_is_built_once_and_again_after_a_change(reading, root, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    there = dataclasses.replace(reading, root=str(copy))
    bank = there.open_bank("404")
    assert set(bank.people) == {"461", "393"} and there.drivers("404") == ["477"]
    assert bank.feature_space == "flame109"
    (stored,) = (path for path in _banks() if "copy" in path.name)
    before = stored.stat().st_mtime_ns
    assert there.open_bank("404").checksum == bank.checksum and stored.stat().st_mtime_ns == before
    track = next(copy.glob("*/461/sequences/EXP-1-head/tracking/*.npz"))
    os.utime(track, (1, 1))
    assert there.open_bank("404").checksum == bank.checksum, "the same content makes the same bank"
    assert len([path for path in _banks() if "copy" in path.name]) == 2
    assert dataclasses.replace(there, bank="small").open_bank("404").provenance["variant"] == "small"


def _banks():
    return (cache_root() / "banks").glob("*.npz")


def test_a_bank_named_by_its_path_is_opened(reading, tmp_path):
    bank = reading.open_bank("404").restrict(subjects="461")
    bank.save(tmp_path / "mine.npz")
    assert dataclasses.replace(reading, bank=str(tmp_path / "mine.npz")).open_bank("404").people == ("461",)


def test_faces_of_a_bank_are_read_from_the_recordings(reading):
    bank = reading.open_bank("404")
    free = int(np.flatnonzero((bank.subjects == "461") & (bank.sequence == "FREE"))[0])
    seen = int(np.flatnonzero((bank.subjects == "461") & (bank.sequence == "EXP-5-mouth"))[1])
    faces = reading.faces(bank, [seen, free], 40)
    assert faces.shape == (2, 40, 40, 3) and (faces[1] == BLANK).all(), "FREE has no images"
    person = reading.open("461")
    t = int(np.flatnonzero((person.sequence == "EXP-5-mouth") & (person.frame == bank.frame[seen]))[0])
    assert abs(faces[0].astype(int).mean() - person.image(t, 0).mean()) < 3


def test_images_that_the_source_lacks_are_grey_and_cannot_be_measured(reading):
    capture = reading.open("393")
    (first, *_) = np.flatnonzero(capture.free)
    assert capture.free.any() and not (capture.free & capture.with_image).any()
    assert (image_of(capture, first) == BLANK).all()
    np.testing.assert_array_equal(image_of(capture, 0), capture.image(0, 0))
    with pytest.raises(RafError, match=r'393 of source nersemble: no held-out frame.*held_out="EMO-2'):
        reading.to_measure("393")
    measured = dataclasses.replace(reading, held_out="EXP-1-head").to_measure("393")
    assert measured.free.sum() == 4 and measured.train.sum() == 8
    assert reading.to_measure("404").free.sum() == 3


@pytest.mark.parametrize(
    ("profile", "frames", "opened"),
    [("demo", "", "coverage"), ("demo", "training", "demo"), ("tiny", "", "tiny"), ("tiny", "all", "coverage")],
)
def test_coverage_is_measured_with_every_training_frame_or_those_of_the_training(monkeypatch, profile, frames, opened):
    asked = []
    monkeypatch.setattr(
        recordings, "open_capture", lambda source, subject, profile, root: asked.append(profile) or ball_capture()
    )
    Recordings(profile=profile).with_frames("422", frames)
    assert asked == [opened]


def test_every_training_frame_is_of_every_sequence_at_25_a_second():
    moments = pick_moments("422", STUDIO_PROFILES["coverage"])
    counts = dict(zip(*np.unique(moments.sequence[moments.sequence != "FREE"], return_counts=True), strict=True))
    assert counts == {name: len(studio_acts.act("422", name).actions) for name in studio_acts.TRAIN_SEQUENCES}
    assert raw.PROFILES["coverage"].per_sequence is benchmark.PROFILES["coverage"].per_sequence is None
    assert gha.PROFILES["coverage"].frames is None


def test_held_out_sequences_replace_free():
    capture = ball_capture()
    half = np.where(np.arange(len(capture)) % 2, "EXP-5-mouth", capture.sequence)
    capture = dataclasses.replace(capture, sequence=np.where(capture.free, "FREE", half))
    names = sorted(set(capture.sequence[capture.train]))
    one = hold_out(capture, names[:1])
    np.testing.assert_array_equal(one.free, capture.train & (capture.sequence == names[0]))
    np.testing.assert_array_equal(one.train, capture.train & (capture.sequence != names[0]))
    assert not (one.detected & capture.free).any() and capture.free.any()
    thirds = np.array(["A", "B", "C"])[np.arange(len(capture)) % 3]
    same = dataclasses.replace(capture, sequence=thirds, frame=np.arange(len(capture)) // 3)
    two = hold_out(same, ["C", "A"])
    places = list(zip(two.sequence[two.free].tolist(), two.frame[two.free].tolist(), strict=True))
    assert len(places) == len(set(places)) == (thirds != "B").sum()
    np.testing.assert_array_equal(two.frame - same.frame, np.where(thirds == "A", APART, 0))
    for wrong, message in ((["EXP-99"], "cannot hold out EXP-99"), (["FREE"], "cannot hold out FREE")):
        with pytest.raises(RafError, match=message):
            hold_out(capture, wrong)
    with pytest.raises(RafError, match="all its sequences are held out"):
        hold_out(capture, names)


def test_a_driver_without_truth_moves_the_head_around_the_subjects_mean(reading):
    target, driver = reading.open("393"), reading.driver_to_measure("404")
    rows = np.flatnonzero(driver.free)[:2]
    pose, scale, torso, true = driven(target, driver, rows, target.cameras[0])
    assert true == [] and torso is None and pose.shape == (2, 6) and scale.shape == (2,)
    own = np.flatnonzero(target.train)[:2]
    pose, _, _, true = driven(target, target, own, target.cameras[0])
    np.testing.assert_array_equal(pose, target.pose[own])
    np.testing.assert_array_equal(true[1], target.image(int(own[1]), 0))


def test_samplers_are_checked_in_the_captures_space(reading):
    bank = reading.open_bank("404")
    check_sampler(RAF(bank), reading, "404", unseen=["477"])
    check_sampler(Vanilla(), reading, "404")
    with pytest.raises(RafError, match="461"):
        check_sampler(RAF(bank), reading, "404", unseen=["461"])
    with pytest.raises(RafError, match=r"arkit52.*flame109|flame109.*arkit52"):
        check_sampler(RAF(Recordings(bank="small").open_bank("422")), reading, "404")


def test_samplers_that_a_small_bank_cannot_serve_are_left_out(reading, capsys):
    bank = reading.open_bank("404")
    given = NOTEBOOKS["09_beyond"]()
    usable = usable_samplers(["vanilla", "raf", "raf_people"], given, bank, reading, "404", ["477"])
    assert list(usable) == ["vanilla", "raf"] and "left out: raf_people" in capsys.readouterr().out
    assert usable["raf"].describe() == sampler_of("raf", given, bank).describe()
    with pytest.raises(RafError, match="461"):
        usable_samplers(["vanilla"], given, bank, reading, "404", ["461"])


def test_nobody_for_a_bank_or_to_drive_is_an_error_that_says_so(tmp_path):
    export_gha(ball_capture(), tmp_path / "alone")
    alone = Recordings("gha", str(tmp_path), profile="tiny")
    assert alone.people == ["alone"] and alone.drivers("alone") == []
    with pytest.raises(RafError, match="holds nobody beside alone for a bank"):
        alone.open_bank("alone")
    with pytest.raises(RafError, match="holds nobody who could drive alone"):
        alone.unseen("alone")


def test_folders_of_results_name_the_recordings(root, tmp_path):
    def name(**values):
        given = {"source": "nersemble", "subject": "404", "root": str(root), **values}
        return run_folder("04_train", given).name

    other = tmp_path / root.name
    other.mkdir()
    names = [name(), name(root=str(other)), name(held_out="EXP-1-head"), name(features="open42")]
    assert len(set(names)) == 4 and names[0].startswith("04_train_404_raf_demo_0_nersemble_")
    assert name(root=os.path.relpath(root)) == names[0], "a relative path is the same folder"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "nersemble"}, "root is ''.*expected the folder"),
        ({"source": "gha", "root": "/no/such/folder"}, "root is '/no/such/folder'"),
        ({"root": "."}, "source studio reads no folder"),
        ({"features": "bfm64"}, "expected the path of your file of"),
        ({"features": "bfm64", "model": "/no/model.mat"}, "there is no such file"),
        ({"model": "model.mat"}, "no file of a face model is needed"),
        ({"held_out": "FREE"}, "held_out is 'FREE'"),
        ({"held_out": "EXP-1-head EXP-1-head"}, "each once"),
    ],
)
def test_wrong_recordings_are_refused(values, message):
    with pytest.raises(RafError, match=message):
        NOTEBOOKS["04_train"](**values)


def test_studio_banks_are_not_rebuilt_for_other_sources(root):
    with pytest.raises(RafError, match="rebuild makes a bank of the studio's people"):
        NOTEBOOKS["02_bank"](source="nersemble", root=str(root), rebuild=True)


def test_a_space_without_a_bank_says_what_to_do():
    with pytest.raises(RafError, match="no bank of the feature space bfm64 ships"):
        open_bank("", "bfm64")


# --- features of one space, neighbours searched in another ------------------------------------------------------------


@pytest.fixture
def two_spaces(tmp_path, monkeypatch):
    """A bank with two spaces ships."""
    rng, names = np.random.default_rng(0), np.repeat(["B001", "B002", "B003"], 4)
    features = rng.uniform(size=(12, 52)).astype(np.float32)
    bank = ExpressionBank(
        features, names, ["FREE"] * 12, range(12), "arkit52", spaces={"open42": rng.normal(size=(12, 42))}
    )
    bank.save(tmp_path / banks.SHIPPED)
    monkeypatch.setattr(banks, "data_root", lambda: tmp_path)
    return bank


def beside(capture, tag, model=""):
    """A made-up fit: features of another width that follow the frames; the second frame cannot be fitted."""
    if tag in (capture.feature_space, *capture.spaces):
        return capture
    width = int(tag.lstrip("abcdefghijklmnopqrstuvwxyz"))
    found = np.linspace(0, 1, len(capture))[:, None] * np.ones(width, np.float32)
    found[1] = np.nan
    return dataclasses.replace(capture, spaces={**capture.spaces, tag: found.astype(np.float32)})


@pytest.fixture
def studio(two_spaces, monkeypatch):
    """The studio with a made-up recording of the subject and made-up fits."""
    monkeypatch.setattr(recordings, "with_space", beside)
    monkeypatch.setattr(recordings, "open_capture", lambda source, name, profile, root: ball_capture(name, size=64))
    return Recordings(search="open42")


def test_banks_are_found_by_space(two_spaces):
    seen = Recordings(features="open42").open_bank("422")
    assert seen.feature_space == "open42" and list(seen.spaces) == ["arkit52"]
    np.testing.assert_array_equal(seen.features, two_spaces.spaces["open42"])
    assert Recordings(bank="small").open_bank("422").spaces["open42"].shape == (12, 42)
    assert Recordings(features="open42", bank="half2").open_bank("422").feature_space == "open42"


def test_a_capture_carries_the_space_of_the_search(studio):
    capture, plain = studio.open("422"), dataclasses.replace(studio, search="").open("422")
    assert capture.feature_space == "arkit52" and list(capture.spaces) == ["open42"] and plain.spaces == {}
    assert not capture.detected[1] and plain.detected[1], "a training frame without these features is not trained on"
    assert (capture.detected == plain.detected)[2:].all() and capture.fingerprint != plain.fingerprint
    assert studio.driver("443").spaces == {}, "drivers are not searched for"
    turned = dataclasses.replace(studio, features="open42", search="arkit52")
    monkey = turned._in_spaces(ball_capture("422"), "arkit52")
    assert monkey.feature_space == "open42" and list(monkey.spaces) == ["arkit52"]
    same = dataclasses.replace(studio, search="arkit52").open("422")
    assert same.fingerprint == plain.fingerprint, "the space of the features is no further space"


def test_a_sampler_searches_where_the_parameter_says(studio):
    given = NOTEBOOKS["04_train"](search="open42")
    made = Recordings.of(given)
    sampler = sampler_of("raf", given, made.open_bank("422"))
    check_sampler(sampler, made, "422")
    capture = made.open("422")
    found = sampler.bind(shown(capture), "422", capture.feature_space, spaces=shown_spaces(capture)).neighbours[0, 0]
    query, rows = capture.spaces["open42"][0].astype(float), sampler.bank.spaces["open42"].astype(float)
    assert found == np.linalg.norm(rows - query, axis=1).argmin()
    usable = usable_samplers(
        ["raf", "raf_people", "raf_oracle"], NOTEBOOKS["09_beyond"](search="open42"), sampler.bank, made, "422"
    )
    assert list(usable) == ["raf"] and usable["raf"].search == "open42"
    for method in ("vanilla", "noise", "raf_random"):
        assert Recordings.of(NOTEBOOKS["04_train"](search="open42", method=method)).search == ""


def test_the_oracle_searches_the_studios_true_actions(two_spaces, tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_CACHE", str(tmp_path / "cache"))
    given = NOTEBOOKS["04_train"](method="raf_oracle")
    made = Recordings.of(given)
    assert made.search == "true52"
    bank = made.open_bank("422")
    assert bank.spaces["true52"].shape == (12, 52) and len(list((tmp_path / "cache" / "banks").iterdir())) == 1
    monkeypatch.setattr(recordings, "with_true_actions", None)  # they are looked up once
    np.testing.assert_array_equal(made.open_bank("422").spaces["true52"], bank.spaces["true52"])
    check_sampler(sampler_of("raf_oracle", given, bank), made, "422")
    monkeypatch.setattr(recordings, "open_capture", lambda source, name, profile, root: ball_capture(name, size=64))
    with pytest.raises(RafError, match="has no truth; only the studio knows"):
        made.open("422")


def test_table_1s_sets_hold_the_neighbours_of_the_search(studio, two_spaces):
    capture, targets = studio.open("422"), {"443": ball_capture("443", seed=5).expression[:6]}
    plain, other = (sets_of(RAF(two_spaces, top_k=2, search=tag), capture, targets, 3) for tag in ("", "open42"))
    frames = capture.train.sum()
    direct = training_sets(capture.expression[capture.train], "422", targets, two_spaces, repeats=3, top_k=2)
    np.testing.assert_array_equal(plain.pool, direct.pool)
    rows = two_spaces.in_space("open42").search(capture.spaces["open42"][capture.train], 2)[1]
    np.testing.assert_array_equal(other.pool[frames : 2 * frames], two_spaces.features[rows[:, 0]])
    np.testing.assert_array_equal(other.pool[2 * frames :], two_spaces.features[rows[:, 1]])
    for a, b in zip(plain.raf, other.raf, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_bank_of_one_space_and_a_capture_of_the_other_are_refused(studio, two_spaces, tmp_path):
    single = dataclasses.replace(two_spaces, spaces=None)
    single.save(tmp_path / "single.npz")
    there = str(tmp_path / "single.npz")
    both = r"arkit52 features and the capture of subject 422 open42; choose another `bank`, or other `features`"
    with pytest.raises(RafError, match=both):
        Recordings(features="open42", bank=there).open_bank("422")
    with pytest.raises(RafError, match=r"search is 'open42', and the bank holds arkit52 features; .* another `search`"):
        Recordings(search="open42", bank=there).open_bank("422")
    capture, seen = studio.open("422"), two_spaces.in_space("open42")
    refused = r"open42 features of width 42 and .* arkit52 features of width 52; choose another `bank`, or other `feat"
    targets = {"443": capture.expression[:4]}
    for route in (
        lambda: RAF(seen).bind(shown(capture), "422", capture.feature_space),
        lambda: sets_of(RAF(seen), capture, targets),
        lambda: compare_samplers({"raf": RAF(seen)}, capture, targets, progress=False),
        lambda: fit(capture, RAF(seen), train_config("tiny"), tmp_path / "run", progress=False),
    ):
        with pytest.raises(RafError, match=refused):
            route()
    further = (
        r"raf: search is 'open42', the bank holds arkit52 features and the capture of subject '422' arkit52, open42; "
    )
    for route in (
        lambda: RAF(single, search="open42").bind(shown(capture), "422", "arkit52", spaces=shown_spaces(capture)),
        lambda: sets_of(RAF(single, search="open42"), capture, targets),
        lambda: fit(capture, RAF(single, search="open42"), train_config("tiny"), tmp_path / "run", progress=False),
    ):
        with pytest.raises(RafError, match=further):
            route()


def test_a_run_of_another_search_is_another_run(studio):
    """`fit` refuses a folder of another sampler, by its description, and of another recording, by its fingerprint."""
    bank = studio.open_bank("422")
    told = RAF(bank, search="open42").describe()
    assert told.pop("search") == "open42" and told == RAF(bank).describe()
    plain = dataclasses.replace(studio, search="")
    assert studio.open("422").fingerprint != plain.open("422").fingerprint


def test_a_built_bank_holds_the_space_of_the_search(reading, monkeypatch):
    monkeypatch.setattr(recordings, "with_space", beside)
    there = dataclasses.replace(reading, search="open42")
    plain, bank = reading.open_bank("404"), there.open_bank("404")
    assert bank.feature_space == "flame109" and bank.spaces["open42"].shape == (len(bank), 42)
    assert plain.spaces == {} and len(bank) == len(plain) - len(bank.people), "the frames that cannot be fitted"
    check_sampler(RAF(bank, search="open42"), there, "404")


def test_one_face_model_serves_one_space(tmp_path):
    (tmp_path / "model.mat").write_text("a model")
    model = str(tmp_path / "model.mat")
    assert NOTEBOOKS["04_train"](search="bfm64", model=model).search == "bfm64"
    with pytest.raises(RafError, match="parameter search is 'flame100' and features 'bfm64'; each needs a face model"):
        NOTEBOOKS["04_train"](features="bfm64", search="flame100", model=model)
    with pytest.raises(RafError, match="with search='bfm64' expected the path of your file of a Basel"):
        NOTEBOOKS["04_train"](search="bfm64")
