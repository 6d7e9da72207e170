"""The user study: what is asked, whose answers count, and whether the intervals hold.

Studies here have made-up banks and plain images; the last tests use the studio's people.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binomtest

from raflib import ExpressionBank, report
from raflib.errors import RafError
from raflib.lab.banks import bank_variant
from raflib.study import (
    Answer,
    Crowd,
    Design,
    Rules,
    Study,
    agreement,
    answer_all,
    append_answers,
    closer_than_random,
    common_parts,
    counted,
    half_width,
    image_folder,
    judge,
    krippendorff,
    make_study,
    network_observer,
    outcomes,
    preferences,
    raters_needed,
    read_answers,
    simulated_answers,
    truth_observer,
    worker_counts,
)
from raflib.study.format import ANSWERS, KEY, STUDY, answers_file
from raflib.study.sampling import REFERENCE
from raflib.study.shares import against_chance, share, wilson

NOW = "2026-01-01T00:00:00+00:00"
SIZE = 32


def made_bank(people=8, rows=30, seed=0, spaces=()):
    rng = np.random.default_rng(seed)
    count = people * rows
    features = [rng.normal(size=(count, 4)).astype(np.float32) for _ in ("test4", *spaces)]
    who = np.repeat([f"P{i}" for i in range(people)], rows)
    further = dict(zip(spaces, features[1:], strict=True))
    return ExpressionBank(features[0], who, ["S"] * count, np.arange(count), "test4", spaces=further)


def plain(bank, rows):
    """An image of one grey level for each row."""
    return np.stack([np.full((SIZE, SIZE, 3), row % 256, np.uint8) for row in rows])


@pytest.fixture(scope="module")
def bank():
    return made_bank(spaces=("other4",))


@pytest.fixture(scope="module")
def whole(bank, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return make_study(folder, bank, Design(queries=60, each=3, length=20, size=SIZE), faces=plain, progress=False)


@pytest.fixture
def study(whole, tmp_path):
    """The study without answers; images are not copied."""
    for name in (STUDY, KEY):
        (tmp_path / name).write_bytes((whole.folder / name).read_bytes())
    return Study.load(tmp_path)


def answer(study, rater, question, axis="pose", choice="left", ms=3000):
    return Answer(study.id, rater, question, axis, choice, ms, NOW)


def both(study, rater, questions, choice=None, ms=3000):
    """Answers to both axes: a fixed choice, or what names the nearest row."""
    truths = {} if choice else study.truths()
    return [
        answer(study, rater, each, axis, choice or truths[each].nearest, ms)
        for each in questions
        for axis in ("pose", "expression")
    ]


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_candidates_are_what_they_should_be(whole, bank):
    truths, small = whole.truths(), bank_variant(bank, "small", 0)
    kept = set(small.frame.tolist())  # frames number the rows
    spaces = Counter((truth.space, truth.condition) for truth in truths.values() if truth.kind == "real")
    assert spaces[("test4", "nearest_vs_random")] == 60 and spaces[("other4", "nearest_vs_random")] == 60
    for truth in truths.values():
        best, other = (truth.left, truth.right) if truth.nearest == "left" else (truth.right, truth.left)
        if truth.kind == "attention":
            assert best == REFERENCE and bank.subjects[other] != bank.subjects[truth.reference]
            continue
        seen = bank.in_space(truth.space)
        far = np.linalg.norm(seen.features.astype(float) - seen.features[truth.reference], axis=1)
        far[bank.subjects == bank.subjects[truth.reference]] = np.inf
        assert best == far.argmin()
        if truth.condition == "whole_vs_small":
            inside = np.array([row in kept for row in range(len(bank))])
            assert other == np.where(inside, far, np.inf).argmin() and other != best
        else:
            assert len({bank.subjects[row] for row in (truth.reference, best, other)}) == 3


def test_sides_are_balanced_and_every_question_is_asked_of_k_raters(whole):
    truths = whole.truths()
    for group in {(truth.kind, truth.space, truth.condition) for truth in truths.values()}:
        sides = [t.nearest for t in truths.values() if (t.kind, t.space, t.condition) == group]
        assert abs(sides.count("left") - sides.count("right")) <= 1
    asked = Counter(name for own in whole.lists for name in own)
    assert all(asked[name] == 3 for name, truth in truths.items() if truth.kind == "real")
    for own in whole.lists:
        kinds = [truths[name].kind for name in own]
        assert len(set(own)) == len(own) and kinds.count("real") <= 20
        assert kinds.count("attention") == -(-kinds.count("real") // 10) and kinds[0] == "real"


def test_what_raters_get_does_not_hold_the_truth(whole):
    text = (whole.folder / STUDY).read_text()
    assert not [word for word in ("nearest", "random", "attention", "small", "test4") if word in text]
    real = [name for name, truth in whole.truths().items() if truth.kind == "real"]
    places = [place for place, question in enumerate(whole.questions) if question.id not in real]
    assert max(places) - min(places) > 10, "checks are among the others"
    for question in whole.questions[::20]:
        for name in (question.reference, question.left, question.right):
            assert Image.open(whole.folder / name).size == (SIZE, SIZE)


def test_a_study_is_the_same_again_and_another_with_another_seed(whole, bank, tmp_path):
    design = Design(queries=60, each=3, length=20, size=SIZE)
    calls = []

    def interrupted(held, rows):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(len(rows))
        return plain(held, rows)

    with pytest.raises(KeyboardInterrupt):
        make_study(tmp_path, bank, design, faces=interrupted, progress=False)
    assert not (tmp_path / STUDY).exists()
    before = {path.name for path in (tmp_path / "images").iterdir()}
    asked = []
    again = make_study(
        tmp_path, bank, design, faces=lambda held, rows: asked.extend(rows) or plain(held, rows), progress=False
    )
    assert again.id == whole.id and (tmp_path / KEY).read_bytes() == (whole.folder / KEY).read_bytes()
    assert len(asked) + len(before) == len(list((tmp_path / "images").iterdir())), "finished images are used again"
    assert make_study(tmp_path, bank, design, faces=interrupted, progress=False) == again, "nothing is rendered"
    with pytest.raises(RafError, match="holds another study"):
        make_study(tmp_path, bank, Design(queries=5, size=SIZE), faces=plain, progress=False)
    other = make_study(tmp_path / "b", bank, Design(queries=5, size=16, seed=1), faces=plain, progress=False)
    assert other.id != whole.id


def test_queries_can_come_from_other_people_and_images_from_files(tmp_path):
    bank, subject = made_bank(3, 12), made_bank(1, 6, seed=5)
    subject = ExpressionBank(subject.features, ["Q"] * 6, ["S"] * 6, range(6), "test4")
    for held in (bank, subject):
        for row in range(len(held)):
            path = tmp_path / "frames" / str(held.subjects[row]) / "S" / f"{held.frame[row]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(plain(held, [row])[0]).save(path)
    faces = image_folder(tmp_path / "frames")
    study = make_study(tmp_path / "s", bank, Design(queries=6, size=16), subject, faces=faces, progress=False)
    assert {truth.reference for truth in study.truths().values()} <= set(range(6))
    (tmp_path / "frames" / "Q" / "S" / "0.png").unlink()
    with pytest.raises(RafError, match=r"Q/S/0\.png: no such image"):
        make_study(tmp_path / "t", bank, Design(queries=6, size=16), subject, faces=faces, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": 10**4}, "10000 queries asked for, but there are 240 rows"),
        ({"each": 0}, "each is 0"),
        ({"size": 8}, "size is 8"),
    ],
)
def test_impossible_designs(change, message, bank, tmp_path):
    with pytest.raises(RafError, match=message):
        make_study(tmp_path, bank, Design(**change), faces=plain, progress=False)


def test_too_few_people(tmp_path):
    with pytest.raises(RafError, match="holds 2 people, expected one beside"):
        make_study(tmp_path, made_bank(2), Design(queries=3, size=16), faces=plain, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "its version is 2"),
        ({"questions": [{"id": "q"}]}, "damaged study"),
        ({"questions": [{"id": "q", "reference": "../x.png", "left": "a", "right": "b"}]}, "outside images/"),
        ({"lists": [["nobody"]]}, "unknown question"),
    ],
)
def test_damaged_studies_are_refused(change, message, study):
    told = {**json.loads((study.folder / STUDY).read_text()), **change}
    (study.folder / STUDY).write_text(json.dumps(told))
    with pytest.raises(RafError, match=message):
        Study.load(study.folder)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_later_lines_replace_and_problems_are_told(study):
    first, second, third = (question.id for question in study.questions[:3])
    append_answers(study.folder, both(study, "ann", [first, second], "left"))
    append_answers(study.folder, [answer(study, "ann", first, "pose", "tie")])
    append_answers(study.folder, [answer(study, "bob", third)])
    path = answers_file(study.folder, "ann")
    good = json.loads(path.read_text().splitlines()[0])
    bad = [
        b"", b"{", b"[1]", b"\xff\xfe", b'{"a": NaN}', b"[" * 5000,
        *(json.dumps({**good, **change}).encode() for change in (
            {"study": "0" * 16}, {"question": "q99999"}, {"axis": "taste"}, {"choice": "both"}, {"ms": -1},
            {"ms": True}, {"ms": 10**12}, {"time": "yesterday"}, {"rater": "../ann"}, {"rater": ""},
            {"extra": 1}, {"choice": None},
        )),
    ]  # fmt: skip
    with open(path, "ab") as stream:
        stream.write(b"\n".join(bad) + b'\n{"study": "torn')
    append_answers(study.folder, [answer(study, "ann", third, axis, "right") for axis in ("pose", "expression")])
    found = read_answers(study)
    ann = found.table[found.table.rater == "ann"].set_index(["question", "axis"]).choice
    assert len(ann) == 6 and ann[first, "pose"] == "tie" and ann[third, "pose"] == "right"
    told = found.problems[found.problems.file == "ann.jsonl"]
    assert told.line.tolist() == list(range(6, 6 + len(bad) + 1)), "each bad line, and the torn one"
    (half,) = found.problems[found.problems.rater == "bob"].problem
    assert half == f"question {third} is answered for pose only" and "bob" not in set(found.table.rater)


def test_raters_who_answer_at_once_do_not_disturb_each_other(study):
    names = [question.id for question in study.questions[:12]]

    def write(rater):
        for name in names:
            append_answers(study.folder, both(study, rater, [name], "right"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, ["one", "one", "two", "three"]))
    found = read_answers(study)
    assert len(found.table) == 3 * 24 and found.problems.empty
    assert len(answers_file(study.folder, "one").read_text().splitlines()) == 48


def turk(study, name, rows, extra=()):
    """Write a table of results as Mechanical Turk gives them."""
    head = ["HITId", "WorkerId", "AssignmentStatus", "WorkTimeInSeconds", "Input.study", "Input.question", *extra]
    (study.folder / ANSWERS).mkdir(exist_ok=True)
    with open(study.folder / ANSWERS / name, "w", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])


def test_mechanical_turk(study):
    a, b, c = (question.id for question in study.questions[:3])
    turk(study, "one.csv", [
        ["H1", "W1", "Approved", "12", study.id, a, "left", "tie"],
        ["H1", "W2", "Submitted", "x", study.id, a, "right", "left"],
        ["H2", "W1", "Approved", "9", study.id, b, "", "left"],
        ["H2", "W2", "Rejected", "9", study.id, b, "left", "left"],
        ["H2", "", "Approved", "9", study.id, b, "left", "left"],
        ["H3", "W1", "Approved", "9", "another", c, "left", "left"],
        ["H3", "W3", "Approved", "9", study.id, "q99999", "left", "left"],
        ["H3", "W3", "Approved", "9", study.id, c, "maybe", "left"],
        ["H3", "W3", "Approved"],
    ], ["Answer.pose", "Answer.expression"])  # fmt: skip
    marks = [f"Answer.{axis}.{side}" for axis in ("pose", "expression") for side in ("left", "right", "tie")]
    turk(study, "two.csv", [
        ["H1", "W1", "Approved", "5", study.id, a, "false", "true", "false", "false", "true", "false"],
        ["H2", "W4", "Approved", "5", study.id, b, "true", "false", "false", "false", "false", "true"],
        ["H3", "W4", "Approved", "5", study.id, c, "true", "true", "false", "false", "false", "true"],
    ], marks)  # fmt: skip
    found = read_answers(study)
    assert len(found.table) == 6 and set(found.table.source) == {"turk"}
    assert not set(found.table.rater) & {"W1", "W2", "W4"}, "worker ids are not told"
    first = found.table[(found.table.question == a) & (found.table.ms == 12000)].set_index("axis").choice
    assert first.to_dict() == {"pose": "left", "expression": "tie"}
    assert found.table[found.table.question == b].set_index("axis").choice.to_dict() == {
        "pose": "left", "expression": "tie",
    }  # fmt: skip
    assert len(found.problems) == 9 and found.problems.problem.str.contains("duplicated assignment").sum() == 1
    told = " ".join(found.problems.problem)
    for words in ("Rejected", "no WorkerId", "another", "q99999", "maybe", "cells, expected 8", "left and right"):
        assert words in told
    (study.folder / ANSWERS / "three.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RafError, match=r"three\.csv: damaged file of Mechanical Turk results \(column WorkerId"):
        read_answers(study)


# --- whose answers count ----------------------------------------------------------------------------------------------


def test_rules(study):
    truths, lists = study.truths(), study.lists
    wrong = {"left": "right", "right": "left"}
    honest = both(study, "honest", lists[0])
    careless = both(study, "careless", lists[1])
    careless = [
        answer(study, "careless", each.question, each.axis, wrong[truths[each.question].nearest])
        if truths[each.question].kind == "attention" else each
        for each in careless
    ]  # fmt: skip
    onesided = [
        each if truths[each.question].kind == "attention" else answer(study, "onesided", each.question, each.axis)
        for each in both(study, "onesided", lists[2])
    ]
    hasty = both(study, "hasty", lists[3], ms=400)
    stopped = both(study, "stopped", lists[4][: len(lists[4]) // 2])
    program = both(study, "observer:quick", lists[5], ms=0)
    append_answers(study.folder, honest + careless + onesided + hasty + stopped + program)
    told = outcomes(study, read_answers(study).table)
    raters = judge(study, told)
    assert set(raters.index[raters.counted]) == {"honest", "observer:quick"}
    for name, words in {"careless": "attention", "onesided": "same side", "hasty": "0.4 s", "stopped": "of 22"}.items():
        assert words in raters.reason[name]
    kept = counted(told, raters)
    assert set(kept.kind) == {"real"} and set(kept.group) == {"people", "observer:quick"}
    counts = worker_counts(told, raters)
    assert (counts["people"], counts["people counted"], counts["observers"]) == (5, 1, 1)
    assert counts["answers by people"] == 40
    lenient = judge(study, told, Rules(attention=0, one_side=1, seconds=0, finished=0))
    assert lenient.counted.all()


# --- numbers ----------------------------------------------------------------------------------------------------------


def coded(rows):
    """Units and values of Krippendorff's examples, one string for each observer; a dot is a missing value."""
    pairs = [(unit, value) for row in rows for unit, value in enumerate(row) if value != "."]
    return [unit for unit, _ in pairs], [value for _, value in pairs]


@pytest.mark.parametrize(
    ("rows", "alpha"),
    [
        (["0100000010", "1110010000"], 0.095),
        (["aabbdcccedda", "babbbccceddd"], 0.692),
        (["123321412...", "12332241" + "25.3", ".33323422" + "51.", "12332441" + "251."], 0.743),
    ],
)
def test_alpha_of_the_published_examples(rows, alpha):
    """Krippendorff (2011): binary, nominal, and nominal with four observers and missing values."""
    assert krippendorff(*coded(rows)) == pytest.approx(alpha, abs=5e-4)


def test_alpha_at_its_ends():
    assert krippendorff([0, 0, 1, 1], ["a", "a", "b", "b"]) == 1
    assert np.isnan(krippendorff([0, 1], ["a", "b"])) and np.isnan(krippendorff([0, 0], ["a", "a"]))
    rng = np.random.default_rng(0)
    assert abs(krippendorff(np.repeat(np.arange(3000), 3), rng.integers(0, 3, 9000))) < 0.03


def test_the_interval_of_independent_answers_is_wilsons():
    for hits, count in ((0, 10), (7, 10), (431, 1000)):
        expected = binomtest(hits, count).proportion_ci(method="wilson")
        assert wilson(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)
    hits = np.arange(200) % 3 == 0
    got = share(hits, np.arange(200), np.zeros(200, int))
    assert got.effective <= 200 and (got.low, got.high) == pytest.approx(wilson(hits.mean(), 200, 1.972), abs=2e-3)


@pytest.mark.parametrize("crowd", [Crowd(0.8, 0.1, 0.5, 1.0), Crowd(0.6, 0.2, 0.7, 0.0)])
def test_known_accuracy_is_inside_the_printed_interval(crowd):
    """In 95 % of 200 simulated studies, and far less often inside an interval that takes answers as independent."""
    rng, inside, alone, queries, raters = np.random.default_rng(0), 0, 0, 300, 12
    lists = np.arange(queries) * (raters // 3) // queries
    for _ in range(200):
        question = np.concatenate([rng.permutation(queries) for _ in range(3)])
        rater = np.concatenate([part * (raters // 3) + lists for part in range(3)])
        found = share(crowd.outcomes(question, rater, rng) == 0, question, rater)
        inside += found.low <= crowd.nearest <= found.high
        low, high = wilson(found.value, len(question))
        alone += low <= crowd.nearest <= high
    assert 0.91 * 200 <= inside <= 0.99 * 200
    assert alone < 0.85 * 200


def test_chance_is_chance_for_raters_who_prefer_a_side():
    """Tests of studies without any preference are right about as often as they say, although raters prefer a side."""
    rng, found = np.random.default_rng(0), []
    for _ in range(120):
        nearest_left = rng.random(60) < 0.5
        question, left = np.tile(np.arange(60), 4), rng.random(240) < np.repeat(rng.choice([0.1, 0.9], 4), 60)
        found.append(against_chance(np.where(left == nearest_left[question], 1.0, -1.0), question, flips=199))
    assert 0.02 * 120 <= np.sum(np.array(found) <= 0.1) <= 0.2 * 120
    assert against_chance(np.ones(60), np.arange(60), flips=999) == 1 / 1000
    assert against_chance(np.zeros(5), np.arange(5), flips=99) == 1


def test_figure_3_from_simulated_raters(study, tmp_path):
    crowds = {"pose": Crowd(0.5, 0.3), "expression": Crowd(0.8, 0.1)}
    names = [f"rater{number}" for number in range(len(study.lists))]
    append_answers(study.folder, simulated_answers(study, names, crowds))
    told = outcomes(study, read_answers(study).table)
    kept = counted(told, judge(study, told))
    table = preferences(kept)
    assert len(table) == 2 * 2 * 2 and table.raters.max() <= len(study.lists)
    np.testing.assert_allclose(table.nearest + table.tie + table.other, 1)
    np.testing.assert_allclose(table.decided, table.nearest / (table.nearest + table.other))
    for axis, crowd in crowds.items():
        assert table[table.axis == axis].nearest.mean() == pytest.approx(crowd.nearest, abs=0.05)
    assert (table[table.axis == "expression"].p < 0.01).all()
    for name in ("nearest", "tie", "other", "decided"):
        assert ((table[f"{name}_low"] <= table[name]) & (table[name] <= table[f"{name}_high"])).all()
    alphas = agreement(kept)
    assert alphas[alphas.axis == "expression"].alpha.mean() > alphas[alphas.axis == "pose"].alpha.mean()
    image = report.study_figure(table, tmp_path / "figure3.png")
    assert np.asarray(image.convert("L")).std() > 20 and (tmp_path / "figure3.png").is_file()
    with pytest.raises(RafError, match="nearest_low"):
        report.study_figure(table.drop(columns="nearest_low"))


def test_more_raters_and_queries_narrow_the_interval():
    crowd, rng = Crowd(0.75, 0.0, 0.6, 0.9), np.random.default_rng(1)
    question = np.tile(np.arange(2000), 6)
    rater = np.repeat(np.arange(60), 200)
    outcome = np.array(["nearest", "tie", "other"])[crowd.outcomes(question, rater, rng)]
    parts = common_parts(pd.DataFrame({"outcome": outcome, "question": question, "rater": rater}))
    assert 0.05 < parts["question"] < 0.2 and 0.02 < parts["rater"] < 0.1
    found = share(outcome == "nearest", question, rater)
    expected = half_width(0.75, 2000, 6, 60, parts["question"], parts["rater"])
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.1)
    assert half_width(0.75, 400, 9, 36, 0.1, 0.0) < half_width(0.75, 400, 3, 36, 0.1, 0.0)
    needed = raters_needed(0.03, 0.75, 1000, 3, 0.2, 0.02)
    assert half_width(0.75, 1000, 3, needed, 0.2, 0.02) <= 0.03 < half_width(0.75, 1000, 3, needed - 1, 0.2, 0.02)
    assert raters_needed(0.01, 0.75, 100, 3, 0.2, 0.02) == np.inf


# --- observers --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studio_bank():
    """Three studio people whose features are their true actions with noise."""
    from raflib.openbank import with_true_actions

    sequences = np.tile(np.repeat(["EXP-8-jaw-1", "EMO-1-shout+laugh"], 8), 3)
    who = np.repeat(["B001", "B002", "B003"], 16)
    frame = np.tile(np.arange(8) * 12, 6)
    bank = ExpressionBank(np.zeros((48, 1)), who, sequences, frame, "zero")
    return with_true_actions(bank, progress=False).in_space("true52")


def test_the_truth_prefers_what_is_truly_nearer(studio_bank, tmp_path):
    bank = ExpressionBank(studio_bank.features, studio_bank.subjects, studio_bank.sequence, studio_bank.frame, "true52")
    study = make_study(tmp_path, bank, Design(queries=8, size=SIZE), faces=plain, progress=False)
    truth, network = truth_observer(study, bank, progress=False), network_observer(study, size=SIZE, progress=False)
    answer_all(study, [truth, network])
    told = outcomes(study, read_answers(study).table)
    raters = judge(study, told)
    assert set(raters.index) == {"observer:truth", "observer:lpips"} and (raters.loc["observer:truth"].attention == 1)
    kept = told[(told.rater == "observer:truth") & (told.kind == "real") & (told.axis == "expression")]
    assert not (kept.outcome == "other").any(), "neighbours in the truth are never truly farther"
    blind, sharp = (replace(truth, ties={"pose": tie, "expression": 0.1}) for tie in (180, 0))
    assert set(blind.choices("pose")) == {"tie"} and (sharp.choices("pose") != "tie").all()
    with pytest.raises(RafError, match="made from another bank"):
        truth_observer(study, studio_bank.restrict(rows=np.arange(40)), progress=False)


def test_neighbours_in_the_truth_are_nearer_in_the_truth(studio_bank, tmp_path):
    table = closer_than_random(studio_bank, (1, 2), queries=6, progress=False)
    assert set(table.space) == {"true52", "zero"} and len(table) == 8
    own = table[(table.space == "true52") & (table.axis == "expression")].set_index("people")
    assert own.share[2] == pytest.approx(1) and own.closer[2] > own.closer[1] > 0
    assert np.asarray(report.nearness_figure(table).convert("L")).std() > 10
