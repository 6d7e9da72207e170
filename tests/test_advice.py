"""What a recording lacks, told before training: each fault changes its own row of the table."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from synthetic import ball_capture

from raflib.coverage import clip_distance
from raflib.errors import RafError
from raflib.lab.advice import driver_distance, recording_report, what_to_film
from raflib.tracking import ARKIT52

FRAMES = 300


@pytest.fixture(scope="module")
def good():
    """A recording without faults: ten seconds, all actions, a turning head, and a sharp face."""
    capture = ball_capture(frames=FRAMES, size=96, cameras=1)
    rng = np.random.default_rng(0)
    expression = rng.uniform(0, 0.8, capture.expression.shape).astype(np.float32)
    pose = capture.pose.copy()
    pose[:, 1] = np.radians(20) * np.sin(np.arange(len(pose)) / 9)
    noise = rng.integers(0, 120, (96, 96, 1), dtype=np.uint8)
    return replace(
        capture, expression=expression, pose=pose, frames=Images(noise), time=np.arange(len(capture)) / 24,
        subject="me",
    )  # fmt: skip


class Images:
    """One noisy image; the frames `soft` are blurred by `blur` pixels."""

    def __init__(self, image, blur=0.0, soft=()):
        self.sharp = np.repeat(image, 3, 2)
        self.soft = soft
        if blur:  # with more contrast, so that rounding does not count
            soft_image = gaussian_filter(self.sharp.astype(float), (blur, blur, 0))
            self.blurred = np.clip(4 * (soft_image - soft_image.mean()) + 128, 0, 255).round().astype(np.uint8)

    def image(self, t, c):
        return self.blurred if t in self.soft else self.sharp

    def mask(self, t, c):
        return np.full(self.sharp.shape[:2], 255, np.uint8)


def without(capture, *actions, scale=0.1):
    expression = capture.expression.copy()
    expression[:, [ARKIT52.index(name) for name in actions]] *= scale
    return replace(capture, expression=expression)


def advice(report):
    """Measures with advice."""
    return [row.measure for row in report.itertuples() if row.advice]


def test_a_good_recording_needs_nothing(good):
    report = recording_report(good, replace(good, subject="you"))
    assert list(report.columns) == ["measure", "value", "advice"] and advice(report) == []
    assert report["value"][0] == "100.0 % of 400" and report["measure"].iloc[-1] == "distance of you"
    assert what_to_film(report) == "Nothing is missing: train."


def lost(capture):
    detected = np.arange(len(capture)) % 4 > 0
    return replace(
        capture, detected=detected,
        **{name: np.where(detected.reshape(-1, *[1] * (value.ndim - 1)), value, np.nan)
           for name, value in vars(capture).items() if name in ("expression", "pose", "scale", "landmarks")},
    )  # fmt: skip


FAULTS = {
    "frames with a face": lost,
    "seconds to train on": lambda good: replace(good, time=good.time / 4),
    "sharpness of the face": lambda good: replace(good, frames=Images(good.frames.sharp[..., :1], 4.0, range(999))),
    "frames blurred by motion": lambda good: replace(good, frames=Images(good.frames.sharp[..., :1], 2.0, range(100))),
    "directions of expressions": lambda good: without(
        good, *(name for name in ARKIT52 if not name.startswith(("eyeBlink", "jawOpen", "mouthSmile", "mouthPucker"))
                and name not in ("browInnerUp", "browDownLeft"))
    ),
    "head turn to both sides": lambda good: replace(good, pose=good.pose * np.float32([1, 0.2, 1, 1, 1, 1])),
    "eyeBlink": lambda good: without(good, "eyeBlinkLeft", "eyeBlinkRight"),
    "mouthPucker": lambda good: without(good, "mouthPucker"),
}  # fmt: skip


@pytest.mark.parametrize("measure", FAULTS)
def test_each_fault_has_its_advice(good, measure, monkeypatch):
    if measure == "directions of expressions":
        monkeypatch.setattr("raflib.lab.advice.DIRECTIONS", 12.0)  # few directions of independent noise
    report = recording_report(FAULTS[measure](good))
    assert advice(report) == [measure]
    sentence = what_to_film(report)
    assert sentence.startswith("Film again if you can: ") and report.set_index("measure")["advice"][measure] in sentence


def test_the_driver_is_compared_after_a_share_of_the_difference_of_means_is_added(good):
    shifted = replace(good, expression=good.expression + 0.5, subject="you")
    moved = good.expression + 0.5 + 0.4 * (good.expression[good.train].mean(0) - shifted.expression.mean(0))
    wanted = clip_distance(good.expression[good.train], moved).distance
    np.testing.assert_allclose(driver_distance(good, shifted).distance, wanted, rtol=1e-4)
    wild = good.expression.copy()
    wild[::3, ARKIT52.index("jawOpen")] += 4
    report = recording_report(good, replace(good, expression=wild, subject="wild"))
    assert advice(report) == ["distance of wild"] and "most of all in jawOpen" in report["advice"].iloc[-1]
    assert re.search("3[3-9] % of the frames beyond", report["value"].iloc[-1])


def test_a_long_list_is_cut(good):
    still = without(good, *ARKIT52, scale=0.01)
    sentence = what_to_film(recording_report(still))
    assert "the eyes never close" in sentence and "and 3 more in the table" in sentence


def test_other_features_and_missing_faces_are_named(good):
    other = replace(good, feature_space="flame100")
    assert "jawOpen" not in set(recording_report(other)["measure"])
    with pytest.raises(RafError, match="driver me: flame100 features, 400 frames"):
        recording_report(good, other)
    blind = replace(good, detected=np.zeros(len(good), bool))
    with pytest.raises(RafError, match="no training frame with a face"):
        recording_report(blind)
