"""Principal axes of a sample, and Gaussian kernel density estimates: what `raflib.coverage.kl` is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from jaxtyping import Float

from raflib.coverage.pairs import kernel_means, samples
from raflib.errors import RafError, whole

TAIL_FLOOR = -100.0  # natural log; see `raflib.coverage.kl`


@dataclass(frozen=True)
class Projection:
    """A PCA space: `mean` [d], orthonormal `axes` [d,c] by falling variance, and `scale` [c], the standard deviation
    along each axis."""

    mean: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "d c"]
    scale: Float[np.ndarray, " c"]

    def project(self, points: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "N c"]:
        """Coordinates along the axes, in feature units."""
        return (np.asarray(points, dtype=np.float64) - self.mean) @ self.axes


def pca(points: Float[np.ndarray, "N d"], components: SupportsIndex = 2) -> Projection:
    """The PCA space of `points`, from scikit-learn. The largest coefficient of each axis is positive.

    Raises RafError when `components` is not between 1 and d or an axis has no variance.
    """
    from sklearn.decomposition import PCA

    points, _ = samples(points, points)
    components = whole("pca: components", components, 1, points.shape[1])
    mean, variance = points.mean(0), np.zeros(1)
    if len(points) > components:  # n points vary along n − 1 axes at most
        with np.errstate(invalid="ignore"):  # shares of the variance, of which there may be none
            fitted = PCA(components, svd_solver="covariance_eigh").fit(points - mean)  # centred for more digits
        variance = fitted.explained_variance_
    if not variance[-1] > 1e-12 * variance[0] > 0:
        raise RafError(f"pca: the {len(points)} points do not vary along {components} axes; ask for fewer components")
    return Projection(mean, fitted.components_.T, np.sqrt(variance))


@dataclass(frozen=True)
class Kernel:
    """The Gaussian kernel of a sample's density estimate, as a linear map after which it is a standard normal's.

    The map is (z − `center` [c]) @ `whiten` [c,c]; `constant` is the logarithm of the kernel's normalisation.
    """

    center: Float[np.ndarray, " c"]
    whiten: Float[np.ndarray, "c c"]
    constant: float

    @classmethod
    def of(cls, sample: Float[np.ndarray, "M c"]) -> Kernel:
        """The kernel with the sample's covariance and Scott's bandwidth.

        Raises RafError when the sample does not vary along every axis.
        """
        count, width = sample.shape
        covariance = np.cov(sample.T).reshape(width, width) if count > 1 else np.zeros((width, width))
        variances = np.linalg.eigvalsh(covariance)
        if not variances[0] > 1e-12 * variances[-1] > 0:
            raise RafError(f"kl: {count} frames do not vary along {width} axes; use more frames or fewer components")
        lower = np.linalg.cholesky(covariance) * count ** (-1 / (width + 4))
        constant = float(np.log(np.diag(lower)).sum() + width / 2 * np.log(2 * np.pi))
        return cls(sample.mean(0), np.linalg.inv(lower).T, constant)

    def white(self, points: Float[np.ndarray, "N c"]) -> Float[np.ndarray, "N c"]:
        """`points` in the space in which the kernel is exp(−½‖·‖²)."""
        return (points - self.center) @ self.whiten

    def log(self, means: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Log densities from `means` of that exponential over a sample; values below −100 become −100."""
        with np.errstate(divide="ignore"):
            return np.maximum(np.log(means) - self.constant, TAIL_FLOOR)


def log_density(points: Float[np.ndarray, "N c"], sample: Float[np.ndarray, "M c"]) -> Float[np.ndarray, " N"]:
    """Log density, at least −100, of the Gaussian KDE of `sample` (own covariance, Scott's bandwidth) at `points`."""
    kernel = Kernel.of(sample)
    white = kernel.white(sample)
    return kernel.log(kernel_means(white if points is sample else kernel.white(points), white))
