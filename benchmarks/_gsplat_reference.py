"""gsplat's own torch reference (`gsplat/cuda/_torch_impl.py` of version 1.5.3), run on a CPU.

The file is loaded by path, so that neither gsplat nor its CUDA code is imported. It uses three functions that
exist for CUDA only or are Python loops. Each gets a replacement, and always one that makes the reference faster:

* the search for (pixel, Gaussian) pairs, a compiled loop;
* nerfacc's exclusive product along a ray, a compiled scan with its own backward pass, and its sum along a ray;
* the list of (tile, Gaussian) pairs, vectorised with one sort.
"""

import importlib
import importlib.util
import math
import sys
import types
from pathlib import Path

import numba
import numpy as np
import torch
from torch import Tensor

_FILE = Path("cuda") / "_torch_impl.py"
_TILE = 16


def find() -> Path | None:
    """Return the folder of the installed gsplat package, None if it is missing or has no reference."""
    spec = importlib.util.find_spec("gsplat")
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    return next((folder for folder in folders if (folder / _FILE).is_file()), None)


def load(package: Path):
    """Return a function: (means, quaternions, scales, opacities, features, extrinsic, intrinsic, size) to image and
    alpha."""
    # A replacement package: the file's relative imports then find our functions instead of CUDA code.
    parent = types.ModuleType("gsplat_reference")
    parent.__path__ = [str(package / "cuda")]
    wrapper = types.ModuleType("gsplat_reference._wrapper")
    wrapper.rasterize_to_indices_in_range = _indices_in_range
    nerfacc = types.ModuleType("nerfacc")
    nerfacc.render_weight_from_alpha = _weights_from_alpha
    nerfacc.accumulate_along_rays = _sum_along_rays
    sys.modules.update({parent.__name__: parent, wrapper.__name__: wrapper, "nerfacc": nerfacc})
    reference = importlib.import_module("gsplat_reference._torch_impl")

    def draw(means, quaternions, scales, opacities, features, extrinsic, intrinsic, size):
        covariances, _ = reference._quat_scale_to_covar_preci(quaternions, scales, True, False)
        radii, centres, depths, conics, _ = reference._fully_fused_projection(
            means, covariances, extrinsic[None], intrinsic[None], size, size
        )
        across = math.ceil(size / _TILE)
        keys, gaussians = _tile_pairs(centres[0], radii[0], depths[0], across)
        offsets = reference._isect_offset_encode(keys, 1, across, across)
        image, alpha = reference._rasterize_to_pixels(
            centres, conics, features[None], opacities[None], size, size, _TILE, offsets, gaussians
        )
        return image[0], alpha[0]

    return draw


@torch.no_grad()
def _tile_pairs(centres: Tensor, radii: Tensor, depths: Tensor, across: int) -> tuple[Tensor, Tensor]:
    """Return sorted keys (tile in the high half, bits of the depth in the low half) and their Gaussians, like
    `_isect_tiles`."""
    low = torch.floor(centres / _TILE - radii / _TILE).clamp(0, across).long()
    high = torch.ceil(centres / _TILE + radii / _TILE).clamp(0, across).long()
    span = high - low
    count = span.prod(-1) * (radii > 0).all(-1)
    gaussians = torch.repeat_interleave(torch.arange(len(count)), count)
    place = torch.arange(len(gaussians)) - (torch.cumsum(count, 0) - count)[gaussians]
    width = span[gaussians, 0]
    tile = (low[gaussians, 1] + place // width) * across + low[gaussians, 0] + place % width
    keys, order = torch.sort((tile << 32) | depths.view(torch.int32)[gaussians].long(), stable=True)
    return keys, gaussians[order].int()


@numba.njit(nogil=True, cache=True)
def _search(first, last, transmittance, centres, conics, opacities, offsets, members, gaussians, pixels, write):
    height, width = transmittance.shape
    across = offsets.shape[1]
    starts = offsets.ravel()
    block = _TILE * _TILE
    found = 0
    for y in range(height):
        for x in range(width):
            tile = (y // _TILE) * across + x // _TILE
            end = starts[tile + 1] if tile + 1 < starts.shape[0] else members.shape[0]
            remaining = transmittance[y, x]
            for k in range(starts[tile] + first * block, min(end, starts[tile] + last * block)):
                g = members[k]
                dx = centres[g, 0] - np.float32(x + 0.5)
                dy = centres[g, 1] - np.float32(y + 0.5)
                sigma = np.float32(0.5) * (conics[g, 0] * dx * dx + conics[g, 2] * dy * dy) + conics[g, 1] * dx * dy
                alpha = min(np.float32(0.999), opacities[g] * math.exp(-sigma))
                if sigma < 0 or alpha < np.float32(1 / 255):
                    continue
                after = remaining * (np.float32(1) - alpha)
                if after <= np.float32(1e-4):
                    break
                if write:
                    gaussians[found] = g
                    pixels[found] = y * width + x
                found += 1
                remaining = after
    return found


def _indices_in_range(
    first, last, transmittances, means2d, conics, opacities, width, height, tile_size, offsets, flatten_ids
):
    assert tile_size == _TILE
    arrays = [
        tensor[0].detach().contiguous().numpy() for tensor in (transmittances, means2d, conics, opacities, offsets)
    ]
    arguments = (first, last, *arrays, flatten_ids.numpy())
    nothing = np.empty(0, np.int64)
    count = _search(*arguments, nothing, nothing, False)
    gaussians, pixels = np.empty(count, np.int64), np.empty(count, np.int64)
    _search(*arguments, gaussians, pixels, True)
    return torch.from_numpy(gaussians), torch.from_numpy(pixels), torch.zeros(count, dtype=torch.int64)


@numba.njit(nogil=True, cache=True)
def _exclusive_product(alphas, rays, out):
    product = np.float32(1)
    for i in range(alphas.shape[0]):
        if i == 0 or rays[i] != rays[i - 1]:
            product = np.float32(1)
        out[i] = product
        product *= np.float32(1) - alphas[i]


@numba.njit(nogil=True, cache=True)
def _exclusive_product_backward(alphas, rays, products, grads, out):
    later = np.float32(0)
    last = alphas.shape[0] - 1
    for k in range(alphas.shape[0]):
        i = last - k
        if i == last or rays[i] != rays[i + 1]:
            later = np.float32(0)
        out[i] = -later / (np.float32(1) - alphas[i])
        later += grads[i] * products[i]


class _Transmittance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, alphas, rays):
        products = torch.empty_like(alphas)
        _exclusive_product(alphas.detach().numpy(), rays.numpy(), products.numpy())
        ctx.save_for_backward(alphas, rays, products)
        return products

    @staticmethod
    def backward(ctx, grads):
        alphas, rays, products = ctx.saved_tensors
        out = torch.empty_like(alphas)
        arrays = (alphas.detach(), rays, products, grads.contiguous(), out)
        _exclusive_product_backward(*(tensor.numpy() for tensor in arrays))
        return out, None


def _weights_from_alpha(alphas: Tensor, ray_indices: Tensor, n_rays: int) -> tuple[Tensor, Tensor]:
    transmittance = _Transmittance.apply(alphas, ray_indices)
    return transmittance * alphas, transmittance


def _sum_along_rays(weights: Tensor, values: Tensor | None, ray_indices: Tensor, n_rays: int) -> Tensor:
    addends = weights[:, None] if values is None else weights[:, None] * values
    return torch.zeros(n_rays, addends.shape[1]).index_add(0, ray_indices, addends)
