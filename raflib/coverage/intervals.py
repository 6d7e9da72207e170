"""95 % intervals: of a value of Table 1 over other drivers, and of a change or a median over other subjects.

Frames of one driver resemble each other, so the information in a set of drivers grows with its people, not its frames.
The jackknife therefore leaves out whole drivers, one at a time.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def jackknife(
    value: Float[np.ndarray, " K"], without: Float[np.ndarray, "D K"], noise: Float[np.ndarray, " K"]
) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals `low`, `high` [K] of a statistic of D drivers from its values without each of them.

        value ± t · √((D−1)/D Σ_d (θ_d − θ̄)² + noise²),   t Student's 97.5 % quantile for D − 1 degrees of freedom

    This is the cluster jackknife; `noise` is the standard error that would remain if every driver were known. A
    bootstrap would be too narrow here: with few drivers, resampled ones give too large MMD and KL. The jackknife's
    intervals are rather too wide, for KL and where MMD is near 0. NaN for fewer than two drivers, and where a value
    without one of them is NaN.
    """
    drivers = len(without)
    if drivers < 2:
        return np.full_like(value, np.nan), np.full_like(value, np.nan)
    squares = ((without - without.mean(0)) ** 2).sum(0)
    half = student(drivers - 1) * np.sqrt((drivers - 1) / drivers * squares + noise**2)
    return value - half, value + half


def ratio(before: Float[np.ndarray, " S"], after: Float[np.ndarray, " S"]) -> tuple[float, float, float]:
    """mean(after) / mean(before) − 1 over subjects and its 95 % interval for other subjects (Student's, linearised)."""
    share = after.mean() / before.mean()
    if len(before) < 2:
        return share - 1, np.nan, np.nan
    deviation = ((after - share * before) / before.mean()).std(ddof=1) / np.sqrt(len(before))
    half = student(len(before) - 1) * deviation
    return share - 1, share - 1 - half, share - 1 + half


def of_median(values: Float[np.ndarray, " S"]) -> tuple[float, float, float]:
    """The median of S subjects and its 95 % interval for other subjects, between two of the ordered values.

    The j-th smallest and the j-th largest value enclose the median of all people with probability 1 − 2 P(B < j),
    where B is binomial (S, ½), whatever the distribution of the values. Here j is the largest for which this is at
    least 95 %. The interval is NaN for fewer than six subjects, and NaN values are left out.
    """
    from scipy.special import bdtr

    values = np.sort(values[np.isfinite(values)])
    ranks = np.arange(1, len(values) // 2 + 1)
    enough = ranks[bdtr(ranks - 1, len(values), 0.5) <= 0.025]
    if not len(enough):
        return float(np.median(values)) if len(values) else np.nan, np.nan, np.nan
    return float(np.median(values)), float(values[enough[-1] - 1]), float(values[-enough[-1]])


def student(freedom: int) -> float:
    """Student's 97.5 % quantile."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))
