"""`Canonical`: first values of an avatar's Gaussians, as plain tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from raflib.config import AvatarConfig


@dataclass(frozen=True)
class Canonical:
    """First values of an avatar's parameters and buffers, see `raflib.avatar.model.GaussianAvatar`.

    Positions are canonical (dm), `log_scale` is the natural logarithm of dm, `follow_logit` the logit of how far a
    Gaussian follows the head. `expression_rms` is the root of the mean squared distance of the training frames'
    expressions from their mean. `median_pose` (radians, metres) and `median_scale` (metres a canonical unit) are
    medians over the training frames.
    """

    xyz: Float[Tensor, "N 3"]
    feature: Float[Tensor, "N f"]
    log_scale: Float[Tensor, "N 3"]
    colour: Float[Tensor, "N C"]
    follow_logit: Float[Tensor, "N 1"]
    landmarks: Float[Tensor, "L 3"]
    expression_mean: Float[Tensor, "d"]
    expression_rms: Float[Tensor, ""]
    median_pose: Float[Tensor, "6"]
    median_scale: Float[Tensor, ""]

    @classmethod
    def blank(cls, config: AvatarConfig, points: int, landmarks: int) -> Canonical:
        """Zeros of an avatar's shapes, to be overwritten by stored values."""
        return cls(
            xyz=torch.zeros(points, 3),
            feature=torch.zeros(points, config.feature_dim),
            log_scale=torch.zeros(points, 3),
            colour=torch.zeros(points, config.colour_channels),
            follow_logit=torch.zeros(points, 1),
            landmarks=torch.zeros(landmarks, 3),
            expression_mean=torch.zeros(config.expression_dim),
            expression_rms=torch.ones(()),
            median_pose=torch.zeros(6),
            median_scale=torch.ones(()),
        )
