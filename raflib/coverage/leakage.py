"""Identity leakage: how well a linear probe tells from a feature *whose* face it is.

RAF treats features as descriptions of expressions, whoever shows them. The more a feature tells about the person, the
less *near* means *alike in expression*. The probe is linear discriminant analysis with a shrunk covariance. It learns
from some sequences of each person and is scored on the frames of the other sequences, so it cannot recognise a moment.
Pure functions on arrays and banks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from jaxtyping import Float, Int

from raflib.coverage.intervals import student
from raflib.errors import RafError, whole

if TYPE_CHECKING:
    import pandas

    from raflib.bank import ExpressionBank
    from raflib.coverage.weightings import Weighting

FOLDS = 4
"""Parts into which sequences are divided. Each in turn is held out, so the probe learns from three quarters of them."""


@dataclass(frozen=True, eq=False)
class Leakage:
    """How well frames of held-out sequences are attributed to one of P people.

    Attributes:
        people: [P] names, sorted.
        by_person: [P] share of each person's frames that are attributed to them.
    """

    people: tuple[str, ...]
    by_person: Float[np.ndarray, "P"]

    @property
    def accuracy(self) -> float:
        """Mean share over people, who all have the same weight."""
        return float(self.by_person.mean())

    @property
    def chance(self) -> float:
        """The accuracy of a guess: 1 / P."""
        return 1 / len(self.people)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy for other people (Student's t over people), within 0 to 1.

        People compete for the same frames, so their shares are not quite independent and the interval is approximate.
        """
        half = student(len(self.people) - 1) * self.by_person.std(ddof=1) / np.sqrt(len(self.people))
        return float(max(self.accuracy - half, 0)), float(min(self.accuracy + half, 1))

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.accuracy:.0%} [{low:.0%}, {high:.0%}] of the frames are attributed to the right one of "
            f"{len(self.people)} people; chance is {self.chance:.1%}"
        )


def identity_leakage(
    features: Float[np.ndarray, "N d"],
    people: Sequence[str] | np.ndarray,
    sequence: Sequence[str] | np.ndarray,
    folds: SupportsIndex = FOLDS,
    seed: SupportsIndex = 0,
) -> Leakage:
    """How well a linear probe tells whose features these are, in sequences that it did not learn from.

    Columns are standardised by the frames that the probe learns from. All people have the same prior. The covariance
    within people is shrunk as Ledoit and Wolf (2004) do, which needs no parameter and is stable with few frames.

    Args:
        features: features of N frames.
        people: [N] the person of each frame.
        sequence: [N] the recording of each frame. A sequence is held out as a whole, for all people at once.
        folds: how many parts the sequences are divided into.
        seed: of this division.

    Raises RafError for fewer than two people, other shapes, NaN, fewer sequences than folds, and a person whose frames
    are all in one part.
    """
    from threadpoolctl import threadpool_limits

    features, (names, who), (recordings, recording) = _checked(features, people, sequence)
    folds = whole("identity_leakage: folds", folds, 2, len(recordings))
    order = np.random.default_rng(whole("seed", seed, 0)).permutation(len(recordings))
    fold, right = (order % folds)[recording], np.zeros(len(features))
    with threadpool_limits(1):
        for number in range(folds):
            learn, held = fold != number, fold == number
            if missing := set(range(len(names))) - set(who[learn].tolist()):
                raise RafError(
                    f"identity_leakage: all frames of {names[min(missing)]} are in sequences that are held out "
                    "together; give each person several sequences, or use other folds"
                )
            right[held] = _probed(features[learn], who[learn], features[held]) == who[held]
    return Leakage(tuple(names.tolist()), np.bincount(who, right) / np.bincount(who))


def leakage_table(
    bank: ExpressionBank,
    weightings: Iterable[Weighting] = (),
    sizes: Iterable[int] = (),
    folds: SupportsIndex = FOLDS,
    seed: SupportsIndex = 0,
) -> pandas.DataFrame:
    """Identity leakage of a bank's features as they are and in each weighting, for several numbers of people.

    Args:
        bank: any bank; `bank.in_space(tag)` for another of its spaces.
        weightings: of `raflib.coverage.weightings`, fitted on this bank.
        sizes: numbers of people, chosen at random and alike for all weightings; everybody by default.
        folds, seed: as in `identity_leakage`; the seed also chooses the people.

    Returns columns `space`, `people`, `accuracy`, `low`, `high`, `chance`. The probe standardises columns, so dividing
    them by their deviations changes nothing. A weighting that subtracts each person's mean uses the mean of held-out
    frames too, which can bring the accuracy below chance. Raises RafError as `identity_leakage` and the weightings do,
    and for a size that the bank does not have.
    """
    import pandas as pd

    sizes = sorted({whole("leakage: size", size, 2, len(bank.people)) for size in sizes} or {len(bank.people)})
    order = np.random.default_rng(whole("seed", seed, 0)).permutation(bank.people)
    spaces = [bank]
    for weighting in weightings:
        fitted = weighting.fit(bank)
        spaces.append(fitted.of_bank(bank).in_space(fitted.space))
    records = []
    for space in spaces:
        for size in sizes:
            some = space.restrict(subjects=order[:size].tolist())
            told = identity_leakage(some.features, np.asarray(some.subjects), np.asarray(some.sequence), folds, seed)
            low, high = told.interval
            found = {"accuracy": told.accuracy, "low": low, "high": high, "chance": told.chance}
            records.append({"space": space.feature_space, "people": size, **found})
    return pd.DataFrame(records)


def _probed(
    features: Float[np.ndarray, "N d"], who: Int[np.ndarray, " N"], asked: Float[np.ndarray, "M d"]
) -> Int[np.ndarray, " M"]:
    """The person to whom the probe attributes each of the `asked` frames."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    mean, scale = features.mean(0), features.std(0)
    varies = scale > 1e-9 * max(float(scale.max()), 1e-300)  # a constant column tells nothing
    if not varies.any():
        return np.zeros(len(asked), int)
    people = len(np.unique(who))
    probe = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(people, 1 / people))
    probe.fit((features - mean)[:, varies] / scale[varies], who)
    return probe.predict((asked - mean)[:, varies] / scale[varies])


Coded = tuple[np.ndarray, Int[np.ndarray, " N"]]


def _checked(
    features: np.ndarray, people: Sequence[str] | np.ndarray, sequence: Sequence[str] | np.ndarray
) -> tuple[Float[np.ndarray, "N d"], Coded, Coded]:
    """Features in float64, and names with codes of people and of sequences; RafError where they do not fit."""
    features = np.asarray(features, np.float64)
    names, recordings = (np.unique(np.asarray(column), return_inverse=True) for column in (people, sequence))
    if features.ndim != 2 or not len(names[1]) == len(recordings[1]) == len(features):
        raise RafError(
            f"identity_leakage: features of shape {features.shape} for {len(names[1])} people's and "
            f"{len(recordings[1])} sequences' names, expected [N, d] and one name a frame"
        )
    if len(names[0]) < 2:
        raise RafError(f"identity_leakage: frames of {len(names[0])} people, expected at least 2 to tell apart")
    if not np.isfinite(features).all():
        raise RafError("identity_leakage: a feature is NaN or infinite; leave undetected frames out")
    return features, names, recordings
