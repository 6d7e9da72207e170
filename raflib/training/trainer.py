"""`Trainer`: one training in progress, its steps and its checkpoints.

Saving changes no bit of the result. Checkpoints are written every `checkpoint_every` steps, when `SAVE_SECONDS` have
passed since the last one, and when the training is interrupted. None is written before the first step, so a training
that is killed earlier starts anew.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from raflib.avatar import GaussianAvatar
from raflib.avatar.upsampler import PREFIX
from raflib.capture import Capture, choose_cameras, shown, shown_spaces
from raflib.config import TrainConfig, to_dict
from raflib.errors import RafError
from raflib.images import resized
from raflib.render import Gaussians, rasterize
from raflib.runs import save_tensors
from raflib.training import losses
from raflib.training.comparison import Comparison
from raflib.training.data import Shot, TrainingImages
from raflib.training.landmark_term import BESIDE, LandmarkGuide
from raflib.training.optimisers import Optimisers
from raflib.training.pose_corrections import PoseCorrections, frame_names
from raflib.training.process import until_interrupted
from raflib.training.relocate import relocate
from raflib.training.run import CHECKPOINT, Stored, below, make_upsampler, write_copies
from raflib.training.start import initialise
from raflib.training.start.guided import start_on_surface

HULL_CAMERAS = 16
"""Most cameras whose masks tell where Gaussians start."""
LOG_EVERY = 50
"""Steps between two rows of the log."""
SAVE_SECONDS = 30.0
"""Seconds of training that a killed process loses at most."""
MADE_BY = ("threads", "device", "commit", "versions", "machine")
"""Entries of a run's info that say who made its steps."""


class Trainer:
    """State of one training: the avatar, its optimisers, the training images and the step.

    Args:
        capture, sampler, config, out: as `raflib.training.fit` takes them.
        info: entries of run.json; the trainer updates "steps", "total_steps", "seconds", "finished" and who made the
            steps.
        progress: whether to show progress bars and messages.
        device: where avatar and images are.
    """

    def __init__(
        self, capture: Capture, sampler: Any, config: TrainConfig, out: Path, info: dict[str, Any], progress: bool,
        device: torch.device,
    ):  # fmt: skip
        self.config, self.out, self.info, self.step = config, out, info, 0
        self.rows: list[dict[str, Any]] = []
        self.progress, self.device = progress, device
        torch.manual_seed(config.seed)
        self.steps = config.total_steps(int(capture.train.sum()))
        cameras = choose_cameras(capture, config.cameras, config.camera_choice)
        self.images = TrainingImages(capture, cameras, config, device)
        # Held-out frames are hidden, so that nothing a sampler learns from the subject's frames comes from them.
        self.condition = sampler.bind(
            shown(capture), capture.subject, capture.feature_space, capture.pose, shown_spaces(capture)
        )
        around = choose_cameras(capture, HULL_CAMERAS)
        # Everything is made on the CPU and then moved, so that a seed gives one start on every device.
        self.avatar = GaussianAvatar(config.avatar, initialise(capture, config.avatar, around, config.seed)).to(device)
        self.upsampler = make_upsampler(config)
        if self.upsampler is not None:
            self.upsampler.to(device)
        self.guide = None
        if config.landmark_steps or config.weight_landmarks or config.surface is not None:
            self.guide = LandmarkGuide(self.avatar, capture, self.condition)
        self.background = None
        if capture.background is not None:
            self.background = torch.nn.Parameter(_backdrop(capture.background, config).to(device))
        self.poses = None
        if config.rate_pose > 0:
            self.poses = PoseCorrections(frame_names(capture), capture.train).to(device)
        self.optimisers = Optimisers(config, self.steps, self.avatar, self.upsampler, self.background, self.poses)
        self.comparison = Comparison(config, self.upsampler, device)
        self.capture, self.around, self.saved = capture, around, time.monotonic()

    def start(self, stored: Stored | None = None) -> None:
        """Prepare the first step: continue the checkpoint `stored`, or else fit landmarks and learn the surface."""
        c = self.config
        if stored is not None:
            self._restore(*stored)
            self._say(f"resumed at step {self.step} of {self.steps}")
        elif self.guide is not None:
            started = time.perf_counter()
            self.guide.fit(c.landmark_steps, c.rate_mlp, c.seed, self.progress)
            if c.surface is not None:
                start_on_surface(self.avatar, self.capture, self.images, self.guide, c, self.around, self.progress)
            self.info["seconds"] += time.perf_counter() - started

    def run(self) -> Stored:
        """Make all steps that are left; returns the final checkpoint, which is also written."""
        started, before = time.perf_counter(), self.info["seconds"]
        bar = tqdm(
            total=self.steps, initial=self.step, desc=f"{self.info['subject']} {self.info['method']}",
            disable=not self.progress, mininterval=1.0,
        )  # fmt: skip
        with bar, closing(self.images), until_interrupted() as asked:
            while self.step < self.steps:
                if self.step and time.monotonic() - self.saved > SAVE_SECONDS:
                    self.save()
                measured = self.one_step()
                self.info["seconds"] = before + time.perf_counter() - started
                if self.step % LOG_EVERY == 0 or self.step == self.steps:
                    numbers = {name: value.item() for name, value in measured.items()}
                    self.rows.append({"step": self.step, "seconds": self.info["seconds"], **numbers})
                    bar.set_postfix(l1=f"{numbers['l1']:.4f}", psnr=f"{numbers['psnr']:.1f}", refresh=False)
                bar.update()
                if self.step < self.steps:
                    if asked.is_set() or self.step % self.config.checkpoint_every == 0:
                        self.save()
                    if asked.is_set():
                        self._say(f"interrupted at step {self.step} of {self.steps}; run again to go on")
                        raise KeyboardInterrupt
        return self.save(finished=True)

    def one_step(self) -> dict[str, Float[Tensor, ""]]:
        """Make one step; returns the means of the loss's terms and the PSNR as tensors, so as not to wait for a GPU."""
        c = self.config
        generator = torch.Generator().manual_seed(c.seed * 1_000_003 + self.step)
        shot = self.images.shot(self.step)
        try:
            features = self.render(shot, self.gaussians(shot, generator))
        except RafError as error:  # Gaussians that cannot be rendered
            raise self._stopped(shot, error) from None
        parts, squared = self.comparison.terms(features, shot, self.step, generator)
        if self.guide is not None and c.weight_landmarks:
            parts["landmarks"] = self.guide.distances(BESIDE, generator)
        loss = losses.total(parts, c)
        self._check(torch.isfinite(loss), "loss", shot)
        loss.backward()
        self._check(self.optimisers.finite(), "gradient", shot)
        self.optimisers.step(self.step)
        self.step += 1
        if self.poses is not None and self.step % len(self.images) == 0:
            self.poses.centre()
        if c.relocate_every and self.step % c.relocate_every == 0:
            if self.step < 0.7 * self.steps:
                relocate(self.avatar, self.optimisers.adam, generator)
            self.avatar.refresh_blend()
        means = {name: value.detach().mean() for name, value in parts.items()}
        return {**means, "psnr": -10 * torch.log10(squared)}

    def gaussians(self, shot: Shot, generator: torch.Generator) -> Gaussians:
        """The avatar in the shot's frame, conditioned on the expression that the sampler returns."""
        expression = self.condition(torch.tensor([shot.t]), generator).to(self.device)
        pose = shot.pose if self.poses is None else shot.pose + self.poses(shot.t)
        return self.avatar(expression, pose, shot.scale, shot.torso)

    def render(self, shot: Shot, gaussians: Gaussians) -> Float[Tensor, "V S S C"]:
        """Rendered features of the shot's views."""
        backdrop = 1.0 if self.background is None else self.background
        blur = self.config.avatar.blur
        return rasterize(gaussians, shot.cameras, self.config.size, background=backdrop, blur=blur)[0]

    def save(self, finished: bool = False) -> Stored:
        """Write a checkpoint and return it. RafError, with the last one kept, when a number in it is not finite."""
        tensors = {f"avatar.{name}": value for name, value in self.avatar.state_dict().items()}
        header = {"config": to_dict(self.config), "step": self.step, "seconds": self.info["seconds"], "log": self.rows}
        if self.upsampler is not None:
            tensors |= self.upsampler.to_official()
        if self.poses is not None:
            tensors["pose_correction"] = self.poses.table.weight.data
            header["pose_frames"] = self.poses.names
        if self.background is not None:
            tensors["background"] = self.background.data
        if self.avatar.blend_points is not None and not finished:
            tensors["blend_points"] = self.avatar.blend_points
        tensors |= self.optimisers.tensors()
        odd = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
        if odd:
            raise RafError(
                f"{self.out}: {odd[0]} is not finite after step {self.step} and is not saved; the last checkpoint is "
                "kept, lower the learning rates"
            )
        self.info |= {"steps": self.step, "total_steps": self.steps, "finished": finished}
        stored = save_tensors(self.out / CHECKPOINT, tensors, {**header, "info": self.info})
        write_copies(self.out, stored[1])
        self.saved = time.monotonic()
        return stored

    def _restore(self, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
        self.avatar.load_state_dict(below(tensors, "avatar."))
        if self.upsampler is not None:
            self.upsampler.load_state_dict(below(tensors, PREFIX))
        if self.poses is not None:
            self.poses.restore(header["pose_frames"], tensors["pose_correction"])
        if self.background is not None:
            self.background.data.copy_(tensors["background"])
        self.optimisers.restore(tensors, header.get("pose_frames"))
        self.avatar.refresh_blend(tensors.get("blend_points"))
        self.step, self.rows, self.info["seconds"] = header["step"], header["log"], header["seconds"]
        self._note_continuation(header["info"])

    def _note_continuation(self, stored: Mapping[str, Any]) -> None:
        """Keep in the info who made the first steps, and list who makes later ones where that differs."""
        now, parts = {key: self.info[key] for key in MADE_BY}, list(stored["continued"])
        if now != {key: (parts[-1] if parts else stored)[key] for key in MADE_BY}:
            parts.append({"step": self.step, **now})
        self.info |= {**{key: stored[key] for key in MADE_BY}, "continued": parts}

    def _say(self, words: str) -> None:
        if self.progress:
            print(words, flush=True)

    def _check(self, finite: bool | Tensor, what: str, shot: Shot) -> None:
        if not finite:
            raise self._stopped(shot, f"the {what} is not finite")

    def _stopped(self, shot: Shot, why: object) -> RafError:
        frame = f"{self.capture.sequence[shot.t]}/{self.capture.frame[shot.t]}"
        return RafError(
            f"{self.out}: stopped at step {self.step} (frame {frame} of {self.capture.subject}): {why}; the last "
            "checkpoint is kept, lower the learning rates or check this frame's image and pose"
        )


def _backdrop(room: Float[np.ndarray, "H W 3"], config: TrainConfig) -> Float[Tensor, "S S C"]:
    """The background that a static camera sees, at the rendered size; channels beyond colour are white."""
    colour = resized(torch.from_numpy(room.astype(np.float32))[None], config.size, config.size)[0]
    rest = colour.new_ones(config.size, config.size, config.avatar.colour_channels - 3)
    return torch.cat([colour, rest], -1)
