"""The landmark term: landmarks show where skin moves, also where images of its old and new place do not overlap.

The displacement network is asked to carry the neutral landmarks to where each training frame's tracked landmarks are,
head pose taken out, given the expression that conditions the frame: the landmark term of the first stage of Xu et al.
2024. A frame costs a hundredth of rendering it, so the mouth opens before the first image is used (`fit`), and
the term continues beside the image losses. The expression comes from the training's own conditioner: under RAF a
neighbour's expression has to move the landmarks like the subject's own does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from raflib.avatar.model import GaussianAvatar
from raflib.avatar.networks import encode
from raflib.capture import Capture
from raflib.geometry import axis_angle_to_matrix

BATCH, BESIDE = 32, 4
"""Frames in a step of `fit`, and frames beside a step that renders."""
DECAY = 0.05
"""Adam's rate at the end of `fit` over its rate at the start."""

Conditioner = Callable[[Int[Tensor, "B"], torch.Generator], Float[Tensor, "B d"]]


def unposed(capture: Capture, rows: Int[np.ndarray, "F"]) -> Float[Tensor, "F L 3"]:
    """Tracked landmarks of the frames `rows`, canonical units, head pose taken out."""
    pose = torch.from_numpy(capture.pose[rows].astype(np.float64))
    seen = torch.from_numpy(capture.landmarks[rows].astype(np.float64)) - pose[:, None, 3:]
    scale = torch.from_numpy(capture.scale[rows].astype(np.float64))
    return (seen @ axis_angle_to_matrix(pose[:, :3]) / scale[:, None, None]).float()


class LandmarkGuide:
    """The landmark term of one training: which frames, where their landmarks are, and the avatar that must follow."""

    def __init__(self, avatar: GaussianAvatar, capture: Capture, condition: Conditioner):
        self.avatar, self.condition = avatar, condition
        rows = np.flatnonzero(capture.train)
        device = avatar.xyz.device
        self.frames, self.wanted = torch.from_numpy(rows), unposed(capture, rows).to(device)
        self.neutral = torch.from_numpy(capture.neutral.astype(np.float32)).to(device)
        self.encoded = encode(self.neutral, avatar.config.frequencies)
        self._nearest: Int[Tensor, "L"] | None = None
        self._nearest_of: Float[Tensor, "N 3"] | None = None

    def _features(self) -> Float[Tensor, "L f"]:
        """Features of the Gaussians nearest to the landmarks: by them a linear decoder moves the landmarks.

        The nearest are found anew whenever the blend is; with `live_blend` they stay those of the start.
        """
        points = self.avatar.xyz if self.avatar.blend_points is None else self.avatar.blend_points
        if self._nearest_of is not points:
            self._nearest, self._nearest_of = torch.cdist(self.neutral, points.detach()).argmin(1), points
        return self.avatar.feature[self._nearest]

    def distances(
        self, count: int, generator: torch.Generator, features: Float[Tensor, "L f"] | None = None
    ) -> Float[Tensor, "B L"]:
        """Distances (dm) between where the avatar carries each landmark and where it was tracked, in `count` frames.

        `features` are those of the surface at the landmarks, by default of the Gaussians nearest to them.
        """
        a = self.avatar
        rows = torch.randint(len(self.frames), (count,), generator=generator)
        expression = self.condition(self.frames[rows], generator).to(a.xyz.device)
        features = self._features() if features is None else features
        carried = self.neutral + a.displacement(features, self.encoded, a.code(expression))
        return (carried - self.wanted[rows.to(a.xyz.device)]).square().sum(-1).add(1e-8).sqrt()

    def fit(self, steps: int, rate: float, seed: int, progress: bool = True) -> float:
        """Train the displacement network alone, Adam from `rate` down; returns the mean distance of the last step."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + 500_009)
        optimiser = torch.optim.Adam(
            self.avatar.expression_networks[0].parameters(), lr=rate, betas=(0.9, 0.99), fused=True
        )
        mean = float("nan")
        for step in tqdm(range(steps), desc="landmarks", disable=not progress, mininterval=1.0, leave=False):
            optimiser.param_groups[0]["lr"] = rate * DECAY ** (step / steps)
            loss = self.distances(BATCH, generator).mean()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            mean = loss.item()
        return mean
