"""Tracked against true, over a bank: the right frames are compared, and the wrong bank is refused."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import ball_capture

from raflib import studio
from raflib.bank import ExpressionBank
from raflib.capture import Truth
from raflib.errors import RafError
from raflib.openbank import tracker_agreement, true_actions, with_true_actions, with_truth
from raflib.tracking import ARKIT52

SHOWN = [(subject, sequence) for subject in ("B001", "B002") for sequence in ("EXP-8-jaw-1", "SEN-04-two_plus_seven")]


def perfect_bank(frames=40, offset=0.0):
    """The bank of a tracker that gives the true values, plus a constant for the second person."""
    columns = [ARKIT52.index(name) for name in ARKIT52 if name in studio.ACTIONS]
    actions = [studio.ACTIONS.index(name) for name in ARKIT52 if name in studio.ACTIONS]
    rows, index = [], np.arange(0, 2 * frames, 2)
    for subject, sequence in SHOWN:
        features = np.zeros((frames, 52), np.float32)
        features[:, columns] = studio.act(subject, sequence).actions[index][:, actions]
        rows.append(features + offset * (subject == "B002"))
    return ExpressionBank(
        np.concatenate(rows),
        np.repeat([subject for subject, _ in SHOWN], frames),
        np.repeat([sequence for _, sequence in SHOWN], frames),
        np.tile(index, len(SHOWN)),
        "arkit52",
        {},
    )


def test_a_tracker_that_reads_the_truth_agrees_with_it():
    bank = perfect_bank()
    np.testing.assert_array_equal(true_actions(bank, "B002")[:40], studio.act("B002", "EXP-8-jaw-1").actions[:80:2])
    table = tracker_agreement(bank, bank.people)
    assert {"jawOpen", "jawLeft", "eyeBlinkLeft"} <= set(table.index) and "tongueOut" not in table.index
    np.testing.assert_allclose(table, 1, atol=1e-5)
    biased = tracker_agreement(perfect_bank(offset=2.0), bank.people)
    np.testing.assert_allclose(biased.within, 1, atol=1e-5)
    assert biased.pooled.max() < 0.99 and biased.pooled.median() < 0.8


def test_true_actions_are_a_space_of_banks_and_captures():
    bank = perfect_bank().restrict(rows=np.random.default_rng(0).permutation(160))
    known = with_true_actions(bank, progress=False)
    for subject in bank.people:
        np.testing.assert_array_equal(known.spaces["true52"][bank.subjects == subject], true_actions(bank, subject))
    np.testing.assert_array_equal(known.features, bank.features)
    own = ball_capture("B001", frames=6)
    with pytest.raises(RafError, match="capture B001 has no truth"):
        with_truth(own)
    actions = np.random.default_rng(1).uniform(size=(len(own), 52)).astype(np.float32)
    truth = Truth(actions, np.zeros((len(own), 3)), np.zeros((len(own), 6)), np.zeros((len(own), 478, 3)))
    capture = with_truth(replace(own, truth=truth, spaces={"open42": np.zeros((len(own), 42), np.float32)}))
    np.testing.assert_array_equal(capture.spaces["true52"], actions)
    assert list(capture.spaces) == ["open42", "true52"]


def test_a_bank_of_other_performances_or_features_is_refused():
    bank = perfect_bank()
    beyond = ExpressionBank(bank.features, bank.subjects, bank.sequence, bank.frame + 100, "arkit52", {})
    with pytest.raises(RafError, match=r"B001 frame 178 of EXP-8-jaw-1.*build it again"):
        tracker_agreement(beyond, ["B001"])
    with pytest.raises(RafError, match=r"B001 frame 178 of EXP-8-jaw-1.*build it again"):
        with_true_actions(beyond, progress=False)
    with pytest.raises(RafError, match="features are bfm64"):
        tracker_agreement(replace(bank, feature_space="bfm64"), ["B001"])
    with pytest.raises(RafError, match="no rows of subject 'E09'"):
        tracker_agreement(bank, ["E09"])
