"""One training step as a value: frame, vectors, render and loss, for figures that show what a step does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raflib.capture import Capture
from raflib.config import TrainConfig
from raflib.geometry import Camera
from raflib.render import Gaussians
from raflib.training import losses
from raflib.training.data import Shot
from raflib.training.trainer import Trainer


@dataclass(frozen=True)
class Step:
    """One training step.

    Attributes:
        number: counted from 0.
        t: the frame's index in the capture.
        camera: the first of the step's views, at the rendered size.
        own: the frame's expression vector e_t [d].
        given: the vector that conditioned the avatar [d].
        render, target: the image of the avatar and the true one in [0,1], [S,S,3], of that view.
        terms: means of the loss's terms, by name.
        loss: their weighted sum, which the step minimises.
    """

    number: int
    t: int
    camera: Camera
    own: Float[np.ndarray, " d"]
    given: Float[np.ndarray, " d"]
    render: Float[np.ndarray, "S S 3"]
    target: Float[np.ndarray, "S S 3"]
    terms: dict[str, float]
    loss: float

    @property
    def replaced(self) -> bool:
        """Whether another vector than the frame's own conditioned the avatar."""
        return not np.array_equal(self.own, self.given)


def watch(capture: Capture, sampler: Any, config: TrainConfig) -> Iterator[Step]:
    """Train an avatar on the CPU as `raflib.fit` does, and return each step. Nothing is written.

    For configurations without an upsampler, whose render is the final image. Raises RafError as `fit` does for a
    capture or sampler that cannot be used and for numbers that are not finite.
    """
    config = replace(config, avatar=replace(config.avatar, expression_dim=capture.expression.shape[1]))
    info = {"subject": capture.subject, "method": sampler.name, "seconds": 0.0}
    trainer = _Watched(capture, sampler, config, Path(), info, False, torch.device("cpu"))
    trainer.start()
    with closing(trainer.images):
        for _ in range(trainer.steps):
            yield trainer.watched()


class _Watched(Trainer):
    """A trainer that remembers what its last step used."""

    shot: Shot
    given: Tensor
    rendered: Tensor

    def gaussians(self, shot: Shot, generator: torch.Generator) -> Gaussians:
        """The avatar as in `Trainer`; the shot and its vector are kept."""
        ask = self.condition

        def kept(frames: Tensor, generator: torch.Generator) -> Tensor:
            self.given = ask(frames, generator)
            return self.given

        self.shot, self.condition = shot, kept
        try:
            return super().gaussians(shot, generator)
        finally:
            self.condition = ask

    def render(self, shot: Shot, gaussians: Gaussians) -> Float[Tensor, "V S S C"]:
        """The render as in `Trainer`; it is kept."""
        self.rendered = super().render(shot, gaussians)
        return self.rendered

    def watched(self) -> Step:
        """Make one step and return it."""
        number, terms = self.step, self.one_step()
        terms.pop("psnr")
        return Step(
            number=number,
            t=self.shot.t,
            camera=self.shot.cameras[0],
            own=np.asarray(self.capture.expression[self.shot.t], np.float32),
            given=self.given[0].numpy(),
            render=self.rendered[0, ..., :3].detach().clamp(0, 1).numpy(),
            target=self.shot.images[0].numpy(),
            terms={name: float(value) for name, value in terms.items()},
            loss=float(losses.total(terms, self.config)),
        )
