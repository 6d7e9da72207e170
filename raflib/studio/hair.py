"""Haircuts: where hair grows, how it is combed, and how much volume it adds to the scalp.

All lengths and places refer to the mean head (metres). `growth` is the hairline, which painting and locks share;
`strands` grows the locks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32

from raflib.studio.atlas import smoothstep, value_noise
from raflib.studio.head_model import EYE_LEVEL, FACE_FRONT, head_model


@dataclass(frozen=True)
class Haircut:
    """A cut in numbers; lengths in metres."""

    name: str
    locks: int  # ribbons of hair; 0: shaved, painted only
    steps: int  # pieces of a ribbon
    thickness: float  # volume over the scalp
    density: float  # share of the scalp that the painted roots hide
    length: float  # of locks on the crown
    sides: float  # of locks on the sides and the nape
    fade: float  # metres above the eyes where the crown's length begins
    width: float  # of a lock
    comb: tuple[float, float, float]  # away from the parting, down, back
    lift: float  # 0 flat on the head .. 1 standing off it
    hold: float  # how long a lock keeps its combed direction
    weight: float  # how fast it falls
    unruly: float  # spread of directions
    curl: float = 0.0  # half the width of waves
    wavelength: float = 0.05
    disorder: float = 1.0  # 0: waves side by side .. 1: every lock its own
    blunt: float = 0.6  # share of a lock before it begins to taper
    fringe: float = 0.0  # length of a fringe, 0: none
    tied: bool = False
    part: float = 0.0  # where the parting is, metres to the person's left
    hairline: float = 0.0  # raises the front hairline
    temples: float = 0.0  # 0 straight .. 1 receding
    opening: float = 0.064  # half the width of the face that long hair leaves free
    phase: float = 0.0  # seed of the noise


# name: locks, steps, thickness, density, length, sides, fade, width, comb, lift, hold, weight, unruly
_CUTS = {
    "shaved": (0, 0, 0.0008, 0.50, 0.0, 0.0, 0.060, 0.0, (0.0, 0.0, 0.0), 0.0, 0.0, 0.0, 0.0),
    "crop": (1500, 4, 0.008, 0.97, 0.024, 0.009, 0.055, 0.0060, (0.35, -0.3, -0.35), 0.30, 0.5, 0.10, 0.22),
    "sideswept": (1000, 6, 0.014, 1.0, 0.080, 0.016, 0.050, 0.0080, (1.0, -0.1, 0.25), 0.30, 0.8, 0.22, 0.10),
    "back": (1000, 6, 0.012, 1.0, 0.085, 0.020, 0.048, 0.0080, (0.1, -0.2, 1.0), 0.30, 1.0, 0.05, 0.08),
    "tousled": (1000, 6, 0.015, 1.0, 0.062, 0.028, 0.040, 0.0080, (0.7, -0.1, 0.05), 0.32, 0.5, 0.20, 0.30),
    "curls": (700, 7, 0.016, 1.0, 0.056, 0.046, 0.020, 0.0095, (0.6, -0.3, 0.5), 0.45, 0.5, 0.12, 0.40),
    "afro": (850, 5, 0.021, 1.0, 0.030, 0.027, 0.020, 0.0110, (0.2, 0.0, 0.1), 0.90, 0.2, 0.00, 0.55),
    "bob": (480, 8, 0.012, 1.0, 0.190, 0.120, 0.000, 0.0125, (1.0, 0.2, 0.35), 0.16, 0.6, 0.50, 0.06),
    "fringe": (500, 8, 0.012, 1.0, 0.200, 0.130, 0.000, 0.0125, (1.0, 0.2, 0.25), 0.16, 0.6, 0.50, 0.06),
    "long": (420, 8, 0.012, 1.0, 0.320, 0.250, 0.000, 0.0135, (1.0, 0.2, 0.35), 0.16, 0.6, 0.50, 0.06),
    "waves": (400, 10, 0.015, 1.0, 0.290, 0.220, 0.000, 0.0140, (1.0, 0.15, 0.30), 0.22, 0.6, 0.45, 0.10),
    "tied": (700, 8, 0.006, 1.0, 0.0, 0.0, 0.000, 0.0095, (0.0, 0.0, 1.0), 0.05, 1.0, 0.00, 0.03),
}
_MORE = {
    "tousled": {"curl": 0.003, "wavelength": 0.06},
    "curls": {"curl": 0.007, "wavelength": 0.032, "blunt": 0.8},
    "afro": {"curl": 0.006, "wavelength": 0.022, "blunt": 0.85},
    "bob": {"curl": 0.002, "wavelength": 0.12, "disorder": 0.1, "blunt": 0.85},
    "fringe": {"curl": 0.002, "wavelength": 0.12, "disorder": 0.1, "blunt": 0.8, "fringe": 0.060},
    "long": {"curl": 0.003, "wavelength": 0.16, "disorder": 0.1, "blunt": 0.7},
    "waves": {"curl": 0.007, "wavelength": 0.075, "disorder": 0.25, "blunt": 0.75},
    "tied": {"tied": True, "blunt": 0.9},
}
CUTS = {name: Haircut(name, *numbers, **_MORE.get(name, {})) for name, numbers in _CUTS.items()}

# How often people have each cut.
FEMININE = {
    "shaved": 0.02, "crop": 0.05, "sideswept": 0.06, "tousled": 0.06, "curls": 0.10, "bob": 0.17, "fringe": 0.14,
    "long": 0.16, "waves": 0.16, "tied": 0.16,
}  # fmt: skip
MASCULINE = {
    "shaved": 0.14, "crop": 0.26, "sideswept": 0.24, "back": 0.14, "tousled": 0.14, "curls": 0.08, "long": 0.03,
    "tied": 0.02,
}  # fmt: skip


def sample(generator: np.random.Generator, gender: float, african: float) -> Haircut:
    """A sampled haircut, whose odds depend loosely on gender and ancestry (both 0..1)."""
    lean = float(np.clip((gender - 0.35) / 0.3, 0, 1))
    odds = np.array([(1 - lean) * FEMININE.get(name, 0) + lean * MASCULINE.get(name, 0) for name in CUTS])
    names = list(CUTS)
    odds[names.index("curls")] += 0.30 * african
    odds[names.index("afro")] += 0.35 * african
    cut = CUTS[str(generator.choice(names, p=odds / odds.sum()))]
    side = float(generator.choice([-1, 1]))
    return replace(
        cut,
        thickness=cut.thickness * float(generator.uniform(0.8, 1.25)),
        length=cut.length * float(generator.uniform(0.8, 1.15)),
        sides=cut.sides * float(generator.uniform(0.75, 1.2)),
        curl=cut.curl * float(generator.uniform(0.6, 1.4)),
        part=side * float(generator.uniform(0.0, 0.034)),
        hairline=float(generator.normal() * 0.0035),
        temples=float(generator.uniform(0, 1) * (0.25 + 0.75 * gender)),
        opening=float(generator.uniform(0.052, 0.072)),
        phase=float(generator.uniform(0, 50)),
    )


def growth(position: Float[np.ndarray, "*n 3"], cut: Haircut) -> Float32[np.ndarray, "*n"]:
    """Signed distance (metres, about) to the hairline on the mean head: positive where hair grows."""
    across = np.abs(position[..., 0])
    up = EYE_LEVEL - position[..., 1]
    behind = position[..., 2] - FACE_FRONT
    corner = np.exp(-(((across - 0.043) / 0.012) ** 2))  # the hairline rises at the temples, then falls to the ears
    crown = up - (0.064 + cut.hairline + (0.004 + 0.014 * cut.temples) * corner)
    edge = 0.031 + 0.19 * np.clip(0.064 - up, 0, 0.075)  # of the temple, a little farther back where it is lower
    temple = np.minimum(np.minimum(behind - edge, across - 0.057), up + 0.011 - cut.hairline)
    front = _larger(crown, temple, 0.008)
    side = np.minimum(behind - 0.052 - 0.25 * np.maximum(0, -up), up + 0.045 + 0.45 * np.minimum(0, 0.11 - behind))
    return np.maximum(front, np.minimum(side, up + 0.085)).astype(np.float32)


def _larger(one: np.ndarray, other: np.ndarray, width: float) -> np.ndarray:
    """The larger of two distances, with the corner where they are equal rounded over `width` metres."""
    near = np.maximum(width - np.abs(one - other), 0) / width
    return np.maximum(one, other) + near**2 * (width / 4)


def thicken(skin: Float32[np.ndarray, "V 3"], cut: Haircut) -> Float32[np.ndarray, "V 3"]:
    """The neutral points with the scalp moved outwards by the roots' volume, which ends smoothly at the hairline."""
    model = head_model()
    mean = model.mean
    outwards = mean - np.array([0, -0.045, 0.02], np.float32)
    radius = np.linalg.norm(outwards, axis=1, keepdims=True)
    to_ear = np.linalg.norm((mean - np.array([0, 0.0, 0.005])) * [0, 1, 1], axis=1)
    ear = np.clip((to_ear - 0.024) / 0.030, 0, 1) ** np.where(np.abs(mean[:, 0]) > 0.055, 1.0, 0.0)
    ramp = smoothstep(growth(mean, cut), 0.004, 0.034) * model.head * (radius[:, 0] > 0.06) * ear
    bumps = 0.75 + 0.25 * value_noise(mean + np.float32(cut.phase), 42, 7)
    return (skin + outwards / radius * (ramp * 0.35 * cut.thickness * bumps)[:, None]).astype(np.float32)
