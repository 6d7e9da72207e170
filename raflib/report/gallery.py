"""The faces that a bank gives for a face: who is found, drawn with distance, person and sequence below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw

from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.report._drawing import INK, PALETTE, QUIET, font, require_faces, saved
from raflib.retrieval import nearest_people


def nearest(
    bank: ExpressionBank, queries: Float[np.ndarray, "Q d"], k: int, exclude: str | None = None, spread: bool = False
) -> Int[np.ndarray, "Q k"]:
    """Rows of the k nearest expressions of people other than `exclude`, nearest first; with `spread` one a person.

    Neighbours often come in bursts, several frames of one moment of one person. `spread` keeps the nearest frame of
    each of the k nearest people. Raises RafError as `ExpressionBank.search` does, and for fewer than k people.
    """
    if not spread:
        return bank.search(queries, k, exclude)[1]
    return nearest_people(bank, queries, k, exclude)[1]


def gallery(
    bank: ExpressionBank,
    queries: Float[np.ndarray, "R d"],
    rows: Int[np.ndarray, "R k"],
    pictures: Sequence[np.ndarray],
    faces: Mapping[int, np.ndarray],
    labels: Sequence[str],
    path: str | Path | None = None,
    tile: int = 128,
) -> Image.Image:
    """A line a query: its label and picture, then the faces of `rows`, each with its distance, person and sequence.

    `pictures` [R] are the queries' own, `faces` those of bank rows; `tile` is their width in pixels. Raises RafError
    when there is not one of each a line, or a row has no face.
    """
    if not len(queries) == len(rows) == len(pictures) == len(labels):
        raise RafError(
            f"gallery: {len(queries)} queries, {len(rows)} lines of rows, {len(pictures)} pictures, {len(labels)} "
            "labels; give one of each a line"
        )
    require_faces("gallery", rows.ravel().tolist(), faces)
    gap, large, small = tile // 16, font(max(11, tile // 10)), font(max(9, tile // 13))
    words = large.size + 2 * small.size + 2 * gap
    left = max(int(large.getlength(line)) for label in labels for line in label.split("\n")) + 2 * gap
    aside = 2 * gap  # between a query and what was found for it
    size = left + (1 + rows.shape[1]) * (tile + gap) + aside, gap + len(rows) * (tile + words + gap)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for r, (query, line, label) in enumerate(zip(queries, rows, labels, strict=True)):
        y = gap + r * (tile + words + gap)
        draw.multiline_text((gap, y + tile / 2), label, font=large, fill=INK, anchor="lm", spacing=gap)
        _put(sheet, pictures[r], left, y, tile)
        draw.rectangle([left - 2, y - 2, left + tile + 1, y + tile + 1], outline=PALETTE["vanilla"], width=3)
        apart = np.linalg.norm(bank.features[line].astype(np.float64) - query, axis=1)
        for i, row in enumerate(line.tolist()):
            x = left + (i + 1) * (tile + gap) + aside
            _put(sheet, faces[row], x, y, tile)
            below, middle = y + tile + gap / 2, x + tile / 2
            draw.text((middle, below), f"{apart[i]:.2f}", font=large, fill=INK, anchor="ma")
            who = f"{bank.subjects[row]}, {bank.frame[row]}", _short(str(bank.sequence[row]), small, tile)
            for n, text in enumerate(who):
                place = middle, below + large.size + gap / 2 + n * (small.size + gap / 4)
                draw.text(place, text, font=small, fill=QUIET, anchor="ma")
    return saved(sheet, path)


def _put(sheet: Image.Image, picture: np.ndarray, x: int, y: int, tile: int) -> None:
    sheet.paste(Image.fromarray(picture).resize((tile, tile), Image.Resampling.LANCZOS), (x, y))


def _short(text: str, lettering, width: int) -> str:
    """`text`, cut so that it is no wider than `width` pixels."""
    while lettering.getlength(text) > width:
        text = text[:-2].rstrip("…_- ") + "…"
    return text
