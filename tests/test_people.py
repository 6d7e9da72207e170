"""Statistics of people against brute force, and the studio's people against real ones."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raflib.coverage import identity as people
from raflib.errors import RafError
from raflib.lab.banks import open_bank
from raflib.runs import data_root, project_root

sys.path.insert(0, str(project_root() / "scripts"))
try:
    import real_retrieval
finally:
    sys.path.pop(0)

TRACKS = Path(os.environ.get("RAF_TRACKS", project_root().parent / "shared" / "data" / "tracks"))
"""Scores of real people in clips, one file a clip."""
SHOWS = (("Obama", "Obama"), ("clm_cap1[23]", "clm_cap"))
"""Patterns of the clips of one person, beside clips that differ in a number at the end of the name."""
ROWS = 48
"""Frames of each person: as many as every person of the bank has among its sentences."""


def crowd(count=5, width=7, seed=0):
    """People with different numbers of frames, means and spreads."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(20, 60, count)
    return [draw.normal(draw.normal(size=width), 0.2 + draw.random(), (size, width)) for size in sizes]


def test_between_and_within_equal_brute_force():
    group = crowd()
    means = [[sum(column) / len(column) for column in rows.T] for rows in group]
    grand = [sum(mean[i] for mean in means) / len(means) for i in range(7)]
    squares = [sum((mean[i] - grand[i]) ** 2 for i in range(7)) for mean in means]
    assert people.between(group) == pytest.approx((sum(squares) / len(squares)) ** 0.5)
    own = []
    for rows, mean in zip(group, means, strict=True):
        own.append(sum(sum((row[i] - mean[i]) ** 2 for i in range(7)) for row in rows) / len(rows))
    assert people.within(group) == pytest.approx((sum(own) / len(own)) ** 0.5)


def test_deviations_add_up_to_the_spread():
    group = crowd()
    parts = people.deviations(group)
    assert np.sqrt((parts["between"] ** 2).sum()) == pytest.approx(people.between(group))
    assert np.sqrt((parts["within"] ** 2).sum()) == pytest.approx(people.within(group))


def test_a_person_counts_once_however_long_they_were_filmed():
    group = crowd()
    longer = [np.repeat(group[0], 9, axis=0), *group[1:]]
    assert people.between(longer) == pytest.approx(people.between(group))
    assert people.within(longer) == pytest.approx(people.within(group))


def test_neutral_is_the_calm_end():
    rows = np.arange(1, 101)[:, None] * np.array([[0.6, 0.8]])
    np.testing.assert_allclose(people.neutral(rows[::-1]), [0.6 * 3, 0.8 * 3])  # mean of the norms 1 to 5
    others = [rows, rows + np.array([0, 3]), rows + np.array([4, 0])]
    middles = [people.neutral(one) for one in others]
    pairs = [np.linalg.norm(middles[a] - middles[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert people.neutral_distance(others) == pytest.approx(np.mean(pairs))


def test_nearest_frames_equal_brute_force():
    draw = np.random.default_rng(1)
    names = np.array(["SEN-01"] * 12 + ["EXP-2"] * 9 + ["EMO-1"] * 7 + ["HAIR"] * 5 + ["FREE"] * 11)
    rows = draw.normal(size=(len(names), 4))
    found = people.sequence_distances(rows, names)

    def nearest(i, pool):
        return min(np.linalg.norm(rows[i] - rows[j]) for j in pool)

    train = [i for i, name in enumerate(names) if name != "FREE"]
    each = {i: nearest(i, [j for j in train if names[j] != names[i]]) for i in train}
    assert found["all"] == pytest.approx(np.mean(list(each.values())))
    for kind in ("SEN", "EXP", "EMO"):
        assert found[kind] == pytest.approx(np.mean([each[i] for i in train if names[i].startswith(kind)]))
    free = [nearest(i, train) for i in range(len(names)) if names[i] == "FREE"]
    assert found["FREE"] == pytest.approx(np.mean(free))
    assert set(people.sequence_distances(rows[:21], names[:21])) == {"all", "SEN", "EXP"}


def test_other_people_count_alike():
    mine, near, far = np.zeros((3, 2)), np.full((50, 2), [3.0, 4.0]), np.full((2, 2), [6.0, 8.0])
    found = people.from_other_people({"me": mine, "near": near, "far": far})
    assert found == pytest.approx({"me": 7.5, "near": 5.0, "far": 7.5})


def test_agreement_sees_what_lowers_it():
    draw = np.random.default_rng(2)
    true = {name: draw.uniform(size=(80, 4)) for name in "abc"}
    for rows in true.values():
        rows[:, 3] = 0.1  # no person moves the last one
    offset = {"a": -3.0, "b": 0.0, "c": 3.0}
    tracked = {name: rows * [0.5, 0.5, 0] + [0, offset[name], 0] for name, rows in ((n, true[n][:, :3]) for n in "abc")}
    tracked = {name: np.hstack([rows, rows[:, :1]]) for name, rows in tracked.items()}
    table = people.agreement(tracked, true, ["followed", "biased", "dead", "still"])
    assert list(table.index) == ["followed", "biased", "dead"]
    assert table.loc["followed"].tolist() == pytest.approx([1, 1])
    assert table.within["biased"] == pytest.approx(1) and table.pooled["biased"] < 0.3
    assert table.loc["dead"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: people.between([]), "nobody"),
        (lambda: people.within([np.zeros((3, 2)), np.zeros((3, 4))]), r"person 1 .*\(3, 4\)"),
        (lambda: people.between([np.array([[0.0, np.nan]])]), "person 0 hold NaN"),
        (lambda: people.spread([np.zeros((4, 2))]), "1 persons"),
        (lambda: people.sequence_distances(np.zeros((4, 2)), ["SEN"] * 4), "all of one sequence"),
        (lambda: people.agreement({"a": np.zeros((2, 1))}, {"b": np.zeros((2, 1))}, ["x"]), "differ"),
    ],
)
def test_wrong_input_is_named(call, words):
    with pytest.raises(RafError, match=words):
        call()


def test_real_people_are_written_as_statistics(tmp_path):
    """On synthetic tracks, the script joins the clips of one person and writes no name of a clip."""
    draw = np.random.default_rng(3)
    for clip in ("anna_1", "anna_2", "berta"):
        turns = np.repeat(np.eye(4)[None], 30, 0)
        found = np.arange(30) > 2
        rows = np.where(found[:, None], draw.uniform(size=(30, 52)), np.nan)
        np.savez(tmp_path / f"{clip}.npz", blendshapes=rows, matrices=turns, detected=found)
    (tmp_path / "people.txt").write_text("anna_*\n")
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    script = project_root() / "scripts" / "real_statistics.py"
    command = [sys.executable, str(script), str(tmp_path), "--people", str(tmp_path / "people.txt")]
    environment = {**os.environ, "RAF_ROOT": str(root), "PYTHONPATH": str(project_root())}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    text = (root / "data" / "real_people.json").read_text()
    written = json.loads(text)
    assert (written["people"], written["clips"], written["frames"]) == (2, 3, 81)
    assert "anna" not in text and "berta" not in text
    assert set(written["head"]) == {f"{axis}_{kind}" for axis in ("yaw", "pitch", "roll") for kind in
                                    ("between", "within")}  # fmt: skip
    (tmp_path / "people.txt").write_text("anna_*\n*_1\n")
    failed = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert failed.returncode and "anna_1 fits two lines" in failed.stderr


def test_shipped_statistics_hold_together():
    real = json.loads((data_root() / "real_people.json").read_text())
    for kind in ("between", "within"):
        total = np.sqrt(sum(row[kind] ** 2 for row in real["actions"].values()))
        assert total == pytest.approx(real["spread"][kind], abs=2e-3)
    assert real["people"] >= 30 and set(real["definitions"]) >= {"between", "within", "neutral"}


@pytest.mark.slow
def test_studio_people_are_as_far_apart_as_real_ones():
    """The tolerance is wide, because people and frames are few; the benchmark measures more of them."""
    spec = importlib.util.spec_from_file_location("bench_people", project_root() / "benchmarks" / "people.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    figures = benchmark.bank_figures(8, 25, 2)
    assert 0.45 < figures["between"] < 0.95 and 0.55 < figures["within"] < 1.0
    assert figures["detected_bank"] > 0.99 and figures["head_pitch_between"] > 1.0


# --- without a truth: real people's tracks and the open bank, at equal numbers of people and rows ---------------------


def test_people_of_the_bank_have_the_wanted_share_of_sentences():
    bank, rng = open_bank(), np.random.default_rng(3)
    where = {tuple(row): name for row, name in zip(bank.features, bank.sequence, strict=True)}
    for share in (0.0, 0.75, 1.0):
        found = real_retrieval.studio_people(bank, 3, 40, share, rng)
        assert len(found) == 3 and all(rows.shape == (40, 52) for rows in found.values())
        for rows in found.values():
            assert sum(where[tuple(row)].startswith("SEN") for row in rows) == round(40 * share)
    spread = people.within(list(real_retrieval.studio_people(bank, 30, 40, 0.5, rng).values()))
    assert real_retrieval.as_varied(bank, spread, 30, 40) == pytest.approx(0.5, abs=0.11)
    rows = real_retrieval.chosen_rows(found, 10, rng)
    assert list(rows) == ["000", "001", "002"] and all(len(one) == 10 for one in rows.values())


def test_the_nearest_row_of_another_person_is_that_of_brute_force():
    group = {f"{i}": rows[:20].astype(np.float32) for i, rows in enumerate(crowd(6, 52))}
    nearest, change = real_retrieval.without_truth(group, 6)
    found = []
    for name, rows in group.items():
        others = np.concatenate([other for key, other in group.items() if key != name])
        found.append(np.linalg.norm(rows[:, None] - others[None], axis=2).min(1).mean())
    assert nearest == pytest.approx(np.mean(found), rel=1e-5) and change < 0


def real_people():
    """Scores [T,52] of each real person; the test is skipped without them."""
    if not TRACKS.is_dir():
        pytest.skip(f"no tracks of real people in {TRACKS}")
    clips = {}
    for path in sorted(TRACKS.glob("*.npz")):
        named = [person for pattern, person in SHOWS if re.search(pattern, path.stem)]
        name = named[0] if named else re.sub(r"_clip_?\d+(_short)?$", "", path.stem)
        with np.load(path) as stored:
            clips.setdefault(name, []).append(stored["blendshapes"][stored["detected"].astype(bool)])
    return {name: np.concatenate(parts).astype(np.float32) for name, parts in clips.items()}


def test_what_retrieval_finds_in_the_studio_is_like_what_it_finds_among_real_people():
    """Another person's nearest row is about as far away as in the open bank, and RAF brings drivers nearer in both.

    The real clips hold speech, so the bank's sentences are compared. B2T falls by a third more in the bank
    (`notebooks/RESULTS.md`), and three choices of people vary by a tenth, so it is held to a factor of two.
    """
    real, rng, found = real_people(), np.random.default_rng(0), []
    for _ in range(3):
        studio = real_retrieval.studio_people(open_bank(), len(real), ROWS, 1.0, rng)
        rows = [real_retrieval.chosen_rows(people, ROWS, rng) for people in (real, studio)]
        found.append([real_retrieval.without_truth(some, 12) for some in rows])
    (real_near, real_change), (near, change) = np.mean(found, axis=0)
    print(f"nearest other person {near:.3f} (real {real_near:.3f}), B2T {change:.1f} % (real {real_change:.1f} %)")
    assert near == pytest.approx(real_near, rel=0.15)
    assert real_change < 0 and change < 0 and 0.5 < real_change / change < 2
