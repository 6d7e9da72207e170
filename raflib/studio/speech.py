"""Spoken sentences as mouth movement: phonemes with coarticulation.

Every phoneme has a target of facial actions and a dominance that decays with distance in time; the mouth shows the
dominance-weighted mean of the targets (Cohen and Massaro, "Modeling coarticulation in synthetic visual speech", 1993).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from raflib.studio.head_model import ACTIONS
from raflib.studio.style import sides

VISEMES: dict[str, dict[str, float]] = {
    "_": {},
    "P": {"mouthPress": 0.35, "mouthRollLower": 0.30, "mouthRollUpper": 0.22, "mouthClose": 0.03},
    "F": {"jawOpen": 0.06, "mouthRollLower": 0.40, "mouthUpperUp": 0.20, "mouthShrugLower": 0.15},
    "T": {"jawOpen": 0.12, "mouthLowerDown": 0.22, "mouthStretch": 0.08},
    "S": {"jawOpen": 0.04, "mouthStretch": 0.24, "mouthLowerDown": 0.24, "mouthSmile": 0.10},
    "K": {"jawOpen": 0.17, "mouthLowerDown": 0.14},
    "CH": {"jawOpen": 0.10, "mouthFunnel": 0.52, "mouthPucker": 0.25, "mouthUpperUp": 0.12},
    "R": {"jawOpen": 0.12, "mouthFunnel": 0.36, "mouthPucker": 0.24},
    "W": {"jawOpen": 0.08, "mouthPucker": 0.75, "mouthFunnel": 0.25},
    "A": {"jawOpen": 0.52, "mouthLowerDown": 0.20},
    "AE": {"jawOpen": 0.42, "mouthStretch": 0.22, "mouthUpperUp": 0.16, "mouthLowerDown": 0.20},
    "E": {"jawOpen": 0.30, "mouthStretch": 0.20, "mouthSmile": 0.12, "mouthLowerDown": 0.14},
    "I": {"jawOpen": 0.20, "mouthSmile": 0.20, "mouthStretch": 0.16, "mouthLowerDown": 0.12},
    "IY": {"jawOpen": 0.11, "mouthSmile": 0.38, "mouthStretch": 0.26, "mouthLowerDown": 0.16},
    "O": {"jawOpen": 0.38, "mouthFunnel": 0.50, "mouthPucker": 0.18},
    "U": {"jawOpen": 0.14, "mouthPucker": 0.72, "mouthFunnel": 0.32},
    "UH": {"jawOpen": 0.30, "mouthLowerDown": 0.12},
}
VOWELS = ("A", "AE", "E", "I", "IY", "O", "U", "UH")
DOMINANCE = {"P": 2.6, "F": 2.0, "CH": 1.4, "W": 1.5, "U": 1.3, "_": 0.8}
LENGTH = {"_": 0.05, **dict.fromkeys(VOWELS, 0.15)}  # seconds; consonants take 0.085
STRESS = 1.15  # how much larger a stressed vowel is

# The sentences NeRSemble's sequences are named after, of the phonetically balanced Harvard lists (IEEE, 1969).
SENTENCES: dict[str, str] = {
    "SEN-01-cramp_small_danger": "UH _ K R AE P P _ I S _ T O _ S P O T _ T E I T CH R _ A T _ UH _ S W I P",
    "SEN-02-same_phrase_thirty_times": "K IY _ S E T _ T UH _ S E I P _ F R E I S _ T R T IY _ T A I P S",
    "SEN-03-pluck_bright_rose": "P T UH K _ T UH _ P R A I T _ R O U S _ W I T A U T _ T IY F S",
    "SEN-04-two_plus_seven": "T U _ P T UH S _ S E F UH T _ I S _ T E S _ T AE T _ T E T",
    "SEN-05-glow_eyes_sweet_girl": "T UH _ K T O U _ T IY P UH T T _ I T _ T IY _ A I S _ UH F _ S W IY T _ K R UH T",
    "SEN-06-problems_wise_chief": "P R I K _ K O R _ P R A P T UH P S _ T U _ T UH _ W A I S _ CH IY F",
    "SEN-07-fond_note_fried": "R A I T _ UH _ F A T T _ T O U T _ T U _ T UH _ F R A I T _ K U _ CH E R I CH",
    "SEN-08-clothes_and_lodging": "K T O U S _ AE T T _ T A CH I K _ A R _ F R IY _ T U _ T U _ P E T",
    "SEN-09-frown_events_bad": "W IY _ F R A U T _ W E T _ IY F E T S _ T E I K _ UH _ P AE T _ T R T",
    "SEN-10-port_strong_smokey": "P O R T _ I S _ UH _ S T R O K _ W A I T _ W I T _ UH _ S P O U K IY _ T E I S T",
}


def babble(generator: np.random.Generator, words: int) -> str:
    """Invented words for free talk, in the same alphabet."""
    consonants = [name for name in VISEMES if name != "_" and name not in VOWELS]
    spoken = []
    for _ in range(words):
        for _ in range(generator.integers(1, 4)):
            spoken += [str(generator.choice(consonants)), str(generator.choice(VOWELS))]
        spoken.append("_")
    return " ".join(spoken)


@dataclass(frozen=True, eq=False)
class Spoken:
    """`mouth` [T,52] actions, the `end` of speech and the middles of its `stresses`, in seconds."""

    mouth: Float32[np.ndarray, "T 52"]
    end: float
    stresses: list[float]


def speak(
    times: Float32[np.ndarray, "T"], phonemes: str, start: float, pace: float, generator: np.random.Generator
) -> Spoken:
    """`phonemes` spoken from `start`, `pace` times as fast as usual; the first vowel of most words carries a stress."""
    names = ["_", *phonemes.split(), "_"]
    stressed = _stressed(names, generator)
    targets = np.zeros((len(names), len(ACTIONS)), np.float32)
    for row, name, stress in zip(targets, names, stressed, strict=True):
        emphasis = np.exp(generator.normal() * 0.15) * (STRESS if stress else 1.0)
        for action, value in VISEMES[name].items():
            row[list(sides(action))] = value * emphasis
    usual = np.array([LENGTH.get(name, 0.085) for name in names])
    lengths = usual / pace * np.exp(generator.normal(size=len(names)) * 0.12)
    ends = start + np.cumsum(lengths)
    middles = ends - lengths / 2
    # Lip closures and rounding dominate their neighbours; silence does not.
    strength = np.array([DOMINANCE.get(name, 1.0) for name in names])
    distance = np.abs(times[:, None] - middles[None]) / (lengths[None] * 0.62)
    dominance = strength * np.exp(-(distance**1.4)) + 1e-6
    mouth = (dominance @ targets) / dominance.sum(1, keepdims=True)
    inside = np.clip((times - start + 0.12) / 0.12, 0, 1) * np.clip((ends[-1] + 0.12 - times) / 0.12, 0, 1)
    return Spoken((mouth * inside[:, None]).astype(np.float32), float(ends[-1]), middles[stressed].tolist())


def _stressed(names: list[str], generator: np.random.Generator) -> np.ndarray:
    """[n] bool: the first vowel of three words in four."""
    stressed, waiting = np.zeros(len(names), bool), False
    for index, name in enumerate(names):
        if name == "_":
            waiting = generator.random() < 0.75
        elif waiting and name in VOWELS:
            stressed[index], waiting = True, False
    return stressed
