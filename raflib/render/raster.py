"""Forward rasterisation: tiles of splats composited front to back, sixteen pixels of a row at a time.

Inside a tile the loop runs over splats first and over the pixels of each splat's box second, so that a splat's numbers
stay in registers. The tile's transmittance and colours live in small buffers. With few channels a vector starts where
the splat's box starts (most boxes then need one), and colours are laid out [row][channel][x]; each row is one vector
longer than the tile, because vectors may overhang it: overhanging pixels have transmittance 0. With many channels most
time goes into moving colours, so vectors start at multiples of 16 pixels and the layout is [row][block][channel][16].

There are no branches per pixel. Where a pixel is finished (a splat would leave it no more than 1e-4 of the light) its
transmittance is stored with a minus sign: it renders nothing from then on, and its magnitude is still the answer.
"""

import functools

import numpy as np

from raflib.render import simd
from raflib.render.constants import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE, TILE_HEIGHT, TILE_WIDTH
from raflib.render.kernels import njit
from raflib.render.project import CENTRE_X, CENTRE_Y, HALF_A, HALF_C, OPACITY, B
from raflib.render.simd import LANES, any_lane, lane_index, load, select, splat, store

ROW = TILE_WIDTH + LANES
BLOCKS = TILE_WIDTH // LANES
FEW_CHANNELS = 4  # up to here colours are laid out by rows and empty weights are not skipped
CELL_HEIGHT = TILE_HEIGHT // 4
CHECK_EVERY = 32  # splats between two looks at which of the tile's cells are finished

_MAX_ALPHA = np.float32(MAX_ALPHA)
_MIN_ALPHA = np.float32(MIN_ALPHA)
_MIN_TRANSMITTANCE = np.float32(MIN_TRANSMITTANCE)
_HALF = np.float32(0.5)
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_LOWEST_EXPONENT = np.float32(-80.0)


@njit(inline=True)
def tile_extent(tile, width, height):
    """The tile's left and top pixel, and its width and height inside the image."""
    across = (width + TILE_WIDTH - 1) // TILE_WIDTH
    left, top = (tile % across) * TILE_WIDTH, (tile // across) * TILE_HEIGHT
    return left, top, min(TILE_WIDTH, width - left), min(TILE_HEIGHT, height - top)


@njit(inline=True)
def tile_box(boxes, gaussian, left, top):
    """The splat's pixel box, clipped to the tile and relative to it: x from, x to, y from, y to."""
    return (
        max(boxes[gaussian, 0] - left, 0),
        min(boxes[gaussian, 1] - left, TILE_WIDTH),
        max(boxes[gaussian, 2] - top, 0),
        min(boxes[gaussian, 3] - top, TILE_HEIGHT),
    )


@njit
def start_transmittance(transmittance, columns, rows):
    """1 at the tile's pixels inside the image, 0 elsewhere (nothing is ever rendered there)."""
    transmittance[:] = _ZERO
    for y in range(rows):
        for x in range(columns):
            transmittance[y * ROW + x] = _ONE


@njit
def unfinished_cells(transmittance):
    """Which of the tile's 4 × 4 cells (16 pixels wide, 4 high) still let light through: bit 4 · row + column."""
    zero = splat(_ZERO)
    cells = 0
    for y in range(TILE_HEIGHT):
        for column in range(TILE_WIDTH // LANES):
            if any_lane(load(transmittance, y * ROW + column * LANES) > zero):
                cells |= 1 << (y // CELL_HEIGHT * 4 + column)
    return cells


@njit(inline=True)
def cells_under(x0, x1, y0, y1):
    """The cells a non-empty box in the tile touches, as bits of `unfinished_cells`."""
    columns = (2 << ((x1 - 1) // LANES)) - (1 << (x0 // LANES))
    rows = (0x1111 << (y0 // CELL_HEIGHT * 4)) & (0x1111 >> (12 - (y1 - 1) // CELL_HEIGHT * 4))
    return columns * rows


@njit(inline=True)
def coverage(opacity, square, slope, bend, dy):
    """Sixteen pixels' unclamped alpha, opacity · exp(square + slope dy + bend dy²)."""
    return opacity * simd.exp(max(square + dy * (slope + dy * bend), splat(_LOWEST_EXPONENT)))


@njit(inline=True)
def clamped(raw, before):
    """Alpha as rendered: at most 0.999; 0 below 1/255 and at finished pixels."""
    drawn = (raw >= splat(_MIN_ALPHA)) & (before > splat(_ZERO))
    return select(drawn, min(raw, splat(_MAX_ALPHA)), splat(_ZERO))


@njit(inline=True)
def attenuate(transmittance, at, alpha, before):
    """Store the transmittance behind the splat and return the splat's weight, 0 where it ended the pixel instead."""
    weight = alpha * before
    after = before - weight
    open_ = abs(after) > splat(_MIN_TRANSMITTANCE)
    store(transmittance, at, select(open_, after, -before))
    return select(open_, weight, splat(_ZERO))


@njit(inline=True)
def aligned_buffer(size):
    """`size` float32 numbers starting at a cache line, so that an aligned vector never straddles two."""
    memory = np.empty(size + LANES, np.float32)
    start = (-memory.ctypes.data % (4 * LANES)) // 4
    return memory[start : start + size]


@njit(inline=True)
def vector_at(y, x, channels, blocked):
    """Index of channel 0 of the sixteen pixels from (y, x) on; x is a multiple of 16 if blocked."""
    if blocked:
        return (y * BLOCKS + x // LANES) * channels * LANES
    return y * channels * ROW + x


@njit(inline=True)
def pixel_at(y, x, channels, blocked):
    """Index of channel 0 of one pixel."""
    return vector_at(y, x, channels, blocked) + (x % LANES if blocked else 0)


@functools.cache
def forward_kernel(channels: int):
    """The compiled forward kernel for images of `channels` channels.

    The channel count is a constant of the kernel (its loops unroll), and the only thing a kernel is specialised on. The
    closure holds nothing but that integer, so numba's disk cache keeps one entry a count.
    """
    blocked = channels > FEW_CHANNELS
    stride = LANES if blocked else ROW

    @njit
    def composite(
        first,
        step,
        tile_order,
        tile_starts,
        pair_gaussians,
        splats,
        boxes,
        features,
        background,
        background_row,
        background_pixel,
        image,
        transmittance_image,
    ):
        """Draw tiles tile_order[first::step] into image [H,W,C] (over the background) and transmittance_image [H,W].

        background is flat float32; pixel (y, x) starts at y · background_row + x · background_pixel (both 0: a colour).
        """
        height, width = transmittance_image.shape
        transmittance = aligned_buffer(TILE_HEIGHT * ROW)
        colours = aligned_buffer(TILE_HEIGHT * channels * ROW)
        row_numbers = np.arange(TILE_HEIGHT).astype(np.float32)  # in memory: one instruction loads and repeats one
        zero = splat(_ZERO)
        for place in range(first, tile_order.shape[0], step):
            tile = tile_order[place]
            left, top, columns, rows = tile_extent(tile, width, height)
            start_transmittance(transmittance, columns, rows)
            colours[:] = _ZERO
            begin, end = tile_starts[tile], tile_starts[tile + 1]
            open_cells = unfinished_cells(transmittance)
            for pair in range(begin, end):
                if (pair - begin) % CHECK_EVERY == CHECK_EVERY - 1:
                    open_cells = unfinished_cells(transmittance)
                    if open_cells == 0:
                        break
                gaussian = pair_gaussians[pair]
                x0, x1, y0, y1 = tile_box(boxes, gaussian, left, top)
                if open_cells & cells_under(x0, x1, y0, y1) == 0:
                    continue
                splat_row, colour = splats[gaussian], features[gaussian]
                half_a, b, opacity = splat_row[HALF_A], splat_row[B], splat_row[OPACITY]
                bend = splat(-splat_row[HALF_C])
                # Relative to the tile before pixels are subtracted: small numbers lose fewer digits.
                centre_x = splat_row[CENTRE_X] - np.float32(left) - _HALF
                centre_y = splat(splat_row[CENTRE_Y] - np.float32(top) - _HALF)
                for x in range(x0 - x0 % LANES if blocked else x0, x1, LANES):
                    dx = lane_index() + (np.float32(x) - centre_x)
                    square, slope = dx * dx * (-half_a), dx * (-b)
                    for y in range(y0, y1):
                        at = y * ROW + x
                        before = load(transmittance, at)
                        alpha = clamped(
                            coverage(opacity, square, slope, bend, splat(row_numbers[y]) - centre_y), before
                        )
                        weight = attenuate(transmittance, at, alpha, before)
                        if blocked and not any_lane(weight > zero):
                            continue
                        at = vector_at(y, x, channels, blocked)
                        for c in range(channels):
                            store(colours, at + c * stride, load(colours, at + c * stride) + weight * colour[c])
            for y in range(rows):
                for x in range(columns):
                    remaining = abs(transmittance[y * ROW + x])
                    transmittance_image[top + y, left + x] = remaining
                    behind = (top + y) * background_row + (left + x) * background_pixel
                    at = pixel_at(y, x, channels, blocked)
                    for c in range(channels):
                        drawn = colours[at + c * stride]
                        image[top + y, left + x, c] = drawn + remaining * background[behind + c]

    return composite
