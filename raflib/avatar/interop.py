"""Checkpoints of the public Gaussian Head Avatar code, in and out.

The public code (Xu et al. 2024) keeps a trained head as a plain state dict: the canonical Gaussians, the neutral
landmarks and six stacks of 1×1 convolutions whose first layer, and the one in the middle, take point and code joined
(`exp_color_mlp.conv0.weight` [out, point + code, 1]). Here those layers are kept in two parts: reading splits them,
and writing joins them.

Its axes are others; `raflib.avatar.axes` turns them. So an avatar that was read is driven by captures of `raflib`, and
one that was written by the folders of `raflib.export_gha`. Reading and writing gives the same bits. The upsampler has
no axes; `raflib.avatar.upsampler` reads its dict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from raflib.avatar.axes import turned
from raflib.avatar.networks import ConditionedMLP
from raflib.avatar.official import WHAT, listed
from raflib.config import NETWORKS, AvatarConfig
from raflib.errors import RafError

if TYPE_CHECKING:
    from raflib.avatar.model import GaussianAvatar

POINTS = {
    "xyz": "xyz", "feature": "feature", "scales": "log_scale", "rotation": "rotation", "opacity": "opacity_logit",
}  # fmt: skip
"""Parameters of the Gaussians: the public code's name, and the name here."""


def avatar_to_official(avatar: GaussianAvatar) -> dict[str, Tensor]:
    """The avatar as a state dict of the public code (copies), in its axes.

    Raises RafError naming the settings by which this avatar departs from the published one.
    """
    c = avatar.config
    published = {
        "exp_linear": False, "body": "rigid", "canonical_colour": False, "expression_norm": 0.0,
        "pose_gain": 1.0,
    }  # fmt: skip
    odd = [f"{name} = {getattr(c, name)!r}" for name, value in published.items() if getattr(c, name) != value]
    if c.frequencies != c.pose_frequencies:
        odd.append(f"frequencies {c.frequencies} ≠ pose_frequencies {c.pose_frequencies}")
    if odd:
        raise RafError(f"the public code has no such avatar: {', '.join(odd)}; train with the published settings")
    state = {name: getattr(avatar, own).detach().clone() for name, own in POINTS.items()}
    state["landmarks_3d_neutral"] = avatar.landmarks_neutral.clone()
    for name in NETWORKS:
        state |= {f"{name}_mlp.{key}": value for key, value in _joined(getattr(avatar, name)).items()}
    return turned(state, sizes(state))


def config_of(state: Mapping[str, Tensor], base: AvatarConfig) -> AvatarConfig:
    """The configuration of the avatar in a public state dict: sizes from the tensors, the rest from `base`.

    Raises RafError listing keys that are missing, unknown or of another rank, and for layers that the file cannot hold.
    """
    _check_keys(state)
    _check_layers(state)
    found = sizes(state)
    return replace(
        base, **found, mouth_points=min(base.mouth_points, found["points"]), exp_linear=False, body="rigid",
        canonical_colour=False, expression_norm=0.0, pose_gain=1.0, live_blend=True,
    )  # fmt: skip


@torch.no_grad()
def copy_official(state: Mapping[str, Tensor], avatar: GaussianAvatar) -> None:
    """Give an avatar of `config_of(state)` the numbers of a public state dict, in the axes used here.

    RafError listing wrong shapes.
    """
    value = {key: tensor.detach().to("cpu", torch.float32) for key, tensor in state.items()}
    wanted = {key: tuple(tensor.shape) for key, tensor in avatar_to_official(avatar).items()}
    odd = [f"{key} is {list(value[key].shape)}, expected {list(shape)}" for key, shape in wanted.items()
           if tuple(value[key].shape) != shape]  # fmt: skip
    if odd:
        raise RafError(f"{WHAT}: shapes do not fit together: {'; '.join(odd)}")
    value = turned(value, sizes(value))
    avatar.median_pose.fill_(torch.nan)  # such a file says nothing of the training's poses
    avatar.median_scale.fill_(torch.nan)
    avatar.landmarks_neutral.copy_(value["landmarks_3d_neutral"])
    for name, own in POINTS.items():
        getattr(avatar, own).copy_(value[name])
    for name in NETWORKS:
        prefix = f"{name}_mlp."
        _cut(getattr(avatar, name), {k.removeprefix(prefix): v for k, v in value.items() if k.startswith(prefix)})


def _joined(mlp: ConditionedMLP) -> dict[str, Tensor]:
    """conv{i}.weight [o,i,1] and conv{i}.bias [o] of the public MLP: point, then code; the hidden value first."""
    result = {}
    for index in range(len(mlp.layers) + 1):
        weight: Tensor
        if index == 0:
            weight, bias = torch.cat([mlp.point_in.weight, mlp.code_in.weight], 1), mlp.point_in.bias
        else:
            weight, bias = mlp.linears[index - 1].weight, mlp.linears[index - 1].bias
            if index == mlp.skip and mlp.point_skip is not None and mlp.code_skip is not None:
                weight = torch.cat([weight, mlp.point_skip.weight, mlp.code_skip.weight], 1)
        result[f"conv{index}.weight"] = weight.detach().clone()[..., None]
        result[f"conv{index}.bias"] = bias.detach().clone()
    return result


def _cut(mlp: ConditionedMLP, state: Mapping[str, Tensor]) -> None:
    """Inverse of `_joined`."""
    for index in range(len(mlp.layers) + 1):
        weight, bias = state[f"conv{index}.weight"][..., 0], state[f"conv{index}.bias"]
        into = [mlp.point_in, mlp.code_in] if index == 0 else [mlp.linears[index - 1]]
        if index and index == mlp.skip and mlp.point_skip is not None and mlp.code_skip is not None:
            into += [mlp.point_skip, mlp.code_skip]
        parts = weight.split([layer.in_features for layer in into], 1)
        for layer, part in zip(into, parts, strict=True):
            layer.weight.copy_(part)
        into[0].bias.copy_(bias)


def _check_keys(state: Mapping[str, Tensor]) -> None:
    wanted = {*POINTS, "landmarks_3d_neutral"}
    for name in NETWORKS:
        count = max(_layer_count(state, name), 1)
        if count > max(len(state), 1):  # a name may hold any number
            raise RafError(f"{WHAT}: {name}_mlp has a layer {count - 1}, and not those before it")
        wanted |= {f"{name}_mlp.conv{i}.{part}" for i in range(count) for part in ("weight", "bias")}
    missing, unknown = sorted(wanted - set(state)), sorted(set(state) - wanted)
    if missing or unknown:
        parts = [f"{word} keys {listed(keys)}" for word, keys in (("missing", missing), ("unknown", unknown)) if keys]
        raise RafError(
            f"{WHAT}: {'; '.join(parts)}; expected the state dict of the public code's Gaussian head "
            "(the upsampler's belongs to Upsampler.from_official)"
        )
    ranks = {key: 3 if key.endswith("weight") else 1 if key.endswith("bias") else 2 for key in wanted}
    wrong = [key for key in sorted(wanted) if not _is_float(state[key], ranks[key])]
    if wrong:
        raise RafError(f"{WHAT}: not floating-point tensors of the expected rank: {listed(wrong)}")


def _check_layers(state: Mapping[str, Tensor]) -> None:
    """RafError where layers of the sizes that the biases say would take far more than the file holds."""
    planned = 0
    for name in NETWORKS:
        widths = [len(state[f"{name}_mlp.conv{index}.bias"]) for index in range(_layer_count(state, name))]
        planned += sum(before * after for before, after in pairwise(widths))
    held = sum(value.numel() for value in state.values())
    if planned > 4 * held:
        raise RafError(f"{WHAT}: its biases ask for layers of {planned} weights, it holds {held}")


def _is_float(value: Tensor, rank: int) -> bool:
    return value.is_floating_point() and value.ndim == rank


def _layer_count(state: Mapping[str, Tensor], name: str) -> int:
    """One more than the highest layer number, so that a gap shows up as a missing key."""
    numbers = [re.fullmatch(rf"{name}_mlp\.conv(\d{{1,9}})\.(?:weight|bias)", key) for key in state]
    return 1 + max((int(match.group(1)) for match in numbers if match), default=-1)


def sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The AvatarConfig fields that follow from the tensors' shapes."""
    points, feature = state["feature"].shape
    first = {name: state[f"{name}_mlp.conv0.weight"].shape[1] for name in NETWORKS}
    expression = first["exp_color"] - feature
    frequencies = _frequencies("exp_deform_mlp", first["exp_deform"] - expression, 3)
    pose_frequencies = _frequencies("pose_color_mlp", first["pose_color"] - feature, 6)
    hidden = {
        name: tuple(len(state[f"{name}_mlp.conv{i}.bias"]) for i in range(_layer_count(state, name) - 1))
        for name in NETWORKS
    }
    short = [f"{name}_mlp" for name, widths in hidden.items() if not widths]
    if short:
        raise RafError(f"{WHAT}: {', '.join(short)}: at least two layers are expected")
    last = _layer_count(state, "exp_color") - 1
    return {
        "points": points, "feature_dim": feature, "expression_dim": expression, "frequencies": frequencies,
        "pose_frequencies": pose_frequencies, "colour_channels": len(state[f"exp_color_mlp.conv{last}.bias"]), **hidden,
    }  # fmt: skip


def _frequencies(name: str, width: int, dimensions: int) -> int:
    octaves, rest = divmod(width - dimensions, 2 * dimensions)
    if rest or octaves < 0:
        raise RafError(
            f"{WHAT}: {name}.conv0.weight leaves {width} columns for an encoding; "
            f"{dimensions} · (1 + 2 · frequencies) are expected"
        )
    return octaves
