"""What the studio's people truly do in a bank's rows, and how much nearer in the truth neighbours are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from raflib.bank import ExpressionBank
from raflib.coverage import retrieval_table
from raflib.coverage.intervals import ratio
from raflib.errors import RafError


def true_rows(
    bank: ExpressionBank, rows: Int[np.ndarray, " R"], progress: bool = True
) -> tuple[Float[np.ndarray, "R 52"], Float[np.ndarray, "R 3"]]:
    """True actions [R,52] (order `studio.ACTIONS`) and head angles [R,3] (yaw, pitch, roll; degrees) of rows.

    Each sequence of a person that the rows need is performed once, which takes some 10 ms. Raises RafError for a
    sequence or frame that the studio's people do not perform.
    """
    from raflib import studio

    actions = np.empty((len(rows), len(studio.ACTIONS)))
    angles = np.empty((len(rows), 3))
    moments = pd.DataFrame({"who": np.asarray(bank.subjects)[rows], "sequence": np.asarray(bank.sequence)[rows]})
    groups = moments.groupby(["who", "sequence"], sort=True).indices
    for (who, sequence), places in tqdm(groups.items(), "true actions", unit="sequence", disable=not progress):
        frames = np.asarray(bank.frame)[rows[places]]
        acted = studio.act(who, sequence) if sequence in studio.SEQUENCES else None
        if acted is None or frames.min() < 0 or frames.max() >= len(acted):
            raise RafError(
                f"{who}: performs no frame {frames.max()} of sequence {sequence!r}; only rows of the studio's people "
                "have a truth"
            )
        actions[places], angles[places] = acted.actions[frames], acted.angles[frames]
    return actions, angles


def pose_vectors(angles: Float[np.ndarray, "R 3"]) -> Float[np.ndarray, "R 3"]:
    """Head rotations as axis-angle in degrees, from yaw, pitch and roll in degrees.

    All heads of the studio look straight ahead at 0, so people can be compared. For the turns that people make, the
    distance of two vectors is the angle between the heads within a few percent.
    """
    from raflib.studio.motion import rotation

    return Rotation.from_matrix([rotation(each) for each in angles]).as_rotvec(degrees=True)


def nearness(
    bank: ExpressionBank, sizes: Iterable[int], queries: int = 10, seed: int = 0, progress: bool = True
) -> pd.DataFrame:
    """How much nearer the nearest row truly is than a random row, by feature space and number of people in the bank.

    Everybody in the bank takes a turn as the subject, with `queries` random rows, and others are the bank
    (`raflib.coverage.retrieval_table`).

    Args:
        bank: people of the studio.
        sizes: numbers of other people, each below the number of people in the bank.
        queries: rows of each person that are queries.
        seed: of all random choices.
        progress: show a progress bar while people perform.

    Returns one row per `space`, `axis` ("expression", "pose") and number of `people`, with means over subjects: `found`
    and `random` distances (length in the space of actions; degrees), `closer`, which is 1 − found / random, with its
    95 % interval `low`, `high` for other subjects, and `share`, of the way to the truly nearest row.
    """
    actions, angles = true_rows(bank, np.arange(len(bank)), progress)
    truths = {"expression": actions, "pose": pose_vectors(angles)}
    tables = []
    for space in (bank.feature_space, *bank.spaces):
        for axis, truth in truths.items():
            table = retrieval_table(bank.in_space(space), truth, sizes, (1,), queries, seed)
            tables.append(table.assign(space=space, axis=axis))
    whole = pd.concat(tables, ignore_index=True)
    rows = []
    for (space, axis, people), part in whole.groupby(["space", "axis", "people"], sort=True):
        found, random, nearest = (part[name].to_numpy() for name in ("found", "random", "nearest"))
        change, low, high = ratio(random, found)
        row = {"space": space, "axis": axis, "people": people, "found": found.mean(), "random": random.mean()}
        way = (random - nearest).mean()
        share = (random - found).mean() / way if way > 0 else np.nan
        rows.append({**row, "closer": -change, "low": -high, "high": -low, "share": share})
    return pd.DataFrame(rows)
