"""Performances: NeRSemble's sequences as a person's facial actions and head angles over time.

A performance depends only on (subject, sequence). The poses of `script` become smooth curves. `life` adds the motion of
head and eyes, blinks and tremor, and the person's expression style is applied. FREE is the held-out sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from raflib.errors import RafError
from raflib.studio import life, script, speech
from raflib.studio.head_model import ACTIONS
from raflib.studio.identity import Identity, named_generator
from raflib.studio.style import sides

FREE = "FREE"
TONGUE = tuple(name for name in script.EXPRESSIONS if "tongue" in name)
TRAIN_SEQUENCES: tuple[str, ...] = (
    *(name for name in script.EXPRESSIONS if name not in TONGUE),
    *script.EMOTIONS,
    *speech.SENTENCES,
    script.HAIR,
)
SEQUENCES: tuple[str, ...] = (*TRAIN_SEQUENCES, *TONGUE, FREE)
"""NeRSemble's 24 directed sequences and FREE. As in its public preprocessing, no tongue sequence is for training."""
SECONDS = {FREE: 12.0}
READING = 0.22  # how much of an expression shows while a sentence is read aloud
MOOD = 0.7  # how much of an expression stays during a facial exercise: people are amused, strained, puzzled


@dataclass(frozen=True, eq=False)
class Performance:
    """`actions` [T,52] shown by this person (order `ACTIONS`, in [0,1]); `angles` [T,3] yaw, pitch, roll in degrees."""

    actions: Float32[np.ndarray, "T 52"]
    angles: Float32[np.ndarray, "T 3"]
    fps: float

    def __len__(self) -> int:
        return len(self.actions)


def act(subject: str, sequence: str, fps: float | int = 25) -> Performance:
    """The person `subject` performing `sequence` (one of `SEQUENCES`), at `fps` frames a second.

    Raises RafError for a sequence or subject name that does not exist, or fps outside 1 to 240.
    """
    if sequence not in SEQUENCES:
        raise RafError(f"sequence {sequence!r}: expected one of {', '.join(SEQUENCES)}")
    if not 1 <= fps <= 240:
        raise RafError(f"fps {fps!r}: expected 1 to 240 frames a second")
    style = Identity(subject).style
    generator = named_generator("performance", subject, sequence)
    seconds = SECONDS.get(sequence, float(generator.uniform(4.2, 5.8)))
    # Curves are made at a fixed fine rate and then sampled, so that fps changes only the sampling.
    times = np.arange(0, seconds, 0.01, dtype=np.float32)
    intention, stresses = _score(times, sequence, style.speed, generator)
    beats = life.beats(times, stresses)
    intention += life.raised_brows(beats, style, generator) + life.tremor(times, generator)
    angles = life.head(times, sequence, style, beats, generator)
    intention = np.clip(intention, 0, 1) + life.gaze(times, sequence, style, angles, generator)
    life.blink(times, intention, style.blink_rate, generator)
    shown = style.show(np.clip(intention, 0, 1).astype(np.float32))
    rows = np.minimum(np.round(np.arange(0, seconds, 1 / fps) / 0.01).astype(int), len(times) - 1)
    return Performance(shown[rows], angles[rows].astype(np.float32), float(fps))


def _score(
    times: np.ndarray, sequence: str, speed: float, generator: np.random.Generator
) -> tuple[Float32[np.ndarray, "T 52"], list[float]]:
    """Intended actions at `times`, and when stressed syllables are spoken."""
    seconds = float(times[-1])
    if sequence in speech.SENTENCES:
        start = generator.uniform(0.3, 0.7)
        pace = _pace(sequence, seconds, speed)
        spoken = speech.speak(times, speech.SENTENCES[sequence], start, pace, generator)
        accents = [script.ACCENTS[generator.integers(len(script.ACCENTS))] for _ in range(2)]
        mood = READING * _poses(times, accents, 0.2, seconds, generator, 0.7)
        return spoken.mouth + mood, spoken.stresses
    if sequence == FREE:
        return _free(times, seconds, speed, generator)
    poses = script.CALM if sequence == script.HAIR else script.EMOTIONS.get(sequence, script.EXPRESSIONS.get(sequence))
    hold = 1.3 if sequence in script.EMOTIONS else 0.9
    total = _poses(times, list(poses), 0.25, seconds, generator, hold / speed)
    if sequence in script.EXPRESSIONS:
        total += MOOD * _mood(times, generator)
    return total, []


def _mood(times: np.ndarray, generator: np.random.Generator) -> Float32[np.ndarray, "T 52"]:
    """One expression that starts at once and stays with varying strength."""
    accent = script.ACCENTS[generator.integers(len(script.ACCENTS))]
    drift = life.smooth_noise(len(times), 1, 80, generator)[:, 0]
    level = life.ease(np.clip(times / 0.8, 0, 1)) * np.clip(1 + 0.3 * drift, 0, 2)
    total = np.zeros((len(times), len(ACTIONS)), np.float32)
    for name, value in accent.items():
        total[:, list(sides(name))] = (level * value)[:, None]
    return total


def _pace(sequence: str, seconds: float, speed: float) -> float:
    """The person's own pace, or faster where the sentence would not fit."""
    usual = sum(speech.LENGTH.get(name, 0.085) for name in speech.SENTENCES[sequence].split())
    return max(speed, usual / (seconds - 1.3))


def _free(
    times: np.ndarray, seconds: float, speed: float, generator: np.random.Generator
) -> tuple[Float32[np.ndarray, "T 52"], list[float]]:
    """Emotional speech and improvised expressions in random order, until the sequence ends."""
    total, stresses = np.zeros((len(times), len(ACTIONS)), np.float32), []
    begin = 0.3
    while begin < seconds - 1.0:
        if generator.random() < 0.45:
            words, pace = speech.babble(generator, int(generator.integers(3, 7))), speed * generator.uniform(0.85, 1.2)
            spoken = speech.speak(times, words, begin, pace, generator)
            end, stresses = spoken.end, [*stresses, *spoken.stresses]
            total += spoken.mouth * generator.uniform(0.9, 1.3)
            moods = [script.improvise(generator) for _ in range(max(1, round((end - begin) / 1.3)))]
            total += 0.95 * _poses(times, moods, begin, min(end, seconds), generator, 0.6)
        else:
            count = int(generator.integers(2, 5))
            end = begin + count * generator.uniform(0.7, 1.1) / speed
            faces = [script.improvise(generator) for _ in range(count)]
            total += _poses(times, faces, begin, min(end, seconds), generator, 0.45)
        begin = end + generator.uniform(0.0, 0.25)
    return np.clip(total, 0, 1), stresses


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
            curve = life.ease(up) * (1 - life.ease(down)) * value * strength * np.exp(generator.normal() * 0.08)
            for index in sides(name):
                total[:, index] = np.maximum(total[:, index], curve)
    return total
