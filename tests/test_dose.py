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
from raflib.lab.dose import DOSES, OF_RAF, USUAL, Dose, World, changed, gains, sampler_at, with_bias, with_sequences

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
                                  ("sequences", 2.5, "sequences"), ("top_k", 0, "top_k")):  # fmt: skip
        with pytest.raises(RafError, match=word):
            Dose(quantity, value)
    with pytest.raises(RafError, match="vanilla has no p"):
        sampler_at(Dose("p", 0.25), "vanilla", world().bank)
    with pytest.raises(RafError, match="5 training sequences wanted, it has 4"):
        with_sequences(world().capture, 5)


def test_a_dose_changes_its_quantity_and_nothing_else():
    there, config = world(), train_config("tiny")
    assert Dose("steps", 1).name == Dose("bias", 0).name == "usual" and Dose("bias", 0.4).name == "bias-0.4"
    assert all(USUAL[name] in values for name, values in DOSES.items())
    for name, value in USUAL.items():
        assert changed(Dose(name, value), there, config) == (there, config)
    assert changed(Dose("steps", 0.5), there, config) == (there, replace(config, steps=round(config.steps / 2)))
    for name in OF_RAF:
        assert changed(Dose(name, 1), there, config) == (there, config)
    assert sampler_at(Dose("p", 0.25), "raf", there.bank).describe()["p"] == 0.25
    raf = sampler_at(Dose("top_k", 2), "raf", there.bank).describe()
    assert raf["top_k"] == 2 and raf["p"] == 0.5
    assert sampler_at(Dose("bias", 1), "vanilla", there.bank).name == "vanilla"


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
        "method": method,
        "quantity": quantity,
        "value": float(value),
        "subject": subject,
        "seed": 0,
    }
    return pd.DataFrame({**frame, "psnr/face": scores}).assign(**about)


def test_gains_are_differences_on_the_same_frames_at_the_same_dose(tmp_path):
    rows = [rows_of("vanilla", "bias", 0, [20.0, 22.0]), rows_of("vanilla", "bias", 0.4, [10.0, 12.0])]
    rows += [rows_of("raf", "bias", 0, [21.0, 22.0]), rows_of("raf", "bias", 0.4, [13.0, 13.0, 99.0])]
    rows += [rows_of("vanilla", "p", 0.5, [20.0, 22.0]), rows_of("raf", "p", 1.0, [20.5, 21.5])]
    rows += [rows_of("raf", "top_k", 5, [1.0])]
    table = gains(pd.concat(rows), "psnr/face").set_index(["quantity", "value"])["gain"]
    assert table.to_dict() == {("bias", 0.0): 0.5, ("bias", 0.4): 2.0, ("p", 1.0): 0.0}, "without a baseline: left out"
    shown = table.reset_index().assign(method="raf", protocol="cross", subject="900")
    figure = report.dose_figure(shown, tmp_path / "dose.png")
    assert figure.width > figure.height and (tmp_path / "dose.png").stat().st_size > 5000
    both = report.dose_figure(pd.concat([shown, shown.assign(protocol="self")]))
    assert both.width == figure.width and both.height > 1.5 * figure.height, "a row of panels for each protocol"
    with pytest.raises(RafError, match="no rows"):
        report.dose_figure(shown[:0])


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
        rows = rows_of(avatar, "", 0, [score]).drop(columns=["quantity", "value"])
        return rows.assign(**{"rendered/jawOpen": 1.0, "protocol": protocol})

    monkeypatch.setattr(short_avatars, "Recordings", Balls)
    monkeypatch.setattr(short_avatars, "fit", fit)
    monkeypatch.setattr(short_avatars, "evaluate", evaluate)
    for module in (program, short_avatars):
        monkeypatch.setattr(module, "METRICS", {"cross": ("psnr/face",), "self": ("psnr/face",)})
    monkeypatch.setattr(program, "DOSES", {"sequences": (1, 22), "p": (0.5, 0.7)})
    options = argparse.Namespace(subjects=["900"], methods=["vanilla", "raf"], quantities=["sequences", "p"], seeds=[0],
                                 profile="tiny", steps=7)  # fmt: skip
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
    program.tell(program.gathered(avatars), tmp_path / "dose")
    assert "sequences" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "dose" / "gains.csv")
    assert table[table.protocol == "cross"].gain.tolist() == pytest.approx([1.0] * 4)
    assert table[table.protocol == "self"].gain.tolist() == pytest.approx([-0.5] * 4)
    assert (tmp_path / "dose" / "dose.png").is_file()
    assert program.main(["--rows", str(tmp_path / "dose" / "dose.npz"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "gains.csv").read_bytes() == (tmp_path / "dose" / "gains.csv").read_bytes()
    assert program.main(["--rows", str(tmp_path / "none.npz")]) == 1 and "none.npz" in capsys.readouterr().err


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
