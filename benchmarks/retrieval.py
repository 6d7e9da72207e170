"""Exact search among other people's rows against plain faiss, and a training step with RAF against one with Vanilla.

    python benchmarks/retrieval.py [--threads 1] [--repeats 9]
    python benchmarks/retrieval.py --scale [--rows 83000 1000000] [--hnsw-rows 83000]    costs of larger banks

A synthetic bank has the paper's size (415 people × 200 frames, 52 features). The queries are 3,000 frames of one of its
people. `search_vs_flat` is the time of `ExpressionBank.search(exclude=subject)` over that of `faiss.IndexFlatL2` for
the same queries without exclusion. `raf_step_vs_vanilla` is the time of a small training step (an MLP over 4,000
points, forward, backward, Adam) with RAF over the same step with Vanilla. Both are measured again with a bank whose
rows carry a second space, in which neighbours are searched. Times are medians of interleaved runs: CPU time with one
thread, wall-clock time with more. The search results are checked against the definition first.
"""

import argparse
import os
import statistics
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--repeats", type=int, default=9)
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--scale", action="store_true")
parser.add_argument("--rows", type=int, nargs="+", default=[83_000, 1_000_000])
parser.add_argument("--hnsw-rows", type=int, default=83_000, help="largest bank for which hnsw is built")
options = parser.parse_args()
for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
    os.environ[f"{library}_NUM_THREADS"] = str(options.threads)  # the libraries read it at import

import faiss  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from raflib.bank import ExpressionBank  # noqa: E402
from raflib.sampler import RAF, Vanilla  # noqa: E402

PEOPLE, FRAMES, WIDTH, QUERIES, SUBJECT = 415, 200, 52, 3000, "B007"
SECOND = "second"
"""Tag of a second space. It is as wide as the first: below 44 columns faiss's flat search takes 3 times as long."""
clock = time.process_time if options.threads == 1 else time.perf_counter


def synthetic_bank() -> ExpressionBank:
    """Return non-negative features of norm about 1 with a bias for each person, like those of a real tracker."""
    draw = np.random.default_rng(0)
    names = np.repeat([f"B{i:03d}" for i in range(PEOPLE)], FRAMES)
    bias = np.repeat(draw.normal(scale=0.06, size=(PEOPLE, WIDTH)), FRAMES, axis=0)
    features = np.abs(bias + draw.normal(scale=0.12, size=(len(names), WIDTH)))
    return ExpressionBank(features, names, ["EXP-1-head"] * len(names), np.arange(len(names)), "arkit52")


def medians(jobs: dict, repeats: int) -> dict[str, float]:
    """Return the median seconds of each job over `repeats` rounds; each round calls every job once."""
    seconds = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            start = clock()
            job()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def check(bank: ExpressionBank, queries: np.ndarray, count: int = 40) -> None:
    """Compare the results of the first queries with the definition in float64."""
    distances, rows = bank.search(queries[:count], exclude=SUBJECT)
    others = np.flatnonzero(bank.subjects != SUBJECT)
    for query, distance, row in zip(queries, distances[:, 0], rows[:, 0], strict=False):
        squared = ((query.astype(np.float64) - bank.features[others]) ** 2).sum(1)
        assert row == others[squared.argmin()] and abs(distance - np.sqrt(squared.min())) < 1e-6


def training_steps(conditioners: dict, expression: np.ndarray) -> dict:
    """Return one training step for each conditioner: same small network, same frames, different expression vectors."""
    torch.manual_seed(0)
    points = torch.randn(4000, 32)
    layers = [torch.nn.Linear(32 + WIDTH, 128), torch.nn.ReLU(), torch.nn.Linear(128, 128), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(128, 3))
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    generator = torch.Generator().manual_seed(0)

    def step(condition) -> None:
        frame = torch.randint(len(expression), (1,), generator=generator)
        given = condition(frame, generator).expand(len(points), -1)
        loss = network(torch.cat([points, given], 1)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return {name: lambda condition=condition: step(condition) for name, condition in conditioners.items()}


def main() -> None:
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    if options.scale:
        import _retrieval_scale

        return _retrieval_scale.main(options.rows, options.hnsw_rows)
    bank = synthetic_bank()
    draw = np.random.default_rng(1)
    own = bank.features[bank.subjects == SUBJECT]
    queries = (own[draw.integers(len(own), size=QUERIES)] + draw.normal(scale=0.03, size=(QUERIES, WIDTH))).astype("f4")
    check(bank, queries)
    flat = faiss.IndexFlatL2(WIDTH)
    flat.add(bank.features)
    search = medians(
        {"flat": lambda: flat.search(queries, 1), "bank": lambda: bank.search(queries, exclude=SUBJECT)},
        options.repeats,
    )
    mixing = (draw.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5).astype("f4")
    both, spaces = bank.with_space(SECOND, bank.features @ mixing), {SECOND: queries @ mixing}
    flat_second = faiss.IndexFlatL2(WIDTH)
    flat_second.add(both.spaces[SECOND])
    search_second = medians(
        {
            "flat": lambda: flat_second.search(spaces[SECOND], 1),
            "bank": lambda: both.in_space(SECOND).search(spaces[SECOND], exclude=SUBJECT),
        },
        options.repeats,
    )
    each = bank.subjects[draw.integers(len(bank), size=QUERIES)]
    mixed = medians({"each": lambda: bank.search(queries, exclude=each)}, 1)["each"]
    conditioners = {
        "vanilla": Vanilla().bind(queries, SUBJECT),
        "raf": RAF(bank).bind(queries, SUBJECT),
        "raf_top5": RAF(bank, top_k=5).bind(queries, SUBJECT),
        "raf_two_spaces": RAF(both, search=SECOND).bind(queries, SUBJECT, spaces=spaces),
    }
    steps = training_steps(conditioners, queries)
    medians(steps, 20)  # warm up
    step = medians(steps, options.steps)
    frame, generator = torch.tensor([7]), torch.Generator()
    alone = medians({name: lambda c=c: c(frame, generator) for name, c in conditioners.items()}, 2000)
    print(f"{options.threads} thread(s), {len(bank)} rows of {PEOPLE} people, {QUERIES} queries of subject {SUBJECT}")
    print(f"plain flat search {search['flat']:.3f} s, bank.search {search['bank']:.3f} s", end="; ")
    print(f"bank.search with another excluded person for each query, {PEOPLE} people in all, {mixed:.3f} s")
    print("a step: " + ", ".join(f"{name} {1e3 * value:.2f} ms" for name, value in step.items()), end="; ")
    print("the conditioner alone: " + ", ".join(f"{name} {1e6 * value:.0f} µs" for name, value in alone.items()))
    print(f"figure search_vs_flat = {search['bank'] / search['flat']:.3f}")
    print(f"figure raf_step_vs_vanilla = {step['raf'] / step['vanilla']:.4f}")
    print(f"figure search_vs_flat_two_spaces = {search_second['bank'] / search_second['flat']:.3f}")
    print(f"figure raf_step_two_spaces_vs_raf = {step['raf_two_spaces'] / step['raf']:.4f}")
    print(f"figure neighbours_seconds = {search['bank']:.3f}")


if __name__ == "__main__":
    main()
