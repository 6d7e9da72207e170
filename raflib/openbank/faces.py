"""Images of the faces behind a bank's rows, rendered again from each row's subject, sequence and frame."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, Int, UInt8
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from raflib import studio
from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.openbank.filming import SIZE, frontal_camera, moment
from raflib.sources._studio_recipe import FEATURE_SPACE


def face(bank: ExpressionBank, row: int | np.integer, size: int = SIZE) -> UInt8[np.ndarray, "size size 3"]:
    """The frontal image of one row, `size` × `size` pixels. It takes half a second, mostly to make the person.

    A bank holds names, not images, and the studio makes a person for every name. So the image shows the row only where
    the row was made from a person of the studio. Raises RafError for a row out of range, for another feature space than
    the studio's, and for a sequence or frame that no person of the studio performs.
    """
    return faces(bank, [row], size, cores=1, progress=False)[0]


def faces(
    bank: ExpressionBank,
    rows: Sequence[int | np.integer] | Int[np.ndarray, " R"],
    size: int = SIZE,
    cores: int | None = None,
    progress: bool = True,
) -> UInt8[np.ndarray, "R size size 3"]:
    """The images of many rows. A person's first row takes half a second, each further one 0.02 s.

    Args:
        bank: a bank of studio people.
        rows: [R] rows of the bank.
        size: width and height of the images in pixels.
        cores: threads that work side by side (default: all cores of this machine).
        progress: show a progress bar.

    Raises RafError as `face` does, before any image is made.
    """
    rows = np.asarray(rows, np.int64)
    moments = [_moment(bank, row) for row in rows.tolist()]
    camera = frontal_camera(size)
    images = np.empty((len(rows), size, size, 3), np.uint8)

    def film(places: Sequence[int]) -> int:
        person = studio.Identity(str(bank.subjects[rows[places[0]]]))
        for place in places:
            images[place] = studio.render(person, *moments[place], camera)[0]
        return len(places)

    people = [np.flatnonzero(bank.subjects[rows] == name).tolist() for name in np.unique(bank.subjects[rows])]
    with (
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(cores or os.cpu_count() or 1) as pool,
        tqdm(total=len(rows), desc="faces", unit="frame", disable=not progress) as bar,
    ):
        for done in pool.map(film, people):
            bar.update(done)
    return images


def _moment(bank: ExpressionBank, row: int) -> tuple[Float[np.ndarray, "52"], Float[np.ndarray, "3"]]:
    """Actions and head angles (degrees) of the studio's person in this row."""
    if not 0 <= row < len(bank):
        raise RafError(f"face: row {row} is not in the bank, expected 0 to {len(bank) - 1}")
    name, sequence, frame = str(bank.subjects[row]), str(bank.sequence[row]), int(bank.frame[row])
    if FEATURE_SPACE not in (bank.feature_space, *bank.spaces):
        raise RafError(
            f"face: the bank holds {bank.feature_space} features, expected {FEATURE_SPACE}; only rows of the studio's "
            "people can be rendered again"
        )
    return moment(name, studio.act(name, sequence) if sequence in studio.SEQUENCES else None, sequence, frame)
