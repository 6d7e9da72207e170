"""What this machine can do at most: matrix products, and the renderer's arithmetic on data that stays in the cache.

`matmul_flops` multiplies large float32 matrices. `bare_rates` runs the inner loops of the CPU renderer on one small
tile that every splat covers completely: no lists, no boxes, no vector that overhangs. `pairs_of` counts the pairs of
splat and pixel that the renderer evaluates for a frame: pixels in a splat's box, without those it skips as finished.
"""

import functools
import hashlib
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from raflib.render import compiled
from raflib.render.constants import MAX_ALPHA, TILE_HEIGHT, TILE_WIDTH
from raflib.render.kernels import STAMP
from raflib.render.project import CENTRE_X, CENTRE_Y, HALF_A, HALF_C, OPACITY, B
from raflib.render.raster import (
    CHECK_EVERY,
    FEW_CHANNELS,
    ROW,
    aligned_buffer,
    attenuate,
    cells_under,
    clamped,
    coverage,
    start_transmittance,
    tile_box,
    tile_extent,
    unfinished_cells,
    vector_at,
)
from raflib.render.simd import LANES, any_lane, lane_index, lane_sum, load, select, splat, store

_STAMP = hashlib.sha256(STAMP.encode() + Path(__file__).read_bytes()).hexdigest()
_HALF, _ZERO, _ONE = np.float32(0.5), np.float32(0.0), np.float32(1.0)
_MAX_ALPHA = np.float32(MAX_ALPHA)
SPLATS = 64
"""Splats of the bare loops. The light left behind them stays far above the limit at which a pixel is finished."""


def njit(function):
    """Compile as the renderer's kernels are; the kept code is renewed with them and with this file."""
    return compiled.njit(function, stamp=_STAMP, nogil=True, error_model="numpy")


def matmul_flops(now: Callable[[], float], device: torch.device, side: int = 2048, repeats: int = 7) -> float:
    """Floating-point operations a second of a float32 product of `side` × `side` matrices; `now` is in milliseconds."""
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    out = a @ b
    times = []
    for _ in range(repeats):
        started = now()
        torch.mm(a, b, out=out)
        times.append(now() - started)
    return 1e3 * 2 * side**3 / statistics.median(times)


def bare_rates(now: Callable[[], float], channels: int, repeats: int = 7) -> tuple[float, float]:
    """Pairs of splat and pixel a second of the bare forward and backward loop, on one thread."""
    rng = np.random.default_rng(0)
    splats = np.zeros((SPLATS, 6), np.float32)
    splats[:, CENTRE_X], splats[:, CENTRE_Y] = rng.uniform(0, TILE_WIDTH, SPLATS), 1
    splats[:, HALF_A], splats[:, HALF_C], splats[:, OPACITY] = 1e-5, 1e-5, 0.02  # nearly flat: no lane is below 1/255
    colours = rng.uniform(0, 1, (SPLATS, channels)).astype(np.float32)
    rows = 8 if channels <= FEW_CHANNELS else 1
    rates = []
    for kernel in (_bare_forward(channels, rows), _bare_backward(channels, rows)):
        kernel(splats, colours, 1)
        rounds, times = 200 if channels <= FEW_CHANNELS else 400, []
        for _ in range(repeats):
            started = now()
            kernel(splats, colours, rounds)
            times.append(now() - started)
        rates.append(1e3 * rounds * SPLATS * rows * TILE_WIDTH / statistics.median(times))
    return rates[0], rates[1]


@functools.cache
def _bare_forward(channels: int, rows: int):
    blocked = channels > FEW_CHANNELS
    stride = LANES if blocked else ROW

    @njit
    def bare_forward(splats, features, rounds):
        transmittance, colours = aligned_buffer(rows * ROW), aligned_buffer(rows * channels * ROW)
        colours[:] = _ZERO
        row_numbers = np.arange(rows).astype(np.float32)
        zero = splat(_ZERO)
        for _ in range(rounds):
            start_transmittance(transmittance, TILE_WIDTH, rows)
            for k in range(splats.shape[0]):
                row, colour = splats[k], features[k]
                half_a, b, opacity, bend = row[HALF_A], row[B], row[OPACITY], splat(-row[HALF_C])
                centre_x, centre_y = row[CENTRE_X] - _HALF, splat(row[CENTRE_Y] - _HALF)
                for x in range(0, TILE_WIDTH, LANES):
                    dx = lane_index() + (np.float32(x) - centre_x)
                    square, slope = dx * dx * (-half_a), dx * (-b)
                    for y in range(rows):
                        at = y * ROW + x
                        before = load(transmittance, at)
                        raw = coverage(opacity, square, slope, bend, splat(row_numbers[y]) - centre_y)
                        weight = attenuate(transmittance, at, clamped(raw, before), before)
                        if blocked and not any_lane(weight > zero):
                            continue
                        at = vector_at(y, x, channels, blocked)
                        for c in range(channels):
                            store(colours, at + c * stride, load(colours, at + c * stride) + weight * colour[c])
        return colours[0]

    return bare_forward


@functools.cache
def _bare_backward(channels: int, rows: int):
    blocked = channels > FEW_CHANNELS
    stride = LANES if blocked else ROW

    @njit
    def bare_backward(splats, features, rounds):
        transmittance, behind = aligned_buffer(rows * ROW), aligned_buffer(rows * ROW)
        colour_grads, feature_sums = aligned_buffer(rows * channels * ROW), aligned_buffer(channels * LANES)
        colour_grads[:] = _ONE
        row_numbers = np.arange(rows).astype(np.float32)
        zero, one, limit = splat(_ZERO), splat(_ONE), splat(_MAX_ALPHA)
        total = _ZERO
        for _ in range(rounds):
            start_transmittance(transmittance, TILE_WIDTH, rows)
            behind[:] = _ONE
            for k in range(splats.shape[0]):
                row, colour = splats[k], features[k]
                half_a, b, opacity, bend = row[HALF_A], row[B], row[OPACITY], splat(-row[HALF_C])
                centre_x, centre_y = row[CENTRE_X] - _HALF, splat(row[CENTRE_Y] - _HALF)
                sum_1, sum_x, sum_y = zero, zero, zero
                sum_xx, sum_xy, sum_yy = zero, zero, zero
                for c in range(channels):
                    store(feature_sums, c * LANES, zero)
                for x in range(0, TILE_WIDTH, LANES):
                    dx = lane_index() + (np.float32(x) - centre_x)
                    square, slope = dx * dx * (-half_a), dx * (-b)
                    for y in range(rows):
                        at = y * ROW + x
                        dy = splat(row_numbers[y]) - centre_y
                        before = load(transmittance, at)
                        raw = coverage(opacity, square, slope, bend, dy)
                        alpha = clamped(raw, before)
                        weight = attenuate(transmittance, at, alpha, before)
                        if not any_lane(weight > zero):
                            continue
                        through, plane = zero, vector_at(y, x, channels, blocked)
                        for c in range(channels):
                            gradient = load(colour_grads, plane + c * stride)
                            through = through + gradient * colour[c]
                            store(feature_sums, c * LANES, load(feature_sums, c * LANES) + weight * gradient)
                        rest = load(behind, at) - weight * through
                        store(behind, at, rest)
                        log_grad = before * through - rest / (one - alpha)
                        log_grad = select((weight > zero) & (limit >= raw), log_grad * raw, zero)
                        log_x, log_y = log_grad * dx, log_grad * dy
                        sum_1 += log_grad
                        sum_x += log_x
                        sum_y += log_y
                        sum_xx += log_x * dx
                        sum_xy += log_x * dy
                        sum_yy += log_y * dy
                total += lane_sum(sum_x + sum_y + sum_1) + lane_sum(sum_xx + sum_xy + sum_yy)
                for c in range(channels):
                    total += lane_sum(load(feature_sums, c * LANES))
        return total

    return bare_backward


def pairs_of(frame: object, height: int, width: int) -> int:
    """Pairs of splat and pixel that the renderer evaluates for a frame of `raflib.render.cpu`."""
    return int(_count(frame.tile_starts, frame.pair_gaussians, frame.splats, frame.boxes, height, width))


@njit
def _count(tile_starts, pair_gaussians, splats, boxes, height, width):
    """The renderer's loop without colours."""
    transmittance, total = aligned_buffer(TILE_HEIGHT * ROW), 0
    row_numbers = np.arange(TILE_HEIGHT).astype(np.float32)
    for tile in range(tile_starts.shape[0] - 1):
        left, top, columns, rows = tile_extent(tile, width, height)
        start_transmittance(transmittance, columns, rows)
        begin, open_cells = tile_starts[tile], unfinished_cells(transmittance)
        for pair in range(begin, tile_starts[tile + 1]):
            if (pair - begin) % CHECK_EVERY == CHECK_EVERY - 1:
                open_cells = unfinished_cells(transmittance)
                if open_cells == 0:
                    break
            gaussian = pair_gaussians[pair]
            x0, x1, y0, y1 = tile_box(boxes, gaussian, left, top)
            if open_cells & cells_under(x0, x1, y0, y1) == 0:
                continue
            total += (x1 - x0) * (y1 - y0)
            row = splats[gaussian]
            bend = splat(-row[HALF_C])
            centre_x = row[CENTRE_X] - np.float32(left) - _HALF
            centre_y = splat(row[CENTRE_Y] - np.float32(top) - _HALF)
            for x in range(x0, x1, LANES):
                dx = lane_index() + (np.float32(x) - centre_x)
                for y in range(y0, y1):
                    before = load(transmittance, y * ROW + x)
                    dy = splat(row_numbers[y]) - centre_y
                    raw = coverage(row[OPACITY], dx * dx * (-row[HALF_A]), dx * (-row[B]), bend, dy)
                    attenuate(transmittance, y * ROW + x, clamped(raw, before), before)
    return total
