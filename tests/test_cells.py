"""Cells of the grid in result rows: labels, recipes, settings, and what is missing."""

import pandas as pd
import pytest
from grid_rows import grid_rows, parameters

from raflib.errors import RafError
from raflib.lab import cells
from raflib.lab.cells import METHODS, labelled, presence, recipes, settings, shipped_rows, title
from raflib.lab.folders import run_folder
from raflib.lab.rows import load_rows, save_rows


def test_every_method_is_found_again_in_stored_rows(tmp_path):
    save_rows(grid_rows(["422"], list(METHODS), [0], drivers=["E01"], frames=1, extra=False), tmp_path / "rows.npz")
    ((_, part),) = settings(load_rows(tmp_path / "rows.npz"))
    assert part["label"].drop_duplicates().tolist() == list(METHODS)
    for (subject, label, seed), recipe in recipes(part).items():
        given = {"profile": "tiny", "subject": subject, "seed": str(seed), **METHODS[label]}
        assert run_folder("05_evaluate", recipe) == run_folder("05_evaluate", given), label


def test_other_options_have_a_name_of_their_own_and_unused_ones_make_no_difference():
    values = {"method": "raf", **parameters("raf")}
    assert cells.label_of({**values, "p": 0.25}) == "raf p 0.25"
    assert cells.label_of({**values, "bank": "half1", "top_k": 5}) == "raf bank half1 top_k 5"
    assert cells.label_of({**values, "sigma": 0.5}) == "raf"
    assert cells.label_of({**values, "method": "vanilla", "bank": "half1"}) == "vanilla"
    assert cells.label_of({**values, "method": "elsewhere"}) == "elsewhere"
    assert cells.label_of({**values, "method": "vanilla", "drive": "fitted", "p": 0.25}) == "vanilla-fitted"
    assert cells.label_of({**values, "drive": "nearest"}) == "raf drive nearest"


def test_rows_of_different_settings_are_not_mixed():
    rows = grid_rows(["422"], ["raf"], [0], frames=1)
    parts = {title(setting): len(part) for setting, part in settings(pd.concat([rows, rows.assign(features="open42")]))}
    assert parts == {
        "Source studio, profile tiny.": len(rows), "Source studio, features open42, profile tiny.": len(rows),
    }  # fmt: skip
    with pytest.raises(RafError, match="column 'features' is missing; gather them"):
        list(settings(rows.drop(columns="features")))


def test_a_recipe_belongs_to_one_setting():
    rows = labelled(grid_rows(["422"], ["raf"], [0], frames=1))
    with pytest.raises(RafError, match=r"422 raf 0 are of several settings \(driver_frames: 0, 20\)"):
        recipes(pd.concat([rows, rows.assign(driver_frames=20)]))


def test_what_is_missing_is_listed():
    rows = labelled(grid_rows(["388", "422"], ["vanilla", "raf"], [0, 1], frames=1))
    rows = rows[~((rows["label"] == "raf") & (rows["subject"] == "422") & (rows["seed"] == 1))]
    text = presence(rows, ["vanilla", "raf"])
    assert text.startswith("2 subjects (388, 422), 2 seeds (0, 1), 6 drivers; 7 of 20 avatars")
    assert "raf 422 (1)" in text and "vanilla 443 (0, 1)" in text and "vanilla 388" not in text
    many = presence(rows, list(METHODS))
    assert "noise-0.08 (all)" in many and "noise-0.08 388" not in many, "most methods have no avatar"
    assert f"and {len(METHODS) - 2 + 2 * 3 + 1 - cells.LISTED} more." in many
    others = presence(labelled(grid_rows(["101"], ["raf"], [0], frames=1)), ["raf"])
    assert others == "1 subject (101), 1 seed (0), 6 drivers; 1 of 1 avatars (subject × method × seed)."


def test_rows_that_ship_are_read_from_all_files_of_the_papers_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_ROOT", str(tmp_path))
    assert shipped_rows() is None
    (tmp_path / "data" / "results").mkdir(parents=True)
    for name, subject in (("paper_demo", "388"), ("paper_gpu", "422"), ("new_people", "N01")):
        save_rows(grid_rows([subject], ["raf"], [0], frames=1), tmp_path / "data" / "results" / f"{name}.npz")
    assert sorted(set(shipped_rows()["subject"])) == ["388", "422"]
