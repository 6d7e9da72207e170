"""The expression bank: exactness of search, safety of files, and every error a user can meet."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest

from raflib.bank import ExpressionBank, files
from raflib.errors import RafError
from raflib.reading import files as limits


def make_bank(people=6, rows=30, width=8, seed=0, space="arkit52", prefix="B"):
    draw = np.random.default_rng(seed)
    subjects = draw.permutation(np.repeat([f"{prefix}{i:03d}" for i in range(people)], rows))  # rows of a person apart
    features = draw.normal(size=(people * rows, width)).astype(np.float32)
    frames, rotation = np.arange(people * rows), draw.normal(scale=0.2, size=(people * rows, 3))
    names = np.full(len(frames), "EXP-1-head")
    return ExpressionBank(features, subjects, names, frames, space, {"seed": "0"}, rotation)


def make_capture(subject, frames=40, width=8, space="arkit52", seed=0, missing=()):
    expression = np.random.default_rng(seed).normal(size=(frames, width)).astype(np.float32)
    detected = np.ones(frames, dtype=bool)
    detected[list(missing)] = False
    expression[~detected] = np.nan
    sequence = np.where(np.arange(frames) < frames // 2, "EXP-1-head", "FREE")
    return SimpleNamespace(
        subject=subject,
        feature_space=space,
        expression=expression,
        pose=np.random.default_rng(seed + 1).normal(size=(frames, 6)),
        detected=detected,
        sequence=sequence,
        frame=np.arange(frames) + 7,
        spaces={},
    )


def brute_force(bank, queries, k, exclude):
    """The definition, in float64, one query at a time."""
    distances, rows = [], []
    for query, left_out in zip(queries, exclude, strict=True):
        allowed = np.flatnonzero(bank.subjects != left_out)
        squared = ((query.astype(np.float64) - bank.features[allowed]) ** 2).sum(1)
        order = np.lexsort((allowed, squared))[:k]
        rows.append(allowed[order])
        distances.append(np.sqrt(squared[order]))
    return np.array(distances), np.array(rows)


def assert_same_bank(a, b):
    for name in ("features", "subjects", "sequence", "frame", "rotation"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.feature_space, a.provenance, a.checksum) == (b.feature_space, b.provenance, b.checksum)


def one_line(error):
    return "\n" not in str(error.value)


# -- search ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5, 17])
@pytest.mark.parametrize("exclude", ["B002", "nobody", None, "each"])
def test_search_equals_brute_force(k, exclude):
    bank = make_bank()
    draw = np.random.default_rng(1)
    owners = draw.integers(len(bank), size=50)
    queries = bank.features[owners] + draw.normal(scale=0.1, size=(50, 8)).astype(np.float32)
    exclude = bank.subjects[owners].tolist() if exclude == "each" else exclude
    distances, rows = bank.search(queries, k, exclude=exclude)
    expected = brute_force(bank, queries, k, exclude if isinstance(exclude, list) else [exclude] * 50)
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_allclose(distances, expected[0], rtol=1e-12)


def test_own_rows_are_never_found_though_they_are_nearest():
    bank = make_bank()
    distances, rows = bank.search(bank.features, k=3, exclude=bank.subjects)
    assert (bank.subjects[rows] != bank.subjects[:, None]).all()
    assert (distances > 0).all()
    assert bank.search(bank.features)[0].max() == 0  # without the exclusion each row finds itself, at exactly zero


def test_ties_go_to_the_lowest_row_even_when_there_are_many():
    draw = np.random.default_rng(3)
    features = draw.integers(0, 2, size=(400, 4)).astype(np.float32)  # 16 different vectors, 25 copies of each
    bank = ExpressionBank(features, draw.choice(["A", "B", "C"], 400), ["S"] * 400, np.arange(400), "arkit52")
    queries = draw.integers(0, 3, size=(60, 4)).astype(np.float32) / 2
    _, rows = bank.search(queries, k=40, exclude="B")
    np.testing.assert_array_equal(rows, brute_force(bank, queries, 40, ["B"] * 60)[1])
    assert (np.diff(rows[:, :2]) > 0).any()


def test_search_is_exact_where_float32_cannot_tell_rows_apart():
    """Rows that differ in the last bits, far from the origin, where |q|² + |x|² − 2 q·x in float32 is noise."""
    draw = np.random.default_rng(4)
    base = np.float32(100) + draw.integers(0, 4, size=(3000, 6)).astype(np.float32) * np.float32(2**-10)
    bank = ExpressionBank(base, ["A", "B"] * 1500, ["S"] * 3000, np.arange(3000), "arkit52")
    queries = base[:40] + np.float32(2**-12)
    distances, rows = bank.search(queries, k=3, exclude="A")
    expected = brute_force(bank, queries, 3, ["A"] * 40)
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_array_equal(distances, expected[0])


def test_search_survives_values_whose_squares_overflow_float32():
    bank = ExpressionBank(np.array([[3e30], [1e30], [-2e30]], np.float32), ["A", "B", "C"], ["S"] * 3, [0, 1, 2], "x")
    distances, rows = bank.search(np.array([[9e29], [2.9e30]], np.float32), k=2)
    assert rows.tolist() == [[1, 0], [0, 1]]
    assert np.isfinite(distances).all()


def test_search_is_exact_beyond_the_range_of_float32():
    """Squares overflow for one row only, which faiss then never proposes; or all squares round to 0."""
    tens = np.r_[1e20, 0, np.full(9, -1e19)].astype(np.float32)[:, None]
    draw = np.random.default_rng(5)
    tiny = draw.normal(scale=1e-25, size=(300, 4)).astype(np.float32)
    for features, queries in ((tens, tens[:1] * 1.01), (tiny, tiny[:20] * 1.1), (tiny, tiny[:20] + 1e-25)):
        subjects = [f"P{i % 7}" for i in range(len(features))]
        bank = ExpressionBank(features, subjects, ["S"] * len(features), np.arange(len(features)), "x")
        queries = queries.astype(np.float32)
        found = bank.search(queries, k=2, exclude="P3")
        expected = brute_force(bank, queries, 2, ["P3"] * len(queries))
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)


def test_search_leaves_the_settings_of_faiss_as_they_were(monkeypatch):
    import faiss

    def settings():
        variables = faiss.cvar.distance_compute_blas_query_bs, faiss.cvar.distance_compute_blas_threshold
        return *variables, faiss.omp_get_max_threads()

    before, during, bank = settings(), [], make_bank()
    both = Barrier(2, timeout=10)
    real = faiss.knn
    monkeypatch.setattr(
        faiss, "knn", lambda *given: (both.wait(), during.append(settings()), both.wait(), real(*given))[-1]
    )
    with ThreadPoolExecutor(2) as pool:  # two searches at once: the last one to end puts the settings back
        list(pool.map(lambda _: bank.search(np.zeros((1, 8), np.float32)), range(2)))
    assert settings() == before and before[:2] not in {seen[:2] for seen in during}
    monkeypatch.setattr(faiss, "knn", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bank.search(np.zeros((1, 8), np.float32))
    assert settings() == before


def test_a_search_without_queries_finds_nothing():
    distances, rows = make_bank().search(np.empty((0, 8), np.float32), k=2, exclude=[])
    assert distances.shape == rows.shape == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"queries": np.zeros((2, 52), np.float32)}, ["8", "52"]),
        ({"feature_space": "bfm64"}, ["arkit52", "bfm64"]),
        ({"queries": np.full((2, 8), np.nan, np.float32)}, ["query 0"]),
        ({"k": 0}, ["k is 0"]),
        ({"k": 151, "exclude": "B001"}, ["151", "150", "B001"]),
        ({"exclude": ["B001"]}, ["1", "2"]),
    ],
)
def test_search_errors(arguments, words):
    with pytest.raises(RafError) as error:
        make_bank().search(**{"queries": np.zeros((2, 8), np.float32), **arguments})
    assert one_line(error)
    assert all(word in str(error.value) for word in words), error.value


def test_values_of_the_wrong_type_are_named():
    """Errors as users see them, without type checks: a number in place of an id, a vector in place of rows."""
    code = """
import numpy as np
from raflib.bank import ExpressionBank
from raflib.errors import RafError
rows = np.zeros((2, 3), np.float32)
bank = ExpressionBank(rows, ["074", "075"], ["S", "S"], [0, 1], "arkit52")
for call in (
    lambda: bank.search(rows, exclude=74), lambda: bank.search(rows, exclude=["074", 74]), lambda: bank.search(rows[0]),
    lambda: bank.restrict(subjects=[74]), lambda: ExpressionBank(rows, [74, 75], ["S", "S"], [0, 1], "arkit52"),
):
    try:
        print("accepted", call())
    except RafError as error:
        print(error)
"""
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 5 and "[Q, 3]" in lines.pop(2)
    assert all("74" in line and "'074'" in line for line in lines), lines


# -- build, restrict, merge ------------------------------------------------------------------------------------------


def test_build_draws_detected_frames_without_replacement():
    captures = [make_capture("001", seed=1, missing=(3, 4, 5)), make_capture("002", frames=12, seed=2)]
    bank = ExpressionBank.build(captures, per_subject=20, seed=5)
    assert bank.people == ("001", "002")
    assert (bank.subjects == "001").sum() == 20 and (bank.subjects == "002").sum() == 12  # all rows of 002
    frames = bank.frame[bank.subjects == "001"] - 7
    assert len(set(frames)) == 20 and not set(frames) & {3, 4, 5}
    np.testing.assert_array_equal(bank.features[bank.subjects == "001"], captures[0].expression[frames])
    np.testing.assert_array_equal(bank.sequence[bank.subjects == "001"], captures[0].sequence[frames])
    np.testing.assert_array_equal(bank.rotation[bank.subjects == "001"], captures[0].pose[frames, :3].astype("f4"))
    assert bank.provenance["per_subject"] == "20" and bank.provenance["seed"] == "5"


def test_build_depends_on_seed_and_person_only():
    captures = [make_capture(f"{i:03d}", seed=i) for i in range(3)]
    bank = ExpressionBank.build(captures, per_subject=10)
    assert_same_bank(bank, ExpressionBank.build(captures, per_subject=10))
    alone = ExpressionBank.build(captures[2:], per_subject=10)
    np.testing.assert_array_equal(bank.restrict("002").frame, alone.frame)
    assert set(ExpressionBank.build(captures, per_subject=10, seed=1).frame) != set(bank.frame)


@pytest.mark.parametrize(
    ("captures", "words"),
    [
        ([], ["no capture"]),
        ([make_capture("001"), make_capture("001")], ["'001'", "twice"]),
        ([make_capture("001"), make_capture("002", space="bfm64")], ["arkit52", "bfm64", "'002'"]),
        ([make_capture("001"), make_capture("002", width=9)], ["8", "9"]),
        ([make_capture("001", missing=range(40))], ["'001'", "no detected"]),
    ],
)
def test_build_errors(captures, words):
    with pytest.raises(RafError) as error:
        ExpressionBank.build(captures)
    assert one_line(error) and all(word in str(error.value) for word in words), error.value


def test_build_refuses_nan_in_a_detected_frame():
    capture = make_capture("001")
    capture.expression[6, 2] = np.nan
    with pytest.raises(RafError, match="'001' frame 6"):
        ExpressionBank.build([capture])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"features": np.zeros((0, 8), np.float32)}, "shape"),
        ({"features": np.full((180, 8), np.inf)}, "row 0"),
        ({"subjects": ["A"]}, "subjects"),
        ({"frame": [1, 2]}, "frame"),
        ({"feature_space": ""}, "feature_space"),
    ],
)
def test_constructor_errors(change, word):
    bank = make_bank()
    columns = {name: getattr(bank, name) for name in ("features", "subjects", "sequence", "frame", "feature_space")}
    with pytest.raises(RafError, match=word):
        ExpressionBank(**{**columns, **change})


def test_a_bank_cannot_be_changed():
    features = np.zeros((2, 3), np.float32)
    bank = ExpressionBank(features, ["A", "B"], ["S", "S"], [0, 1], "arkit52")
    features[:] = 1
    assert bank.features.sum() == 0
    with pytest.raises(ValueError, match="read-only"):
        bank.features[0] = 1


def test_restrict_and_merge():
    bank = make_bank()
    half = bank.restrict(subjects=["B001", "B003"], exclude="nobody")
    assert half.people == ("B001", "B003") and len(half) == 60
    rest = bank.restrict(exclude=["B001", "B003"])
    both = half.merge(rest)
    assert both.people == bank.people and len(both) == len(bank)
    np.testing.assert_array_equal(both.frame[:60], half.frame)
    np.testing.assert_array_equal(both.rotation[np.argsort(both.frame)], bank.rotation)  # frames number the rows
    turnless = replace(rest, rotation=None)
    assert turnless.checksum != rest.checksum and half.merge(turnless).rotation is None
    np.testing.assert_array_equal(bank.restrict(rows=[9, 2]).frame, [9, 2])
    np.testing.assert_array_equal(bank.restrict(rows=bank.frame < 5).frame, np.arange(5))
    assert bank.restrict(rows=range(100), subjects="B001").people == ("B001",)
    for call, word in [
        (lambda: bank.restrict(subjects=["B999"]), "B999"),
        (lambda: bank.restrict(rows=[180]), "0 to 179"),
        (lambda: bank.restrict(rows=[1, 1]), "twice"),
        (lambda: bank.restrict(exclude=bank.people), "no row"),
        (lambda: bank.merge(half), "B001"),
        (lambda: bank.merge(make_bank(space="bfm64", prefix="C")), "bfm64"),
        (lambda: bank.merge(make_bank(width=9, prefix="C")), "9"),
    ]:
        with pytest.raises(RafError, match=word) as error:
            call()
        assert one_line(error)


# -- files -----------------------------------------------------------------------------------------------------------


def test_save_and_load_round_trip(tmp_path):
    bank = make_bank()
    bank.save(tmp_path / "bank.npz")
    assert_same_bank(ExpressionBank.load(tmp_path / "bank.npz"), bank)
    first = (tmp_path / "bank.npz").read_bytes()
    bank.save(tmp_path / "bank.npz")
    assert (tmp_path / "bank.npz").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["bank.npz"]


def test_head_rotations_may_be_unknown_but_not_half_known(tmp_path):
    bank = replace(make_bank(), rotation=None)
    for half in (False, True):
        bank.save(tmp_path / "bank.npz", half=half)
        assert ExpressionBank.load(tmp_path / "bank.npz").rotation is None
    for wrong in (np.zeros((180, 2)), np.zeros((179, 3)), np.full((180, 3), np.nan)):
        with pytest.raises(RafError, match=r"rotation .* expected finite \[180, 3\] or None"):
            replace(bank, rotation=wrong)


def test_half_precision_halves_the_file_and_keeps_its_checksum(tmp_path):
    bank = make_bank(people=40, rows=50)
    bank.save(tmp_path / "full.npz")
    bank.save(tmp_path / "half.npz", half=True)
    loaded = ExpressionBank.load(tmp_path / "half.npz")
    np.testing.assert_allclose(loaded.features, bank.features, rtol=5e-4, atol=1e-7)
    assert loaded.features.dtype == loaded.rotation.dtype == np.float32
    np.testing.assert_allclose(loaded.rotation, bank.rotation, rtol=5e-4, atol=1e-7)
    assert (tmp_path / "half.npz").stat().st_size < 0.6 * (tmp_path / "full.npz").stat().st_size
    with pytest.raises(RafError, match="row 0"):
        ExpressionBank(np.array([[1e6]]), ["A"], ["S"], [0], "x").save(tmp_path / "half.npz", half=True)
    assert_same_bank(ExpressionBank.load(tmp_path / "half.npz"), loaded)  # a refused save leaves the old file


def test_a_bank_of_frames_that_hardly_differ_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FREE_BYTES", 2**14)
    still = np.random.default_rng(0).integers(0, 2, (40, 35)).repeat(100, axis=0)  # action units, on or off
    names = np.full(len(still), "A")
    bank = ExpressionBank(still.astype(np.float32), names, names, np.arange(len(still)), "au35")
    bank.save(tmp_path / "bank.npz")
    assert_same_bank(ExpressionBank.load(tmp_path / "bank.npz"), bank)
    assert (tmp_path / "bank.npz").stat().st_size < bank.features.nbytes / 5


def test_a_bank_that_is_too_large_to_load_is_not_saved(tmp_path, monkeypatch):
    bank, path = make_bank(), tmp_path / "bank.npz"
    monkeypatch.setattr(files, "MOST_BYTES", bank.features.nbytes)
    with pytest.raises(RafError, match=r"bank\.npz: the expression bank takes more than .*write_mapped"):
        bank.save(path)
    assert not list(tmp_path.iterdir())


def test_every_damaged_file_is_refused_or_harmless(tmp_path):
    bank, path = make_bank(people=2, rows=5), tmp_path / "bank.npz"
    bank.save(path)
    whole = path.read_bytes()
    draw = np.random.default_rng(0)
    variants = [whole[:size] for size in (0, 1, 30, len(whole) // 2, len(whole) - 1)]
    for position in draw.integers(len(whole), size=300):
        variants.append(whole[:position] + bytes([whole[position] ^ draw.integers(1, 256)]) + whole[position + 1 :])
    refused = 0
    for variant in variants:
        path.write_bytes(variant)
        try:
            assert_same_bank(ExpressionBank.load(path), bank)  # a bit without effect (a date inside the zip)
        except RafError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert refused > 0.5 * len(variants)


def test_foreign_files_are_refused_by_name(tmp_path):
    rows = {"features": np.zeros((2, 3))}
    np.savez(tmp_path / "foreign.npz", **rows)
    np.save(tmp_path / "array.npz.npy", rows["features"])
    np.savez(tmp_path / "object.npz", format=np.array(["raflib.ExpressionBank", 1], dtype=object))
    np.savez(tmp_path / "newer.npz", format="raflib.ExpressionBank", version=99)
    (tmp_path / "text.npz").write_text("hello")
    for name, word in [
        ("absent.npz", "no such"),
        ("foreign.npz", "not an expression bank"),
        ("array.npz.npy", "damaged"),
        ("object.npz", "damaged"),
        ("newer.npz", "99"),
        ("text.npz", "damaged"),
    ]:
        with pytest.raises(RafError, match=word) as error:
            ExpressionBank.load(tmp_path / name)
        assert name in str(error.value) and one_line(error)


def test_a_tampered_but_readable_bank_fails_its_checksum(tmp_path):
    bank, path = make_bank(), tmp_path / "bank.npz"
    bank.save(path)
    with np.load(path) as file:
        content = dict(file)
    content["features"][3, 1] += 1
    np.savez(path, **content)
    with pytest.raises(RafError, match="checksum"):
        ExpressionBank.load(path)


def test_bank_and_sampler_need_nothing_heavy():
    code = (
        "import sys; from raflib.bank import ExpressionBank; before = 'torch' in sys.modules;"
        "from raflib.sampler import RAF; print(before, sorted(m for m in sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.startswith("False")
    loaded = output.split("'")
    ours = {name for name in loaded if name.startswith("raflib")}
    rooms = {".".join(name.split(".")[:2]) for name in ours}
    assert rooms <= {
        "raflib",
        *(f"raflib.{room}" for room in ("bank", "errors", "reading", "registry", "runs", "sampler", "system")),
    }
    assert not {"faiss", "scipy", "sklearn", "numba", "mediapipe", "matplotlib", "pandas", "IPython"} & set(loaded)
