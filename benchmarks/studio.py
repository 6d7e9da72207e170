"""Time of the open capture studio for an image of 256²: CPU time of one thread, median over people and frames.

python benchmarks/studio.py
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

# This folder has a coverage.py; numba would import it instead of the package of that name.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402

from raflib import studio  # noqa: E402

PEOPLE = ("388", "422", "443", "445", "475", *(f"E{number:02d}" for number in range(1, 11)))
FRAMES = 16


def milliseconds(size: int) -> float:
    """Return the median CPU milliseconds of `studio.render` at `size`² over people, frames of FREE and all cameras."""
    cameras = studio.rig(size)
    spent = []
    for subject in PEOPLE:
        person, performance = studio.Identity(subject), studio.act(subject, studio.FREE)
        studio.render(person, performance.actions[0], performance.angles[0], cameras[0])  # texture, compilation
        for number in range(FRAMES):
            frame = number * (len(performance) // FRAMES)
            begin = time.process_time()
            studio.render(person, performance.actions[frame], performance.angles[frame], cameras[number % len(cameras)])
            spent.append((time.process_time() - begin) * 1000)
    return float(np.median(spent))


if __name__ == "__main__":
    for size in (128, 512, 256):
        print(f"figure studio_ms_{size} = {milliseconds(size):.2f}")
