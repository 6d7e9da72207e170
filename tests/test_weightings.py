"""Weightings of a feature space: each neighbour is the nearest by the formula, found by brute force in float64."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import ball_capture

from raflib.bank import ExpressionBank
from raflib.capture import HELD_OUT
from raflib.coverage.weightings import (
    WEIGHTINGS,
    AsIs,
    ByMotion,
    First,
    Frames,
    LessPersonMean,
    PerDeviation,
    Weighting,
    WithoutPose,
)
from raflib.errors import RafError
from raflib.sampler import RAF

WIDTH, PEOPLE, ROWS = 6, 5, 30
BASIS = np.random.default_rng(9).normal(0, [[[0.1]], [[2]], [[1]], [[0.5]], [[3]], [[0.2]]], (WIDTH, 8, 3))


@pytest.fixture(scope="module")
def bank():
    """Columns of different spread, a constant one, a bias for each person and a part that follows the head."""
    draw = np.random.default_rng(0)
    names = draw.permutation(np.repeat([f"B{number}" for number in range(PEOPLE)], ROWS))
    bias = dict(zip(np.unique(names), draw.normal(0, 1, (PEOPLE, WIDTH)), strict=True))
    turn = draw.normal(0, 0.3, (len(names), 3))
    features = draw.normal(0, [0.2, 1, 3, 0.5, 1, 1], (len(names), WIDTH)) + turn @ draw.normal(0, 2, (3, WIDTH))
    features = (features + np.stack([bias[name] for name in names])) * [1, 1, 1, 0, 1, 1]
    spaces = {"open42": draw.normal(0, 1, (len(names), 3))}
    return ExpressionBank(
        features, names, ["S"] * len(names), np.arange(len(names)), "arkit52", rotation=turn, spaces=spaces
    )


@pytest.fixture(scope="module")
def capture():
    """A person who is not in the bank, with a bias and another zero of the head's rotation; frame 4 shows no face."""
    made = ball_capture("422", frames=24, expression_dim=WIDTH)
    draw = np.random.default_rng(1)
    expression = draw.normal([1, 2, 0, 0, -1, 1], 1, (len(made), WIDTH)).astype(np.float32)
    pose = np.hstack([draw.normal([0.5, -0.2, 0.1], 0.3, (len(made), 3)), np.zeros((len(made), 3))]).astype(np.float32)
    detected = np.arange(len(made)) != 4
    expression[4] = np.nan
    return replace(made, expression=expression, pose=pose, detected=detected)


def own_mean(values, names):
    """For each row the mean of its person's rows, in float64."""
    return np.stack([values[names == name].astype(np.float64).mean(0) for name in names])


def expected_maps(bank, capture, label):
    """(bank's features, capture's features) mapped by the formula, in float64."""
    x, y = bank.features.astype(np.float64), capture.expression.astype(np.float64)
    seen, names = capture.train, bank.subjects
    turn, turned = bank.rotation.astype(np.float64), capture.pose[:, :3].astype(np.float64)
    if label == "as_is":
        return x, y
    if label == "per_deviation":
        deviation = [np.sqrt(((column - column.mean()) ** 2).mean()) for column in x.T]
        scale = np.array([1 / s if s > 0 else 0 for s in deviation])
        return x * scale, y * scale
    if label == "by_motion":
        motion = np.array([np.mean([np.sqrt((mark**2).sum()) for mark in column]) for column in BASIS])
        return x * motion, y * motion
    if label == "first2":
        return x[:, :2], y[:, :2]
    if label == "without_pose":
        inside = turn - own_mean(bank.rotation, names)
        slope = np.linalg.pinv(inside) @ (x - own_mean(bank.features, names))
        return x - inside @ slope, y - (turned - turned[seen].mean(0)) @ slope
    return x - own_mean(bank.features, names), y - y[seen].mean(0)


KNOWN = (AsIs(), PerDeviation(), ByMotion(BASIS), First(2), WithoutPose(), LessPersonMean())


@pytest.mark.parametrize("weighting", KNOWN, ids=lambda weighting: weighting.label)
def test_the_neighbour_is_the_nearest_by_the_formula(bank, capture, weighting):
    fitted = weighting.fit(bank)
    assert fitted.space == f"arkit52/{weighting.label}"
    there, here = fitted.of_bank(bank), fitted.of_capture(capture)
    x, y = expected_maps(bank, capture, weighting.label)
    seen = np.flatnonzero(capture.detected)
    np.testing.assert_allclose(there.spaces[fitted.space], x, atol=1e-5)
    np.testing.assert_allclose(here.spaces[fitted.space][seen], y[seen], atol=1e-5)
    assert np.isnan(here.spaces[fitted.space][4]).all()
    assert there.checksum != bank.checksum and there.features is not there.spaces[fitted.space]
    condition = RAF(there, search=fitted.space).bind(here.expression, "422", spaces=here.spaces)
    apart = np.linalg.norm(y[seen, None] - x, axis=2)
    np.testing.assert_array_equal(condition.neighbours[seen, 0], apart.argmin(1))
    plain = np.linalg.norm(capture.expression[seen, None].astype(np.float64) - bank.features, axis=2).argmin(1)
    assert (plain == apart.argmin(1)).all() == (weighting.label == "as_is")


def test_all_are_listed_with_a_formula():
    assert {cls.name: cls for cls in map(type, KNOWN)} == WEIGHTINGS
    assert all("x" in cls.__doc__ for cls in WEIGHTINGS.values())
    with pytest.raises(RafError, match=r"the name 'as_is' is AsIs's"):
        type("Another", (Weighting,), {"name": "as_is"})


def test_a_further_space_is_weighted_as_the_first(bank, capture):
    fitted = PerDeviation().fit(bank.in_space("open42"))
    there = fitted.of_bank(bank)
    assert there.feature_space == "arkit52" and list(there.spaces) == ["open42", "open42/per_deviation"]
    expected = bank.spaces["open42"] / bank.spaces["open42"].astype(np.float64).std(0)
    np.testing.assert_allclose(there.spaces["open42/per_deviation"], expected, rtol=1e-5)
    with pytest.raises(RafError, match="capture 422 has arkit52 features, the weighting is of open42"):
        fitted.of_capture(capture)
    values = np.ones((len(capture), 3), np.float32)
    values[7] = np.nan  # not known in this space
    found = fitted.of_capture(replace(capture, spaces={"open42": values})).spaces["open42/per_deviation"]
    assert np.flatnonzero(np.isnan(found).any(1)).tolist() == [4, 7]


def test_held_out_frames_change_no_mean(bank, capture):
    moved = capture.expression.copy()
    moved[capture.free] += 5
    for weighting in KNOWN:
        fitted = weighting.fit(bank)
        one, two = (fitted.of_capture(known) for known in (capture, replace(capture, expression=moved)))
        train = capture.train
        np.testing.assert_array_equal(one.spaces[fitted.space][train], two.spaces[fitted.space][train])


def test_a_mean_needs_a_frame_to_take_it_of(bank, capture):
    held_out = replace(capture, sequence=np.full(len(capture), HELD_OUT))
    given, nobody = Frames(bank.features, bank.rotation), Frames(bank.features[:0], bank.rotation[:0])
    for weighting in (WithoutPose(), LessPersonMean()):
        fitted = weighting.fit(bank)
        with pytest.raises(RafError, match=f"capture 422 has no training frame with arkit52.*{weighting.label} takes"):
            fitted.of_capture(held_out)
        with pytest.raises(RafError, match=f"arkit52/{weighting.label}: no frame of the person is given"):
            fitted(given, nobody)
    found = AsIs().fit(bank).of_capture(held_out).spaces["arkit52/as_is"]  # it needs no mean
    np.testing.assert_array_equal(found, capture.expression)


def test_what_does_not_fit_is_refused(bank, capture):
    frames = Frames(bank.features)
    narrow = Frames(bank.features[:, :2])
    for call, words in [
        (lambda: First(0).fit(bank), "first: k is 0, expected a whole number"),
        (lambda: First(7).fit(bank), "first: k is 7, expected a whole number from 1 to 6"),
        (lambda: WithoutPose().fit(replace(bank, rotation=None)), "does not hold head rotations"),
        (lambda: WithoutPose().fit(bank)(frames, frames), "the frames do not have head rotations"),
        (lambda: AsIs().fit(bank)(narrow, narrow), "arkit52/as_is: features have width 2, .* width 6"),
        (lambda: AsIs().fit(bank.in_space("open42")).of_bank(replace(bank, spaces=None)), "not 'open42'"),
        (lambda: ByMotion(BASIS[:5]).fit(bank), r"basis of shape \(5, 8, 3\), expected finite \[6, L, 3\]"),
    ]:
        with pytest.raises(RafError, match=words):
            call()
