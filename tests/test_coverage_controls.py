"""What is compared with neighbours in Table 1: random rows, noise as long (`scripts/coverage_controls.py`)."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from raflib.bank import ExpressionBank
from raflib.coverage import training_sets

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
try:
    import coverage_controls as controls
finally:
    sys.path.pop(0)


def test_partners_are_as_far_as_neighbours_or_rows_of_others():
    rng = np.random.default_rng(0)
    people = np.repeat(["a", "b", "me"], 30)
    bank = ExpressionBank(rng.normal(size=(90, 5)).astype(np.float32), people, people, range(90), "arkit52")
    own = rng.normal(size=(12, 5)).astype(np.float32)
    sets = training_sets(own, "me", {"driver": rng.normal(size=(8, 5))}, bank, repeats=2)
    found = controls.conditions({"arkit52": sets, controls.SPACE: sets}, bank, "me", 0)
    assert list(found) == ["neighbours in arkit52", "neighbours in open42", "random rows", "noise of the same length"]
    pools = {name: np.split(one.pool, 2) for name, one in found.items()}
    assert all(np.array_equal(first, own) for first, _ in pools.values())
    length = {name: np.linalg.norm(partner - own, axis=1) for name, (_, partner) in pools.items()}
    np.testing.assert_allclose(length["noise of the same length"], length["neighbours in open42"], rtol=1e-5)
    rows = {tuple(row) for row in bank.features[bank.subjects != "me"]}
    assert all(tuple(row) in rows for row in pools["random rows"][1])
    assert length["random rows"].mean() > length["neighbours in arkit52"].mean()
    for one in found.values():
        assert replace(one, pool=sets.pool).vanilla is sets.vanilla and one.raf is sets.raf, "the same rows are chosen"


def test_changes_are_of_the_average_over_subjects():
    rows = [(s, m, v) for s, v0, v1 in (("x", 1.0, 0.5), ("y", 3.0, 2.5)) for m, v in (("vanilla", v0), ("raf", v1))]
    table = pd.DataFrame(rows, columns=["subject", "method", "value"]).assign(metric="b2t", condition="c")
    assert controls.changes(table).loc["c", "b2t"].startswith("-25.0 [")
