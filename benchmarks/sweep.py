"""Throughput of a sweep with two workers over that with one, on cells that compute in a single thread.

    python benchmarks/sweep.py [--cells 6] [--seconds 15]

A cell is a notebook whose kernel multiplies small matrices for about `--seconds` of CPU time. Starting and ending the
workers is timed too. The machine needs two cores that do nothing else.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import nbformat

from raflib.lab.steps import Step
from raflib.lab.sweep import sweep

WORK = """
import numpy as np
matrix = np.ones((64, 64)) / 64
for _ in range(rounds):
    matrix = matrix @ matrix
"""


def rounds_in(seconds: float) -> int:
    """How many rounds of `WORK` take that much CPU time here."""
    names: dict[str, object] = {"rounds": 50_000}
    start = time.process_time()
    exec(WORK, names)
    return round(50_000 * seconds / (time.process_time() - start))


def timed(root: Path, cells: int, rounds: int, workers: int) -> float:
    """Seconds of a sweep of new cells."""
    stage = [[Step("work", {"subject": f"{workers}-{cell}", "rounds": rounds})] for cell in range(cells)]
    start = time.monotonic()
    told = sweep([stage], root, root / f"runs{workers}", workers=workers, progress=False)
    assert all(outcome.done for outcome in told), told
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        first = nbformat.v4.new_code_cell("subject = ''\nrounds = 0", metadata={"tags": ["parameters"]})
        notebook = nbformat.v4.new_notebook(cells=[first, nbformat.v4.new_code_cell(WORK)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        (root / "notebooks").mkdir()
        nbformat.write(notebook, root / "notebooks" / "work.ipynb")
        rounds = rounds_in(options.seconds)
        seconds = {workers: timed(root, options.cells, rounds, workers) for workers in (1, 2)}
    for workers, taken in seconds.items():
        print(f"{workers} worker{'s' * (workers > 1)}: {options.cells} cells in {taken:.1f} s")
    print(f"figure sweep_two_workers = {seconds[1] / seconds[2]:.2f}")


if __name__ == "__main__":
    main()
