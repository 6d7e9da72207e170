"""Table 1 by other definitions, the gap between two fits, and artificial identity bias."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.neighbors import KernelDensity, NearestNeighbors

from raflib import coverage
from raflib.bank import ExpressionBank
from raflib.coverage.sensitivity import moved
from raflib.errors import RafError


@pytest.fixture(scope="module")
def sets():
    draw = np.random.default_rng(0)
    own, theirs = draw.normal(size=(60, 6)), draw.normal(size=(300, 6)) * 1.3 + 0.4
    names = np.repeat([f"P{i}" for i in range(6)], 50)
    bank = ExpressionBank(theirs, names, ["S"] * 300, np.arange(300), "toy")
    targets = {"a": draw.normal(size=(40, 6)) + 0.5, "b": draw.normal(size=(50, 6)) - 0.3}
    return coverage.training_sets(own, "422", targets, bank, n=40, repeats=3)


def test_each_definition_is_the_metric_with_this_setting(sets):
    found = coverage.sensitivity(sets, (2, 5, 7)).set_index("metric")
    assert list(found.index) == ["mmd", "mmd2", "kl2", "kl5", "b2t"] and (found.n == 40).all()
    target = np.concatenate(sets.drivers)
    bandwidth = coverage.median_distance(target)
    for column, draws in (("vanilla", sets.vanilla), ("raf", sets.raf)):
        chosen = [sets.pool[rows] for rows in draws]
        squared = np.mean([coverage.mmd(x, target, bandwidth, squared=True) for x in chosen])
        assert found[column]["mmd2"] == pytest.approx(squared)
        assert found[column]["mmd"] == pytest.approx(np.mean([coverage.mmd(x, target, bandwidth) for x in chosen]))
        for count in (2, 5):
            assert found[column][f"kl{count}"] == pytest.approx(
                np.mean([coverage.kl(x, target, count) for x in chosen])
            )
        assert found[column]["b2t"] == pytest.approx(np.mean([coverage.b2t(x, target) for x in chosen]))
    assert found.raf["mmd2"] != pytest.approx(found.vanilla["mmd2"])
    small = coverage.sensitivity(replace(sets, vanilla=[sets.vanilla[0][:8]], raf=[sets.raf[0][:8]]), (3, 4))
    assert list(small.metric) == ["mmd", "mmd2", "kl3", "b2t"], "four different vectors do not vary along four axes"


def test_table_takes_components_and_the_square(sets):
    told = coverage.table(sets, components=5, squared=True).set_index(["metric", "method"]).value
    found = coverage.sensitivity(sets, (5,)).set_index("metric")
    for method in ("vanilla", "raf"):
        values = [told[name, method] for name in ("mmd", "kl", "b2t")]
        assert values == pytest.approx([found[method][name] for name in ("mmd2", "kl5", "b2t")])


def test_kl_is_that_of_scikit_learns_kernel_densities():
    draw = np.random.default_rng(3)
    x, y = draw.normal(size=(120, 7)), draw.normal(size=(200, 7)) * 1.2 + 0.3
    space = PCA(4, whiten=True).fit(y)
    x, y = space.transform(x), space.transform(y)

    def log_density(points, sample):
        """Scott's bandwidth and the sample's own covariance: a ball in the space in which the sample is white."""
        lower = np.linalg.cholesky(np.cov(sample.T))
        white = [np.linalg.solve(lower, part.T).T for part in (points, sample)]
        density = KernelDensity(bandwidth=len(sample) ** (-1 / 8), rtol=1e-9).fit(white[1])
        return density.score_samples(white[0]) - np.log(np.diag(lower)).sum()

    np.testing.assert_allclose(coverage.log_density(x, y), log_density(x, y), rtol=1e-6)
    assert coverage.kl(x, y, 4) == pytest.approx((log_density(x, x) - log_density(x, y)).mean(), rel=1e-6)


def test_search_and_b2t_are_those_of_scikit_learns_neighbours(sets):
    draw = np.random.default_rng(4)
    names = np.repeat([f"P{i}" for i in range(5)], 40)
    bank = ExpressionBank(draw.normal(size=(200, 9)), names, ["S"] * 200, np.arange(200), "toy")
    queries = draw.normal(size=(30, 9)).astype(np.float32)
    distances, rows = bank.search(queries, k=4, exclude="P2")
    others = np.flatnonzero(names != "P2")
    reference = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(bank.features[others].astype(np.float64))
    far, near = reference.kneighbors(queries.astype(np.float64))
    np.testing.assert_array_equal(rows, others[near])
    np.testing.assert_allclose(distances, far, rtol=1e-6)
    train = NearestNeighbors(n_neighbors=1).fit(bank.features)
    assert coverage.b2t(bank.features, queries) == pytest.approx(train.kneighbors(queries)[0].mean(), rel=1e-6)


def test_pca_is_scikit_learns():
    draw = np.random.default_rng(5)
    points = draw.normal(size=(90, 8)) @ draw.normal(size=(8, 8)) + 3
    space, reference = coverage.pca(points, 3), PCA(3, svd_solver="full").fit(points)
    np.testing.assert_allclose(space.scale**2, reference.explained_variance_)
    np.testing.assert_allclose(np.abs(space.project(points)), np.abs(reference.transform(points)), atol=1e-9)


def test_the_gap_between_two_fits_is_that_of_brute_force():
    draw = np.random.default_rng(6)
    first = {name: draw.normal(size=(20, 5)) + 3 * i for i, name in enumerate("abc")}
    second = {name: rows + [1, 0, 0, 0, 0] + 0.1 * draw.normal(size=rows.shape) for name, rows in first.items()}
    second["b"][4] = np.nan
    found = coverage.fit_gap(first, second).set_index("person")
    for name in "abc":
        kept = np.delete(np.arange(20), 4) if name == "b" else np.arange(20)
        one, two = first[name][kept], second[name][kept]
        others = np.concatenate([np.delete(first[k], 4, 0) if k == "b" else first[k] for k in "abc" if k != name])
        assert found.gap[name] == pytest.approx(
            np.mean([np.sqrt(((a - two[t]) ** 2).sum()) for t, a in enumerate(one)])
        )
        assert found.constant[name] == pytest.approx(np.linalg.norm((one - two).mean(0)), abs=1e-12)
        assert found.spread[name] == pytest.approx(np.sqrt(one.var(0).sum()))
        assert found.other[name] == pytest.approx(cdist(one, others).min(1).mean())
    assert 0.9 < found.constant["a"] < 1.1 < found.spread["a"]


def test_artificial_bias_has_the_size_and_rank_that_are_asked_for():
    people = {f"P{i:03d}": np.zeros((2, 8)) for i in range(300)}
    offsets = np.array([rows[0] for rows in moved(people, 0.7, 3).values()])
    assert np.sqrt((offsets**2).sum(1).mean()) == pytest.approx(0.7, rel=0.06)
    assert np.linalg.matrix_rank(offsets, tol=1e-8) == 3
    again = moved({"P007": np.ones((4, 8))}, 0.7, 3)["P007"]
    np.testing.assert_allclose(again - 1, np.tile(offsets[7], (4, 1)), err_msg="by name, whoever else is there")
    assert not np.allclose(moved(people, 0.7, 3, seed=1)["P007"], offsets[7])


def some(names, rows=2, value=0.0):
    return dict.fromkeys(names, np.full((rows, 3), value))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coverage.fit_gap(some("a"), some("a")), "1 and 1 people"),
        (lambda: coverage.fit_gap(some("ab"), some("ac")), "same"),
        (lambda: coverage.fit_gap(some("ab"), some("ab", 3)), "twice"),
        (lambda: coverage.fit_gap(some("ab"), some("ab", value=np.nan)), "no frame of a has both"),
        (lambda: moved({}, 1, 1), "no people"),
        (lambda: moved(some("a"), 1, 4), "rank is 4"),
        (lambda: moved(some("a"), -1, 1), "size is -1"),
    ],
)
def test_errors_name_what_is_wrong(call, message):
    with pytest.raises(RafError, match=message):
        call()
