"""Nearest neighbours in a bank as images: each face with its distance, person, time and sequence below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageFont

from raflib.bank import ExpressionBank, nearest_people
from raflib.errors import RafError
from raflib.images import lanczos
from raflib.report._style import FPS, INK, font, require_faces, saved, wrapped

NUMBERED = 100_000
"""Frame numbers from here on are no times: some sources add them to tell several sequences of one name apart."""


def nearest(
    bank: ExpressionBank, queries: Float[np.ndarray, "Q d"], k: int, exclude: str | None = None, spread: bool = False
) -> Int[np.ndarray, "Q k"]:
    """Rows of the k nearest expressions of people other than `exclude`, nearest first.

    Neighbours are often several frames of one moment of one person. `spread` keeps the nearest frame of each of the k
    nearest people instead. Raises RafError as `ExpressionBank.search` does, and for fewer than k people.
    """
    if not spread:
        return bank.search(queries, k, exclude)[1]
    return nearest_people(bank, queries, k, exclude)[1]


def gallery(
    bank: ExpressionBank,
    queries: Float[np.ndarray, "R d"],
    rows: Int[np.ndarray, "R k"],
    images: Sequence[np.ndarray],
    faces: Mapping[int, np.ndarray],
    labels: Sequence[str],
    path: str | Path | None = None,
    tile: int = 160,
    distances: Float[np.ndarray, "R k"] | None = None,
) -> Image.Image:
    """An image with one line for each query: its label and image, then the faces of the bank rows found for it.

    Args:
        bank: the bank, recorded at the studio's 25 frames a second.
        queries: expression vectors [R,d].
        rows: rows [R,k] of the bank that were found, nearest first.
        images: the queries' own images.
        faces: images of bank rows, by row.
        labels: text beside each query.
        path: file to write, or None.
        tile: width of a face in pixels.
        distances: [R,k] of the rows from their queries, where they were searched in another space; by default those of
            the bank's features.

    Raises RafError when queries, rows, images and labels differ in number, or a row has no face.
    """
    if not len(queries) == len(rows) == len(images) == len(labels):
        raise RafError(
            f"gallery: {len(queries)} queries, {len(rows)} lines of rows, {len(images)} images, {len(labels)} "
            "labels; give one of each a line"
        )
    require_faces("gallery", rows.ravel().tolist(), faces)
    gap, size = tile // 16, max(12, tile // 10)
    large, small = font(size + 2), font(size)
    labels = [wrapped(label, large, 1.4 * tile) for label in labels]
    below = {row: _caption(bank, row, small, tile) for row in set(rows.ravel().tolist())}
    words = large.size + (1 + max(text.count("\n") for text in below.values())) * (small.size + gap / 3) + 2 * gap
    left = max(int(large.getlength(line)) for label in labels for line in label.split("\n")) + 2 * gap
    head, step, aside = large.size + 2 * gap, tile + int(words) + gap, 2 * gap
    sheet = Image.new("RGB", (left + (1 + rows.shape[1]) * (tile + gap) + aside, head + len(rows) * step), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((left + tile / 2, head / 2), "query", font=large, fill=INK, anchor="mm")
    middle = left + aside + (2 + rows.shape[1]) * (tile + gap) / 2
    draw.text((middle, head / 2), "faces of the bank, distance to the query", font=large, fill=INK, anchor="mm")
    for r, (query, line, label) in enumerate(zip(queries, rows, labels, strict=True)):
        y = head + r * step
        draw.multiline_text((gap, y + tile / 2), label, font=large, fill=INK, anchor="lm", spacing=gap / 2)
        _put(sheet, images[r], left, y, tile)
        draw.rectangle([left - 2, y - 2, left + tile + 1, y + tile + 1], outline=INK, width=3)
        apart = np.linalg.norm(bank.features[line].astype(np.float64) - query, axis=1)
        apart = apart if distances is None else distances[r]
        for i, row in enumerate(line.tolist()):
            x = left + (i + 1) * (tile + gap) + aside
            _put(sheet, faces[row], x, y, tile)
            place, under = x + tile / 2, y + tile + gap / 2
            draw.text((place, under), f"{apart[i]:.2f}", font=large, fill=INK, anchor="ma")
            options = {"anchor": "ma", "align": "center", "spacing": gap / 3}
            draw.text((place, under + large.size + gap / 2), below[row], font=small, fill=INK, **options)
    return saved(sheet, path)


def _caption(bank: ExpressionBank, row: int, lettering: ImageFont.FreeTypeFont, width: int) -> str:
    """Text below a face: person and second, then the sequence, broken into lines of `width` pixels."""
    frame = int(bank.frame[row])
    when = f"{frame / FPS:.1f} s" if frame < NUMBERED else f"frame {frame}"
    return wrapped(f"{bank.subjects[row]}, {when}\n{bank.sequence[row]}", lettering, width)


def _put(sheet: Image.Image, image: np.ndarray, x: int, y: int, tile: int) -> None:
    """Paste `image` as a square of `tile` pixels at (x, y)."""
    sheet.paste(Image.fromarray(lanczos(image, tile, tile)), (x, y))
