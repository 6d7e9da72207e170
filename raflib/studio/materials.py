"""What each part of a person reflects: skin with its folds, eyes, hair and plain colours, as compiled functions.

A colour is linear RGB and a specular strength.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int8, Int32, UInt8

from raflib.studio.head_model import EYE, HAIR, LASHES, SKIN
from raflib.studio.jit import njit
from raflib.studio.vectors import Hit, blend

PUPIL, IRIS_RIM = 0.19, 0.455  # of the eyeball's radius


class Paint(NamedTuple):
    """What a person's parts look like without light.

    Attributes:
        local: mean-head positions (metres) of the bust, flow coordinates of hair.
        uv, uv_corners: places in the full atlas, and the three of each triangle.
        texture: square roots of RGB, and specular strength.
        scale: texels of `texture` and of `fold_maps` for each texel of the full atlas.
        fold_maps, fold_depths: groups of skin folds, and how deep each is, see `wrinkles`.
        palette: the iris, tongue, teeth, lashes and hair have one colour each; the row is the part's number.
        eyes, eye_radius: the eyeballs on the mean head (metres).
        strands: noise of hair strands.
    """

    local: Float32[np.ndarray, "N 3"]
    uv: Float32[np.ndarray, "U 2"]
    uv_corners: Int32[np.ndarray, "F 3"]
    texture: UInt8[np.ndarray, "R C 4"]
    scale: np.float32
    fold_maps: Int8[np.ndarray, "R C G"]
    fold_depths: Float32[np.ndarray, "G"]
    palette: Float32[np.ndarray, "6 3"]
    eyes: Float32[np.ndarray, "2 3"]
    eye_radius: np.float32
    strands: Float32[np.ndarray, "512"]


@njit(inline=True)
def albedo_of(hit, part, paint, out):
    """The colour of a part at a hit into `out` [4]."""
    if part == SKIN:
        skin_colour(hit, paint, out)
    elif part == EYE:
        side = 0 if paint.local[hit.a, 0] < 0 else 1
        x, y = blend(paint.local, 0, hit) - paint.eyes[side, 0], blend(paint.local, 1, hit) - paint.eyes[side, 1]
        eye_colour(x, y, paint.eye_radius, paint.palette[EYE], out)
    elif part == HAIR:
        hair_colour(blend(paint.local, 0, hit), blend(paint.local, 1, hit), paint.palette[HAIR], paint.strands, out)
    else:
        for channel in range(3):
            out[channel] = paint.palette[part, channel]
        out[3] = np.float32(0.35) if part < LASHES else np.float32(0.0)


@njit(inline=True)
def skin_colour(hit, paint, out):
    """The painted skin at a hit into `out` [4], darkened and reddened in its folds."""
    corners = paint.uv_corners[hit.triangle]
    place = Hit(hit.triangle, corners[0], corners[1], corners[2], hit.wa, hit.wb, hit.wc)
    x = blend(paint.uv, 0, place) * paint.scale - np.float32(0.5)
    y = blend(paint.uv, 1, place) * paint.scale - np.float32(0.5)
    texel(paint.texture, x, y, out)
    crease = one_plus(0.55, folds(paint.fold_maps, paint.fold_depths, x, y))
    out[0] *= np.float32(0.2) + np.float32(0.8) * crease  # light in a groove comes out redder
    out[1] *= crease
    out[2] *= crease


@njit(inline=True)
def cell(texture, x, y):
    """Row and column of the texel up left of (x, y), and the shares of its right and lower neighbours."""
    column = min(max(int(x), 0), texture.shape[1] - 2)
    row = min(max(int(y), 0), texture.shape[0] - 2)
    fx = min(max(x - column, np.float32(0.0)), np.float32(1.0))
    fy = min(max(y - row, np.float32(0.0)), np.float32(1.0))
    return row, column, fx, fy


@njit(inline=True)
def texel(texture, x, y, out):
    """Bilinear texture read at (x, y): linear RGB and specular strength into `out` [4]."""
    row, column, fx, fy = cell(texture, x, y)
    for channel in range(4):
        upper = texture[row, column, channel] * (1 - fx) + texture[row, column + 1, channel] * fx
        lower = texture[row + 1, column, channel] * (1 - fx) + texture[row + 1, column + 1, channel] * fx
        value = (upper * (1 - fy) + lower * fy) * np.float32(1 / 255)
        out[channel] = value * value if channel < 3 else value


@njit(inline=True)
def folds(maps, depths, x, y):
    """Skin folds at (x, y): the groups' maps [R,C,G] weighted by `depths`, read bilinearly."""
    row, column, fx, fy = cell(maps, x, y)
    total = np.float32(0.0)
    for group in range(maps.shape[2]):
        upper = maps[row, column, group] * (1 - fx) + maps[row, column + 1, group] * fx
        lower = maps[row + 1, column, group] * (1 - fx) + maps[row + 1, column + 1, group] * fx
        total += depths[group] * (upper * (1 - fy) + lower * fy)
    return total * np.float32(1 / 127)


@njit(inline=True)
def eye_colour(offset_x, offset_y, radius, iris, out):
    """Colour of the eyeball at an offset (metres, mean head) from its axis: pupil, iris with fibres, limbus, white."""
    ring = math.sqrt(offset_x * offset_x + offset_y * offset_y) / radius
    if ring < PUPIL:
        out[0] = out[1] = out[2] = np.float32(0.008)
    elif ring < IRIS_RIM:
        inside = (ring - PUPIL) / (IRIS_RIM - PUPIL)
        fibre = np.float32(0.85) + np.float32(0.22) * math.sin(26 * math.atan2(offset_y, offset_x) + 5 * inside)
        rim = min(np.float32(1.0), (np.float32(1.0) - inside) * 5 + np.float32(0.25))
        for channel in range(3):
            out[channel] = iris[channel] * fibre * rim * (np.float32(0.75) + np.float32(0.65) * inside)
    else:
        white = min(np.float32(1.0), (ring - np.float32(IRIS_RIM)) * 18)
        vein = min(max((ring - np.float32(0.6)) * 2, np.float32(0.0)), np.float32(1.0))
        out[0] = np.float32(0.22) + white * np.float32(0.60)
        out[1] = np.float32(0.20) + white * (np.float32(0.58) - np.float32(0.10) * vein)
        out[2] = np.float32(0.20) + white * (np.float32(0.57) - np.float32(0.10) * vein)
    out[3] = np.float32(0.5)


@njit(inline=True)
def hair_colour(around, down, colour, strands, out):
    """Colour of hair at its flow coordinates, streaked by the table `strands`; darker at the root, lighter at tips."""
    count = strands.shape[0]
    lock = strands[int(around * 97) % count]
    fine = strands[int(around * 1900 + down * 3) % count]
    broad = strands[int(around * 610 + down * 2 + 200) % count]
    shade = (one_plus(0.16, lock) * one_plus(0.20, fine) * one_plus(0.14, broad)) * (
        np.float32(0.72) + np.float32(0.38) * down
    )
    for channel in range(3):
        out[channel] = colour[channel] * shade
    out[3] = np.float32(0.5) + np.float32(0.35) * fine


@njit(inline=True)
def one_plus(amount, value):
    """1 + amount · value in single precision."""
    return np.float32(1.0) + np.float32(amount) * value
