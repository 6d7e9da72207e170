"""A conditioned MLP evaluated block by block: the arithmetic of `raflib.avatar.networks`, with its own backward pass.

With 100,000 Gaussians one layer's values are 100 MB. Left to autograd, every layer streams them from memory several
times; here a block of points goes through all layers while it is in the core's cache, forward and backward. The points'
share of the first and of the joining layer is multiplied once for all frames of a batch, and the memory of the hidden
values is used again by the next step. Gradients are added up block by block, in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 2**18
"""Numbers of the widest layer in a block on a CPU (1 MiB); a GPU takes all points at once."""
SLOPE = 0.01
"""Slope of the leaky ReLU below zero: torch's default and the published model's."""


class Weights(NamedTuple):
    """Tensors of one MLP: `layers` holds weight [o,i] and bias [o] of every layer after the first, flattened."""

    point_in: Float[Tensor, "h p"]
    bias_in: Float[Tensor, "h"]
    code_in: Float[Tensor, "h c"]
    point_skip: Float[Tensor, "s p"] | None
    code_skip: Float[Tensor, "s c"] | None
    layers: tuple[Tensor, ...]


class Scratch:
    """Memory for the hidden values of one MLP, handed from one step's backward pass to the next step's forward pass."""

    def __init__(self):
        self._free: list[Tensor] = []

    def take(self, like: Tensor, shapes: list[tuple[int, ...]]) -> list[Tensor]:
        """Uninitialised tensors of `shapes`; the ones given back last are used again if they fit."""
        free, self._free = self._free, []
        fits = [tuple(t.shape) for t in free] == shapes and (free[0].device, free[0].dtype) == (like.device, like.dtype)
        return free if fits else [like.new_empty(shape) for shape in shapes]

    def give_back(self, tensors: list[Tensor]) -> None:
        """Take back `tensors`, which are not read any more."""
        self._free = tensors


def evaluate(
    points: Float[Tensor, "N p"],
    code: Float[Tensor, "B c"],
    weights: Weights,
    skip: int,
    bounded: bool,
    scratch: Scratch,
) -> Float[Tensor, "B N o"]:
    """Values for every point under every code; point and code join again at layer `skip`; tanh at the end if `bounded`.

    Differentiable once, in all tensors; one backward pass a forward pass.
    """
    flat = [*weights[:5], *weights.layers]
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (points, code, *flat)):
        return _Evaluate.apply(points, code, skip, bounded, scratch, *flat)
    return _forward(points, code, weights, skip, bounded, None)


def _blocks(points: Tensor, batch: int, w: Weights) -> Iterator[tuple[slice, list[slice]]]:
    """Rows of the points, and groups of frames that make up a block with them. A group of several frames has all
    rows, so that its part of a [B,N,h] tensor is contiguous."""
    count = len(points)
    widest = max(len(w.bias_in), *(len(bias) for bias in w.layers[1::2]))
    size = max(1, BLOCK // widest) if points.device.type == "cpu" else count * batch
    group = max(1, size // max(count, 1))
    frames = [slice(first, min(first + group, batch)) for first in range(0, batch, group)]
    for first in range(0, count, max(size, 1)):
        yield slice(first, first + size), frames


def _forward(
    points: Float[Tensor, "N p"],
    code: Float[Tensor, "B c"],
    w: Weights,
    skip: int,
    bounded: bool,
    hidden: list[Tensor] | None,
) -> Float[Tensor, "B N o"]:
    """Values of the last layer [B,N,o]; `hidden` receives those of the layers before it, after the leaky ReLU."""
    layers = list(zip(w.layers[::2], w.layers[1::2], strict=True))
    output = points.new_empty(len(code), len(points), len(layers[-1][1]))
    offset_in = torch.addmm(w.bias_in, code, w.code_in.T)[:, None]  # what a frame adds to every point
    offset_skip = None if w.code_skip is None else (code @ w.code_skip.T)[:, None]
    for rows, groups in _blocks(points, len(code), w):
        block = points[rows]
        first = block @ w.point_in.T
        again = None if w.point_skip is None else block @ w.point_skip.T
        for frames in groups:
            value = torch.add(first, offset_in[frames], out=None if hidden is None else hidden[0][frames, rows])
            for index, (weight, bias) in enumerate(layers, start=1):
                before = torch.nn.functional.leaky_relu_(value, SLOPE).view(-1, value.shape[-1])
                if index == len(layers):
                    value = output[frames, rows]
                elif hidden is not None:
                    value = hidden[index][frames, rows]
                else:
                    value = value.new_empty(*value.shape[:-1], len(bias))
                torch.addmm(bias, before, weight.T, out=value.view(-1, len(bias)))
                if index == skip and again is not None and offset_skip is not None:
                    value.add_(again).add_(offset_skip[frames])
            if bounded:
                value.tanh_()
    return output


def _unflattened(flat: Sequence[Any]) -> Weights:
    """The weights whose tensors are listed in the order of `Weights`."""
    return Weights(flat[0], flat[1], flat[2], flat[3], flat[4], tuple(flat[5:]))


class _Evaluate(torch.autograd.Function):
    """`evaluate` with its backward pass; the tensors of the weights come flat, in the order of `Weights`."""

    @staticmethod
    def forward(ctx, points, code, skip, bounded, scratch, *flat):
        weights = _unflattened(flat)
        widths = [len(weights.bias_in), *(len(bias) for bias in weights.layers[1:-1:2])]
        hidden = scratch.take(points, [(len(code), len(points), width) for width in widths])
        output = _forward(points, code, weights, skip, bounded, hidden)
        ctx.skip, ctx.bounded, ctx.scratch, ctx.hidden = skip, bounded, scratch, hidden
        ctx.save_for_backward(output if bounded else None, points, code, *flat)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        if ctx.hidden is None:
            raise RuntimeError("the hidden values of this evaluation are gone: call backward once a forward pass")
        output, points, code, *flat = ctx.saved_tensors
        hidden, skip, w = ctx.hidden, ctx.skip, _unflattened(flat)
        matrices, joined = w.layers[::2], 0 if w.point_skip is None else len(w.point_skip)
        grads: list[Any] = [None if tensor is None else torch.zeros_like(tensor) for tensor in flat]
        point_in, point_skip, layer_grads = grads[0], grads[3], grads[5:]
        sums_in = code.new_zeros(len(code), len(w.bias_in))
        sums_skip = code.new_zeros(len(code), joined)
        points_grad = torch.empty_like(points) if ctx.needs_input_grad[0] else None
        for rows, groups in _blocks(points, len(code), w):
            block = points[rows]
            # The points' own layers see the sum over the frames.
            total_in, total_skip = block.new_zeros(len(block), len(w.bias_in)), block.new_zeros(len(block), joined)
            for frames in groups:
                value = grad[frames, rows]
                if ctx.bounded:
                    value = torch.ops.aten.tanh_backward(value, output[frames, rows])
                for index in range(len(matrices), 0, -1):
                    before = hidden[index - 1][frames, rows]
                    if index == skip:
                        sums_skip[frames] += value.sum(1)
                        total_skip = total_skip + value.sum(0)
                    flat_value = value.reshape(-1, value.shape[-1])
                    layer_grads[2 * index - 2].addmm_(flat_value.T, before.view(-1, before.shape[-1]))
                    layer_grads[2 * index - 1].add_(flat_value.sum(0))
                    value = (flat_value @ matrices[index - 1]).view_as(before)
                    value = torch.ops.aten.leaky_relu_backward(value, before, SLOPE, True)
                sums_in[frames] += value.sum(1)
                total_in = total_in + value.sum(0)
            point_in.addmm_(total_in.T, block)
            if w.point_skip is not None:
                point_skip.addmm_(total_skip.T, block)
            if points_grad is not None:
                target = torch.mm(total_in, w.point_in, out=points_grad[rows])
                if w.point_skip is not None:
                    target.addmm_(total_skip, w.point_skip)
        ctx.scratch.give_back(hidden)
        ctx.hidden = None
        grads[1], grads[2] = sums_in.sum(0), sums_in.T @ code
        code_grad = sums_in @ w.code_in
        if w.code_skip is not None:
            grads[4] = sums_skip.T @ code
            code_grad = code_grad + sums_skip @ w.code_skip
        return points_grad, code_grad, None, None, None, *grads
