"""The poses of each sequence: intended facial actions, in order.

A pose is a set of actions with strengths. They rise, stay and fall together, each a little early or late. EXP sequences
move one region of the face, EMO sequences show two emotions with the actions that belong to them, and SEN sequences are
spoken sentences. HAIR shows the hair from all sides. FREE is free motion: speech, laughter, grimaces, and combinations
that no instruction asks for.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Pose = Mapping[str, float]

# People who are asked to move one region move others too: brows rise with puffed cheeks or an open jaw, eyes narrow
# with a wrinkled nose, lips follow the jaw to its side.
EXPRESSIONS: dict[str, tuple[Pose, ...]] = {
    "EXP-1-head": ({}, {"mouthSmile": 0.25}, {"browInnerUp": 0.3, "browOuterUp": 0.2}, {"mouthPress": 0.2}),
    "EXP-2-eyes": (
        {"eyeBlink": 1.0}, {"eyeWide": 0.9, "browOuterUp": 0.5, "browInnerUp": 0.5},
        {"eyeSquint": 0.9, "browDown": 0.3},
        {"eyeBlinkLeft": 1.0, "cheekSquintLeft": 0.6, "mouthSmileLeft": 0.2},
        {"eyeBlinkRight": 1.0, "cheekSquintRight": 0.6, "mouthSmileRight": 0.2}, {"browDown": 0.9, "eyeSquint": 0.3},
        {"browInnerUp": 0.9, "browOuterUp": 0.8},
    ),
    "EXP-3-cheeks+nose": (
        {"cheekPuff": 1.0, "mouthPress": 0.5, "mouthPucker": 0.45, "eyeWide": 0.4, "browInnerUp": 0.5},
        {"noseSneer": 0.95, "mouthUpperUp": 0.6, "browDown": 0.6, "eyeSquint": 0.5},
        {"cheekSquint": 0.9, "mouthSmile": 0.55, "eyeSquint": 0.5},
        {"noseSneerLeft": 0.9, "mouthUpperUpLeft": 0.7, "eyeSquintLeft": 0.6, "mouthLeft": 0.3},
        {"noseSneerRight": 0.9, "mouthUpperUpRight": 0.7, "eyeSquintRight": 0.6, "mouthRight": 0.3},
        {"mouthPucker": 0.8, "cheekSquint": 0.4, "jawOpen": 0.1, "browOuterUp": 0.5},
    ),
    "EXP-4-lips": (
        {"mouthPucker": 1.0}, {"mouthRollLower": 0.9, "mouthRollUpper": 0.8, "mouthPress": 0.4},
        {"mouthFunnel": 0.9, "jawOpen": 0.2}, {"mouthShrugLower": 1.0, "mouthShrugUpper": 0.7, "browInnerUp": 0.3},
        {"mouthUpperUp": 0.9, "noseSneer": 0.3, "eyeSquint": 0.3}, {"mouthLowerDown": 1.0, "mouthStretch": 0.3},
        {"mouthLeft": 0.9, "mouthPucker": 0.4}, {"mouthRight": 0.9, "mouthPucker": 0.4},
    ),
    "EXP-5-mouth": (
        {"mouthSmile": 0.9, "cheekSquint": 0.3}, {"mouthFrown": 0.9, "mouthShrugLower": 0.5, "browDown": 0.2},
        {"mouthStretch": 0.95, "mouthLowerDown": 0.6}, {"mouthSmile": 0.9, "jawOpen": 0.35, "mouthUpperUp": 0.4},
        {"mouthSmileLeft": 0.9, "mouthDimpleLeft": 0.4}, {"mouthSmileRight": 0.9, "mouthDimpleRight": 0.4},
        {"mouthDimple": 0.8, "mouthPress": 0.5},
    ),
    "EXP-6-tongue-1": (
        {"jawOpen": 0.5, "tongueOut": 0.9, "mouthLowerDown": 0.2}, {"jawOpen": 0.35, "mouthSmile": 0.2},
        {"jawOpen": 0.6, "tongueOut": 1.0},
    ),
    "EXP-7-tongue-2": (
        {"jawOpen": 0.4, "tongueOut": 0.6, "mouthFunnel": 0.4}, {"mouthClose": 0.1, "cheekPuff": 0.4},
        {"jawOpen": 0.7, "tongueOut": 0.8},
    ),
    "EXP-8-jaw-1": (
        {"jawOpen": 0.4, "browInnerUp": 0.2}, {"jawOpen": 1.0, "mouthLowerDown": 0.2, "browOuterUp": 0.4},
        {"jawLeft": 0.9, "mouthLeft": 0.5, "jawOpen": 0.15}, {"jawRight": 0.9, "mouthRight": 0.5, "jawOpen": 0.15},
        {"jawForward": 1.0, "mouthShrugLower": 0.5, "mouthLowerDown": 0.3}, {"jawOpen": 0.75, "eyeSquint": 0.3},
    ),
    "EXP-9-jaw-2": (
        {"jawOpen": 0.6, "jawLeft": 0.7, "mouthLeft": 0.4}, {"jawOpen": 0.6, "jawRight": 0.7, "mouthRight": 0.4},
        {"jawOpen": 0.95, "mouthFunnel": 0.6, "browInnerUp": 0.5, "browOuterUp": 0.5},
        {"jawForward": 0.9, "mouthShrugLower": 0.7, "browDown": 0.3},
        {"jawOpen": 0.85, "mouthStretch": 0.6, "eyeSquint": 0.4}, {"mouthPress": 0.6, "mouthStretch": 0.3},
    ),
}  # fmt: skip

SMILE = {
    "mouthSmile": 0.85,
    "cheekSquint": 0.4,
    "eyeSquint": 0.1,
    "mouthUpperUp": 0.35,
    "jawOpen": 0.1,
    "mouthLowerDown": 0.2,
}
LAUGH = {"mouthSmile": 0.9, "cheekSquint": 0.6, "eyeSquint": 0.3, "jawOpen": 0.42, "mouthUpperUp": 0.4}
SHOUT = {"jawOpen": 0.9, "mouthStretch": 0.45, "browDown": 0.55, "noseSneer": 0.35, "mouthLowerDown": 0.5}
SURPRISE = {"browInnerUp": 0.85, "browOuterUp": 0.85, "eyeWide": 0.8, "jawOpen": 0.5}
FEAR = {
    "browInnerUp": 0.9,
    "eyeWide": 0.75,
    "mouthStretch": 0.65,
    "jawOpen": 0.2,
    "browDown": 0.2,
    "mouthLowerDown": 0.3,
}
ANGER = {
    "browDown": 0.95,
    "eyeSquint": 0.35,
    "noseSneer": 0.45,
    "mouthPress": 0.6,
    "mouthShrugLower": 0.3,
    "jawForward": 0.2,
}
SADNESS = {"browInnerUp": 0.8, "mouthFrown": 0.75, "mouthShrugLower": 0.55, "eyeSquint": 0.2}
DISGUST = {"noseSneer": 0.9, "mouthUpperUp": 0.65, "browDown": 0.5, "eyeSquint": 0.25, "mouthFrown": 0.35}

EMOTIONS: dict[str, tuple[Pose, ...]] = {
    "EMO-1-shout+laugh": (SHOUT, SHOUT, LAUGH, LAUGH),
    "EMO-2-surprise+fear": (SURPRISE, FEAR),
    "EMO-3-angry+sad": (ANGER, SADNESS),
    "EMO-4-disgust+happy": (DISGUST, SMILE, LAUGH),
}

HAIR = "HAIR"
CALM: tuple[Pose, ...] = ({}, {"mouthSmile": 0.12}, {}, {"browInnerUp": 0.10})
"""The face of `HAIR`, in which the head moves and the face does not."""

# Poses that no instruction asks for: one half of the face, mixed emotions, thinking, grimaces.
ODDITIES: tuple[Pose, ...] = (
    {"browOuterUpLeft": 0.9, "browDownRight": 0.5, "mouthLeft": 0.4},
    {"cheekPuff": 0.8, "eyeWide": 0.6, "browInnerUp": 0.5},
    {"mouthPucker": 0.8, "browDown": 0.5, "eyeSquint": 0.4},
    {"mouthSmileRight": 0.8, "eyeBlinkRight": 0.9, "jawOpen": 0.2},
    {"mouthRollLower": 0.7, "browInnerUp": 0.7, "eyeWide": 0.3},
    {"mouthShrugUpper": 0.7, "mouthShrugLower": 0.8, "browOuterUp": 0.6},
    {"jawOpen": 0.7, "eyeSquint": 0.7, "noseSneer": 0.6},
    {"mouthStretch": 0.8, "eyeBlink": 0.9, "browDown": 0.5},
    {"mouthFunnel": 0.8, "browOuterUp": 0.8, "jawOpen": 0.35},
    {"mouthRight": 0.8, "eyeSquintRight": 0.6, "browOuterUpLeft": 0.5},
    {"mouthFrown": 0.7, "mouthSmile": 0.5, "browInnerUp": 0.6},
    {"mouthUpperUpLeft": 0.8, "noseSneerLeft": 0.7, "eyeSquintLeft": 0.5},
    {"mouthSmile": 0.8, "browDown": 0.8, "eyeSquint": 0.3},
    {"mouthFrown": 0.7, "mouthShrugLower": 0.7, "browOuterUp": 0.9},
    {"mouthSmile": 0.8, "eyeBlink": 0.8, "browInnerUp": 0.8},
    {"mouthPress": 0.8, "browOuterUp": 0.9, "eyeWide": 0.7},
    {"mouthUpperUp": 0.8, "eyeWide": 0.8, "browInnerUp": 0.7, "mouthStretch": 0.5},
    {"mouthPucker": 1.0, "eyeBlink": 0.8, "browOuterUp": 0.8},
    {"mouthPucker": 0.8, "eyeWide": 0.8, "browInnerUp": 0.8, "browOuterUp": 0.7},
    {"jawOpen": 0.6, "mouthSmile": 0.8, "eyeWide": 0.8, "browOuterUp": 0.9},
)
# Actions of the upper face and the corners of the mouth while a person reads a sentence or does a facial exercise.
ACCENTS: tuple[Pose, ...] = (
    {"browInnerUp": 0.6, "browOuterUp": 0.5},
    {"mouthSmile": 0.45, "cheekSquint": 0.3},
    {"browDown": 0.6},
    {"eyeSquint": 0.5, "noseSneer": 0.2},
    {"eyeWide": 0.5, "browOuterUp": 0.4},
    {"mouthFrown": 0.4, "browInnerUp": 0.4},
)
FEELINGS: tuple[Pose, ...] = (SMILE, LAUGH, SHOUT, SURPRISE, FEAR, ANGER, SADNESS, DISGUST)


def blend(first: Pose, second: Pose, share: float) -> dict[str, float]:
    """A mixture of two poses: the first one weakened, plus `share` of the second."""
    mixed = {name: value * (1 - 0.6 * share) for name, value in first.items()}
    for name, value in second.items():
        mixed[name] = min(1.0, mixed.get(name, 0.0) + value * share)
    return mixed


def improvise(generator: np.random.Generator) -> dict[str, float]:
    """One pose of FREE: an emotion, an unusual pose, or a mixture, of random strength."""
    kind = generator.random()
    feeling: Pose = FEELINGS[generator.integers(len(FEELINGS))]
    oddity: Pose = ODDITIES[generator.integers(len(ODDITIES))]
    if kind < 0.1:
        pose = feeling
    elif kind < 0.4:
        pose = oddity
    else:
        pose = blend(feeling, oddity, float(generator.uniform(0.4, 0.9)))
    strength = generator.uniform(1.1, 1.6)
    return {name: min(1.0, value * strength) for name, value in pose.items()}
