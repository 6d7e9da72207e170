"""How good is nearest: `raflib.coverage.retrieval` against brute force and made-up banks."""

import numpy as np
import pytest

from raflib import ExpressionBank, report
from raflib.coverage import over_people, retrieval, retrieval_tables
from raflib.coverage.intervals import of_median
from raflib.coverage.retrieval import taken_in_turn
from raflib.errors import RafError
from raflib.lab.nearness import ACTIONS, FACE, HEAD, face_distances, nearness, nearness_table, searches, shares
from raflib.openbank import true_actions


def made(noise, people=6, rows=30, width=5, seed=0):
    """(bank, truth): features are the truth and each person's noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(people * rows, width))
    features = truth + noise * rng.normal(size=truth.shape)
    subjects = np.repeat([f"P{i}" for i in range(people)], rows)
    bank = ExpressionBank(features.astype(np.float32), subjects, ["S"] * len(truth), range(len(truth)), "test5")
    return bank, truth


def of_own_features(bank, truth, *args, **options):
    """`retrieval_tables` of the bank's own features and one truth, without the columns that name them."""
    table = retrieval_tables({"own": bank.features}, {"a truth": truth}, bank.subjects, *args, **options)
    return table.drop(columns=["search", "truth"])


def test_the_distances_are_those_of_brute_force():
    rng = np.random.default_rng(1)
    queries, truth = rng.normal(size=(7, 3)), rng.normal(size=(40, 3))
    allowed = rng.uniform(size=40) < 0.6
    rows = rng.choice(np.flatnonzero(allowed), (7, 2))
    got = retrieval(queries, truth, rows, allowed)
    table = np.linalg.norm(queries[:, None] - truth, axis=2)
    assert got.found == pytest.approx(np.take_along_axis(table, rows, 1).mean())
    assert got.random == pytest.approx(table[:, allowed].mean())
    assert got.nearest == pytest.approx(table[:, allowed].min(1).mean())
    assert got.share == pytest.approx((got.random - got.found) / (got.random - got.nearest))


def test_perfect_features_go_the_whole_way_and_noise_goes_nowhere():
    exact, nothing = of_own_features(*made(0)), of_own_features(*made(1e6))
    np.testing.assert_allclose(exact[exact.k == 1].share, 1, atol=1e-6)
    assert abs(nothing.share.mean()) < 0.1
    assert (exact[exact.k == 5].share < 1).all(), "farther neighbours are farther in the truth"


def test_shares_fall_with_noise_and_people_are_counted():
    tables = [of_own_features(*made(noise), sizes=(2, 5), ks=(1,)) for noise in (0.1, 0.5, 2)]
    shares = [table[table.people == 5].share.median() for table in tables]
    assert shares[0] > shares[1] > shares[2] > 0
    assert sorted(set(tables[0].people)) == [2, 5] and len(tables[0]) == 12
    by_size = tables[0].groupby("people").nearest.mean()
    assert by_size[5] < by_size[2], "more people hold nearer rows"


def test_what_is_chosen_depends_on_seed_and_name_only():
    bank, truth = made(0.5)
    few = np.isin(bank.subjects, ["P0", "P1", "P2"])
    whole = of_own_features(bank, truth, sizes=(2,), queries=8, seed=3)
    assert whole.equals(of_own_features(bank, truth, sizes=(2,), queries=8, seed=3))
    assert not whole.equals(of_own_features(bank, truth, sizes=(2,), queries=8, seed=4))
    part = of_own_features(bank.restrict(rows=few), truth[few], queries=8, seed=3)
    assert list(part.subject.unique()) == ["P0", "P1", "P2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": np.zeros((3, 1), int)}, "expected"),
        ({"rows": np.full((7, 1), 40)}, "outside the bank"),
        ({"allowed": np.arange(40) > 0}, "not allowed"),
        ({"truth": np.full((40, 3), np.nan)}, "NaN"),
    ],
)
def test_wrong_input_is_refused(change, message):
    rng = np.random.default_rng(1)
    given = {"queries": rng.normal(size=(7, 3)), "truth": rng.normal(size=(40, 3)), "rows": np.zeros((7, 1), int)}
    with pytest.raises(RafError, match=message):
        retrieval(**{**given, **change})


def test_wrong_banks_are_refused():
    bank, truth = made(0.5)
    with pytest.raises(RafError, match="6 other people asked for"):
        of_own_features(bank, truth, sizes=(6,))
    with pytest.raises(RafError, match="a truth of 3 rows"):
        of_own_features(bank, truth[:3])


def test_ways_of_searching_are_compared_on_the_same_queries():
    bank, truth = made(0.5)
    features = {"noisy": bank.features, "exact": truth, "noisier": made(2)[0].features}
    table = retrieval_tables(features, {"truth": truth, "first": truth[:, :1]}, bank.subjects, (2, 5), (1, 3), 8)
    alone = of_own_features(bank, truth, (2, 5), (1, 3), 8)
    rows = table[(table.search == "noisy") & (table.truth == "truth")].drop(columns=["search", "truth"])
    assert rows.reset_index(drop=True).equals(alone)
    by = table[table.truth == "truth"].groupby("search")
    assert by.random.mean().nunique() == by.nearest.mean().nunique() == 1
    median = over_people(table).share.unstack("search").loc[("truth", 5, 1)]
    assert median["exact"] == pytest.approx(1, abs=1e-6) and median["exact"] > median["noisy"] > median["noisier"]
    few = retrieval_tables(features, {"truth": truth}, bank.subjects, (2,), (1,), 8, asked=["P3"])
    whole = retrieval_tables(features, {"truth": truth}, bank.subjects, (2,), (1,), 8)
    assert few.equals(whole[whole.subject == "P3"].reset_index(drop=True))
    with pytest.raises(RafError, match="short of 3 rows for a bank of 180"):
        retrieval_tables({"short": truth[:3]}, {"truth": truth}, bank.subjects)


def test_rows_are_found_among_the_other_people_by_brute_force():
    bank, _ = made(0.5)
    for turn in taken_in_turn({"x": bank.features}, bank.subjects, (1, 3), k=2, queries=5):
        assert len(set(bank.subjects[turn.others])) == turn.people and turn.subject not in bank.subjects[turn.others]
        assert set(bank.subjects[turn.own]) == {turn.subject}
        away = np.linalg.norm(bank.features[turn.own][:, None].astype(float) - bank.features[turn.others], axis=2)
        np.testing.assert_array_equal(turn.found["x"], turn.others[np.argsort(away, axis=1)[:, :2]])


def test_the_interval_of_a_median_is_between_ordered_values():
    values = np.arange(10.0)[::-1]
    assert of_median(values) == (4.5, 1, 8), "the second of ten values: P(B < 2) = 11 / 1024"
    assert of_median(np.append(values, np.nan)) == (4.5, 1, 8)
    assert of_median(np.arange(5.0))[0] == 2 and np.isnan(of_median(np.arange(5.0))[1])
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        _, low, high = of_median(rng.exponential(size=24))
        hits += low <= np.log(2) <= high
    assert hits / 400 >= 0.94


# --- the studio's bank ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def people():
    """Rows of two studio people whose arkit52 features are their true actions, and open42 features of noise."""
    names, frames, rng = np.repeat(["B001", "B002"], 6), np.tile(np.arange(6) * 15, 2), np.random.default_rng(0)
    plain = ExpressionBank(np.zeros((12, 52)), names, ["EXP-8-jaw-1"] * 12, frames, "arkit52")
    features = np.concatenate([true_actions(plain, name) for name in ("B001", "B002")])
    spaces = {"open42": rng.normal(size=(12, 42)), "true52": features}
    return ExpressionBank(
        features, names, plain.sequence, frames, "arkit52", rotation=rng.normal(size=(12, 3)), spaces=spaces
    )


@pytest.fixture(scope="module")
def measured(people):
    return nearness_table(people, ks=(1, 2), queries=3, faces=1, progress=False)


def test_every_space_is_searched_with_the_weightings_that_suit_it(people):
    both = {"as_is", "per_deviation", "without_pose", "less_person_mean"}
    by_space = {tag: {label for space, label in searches(people) if space == tag} for tag in ("arkit52", "open42")}
    assert by_space == {"arkit52": both, "open42": {*both, "by_motion", "first10"}}
    assert searches(people)["open42", "first10"].shape == (12, 10)


def test_true_actions_go_the_whole_way_and_noise_does_not(measured):
    table = measured[(measured.weighting == "as_is") & (measured.k == 1)].set_index(["space", "truth", "subject"])
    np.testing.assert_allclose(table.share["arkit52", ACTIONS], 1, atol=1e-5)
    np.testing.assert_allclose(table.found["arkit52", FACE], table.nearest["arkit52", FACE])
    assert (table.share["open42", ACTIONS] < 0.9).all() and (table.found["open42", FACE] > 0).all()
    assert set(measured.truth) == {ACTIONS, HEAD, FACE} and set(measured[measured.truth == FACE].k) == {1}


def test_a_face_is_compared_at_its_own_head_angles(people):
    actions, angles = people.features[:2], np.array([[0.0, 0, 0], [10, 0, 0]], np.float32)
    others = np.stack([actions, actions[::-1]], axis=1)
    away = face_distances("B001", actions, angles, others)
    assert (away[:, 0] == 0).all() and (away[:, 1] > 0.01).all()


def test_figure_and_table(measured, tmp_path):
    summary = nearness(measured)
    wide = shares(summary)
    assert list(wide.index.names) == ["space", "weighting"] and wide.loc[("arkit52", "as_is"), (ACTIONS, 1)] == "100"
    assert wide.loc[("open42", "first10"), (FACE, 1)] == "", "faces are rendered for features as they are"
    image = report.retrieval_figure(summary, tmp_path / "retrieval.png")
    assert (tmp_path / "retrieval.png").is_file() and np.asarray(image.convert("L")).std() > 5
    with pytest.raises(RafError, match="share"):
        report.retrieval_figure(summary.drop(columns="share"))
