"""What the studio's people truly do in a bank's rows, and how much nearer in the truth neighbours are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from raflib.bank import ExpressionBank
from raflib.coverage import retrieval_tables
from raflib.coverage.intervals import ratio
from raflib.openbank import true_motion


def pose_vectors(angles: Float[np.ndarray, "R 3"]) -> Float[np.ndarray, "R 3"]:
    """Head rotations as axis-angle in degrees, from yaw, pitch and roll in degrees.

    All heads of the studio look straight ahead at 0, so people can be compared. For the turns that people make, the
    distance of two vectors is the angle between the heads within a few percent.
    """
    from raflib.studio.motion import rotation

    return Rotation.from_matrix([rotation(each) for each in angles]).as_rotvec(degrees=True)


def closer_than_random(
    bank: ExpressionBank,
    sizes: Iterable[int],
    queries: int = 10,
    subjects: int = 60,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """How much nearer the nearest row truly is than a random row, by feature space and number of people in the bank.

    People of the bank take turns as the subject, with random rows as queries, and others are the bank
    (`raflib.coverage.retrieval_tables`).

    Args:
        bank: people of the studio.
        sizes: numbers of other people, each below the number of people in the bank.
        queries: rows of each subject that are queries.
        subjects: number of subjects at most, evenly chosen by name.
        seed: of all random choices.
        progress: show a progress bar while people perform.

    Returns one row per `space`, `axis` ("expression", "pose") and number of `people`, with means over subjects: `found`
    and `random` distances (length in the space of actions; degrees), `closer`, which is 1 − found / random, with its
    95 % interval `low`, `high` for other subjects, and `share`, of the way to the truly nearest row.
    """
    actions, angles = true_motion(bank, progress)
    truths = {"expression": actions, "pose": pose_vectors(angles)}
    features = {space: bank.in_space(space).features for space in (bank.feature_space, *bank.spaces)}
    turns = bank.people[:: max(1, len(bank.people) // subjects)][:subjects]
    whole = retrieval_tables(features, truths, bank.subjects, sizes, (1,), queries, seed, turns)
    rows = []
    for (space, axis, people), part in whole.groupby(["search", "truth", "people"], sort=True):
        found, random, nearest = (part[name].to_numpy() for name in ("found", "random", "nearest"))
        change, low, high = ratio(random, found)
        row = {"space": space, "axis": axis, "people": people, "found": found.mean(), "random": random.mean()}
        way = (random - nearest).mean()
        share = (random - found).mean() / way if way > 0 else np.nan
        rows.append({**row, "closer": -change, "low": -high, "high": -low, "share": share})
    return pd.DataFrame(rows)
