"""Personal expression style: people show the same intended expression differently.

The shown actions follow from the intended ones [52] by a gain for each action, a left/right imbalance, and cross-talk
between actions that belong together. They are added to the person's neutral face, which has habits too. Timing, head
pose and gaze are used when a performance is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from raflib.studio.head_model import ACTIONS, INDEX

GAIN_SPREAD = 0.30  # standard deviation, between people, of the logarithm of an action's gain
SIDE_SPREAD = 0.10  # the same for a left side against its right one
HABIT = 0.18  # typical size of a random cross-talk coefficient
HABITS = 26
TONE = 0.78  # size of the habits of a neutral face: how different neutral faces are
TONE_BOUND = 1.7  # no habit is stronger than this many times its usual size
GAZE_SPREAD = (7.0, 3.5)  # degrees to the side and up, between people's usual gaze (lens, prompter, operator)
CARRIAGE = (4.4, 3.2, 3.6)  # degrees of yaw, pitch, roll, between people's usual head pose

# Actions that come with others in all people, and how strongly on average.
COMPANIONS = (
    ("mouthSmile", "cheekSquint", 0.45), ("mouthSmile", "eyeSquint", 0.12), ("mouthSmile", "mouthDimple", 0.20),
    ("noseSneer", "mouthUpperUp", 0.30), ("noseSneer", "browDown", 0.25), ("browDown", "eyeSquint", 0.25),
    ("browInnerUp", "browOuterUp", 0.30), ("browOuterUp", "eyeWide", 0.15), ("jawOpen", "mouthLowerDown", 0.18),
    ("eyeBlink", "cheekSquint", 0.10), ("mouthFrown", "mouthShrugLower", 0.25), ("cheekPuff", "mouthPress", 0.30),
    ("mouthPucker", "mouthFunnel", 0.20), ("mouthStretch", "mouthLowerDown", 0.20),
)  # fmt: skip
# Habits of a neutral face, each a pair of poses: brows high or low, worried or arched; cheerful or grave; eyes wide or
# narrow; lids low or high; lips parted or pressed, pursed or stretched; chin tense or loose.
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
# A habit ends with its opposite: corners of the mouth pulled down end a habitual smile.
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
    """Personal habits: `mixing` [52,52] maps intended to shown actions; the others change timing and neutral face."""

    mixing: Float32[np.ndarray, "52 52"]
    resting: Float32[np.ndarray, "52"]  # actions of the neutral face
    gaze: Float32[np.ndarray, "2"]  # degrees of the usual gaze, to the left of the lens and above it
    carriage: Float32[np.ndarray, "3"]  # degrees of yaw, pitch, roll at which the head is held
    speed: float  # factor on the pace of all motion
    expressivity: float  # factor on the size of all actions
    blink_rate: float  # blinks a second
    head_motion: float  # factor on head movement
    nod: float  # degrees that the chin drops with a stressed syllable
    brow_beat: float  # how far brows rise with one

    @classmethod
    def sample(cls, generator: np.random.Generator) -> ExpressionStyle:
        """A person's habits, sampled from `generator`."""
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
        mixing[blinks] = np.eye(len(ACTIONS))[blinks]  # all people's eyes close fully
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
        """The actions that this person shows for the intended ones, in [0,1]."""
        shown = intention @ self.mixing.T * self.expressivity
        free = [i for i, name in enumerate(ACTIONS) if name.startswith(("eyeLook", "eyeBlink"))]
        shown[..., free] = intention[..., free]
        shown = np.clip(shown, 0, 1)
        kept = np.broadcast_to(self.resting, shown.shape).copy()
        for habit, opposite in OPPOSITES:
            for index in sides(habit):
                against = [other for other in sides(opposite) if _same_side(index, other)]
                kept[..., index] *= 1 - shown[..., against].mean(-1)
        return (shown + kept * (1 - shown)).astype(np.float32)  # an action that is already strong adds less


def _resting(generator: np.random.Generator) -> Float32[np.ndarray, "52"]:
    """A neutral face: each habit of `HABITUAL` in one of its two poses, a little stronger on one side."""
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
