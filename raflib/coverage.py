"""Does a training set cover the expressions an avatar will be asked for? Table 1's metrics (paper §3, Appendix 0.A).

Pure functions on arrays of expression features: `mmd`, `kl`, `b2t`, and `table`, which draws equal-sized Vanilla and
+RAF training sets and measures both. All are computed in float64, block by block, so that 20,000 × 100,000 frames fit
in two gigabytes. The paper names the metrics but not their settings; every choice made here is stated where it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from raflib.errors import RafError
from raflib.leaks import refuse_leaks

if TYPE_CHECKING:
    import pandas

    from raflib.bank import ExpressionBank

BLOCK = 384  # points on each side of a block of pairs: 1.2 MB, which stays in a core's cache
TAIL_FLOOR = -100.0  # natural log; see `kl`
METRICS = ("mmd", "kl", "b2t")


def mmd(x: Float[np.ndarray, "N d"], y: Float[np.ndarray, "M d"], bandwidth: float | int | None = None) -> float:
    """Maximum mean discrepancy between two samples with an RBF kernel; 0 for equal samples (Appendix 0.A).

    The square root of the biased V-statistic: mean k(x,x') + mean k(y,y') − 2 mean k(x,y) over all pairs, each point
    with itself included; k(a,b) = exp(−‖a−b‖² / (2 h²)). `bandwidth` h is in the features' own unit; by default it is
    the median distance between two different points of the pooled sample (exact). To compare several training sets
    against one target give them all the same bandwidth, as `table` does. Raises RafError for other shapes, NaN, or a
    bandwidth that is not positive.
    """
    x, y = _samples(x, y)
    bandwidth = median_distance(np.concatenate([x, y])) if bandwidth is None else bandwidth
    if not 0 < bandwidth < np.inf:
        raise RafError(f"mmd: bandwidth is {bandwidth}, expected a positive distance; if most frames coincide give one")
    center = y.mean(0)  # distances do not change and rounding gets smaller
    x, y = (x - center) / bandwidth, (y - center) / bandwidth
    within = _kernel_means(x, x).mean() + _kernel_means(y, y).mean()
    return float(np.sqrt(max(within - 2 * _kernel_means(x, y).mean(), 0.0)))


def kl(x: Float[np.ndarray, "N d"], y: Float[np.ndarray, "M d"], components: int = 8) -> float:
    """KL(P_x ‖ P_y) in nats between kernel density estimates in a PCA space (Appendix 0.A: x subject, y target).

    PCA with `components` axes is fitted on y and scaled to y's unit variance. Each density is a Gaussian KDE with the
    sample's own covariance and Scott's bandwidth n^(−1/(components+4)), the default of scipy's gaussian_kde. The
    expectation is the mean of log P_x − log P_y over x's own points (a point's own kernel counts in P_x). Log-densities
    below −100 (about 8 target standard deviations from everything) count as −100: far tails of a KDE are arbitrary and
    one outlier would decide the result. Not symmetric. Raises RafError for other shapes, NaN, more components than
    dimensions, or a sample without variance along the axes.
    """
    x, y = _samples(x, y)
    space = pca(y, components)
    x, y = space.project(x) / space.scale, space.project(y) / space.scale
    return float((log_density(x, x) - log_density(x, y)).mean())


def b2t(train: Float[np.ndarray, "N d"], target: Float[np.ndarray, "M d"]) -> float:
    """Mean over target frames of the L2 distance to the nearest training frame, in feature units (Appendix 0.A)."""
    return float(nearest_distance(target, train).mean())


def nearest_distance(points: Float[np.ndarray, "M d"], among: Float[np.ndarray, "N d"]) -> Float[np.ndarray, " M"]:
    """L2 distance from each point to the nearest of `among`. Raises RafError for other shapes or NaN."""
    from sklearn.metrics import pairwise_distances_argmin

    points, among = _samples(points, among)
    return np.linalg.norm(points - among[pairwise_distances_argmin(points, among)], axis=1)


def beyond(train: Float[np.ndarray, "N d"], target: Float[np.ndarray, "M d"], sequence: Iterable[str]) -> float:
    """Share of target frames farther from the training set than the training set's own sequences are from each other.

    The yardstick is the 95th percentile of the distances from a training frame to the nearest frame of *another*
    `sequence` [N] (neighbouring frames of one video are always close and would make everything look far).
    """
    train, sequence = np.asarray(train), np.asarray(sequence)
    if len(np.unique(sequence)) < 2:
        raise RafError("beyond: the training frames are all of one sequence, expected at least two to compare")
    spacing = np.empty(len(sequence))
    for name in np.unique(sequence):
        spacing[sequence == name] = nearest_distance(train[sequence == name], train[sequence != name])
    return float((nearest_distance(target, train) > np.quantile(spacing, 0.95)).mean())


def by_sequence(
    train: Float[np.ndarray, "N d"], sequence: Iterable[str], target: Float[np.ndarray, "M d"]
) -> pandas.DataFrame:
    """What each training sequence contributes: sequence, frames, b2t_alone, b2t_without, nearest_share.

    b2t with that sequence only and with all others, and the share of target frames whose nearest training frame is in
    it (earlier names win ties). `sequence` [N] names the recording of each training frame; at least two are needed.
    """
    import pandas

    sequence = np.asarray(sequence)
    names = np.unique(sequence)
    if len(names) < 2 or len(sequence) != len(train):
        raise RafError(
            f"by_sequence: {len(sequence)} entries naming {len(names)} sequences, expected {len(train)} and 2"
        )
    distances = np.stack([nearest_distance(target, np.asarray(train)[sequence == name]) for name in names])
    nearest = distances.argmin(0)
    rows = [
        (
            name,
            (sequence == name).sum(),
            distances[i].mean(),
            np.delete(distances, i, 0).min(0).mean(),
            (nearest == i).mean(),
        )
        for i, name in enumerate(names.tolist())
    ]
    return pandas.DataFrame(rows, columns=["sequence", "frames", "b2t_alone", "b2t_without", "nearest_share"])


@dataclass(frozen=True)
class Projection:
    """A PCA space: `mean` [d], orthonormal `axes` [d,c] by falling variance, their standard deviations `scale` [c]."""

    mean: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "d c"]
    scale: Float[np.ndarray, " c"]

    def project(self, points: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "N c"]:
        """Coordinates along the axes, in feature units."""
        return (np.asarray(points, dtype=np.float64) - self.mean) @ self.axes


def pca(points: Float[np.ndarray, "N d"], components: int = 2) -> Projection:
    """The PCA space of `points`; each axis points where its largest coefficient is positive, so that figures repeat.

    Raises RafError when `components` is not between 1 and d or an axis has no variance.
    """
    points, _ = _samples(points, points)
    if not 1 <= components <= points.shape[1]:
        raise RafError(f"pca: components is {components}, expected 1 to {points.shape[1]}, the width of the features")
    centered = points - points.mean(0)
    variance, axes = np.linalg.eigh(centered.T @ centered / max(len(points) - 1, 1))
    variance, axes = variance[::-1][:components], axes[:, ::-1][:, :components]
    if not variance[-1] > 1e-12 * variance[0] > 0:
        raise RafError(f"pca: the {len(points)} points do not vary along {components} axes; ask for fewer components")
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0))
    return Projection(points.mean(0), axes, np.sqrt(variance))


def log_density(points: Float[np.ndarray, "N c"], sample: Float[np.ndarray, "M c"]) -> Float[np.ndarray, " N"]:
    """log of the Gaussian KDE of `sample` (own covariance, Scott's bandwidth) at `points`, floored at −100."""
    count, width = sample.shape
    try:
        lower = np.linalg.cholesky(np.cov(sample.T).reshape(width, width)) if count > 1 else None
    except np.linalg.LinAlgError:
        lower = None
    if lower is None:
        raise RafError(f"kl: {count} frames do not vary along {width} axes; use more frames or fewer components")
    lower = lower * count ** (-1 / (width + 4))
    center, whiten = sample.mean(0), np.linalg.inv(lower).T
    white = (sample - center) @ whiten
    density = _kernel_means(white if points is sample else (points - center) @ whiten, white)
    constant = np.log(np.diag(lower)).sum() + width / 2 * np.log(2 * np.pi)
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(density) - constant, TAIL_FLOOR)


def median_distance(points: Float[np.ndarray, "N d"]) -> float:
    """The exact median of the distances between all pairs of different points, without holding them all.

    A sample of pairs brackets the median; one pass counts the pairs below the bracket and keeps those inside it.
    """
    points = np.asarray(points, dtype=np.float64)
    pairs = len(points) * (len(points) - 1) // 2
    if pairs == 0:
        raise RafError("median_distance: one point has no distances; give at least two")
    points = points - points.mean(0)
    lower, upper = _bracket(points)
    while True:
        below, inside = 0, []
        for squared in _pair_distances(points):
            below += np.count_nonzero(squared < lower)
            inside.append(squared[(squared >= lower) & (squared <= upper)])
        inside = np.concatenate(inside)
        first, last = (pairs - 1) // 2 - below, pairs // 2 - below
        if first >= 0 and last < len(inside):
            inside.partition([first, last])
            return float((np.sqrt(inside[first]) + np.sqrt(inside[last])) / 2)
        lower, upper = (0.0, upper) if first < 0 else (lower, np.inf)


def table(
    expression: Float[np.ndarray, "T d"],
    subject: str,
    targets: Mapping[str, Float[np.ndarray, "M d"]] | Float[np.ndarray, "M d"],
    bank: ExpressionBank,
    n: int | None = None,
    repeats: int = 20,
    seed: int = 0,
    feature_space: str | None = None,
    allow_leak: bool = False,
) -> pandas.DataFrame:
    """One subject's row of Table 1 in long form: subject, method, metric, value, low, high, n, leaked.

    `expression` are the subject's training frames, `targets` the unseen drivers' frames (by name, pooled). Vanilla is n
    of the subject's frames drawn without replacement. +RAF keeps the first n/2 of that draw and adds the bank's nearest
    neighbour, among other people, of each kept frame: the paper's "N/2 subject training expressions with N/2
    nearest-neighbor expressions (for those sampled training frames)", read literally. n defaults to all detected
    frames, made even (Vanilla is then the same in every draw). Undetected frames (NaN) are left out everywhere.

    `value` is the mean over `repeats` draws, `low` and `high` the 2.5th and 97.5th percentiles: the spread due to the
    draw, not to the choice of people. MMD's bandwidth is the target's median distance, KL's PCA the target's, so both
    methods are measured with one ruler. Raises RafError when the bank holds a target's frames, by name or by their
    vectors, or the subject's under another name, unless `allow_leak` (`leaked` counts those rows); when n is odd or
    larger than the training set; and for another width or (if given) feature space.
    """
    import pandas

    targets = targets if isinstance(targets, Mapping) else {"target": targets}
    own, targets = _detected(expression), {name: _detected(frames) for name, frames in targets.items()}
    target = np.concatenate(list(targets.values()))
    people = {**targets, subject: np.concatenate([own, targets.get(subject, own[:0])])}
    leaks = refuse_leaks("table: the bank", bank, people, allow_leak, excluded=subject)
    leaked = len(set().union(*(leak.rows.tolist() for leak in leaks)))
    n = len(own) // 2 * 2 if n is None else n
    if n < 2 or n % 2 or n > len(own) or repeats < 1:
        raise RafError(
            f"table: n is {n} and repeats {repeats}, expected an even n from 2 to {len(own)} and repeats from 1"
        )
    neighbours = bank.features[bank.search(own, exclude=subject, feature_space=feature_space)[1][:, 0]]
    measure = _measures(np.concatenate([own, neighbours]), target)
    draw = np.random.default_rng(seed)
    results = {"vanilla": [], "raf": []}
    for _ in range(repeats):
        chosen = draw.permutation(len(own))[:n]
        kept = chosen[: n // 2]
        results["vanilla"].append(measure(chosen))
        results["raf"].append(measure(np.concatenate([kept, kept + len(own)])))
    rows = []
    for method, values in results.items():
        low, high = np.quantile(values, (0.025, 0.975), axis=0)
        for metric, value, *interval in zip(METRICS, np.mean(values, axis=0), low, high, strict=True):
            rows.append((subject, method, metric, value, *interval, n, leaked))
    return pandas.DataFrame(rows, columns=["subject", "method", "metric", "value", "low", "high", "n", "leaked"])


def table1(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Rows of `table` for one or more subjects laid out as the paper's Table 1, with the average below."""
    wide = rows.pivot(index="subject", columns=["metric", "method"], values="value")
    wide = wide[[(metric, method) for metric in METRICS for method in ("vanilla", "raf")]]
    wide.loc["Average"] = wide.mean()
    return wide


def _measures(pool: np.ndarray, target: np.ndarray, components: int = 8) -> Callable[[np.ndarray], tuple[float, ...]]:
    """(mmd, kl, b2t) of the rows of `pool` at given indexes; what does not depend on the draw is computed once."""
    pool, target = _samples(pool, target)
    bandwidth, center = median_distance(target), target.mean(0)
    scaled, scaled_target = (pool - center) / bandwidth, (target - center) / bandwidth
    across, within = _kernel_means(scaled, scaled_target), _kernel_means(scaled_target, scaled_target).mean()
    space = pca(target, components)
    flat = space.project(pool) / space.scale
    log_target = log_density(flat, space.project(target) / space.scale)

    def measure(rows: np.ndarray) -> tuple[float, ...]:
        own = _kernel_means(scaled[rows], scaled[rows]).mean()
        discrepancy = np.sqrt(max(own + within - 2 * across[rows].mean(), 0.0))
        divergence = (log_density(flat[rows], flat[rows]) - log_target[rows]).mean()
        return float(discrepancy), float(divergence), b2t(pool[rows], target)

    return measure


def _samples(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 [*, d], checked."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or 0 in x.shape + y.shape:
        raise RafError(f"coverage: shapes {x.shape} and {y.shape}, expected [N, d] and [M, d] with frames in both")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise RafError("coverage: a sample holds NaN or infinity; leave undetected frames out")
    return x, y


def _detected(expression: np.ndarray) -> np.ndarray:
    expression = np.asarray(expression)
    return expression[~np.isnan(expression).all(-1)]


def _block_pairs(rows: int, columns: int, symmetric: bool) -> Iterator[tuple[slice, slice]]:
    """Blocks of a table of pairs; of a symmetric one only those on and above the diagonal."""
    for top in range(0, rows, BLOCK):
        for left in range(top if symmetric else 0, columns, BLOCK):
            yield slice(top, min(top + BLOCK, rows)), slice(left, min(left + BLOCK, columns))


def _factors(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrices whose product holds −½‖x_i − y_j‖²: the norms ride along as two columns, so one product does it all."""
    half_x, half_y = -0.5 * (x * x).sum(1, keepdims=True), -0.5 * (y * y).sum(1, keepdims=True)
    left = np.hstack([x, half_x, np.ones_like(half_x)])
    return left, np.ascontiguousarray(np.hstack([y, np.ones_like(half_y), half_y]).T)


def _kernel_means(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[N]: for each x_i the mean over j of exp(−½‖x_i − y_j‖²). Half the work when y is x."""
    left, right = _factors(x, y)
    sums, buffer = np.zeros(len(x)), np.empty(BLOCK * BLOCK)
    for rows, columns in _block_pairs(len(x), len(y), symmetric=x is y):
        kernel = _product(left[rows], right[:, columns], buffer)
        np.exp(kernel, out=kernel)
        sums[rows] += kernel.sum(1)
        if x is y and rows != columns:
            sums[columns] += kernel.sum(0)
    return sums / len(y)


def _pair_distances(points: np.ndarray) -> Iterator[np.ndarray]:
    """Squared distances of all pairs of different points, some at a time; each array is overwritten by the next."""
    left, right = _factors(points, points)
    buffer = np.empty(BLOCK * BLOCK)
    for rows, columns in _block_pairs(len(points), len(points), symmetric=True):
        squared = _product(left[rows], right[:, columns], buffer)
        squared *= -2
        np.maximum(squared, 0, out=squared)
        yield squared[np.triu_indices(len(squared), 1)] if rows == columns else squared.reshape(-1)


def _product(left: np.ndarray, right: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    shape = len(left), right.shape[1]
    return np.matmul(left, right, out=buffer[: shape[0] * shape[1]].reshape(shape))


def _bracket(points: np.ndarray, sample: int = 1_000_000, spread: float = 0.0025) -> tuple[float, float]:
    """Squared distances between which the median lies, almost surely: five standard errors around a sample's median."""
    count = len(points)
    if count * (count - 1) // 2 <= sample:
        return 0.0, np.inf
    draw = np.random.default_rng(0)
    squared = []
    for _ in range(10):
        first, second = draw.integers(count, size=sample // 10), draw.integers(count - 1, size=sample // 10)
        second += second >= first
        squared.append(((points[first] - points[second]) ** 2).sum(1))
    lower, upper = np.quantile(np.concatenate(squared), (0.5 - spread, 0.5 + spread))
    return float(lower), float(upper)
