"""Doses of `raflib.lab.dose` and the program that tries them, `scripts/dose.py`, on small balls."""

import argparse
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from synthetic import ball_capture

from raflib import report
from raflib.bank import ExpressionBank
from raflib.config import train_config
from raflib.errors import RafError
from raflib.lab import short_avatars
from raflib.lab.banks import bank_variant
from raflib.lab.dose import (
    DOSES,
    USUAL,
    Dose,
    World,
    changed,
    changes,
    dose_named,
    exists,
    frame_gains,
    mean_gains,
    sampler_at,
    with_bias,
    with_sequences,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
try:
    import dose as program
finally:
    sys.path.pop(0)


def world(subject="900"):
    capture = ball_capture(subject, frames=12)
    names = np.array([f"EXP-{i // 3}" for i in range(12)] + ["FREE"] * 4)
    rng = np.random.default_rng(0)
    people = np.repeat(["B1", "B2", "B3"], 8)
    bank = ExpressionBank(rng.normal(size=(24, 52)).astype(np.float32), people, people, range(24), "arkit52")
    return World(replace(capture, sequence=names), [ball_capture("E01", seed=1)], bank)


def test_wrong_doses_are_errors_that_name_them():
    for quantity, value, word in (("k", 1, "quantity"), ("p", 1.5, "p is 1.5"), ("bias", -1, "bias"),
                                  ("sequences", 2.5, "sequences"), ("top_k", 0, "top_k"),
                                  ("half", 3, "half is 3")):  # fmt: skip
        with pytest.raises(RafError, match=word):
            Dose(quantity, value)
    for dose in (Dose("p", 0.25), Dose("half", 1)):
        assert not exists(dose, "vanilla") and exists(dose, "raf")
        with pytest.raises(RafError, match=f"vanilla has no {dose.quantity}"):
            sampler_at(dose, "vanilla", world().bank)
    with pytest.raises(RafError, match="5 training sequences wanted, it has 4"):
        with_sequences(world().capture, 5)


def test_a_dose_changes_its_quantity_and_nothing_else():
    there, config = world(), train_config("tiny")
    assert Dose("steps", 1).name == Dose("bias", 0).name == "usual" and Dose("bias", 0.4).name == "bias-0.4"
    assert all(USUAL[name] in values for name, values in DOSES.items())
    for name, value in USUAL.items():
        assert changed(Dose(name, value), there, config) == (there, config)
    assert changed(Dose("steps", 0.5), there, config) == (there, replace(config, steps=round(config.steps / 2)))
    for name in ("p", "top_k", "half"):
        assert changed(Dose(name, 1), there, config) == (there, config)
    assert sampler_at(Dose("p", 0.25), "raf", there.bank).describe()["p"] == 0.25
    raf = sampler_at(Dose("top_k", 2), "raf", there.bank).describe()
    assert raf["top_k"] == 2 and raf["p"] == 0.5
    assert sampler_at(Dose("bias", 1), "vanilla", there.bank).name == "vanilla"
    for half in (1, 2):
        bank = sampler_at(Dose("half", half), "raf", there.bank).bank
        assert np.array_equal(bank.features, bank_variant(there.bank, f"half{half}").features)
    assert sampler_at(Dose("half", 0), "raf", there.bank).bank.people == there.bank.people


def test_fewer_sequences_are_contained_in_more_and_free_stays():
    capture = world().capture
    few, more = with_sequences(capture, 1), with_sequences(capture, 3)
    assert few.train.sum() == 3 and more.train.sum() == 9 and not (few.train & ~more.train).any()
    assert np.array_equal(few.free, capture.free) and with_sequences(capture, 4).train.sum() == 12
    assert not np.array_equal(few.train, with_sequences(capture, 1, seed=3).train), "a seed chooses others"


def test_bias_moves_each_person_by_an_offset_of_their_own():
    before = world()
    after = with_bias(before, 0.8, seed=1)
    moves = [after.capture.expression - before.capture.expression]
    moves += [after.drivers[0].expression - before.drivers[0].expression]
    moves += [(after.bank.features - before.bank.features)[before.bank.subjects == name] for name in ("B1", "B2", "B3")]
    for move in moves:
        np.testing.assert_allclose(move, np.broadcast_to(move[:1], move.shape), atol=1e-6)
    lengths = [np.linalg.norm(move[0]) for move in moves]
    assert min(lengths) > 0.4 and max(lengths) < 1.2 and np.std(lengths) > 0
    assert np.linalg.norm(moves[0][0] - moves[1][0]) > 0.4, "offsets of two people differ"
    assert np.array_equal(after.capture.pose, before.capture.pose) and after.bank.people == before.bank.people


def rows_of(method, quantity, value, scores, subject="900"):
    frame = {"driver": "E01", "sequence": "FREE", "frame": range(len(scores)), "camera": "1"}
    about = {
        "protocol": "cross",
        "label": method,
        "method": method,
        "subject": subject,
        "seed": 0,
        "steps": 7,
        "profile": "tiny",
    }
    return pd.DataFrame({**frame, "psnr/face": scores}).assign(**about, dose=Dose(quantity, value).name)


def usual(method, scores, subject="900"):
    return rows_of(method, "steps", 1, scores, subject)


def test_gains_are_differences_on_the_same_frames_at_the_same_dose(tmp_path):
    rows = [usual("vanilla", [20.0, 22.0]), rows_of("vanilla", "bias", 0.4, [10.0, 12.0])]
    rows += [usual("raf", [21.0, 22.0]), rows_of("raf", "bias", 0.4, [13.0, 13.0, 99.0])]
    rows += [rows_of("raf", "p", 1.0, [20.5, 21.5]), rows_of("raf", "sequences", 4, [1.0])]
    frames = frame_gains(pd.concat(rows), ["psnr/face"])
    assert [*zip(frames["dose"], frames["frame"], frames["psnr/face"], strict=True)] == [
        ("usual", 0, 1.0), ("usual", 1, 0.0), ("bias-0.4", 0, 3.0), ("bias-0.4", 1, 1.0), ("p-1", 0, 0.5),
        ("p-1", 1, -0.5),
    ], "p has no baseline of its own; what has no baseline is left out"  # fmt: skip
    more = changes(frames, ["psnr/face"])
    assert [*zip(more["dose"], more["psnr/face"], strict=True)] == [
        ("bias-0.4", 2.0), ("bias-0.4", 1.0), ("p-1", -0.5), ("p-1", -0.5)
    ]  # fmt: skip
    table = mean_gains(frames, "psnr/face")
    means = table.set_index(["quantity", "value"])["gain"].to_dict()
    assert means == {("bias", 0.0): 0.5, ("bias", 0.4): 2.0, ("p", 0.5): 0.5, ("p", 1.0): 0.0}
    shown = table.assign(label="raf", protocol="cross")
    figure = report.dose_figure(shown, tmp_path / "dose.png")
    assert figure.width > figure.height and (tmp_path / "dose.png").stat().st_size > 5000
    both = report.dose_figure(pd.concat([shown, shown.assign(protocol="self")]))
    assert both.width == figure.width and both.height > 1.5 * figure.height, "a row of panels for each protocol"
    with pytest.raises(RafError, match="no rows"):
        report.dose_figure(shown[:0])


def test_tables_of_doses_have_the_intervals_of_new_people():
    rng, rows = np.random.default_rng(0), []
    for subject in ("900", "901", "902"):
        vanilla = rng.normal(20, 3, 50)
        at_4 = vanilla - 5
        rows += [usual("vanilla", vanilla, subject), usual("raf", vanilla + rng.normal(1, 0.1, 50), subject)]
        rows += [rows_of("vanilla", "sequences", 4, at_4, subject), rows_of("raf", "sequences", 4, at_4 + 1.5, subject)]
    rows.append(rows_of("raf", "p", 1, vanilla - 2, "902"))
    rows = pd.concat(rows, ignore_index=True)
    gain, more = report.dose_sheets(rows, about=f"{short_avatars.setting(rows)}.")
    assert (gain.name, more.name) == ("dose_cross_vanilla", "dose_change_cross_vanilla")
    assert [line[:2] for line in gain.rows] == [["raf", "usual"], ["raf", "p-1"], ["raf", "sequences-4"]]
    assert [line[1] for line in more.rows] == ["p-1", "sequences-4"] and [line[3] for line in more.rows] == [1, 3]
    labelled = rows.assign(condition="avatar")[rows["dose"] == "usual"]
    same = report.hierarchical(labelled, "vanilla", "method", ["psnr/face"]).loc["raf − vanilla"]["psnr/face"]
    assert gain.rows[0][2][:3] == pytest.approx(same[["mean", "low", "high"]].tolist(), abs=1e-12)
    assert gain.rows[2][2].mean == pytest.approx(1.5) and more.rows[1][2].mean == pytest.approx(0.5, abs=0.05)
    assert more.rows[1][2].mark == "*" and more.rows[0][2].mean == pytest.approx(-3, abs=0.1)
    assert "7 steps" in gain.caption and "subjects (up to 3)" in more.caption and "Comparisons: 3;" in gain.caption
    with pytest.raises(RafError, match="vanilla and another method"):
        report.dose_sheets(rows[rows["label"] == "raf"])
    with pytest.raises(RafError, match="'dose'"):
        report.dose_sheets(rows.drop(columns="dose"))


def test_a_dose_is_found_by_its_name(capsys):
    for dose in (Dose("p", 0.25), Dose("top_k", 5), Dose("bias", 1.2), Dose("sequences", 4)):
        assert dose_named(dose.name) == dose
    assert dose_named(Dose("p", 0.5).name).usual
    for name, word in (("p", "such as p-0.25"), ("p-high", "such as p-0.25"), ("k-5", "quantity"), ("p-2", "p is 2"),
                       ("top_k-0.5", "top_k")):  # fmt: skip
        assert program.main(["--doses", name]) == 1
        assert word in capsys.readouterr().err


def test_labels_that_differ_in_the_map_share_an_avatar():
    assert short_avatars.drives_of(["vanilla", "raf", "noise-matched", "vanilla-fitted"]) == {
        "vanilla": ("direct", "fitted"), "raf": ("direct",), "noise_matched": ("direct",),
    }  # fmt: skip
    with pytest.raises(RafError, match="'raf-top5' is no method with the usual settings; choose from vanilla, "):
        short_avatars.drives_of(["raf-top5"])
    rows = pd.DataFrame({"method": ["vanilla", "vanilla", "raf"], "drive": ["direct", "fitted", "direct"]})
    assert short_avatars.with_labels(rows, ["vanilla-fitted", "raf"])["label"].to_dict() == {
        1: "vanilla-fitted",
        2: "raf",
    }


def test_the_program_trains_each_avatar_once_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAF_RUNS", str(tmp_path))
    trained, measured, there = [], [], world()

    class Balls:
        def __init__(self, profile):
            assert profile == "tiny"

        def drivers(self, subject):
            return ["E01"]

        def driver_to_measure(self, name):
            return there.drivers[0]

        def to_measure(self, subject):
            return there.capture

        def open_bank(self, subject):
            return there.bank

    def fit(capture, sampler, config, out, progress):
        trained.append((sampler.name, int(capture.train.sum()), config.steps))
        return sampler.name

    def evaluate(avatar, protocol, capture, drivers, metrics, how, progress):
        measured.append((protocol, how.drive))
        assert len(drivers) == (protocol == "cross") and metrics == ("psnr/face",)
        score = {"vanilla": 20.0, "raf": 21.0 if protocol == "cross" else 19.5}[avatar] + capture.train.sum() / 12
        rows = usual(avatar, [score]).drop(columns=["dose", "label"])
        return rows.assign(**{"rendered/jawOpen": 1.0, "protocol": protocol, "drive": how.drive})

    monkeypatch.setattr(short_avatars, "Recordings", Balls)
    monkeypatch.setattr(short_avatars, "fit", fit)
    monkeypatch.setattr(short_avatars, "evaluate", evaluate)
    monkeypatch.setattr(short_avatars, "METRICS", {"cross": ("psnr/face",), "self": ("psnr/face",)})
    doses = ["sequences-1", "sequences-22", "p-0.5", "p-0.7"]
    options = argparse.Namespace(subjects=["900"], labels=["vanilla", "raf"], doses=doses, seeds=[0], profile="tiny",
                                 steps=7)  # fmt: skip
    avatars = program.planned(options)
    assert [(one.method, one.dose.name) for one in avatars] == [
        ("vanilla", "usual"), ("raf", "usual"), ("vanilla", "sequences-1"), ("raf", "sequences-1"), ("raf", "p-0.7"),
    ]  # fmt: skip
    assert len({one.folder for one in avatars}) == 5 and not any(one.done for one in avatars)
    for one in avatars:
        short_avatars.make(one)
    assert trained == [("vanilla", 12, 7), ("raf", 12, 7), ("vanilla", 3, 7), ("raf", 3, 7), ("raf", 12, 7)]
    before = dict(os.environ)
    assert short_avatars.make_all(avatars) == avatars and len(trained) == 5, "finished avatars are kept"
    assert {name: os.environ.get(name) for name in before} == before, "limits of the workers are theirs only"
    more = replace(avatars[0], drives=("direct", "fitted"))
    short_avatars.make(more)
    assert more.folder == avatars[0].folder and len(trained) == 6, "the rest is measured, and only that"
    assert len(more.rows()) == len(avatars[0].rows()) + 1 and measured[-1] == ("cross", "fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(short_avatars.FRAMES, "cross", 6)
        assert not any(one.done for one in avatars), "rows of other frames are not taken for these"
        patch.setitem(short_avatars.FRAMES, "cross", 5)
        patch.setitem(short_avatars.METRICS, "self", ("psnr/face", "ssim/face"))
        assert not any(one.done for one in avatars)
    short_avatars.save_rows(program.gathered(avatars, options.labels), tmp_path / "dose" / "dose.npz")
    program.tell(program.gathered(avatars, options.labels), tmp_path / "dose")
    assert "| raf | sequences-1 |" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "dose" / "gains.csv")
    assert table[table.protocol == "cross"].gain.tolist() == pytest.approx([1.0] * 4)
    assert table[table.protocol == "self"].gain.tolist() == pytest.approx([-0.5] * 4)
    assert (tmp_path / "dose" / "dose.png").is_file()
    assert program.main(["--rows", str(tmp_path / "dose" / "dose.npz"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "gains.csv").read_bytes() == (tmp_path / "dose" / "gains.csv").read_bytes()
    assert program.main(["--rows", str(tmp_path / "none.npz")]) == 1 and "none.npz" in capsys.readouterr().err
    rows = short_avatars.load_rows(tmp_path / "dose" / "dose.npz")
    short_avatars.save_rows(rows.assign(label="noise-matched"), tmp_path / "odd.npz")
    assert program.main(["--rows", str(tmp_path / "odd.npz"), "--out", str(tmp_path / "odd")]) == 1
    assert "neither vanilla nor raf" in capsys.readouterr().err


SLOW = """
import os
import time

from raflib.lab import short_avatars

def slow(one):
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    short_avatars.make = slow
    short_avatars.make_all([short_avatars.ShortAvatar("900", "raf", 0, "tiny", 7)], 1)
"""


def test_a_killed_program_leaves_no_training_behind(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, tmp_path / "slow.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path) as killed:
        worker = psutil.Process(int(killed.stdout.readline()))
        killed.kill()
        worker.wait(10)  # TimeoutExpired where it goes on
