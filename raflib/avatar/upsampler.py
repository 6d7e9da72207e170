"""`Upsampler`: a rendered feature image to a colour image two or four times its size (Xu et al. 2024, §3.3).

The renderer gives 32 channels at a quarter of the wanted resolution; the first three are already the image.
A small convolutional network turns all of them into the full image: wide at the coarse size, half as wide after every
doubling, a 1×1 convolution and a sigmoid at the end. Instance normalisation has no parameters and no running mean: an
image is normalised by its own statistics, in training and afterwards.

Parameters carry the published names below the prefix ``upsampler.`` (``inc.double_conv.0.weight``,
``up1.conv.double_conv.0.weight``, …, ``outc.conv.bias``), so that published weights load and ours go back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raflib.avatar.official import listed, official_state
from raflib.errors import RafError

PREFIX = "upsampler."
FACTORS = (2, 4)


class Upsampler(nn.Module):
    """Features [B,H,W,channels] → images [B,factor·H,factor·W,3] in [0,1].

    Args:
        channels: feature channels of the renderer.
        capacity: channels before the last layer; the coarse layers have `factor` times as many.
        factor: 4 (published) or 2. Factor 1 needs no network: the first three channels are the image.

    Raises RafError for another factor.
    """

    def __init__(self, channels: int = 32, capacity: int = 32, factor: int = 4):
        super().__init__()
        if factor not in FACTORS:
            raise RafError(f"Upsampler: factor is {factor!r}; choose 2 or 4")
        self.factor = factor
        self.inc = _DoubleConv(channels, factor * capacity)
        self.up1 = _Up(factor * capacity, factor // 2 * capacity)
        if factor == 4:
            self.up2 = _Up(2 * capacity, capacity)
        self.outc = _OutConv(capacity, 3)

    def forward(self, features: Float[Tensor, "B H W C"]) -> Float[Tensor, "B fH fW 3"]:
        """The images; differentiable in the features."""
        x = self.up1(self.inc(features.permute(0, 3, 1, 2)))
        if self.factor == 4:
            x = self.up2(x)
        return self.outc(x).sigmoid().permute(0, 2, 3, 1)

    @classmethod
    def from_official(cls, state_dict: Mapping[str, Tensor] | str | Path) -> Upsampler:
        """The network of a published state dict (or of the file that holds it), whose keys begin with ``upsampler.``.

        Sizes follow from its shapes. Raises one RafError that lists keys that are unknown, missing, not float32 or of
        the wrong shape, and as `raflib.avatar.official.check_tensors` does.
        """
        with official_state(state_dict) as state:
            return cls._of(state)

    @classmethod
    def _of(cls, state: Mapping[str, Tensor]) -> Upsampler:
        given = {name: getattr(value, "shape", None) for name, value in state.items()}
        with torch.device("meta"):  # shapes only, whatever the file claims
            model = cls(*_sizes(given))
        expected = {PREFIX + name: value.shape for name, value in model.state_dict().items()}
        problems = [f"{name} is unknown" for name in sorted(given.keys() - expected.keys())]
        problems += [f"{name} is missing" for name in expected if name not in given]
        for name, shape in expected.items():
            if name not in given:
                continue
            if given[name] != shape:
                problems.append(f"{name} is {_shown(given[name])}, expected {_shown(shape)}")
            elif state[name].dtype != torch.float32:
                problems.append(f"{name} is {state[name].dtype}, expected float32")
        if problems:
            raise RafError(f"not a published upsampler: {listed(problems, '; ')}")
        model.load_state_dict(
            {name.removeprefix(PREFIX): value.detach().clone() for name, value in state.items()}, assign=True
        )
        return model

    def to_official(self) -> dict[str, Tensor]:
        """Copies of the parameters under the published names; `from_official` of them is this network, bit by bit."""
        return {PREFIX + name: value.detach().clone() for name, value in self.state_dict().items()}


class _DoubleConv(nn.Module):
    """Twice: 3×3 convolution, instance normalisation, ReLU. A bias before the normalisation would cancel."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.InstanceNorm2d(outside), nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False), nn.InstanceNorm2d(outside), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B d H W"]:
        return self.double_conv(x)


class _Up(nn.Module):
    """Twice the size, corners on corners, then a double convolution."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.conv = _DoubleConv(inside, outside)

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B d H2 W2"]:
        return self.conv(nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))


class _OutConv(nn.Module):
    """One linear layer for each pixel (1×1 convolution)."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 1)

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B d H W"]:
        return self.conv(x)


def _sizes(shapes: Mapping[str, torch.Size | None]) -> tuple[int, int, int]:
    """(channels, capacity, factor) that the first and last layer show, published values where they show none."""
    first, last = shapes.get(PREFIX + "inc.double_conv.0.weight"), shapes.get(PREFIX + "outc.conv.weight")
    channels = first[1] if first is not None and len(first) == 4 and first[1] > 0 else 32
    capacity = last[1] if last is not None and len(last) == 4 and last[1] > 0 else 32
    halves = first is not None and len(first) == 4 and first[0] == 2 * capacity
    return channels, capacity, 2 if halves else 4


def _shown(shape: torch.Size | None) -> str:
    return "not a tensor" if shape is None else str(list(shape))
