"""Rows made again: which cells are picked, how rows are compared, and one real repetition."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from grid_rows import grid_rows

from raflib.errors import RafError
from raflib.lab.cells import labelled
from raflib.lab.rows import load_rows, save_rows
from raflib.runs import runs_root

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import paper
import verify_rows

sys.path.pop(0)


@pytest.fixture
def stored(tmp_path):
    save_rows(grid_rows(frames=2), tmp_path / "rows.npz")
    return labelled(load_rows(tmp_path / "rows.npz"))


def test_cells_are_picked_by_the_seed(stored):
    first, again, other = (verify_rows.picked(stored, 2, seed) for seed in (0, 0, 1))
    assert first == again != other and len(set(first)) == 2
    assert len(verify_rows.picked(stored, 18, 0)) == 18
    with pytest.raises(RafError, match="--cells 19; the rows hold 18 avatars"):
        verify_rows.picked(stored, 19, 0)


def test_what_a_file_rounds_is_no_difference_and_a_changed_value_is(stored):
    fresh = labelled(grid_rows(frames=2)).sample(frac=1, random_state=0)
    cell = ("422", "raf", 1)
    old, new = verify_rows.of_cell(stored, cell), verify_rows.of_cell(fresh, cell)
    table = verify_rows.compared(old, new).set_index("metric")
    assert set(table["largest"]) == {0} and "psnr/face" in table.index and "p" not in table.index
    changed = new.copy()
    changed.loc[changed.index[changed["condition"] == "avatar"][0], "psnr/face"] += 0.5
    table = verify_rows.compared(old, changed).set_index("metric")
    assert table.loc["psnr/face", "largest"] == pytest.approx(0.5 / 25, rel=0.3)
    assert table.loc["ssim/face", "largest"] == 0
    assert table.loc["psnr/face", "new mean"] > table.loc["psnr/face", "stored mean"]


def test_a_face_that_was_found_only_once_is_a_difference(stored):
    part = verify_rows.of_cell(stored, ("422", "raf", 1))
    lost = part.assign(**{"aed/arkit52/l1": part["aed/arkit52/l1"].where(np.arange(len(part)) > 0)})
    assert np.isinf(verify_rows.compared(part, lost).set_index("metric").loc["aed/arkit52/l1", "largest"])
    assert set(verify_rows.compared(lost, lost)["largest"]) == {0}


def test_other_frames_and_missing_weights_are_named(stored):
    part = verify_rows.of_cell(stored, ("422", "raf", 1))
    with pytest.raises(RafError, match="rows were made again"):
        verify_rows.compared(part, part.iloc[1:])
    with pytest.raises(RafError, match="ssim/face was not measured again; bring the weights"):
        verify_rows.compared(part, part.drop(columns="ssim/face"))
    unmeasured = part.assign(**{"aed/deca/l1": np.float32(np.nan)})
    assert "aed/deca/l1" not in set(verify_rows.compared(unmeasured, part)["metric"])


def test_the_exit_status_tells_whether_rows_agree(stored, tmp_path, monkeypatch, capsys):
    asked, before = [], runs_root()

    def again(cell, recipe, threads):
        asked.append((cell, recipe["method"], threads, runs_root() != before))
        return verify_rows.of_cell(stored, cell).assign(**change)

    monkeypatch.setattr(verify_rows, "made_again", again)
    change = {}
    arguments = [str(tmp_path / "rows.npz"), "--seed", "3"]
    assert verify_rows.main(arguments) == 0 and "the rows agree: 0, tolerance 0.0001" in capsys.readouterr().out
    assert len(asked) == 2 and all(one[2:] == (1, True) for one in asked) and runs_root() == before
    change["ssim/face"] = 0.5
    assert verify_rows.main(arguments) == 1
    assert "THE ROWS DIFFER" in (told := capsys.readouterr().out) and "in ssim/face" in told
    assert verify_rows.main([*arguments, "--tolerance", "2"]) == 0
    assert verify_rows.main([*arguments, "--cells", "0"]) == 1 and "--cells 0" in capsys.readouterr().err


@pytest.mark.minutes
def test_a_small_grid_is_made_again_to_the_last_bit(tmp_path):
    """Trains four small avatars: two in a sweep, and both of them again in another folder."""
    rows = tmp_path / "rows.npz"
    grid = ["--profile", "tiny", "--subjects", "422", "--methods", "vanilla", "raf", "--seeds", "0", "--workers", "2"]
    assert paper.main([*grid, "--out", str(rows)]) == 0
    assert verify_rows.main([str(rows), "--cells", "2", "--tolerance", "0"]) == 0
