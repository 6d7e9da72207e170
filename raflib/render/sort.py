"""Lists of the Gaussians that each tile renders, front to back.

A stable radix sort by depth (ties keep the Gaussians' order), then a stable counting sort into tiles, so that the lists
depend on nothing but the input. Every (Gaussian, tile) pair also has a slot: Gaussian i owns the slots
`first_slot[i] … first_slot[i] + tiles[i] - 1`. The backward pass writes one gradient a slot, so that no two tiles ever
add to the same number.
"""

import numpy as np

from raflib.render.constants import TILE_HEIGHT, TILE_WIDTH
from raflib.render.kernels import njit
from raflib.render.simd import float_bits

_DIGIT_BITS = np.uint32(11)
_DIGIT_MASK = np.uint32(2047)
_PASSES = 3  # 3 × 11 bits cover a float32 whose sign bit is 0


@njit
def sort_by_depth(depths, tiles, order, scratch):
    """Fill the head of `order` (int32 [N]) with the visible Gaussians (tiles > 0), nearest first; returns how many.

    depths [N] float32 must be positive where visible (their bits then sort like the numbers); scratch is int32 [N].
    """
    visible = 0
    ends = np.zeros((_PASSES, 2048), np.int32)
    for i in range(depths.shape[0]):
        if tiles[i] > 0:
            scratch[visible] = i
            visible += 1
            key = float_bits(depths[i])
            for digit in range(_PASSES):
                ends[digit, (key >> (np.uint32(digit) * _DIGIT_BITS)) & _DIGIT_MASK] += 1
    source, target = scratch, order
    for digit in range(_PASSES):
        starts = ends[digit]
        total = 0
        for value in range(2048):
            count = starts[value]
            starts[value] = total
            total += count
        shift = np.uint32(digit) * _DIGIT_BITS
        for j in range(visible):
            i = source[j]
            value = (float_bits(depths[i]) >> shift) & _DIGIT_MASK
            target[starts[value]] = i
            starts[value] += 1
        source, target = target, source
    return visible  # an odd number of passes: the last one wrote into `order`


@njit
def assign_slots(tiles, first_slot):
    """Running sum of `tiles` into first_slot [N] int64; returns the number of (Gaussian, tile) pairs."""
    total = 0
    for i in range(tiles.shape[0]):
        first_slot[i] = total
        total += tiles[i]
    return total


@njit
def list_tiles(order, visible, boxes, first_slot, tiles_across, tile_starts, pair_gaussians, pair_slots):
    """Fill the tiles' lists: tile t renders the pairs `tile_starts[t] … tile_starts[t+1] - 1`, nearest first.

    tile_starts [tiles + 1] int64 must come in as zeros; pair_gaussians [pairs] int32; pair_slots [pairs] int64.
    """
    for rank in range(visible):
        i = order[rank]
        x0, x1, y0, y1 = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
        for row in range(y0 // TILE_HEIGHT, (y1 - 1) // TILE_HEIGHT + 1):
            for column in range(x0 // TILE_WIDTH, (x1 - 1) // TILE_WIDTH + 1):
                tile_starts[row * tiles_across + column + 1] += 1
    for tile in range(tile_starts.shape[0] - 1):
        tile_starts[tile + 1] += tile_starts[tile]
    cursor = tile_starts[:-1].copy()
    for rank in range(visible):
        i = order[rank]
        slot = first_slot[i]
        x0, x1, y0, y1 = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
        for row in range(y0 // TILE_HEIGHT, (y1 - 1) // TILE_HEIGHT + 1):
            for column in range(x0 // TILE_WIDTH, (x1 - 1) // TILE_WIDTH + 1):
                tile = row * tiles_across + column
                pair = cursor[tile]
                cursor[tile] = pair + 1
                pair_gaussians[pair] = i
                pair_slots[pair] = slot
                slot += 1
