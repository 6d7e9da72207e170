"""The CPU backend: the numba kernels as one differentiable torch function.

`draw` renders B images; gradients flow to the five tensors of the Gaussians, to the cameras' extrinsics and to the
background. Forward and backward are deterministic to the bit for any number of threads.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from raflib.render import threads
from raflib.render.constants import TILE_HEIGHT, TILE_WIDTH
from raflib.render.project import SPLAT_COLUMNS, lens_of, project
from raflib.render.project_backward import project_backward
from raflib.render.raster import forward_kernel
from raflib.render.raster_backward import backward_kernel, gather
from raflib.render.sort import assign_slots, list_tiles, sort_by_depth

_BLOCK = 4096  # Gaussians a part: fixed, so that sums over a block do not depend on the number of threads


@dataclass
class _Frame:
    """Results of one image's forward pass that its backward pass needs (see the kernels for shapes)."""

    view: np.ndarray
    lens: np.ndarray
    splats: np.ndarray
    boxes: np.ndarray
    tiles: np.ndarray
    first_slot: np.ndarray
    tile_order: np.ndarray
    tile_starts: np.ndarray
    pair_gaussians: np.ndarray
    pair_slots: np.ndarray


def _prepare(arrays, width, height, antialiased, blur) -> _Frame:
    """Project, sort and list one image's Gaussians: their arrays without the colours, the extrinsic, the intrinsic."""
    means, quaternions, scales, opacities, extrinsic, intrinsic = arrays
    count = means.shape[0]
    view, lens = extrinsic.astype(np.float64), lens_of(intrinsic, width, height, blur)
    splats, boxes = np.empty((count, SPLAT_COLUMNS), np.float32), np.empty((count, 4), np.int32)
    depths, tiles = np.empty(count, np.float32), np.empty(count, np.int32)
    threads.run(
        project,
        threads.blocks(count, _BLOCK),
        *(means, quaternions, scales, opacities, view, lens, width, height, antialiased, splats, boxes, depths, tiles),
    )
    order, scratch, first_slot = np.empty(count, np.int32), np.empty(count, np.int32), np.empty(count, np.int64)
    visible = sort_by_depth(depths, tiles, order, scratch)
    pairs = assign_slots(tiles, first_slot)
    across, down = -(-width // TILE_WIDTH), -(-height // TILE_HEIGHT)
    tile_starts = np.zeros(across * down + 1, np.int64)
    pair_gaussians, pair_slots = np.empty(pairs, np.int32), np.empty(pairs, np.int64)
    list_tiles(order, visible, boxes, first_slot, across, tile_starts, pair_gaussians, pair_slots)
    tile_order = np.argsort(-np.diff(tile_starts), kind="stable")  # fullest first, so that threads finish together
    return _Frame(view, lens, splats, boxes, tiles, first_slot, tile_order, tile_starts, pair_gaussians, pair_slots)


def _tile_parts(frame: _Frame) -> list[tuple[int, int]]:
    """Interleaved shares of the tiles, several for each thread, so that no thread waits long for another."""
    count = threads.thread_count()
    step = min(4 * count, len(frame.tile_order)) if count > 1 else 1
    return [(first, step) for first in range(step)]


class _Draw(torch.autograd.Function):
    """`draw` as a torch function, with the same inputs and outputs."""

    @staticmethod
    def forward(
        ctx,
        means,
        quaternions,
        scales,
        opacities,
        features,
        extrinsics,
        intrinsics,
        background,
        height,
        width,
        antialiased,
        blur,
    ):
        arrays = [_array(tensor) for tensor in (means, quaternions, scales, opacities, features)]
        behind = _array(background)
        batch, channels = features.shape[0], features.shape[2]
        strides = (width * channels, channels) if behind.ndim == 3 else (0, 0)
        image = np.empty((batch, height, width, channels), np.float32)
        transmittance = np.empty((batch, height, width), np.float32)
        frames = []
        for b in range(batch):
            own = *(array[b] for array in arrays[:4]), _array(extrinsics)[b], _array(intrinsics)[b]
            frame = _prepare(own, width, height, antialiased, blur)
            threads.run(
                forward_kernel(channels),
                _tile_parts(frame),
                *(frame.tile_order, frame.tile_starts, frame.pair_gaussians, frame.splats, frame.boxes, arrays[4][b]),
                *(behind.reshape(-1), *strides, image[b], transmittance[b]),
            )
            frames.append(frame)
        kept = torch.from_numpy(image), torch.from_numpy(transmittance)
        ctx.save_for_backward(means, quaternions, scales, opacities, features, background, *kept)
        ctx.frames, ctx.antialiased = frames, antialiased
        return kept[0], 1.0 - kept[1][..., None]

    @staticmethod
    @once_differentiable
    def backward(ctx, image_grad, alpha_grad):
        *gaussians, background, image, transmittance = ctx.saved_tensors
        arrays = [_array(tensor) for tensor in gaussians]
        grads = [np.empty(array.shape, np.float32) for array in arrays]
        image_grads, alpha_grads = _array(image_grad), _array(alpha_grad)[..., 0]
        view_grads = torch.zeros(len(ctx.frames), 4, 4)
        for b, frame in enumerate(ctx.frames):
            view_grad = _frame_backward(
                frame,
                [array[b] for array in arrays],
                *(_array(image)[b], _array(transmittance)[b], image_grads[b], alpha_grads[b]),
                *([grad[b] for grad in grads], ctx.antialiased),
            )
            view_grads[b, :3] = torch.from_numpy(view_grad)
        background_grad = None
        if ctx.needs_input_grad[7]:
            background_grad = (transmittance[..., None] * image_grad).sum(0)
            if background.ndim == 1:
                background_grad = background_grad.sum((0, 1))
        return *(torch.from_numpy(grad) for grad in grads), view_grads, None, background_grad, None, None, None, None


def _frame_backward(frame, arrays, image, transmittance, image_grad, alpha_grad, grads, antialiased) -> np.ndarray:
    """One image's gradients into `grads` (order of the Gaussians' fields); returns the extrinsic's [3,4]."""
    means, quaternions, scales, opacities, features = arrays
    count, channels = features.shape
    pair_grads = np.empty((len(frame.pair_slots), SPLAT_COLUMNS + channels), np.float32)
    threads.run(
        backward_kernel(channels),
        _tile_parts(frame),
        *(frame.tile_order, frame.tile_starts, frame.pair_gaussians, frame.pair_slots, frame.splats, frame.boxes),
        *(features, image, transmittance, image_grad, alpha_grad, pair_grads),
    )
    splat_grads = np.empty((count, SPLAT_COLUMNS), np.float32)
    parts = threads.blocks(count, _BLOCK)
    threads.run(gather, parts, frame.first_slot, frame.tiles, pair_grads, splat_grads, grads[4])
    view_grads = np.zeros((len(parts), 3, 4))
    threads.run(
        project_backward,
        [(*part, k) for k, part in enumerate(parts)],
        *(means, quaternions, scales, opacities, frame.view, frame.lens, antialiased, frame.tiles, splat_grads),
        *(*grads[:4], view_grads),
    )
    return view_grads.sum(0)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def draw(
    gaussians,
    extrinsics: Float[Tensor, "B 4 4"],
    intrinsics: Float[Tensor, "B 3 3"],
    height: int,
    width: int,
    background: Float[Tensor, "..."],
    antialiased: bool,
    blur: float,
) -> tuple[Float[Tensor, "B H W C"], Float[Tensor, "B H W 1"]]:
    """Images over the background ([C] or [H,W,C]) and their alpha; arguments as checked by `rasterize`."""
    return _Draw.apply(
        *(gaussians.means, gaussians.quaternions, gaussians.scales, gaussians.opacities, gaussians.features),
        *(extrinsics, intrinsics, background, height, width, antialiased, blur),
    )
