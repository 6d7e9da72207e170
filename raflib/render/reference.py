"""The exact reference: every Gaussian against every pixel, dense, in torch, in the dtype of its inputs.

Slow and memory-hungry on purpose (each line is the definition), differentiable by autograd, meant for float64 tests.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from raflib.render.constants import (
    BLUR,
    FRUSTUM_MARGIN,
    MAX_ALPHA,
    MIN_ALPHA,
    MIN_DETERMINANT,
    MIN_TRANSMITTANCE,
    NEAR,
)


def _rotation(quaternions: Float[Tensor, "N 4"]) -> Float[Tensor, "N 3 3"]:
    w, x, y, z = normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def _jacobian(
    points: Float[Tensor, "N 3"], intrinsic: Float[Tensor, "3 3"], width: int, height: int
) -> Float[Tensor, "N 2 3"]:
    x, y, z = points.unbind(-1)
    fx, fy, cx, cy = intrinsic[0, 0], intrinsic[1, 1], intrinsic[0, 2], intrinsic[1, 2]
    margin_x, margin_y = FRUSTUM_MARGIN * 0.5 * width / fx, FRUSTUM_MARGIN * 0.5 * height / fy
    slope_x = (x / z).clamp(float(-cx / fx - margin_x), float((width - cx) / fx + margin_x))
    slope_y = (y / z).clamp(float(-cy / fy - margin_y), float((height - cy) / fy + margin_y))
    zero = torch.zeros_like(z)
    entries = [fx / z, zero, -fx * slope_x / z, zero, fy / z, -fy * slope_y / z]
    return torch.stack(entries, -1).reshape(-1, 2, 3)


def draw_one(
    means: Float[Tensor, "N 3"],
    quaternions: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, "N"],
    features: Float[Tensor, "N C"],
    extrinsic: Float[Tensor, "4 4"],
    intrinsic: Float[Tensor, "3 3"],
    height: int,
    width: int,
    background: Float[Tensor, "..."],
    antialiased: bool = False,
    blur: float = BLUR,
) -> tuple[Float[Tensor, "H W C"], Float[Tensor, "H W 1"]]:
    """One image over the background ([C] or [H,W,C]) and its alpha; memory N · H · W."""
    points = means @ extrinsic[:3, :3].T + extrinsic[:3, 3]
    kept = torch.nonzero(points[:, 2] > NEAR)[:, 0]
    kept = kept[torch.argsort(points[kept, 2].float(), stable=True)]
    points, opacities, features = points[kept], opacities[kept], features[kept]
    half = _jacobian(points, intrinsic, width, height) @ extrinsic[:3, :3] @ _rotation(quaternions[kept])
    half = half * scales[kept][:, None, :]
    sharp = half @ half.transpose(1, 2)
    covariance = sharp + blur * torch.eye(2, dtype=means.dtype)
    determinant = torch.linalg.det(covariance)
    if antialiased:
        opacities = opacities * (torch.linalg.det(sharp).clamp(min=0) / determinant).clamp(min=1e-30).sqrt()
    inverse = torch.linalg.inv(covariance)
    centres = points[:, :2] / points[:, 2:] * intrinsic[[0, 1], [0, 1]] + intrinsic[:2, 2]
    ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    offsets = torch.stack([xs, ys], -1).reshape(-1, 1, 2).to(means.dtype) - centres
    exponents = -0.5 * torch.einsum("pni,nij,pnj->pn", offsets, inverse, offsets)
    alphas = (opacities * exponents.exp()).clamp(max=MAX_ALPHA)
    alphas = torch.where((alphas >= MIN_ALPHA) & (determinant > MIN_DETERMINANT), alphas, 0.0)
    after = torch.cumprod(1 - alphas, 1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], 1)
    weights = torch.where(after > MIN_TRANSMITTANCE, alphas * before, 0.0)
    alpha = weights.sum(1, keepdim=True).reshape(height, width, 1)
    return (weights @ features).reshape(height, width, -1) + (1 - alpha) * background, alpha
