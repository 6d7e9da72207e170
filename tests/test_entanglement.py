"""Head pose in expression features: closed forms on features made of expression plus a known part of the pose."""

import jaxtyping
import numpy as np
import pytest

from raflib.coverage.pose import centred, pose_correlation, pose_r2, pose_slope, without_pose
from raflib.errors import RafError

PEOPLE, FRAMES, WIDTH = 12, 60, 8


@pytest.fixture(scope="module")
def crowd():
    """Features that are a person's bias, an expression of their own and slope · rotation; rotations with own zeros."""
    draw = np.random.default_rng(0)
    people = np.repeat([f"B{number:03d}" for number in range(PEOPLE)], FRAMES)
    turn = draw.normal(0, 0.2, (len(people), 3))
    slope = draw.normal(0, 1, (3, WIDTH))
    expression = draw.normal(0, 0.1, (len(people), WIDTH))
    bias = np.repeat(draw.normal(0, 1, (PEOPLE, WIDTH)), FRAMES, 0)
    zero = np.repeat(draw.normal(0, 1, (PEOPLE, 3)), FRAMES, 0)
    return people, turn + zero, bias + expression + turn @ slope, slope


def test_centred_takes_each_persons_mean():
    values = centred(np.array([[1.0], [5.0], [3.0], [7.0]]), ["b", "a", "b", "a"])
    np.testing.assert_array_equal(values, [[-1], [-1], [1], [1]])
    with pytest.raises(RafError, match="one row a name"):
        centred(np.array([[1.0], [2.0]]), ["a"])


def test_the_slope_is_recovered_and_taken_out(crowd):
    people, rotation, features, slope = crowd
    found = pose_slope(features, rotation, people)
    np.testing.assert_allclose(found, slope, atol=0.08)
    left = without_pose(features, rotation, people, found)
    np.testing.assert_allclose(centred(rotation, people).T @ centred(left, people), 0, atol=1e-9)  # nothing linear left
    for name in np.unique(people):  # a person's mean does not depend on the pose
        np.testing.assert_allclose(left[people == name].mean(0), features[people == name].mean(0), atol=1e-12)
    still = np.zeros_like(rotation)
    np.testing.assert_array_equal(pose_slope(features, still, people), 0)


def test_pose_r2_tells_signal_from_none(crowd):
    people, rotation, features, slope = crowd
    inside, turned = centred(features, people), centred(rotation, people)
    before = pose_r2(inside, turned, people)
    left = without_pose(features, rotation, people, pose_slope(features, rotation, people))
    after = pose_r2(centred(left, people), turned, people)
    assert before["all"] > 0.8 and after["all"] < 0.02
    assert set(before) == {"pitch", "yaw", "roll", "all"}
    exact = pose_r2(turned @ slope, turned, people)
    assert exact["all"] > 0.999 and max(exact.values()) <= 1
    assert pose_r2(inside, turned, people) == before  # the same folds every time


def test_pose_r2_keeps_groups_whole():
    """Features name their group, and poses are constant in it, so only leaking folds predict them."""
    draw = np.random.default_rng(1)
    groups = np.repeat([f"EXP-{number}" for number in range(10)], 30)
    features = np.repeat(draw.normal(size=(10, 40)), 30, 0) + 1e-3 * draw.normal(size=(300, 40))
    rotation = np.repeat(draw.normal(size=(10, 3)), 30, 0)
    assert pose_r2(features, rotation, groups)["all"] < 0.2
    assert pose_r2(features, rotation, np.arange(300).astype(str))["all"] > 0.9


def test_pose_correlation_is_pearsons():
    draw = np.random.default_rng(2)
    first = draw.normal(size=(500, 3))
    second = first * [1, -2, 0] + draw.normal(size=(500, 3)) * [0, 0, 1]
    found = pose_correlation(first, second)
    assert found["pitch"] == pytest.approx(1) and found["yaw"] == pytest.approx(-1)
    assert found["roll"] == pytest.approx(np.corrcoef(first[:, 2], second[:, 2])[0, 1])
    assert found["all"] == pytest.approx(np.mean([found[axis] for axis in ("pitch", "yaw", "roll")]))
    assert np.isnan(pose_correlation(first, np.zeros((500, 3)))["yaw"])


def test_what_cannot_be_measured_is_refused(crowd, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no checked annotations
    people, rotation, features, _ = crowd
    broken = rotation.copy()
    broken[3, 1] = np.nan
    for call, message in [
        (lambda: pose_slope(features, rotation[:, :2], people), r"\[N, 3\]"),
        (lambda: pose_slope(features, broken, people), "NaN"),
        (lambda: pose_r2(features, rotation, ["one"] * len(features)), "at least 2"),
        (lambda: pose_r2(features, rotation * [1, 1, 0], people), "every axis"),
        (lambda: pose_correlation(rotation, rotation[:-1]), "expected"),
    ]:
        with pytest.raises(RafError, match=message):
            call()
