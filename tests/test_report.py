"""Tables (means, block bootstrap, paired differences, Markdown) and figures (plotted, saved, recorded)."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raflib import coverage, report
from raflib.errors import RafError


def rows(gain=0.5, frames=200, seed=0):
    """Two methods and a control on the same frames: frames differ by decibels, methods by `gain`."""
    rng = np.random.default_rng(seed)
    made = []
    for driver in ("E01", "E02"):
        base = 25 + 3 * np.repeat(rng.normal(size=frames // 20), 20)  # neighbours in time are alike
        for method, condition, offset in (("vanilla", "avatar", 0), ("raf", "avatar", gain), ("raf", "control", -2)):
            values = base + offset + rng.normal(scale=0.1, size=frames)
            made.append(
                pd.DataFrame(
                    {
                        "subject": "422", "method": method, "seed": 0, "condition": condition, "protocol": "cross",
                        "driver": driver, "sequence": "FREE", "frame": np.arange(frames), "camera": "front",
                        "detected": True, "reference_detected": True, "psnr/face": values, "aed/arkit52/l1": 1 / values,
                    }
                )
            )  # fmt: skip
    return pd.concat(made, ignore_index=True)


def test_table_gives_means_and_intervals_that_know_about_time():
    table = report.table(rows())
    key = ("vanilla", "avatar")
    data = rows()
    chosen = data[(data.method == "vanilla")]["psnr/face"]
    assert table.loc[key, ("psnr/face", "mean")] == pytest.approx(chosen.mean())
    low, high = table.loc[key, ("psnr/face", "low")], table.loc[key, ("psnr/face", "high")]
    assert low < chosen.mean() < high
    frame_by_frame = report.table(rows(), block=1)
    narrow = frame_by_frame.loc[key, ("psnr/face", "high")] - frame_by_frame.loc[key, ("psnr/face", "low")]
    assert high - low > 2.5 * narrow  # intervals over single frames are far too narrow
    assert table.loc[key, ("frames", "")] == 400 and table.loc[key, ("detected", "%")] == 100
    assert "blocks of 25 frames" in table.attrs["caption"]
    assert report.table(rows()).equals(table)


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        data = pd.DataFrame({"method": "raf", "frame": np.arange(1000), "x": np.repeat(rng.normal(size=40), 25)})
        table = report.table(data, by=["method"], metrics=["x"], resamples=300)
        hits += table["x", "low"].item() < 0 < table["x", "high"].item()
    assert 50 <= hits <= 60


def test_lost_faces_leave_the_mean_and_show_in_the_share():
    data = rows(frames=20)
    raf = (data.method == "raf") & (data.condition == "avatar")
    lost = data.index[raf][:10]
    data.loc[lost, "aed/arkit52/l1"] = np.nan
    data.loc[lost, "detected"] = False
    data.loc[data.index[raf][-5:], ["detected", "reference_detected"]] = False
    table = report.table(data)
    assert table.loc[("raf", "avatar"), ("detected", "%")] == pytest.approx(100 * 25 / 35)
    known = data[raf]["aed/arkit52/l1"].dropna()
    assert table.loc[("raf", "avatar"), ("aed/arkit52/l1", "mean")] == pytest.approx(known.mean())


def test_paired_differences_are_sharper_than_two_intervals():
    data = rows(gain=0.3)
    data = data[data.condition == "avatar"]
    paired = report.compare(data, "vanilla")
    assert list(paired.index) == ["raf − vanilla"] and paired["frames", ""].item() == 400
    assert 0.25 < paired["psnr/face", "low"].item() < 0.3 + 0.02 and paired["psnr/face", "high"].item() < 0.35
    apart = report.table(data)
    assert apart.loc[("raf", "avatar"), ("psnr/face", "low")] < apart.loc[("vanilla", "avatar"), ("psnr/face", "high")]
    half = data.drop(data[(data.method == "vanilla") & (data.frame < 100)].index)
    assert report.compare(half, "vanilla")["frames", ""].item() == 200
    control = report.compare(rows()[lambda d: d.method == "raf"], "control", column="condition")
    assert control.loc["avatar − control", ("psnr/face", "mean")] == pytest.approx(2.5, abs=0.05)
    with pytest.raises(RafError, match=r"method = 'noise'; found raf, vanilla"):
        report.compare(data, "noise")


def test_markdown_has_arrows_intervals_and_one_best():
    text = report.to_markdown(report.table(rows()), digits=2)
    head, rule, *lines = text.strip().splitlines()
    assert "psnr/face ↑" in head and "aed/arkit52/l1 ↓" in head and "detected %" in head
    assert len(rule.split("|")) == len(head.split("|"))
    best = next(line for line in lines if line.startswith("| raf | avatar"))
    assert best.count("**") == 4 and text.count("**") == 4 and "[" in best and best.rstrip(" |").endswith("100")
    assert lines[-1].startswith("Mean [95 %")
    assert "**" not in report.to_markdown(report.compare(rows()[lambda d: d.condition == "avatar"], "vanilla"))


def test_truth_rows_do_not_compete_and_infinity_is_shown():
    data = rows(frames=20)
    truth = data[data.method == "vanilla"].assign(condition="truth")
    truth["psnr/face"], truth["aed/arkit52/l1"] = np.inf, 0.0
    text = report.to_markdown(report.table(pd.concat([data, truth])))
    line = next(line for line in text.splitlines() if "truth" in line)
    assert "∞" in line and "**" not in line and text.count("**") == 4


def with_truth(data, **values):
    """Rows of two methods and a control, and the true image scored once for each method, with `values`."""
    truth = data[data.condition == "avatar"].assign(condition="truth", **values)
    return pd.concat([data, truth], ignore_index=True)


def test_each_part_has_a_best_mean_of_its_own():
    data = pd.concat([rows().assign(part="held out"), rows().assign(part="training")])
    data.loc[data["part"] == "training", "psnr/face"] += 10
    lines = report.to_markdown(report.table(data, ("part", "method", "condition"), ["psnr/face"])).splitlines()
    bold = [line.split(" | ")[0] for line in lines if "**" in line]
    assert sorted(bold) == ["| held out", "| training"]


def test_a_column_that_does_not_score_the_truth_best_is_grey_and_never_bold():
    means = report.table(rows(frames=40))["aed/arkit52/l1", "mean"]
    between = (means["raf", "avatar"] + means["vanilla", "avatar"]) / 2  # better than one method is not enough
    data = with_truth(rows(frames=40), **{"psnr/face": np.inf, "aed/arkit52/l1": between})
    once = report.one_truth(data)
    assert (once.condition == "truth").sum() == 80 and set(once[once.condition == "truth"].method) == {"–"}
    summary = report.table(once)
    assert report.unranked(summary).to_dict("list") == {"psnr/face": [False] * 4, "aed/arkit52/l1": [True] * 4}
    text = report.to_markdown(summary)
    for line in text.splitlines()[2:6]:
        psnr_cell, aed_cell = (cell.strip() for cell in line.split("|")[3:5])
        assert aed_cell.endswith(report.MARK) and "**" not in aed_cell and report.MARK not in psnr_cell
    assert text.count("**") == 2 and "cannot rank methods" in text and "<span" not in text
    assert report.to_markdown(summary, colour=True).count("<span style='color:#999999'>") == 4
    nearer = report.table(report.one_truth(with_truth(rows(frames=40), **{"psnr/face": 99.0, "aed/arkit52/l1": 0.01})))
    assert not report.unranked(nearer).any(axis=None) and report.MARK not in report.to_markdown(nearer)


def test_columns_are_judged_within_their_part_of_the_table():
    data = rows(frames=20)
    parts = [
        with_truth(data, **{"psnr/face": np.inf, "aed/arkit52/l1": value}).assign(part=part)
        for part, value in (("FREE", 0.0), ("cross-driving", 1.0), ("unseen", np.nan))
    ]
    parts.append(data.assign(part="without truth"))
    summary = report.table(pd.concat(parts), by=("part", "condition"))
    found = report.unranked(summary).set_index(summary.index)["aed/arkit52/l1"].groupby("part", sort=False).agg(list)
    assert found.to_dict() == {
        "FREE": [False] * 3, "cross-driving": [True] * 3, "unseen": [True] * 3, "without truth": [False] * 2
    }  # fmt: skip


def test_paired_differences_leave_the_truth_out_and_tell_what_cannot_rank():
    data = rows(frames=60)
    plain = report.compare(data, "vanilla")
    compared = report.compare(with_truth(data, **{"psnr/face": np.inf, "aed/arkit52/l1": 1.0}), "vanilla")
    pd.testing.assert_frame_equal(compared, plain)
    assert compared.attrs["unranked"] == ["aed/arkit52/l1"] and plain.attrs["unranked"] == []
    text = report.to_markdown(compared)
    assert text.splitlines()[2].count(report.MARK) == 1 and report.MARK not in report.to_markdown(plain)
    sure, grey = (
        colour_count(report.differences_figure({"x": table}, "aed/arkit52/l1"), "raf") for table in (plain, compared)
    )
    assert 0 < grey < sure  # the legend keeps the colour


def test_the_scale_of_metrics_is_one_sentence():
    scale = pd.DataFrame(
        {"metric": ["psnr/face", "aed/arkit52/l1"], "identical": [np.inf, 0.0], "shuffled": [22.0, 0.08],
         "neutral": [24.5, np.nan], "pairs": 3}
    )  # fmt: skip
    text = report.scale_note(scale)
    assert (
        "(identical / shuffled / neutral pair): psnr/face ∞ / 22.000 / 24.500; aed/arkit52/l1 0.000 / 0.080 / –."
        in text
    )


def test_one_block_has_no_interval_and_missing_columns_are_named():
    table = report.table(rows(frames=20)[lambda d: d.driver == "E01"])
    assert table["psnr/face", "low"].isna().all() and "[" not in report.to_markdown(table).split("Mean")[0]
    with pytest.raises(RafError, match="'psnr/whole'"):
        report.table(rows(), metrics=["psnr/whole"])
    with pytest.raises(RafError, match="no rows"):
        report.table(rows()[:0])


# --- figures ---------------------------------------------------------------------------------------------------------


def test_strip_places_pictures_under_their_captions(tmp_path):
    red = np.zeros((40, 40, 3), dtype=np.uint8) + np.uint8([255, 0, 0])
    blue = np.zeros((60, 60, 3), dtype=np.float32) + np.float32([0, 0, 1])
    sheet = report.strip(
        [[red, blue], [None, red]], ["driver", "truth"], ["E01", "E02"], tmp_path / "strip.png", tile=96
    )
    saved = np.asarray(Image.open(tmp_path / "strip.png"))
    assert np.array_equal(saved, np.asarray(sheet))
    is_red = (saved == [255, 0, 0]).all(-1)
    is_blue = (saved == [0, 0, 255]).all(-1)
    assert is_red.sum() == 2 * 96 * 96 and is_blue.sum() == 96 * 96
    assert np.nonzero(is_blue)[1].min() > np.nonzero(is_red[: len(saved) // 2])[1].max()
    assert (saved[:20] < 128).any() and not list(tmp_path.glob(".*"))
    with pytest.raises(RafError, match="2 columns"):
        report.strip([[red]], ["driver", "truth"])


def colour_count(image, name):
    value = [int(report.PALETTE[name][i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(np.asarray(image).astype(int) - value).sum(-1) < 12).sum()


def test_differences_that_were_not_measured_are_said_to_be_so(monkeypatch):
    """Image metrics of cross-driving need a true image, which only the studio has."""
    from matplotlib.axes import Axes

    written, plain = [], Axes.text
    monkeypatch.setattr(Axes, "text", lambda self, *a, **k: written.append(a[2]) or plain(self, *a, **k))
    columns = pd.MultiIndex.from_product([["psnr/face"], ["mean", "low", "high"]])
    known = pd.DataFrame([[0.3, 0.1, 0.5]], index=["raf − vanilla"], columns=columns)
    report.differences_figure({"FREE": known, "cross-driving": known * np.nan}, "psnr/face")
    assert written.count("not measured") == 1


@pytest.mark.filterwarnings("error")
def test_coverage_figure_of_values_that_are_all_zero():
    data = pd.DataFrame([{"subject": "422", "method": method, "recall": 0.0} for method in ("vanilla", "raf")])
    assert colour_count(report.coverage_figure(data), "raf") > 0


def test_coverage_figure_shows_every_subject_and_measure(tmp_path):
    data = pd.DataFrame(
        [
            {"subject": subject, "method": method, "mmd": value, "b2t": 5 * value}
            for subject in ("388", "422", "443")
            for method, value in (("vanilla", 0.19), ("raf", 0.14))
        ]
    )
    image = report.coverage_figure(data, tmp_path / "coverage.png")
    one = report.coverage_figure(data[["subject", "method", "mmd"]])
    assert colour_count(image, "raf") > 1.7 * colour_count(one, "raf") > 0
    assert colour_count(image, "vanilla") > 0 and Image.open(tmp_path / "coverage.png").size == image.size
    with pytest.raises(RafError, match="mmd, kl, b2t"):
        report.coverage_figure(data[["subject", "method"]])


def test_training_curves_draw_a_line_a_run():
    log = pd.DataFrame(
        {"step": np.arange(0, 100, 5), "l1": np.linspace(0.1, 0.02, 20), "psnr": np.linspace(18, 28, 20)}
    )
    image = report.training_curves({"vanilla": log, "raf": log + 0.01})
    assert colour_count(image, "vanilla") > 50 and colour_count(image, "raf") > 50
    with pytest.raises(RafError, match="'gradient'"):
        report.training_curves({"raf": log}, columns=["gradient"])


def test_manifest_keeps_other_entries_and_refuses_damage(tmp_path):
    red = np.zeros((8, 8, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        report.strip([[red]], [name], path=tmp_path / name)
        report.manifest(tmp_path / name, "05_evaluate", {"subject": "422", "seed": 0})
    entries = json.loads((tmp_path / "manifest.json").read_text())
    assert set(entries) == {"a.png", "b.png"} and entries["a.png"]["parameters"]["subject"] == "422"
    assert {"commit", "versions", "sha256", "notebook"} <= set(entries["b.png"])
    with pytest.raises(RafError, match=r"c\.png: no such figure"):
        report.manifest(tmp_path / "c.png", "05_evaluate", {})
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(RafError, match=r"manifest\.json"):
        report.manifest(tmp_path / "a.png", "05_evaluate", {})
    assert (tmp_path / "manifest.json").read_text() == "{"


ENDS = ("low", "high", "draws_low", "draws_high")


def test_changes_are_drawn_with_the_paper_below():
    columns = pd.MultiIndex.from_product([["mmd", "b2t"], ["vanilla", "raf", "change", *ENDS]])
    rows = [[0.2, 0.15, -0.25, -0.4, -0.1, -0.5, 0.0] * 2] * 2
    wide = pd.DataFrame(rows, index=["388", "422"], columns=columns)
    wide.loc["Average"] = rows[0]
    wide.loc["the paper's"] = [0.2, 0.1, -0.5, *[np.nan] * 4] * 2
    image = report.change_figure(wide)
    single = report.change_figure(wide.drop(index="388"))
    assert colour_count(image, "raf") > 1.7 * colour_count(single, "raf") > 0
    assert image.size[1] > single.size[1]  # one subject is its own average, which is left out


def test_sequences_and_dimensions_are_drawn_in_proportion():
    sequences = pd.DataFrame(
        {"sequence": ["EXP-1-head", "SEN-01"], "b2t_alone": [1.2, 0.9], "nearest_share": [0.9, 0.1]}
    )
    image = report.sequence_figure(sequences)
    assert colour_count(image, "vanilla") > 500
    with pytest.raises(RafError, match="nearest_share"):
        report.sequence_figure(sequences.drop(columns="nearest_share"))
    dimensions = pd.DataFrame(
        {
            "name": ["jawOpen", "mouthLeft", "browDownLeft"],
            "low": 0.0,
            "high": [0.5, 0.4, 0.1],
            "target_low": 0.0,
            "target_high": [0.7, 0.4, 0.9],
            "outside": [0.2, 0.0, 0.5],
            "share": [0.5, 0.3, 0.2],
        }
    )
    image, fewer = report.dimension_figure(dimensions), report.dimension_figure(dimensions, count=1)
    assert image.height > fewer.height and colour_count(image, "driver") > colour_count(fewer, "driver") > 0
    assert colour_count(image, "vanilla") > 0


def test_clips_are_lines_with_their_worst_frames(tmp_path):
    train = np.random.default_rng(0).normal(size=(60, 4))
    clips = {name: coverage.clip_distance(train, train[:30] + shift) for name, shift in (("near", 0.1), ("far", 3.0))}
    image = report.clip_figure(clips, tmp_path / "clips.png")
    assert Image.open(tmp_path / "clips.png").size == image.size
    assert colour_count(image, "vanilla") > 50 < colour_count(report.clip_figure({"far": clips["far"]}), "vanilla")
    with pytest.raises(RafError, match="no clips"):
        report.clip_figure({})


def test_differences_are_drawn_with_their_intervals(tmp_path):
    avatars = rows()[lambda table: table.condition == "avatar"]
    compared = report.compare(avatars, "vanilla")
    picture = report.differences_figure({"cross": compared, "again": compared}, "psnr/face", tmp_path / "d.png")
    assert np.asarray(picture.convert("L")).std() > 5 and (tmp_path / "d.png").is_file()
    green = (np.abs(np.asarray(picture, dtype=int) - [0, 0x9E, 0x73]).max(-1) < 8).sum(0)
    assert (green > 0).sum() > 10  # the marks and lines of raf
    with pytest.raises(RafError, match="panel 'cross' has no lpips"):
        report.differences_figure({"cross": compared}, "lpips")
    with pytest.raises(RafError, match="no comparison"):
        report.differences_figure({}, "psnr/face")
