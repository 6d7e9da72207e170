"""A training step's parts, each beside the limit of this machine, and images a second of the trained avatar.

    python benchmarks/training.py [--quick] [--profile demo] [--device auto] [--threads 1]

The capture is synthetic: a shaded ball with noise, from a fixed seed. A CPU trains the profile `demo` in its own sizes
and `paper` in small ones (64 × 4, 4,000 Gaussians, narrow networks); a GPU trains `gpu` and `paper` in their own. The
first stage of `paper` is left out. Each part of a step is timed where it is called, forward and backward. With one
thread, times are CPU time; with more threads or on CUDA, they are elapsed time, and on CUDA every part waits for the
device. Steps a second are measured without these clocks.

Two parts have a limit, measured in the same run. The networks' matrix operations a second are divided by those of one
large matrix product. Pairs of Gaussian and pixel a second are divided by those of the renderer's inner loop on data
that stays in the cache, where no vector is partly empty (CPU, one thread).

The last lines are `figure <name> = <number>`.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
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
from raflib.sampler import Vanilla  # noqa: E402
from raflib.training.process import use_threads  # noqa: E402
from raflib.training.run import choose_device  # noqa: E402
from raflib.training.trainer import Trainer  # noqa: E402

FRAMES, VIEWS, WIDTH = 12, 4, 52
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


def load(name: str):
    """Return the module `<name>.py` of this folder."""
    spec = importlib.util.spec_from_file_location(name, _HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def configuration(profile: str, options: argparse.Namespace, device: torch.device) -> TrainConfig:
    """Return a profile's settings without end and without a first stage; `paper` on a CPU with narrow networks."""
    made = train_config(profile, initialisation="simple", landmark_steps=0, steps=10**9)
    sizes, changes = {}, {"views_per_frame": min(VIEWS, made.views_per_frame), "precision": options.precision}
    if profile == "paper" and device.type == "cpu":
        sizes = {**NARROW, "points": 4_000}
        changes |= {"size": 64, "perceptual_net": "alex", "perceptual_crop": 128}
    sizes |= {name: value for name in ("points", "upsampling") if (value := getattr(options, name)) is not None}
    avatar = replace(made.avatar, **sizes)
    avatar = replace(avatar, mouth_points=min(avatar.mouth_points, avatar.points // 10))
    changes |= {"size": options.size} if options.size else {}
    return replace(made, **changes, avatar=avatar)


@contextmanager
def trainer_of(config: TrainConfig, device: torch.device) -> Iterator[Trainer]:
    """A training of the ball, ready for steps, in a folder that goes away with it."""
    with tempfile.TemporaryDirectory() as folder:
        info = {"subject": "ball", "method": "vanilla", "seconds": 0.0, "finished": False}
        full = config.size * config.avatar.upsampling
        trainer = Trainer(ball_capture(full), Vanilla(), config, Path(folder), info, False, device)
        trainer.start()
        for _ in range(3):  # compile, and allocate memory
            trainer.one_step()
        yield trainer
        trainer.images.close()


def rate(job: Callable[[], object], now: Callable[[], float], repeats: int) -> float:
    """Return the calls of `job` a second, without pauses."""
    started = now()
    for _ in range(repeats):
        job()
    return 1e3 * repeats / (now() - started)


def measured(profile: str, config: TrainConfig, device: torch.device, quick: bool, peak: float) -> dict[str, float]:
    """Return the figures of one profile, and print its table. `peak` is the matrix products' operations a second."""
    parts_module, limits = load("_parts"), load("_limits")
    now, name = parts_module.clock(device), f"training_{profile}"
    # The perceptual term comes every few steps: whole rounds of it, so that the mean has its share.
    steps = config.perceptual_every * max(1, round((8 if quick else 32) / config.perceptual_every))
    with trainer_of(config, device) as trainer:
        plain = rate(trainer.one_step, now, steps)
        parts = parts_module.split(trainer, steps)
        pairs, flops = parts_module.work(trainer, limits.pairs_of)
        figures = {f"{name}_steps_per_second": plain}
        figures |= {f"{name}_{part}_ms": value for part, value in parts.items() if value}
        # The work of a part a second, its unit, and what the machine can do at most.
        spent = parts["networks_forward"] + parts["networks_backward"]
        done = {"networks": (1e3 * flops / spent, "flops", peak)}
        if device.type == "cpu" and torch.get_num_threads() == 1:
            bare = limits.bare_rates(now, config.avatar.colour_channels)
            for way, most in zip(("raster_forward", "raster_backward"), bare, strict=True):
                done[way] = 1e3 * pairs / parts[way], "pairs", most
        for part, (speed, unit, most) in done.items():
            figures |= {f"{name}_{part}_giga_{unit}": speed / 1e9, f"{name}_{part}_of_limit": speed / most}
        figures |= {f"{name}_{key}": value for key, value in images_per_second(trainer, now, steps).items()}
    whole = sum(parts.values())
    print(f"{profile}: {config.size}² × {config.avatar.upsampling}, {config.avatar.points} Gaussians, {device}")
    print(f"  {plain:.2f} steps a second; a step with clocks takes {whole:.1f} ms:")
    for part, value in parts.items():
        if value:
            print(f"  {part:20} {value:8.2f} ms {value / whole:6.1%}")
    for part, (speed, unit, most) in done.items():
        print(f"  {part}: {speed / 1e9:.3g} of {most / 1e9:.3g} G{unit}/s, {speed / most:.0%} of the limit")
    return figures


@torch.no_grad()
def images_per_second(trainer: Trainer, now: Callable[[], float], repeats: int) -> dict[str, float]:
    """Return images a second of the avatar: rendered features, and with the upsampler final images."""
    shot, config = trainer.images.shot(0), trainer.config
    generator = torch.Generator().manual_seed(0)

    def features():
        view = replace(shot, cameras=shot.cameras[:1])
        return trainer.render(view, trainer.gaussians(view, generator))

    jobs = {config.size: features}
    if trainer.upsampler is not None:
        jobs[config.size * config.avatar.upsampling] = lambda: trainer.comparison.upsampled(features())
    result = {}
    for size, job in jobs.items():
        job()
        result[f"images_per_second_{size}"] = rate(job, now, repeats)
    return result


def main():
    """Measure the profiles, then print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=("demo", "gpu", "paper"), help="only this one")
    parser.add_argument("--size", type=int, help="rendered pixels, instead of the profile's")
    parser.add_argument("--upsampling", type=int, choices=(1, 2, 4), help="instead of the profile's")
    parser.add_argument("--points", type=int, help="Gaussians, instead of the profile's")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: less than a minute")
    options = parser.parse_args()
    device = choose_device(options.device)
    figures = {}
    with use_threads(options.threads):
        peak = load("_limits").matmul_flops(load("_parts").clock(device), device)
        figures["matmul_gflops"] = peak / 1e9
        every = ("demo", "paper") if device.type == "cpu" else ("gpu", "paper")
        for profile in (options.profile,) if options.profile else every:
            config = configuration(profile, options, device)
            figures |= measured(profile, config, device, options.quick, peak)
    if hasattr(os, "getloadavg"):
        print(f"load of the machine over the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name, value in figures.items():
        print(f"figure {name} = {value:.3g}")


if __name__ == "__main__":
    main()
