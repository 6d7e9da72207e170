"""`GaussianAvatar`: (expression, pose, scale) → Gaussians in the world (Xu et al. 2024, §3; RAF §2).

A canonical set of Gaussians carries position, a learned feature, log-scale, rotation and opacity. Six MLPs predict
colour, change of attributes (log-scale, rotation, opacity) and displacement, three from the expression and three from
the pose. They are blended by the squared distance d of a Gaussian to the nearest neutral landmark:
``w_exp = clamp((far − d) / (far − near), 0, 1)``, ``w_pose = 1 − w_exp``, and each is evaluated only where its weight
is not zero. The result is scaled, turned and moved with the head.

Deliberate departures, each a setting: `body = "blend"` learns per Gaussian how far it follows the head instead of the
resting body; `canonical_colour` adds a colour of its own to each Gaussian; expression and pose translation are scaled
before the MLPs (`expression_gain`, `pose_gain`). Positional encodings of the canonical positions are constants between
two calls of `refresh_blend`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raflib.avatar.initialise import Canonical
from raflib.avatar.networks import ConditionedMLP, encode
from raflib.config import AvatarConfig
from raflib.errors import RafError
from raflib.geometry import axis_angle_to_matrix, matrix_to_quaternion, quaternion_multiply
from raflib.render import Gaussians

__all__ = ["GaussianAvatar"]


class GaussianAvatar(nn.Module):
    """A head avatar. Parameters are the canonical Gaussians and six MLPs; `canonical` gives their first values.

    Buffers: neutral landmarks [L,3] (canonical, dm), mean training expression [d], resting pose [6] and scale.
    """

    def __init__(self, config: AvatarConfig, canonical: Canonical):
        super().__init__()
        c, n = config, len(canonical.xyz)
        if c.body not in ("rigid", "blend"):
            raise RafError(f"AvatarConfig.body is {c.body!r}; choose 'rigid' or 'blend'")
        self.config = config
        self.xyz = nn.Parameter(canonical.xyz.clone())
        self.feature = nn.Parameter(canonical.feature.clone())
        self.scales = nn.Parameter(canonical.log_scale.clone())
        self.rotation = nn.Parameter(torch.tensor([1.0, 0, 0, 0]).repeat(n, 1))
        self.opacity = nn.Parameter(torch.full((n, 1), math.log(c.initial_opacity / (1 - c.initial_opacity))))
        self.colour = nn.Parameter(canonical.colour.clone()) if c.canonical_colour else None
        self.body = nn.Parameter(canonical.body.clone()) if c.body == "blend" else None
        self.register_buffer("landmarks_neutral", canonical.landmarks.clone())
        self.register_buffer("expression_mean", canonical.expression_mean.clone())
        self.register_buffer("rest_pose", canonical.rest_pose.clone())
        self.register_buffer("rest_scale", canonical.rest_scale.clone())
        position, pose = 3 * (1 + 2 * c.frequencies), 6 * (1 + 2 * c.pose_frequencies)
        e, f, k = c.expression_dim, c.feature_dim, c.colour_channels
        self.exp_color = ConditionedMLP(f, e, c.exp_color, k)
        self.pose_color = ConditionedMLP(f, pose, c.pose_color, k)
        self.exp_attributes = ConditionedMLP(f, e, c.exp_attributes, 8)
        self.pose_attributes = ConditionedMLP(f, pose, c.pose_attributes, 8)
        self.exp_deform = ConditionedMLP(position, e, c.exp_deform, 3, bounded=True)
        self.pose_deform = ConditionedMLP(position, pose, c.pose_deform, 3, bounded=True)
        self.refresh_blend()

    @torch.no_grad()
    def refresh_blend(self) -> None:
        """Recompute what follows from the canonical positions: blend weights and encodings. Call it after those have
        moved; between two calls they are taken as they were, and no gradient reaches the positions through them."""
        c = self.config
        squared = torch.cdist(self.xyz, self.landmarks_neutral).min(dim=1).values.square()
        weight = ((c.far - squared) / (c.far - c.near)).clamp(0, 1)
        self._near = torch.nonzero(weight > 0)[:, 0]
        self._far = torch.nonzero(weight < 1)[:, 0]
        self._weight_exp = weight[self._near, None]
        self._weight_pose = 1 - weight[self._far, None]
        encoded = encode(self.xyz, c.frequencies)
        self._near_encoded, self._far_encoded = encoded[self._near], encoded[self._far]

    def forward(
        self,
        expression: Float[Tensor, "B d"],
        pose: Float[Tensor, "B 6"],
        scale: Float[Tensor, "B"],
    ) -> Gaussians:
        """World Gaussians of B frames. `pose` is axis-angle and translation (metres), `scale` metres a unit."""
        c = self.config
        if expression.shape[-1] != c.expression_dim:
            raise RafError(
                f"expression has {expression.shape[-1]} channels but this avatar was trained on {c.expression_dim}; "
                "drive it with features of its own feature space"
            )
        code = (expression - self.expression_mean) * c.expression_gain
        pose_code = encode(torch.cat([pose[:, :3], pose[:, 3:] * c.pose_gain], 1), c.pose_frequencies)
        near, far = self._near_encoded, self._far_encoded
        near_f, far_f = (self.feature.index_select(0, rows).tanh() for rows in (self._near, self._far))
        by_expression = torch.cat(
            [
                c.deform_scale * self.exp_deform(near, code),
                c.attribute_scale * self.exp_attributes(near_f, code),
                self.exp_color(near_f, code),
            ],
            -1,
        )
        by_pose = torch.cat(
            [
                c.deform_scale * self.pose_deform(far, pose_code),
                c.attribute_scale * self.pose_attributes(far_f, pose_code),
                self.pose_color(far_f, pose_code),
            ],
            -1,
        )
        change = by_pose.new_zeros(len(pose), len(self.xyz), by_pose.shape[-1])
        change = change.index_add(1, self._near, by_expression * self._weight_exp)
        change = change.index_add(1, self._far, by_pose * self._weight_pose)
        moved, log_scale, turned, opacity, colour = change.split([3, 3, 4, 1, c.colour_channels], -1)
        means, quaternions, size = self._to_world(
            self.xyz + moved, self.rotation + turned, (self.scales + log_scale).exp(), pose, scale
        )
        return Gaussians(
            means=means,
            quaternions=quaternions,
            scales=size,
            opacities=(self.opacity + opacity).sigmoid()[..., 0],
            features=colour if self.colour is None else self.colour + colour,
        )

    def _to_world(self, xyz, quaternion, size, pose, scale):
        """The rigid head transform, blended with the resting body where the configuration asks for it."""
        rotation = axis_angle_to_matrix(pose[:, :3])
        head = matrix_to_quaternion(rotation)[:, None]
        means = (scale[:, None, None] * xyz) @ rotation.transpose(1, 2) + pose[:, None, 3:]
        quaternion = torch.nn.functional.normalize(quaternion, dim=-1)
        if self.body is None:
            turned = quaternion_multiply(head.expand_as(quaternion), quaternion)
        else:
            rest = axis_angle_to_matrix(self.rest_pose[:3])
            still = (self.rest_scale * xyz) @ rest.T + self.rest_pose[3:]
            means = torch.lerp(still, means, self.body.sigmoid())
            turned = quaternion_multiply(torch.lerp(matrix_to_quaternion(rest), head, self.body.sigmoid()), quaternion)
        return means, turned, size * scale[:, None, None]
