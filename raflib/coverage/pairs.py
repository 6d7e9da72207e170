"""Computations on all pairs of two samples: kernel means, nearest neighbours, the median distance.

Nothing here holds a whole table of pairs. Squared distances come from one matrix product a block, whose buffer stays in
a core's cache; sums over blocks are float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from raflib.bank.exact import Table, search
from raflib.errors import RafError, numbers

BLOCK = 384  # points on each side of a block of pairs: 1.2 MB, which stays in a core's cache


def samples(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 [*, d]; RafError for other shapes, no frames, NaN or infinity."""
    x, y = (numbers("coverage: a sample", sample).astype(np.float64) for sample in (x, y))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or 0 in x.shape + y.shape:
        raise RafError(f"coverage: shapes {x.shape} and {y.shape}, expected [N, d] and [M, d] with frames in both")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise RafError("coverage: a sample holds NaN or infinity; leave undetected frames out")
    return x, y


def detected(expression: Float[np.ndarray, "T d"]) -> Float[np.ndarray, "F d"]:
    """The rows that are not entirely NaN."""
    expression = np.asarray(expression)
    return expression[~np.isnan(expression).all(-1)]


def kernel_means(
    x: Float[np.ndarray, "N d"], y: Float[np.ndarray, "M d"], dtype: type[np.floating] = np.float64
) -> Float[np.ndarray, " N"]:
    """For each x_i the mean over j of exp(−½‖x_i − y_j‖²). It takes half the time when y is x, and in float32.

    In float32 an exponent has an error of about 1e-7 (|x_i|² + |y_j|²). Errors of different points average out, errors
    of coinciding points do not.
    """
    left, right = (factor.astype(dtype) for factor in _factors(x, y))
    sums, buffer, ones = np.zeros(len(x)), np.empty(BLOCK * BLOCK, dtype), np.ones(BLOCK, dtype)
    largest = -min(left[:, -2].min(), right[-1].min())
    rough = np.finfo(dtype).eps * largest > 1e-7  # then rounding may make squared distances seem negative
    for rows, columns in _block_pairs(len(x), len(y), symmetric=x is y):
        kernel = _product(left[rows], right[:, columns], buffer)
        if rough:
            np.minimum(kernel, 0, out=kernel)
        if x is y and rows == columns:
            np.fill_diagonal(kernel, 0)
        np.exp(kernel, out=kernel)
        sums[rows] += kernel @ ones[: kernel.shape[1]]
        if x is y and rows != columns:
            sums[columns] += ones[: kernel.shape[0]] @ kernel
    return sums / len(y)


def nearest(points: Float[np.ndarray, "M d"], among: Float[np.ndarray, "N d"]) -> tuple[np.ndarray, np.ndarray]:
    """L2 distance [M] from each point to the nearest of `among`, and its row [M]. RafError for other shapes or NaN.

    The bank's exact search finds the rows, on features in float32. Two rows whose distances differ by less than 1e-7 of
    the largest feature (relative to the mean) may be exchanged. Distances are computed in float64.
    """
    points, among = samples(points, among)
    center = among.mean(0)
    largest = max(np.abs(points - center).max(), np.abs(among - center).max()) or 1.0
    here, there = (((features - center) / largest).astype(np.float32) for features in (points, among))
    rows = search(Table.of(there, np.zeros(len(there), "<U1")), here, 1, None)[1][:, 0]
    return np.linalg.norm(points - among[rows], axis=1), rows


def nearest_distance(points: Float[np.ndarray, "M d"], among: Float[np.ndarray, "N d"]) -> Float[np.ndarray, " M"]:
    """L2 distance from each point to the nearest of `among`. Raises RafError for other shapes or NaN."""
    return nearest(points, among)[0]


def squared_radii(points: Float[np.ndarray, "N d"], k: int) -> Float[np.ndarray, " N"]:
    """Squared distance from each point to its k-th nearest other point, from scikit-learn; k < N."""
    from sklearn.neighbors import NearestNeighbors

    distances, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points).kneighbors()
    return distances[:, -1] ** 2


def within_radii(
    x: Float[np.ndarray, "N d"],
    y: Float[np.ndarray, "M d"],
    x_radii: Float[np.ndarray, " N"],
    y_radii: Float[np.ndarray, " M"],
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each x lies in the ball (squared radius) around some y, [N], and each y in that around some x, [M].

    A point on a sphere counts as inside; a small tolerance allows for rounding.
    """
    left, right = _factors(x, y)
    slack = 1e-12 * (np.abs(left[:, -2]).max() + np.abs(right[-1]).max() + 1e-300)
    x_inside, y_inside, buffer = np.zeros(len(x), bool), np.zeros(len(y), bool), np.empty(BLOCK * BLOCK)
    x_half, y_half = -0.5 * x_radii - slack, -0.5 * y_radii - slack
    for rows, columns in _block_pairs(len(x), len(y), symmetric=False):
        product = _product(left[rows], right[:, columns], buffer)
        x_inside[rows] |= (product >= y_half[columns]).any(1)
        y_inside[columns] |= (product >= x_half[rows, None]).any(0)
    return x_inside, y_inside


def median_distance(points: Float[np.ndarray, "N d"]) -> float:
    """The exact median of the distances between all pairs of different points, without holding them all.

    A sample of pairs brackets the median; one pass counts the pairs below the bracket and keeps those inside it. Raises
    RafError for fewer than two points, other shapes, NaN and infinity.
    """
    points, _ = samples(points, points)
    pairs = len(points) * (len(points) - 1) // 2
    if pairs == 0:
        raise RafError("median_distance: one point has no distances; give at least two")
    points = points - points.mean(0)
    lower, upper = _bracket(points)
    while True:
        below, kept = 0, []
        for squared in _pair_distances(points):
            below += int(np.count_nonzero(squared < lower))
            kept.append(squared[(squared >= lower) & (squared <= upper)])
        inside = np.concatenate(kept)
        first, last = (pairs - 1) // 2 - below, pairs // 2 - below
        if first >= 0 and last < len(inside):
            inside.partition([first, last])
            return float((np.sqrt(inside[first]) + np.sqrt(inside[last])) / 2)
        lower, upper = (0.0, upper) if first < 0 else (lower, np.inf)


def _block_pairs(rows: int, columns: int, symmetric: bool) -> Iterator[tuple[slice, slice]]:
    """Blocks of a table of pairs; of a symmetric one only those on and above the diagonal."""
    for top in range(0, rows, BLOCK):
        for left in range(top if symmetric else 0, columns, BLOCK):
            yield slice(top, min(top + BLOCK, rows)), slice(left, min(left + BLOCK, columns))


def _factors(
    x: Float[np.ndarray, "N d"], y: Float[np.ndarray, "M d"]
) -> tuple[Float[np.ndarray, "N c"], Float[np.ndarray, "c M"]]:
    """Matrices whose product holds −½‖x_i − y_j‖²: two more columns hold the norms, so one product is enough."""
    half_x, half_y = -0.5 * (x * x).sum(1, keepdims=True), -0.5 * (y * y).sum(1, keepdims=True)
    left = np.hstack([x, half_x, np.ones_like(half_x)])
    return left, np.ascontiguousarray(np.hstack([y, np.ones_like(half_y), half_y]).T)


def _pair_distances(points: Float[np.ndarray, "N d"]) -> Iterator[Float[np.ndarray, " P"]]:
    """Squared distances of all pairs of different points, some at a time; each array is overwritten by the next."""
    left, right = _factors(points, points)
    buffer = np.empty(BLOCK * BLOCK)
    for rows, columns in _block_pairs(len(points), len(points), symmetric=True):
        squared = _product(left[rows], right[:, columns], buffer)
        squared *= -2
        np.maximum(squared, 0, out=squared)
        yield squared[np.triu_indices(len(squared), 1)] if rows == columns else squared.reshape(-1)


def _product(
    left: Float[np.ndarray, "n c"], right: Float[np.ndarray, "c m"], buffer: Float[np.ndarray, " b"]
) -> Float[np.ndarray, "n m"]:
    """left @ right, written into the start of `buffer`."""
    shape = len(left), right.shape[1]
    return np.matmul(left, right, out=buffer[: shape[0] * shape[1]].reshape(shape))


def _bracket(points: Float[np.ndarray, "N d"], sample: int = 1_000_000, spread: float = 0.0025) -> tuple[float, float]:
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
