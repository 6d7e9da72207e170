"""How well the expression of renders follows the true one over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from raflib.evaluation.metrics.mediapipe import ACTIONS

FEWEST = 3
"""Frames below which no correlation is computed."""
STILL = (1e-6, 0.01)
"""Standard deviations, rendered and true, below which an action does not move enough for a correlation."""


def correlations(
    table: pd.DataFrame, by: Sequence[str] = ("method", "condition"), actions: Sequence[str] = ACTIONS
) -> pd.DataFrame:
    """Pearson correlation over frames between the rendered and the true strength of each action.

    `table` comes from `evaluate`; `by` groups its rows. Strengths are MediaPipe's scores on the render and on the true
    image (the driver's image where there is no truth). Columns: `by`, one for each action, their `median`, and
    `frames`, the largest number used. An action has no value (NaN) with fewer than 3 frames, where the true score has
    a standard deviation below 0.01, or where the rendered one does not move.
    """
    rows = []
    for key, group in table.groupby(list(by), sort=False):
        values, used = {}, 0
        for action in actions:
            pair = group[[f"rendered/{action}", f"target/{action}"]].dropna().to_numpy()
            used = max(used, len(pair))
            still = len(pair) < FEWEST or (pair.std(0) < STILL).any()
            values[action] = np.nan if still else float(np.corrcoef(pair.T)[0, 1])
        known = [value for value in values.values() if np.isfinite(value)]
        median = float(np.median(known)) if known else np.nan
        rows.append({**dict(zip(by, key, strict=True)), **values, "median": median, "frames": used})
    return pd.DataFrame(rows)
