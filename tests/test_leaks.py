"""Leaks: people are found by name and by vectors, in any precision, and no other person is; runs record their bank."""

import time

import numpy as np
import pytest
from synthetic import ball_capture

from raflib.bank import ExpressionBank, write_mapped
from raflib.bank.leaks import Fingerprints, find_leaks, fingerprints, refuse_leaks
from raflib.config import train_config
from raflib.errors import RafError
from raflib.runs import data_root
from raflib.sampler import RAF, Vanilla
from raflib.training import Run, fit


def vectors(count, seed):
    return np.random.default_rng(seed).random((count, 52), np.float32)


def make_bank(**people):
    """A bank of these people's vectors; half of each person's rows are of FREE."""
    rows = np.concatenate(list(people.values()))
    subjects = np.repeat(list(people), [len(own) for own in people.values()])
    sequence = np.concatenate([np.where(np.arange(len(own)) % 2, "EXP-1-head", "FREE") for own in people.values()])
    return ExpressionBank(rows, subjects, sequence, np.arange(len(rows)), "arkit52")


# --- finding ---------------------------------------------------------------------------------------------------------


def test_nobody_leaks_who_is_not_there():
    bank = make_bank(B001=vectors(50, 1), B002=vectors(50, 2))
    assert find_leaks(bank, {"422": vectors(80, 3), "E01": vectors(80, 4), "E02": None}) == []
    near = bank.features * np.float32(1.002)  # two steps of half precision away
    assert find_leaks(bank, {"422": near}) == []


def test_a_name_is_a_leak_with_and_without_vectors():
    bank = make_bank(B001=vectors(50, 1), E01=vectors(7, 2))
    for known in (None, vectors(9, 3), bank.features[50:]):
        (leak,) = find_leaks(bank, {"422": None, "E01": known})
        assert (leak.subject, leak.by, leak.held_as) == ("E01", "name", ("E01",))
        assert leak.rows.tolist() == list(range(50, 57)) and leak.sequences == {"FREE": 4, "EXP-1-head": 3}
    assert str(leak) == "E01 by name (7 rows: FREE 4, EXP-1-head 3)"


@pytest.mark.parametrize("store", [lambda x: x, lambda x: x.astype(np.float16).astype(np.float32)])
@pytest.mark.parametrize("ask", [lambda x: x, lambda x: x.astype(np.float16).astype(np.float32)])
def test_vectors_are_found_under_another_name_whichever_copy_is_half_precision(store, ask):
    driver = vectors(40, 5)
    bank = make_bank(B001=vectors(50, 1), X01=store(driver[10:16]))
    (leak,) = find_leaks(bank, {"E01": ask(driver), "422": vectors(30, 6)})
    assert (leak.subject, leak.by, leak.held_as) == ("E01", "vectors", ("X01",))
    assert leak.rows.tolist() == list(range(50, 56)) and leak.sequences == {"FREE": 3, "EXP-1-head": 3}
    assert str(leak) == "E01 under the name X01 (6 equal vectors: FREE 3, EXP-1-head 3)"


def test_a_saved_merged_and_renamed_person_is_found(tmp_path):
    driver = vectors(40, 5)
    make_bank(Y01=driver).save(tmp_path / "half.npz", half=True)
    bank = make_bank(B001=vectors(50, 1)).merge(ExpressionBank.load(tmp_path / "half.npz"))
    (leak,) = find_leaks(bank, {"E01": driver})
    assert leak.held_as == ("Y01",) and len(leak.rows) == 40


def test_both_kinds_are_told_when_a_person_is_there_twice():
    driver = vectors(8, 5)
    leaks = find_leaks(make_bank(E01=driver, X01=driver[:2]), {"E01": driver})
    assert [(leak.by, leak.held_as, len(leak.rows)) for leak in leaks] == [
        ("name", ("E01",), 8),
        ("vectors", ("X01",), 2),
    ]


def test_rows_that_are_never_searched_do_not_count():
    own = vectors(8, 5)
    bank = make_bank(**{"422": own, "B001": vectors(5, 1)})
    assert len(find_leaks(bank, {"422": own})) == 1
    assert find_leaks(bank, {"422": own, "E01": own}, excluded="422") == []


def test_rows_that_belong_to_nobody_are_no_leak():
    still = np.concatenate([np.zeros((3, 52), np.float32), np.full((2, 52), 0.25, np.float32), vectors(1, 9)])
    bank = make_bank(B001=vectors(50, 1), B002=still)
    others = np.concatenate([still[:5], -still[:5], np.full((2, 52), np.nan, np.float32)])
    assert find_leaks(bank, {"422": others}) == []
    assert (fingerprints(still) == 0).tolist() == [True] * 5 + [False]


def test_numbers_of_any_size_are_told_apart():
    large = (1 + vectors(20, 1)) * 1e6  # beyond half precision: compared as they are
    assert len(np.unique(fingerprints(large))) == 20
    (leak,) = find_leaks(make_bank(B001=vectors(4, 2), X01=large[:3]), {"E01": large})
    assert len(leak.rows) == 3
    one = np.zeros((52, 52), np.float32)
    one[np.arange(52), np.arange(52)] = 0.5  # one number of a row differs, at every place
    assert len(np.unique(fingerprints(one))) == 52
    signed = one.copy()
    signed[signed == 0] = -0.0
    assert np.array_equal(fingerprints(one), fingerprints(signed))
    for column in range(52):
        other = vectors(1, 3)
        other[0, column] *= 1.001
        assert fingerprints(other) != fingerprints(vectors(1, 3))


def test_the_shipped_bank_s_rows_differ_and_none_is_another_person_s():
    bank = ExpressionBank.load(data_root() / "bank_open.npz")
    codes = fingerprints(bank.features)
    assert (codes != 0).all()
    for name in bank.people[:5]:
        mine = bank.subjects == name
        assert find_leaks(bank.restrict(exclude=name), {"422": bank.features[mine], "E01": None}) == []
    assert not {"388", "422", "443", "445", "475", *(f"E{number:02d}" for number in range(1, 11))} & set(bank.people)


def test_a_bank_of_the_paper_s_size_takes_a_moment():
    bank = make_bank(**{f"B{number:03d}": vectors(200, number) for number in range(1, 416)})
    drivers = {f"E{number:02d}": vectors(300, 1000 + number) for number in range(1, 15)}
    drivers["E03"] = np.concatenate([drivers["E03"], bank.features[410:420]])
    began = time.process_time()
    (leak,) = find_leaks(bank, drivers)
    assert leak.subject == "E03" and leak.rows.tolist() == list(range(410, 420)) and leak.held_as == ("B003",)
    assert time.process_time() - began < 5


def test_the_refusal_says_who_where_and_what_to_do():
    driver = vectors(4, 5)
    bank = make_bank(B001=vectors(5, 1), E01=vectors(3, 2), X02=driver)
    people = {"E01": None, "E02": driver}
    with pytest.raises(RafError) as error:
        refuse_leaks("evaluate: the bank", bank, people, allow=False)
    for words in (
        "evaluate: the bank holds frames of E01 by name (3 rows: FREE 2, EXP-1-head 1); E02 under the name X02 (4 ",
        "bank.restrict(exclude=['E01', 'X02'])",
        "allow_leak=True",
    ):
        assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert [leak.subject for leak in refuse_leaks("", bank, people, allow=True)] == ["E01", "E02"]
    assert refuse_leaks("", bank.restrict(exclude=["E01", "X02"]), people, allow=False) == []


# --- fingerprints on disk --------------------------------------------------------------------------------------------


def test_fingerprints_find_what_the_bank_does_and_survive_the_disk(tmp_path):
    driver = vectors(6, 5)
    bank = make_bank(B001=vectors(50, 1), X01=driver)
    Fingerprints.of(bank).save(tmp_path / "known.npz")
    known = Fingerprints.load(tmp_path / "known.npz")
    assert known.checksum == bank.checksum
    assert [str(leak) for leak in find_leaks(known, {"E01": driver})] == [
        str(leak) for leak in find_leaks(bank, {"E01": driver})
    ]
    whole = (tmp_path / "known.npz").read_bytes()
    for content, words in ((whole[:-50], "damaged"), (b"", "damaged"), (None, "no such")):
        (tmp_path / "known.npz").unlink()
        if content is not None:
            (tmp_path / "known.npz").write_bytes(content)
        with pytest.raises(RafError, match=rf"known\.npz: {words}.*train the run again"):
            Fingerprints.load(tmp_path / "known.npz")
        (tmp_path / "known.npz").touch()


# --- training --------------------------------------------------------------------------------------------------------

CONFIG = train_config("tiny", size=32, steps=2, landmark_steps=0, weight_landmarks=0.0, weight_perceptual=0.0)


@pytest.fixture(scope="module")
def capture():
    return ball_capture(size=32)


def test_training_refuses_a_bank_with_the_subjects_own_frames(capture, tmp_path):
    free, train = capture.expression[capture.free], capture.expression[capture.train]
    strangers = vectors(20, 1)
    for people, words in (
        ({"900": strangers + 1}, "fit: the bank holds frames of 900 by name"),
        ({"X01": free[:1].astype(np.float16).astype(np.float32)}, r"900 under the name X01 \(1 equal"),
        ({"X01": train[:4]}, r"900 under the name X01 \(4 equal"),
    ):
        with pytest.raises(RafError, match=words):
            fit(capture, RAF(make_bank(B001=strangers, **people)), CONFIG, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_remembers_its_bank(capture, tmp_path):
    bank = make_bank(B001=vectors(20, 1), X01=capture.expression[capture.free])
    run = fit(capture, RAF(bank), CONFIG, tmp_path / "run", progress=False, allow_leak=True)
    assert run.info["bank"] == {"checksum": bank.checksum, "rows": len(bank), "people": 2}
    assert run.info["leaks"] == ["900 under the name X01 (4 equal vectors: FREE 2, EXP-1-head 2)"]
    (leak,) = find_leaks(run.bank, {"E01": bank.features[3:5]})
    assert leak.rows.tolist() == [3, 4] and leak.held_as == ("B001",)
    with pytest.raises(RafError, match="900 under the name X01"):  # a finished run is not returned either
        fit(capture, RAF(bank), CONFIG, tmp_path / "run", progress=False)

    path = tmp_path / "run" / "bank_fingerprints.npz"
    Fingerprints.of(make_bank(B001=vectors(20, 1))).save(path)
    with pytest.raises(RafError, match=r"bank_fingerprints\.npz: of bank .* but the run was trained with"):
        _ = Run.load(tmp_path / "run").bank
    path.unlink()
    with pytest.raises(RafError, match="no such fingerprints"):
        _ = Run.load(tmp_path / "run").bank


def test_a_run_without_a_bank_knows_of_none(capture, tmp_path):
    run = fit(capture, Vanilla(), CONFIG, tmp_path / "run", progress=False)
    assert run.bank is None and "leaks" not in run.info and not (tmp_path / "run" / "bank_fingerprints.npz").exists()
    clean = make_bank(B001=vectors(20, 1))
    assert fit(capture, RAF(clean), CONFIG, tmp_path / "raf", progress=False).info["leaks"] == []


def test_a_bank_left_on_the_disk_is_looked_through_too(tmp_path):
    bank = make_bank(B001=vectors(50, 1), E01=vectors(7, 2))
    write_mapped(tmp_path / "bank", [bank])
    (named, equal) = find_leaks(ExpressionBank.load(tmp_path / "bank"), {"E01": None, "422": bank.features[5:40]})
    assert (named.by, named.rows.tolist()) == ("name", list(range(50, 57)))
    assert (equal.by, equal.rows.tolist(), equal.held_as) == ("vectors", list(range(5, 40)), ("B001",))
