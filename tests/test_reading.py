"""The readers of arrays, JSON and tables: good files are read, and errors name the others."""

from __future__ import annotations

import io
import os
import resource
import zipfile

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from raflib.errors import RafError
from raflib.reading import (
    Array,
    FileError,
    checked_file,
    damage_named,
    files,
    pack_arrays,
    read_arrays,
    read_bytes,
    read_hdf5,
    read_json,
    read_matlab,
    read_npy,
    read_table,
)

WANTED = {"points": Array("f", "N 3"), "index": Array("iu", "N"), "name": Array("U", "")}
GOOD = {"points": np.arange(6.0).reshape(2, 3), "index": np.arange(2), "name": np.array("äé")}


def member(header: dict, content: bytes = b"") -> bytes:
    """Return a .npy file with any declaration."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + content


def packed(path, *members: tuple[str, bytes], method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            file.writestr(f"{name}.npy", content)
    return path


def arrays(path, wanted=WANTED, **options):
    return read_arrays(path, wanted, "thing", "make it again", **options)


def refused(path, words, **options):
    with pytest.raises(RafError, match=words) as caught:
        arrays(path, **options)
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).count("\n") == 0


def test_one_array_comes_as_it_was_written(tmp_path):
    path, wanted = tmp_path / "a.npy", Array("f", "N 3")
    for content in (GOOD["points"], np.asfortranarray(GOOD["points"].astype(">f4"))):
        np.save(path, content)
        found = read_npy(path, wanted, "points", "make them again")
        np.testing.assert_array_equal(found, content)
        assert found.dtype.isnative and found.flags["C_CONTIGUOUS"]
    good = path.read_bytes()
    huge = member({"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)}, bytes(120))
    pickled = member({"descr": "|O", "fortran_order": False, "shape": (1, 3)}, bytes(24))
    other = io.BytesIO()
    np.save(other, np.zeros((2, 4)))
    for data, words in (
        (good[:-1], "which is not"), (good + b"1", "which is not"), (huge, "which is not"), (pickled, "type object"),
        (other.getvalue(), r"shape \[2, 4\], expected \[N, 3\]"), (b"", "points"), (good[:20], "points"),
        (good.replace(b"\x01\x00", b"\x03\x00", 1), "version"), (good[:-4] + b"\x7f\xc0\0\0", "NaN"),
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(RafError, match=words) as caught:
            read_npy(path, wanted, "points", "make them again")
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_arrays_come_as_they_were_written(tmp_path):
    path = tmp_path / "a.npz"
    swapped = {"points": np.asfortranarray(GOOD["points"].astype(">f4")), "index": GOOD["index"].astype(">u2")}
    for content in (GOOD, GOOD | swapped, GOOD | {"more": np.ones(3)}):
        np.savez_compressed(path, **content)
        found = arrays(path)
        assert list(found) == list(WANTED)
        for name in WANTED:
            np.testing.assert_array_equal(found[name], GOOD[name])
            assert (
                found[name].shape == GOOD[name].shape
                and found[name].dtype.isnative
                and found[name].flags.c_contiguous
                and found[name].flags.writeable
            )
    np.savez(path, **GOOD)
    assert len(arrays(path)) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"points": np.ones((2, 4))}, r"points has shape \[2, 4\], expected \[N = 2, 3\]"),
        ({"points": np.ones(3)}, r"shape \[3\]"),
        ({"index": np.arange(3)}, r"expected \[N = 2\]"),
        ({"index": np.arange(2.0)}, "index is of type float64"),
        ({"points": np.full((2, 3), np.nan)}, "NaN or infinity"),
        ({"points": np.ones((2, 3), np.longdouble)}, "type"),
        ({"name": np.array(b"bytes")}, "name is of type"),
        ({"name": np.array(["a"])}, r"shape \[1\]"),
        ({"points": None}, "points missing"),
    ],
)
def test_other_arrays_are_refused(tmp_path, change, words):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **{name: value for name, value in (GOOD | change).items() if value is not None})
    refused(path, words)


def test_optional_arrays_patterns_and_any_shape(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(
        path, mask_one=np.zeros(2, np.uint8), mask_two=np.ones((3, 1), np.uint8), loose=np.full(1, np.nan)
    )
    wanted = {"mask_*": Array("u", None), "gone": Array("f", "", optional=True)}
    assert list(arrays(path, wanted)) == ["mask_one", "mask_two"]
    assert np.isnan(arrays(path, {"loose": Array("f", "1", finite=False)})["loose"]).all()


def test_what_a_file_declares_is_not_believed(tmp_path):
    path, f4 = tmp_path / "a.npz", {"descr": "<f4", "fortran_order": False}
    rest = [("index", member({"descr": "<i8", "fortran_order": False, "shape": (2,)}, bytes(16)))]
    rest += [("name", member({"descr": "<U1", "fortran_order": False, "shape": ()}, b"a\0\0\0"))]
    for shape in ((2**40, 3), (2, 2), (-2, 3), (2**62, 2**62)):
        refused(packed(path, ("points", member(f4 | {"shape": shape}, bytes(24))), *rest), "points")
    refused(packed(path, ("points", member({**f4, "descr": "|O", "shape": (2, 3)}, bytes(48))), *rest), "type object")
    refused(packed(path, ("points", b"\x93NUMPY\x01\x00" + b"\xff\xff" + b"(" * 65535), *rest), "damaged thing")
    good = ("points", member(f4 | {"shape": (2, 3)}, bytes(24)))
    assert arrays(packed(path, good, *rest))["points"].shape == (2, 3)
    with pytest.warns(UserWarning, match="Duplicate name"):
        refused(packed(path, good, good, *rest), "twice")
    refused(packed(path, good, *rest, method=zipfile.ZIP_LZMA), "another method than deflate")
    lone = [("name", member({"descr": "<U1", "fortran_order": False, "shape": ()}, (0x110000).to_bytes(4, "little")))]
    refused(packed(path, good, rest[0], *lone), "no letter")
    flag = member({"descr": "|b1", "fortran_order": False, "shape": (2,)}, b"\2\1")
    refused(packed(path, ("flag", flag)), "neither true nor false", wanted={"flag": Array("b", "2")})


def test_a_small_file_does_not_unpack_to_a_large_one(tmp_path):
    path, shape = tmp_path / "a.npz", (2**25, 3)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("points.npy", "w") as stream:
        stream.write(member({"descr": "<f4", "fortran_order": False, "shape": shape}))
        for _ in range(3 * 2**25 * 4 // 2**20):
            stream.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "would unpack to 402653312", wanted={"points": Array("f", "N 3")})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    np.savez(path, points=np.ones((1000, 3)))
    refused(path, "at most 1000", wanted={"points": Array("f", "N 3")}, most=1000)
    np.savez_compressed(path, points=np.ones((1000, 3)))
    refused(path, "would unpack", wanted={"points": Array("f", "N 3")}, most=20_000)


def test_what_is_packed_can_be_read(tmp_path, monkeypatch):
    path, wanted = tmp_path / "a.npz", {"still": Array("f", "N 40"), "index": Array("iu", "N"), "name": Array("U", "")}
    content = {"still": np.zeros((4_000, 40)), "index": np.arange(4_000), "name": np.array("äé")}
    numpys = io.BytesIO()
    np.savez_compressed(numpys, **content)
    assert pack_arrays(path, content) > 41 * 8 * 4_000
    assert path.read_bytes() == numpys.getvalue()
    assert len(arrays(path, wanted)) == 3
    monkeypatch.setattr(files, "FREE_BYTES", 10_000)
    refused(path, "would unpack to", wanted=wanted)
    pack_arrays(path, content)
    found = arrays(path, wanted)
    for name, value in content.items():
        np.testing.assert_array_equal(found[name], value)
    assert path.stat().st_size < 2 * 8 * 4_000, "only small arrays are stored as they are"
    with pytest.raises(ValueError, match="allow_pickle"):
        pack_arrays(path, {"odd": np.array([None])})


def test_whatever_is_not_a_file_is_refused(tmp_path):
    refused(tmp_path / "a.npz", "no such thing; make it again")
    refused(tmp_path, "not a file")
    refused(tmp_path / ("x" * 300), "cannot be opened")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a file")  # opening it would never return
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", "cannot be opened")
    (tmp_path / "endless").symlink_to("/dev/zero")
    refused(tmp_path / "endless", "not a file")
    for content in (b"", b"PK", b"\x89PNG", np.random.default_rng(0).bytes(500)):
        (tmp_path / "b.npz").write_bytes(content)
        refused(tmp_path / "b.npz", "damaged thing")
    assert checked_file(tmp_path / "b.npz", "thing", "x") == tmp_path / "b.npz"


def test_every_flipped_bit_of_arrays_is_noticed_or_changes_nothing(tmp_path):
    path = tmp_path / "a.npz"
    content, wanted = GOOD | {"more": np.ones(2)}, WANTED | {"more": Array("f", "2", optional=True)}
    np.savez_compressed(path, **content)
    good, draw = path.read_bytes(), np.random.default_rng(0)
    for place in draw.permutation(8 * len(good))[:300]:
        bad = bytearray(good)
        bad[place // 8] ^= 1 << (place % 8)
        path.write_bytes(bad)
        try:
            found = arrays(path, wanted)
        except RafError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            for name, value in content.items():
                np.testing.assert_array_equal(found[name], value)


def test_damage_is_named_once(tmp_path):
    with pytest.raises(RafError, match=r"^x: damaged y \(z\); do$"), damage_named("x", "y", "do"):
        raise IndexError("z")
    with pytest.raises(RafError, match=r"^x: told already$"), damage_named("x", "y", "do"):
        raise FileError("x: told already")
    with pytest.raises(RafError) as caught, damage_named("x", "y", "do"):
        raise ValueError("long " * 10**5)
    assert len(str(caught.value)) < 1100


def test_json_holds_what_is_wanted(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"subject": "074", "steps": 3, "seconds": 1e-3, "done": true, "deep": [[{}]]}')
    found = read_json(path, {"subject": str, "steps": int, "seconds": (int, float), "done": bool})
    assert found["subject"] == "074" and found["deep"] == [[{}]]
    for wanted, words in (
        ({"steps": str}, "steps is of type int"),
        ({"done": int}, "done is of type bool"),
        ({"no": str}, "no is"),
    ):
        with pytest.raises(RafError, match=rf"run\.json: damaged JSON file \({words}"):
            read_json(path, wanted)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": ', "damaged JSON"), (b"[1]", "holds a list"), (b'{"a": NaN}', "NaN"), (b'{"a": 1e999}', "1e999"),
        (b'{"a": 1, "a": 2}', "twice"), (b'{"a": "\xff"}', "utf-8"), (b"", "damaged"), (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "nested deeper"), (b'{"a": ' + b"[" * 10**6, "damaged"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"), (b"{" + b" " * 2**22 + b"}", "has 4194306 bytes"),
    ],
)  # fmt: skip
def test_damaged_json_is_named(tmp_path, content, words):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(RafError, match=words) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 500
    with pytest.raises(RafError, match="no such JSON file"):
        read_json(tmp_path / "other.json")


def test_tables_keep_texts_and_check_numbers(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("subject,value,flag,note\n074,1.5,True,a\nNA,,False,\n")
    rows = read_table(path, numbers=("value",), texts=("subject",))
    assert rows["subject"].tolist() == ["074", "NA"] and rows["value"].isna().tolist() == [False, True]
    assert rows["flag"].dtype == bool and rows["note"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "damaged table"), (b"step\n1\n", "column loss is missing"), (b"step,loss\n1\n", "row 2 has 1 cells"),
        (b"step,loss\n1,2,3\n", "row 2 has 3"), (b"step,loss\n1,two\n", "two"),
        (b"step,step\n1,1\n", "a name of its own"),
        (b"step,loss\n1,inf\n", "finite"), (b"step,loss\n1,True\n", "finite"), (b"step,loss\n1,\0\n", "value 0"),
        (b"\x1f\x8b\x08\x00", "utf-8"), (b'step,loss\n1,"2', "damaged"),
    ],
)  # fmt: skip
def test_damaged_tables_are_named(tmp_path, content, words):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(RafError, match=words) as caught:
        read_table(path, numbers=("step", "loss"))
    assert str(caught.value).startswith(f"{path}: ")


def test_bytes_are_bounded(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"12345")
    assert read_bytes(path, "model", "get it") == b"12345"
    with pytest.raises(RafError, match="has 5 bytes but a model at most 4; get it"):
        read_bytes(path, "model", "get it", most=4)


# --- files of other programs


def test_matlab_files_are_read_within_bounds(tmp_path):
    path = tmp_path / "model.mat"
    savemat(path, {"a": np.arange(3.0), "b": np.eye(2), "note": "text"}, do_compression=True)
    found = read_matlab(path, ("a", "gone"), "model", "get it")
    assert list(found) == ["a"] and found["a"].shape == (1, 3)
    many = {name: np.arange(6).reshape(2, 3).astype(name) for name in ("f8", "f4", "i1", "u2", "i4", "u8")}
    for compressed in (False, True):
        savemat(path, many, do_compression=compressed)
        for name, value in read_matlab(path, tuple(many), "model", "get it").items():
            np.testing.assert_array_equal(value, loadmat(path)[name])
            assert value.dtype == loadmat(path)[name].dtype
    savemat(path, {"a": np.arange(3.0), "b": np.eye(2), "note": "text"}, do_compression=True)
    whole = path.read_bytes()
    cell = np.empty(1, object)
    cell[0] = np.arange(3)
    for value, words in (
        (cell, "class 1,"), ("text", "class 4,"), ({"x": 1}, "class 2,"), ([np.nan], "NaN"), ([1j], "real numbers"),
    ):  # fmt: skip
        savemat(path, {"a": value})
        with pytest.raises(RafError, match=rf"model\.mat: damaged model .*{words}.*; get it"):
            read_matlab(path, ("a",), "model", "get it")
    savemat(path, {"a": np.zeros((2**24, 5))}, do_compression=True)  # 640 MB of zeros
    with pytest.raises(RafError, match="would unpack to more than"):
        read_matlab(path, ("a",), "model", "get it")
    savemat(path, {"a": np.arange(3)}, format="4")
    for content, words in ((path.read_bytes(), "version 5"), (whole[:-9], "cut short|not whole"), (whole + b"12", "")):
        path.write_bytes(content)
        with pytest.raises(RafError, match=rf"model\.mat: .*{words}"):
            read_matlab(path, ("a",), "model", "get it")
    (tmp_path / "model").write_bytes(whole)  # the name is taken as it is
    with pytest.raises(RafError, match="it holds a, b, note"):
        read_matlab(tmp_path / "model", ("c",), "model", "get it")


def test_hdf5_files_do_not_lead_out_of_themselves(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    path, other = tmp_path / "model.h5", tmp_path / "secret.h5"
    with h5py.File(other, "w") as file:
        file["a"] = np.arange(3.0)
    (tmp_path / "raw").write_bytes(bytes(24))
    everything = {"group/a": (slice(None),)}

    def written(make):
        with h5py.File(path, "w") as file:
            make(file.create_group("group"))
        return read_hdf5(path, everything, "model", "get it")

    np.testing.assert_array_equal(
        written(lambda group: group.create_dataset("a", data=np.arange(3.0), compression="gzip"))["group/a"], [0, 1, 2]
    )
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(other, "a", (3,))
    for make, words in (
        (lambda group: group.__setitem__("a", h5py.ExternalLink(other, "a")), "link to another place"),
        (lambda group: group.__setitem__("a", h5py.SoftLink("/elsewhere")), "missing|link to another place"),
        (lambda group: group.create_virtual_dataset("a", layout), "not an array that lies in the file"),
        (lambda group: group.create_dataset("a", (3,), "f8", external=[(tmp_path / "raw", 0, 24)]), "not an array"),
        (lambda group: group.create_dataset("a", data=np.arange(3.0), compression="lzf"), "another method than gzip"),
        (lambda group: group.create_dataset("a", (2**33,), "f8", chunks=(2**20,)), "would unpack"),
        (lambda group: group.create_dataset("a", data=[np.nan]), "NaN"),
        (lambda group: group.create_dataset("a", data=[True]), "of type bool"),
        (lambda group: group.create_group("a"), "not an array"),
        (lambda group: group.create_dataset("b", data=[1.0]), "group/a is missing"),
    ):
        with pytest.raises(RafError, match=rf"model\.h5: damaged model .*({words}).*; get it"):
            written(make)
