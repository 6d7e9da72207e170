"""Motion that comes with any performance: head and eyes, blinks, brows and nods with stressed syllables, tremor.

All curves are over `times` [T] (seconds, 0.01 apart). Angles are yaw, pitch, roll in degrees, as in `motion`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import gaussian_filter1d

from raflib.studio.head_model import ACTIONS, INDEX
from raflib.studio.script import HAIR
from raflib.studio.style import ExpressionStyle, sides

LIMITS = np.array([25.0, 12.0, 8.0])  # degrees of yaw, pitch, roll that people on the rig reach
# Standard deviations of head motion (degrees) by kind of sequence.
HEAD_MOTION = {"EXP-1-head": (12.0, 6.5, 4.0), "FREE": (10.0, 5.5, 3.8), "SEN": (1.9, 1.5, 1.1), "EMO": (4.2, 3.4, 2.2)}
STILL = (2.6, 2.2, 1.4)
# Sequence HAIR after its shake: head angles (yaw, pitch, roll) that show one side, the other, the crown and the nape.
TILTS = np.array([[0, 0, 0], [17, -3, 7], [-17, -3, -7], [0, -11, 0], [0, 8, 0], [0, 0, 0]], float)
SHAKE, SHAKES_A_SECOND = 17.0, 0.9

TREMOR = 0.058  # standard deviation, in units of actions

EYE_DEGREES = (20.0, 15.0)  # rotation of the eye by a full eyeLook action, to a side and up or down
HELD_GAZE = 0.7  # share of a head turn that the eyes compensate, to hold their target
# Standard deviation of glances (eyeLook actions) by sequence, and mean seconds between them.
GLANCES = {"EXP-2-eyes": (0.5, 0.75), "FREE": (0.55, 1.0)}
USUAL_GLANCES = (0.15, 1.2)


def ease(share: np.ndarray) -> np.ndarray:
    """Minimum-jerk rise from 0 to 1."""
    return share**3 * (10 - 15 * share + 6 * share**2)


def beats(times: Float32[np.ndarray, "T"], stresses: list[float]) -> Float[np.ndarray, "T n"]:
    """For each stressed syllable a pulse from 0 to 1 and back: 0.14 s up to the stress, 0.30 s down."""
    since = times[:, None] - np.asarray(stresses, np.float32).reshape(1, -1)
    return ease(np.clip(since / 0.14 + 1, 0, 1)) * (1 - ease(np.clip((since - 0.03) / 0.30, 0, 1)))


def raised_brows(
    beats: Float[np.ndarray, "T n"], style: ExpressionStyle, generator: np.random.Generator
) -> Float32[np.ndarray, "T 52"]:
    """Brows that rise with some of the stressed syllables."""
    result = np.zeros((len(beats), len(ACTIONS)), np.float32)
    strength = style.brow_beat * generator.uniform(0.5, 1.5, beats.shape[1]) * (generator.random(beats.shape[1]) < 0.5)
    rise = (beats * strength).max(1, initial=0)
    for name in ("browInnerUp", "browOuterUp"):
        result[:, list(sides(name))] = rise[:, None]
    return result


def head(
    times: Float32[np.ndarray, "T"],
    sequence: str,
    style: ExpressionStyle,
    beats: Float[np.ndarray, "T n"],
    generator: np.random.Generator,
) -> Float[np.ndarray, "T 3"]:
    """Head angles: drift about the person's usual pose, turns where a sequence has them, nods with the speech."""
    spread = np.array(HEAD_MOTION.get(sequence, HEAD_MOTION.get(sequence[:3], STILL))) * style.head_motion**0.5
    slow = {"EXP-1-head": 45, "FREE": 50}.get(sequence, 70)
    drift = smooth_noise(len(times), 3, slow, generator)
    if sequence in ("EXP-1-head", "FREE"):
        drift = (drift - drift.mean(0)) / drift.std(0)  # in these sequences all people turn their head
    angles = drift * spread + style.carriage + generator.normal(size=3) * [1.5, 1.5, 1.0]
    if sequence == HAIR:
        angles = 0.4 * angles + _show_hair(times, generator)
    angles[:, 1] -= style.nod * (beats * generator.uniform(0.3, 1.2, beats.shape[1])).max(1, initial=0)
    return LIMITS * np.tanh(angles / LIMITS)


def _show_hair(times: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Angles of a head that is shaken, then turned and tilted to all sides."""
    seconds = float(times[-1])
    shaken = 0.4 * seconds
    window = ease(np.clip(times / 0.4, 0, 1)) * ease(np.clip((shaken - times) / 0.4, 0, 1))
    pace = SHAKES_A_SECOND * np.exp(generator.normal() * 0.1)
    angles = np.zeros((len(times), 3))
    angles[:, 0] = SHAKE * window * np.sin(2 * np.pi * pace * times) * generator.choice([-1, 1])
    starts = np.linspace(shaken, seconds, len(TILTS))
    goals = TILTS * np.exp(generator.normal(size=(len(TILTS), 1)) * 0.15)
    for before, after, begin, end in zip(goals, goals[1:], starts, starts[1:], strict=False):
        angles += (after - before) * ease(np.clip((times - begin) / (0.85 * (end - begin)), 0, 1))[:, None]
    return angles


def gaze(
    times: Float32[np.ndarray, "T"],
    sequence: str,
    style: ExpressionStyle,
    angles: Float[np.ndarray, "T 3"],
    generator: np.random.Generator,
) -> Float32[np.ndarray, "T 52"]:
    """eyeLook actions of both eyes: saccades about the person's usual gaze, held while the head moves."""
    spread, pause = GLANCES.get(sequence, USUAL_GLANCES)
    aim, now, target = np.zeros((len(times), 2)), 0.0, np.zeros(2)
    while now < times[-1]:
        aim[times >= now] = target
        now += float(generator.gamma(3.0, pause / 3))
        target = np.clip(generator.normal(size=2) * spread * [1.0, 0.7], -0.9, 0.9) * (generator.random() < 0.75)
    aim = gaussian_filter1d(aim, 2.0, axis=0, mode="nearest")
    aim += (style.gaze - HELD_GAZE * angles[:, :2]) / EYE_DEGREES
    aim = 0.9 * np.tanh(aim / 0.9)
    result = np.zeros((len(times), len(ACTIONS)), np.float32)
    left, right = np.maximum(aim[:, 0], 0), np.maximum(-aim[:, 0], 0)
    result[:, INDEX["eyeLookOutLeft"]] = result[:, INDEX["eyeLookInRight"]] = left
    result[:, INDEX["eyeLookOutRight"]] = result[:, INDEX["eyeLookInLeft"]] = right
    for name, amount in (("eyeLookUp", np.maximum(aim[:, 1], 0)), ("eyeLookDown", np.maximum(-aim[:, 1], 0))):
        result[:, list(sides(name))] = amount[:, None]
    return result


def blink(
    times: Float32[np.ndarray, "T"],
    intention: Float32[np.ndarray, "T 52"],
    rate: float,
    generator: np.random.Generator,
) -> None:
    """Add spontaneous blinks to `intention`: 0.08 s to close, 0.14 s to open, `rate` a second."""
    now = float(generator.exponential(1 / rate))
    while now < times[-1]:
        closing = np.clip((times - now) / 0.08, 0, 1) * (1 - ease(np.clip((times - now - 0.10) / 0.14, 0, 1)))
        for index in sides("eyeBlink"):
            intention[:, index] = np.maximum(intention[:, index], closing)
        now += 0.4 + float(generator.exponential(1 / rate))


def tremor(times: Float32[np.ndarray, "T"], generator: np.random.Generator) -> Float32[np.ndarray, "T 52"]:
    """Small slow drift of mouth and brows, because no person holds perfectly still."""
    noise = smooth_noise(len(times), len(ACTIONS), 30, generator)
    moving = np.array([name.startswith(("brow", "mouth", "cheekSquint")) for name in ACTIONS])
    return np.where(moving, TREMOR * noise, 0).astype(np.float32)


def smooth_noise(length: int, width: int, slow: int, generator: np.random.Generator) -> np.ndarray:
    """[length, width]: white noise smoothed over `slow` steps, of unit variance everywhere (the ends are cut off)."""
    margin = 4 * slow
    noise = gaussian_filter1d(generator.normal(size=(length + 2 * margin, width)), slow, axis=0, mode="nearest")
    return noise[margin : margin + length] * np.sqrt(2 * slow * np.sqrt(np.pi))
