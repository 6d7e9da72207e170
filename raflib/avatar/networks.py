"""The networks that move the Gaussians: positional encoding and conditioned MLPs.

Each MLP sees, for every Gaussian, its own input (a learned feature or an encoded position) joined with one code a frame
(expression or encoded pose). The join is never built: the first layer is split into a part for the points and a part
for the code, so the code is multiplied once a frame instead of once a Gaussian, with the same result. The
arithmetic is in `raflib.avatar.fused_mlp`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raflib.avatar.fused_mlp import Scratch, Weights, evaluate


def encode(values: Float[Tensor, "*n d"], frequencies: int) -> Float[Tensor, "*n e"]:
    """[x, sin x, cos x, sin 2x, cos 2x, sin 4x, …], `frequencies` octaves; e = d (1 + 2 · frequencies): 3 → 27 at 4."""
    bands = 2.0 ** torch.arange(frequencies, dtype=values.dtype, device=values.device)
    angles = values[..., None, :] * bands[:, None]
    waves = torch.stack([angles.sin(), angles.cos()], -2)  # [*n, frequencies, 2, d]
    return torch.cat([values, waves.flatten(-3)], -1)


class ConditionedMLP(nn.Module):
    """Leaky-ReLU MLP on (point, code) whose input joins again at layer ``len(dims) // 2``, as in Xu et al. 2024.

    With `hidden` widths h_1 … h_n and output o the layers are in→h_1 → … → h_n → o; `dims` of the original counts the
    input and output too, so the input joins again at layer (n + 2) // 2 when that layer is not the first.
    """

    def __init__(self, point_dim: int, code_dim: int, hidden: Sequence[int], out_dim: int, bounded: bool = False):
        super().__init__()
        widths = [*hidden, out_dim]
        self.skip = (len(hidden) + 2) // 2
        self.bounded = bounded
        self.scratch = Scratch()
        self.point_in = nn.Linear(point_dim, widths[0])
        self.code_in = nn.Linear(code_dim, widths[0], bias=False)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        joins = 1 <= self.skip <= len(self.layers)
        joined = widths[self.skip] if joins else 0
        self.point_skip = nn.Linear(point_dim, joined, bias=False) if joins else None
        self.code_skip = nn.Linear(code_dim, joined, bias=False) if joins else None
        with torch.no_grad():  # the untrained avatar is close to its canonical self
            self.linears[-1].weight.mul_(0.1)
            self.linears[-1].bias.zero_()
            if self.point_skip is not None and self.code_skip is not None and self.skip == len(self.layers):
                self.point_skip.weight.mul_(0.1)
                self.code_skip.weight.mul_(0.1)

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers after the first."""
        return cast("list[nn.Linear]", list(self.layers))  # a ModuleList does not declare what it holds

    def forward(self, points: Float[Tensor, "N p"], code: Float[Tensor, "B c"]) -> Float[Tensor, "B N o"]:
        """Values for every point under every code of the batch; one backward pass a call."""
        layers = tuple(tensor for layer in self.linears for tensor in (layer.weight, layer.bias))
        point_skip, code_skip = (None if part is None else part.weight for part in (self.point_skip, self.code_skip))
        entry = self.point_in.weight, self.point_in.bias, self.code_in.weight
        weights = Weights(*entry, point_skip, code_skip, layers)
        return evaluate(points, code, weights, self.skip, self.bounded, self.scratch)


class LinearDecoder(nn.Module):
    """The matrix [f,o] that turns a point's feature [f] into its values; it is linear in the code.

    It is made once a frame, so a point costs f · o multiplications. Its rows are expression bases that all
    points share; the feature says how much a point takes of each. So a Gaussian on the eyelid and its neighbour on the
    eye can move apart, which a network of the position can hardly learn.
    """

    def __init__(self, point_dim: int, code_dim: int, out_dim: int):
        super().__init__()
        self.shape = point_dim, out_dim
        self.bases = nn.Linear(code_dim, point_dim * out_dim)
        nn.init.zeros_(self.bases.weight)  # the untrained avatar is its canonical self
        nn.init.zeros_(self.bases.bias)

    def forward(self, code: Float[Tensor, "B c"]) -> Float[Tensor, "B f o"]:
        """The matrix of each code; the values of points with features [N,f] are features @ matrix, [B,N,o]."""
        return self.bases(code).view(len(code), *self.shape)
