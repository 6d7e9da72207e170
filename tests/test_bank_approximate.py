"""Approximate search: it excludes the person, ranks exactly, repeats its results, and reports its recall."""

from dataclasses import replace

import numpy as np
import pytest
from test_bank_folder import make_piece

from raflib.bank import ExpressionBank, approximate, write_mapped
from raflib.bank.approximate import KINDS, _sample
from raflib.errors import RafError

PEOPLE = [f"P{i:02d}" for i in range(25)]


@pytest.fixture(scope="module")
def bank():
    return make_piece(PEOPLE, rows=60)


@pytest.fixture(scope="module", params=["ivf", "hnsw"])
def built(request, bank):
    return approximate(bank, request.param, quiet=True)


def test_nobody_finds_themselves_and_distances_are_exact(bank, built):
    distances, rows = built.search(bank.features, k=3, exclude=bank.subjects)
    assert (bank.subjects[rows] != bank.subjects[:, None]).all()
    squared = ((bank.features[:, None].astype(np.float64) - bank.features[rows]) ** 2).sum(-1)
    np.testing.assert_allclose(distances, np.sqrt(squared), rtol=1e-12)
    assert (np.diff(distances) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_distances_are_ordered_by_row(kind):
    bank = make_piece(PEOPLE, rows=20, width=3, decimals=0)
    distances, rows = approximate(bank, kind, effort=600, quiet=True).search(bank.features, 4)
    tied = np.diff(distances) == 0
    assert tied.any() and (np.diff(rows)[tied] > 0).all()


def test_the_recall_kept_is_the_recall_there_is(bank, built):
    queries, owners = _sample(bank, 200, 0)
    for k, share in built.recall.items():
        exact = bank.search(queries, k, owners)[1]
        found = built.search(queries, k, owners)[1]
        assert share == pytest.approx((found[:, :, None] == exact[:, None]).any(1).mean())
    assert set(built.recall) == {1, 10} and built.recall[1] > 0.9 and built.sampled == 200
    assert f"{100 * built.recall[10]:.1f} %" in built.summary()


def test_little_effort_misses_rows_and_says_so(bank, capsys):
    hasty = approximate(bank, "ivf", effort=1)
    assert hasty.recall[1] < 0.9
    assert f"{100 * hasty.recall[1]:.1f} % of the nearest 1" in capsys.readouterr().out
    everything = replace(hasty, effort=10_000)
    for found, expected in zip(
        everything.search(bank.features[:50], 4, "P03"), bank.search(bank.features[:50], 4, "P03"), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_the_same_bank_gives_the_same_answers(bank, built):
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        again = approximate(bank, built.kind, quiet=True)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
    assert again.recall == built.recall
    np.testing.assert_array_equal(again.search(bank.features, 5)[1], built.search(bank.features, 5)[1])


def test_queries_without_enough_proposals_are_searched_exactly():
    """One person owns the whole cell of the query, so the index proposes nothing."""
    draw = np.random.default_rng(0)
    centres = np.repeat([[0.0, 0], [9, 9]], 300, axis=0)
    features = centres + draw.normal(scale=0.01, size=(600, 2))
    bank = ExpressionBank(features, np.repeat(["A", "B"], 300), ["S"] * 600, np.arange(600), "x")
    hasty = approximate(bank, "ivf", effort=1, quiet=True)
    for found, expected in zip(
        hasty.search(bank.features[:20], 12, "A"), bank.search(bank.features[:20], 12, "A"), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    distances, rows = approximate(bank, "hnsw", effort=1, quiet=True).search(bank.features[:20], 12, "A")
    assert np.isfinite(distances).all() and (bank.subjects[rows] == "B").all()


def test_banks_on_the_disk_are_indexed_too(tmp_path):
    stored = write_mapped(tmp_path / "bank", [make_piece(PEOPLE[:9]), make_piece(PEOPLE[9:])])
    fast = approximate(stored, "ivf", effort=1000, quiet=True)
    assert fast.recall == {1: 1.0, 10: 1.0}
    rows = fast.search(stored.features[:9], 2, "P00")[1]
    np.testing.assert_array_equal(rows, stored.search(stored.features[:9], 2, "P00")[1])


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda bank: approximate(bank, "tree"), "'tree', expected one of ivf, hnsw"),
        (lambda bank: approximate(bank, effort=0), "effort is 0"),
        (lambda bank: approximate(make_big()), "overflow"),
        (lambda bank: approximate(bank, quiet=True).search(np.zeros((2, 9))), "width 9"),
        (lambda bank: approximate(bank, quiet=True).search(np.zeros((2, 8)), k=0), "k is 0"),
        (lambda bank: approximate(bank, quiet=True).search(np.zeros((2, 8)), 1441, "P03"), "1440 rows"),
        (lambda bank: approximate(bank, quiet=True).search(np.zeros((2, 8)), feature_space="bfm64"), "bfm64"),
    ],
)
def test_errors(bank, call, word):
    with pytest.raises(RafError, match=word):
        call(bank)


def make_big():
    return ExpressionBank(np.full((4, 2), 1e20), ["A", "A", "B", "B"], ["S"] * 4, np.arange(4), "x")
