"""`GaussianAvatar`: (expression, pose, scale) → Gaussians in the world (Xu et al. 2024, §3; RAF §2).

A canonical set of Gaussians carries position, a learned feature, log-scale, rotation and opacity. Six MLPs predict
colour, change of attributes (log-scale, rotation, opacity) and displacement, three from the expression and three from
the pose. They are blended by the squared distance d of a Gaussian to the nearest neutral landmark:
``w_exp = clamp((far − d) / (far − near), 0, 1)``, ``w_pose = 1 − w_exp``, and each is evaluated only where its weight
is not zero. The result is scaled, turned and moved with the head.

Five settings depart from the published model. With `exp_linear` the expression acts through one linear decoder instead
of three MLPs (compare the blendshapes of Ma et al., "3D Gaussian Blendshapes for Head Avatar Animation", 2024). `body =
"blend"` learns per Gaussian how far it follows the head; for the rest it stays where the median training pose puts it,
or goes with the torso where the recording follows that.
`canonical_colour` gives each Gaussian a colour of its own. `expression_norm` standardises the expression, `pose_gain`
scales the translation of the pose. Without `live_blend`, blend weights and encodings are computed anew only now and
then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from raflib.avatar.canonical import Canonical
from raflib.avatar.interop import avatar_to_official, config_of, copy_official
from raflib.avatar.networks import ConditionedMLP, LinearDecoder, encode
from raflib.avatar.official import official_state
from raflib.avatar.ply import write_ply
from raflib.config import AvatarConfig
from raflib.errors import RafError
from raflib.geometry import axis_angle_to_matrix, matrix_to_quaternion, quaternion_multiply
from raflib.render import Gaussians

__all__ = ["GaussianAvatar"]


class Blend(NamedTuple):
    """Values that depend on the canonical positions alone: the rows that follow expression and pose, their weights
    [n,1] and their encoded positions."""

    near: Int[Tensor, "n"]
    far: Int[Tensor, "m"]
    by_expression: Float[Tensor, "n 1"]
    by_pose: Float[Tensor, "m 1"]
    near_encoded: Float[Tensor, "n e"]
    far_encoded: Float[Tensor, "m e"]


class GaussianAvatar(nn.Module):
    """A head avatar. Parameters are the canonical Gaussians and six MLPs; `canonical` gives their first values.

    Parameters of the Gaussians: `xyz` [N,3] (canonical, dm), `feature` [N,f] (seen through tanh), `log_scale` [N,3]
    (natural logarithm of dm), `rotation` [N,4] (quaternion wxyz, of any length), `opacity_logit` [N,1], and where the
    configuration asks for them `colour` [N,C] and `follow_logit` [N,1] (logit of how far it follows the head).
    Buffers: neutral landmarks [L,3] (canonical, dm), mean training expression [d] and RMS distance from it, median
    training pose [6] and scale.
    """

    landmarks_neutral: Tensor
    expression_mean: Tensor
    expression_rms: Tensor
    median_pose: Tensor
    median_scale: Tensor

    def __init__(self, config: AvatarConfig, canonical: Canonical):
        super().__init__()
        c, n = config, len(canonical.xyz)
        self.config = config
        self.xyz = nn.Parameter(canonical.xyz.clone())
        self.feature = nn.Parameter(canonical.feature.clone())
        self.log_scale = nn.Parameter(canonical.log_scale.clone())
        self.rotation = nn.Parameter(torch.tensor([1.0, 0, 0, 0]).repeat(n, 1))
        self.opacity_logit = nn.Parameter(torch.full((n, 1), math.log(c.initial_opacity / (1 - c.initial_opacity))))
        self.colour = nn.Parameter(canonical.colour.clone()) if c.canonical_colour else None
        self.follow_logit = nn.Parameter(canonical.follow_logit.clone()) if c.body == "blend" else None
        self.register_buffer("landmarks_neutral", canonical.landmarks.clone())
        self.register_buffer("expression_mean", canonical.expression_mean.clone())
        self.register_buffer("expression_rms", canonical.expression_rms.clone())
        self.register_buffer("median_pose", canonical.median_pose.clone())
        self.register_buffer("median_scale", canonical.median_scale.clone())
        position, pose = 3 * (1 + 2 * c.frequencies), 6 * (1 + 2 * c.pose_frequencies)
        e, f, k = c.expression_dim, c.feature_dim, c.colour_channels
        if c.exp_linear:
            self.exp_linear = LinearDecoder(f, e, 11 + k)
        else:
            self.exp_color = ConditionedMLP(f, e, c.exp_color, k)
            self.exp_attributes = ConditionedMLP(f, e, c.exp_attributes, 8)
            self.exp_deform = ConditionedMLP(position, e, c.exp_deform, 3, bounded=True)
        self.pose_color = ConditionedMLP(f, pose, c.pose_color, k)
        self.pose_attributes = ConditionedMLP(f, pose, c.pose_attributes, 8)
        self.pose_deform = ConditionedMLP(position, pose, c.pose_deform, 3, bounded=True)
        self._blend: Blend | None = None
        self.blend_points: Float[Tensor, "N 3"] | None = None
        self.refresh_blend()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GaussianAvatar:
        """Move or convert the blend with the parameters (`to`, `cuda`, `double`, …)."""
        super()._apply(fn, recurse)
        if self._blend is not None and self.blend_points is not None:
            self._blend = Blend(*(fn(part) for part in self._blend))
            self.blend_points = fn(self.blend_points)
        return self

    def blend(self, points: Float[Tensor, "N 3"]) -> Blend:
        """The blend of canonical `points` (dm) between the networks of expression and of pose; differentiable."""
        c = self.config
        with torch.no_grad():
            nearest = self.landmarks_neutral[torch.cdist(points, self.landmarks_neutral).argmin(dim=1)]
        squared = (points - nearest).square().sum(-1)
        weight = ((c.far - squared) / (c.far - c.near)).clamp(0, 1)
        near, far = torch.nonzero(weight > 0)[:, 0], torch.nonzero(weight < 1)[:, 0]
        encoded = encode(points, c.frequencies)
        weights = weight[near, None], 1 - weight[far, None]
        return Blend(near, far, *weights, encoded.index_select(0, near), encoded.index_select(0, far))

    @torch.no_grad()
    def refresh_blend(self, points: Float[Tensor, "N 3"] | None = None) -> None:
        """Compute the blend anew from the canonical positions, or from `points` [N,3] (dm); no-op with `live_blend`.

        Construction, `move` and `load_state_dict` call it. An optimiser moves positions without it: between two calls
        the blend stays as it was, and no gradient reaches the positions through it. A training that continues passes
        the `blend_points` it was stopped with.
        """
        if not self.config.live_blend:
            self.blend_points = (self.xyz if points is None else points.to(self.xyz)).detach().clone()
            self._blend = self.blend(self.blend_points)

    @torch.no_grad()
    def move(self, rows: slice | Int[Tensor, "n"], xyz: Float[Tensor, "n 3"]) -> None:
        """Put the Gaussians `rows` at the canonical positions `xyz` (dm), and refresh the blend."""
        self.xyz[rows] = xyz
        self.refresh_blend()

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Load parameters and buffers as torch does, then refresh the blend."""
        result = super().load_state_dict(state_dict, strict, assign)
        self.refresh_blend()
        return result

    def forward(
        self,
        expression: Float[Tensor, "B d"],
        pose: Float[Tensor, "B 6"],
        scale: Float[Tensor, "B"],
        torso: Float[Tensor, "B 6"] | None = None,
    ) -> Gaussians:
        """World Gaussians of B frames. `pose` is axis-angle and translation (metres), `scale` metres a unit.

        `torso` is how the torso has moved from its median place in training (radians, metres, see `Capture.torso`);
        without it, the torso rests. Only an avatar whose `body` is "blend" has one.
        """
        c = self.config
        if expression.shape[-1] != c.expression_dim:
            raise RafError(
                f"expression has {expression.shape[-1]} channels but this avatar was trained on {c.expression_dim}; "
                "drive it with features of its own feature space"
            )
        blend = self.blend(self.xyz) if self._blend is None else self._blend
        code = self.code(expression)
        pose_code = self.pose_code(pose)
        near_f, far_f = (self.feature.index_select(0, rows) for rows in (blend.near, blend.far))
        far_f = far_f.tanh()
        by_expression = self.by_expression(near_f, blend.near_encoded, code)
        by_pose = torch.cat(
            [
                c.deform_scale * self.pose_deform(blend.far_encoded, pose_code),
                c.attribute_scale * self.pose_attributes(far_f, pose_code),
                self.pose_color(far_f, pose_code),
            ],
            -1,
        )
        change = by_pose.new_zeros(len(pose), len(self.xyz), by_pose.shape[-1])
        change = change.index_add(1, blend.near, by_expression * blend.by_expression)
        change = change.index_add(1, blend.far, by_pose * blend.by_pose)
        moved, grown, turned, opacity, colour = change.split([3, 3, 4, 1, c.colour_channels], -1)
        size = (self.log_scale + grown).exp()
        means, quaternions, size = self.to_world(
            self.xyz + moved, self.rotation + turned, size, pose, scale, self.follow_logit, torso
        )
        return Gaussians(
            means=means,
            quaternions=quaternions,
            scales=size,
            opacities=(self.opacity_logit + opacity).sigmoid()[..., 0],
            features=colour if self.colour is None else self.colour + colour,
        )

    def by_expression(
        self, feature: Float[Tensor, "n f"], encoded: Float[Tensor, "n e"], code: Float[Tensor, "B d"]
    ) -> Float[Tensor, "B n o"]:
        """What an expression changes at points with these features and encoded positions: displacement (3, dm), log
        scale (3), quaternion (4), opacity logit (1), then the colour channels."""
        c = self.config
        if c.exp_linear:
            scales = [c.deform_scale] * 3 + [c.attribute_scale] * 8 + [1.0] * c.colour_channels
            return feature @ (self.exp_linear(code) * feature.new_tensor(scales))
        bounded = feature.tanh()
        attributes = c.attribute_scale * self.exp_attributes(bounded, code)
        return torch.cat([self.displacement(feature, encoded, code), attributes, self.exp_color(bounded, code)], -1)

    def displacement(
        self, feature: Float[Tensor, "n f"], encoded: Float[Tensor, "n e"], code: Float[Tensor, "B d"]
    ) -> Float[Tensor, "B n 3"]:
        """The displacement (dm) in `by_expression`, alone."""
        c = self.config
        if c.exp_linear:
            return feature @ (c.deform_scale * self.exp_linear(code)[..., :3])
        return c.deform_scale * self.exp_deform(encoded, code)

    def colour_change(self, feature: Float[Tensor, "n f"], code: Float[Tensor, "B d"]) -> Float[Tensor, "B n C"]:
        """The colour in `by_expression`, alone."""
        if self.config.exp_linear:
            return feature @ self.exp_linear(code)[..., 11:]
        return self.exp_color(feature.tanh(), code)

    @property
    def expression_networks(self) -> list[nn.Module]:
        """The networks behind `displacement` and `colour_change`, the displacing one first."""
        return [self.exp_linear] if self.config.exp_linear else [self.exp_deform, self.exp_color]

    def code(self, expression: Float[Tensor, "B d"]) -> Float[Tensor, "B d"]:
        """The expression as the MLPs see it: with `expression_norm`, centred and scaled by the training frames' mean
        and RMS distance from it, so that it suits every feature space."""
        c = self.config
        if not c.expression_norm:
            return expression
        return c.expression_norm / self.expression_rms * (expression - self.expression_mean)

    def pose_code(self, pose: Float[Tensor, "B 6"]) -> Float[Tensor, "B e"]:
        """The encoded head pose as the MLPs see it."""
        c = self.config
        return encode(torch.cat([pose[:, :3], pose[:, 3:] * c.pose_gain], 1), c.pose_frequencies)

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor] | str | Path, config: AvatarConfig | None = None
    ) -> GaussianAvatar:
        """An avatar with the weights of a checkpoint of the public code: its state dict, or the path of its file.

        It is turned into the axes used here (`raflib.avatar.axes`), so captures that `raflib` reads drive it. Sizes
        follow from the tensors. The medians of pose and scale are not known, and NaN. Settings that a state dict does
        not hold (`near`, `far`, `deform_scale`, `attribute_scale`, `blur`) are taken from `config`, by default the
        published values. Raises RafError listing keys that are missing, unknown or of the wrong shape, and for tensors
        that hold NaN or fewer numbers than their shape declares.
        """
        with official_state(state_dict) as state:
            config = config_of(state, config or AvatarConfig())
            landmarks = len(state["landmarks_3d_neutral"])
            with torch.random.fork_rng(devices=[]):  # first values are overwritten
                avatar = cls(config, Canonical.blank(config, config.points, landmarks))
            copy_official(state, avatar)
        return avatar

    def to_official(self) -> dict[str, Tensor]:
        """The avatar as a state dict of the public code; see `raflib.avatar.interop.avatar_to_official`."""
        return avatar_to_official(self)

    @torch.no_grad()
    def export_ply(
        self,
        path: str | Path,
        expression: Float[Tensor, "d"],
        pose: Float[Tensor, "6"],
        scale: float | None = None,
    ) -> None:
        """Write the posed avatar as a splat file (.ply, SH degree 0) that common viewers open; `scale` metres a unit,
        by default the median of the training. RafError where that is not known, as in files of the public code."""
        if scale is None and not self.median_scale.isfinite():
            raise RafError(f"{path}: this avatar's file does not hold its scale; pass scale, in metres a unit")
        size = self.median_scale if scale is None else self.median_scale.new_tensor(scale)
        given = (value.to(self.xyz)[None] for value in (expression, pose, size))
        write_ply(path, self(*given))

    def to_world(
        self,
        xyz: Float[Tensor, "B N 3"],
        quaternion: Float[Tensor, "B N 4"],
        size: Float[Tensor, "B N 3"],
        pose: Float[Tensor, "B 6"],
        scale: Float[Tensor, "B"],
        follow_logit: Float[Tensor, "N 1"] | None,
        torso: Float[Tensor, "B 6"] | None = None,
    ) -> tuple[Float[Tensor, "B N 3"], Float[Tensor, "B N 4"], Float[Tensor, "B N 3"]]:
        """Canonical positions, quaternions and sizes in the world (metres), carried by the head.

        Args:
            xyz: canonical positions (dm).
            quaternion: rotations, wxyz, of any length but 0.
            size: standard deviations along the three axes (dm).
            pose: head pose, axis-angle (radians) then translation (metres).
            scale: metres a canonical unit.
            follow_logit: logit of how far each Gaussian follows the head; the rest of its way it stays where the median
                training pose puts it, or goes with the torso. None carries all with the head.
            torso: motion of the torso from its median place, in the world: axis-angle (radians), then translation
                (metres). None: it rests.
        """
        rotation = axis_angle_to_matrix(pose[:, :3])
        head = matrix_to_quaternion(rotation)[:, None]
        means = (scale[:, None, None] * xyz) @ rotation.transpose(1, 2) + pose[:, None, 3:]
        quaternion = torch.nn.functional.normalize(quaternion, dim=-1)
        if follow_logit is None:
            turned = quaternion_multiply(head.expand_as(quaternion), quaternion)
        else:
            median = axis_angle_to_matrix(self.median_pose[:3])
            still = (self.median_scale * xyz) @ median.T + self.median_pose[3:]
            if torso is not None:
                leaning = axis_angle_to_matrix(torso[:, :3])
                still = still @ leaning.transpose(1, 2) + torso[:, None, 3:]
                median = leaning[:, None] @ median
            means = torch.lerp(still, means, follow_logit.sigmoid())
            between = torch.lerp(matrix_to_quaternion(median), head, follow_logit.sigmoid())
            turned = quaternion_multiply(between, quaternion)
        return means, turned, size * scale[:, None, None]
