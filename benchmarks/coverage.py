"""Coverage metrics against plain calls of well-known libraries; their values must agree to 1e-6.

    python benchmarks/coverage.py [--threads 1] [--repeats 3] [--large]

The data are 3,000 training frames and 15,000 target frames of 52 features; settings are the defaults. The references:

    MMD                   scikit-learn's `rbf_kernel`, three times; both get the bandwidth, whose search is timed apart
    KL                    scipy's `gaussian_kde`, twice, in the same PCA space
    B2T (bank-to-train)   scipy's `cdist`, then the minimum
    precision and recall  `cdist`, three times, with `numpy.partition`

Times are medians of interleaved runs: CPU time with one thread, wall-clock time with more. A figure is the reference's
time over ours.

`--large` instead runs each measure once on 20,000 and 100,000 frames, and prints its time and the peak memory of the
process (several minutes on one core). A single table of all pairs of the target would take 75 GiB there.
"""

import argparse
import os
import resource
import statistics
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--repeats", type=int, default=3)
parser.add_argument("--large", action="store_true")
options = parser.parse_args()
for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
    os.environ[f"{library}_NUM_THREADS"] = str(options.threads)  # the libraries read it at import

import numpy as np  # noqa: E402
from scipy.spatial.distance import cdist, pdist  # noqa: E402
from scipy.stats import gaussian_kde  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.metrics.pairwise import rbf_kernel  # noqa: E402

from raflib import coverage  # noqa: E402

TRAIN, TARGET, WIDTH, COMPONENTS = 3000, 15_000, 52, 8
clock = time.process_time if options.threads == 1 else time.perf_counter


def sklearn_mmd(x, y, bandwidth):
    """Return the biased estimate from whole kernel matrices."""
    gamma = 1 / (2 * bandwidth**2)
    within = rbf_kernel(x, x, gamma=gamma).mean() + rbf_kernel(y, y, gamma=gamma).mean()
    return np.sqrt(within - 2 * rbf_kernel(x, y, gamma=gamma).mean())


def scipy_kl(x, y):
    """Return KL by the definition of `coverage.kl`, with its floor, from scikit-learn's PCA and scipy's density."""
    space = PCA(COMPONENTS).fit(y)
    scale = np.sqrt(space.explained_variance_)
    x, y = space.transform(x) / scale, space.transform(y) / scale
    with np.errstate(divide="ignore"):
        own, target = (np.log(gaussian_kde(sample.T)(x.T)) for sample in (x, y))
    return (np.maximum(own, coverage.TAIL_FLOOR) - np.maximum(target, coverage.TAIL_FLOOR)).mean()


def naive_b2t(train, target):
    """Return B2T from the whole table of distances."""
    return cdist(target, train).min(1).mean()


def naive_precision_recall(x, y, k=3):
    """Return precision and recall from whole tables of distances.

    The nearest neighbour of a point in its own sample is the point itself.
    """
    radius_x, radius_y = (np.partition(cdist(points, points), k, axis=1)[:, k] for points in (x, y))
    between = cdist(x, y)
    return (between <= radius_y).any(1).mean() + 1j * (between <= radius_x[:, None]).any(0).mean()


def our_precision_recall(x, y):
    """Return both numbers as one, so that they can be compared like the others."""
    precision, recall = coverage.precision_recall(x, y)
    return precision + 1j * recall


def frames(train_count: int, target_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of one person, and those of 14 others."""
    draw = np.random.default_rng(0)
    bias = draw.normal(scale=0.06, size=(15, WIDTH))
    train = np.abs(bias[0] + draw.normal(scale=0.12, size=(train_count, WIDTH)))
    others = np.repeat(bias[1:], -(-target_count // 14), 0)[:target_count]
    return train, np.abs(others + draw.normal(scale=0.13, size=(target_count, WIDTH)))


def large() -> None:
    """Print the time of each measure and the peak memory of all, for 20,000 × 100,000 frames."""
    train, target = frames(20_000, 100_000)
    figures = {}
    for name in ("mmd", "kl", "b2t", "precision_recall"):
        start = clock()
        value = getattr(coverage, name)(train, target)
        figures[f"large_{name}_s"] = clock() - start
        print(f"{name}: {value} in {figures[f'large_{name}_s']:.0f} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30  # in KiB on Linux
    print(f"figure large_gib = {peak:.2f}")
    for name, seconds in figures.items():
        print(f"figure {name} = {seconds:.0f}")


def main() -> None:
    if options.large:
        return large()
    train, target = frames(TRAIN, TARGET)
    bandwidth = coverage.median_distance(np.concatenate([train, target]))
    pairs = {
        "mmd_vs_sklearn": (
            lambda: sklearn_mmd(train, target, bandwidth),
            lambda: coverage.mmd(train, target, bandwidth),
        ),
        "kl_vs_scipy": (lambda: scipy_kl(train, target), lambda: coverage.kl(train, target, COMPONENTS)),
        "b2t_vs_naive": (lambda: naive_b2t(train, target), lambda: coverage.b2t(train, target)),
        "precision_recall_vs_scipy": (
            lambda: naive_precision_recall(train, target),
            lambda: our_precision_recall(train, target),
        ),
        "median_vs_scipy": (
            lambda: np.median(pdist(np.concatenate([train, target]))),
            lambda: coverage.median_distance(np.concatenate([train, target])),
        ),
    }
    coverage.b2t(train[:100], target[:100])  # load lazy imports
    print(f"{options.threads} thread(s), {TRAIN} × {TARGET} frames of {WIDTH} features")
    figures = {}
    for name, jobs in pairs.items():
        seconds, values = ([], []), [None, None]
        for _ in range(options.repeats):
            for side, job in enumerate(jobs):
                start = clock()
                values[side] = job()
                seconds[side].append(clock() - start)
        assert abs(values[0] - values[1]) < 1e-6, f"{name}: {values[0]} is not {values[1]}"
        theirs, mine = map(statistics.median, seconds)
        figures[name] = theirs / mine
        print(f"{name}: {theirs:.3f} s against {mine:.3f} s, values {values[0]:.9f} and {values[1]:.9f}")
    for name, ratio in figures.items():
        print(f"figure {name} = {ratio:.1f}")


if __name__ == "__main__":
    main()
