"""`Comparison`: the terms of the training loss between a step's render and its images.

Without an upsampler the render is the final image. With one, the rendered features and the true images are zoomed
alike, at random, and the features are upsampled. Then both the first three channels of the features and the upsampled
image are compared (Xu et al. 2024, second stage).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raflib.avatar import Upsampler
from raflib.config import TrainConfig
from raflib.images import resized
from raflib.training import losses
from raflib.training.data import Shot, random_square
from raflib.training.zoom import Zoom


class Comparison:
    """Computes the loss terms of a step; holds the perceptual network and, where there is one, the upsampler."""

    def __init__(self, config: TrainConfig, upsampler: Upsampler | None, device: torch.device):
        self.config, self.device = config, device
        self.full = config.size * config.avatar.upsampling
        self.upsample: Callable[[Tensor], Tensor] | None = upsampler
        if upsampler is not None and config.compile:
            self.upsample = torch.compile(upsampler)
        self.perceptual = None
        if config.weight_perceptual > 0:
            from raflib.perceptual import Perceptual

            self.perceptual = Perceptual(config.perceptual_net).to(device)

    def terms(
        self, features: Float[Tensor, "V S S C"], shot: Shot, step: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Float[Tensor, ""]]:
        """The unreduced terms of the loss by name, and the mean squared error of the final image."""
        c, render = self.config, features[..., :3]
        weights = losses.face_weights(shot.boxes.to(self.device), c.size, c.weight_face)
        if self.upsample is None:
            crops = self.crops(shot.boxes, len(render), step, generator)
            parts = losses.terms(render, shot.images, weights, self._perceptual, crops)
            return parts, (render.detach() - shot.images).square().mean()
        parts = losses.terms(render, resized(shot.images, c.size, c.size), weights)
        zoom = Zoom.sample(c.size, c.avatar.upsampling, c.zoom, generator)
        target, box = zoom.images(shot.images), zoom.box(shot.boxes)
        final = self.upsampled(zoom.features(features))
        crops = self.crops(None, len(final), step, generator)
        weights = losses.face_weights(box.to(self.device), self.full, c.weight_face)
        parts |= losses.fine_terms(final, target, weights, self._perceptual, crops)
        return parts, (final.detach() - target).square().mean()

    def crops(
        self, boxes: Int[Tensor, "V 4"] | None, count: int, step: int, generator: torch.Generator
    ) -> list[tuple[int, int, int]] | None:
        """The square (x, y, size in pixels) of each of `count` images that the perceptual network sees at `step`.

        Squares lie around the face, or anywhere as published where no `boxes` are given. None at steps without a
        perceptual term.
        """
        if self.perceptual is None or step % self.config.perceptual_every:
            return None
        size = min(self.config.perceptual_crop, self.full)
        if boxes is None:
            boxes = torch.tensor([[size // 2, size // 2, self.full - size, self.full - size]]).repeat(count, 1)
        return [random_square(box, size, self.full, generator) for box in boxes]

    def upsampled(self, features: Float[Tensor, "V S S C"]) -> Float[Tensor, "V F F 3"]:
        """Final images of rendered features."""
        assert self.upsample is not None  # `terms` calls this only with an upsampler
        with self._precision():
            return self.upsample(features).float()

    def _perceptual(self, x: Float[Tensor, "V h w 3"], y: Float[Tensor, "V h w 3"]) -> Float[Tensor, "V"]:
        assert self.perceptual is not None  # without it `crops` is None, and the term is left out
        with self._precision():
            return self.perceptual(x, y).float()

    def _precision(self) -> AbstractContextManager:
        """A block in which the two large networks compute with the configured precision."""
        mixed = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if mixed else nullcontext()
