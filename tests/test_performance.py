"""Performances of studio people: every sequence exists and fits its name, and habits are personal."""

import numpy as np
import pytest

from raflib import studio
from raflib.studio import life, script, speech
from raflib.studio.head_model import ACTIONS, INDEX
from raflib.studio.style import ExpressionStyle, sides

TIMES = np.arange(0, 5, 0.01, dtype=np.float32)


def drawn(seed=0):
    return np.random.default_rng(seed)


def test_the_sequences_are_nersembles():
    kinds = [name.split("-")[0] for name in studio.SEQUENCES]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"EXP": 9, "EMO": 4, "SEN": 10, "HAIR": 1, "FREE": 1}
    assert set(studio.SEQUENCES) - set(studio.TRAIN_SEQUENCES) == {"EXP-6-tongue-1", "EXP-7-tongue-2", "FREE"}
    for name in ("EXP-6-tongue-1", "EXP-7-tongue-2"):
        assert studio.act("422", name).actions[:, INDEX["tongueOut"]].max() > 0.4
    shown = {name: studio.act("422", name).actions[:, INDEX["tongueOut"]].max() for name in studio.TRAIN_SEQUENCES}
    assert max(shown.values()) == 0


def test_hair_moves_the_head_and_not_the_face():
    for subject in ("422", "B007"):
        hair = studio.act(subject, "HAIR")
        spans = np.ptp(hair.angles, axis=0)
        assert spans[0] > 22 and spans[1] > 10 and spans[2] > 7
        yaw = hair.angles[:, 0] - np.median(hair.angles[:, 0])
        assert (np.diff(np.sign(yaw[: len(yaw) // 2])) != 0).sum() >= 2, "shaken"
        face = [i for i, name in enumerate(ACTIONS) if not name.startswith("eye")]
        moved = [np.ptp(studio.act(subject, name).actions[:, face], axis=0).max() for name in ("HAIR", "EXP-4-lips")]
        assert moved[0] < 0.45 < moved[1]


def test_emotions_rise_stay_and_fall():
    pose = {"browInnerUp": 0.8}
    from raflib.studio.performance import _poses

    curve = _poses(TIMES, [pose], 1.0, 4.0, drawn(), 1.0)[:, INDEX["browInnerUp"]]
    apex = curve > 0.95 * curve.max()
    assert curve[0] == curve[-1] == 0 and 0.7 < TIMES[apex][-1] - TIMES[apex][0] < 2
    assert np.flatnonzero(apex)[-1] - np.flatnonzero(apex)[0] == apex.sum() - 1
    rise = TIMES[apex][0] - TIMES[curve > 0.05][0]
    assert 0.1 < rise < 0.5


def test_smiles_show_teeth():
    for pose in (script.SMILE, script.LAUGH):
        assert pose["mouthUpperUp"] >= 0.3 and pose["jawOpen"] > 0


def test_stressed_vowels_are_larger_and_beat_the_head_and_the_brows():
    spoken = speech.speak(TIMES, "K A T _ P O P _ S IY S", 0.5, 1.0, drawn(3))
    assert 1 <= len(spoken.stresses) <= 3 and min(spoken.stresses) > 0.5 and max(spoken.stresses) < spoken.end
    beats = life.beats(TIMES, spoken.stresses)
    assert beats.shape == (len(TIMES), len(spoken.stresses)) and beats.max() == pytest.approx(1)
    for column, stress in zip(beats.T, spoken.stresses, strict=True):
        assert abs(TIMES[column.argmax()] - stress) < 0.05
        assert column[np.abs(TIMES - stress) > 0.4].max() == 0
    assert life.beats(TIMES, []).shape == (len(TIMES), 0)
    style = ExpressionStyle.sample(drawn())
    lifted = life.raised_brows(np.repeat(beats, 4, axis=1), style, drawn())
    assert lifted[:, INDEX["browInnerUp"]].max() > 0 and lifted[:, INDEX["jawOpen"]].max() == 0
    quiet, nodding = (life.head(TIMES, "SEN-01", style, pulses, drawn()) for pulses in (beats[:, :0], beats))
    dropped = nodding[:, 1] - quiet[:, 1]
    assert dropped.min() < -0.2 and dropped[beats.max(1) == 0] == pytest.approx(0)


def test_eyes_stay_where_they_looked_while_the_head_turns():
    style = ExpressionStyle.sample(drawn())
    angles = np.zeros((len(TIMES), 3))
    ahead = life.gaze(TIMES, "SEN-01", style, angles, drawn(5))
    turned = life.gaze(TIMES, "SEN-01", style, angles + np.array([12.0, 0, 0]), drawn(5))

    def to_the_left(shown):
        return (shown[:, INDEX["eyeLookOutLeft"]] - shown[:, INDEX["eyeLookOutRight"]]).mean()

    assert to_the_left(turned) < to_the_left(ahead) - 0.2
    np.testing.assert_array_equal(ahead[:, INDEX["eyeLookOutLeft"]], ahead[:, INDEX["eyeLookInRight"]])


def test_tremor_is_as_faint_at_the_ends_as_in_the_middle():
    size = np.stack([life.tremor(TIMES, drawn(seed)) for seed in range(40)]).std(axis=(0, 2))
    assert size[[0, -1]].max() < 1.3 * size.mean() and 0.5 < size.mean() / life.TREMOR < 1.0


def test_everybody_blinks_and_closes_their_eyes():
    lids = list(sides("eyeBlink"))
    blinks = 0
    for subject in ("422", "B003", "B009"):
        for name in studio.SEQUENCES[-8:]:
            closed = studio.act(subject, name).actions[:, lids].min(1) > 0.85
            blinks += (np.diff(closed.astype(int)) == 1).sum()
    assert blinks > 15


def test_habits_differ_between_people_and_give_way_to_expressions():
    styles = [ExpressionStyle.sample(drawn(seed)) for seed in range(40)]
    resting = np.array([style.resting for style in styles])
    assert resting.min() >= 0 and resting.max() <= 0.9
    assert np.sqrt(((resting - resting.mean(0)) ** 2).sum(1).mean()) > 0.5
    assert np.std([style.carriage[1] for style in styles]) > 1.5 and np.std([style.gaze[0] for style in styles]) > 2
    cheerful = next(style for style in styles if style.resting[INDEX["mouthSmileLeft"]] > 0.25)
    grave = np.zeros(52, np.float32)
    np.testing.assert_allclose(cheerful.show(grave), cheerful.resting, atol=1e-6)
    grave[list(sides("mouthFrown"))] = 1
    smile = INDEX["mouthSmileLeft"]
    assert cheerful.show(grave)[smile] < 0.6 * cheerful.resting[smile] + np.maximum(cheerful.mixing[smile] @ grave, 0)
