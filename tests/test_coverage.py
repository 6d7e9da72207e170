"""Coverage metrics against the textbook, scikit-learn, scipy and closed forms."""

import numpy as np
import pandas
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import gaussian_kde
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import rbf_kernel

from raflib import coverage
from raflib.bank import ExpressionBank
from raflib.coverage import pairs, paper_table
from raflib.errors import RafError


def samples(n=230, m=410, width=12, seed=0, shift=0.3):
    draw = np.random.default_rng(seed)
    mix = draw.normal(size=(width, width)) / np.sqrt(width)
    return draw.normal(size=(n, width)) @ mix, draw.normal(size=(m, width)) @ mix * 1.2 + shift


def mmd_by_sklearn(x, y, bandwidth):
    gamma = 1 / (2 * bandwidth**2)
    means = [rbf_kernel(a, b, gamma=gamma).mean() for a, b in ((x, x), (y, y), (x, y))]
    return np.sqrt(means[0] + means[1] - 2 * means[2])


def kl_by_scipy(x, y, components):
    space = PCA(components).fit(y)
    scale = np.sqrt(space.explained_variance_)
    x, y = space.transform(x) / scale, space.transform(y) / scale
    with np.errstate(divide="ignore"):
        logs = [np.maximum(np.log(gaussian_kde(sample.T)(x.T)), -100) for sample in (x, y)]
    return (logs[0] - logs[1]).mean()


@pytest.mark.parametrize("bandwidth", [None, 0.3, 2.0])
def test_mmd_equals_scikit_learn(bandwidth):
    x, y = samples()
    used = np.median(pdist(np.concatenate([x, y]))) if bandwidth is None else bandwidth
    assert coverage.mmd(x, y, bandwidth) == pytest.approx(mmd_by_sklearn(x, y, used), abs=1e-9)


@pytest.mark.parametrize("components", [1, 4, 8, 12])
def test_kl_equals_scipy(components):
    x, y = samples()
    assert coverage.kl(x, y, components) == pytest.approx(kl_by_scipy(x, y, components), abs=1e-8)


def test_kl_floor_is_where_it_says():
    x, y = samples(width=3)
    far = x + 1000
    space = coverage.pca(y, 3)
    own = coverage.log_density(flat := space.project(far) / space.scale, flat)
    assert coverage.kl(far, y, 3) == pytest.approx(own.mean() + 100)
    assert coverage.kl(far, y, 3) == pytest.approx(kl_by_scipy(far, y, 3), abs=1e-6)


def test_b2t_equals_brute_force():
    x, y = samples()
    assert coverage.b2t(x, y) == pytest.approx(cdist(y, x).min(1).mean(), abs=1e-12)
    assert coverage.b2t(y, y) == 0
    assert coverage.b2t(np.concatenate([x, y]), y) == 0


@pytest.mark.parametrize("metric", [coverage.mmd, coverage.kl, coverage.b2t])
def test_results_do_not_depend_on_blocks(metric, monkeypatch):
    x, y = samples(n=37, m=101)
    expected = metric(x, y)
    for block in (1, 7, 64, 4096):
        monkeypatch.setattr(pairs, "BLOCK", block)
        assert metric(x, y) == pytest.approx(expected, abs=1e-10)


def test_symmetry_and_zero():
    x, y = samples()
    assert coverage.mmd(x, y) == pytest.approx(coverage.mmd(y, x), abs=1e-12)
    assert coverage.mmd(x, x) < 1e-7 and coverage.mmd(x, x[::-1].copy()) < 1e-7
    assert coverage.kl(x, x) == pytest.approx(0, abs=1e-12)
    assert coverage.kl(x, x / 2, 2) > coverage.kl(x / 2, x, 2) + 0.5  # KL is not symmetric
    assert coverage.mmd(x + 5, y + 5) == pytest.approx(coverage.mmd(x, y), abs=1e-9)
    assert coverage.kl(x * 3, y * 3) == pytest.approx(coverage.kl(x, y), abs=1e-9)


def test_gaussians_come_near_their_closed_forms():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(3000, 2)), draw.normal(loc=(1, 0), size=(3000, 2))
    # KL between unit Gaussians a distance 1 apart is 1/2; kernel smoothing and finite samples move it a little
    assert coverage.kl(x, y, 2) == pytest.approx(0.5, abs=0.1)
    # E k(a, b) with a - b ~ N(delta, 2 I) and h = 1 is (1/3) exp(-|delta|^2 / 6) in two dimensions
    assert coverage.mmd(x, y, 1.0) == pytest.approx(np.sqrt(2 / 3 * (1 - np.exp(-1 / 6))), abs=0.02)


@pytest.mark.parametrize("count", [2, 3, 10, 61])
def test_median_distance_of_few_points(count):
    points = np.random.default_rng(count).normal(size=(count, 3))
    assert coverage.median_distance(points) == pytest.approx(np.median(pdist(points)), rel=1e-12)


@pytest.mark.parametrize("spread", [0.0025, 1e-6])
def test_median_distance_with_a_bracket_even_a_wrong_one(spread, monkeypatch):
    points = np.random.default_rng(0).normal(size=(700, 5))
    real, calls = pairs._bracket, []
    monkeypatch.setattr(pairs, "_bracket", lambda p: calls.append(p) or real(p, sample=20_000, spread=spread))
    assert coverage.median_distance(points) == pytest.approx(np.median(pdist(points)), rel=1e-10)
    assert calls


def test_pca_matches_scikit_learn_and_is_reproducible():
    _, y = samples()
    space, reference = coverage.pca(y, 3), PCA(3).fit(y)
    np.testing.assert_allclose(space.scale**2, reference.explained_variance_)
    np.testing.assert_allclose(np.abs(space.project(y)), np.abs(reference.transform(y)), atol=1e-9)
    assert (space.axes[np.abs(space.axes).argmax(0), range(3)] > 0).all()


def test_sequences_and_what_lies_beyond():
    draw = np.random.default_rng(0)
    train = np.concatenate([draw.normal(size=(50, 4)), draw.normal(size=(60, 4))])
    sequence = np.repeat(["EXP-1-head", "EXP-2-eyes"], [50, 60])
    target = draw.normal(size=(80, 4))
    rows = coverage.by_sequence(train, sequence, target).set_index("sequence")
    assert rows.loc["EXP-2-eyes", "frames"] == 60
    assert rows.loc["EXP-1-head", "b2t_alone"] == pytest.approx(coverage.b2t(train[:50], target))
    assert rows.loc["EXP-1-head", "b2t_without"] == pytest.approx(coverage.b2t(train[50:], target))
    assert rows["nearest_share"].sum() == pytest.approx(1)
    assert coverage.beyond(train, target, sequence) < 0.2
    assert coverage.beyond(train, target + 50, sequence) == 1
    with pytest.raises(RafError, match="one sequence"):
        coverage.beyond(train, target, np.full(110, "EXP-1-head"))


@pytest.fixture(scope="module")
def people():
    """A subject who shows little, a bank of people who show much, drivers like the bank's people."""
    draw = np.random.default_rng(0)
    own = draw.normal(scale=0.4, size=(120, 10)).astype(np.float32)
    rows = draw.normal(size=(900, 10)).astype(np.float32)
    bank = ExpressionBank(rows, np.repeat(["422", "B1", "B2"], 300), ["S"] * 900, np.arange(900), "arkit52")
    targets = {name: draw.normal(size=(150, 10)).astype(np.float32) for name in ("388", "E01")}
    return own, bank, targets


def test_table_is_the_three_metrics_of_the_two_sets(people):
    own, bank, targets = people
    own = np.concatenate([own, np.full((3, 10), np.nan, np.float32)])  # undetected frames are left out
    table = coverage.table(own, "422", targets, bank, n=60, repeats=1, seed=4)
    assert table.columns.tolist() == list(paper_table.COLUMNS)
    chosen = np.random.default_rng(4).permutation(120)[:60]
    kept = own[chosen[:30]]
    neighbours = bank.features[bank.search(kept, exclude="422")[1][:, 0]]
    target = np.concatenate(list(targets.values()))
    bandwidth = coverage.median_distance(target)
    for method, train in {"vanilla": own[chosen], "raf": np.concatenate([kept, neighbours])}.items():
        value = table[table.method == method].set_index("metric")["value"]
        assert value["mmd"] == pytest.approx(coverage.mmd(train, target, bandwidth), abs=1e-9)
        assert value["kl"] == pytest.approx(coverage.kl(train, target), abs=1e-9)
        assert value["b2t"] == pytest.approx(coverage.b2t(train, target), abs=1e-9)
    assert (table.n == 60).all() and (table.leaked == 0).all()


def test_table_shows_what_wider_people_add_and_how_sure_it_is(people):
    own, bank, targets = people
    rows = coverage.table(own, "422", targets, bank, n=80, repeats=10)
    value = rows.pivot(index="metric", columns="method", values="value")
    assert (value["raf"] < value["vanilla"]).all()
    assert (rows.low <= rows.value).all() and (rows.value <= rows.high).all() and (rows.low < rows.high).all()
    assert rows.equals(coverage.table(own, "422", targets, bank, n=80, repeats=10))
    full = coverage.table(own, "422", targets, bank, repeats=2)
    assert (full.n == 120).all()
    other = rows.assign(subject="443", value=rows.value + 1)
    wide = coverage.table1(pandas.concat([rows, other]))
    assert wide.loc["Average", ("mmd", "raf")] == pytest.approx(value.loc["mmd", "raf"] + 0.5)
    assert wide.columns.tolist()[0] == ("mmd", "vanilla")


def test_a_driver_in_the_bank_is_refused_unless_allowed(people):
    own, bank, targets = people
    leaking = {**targets, "B2": targets["E01"]}
    with pytest.raises(RafError, match="B2"):
        coverage.table(own, "422", leaking, bank, n=20, repeats=1)
    assert (coverage.table(own, "422", leaking, bank, n=20, repeats=1, allow_leak=True).leaked == 300).all()


def test_a_driver_or_the_subject_under_another_name_is_refused(people):
    own, bank, targets = people
    few = targets["E01"][:7].astype(np.float16).astype(np.float32)  # as a shipped bank holds them
    for vectors, words in ((few, "E01 under the name X01 .7 equal"), (own[:2], "422 under the name X01 .2 equal")):
        other = ExpressionBank(vectors, ["X01"] * len(vectors), ["FREE"] * len(vectors), range(len(vectors)), "arkit52")
        with pytest.raises(RafError, match=words):
            coverage.table(own, "422", targets, bank.merge(other), n=20, repeats=1)
        rows = coverage.table(own, "422", targets, bank.merge(other), n=20, repeats=1, allow_leak=True)
        assert (rows.leaked == len(vectors)).all()
    mine = ExpressionBank(own, ["422"] * 120, ["FREE"] * 120, range(120), "arkit52")  # never searched: no leak
    with_own = bank.restrict(exclude="422").merge(mine)
    assert (coverage.table(own, "422", targets, with_own, n=20, repeats=1).leaked == 0).all()


def test_errors_name_what_is_wrong(people):
    own, bank, targets = people
    x, y = samples(width=4)
    for call, word in [
        (lambda: coverage.mmd(x, np.full_like(y, np.nan)), "NaN"),
        (lambda: coverage.mmd(x, y, 0.0), "bandwidth"),
        (lambda: coverage.mmd(np.zeros((3, 2)), np.zeros((3, 2))), "bandwidth"),
        (lambda: coverage.kl(x, y, 5), "components is 5"),
        (lambda: coverage.kl(np.zeros_like(x), y, 2), "do not vary"),
        (lambda: coverage.kl(x, np.zeros_like(y), 2), "do not vary"),
        (lambda: coverage.kl(x[:1], y, 2), "do not vary"),
        (lambda: coverage.b2t(x[:0], y), "frames in both"),
        (lambda: coverage.table(own, "422", targets, bank, n=7), "n is 7"),
        (lambda: coverage.table(own, "422", targets, bank, n=500), "500"),
        (lambda: coverage.table(own, "422", targets, bank, feature_space="bfm64"), "bfm64"),
    ]:
        with pytest.raises(RafError, match=word) as error:
            call()
        assert "\n" not in str(error.value)
