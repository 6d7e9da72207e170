"""When does a method help? Gains over vanilla, by how far the driver's vector lies outside the subject's recording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from raflib.errors import RafError
from raflib.lab.outside import OUTSIDE
from raflib.report.hierarchical import hierarchical


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
