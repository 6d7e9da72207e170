"""The parts of the GPU benchmark (`gpu.py`), each a function from a job to its figures.

A job says whether the run is dry (tiny sizes on the CPU), the device, the folder `out` for images, the file of the
capture, the time in seconds at which the part is stopped, and the file `result` for what was found until then.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from raflib.capture import Capture, most_frontal
from raflib.config import TrainConfig, train_config
from raflib.evaluation import evaluate
from raflib.render import Gaussians, rasterize
from raflib.render.gsplat_backend import probe
from raflib.report import strip
from raflib.runs import project_root, provenance, write_json
from raflib.sampler import Vanilla
from raflib.training import Run, fit
from raflib.training.trainer import Trainer

_HERE = Path(__file__).resolve().parent
METRICS = ("psnr/face", "ssim/face", "lpips/stlpips-alex/face")
AVATAR_SECONDS = 180
HELD_OUT_FRAMES, SHOWN = 20, 5


class Failure(Exception):
    """A part whose results are wrong; `found` are its figures all the same."""

    def __init__(self, words: str, found: dict):
        super().__init__(words)
        self.found = found


def load(name: str):
    """Return the module `<name>.py` of this folder."""
    spec = importlib.util.spec_from_file_location(name, _HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def setup(job: SimpleNamespace) -> dict:
    """Return card and versions. The first call on a machine compiles gsplat."""
    started, found = time.perf_counter(), {**provenance(), "torch": torch.__version__, "cores": os.cpu_count()}
    if job.device.type == "cuda":
        card = torch.cuda.get_device_properties(0)
        problem, seconds = probe(), time.perf_counter() - started
        found |= {"card": card.name, "memory_gib": card.total_memory / 2**30, "cuda": torch.version.cuda}
        found |= {"gsplat": problem or "usable", "gsplat_seconds": seconds}
        if problem:
            raise Failure(problem, found)
    return found


def raster(job: SimpleNamespace) -> dict:
    """Return differences between the two renderers and the milliseconds of forward and backward."""
    module, found = load("renderer"), {}
    for size, count, channels in ((48, 300, 3), (48, 300, 32)) if job.dry else module.FULL[2:]:
        results, name = [], f"{size}_c{channels}"
        case = module.scene(size, count, channels)
        for device in ("cpu", job.device.type):
            now = load("_parts").clock(torch.device(device))
            leaves, *rest = [_moved(part, device) for part in case]
            times, extrinsic, intrinsic, *grads = [], *rest
            for _ in range(3 if device == "cpu" else 20):
                for leaf in leaves:
                    leaf.grad = None
                started, cameras = now(), (extrinsic[None], intrinsic[None])
                image, alpha = rasterize(Gaussians(*(leaf[None] for leaf in leaves)), cameras, size, background=0.0)
                torch.autograd.backward([image, alpha], [grads[0][None], grads[1][None]])
                times.append(now() - started)
            results.append([part.detach().cpu() for part in (image, alpha, *(leaf.grad for leaf in leaves))])
            who = "cpu" if len(results) == 1 else "gpu"  # a dry run has the CPU in both places
            found[f"{name}_{who}_ms"] = float(np.median(times[1:]))  # the first call compiles
        pairs = list(zip(*results, strict=True))
        found[f"{name}_image_difference"] = max((a - b).abs().mean().item() for a, b in pairs[:2])
        found[f"{name}_gradient_difference"] = max(((a - b).norm() / a.norm()).item() for a, b in pairs[2:])
        if found[f"{name}_image_difference"] > 5e-6 or found[f"{name}_gradient_difference"] > 5e-3:
            raise Failure("the two renderers disagree", found)
    return found


def _moved(part: object, device: str):
    if isinstance(part, list):
        return [leaf.detach().to(device).requires_grad_() for leaf in part]
    return part.to(device)


def _configured(job: SimpleNamespace, profile: str, **changes) -> TrainConfig:
    """The profile's own sizes, tiny ones in a dry run."""
    sizes = {"size": 32, "points": 200} if job.dry else {"size": None, "points": None}
    options = SimpleNamespace(**sizes, upsampling=None, precision=changes.pop("precision", "float32"))
    return replace(load("training").configuration(profile, options, job.device), **changes)


def training(job: SimpleNamespace, profile: str) -> dict:
    """Return steps a second, parts of a step and peak memory of a profile in its own sizes."""
    config = _configured(job, profile)
    _watch_memory(job)
    peak = load("_limits").matmul_flops(load("_parts").clock(job.device), job.device, 64 if job.dry else 4096)
    figures = load("training").measured(profile, config, job.device, job.dry, peak)
    found = {name.removeprefix(f"training_{profile}_"): value for name, value in figures.items()}
    return {**found, "matmul_gflops": peak / 1e9, **_memory(job)}


def variants(job: SimpleNamespace) -> dict:
    """Return steps a second and peak memory of `paper` with fewer bits and with the compiled upsampler."""
    module, found = load("training"), {}
    switches = {"plain": {}, "bfloat16": {"precision": "bfloat16"}, "compile": {"compile": True}}
    switches["bfloat16_compile"] = {"precision": "bfloat16", "compile": True}
    for name, changes in switches.items():
        if job.dry and changes:  # these are for CUDA alone
            continue
        _watch_memory(job)
        try:
            with module.trainer_of(_configured(job, "paper", **changes), job.device) as trainer:
                now = load("_parts").clock(job.device)
                found[f"{name}_steps_per_second"] = module.rate(trainer.one_step, now, 2 if job.dry else 30)
            found |= {f"{name}_{key}": value for key, value in _memory(job).items()}
        except Exception as error:  # the others are worth knowing all the same
            found[f"{name}_error"] = f"{type(error).__name__}: {error}"
        _note(job, found)
    if failed := [name for name in found if name.endswith("_error")]:
        raise Failure(f"{', '.join(failed)}", found)
    return found


def frames(job: SimpleNamespace) -> dict:
    """Return images a second of an avatar of the profile `gpu`, networks and rendering, at two sizes."""
    config, found = _configured(job, "gpu"), {}
    with load("training").trainer_of(config, job.device) as trainer:
        shot, generator = trainer.images.shot(0), torch.Generator().manual_seed(0)
        now = load("_parts").clock(job.device)
        for size in (32, 64) if job.dry else (512, 2048):

            @torch.no_grad()
            def image(size=size):
                return rasterize(trainer.gaussians(shot, generator), shot.cameras[:1], size, blur=config.avatar.blur)[0]

            image()
            found[f"images_per_second_{size}"] = load("training").rate(image, now, 2 if job.dry else 50)
    return found


def avatar(job: SimpleNamespace) -> dict:
    """Return scores on held-out frames of a `gpu` avatar trained for three minutes; write a strip of images."""
    capture, config, device = _capture(job), _avatar_config(job.dry), job.device.type
    seconds = 2.0 if job.dry else min(AVATAR_SECONDS, job.deadline - time.time() - 60)
    if seconds < 2:
        raise Failure("too little time is left to train", {})
    info = {"subject": capture.subject, "method": "vanilla", "seconds": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        trial = Trainer(capture, Vanilla(), replace(config, steps=10**9), Path(folder), info, False, job.device)
        started, now = time.perf_counter(), load("_parts").clock(job.device)
        trial.start()
        for _ in range(3):
            trial.one_step()
        start = time.perf_counter() - started
        speed = load("training").rate(trial.one_step, now, 3 if job.dry else 50)
        trial.images.close()
        steps = max(1, int(speed * max(seconds - start, 1)))
        run = fit(capture, Vanilla(), replace(config, steps=steps), f"{folder}/run", progress=False, device=device)
    found = {"steps": steps, "seconds": run.info["seconds"], "steps_per_second": steps / run.info["seconds"]}
    _note(job, found)
    table = _scored(run, capture)
    for condition, rows in table.groupby("condition"):
        found |= {f"{metric} {condition}": float(rows[metric].mean()) for metric in METRICS}
    _look(run, capture, job.out / "avatar.png")
    return {**found, "training_frames": int(capture.train.sum()), "recording": capture.recording}


def _capture(job: SimpleNamespace) -> Capture:
    if job.dry:
        ball = load("training").ball_capture(48)
        return replace(ball, sequence=np.array(["EXP-1-head"] * 8 + ["FREE"] * 4))
    path = job.capture or job.out / "422.npz"
    if not path.exists():
        load("_carried").film("422", look_at, path)
    return load("_carried").read(path)


def _avatar_config(dry: bool) -> TrainConfig:
    """The profile `gpu` for the small capture: two views of each frame."""
    config = train_config("gpu", views_per_frame=2)
    if not dry:
        return config
    sizes = {"points": 200, "mouth_points": 20}
    small = {"size": 48, "landmark_steps": 2, "perceptual_every": 10**6}
    return replace(config, avatar=replace(config.avatar, **sizes), **small)


def _scored(run: Run, capture: Capture):
    front = most_frontal(capture.cameras, 1)
    return evaluate(run, "self", capture, cameras=front, frames=HELD_OUT_FRAMES, metrics=METRICS, progress=False)


def look_at(capture: Capture) -> None:
    """Ask for every image that the avatar's training, scores and strip need."""
    config = _avatar_config(dry=False)
    config = replace(config, steps=0, landmark_steps=0, avatar=replace(config.avatar, points=500, mouth_points=50))
    with tempfile.TemporaryDirectory() as folder:
        run = fit(capture, Vanilla(), config, folder, progress=False, device="cpu")
        _scored(run, capture)
        _look(run, capture, Path(folder) / "strip.png")


def _look(run: Run, capture: Capture, path: Path) -> None:
    """Write a strip of held-out frames: truth, avatar and control."""
    front = most_frontal(capture.cameras, 1)[0]
    rows = np.flatnonzero(capture.free)
    rows = rows[np.linspace(0, len(rows) - 1, min(HELD_OUT_FRAMES, len(rows))).round().astype(int)]
    rows = rows[:: max(1, len(rows) // SHOWN)][:SHOWN]
    given = capture.pose[rows], capture.scale[rows], [capture.cameras[front]] * len(rows)
    still = np.repeat(run.control_expression[None], len(rows), 0)
    images = [[capture.image(t, front) for t in rows]]
    images += [list(run.render(expression, *given)) for expression in (capture.expression[rows], still)]
    strip(images, [str(capture.frame[t]) for t in rows], ["truth", "avatar", "control"], path, tile=512)


def tests(job: SimpleNamespace) -> dict:
    """Return the summary of tests/gpu."""
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-q", "-rfEs", "-p", "no:cacheprovider"]
    command += ["--collect-only"] if job.dry else []
    done = subprocess.run(command, cwd=project_root(), capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""]
    found = {"summary": lines[-1], "status": done.returncode, "output": lines[-60:]}
    if done.returncode or (not job.dry and "passed" not in lines[-1]):
        raise Failure(f"pytest ended with status {done.returncode}: {lines[-1]}", found)
    return found


def _watch_memory(job: SimpleNamespace) -> None:
    if job.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _memory(job: SimpleNamespace) -> dict:
    peak = torch.cuda.max_memory_allocated() / 2**30 if job.device.type == "cuda" else None
    return {"peak_memory_gib": peak}


def _note(job: SimpleNamespace, found: dict) -> None:
    """Keep what a part has found so far, in case it is stopped."""
    if job.result is not None:
        write_json(job.result, {"ok": False, "error": "stopped before its end", **found})


PARTS = {
    "setup": (setup, 270),
    "raster": (raster, 60),
    "tests": (tests, 150),
    "training_gpu": (lambda job: training(job, "gpu"), 90),
    "training_paper": (lambda job: training(job, "paper"), 120),
    "frames": (frames, 60),
    "avatar": (avatar, 420),
    "variants": (variants, 240),
}
"""Each part with the seconds after which it is stopped."""
