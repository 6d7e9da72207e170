"""How far each driver's vector lies outside the subject's recording.

A vector is *inside* where `raflib.driving.Projected` leaves it as it is: on the principal axes that hold 99 % of the
variance of the subject's training vectors, and in their ranges. Its distance to its projection is how far it is
outside. An avatar has to extrapolate there, so a method that regularises it can help there and nowhere else
(`raflib.report.gains_by_distance`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from raflib.capture import Capture
from raflib.driving import Projected
from raflib.errors import RafError

OUTSIDE = "outside"
"""The column that `with_outside` adds: the distance of the driver's vector to its projection (features' units)."""

FRAME = ["subject", "driver", "sequence", "frame"]
"""Columns that name a frame of a driver, as one subject receives it."""


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
    part = rows[rows["protocol"] == "cross"]
    if not len(part):
        raise RafError("with_outside: the rows hold no cross-driving")
    known = part[FRAME].drop_duplicates()
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
    return part.merge(pd.concat(tables), on=FRAME)
