"""What samplers feed: equal sizes, the same numbers as coverage gives, and poses that are known."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import ball_capture

from raflib import coverage
from raflib.bank import ExpressionBank
from raflib.capture import shown
from raflib.coverage.pose import centred, pose_correlation, pose_r2
from raflib.errors import RafError
from raflib.sampler import RAF, SAMPLERS, Vanilla, sampler_from_name
from raflib.sampler.compare import MEASURES, compare_samplers, given_vectors


@pytest.fixture(scope="module")
def capture():
    made = ball_capture(frames=60)
    return replace(made, sequence=np.where(made.sequence == "FREE", "FREE", np.arange(len(made)) // 20).astype(str))


@pytest.fixture(scope="module")
def bank():
    draw = np.random.default_rng(5)
    names = np.repeat([f"B{number}" for number in range(6)], 40)
    features = draw.normal(0, 0.1, (240, 52))
    features[:, 0] = draw.uniform(0, 1, 240)
    columns = features, names, ["EXP-1-head"] * 240, np.arange(240), "arkit52"
    return ExpressionBank(*columns, rotation=draw.normal(0, 0.2, (240, 3)))


@pytest.fixture(scope="module")
def targets():
    draw = np.random.default_rng(6)
    return {name: draw.normal(0.1, 0.2, (40, 52)).astype(np.float32) for name in ("E01", "E02")}


def test_every_sampler_gets_a_row_a_measure(capture, bank, targets):
    bank = bank.with_space("true52", bank.features)
    capture = replace(capture, spaces={"true52": capture.expression})
    samplers = {name: sampler_from_name(name, bank) for name in SAMPLERS}
    rows = compare_samplers(samplers, capture, targets, repeats=2, progress=False)
    assert len(rows) == len(SAMPLERS) * len(MEASURES) and set(rows.n) == {60} and set(rows.subject) == {"900"}
    wide = rows.pivot(index="method", columns="metric", values="value")
    own, pooled = capture.expression[capture.train], np.concatenate(list(targets.values()))
    vanilla = wide.loc["vanilla"]
    bandwidth = coverage.median_distance(pooled)
    assert vanilla["mmd"] == pytest.approx(coverage.mmd(own, pooled, bandwidth))
    assert vanilla["kl"] == pytest.approx(coverage.kl(own, pooled))
    assert vanilla["b2t"] == pytest.approx(coverage.b2t(own, pooled))
    expected = pose_r2(own, capture.pose[capture.train, :3], capture.sequence[capture.train])["all"]
    assert vanilla["pose_r2"] == pytest.approx(expected)
    assert vanilla["expected_p"] == 0 and np.isnan(vanilla["displacement"]) and np.isnan(vanilla["people"])
    condition = RAF(bank).bind(own, "900")
    turned = centred(bank.rotation, bank.subjects)[condition.neighbours[:, 0]]
    assert wide.loc["raf", "pose_r"] == pytest.approx(pose_correlation(capture.pose[capture.train, :3], turned)["all"])
    assert wide.loc["raf", "displacement"] == pytest.approx(condition.distances.mean(), rel=0.1)
    assert wide.loc["noise_matched", "displacement"] == pytest.approx(condition.distances.mean(), rel=0.15)
    assert wide.loc["raf_interpolated", "displacement"] < 0.7 * wide.loc["raf", "displacement"]
    assert wide.loc["raf_random", "displacement"] > wide.loc["raf", "displacement"]
    assert wide.loc["raf_random", "people"] == 6 and wide.loc["raf", "expected_p"] == 0.5
    assert np.isnan(wide.loc["noise_matched", "pose_r"])
    spread = rows[(rows.method == "raf") & (rows.metric == "b2t")].iloc[0]
    assert spread.low <= spread.value <= spread.high and spread.low < spread.high


def test_undetected_frames_of_a_driver_are_left_out(capture, bank, targets):
    lost = {name: np.concatenate([vectors, np.full((3, 52), np.nan, np.float32)]) for name, vectors in targets.items()}
    first, second = (
        compare_samplers({"raf": RAF(bank)}, capture, given, repeats=1, progress=False) for given in (targets, lost)
    )
    assert first.equals(second)
    lost["E01"][0, 3] = np.nan
    with pytest.raises(RafError, match="NaN"):
        compare_samplers({"raf": RAF(bank)}, capture, lost, repeats=1, progress=False)


def test_one_draw_is_repeated_by_its_seed(capture, bank):
    condition = RAF(bank, p=0.5).bind(shown(capture), "900")
    frames = np.flatnonzero(capture.train)
    np.testing.assert_array_equal(given_vectors(condition, frames, 3), given_vectors(condition, frames, 3))
    assert (given_vectors(condition, frames, 3) != given_vectors(condition, frames, 4)).any()
    assert np.isnan(shown(capture)[capture.free]).all()


def test_held_out_frames_change_nothing(capture, bank, targets):
    samplers = {name: sampler_from_name(name, bank) for name in ("raf_relative", "raf_adaptive", "raf_pose")}
    other = capture.expression.copy()
    other[capture.free] = 9
    pose = capture.pose.copy()
    pose[capture.free] = 3
    first, second = (
        compare_samplers(samplers, one, targets, repeats=1, progress=False)
        for one in (capture, replace(capture, expression=other, pose=pose))
    )
    assert first.equals(second)


def test_leaks_and_empty_comparisons_are_refused(capture, bank, targets):
    leaking = {**targets, "B3": targets["E01"]}
    with pytest.raises(RafError, match="compare_samplers: the bank holds frames of B3"):
        compare_samplers({"raf": RAF(bank)}, capture, leaking, progress=False)
    assert len(compare_samplers({"raf": RAF(bank)}, capture, leaking, 1, allow_leak=True, progress=False))
    with pytest.raises(RafError, match="repeats is 0"):
        compare_samplers({"vanilla": Vanilla()}, capture, targets, repeats=0)
