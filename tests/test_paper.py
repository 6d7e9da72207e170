"""The grid of avatars behind the paper's tables: its plan, and rows added to a file that holds a part of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
from grid_rows import grid_rows

from raflib.errors import RafError
from raflib.lab.cells import avatars_of, labelled
from raflib.lab.rows import load_rows, save_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import paper

sys.path.pop(0)


def test_the_plan_has_a_cell_for_each_avatar():
    driven = {name: about for name, about in paper.METHODS.items() if "drive" in about}
    methods = [name for name, about in paper.METHODS.items() if about.get("bank") is None and name not in driven]
    first, avatars = paper.plan(["422", "475"], methods, [0, 1], {"profile": "tiny"}, 1)
    assert len(first) == 2 and len(avatars) == 2 * 2 * len(methods)
    steps = [one for cell in [*first, *avatars] for one in cell]
    assert len({one.name for one in steps}) == len(steps) == len({one.results for one in steps})
    for train, evaluate in avatars:
        assert (train.notebook, evaluate.notebook) == ("04_train", "05_evaluate")
    assert {one.parameters.get("sigma") for one in steps} >= {None, "0.5"}
    first, shortened = paper.plan(["422", "475"], methods, [0, 1], {"profile": "tiny"}, 1, 200)
    assert all("steps" not in one.parameters for cell in first for one in cell), "only trainings have steps"
    assert {one.parameters["steps"] for cell in shortened for one in cell} == {"200"}
    assert not {one.name for cell in shortened for one in cell} & {one.name for cell in avatars for one in cell}
    _, longer = paper.plan(["422"], methods, [0], {"profile": "tiny"}, 1, driver_frames=20)
    for train, evaluate in longer:
        assert "driver_frames" not in train.parameters and evaluate.parameters["driver_frames"] == "20"
    _, once = paper.plan(["422"], ["raf", *driven], [0], {"profile": "tiny"}, 1)
    told = [[(one.notebook, one.parameters.get("drive")) for one in cell] for cell in once]
    both = [("04_train", None), ("05_evaluate", None), ("05_evaluate", "fitted")]
    assert told == [both, [both[0], both[2]]], "an avatar is trained once, for all its driving maps"
    assert len({one.results for cell in once for one in cell}) == 5


def test_avatars_that_are_there_are_left_out_of_the_plan():
    grid = (["422", "475"], ["vanilla", "raf", "vanilla-fitted"], [0], {"profile": "tiny"}, 1)
    first, avatars = paper.plan(*grid, without=[("422", "raf", 0), ("475", "vanilla", 0), ("475", "raf", 1)])
    names = [[one.name for one in cell] for cell in avatars]
    assert names == [
        [
            "04_train_422_vanilla-seed0_tiny",
            "05_evaluate_422_vanilla-seed0_tiny",
            "05_evaluate_422_vanilla-fitted-seed0_tiny",
        ],
        ["04_train_475_raf-seed0_tiny", "05_evaluate_475_raf-seed0_tiny"],
        ["04_train_475_vanilla-fitted-seed0_tiny", "05_evaluate_475_vanilla-fitted-seed0_tiny"],
    ]
    assert len(first) == 2
    whole = [("422", label, 0) for label in grid[1]]
    first, avatars = paper.plan(*grid, without=whole)
    assert len(first) == 1 and all("475" in cell[0].name for cell in avatars), "nothing is left to do for 422"


def test_avatars_of_other_settings_do_not_count():
    rows = grid_rows()
    given = {"profile": rows["profile"][0], "driver_frames": str(rows["driver_frames"][0])}
    held = avatars_of(rows, given)
    assert ("422", "noise-0.08", 1) in held and len(held) == 18
    assert avatars_of(rows.assign(features="open42"), given) == set()
    mixed = pd.concat([rows, rows[rows["subject"] == "422"].assign(seed=5, steps=7)])
    assert avatars_of(mixed, given) == held
    assert avatars_of(mixed, {**given, "steps": "7"}) == {(*cell[:2], 5) for cell in held if cell[0] == "422"}
    with pytest.raises(RafError, match="is missing; gather them"):
        avatars_of(rows.drop(columns="profile"), given)


@pytest.mark.parametrize(("stopped", "meanwhile"), [(False, False), (True, False), (False, True)])
def test_rows_are_added_to_a_file_that_keeps_its_own(tmp_path, monkeypatch, capsys, stopped, meanwhile):
    """Also those that another program adds `meanwhile`."""
    rows, file, asked, cell = grid_rows(frames=2), tmp_path / "rows.npz", [], ["subject", "method", "seed"]
    kept = labelled(rows).query("not (subject == '443' and label == 'raf')").drop(columns="label")
    save_rows(kept, file)

    def sweep(stages, root, folder, **how):
        if meanwhile:
            save_rows(pd.concat([kept, rows.query("subject == '443' and method == 'raf' and seed == 0")]), file)
        asked.extend(one for cell in stages[1] for one in cell if one.notebook == "05_evaluate")
        if stopped:
            raise KeyboardInterrupt
        return []

    def gathered(steps):
        names = {tuple(one.parameters[name] for name in cell) for one in steps if one.notebook == "05_evaluate"}
        return rows[[values in names for values in rows[cell].astype(str).itertuples(False, None)]]

    monkeypatch.setattr(paper, "sweep", sweep)
    monkeypatch.setattr(paper, "gather", gathered)
    given = ["--profile", rows["profile"][0], "--driver-frames", str(rows["driver_frames"][0])]
    grid = ["--subjects", "388", "443", "--methods", "vanilla", "raf", "--seeds", "0", "1", *given]
    assert paper.main([*grid, "--add-to", str(file)]) == (130 if stopped else 0)
    assert [(one.parameters["subject"], one.parameters["method"], one.parameters["seed"]) for one in asked] == [
        ("443", "raf", "0"), ("443", "raf", "1"),
    ]  # fmt: skip
    after = load_rows(file)
    assert len(after) == len(rows) and list(after.columns) == list(kept.columns)
    pd.testing.assert_frame_equal(after.iloc[: len(kept)], load_rows_of(kept, tmp_path))
    assert "rows of finished avatars" in capsys.readouterr().out


def load_rows_of(rows, folder):
    save_rows(rows, folder / "own.npz")
    return load_rows(folder / "own.npz")


def test_a_file_that_cannot_be_added_to_is_named_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paper, "sweep", lambda *_, **__: pytest.fail("nothing runs"))
    assert paper.main(["--add-to", str(tmp_path / "none.npz")]) == 1
    assert "none.npz" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        paper.main(["--add-to", "a.npz", "--out", "b.npz"])
    assert "not allowed with" in capsys.readouterr().err
