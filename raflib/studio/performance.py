"""What a person does in front of the cameras: NeRSemble's sequences as facial actions and head angles over time.

A performance depends only on (subject, sequence). The score of `script` becomes smooth curves; then life is added
(blinks, glances, small head motion) and the person's own expression style. FREE is the held-out sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import gaussian_filter1d

from raflib.errors import RafError
from raflib.studio import script, speech
from raflib.studio.identity import Identity, named_generator
from raflib.studio.model import ACTIONS, INDEX
from raflib.studio.style import sides

FREE = "FREE"
TRAIN_SEQUENCES: tuple[str, ...] = (
    *(name for name in script.EXPRESSIONS if "tongue" not in name),
    *script.EMOTIONS,
    *speech.SENTENCES,
)
SEQUENCES: tuple[str, ...] = (*TRAIN_SEQUENCES, "EXP-6-tongue-1", "EXP-7-tongue-2", FREE)
SECONDS = {FREE: 12.0}
LIMITS = np.array([25.0, 12.0, 8.0])  # degrees of yaw, pitch, roll that people on the rig reach
# Standard deviations of head motion (degrees) by kind of sequence.
HEAD_MOTION = {"EXP-1-head": (11.0, 6.0, 3.5), FREE: (10.0, 5.5, 3.8), "SEN": (3.6, 2.6, 1.8), "EMO": (4.2, 3.4, 2.2)}
STILL = (2.6, 2.2, 1.4)


@dataclass(frozen=True, eq=False)
class Performance:
    """`actions` [T,52] shown by this person (order `ACTIONS`, in [0,1]); `angles` [T,3] yaw, pitch, roll in degrees."""

    actions: Float32[np.ndarray, "T 52"]
    angles: Float32[np.ndarray, "T 3"]
    fps: float

    def __len__(self) -> int:
        return len(self.actions)


def perform(subject: str, sequence: str, fps: float | int = 25) -> Performance:
    """The person `subject` going through `sequence` (one of `SEQUENCES`), `fps` frames a second.

    Raises RafError for a sequence or subject name that does not exist, or fps outside 1 to 240.
    """
    if sequence not in SEQUENCES:
        raise RafError(f"sequence {sequence!r}: expected one of {', '.join(SEQUENCES)}")
    if not 1 <= fps <= 240:
        raise RafError(f"fps {fps!r}: expected 1 to 240 frames a second")
    style = Identity(subject).style
    generator = named_generator("performance", subject, sequence)
    seconds = SECONDS.get(sequence, float(generator.uniform(4.2, 5.8)))
    # Curves are written at a fixed fine rate and then sampled, so that fps changes nothing but the sampling.
    times = np.arange(0, seconds, 0.01, dtype=np.float32)
    intention = _score(times, sequence, style.speed, generator)
    intention += _tremor(times, generator)
    gaze = _glances(times, sequence, generator)
    intention = np.clip(intention, 0, 1) + gaze
    _blink(times, intention, style.blink_rate, generator)
    shown = style.show(np.clip(intention, 0, 1).astype(np.float32))
    angles = _head(times, sequence, style.head_motion, generator)
    rows = np.minimum(np.round(np.arange(0, seconds, 1 / fps) / 0.01).astype(int), len(times) - 1)
    return Performance(shown[rows], angles[rows].astype(np.float32), float(fps))


def _score(times: np.ndarray, sequence: str, speed: float, generator: np.random.Generator) -> np.ndarray:
    seconds = float(times[-1])
    if sequence in speech.SENTENCES:
        start = generator.uniform(0.3, 0.7)
        spoken, _ = speech.speak(times, speech.SENTENCES[sequence], start, _pace(sequence, seconds, speed), generator)
        accents = [script.ACCENTS[generator.integers(len(script.ACCENTS))] for _ in range(3)]
        return spoken + 0.6 * _poses(times, accents, 0.2, seconds, generator, 0.5)
    if sequence == FREE:
        return _free(times, seconds, speed, generator)
    poses = list(script.EMOTIONS.get(sequence, script.EXPRESSIONS.get(sequence, ())))
    hold = 1.3 if sequence in script.EMOTIONS else 0.9
    return _poses(times, poses, 0.25, seconds, generator, hold / speed)


def _pace(sequence: str, seconds: float, speed: float) -> float:
    names = speech.SENTENCES[sequence].split()
    usual = sum(speech.LENGTH.get(name, 0.085) for name in names)
    return max(speed, usual / (seconds - 1.4)) if usual * speed < seconds else speed


def _free(times: np.ndarray, seconds: float, speed: float, generator: np.random.Generator) -> np.ndarray:
    """Talk with feeling, then improvised faces, then talk again; the two overlap."""
    total = np.zeros((len(times), len(ACTIONS)), np.float32)
    begin = 0.3
    while begin < seconds - 1.0:
        if generator.random() < 0.45:
            words, pace = speech.babble(generator, int(generator.integers(3, 7))), speed * generator.uniform(0.85, 1.2)
            spoken, end = speech.speak(times, words, begin, pace, generator)
            total += spoken * generator.uniform(0.9, 1.3)
            moods = [script.improvise(generator) for _ in range(max(1, round((end - begin) / 1.3)))]
            total += 0.95 * _poses(times, moods, begin, min(end, seconds), generator, 0.6)
        else:
            count = int(generator.integers(2, 5))
            end = begin + count * generator.uniform(0.7, 1.1) / speed
            faces = [script.improvise(generator) for _ in range(count)]
            total += _poses(times, faces, begin, min(end, seconds), generator, 0.45)
        begin = end + generator.uniform(0.0, 0.35)
    return np.clip(total, 0, 1)


def _poses(
    times: np.ndarray, poses: list, begin: float, end: float, generator: np.random.Generator, hold: float
) -> np.ndarray:
    """Poses one after another between `begin` and `end`: onset, apex of at most `hold` seconds, offset."""
    total = np.zeros((len(times), len(ACTIONS)), np.float32)
    slot = (end - begin) / max(len(poses), 1)
    for number, pose in enumerate(poses):
        strength = float(np.clip(generator.normal(1.10, 0.12), 0.7, 1.4))
        for name, value in pose.items():
            lead = generator.normal() * 0.035
            onset = begin + number * slot + lead + 0.02 * slot
            rise = min(0.35 * slot, generator.uniform(0.16, 0.32))
            fall = min(0.40 * slot, generator.uniform(0.22, 0.40))
            stay = max(0.0, min(hold * generator.uniform(0.8, 1.3), slot - rise - 0.7 * fall))
            up = np.clip((times - onset) / rise, 0, 1)
            down = np.clip((times - onset - rise - stay) / fall, 0, 1)
            curve = _ease(up) * (1 - _ease(down)) * value * strength * np.exp(generator.normal() * 0.08)
            for index in sides(name):
                total[:, index] = np.maximum(total[:, index], curve)
    return total


def _ease(share: np.ndarray) -> np.ndarray:
    """Minimum-jerk rise from 0 to 1."""
    return share**3 * (10 - 15 * share + 6 * share**2)


def _tremor(times: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Faint slow drift of mouth and brows: nobody holds perfectly still."""
    noise = gaussian_filter1d(generator.normal(size=(len(times), len(ACTIONS))), 30, axis=0, mode="nearest")
    moving = np.array([name.startswith(("brow", "mouth", "cheekSquint")) for name in ACTIONS])
    return np.where(moving, 0.6 * noise, 0).astype(np.float32)


def _glances(times: np.ndarray, sequence: str, generator: np.random.Generator) -> np.ndarray:
    """Saccades as eyeLook actions of both eyes together; wide ones in EXP-2-eyes and FREE."""
    spread = {"EXP-2-eyes": 0.5, FREE: 0.5}.get(sequence, 0.15)
    result = np.zeros((len(times), len(ACTIONS)), np.float32)
    now, target = 0.0, np.zeros(2)
    aim = np.zeros((len(times), 2))
    while now < times[-1]:
        aim[times >= now] = target
        now += float(generator.gamma(3.0, 0.25 if sequence == "EXP-2-eyes" else 0.4))
        target = np.clip(generator.normal(size=2) * spread * [1.0, 0.7], -0.9, 0.9) * (generator.random() < 0.75)
    aim = gaussian_filter1d(aim, 2.0, axis=0, mode="nearest")
    left, right = np.maximum(aim[:, 0], 0), np.maximum(-aim[:, 0], 0)
    result[:, INDEX["eyeLookOutLeft"]] = result[:, INDEX["eyeLookInRight"]] = left
    result[:, INDEX["eyeLookOutRight"]] = result[:, INDEX["eyeLookInLeft"]] = right
    for name, amount in (("eyeLookUp", np.maximum(aim[:, 1], 0)), ("eyeLookDown", np.maximum(-aim[:, 1], 0))):
        result[:, list(sides(name))] = amount[:, None]
    return result


def _blink(times: np.ndarray, intention: np.ndarray, rate: float, generator: np.random.Generator) -> None:
    """Spontaneous blinks, in place: 0.08 s to close, 0.14 s to open."""
    now = float(generator.exponential(1 / rate))
    while now < times[-1]:
        closing = np.clip((times - now) / 0.08, 0, 1) * (1 - _ease(np.clip((times - now - 0.10) / 0.14, 0, 1)))
        for index in sides("eyeBlink"):
            intention[:, index] = np.maximum(intention[:, index], closing)
        now += 0.4 + float(generator.exponential(1 / rate))


def _head(times: np.ndarray, sequence: str, amount: float, generator: np.random.Generator) -> np.ndarray:
    """Yaw, pitch, roll in degrees: slow smooth drift, or deliberate turns in EXP-1 and FREE."""
    spread = np.array(HEAD_MOTION.get(sequence, HEAD_MOTION.get(sequence[:3], STILL))) * amount**0.5
    slow = {"EXP-1-head": 45, FREE: 50}.get(sequence, 70)
    drift = gaussian_filter1d(generator.normal(size=(len(times) + 400, 3)), slow, axis=0, mode="nearest")[200:-200]
    drift = drift * np.sqrt(2 * slow * np.sqrt(np.pi))  # back to unit variance
    if sequence in ("EXP-1-head", FREE):
        drift = (drift - drift.mean(0)) / drift.std(0)  # everybody turns their head here
    angles = drift * spread + generator.normal(size=3) * [1.5, 1.5, 1.0]
    return LIMITS * np.tanh(angles / LIMITS)
