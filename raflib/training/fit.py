"""`fit(capture, sampler, config, out) -> Run`: train one avatar, and load it again.

Each step takes one frame as one or a few cameras saw it, asks the sampler which expression conditions it (this is all
that RAF changes, RAF §4), renders and compares. Everything random in step s is drawn from a generator seeded by
(seed, s), so that a run killed at any moment resumes from its last checkpoint to the same bits on a CPU with the same
number of threads. Saving changes no bit: checkpoints are written every `checkpoint_every` steps, after every
`SAVE_SECONDS`, and when the training is interrupted.

Without an upsampler the render is the picture. With one, the rendered features are zoomed at random together with the
true picture and upsampled; both the features' first three channels and the upsampled picture are compared (Xu et al.
2024, second stage).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from raflib.avatar import GaussianAvatar
from raflib.avatar.upsampler import PREFIX
from raflib.bank.leaks import Fingerprints, refuse_leaks
from raflib.capture import Capture, choose_cameras, shown
from raflib.config import TrainConfig, to_dict
from raflib.errors import RafError, whole
from raflib.images import resized
from raflib.render import Gaussians, rasterize
from raflib.runs import folder_lock, load_tensors, provenance, save_tensors, write_json
from raflib.training import losses
from raflib.training.data import Pictures, Shot, random_square
from raflib.training.landmark_term import BESIDE, LandmarkGuide
from raflib.training.optimisers import Optimisers
from raflib.training.pose_corrections import PoseCorrections, frame_names
from raflib.training.process import until_interrupted, use_threads
from raflib.training.relocate import relocate
from raflib.training.run import BANK, CHECKPOINT, Run, below, choose_device, is_finished, make_upsampler, write_log
from raflib.training.start import initialise
from raflib.training.start.guided import start_on_surface
from raflib.training.zoom import Zoom

__all__ = ["Run", "fit"]

HULL_CAMERAS = 16
LOG_EVERY = 50
SAVE_SECONDS = 30.0
"""Seconds of training that a killed process loses at most."""
MADE_BY = ("threads", "device", "commit", "versions", "machine")


def fit(
    capture: Capture,
    sampler: Any,
    config: TrainConfig,
    out: str | Path,
    details: Mapping[str, Any] | None = None,
    threads: int = 1,
    progress: bool = True,
    device: str = "auto",
    allow_leak: bool = False,
) -> Run:
    """Train an avatar of `capture` into the run folder `out`, resuming what is there.

    `sampler` is Vanilla, RandomNoise, RAF, one of `raflib.sampler.beyond` or anything with their `name`, `bind` and
    `describe`; it is shown the expressions of training frames alone. `details` goes into run.json. `threads` are CPU
    threads. `device` is "cpu", "cuda" or "auto", the GPU where there is one that the renderer can use; a run may be
    continued on another. A finished run is returned as it is. An interrupt saves a checkpoint before it stops the
    training; a second one stops at once.

    Raises RafError, and changes nothing on disk, when the folder holds a run of another subject, recording, sampler or
    configuration, when another process trains in it, and when the sampler's `bank` holds the subject's own frames, by
    whatever name (unless `allow_leak`). A loss, gradient or weight that is not finite raises RafError too; the last
    checkpoint is then a good one.
    """
    out, where = Path(out), choose_device(device)
    threads = whole("fit: threads", threads, least=1)
    if where.type != "cuda" and (config.compile or config.precision != "float32"):
        raise RafError(
            f"precision {config.precision!r} and compile {config.compile} are for CUDA and this training is on the "
            "CPU; use float32 and no compile"
        )
    bank, used = getattr(sampler, "bank", None), {}
    if bank is not None:
        known = Fingerprints.of(bank)
        own = {capture.subject: capture.expression[capture.detected]}
        leaks = refuse_leaks("fit: the bank", known, own, allow_leak)
        used = {"bank": {"checksum": bank.checksum, "rows": len(bank), "people": len(bank.people)}}
        used["leaks"] = [str(leak) for leak in leaks]
    identity = {"subject": capture.subject, "recording": capture.fingerprint, "sampler": sampler.describe()}
    identity["config"] = to_dict(config)
    label = {"method": sampler.name, "seed": config.seed, "threads": threads, "device": where.type}
    info = {**(details or {}), **identity, **used, **label, **provenance(), "continued": []}
    info |= {"finished": False, "steps": 0, "seconds": 0.0}
    if not is_finished(out, identity):
        with folder_lock(out, f"training {capture.subject} {sampler.name}"), use_threads(threads):
            if not is_finished(out, identity):
                trainer = _Trainer(capture, sampler, config, out, info, progress, where)
                if bank is not None:
                    known.save(out / BANK)
                trainer.start()
                trainer.run()
    return Run.load(out, device)


class _Trainer:
    """State of one training: the avatar, what moves it, the pictures and the step."""

    def __init__(
        self, capture: Capture, sampler: Any, config: TrainConfig, out: Path, info: dict, progress: bool,
        device: torch.device,
    ):  # fmt: skip
        self.config, self.out, self.info, self.step, self.rows = config, out, info, 0, []
        self.progress, self.device = progress, device
        torch.manual_seed(config.seed)
        cameras = choose_cameras(capture, config.cameras, config.camera_choice)
        self.pictures = Pictures(capture, cameras, config, device)
        # Held-out frames are hidden, so that nothing a sampler learns from the subject's frames comes from them.
        self.condition = sampler.bind(shown(capture), capture.subject, capture.feature_space, capture.pose)
        around = choose_cameras(capture, HULL_CAMERAS)
        # Everything is made on the CPU and then moved, so that a seed gives one start on every device.
        self.avatar = GaussianAvatar(config.avatar, initialise(capture, config.avatar, around, config.seed)).to(device)
        self.upsampler = make_upsampler(config)
        if self.upsampler is not None:
            self.upsampler.to(device)
        self.upsample = torch.compile(self.upsampler) if config.compile else self.upsampler
        self.guide = None
        if config.landmark_steps or config.weight_landmarks or config.surface is not None:
            self.guide = LandmarkGuide(self.avatar, capture, self.condition)
        self.background = None
        if capture.background is not None:
            self.background = torch.nn.Parameter(_backdrop(capture.background, config).to(device))
        self.poses = None
        if config.rate_pose > 0:
            self.poses = PoseCorrections(frame_names(capture), capture.train).to(device)
        self.optimisers = Optimisers(config, self.avatar, self.upsampler, self.background, self.poses)
        self.perceptual = None
        if config.weight_perceptual > 0:
            from raflib.perceptual import Perceptual

            self.perceptual = Perceptual(config.perceptual_net).to(device)
        self.capture, self.around, self.saved = capture, around, time.monotonic()

    def start(self) -> None:
        """What comes before the first step: the last checkpoint where there is one, else landmarks and surface."""
        c = self.config
        if (self.out / CHECKPOINT).exists():
            self._restore()
            self._say(f"resumed at step {self.step} of {c.steps}")
        elif self.guide is not None:
            started = time.perf_counter()
            self.guide.fit(c.landmark_steps, c.rate_mlp, c.seed, self.progress)
            if c.surface is not None:
                start_on_surface(self.avatar, self.capture, self.pictures, self.guide, c, self.around, self.progress)
            self.info["seconds"] += time.perf_counter() - started

    def run(self) -> None:
        """All steps that are left, then the final checkpoint."""
        started, before = time.perf_counter(), self.info["seconds"]
        bar = tqdm(
            total=self.config.steps, initial=self.step, desc=f"{self.info['subject']} {self.info['method']}",
            disable=not self.progress, mininterval=1.0,
        )  # fmt: skip
        with bar, closing(self.pictures), until_interrupted() as asked:
            while self.step < self.config.steps:
                if time.monotonic() - self.saved > SAVE_SECONDS:
                    self._save()
                measured = self._one_step()
                self.info["seconds"] = before + time.perf_counter() - started
                if self.step % LOG_EVERY == 0 or self.step == self.config.steps:
                    numbers = {name: value.item() for name, value in measured.items()}
                    self.rows.append({"step": self.step, "seconds": self.info["seconds"], **numbers})
                    bar.set_postfix(l1=f"{numbers['l1']:.4f}", psnr=f"{numbers['psnr']:.1f}", refresh=False)
                bar.update()
                if self.step < self.config.steps:
                    if asked.is_set() or self.step % self.config.checkpoint_every == 0:
                        self._save()
                    if asked.is_set():
                        self._say(f"interrupted at step {self.step} of {self.config.steps}; run again to go on")
                        raise KeyboardInterrupt
        self._save(finished=True)

    def _say(self, words: str) -> None:
        if self.progress:
            print(words, flush=True)

    def _one_step(self) -> dict[str, Float[Tensor, ""]]:
        """One step; returns the means of the loss's terms and the PSNR, unread so that a GPU is not waited for."""
        c = self.config
        generator = torch.Generator().manual_seed(c.seed * 1_000_003 + self.step)
        shot = self.pictures.shot(self.step)
        try:
            features = self._draw(shot, self._gaussians(shot, generator))
        except RafError as error:  # Gaussians that cannot be rendered
            raise self._stopped(shot, error) from None
        parts, squared = self._compare(features, shot, generator)
        if c.weight_landmarks:
            parts["landmarks"] = self.guide.distances(BESIDE, generator)
        loss = losses.total(parts, c)
        self._check(torch.isfinite(loss), "loss", shot)
        loss.backward()
        self._check(self.optimisers.finite(), "gradient", shot)
        self.optimisers.step(self.step)
        self.step += 1
        if self.poses is not None and self.step % len(self.pictures) == 0:
            self.poses.centre()
        if c.relocate_every and self.step % c.relocate_every == 0:
            if self.step < 0.7 * c.steps:
                relocate(self.avatar, self.optimisers.adam, generator)
            self.avatar.refresh_blend()
        means = {name: value.detach().mean() for name, value in parts.items()}
        return {**means, "psnr": -10 * torch.log10(squared)}

    def _check(self, finite: bool | Tensor, what: str, shot: Shot) -> None:
        if not finite:
            raise self._stopped(shot, f"the {what} is not finite")

    def _stopped(self, shot: Shot, why: object) -> RafError:
        frame = f"{self.capture.sequence[shot.t]}/{self.capture.frame[shot.t]}"
        return RafError(
            f"{self.out}: stopped at step {self.step} (frame {frame} of {self.capture.subject}): {why}; the last "
            "checkpoint is kept, lower the learning rates or check this frame's image and pose"
        )

    def _gaussians(self, shot: Shot, generator: torch.Generator) -> Gaussians:
        """The avatar in the shot's frame, conditioned as the sampler says."""
        expression = self.condition(torch.tensor([shot.t]), generator).to(self.device)
        pose = shot.pose if self.poses is None else shot.pose + self.poses(shot.t)
        return self.avatar(expression, pose, shot.scale)

    def _draw(self, shot: Shot, gaussians: Gaussians) -> Float[Tensor, "V S S C"]:
        backdrop = 1.0 if self.background is None else self.background
        blur = self.config.avatar.blur
        return rasterize(gaussians, shot.cameras, self.config.size, background=backdrop, blur=blur)[0]

    def _compare(
        self, features: Float[Tensor, "V S S C"], shot: Shot, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Float[Tensor, ""]]:
        """The terms of the loss, and the mean squared error of the picture that is shown in the end."""
        c, render = self.config, features[..., :3]
        weights = losses.face_weights(shot.boxes.to(self.device), c.size, c.weight_face)
        if self.upsampler is None:
            crops = self._crops(shot.boxes, len(render), c.size, generator)
            parts = losses.terms(render, shot.pictures, weights, self._perceptual, crops)
            return parts, (render.detach() - shot.pictures).square().mean()
        parts = losses.terms(render, resized(shot.pictures, c.size, c.size), weights)
        zoom = Zoom.draw(c.size, c.avatar.upsampling, c.zoom, generator)
        picture, box = zoom.picture(shot.pictures), zoom.box(shot.boxes)
        shown = self._upsampled(zoom.features(features))
        crops = self._crops(None, len(shown), self.pictures.full, generator)
        weights = losses.face_weights(box.to(self.device), self.pictures.full, c.weight_face)
        parts |= losses.fine_terms(shown, picture, weights, self._perceptual, crops)
        return parts, (shown.detach() - picture).square().mean()

    def _crops(
        self, boxes: Int[Tensor, "V 4"] | None, count: int, full: int, generator: torch.Generator
    ) -> list[tuple[int, int, int]] | None:
        """Where the perceptual network looks in each picture of this step: around the face or, as published, anywhere
        (no `boxes`). None where it does not look."""
        if self.perceptual is None or self.step % self.config.perceptual_every:
            return None
        size = min(self.config.perceptual_crop, full)
        if boxes is None:
            boxes = torch.tensor([[size // 2, size // 2, full - size, full - size]]).repeat(count, 1)
        return [random_square(box, size, full, generator) for box in boxes]

    def _upsampled(self, features: Float[Tensor, "V S S C"]) -> Float[Tensor, "V F F 3"]:
        with self._precision():
            return self.upsample(features).float()

    def _perceptual(self, x: Float[Tensor, "V h w 3"], y: Float[Tensor, "V h w 3"]) -> Float[Tensor, "V"]:
        with self._precision():
            return self.perceptual(x, y).float()

    def _precision(self):
        """Where the two large networks may compute in fewer bits."""
        mixed = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if mixed else nullcontext()

    def _save(self, finished: bool = False) -> None:
        """Write a checkpoint. RafError, with the last one kept, when a number in it is not finite."""
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
        self.info |= {"steps": self.step, "finished": finished}
        save_tensors(self.out / CHECKPOINT, tensors, {**header, "info": self.info})
        write_log(self.out, self.rows)
        write_json(self.out / "run.json", self.info)
        self.saved = time.monotonic()

    def _restore(self) -> None:
        tensors, header = load_tensors(self.out / CHECKPOINT)
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
        """Who made the first steps stays in the info; another maker of later ones is listed beside."""
        now, parts = {key: self.info[key] for key in MADE_BY}, list(stored["continued"])
        if now != {key: (parts[-1] if parts else stored)[key] for key in MADE_BY}:
            parts.append({"step": self.step, **now})
        self.info |= {**{key: stored[key] for key in MADE_BY}, "continued": parts}


def _backdrop(room: Float[np.ndarray, "H W 3"], config: TrainConfig) -> Float[Tensor, "S S C"]:
    """What a static camera sees behind the person, at the rendered size; channels beyond colour are white, as without
    a room."""
    colour = resized(torch.from_numpy(room.astype(np.float32))[None], config.size, config.size)[0]
    rest = colour.new_ones(config.size, config.size, config.avatar.colour_channels - 3)
    return torch.cat([colour, rest], -1)
