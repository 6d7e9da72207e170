"""The faces behind a bank's rows: each filmed again from its own subject, sequence and frame."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int, UInt8
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from raflib import studio
from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.openbank.people import SIZE
from raflib.sources._studio_recipe import FEATURE_SPACE
from raflib.studio.rig import FRONTAL


def face(bank: ExpressionBank, row: int | np.integer, size: int = SIZE) -> UInt8[np.ndarray, "size size 3"]:
    """The frontal picture of one row, `size` pixels a side: half a second, most of it spent on meeting the person.

    A bank remembers names, not pictures, and the studio has somebody for every name: only for rows that the studio's
    people made does the picture show the row. Raises RafError for a row out of range, for another feature space than
    the studio's, and for a sequence or frame that no person of the studio performs.
    """
    return faces(bank, [row], size, cores=1, progress=False)[0]


def faces(
    bank: ExpressionBank,
    rows: Sequence[int] | Int[np.ndarray, " R"],
    size: int = SIZE,
    cores: int | None = None,
    progress: bool = True,
) -> UInt8[np.ndarray, "R size size 3"]:
    """`face` of many rows. After a person's first row each costs 0.02 s, so few people are seen sooner than many.

    `cores` threads (default all of this machine) work side by side. Raises RafError as `face` does, before any picture
    is made.
    """
    rows = np.asarray(rows, np.int64)
    moments = [_moment(bank, row) for row in rows.tolist()]
    camera = next(camera for camera in studio.rig(size) if camera.name == FRONTAL)
    pictures = np.empty((len(rows), size, size, 3), np.uint8)

    def film(places: Iterable[int]) -> int:
        person = studio.Identity(str(bank.subjects[rows[places[0]]]))
        for place in places:
            pictures[place] = studio.render(person, *moments[place], camera)[0]
        return len(places)

    people = [np.flatnonzero(bank.subjects[rows] == name).tolist() for name in np.unique(bank.subjects[rows])]
    with (
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(cores or os.cpu_count() or 1) as pool,
        tqdm(total=len(rows), desc="faces", unit="frame", disable=not progress) as bar,
    ):
        for done in pool.map(film, people):
            bar.update(done)
    return pictures


def _moment(bank: ExpressionBank, row: int) -> tuple[np.ndarray, np.ndarray]:
    """What the studio's person of this row does there: actions [52], head angles [3]."""
    if not 0 <= row < len(bank):
        raise RafError(f"face: row {row} is not in the bank, expected 0 to {len(bank) - 1}")
    name, sequence, frame = str(bank.subjects[row]), str(bank.sequence[row]), int(bank.frame[row])
    advice = "only rows that the studio's people made have a face to show"
    if bank.feature_space != FEATURE_SPACE:
        raise RafError(f"face: the bank holds {bank.feature_space} features, expected {FEATURE_SPACE}; {advice}")
    acted = studio.act(name, sequence) if sequence in studio.SEQUENCES else None
    if acted is None or not 0 <= frame < len(acted):
        raise RafError(f"face: row {row}: {name} performs no frame {frame} of sequence {sequence!r}; {advice}")
    return acted.actions[frame], acted.angles[frame]
