"""Light that reaches a point of a person, and what glints there, as compiled functions.

A key light with a soft shadow map, a broad fill, and a sky-like ambient light with baked visibility. Light wraps around
skin, red farther than blue: a cheap stand-in for light that scatters below the surface.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from raflib.studio.head_model import EYE, HAIR, SKIN, TEETH, TONGUE
from raflib.studio.jit import njit
from raflib.studio.vectors import dot, vector
from raflib.studio.zbuffer import FAR, soft_shadow

OFF_SURFACE = 0.004  # metres along the normal at which shadows are looked up, so that no surface shadows itself
KEY, FILL, SKY, GROUND = range(4)


class Lamps(NamedTuple):
    """Unit `directions` to key and fill, `colours` of key, fill, sky and ground, and the key's shadow map.

    The shadow map's axes are `frame`, its middle is the world point `centre`, and it has `scale` samples a metre.
    """

    directions: Float32[np.ndarray, "2 3"]
    colours: Float32[np.ndarray, "4 3"]
    shadow: Float32[np.ndarray, "S S"]
    frame: Float32[np.ndarray, "3 3"]
    centre: Float32[np.ndarray, "3"]
    scale: np.float32


class Light(NamedTuple):
    """Light at a hit.

    Attributes:
        slope, fill: cosines between the normal and the directions to key and fill.
        up: 1 where the normal points to the sky, 0 where it points to the ground.
        lit: share of the key light that no shadow takes.
        ambient: share of the surroundings that is seen from here.
    """

    slope: float
    fill: float
    up: float
    lit: float
    ambient: float


@njit(inline=True)
def key_share(part, point, normal, slope, lamps):
    """Share of the key light that reaches a point, 0..1, from the soft shadow map."""
    x = point[0] + normal[0] * np.float32(OFF_SURFACE) - lamps.centre[0]
    y = point[1] + normal[1] * np.float32(OFF_SURFACE) - lamps.centre[1]
    z = point[2] + normal[2] * np.float32(OFF_SURFACE) - lamps.centre[2]
    middle = np.float32(lamps.shadow.shape[0] * 0.5)
    column = dot(vector(lamps.frame, 0), (x, y, z)) * lamps.scale + middle
    row = dot(vector(lamps.frame, 1), (x, y, z)) * lamps.scale + middle
    nearness = dot(vector(lamps.frame, 2), (x, y, z)) + np.float32(FAR + 0.003)
    lit = np.float32(0.0)
    if slope > np.float32(-0.35):
        lit = soft_shadow(lamps.shadow, column, row, nearness, np.float32(0.010))
    if part in (TONGUE, TEETH):  # lamps reach into the mouth from more places than one
        lit = np.float32(0.55) + np.float32(0.45) * lit
    elif part == HAIR:  # light passes between strands
        lit = np.float32(0.45) + np.float32(0.55) * lit
    return lit


@njit(inline=True)
def arriving(channel, part, light, colours):
    """Diffuse light of one channel that arrives at a hit from key, fill, sky and ground."""
    one, zero = np.float32(1.0), np.float32(0.0)
    wrap = np.float32(0.38) - np.float32(0.09) * channel if part == SKIN else np.float32(0.30)
    key = max(zero, (light.slope + wrap) / (one + wrap))
    fill = max(zero, (light.fill + np.float32(0.5)) / np.float32(1.5))
    ambient = light.ambient
    if part == SKIN:  # occluded skin glows redder than grey: light that enters nearby comes out reddened
        ambient = ambient + (one - ambient) * ambient * (np.float32(0.34) - np.float32(0.14) * channel)
    sky = colours[SKY, channel] * light.up + colours[GROUND, channel] * (one - light.up)
    total = (
        colours[KEY, channel]
        * key
        * (np.float32(0.10) * ambient + np.float32(0.90) * light.lit)
        * (np.float32(0.35) + np.float32(0.65) * min(one, ambient * np.float32(1.6)))
    )
    return total + (sky + colours[FILL, channel] * fill) * ambient


@njit(inline=True)
def highlight(half, part, albedo, light):
    """The key's highlight (Blinn-Phong), `half` being the cosine between the normal and the half vector."""
    one, zero = np.float32(1.0), np.float32(0.0)
    half = max(zero, half)
    for _ in range(7 if part in (EYE, TEETH) else 4):  # to the power of 128 or 16
        half *= half
    gleam = albedo[3] * half * light.lit * min(one, max(zero, light.slope * 4)) * np.float32(0.30)
    return gleam * np.float32(3.0) if part == EYE else gleam


@njit(inline=True)
def hair_gleam(across, albedo, light):
    """The key's highlight on a strand, brightest where it lies across the half vector (Kajiya and Kay 1989).

    `across` is the cosine between the strand and the half vector.
    """
    across = across + np.float32(0.10) * (albedo[3] - np.float32(0.5))
    half = max(np.float32(0.0), np.float32(1.0) - across * across)
    for _ in range(5):
        half *= half
    return half * light.lit * light.ambient * (np.float32(0.05) + np.float32(0.30) * albedo[1]) * albedo[3]
