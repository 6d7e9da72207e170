"""Rows of many evaluations: gathered from run folders, and kept in one file by columns."""

import numpy as np
import pandas as pd
import pytest

from raflib.errors import RafError
from raflib.lab.rows import gather, load_rows, save_rows
from raflib.lab.steps import Step
from raflib.reading import read_arrays
from raflib.reading.arrays import Array


def table(count=50, seed=0):
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "subject": draw.choice(["074", "422"], count).astype(object),
            "part": ["FREE"] * count,
            "frame": draw.integers(0, 4_000, count),
            "detected": draw.random(count) < 0.5,
            "psnr/face": np.where(draw.random(count) < 0.1, np.nan, draw.normal(25, 2, count)),
        }
    )


def test_rows_come_back_as_they_were(tmp_path):
    rows = table()
    save_rows(rows, tmp_path / "rows.npz")
    again = load_rows(tmp_path / "rows.npz")
    assert list(again.columns) == list(rows.columns)
    for name in ("subject", "part", "frame", "detected"):
        assert again[name].tolist() == rows[name].tolist()
    np.testing.assert_allclose(again["psnr/face"], rows["psnr/face"], rtol=1e-6)
    assert again.groupby("subject")["psnr/face"].mean().index.tolist() == ["074", "422"], "ids stay texts"


def test_many_rows_are_small(tmp_path):
    rows = pd.concat([table(20_000, seed).assign(seed=seed) for seed in range(3)], ignore_index=True)
    save_rows(rows, tmp_path / "rows.npz")
    assert (tmp_path / "rows.npz").stat().st_size < 8 * len(rows)


def test_damaged_rows_are_named(tmp_path):
    path = tmp_path / "rows.npz"
    save_rows(table(), path)
    stored = read_arrays(path, {"*": Array("bifU", None, finite=False)}, "", "")
    for name, change in {
        "missing": lambda kept: kept.pop("floats_4"),
        "codes without a text": lambda kept: kept.update(codes_0=kept["codes_0"] + 5),
        "expected": lambda kept: kept.update(flags_3=kept["flags_3"][:-1]),
    }.items():
        kept = dict(stored)
        change(kept)
        np.savez_compressed(path, **kept)
        with pytest.raises(RafError, match=rf"rows\.npz: damaged table of rows .*{name}"):
            load_rows(path)
    with pytest.raises(RafError, match="column 'odd' holds other things"):
        save_rows(pd.DataFrame({"odd": [1, "a"]}), path)


def test_rows_are_gathered_with_their_runs_parameters(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_RUNS", str(tmp_path))
    steps = []
    for method, sigma in (("noise", "0.5"), ("vanilla", "0.08"), ("raf", "0.08")):
        step = Step("05_evaluate", {"subject": "422", "method": method, "sigma": sigma, "profile": "tiny"}, method)
        steps += [Step("04_train", step.parameters), step]
        if method != "raf":
            step.results.mkdir()
            table(5).assign(subject="422", driver="E01", method=method).to_csv(step.results / "rows.csv", index=False)
    rows = gather(steps)
    assert rows["method"].tolist() == ["noise"] * 5 + ["vanilla"] * 5
    assert rows["sigma"].tolist() == [0.5] * 5 + [0.08] * 5 and set(rows["profile"]) == {"tiny"}
    save_rows(rows, tmp_path / "rows.npz")
    assert load_rows(tmp_path / "rows.npz")["subject"].tolist() == ["422"] * 10
    with pytest.raises(RafError, match="none of these evaluations has results"):
        gather(steps[4:])
