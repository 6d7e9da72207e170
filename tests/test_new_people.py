"""Avatars of people whom no other comparison uses (`scripts/new_people.py`), on made-up rows."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pandas as pd
import pytest
from grid_rows import grid_rows
from PIL import Image

from raflib.lab import short_study
from raflib.lab.cells import labelled
from raflib.lab.outside import OUTSIDE
from raflib.lab.protocol import BENCHMARK, EXTERNAL, NEW_PEOPLE
from raflib.lab.rows import load_rows, save_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import new_people

sys.path.pop(0)


def test_an_avatar_is_trained_once_for_all_its_maps_and_nobody_is_used_twice():
    avatars = new_people.planned(["N01", "N02"], [0], "tiny", 7)
    assert [(one.subject, one.method, one.drives) for one in avatars[:3]] == [
        ("N01", "vanilla", ("direct", "fitted")), ("N01", "raf", ("direct",)), ("N01", "noise_matched", ("direct",)),
    ]  # fmt: skip
    assert len(avatars) == 6 and len({one.folder for one in avatars}) == 6
    turns = new_people.planned(["N01", "N02", "N03"], [0], "tiny", 7, 2)
    assert [one.subject for one in turns] == ["N01", "N02"] * 3 + ["N03"] * 3, "two processes film two people"
    assert set(turns[:6]) == set(avatars)
    assert not set(NEW_PEOPLE) & {*BENCHMARK, *EXTERNAL}
    assert all(not name.startswith("B") for name in NEW_PEOPLE), "these names are the bank's"


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Two people of three have finished avatars, whose rows are of a made-up grid in which RAF gains 1 dB."""
    monkeypatch.setenv("RAF_RUNS", str(tmp_path))
    people = ["N01", "N02", "N03"]
    rows = labelled(grid_rows(people, new_people.LABELS, [0], {"raf": 1.0}, frames=2, extra=False))
    for one in new_people.planned(people[:2], [0], "tiny", 7):
        of_one = rows[(rows["subject"] == one.subject) & (rows["method"] == one.method)]
        kept = [name for name in rows if name not in ("part", "label", "profile", "steps")]
        for path, (protocol, drive) in one.parts.items():
            save_rows(of_one.loc[(of_one["protocol"] == protocol) & (of_one["drive"] == drive), kept], path)

    def placed(rows, target_of, driver_of):
        cross = rows[rows["protocol"] == "cross"]
        return cross.assign(**{OUTSIDE: cross["frame"] / 50 + cross["driver"].str[1:].astype(float)})

    monkeypatch.setattr(new_people, "with_outside", placed)
    monkeypatch.setattr(short_study, "make_all", lambda wanted, workers: [one for one in wanted if one.done])
    return tmp_path / "new_people"


def test_what_is_done_is_told_and_told_again_from_its_file(finished, monkeypatch, capsys):
    arguments = ["--subjects", "N01", "N02", "N03", "--profile", "tiny", "--steps", "7"]
    assert new_people.main(arguments) == 1, "one person is missing"
    said = capsys.readouterr().out
    assert "raf − vanilla" in said and "vanilla-fitted − raf" in said and "7 steps" in said
    rows = load_rows(finished / "new_people.npz")
    assert set(rows["subject"]) == {"N01", "N02"} and set(rows["label"]) == set(new_people.LABELS)
    fitted = rows[rows["label"] == "vanilla-fitted"]
    assert set(fitted["protocol"]) == {"cross"} and set(fitted["drive"]) == {"fitted"}
    gains = pd.read_csv(finished / "by_subject.csv").query("label == 'raf'")
    assert gains["subject"].tolist() == ["N01", "N02"] and gains["gain"].between(0.5, 1.5).all()
    with open(finished / "differences_cross_vanilla.csv") as stream:
        assert [row[0] for row in csv.reader(stream)][1:] == [
            "noise-matched − vanilla", "raf − vanilla", "vanilla-fitted − vanilla",
        ]  # fmt: skip
    for name in ("new_people.png", "when_it_helps.png"):
        assert min(Image.open(finished / name).size) > 200
    assert rows.loc[rows["protocol"] == "cross", OUTSIDE].notna().all(), "a file of rows needs no recordings"
    monkeypatch.setattr(new_people, "with_outside", lambda *_: pytest.fail("nobody is filmed"))
    again = finished.parent / "again"
    assert new_people.main(["--rows", str(finished / "new_people.npz"), "--out", str(again)]) == 0
    for name in ("by_subject.csv", "differences_cross_raf.md", "rise_with_distance.csv"):
        assert (again / name).read_bytes() == (finished / name).read_bytes()


def test_a_file_that_is_missing_is_named(tmp_path, capsys):
    assert new_people.main(["--rows", str(tmp_path / "none.npz")]) == 1
    assert "none.npz" in capsys.readouterr().err
