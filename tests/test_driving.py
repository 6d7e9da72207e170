"""Driving maps: closed forms on small clouds."""

from dataclasses import dataclass

import jaxtyping
import numpy as np
import pytest

from raflib.coverage.identity import REST, neutral
from raflib.driving import DRIVES, DrivingMap, Projected, drive_from_name
from raflib.errors import RafError

WIDTH = 6


@pytest.fixture
def own():
    """Training features in a plane through (1, ..., 1), 400 frames."""
    draw = np.random.default_rng(0)
    axes = np.linalg.qr(draw.normal(size=(WIDTH, 2)))[0]
    return (1 + (draw.uniform(-1, 1, (400, 2)) * [3, 1]) @ axes.T).astype(np.float32)


@pytest.fixture
def clip(own):
    return own[:50] + np.float32(0.5) + np.random.default_rng(1).normal(0, 0.1, (50, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("drive", DRIVES)
def test_what_comes_out_has_the_form_of_what_went_in(own, clip, drive):
    given = drive_from_name(drive)(clip[:7], clip, own)
    assert given.shape == (7, WIDTH) and given.dtype == np.float32
    one = drive_from_name(drive)(clip[3:4], clip, own)
    np.testing.assert_allclose(one[0], given[3], atol=1e-6)  # the result of a frame does not depend on the other frames
    assert drive_from_name(drive).describe()["drive"] == drive


def test_direct_changes_nothing(own, clip):
    np.testing.assert_array_equal(drive_from_name("direct")(clip, clip, own), clip)


def test_relative_moves_rest_onto_rest(own, clip):
    given = drive_from_name("relative")(clip[:9], clip, own)
    np.testing.assert_allclose(given, clip[:9] - neutral(clip, REST) + neutral(own, REST), atol=1e-6)
    bias = np.float32(0.2) * np.sign(clip.mean(0))
    np.testing.assert_allclose(drive_from_name("relative")(own, own, own), own, atol=1e-6)
    still = np.zeros_like(clip) + bias
    np.testing.assert_allclose(
        drive_from_name("relative")(still, still, own), np.tile(neutral(own, REST), (50, 1)), atol=1e-6
    )


def test_centred_goes_a_share_of_the_way_to_the_subjects_mean(own, clip):
    given = drive_from_name("centred")(clip, clip, own)
    np.testing.assert_allclose(given.mean(0), 0.6 * clip.mean(0) + 0.4 * own.mean(0), atol=1e-6)
    np.testing.assert_allclose(given - given.mean(0), clip - clip.mean(0), atol=1e-6)  # motion stays as it is
    np.testing.assert_array_equal(drive_from_name("centred", share=0.0)(clip, clip, own), clip)
    np.testing.assert_allclose(drive_from_name("centred", share=1.0)(clip, clip, own).mean(0), own.mean(0), atol=1e-6)


def test_projected_stays_in_the_plane_and_in_range(own, clip):
    given = drive_from_name("projected")(own, clip, own)
    np.testing.assert_allclose(given, own, atol=1e-5)  # the plane holds all the variance
    far = own.mean(0) + 100 * (own[:5] - own.mean(0)) + 0.3
    given = drive_from_name("projected")(far, clip, own).astype(np.float64)
    _, s, axes = np.linalg.svd(own - own.mean(0), full_matrices=False)
    assert s[2] < 1e-4 * s[1]
    off = (given - own.mean(0)) @ axes[2:].T
    np.testing.assert_allclose(off, 0, atol=1e-4)
    inside = (own - own.mean(0)) @ axes[:2].T
    there = (given - own.mean(0)) @ axes[:2].T
    assert (there <= inside.max(0) + 1e-4).all() and (there >= inside.min(0) - 1e-4).all()
    thin = Projected(share=0.5)(own, clip, own)  # one axis holds 9/10
    assert np.linalg.matrix_rank(thin - thin.mean(0), tol=1e-3) == 1


def test_one_column_is_projected_into_its_range(own, clip):
    given = drive_from_name("projected")(10 * clip[:, :1], clip[:, :1], own[:, :1])
    np.testing.assert_allclose(given, np.clip(10 * clip[:, :1], own[:, 0].min(), own[:, 0].max()), atol=1e-5)
    assert np.isfinite(drive_from_name("fitted")(clip[:, :1], clip[:, :1], own[:, :1])).all()


@pytest.mark.parametrize("drive", ["projected", "fitted"])
def test_frames_that_do_not_vary_span_no_space(own, clip, drive):
    for few, count in ((own[:1], 1), (own[[0, 0, 0]], 3), (own[:1, :1], 1)):
        moved = clip[:, : few.shape[1]]
        with pytest.raises(RafError, match=rf"the subject's {count} training frame\(s\) do not vary.* at least 2"):
            drive_from_name(drive)(moved, moved, few)
    assert np.isfinite(drive_from_name(drive)(clip, clip, own[:2])).all()


def test_fitted_is_centred_and_then_projected(own, clip):
    given = drive_from_name("fitted")(clip, clip, own)
    np.testing.assert_allclose(given, Projected()(drive_from_name("centred")(clip, clip, own), clip, own), atol=1e-5)
    np.testing.assert_array_equal(
        drive_from_name("fitted", share=0.0, variance=0.5)(clip, clip, own), Projected(share=0.5)(clip, clip, own)
    )
    with pytest.raises(RafError, match=r"'centred': share is 2\.0"):
        drive_from_name("fitted", share=2.0)
    with pytest.raises(RafError, match=r"'projected': share is 0\.0"):
        drive_from_name("fitted", variance=0.0)


def test_nearest_is_a_training_frame(own, clip):
    given = drive_from_name("nearest")(clip, clip, own)
    apart = np.linalg.norm(clip[:, None].astype(np.float64) - own, axis=-1)
    np.testing.assert_array_equal(given, own[apart.argmin(1)])


def test_a_class_is_all_it_takes(own, clip):
    @dataclass(frozen=True)
    class Half(DrivingMap):
        """A driving map that halves the features."""

        name = "half"

        def apply(self, features, clip, own):
            return features / 2

    try:
        np.testing.assert_array_equal(drive_from_name("half")(clip, clip, own), clip / 2)
        with pytest.raises(RafError, match="the name 'half' is"):
            type("Other", (DrivingMap,), {"name": "half"})
    finally:
        del DRIVES["half"]


def test_what_cannot_be_driven_is_refused(own, clip, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no checked annotations
    lost = clip.copy()
    lost[4] = np.nan
    for call, message in [
        (lambda: drive_from_name("fast"), "drive is 'fast', expected one of direct"),
        (lambda: drive_from_name("direct", share=1.0), "no option 'share'"),
        (lambda: drive_from_name("projected", share=0.0), "'projected': share is 0.0"),
        (lambda: drive_from_name("centred", share=1.1), "'centred': share is 1.1, expected from 0 to 1"),
        (lambda: drive_from_name("centred", share=np.nan), "share is nan"),
        (lambda: drive_from_name("direct")(clip[:, :3], clip, own), r"features of shape \(50, 3\)"),
        (lambda: drive_from_name("relative")(clip, lost, own), "the driver's clip"),
        (lambda: drive_from_name("nearest")(clip, clip, own[:0]), "the subject's features"),
    ]:
        with pytest.raises(RafError, match=message):
            call()
