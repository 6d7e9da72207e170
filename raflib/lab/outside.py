"""When does a method help? Gains over vanilla, by how far the driver's vector lies outside the subject's recording.

A vector is *inside* where `raflib.driving.Projected` leaves it as it is: on the principal axes that hold 99 % of the
variance of the subject's training vectors, and in their ranges. Its distance to its projection is how far it is
outside. An avatar has to extrapolate there, so a method that regularises it can help there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from raflib.capture import Capture
from raflib.driving import Projected
from raflib.errors import RafError
from raflib.report.hierarchical import hierarchical
from raflib.report.paper_layout import driven_by

OUTSIDE = "outside"
"""The column that `with_outside` adds: the distance of the driver's vector to its projection (features' units)."""


def with_outside(
    rows: pd.DataFrame, target_of: Callable[[str], Capture], driver_of: Callable[[str], Capture]
) -> pd.DataFrame:
    """The rows of cross-driving with the column `OUTSIDE`.

    Args:
        rows: labelled result rows of one setting (`raflib.lab.cells`).
        target_of: the capture of a subject, whose training frames say what is inside.
        driver_of: the capture of a driver.

    Raises RafError where the rows hold no cross-driving, and for a frame that the driver's capture lacks.
    """
    part = driven_by(rows, "cross")
    if not len(part):
        raise RafError("with_outside: the rows hold no cross-driving")
    keys = ["subject", "driver", "sequence", "frame"]
    known = part[keys].drop_duplicates()
    tables = []
    for (subject, driver), moments in known.groupby(["subject", "driver"], sort=False):
        target, capture = target_of(str(subject)), driver_of(str(driver))
        where = {(str(s), int(f)): t for t, (s, f) in enumerate(zip(capture.sequence, capture.frame, strict=True))}
        wanted = [(str(s), int(f)) for s, f in zip(moments["sequence"], moments["frame"], strict=True)]
        if absent := [place for place in wanted if place not in where]:
            raise RafError(
                f"with_outside: the capture of driver {driver} has no frame {absent[0][1]} of {absent[0][0]}; use the "
                "source and profile of the rows"
            )
        given = capture.expression[[where[place] for place in wanted]]
        inside = Projected()(given, capture.expression[capture.free], target.expression[target.train])
        tables.append(moments.assign(**{OUTSIDE: np.linalg.norm(inside - given, axis=1)}))
    return part.merge(pd.concat(tables), on=keys)


def gains_by_distance(
    rows: pd.DataFrame, labels: Sequence[str], baseline: str = "vanilla", metric: str = "psnr/face", parts: int = 4
) -> pd.DataFrame:
    """Paired differences to `baseline` in each of `parts` equally large groups of frames, by `OUTSIDE`.

    Groups are of all subjects' frames together, from the nearest to the farthest. Intervals are those of
    `raflib.report.hierarchical`, for new subjects and drivers.

    Returns a row for each group and label: label, part (1 to `parts`), from, to and `OUTSIDE` (its range and mean),
    mean, low, high, frames. A label that has no frame in common with the baseline is left out. RafError for a baseline
    or metric that the rows lack.
    """
    if absent := [name for name in (OUTSIDE, metric) if name not in rows]:
        raise RafError(f"gains_by_distance: column {absent[0]!r} is missing; `with_outside` adds the distance")
    rows = rows[(rows["condition"] == "avatar") & rows["label"].isin([baseline, *labels])]
    base = rows[rows["label"] == baseline]
    if not len(base):
        raise RafError(f"gains_by_distance: the rows hold no avatar of {baseline}")
    edges = np.quantile(base[OUTSIDE], np.linspace(0, 1, parts + 1))
    group = np.clip(np.searchsorted(edges, rows[OUTSIDE], side="left"), 1, parts)
    records = []
    for number in range(1, parts + 1):
        part = rows[group == number]
        summary = hierarchical(part, baseline, metrics=[metric])
        distance = part.loc[part["label"] == baseline, OUTSIDE].mean()
        for label in labels:
            if (name := f"{label} − {baseline}") in summary.index:
                row = summary.loc[name]
                interval = {side: float(row[metric, side]) for side in ("mean", "low", "high")}
                about = {"label": label, "part": number, "from": edges[number - 1], "to": edges[number]}
                records.append({**about, OUTSIDE: distance, **interval, "frames": int(row["frames", ""])})
    return pd.DataFrame(records)
