"""Backward rasterisation: gradients of every splat's centre, inverse covariance, opacity and features.

The tile is walked front to back again, as in `raster`. With w = αT the weight of a splat and g the gradient of the
pixel's colour, dL/dα = T (g·colour) - S / (1 - α), where S is what the splats and the background behind contribute to
the loss. S starts as the pixel's total and each splat takes its own part off, so nothing of the forward pass is stored
but its two images. The background needs no code of its own: it is part of the total.

Each (Gaussian, tile) pair writes its own row of gradients and `gather` adds the rows up in a fixed order; there are no
atomics, and results are the same bits for any number of threads.
"""

import functools

import numpy as np

from raflib.render.constants import MAX_ALPHA, TILE_HEIGHT
from raflib.render.kernels import njit
from raflib.render.project import CENTRE_X, CENTRE_Y, HALF_A, HALF_C, OPACITY, SPLAT_COLUMNS, B
from raflib.render.raster import (
    CHECK_EVERY,
    FEW_CHANNELS,
    ROW,
    aligned_buffer,
    attenuate,
    cells_under,
    clamped,
    coverage,
    pixel_at,
    start_transmittance,
    tile_box,
    tile_extent,
    unfinished_cells,
    vector_at,
)
from raflib.render.simd import LANES, any_lane, lane_index, lane_sum, load, select, splat, store

_MAX_ALPHA = np.float32(MAX_ALPHA)
_HALF = np.float32(0.5)
_TWO = np.float32(2.0)
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@functools.cache
def backward_kernel(channels: int):
    """The compiled backward kernel for images of `channels` channels (see `raster.forward_kernel`)."""

    blocked = channels > FEW_CHANNELS
    stride = LANES if blocked else ROW

    @njit
    def composite_backward(
        first,
        step,
        tile_order,
        tile_starts,
        pair_gaussians,
        pair_slots,
        splats,
        boxes,
        features,
        image,
        transmittance_image,
        image_grad,
        alpha_grad,
        pair_grads,
    ):
        """Fill pair_grads [pairs, 6 + C] for tiles tile_order[first::step].

        image [H,W,C] and transmittance_image [H,W] are the forward pass's; image_grad and alpha_grad [H,W] the loss's
        gradients. A row holds the gradients of centre x, y, Q00, Q01, Q11, opacity, then the features.
        """
        height, width = transmittance_image.shape
        transmittance, behind = aligned_buffer(TILE_HEIGHT * ROW), aligned_buffer(TILE_HEIGHT * ROW)
        colour_grads = aligned_buffer(TILE_HEIGHT * channels * ROW)
        behind[:], colour_grads[:] = _ZERO, _ZERO  # what overhangs a tile is read, and weighed by 0
        feature_sums = aligned_buffer(channels * LANES)
        row_numbers = np.arange(TILE_HEIGHT).astype(np.float32)
        zero, one, limit = splat(_ZERO), splat(_ONE), splat(_MAX_ALPHA)
        for place in range(first, tile_order.shape[0], step):
            tile = tile_order[place]
            begin, end = tile_starts[tile], tile_starts[tile + 1]
            if begin == end:
                continue
            left, top, columns, rows = tile_extent(tile, width, height)
            start_transmittance(transmittance, columns, rows)
            for y in range(rows):
                for x in range(columns):
                    row, column = top + y, left + x
                    total = -alpha_grad[row, column] * transmittance_image[row, column]
                    at = pixel_at(y, x, channels, blocked)
                    for c in range(channels):
                        gradient = image_grad[row, column, c]
                        colour_grads[at + c * stride] = gradient
                        total += gradient * image[row, column, c]
                    behind[y * ROW + x] = total
            open_cells = unfinished_cells(transmittance)
            for pair in range(begin, end):
                if (pair - begin) % CHECK_EVERY == CHECK_EVERY - 1 and open_cells != 0:
                    open_cells = unfinished_cells(transmittance)
                gaussian = pair_gaussians[pair]
                gradients = pair_grads[pair_slots[pair]]
                x0, x1, y0, y1 = tile_box(boxes, gaussian, left, top)
                if open_cells & cells_under(x0, x1, y0, y1) == 0:
                    gradients[:] = _ZERO
                    continue
                splat_row, colour = splats[gaussian], features[gaussian]
                half_a, b, opacity = splat_row[HALF_A], splat_row[B], splat_row[OPACITY]
                bend = splat(-splat_row[HALF_C])
                centre_x = splat_row[CENTRE_X] - np.float32(left) - _HALF
                centre_y = splat(splat_row[CENTRE_Y] - np.float32(top) - _HALF)
                sum_1, sum_x, sum_y = zero, zero, zero
                sum_xx, sum_xy, sum_yy = zero, zero, zero
                for c in range(channels):
                    store(feature_sums, c * LANES, zero)
                for x in range(x0 - x0 % LANES if blocked else x0, x1, LANES):
                    dx = lane_index() + (np.float32(x) - centre_x)
                    square, slope = dx * dx * (-half_a), dx * (-b)
                    for y in range(y0, y1):
                        at = y * ROW + x
                        dy = splat(row_numbers[y]) - centre_y
                        before = load(transmittance, at)
                        raw = coverage(opacity, square, slope, bend, dy)
                        alpha = clamped(raw, before)
                        weight = attenuate(transmittance, at, alpha, before)
                        if not any_lane(weight > zero):
                            continue
                        through = zero
                        first_plane = vector_at(y, x, channels, blocked)
                        for c in range(channels):
                            gradient = load(colour_grads, first_plane + c * stride)
                            through = through + gradient * colour[c]
                            store(feature_sums, c * LANES, load(feature_sums, c * LANES) + weight * gradient)
                        rest = load(behind, at) - weight * through
                        store(behind, at, rest)
                        alpha_gradient = before * through - rest / (one - alpha)
                        # The gradient of ln(raw alpha); a clamped alpha does not move.
                        log_grad = select((weight > zero) & (limit >= raw), alpha_gradient * raw, zero)
                        log_x = log_grad * dx
                        sum_1 += log_grad
                        log_y = log_grad * dy
                        sum_x += log_x
                        sum_y += log_y
                        sum_xx += log_x * dx
                        sum_xy += log_x * dy
                        sum_yy += log_y * dy
                m_x, m_y = lane_sum(sum_x), lane_sum(sum_y)
                gradients[0] = _TWO * half_a * m_x + b * m_y
                gradients[1] = _TWO * splat_row[HALF_C] * m_y + b * m_x
                gradients[2] = -_HALF * lane_sum(sum_xx)
                gradients[3] = -lane_sum(sum_xy)
                gradients[4] = -_HALF * lane_sum(sum_yy)
                gradients[5] = lane_sum(sum_1) / opacity
                for c in range(channels):
                    gradients[SPLAT_COLUMNS + c] = lane_sum(load(feature_sums, c * LANES))

    return composite_backward


@njit
def gather(first, last, first_slot, tiles, pair_grads, splat_grads, feature_grads):
    """Add up the pair gradients of Gaussians first..last-1 into splat_grads [N,6] and feature_grads [N,C]."""
    channels = feature_grads.shape[1]
    for i in range(first, last):
        splat_grads[i] = _ZERO
        feature_grads[i] = _ZERO
        for slot in range(first_slot[i], first_slot[i] + tiles[i]):
            for k in range(SPLAT_COLUMNS):
                splat_grads[i, k] += pair_grads[slot, k]
            for c in range(channels):
                feature_grads[i, c] += pair_grads[slot, SPLAT_COLUMNS + c]
