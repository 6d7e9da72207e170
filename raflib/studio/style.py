"""How a person moves their face: everyone shows the same intended expression differently.

An intention [52] becomes what is shown by a gain a muscle, a left/right imbalance and cross-talk between muscles that
belong together. Timing (speed, delays) is used when a performance is written. Gaze is not styled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from raflib.studio.model import ACTIONS, INDEX

GAIN_SPREAD = 0.24
SIDE_SPREAD = 0.10
HABIT = 0.18  # typical size of a random cross-talk coefficient
HABITS = 26

# Muscles that tend to come along with others in everyone, and how strongly on average.
COMPANIONS = (
    ("mouthSmile", "cheekSquint", 0.45), ("mouthSmile", "eyeSquint", 0.25), ("mouthSmile", "mouthDimple", 0.20),
    ("noseSneer", "mouthUpperUp", 0.30), ("noseSneer", "browDown", 0.25), ("browDown", "eyeSquint", 0.25),
    ("browInnerUp", "browOuterUp", 0.30), ("browOuterUp", "eyeWide", 0.15), ("jawOpen", "mouthLowerDown", 0.18),
    ("eyeBlink", "cheekSquint", 0.10), ("mouthFrown", "mouthShrugLower", 0.25), ("cheekPuff", "mouthPress", 0.30),
    ("mouthPucker", "mouthFunnel", 0.20), ("mouthStretch", "mouthLowerDown", 0.20),
)  # fmt: skip
RESTING = (
    "browDown", "browInnerUp", "browOuterUp", "eyeSquint", "mouthSmile", "mouthPucker", "mouthShrugLower",
    "mouthDimple", "mouthUpperUp",
)  # fmt: skip
REGIONS = (
    ("brow", "eyeWide", "eyeSquint", "noseSneer", "cheekSquint"),
    ("mouth", "cheekSquint", "noseSneer", "jawForward"),
)


def sides(name: str) -> tuple[int, ...]:
    """Indices of an action and its left and right forms: "mouthSmile" → both sides, "jawOpen" → itself."""
    found = tuple(INDEX[form] for form in (name, f"{name}Left", f"{name}Right") if form in INDEX)
    if name in ("mouth", "jaw") or not found:
        raise KeyError(name)
    return found


@dataclass(frozen=True, eq=False)
class ExpressionStyle:
    """Personal habits: `mixing` [52,52] maps intention to what is shown, the rest shapes timing and rest pose."""

    mixing: Float32[np.ndarray, "52 52"]
    resting: Float32[np.ndarray, "52"]  # faint tone kept at rest
    speed: float  # factor on the pace of everything
    expressivity: float  # factor on the size of everything
    blink_rate: float  # blinks a second
    head_motion: float  # factor on head movement

    @classmethod
    def draw(cls, generator: np.random.Generator) -> ExpressionStyle:
        """A person's habits from `generator`."""
        gain = np.exp(generator.normal(size=len(ACTIONS)) * GAIN_SPREAD)
        for name in [name[:-4] for name in ACTIONS if name.endswith("Left")]:
            left, right = INDEX[name + "Left"], INDEX[name + "Right"]
            common = np.sqrt(gain[left] * gain[right])
            imbalance = np.exp(generator.normal() * SIDE_SPREAD)
            gain[left], gain[right] = common * imbalance, common / imbalance
        mixing = np.diag(np.clip(gain, 0.6, 1.5))
        for source, target, amount in COMPANIONS:
            strength = amount * generator.uniform(0.2, 1.8)
            for start in sides(source):
                for end in sides(target):
                    if _same_side(start, end):
                        mixing[end, start] += strength
        for _ in range(HABITS):
            region = REGIONS[generator.integers(2)]
            members = [index for index, name in enumerate(ACTIONS) if name.startswith(region)]
            start, end = generator.choice(members, 2, replace=False)
            mixing[end, start] += HABIT * generator.normal()
        gaze = [index for index, name in enumerate(ACTIONS) if name.startswith("eyeLook")]
        mixing[gaze] = np.eye(len(ACTIONS))[gaze]
        blinks = list(sides("eyeBlink"))
        mixing[blinks] = np.eye(len(ACTIONS))[blinks]  # everybody's eyes close fully
        resting = np.zeros(len(ACTIONS))
        for name in generator.choice(RESTING, 4, replace=False):
            resting[list(sides(name))] = generator.uniform(0.05, 0.25)
        return cls(
            mixing=mixing.astype(np.float32),
            resting=resting.astype(np.float32),
            speed=float(np.exp(generator.normal() * 0.12)),
            expressivity=float(np.clip(1.1 * np.exp(generator.normal() * 0.15), 0.8, 1.4)),
            blink_rate=float(generator.uniform(0.2, 0.45)),
            head_motion=float(np.exp(generator.normal() * 0.25)),
        )

    def show(self, intention: Float32[np.ndarray, "*t 52"]) -> Float32[np.ndarray, "*t 52"]:
        """What this person shows when they mean `intention`: habits applied, kept within [0,1]."""
        shown = intention @ self.mixing.T * self.expressivity
        free = [i for i, name in enumerate(ACTIONS) if name.startswith(("eyeLook", "eyeBlink"))]
        shown[..., free] = intention[..., free]
        return np.clip(shown + self.resting, 0, 1).astype(np.float32)


def _same_side(start: int, end: int) -> bool:
    first, second = ACTIONS[start], ACTIONS[end]
    return not any(first.endswith(a) and second.endswith(b) for a, b in (("Left", "Right"), ("Right", "Left")))
