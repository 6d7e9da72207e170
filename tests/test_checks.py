"""Counts, numbers and frame indexes may come from numpy or torch; errors name other values."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from raflib import coverage, rasterize
from raflib.bank import ExpressionBank, approximate, nearest_people
from raflib.bank.columns import checked
from raflib.errors import RafError, as_float32, finite, numbers, whole
from raflib.geometry import Camera
from raflib.render import Gaussians
from raflib.sampler import RAF, Vanilla
from raflib.sampler.beyond import PeopleRAF

ROOT = Path(__file__).resolve().parents[1]
ROWS = np.random.default_rng(0).random((6, 4), np.float32)
GOOD = {"features": ROWS, "subjects": list("aabbcc"), "sequence": ["s"] * 6, "frame": range(6), "feature_space": "x"}


def one_gaussian() -> Gaussians:
    return Gaussians(
        torch.tensor([[[0.0, 0, 1]]]), torch.ones(1, 1, 4), torch.full((1, 1, 3), 0.1), torch.full((1, 1), 0.5),
        torch.zeros(1, 1, 3),
    )  # fmt: skip


def test_whole_numbers_are_those_of_any_library():
    for value in (3, np.int8(3), np.uint64(3), np.array(3), torch.tensor(3)):
        assert type(whole("n", value, 1, 3)) is int and whole("n", value) == 3
    for value in (3.0, "3", None, True, np.bool_(True), np.array([3]), np.float32(3), 0, 4, float("nan")):
        with pytest.raises(RafError, match=r"n is .*, expected a whole number from 1 to 3"):
            whole("n", value, 1, 3)
    with pytest.raises(RafError, match=r"of at least 0$"):
        whole("n", -1, 0)


def test_finite_numbers_and_arrays_of_them():
    assert finite("x", np.float32(0.5), 0, 1) == 0.5 and type(finite("x", 1, 0, 1)) is int
    for value in ("1", True, np.nan, np.inf, 2, None, 1j, np.ones(1)):
        with pytest.raises(RafError, match=r"x is .*, expected a finite number of at least 0 and at most 1"):
            finite("x", value, 0, 1)
    assert numbers("a", [1, 2]).dtype.kind == "i" and as_float32("a", [1e300])[0] == np.inf
    masked = np.ma.masked_greater(np.arange(3), 1)
    for value in (["a", 1], [True], masked, [[1], [1, 2]], [1, None], [object()]):
        with pytest.raises(RafError, match=r"^a "):
            numbers("a", value)
    with pytest.raises(RafError, match="whole numbers"):
        numbers("a", [0.5], "iu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"subjects": ["074", 74, "075", "075", "076", "076"]}, "subjects must be strings"),
        ({"subjects": ["074", float("nan"), "075", "075", "076", "076"]}, "subjects must be strings"),
        ({"subjects": np.ma.masked_equal(list("aabbcc"), "a")}, "subjects has masked"),
        ({"subjects": ["a", "a\0", "b", "b", "c", "c"]}, "control characters"),
        ({"sequence": ["EMO-1", 1, 1.0, "EMO-1", "x", "x"]}, "sequence must be strings"),
        ({"frame": [0.0, 0.4, 0.8, 1.2, 1.6, 2.9]}, "frame must be whole numbers"),
        ({"frame": np.full(6, 2**63 + 5, np.uint64)}, "below 2"),
        ({"frame": [0, float("nan"), 2, 3, 4, 5]}, "frame must be whole numbers"),
        ({"frame": np.ones(6, bool)}, "frame must be whole numbers"),
        ({"frame": 3}, "one entry a row"),
        ({"features": np.ma.masked_greater(ROWS, 0.5)}, "features has masked"),
        ({"features": [["a", 1, 2, 3]] * 6}, "features must be numbers"),
        ({"features": ROWS > 0.5}, "features must be numbers"),
        ({"features": ROWS * np.float64(1e300)}, "row 0 holds NaN or infinity"),
        ({"rotation": [["x", 0, 0]] * 6}, "rotation must be numbers"),
    ],
)
def test_a_bank_takes_no_column_for_what_it_is_not(change, words):
    columns = {name: column for name, column in GOOD.items() if name != "feature_space"}
    assert len(checked(**columns)["frame"]) == 6
    with pytest.raises(RafError, match=words):
        checked(**{**columns, **change})


def test_counts_and_seeds_may_be_numpys():
    bank, two = ExpressionBank(**GOOD), np.int64(2)
    np.testing.assert_array_equal(bank.search(ROWS, k=two)[1], bank.search(ROWS, k=2)[1])
    assert type(RAF(bank, p=np.float32(0.5), top_k=two).describe()["top_k"]) is int
    assert type(RAF(bank, p=np.float32(0.5)).describe()["p"]) is float and RAF(bank, p=1).p == 1
    assert PeopleRAF(bank, people=two).people == 2
    assert nearest_people(bank, ROWS, two)[1].shape == (6, 2)
    fast = approximate(bank, "hnsw", effort=np.int32(9), sample=np.int64(3), seed=np.uint8(1), quiet=True)
    assert fast.search(ROWS, two)[1].shape == (6, 2)
    assert coverage.pca(ROWS, two).axes.shape == (4, 2)
    camera = Camera("c", np.eye(4), np.array([[60.0, 0, 32], [0, 60, 32], [0, 0, 1]]), 64, 64)
    for size in (np.int64(64), (np.int32(64), np.int64(64)), [64, 64], np.array([64, 64]), torch.Size([64, 64])):
        assert rasterize(one_gaussian(), [camera], size)[0].shape == (1, 64, 64, 3)


WRONG = """
import numpy as np, torch
from raflib import rasterize
from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.render import Gaussians
from raflib.bank import approximate
from raflib.sampler import RAF, RandomNoise, Vanilla
rows = np.random.default_rng(0).random((6, 4), np.float32)
bank = ExpressionBank(rows, list("aabbcc"), ["s"] * 6, range(6), "x")
one = Gaussians(torch.ones(1, 1, 3), *(torch.ones(1, 1, n) for n in (4, 3)), torch.ones(1, 1), torch.zeros(1, 1, 3))
view = torch.eye(4)[None], torch.eye(3)[None]
for text in {calls}:
    try:
        eval(text)
        print(text, "is accepted")
    except RafError as error:
        assert "\\n" not in str(error), text
"""


def test_arguments_of_other_types_are_named_too():
    """This runs in a process without the annotation checks of these tests."""
    calls = (
        "bank.search(rows, k=2.0)", "bank.search(rows, k=True)", "bank.search(rows, k=10**12)", "RAF(bank, top_k=2.5)",
        "bank.search([['a'] * 4])", "approximate(bank, effort=1.5)", "approximate(bank, seed=-1)", "RAF(bank, p='0.5')",
        "RandomNoise('much')", "RandomNoise(float('nan'))", "RAF(bank, p=True)", "ExpressionBank.build([], 1.5)",
        "ExpressionBank.build([], seed=-1)", "rasterize(one, view, 64.0)", "rasterize(one, view, '64')",
        "rasterize(one, view, (64, 64, 64))", "rasterize(one, view, 64, background=float('nan'))",
        "rasterize(one, view, 64, blur='0.3')", "Vanilla().bind(rows, '074')(['3'], None)",
        "Vanilla().bind([['a']], '074')", "ExpressionBank(rows, list('aabbcc'), ['s'] * 6, [0.5] * 6, 'x')",
        "ExpressionBank(rows, list('aabbcc'), ['s'] * 6, range(6), 'x', provenance='text')", "one['x']", "one[0.5]",
    )  # fmt: skip
    command = [sys.executable, "-c", WRONG.replace("{calls}", repr(calls))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr


def test_frames_are_numbers_or_a_mask_of_all():
    own = np.arange(24, dtype=np.float32).reshape(8, 3)
    condition, generator = Vanilla().bind(own, "074"), torch.Generator().manual_seed(0)
    mask = np.isin(np.arange(8), [3, 6])
    for index in (
        [3, 6],
        np.array([3, 6], np.uint8),
        torch.tensor([3, 6]),
        mask,
        torch.from_numpy(mask),
        mask.tolist(),
    ):
        np.testing.assert_array_equal(condition(index, generator).numpy(), own[[3, 6]])
    assert condition([], generator).shape == (0, 3)
    wrong = (np.array([0.7]), torch.tensor([3.0]), [True, False], torch.tensor(3), np.array([[3]]), [-1], [8], [2**63])
    for index in wrong:
        with pytest.raises(RafError, match="subject '074'"):
            condition(index, generator)


def test_cameras_and_backgrounds_must_be_finite():
    view, lens = torch.eye(4)[None], torch.tensor([[[60.0, 0, 32], [0, 60, 32], [0, 0, 1]]])
    flat, mirrored = lens * torch.tensor([0.0, 0, 1])[:, None], lens * torch.tensor([-1.0, 1, 1])[:, None]
    for cameras, words in (
        ((view * torch.nan, lens), "extrinsics: 16 of 16"), ((view, lens * torch.nan), "intrinsics: 9 of 9"),
        ((view, flat), "focal lengths 0"), ((view, mirrored), "focal lengths -60"),
    ):  # fmt: skip
        with pytest.raises(RafError, match=words):
            rasterize(one_gaussian(), cameras, 64)
    for background in (float("nan"), torch.full((3,), torch.nan)):
        with pytest.raises(RafError, match="background"):
            rasterize(one_gaussian(), (view, lens), 64, background=background)


def test_without_a_place_for_its_cache_numba_compiles_anew(tmp_path):
    """There is a file in place of __pycache__ and no home folder, so compiled code cannot be stored."""
    package = tmp_path / "place" / "kernels"
    package.mkdir(parents=True)
    shutil.copy(ROOT / "raflib" / "render" / "compiled.py", package / "compiled.py")
    (package / "kernel.py").write_text(
        "from kernels.compiled import njit\n@njit\ndef double(x):\n    return 2 * x\n@njit(nogil=True)\ndef more(x):\n"
        "    return double(x) + 1\n"
    )
    (package / "__pycache__").write_text("")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("NUMBA_C", "XDG"))}
    environment |= {"HOME": "/proc/nohome", "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", "from kernels.kernel import more; print(more(3))"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "7\n" and done.stderr.count("NUMBA_CACHE_DIR") == 1, done.stderr
    # A damaged cache is made again.
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "kept")
    for damage in (None, b"", b"\x80\x04nonsense"):
        for index in (tmp_path / "kept").rglob("*.nbi"):
            index.write_bytes(index.read_bytes() if damage is None else damage)
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout == "7\n" and not done.stderr, done.stderr
    assert len(list((tmp_path / "kept").rglob("*.nbi"))) == 2
