"""`fit(capture, sampler, config, out) -> Run`: train one avatar, and load it again.

Each step takes one picture, asks the sampler which expression conditions it (this is all that RAF changes, RAF §4),
renders and compares. Everything random in step s is drawn from a generator seeded by (seed, s), so that a run killed at
any moment resumes from its last checkpoint to the same bits on a CPU with the same number of threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from raflib import losses
from raflib.avatar import Canonical, GaussianAvatar, initialise
from raflib.avatar.density import relocate
from raflib.avatar.landmarks import BESIDE, LandmarkGuide
from raflib.capture import Capture
from raflib.config import TrainConfig, to_dict, train_config_from_dict
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.pictures import Pictures, choose_cameras
from raflib.render import rasterize
from raflib.runs import atomic_write, load_tensors, provenance, read_json, save_tensors, write_json

CHECKPOINT = "checkpoint.safetensors"
HULL_CAMERAS = 16
WARM_UP = 50
LOG_EVERY = 50


@dataclass(eq=False)
class Run:
    """A trained (or training) avatar on disk.

    `info` is `run.json`: subject, method, sampler, configuration, seed, commit, versions, steps and seconds.
    """

    path: Path
    subject: str
    method: str
    config: TrainConfig
    avatar: GaussianAvatar
    background: Float[Tensor, "H W 3"] | None
    info: dict[str, Any] = field(repr=False)

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Read a run folder. RafError naming the file when it is missing, damaged or of another version."""
        path = Path(path)
        info = read_json(path / "run.json")
        tensors, header = load_tensors(path / CHECKPOINT)
        config = train_config_from_dict(header["config"])
        model = {name.removeprefix("avatar."): value for name, value in tensors.items() if name.startswith("avatar.")}
        avatar = GaussianAvatar(config.avatar, _blank(config, model))
        avatar.load_state_dict(model)
        avatar.refresh_blend()
        return cls(path, info["subject"], info["method"], config, avatar.eval(), tensors.get("background"), info)

    @property
    def control_expression(self) -> Float[np.ndarray, "d"]:
        """The training mean of the expression: what the control of every evaluation is held at."""
        return self.avatar.expression_mean.numpy()

    @property
    def log(self) -> pd.DataFrame:
        """Training log: step, seconds, the terms of the loss, PSNR of the step's picture."""
        return pd.read_csv(self.path / "log.csv")

    @torch.no_grad()
    def render(
        self,
        expression: Float[np.ndarray, "B d"],
        pose: Float[np.ndarray, "B 6"],
        scale: Float[np.ndarray, "B"],
        cameras: list[Camera],
    ) -> Float[np.ndarray, "B H W 3"]:
        """Pictures in [0,1] of the avatar, one a row, each by its own camera (all of one size)."""
        images = []
        for row, camera in enumerate(cameras):
            given = (_row(values, row) for values in (expression, pose, scale))
            gaussians = self.avatar(*given)
            if self.background is None:
                backdrop = 1.0
            else:
                backdrop = _resized(self.background, camera.height, camera.width)
            size, blur = (camera.height, camera.width), self.config.avatar.blur
            image, _ = rasterize(gaussians, [camera], size, background=backdrop, blur=blur)
            images.append(image[0, ..., :3].clamp(0, 1).numpy())
        return np.stack(images)


def fit(
    capture: Capture,
    sampler: Any,
    config: TrainConfig,
    out: str | Path,
    details: Mapping[str, Any] | None = None,
    threads: int = 1,
    progress: bool = True,
) -> Run:
    """Train an avatar of `capture` into the run folder `out`, resuming what is there.

    `sampler` is Vanilla, RandomNoise, RAF or anything with their `name`, `bind` and `describe`. `details` goes into
    run.json. A folder holding a run of another subject, sampler or configuration is an error; a finished one is
    returned as it is. A loss that is not finite stops training and keeps the last good checkpoint.
    """
    out = Path(out)
    identity = {"subject": capture.subject, "sampler": sampler.describe(), "config": to_dict(config)}
    if (out / "run.json").exists():
        stored = read_json(out / "run.json")
        odd = [key for key in identity if _plain(stored.get(key)) != _plain(identity[key])]
        if odd:
            raise RafError(f"{out}: holds a run with another {', '.join(odd)}; choose another folder or delete it")
        if stored["finished"]:
            return Run.load(out)
    label = {"method": sampler.name, "seed": config.seed, "threads": threads}
    info = {**identity, **label, **(details or {}), **provenance(), "finished": False, "steps": 0, "seconds": 0.0}
    with _threads(threads):
        return _Trainer(capture, sampler, config, out, info, progress).run()


class _Trainer:
    """State of one training: the avatar, the optimiser, the pictures and the step."""

    def __init__(self, capture: Capture, sampler: Any, config: TrainConfig, out: Path, info: dict, progress: bool):
        self.config, self.out, self.info, self.step, self.rows = config, out, info, 0, []
        self.progress = progress
        torch.manual_seed(config.seed)
        self.pictures = Pictures(capture, choose_cameras(capture, config.cameras, config.camera_choice), config)
        self.condition = sampler.bind(capture.expression, capture.subject, capture.feature_space)
        around = choose_cameras(capture, HULL_CAMERAS)
        self.avatar = GaussianAvatar(config.avatar, initialise(capture, config.avatar, around, config.seed))
        self.guide = None
        if config.landmark_steps or config.weight_landmarks:
            self.guide = LandmarkGuide(self.avatar, capture, self.condition)
        self.trained_on = torch.from_numpy(np.flatnonzero(capture.train))
        self.background = None
        if capture.background is not None:
            first = torch.from_numpy(capture.background.astype(np.float32))
            self.background = torch.nn.Parameter(_resized(first, config.size, config.size).clone())
        self.optimiser = self._optimiser()
        self.optimisers = {"adam": self.optimiser}
        self.pose = None
        if config.rate_pose > 0:
            self.pose = torch.nn.Embedding(len(capture), 6, sparse=True)  # corrections: radians, then decimetres
            torch.nn.init.zeros_(self.pose.weight)
            self.optimisers["pose"] = torch.optim.SparseAdam(self.pose.parameters(), lr=config.rate_pose)
        self.rates = {name: [group["lr"] for group in o.param_groups] for name, o in self.optimisers.items()}
        self.perceptual = None
        if config.weight_perceptual > 0:
            from raflib.perceptual import Perceptual

            self.perceptual = Perceptual()
        if (out / CHECKPOINT).exists():
            self._restore()
        elif self.guide is not None:
            started = time.perf_counter()
            self.guide.fit(config.landmark_steps, config.rate_mlp, config.seed, progress)
            self.info["seconds"] += time.perf_counter() - started

    def _optimiser(self) -> torch.optim.Adam:
        c, a = self.config, self.avatar
        networks = [p for name, p in a.named_parameters() if "." in name]
        groups = [
            ([a.xyz], c.rate_xyz), ([a.feature], c.rate_feature), ([a.rotation], c.rate_rotation),
            ([a.scales], c.rate_scale), ([a.opacity], c.rate_opacity), ([a.colour], c.rate_colour),
            ([a.body], c.rate_body), (networks, c.rate_mlp), ([self.background], c.rate_background),
        ]  # fmt: skip
        used = [{"params": params, "lr": rate} for params, rate in groups if params[0] is not None]
        return torch.optim.Adam(used, betas=(0.9, 0.99), eps=1e-15, fused=True)

    def run(self) -> Run:
        started, before = time.perf_counter(), self.info["seconds"]
        bar = tqdm(
            total=self.config.steps, initial=self.step, desc=f"{self.info['subject']} {self.info['method']}",
            disable=not self.progress, mininterval=1.0,
        )  # fmt: skip
        with bar:
            while self.step < self.config.steps:
                parts, psnr = self._one_step()
                self.info["seconds"] = before + time.perf_counter() - started
                if self.step % LOG_EVERY == 0 or self.step == self.config.steps:
                    self.rows.append({"step": self.step, "seconds": self.info["seconds"], **parts, "psnr": psnr})
                    bar.set_postfix(l1=f"{parts['l1']:.4f}", psnr=f"{psnr:.1f}", refresh=False)
                bar.update()
                if self.step % self.config.checkpoint_every == 0 and self.step < self.config.steps:
                    self._save()
        self._save(finished=True)
        return Run.load(self.out)

    def _one_step(self) -> tuple[dict[str, float], float]:
        c = self.config
        generator = torch.Generator().manual_seed(c.seed * 1_000_003 + self.step)
        ramp = min(1.0, (self.step + 1) / WARM_UP) * c.decay ** (self.step / c.steps)
        for name, optimiser in self.optimisers.items():
            for group, rate in zip(optimiser.param_groups, self.rates[name], strict=True):
                group["lr"] = rate * ramp
        shot = self.pictures.shot(self.step)
        expression = self.condition(torch.tensor([shot.t]), generator)
        pose = shot.pose if self.pose is None else shot.pose + self._correction(shot.t)
        gaussians = self.avatar(expression, pose, shot.scale)
        backdrop = 1.0 if self.background is None else self.background
        render, _ = rasterize(gaussians, [shot.camera], c.size, background=backdrop, blur=c.avatar.blur)
        render = render[..., :3]
        crop = None
        if self.perceptual is not None and self.step % c.perceptual_every == 0:
            crop = shot.crop(min(c.perceptual_crop, c.size), c.size, generator)
        weights = losses.face_weights(shot.box, c.size, c.weight_face)
        parts = losses.terms(render, shot.picture, weights, self.perceptual, crop)
        if c.weight_landmarks:
            parts["landmarks"] = self.guide.distances(BESIDE, generator)
        loss = losses.total(parts, c)
        if not torch.isfinite(loss):
            raise RafError(
                f"{self.out}: the loss is not finite at step {self.step}; the last good checkpoint is kept, lower the "
                "learning rates or check the capture's poses"
            )
        loss.backward()
        for optimiser in self.optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        if self.pose is not None and self.step % len(self.pictures) == 0:
            self._centre_corrections()
        if c.relocate_every and self.step % c.relocate_every == 0:
            if self.step < 0.7 * c.steps:
                relocate(self.avatar, self.optimiser, generator)
            self.avatar.refresh_blend()
        with torch.no_grad():
            psnr = -10 * torch.log10((render - shot.picture).square().mean()).item()
        return {name: value.detach().mean().item() for name, value in parts.items()}, psnr

    def _correction(self, t: int) -> Float[Tensor, "1 6"]:
        """What training adds to the tracked pose of frame `t` (radians, metres)."""
        return self.pose(torch.tensor([t])) * torch.tensor([1, 1, 1, 0.1, 0.1, 0.1])

    @torch.no_grad()
    def _centre_corrections(self) -> None:
        """Keep their mean at zero: the canonical head stays where the tracker puts it on frames never trained on."""
        self.pose.weight[self.trained_on] -= self.pose.weight[self.trained_on].mean(0)

    def _save(self, finished: bool = False) -> None:
        self.avatar.refresh_blend()
        tensors = {f"avatar.{name}": value for name, value in self.avatar.state_dict().items()}
        if self.pose is not None:
            tensors["pose_correction"] = self.pose.weight.data
        if self.background is not None:
            tensors["background"] = self.background.data
        for kind, optimiser in self.optimisers.items():
            for index, state in optimiser.state_dict()["state"].items():
                tensors |= {f"{kind}.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        self.info |= {"steps": self.step, "finished": finished}
        header = {"config": to_dict(self.config), "step": self.step, "seconds": self.info["seconds"], "log": self.rows}
        save_tensors(self.out / CHECKPOINT, tensors, header)
        with atomic_write(self.out / "log.csv") as path:
            pd.DataFrame(self.rows).to_csv(path, index=False)
        write_json(self.out / "run.json", self.info)

    def _restore(self) -> None:
        tensors, header = load_tensors(self.out / CHECKPOINT)
        if _plain(header["config"]) != _plain(to_dict(self.config)):
            raise RafError(
                f"{self.out / CHECKPOINT}: made with another configuration; choose another folder or delete it"
            )
        prefix = "avatar."
        self.avatar.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        if self.pose is not None:
            self.pose.weight.data.copy_(tensors["pose_correction"])
        if self.background is not None:
            self.background.data.copy_(tensors["background"])
        for kind, optimiser in self.optimisers.items():
            state: dict[int, dict[str, Any]] = {}
            for name, value in tensors.items():
                if name.startswith(f"{kind}."):
                    _, index, key = name.split(".")
                    counted = value.ndim == 0 and not value.is_floating_point()  # SparseAdam's step is a plain int
                    state.setdefault(int(index), {})[key] = value.item() if counted else value
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": state, "param_groups": groups})
        self.avatar.refresh_blend()
        self.step, self.rows, self.info["seconds"] = header["step"], header["log"], header["seconds"]


def _blank(config: TrainConfig, model: Mapping[str, Tensor]) -> Canonical:
    """Zeros of the stored shapes, to be overwritten by the stored values."""
    a = config.avatar
    like = {name: torch.zeros_like(model[name]) for name in ("xyz", "feature", "scales", "landmarks_neutral")}
    return Canonical(
        xyz=like["xyz"],
        feature=like["feature"],
        log_scale=like["scales"],
        colour=torch.zeros(len(like["xyz"]), a.colour_channels),
        body=torch.zeros(len(like["xyz"]), 1),
        landmarks=like["landmarks_neutral"],
        expression_mean=torch.zeros(a.expression_dim),
        rest_pose=torch.zeros(6),
        rest_scale=torch.ones(()),
    )


def _row(values, row: int) -> Tensor:
    return torch.from_numpy(np.asarray(values[row : row + 1], dtype=np.float32))


def _resized(image: Float[Tensor, "h w 3"], height: int, width: int) -> Float[Tensor, "H W 3"]:
    if image.shape[:2] == (height, width):
        return image
    planes = image.permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(planes, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0)


def _plain(value: Any) -> Any:
    """As JSON would give it back, so that stored and fresh values compare equal."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


@contextmanager
def _threads(count: int):
    """torch and numba on `count` threads inside the block (as many as there are, at most)."""
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(count)
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])
