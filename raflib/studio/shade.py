"""The shading kernel: visible triangles to colour and coverage, one image at a time.

`materials` gives each part's colour, `light` the light on it. A pixel's samples share one evaluation where they show
the same surface.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from raflib.studio.head_model import EYE, HAIR, LASHES
from raflib.studio.jit import njit
from raflib.studio.light import FILL, KEY, Light, arriving, hair_gleam, highlight, key_share
from raflib.studio.materials import albedo_of
from raflib.studio.vectors import Hit, blend_vector, dot, inverse_length, unit, vector

SAME_SURFACE = 0.012  # metres of depth within which samples of one part share their colour


class Samples(NamedTuple):
    """What `zbuffer.fill` found: the triangle and nearness of each sample, and the projected points.

    A pixel has `side`² samples; `x`, `y` (samples) and `nearness` (1/z) are of the N points.
    """

    face: Int32[np.ndarray, "sH sW"]
    depth: Float32[np.ndarray, "sH sW"]
    side: int
    x: Float32[np.ndarray, "N"]
    y: Float32[np.ndarray, "N"]
    nearness: Float32[np.ndarray, "N"]


class Body(NamedTuple):
    """The posed mesh in world metres; the last H points are hair, and `tangents` are theirs.

    `visible` is the ambient visibility of each point, `part` the part of each triangle (`model.SKIN` to `model.HAIR`).
    """

    points: Float32[np.ndarray, "N 3"]
    normals: Float32[np.ndarray, "N 3"]
    tangents: Float32[np.ndarray, "H 3"]
    visible: Float32[np.ndarray, "N"]
    triangles: Int32[np.ndarray, "F 3"]
    part: Int32[np.ndarray, "F"]


class Shaded(NamedTuple):
    """Scratch space for one pixel: the colours that its samples have so far, their parts and their depths (metres)."""

    colours: Float32[np.ndarray, "n 3"]
    parts: Int32[np.ndarray, "n"]
    depths: Float32[np.ndarray, "n"]
    albedo: Float32[np.ndarray, "4"]


def scratch(side: int) -> Shaded:
    """Scratch space for pixels of `side`² samples."""
    count = side * side
    kinds = (((count, 3), np.float32), (count, np.int32), (count, np.float32), (4, np.float32))
    return Shaded(*(np.empty(shape, kind) for shape, kind in kinds))


@njit
def shade(seen, body, paint, lamps, eye, shaded, image, alpha):
    """Write `image` [H,W,3] uint8 on white and its coverage `alpha` [H,W] uint8.

    Args:
        seen, body, paint, lamps: `Samples`, `Body`, `materials.Paint`, `Lamps`.
        eye: the camera's centre [3], world metres.
        shaded: scratch space for pixels of `seen.side`² samples.
    """
    height, width, side = image.shape[0], image.shape[1], seen.side
    one, zero, gain = np.float32(1.0), np.float32(0.0), np.float32(255.0)
    most = side * side
    for row in range(height):
        for column in range(width):
            red, green, blue, covered, known = zero, zero, zero, 0, 0
            for number in range(most):
                sample = (number + most // 2) % most  # the middle first: what is shaded once is shaded there
                sy, sx = row * side + sample // side, column * side + sample % side
                triangle = seen.face[sy, sx]
                if triangle < 0:
                    red, green, blue = red + one, green + one, blue + one
                    continue
                covered += 1
                z, part = one / seen.depth[sy, sx], body.part[triangle]
                index = same_surface(part, z, shaded, known)
                if index == known:
                    hit = hit_of(seen, body, triangle, sx, sy, z)
                    shade_hit(hit, part, body, paint, lamps, eye, shaded, known)
                    shaded.parts[known], shaded.depths[known] = part, z
                    known += 1
                red, green, blue = add(shaded.colours, index, red, green, blue)
            share = one / most
            image[row, column, 0] = int(red * share * gain + np.float32(0.5))
            image[row, column, 1] = int(green * share * gain + np.float32(0.5))
            image[row, column, 2] = int(blue * share * gain + np.float32(0.5))
            alpha[row, column] = int(covered * share * gain + np.float32(0.5))


@njit(inline=True)
def add(colours, index, red, green, blue):
    """A sum of colours with `colours[index]` added."""
    return red + colours[index, 0], green + colours[index, 1], blue + colours[index, 2]


@njit(inline=True)
def same_surface(part, z, shaded, known):
    """Which of a pixel's `known` colours a sample shares; `known` where it needs its own.

    Samples of eyes share none: iris and lid lines want every sample.
    """
    for earlier in range(known):
        if part != EYE and shaded.parts[earlier] == part and abs(shaded.depths[earlier] - z) < SAME_SURFACE:
            return earlier
    return known


@njit(inline=True)
def hit_of(seen, body, triangle, sx, sy, z):
    """The hit of the sample in column `sx` and row `sy`, at depth `z` (metres) on a triangle."""
    x, y, nearness = seen.x, seen.y, seen.nearness
    a, b, c = body.triangles[triangle, 0], body.triangles[triangle, 1], body.triangles[triangle, 2]
    cx, cy = sx + np.float32(0.5), sy + np.float32(0.5)
    area = (x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a])
    wa = ((x[b] - cx) * (y[c] - cy) - (x[c] - cx) * (y[b] - cy)) / area * nearness[a] * z
    wb = ((x[c] - cx) * (y[a] - cy) - (x[a] - cx) * (y[c] - cy)) / area * nearness[b] * z
    return Hit(triangle, a, b, c, wa, wb, np.float32(1.0) - wa - wb)


@njit(inline=True)
def shade_hit(hit, part, body, paint, lamps, eye, shaded, index):
    """The displayed colour of a hit into `shaded.colours[index]`."""
    one, zero = np.float32(1.0), np.float32(0.0)
    albedo, colours = shaded.albedo, lamps.colours
    point = blend_vector(body.points, hit)
    normal = unit(blend_vector(body.normals, hit), np.float32(1e-20))
    view = unit((eye[0] - point[0], eye[1] - point[1], eye[2] - point[2]), zero)
    facing = dot(normal, view)
    if part >= LASHES and facing < 0:  # thin parts are lit from whichever side is seen
        normal, facing = (-normal[0], -normal[1], -normal[2]), -facing
    facing = max(facing, zero)
    ambient = hit.wa * body.visible[hit.a] + hit.wb * body.visible[hit.b] + hit.wc * body.visible[hit.c]
    if part == EYE:
        ambient = np.float32(0.30) + np.float32(0.62) * ambient
    albedo_of(hit, part, paint, albedo)
    key = vector(lamps.directions, KEY)
    slope = dot(normal, key)
    lit = key_share(part, point, normal, slope, lamps)
    up = np.float32(0.5) - np.float32(0.5) * normal[1]
    light = Light(slope, dot(normal, vector(lamps.directions, FILL)), up, lit, ambient)
    halfway = (key[0] + view[0], key[1] + view[1], key[2] + view[2])
    scale = inverse_length(halfway, np.float32(1e-12))
    if part == HAIR:
        across = dot(hair_tangent(body, hit), halfway) * scale
        gleam = hair_gleam(across, albedo, light)
    else:
        gleam = highlight(dot(normal, halfway) * scale, part, albedo, light)
    edge = one - facing
    edge = edge * edge * edge
    sheen = edge * ambient * np.float32(0.05) * (np.float32(0.4) + up)
    for channel in range(3):
        light_here = arriving(channel, part, light, colours)
        value = albedo[channel] * light_here + gleam * colours[KEY, channel] + sheen
        # A soft shoulder keeps bright skin from clipping; the display curve is sRGB's power.
        value = value / (one + np.float32(0.28) * value) * np.float32(1.12)
        shaded.colours[index, channel] = min(one, value) ** np.float32(1 / 2.2)


@njit(inline=True)
def hair_tangent(body, hit):
    """Direction of the strand at a hit."""
    bust = body.points.shape[0] - body.tangents.shape[0]
    place = Hit(hit.triangle, hit.a - bust, hit.b - bust, hit.c - bust, hit.wa, hit.wb, hit.wc)
    return blend_vector(body.tangents, place)
