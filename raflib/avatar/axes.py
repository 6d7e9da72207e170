"""From the axes of the public code to those used here, and back: half a circle about x.

Canonical and world axes of the public code have y up and z out of the face. Those used here have y down and z into the
face. The turn A changes the signs of y and z, so an avatar goes from one to the other by signs alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from raflib.config import NETWORKS
from raflib.geometry import HALF_TURN

QUATERNION = (1.0, 1.0, -1.0, -1.0)
"""Signs that a quaternion wxyz gets when its rotation R becomes A R A. A Gaussian keeps its sizes S along its axes: its
covariance becomes A (R S² Rᵀ) A = (A R A) S² (A R A)ᵀ, because A S² A = S²."""


def turned(state: Mapping[str, Tensor], sizes: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state dict of the public code for the same avatar in turned axes (copies). Turned twice, it has the same bits.

    For the turned head pose, the avatar gives the same Gaussians, turned. Positions (by `raflib.geometry.HALF_TURN`)
    and rotations change signs, and so does what networks add to them. Networks receive positions and head poses
    encoded. Sines change their signs and cosines do not, so the weights of the columns of sines change signs, too.

    `sizes` are the fields of `AvatarConfig` that follow from the tensors' shapes.
    """
    inputs = {
        "feature": torch.ones(sizes["feature_dim"]), "position": _encoded(HALF_TURN, sizes["frequencies"]),
        "exp": torch.ones(sizes["expression_dim"]), "pose": _encoded(2 * HALF_TURN, sizes["pose_frequencies"]),
    }  # fmt: skip
    outputs = {
        "color": torch.ones(sizes["colour_channels"]), "deform": torch.tensor(HALF_TURN),
        "attributes": torch.tensor((1.0, 1.0, 1.0, *QUATERNION, 1.0)),  # log scale, quaternion, opacity logit
    }  # fmt: skip
    signs = {
        "xyz": torch.tensor(HALF_TURN), "landmarks_3d_neutral": torch.tensor(HALF_TURN),
        "rotation": torch.tensor(QUATERNION),
    }  # fmt: skip
    for name in NETWORKS:
        code, what = name.split("_")
        joined = torch.cat([inputs["position" if what == "deform" else "feature"], inputs[code]])
        signs |= {f"{name}_mlp.{key}": value for key, value in _of_network(sizes[name], joined, outputs[what]).items()}
    return {
        key: value.detach() * signs[key].to(value) if key in signs else value.clone() for key, value in state.items()
    }


def _of_network(hidden: Sequence[int], joined: Float[Tensor, "i"], out: Float[Tensor, "o"]) -> dict[str, Tensor]:
    """Signs of the layers with these `hidden` widths, for the signs of the input, which joins twice, and the output."""
    skip, last = (len(hidden) + 2) // 2, len(hidden)
    signs = {"conv0.weight": joined[:, None]}
    if 1 <= skip <= last:
        signs[f"conv{skip}.weight"] = torch.cat([torch.ones(hidden[skip - 1]), joined])[:, None]
    signs[f"conv{last}.weight"] = out[:, None, None] * signs.get(f"conv{last}.weight", torch.ones(1, 1))
    return {**signs, f"conv{last}.bias": out}


def _encoded(signs: Sequence[float], frequencies: int) -> Float[Tensor, "e"]:
    """How `raflib.avatar.networks.encode` follows the signs of what it encodes."""
    own = torch.tensor(signs)
    waves = torch.cat([own, torch.ones(len(own))])  # sines, cosines
    return torch.cat([own, waves.repeat(frequencies)])
