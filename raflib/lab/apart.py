"""Avatars of the lessons: their training, and their six networks one at a time (RAF §2)."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raflib.avatar import GaussianAvatar
from raflib.config import NETWORKS, TrainConfig, train_config
from raflib.errors import RafError

MOVES = {
    "exp_deform": "positions, from the expression",
    "exp_attributes": "size, rotation and opacity, from the expression",
    "exp_color": "colours, from the expression",
    "pose_deform": "positions, from the head pose",
    "pose_attributes": "size, rotation and opacity, from the head pose",
    "pose_color": "colours, from the head pose",
}
"""What each network changes at a Gaussian."""


class Asleep(nn.Module):
    """A network that always receives the same code [1,c], whatever is asked."""

    def __init__(self, network: nn.Module, code: Float[Tensor, "1 c"]):
        super().__init__()
        self.network, self.fixed = network, code

    def forward(self, points: Float[Tensor, "N p"], code: Float[Tensor, "B c"]) -> Float[Tensor, "B N o"]:
        """The network's values for its fixed code."""
        return self.network(points, self.fixed.expand(len(code), -1))


@torch.no_grad()
def awake(
    avatar: GaussianAvatar, networks: Collection[str], expression: Float[Tensor, "1 d"], pose: Float[Tensor, "1 6"]
) -> GaussianAvatar:
    """A copy of `avatar` in which only these `networks` (names of `MOVES`) see what it is asked for.

    The other networks always see this `expression` and `pose`, such as those of a neutral face. The head's own motion
    is no network and follows in any case. Raises RafError for an unknown name and for an avatar whose expression acts
    through one linear decoder.
    """
    if unknown := sorted(set(networks) - set(NETWORKS)):
        raise RafError(f"awake: an avatar has no network {unknown[0]!r}; choose from {', '.join(NETWORKS)}")
    if avatar.config.exp_linear:
        raise RafError(
            "awake: this avatar has one linear decoder in place of three networks; train with exp_linear off"
        )
    made = copy.deepcopy(avatar)
    codes = {"exp": made.code(expression), "pose": made.pose_code(pose)}
    for name in set(NETWORKS) - set(networks):
        setattr(made, name, Asleep(getattr(made, name), codes[name.split("_")[0]]))
    return made


@torch.no_grad()
def weights(avatar: GaussianAvatar) -> Float[Tensor, " N"]:
    """The weight w of each Gaussian: 1 where the expression alone moves it, 0 where the head pose alone does."""
    blend = avatar.blend(avatar.xyz)
    return avatar.xyz.new_zeros(len(avatar.xyz)).index_copy(0, blend.near, blend.by_expression[:, 0])


def lesson_config(**changes: Any) -> TrainConfig:
    """The training of a lesson: six small networks and few Gaussians on small images, in seconds on one core.

    `changes` replace fields of `TrainConfig`, such as `steps` and `seed`. Raises RafError for an unknown field.
    """
    small = replace(
        train_config("tiny").avatar, points=3_000, exp_linear=False, exp_color=(32,), exp_attributes=(32,),
        exp_deform=(64, 64), deform_scale=0.3,
    )  # fmt: skip
    fields = {"avatar": small, "size": 96, "rate_mlp": 4e-3, "weight_decay": 0.0, "landmark_steps": 200}
    return train_config("tiny", **{**fields, **changes})
