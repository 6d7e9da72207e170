"""Frames a second of the puppet, through its widget: a slider moves, and the next move waits for the frame's message.

    python benchmarks/puppet.py [--threads 2] [--seconds 5]

The avatar has the demo's size (12,000 Gaussians) and is untrained; the image has 256² pixels. Every move changes all
Gaussians of the expression, and every frame is a new JPEG file in a message to the browser. The browser itself is not
part of it. `puppet_fps_256` is one avatar, `puppet_fps_256_two` are two side by side. Both are elapsed time.
`puppet_cpu_ms_256` is the CPU time of a frame, which other programs on the machine hardly change. The parts of a frame
are printed in milliseconds. A slider then moves ten times faster than frames are made. When it stops, the frame in work
and the newest one still come; `puppet_queued` is how many more come, 0 when views are skipped.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

# This folder has a coverage.py; numba would import it instead of the package of that name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _HERE]

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--threads", type=int, default=2, help="CPU threads of the renderer and the networks")
parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
options = parser.parse_args() if __name__ == "__main__" else parser.parse_args([])
for library in ("OMP", "NUMBA", "MKL", "OPENBLAS"):
    os.environ[f"{library}_NUM_THREADS"] = str(options.threads)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from raflib import fit, rasterize  # noqa: E402
from raflib.config import train_config  # noqa: E402
from raflib.sampler import Vanilla  # noqa: E402
from raflib.training import Run  # noqa: E402
from raflib.viewer import Puppet  # noqa: E402
from raflib.viewer.canvas import jpeg  # noqa: E402

SIZE = 256


def ball_capture(size: int):
    """Return the synthetic capture of `training.py`."""
    spec = importlib.util.spec_from_file_location("training_bench", _HERE / "training.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ball_capture(size)


class Driver:
    """Moves a slider of a puppet and sees the messages of its frames."""

    def __init__(self, puppet: Puppet):
        self.puppet, self.frames, self.came = puppet, 0, threading.Event()
        puppet.canvas.send = self._sent
        self.sliders = puppet._boxes["facial actions"]

    def _sent(self, content: dict, buffers: list[bytes]) -> None:
        self.frames += 1
        self.came.set()

    def move(self, number: int) -> None:
        """Move the slider of the jaw up or down."""
        self.sliders[0].value = 0.5 + 0.5 * float(np.sin(0.3 * number))

    def rate(self, seconds: float) -> tuple[float, float]:
        """Return (frames a second, CPU milliseconds of a frame) when each move waits for the frame before."""
        for number in range(3):
            self.next(number)
        begin, work, count = time.perf_counter(), time.process_time(), 0
        while (spent := time.perf_counter() - begin) < seconds or count < 20:
            count += 1
            self.next(count)
        return count / spent, 1e3 * (time.process_time() - work) / count

    def next(self, number: int) -> None:
        self.came.clear()
        self.move(number)
        if not self.came.wait(60):
            raise RuntimeError(f"no frame came: {self.puppet._problem.value}")

    def queued(self, moves: int, pause: float) -> int:
        """Return how many frames too many come after the last of `moves`, one every `pause` seconds."""
        self.puppet.renders.wait(60)
        for number in range(moves):
            self.move(number)
            time.sleep(pause)
        frames = self.frames
        self.puppet.renders.wait(60)
        return max(0, self.frames - frames - 2)


def milliseconds(job: Callable[[], object], repeats: int = 20) -> float:
    """Return the median time of `job`."""
    spent = []
    for _ in range(repeats):
        begin = time.perf_counter()
        job()
        spent.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(spent))


@torch.no_grad()
def parts(puppet: Puppet, run: Run) -> dict[str, float]:
    """Return the milliseconds of a frame's parts."""
    view, scene = puppet.view, puppet.scene
    values = (view.expression[None], view.pose[None], np.array([scene.scale]))
    given = [torch.from_numpy(part.astype(np.float32)) for part in values]
    gaussians, image = run.avatar(*given), puppet.image()
    return {
        "networks": milliseconds(lambda: run.avatar(*given)),
        "projection and raster": milliseconds(lambda: rasterize(gaussians, [scene.camera], scene.shape)),
        "JPEG": milliseconds(lambda: jpeg(image)),
        "coverage": milliseconds(lambda: puppet.coverage.read(view.expression)),
    }


def main() -> None:
    config = train_config("demo", "simple", steps=0, landmark_steps=0)
    with tempfile.TemporaryDirectory() as folder:
        capture = ball_capture(config.size)
        run = fit(capture, Vanilla(), config, Path(folder) / "run", threads=options.threads, progress=False)
        for runs in ([run], [run, run]):
            puppet = Puppet(runs, capture, size=SIZE)
            driver = Driver(puppet)
            rate, work = driver.rate(options.seconds)
            if len(runs) == 1:
                for name, spent in parts(puppet, run).items():
                    print(f"{name}: {spent:.1f} ms")
                print(f"figure puppet_queued = {driver.queued(100, 0.1 / rate)}")
                print(f"figure puppet_cpu_ms_{SIZE} = {work:.1f}")
            print(f"figure puppet_fps_{SIZE}{'_two' * (len(runs) - 1)} = {rate:.1f}")
            puppet.close()


if __name__ == "__main__":
    main()
