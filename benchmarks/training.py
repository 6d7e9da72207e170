"""Training steps a second, the time of each part of a step, and images a second of the trained avatar.

    python benchmarks/training.py [--device auto] [--size 512 --upsampling 4 --points 30000] [--quick]

The capture is synthetic: a shaded ball with noise, from a fixed seed. Networks, learning rates and losses are those of
the profile `paper`. Without size options, a GPU gets the published sizes (512 × 4, 30,000 Gaussians). A CPU gets small
sizes (64 × 4, 4,000 Gaussians), and always narrow networks. Each part of the training step is timed where it is called;
the rest of a step is backward and optimiser. Times are medians of wall-clock times. On CUDA, every part waits for the
device, but steps a second are measured without these waits.

The last lines are `figure <name> = <number>`: steps a second, milliseconds of each part, and images a second at the
rendered size (features only) and at full size (with the upsampler).
"""

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

# This folder has a coverage.py; numba (imported below) would import it instead of the package of that name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _HERE]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from raflib.capture import Capture  # noqa: E402
from raflib.config import TrainConfig, train_config  # noqa: E402
from raflib.geometry import Camera, axis_angle_to_matrix  # noqa: E402
from raflib.render import rasterize  # noqa: E402
from raflib.sampler import Vanilla  # noqa: E402
from raflib.training.run import Run, choose_device  # noqa: E402
from raflib.training.trainer import Trainer  # noqa: E402

FRAMES, VIEWS, WIDTH = 12, 4, 52
PARTS = ("data", "networks", "raster", "upsampler", "losses", "backward_optimiser")
NARROW = {
    "feature_dim": 32, "exp_color": (64,), "pose_color": (32,), "exp_attributes": (64,), "pose_attributes": (32,),
    "exp_deform": (64, 64), "pose_deform": (32,), "upsampler_capacity": 8,
}  # fmt: skip


class Ball:
    """Images of a ball of 1 dm whose colour and position change with the frame."""

    def __init__(self, cameras: list[Camera], pose: np.ndarray):
        self.cameras, self.pose = cameras, pose

    def _depth(self, t: int, c: int) -> np.ndarray:
        """Return the length of each pixel's ray inside the ball, as a share of its diameter."""
        camera = self.cameras[c]
        grid = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), -1) + 0.5
        focal, middle = camera.intrinsic[0, 0], camera.intrinsic[:2, 2]
        rays = np.concatenate([(grid - middle) / focal, np.ones((*grid.shape[:2], 1))], -1)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        centre = camera.to_camera(self.pose[t, 3:].astype(float))
        return np.sqrt(np.maximum(0.01 - (centre @ centre - (rays @ centre) ** 2), 0)) / 0.1

    def mask(self, t: int, c: int) -> np.ndarray:
        return (255 * (self._depth(t, c) > 0)).astype(np.uint8)

    def image(self, t: int, c: int) -> np.ndarray:
        depth = self._depth(t, c)[..., None]
        noise = np.random.default_rng([t, c]).integers(0, 40, (*depth.shape[:2], 3))
        colour = (60 + 150 * depth) * np.array([0.5 + 0.5 * t / FRAMES, 0.6, 0.5]) + noise
        return np.where(depth > 0, np.clip(colour, 0, 255), 255).astype(np.uint8)


def ball_capture(size: int) -> Capture:
    """Return a capture of `Ball` in `size` pixels; it is the same in every run."""
    rng = np.random.default_rng(0)
    distance, cameras = 0.9, []
    intrinsic = np.array([[2.7 * size, 0, size / 2], [0, 2.7 * size, size / 2], [0, 0, 1]])
    for index, angle in enumerate(np.linspace(-0.6, 0.6, VIEWS)):
        extrinsic = np.eye(4)
        extrinsic[:3, :3] = axis_angle_to_matrix(torch.tensor([0.0, angle, 0.0], dtype=torch.float64)).numpy()
        extrinsic[2, 3] = distance
        cameras.append(Camera(f"cam{index}", extrinsic, intrinsic, size, size))
    pose = rng.normal(0, [0.05] * 3 + [0.003] * 3, (FRAMES, 6)).astype(np.float32)
    neutral = torch.nn.functional.normalize(torch.randn(66, 3, generator=torch.Generator().manual_seed(0))).numpy()
    rotation = axis_angle_to_matrix(torch.from_numpy(pose[:, :3])).numpy()
    landmarks = 0.1 * neutral @ rotation.transpose(0, 2, 1) + pose[:, None, 3:]
    every = tuple(range(66))
    return Capture(
        subject="ball", feature_space="arkit52", cameras=cameras, pose=pose, landmarks=landmarks, neutral=neutral,
        expression=rng.uniform(0, 0.4, (FRAMES, WIDTH)).astype(np.float32), scale=np.full(FRAMES, 0.1, np.float32),
        groups={"rigid": every, "blend": every, "lips": every[:4]}, sequence=np.array(["EXP-1-head"] * FRAMES),
        frame=np.arange(FRAMES), detected=np.ones(FRAMES, bool), frames=Ball(cameras, pose),
    )  # fmt: skip


def configuration(options: argparse.Namespace, device: torch.device) -> TrainConfig:
    """Return the profile `paper` with these sizes; on a CPU with narrow networks and the cheaper perceptual network."""
    changes = {"size": options.size, "views_per_frame": VIEWS, "precision": options.precision}
    made = train_config("paper", initialisation="simple", **changes)  # stage 1 is not part of a step
    sizes = {"points": options.points, "mouth_points": options.points // 10, "upsampling": options.upsampling}
    if device.type == "cpu":
        sizes |= NARROW
        made = replace(made, perceptual_net="alex", perceptual_crop=min(128, options.size * options.upsampling))
    return replace(made, avatar=replace(made.avatar, **sizes), steps=10**9)


class Clock:
    """Wall-clock milliseconds of parts, one list each; on CUDA it waits until the device has finished."""

    def __init__(self, device: torch.device):
        self.device, self.spent, self.inside = device, {}, []

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return 1e3 * time.perf_counter()

    @contextmanager
    def part(self, name: str):
        """Add the time of the block, without that of parts inside it."""
        self.inside.append(0.0)
        started = self.now()
        yield
        whole = self.now() - started
        self.spent.setdefault(name, []).append(whole - self.inside.pop())
        if self.inside:
            self.inside[-1] += whole

    def watch(self, owner: object, method: str, name: str) -> None:
        """Count calls of `owner.method` as `name` from now on."""
        function = getattr(owner, method)

        def timed(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        setattr(owner, method, timed)


def split(trainer, device: torch.device, steps: int) -> dict[str, float]:
    """Return the median milliseconds of each part of a training step."""
    clock = Clock(device)
    clock.watch(trainer.images, "shot", "data")
    clock.watch(trainer, "gaussians", "networks")
    clock.watch(trainer, "render", "raster")
    clock.watch(trainer.comparison, "terms", "losses")
    if trainer.upsampler is not None:
        clock.watch(trainer.comparison, "upsampled", "upsampler")
    for _ in range(steps):
        with clock.part("backward_optimiser"):  # everything that is not a separate part
            trainer.one_step()
    return {name: statistics.median(clock.spent.get(name, [0.0])) for name in PARTS}


def rate(job, device: torch.device, repeats: int) -> float:
    """Return the calls of `job` a second, without pauses."""
    clock = Clock(device)
    started = clock.now()
    for _ in range(repeats):
        job()
    return 1e3 * repeats / (clock.now() - started)


def main():
    """Train and render for a short time, then print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, help="rendered pixels (default 512 on CUDA, 64 on a CPU)")
    parser.add_argument("--upsampling", type=int, default=4, choices=(1, 2, 4))
    parser.add_argument("--points", type=int, help="Gaussians (default 30,000 on CUDA, 4,000 on a CPU)")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    options = parser.parse_args()
    device = choose_device(options.device)
    large = device.type == "cuda"
    options.size = options.size or (512 if large else 64)
    options.points = options.points or (30_000 if large else 4_000)
    repeats = 8 if options.quick else 30
    config = configuration(options, device)
    capture = ball_capture(options.size * options.upsampling)
    with tempfile.TemporaryDirectory() as folder:
        info = {"subject": "ball", "method": "vanilla", "seconds": 0.0}
        trainer = Trainer(capture, Vanilla(), config, Path(folder), info, False, device)
        trainer.start()
        for _ in range(3):  # compile, and allocate memory
            trainer.one_step()
        figures = {"training_steps_per_second": rate(trainer.one_step, device, repeats)}
        parts = split(trainer, device, repeats)
        trainer.save()
        trainer.images.close()
        run = Run.load(folder, options.device)
    given = [values[:1] for values in (capture.expression, capture.pose, capture.scale)]
    coarse = capture.cameras[1].resized(options.size)

    @torch.no_grad()
    def features():
        return rasterize(run.avatar(*(torch.from_numpy(v).to(device) for v in given)), [coarse], options.size)

    jobs = {options.size: features}
    jobs[options.size * options.upsampling] = lambda: run.render(*given, [capture.cameras[1]])
    figures |= {f"{name}_ms": value for name, value in parts.items()}
    for size, job in jobs.items():
        job()
        figures[f"pictures_per_second_{size}"] = rate(job, device, repeats)
    print(
        f"{device}, {options.size}² × {options.upsampling}, {options.points} Gaussians, {options.precision}: "
        + ", ".join(f"{name} {value:.1f} ms" for name, value in parts.items())
    )
    for name, value in figures.items():
        print(f"figure {name} = {value:.2f}")


if __name__ == "__main__":
    main()
