"""How good is nearest: `raflib.coverage.retrieval` against brute force and made-up banks."""

import numpy as np
import pandas as pd
import pytest

from raflib import ExpressionBank, report
from raflib.coverage import retrieval, retrieval_table
from raflib.errors import RafError


def made(noise, people=6, rows=30, width=5, seed=0):
    """(bank, truth): features are the truth and each person's noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(people * rows, width))
    features = truth + noise * rng.normal(size=truth.shape)
    subjects = np.repeat([f"P{i}" for i in range(people)], rows)
    bank = ExpressionBank(features.astype(np.float32), subjects, ["S"] * len(truth), range(len(truth)), "test5")
    return bank, truth


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
    exact, nothing = retrieval_table(*made(0)), retrieval_table(*made(1e6))
    np.testing.assert_allclose(exact[exact.k == 1].share, 1, atol=1e-6)
    assert abs(nothing.share.mean()) < 0.1
    assert (exact[exact.k == 5].share < 1).all(), "farther neighbours are farther in the truth"


def test_shares_fall_with_noise_and_people_are_counted():
    tables = [retrieval_table(*made(noise), sizes=(2, 5), ks=(1,)) for noise in (0.1, 0.5, 2)]
    shares = [table[table.people == 5].share.median() for table in tables]
    assert shares[0] > shares[1] > shares[2] > 0
    assert sorted(set(tables[0].people)) == [2, 5] and len(tables[0]) == 12
    by_size = tables[0].groupby("people").nearest.mean()
    assert by_size[5] < by_size[2], "more people hold nearer rows"


def test_what_is_chosen_depends_on_seed_and_name_only():
    bank, truth = made(0.5)
    few = np.isin(bank.subjects, ["P0", "P1", "P2"])
    whole = retrieval_table(bank, truth, sizes=(2,), queries=8, seed=3)
    assert whole.equals(retrieval_table(bank, truth, sizes=(2,), queries=8, seed=3))
    assert not whole.equals(retrieval_table(bank, truth, sizes=(2,), queries=8, seed=4))
    part = retrieval_table(bank.restrict(rows=few), truth[few], queries=8, seed=3)
    assert list(part.subject.unique()) == ["P0", "P1", "P2"]


def test_only_some_people_take_a_turn():
    bank, truth = made(0.5)
    whole, some = retrieval_table(bank, truth), retrieval_table(bank, truth, subjects=["P4", "P1"])
    for person in ("P1", "P4"):
        columns = [table[table.subject == person].reset_index(drop=True) for table in (whole, some)]
        pd.testing.assert_frame_equal(*columns)
    assert len(some) == 4
    with pytest.raises(RafError, match="no rows of subject 'nobody'"):
        retrieval_table(bank, truth, subjects=["nobody"])


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
        retrieval_table(bank, truth, sizes=(6,))
    with pytest.raises(RafError, match="a truth of 3 rows"):
        retrieval_table(bank, truth[:3])


def test_figure(tmp_path):
    bank, truth = made(0.5)
    tables = {"test5": retrieval_table(bank, truth, sizes=(1, 3, 5)), "exact": retrieval_table(*made(0), sizes=(1, 5))}
    image = report.retrieval_figure(tables, tmp_path / "retrieval.png")
    assert (tmp_path / "retrieval.png").is_file() and np.asarray(image.convert("L")).std() > 5
    with pytest.raises(RafError, match="share"):
        report.retrieval_figure({"test5": tables["test5"].drop(columns="share")})
