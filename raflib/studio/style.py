"""How a person wears and moves their face: everyone shows the same intended expression differently.

An intention [52] becomes what is shown by a gain a muscle, a left/right imbalance and cross-talk between muscles that
belong together, on top of a habitual face at rest. Timing, carriage of the head and where the eyes rest are used when a
performance is written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from raflib.studio.head_model import ACTIONS, INDEX

GAIN_SPREAD = 0.30  # standard deviation of the logarithm of a muscle's gain, between people
SIDE_SPREAD = 0.10  # and of a left side against its right one
HABIT = 0.18  # typical size of a random cross-talk coefficient
HABITS = 26
TONE = 0.78  # size of the habits of a face at rest: how far apart resting faces are
TONE_BOUND = 1.7  # no habit is stronger than this many times its usual size
GAZE_SPREAD = (7.0, 3.5)  # degrees to the side and up to where the eyes rest: the lens, a prompter, the operator
CARRIAGE = (4.4, 3.2, 3.6)  # degrees of yaw, pitch, roll between people's ways of sitting before the same cameras

# Muscles that tend to come along with others in everyone, and how strongly on average.
COMPANIONS = (
    ("mouthSmile", "cheekSquint", 0.45), ("mouthSmile", "eyeSquint", 0.12), ("mouthSmile", "mouthDimple", 0.20),
    ("noseSneer", "mouthUpperUp", 0.30), ("noseSneer", "browDown", 0.25), ("browDown", "eyeSquint", 0.25),
    ("browInnerUp", "browOuterUp", 0.30), ("browOuterUp", "eyeWide", 0.15), ("jawOpen", "mouthLowerDown", 0.18),
    ("eyeBlink", "cheekSquint", 0.10), ("mouthFrown", "mouthShrugLower", 0.25), ("cheekPuff", "mouthPress", 0.30),
    ("mouthPucker", "mouthFunnel", 0.20), ("mouthStretch", "mouthLowerDown", 0.20),
)  # fmt: skip
# Habits of a face at rest, each a pair of poses: brows worn high or low, worried or arched; cheerful or grave; eyes
# wide or narrow; heavy lids; lips parted or pressed; pursed or drawn out; chin tense or slack.
HABITUAL = (
    ({"browInnerUp": 0.80, "browOuterUp": 0.62}, {"browDown": 0.45}),
    ({"browInnerUp": 0.45}, {"browOuterUp": 0.45}),
    ({"mouthSmile": 0.44, "cheekSquint": 0.20}, {"mouthFrown": 0.10, "mouthShrugLower": 0.06}),
    ({"eyeWide": 0.45}, {"eyeSquint": 0.66}),
    ({"eyeBlink": 0.16}, {"eyeWide": 0.10}),
    ({"mouthUpperUp": 0.45, "jawOpen": 0.05}, {"mouthRollUpper": 0.40, "mouthPress": 0.35}),
    ({"mouthPucker": 0.45}, {"mouthStretch": 0.16, "mouthDimple": 0.35}),
    ({"mouthShrugLower": 0.30, "mouthShrugUpper": 0.15}, {"mouthLowerDown": 0.15, "jawOpen": 0.04}),
)
# A habit gives way to its opposite: corners pulled down end a resting smile.
OPPOSITES = (
    ("mouthSmile", "mouthFrown"), ("mouthSmile", "mouthPucker"), ("browInnerUp", "browDown"),
    ("browOuterUp", "browDown"), ("eyeWide", "eyeSquint"), ("eyeWide", "eyeBlink"), ("mouthPress", "jawOpen"),
    ("mouthRollUpper", "jawOpen"), ("mouthShrugLower", "jawOpen"), ("mouthPucker", "jawOpen"),
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
    resting: Float32[np.ndarray, "52"]  # tone kept at rest
    gaze: Float32[np.ndarray, "2"]  # degrees to the left of the lens and above it, where the eyes rest
    carriage: Float32[np.ndarray, "3"]  # degrees of yaw, pitch, roll at which the head is held
    speed: float  # factor on the pace of everything
    expressivity: float  # factor on the size of everything
    blink_rate: float  # blinks a second
    head_motion: float  # factor on head movement
    nod: float  # degrees that the chin drops with a stressed syllable
    brow_beat: float  # how far brows rise with one

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
        return cls(
            mixing=mixing.astype(np.float32),
            resting=_resting(generator),
            gaze=(generator.normal(size=2) * GAZE_SPREAD).astype(np.float32),
            carriage=(generator.normal(size=3) * CARRIAGE).astype(np.float32),
            speed=float(np.exp(generator.normal() * 0.12)),
            expressivity=float(np.clip(1.1 * np.exp(generator.normal() * 0.18), 0.8, 1.45)),
            blink_rate=float(generator.uniform(0.2, 0.45)),
            head_motion=float(np.exp(generator.normal() * 0.25)),
            nod=float(generator.gamma(3.0, 0.7)),
            brow_beat=float(generator.gamma(1.5, 0.12)),
        )

    def show(self, intention: Float32[np.ndarray, "*t 52"]) -> Float32[np.ndarray, "*t 52"]:
        """What this person shows when they mean `intention`: habits applied, kept within [0,1]."""
        shown = intention @ self.mixing.T * self.expressivity
        free = [i for i, name in enumerate(ACTIONS) if name.startswith(("eyeLook", "eyeBlink"))]
        shown[..., free] = intention[..., free]
        shown = np.clip(shown, 0, 1)
        kept = np.broadcast_to(self.resting, shown.shape).copy()
        for habit, opposite in OPPOSITES:
            for index in sides(habit):
                against = [other for other in sides(opposite) if _same_side(index, other)]
                kept[..., index] *= 1 - shown[..., against].mean(-1)
        return (shown + kept * (1 - shown)).astype(np.float32)  # a muscle already at work has less left to add


def _resting(generator: np.random.Generator) -> Float32[np.ndarray, "52"]:
    """A face at rest: how far each habit of `HABITUAL` goes, one way or the other, a little more on one side."""
    resting = np.zeros(len(ACTIONS), np.float32)
    for poses in HABITUAL:
        size = float(np.clip(generator.normal(), -TONE_BOUND, TONE_BOUND))
        for name, value in poses[int(size < 0)].items():
            lean = float(np.exp(generator.normal() * SIDE_SPREAD))
            for side, index in enumerate(sides(name)):
                resting[index] += TONE * abs(size) * value * (1 / lean if side else lean)
    return np.clip(resting, 0, 0.9)


def _same_side(start: int, end: int) -> bool:
    first, second = ACTIONS[start], ACTIONS[end]
    return not any(first.endswith(a) and second.endswith(b) for a, b in (("Left", "Right"), ("Right", "Left")))
