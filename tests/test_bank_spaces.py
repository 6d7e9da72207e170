"""Further feature spaces of a bank: carried, saved, searched as brute force does, and refused where they do not fit."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from test_bank import assert_same_bank, brute_force, make_bank, make_capture

from raflib.bank import ExpressionBank, write_mapped
from raflib.errors import RafError

N = 180


def spaces_of(bank, seed=7, **widths):
    draw = np.random.default_rng(seed)
    return {tag: draw.normal(size=(len(bank), width)).astype(np.float32) for tag, width in widths.items()}


@pytest.fixture(scope="module")
def plain():
    return make_bank()


@pytest.fixture(scope="module")
def bank(plain):
    return replace(plain, spaces=spaces_of(plain, true52=5, open42=3))


def assert_same(a, b):
    assert_same_bank(a, b)
    assert list(a.spaces) == list(b.spaces)
    for tag in a.spaces:
        np.testing.assert_array_equal(a.spaces[tag], b.spaces[tag])


def test_a_bank_without_further_spaces_is_written_as_before(plain, bank, tmp_path):
    assert plain.spaces == {}
    plain.save(tmp_path / "plain.npz")
    replace(bank, spaces=None).save(tmp_path / "same.npz")
    assert (tmp_path / "plain.npz").read_bytes() == (tmp_path / "same.npz").read_bytes()
    with np.load(tmp_path / "plain.npz") as file:
        assert int(file["version"]) == 2 and not [name for name in file.files if "space:" in name]


def test_spaces_are_read_only_copies_by_tag(plain):
    given = spaces_of(plain, open42=3)
    bank = ExpressionBank(
        plain.features, plain.subjects, plain.sequence, plain.frame, plain.feature_space, spaces=given
    )
    expected = given["open42"].copy()
    given["open42"][:] = 0
    np.testing.assert_array_equal(bank.spaces["open42"], expected)
    with pytest.raises(ValueError, match="read-only"):
        bank.spaces["open42"][0] = 1
    assert_same(pickle.loads(pickle.dumps(bank)), bank)


def test_checksums_tell_spaces_apart(plain, bank):
    changed = bank.spaces["open42"].copy()
    changed[0, 0] += 1
    known = {
        bank.checksum, plain.checksum, bank.with_space("open42", changed).checksum, bank.in_space("open42").checksum,
        replace(bank, spaces={"a": bank.spaces["open42"], "true52": bank.spaces["true52"]}).checksum,
    }  # fmt: skip
    assert len(known) == 5
    assert replace(bank, spaces=dict(reversed(bank.spaces.items()))).checksum == bank.checksum


@pytest.mark.parametrize("half", [False, True])
def test_spaces_survive_a_file(bank, tmp_path, half):
    path = tmp_path / "bank.npz"
    further = bank.with_space("open42/first2", bank.spaces["open42"][:, :2])
    further.save(path, half=half)
    loaded = ExpressionBank.load(path)
    assert list(loaded.spaces) == ["open42", "open42/first2", "true52"]
    for tag, features in further.spaces.items():
        expected = features.astype(np.float16).astype(np.float32) if half else features
        np.testing.assert_array_equal(loaded.spaces[tag], expected)
        assert loaded.spaces[tag].dtype == np.float32
    if not half:
        assert_same(loaded, further)


def test_a_changed_space_in_a_file_is_found(bank, tmp_path):
    path = tmp_path / "bank.npz"
    bank.save(path)
    with np.load(path) as file:
        content = dict(file)
    assert int(content["version"]) == 3
    for change in (content["space:open42"] + np.float32(1e-3), content["space:open42"][:-1], np.full((N, 3), np.nan)):
        np.savez(path, **{**content, "space:open42": change})
        with pytest.raises(RafError, match=r"bank\.npz: damaged"):
            ExpressionBank.load(path)
    np.savez(path, **{name: array for name, array in content.items() if name != "space:open42"})
    with pytest.raises(RafError, match="checksum"):
        ExpressionBank.load(path)
    with pytest.raises(RafError, match="open42 features of row 0"):
        bank.with_space("open42", np.full((N, 3), 1e6)).save(path, half=True)


def test_restrict_and_merge_keep_rows_together(bank):
    rows = np.array([9, 2, 170])
    part = bank.restrict(rows=rows)
    for tag in ("open42", "true52"):
        np.testing.assert_array_equal(part.spaces[tag], bank.spaces[tag][rows])
    half, rest = bank.restrict(subjects=["B001", "B003"]), bank.restrict(exclude=["B001", "B003"])
    both = half.merge(rest)
    order = np.argsort(both.frame)  # frames number the rows
    for tag in bank.spaces:
        np.testing.assert_array_equal(both.spaces[tag][order], bank.spaces[tag])
    few = replace(rest, spaces={"open42": rest.spaces["open42"]})
    assert list(half.merge(few).spaces) == ["open42"] and half.merge(replace(rest, spaces=None)).spaces == {}
    with pytest.raises(RafError, match="open42 features of width 3 and the other bank open42 features of width 2"):
        half.merge(replace(rest, spaces={"open42": rest.spaces["open42"][:, :2]}))


def test_a_bank_is_searched_in_another_space(bank):
    seen = bank.in_space("open42")
    assert seen.feature_space == "open42" and list(seen.spaces) == ["arkit52", "true52"]
    assert bank.in_space("open42") is seen and bank.in_space("arkit52") is bank
    np.testing.assert_array_equal(seen.features, bank.spaces["open42"])
    assert_same(replace(seen.in_space("arkit52")), bank)
    queries = np.random.default_rng(3).normal(size=(20, 3)).astype(np.float32)
    distances, rows = seen.search(queries, 4, exclude="B002", feature_space="open42")
    expected = brute_force(seen, queries, 4, ["B002"] * 20)
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_allclose(distances, expected[0], rtol=1e-12)
    with pytest.raises(RafError, match=r"holds arkit52 and open42 and true52 features, not 'bfm64'"):
        bank.in_space("bfm64")


def test_build_takes_spaces_from_captures():
    captures = [make_capture("001", seed=1, missing=(3,)), make_capture("002", seed=2)]
    before = ExpressionBank.build(captures, per_subject=10)
    for capture in captures:
        capture.spaces = {"open42": np.column_stack([capture.frame, capture.frame * 2]).astype(np.float32)}
    bank = ExpressionBank.build(captures, per_subject=10)
    assert_same_bank(replace(bank, spaces=None), before)  # the same frames as without
    np.testing.assert_array_equal(bank.spaces["open42"], np.column_stack([bank.frame, bank.frame * 2]))
    captures[1].spaces["open42"][5:30] = np.nan
    found = ExpressionBank.build(captures, per_subject=200).restrict("002")
    assert set(found.frame - 7) == {*range(5), *range(30, 40)}
    captures[1].spaces["open42"][:] = np.nan
    with pytest.raises(RafError, match="'002' has no detected frame with open42 features"):
        ExpressionBank.build(captures)
    captures[1].spaces = {"open42": np.zeros((40, 3), np.float32)}
    with pytest.raises(RafError, match="'002' has further features open42 of width 3, the people before open42 of wid"):
        ExpressionBank.build(captures)
    captures[1].spaces = {}
    with pytest.raises(RafError, match="'002' has further features none, the people before open42"):
        ExpressionBank.build(captures)


def test_folders_hold_one_space(bank, plain, tmp_path):
    with pytest.raises(RafError, match=r"piece 'B000' carries further features \(open42, true52\)"):
        write_mapped(tmp_path / "bank", [bank])
    assert not (tmp_path / "bank").exists()
    mapped = write_mapped(tmp_path / "bank", [replace(bank, spaces=None)])
    assert (
        mapped.spaces == {} and mapped.in_space("arkit52") is mapped and mapped.restrict(subjects="B001").spaces == {}
    )
    with pytest.raises(RafError, match=f"{tmp_path / 'bank'}: a folder holds one feature space"):
        mapped.with_space("open42", bank.spaces["open42"])
    with pytest.raises(RafError, match="not 'open42'"):
        mapped.in_space("open42")


@pytest.mark.parametrize(
    ("tag", "features", "words"),
    [
        ("arkit52", np.zeros((N, 3)), "arkit52 is the space of `features` already"),
        ("", np.zeros((N, 3)), "is named ''"),
        ("a\nb", np.zeros((N, 3)), "is named"),
        ("open42", np.zeros((N - 1, 3)), r"open42 features have shape \[179, 3\], expected \[180, d\]"),
        ("open42", np.zeros((N, 0)), r"shape \[180, 0\]"),
        ("open42", np.full((N, 2), np.nan), "open42 features of row 0 holds NaN"),
    ],
)
def test_spaces_that_do_not_fit_are_refused(plain, tag, features, words):
    with pytest.raises(RafError, match=words) as error:
        plain.with_space(tag, features)
    assert "\n" not in str(error.value)
