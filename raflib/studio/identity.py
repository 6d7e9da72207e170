"""Who stands in front of the cameras: a person made from nothing but the subject's name.

Face shape, colours, hair, clothes and a personal expression style are all drawn from a generator seeded by the subject
string, so subject "422" is the same person on every machine. Shape comes from the head model's identity space; the
painted texture and the ambient visibility are made when a picture is first asked for and kept in memory.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from raflib.errors import RafError
from raflib.studio import clothing, hair, shape, strands
from raflib.studio.style import ExpressionStyle

SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")

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


class Identity:
    """One person. `vertices` [V,3] neutral points (world metres), `pivots` [5,3], `action_gain` [52] that fits the
    model's actions to this face, `look`, `haircut`, `strands` (locks of hair or None), `style`.

    Raises RafError when the subject is not a plain name of up to 32 letters, digits, dots, dashes or underscores.
    """

    def __new__(cls, subject: str | int) -> Identity:
        """The person of that name (a string; a number is refused). The few made last are kept."""
        return _remembered(_checked(subject))

    @classmethod
    def _make(cls, subject: str) -> Identity:
        person = object.__new__(cls)
        person.subject = subject
        generator = named_generator("identity", subject)
        attributes = _draw_attributes(generator)
        skin, person.pivots, person.action_gain = shape.draw(generator, attributes)
        person.look = _draw_look(generator, attributes)
        person.haircut = hair.draw(generator, attributes["gender"], attributes["african"])
        person.style = ExpressionStyle.draw(named_generator("style", subject))
        person.vertices = clothing.dress(hair.thicken(skin, person.haircut), person.look)
        person.strands = strands.grow(person.vertices, person.haircut, named_generator("hair", subject))
        return person

    def __repr__(self) -> str:
        return f"Identity({self.subject!r})"

    @cached_property
    def surface(self):
        """Texture and ambient visibility (`texture.Surface`), made on first use."""
        from raflib.studio import texture

        return texture.Surface(self)


def named_generator(*names: str) -> np.random.Generator:
    """A generator that depends on nothing but `names`."""
    digest = hashlib.sha256("\x1f".join(("raflib studio 1", *names)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


@lru_cache(maxsize=24)
def _remembered(subject: str) -> Identity:
    return Identity._make(subject)


def _checked(subject: object) -> str:
    if not isinstance(subject, str) or not SUBJECT.fullmatch(subject):
        raise RafError(
            f"subject {subject!r}: expected a string of 1-32 letters, digits, '.', '-' or '_' such as '422'; "
            "quote it if it is a number"
        )
    return subject


def _draw_attributes(generator: np.random.Generator) -> dict[str, float]:
    african, asian, caucasian = generator.dirichlet([0.45, 0.45, 0.6])
    masculine = generator.random() < 0.5
    gender = generator.beta(6, 1.3) if masculine else generator.beta(1.3, 6)
    return {
        "gender": float(gender),
        "age": float(generator.uniform(0.6, 0.84)),
        "african": float(african),
        "asian": float(asian),
        "caucasian": float(caucasian),
        "weight": float(generator.uniform(0.35, 0.65)),
    }


def _draw_look(generator: np.random.Generator, attributes: dict[str, float]) -> Look:
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
