"""Do raters agree? Krippendorff's alpha for categories (nominal data), with any number of raters and missing answers.

    alpha = 1 − observed / expected disagreement

1 is perfect agreement, 0 what raters would reach who answer at random with the same frequencies of categories. Source:
K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from raflib.errors import RafError


def krippendorff(units: Sequence | np.ndarray | pd.Series, values: Sequence | np.ndarray | pd.Series) -> float:
    """Krippendorff's alpha of one value per answer; `units` names what each answer is about.

    Units with a single answer cannot be compared and are left out. NaN where no unit has two answers, or where all
    answers are the same, so that there is nothing to disagree about. RafError for lists of different lengths.
    """
    if len(units) != len(values):
        raise RafError(f"alpha: {len(units)} units for {len(values)} values, expected one for each")
    unit, category = (pd.factorize(np.asarray(each))[0] for each in (units, values))
    if not len(unit):
        return float("nan")
    width = category.max() + 1
    counts = np.bincount(unit * width + category, minlength=(unit.max() + 1) * width).reshape(-1, width)
    counts = counts[counts.sum(1) > 1].astype(float)
    answers, total = counts.sum(1), counts.sum()
    if not total:
        return float("nan")
    observed = ((answers**2 - (counts**2).sum(1)) / (answers - 1)).sum() / total
    expected = (total**2 - (counts.sum(0) ** 2).sum()) / (total * (total - 1))
    return float(1 - observed / expected) if expected > 0 else float("nan")


def agreement(kept: pd.DataFrame) -> pd.DataFrame:
    """Alpha over the sides that people chose, for each feature space, comparison and axis, with its number of answers.

    Sides are random, so "left" and "right" are equally frequent whatever raters prefer, and a strong preference does
    not make the expected agreement high. `kept` is the table of `raters.counted`; observers are left out.
    """
    keys = ["space", "condition", "axis"]
    rows = [
        {**dict(zip(keys, names, strict=True)), "answers": len(part), "alpha": krippendorff(part.question, part.choice)}
        for names, part in kept[kept.group == "people"].groupby(keys, sort=True)
    ]
    return pd.DataFrame(rows, columns=[*keys, "answers", "alpha"])
