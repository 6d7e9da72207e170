"""Gains by distance from the subject's recording: distances in closed form, and a gain that is known to be far out."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jaxtyping
import numpy as np
import pandas as pd
import pytest
from grid_rows import grid_rows
from PIL import Image
from scipy.stats import linregress

from raflib import report
from raflib.errors import RafError
from raflib.lab.cells import labelled
from raflib.lab.outside import OUTSIDE, with_outside
from raflib.lab.rows import save_rows


def capture(expression, frames):
    """What `with_outside` reads of a capture."""
    count = len(expression)
    return SimpleNamespace(
        expression=expression.astype(np.float32), sequence=np.repeat("FREE", count), frame=np.asarray(frames),
        train=np.ones(count, bool), free=np.ones(count, bool),
    )  # fmt: skip


def test_the_distance_is_that_to_the_axes_and_ranges_of_the_training_vectors():
    rows = labelled(grid_rows(["422"], ["vanilla", "raf"], [0], drivers=["E01"], frames=3))
    own = capture(np.stack([np.linspace(-1, 1, 50), np.zeros(50), np.zeros(50)], 1), range(50))
    driver = capture(np.array([[0.5, 0, 0], [0.5, 0.3, 0], [2, 0, 0.4]]), [0, 25, 50])
    placed = with_outside(rows, lambda name: own, lambda name: driver)
    assert set(placed["protocol"]) == {"cross"} and len(placed) == (rows["protocol"] == "cross").sum()
    by_frame = placed.groupby("frame")[OUTSIDE].agg(["min", "max"])
    wanted = [0, 0.3, np.hypot(1, 0.4)]
    np.testing.assert_allclose(by_frame["min"], wanted, atol=1e-6)
    np.testing.assert_allclose(by_frame["max"], wanted, atol=1e-6)
    with pytest.raises(RafError, match="driver E01 has no frame 50 of FREE"):
        with_outside(rows, lambda name: own, lambda name: capture(driver.expression, [0, 25, 51]))
    with pytest.raises(RafError, match="no cross-driving"):
        with_outside(rows[rows["protocol"] == "self"], lambda name: own, lambda name: driver)


@pytest.fixture
def placed():
    """Rows whose distance is the driver's number; RAF gains 1 dB for the farther half of the drivers."""
    rows = labelled(grid_rows(["388", "422", "443"], ["vanilla", "raf", "noise-matched"], [0], {"raf": 0.0}))
    rows = rows[rows["protocol"] == "cross"]
    rows = rows.assign(**{OUTSIDE: rows["driver"].str[1:].astype(float) + rows["frame"] / 1000})
    gain = (rows["label"] == "raf") & (rows["condition"] == "avatar") & (rows["driver"] > "E03")
    return rows.assign(**{"psnr/face": rows["psnr/face"] + np.where(gain, 1.0, 0.0)})


def test_a_gain_that_is_far_out_is_found_there(placed, tmp_path):
    table = report.gains_by_distance(placed, ["raf", "noise-matched", "oracle"], parts=2)
    assert table[["label", "part"]].to_numpy().tolist() == [
        ["raf", 1], ["noise-matched", 1], ["raf", 2], ["noise-matched", 2],
    ]  # fmt: skip
    raf = table[table["label"] == "raf"].set_index("part")
    assert abs(raf.loc[1, "mean"]) < 0.4 and raf.loc[2, "mean"] == pytest.approx(1 + raf.loc[1, "mean"], abs=0.3)
    assert (raf["low"] < raf["mean"]).all() and (raf["mean"] < raf["high"]).all()
    assert raf["frames"].tolist() == [27, 27] and raf.loc[1, "to"] == raf.loc[2, "from"]
    assert raf.loc[1, OUTSIDE] < raf.loc[1, "to"] < raf.loc[2, OUTSIDE]
    again = placed[(placed["subject"] == "422") & (placed["label"] != "noise-matched")].assign(seed=1)
    seeds = report.gains_by_distance(pd.concat([placed, again]), ["raf"], parts=2)
    assert seeds["to"].tolist() == raf["to"].tolist(), "another seed of a subject does not move the groups"
    figure = report.outside_figure(table, tmp_path / "outside.png")
    assert Image.open(tmp_path / "outside.png").size == figure.size and min(figure.size) > 100


def test_gains_of_each_subject_are_its_own_means(placed, tmp_path):
    table = report.gains_by_subject(placed, ["raf", "noise-matched", "oracle"])
    assert table[["label", "subject"]].to_numpy().tolist() == [
        [label, subject] for label in ("raf", "noise-matched") for subject in ("388", "422", "443")
    ]
    avatars = placed[placed["condition"] == "avatar"]
    means = avatars.pivot_table("psnr/face", "subject", "label")
    raf = table[table["label"] == "raf"].set_index("subject")
    np.testing.assert_allclose(raf["gain"], means["raf"] - means["vanilla"])
    np.testing.assert_allclose(raf[OUTSIDE], avatars.groupby("subject")[OUTSIDE].mean())
    assert set(table["frames"]) == {18}
    plain = report.subject_figure(table)
    figure = report.subject_figure(table, {"raf": (0.5, 0.1, 0.9)}, tmp_path / "subjects.png")
    assert Image.open(tmp_path / "subjects.png").size == figure.size == plain.size
    assert np.any(np.asarray(figure) != np.asarray(plain)), "the interval is drawn"
    with pytest.raises(RafError, match="no rows"):
        report.subject_figure(table[:0])


def test_the_rise_with_distance_is_a_slope_with_an_interval(placed):
    about = {"raf": 0.5, "noise-matched": 0.0}
    rise = placed["label"].map(about).fillna(0) * placed[OUTSIDE] * (placed["condition"] == "avatar")
    straight = placed.assign(**{"psnr/face": 20 + rise})
    found = report.rise_with_distance(straight, ["raf", "noise-matched", "oracle"]).set_index("label")
    assert found.loc["raf", ["mean", "low", "high"]].to_numpy(float) == pytest.approx(np.full(3, 0.5))
    assert found.loc["noise-matched", "mean"] == pytest.approx(0, abs=1e-9) and len(found) == 2
    noisy = report.rise_with_distance(placed, ["raf"]).iloc[0]
    pairs = placed[placed["condition"] == "avatar"].pivot_table(
        index=["subject", "driver", "frame", OUTSIDE], columns="label", values="psnr/face"
    )
    gain = (pairs["raf"] - pairs["vanilla"]).reset_index(name="gain")
    slopes = [np.polyfit(part[OUTSIDE], part["gain"], 1)[0] for _, part in gain.groupby("subject")]
    assert noisy["mean"] == pytest.approx(np.mean(slopes)) and noisy["low"] < noisy["mean"] < noisy["high"]
    one = report.rise_with_distance(placed[placed["subject"] == "422"], ["raf"]).iloc[0]
    assert one["mean"] == pytest.approx(slopes[1]) and one["frames"] == noisy["frames"] / 3
    with pytest.raises(RafError, match="equally far outside"):
        report.rise_with_distance(placed.assign(**{OUTSIDE: 1.0}), ["raf"])


def test_the_interval_of_the_rise_holds_for_new_subjects():
    draw, size, true = np.random.default_rng(1), (5, 8, 1, 2), 1.0
    place = dict(zip(("subject", "driver", "seed", "frame"), (i.ravel() for i in np.indices(size)), strict=True))
    keys = {**place, "frame": 25 * place["frame"], "condition": "avatar", "camera": "frontal", "sequence": "FREE"}
    covered, by_frames = [], []
    for _ in range(60):
        far = draw.uniform(0.1, 1.2, size)
        slope, driver = true + 0.5 * draw.normal(size=(5, 1, 1, 1)), 0.05 * draw.normal(size=(1, 8, 1, 1))
        gain = slope * far + driver + 0.05 * draw.normal(size=size)
        both = [
            pd.DataFrame({**keys, "label": label, "psnr/face": values.ravel(), OUTSIDE: far.ravel()})
            for label, values in (("vanilla", np.zeros(size)), ("raf", gain))
        ]
        found = report.rise_with_distance(pd.concat(both, ignore_index=True), ["raf"]).iloc[0]
        covered.append(found["low"] <= true <= found["high"])
        straight = linregress(far.ravel(), gain.ravel())
        by_frames.append(abs(straight.slope - true) <= 1.96 * straight.stderr)
    assert np.mean(covered) >= 0.92 and np.mean(by_frames) < 0.7


def test_what_is_missing_is_told(placed):
    with pytest.raises(RafError, match="'outside' is missing"):
        report.gains_by_distance(placed.drop(columns=OUTSIDE), ["raf"])
    with pytest.raises(RafError, match="no avatar of oracle"):
        report.gains_by_distance(placed, ["raf"], "oracle")
    with pytest.raises(RafError, match="there are no rows"):
        report.outside_figure(pd.DataFrame(columns=["label", "part", "from", "to", "mean", "low", "high"]))


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # stubs in place of captures


def test_the_command_names_what_it_cannot_read(tmp_path):
    script = Path(__file__).resolve().parents[1] / "scripts" / "when_it_helps.py"
    rows = grid_rows(["422"], ["raf"], [0], drivers=["E01"], frames=1)
    save_rows(rows[rows["protocol"] == "self"], tmp_path / "rows.npz")
    for path, said in (("none.npz", "none.npz"), ("rows.npz", "no cross-driving")):
        told = subprocess.run(
            [sys.executable, str(script), "--rows", str(tmp_path / path)],
            capture_output=True, text=True, check=False, env={**os.environ, "RAF_CACHE": str(tmp_path)},
        )  # fmt: skip
        assert told.returncode == 1 and told.stderr.startswith("when_it_helps: ") and said in told.stderr
