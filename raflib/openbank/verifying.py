"""`verify`: a few rows of the open bank are rendered and tracked again and compared with what it holds.

The scores of every chosen row are compared. The open face model is fitted to all rows of a person together, so `open42`
is compared for people all of whose rows are chosen. Up to half of the chosen rows are whole people for this reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from raflib.bank import ExpressionBank
from raflib.errors import RafError, whole
from raflib.openbank.building import OPEN
from raflib.openbank.filming import Person, See, film_people, open_features
from raflib.sources._studio_recipe import FEATURE_SPACE
from raflib.tracking import ARKIT52

TOLERANCE = 0.05
"""Largest allowed difference of a score (0 to 1) or a head rotation (radians) when a row's frame is rendered again.

The largest differences of any score were measured on 160 to 360 frames of 8 to 18 people. They were 0.0003 on the
machine that made the rows (half precision), 0.003 with images computed by another instruction set (7 pixel values in a
million change), 0.016 with every pixel value one level brighter, and 0.024 with one value in a hundred a level off.
Wrong rows are farther: the next frame of the same performance differs by 0.09 (median; above 0.035 in nine cases of
ten), another frame of the person by more than 0.13 in 99 cases of 100."""
FIT_TOLERANCE = 0.2
"""Largest allowed RMS difference of a row's `open42` coefficients (deviations) when its person is filmed and fitted
again.

RMS differences were measured on 240 frames of 2 people. Half precision alone makes 0.0002 (0.0004 at most), a hundredth
of what the tracker's noise makes: 0.02 (0.13 at most) with every pixel value one level brighter, and 0.03 (0.09) with
one value in a hundred a level off. Wrong rows are farther: the next frame of the same performance differs by 0.3
(median; above 0.18 in nine cases of ten), another frame of the person by more than 0.5 in 99 cases of 100."""
PEOPLE = 12
"""How many people are rendered again. A further person costs as much as twenty frames of one who is there."""


@dataclass(frozen=True, eq=False)
class Verification:
    """What was compared.

    Attributes:
        rows: [R] rows of the bank.
        difference: [R] largest difference of any score or rotation of each row.
        people: the people whose rows they are.
        fitted: the people whose `open42` features were compared.
        fit_difference: [R] RMS difference of a row's `open42` coefficients, NaN for rows of other people.
    """

    rows: Int[np.ndarray, " R"]
    difference: Float[np.ndarray, " R"]
    people: tuple[str, ...]
    fitted: tuple[str, ...]
    fit_difference: Float[np.ndarray, " R"]

    def __str__(self) -> str:
        largest, median = self.difference.max(), np.median(self.difference)
        told = (
            f"{len(self.rows)} rows of {len(self.people)} people rendered and tracked again: scores differ by at most "
            f"{largest:.4f} (median over rows {median:.4f}, tolerance {TOLERANCE})"
        )
        if not self.fitted:
            return told
        return (
            f"{told}; {OPEN} of {len(self.fitted)} whole people by at most {np.nanmax(self.fit_difference):.4f} "
            f"(tolerance {FIT_TOLERANCE})"
        )


def verify(
    bank: ExpressionBank, share: float | int = 0.01, seed: int = 0, cores: int | None = None, progress: bool = True
) -> Verification:
    """Render and track a `share` of the rows again and compare what the bank holds: scores, head rotations, `open42`.

    Rows are sampled from a dozen random people, or from as many more as are needed. For `open42`, up to half of them
    are all rows of a few people, and it is not compared where half of the share is less than one person.

    Args:
        bank: a bank of studio people with features `arkit52`, and `open42` or none.
        share: above 0, at most 1.
        seed: chooses the rows.
        cores: threads that work side by side (default: all cores of this machine).
        progress: show a progress bar.

    Raises RafError naming the worst row when a score differs by more than `TOLERANCE` or no face is found, or `open42`
    by more than `FIT_TOLERANCE`; for rows that no studio person performs, for another feature space, for a negative
    seed, and for a share out of range.
    """
    seed = whole("verify: seed", seed, least=0)
    if FEATURE_SPACE in bank.spaces:
        bank = bank.in_space(FEATURE_SPACE)
    if bank.feature_space != FEATURE_SPACE or not 0 < share <= 1:
        raise RafError(
            f"verify: a share of {share} of {bank.feature_space} features; expected above 0, at most 1, {FEATURE_SPACE}"
        )
    rows = _choose(bank, int(np.ceil(share * len(bank))), np.random.default_rng(seed))
    people = tuple(np.unique(bank.subjects[rows]).tolist())
    stored = np.hstack([column[rows] for column in (bank.features, bank.rotation) if column is not None])
    again, fit_difference = np.full(stored.shape, np.nan, np.float32), np.full(len(rows), np.nan)
    complete = [name for name in people if (bank.subjects[rows] == name).sum() == (bank.subjects == name).sum()]
    fitted = complete if OPEN in bank.spaces else []

    def film(name: str, see: See) -> None:
        person, places, landmarks = Person(name), np.flatnonzero(bank.subjects[rows] == name), []
        for place in places:
            seen = see(person.images(str(bank.sequence[rows[place]]), int(bank.frame[rows[place]])))
            if seen is not None:
                again[place] = np.append(seen.expression, seen.rotation)[: stored.shape[1]]
                landmarks.append(seen.landmarks)
        if name in fitted and len(landmarks) == len(places):
            apart = open_features(np.stack(landmarks)) - bank.spaces[OPEN][rows[places]]
            fit_difference[places] = np.sqrt((apart**2).mean(1))

    with tqdm(total=len(rows), desc="verifying", unit="frame", disable=not progress) as bar:
        film_people(people, film, cores, bar)
    apart = np.nan_to_num(np.abs(again - stored), nan=np.inf)
    found = Verification(rows, apart.max(1), people, tuple(fitted), fit_difference)
    if (off := int((found.difference > TOLERANCE).sum())) > 0:
        _refuse(bank, found, apart, off)
    if (off := int((fit_difference > FIT_TOLERANCE).sum())) > 0:
        _refuse_fit(bank, found, off)
    return found


def _choose(bank: ExpressionBank, count: int, random: np.random.Generator) -> Int[np.ndarray, " R"]:
    """`count` random rows, in order, of as few random people as allowed; up to half of them are all rows of people,
    where the bank has `open42`."""
    people = random.permutation(bank.people)
    together = np.cumsum([(bank.subjects == name).sum() for name in people])
    whole = int(np.searchsorted(together, count / 2, "right")) if OPEN in bank.spaces else 0
    enough = max(PEOPLE, int(np.searchsorted(together, count)) + 1)
    complete = np.flatnonzero(np.isin(bank.subjects, people[:whole]))
    others = random.permutation(np.flatnonzero(np.isin(bank.subjects, people[whole:enough])))
    return np.sort(np.append(complete, others[: count - len(complete)]))


def _refuse(bank: ExpressionBank, found: Verification, apart: Float[np.ndarray, "R D"], off: int) -> None:
    """RafError naming the row that differs most; `apart` are differences by column, `off` counts the wrong rows."""
    worst = int(found.difference.argmax())
    row, largest = found.rows[worst], found.difference[worst]
    score = (*ARKIT52, *(f"rotation[{axis}]" for axis in range(3)))[int(apart[worst].argmax())]
    what = "shows no face now" if np.isinf(largest) else f"differs by {largest:.3f} in {score}"
    raise RafError(
        f"bank: {off} of {len(found.rows)} rows are not what is rendered and tracked now; row {row} "
        f"({bank.subjects[row]}, {bank.sequence[row]}, frame {bank.frame[row]}) {what}, expected at most {TOLERANCE}; "
        "build the bank again (make bank) or use the versions that its provenance names"
    )


def _refuse_fit(bank: ExpressionBank, found: Verification, off: int) -> None:
    """RafError naming the row whose `open42` features differ most; `off` counts the wrong rows."""
    worst = int(np.nanargmax(found.fit_difference))
    row = found.rows[worst]
    raise RafError(
        f"bank: {OPEN} of {off} rows is not what is fitted to all rows of {len(found.fitted)} people now; row {row} "
        f"({bank.subjects[row]}, {bank.sequence[row]}, frame {bank.frame[row]}) differs by "
        f"{found.fit_difference[worst]:.3f} (RMS), expected at most {FIT_TOLERANCE}; build the bank again (make bank) "
        "or use the versions that its provenance names"
    )
