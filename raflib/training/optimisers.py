"""`Optimisers`: one rate for each kind of parameter, warmed up and decayed together, and their state as plain tensors.

Adam moves Gaussians, networks and background. A step also shrinks the matrix of a linear decoder by the factor
1 − rate · `weight_decay` (AdamW; Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019), so that it
stays small for expressions that training frames hardly show. Pose corrections have an optimiser of their own (sparse: a
step touches the frame it looked at and no other). States go into a checkpoint under names that begin with "adam." and
"pose.".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from raflib.avatar import GaussianAvatar, Upsampler
from raflib.config import TrainConfig
from raflib.training.pose_corrections import PoseCorrections, by_name


class Optimisers:
    """Optimisers of an avatar and, where they exist, of its upsampler, background and pose corrections.

    `steps` is the length of the training, over which the rates decay.
    """

    def __init__(
        self,
        config: TrainConfig,
        steps: int,
        avatar: GaussianAvatar,
        upsampler: Upsampler | None,
        background: Float[Tensor, "H W C"] | None,
        poses: PoseCorrections | None,
    ):
        c, a = config, avatar
        decoder: list[Any] = [a.exp_linear.bases.weight if a.config.exp_linear else None]
        networks = [p for name, p in a.named_parameters() if "." in name and p is not decoder[0]]
        groups: list[tuple[list[Any], float]] = [
            ([a.xyz], c.rate_xyz), ([a.feature], c.rate_feature), ([a.rotation], c.rate_rotation),
            ([a.log_scale], c.rate_scale), ([a.opacity_logit], c.rate_opacity), ([a.colour], c.rate_colour),
            ([a.follow_logit], c.rate_body), (decoder, c.rate_mlp), (networks, c.rate_mlp),
            ([background], c.rate_background),
            ([None] if upsampler is None else list(upsampler.parameters()), c.rate_upsampler),
        ]  # fmt: skip
        used = [
            {"params": params, "lr": rate, "weight_decay": c.weight_decay if params is decoder else 0.0}
            for params, rate in groups
            if params[0] is not None
        ]
        self.adam = torch.optim.AdamW(used, betas=c.betas, eps=c.epsilon, fused=True)
        self._each: dict[str, torch.optim.Optimizer] = {"adam": self.adam}
        self._poses = poses
        if poses is not None:
            self._each["pose"] = torch.optim.SparseAdam(poses.parameters(), lr=c.rate_pose)
        self._rates = {name: [group["lr"] for group in o.param_groups] for name, o in self._each.items()}
        self._warm_up, self._decay, self._steps = max(c.warm_up, 1), c.decay, steps

    def step(self, number: int) -> None:
        """Make step `number` of the training along the gradients, then clear them."""
        ramp = min(1.0, (number + 1) / self._warm_up) * self._decay ** (number / self._steps)
        for name, optimiser in self._each.items():
            for group, rate in zip(optimiser.param_groups, self._rates[name], strict=True):
                group["lr"] = rate * ramp
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def finite(self) -> bool:
        """Whether all gradients are finite, and small enough that their squares are (Adam keeps those)."""
        given = [p.grad for o in self._each.values() for group in o.param_groups for p in group["params"]]
        dense = [g.coalesce().values() if g.is_sparse else g for g in given if g is not None]
        return bool(torch.isfinite(torch.stack(torch._foreach_norm(dense, 2))).all())

    def tensors(self) -> dict[str, Tensor]:
        """The state, one tensor a name."""
        result: dict[str, Tensor] = {}
        for kind, optimiser in self._each.items():
            for index, state in optimiser.state_dict()["state"].items():
                result |= {f"{kind}.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        return result

    def restore(self, tensors: Mapping[str, Tensor], frames: Sequence[str] | None = None) -> None:
        """Continue from `tensors` (on any device). `frames` names the frames whose pose corrections were learned;
        None means the frames of now."""
        for kind, optimiser in self._each.items():
            state: dict[int, dict[str, Any]] = {}
            for name, value in tensors.items():
                if name.startswith(f"{kind}."):
                    _, index, key = name.split(".")
                    counted = value.ndim == 0 and not value.is_floating_point()  # SparseAdam's step is a plain int
                    if kind == "pose" and not counted and frames is not None and self._poses is not None:
                        value = by_name(value, frames, self._poses.names)
                    state.setdefault(int(index), {})[key] = value.item() if counted else value
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": state, "param_groups": groups})
