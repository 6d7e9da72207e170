"""The three measures of Table 1 (paper §3, Appendix 0.A): MMD, KL, B2T, each on two arrays of expression features.

The paper names the measures but not their settings; every choice made here is stated where it is made. Throughout, x is
the training set [N,d], y the target (the drivers' frames) [M,d], ‖·‖ the Euclidean norm; lower is better.

`KernelRuler` and `DensityRuler` hold what MMD and KL compute from the target alone. `measures` applies one pair of them
to many training sets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import SupportsIndex

import numpy as np
from jaxtyping import Bool, Float, Int

from raflib.coverage.density import Projection, log_density, pca
from raflib.coverage.pairs import kernel_means, median_distance, nearest_distance, samples
from raflib.errors import RafError

SAMPLED = 512  # frames of either sample on which `mmd` measures the error of float32
Measure = Callable[[Int[np.ndarray, " N"] | Bool[np.ndarray, " P"]], float]
"""A measure of the training set `pool[rows]`, from `rows`."""
NARROW, TOO_NARROW = 8, 1e5  # RMS distances from the target's mean, in bandwidths: float32 is not tried, float64 fails


@dataclass(frozen=True, eq=False)
class KernelRuler:
    """What MMD needs of a target: its frames in units of the bandwidth h, `target` = (y − `center`) / `bandwidth`.

    Subtracting the target's mean `center` [d] changes no distance and makes rounding errors smaller. Kernels are
    computed in `dtype`.
    """

    center: Float[np.ndarray, " d"]
    bandwidth: float
    target: Float[np.ndarray, "M d"]
    dtype: type = np.float64

    @classmethod
    def fit(cls, target: Float[np.ndarray, "M d"], bandwidth: float | None = None) -> KernelRuler:
        """The ruler of one target [M,d]; the bandwidth is by default the median distance between its frames.

        Raises RafError for a bandwidth that is not a positive number.
        """
        bandwidth = median_distance(target) if bandwidth is None else bandwidth
        if not 0 < bandwidth < np.inf:
            raise RafError(
                f"mmd: bandwidth is {bandwidth}, expected a positive distance; if most frames coincide give one"
            )
        center = target.mean(0)
        return cls(center, bandwidth, (target - center) / bandwidth)

    def scaled(self, points: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "N d"]:
        """Features in this ruler's units, which the other methods take."""
        return (points - self.center) / self.bandwidth

    def across(self, x: Float[np.ndarray, "N d"]) -> Float[np.ndarray, " N"]:
        """The mean kernel between each frame and all frames of the target."""
        return kernel_means(x, self.target, self.dtype)

    @cached_property
    def within(self) -> float:
        """The mean kernel between two frames of the target."""
        return kernel_means(self.target, self.target, self.dtype).mean()

    def squared(self, x: Float[np.ndarray, "N d"], across: Float[np.ndarray, " N"] | None = None) -> float:
        """MMD² of a training set; rounding may make it slightly negative. `across` saves its computation if known."""
        across = self.across(x) if across is None else across
        return kernel_means(x, x, self.dtype).mean() + self.within - 2 * across.mean()


@dataclass(frozen=True, eq=False)
class DensityRuler:
    """What KL needs of a target: its PCA `space`, and its frames there with unit variance along each axis."""

    space: Projection
    target: Float[np.ndarray, "M c"]

    @classmethod
    def fit(cls, target: Float[np.ndarray, "M d"], components: SupportsIndex = 8) -> DensityRuler:
        """The ruler of one target [M,d]; RafError as `raflib.coverage.pca` raises it."""
        space = pca(target, components)
        return cls(space, space.project(target) / space.scale)

    def scaled(self, points: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "N c"]:
        """Features in this ruler's space, which the other methods take."""
        return self.space.project(points) / self.space.scale

    def across(self, x: Float[np.ndarray, "N c"]) -> Float[np.ndarray, " N"]:
        """The target's log density at each frame."""
        return log_density(x, self.target)

    def divergence(self, x: Float[np.ndarray, "N c"], across: Float[np.ndarray, " N"] | None = None) -> float:
        """KL(P_x ‖ P_y) of a training set. `across` saves its computation if known."""
        across = self.across(x) if across is None else across
        return float((log_density(x, x) - across).mean())


def mmd(
    x: Float[np.ndarray, "N d"],
    y: Float[np.ndarray, "M d"],
    bandwidth: float | int | None = None,
    squared: bool = False,
) -> float:
    """Maximum mean discrepancy between two samples with an RBF kernel; 0 for equal samples (Appendix 0.A).

        MMD² = 1/N² Σᵢⱼ k(xᵢ,xⱼ) + 1/M² Σᵢⱼ k(yᵢ,yⱼ) − 2/(NM) Σᵢⱼ k(xᵢ,yⱼ),   k(a,b) = exp(−‖a−b‖² / (2h²))

    and √MMD² is returned, or MMD² if `squared` (the paper does not say which). The sums run over all pairs, each point
    with itself included. This biased V-statistic is never negative and 0 for equal samples. (Leaving out i = j is
    unbiased for independent points only, and frames of a video are not independent.) `bandwidth` h is in the features'
    own unit. By default it is the median distance between two different points of the pooled sample (exact). To compare
    several training sets against one target, give them all the same bandwidth, as `table` does.

    Kernels are computed in float32 where that gives the result to 1e-6, which is measured on 512 random frames of
    either sample, and otherwise in float64. Raises RafError for other shapes, NaN, and a bandwidth that is not
    positive or a hundred thousand times smaller than the samples are wide.
    """
    x, y = samples(x, y)
    ruler = KernelRuler.fit(y, median_distance(np.concatenate([x, y])) if bandwidth is None else bandwidth)
    x = ruler.scaled(x)
    wide = np.sqrt(max((sample * sample).sum(1).mean() for sample in (x, ruler.target)))
    if wide > TOO_NARROW:
        raise RafError(
            f"mmd: bandwidth is {ruler.bandwidth}, the samples are {wide:.0g} times as wide; give a larger one"
        )
    found = _single_mmd(ruler, x) if wide < NARROW else None
    found = ruler.squared(x) if found is None else found
    return max(found, 0.0) if squared else _root(found)


def _single_mmd(ruler: KernelRuler, x: Float[np.ndarray, "N d"]) -> float | None:
    """MMD² from kernels in float32; None where its root would not be good to 1e-6."""
    random = np.random.default_rng(0)
    some, target = (sample[random.permutation(len(sample))[:SAMPLED]] for sample in (x, ruler.target))
    part = replace(ruler, target=target)
    error = abs(replace(part, dtype=np.float32).squared(some) - part.squared(some))
    squared = replace(ruler, dtype=np.float32).squared(x)
    return squared if error < 2e-7 * _root(squared) else None  # a tenth of what moves the root by 1e-6


def _root(squared: float) -> float:
    """MMD of MMD²."""
    return float(np.sqrt(max(squared, 0.0)))


def kl(x: Float[np.ndarray, "N d"], y: Float[np.ndarray, "M d"], components: SupportsIndex = 8) -> float:
    """KL(P_x ‖ P_y) in nats between kernel density estimates in a PCA space (Appendix 0.A: x subject, y target).

        KL = 1/N Σᵢ [log p_x(zᵢ) − log p_y(zᵢ)],   zᵢ = Vᵀ(xᵢ − ȳ) / s
        p_x(z) = 1/N Σⱼ 𝒩(z; zⱼ, b² S_x),   b = N^(−1/(c+4)),   and p_y likewise with M frames and S_y

    PCA is fitted on y: ȳ its mean, V its c = `components` first axes, s their standard deviations, so that the target
    has unit variance along each. Each density is a Gaussian KDE with its own sample's covariance S and Scott's
    bandwidth b, the default of scipy's gaussian_kde. The expectation is over x's own points (a point's own kernel
    counts in p_x). Log-densities below −100 (about 8 target standard deviations from everything) count as −100: far
    tails of a KDE are arbitrary and one outlier would decide the result. Not symmetric. Raises RafError for other
    shapes, NaN, more components than dimensions, or a sample without variance along the axes.
    """
    x, y = samples(x, y)
    ruler = DensityRuler.fit(y, components)
    return ruler.divergence(ruler.scaled(x))


def b2t(train: Float[np.ndarray, "N d"], target: Float[np.ndarray, "M d"]) -> float:
    """Mean distance from a target frame to the nearest training frame, in feature units (Appendix 0.A).

    B2T = 1/M Σⱼ minᵢ ‖yⱼ − xᵢ‖
    """
    return float(nearest_distance(target, train).mean())


def measures(
    pool: Float[np.ndarray, "P d"],
    target: Float[np.ndarray, "M d"],
    components: SupportsIndex = 8,
    squared: bool = False,
    partial: bool = False,
) -> Callable[[Int[np.ndarray, " N"] | Bool[np.ndarray, " P"]], tuple[float, float, float]]:
    """A function that gives (mmd, kl, b2t) of the training set `pool[rows]` for any `rows`.

    All sets share the target's rulers: MMD's bandwidth is the target's median distance, KL's PCA is the target's. What
    depends on a single row of the pool is computed once. Kernels are computed in float64. `components` are those of
    `kl`; with `squared`, mmd is MMD².

    Raises RafError where the target or a set does not determine a measure, such as KL for fewer frames than components.
    With `partial`, only this measure is NaN instead.
    """
    pool, target = samples(pool, target)
    makers = (lambda: _discrepancies(pool, target, squared), lambda: _divergences(pool, target, components))
    discrepancy, divergence = (_or_nan(make) if partial else make() for make in makers)
    return lambda rows: (discrepancy(rows), divergence(rows), b2t(pool[rows], target))


def _discrepancies(pool: Float[np.ndarray, "P d"], target: Float[np.ndarray, "M d"], squared: bool) -> Measure:
    """MMD, or MMD² if `squared`."""
    ruler = KernelRuler.fit(target)
    points = ruler.scaled(pool)
    across = ruler.across(points)

    def measure(rows: Int[np.ndarray, " N"] | Bool[np.ndarray, " P"]) -> float:
        found = ruler.squared(points[rows], across[rows])
        return max(found, 0.0) if squared else _root(found)

    return measure


def _divergences(
    pool: Float[np.ndarray, "P d"], target: Float[np.ndarray, "M d"], components: SupportsIndex
) -> Measure:
    """KL."""
    ruler = DensityRuler.fit(target, components)
    points = ruler.scaled(pool)
    across = ruler.across(points)
    return lambda rows: ruler.divergence(points[rows], across[rows])


def _or_nan(make: Callable[[], Measure]) -> Measure:
    """The measure that `make` returns, with NaN where either of them raises RafError."""
    try:
        measure = make()
    except RafError:
        return lambda rows: float("nan")

    def known(rows: Int[np.ndarray, " N"] | Bool[np.ndarray, " P"]) -> float:
        try:
            return measure(rows)
        except RafError:
            return float("nan")

    return known
