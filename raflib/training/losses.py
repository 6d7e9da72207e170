"""Terms of the training loss: unreduced, in one named dict, and their weighted sum, which training minimises.

``L = λ₁ ‖render − target‖₁ + λ_grad ‖∇(render − target)‖₁ + λ_perc perceptual(crop)`` (RAF §4, Eq. for L_self and
L_RAF: both have this form and differ in the expression that made the render). The face counts `weight_face` times more.
With an upsampler the first two terms compare the first three rendered channels with the shrunk target; the perceptual
one and a third, λ_fine ‖upsampled − target‖₁, compare the full images (Xu et al. 2024).
Training may add the landmark distances of `raflib.training.landmark_term` to the dict, weighted by λ_lmk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raflib.config import TrainConfig

Perceptual = Callable[[Tensor, Tensor], Tensor]


def face_weights(boxes: Int[Tensor, "B 4"], size: int, weight_face: float) -> Float[Tensor, "B H W 1"]:
    """1 everywhere and 1 + `weight_face` inside each box (x, y, width, height in pixels)."""
    pixels = torch.arange(size, device=boxes.device)
    x, y, width, height = (boxes[:, i, None] for i in range(4))
    columns = (pixels >= x) & (pixels < x + width)
    rows = (pixels >= y) & (pixels < y + height)
    return 1 + weight_face * (rows[:, :, None] & columns[:, None, :]).float()[..., None]


def terms(
    render: Float[Tensor, "B H W 3"],
    target: Float[Tensor, "B H W 3"],
    weights: Float[Tensor, "B H W 1"],
    perceptual: Perceptual | None = None,
    crops: Sequence[tuple[int, int, int]] | None = None,
) -> dict[str, Tensor]:
    """Unreduced terms: "l1" [B,H,W,3], "gradient" [B,H-1,W-1,6] and, given a network and crops, "perceptual" [B].

    `crops` has (x, y, size) in pixels for each target; the perceptual network sees only that square.
    """
    difference = render - target
    across = difference[:, :-1, 1:] - difference[:, :-1, :-1]
    down = difference[:, 1:, :-1] - difference[:, :-1, :-1]
    result = {"l1": difference.abs() * weights, "gradient": torch.cat([across, down], -1).abs()}
    if perceptual is not None and crops is not None:
        result["perceptual"] = _perceptual(render, target, perceptual, crops)
    return result


def fine_terms(
    upsampled: Float[Tensor, "B H W 3"],
    target: Float[Tensor, "B H W 3"],
    weights: Float[Tensor, "B H W 1"],
    perceptual: Perceptual | None = None,
    crops: Sequence[tuple[int, int, int]] | None = None,
) -> dict[str, Tensor]:
    """Unreduced terms of the upsampled image: "fine" [B,H,W,3] and, given a network and crops, "perceptual" [B].

    The perceptual term takes the place of the one that `terms` computes without an upsampler.
    """
    result = {"fine": (upsampled - target).abs() * weights}
    if perceptual is not None and crops is not None:
        result["perceptual"] = _perceptual(upsampled, target, perceptual, crops)
    return result


def _perceptual(
    render: Tensor, target: Tensor, perceptual: Perceptual, crops: Sequence[tuple[int, int, int]]
) -> Tensor:
    windows = [(b, slice(y, y + size), slice(x, x + size)) for b, (x, y, size) in enumerate(crops)]
    return perceptual(*(torch.stack([images[window] for window in windows]) for images in (render, target)))


def total(parts: Mapping[str, Tensor], config: TrainConfig) -> Float[Tensor, ""]:
    """The weighted sum of the means. A term computed every n-th step counts n times."""
    weight = {
        "l1": config.weight_l1,
        "gradient": config.weight_gradient,
        "fine": config.weight_fine,
        "perceptual": config.weight_perceptual * config.perceptual_every,
        "landmarks": config.weight_landmarks,
    }
    return reduce(torch.add, (weight[name] * value.mean() for name, value in parts.items()))
