"""How sure Table 1 is: its measures against many sets of drivers, and the intervals that follow.

Frames of one driver resemble each other, so a set of drivers tells as much as it has people, not frames: whole drivers
are left out, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from raflib.coverage.metrics import b2t, log_density, pca
from raflib.coverage.pairs import kernel_means, median_distance, samples


def measures(pool: np.ndarray, target: np.ndarray, components: int = 8) -> Callable[[np.ndarray], tuple[float, ...]]:
    """(mmd, kl, b2t) of the rows of `pool` at given indexes; what does not depend on the draw is computed once.

    One ruler for all rows: MMD's bandwidth is the target's median distance, KL's PCA the target's.
    """
    pool, target = samples(pool, target)
    bandwidth, center = median_distance(target), target.mean(0)
    scaled, scaled_target = (pool - center) / bandwidth, (target - center) / bandwidth
    across, within = kernel_means(scaled, scaled_target), kernel_means(scaled_target, scaled_target).mean()
    space = pca(target, components)
    flat = space.project(pool) / space.scale
    log_target = log_density(flat, space.project(target) / space.scale)

    def measure(rows: np.ndarray) -> tuple[float, ...]:
        own = kernel_means(scaled[rows], scaled[rows]).mean()
        discrepancy = np.sqrt(max(own + within - 2 * across[rows].mean(), 0.0))
        divergence = (log_density(flat[rows], flat[rows]) - log_target[rows]).mean()
        return float(discrepancy), float(divergence), b2t(pool[rows], target)

    return measure


def jackknife(
    value: Float[np.ndarray, " K"], without: Float[np.ndarray, "D K"], noise: Float[np.ndarray, " K"]
) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals `low`, `high` [K] of a statistic of D drivers from its values without each of them.

        value ± t · √((D−1)/D Σ_d (θ_d − θ̄)² + noise²),   t Student's 97.5 % quantile for D − 1 degrees of freedom

    The cluster jackknife; `noise` is the standard error that stays if every driver is known. A bootstrap would be too
    narrow here: with few drivers, the discrepancy and the divergence of redrawn ones are both too large. This errs on
    the wide side, for KL and where MMD is near 0. NaN for fewer than two drivers.
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


def student(freedom: int) -> float:
    """Student's 97.5 % quantile."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))
