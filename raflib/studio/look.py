"""Colours and painted features of a person: skin, hair, eyes, beard, brows, clothes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Linear RGB reflectances. Skin runs through these stops with growing melanin.
SKIN_STOPS = np.array([[0.86, 0.60, 0.48], [0.72, 0.45, 0.32], [0.47, 0.26, 0.155], [0.20, 0.100, 0.060]])
HAIR_COLOURS = np.array(
    [[0.020, 0.015, 0.013], [0.045, 0.024, 0.014], [0.11, 0.055, 0.026], [0.30, 0.18, 0.085], [0.19, 0.055, 0.020],
     [0.36, 0.34, 0.32]]
)  # fmt: skip
IRIS_COLOURS = np.array([[0.12, 0.055, 0.022], [0.055, 0.026, 0.013], [0.12, 0.20, 0.30], [0.13, 0.17, 0.075]])
CLOTHES = np.array(
    [[0.06, 0.09, 0.17], [0.28, 0.07, 0.07], [0.40, 0.39, 0.37], [0.035, 0.035, 0.04], [0.08, 0.20, 0.15],
     [0.18, 0.14, 0.25], [0.45, 0.33, 0.16], [0.14, 0.26, 0.38]]
)  # fmt: skip

NECKLINES = np.array([[0.140, 0.000], [0.166, 0.012], [0.168, 0.055], [0.186, 0.022]])  # roll, crew, V and scoop neck


@dataclass(frozen=True)
class Look:
    """Colours (linear RGB) and painted features of a person."""

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    cloth: np.ndarray
    gender: float  # 0 feminine .. 1 masculine
    age: float
    freckles: float
    beard: float  # 0 none .. 1 full
    brow_height: float  # metres above the usual place
    brow_thickness: float  # factor
    brow_arch: float  # factor
    lip_colour: float  # 0 like skin .. 1 strong
    neckline: float  # metres below the eyes
    neckline_dip: float  # metres that the neckline is lower in front
    stripes: float  # 0 plain .. 1 striped cloth
    stubble: float  # 0 none .. 1 a shaved beard's shadow
    moles: float  # share of the places for moles that have one


def sample_look(generator: np.random.Generator, attributes: dict[str, float]) -> Look:
    """A look whose odds depend on `attributes` (see `identity`), sampled from `generator`."""
    melanin = 0.92 * attributes["african"] + 0.36 * attributes["asian"] + 0.16 * attributes["caucasian"]
    melanin = float(np.clip(melanin + generator.normal() * 0.06, 0.02, 0.97))
    stops = np.linspace(0, 1, len(SKIN_STOPS))
    skin = np.array([np.interp(melanin, stops, SKIN_STOPS[:, channel]) for channel in range(3)])
    skin = skin * (1 + 0.04 * generator.normal(size=3) * [0.5, 0.6, 0.9])
    dark = melanin > 0.42
    hair_odds = np.array([0.72, 0.2, 0.03, 0, 0, 0.05]) if dark else np.array([0.22, 0.24, 0.24, 0.17, 0.08, 0.05])
    iris_odds = np.array([0.4, 0.6, 0, 0]) if dark else np.array([0.36, 0.24, 0.24, 0.16])
    hair_colour = HAIR_COLOURS[generator.choice(len(HAIR_COLOURS), p=hair_odds)] * generator.uniform(0.8, 1.25)
    neckline, dip = (
        NECKLINES[generator.choice(len(NECKLINES), p=[0.15, 0.45, 0.2, 0.2])] + generator.normal(size=2) * 0.004
    )
    bearded = attributes["gender"] > 0.55 and generator.random() < 0.5
    return Look(
        skin=skin,
        hair=hair_colour,
        iris=IRIS_COLOURS[generator.choice(len(IRIS_COLOURS), p=iris_odds)] * generator.uniform(0.8, 1.2),
        cloth=CLOTHES[generator.integers(len(CLOTHES))] * generator.uniform(0.7, 1.3),
        gender=attributes["gender"],
        age=attributes["age"],
        freckles=float(max(0.0, generator.uniform(-1.2, 0.8))) * (melanin < 0.35),
        beard=float(generator.uniform(0.25, 0.95)) * bearded,
        brow_height=float(generator.normal() * 0.0008),
        brow_thickness=float(generator.uniform(0.8, 1.25) * (0.85 + 0.35 * attributes["gender"])),
        brow_arch=float(generator.uniform(0.6, 1.3)),
        lip_colour=float(np.clip(generator.uniform(0.2, 0.6) + 0.35 * (1 - attributes["gender"]), 0, 1)),
        neckline=float(neckline),
        neckline_dip=float(max(dip, 0)),
        stripes=float(generator.random() < 0.25),
        stubble=float(generator.uniform(0, 0.8) * max(0.0, attributes["gender"] - 0.4) / 0.6),
        moles=float(generator.uniform(0, 0.5)),
    )
