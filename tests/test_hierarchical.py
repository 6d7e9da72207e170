"""Hierarchical intervals of paired differences: coverage, degenerate grids, and what may be claimed."""

import numpy as np
import pandas as pd
import pytest
from grid_rows import DRIVERS, grid_rows

from raflib import report
from raflib.errors import RafError
from raflib.lab.cells import labelled
from raflib.report.hierarchical import MISSED, claims, counted, counts, hierarchical, verdict

DRAWS = 240
"""Simulated grids; each is a column, as if it were a metric."""


def simulated(subject, driver, seed, frame, subjects=5, drivers=8, seeds=2, frames=3):
    """Rows of two methods whose true difference is 0, with random effects of these standard deviations."""
    size, draw = (subjects, drivers, seeds, frames, DRAWS), np.random.default_rng(1)
    effect = subject * draw.normal(size=(subjects, 1, 1, 1, DRAWS)) + driver * draw.normal(
        size=(1, drivers, 1, 1, DRAWS)
    )
    effect = effect + seed * draw.normal(size=(subjects, 1, seeds, 1, DRAWS))
    effect = effect + frame * draw.normal(size=(subjects, drivers, 1, frames, DRAWS))
    place = [index.ravel() for index in np.indices(size[:4])]
    keys = dict(zip(("subject", "driver", "seed", "frame"), place, strict=True))
    names = [f"x{column}" for column in range(DRAWS)]
    made = []
    for method, values in (("vanilla", np.zeros(size)), ("raf", np.broadcast_to(effect, size))):
        table = pd.DataFrame(values.reshape(-1, DRAWS), columns=names)
        made.append(table.assign(**keys, method=method).assign(frame=25 * keys["frame"]))
    return pd.concat(made, ignore_index=True), names


def coverage(summary, names):
    row = summary.iloc[0]
    return np.mean([row[name, "low"] <= 0 <= row[name, "high"] for name in names])


@pytest.mark.parametrize(
    ("effects", "frames_cover", "at_most"),
    [((0.2, 0.1, 0.1, 0.5), 0.7, 1.0), ((0.3, 0.0, 0.0, 0.1), 0.4, 0.98), ((0.0, 0.3, 0.05, 0.1), 0.5, 1.0)],
    ids=["all levels vary", "subjects vary", "drivers vary"],
)
def test_hierarchical_intervals_cover_where_intervals_over_frames_are_too_narrow(effects, frames_cover, at_most):
    rows, names = simulated(*effects)
    assert coverage(report.compare(rows, "vanilla", metrics=names, resamples=400), names) < frames_cover
    assert 0.92 <= coverage(hierarchical(rows, "vanilla", "method", names, resamples=400), names) <= at_most


def test_one_subject_with_several_drivers_is_covered_too():
    rows, names = simulated(0.0, 0.3, 0.0, 0.1, subjects=1, seeds=1)
    assert 0.9 <= coverage(hierarchical(rows, "vanilla", "method", names, resamples=400), names) <= 0.99


def test_one_subject_driver_and_seed_have_the_interval_of_the_block_bootstrap():
    rows = labelled(grid_rows(["422"], seeds=[0], drivers=["E01"], frames=40, extra=False))
    for protocol in ("self", "cross"):
        part = rows[rows["protocol"] == protocol]
        tags = ["psnr/face", "aed/arkit52/l1"]
        mine = hierarchical(part, "vanilla", metrics=tags)
        plain = report.compare(part.assign(method=part["label"]), "vanilla", metrics=tags)
        pd.testing.assert_frame_equal(mine[tags], plain[tags])
        assert "blocks of 25 frames" in mine.attrs["caption"] and "hierarchical" not in mine.attrs["caption"]


def test_a_single_frame_has_no_interval():
    rows = labelled(grid_rows(["422"], seeds=[0], drivers=["E01"], frames=1, extra=False))
    summary = hierarchical(rows[rows["protocol"] == "self"], "vanilla")
    assert np.isfinite(summary["psnr/face", "mean"]).all() and summary["psnr/face", "low"].isna().all()


def test_the_caption_says_which_levels_were_resampled():
    rows = labelled(grid_rows(extra=False))
    cross = hierarchical(rows[rows["protocol"] == "cross"], "vanilla").attrs["caption"]
    assert "subjects (up to 3), drivers (up to 6), seeds (up to 2) and blocks of 25 frames" in cross
    alone = hierarchical(rows[rows["protocol"] == "self"], "vanilla").attrs["caption"]
    assert "subjects (up to 3), seeds (up to 2) and blocks" in alone and "not resampled: drivers" in alone
    both = [hierarchical(rows[rows["protocol"] == name], "vanilla")["drivers", ""] for name in ("self", "cross")]
    assert set(both[0]) == {1} and set(both[1]) == {6}, "who drives the own avatar is one driver, not one a subject"
    few = hierarchical(rows[(rows["protocol"] == "self") & (rows["seed"] == 0)], "vanilla").attrs["caption"]
    assert "not resampled: drivers, seeds" in few


def test_two_subjects_that_agree_prove_nothing():
    """Percentiles over two subjects would exclude 0 whenever both have the same sign."""
    rows = labelled(grid_rows(["388", "422"], extra=False, gain={"raf": 0.3}))
    row = hierarchical(rows[rows["protocol"] == "cross"], "vanilla").loc["raf − vanilla"]
    assert row["psnr/face", "mean"] > 0.1 and row["psnr/face", "low"] < 0


def test_missing_cells_are_left_out_of_their_pairs_only():
    rows = labelled(grid_rows(extra=False))
    rows = rows[~((rows["label"] == "raf") & (rows["subject"] == "443") & (rows["seed"] == 1))]
    part = rows[rows["protocol"] == "cross"].copy()
    part.loc[part["driver"] == DRIVERS[0], "ssim/face"] = np.nan
    summary = hierarchical(part, "vanilla")
    assert summary["frames", ""].tolist() == [3 * 6 * 2 * 3, 3 * 6 * 2 * 3 - 6 * 3]
    assert np.isfinite(summary["ssim/face", "high"]).all()
    raf = part[part["label"] == "raf"].set_index(["subject", "driver", "seed", "frame"])["psnr/face"]
    vanilla = part[part["label"] == "vanilla"].set_index(["subject", "driver", "seed", "frame"])["psnr/face"]
    wanted = (raf - vanilla).dropna().groupby("subject").mean().mean()
    assert summary.loc["raf − vanilla", ("psnr/face", "mean")] == pytest.approx(wanted)


def test_a_metric_of_few_avatars_has_an_interval_for_as_few():
    rows = labelled(grid_rows(extra=False))
    part = rows[rows["protocol"] == "cross"].copy()
    few = part["subject"].eq("388") & part["seed"].eq(0)
    part["emotion/fer/cos"] = part["psnr/face"].where(few)
    part["ssim/face"] = part["psnr/face"].where(part["subject"] != "443")
    names = ["psnr/face", "emotion/fer/cos", "ssim/face"]
    summary = hierarchical(part, "vanilla", metrics=names)
    known = {tag: counts(summary, "raf − vanilla", tag) for tag in names}
    assert [known[tag]["subjects"] for tag in names] == [3, 1, 2] and known[names[1]]["seeds"] == 1
    assert known[names[1]]["frames"] == 6 * 3 and summary.loc["raf − vanilla", ("subjects", "")] == 3
    alone = hierarchical(part[few], "vanilla", metrics=["psnr/face"])
    for end in ("mean", "low", "high"):
        assert summary.loc["raf − vanilla", (names[1], end)] == alone.loc["raf − vanilla", ("psnr/face", end)]
    whole = hierarchical(part, "vanilla", metrics=["psnr/face"])
    assert summary["psnr/face"].equals(whole["psnr/face"]), "other metrics stay as they are"
    assert "Measured on fewer: emotion/fer/cos, noise-0.08 − vanilla: 1 subjects, 1 seeds" in summary.attrs["caption"]
    assert "fewer" not in whole.attrs["caption"]
    told = claims(summary).set_index(["comparison", "metric"])
    assert told.loc[("raf − vanilla", "ssim/face ↑"), "subjects"] == 2


def test_the_same_rows_give_the_same_interval_and_twice_the_same_frame_is_an_error():
    part = labelled(grid_rows(extra=False))[lambda rows: rows["protocol"] == "cross"]
    assert hierarchical(part, "vanilla").equals(hierarchical(part, "vanilla"))
    shuffled = hierarchical(part, "vanilla", seed=1)
    assert not shuffled.equals(hierarchical(part, "vanilla"))
    with pytest.raises(RafError, match="there twice"):
        hierarchical(pd.concat([part, part]), "vanilla")
    with pytest.raises(RafError, match="no row has method = 'oracle'"):
        hierarchical(part, "oracle")


def test_methods_without_a_common_frame_are_left_out():
    rows, names = simulated(1, 1, 0, 1)
    apart = rows[(rows["method"] == "raf") & (rows["subject"] > 2)].assign(method="other")
    few = pd.concat([rows[rows["subject"] <= 2], apart])
    found = hierarchical(few, "vanilla", "method", names[:2], resamples=20)
    assert list(found.index) == ["raf − vanilla"]
    with pytest.raises(RafError, match="no row is of a frame that 'other' has, too"):
        hierarchical(few, "other", "method", names[:2])


def test_only_what_excludes_zero_is_claimed_and_comparisons_are_counted():
    rows = labelled(grid_rows(gain={"raf": 2.0, "noise-0.08": 0.0}))
    part = rows[(rows["protocol"] == "cross") & (rows["condition"] != "control")]
    told = claims(hierarchical(part, "vanilla"), "cross-driving")
    by = told.set_index(["comparison", "metric"])["claim"]
    assert by["raf − vanilla", "psnr/face ↑"] == by["raf − vanilla", "aed/arkit52/l1/truth ↓"] == "better"
    assert by["noise-0.08 − vanilla", "psnr/face ↑"] == ""
    assert by["raf − vanilla", "aed/arkit52/l1 ↓"] == "cannot rank", "the true image is not best there"
    assert np.allclose(told[MISSED], (told["high"] - told["low"]) / 2)
    assert counted(told).startswith(f"Comparisons: {len(told)}; intervals that exclude 0: 7.")
    assert [verdict("psnr/face", *ends) for ends in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1))] == ["better", "worse", ""]
    assert verdict("aed/arkit52/l1", 0.1, 0.2) == "worse"
