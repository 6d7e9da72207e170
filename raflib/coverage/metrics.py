"""The three measures of Table 1 (paper §3, Appendix 0.A): MMD, KL, B2T, each on two arrays of expression features.

The paper names the measures but not their settings; every choice made here is stated where it is made. Throughout, x is
the training set [N,d], y the target (the drivers' frames) [M,d], ‖·‖ the Euclidean norm; lower is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from jaxtyping import Float

from raflib.coverage.pairs import kernel_means, median_distance, nearest_distance, samples
from raflib.errors import RafError, whole

TAIL_FLOOR = -100.0  # natural log; see `kl`
SAMPLED = 512  # frames of either sample on which `mmd` measures the error of float32
NARROW, TOO_NARROW = 8, 1e5  # RMS distances from the target's mean, in bandwidths: float32 is not tried, float64 fails


def mmd(x: Float[np.ndarray, "N d"], y: Float[np.ndarray, "M d"], bandwidth: float | int | None = None) -> float:
    """Maximum mean discrepancy between two samples with an RBF kernel; 0 for equal samples (Appendix 0.A).

        MMD² = 1/N² Σᵢⱼ k(xᵢ,xⱼ) + 1/M² Σᵢⱼ k(yᵢ,yⱼ) − 2/(NM) Σᵢⱼ k(xᵢ,yⱼ),   k(a,b) = exp(−‖a−b‖² / (2h²))

    and √MMD² is returned. The sums run over all pairs, each point with itself included: the biased V-statistic, which
    is never negative and 0 for equal samples. (Leaving out i = j is unbiased for independent points only, and frames of
    a video are not.) `bandwidth` h is in the features' own unit; by default it is the median distance between two
    different points of the pooled sample (exact). To compare several training sets against one target give them all
    the same bandwidth, as `table` does. Kernels are computed in float32 where that gives the result to 1e-6, which is
    measured on 512 random frames of either sample, and else in float64. Raises RafError for other shapes, NaN, or a
    bandwidth that is not positive or of which the samples are a hundred thousand wide.
    """
    x, y = samples(x, y)
    bandwidth = median_distance(np.concatenate([x, y])) if bandwidth is None else bandwidth
    if not 0 < bandwidth < np.inf:
        raise RafError(f"mmd: bandwidth is {bandwidth}, expected a positive distance; if most frames coincide give one")
    center = y.mean(0)  # distances do not change and rounding gets smaller
    x, y = (x - center) / bandwidth, (y - center) / bandwidth
    wide = np.sqrt(max((sample * sample).sum(1).mean() for sample in (x, y)))
    if wide > TOO_NARROW:
        raise RafError(f"mmd: bandwidth is {bandwidth}, the samples are {wide:.0g} times as wide; give a larger one")
    squared = _single_mmd(x, y) if wide < NARROW else None
    return float(np.sqrt(max(_squared_mmd(x, y, np.float64) if squared is None else squared, 0.0)))


def _single_mmd(x: np.ndarray, y: np.ndarray) -> float | None:
    """MMD² with bandwidth 1 from kernels in float32; None where its root would not be good to 1e-6."""
    draw = np.random.default_rng(0)
    some = [sample[draw.permutation(len(sample))[:SAMPLED]] for sample in (x, y)]
    error = abs(_squared_mmd(*some, np.float32) - _squared_mmd(*some, np.float64))
    squared = _squared_mmd(x, y, np.float32)
    return squared if error < 2e-7 * np.sqrt(max(squared, 0.0)) else None  # a tenth of what moves the root by 1e-6


def _squared_mmd(x: np.ndarray, y: np.ndarray, dtype: type) -> float:
    """MMD² with bandwidth 1."""
    across, *within = (kernel_means(*pair, dtype).mean() for pair in ((x, y), (x, x), (y, y)))
    return sum(within) - 2 * across


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
    space = pca(y, components)
    x, y = space.project(x) / space.scale, space.project(y) / space.scale
    return float((log_density(x, x) - log_density(x, y)).mean())


def b2t(train: Float[np.ndarray, "N d"], target: Float[np.ndarray, "M d"]) -> float:
    """Mean distance from a target frame to the nearest training frame, in feature units (Appendix 0.A).

    B2T = 1/M Σⱼ minᵢ ‖yⱼ − xᵢ‖
    """
    return float(nearest_distance(target, train).mean())


@dataclass(frozen=True)
class Projection:
    """A PCA space: `mean` [d], orthonormal `axes` [d,c] by falling variance, their standard deviations `scale` [c]."""

    mean: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "d c"]
    scale: Float[np.ndarray, " c"]

    def project(self, points: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "N c"]:
        """Coordinates along the axes, in feature units."""
        return (np.asarray(points, dtype=np.float64) - self.mean) @ self.axes


def pca(points: Float[np.ndarray, "N d"], components: SupportsIndex = 2) -> Projection:
    """The PCA space of `points`; each axis points where its largest coefficient is positive, so that figures repeat.

    Raises RafError when `components` is not between 1 and d or an axis has no variance.
    """
    points, _ = samples(points, points)
    components = whole("pca: components", components, 1, points.shape[1])
    centered = points - points.mean(0)
    variance, axes = np.linalg.eigh(centered.T @ centered / max(len(points) - 1, 1))
    variance, axes = variance[::-1][:components], axes[:, ::-1][:, :components]
    if not variance[-1] > 1e-12 * variance[0] > 0:
        raise RafError(f"pca: the {len(points)} points do not vary along {components} axes; ask for fewer components")
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0))
    return Projection(points.mean(0), axes, np.sqrt(variance))


@dataclass(frozen=True)
class Kernel:
    """The Gaussian kernel of a sample's KDE: `center` [c], `whiten` [c,c] (in whose space the kernel is the standard
    normal's), and `constant`, the log of its normalisation."""

    center: Float[np.ndarray, " c"]
    whiten: Float[np.ndarray, "c c"]
    constant: float

    @classmethod
    def of(cls, sample: Float[np.ndarray, "M c"]) -> Kernel:
        """Own covariance, Scott's bandwidth; RafError when the sample does not vary along every axis."""
        count, width = sample.shape
        try:
            lower = np.linalg.cholesky(np.cov(sample.T).reshape(width, width)) if count > 1 else None
        except np.linalg.LinAlgError:
            lower = None
        if lower is None:
            raise RafError(f"kl: {count} frames do not vary along {width} axes; use more frames or fewer components")
        lower = lower * count ** (-1 / (width + 4))
        constant = float(np.log(np.diag(lower)).sum() + width / 2 * np.log(2 * np.pi))
        return cls(sample.mean(0), np.linalg.inv(lower).T, constant)

    def white(self, points: Float[np.ndarray, "N c"]) -> Float[np.ndarray, "N c"]:
        """`points` where the kernel is exp(−½‖·‖²)."""
        return (points - self.center) @ self.whiten

    def log(self, means: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Means of that exponential over a sample as log densities, floored at −100."""
        with np.errstate(divide="ignore"):
            return np.maximum(np.log(means) - self.constant, TAIL_FLOOR)


def log_density(points: Float[np.ndarray, "N c"], sample: Float[np.ndarray, "M c"]) -> Float[np.ndarray, " N"]:
    """log of the Gaussian KDE of `sample` (own covariance, Scott's bandwidth) at `points`, floored at −100."""
    kernel = Kernel.of(sample)
    white = kernel.white(sample)
    return kernel.log(kernel_means(white if points is sample else kernel.white(points), white))
