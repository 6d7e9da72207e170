"""FLAME and GNM Head from files of their published layouts, damaged ones, and pickles that would run code."""

import contextlib
import io
import pickle
import pickletools
import sys
import tracemalloc
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from face_files import (
    BASIS,
    HOUSE,
    POINTS,
    TEMPLATE,
    TRIANGLES,
    embedding,
    flame_parts,
    gnm_parts,
    landmark_rows,
    write,
)
from pickle_writer import Chumpy, Declared, python2, step_global, steps
from scipy.sparse import csc_matrix

from raflib.errors import RafError
from raflib.geometry import transform_points
from raflib.reading import Array, read_pickle
from raflib.reading.pickled import PUSHED
from raflib.tracking import fit_points, open_model, read_flame, read_gnm
from raflib.tracking.flame import EMBEDDING
from raflib.tracking.gnm import LANDMARKS
from raflib.tracking.landmarks import IBUG68, MESH_COUNT

DRAW = np.random.default_rng(1)
OPEN = open_model()


@pytest.fixture(scope="module")
def flame(tmp_path_factory):
    return read_flame(write(tmp_path_factory.mktemp("flame"), flame_parts()))


def same_models(one, other):
    for part in ("mean", "identity", "expression", "vertices", "tracker", "triangles"):
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


def test_flame_of_the_published_size(tmp_path):
    parts = flame_parts(5023)
    model = read_flame(write(tmp_path, parts), identity=20)
    assert model.feature_space == "flame100" and model.identity.shape == (20, 5023 + len(POINTS), 3)
    assert model.triangles.shape == (478, 3) and model.tracker.tolist() == POINTS.tolist()
    template, basis = parts["v_template"].array, parts["shapedirs"].array
    np.testing.assert_allclose(model.mean[:5023], template * HOUSE * 10)
    np.testing.assert_allclose(model.identity[:, :5023], basis[..., :20].transpose(2, 0, 1) * HOUSE * 10, atol=1e-7)
    np.testing.assert_allclose(model.expression[:, :5023], basis[..., 300:].transpose(2, 0, 1) * HOUSE * 10, atol=1e-7)
    point = OPEN.mean[[33, 34, 35]].T @ [0.9, 0.06, 0.04]
    np.testing.assert_allclose(model.mean[model.vertices[POINTS.tolist().index(33)]], point, atol=1e-7)


def test_landmarks_of_flame_move_with_its_coefficients(flame):
    model = flame.truncated(10, 20)
    expression, pose = DRAW.normal(size=(8, 20)), DRAW.normal(0, 0.1, (8, 6))
    shape, scale = model.shape(np.zeros(10), expression)[:, model.vertices], torch.full((8,), 0.1, dtype=torch.float64)
    seen = np.full((8, 478, 3), np.nan)
    seen[:, model.tracker] = transform_points(torch.from_numpy(shape), torch.from_numpy(pose), scale).numpy()
    found = fit_points(model, seen, progress=False)
    np.testing.assert_allclose(found.landmarks, seen[:, model.tracker], atol=1e-4)
    np.testing.assert_allclose(found.expression, expression, atol=0.1)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_python_3_are_read_too(tmp_path, protocol, flame, monkeypatch):
    chumpy = types.ModuleType("chumpy.ch")
    chumpy.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", chumpy)
    parts = flame_parts()
    for name, value in parts.items():
        if isinstance(value, Chumpy):
            parts[name] = chumpy.Ch()
            parts[name].__dict__ |= {"x": value.array, "_dirty_vars": {"x"}, "_itr": None, "count": np.float64(2)}
    parts["v_template"] = np.asfortranarray(parts["v_template"].x)
    parts["J_regressor"] = csc_matrix(np.eye(5))
    content = pickle.dumps(parts, protocol)
    assert pickle.loads(content)["bs_style"] == "lbs"
    same_models(read_flame(write(tmp_path, content)), flame)


def test_flame_from_an_npz(tmp_path, flame):
    parts = flame_parts()
    stream = io.BytesIO()
    np.savez(stream, v_template=parts["v_template"].array, shapedirs=parts["shapedirs"].array, f=parts["f"])
    path = write(tmp_path, stream.getvalue(), "flame.npz")
    same_models(read_flame(path), flame)
    path.write_bytes(stream.getvalue()[:-500])
    with pytest.raises(RafError, match=r"flame\.npz: damaged FLAME model"):
        read_flame(path)


def changed(**entries):
    return {**flame_parts(), **entries}


def without(name):
    return {key: value for key, value in flame_parts().items() if key != name}


NAN = BASIS.copy()
NAN[3, 1, 301] = np.nan
DAMAGED = {
    "empty": (b"", "cut short|pickle exhausted"),
    "text": (b"<!DOCTYPE html><html>404</html>", "damaged FLAME model"),
    "cut short": (python2(flame_parts())[:-2000], "damaged FLAME model"),
    "no dictionary": ([1, 2], "it holds no dictionary"),
    "without triangles": (without("f"), "f missing"),
    "components": (changed(shapedirs=Chumpy(BASIS[..., :150])), r"shapedirs has shape \[478, 3, 150\].* 400\]"),
    "vertices": (changed(shapedirs=Chumpy(BASIS[1:])), r"shapedirs has shape \[477, 3, 400\], expected \[V = 478"),
    "NaN": (changed(shapedirs=Chumpy(NAN)), "shapedirs holds NaN or infinity"),
    "text for numbers": (changed(v_template="cube"), "v_template is str, expected an array"),
    "objects": (changed(v_template=Declared(TEMPLATE, kind="O8")), "v_template is of type object, expected numbers"),
    "complex": (changed(v_template=TEMPLATE + 0j), "v_template is of type 'c16', expected numbers"),
    "whole numbers": (changed(v_template=TEMPLATE.astype(int)), "v_template is of type int64, expected one of kind f"),
    "huge shape": (
        changed(v_template=Declared(TEMPLATE, (2**40, 3))), r"takes 11472 bytes, .* float64 \[1099511627776, 3\]"
    ),
    "negative shape": (changed(v_template=Declared(TEMPLATE, (-478, -3))), "v_template has no shape"),
    "a sparse matrix": (changed(f=flame_parts()["J_regressor"]), r"f is scipy\.sparse\.csc_matrix, expected an array"),
    "a chumpy expression": (
        changed(v_template=Chumpy(TEMPLATE, "chumpy.reordering.Select")), r"it asks for chumpy\.reordering\.Select"
    ),
    "triangles": (changed(f=TRIANGLES + 9), "f names vertices that are not among its 478"),
    "many steps": (b"\x80\x02" + b"N0" * 6_000 + b".", "more than 10000 steps"),
    "persistent": (b"\x80\x02U\x01aQ.", "it has a step BINPERSID"),
    "extension": (b"\x80\x02\x82\x05.", "it has a step EXT1"),
    "steps that do not fit": (b"\x80\x02J\x00\x00\x00\x00s.", "its steps do not fit together"),
    "a list as a key": (b"\x80\x02}]Ns.", "a dictionary has a key of type list"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_flame_files_are_named(tmp_path, damage):
    content, words = DAMAGED[damage]
    path = write(tmp_path, content)
    with pytest.raises(RafError, match=words) as error:
        read_flame(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1000, r"6\.549e\+04 mm to the left of the right eye, expected 40 to 100; its unit, axes or"),
        ([1, -1, 1], "its mouth is not below its eyes, or its nose not before them"),
        ([1, 1, -1], "its mouth is not below its eyes, or its nose not before them"),
        ([-1, 1, 1], r"-65\.49 mm to the left of the right eye"),
    ],
)
def test_other_units_and_axes_are_noticed(tmp_path, factor, words):
    path = write(tmp_path, changed(v_template=TEMPLATE * factor))
    with pytest.raises(RafError, match=words) as error:
        read_flame(path)
    assert str(error.value).endswith(f"; use it and {path} as their authors give them")


class Creates:
    """An object whose unpickling creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def running(path):
    """Pickles by the name of their steps; each creates the file `path` when Python's own reader reads it."""
    shell, word = step_global("os.system"), f"touch {path}"
    return {
        "REDUCE": python2({"f": 1})[:-1] + shell + steps((word,)) + b"R0.",
        "as a value": b"\x80\x02}" + steps("f") + shell + steps((word,)) + b"Rs.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + steps((word,)) + b"R.",
        "INST": b"(S'" + word.encode() + b"'\nios\nsystem\n.",
        "OBJ": b"(" + shell + steps(word) + b"o.",
        "eval": step_global("builtins.eval") + steps((f"open({str(path)!r}, 'w')",)) + b"R.",
        "a path's method": pickle.dumps({"f": Creates(path)}),
        "numpy's array of objects": pickle.dumps({"f": np.array([Creates(path)], object)}),
        "BUILD": b"\x80\x02" + steps({"f": 1})[:-1] + b"u" + shell + steps((word,)) + b"R0.",
    }


@pytest.mark.parametrize("way", running("x"))
def test_pickles_run_no_code(tmp_path, way):
    created = tmp_path / "created"
    content = running(created)[way]
    path = write(tmp_path, content)
    with pytest.raises(
        RafError, match=r"model\.pkl: damaged FLAME model \(it (asks for .*nothing of it was run|has a step)"
    ):
        read_flame(path)
    assert not created.exists()
    with contextlib.suppress(Exception):  # what it returns is no dictionary
        pickle.loads(content, encoding="latin1")
    assert created.exists(), "the pickle must do harm, or the test shows nothing"


BOMBS = {
    "memo": b"\x80\x02Nr\xff\xff\xff\xff0}.",
    "bytes": b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"abc.",
    "text": b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"abc.",
    "number": b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b"abc.",
    "frame": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"}.",
    "digits": b"L" + b"9" * 100_000 + b"L\n.",
    "doubled": b"\x80\x02]q\x00" + b"(h\x00h\x00e" * 10_000 + b".",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_a_pickle_declares_takes_no_memory(tmp_path, bomb):
    path = tmp_path / "bomb.pkl"
    path.write_bytes(BOMBS[bomb])
    tracemalloc.start()
    with pytest.raises(RafError, match=r"bomb\.pkl: damaged model"):
        read_pickle(path, {"f": Array("f", None)}, "model", "get it again", most=2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


def test_every_step_that_is_pushed_is_one_of_pickle():
    assert {step.name for step in pickletools.opcodes} >= PUSHED


MARKS = {
    "triangle": (embedding(lmk_face_idx=POINTS + 100), "it lists triangles from 100 to 505, and the model has 478"),
    "shares": (embedding(lmk_b_coords=np.full((len(POINTS), 3), 0.5)), "do not add up to 1"),
    "shares of another shape": (embedding(lmk_b_coords=np.ones((len(POINTS), 2))), r"lmk_b_coords has shape \[59, 2\]"),
    "twice": (embedding(landmark_indices=np.full(len(POINTS), 4)), "not each another one of the tracker's 0 to 477"),
    "left and right": (
        embedding(landmark_indices=np.concatenate([POINTS[:19], POINTS[25:31], POINTS[19:25], POINTS[31:]])),
        "to the left of the right eye",
    ),
    "no mouth": ({key: value[:31] for key, value in embedding().items()}, "no landmarks of the mouth"),
    "halves": (embedding(lmk_face_idx=POINTS + 0.5), "lmk_face_idx holds numbers that are not whole"),
    "objects": (embedding(landmark_indices=np.array([None] * len(POINTS))), "landmark_indices is of type object"),
}


@pytest.mark.parametrize("damage", MARKS)
def test_damaged_embeddings_are_named(tmp_path, damage):
    marks, words = MARKS[damage]
    path = write(tmp_path, flame_parts(), marks=marks)
    with pytest.raises(RafError, match=words) as error:
        read_flame(path)
    assert str(error.value).startswith(f"{tmp_path / EMBEDDING}: ")


def test_missing_files_and_wrong_counts(tmp_path):
    path = write(tmp_path, flame_parts())
    (tmp_path / EMBEDDING).unlink()
    with pytest.raises(RafError, match=rf"{EMBEDDING}: no such landmark embedding of FLAME; put FLAME's {EMBEDDING}"):
        read_flame(path)
    with pytest.raises(RafError, match=r"none\.pkl: no such FLAME model; get it from its authors"):
        read_flame(tmp_path / "none.pkl")
    with pytest.raises(RafError, match="expression is 101, expected a whole number from 0 to 100"):
        read_flame(path, expression=101)


# --- GNM Head ---


SPARSE, DENSE = landmark_rows(IBUG68), landmark_rows(range(MESH_COUNT))


@pytest.fixture(scope="module")
def gnm(tmp_path_factory):
    """GNM's repository: the model, and the landmarks in another folder."""
    data = tmp_path_factory.mktemp("gnm")
    (data / "versions" / "v3_0").mkdir(parents=True)
    (data / "landmarks").mkdir()
    (data / "landmarks" / LANDMARKS[1]).write_text(SPARSE)
    parts = gnm_parts()
    np.savez_compressed(data / "versions" / "v3_0" / "gnm_head.npz", **parts)
    return data / "versions" / "v3_0" / "gnm_head.npz", parts


def test_gnm_with_its_own_landmarks(gnm):
    path, parts = gnm
    model = read_gnm(path, identity=30)
    assert model.feature_space == "gnm383" and model.identity.shape == (30, 478 + 51, 3)
    assert model.tracker.tolist() == list(IBUG68[17:])
    np.testing.assert_allclose(model.mean[:478], OPEN.mean, atol=1e-6)
    wanted = parts["expression_basis"].astype(np.float32) * 10 * HOUSE
    np.testing.assert_allclose(model.expression[:, :478], wanted, atol=1e-6)
    shares = np.array([0.9, 0.06, 0.04])
    np.testing.assert_allclose(model.expression[:, model.vertices[0]], shares @ wanted[:, [71, 72, 73]], atol=1e-6)
    assert len(read_gnm(path).identity) == 170


def test_gnm_with_dense_landmarks(gnm, tmp_path):
    path = tmp_path / LANDMARKS[0]
    path.write_text(DENSE)
    model = read_gnm(gnm[0], path, expression=10)
    assert model.feature_space == "gnm10" and model.tracker.tolist() == list(range(MESH_COUNT))
    (tmp_path / "gnm_head.npz").symlink_to(gnm[0])
    same_models(read_gnm(tmp_path / "gnm_head.npz", expression=10), model)


ROWS = SPARSE.splitlines()
GNM_LANDMARKS = {
    "empty": ("", "it has 0 rows, expected 68 or 468"),
    "cut short": (SPARSE[:-200], "it has 6. rows, expected 68 or 468"),
    "columns": ("\n".join(row[:-5] for row in ROWS), "a vertex and a share three times"),
    "words": (SPARSE.replace("0.9", "much"), "could not convert string to float"),
    "NaN": (SPARSE.replace("0.9", "nan"), "it holds NaN or infinity"),
    "half a vertex": (SPARSE.replace("162 ", "162.5 "), "a column of vertices holds numbers that are not whole"),
    "vertex": (SPARSE.replace("71 0.9", "17820 0.9"), "vertices from 0 to 17820, and the model has 0 to 477"),
    "shares": (SPARSE.replace("0.06", "0.6"), "do not add up to 1"),
    "mirrored": (
        landmark_rows([*IBUG68[:36], *IBUG68[42:48], *IBUG68[36:42], *IBUG68[48:]]), "to the left of the right eye"
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", GNM_LANDMARKS)
def test_damaged_landmark_files_are_named(gnm, tmp_path, damage):
    text, words = GNM_LANDMARKS[damage]
    path = tmp_path / "points.txt"
    path.write_text(text)
    with pytest.raises(RafError, match=words) as error:
        read_gnm(gnm[0], path)
    assert str(error.value).startswith(f"{path}: damaged landmark file of GNM")


def test_damaged_gnm_files_are_named(tmp_path):
    points, path = tmp_path / "points.txt", tmp_path / "gnm_head.npz"
    points.write_text(SPARSE)
    parts = gnm_parts()
    nan = parts["expression_basis"].copy()
    nan[0, 0, 0] = np.nan
    for changes, words in (
        ({"expression_basis": parts["expression_basis"][:300]}, r"expression_basis has shape \[300, 478, 3\], .*383"),
        (
            {"vertex_identity_basis": parts["vertex_identity_basis"][:, 1:]},
            r"vertex_identity_basis has shape \[253, 477",
        ),
        ({"expression_basis": nan}, "expression_basis holds NaN or infinity"),
        ({"triangles": np.array([None])}, "triangles is of type object"),
    ):
        np.savez(path, **{**parts, **changes})
        with pytest.raises(RafError, match=rf"gnm_head\.npz: damaged GNM Head model \({words}"):
            read_gnm(path, points)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("version.npy", b"")
    with pytest.raises(RafError, match=r"template_vertex_positions, vertex_identity_basis, .* missing"):
        read_gnm(path, points)
    np.savez(path, **parts)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(RafError, match=r"gnm_head\.npz: damaged GNM Head model"):
        read_gnm(path, points)
    with pytest.raises(RafError, match=r"gnm_head\.npz: carries no landmarks; put GNM's head_sparse_68\.txt into"):
        read_gnm(path)
    with pytest.raises(RafError, match=r"none\.npz: no such GNM Head model; download gnm_head\.npz"):
        read_gnm(tmp_path / "none.npz")
    with pytest.raises(RafError, match="identity is -1, expected a whole number from 0 to 253"):
        read_gnm(path, points, identity=-1)
