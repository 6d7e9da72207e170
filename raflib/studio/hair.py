"""Haircuts: volume on the scalp for short hair, and a hanging shell of its own for long hair.

Everything is written in the mean head's space (metres) and carried to a person by the size of their skull, so that a
cut is a handful of numbers. `coverage` is the painted half: where hair grows, with a soft, stranded hairline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from raflib.studio.atlas import value_noise
from raflib.studio.model import head_model

EYE_LEVEL = -0.012
ROWS, COLUMNS = 20, 72


@dataclass(frozen=True)
class Haircut:
    """A cut in numbers; lengths in metres."""

    name: str
    thickness: float  # on the crown
    density: float  # share of the scalp that it hides
    curl: float  # height of the bumps of its surface
    length: float  # metres below the eyes where the shell ends; 0 means no shell
    opening: float  # degrees from the face's middle at which a shell starts beside the eyes
    hairline: float  # metres, raises the front hairline
    temples: float  # 0 straight .. 1 receding
    phase: float  # seed of the noise


CUTS = {
    "shaved": (0.0005, 0.42, 0.0, 0.0),
    "short": (0.006, 0.96, 0.0012, 0.0),
    "full": (0.014, 1.0, 0.003, 0.0),
    "curls": (0.018, 1.0, 0.005, 0.0),
    "bob": (0.011, 1.0, 0.002, 0.085),
    "long": (0.011, 1.0, 0.002, 0.185),
}


def draw(generator: np.random.Generator, gender: float, colour: np.ndarray, african: float) -> Haircut:
    """A haircut with odds that depend loosely on who wears it."""
    curly = 0.2 + 0.35 * african
    feminine = {"shaved": 0.03, "short": 0.10, "full": 0.14, "curls": curly, "bob": 0.27, "long": 0.36}
    masculine = {"shaved": 0.20, "short": 0.40, "full": 0.30, "curls": 0.5 * curly, "bob": 0.02, "long": 0.04}
    lean = float(np.clip((gender - 0.35) / 0.3, 0, 1))
    odds = np.array([(1 - lean) * feminine[name] + lean * masculine[name] for name in CUTS])
    name = str(generator.choice(list(CUTS), p=odds / odds.sum()))
    thickness, density, curl, length = CUTS[name]
    return Haircut(
        name=name,
        thickness=thickness * float(generator.uniform(0.75, 1.3)),
        density=density,
        curl=curl * float(generator.uniform(0.6, 1.4)),
        length=length * float(generator.uniform(0.85, 1.15)),
        opening=float(generator.uniform(66, 80)),
        hairline=float(generator.normal() * 0.004),
        temples=float(generator.uniform(0, 1) * (0.3 + 0.7 * gender)),
        phase=float(generator.uniform(0, 50)),
    )


def growth(position: Float32[np.ndarray, "*n 3"], haircut: Haircut) -> Float32[np.ndarray, "*n"]:
    """Signed distance (metres, about) to the hairline on the mean head: positive where hair grows."""
    across = np.abs(position[..., 0])
    up = EYE_LEVEL - position[..., 1]
    behind = position[..., 2] + 0.075
    recession = haircut.temples * 0.014 * np.exp(-(((across - 0.040) / 0.017) ** 2))
    front = up - (0.071 + haircut.hairline + recession - 3.0 * across**2 - 160 * np.maximum(0, across - 0.030) ** 3)
    side = np.minimum(behind - 0.052 - 0.25 * np.maximum(0, -up), up + 0.045 + 0.45 * np.minimum(0, 0.11 - behind))
    return np.maximum(front, np.minimum(side, up + 0.085)).astype(np.float32)


def thicken(skin: Float32[np.ndarray, "V 3"], haircut: Haircut) -> Float32[np.ndarray, "V 3"]:
    """The neutral points with the scalp moved outwards by the hair, tapering to nothing at the hairline."""
    model = head_model()
    mean = model.mean
    centre = np.array([0, -0.045, 0.02], np.float32)
    outwards = mean - centre
    radius = np.linalg.norm(outwards, axis=1, keepdims=True)
    to_ear = np.linalg.norm((mean - np.array([0, 0.0, 0.005])) * [0, 1, 1], axis=1)
    ear = np.clip((to_ear - 0.024) / 0.030, 0, 1) ** np.where(np.abs(mean[:, 0]) > 0.055, 1.0, 0.0)
    ramp = np.clip((growth(mean, haircut) + 0.002) / 0.030, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp) * model.head * (radius[:, 0] > 0.06) * ear
    above = np.clip((EYE_LEVEL - mean[:, 1] - 0.01) / 0.07, 0, 1)
    bumps = value_noise(mean + np.float32(haircut.phase), 42, 7)
    amount = ramp * (haircut.thickness * (0.5 + 0.7 * above) + haircut.curl * bumps)
    return (skin + outwards / radius * amount[:, None]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Shell:
    """Long hair: points [H,3] (world metres), triangles, `flow` [H,2] (around, down), share of the head bone."""

    points: Float32[np.ndarray, "H 3"]
    triangles: Int32[np.ndarray, "G 3"]
    flow: Float32[np.ndarray, "H 2"]
    head_share: Float32[np.ndarray, "H"]


def shell(skin: Float32[np.ndarray, "V 3"], haircut: Haircut) -> Shell | None:
    """The hanging surface of a long cut, or None for a short one."""
    if haircut.length <= 0:
        return None
    down = np.linspace(0, 1, ROWS, dtype=np.float32)[:, None]
    top, bottom = -0.088, EYE_LEVEL + haircut.length
    y = top + (bottom - top) * down
    start = np.deg2rad(haircut.opening + 10 * np.clip((-0.02 - y) / 0.06, 0, 1))
    around = start + (2 * np.pi - 2 * start) * np.linspace(0, 1, COLUMNS, dtype=np.float32)[None]
    # Starts under the cap of `thicken`, comes out around the ears, hangs and narrows behind the neck.
    tucked = np.clip((y - top) / 0.06, 0, 1)
    tucked = tucked * tucked * (3 - 2 * tucked)
    fall, backness = np.clip((y - 0.02) / 0.15, 0, 1), np.clip(-np.cos(around), 0, 1)
    width = 0.066 + (0.019 + haircut.thickness) * tucked + 0.006 * fall
    depth = 0.085 + (0.014 + haircut.thickness) * tucked - 0.022 * fall * backness
    clumps = value_noise(np.stack([around * 5, y * 9 + 0 * around, 0 * around + haircut.phase], -1), 1, 8)
    waves = np.sin(around * 9 + haircut.phase + y * 70) + 0.5 * np.sin(around * 23 + y * 40)
    ripple = haircut.curl * (clumps + 0.6 * waves) * tucked
    x = (width + ripple) * np.sin(around)
    z = 0.010 - (depth + ripple) * np.cos(around)
    tips = value_noise(np.stack([around * 16, 0 * around, 0 * around + haircut.phase], -1), 1, 9)
    y = np.broadcast_to(y, around.shape) + 0.012 * tips * np.clip((down - 0.6) / 0.4, 0, 1)
    points = np.stack([x, y, z], -1).reshape(-1, 3).astype(np.float32)
    index = np.arange(ROWS * COLUMNS, dtype=np.int32).reshape(ROWS, COLUMNS)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    flow = np.stack([around, np.broadcast_to(down, around.shape)], -1).reshape(-1, 2).astype(np.float32)
    share = np.clip(1 - (points[:, 1] - 0.07) / 0.10, 0.35, 1).astype(np.float32)
    return Shell(_to_skull(points, skin), triangles, flow, share)


def _to_skull(points: np.ndarray, skin: np.ndarray) -> Float32[np.ndarray, "H 3"]:
    """Carry points of the mean head's space to a person: each axis scaled from skull box to skull box."""
    model = head_model()
    skull = model.head & (model.mean[:, 1] < 0.02) & (np.abs(model.mean[:, 0]) < 0.078) & (model.mean[:, 2] > -0.095)
    low, high = model.mean[skull].min(0), model.mean[skull].max(0)
    own_low, own_high = skin[skull].min(0), skin[skull].max(0)
    scale = (own_high - own_low) / (high - low)
    return ((points - low) * scale + own_low).astype(np.float32)
