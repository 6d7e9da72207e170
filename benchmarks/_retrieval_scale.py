"""Costs of larger banks: measured for small ones and extrapolated to a billion rows, reported apart.

Run it with `python benchmarks/retrieval.py --scale [--rows 83000 1000000] [--hnsw-rows 83000]`. Rows have 64 features
that mix 20 actions, and each person has 200 rows. A search has 3,000 queries of one person, without this person's rows.
Searches and builds of indexes (with the measurement of their recall) are in CPU seconds on one thread. Writing, opening
and verifying are in wall-clock seconds. `MiB` is the memory of a search beside the mapped file.
"""

import ctypes
import gc
import shutil
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from raflib.bank import ExpressionBank, approximate, write_mapped

WIDTH, ACTIONS, FRAMES, QUERIES, CORES = 64, 20, 200, 3000, 32
LEARNED = 640  # IVF: distances per row while centres are learned (64 rows per cell, 10 rounds)
BIG = (100_000_000, 1_000_000_000)


def pieces(rows: int, seed: int = 0, people: int = 500):
    """Yield banks of up to 500 people, with `rows` rows in all."""
    mixing = np.random.default_rng(99).normal(size=(ACTIONS, WIDTH)).astype(np.float32) / np.sqrt(ACTIONS)
    everybody = -(-rows // FRAMES)
    for first in range(0, everybody, people):
        draw, count = np.random.default_rng([seed, first]), min(people, everybody - first)
        names = np.repeat([f"P{first + i:07d}" for i in range(count)], FRAMES)
        acted = np.maximum(draw.normal(scale=0.4, size=(len(names), ACTIONS)), 0).astype(np.float32)
        personal = np.repeat(draw.normal(scale=0.05, size=(count, WIDTH)), FRAMES, axis=0)
        features = acted @ mixing + personal + draw.normal(scale=0.01, size=(len(names), WIDTH))
        yield ExpressionBank(features, names, np.full(len(names), "FREE"), np.arange(len(names)) % FRAMES, "x64")


class AnonymousMemory:
    """Measures the largest growth of this process's own memory (without mapped files) during the block, in MiB."""

    def __enter__(self):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # memory freed before must not hide new allocations
        self.start = self.most = self.now()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self) -> None:
        while not self.done.wait(0.02):
            self.most = max(self.most, self.now())

    def now(self) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self.most = max(self.most, self.now()) - self.start


def timed(job, clock=time.process_time):
    """Return the job's result and its seconds."""
    start = clock()
    return job(), clock() - start


def measure(folder: Path, rows: int, hnsw: bool) -> dict[str, float]:
    """Return all costs of a bank of `rows` rows, which is written to `folder` and removed again."""
    wall = time.perf_counter
    queries = next(pieces(QUERIES, seed=1)).features[:QUERIES]
    try:
        _, write = timed(lambda: write_mapped(folder, pieces(rows)), wall)
        disk = sum(path.stat().st_size for path in folder.iterdir())
        bank, opened = timed(lambda: ExpressionBank.load(folder), wall)
        subject = bank.people[7]
        with AnonymousMemory() as memory:
            (_, expected), exact = timed(lambda: bank.search(queries, exclude=subject))
        found = {"rows": rows, "write": write, "bytes": disk / rows, "open": opened, "exact": exact, "MiB": memory.most}
        found["verify"] = timed(bank.verify, wall)[1]
        for kind in ("ivf", "hnsw") if hnsw else ("ivf",):
            with AnonymousMemory() as memory:
                built, build = timed(lambda kind=kind: approximate(bank, kind, sample=100, quiet=True))
            found |= {f"{kind} build": build, f"{kind} bytes": memory.most * 2**20 / rows}
            for effort in (built.effort // 2, built.effort):
                job = replace(built, effort=effort)
                (_, got), found[f"{kind} {effort}"] = timed(lambda job=job: job.search(queries, exclude=subject))
                found[f"{kind} {effort} recall"] = float((got == expected).mean())
            del built, job
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report(found: list[dict[str, float]]) -> None:
    """Print the measurements, then the model and its values for more rows."""
    print(f"MEASURED: {WIDTH} features, {QUERIES} queries, one thread")
    for name in dict.fromkeys(name for row in found for name in row):
        print(f"  {name:18s}" + "".join(f"{row[name]:14.4g}" if name in row else " " * 14 for row in found))
    last = found[-1]
    graph = next((row for row in reversed(found) if "hnsw build" in row), None)
    row_seconds = last["exact"] / (QUERIES * last["rows"])
    build = last["ivf build"] / (last["rows"] ** 1.5 + LEARNED * last["rows"])
    look = last["ivf 32"] / (QUERIES * (32 + 1) * last["rows"] ** 0.5)
    print("MODEL, fitted to the last column: seconds on one core for N rows and Q queries")
    print(f"  exact  {row_seconds:.3g} Q N")
    print(f"  ivf    build {build:.3g} (N^1.5 + {LEARNED} N), search {look:.3g} Q (effort + 1) N^0.5")
    print(f"  disk   {last['bytes']:.0f} N bytes")
    print(
        f"  memory {4 * WIDTH + 8} N bytes of ivf, {4 * WIDTH + 272} N of hnsw, besides the peaks while building, above"
    )
    print(
        f"EXTRAPOLATED, never run: {QUERIES} queries; {CORES} cores taken as {CORES} times one; ivf at an effort of 32,"
    )
    print("whose recall there is not known; hnsw as N log N from the largest that was built")
    for rows in BIG:
        exact = row_seconds * QUERIES * rows
        learn = build * (rows**1.5 + LEARNED * rows)
        line = f"  {rows:13,d} rows: exact {exact:,.0f} s on 1 core, {exact / CORES:,.0f} s on {CORES}; "
        line += f"ivf build {learn / 3600:,.1f} h, search {look * QUERIES * 33 * rows**0.5:,.0f} s; "
        if graph:
            logs = np.log(rows) / np.log(graph["rows"])
            line += f"hnsw build {graph['hnsw build'] * rows / graph['rows'] * logs / 3600:,.0f} h; "
        gigabytes = [size * rows / 1e9 for size in (last["bytes"], 4 * WIDTH + 8, 4 * WIDTH + 272)]
        print(line + "disk {:,.0f} GB, ivf {:,.0f} GB, hnsw {:,.0f} GB".format(*gigabytes))
    print(f"figure scale_ns_per_query_row = {1e9 * row_seconds:.3f}")
    print(f"figure scale_bytes_per_row = {last['bytes']:.0f}")
    print(f"figure scale_search_mib = {last['MiB']:.0f}")


def main(sizes: list[int], hnsw_rows: int) -> None:
    """Measure banks of these sizes and print the report."""
    with tempfile.TemporaryDirectory(prefix="raf-scale-") as scratch:
        report([measure(Path(scratch) / "bank", rows, rows <= hnsw_rows) for rows in sorted(sizes)])
