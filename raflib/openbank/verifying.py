"""`verify`: a few rows of the open bank are rendered and tracked again and compared with what it holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from raflib.bank import ExpressionBank
from raflib.errors import RafError, whole
from raflib.openbank.filming import Person, Track, film_people
from raflib.sources._studio_recipe import FEATURE_SPACE
from raflib.tracking import ARKIT52

TOLERANCE = 0.05
"""Largest allowed difference of a score (0 to 1) or a head rotation (radians) when a row's frame is rendered again.

The largest differences of any score were measured on 160 to 360 frames of 8 to 18 people. They were 0.0003 on the
machine that made the rows (half precision), 0.003 with images computed by another instruction set (7 pixel values in a
million change), 0.016 with every pixel value one level brighter, and 0.024 with one value in a hundred a level off.
Wrong rows are farther: the next frame of the same performance differs by 0.09 (median; above 0.035 in nine cases of
ten), another frame of the person by more than 0.13 in 99 cases of 100."""
PEOPLE = 12
"""How many people are rendered again. A further person costs as much as twenty frames of one who is there."""


@dataclass(frozen=True, eq=False)
class Verification:
    """What was compared: bank `rows` [R], the largest `difference` [R] of any score or rotation of each row, and the
    `people` whose rows they are."""

    rows: Int[np.ndarray, " R"]
    difference: Float[np.ndarray, " R"]
    people: tuple[str, ...]

    def __str__(self) -> str:
        largest, median = self.difference.max(), np.median(self.difference)
        return (
            f"{len(self.rows)} rows of {len(self.people)} people rendered and tracked again: scores differ by at most "
            f"{largest:.4f} (median over rows {median:.4f}, tolerance {TOLERANCE})"
        )


def verify(
    bank: ExpressionBank, share: float | int = 0.01, seed: int = 0, cores: int | None = None, progress: bool = True
) -> Verification:
    """Render and track a `share` of the rows again and compare scores and, where the bank has them, head rotations.

    Rows are sampled from a dozen random people, or from as many more as are needed.

    Args:
        bank: a bank of studio people with the open bank's feature space.
        share: above 0, at most 1.
        seed: chooses the rows.
        cores: threads that work side by side (default: all cores of this machine).
        progress: show a progress bar.

    Raises RafError naming the worst row when a score differs by more than `TOLERANCE` or no face is found, for rows
    that no studio person performs, for another feature space, for a negative seed, and for a share out of range.
    """
    seed = whole("verify: seed", seed, least=0)
    if bank.feature_space != FEATURE_SPACE or not 0 < share <= 1:
        raise RafError(
            f"verify: a share of {share} of {bank.feature_space} features; expected above 0, at most 1, {FEATURE_SPACE}"
        )
    rows = _choose(bank, int(np.ceil(share * len(bank))), np.random.default_rng(seed))
    stored = np.hstack([column[rows] for column in (bank.features, bank.rotation) if column is not None])
    again = np.full(stored.shape, np.nan, np.float32)

    def film(name: str, track: Track) -> None:
        person = Person(name)
        for place in np.flatnonzero(bank.subjects[rows] == name):
            seen = track(person.image(str(bank.sequence[rows[place]]), int(bank.frame[rows[place]])))
            if seen is not None:
                again[place] = np.append(seen.expression, seen.rotation)[: stored.shape[1]]

    people = tuple(np.unique(bank.subjects[rows]).tolist())
    with tqdm(total=len(rows), desc="verifying", unit="frame", disable=not progress) as bar:
        film_people(people, film, cores, bar)
    apart = np.nan_to_num(np.abs(again - stored), nan=np.inf)
    found = Verification(rows, apart.max(1), people)
    if (off := int((found.difference > TOLERANCE).sum())) > 0:
        _refuse(bank, found, apart, off)
    return found


def _choose(bank: ExpressionBank, count: int, random: np.random.Generator) -> Int[np.ndarray, " R"]:
    """`count` random rows, in order, of as few random people as allowed."""
    people = random.permutation(bank.people)
    together = np.cumsum([(bank.subjects == name).sum() for name in people])
    enough = max(PEOPLE, int(np.searchsorted(together, count)) + 1)
    return np.sort(random.permutation(np.flatnonzero(np.isin(bank.subjects, people[:enough])))[:count])


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
