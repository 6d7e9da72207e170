"""A person's appearance: a painted texture over the atlas, and the ambient visibility of every point.

The texture is uint8 RGBA: colour stored as the square root of linear reflectance, alpha as specular strength. All
features are formulas of position on the mean head, so they are sharp at any size and follow the face when it moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float32, UInt8

from raflib.studio import hair
from raflib.studio.atlas import Atlas, atlas, smoothstep
from raflib.studio.clothing import beard_body, below_neckline
from raflib.studio.hair import Haircut
from raflib.studio.head_model import EYE_LEVEL, FACE_FRONT
from raflib.studio.look import Look
from raflib.studio.strands import Strands
from raflib.studio.visibility import visibility

Layer = tuple[np.ndarray, np.ndarray, np.ndarray | float]
"""How much of a layer covers each texel [R,C], its colour [3] or [R,C,3], and its specular strength."""


class Appearance:
    """Texture and ambient visibility of a person; each texture is made on first use (0.2 s for small images).

    `half` [512,512,4] and `full` [1024,1024,4] are the texture for small and large images; `shut` and `open` [P] are
    the ambient visibility of bust and hair with the mouth shut and open.
    """

    def __init__(self, look: Look, haircut: Haircut, points: Float32[np.ndarray, "V 3"], strands: Strands | None):
        self._look, self._haircut = look, haircut
        self.shut, self.open = visibility(points, strands)

    @cached_property
    def half(self) -> UInt8[np.ndarray, "512 512 4"]:
        """The texture for images in which a texel of `full` would be much smaller than a pixel."""
        return paint(self._look, self._haircut, 2)

    @cached_property
    def full(self) -> UInt8[np.ndarray, "1024 1024 4"]:
        """The texture at the atlas's own resolution."""
        return paint(self._look, self._haircut, 1)


def bump(value: np.ndarray, centre: float | int, width: float) -> np.ndarray:
    """A Gaussian bump of height 1."""
    return np.exp(-0.5 * ((value - centre) / width) ** 2)


@dataclass(frozen=True, eq=False)
class Places:
    """Coordinates of every texel that painting uses (metres): across from the middle, up from the eyes, behind them."""

    across: np.ndarray
    up: np.ndarray
    behind: np.ndarray


@lru_cache(maxsize=2)
def places(step: int) -> Places:
    """Painting coordinates of every `step`-th texel."""
    position = atlas(step).position
    up = EYE_LEVEL - position[..., 1]
    behind = position[..., 2] - FACE_FRONT
    return Places(np.abs(position[..., 0]), up, behind)


def paint(look: Look, haircut: Haircut, step: int = 1) -> UInt8[np.ndarray, "R C 4"]:
    """The texture of a person at every `step`-th texel of the atlas."""
    maps, at = atlas(step), places(step)
    colour, gloss = _skin(maps, at, look)
    layers = [_lips(maps, look), _beard(maps, look), _brows(maps, at, look)]
    layers += [_scalp(maps, look, haircut), _mouth(maps), _clothes(maps, at, look)]
    for amount, paint_colour, paint_gloss in layers:
        colour = colour + (paint_colour - colour) * amount[..., None]
        gloss = gloss + (paint_gloss - gloss) * amount
    stored = np.concatenate([np.sqrt(np.clip(colour, 0, 1)), gloss[..., None]], -1)
    return (stored * 255 + 0.5).astype(np.uint8)


def _skin(maps: Atlas, at: Places, look: Look) -> tuple[np.ndarray, np.ndarray]:
    face = at.behind < 0.06
    cheeks = bump(at.across, 0.043, 0.017) * bump(at.up, -0.040, 0.018)
    nose = bump(at.across, 0, 0.013) * bump(at.up, -0.038, 0.013)
    ears = maps.regions["ears"]
    flush = (0.75 * cheeks + 0.6 * nose) * face + 0.5 * ears
    tint = 1 + flush[..., None] * np.array([0.02, -0.13, -0.12])
    tint *= 1 + (0.050 * maps.blotches + 0.045 * maps.pores)[..., None] * np.array([0.5, 1.0, 1.1])
    hollow = bump(at.across, 0.031, 0.017) * bump(at.up, -0.013, 0.008) * face
    tint *= 1 - (0.10 + 0.10 * (look.age - 0.6)) * hollow[..., None] * np.array([0.6, 1.0, 0.8])
    tint *= 1 - 0.16 * maps.regions["eyelids"][..., None] * np.array([0.8, 1.0, 1.0])
    spots = smoothstep(maps.pores, 0.45, 0.75) * look.freckles * (cheeks + nose + 0.1) * face
    tint *= 1 - spots[..., None] * np.array([0.18, 0.34, 0.42])
    tint *= 1 - (0.55 * _moles(maps, look))[..., None] * np.array([0.75, 1.0, 1.1])
    shade = 0.07 * bump(at.across, 0.0165, 0.006) * bump(at.up, 0.0, 0.010) * face  # beside the bridge of the nose
    shade = shade + 0.10 * bump(at.across, 0.019, 0.004) * bump(at.up, -0.041, 0.006) * face  # around its wings
    tint *= 1 - shade[..., None] * np.array([0.6, 1.0, 1.0])
    shine = 0.30 + 0.16 * bump(at.across, 0, 0.03) * face * (at.up > -0.06)
    return look.skin * tint, shine + 0.05 * maps.pores


def _moles(maps: Atlas, look: Look) -> np.ndarray:
    """Small dark spots on the mean head, at places that depend on the person."""
    places = np.random.default_rng(int(look.moles * 1e6)).uniform([-0.06, -0.03], [0.06, 0.09], (12, 2))
    across, down = maps.position[..., 0], maps.position[..., 1]
    total = np.zeros(across.shape)
    for number, (x, y) in enumerate(places[: int(12 * look.moles)]):
        distance = np.hypot(across - x, down - y) / (0.0007 + 0.00012 * (number % 5))
        total = np.maximum(total, smoothstep(1.4 - distance, 0, 0.8))
    return total * (maps.position[..., 2] < -0.02)


def _lips(maps: Atlas, look: Look) -> Layer:
    amount = smoothstep(maps.regions["lips"], 0.20, 0.90) * (0.40 + 0.42 * look.lip_colour)
    rosy = look.skin * np.array([0.80, 0.47, 0.50]) + np.array([0.030, 0.0, 0.010]) * look.lip_colour
    crease = 1 + 0.05 * maps.pores[..., None]
    return amount, rosy * crease, 0.55


def _beard(maps: Atlas, look: Look) -> Layer:
    lips = smoothstep(maps.regions["lips"], 0.05, 0.5)
    body = beard_body(maps.position, 0.004 * maps.blotches) * (1 - lips)
    grain = 0.74 + 0.08 * maps.strands + 0.26 * maps.pores + 0.10 * maps.strokes
    grown = np.clip(body * look.beard * grain, 0, 1) * (0.45 + 0.50 * look.beard)
    shaved = 0.22 * body * look.stubble * (0.8 + 0.5 * maps.pores)
    return np.maximum(grown, shaved), look.hair * 0.9 + 0.008, 0.12


def _brows(maps: Atlas, at: Places, look: Look) -> Layer:
    along = np.clip((at.across - 0.0125) / 0.0445, 0, 1)
    line = 0.0150 + look.brow_height + 0.0075 * look.brow_arch * np.sin(np.pi * 0.80 * along) - 0.003 * along
    thickness = 0.0056 * look.brow_thickness * (1 - 0.70 * along**1.6)
    distance = np.abs(at.up - line + 0.0006 * maps.blotches) / thickness
    body = smoothstep(1.25 - distance, 0, 0.75)
    body *= smoothstep(at.across, 0.0110, 0.0170) * smoothstep(0.0600 - at.across, 0, 0.010) * (at.behind < 0.03)
    amount = np.clip(body * (0.80 + 0.42 * maps.strokes), 0, 1) * 0.86
    colour = look.hair * 1.1 if look.hair.mean() < 0.2 else look.hair * 0.55
    return amount, colour + 0.006, 0.10


def _scalp(maps: Atlas, look: Look, cut: Haircut) -> Layer:
    distance = hair.growth(maps.position, cut) + 0.0028 * maps.strands + 0.0022 * maps.pores + 0.0018 * maps.blotches
    amount = smoothstep(distance, -0.004, 0.012 if cut.locks else 0.028) * cut.density
    amount *= 1 - np.clip(maps.regions["ears"] * 3, 0, 1)
    amount *= (np.hypot(maps.position[..., 0], maps.position[..., 2] - 0.01) > 0.045) | (maps.position[..., 1] < -0.09)
    ear = smoothstep(np.abs(maps.position[..., 0]), 0.0790, 0.0815) * (maps.position[..., 1] > -0.045)
    amount *= 1 - ear
    shade = 1.0 + 0.34 * maps.strands + 0.12 * maps.blotches
    return amount, look.hair * np.clip(shade, 0.4, 1.6)[..., None], 0.17


def _mouth(maps: Atlas) -> Layer:
    return maps.regions["mouth"], np.array([0.42, 0.15, 0.14]), 0.45


def _clothes(maps: Atlas, at: Places, look: Look) -> Layer:
    below = below_neckline(maps.position, look)
    amount = smoothstep(below, -0.0010, 0.0012) * (at.up < -0.10)
    collar = smoothstep(0.016 - below, 0, 0.0015)
    rib = 1 - 0.30 * bump(below, 0.016, 0.0010) - 0.10 * collar * np.sin(np.arctan2(at.across, at.behind - 0.1) * 160)
    bands = 1 - 0.45 * look.stripes * smoothstep(np.sin(at.up * 500), -0.1, 0.1) * (1 - collar)
    weave = 1 + 0.05 * maps.blotches + 0.05 * maps.pores
    return amount, look.cloth * (rib * weave * bands)[..., None], 0.04
