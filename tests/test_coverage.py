"""Coverage metrics against the textbook, scikit-learn, scipy and closed forms."""

import os
import subprocess
import sys

import numpy as np
import pandas
import pytest
import scipy.stats
from scipy.spatial.distance import cdist, pdist
from scipy.stats import gaussian_kde
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import rbf_kernel

from raflib import coverage, report
from raflib.bank import ExpressionBank
from raflib.coverage import intervals, metrics, pairs
from raflib.coverage import table1 as paper_table
from raflib.errors import RafError


def samples(n=230, m=410, width=12, seed=0, shift=0.3):
    draw = np.random.default_rng(seed)
    mix = draw.normal(size=(width, width)) / np.sqrt(width)
    return draw.normal(size=(n, width)) @ mix, draw.normal(size=(m, width)) @ mix * 1.2 + shift


def table_of(*arguments, **options):
    return coverage.table(coverage.training_sets(*arguments, **options))


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
    assert coverage.mmd(x, y, bandwidth) == pytest.approx(mmd_by_sklearn(x, y, used), abs=1e-7)


@pytest.mark.parametrize("bandwidth", [0.03, 0.7, 30.0])
@pytest.mark.parametrize("shift", [0.0, 1e-6, 1e-3, 0.03, 0.3, 30.0])
def test_mmd_of_samples_near_and_far_keeps_its_precision(shift, bandwidth):
    x, _ = samples()
    y = x + shift * np.random.default_rng(1).normal(size=x.shape)
    # two of the three means nearly cancel: what is left of scikit-learn's own sums is good to about 1e-8
    assert coverage.mmd(x, y, bandwidth) == pytest.approx(mmd_by_sklearn(x, y, bandwidth), abs=1e-7)


@pytest.mark.parametrize("width", [1, 52, 200])
@pytest.mark.parametrize("kind", ["plain", "duplicates", "far frames", "two clusters"])
def test_mmd_is_good_to_a_millionth_whatever_its_precision(kind, width, monkeypatch):
    draw = np.random.default_rng(width)
    x, y = draw.normal(size=(700, width)), draw.normal(size=(900, width)) * 1.1
    if kind == "far frames":
        x[:70] = draw.normal(size=width) * 10
    elif kind != "plain":  # all pairs of the same two places are rounded alike: errors do not average out
        places = draw.normal(size=(5, width))
        if kind == "two clusters":
            places = 7.9 * places[:2] / np.linalg.norm(places[:2], axis=1, keepdims=True)
        x, y = places[draw.integers(len(places), size=700)], places[draw.integers(len(places), size=900)]
    for bandwidth in (0.03, 1.0, np.sqrt(width), 30.0):
        assert coverage.mmd(x, y, bandwidth) == pytest.approx(mmd_by_sklearn(x, y, bandwidth), abs=1e-6)
        monkeypatch.setattr(metrics, "NARROW", np.inf)  # also where float32 is not tried
        assert coverage.mmd(x, y, bandwidth) == pytest.approx(mmd_by_sklearn(x, y, bandwidth), abs=3e-6)
        monkeypatch.undo()
    with pytest.raises(RafError, match="bandwidth is 1e-08, the samples are"):
        coverage.mmd(x, y, 1e-8)


def test_mmd_uses_float32_where_it_can(monkeypatch):
    real, used = metrics.KernelRuler.squared, []
    monkeypatch.setattr(
        metrics.KernelRuler, "squared", lambda ruler, x: used.append((len(x), ruler.dtype)) or real(ruler, x)
    )
    x, y = samples(n=700, m=900)
    coverage.mmd(x, y)
    assert used == [(512, np.float32), (512, np.float64), (700, np.float32)]
    coverage.mmd(x, x)
    assert used[-1] == (700, np.float64)


@pytest.mark.parametrize("components", [1, 4, 8, 12])
def test_kl_equals_scipy(components):
    x, y = samples()
    assert coverage.kl(x, y, components) == pytest.approx(kl_by_scipy(x, y, components), abs=1e-8)


def test_kl_of_frames_that_vary_along_fewer_axes_is_an_error_whatever_the_rounding():
    rng = np.random.default_rng(0)
    for _ in range(20):
        target, own = rng.normal(size=(80, 5)), rng.normal(size=(60, 5))
        own[:, 2] = 0.3
        with pytest.raises(RafError, match="60 frames do not vary along 5 axes"):
            coverage.kl(own, target, 5)
        with pytest.raises(RafError, match="5 frames do not vary along 5 axes"):
            coverage.kl(own[:5], target, 5)


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


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e5, 1e30])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_nearest_row_is_found_in_any_unit(scale, offset):
    x, y = ((part + offset) * scale for part in samples())
    apart = cdist(y / scale, x / scale)
    distance, rows = coverage.nearest(y, x)
    np.testing.assert_allclose(distance / scale, apart.min(1), rtol=1e-6)
    np.testing.assert_array_equal(rows, apart.argmin(1))
    np.testing.assert_array_equal(coverage.nearest(y, y[:1])[1], 0)
    assert coverage.nearest_distance(y[:1], y[:1]) == 0


@pytest.mark.parametrize("metric", [coverage.mmd, coverage.kl, coverage.b2t])
def test_results_do_not_depend_on_blocks(metric, monkeypatch):
    x, y = samples(n=37, m=101)
    expected = metric(x, y)
    for block in (1, 7, 64, 4096):
        monkeypatch.setattr(pairs, "BLOCK", block)
        assert metric(x, y) == pytest.approx(expected, abs=1e-7 if metric is coverage.mmd else 1e-10)


def test_symmetry_and_zero():
    x, y = samples()
    assert coverage.mmd(x, y) == pytest.approx(coverage.mmd(y, x), abs=1e-7)
    assert coverage.mmd(x, x) < 1e-7 and coverage.mmd(x, x[::-1].copy()) < 1e-7
    assert coverage.kl(x, x) == pytest.approx(0, abs=1e-12)
    assert coverage.kl(x, x / 2, 2) > coverage.kl(x / 2, x, 2) + 0.5  # KL is not symmetric
    assert coverage.mmd(x + 5, y + 5) == pytest.approx(coverage.mmd(x, y), abs=1e-7)
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


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_median_distance_of_what_is_not_finite_is_an_error(bad):
    points = np.random.default_rng(0).normal(size=(20, 3))
    points[4, 1] = bad
    with pytest.raises(RafError, match="holds NaN or infinity"):
        coverage.median_distance(points)


@pytest.mark.parametrize("spread", [0.0025, 1e-6])
def test_median_distance_with_a_bracket_even_a_wrong_one(spread, monkeypatch):
    points = np.random.default_rng(0).normal(size=(700, 5))
    real, calls = pairs._bracket, []
    monkeypatch.setattr(pairs, "_bracket", lambda p: calls.append(p) or real(p, sample=20_000, spread=spread))
    assert coverage.median_distance(points) == pytest.approx(np.median(pdist(points)), rel=1e-10)
    assert calls


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_pca_is_the_singular_value_decomposition_with_signs_that_repeat(offset):
    _, y = samples()
    y = y + offset
    space, (_, singular, axes) = coverage.pca(y, 3), np.linalg.svd(y - y.mean(0), full_matrices=False)
    np.testing.assert_allclose(space.scale, singular[:3] / np.sqrt(len(y) - 1))
    np.testing.assert_allclose(np.abs(space.project(y)), np.abs((y - y.mean(0)) @ axes[:3].T), atol=1e-9)
    assert (space.axes[np.abs(space.axes).argmax(0), range(3)] > 0).all()
    with pytest.raises(RafError, match="3 points do not vary along 3 axes"):
        coverage.pca(y[:3], 3)


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
    """A subject with few expressions, a bank of people with many, and drivers like the bank's people."""
    draw = np.random.default_rng(0)
    own = draw.normal(scale=0.4, size=(120, 10)).astype(np.float32)
    rows = draw.normal(size=(900, 10)).astype(np.float32)
    bank = ExpressionBank(rows, np.repeat(["422", "B1", "B2"], 300), ["S"] * 900, np.arange(900), "arkit52")
    targets = {name: draw.normal(size=(150, 10)).astype(np.float32) for name in ("388", "E01")}
    return own, bank, targets


def test_table_is_the_three_metrics_of_the_two_sets(people):
    own, bank, targets = people
    own = np.concatenate([own, np.full((3, 10), np.nan, np.float32)])  # undetected frames are left out
    table = table_of(own, "422", targets, bank, n=60, repeats=1, seed=4)
    assert table.columns.tolist() == list(paper_table.COLUMNS)
    chosen = np.random.default_rng(4).permutation(120)[:60]
    kept = own[chosen[:30]]
    neighbours = bank.features[bank.search(kept, exclude="422")[1][:, 0]]
    target = np.concatenate(list(targets.values()))
    bandwidth = coverage.median_distance(target)
    for method, train in {"vanilla": own[chosen], "raf": np.concatenate([kept, neighbours])}.items():
        value = table[table.method == method].set_index("metric")["value"]
        assert value["mmd"] == pytest.approx(coverage.mmd(train, target, bandwidth), abs=1e-7)
        assert value["kl"] == pytest.approx(coverage.kl(train, target), abs=1e-9)
        assert value["b2t"] == pytest.approx(coverage.b2t(train, target), abs=1e-9)
    assert (table.n == 60).all() and (table.leaked == 0).all()


def test_sets_of_several_nearest_draw_evenly_among_them(people):
    own, bank, targets = people
    sets = coverage.training_sets(own, "422", targets, bank, n=100, repeats=40, top_k=3)
    rows = bank.search(own, k=3, exclude="422")[1]
    ranks = []
    for vanilla, raf in zip(sets.vanilla, sets.raf, strict=True):
        assert (raf[:50] == vanilla[:50]).all()
        for frame, row in zip(raf[:50], raf[50:], strict=True):
            (rank,) = np.flatnonzero((bank.features[rows[frame]] == sets.pool[row]).all(1))
            ranks.append(rank)
    assert (np.bincount(ranks) > 0.29 * len(ranks)).all() and len(np.bincount(ranks)) == 3


def test_table_shows_what_wider_people_add_and_how_sure_it_is(people):
    own, bank, targets = people
    rows = table_of(own, "422", targets, bank, n=80, repeats=10)
    value = rows.pivot(index="metric", columns="method", values="value")
    assert (value["raf"] < value["vanilla"]).all()
    assert (rows.low <= rows.value).all() and (rows.value <= rows.high).all() and (rows.low < rows.high).all()
    assert rows.equals(table_of(own, "422", targets, bank, n=80, repeats=10))
    full = table_of(own, "422", targets, bank, repeats=2)
    assert (full.n == 120).all()
    other = rows.assign(subject="443", value=rows.value + 1)
    wide = report.table1(pandas.concat([rows, other]))
    assert wide.loc["Average", ("mmd", "raf")] == pytest.approx(value.loc["mmd", "raf"] + 0.5)
    assert wide.columns.tolist()[0] == ("mmd", "vanilla")


def test_a_driver_in_the_bank_is_refused_unless_allowed(people):
    own, bank, targets = people
    leaking = {**targets, "B2": targets["E01"]}
    with pytest.raises(RafError, match="B2"):
        table_of(own, "422", leaking, bank, n=20, repeats=1)
    assert (table_of(own, "422", leaking, bank, n=20, repeats=1, allow_leak=True).leaked == 300).all()


def test_a_driver_or_the_subject_under_another_name_is_refused(people):
    own, bank, targets = people
    few = targets["E01"][:7].astype(np.float16).astype(np.float32)  # as a shipped bank holds them
    for vectors, words in ((few, "E01 under the name X01 .7 equal"), (own[:2], "422 under the name X01 .2 equal")):
        other = ExpressionBank(vectors, ["X01"] * len(vectors), ["FREE"] * len(vectors), range(len(vectors)), "arkit52")
        with pytest.raises(RafError, match=words):
            table_of(own, "422", targets, bank.merge(other), n=20, repeats=1)
        rows = table_of(own, "422", targets, bank.merge(other), n=20, repeats=1, allow_leak=True)
        assert (rows.leaked == len(vectors)).all()
    mine = ExpressionBank(own, ["422"] * 120, ["FREE"] * 120, range(120), "arkit52")  # never searched, so no leak
    with_own = bank.restrict(exclude="422").merge(mine)
    assert (table_of(own, "422", targets, with_own, n=20, repeats=1).leaked == 0).all()


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
        (lambda: table_of(own, "422", targets, bank, n=7), "n is 7"),
        (lambda: table_of(own, "422", targets, bank, n=500), "500"),
        (lambda: table_of(own, "422", targets, bank, feature_space="bfm64"), "bfm64"),
    ]:
        with pytest.raises(RafError, match=word) as error:
            call()
        assert "\n" not in str(error.value)


# --- closed forms ----------------------------------------------------------------------------------------------------


def test_mmd_of_gaussians_has_a_closed_form():
    """E k(a, b) of Gaussians under an RBF kernel: h^d |C|^(-1/2) exp(-δᵀ C⁻¹ δ / 2), C = S_a + S_b + h² I."""
    draw, bandwidth, width = np.random.default_rng(1), 1.3, 3
    means = [np.zeros(width), np.array([0.8, -0.3, 0.2])]
    covariances = [np.diag([1.0, 0.5, 0.2]), np.array([[0.7, 0.2, 0], [0.2, 0.9, 0], [0, 0, 0.4]])]

    def expected(i, j):
        total, offset = covariances[i] + covariances[j] + bandwidth**2 * np.eye(width), means[i] - means[j]
        scale = bandwidth**width / np.sqrt(np.linalg.det(total))
        return scale * np.exp(-0.5 * offset @ np.linalg.solve(total, offset))

    x, y = (draw.multivariate_normal(m, c, 4000) for m, c in zip(means, covariances, strict=True))
    true = np.sqrt(expected(0, 0) + expected(1, 1) - 2 * expected(0, 1))
    assert coverage.mmd(x, y, bandwidth) == pytest.approx(true, rel=0.05)
    assert abs(coverage.mmd(x * 0.9, y, bandwidth) / true - 1) > 0.05  # the tolerance would see a tenth of scale


@pytest.mark.parametrize("width", [1, 2])
def test_kl_of_gaussians_has_a_closed_form(width):
    """A KDE with the sample's covariance smooths N(m, S) to N(m, (1 + b²) S), integrated here over N(m, S).

    x is the narrower one: where a density estimate has few points its logarithm is too small.
    """
    draw, counts = np.random.default_rng(2), (6000, 5000)
    means, covariances = [np.zeros(2), np.array([0.5, 0.3])], [np.diag([0.3, 0.4]), np.array([[1.0, 0.3], [0.3, 0.8]])]
    means, covariances = [m[:width] for m in means], [c[:width, :width] for c in covariances]
    x, y = (draw.multivariate_normal(*args) for args in zip(means, covariances, counts, strict=True))
    wide = [1 + count ** (-2 / (width + 4)) for count in counts]
    inverse, offset = np.linalg.inv(covariances[1]), means[0] - means[1]
    cross = (np.trace(inverse @ covariances[0]) + offset @ inverse @ offset) / wide[1] + width * np.log(wide[1])
    own = width / wide[0] + width * np.log(wide[0])
    true = 0.5 * (np.log(np.linalg.det(covariances[1]) / np.linalg.det(covariances[0])) + cross - own)
    assert true > 0.3
    assert coverage.kl(x, y, width) == pytest.approx(true, abs=0.04)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_b2t_of_a_lattice(width):
    """Training on the corners of a lattice of spacing s: the middle of a cell is s √d / 2 away, an edge's s / 2."""
    spacing = 0.25
    lattice = spacing * np.stack(np.meshgrid(*[np.arange(5)] * width), -1).reshape(-1, width)
    middles = lattice[(lattice < 4 * spacing).all(1)] + spacing / 2
    assert coverage.b2t(lattice, middles) == pytest.approx(spacing * np.sqrt(width) / 2, abs=1e-12)
    along = lattice[(lattice[:, 0] < 4 * spacing)] + np.eye(width)[0] * 0.1
    assert coverage.b2t(lattice, along) == pytest.approx(0.1, abs=1e-12)


# --- intervals -------------------------------------------------------------------------------------------------------


def test_jackknife_of_a_mean_is_students_interval():
    values = np.random.default_rng(0).normal(size=(14, 2))
    without = (values.sum(0) - values) / 13
    for noise in (np.zeros(2), np.array([0.3, 0.0])):
        low, high = intervals.jackknife(values.mean(0), without, noise)
        error = np.sqrt(values.var(0, ddof=1) / 14 + noise**2)
        np.testing.assert_allclose(
            [low, high], values.mean(0) + np.outer([-1, 1], scipy.stats.t.ppf(0.975, 13) * error)
        )
    assert np.isnan(intervals.jackknife(values[0], values[:1], np.zeros(2))).all()


def drivers_of(seed, count=8, frames=12, width=9):
    draw = np.random.default_rng(seed)
    people = {}
    for d in range(count):
        people[f"E{d:02d}"] = draw.normal(scale=0.6, size=width) + draw.normal(scale=0.8, size=(frames, width))
    return people


@pytest.mark.slow
def test_intervals_cover_what_other_drivers_give_about_as_often_as_they_say():
    draw = np.random.default_rng(0)
    own = 0.7 + draw.normal(scale=0.5, size=(40, 9))
    bank = ExpressionBank(draw.normal(size=(300, 9)), ["B1"] * 300, ["S"] * 300, np.arange(300), "s")
    rows = pandas.concat(
        table_of(own, "422", drivers_of([1, s]), bank, repeats=4, seed=s).assign(world=s) for s in range(80)
    )
    for method, value, low, high in (
        ("vanilla", "value", "low", "high"),
        ("raf", "value", "low", "high"),
        ("raf", "change", "change_low", "change_high"),
    ):
        part = rows[rows.method == method]
        true = part.groupby("metric")[value].transform("mean")
        covered = ((part[low] <= true) & (true <= part[high])).groupby(part.metric).mean()
        assert (covered >= 0.88).all(), (method, value, covered)
        width = (part[high] - part[low]).groupby(part.metric).mean() / part.groupby("metric")[value].std()
        assert (width[["mmd", "b2t"]] < 2 * 3.2).all(), width  # t of 7 degrees of freedom is 2.4: no blanket


def test_a_change_is_surer_than_two_values_and_one_driver_has_no_interval(people):
    own, bank, _ = people
    targets = drivers_of(3, width=10)
    rows = table_of(own, "422", targets, bank, repeats=8)
    raf, vanilla = (rows[rows.method == method].set_index("metric") for method in ("raf", "vanilla"))
    np.testing.assert_allclose(raf.change, raf.value / vanilla.value - 1)
    assert vanilla.change.isna().all() and vanilla.change_draws_low.isna().all()
    assert (vanilla.draws_high - vanilla.draws_low < 1e-12).all()  # all frames are in every draw
    assert (raf.draws_low < raf.value).all() and (raf.value < raf.draws_high).all()
    np.testing.assert_allclose(raf.change_draws_low, raf.draws_low / vanilla.value - 1)
    np.testing.assert_allclose(raf.change_draws_high, raf.draws_high / vanilla.value - 1)
    sure = (raf.change_high - raf.change_low) * vanilla.value
    assert (sure[["mmd", "b2t"]] < 0.5 * (raf.high - raf.low)[["mmd", "b2t"]]).all()
    alone = table_of(own, "422", np.concatenate(list(targets.values())), bank, repeats=8)
    np.testing.assert_allclose(alone.value, rows.value)
    assert alone[["low", "high", "change_low", "change_high"]].isna().all(axis=None)
    assert alone.change.notna().sum() == 3


@pytest.mark.parametrize(("frames", "unknown"), [(4, {"kl"}), (1, {"kl", "mmd"})])
def test_a_measure_that_needs_every_driver_keeps_its_value_and_has_no_interval(people, frames, unknown):
    own, bank, _ = people
    first, second, *_ = drivers_of(3, width=10).values()
    few = {"E00": first, "E01": second[:frames]}
    rows = table_of(own, "422", few, bank, repeats=4)
    pooled = table_of(own, "422", np.concatenate(list(few.values())), bank, repeats=4)
    np.testing.assert_array_equal(rows.value, pooled.value)
    np.testing.assert_array_equal(rows.change, pooled.change)
    raf = rows[rows.method == "raf"]
    for part, ends in ((rows, ["low", "high"]), (raf, ["change_low", "change_high"])):
        lost = part[ends].isna()
        assert (lost.all(axis=1) == lost.any(axis=1)).all() and set(part.metric[lost.all(axis=1)]) == unknown
    assert report.table1_text(report.table1(rows)).count("[") == 6 - len(unknown)
    with pytest.raises(RafError, match="the 7 points do not vary along 8 axes"):
        table_of(own, "422", {"E00": first[:3], "E01": second[:4]}, bank, repeats=4)


def test_table1_has_the_average_the_changes_and_the_papers(people):
    own, bank, targets = people
    rows = table_of(own, "422", targets, bank, repeats=3)
    other = rows.assign(subject="443", value=rows.value * np.where(rows.method == "raf", 0.8, 1.1))
    wide = report.table1(pandas.concat([rows, other]))
    assert wide.index.tolist() == ["422", "443", "Average", report.PAPER_ROW]
    for metric, change in (("mmd", -0.25), ("kl", -0.39), ("b2t", -0.41)):
        average = wide[metric].loc["Average"]
        assert average["change"] == pytest.approx(average["raf"] / average["vanilla"] - 1)
        assert average["low"] < average["change"] < average["high"]
        assert wide.loc[report.PAPER_ROW, (metric, "change")] == pytest.approx(change, abs=0.005)
        assert wide.loc["422", (metric, "low")] == rows.query("method == 'raf' and metric == @metric").change_low.item()
    text = report.table1_text(wide)
    assert all(len(line) <= 100 for line in text.splitlines())
    assert text.count("the paper's ") == 3 and text.count("Average") == 3 and "−24.6" in text and "-" not in text
    assert "Average" not in report.table1_text(report.table1(rows)).split("intervals")[0]
    with pytest.raises(RafError, match="once for vanilla and for raf"):
        report.table1(pandas.concat([rows, rows]))
    with pytest.raises(RafError, match="once for vanilla and for raf"):
        report.table1(rows[rows.method == "raf"])


# --- further measures ------------------------------------------------------------------------------------------------


def test_effective_rank_counts_directions():
    draw = np.random.default_rng(0)
    sphere = draw.normal(size=(20_000, 5))
    assert coverage.effective_rank(sphere) == pytest.approx(5, abs=0.01)
    assert coverage.effective_rank(sphere * [1, 1, 0, 0, 0]) == pytest.approx(2, abs=0.01)
    assert coverage.effective_rank(np.linspace(0, 1, 30)[:, None] * np.ones(4)) == pytest.approx(1, abs=1e-6)
    turn, _ = np.linalg.qr(draw.normal(size=(5, 5)))
    scaled = sphere * [3, 2, 1, 0.5, 0.1]
    assert coverage.effective_rank(3 * scaled @ turn + 7) == pytest.approx(coverage.effective_rank(scaled))
    shares = np.linalg.svd(scaled - scaled.mean(0), compute_uv=False) ** 2
    shares /= shares.sum()
    assert coverage.effective_rank(scaled) == pytest.approx(np.exp(scipy.stats.entropy(shares)))
    for points in (np.ones((4, 3)), np.ones((1, 3))):
        with pytest.raises(RafError, match="do not vary"):
            coverage.effective_rank(points)


def precision_recall_by_brute_force(x, y, k):
    radius_x = np.sort(cdist(x, x) + np.diag(np.full(len(x), np.inf)), 1)[:, k - 1]
    radius_y = np.sort(cdist(y, y) + np.diag(np.full(len(y), np.inf)), 1)[:, k - 1]
    between = cdist(x, y)
    return (between <= radius_y).any(1).mean(), (between <= radius_x[:, None]).any(0).mean()


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("block", [16, 384])
def test_precision_and_recall_equal_brute_force(k, block, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", block)
    x, y = samples(n=150, m=310, width=4)
    result = coverage.precision_recall(x, y, k)
    assert result == pytest.approx(precision_recall_by_brute_force(x, y, k), abs=1e-12)
    assert 0.05 < result.recall < 0.99 and 0.05 < result.precision < 0.99
    swapped = coverage.precision_recall(y, x, k)
    assert (swapped.precision, swapped.recall) == (result.recall, result.precision)


def test_precision_and_recall_with_frames_in_common_and_far_away():
    x, y = samples(n=120, m=200, width=5)
    both = np.concatenate([x, y[:60], y[:20]])  # shared and repeated frames: distances of exactly a radius, and of 0
    assert coverage.precision_recall(both, y) == pytest.approx(precision_recall_by_brute_force(both, y, 3), abs=1e-12)
    assert coverage.precision_recall(x, x) == (1, 1)
    assert coverage.precision_recall(x, y + 100) == (0, 0)
    narrow = coverage.precision_recall(y * 0.3, y)
    assert narrow.precision > 0.9 and narrow.recall < 0.4
    offset = coverage.precision_recall(x + 1e4, y + 1e4)  # far from the origin
    assert offset == pytest.approx(coverage.precision_recall(x, y), abs=1e-12)
    for k in (0, 120):
        with pytest.raises(RafError, match=f"k is {k}"):
            coverage.precision_recall(x, y, k)


def test_further_measures_are_those_of_the_same_sets(people):
    own, bank, targets = people
    sets = coverage.training_sets(own, "422", targets, bank, n=60, repeats=2, seed=4)
    assert sets.n == 60 and len(sets.raf) == 2
    rows, target = coverage.further(sets).set_index("method"), np.concatenate(list(targets.values()))
    for method, draws in (("vanilla", sets.vanilla), ("raf", sets.raf)):
        values = [(coverage.effective_rank(x), *coverage.precision_recall(x, target)) for x in sets.pool[draws]]
        assert rows.loc[method, ["effective_rank", "precision", "recall"]].tolist() == pytest.approx(np.mean(values, 0))
    assert rows.loc["drivers", "effective_rank"] == pytest.approx(coverage.effective_rank(target))
    assert rows.loc["raf", "effective_rank"] > 1 and rows.loc["raf", "recall"] > rows.loc["vanilla", "recall"]


def test_dimensions_that_lie_outside_are_named():
    draw = np.random.default_rng(0)
    train, target = draw.uniform(size=(200, 3)), draw.uniform(size=(100, 3))
    target[:25, 1] = 1.5
    rows = coverage.by_dimension(train, target, ["jawOpen", "mouthLeft", "browDown"])
    first = rows.iloc[0]
    assert (first["name"], first["dimension"]) == ("mouthLeft", 1)
    assert first["outside"] == 0.25
    below = train.min(0) - [0.01, 0.05, 0.0]
    few = coverage.by_dimension(train, np.stack([train[0], below])).set_index("dimension")["outside"]
    assert few[[0, 1, 2]].tolist() == [0, 0.5, 0]  # a hundredth of the range is within the margin
    highest = train[:, 1].max()
    assert coverage.by_dimension(train, target[:25]).set_index("name").loc["1", "excess"] == pytest.approx(
        1.5 - highest
    )
    assert rows["share"].sum() == pytest.approx(1) and first["share"] > 0.8
    nearest = train[cdist(target, train).argmin(1)]
    squares = ((target - nearest) ** 2).mean(0)
    np.testing.assert_allclose(rows.sort_values("dimension")["share"], squares / squares.sum())
    inside = coverage.by_dimension(train, train)
    assert (inside[["outside", "excess", "share"]] == 0).all(axis=None)
    with pytest.raises(RafError, match="2 names for 3"):
        coverage.by_dimension(train, target, ["a", "b"])


def test_how_far_a_clip_is_and_when():
    draw = np.random.default_rng(0)
    train = np.cumsum(draw.normal(scale=0.1, size=(300, 5)), 0)
    clip = train[40:100] + draw.normal(scale=0.05, size=(60, 5))
    clip[20:24] += [[3.0], [4.0], [3.5], [2.0]]
    clip[50] += 1.5
    clip[7] = np.nan
    found = coverage.clip_distance(train, clip, worst=2, apart=5)
    table = cdist(np.delete(clip, 7, 0), train)
    np.testing.assert_allclose(np.delete(found.distance, 7), table.min(1))
    np.testing.assert_array_equal(np.delete(found.nearest, 7), table.argmin(1))
    assert np.isnan(found.distance[7]) and found.nearest[7] == -1
    assert found.worst.tolist() == [21, 50]  # 20, 22 and 23 are neighbours of 21
    assert found.mean == pytest.approx(coverage.b2t(train, np.delete(clip, 7, 0)))
    stretches = np.repeat(np.arange(10), 30).astype(str)
    assert found.yardstick == pytest.approx(np.quantile(coverage.spacing(train, stretches), 0.95))
    assert found.beyond == pytest.approx((table.min(1) > found.yardstick).mean())
    named = coverage.clip_distance(train, clip, sequence=np.repeat(["a", "b"], 150))
    assert named.beyond == pytest.approx(coverage.beyond(train, np.delete(clip, 7, 0), np.repeat(["a", "b"], 150)))
    assert "59 of 60 frames" in str(found) and "21, 50" in str(found)
    assert len(coverage.clip_distance(train, clip[:3]).worst) == 1
    for call, word in [
        (lambda: coverage.clip_distance(train, np.full((4, 5), np.nan)), "none of the 4 frames"),
        (lambda: coverage.clip_distance(train, clip, worst=0), "worst 0"),
        (lambda: coverage.clip_distance(train[:1], clip), "one sequence"),
        (lambda: coverage.clip_distance(train, clip, ["a", "b"]), "2 sequence names"),
    ]:
        with pytest.raises(RafError, match=word):
            call()


MEMORY = """
import resource
import os
import subprocess
import sys

import numpy as np
from raflib import coverage
draw = np.random.default_rng(0)
x, y = draw.normal(size=(4_000, 52)), draw.normal(size=(16_000, 52))
for metric in (coverage.mmd, coverage.kl, coverage.b2t, coverage.precision_recall):
    metric(x[:500], y[:600])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for metric in (coverage.mmd, coverage.kl, coverage.b2t, coverage.precision_recall):
    metric(x, y)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in kilobytes on Linux only")
def test_memory_does_not_grow_with_the_pairs():
    """A table of 16,000 × 16,000 would take 1.9 GiB; `benchmarks/coverage.py --large` does 20,000 × 100,000."""
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    environment = {**os.environ, **threads}
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, env=environment)
    assert float(run.stdout) < 0.25, f"{run.stdout} GiB"
