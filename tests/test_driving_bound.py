"""Bounds of driving maps: a stub avatar whose image is its first expression value, so all scores are known."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jaxtyping
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from synthetic import ball_capture

from raflib import report
from raflib.capture import Performed, Truth
from raflib.driving import Centred
from raflib.errors import RafError
from raflib.lab import driving_bound
from raflib.lab.driving_bound import DISTANCE, OFFSET, PSNR, READING, distances, driving_gains, gain_table, own_readings

BIAS = np.float32(0.2)


def grey(levels, size):
    return np.broadcast_to(np.asarray(levels, np.float32)[:, None, None, None], (len(levels), size, size, 3))


def readings(target, driver, rows):
    """The driver's vectors without their constant bias; no face in the first frame."""
    own = driver.expression[rows] - BIAS
    own[0] = np.nan
    return own


@pytest.fixture
def people():
    """(avatar, its person, a driver): true images show the first value of `readings` as a grey level."""
    target, driver = ball_capture("900", frames=6), ball_capture("901", frames=30, seed=1)

    def perform(target, driver, rows, cameras, tracker=None, progress=True):
        levels = np.clip(driver.expression[rows, 0] - BIAS, 0, 1)
        images = (grey(levels, cameras[0].width) * 255 + 0.5).astype(np.uint8)[:, None]
        centre = np.tile(target.landmarks[:1], (len(rows), 1, 1))
        still = np.zeros((len(rows), 6), np.float32)
        return Performed(images, still, np.ones(len(rows), np.float32), centre, np.ones(len(rows), bool))

    def acted(capture):
        count = len(capture.expression)
        still = np.zeros((count, 52), np.float32), np.zeros((count, 3), np.float32), np.zeros((count, 6), np.float32)
        return Truth(*still, np.zeros((count, 478, 3), np.float32), perform)

    avatar = SimpleNamespace(subject="900", method="vanilla", config=SimpleNamespace(seed=0))
    avatar.feature_space, avatar.control_expression = target.feature_space, target.expression[0]
    avatar.render = lambda expression, pose, scale, cameras: grey(np.clip(expression[:, 0], 0, 1), cameras[0].width)
    return avatar, replace(target, truth=acted(target)), replace(driver, truth=acted(driver))


def test_the_own_reading_is_the_best_vector_and_a_constant_bias_is_all_that_is_wrong(people):
    avatar, target, driver = people
    rows = driving_gains([avatar], target, [driver], {"centred": Centred()}, 6, readings, progress=False)
    assert list(rows["map"].drop_duplicates()) == ["direct", "centred", OFFSET, READING]
    assert rows["frame"].nunique() == 5, "the frame without a face is left out"
    means = rows.groupby("map")[[PSNR, DISTANCE]].mean()
    assert means.loc[READING, DISTANCE] == 0 and means.loc[OFFSET, DISTANCE] < 1e-5
    np.testing.assert_allclose(means.loc["direct", DISTANCE], BIAS * np.sqrt(52), rtol=1e-5)
    assert means.loc[[READING, OFFSET], PSNR].min() > 50 > 20 > means.loc["direct", PSNR]
    table = gain_table(rows)
    assert list(table.columns) == ["direct", "centred", OFFSET, READING] and table.index[-1] == ("mean", "vanilla", "")
    np.testing.assert_allclose(table.iloc[0], table.iloc[-1])
    expected = means[PSNR] - means.loc["direct", PSNR]
    np.testing.assert_allclose(table.iloc[0][["centred", READING]], expected[["centred", READING]])
    np.testing.assert_allclose(distances(rows), means[DISTANCE][["direct", "centred", OFFSET, READING]])


def test_means_weigh_every_avatar_alike(tmp_path):
    one = {"method": "raf", "seed": 0, "driver": "E01"}
    rows = pd.DataFrame(
        [{**one, "subject": who, "frame": frame, "map": name, PSNR: value, DISTANCE: value}
         for who, count, gain in (("388", 1, 1.0), ("422", 3, 0.0)) for frame in range(count)
         for name, value in (("direct", 20.0), ("centred", 20 + gain))]
    )  # fmt: skip
    table = gain_table(rows)
    assert table["centred"].tolist() == [1.0, 0.0, 0.5] and table["direct"].tolist() == [20.0] * 3
    assert distances(rows)["centred"] == 20.5
    figure = report.driving_figure(table, tmp_path / "gains.png")
    assert figure.size == Image.open(tmp_path / "gains.png").size and min(figure.size) > 100
    with pytest.raises(RafError, match="no driving map beside direct"):
        report.driving_figure(table[["direct"]])


def test_people_without_truth_are_refused(people):
    avatar, target, driver = people
    with pytest.raises(RafError, match="900 has no truth"):
        driving_gains([avatar], replace(target, truth=None), [driver], {}, progress=False)
    avatar.finished = False
    with pytest.raises(RafError, match="driving_gains: run 900/vanilla holds an avatar after some of all steps"):
        driving_gains([avatar], target, [driver], {}, progress=False)
    avatar.finished = True
    with pytest.raises(RafError, match="901 has no truth"):
        own_readings(target, replace(driver, truth=None), np.arange(2))
    lost = lambda target, driver, rows: np.full((len(rows), 52), np.nan, np.float32)  # noqa: E731
    with pytest.raises(RafError, match="no frame of a driver of 900"):
        driving_gains([avatar], target, [driver], {}, 2, lost, progress=False)


def test_own_readings_are_read_from_the_target_as_captures_are(monkeypatch):
    asked = []
    monkeypatch.setattr(driving_bound.studio, "Identity", lambda name: name)

    def render_views(identity, actions, angles, cameras):
        asked.append((identity, actions[0], [camera.width for camera in cameras]))
        return [(np.full((2, 2, 3), actions[0] * 255, np.uint8), None)]

    class Tracker:
        __enter__, __exit__ = lambda self: self, lambda self, *about: None
        __call__ = lambda self, image: None if image[0, 0, 0] == 0 else SimpleNamespace(expression=np.full(52, 0.5))  # noqa: E731

    monkeypatch.setattr(driving_bound.studio, "render_views", render_views)
    monkeypatch.setattr(driving_bound, "FaceTracker", Tracker)
    actions = np.repeat([[0.0], [1.0]], 52, axis=1)
    driver = SimpleNamespace(subject="E01", truth=SimpleNamespace(actions=actions, angles=np.zeros((2, 3))))
    target = SimpleNamespace(subject="422", expression=np.zeros((1, 52)))
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # stubs in place of captures
    found = own_readings(target, driver, np.array([1, 0]))
    assert (found[0] == 0.5).all() and np.isnan(found[1]).all()
    assert asked == [("422", 1.0, [256]), ("422", 0.0, [256])]


def test_the_command_says_which_avatar_is_missing(tmp_path):
    script = Path(__file__).resolve().parents[1] / "scripts" / "driving_bound.py"
    told = subprocess.run(
        [sys.executable, str(script), "--subjects", "422"],
        capture_output=True, text=True, check=False, env={**os.environ, "RAF_RUNS": str(tmp_path)},
    )  # fmt: skip
    assert told.returncode == 1 and "04_train_422_vanilla_demo_0" in told.stderr
    assert told.stderr.startswith("driving_bound: ") and len(told.stderr.splitlines()) == 1
