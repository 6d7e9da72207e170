"""Identity leakage: chance where features tell nothing about people, certainty where they do, and a reference."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from raflib import ExpressionBank
from raflib.coverage import identity_leakage, leakage_table
from raflib.coverage.weightings import First, LessPersonMean, PerDeviation
from raflib.errors import RafError

PEOPLE, SEQUENCES, ROWS, WIDTH = 8, 8, 6, 8


def made(offset, noise=1.0, seed=0):
    """(features, people, sequence): sequences have means that all people share; people differ by `offset` deviations
    in the last two columns."""
    draw = np.random.default_rng(seed)
    people = np.repeat([f"P{i:02d}" for i in range(PEOPLE)], SEQUENCES * ROWS)
    sequence = np.tile(np.repeat([f"S{i}" for i in range(SEQUENCES)], ROWS), PEOPLE)
    means = dict(zip(np.unique(sequence), draw.normal(0, 2, (SEQUENCES, WIDTH)), strict=True))
    marks = dict(zip(np.unique(people), draw.normal(0, 1, (PEOPLE, 2)), strict=True))
    features = np.stack([means[name] for name in sequence]) + noise * draw.normal(size=(len(people), WIDTH))
    features[:, -2:] = draw.normal(size=(len(people), 2))
    features[:, -2:] += offset * np.stack([marks[name] for name in people])
    return features, people, sequence


def test_features_without_identity_give_chance():
    told = identity_leakage(*made(0))
    low, high = told.interval
    assert told.chance == 1 / PEOPLE and told.people[0] == "P00" and len(told.by_person) == PEOPLE
    assert low < told.chance < high and abs(told.accuracy - told.chance) < 0.03
    assert "of 8 people; chance is 12.5%" in str(told)


def test_an_offset_by_person_is_told_and_more_of_it_is_told_better():
    small, large, whole = (identity_leakage(*made(offset)).accuracy for offset in (1, 3, 100))
    assert 1.5 / PEOPLE < small < large < whole and whole > 0.99


def test_a_moment_cannot_be_recognised():
    """Frames of one person and sequence are alike, and so are told only where the sequence was seen before."""
    features, people, sequence = made(0)
    draw = np.random.default_rng(1)
    both = np.array([f"{one} {other}" for one, other in zip(people, sequence, strict=True)])
    own = dict(zip(np.unique(both), draw.normal(0, 5, (PEOPLE * SEQUENCES, WIDTH)), strict=True))
    features = features + np.stack([own[name] for name in both])
    assert identity_leakage(features, people, sequence).accuracy < 0.14
    shuffled = np.tile([f"S{i}" for i in range(SEQUENCES)], len(people) // SEQUENCES)  # cuts through sequences
    assert identity_leakage(features, people, shuffled).accuracy > 0.2


def test_the_probe_is_scikit_learns_on_standardised_frames_of_the_other_sequences():
    features, people, sequence = made(1.5)
    features[:, 3] = 7  # a constant column tells nothing
    keep = np.random.default_rng(2).uniform(size=len(people)) < 0.7  # people have different numbers of frames
    features, people, sequence = features[keep], people[keep], sequence[keep]
    told = identity_leakage(features, people, sequence, folds=SEQUENCES)
    right = np.zeros(len(people))
    columns = np.delete(np.arange(WIDTH), 3)
    for name in np.unique(sequence):
        learn, held = sequence != name, sequence == name
        mean, scale = features[learn][:, columns].mean(0), features[learn][:, columns].std(0)
        probe = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(PEOPLE, 1 / PEOPLE))
        probe.fit((features[learn][:, columns] - mean) / scale, people[learn])
        right[held] = probe.predict((features[held][:, columns] - mean) / scale) == people[held]
    expected = np.array([right[people == name].mean() for name in np.unique(people)])
    np.testing.assert_array_equal(told.by_person, expected)
    half = 2.364624 * expected.std(ddof=1) / np.sqrt(PEOPLE)  # Student's, 7 degrees of freedom
    assert told.interval == pytest.approx((expected.mean() - half, expected.mean() + half), abs=1e-6)


def test_any_weighting_of_a_bank_and_any_number_of_people():
    features, people, sequence = made(4)
    bank = ExpressionBank(features, people, sequence, np.arange(len(people)), "toy")
    found = leakage_table(bank, [PerDeviation(), First(WIDTH - 2), LessPersonMean()], sizes=(3, PEOPLE))
    assert list(found.columns) == ["space", "people", "accuracy", "low", "high", "chance"]
    table = found.set_index(["space", "people"]).accuracy.unstack()
    plain, scaled, first, less = (
        table.loc[name] for name in ("toy", "toy/per_deviation", "toy/first6", "toy/less_person_mean")
    )
    assert scaled[PEOPLE] == pytest.approx(plain[PEOPLE], abs=0.01), "columns are standardised anyway"
    assert (plain > 0.6).all() and first[PEOPLE] < 0.2 and less[PEOPLE] < 0.2
    assert plain[3] > plain[PEOPLE], "fewer people are easier"
    assert table.index.size == 4 and (found.chance == 1 / found.people).all()
    assert plain[PEOPLE] == pytest.approx(identity_leakage(bank.features, people, sequence).accuracy)


def test_errors_name_what_is_wrong():
    features, people, sequence = made(0)
    with pytest.raises(RafError, match="frames of 1 people, expected at least 2"):
        identity_leakage(features, ["P"] * len(people), sequence)
    with pytest.raises(RafError, match="all frames of P03 are in sequences that are held out together"):
        identity_leakage(features, people, np.where(people == "P03", "S0", sequence))
    with pytest.raises(RafError, match="NaN or infinite"):
        identity_leakage(np.where(features > 4, np.nan, features), people, sequence)
    with pytest.raises(RafError, match="expected \\[N, d\\] and one name a frame"):
        identity_leakage(features[1:], people, sequence)
    with pytest.raises(RafError, match="folds is 9"):
        identity_leakage(features, people, sequence, folds=9)
    bank = ExpressionBank(features, people, sequence, np.arange(len(people)), "toy")
    with pytest.raises(RafError, match="size is 9"):
        leakage_table(bank, sizes=(9,))
