"""Banks on the disk: the same results as in memory, no partial files, and errors that name every damage."""

import json
import os
import pickle

import numpy as np
import pytest

from raflib import runs
from raflib.bank import ExpressionBank, MappedBank, write_mapped
from raflib.bank import bank as mapped
from raflib.bank import header as header_of
from raflib.bank.columns import Coded
from raflib.errors import RafError
from raflib.sampler import RAF


def make_piece(people, rows=30, width=8, seed=0, space="arkit52", turned=True, decimals=1):
    draw = np.random.default_rng([seed, len(people), *people[0].encode()])
    subjects = draw.permutation(np.repeat(people, rows))
    features = np.round(draw.normal(size=(len(subjects), width)), decimals).astype(np.float32)  # ties
    sequence = draw.choice(["FREE", f"EXP-{people[0]}"], len(subjects))
    rotation = draw.normal(size=(len(subjects), 3)) if turned else None
    return ExpressionBank(features, subjects, sequence, draw.integers(99, size=len(subjects)), space, {}, rotation)


@pytest.fixture
def pieces():
    return [make_piece(people) for people in (["B003", "B001"], ["A9"], ["C1", "C22", "C3"])]


@pytest.fixture
def bank(tmp_path, pieces):
    return write_mapped(tmp_path / "bank", iter(pieces), {"seed": 0})


def in_memory(bank):
    """Return the bank in memory with the same rows in the same order."""
    columns = {name: np.asarray(getattr(bank, name)) for name in ("features", "subjects", "sequence", "frame")}
    return ExpressionBank(**columns, feature_space=bank.feature_space, rotation=bank.rotation)


def test_the_folder_holds_the_pieces_person_by_person(tmp_path, bank, pieces):
    assert len(bank) == 180 and bank.people == ("A9", "B001", "B003", "C1", "C22", "C3")
    assert bank.provenance == {"seed": "0"} and bank.feature_space == "arkit52"
    changes = np.flatnonzero(np.asarray(bank.subjects)[1:] != np.asarray(bank.subjects)[:-1])
    assert len(changes) == 5  # the rows of a person are adjacent
    for piece in pieces:
        for name in piece.people:
            stored, given = bank.restrict(name), piece.restrict(name)
            for column in ("features", "sequence", "frame", "rotation"):
                np.testing.assert_array_equal(getattr(stored, column), getattr(given, column))
    assert isinstance(ExpressionBank.load(tmp_path / "bank"), MappedBank)
    assert isinstance(bank.features.base.base, np.memmap) and not bank.features.flags.writeable
    bank.verify()


@pytest.mark.parametrize("exclude", ["B001", "nobody", None, "each"])
def test_search_equals_the_bank_in_memory(bank, exclude):
    draw = np.random.default_rng(1)
    owners = draw.integers(len(bank), size=60)
    queries = bank.features[owners] + np.float32(0.1) * draw.integers(-1, 2, size=(60, 8)).astype(np.float32)
    exclude = bank.subjects[owners].tolist() if exclude == "each" else exclude
    for k in (1, 7, 120):
        for found, expected in zip(
            bank.search(queries, k, exclude), in_memory(bank).search(queries, k, exclude), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_samplers_take_a_bank_on_the_disk(bank):
    expression = bank.features[bank.subjects == "C1"]
    bound, expected = (RAF(b, top_k=3).bind(expression, "C1") for b in (bank, in_memory(bank)))
    np.testing.assert_array_equal(bound.neighbours, expected.neighbours)
    assert bound.summary() == expected.summary() and bound.own_rows == 30


def test_restrict_merge_and_save_give_ordinary_banks_while_they_fit(bank, tmp_path, monkeypatch):
    rows = bank.restrict(rows=[7, 3, 100], exclude="B003")
    assert type(rows) is ExpressionBank and len(rows) <= 3
    both = bank.merge(make_piece(["D1"]))
    assert len(both) == 210 and both.people[-1] == "D1"
    bank.save(tmp_path / "bank.npz")
    np.testing.assert_array_equal(ExpressionBank.load(tmp_path / "bank.npz").features, bank.features)
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    assert len(bank.restrict(subjects=["C1", "A9"])) == 60
    for call in (
        lambda: bank.restrict(exclude="A9"),
        lambda: bank.merge(make_piece(["D1"])),
        lambda: make_piece(["D1"]).merge(bank),
        lambda: bank.save(tmp_path / "bank.npz"),
    ):
        with pytest.raises(RafError, match=r"bank: 1[58]0 rows do not go into memory"):
            call()


def test_a_folder_of_a_folder_is_the_same(bank, tmp_path):
    again = write_mapped(tmp_path / "again", [bank], {"seed": 0})
    assert again.checksum == bank.checksum
    assert pickle.loads(pickle.dumps(again)).checksum == bank.checksum and len(pickle.dumps(again)) < 1000


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (make_piece(["A9"]), "'A9' is in two pieces"),
        (make_piece(["D1"], space="bfm64"), "bfm64"),
        (make_piece(["D1"], width=9), "width 9"),
        (make_piece(["D1"], turned=False), "some pieces only"),
        (None, "no piece"),
    ],
)
def test_a_write_that_fails_leaves_nothing(tmp_path, pieces, more, word):
    with pytest.raises(RafError, match=word):
        write_mapped(tmp_path / "bank", [] if more is None else [*pieces, more])
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_nothing_and_an_old_folder_stays(tmp_path, bank, pieces):
    def interrupted():
        yield pieces[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mapped(tmp_path / "other", interrupted())
    with pytest.raises(RafError, match="exists already"):
        write_mapped(tmp_path / "bank", pieces)
    with pytest.raises(RafError, match="cannot be written"):
        write_mapped(tmp_path / "bank" / "bank.json" / "inside", pieces)
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]
    bank.verify()


@pytest.mark.parametrize("name", ["lines", "frame", "sequence", "rotation"])
def test_damaged_columns_are_named(tmp_path, bank, name):
    path = tmp_path / "bank" / f"{name}.npy"
    whole = path.read_bytes()
    column = np.load(path)
    for change, word in [
        (lambda: path.unlink(), f"{name}.npy"),
        (lambda: path.write_bytes(b""), "damaged"),
        (lambda: path.write_bytes(whole[:40]), "damaged"),
        (lambda: path.write_bytes(whole[:-4]), "damaged"),
        (lambda: path.write_bytes(whole + b"more"), f"{name}.npy has {len(whole) + 4} bytes"),
        (lambda: np.save(path, column.astype(np.float64)), f"{name}.npy is <f8"),
        (lambda: np.save(path, column[:-1]), f"{name}.npy is"),
        (lambda: np.save(path, np.array([{}] * 180), allow_pickle=True), "damaged"),
    ]:
        change()
        with pytest.raises(RafError, match=word) as error:
            ExpressionBank.load(tmp_path / "bank")
        assert str(error.value).startswith(str(tmp_path / "bank")) and "\n" not in str(error.value)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # a changed number, at the place of a whole one
    with pytest.raises(RafError, match=rf"{name}\.npy: its checksum differs"):
        ExpressionBank.load(tmp_path / "bank").verify()
    damaged = ExpressionBank.load(tmp_path / "bank")  # nothing is used before the comparison
    uses = {"lines": lambda b: b.search(np.zeros((1, 8)), 1), "sequence": lambda b: np.asarray(b.sequence)}
    for use in (uses.get(name, lambda b: getattr(b, name)), lambda b: b.restrict("A9")):
        with pytest.raises(RafError, match=rf"{name}\.npy: its checksum differs"):
            use(damaged)


def test_numbers_that_no_bank_holds_are_refused_though_sealed(tmp_path, bank):
    """The folder's checksums are all right, as in a folder that was made on purpose."""
    folder, header = tmp_path / "bank", json.loads((tmp_path / "bank" / "bank.json").read_text())
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}

    def seal(**changes):
        told = {**header, **changes}
        del told["checksum"]
        for name, listed in told["files"].items():
            if (folder / f"{name}.npy").is_file():
                listed["sha256"] = header_of.sha256_of(folder / f"{name}.npy")
        (folder / "bank.json").write_text(json.dumps({**told, "checksum": header_of.checksum_of(told)}))

    for name, value in (("lines", np.nan), ("rotation", np.inf), ("sequence", -1), ("sequence", 99)):
        column = np.load(folder / f"{name}.npy")
        column[3] = value
        np.save(folder / f"{name}.npy", column)
        seal()
        with pytest.raises(RafError, match=rf"{name}\.npy: holds numbers that no bank does"):
            ExpressionBank.load(folder).restrict("A9")
        (folder / f"{name}.npy").write_bytes(kept[f"{name}.npy"])
    outside = {"../../elsewhere": header["files"]["frame"]}
    for change, words in (
        ({"files": {**header["files"], **outside}}, "it lists files"), ({"files": outside}, "it lists files"),
        ({"people": [["A", 10**12]]}, "people have 1000000000000 rows"), ({"people": [["A", -1]]}, "no names with"),
        ({"people": [[1, 180]]}, "no names with"), ({"sequences": [1, 2]}, "no names"), ({"people": []}, "no names"),
        ({"people": [["A", 90], ["A", 90]]}, "twice"), ({"people": {}}, "other type"), ({"largest": "x"}, "other type"),
    ):  # fmt: skip
        seal(**change)
        with pytest.raises(RafError, match=words) as error:
            ExpressionBank.load(folder)
        assert str(error.value).startswith(str(folder))


def test_what_a_killed_write_left_is_removed_and_other_writers_are_spared(tmp_path, pieces, monkeypatch):
    for name in ("left", "new"):
        (tmp_path / f"{runs.TEMPORARY}{name}").mkdir()
    os.utime(tmp_path / f"{runs.TEMPORARY}left", (0, 0))
    (tmp_path / f"{runs.TEMPORARY}used").mkdir()
    with runs.folder_lock(tmp_path / f"{runs.TEMPORARY}used", "writing"):
        os.utime(tmp_path / f"{runs.TEMPORARY}used", (0, 0))
        before = os.umask(0o077)
        write_mapped(tmp_path / "bank", pieces)
        os.umask(before)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"bank", f"{runs.TEMPORARY}new", f"{runs.TEMPORARY}used"}
    assert (tmp_path / "bank").stat().st_mode & 0o777 == 0o700


def test_every_changed_or_foreign_json_is_refused(tmp_path, bank):
    path = tmp_path / "bank" / "bank.json"
    whole = path.read_bytes()
    draw = np.random.default_rng(0)
    variants = [whole[: len(whole) // 2], b"", b"[1]", b"\xff", b"{}", b'{"format": "raflib.ExpressionBank"}']
    for place in draw.integers(len(whole) - 1, size=60):
        variants.append(whole[:place] + bytes([whole[place] ^ draw.integers(1, 256)]) + whole[place + 1 :])
    for variant in variants:
        path.write_bytes(variant)
        try:
            assert ExpressionBank.load(tmp_path / "bank").checksum == bank.checksum  # white space in the JSON
        except RafError as error:
            assert str(tmp_path / "bank") in str(error) and "\n" not in str(error)
            continue
        assert json.loads(variant) == json.loads(whole)
    path.write_text(json.dumps({**json.loads(whole), "version": 99}))
    with pytest.raises(RafError, match="bank format 99"):
        ExpressionBank.load(tmp_path / "bank")
    path.unlink()
    with pytest.raises(RafError, match="not an expression bank"):
        ExpressionBank.load(tmp_path / "bank")


def test_coded_columns_behave_as_arrays_of_strings():
    text = np.array(["b", "a", "b", "ccc"])
    column = Coded(["a", "b", "ccc"], np.array([1, 0, 1, 2]))
    assert len(column) == 4 and column.shape == (4,) and column[3] == "ccc" and list(column) == list(text)
    np.testing.assert_array_equal(column[[3, 0]], text[[3, 0]])
    np.testing.assert_array_equal(column[text == "b"], ["b", "b"])
    for other in ("b", "nobody", text[::-1]):
        np.testing.assert_array_equal(column == other, text == other)
        np.testing.assert_array_equal(column != other, text != other)
    np.testing.assert_array_equal(np.isin(column, ["a", "ccc"]), [False, True, False, True])
