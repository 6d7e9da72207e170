"""Coverage metrics against the library calls one would write first, which they must equal to 1e-6.

    python benchmarks/coverage.py [--threads 1] [--repeats 3] [--large]

3,000 training frames against 15,000 target frames, 52 features, default settings. MMD: scikit-learn's `rbf_kernel`,
three times (the bandwidth is given to both; finding it is timed apart). KL: scipy's `gaussian_kde`, twice, in the same
PCA space. B2T: scipy's `cdist`, then the minimum. Precision and recall: `cdist` three times, with `numpy.partition`.
Interleaved, medians; CPU time with one thread, wall clock with more. The figures are their time over ours.

`--large` instead runs each measure once on 20,000 against 100,000 frames, where one table of pairs of the target would
take 75 GiB, and prints the peak memory of the process and the time (several minutes on one core).
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
    os.environ[f"{library}_NUM_THREADS"] = str(options.threads)  # read when the libraries load, hence before them

import numpy as np  # noqa: E402
from scipy.spatial.distance import cdist, pdist  # noqa: E402
from scipy.stats import gaussian_kde  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.metrics.pairwise import rbf_kernel  # noqa: E402

from raflib import coverage  # noqa: E402

TRAIN, TARGET, WIDTH, COMPONENTS = 3000, 15_000, 52, 8
clock = time.process_time if options.threads == 1 else time.perf_counter


def sklearn_mmd(x, y, bandwidth):
    """The biased estimate from whole kernel matrices."""
    gamma = 1 / (2 * bandwidth**2)
    within = rbf_kernel(x, x, gamma=gamma).mean() + rbf_kernel(y, y, gamma=gamma).mean()
    return np.sqrt(within - 2 * rbf_kernel(x, y, gamma=gamma).mean())


def scipy_kl(x, y):
    """The same definition as `coverage.kl`, floor included, from scikit-learn's PCA and scipy's density."""
    space = PCA(COMPONENTS).fit(y)
    scale = np.sqrt(space.explained_variance_)
    x, y = space.transform(x) / scale, space.transform(y) / scale
    with np.errstate(divide="ignore"):
        own, target = (np.log(gaussian_kde(sample.T)(x.T)) for sample in (x, y))
    return (np.maximum(own, coverage.TAIL_FLOOR) - np.maximum(target, coverage.TAIL_FLOOR)).mean()


def naive_b2t(train, target):
    """The whole table of distances, then its minima."""
    return cdist(target, train).min(1).mean()


def naive_precision_recall(x, y, k=3):
    """Whole tables of distances; a point's nearest neighbour in its own sample is itself."""
    radius_x, radius_y = (np.partition(cdist(points, points), k, axis=1)[:, k] for points in (x, y))
    between = cdist(x, y)
    return (between <= radius_y).any(1).mean() + 1j * (between <= radius_x[:, None]).any(0).mean()


def our_precision_recall(x, y):
    """Both numbers as one, to be compared like the others."""
    precision, recall = coverage.precision_recall(x, y)
    return precision + 1j * recall


def frames(train_count: int, target_count: int) -> tuple[np.ndarray, np.ndarray]:
    """One person's features, and those of 14 others."""
    draw = np.random.default_rng(0)
    bias = draw.normal(scale=0.06, size=(15, WIDTH))
    train = np.abs(bias[0] + draw.normal(scale=0.12, size=(train_count, WIDTH)))
    others = np.repeat(bias[1:], -(-target_count // 14), 0)[:target_count]
    return train, np.abs(others + draw.normal(scale=0.13, size=(target_count, WIDTH)))


def large() -> None:
    """Time of each measure and the peak memory of them all, at 20,000 × 100,000."""
    train, target = frames(20_000, 100_000)
    figures = {}
    for name in ("mmd", "kl", "b2t", "precision_recall"):
        start = clock()
        value = getattr(coverage, name)(train, target)
        figures[f"large_{name}_s"] = clock() - start
        print(f"{name}: {value} in {figures[f'large_{name}_s']:.0f} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30  # Linux counts in KiB
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
    coverage.b2t(train[:100], target[:100])  # load what loads lazily
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
