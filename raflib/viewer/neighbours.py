"""The bank's nearest faces to an expression vector, as a row of small images."""

from __future__ import annotations

import base64
import html
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from raflib.bank import ExpressionBank, nearest_people
from raflib.errors import RafError
from raflib.viewer.canvas import jpeg

Faces = Callable[[ExpressionBank, Sequence[int]], UInt8[np.ndarray, "R H W 3"]]
"""Makes the images of rows of a bank."""
COUNT = 4
"""How many people are shown."""
SIZE = 112
"""Width of their images in pixels."""
KEPT = 512
"""Most images that are kept."""


def studio_faces(bank: ExpressionBank, rows: Sequence[int]) -> UInt8[np.ndarray, "R H W 3"]:
    """The frontal images of rows of the open bank, rendered on one core."""
    from raflib import openbank, report

    made = openbank.faces(bank, rows, 2 * SIZE, cores=1, progress=False)
    return np.stack([np.asarray(report.portrait(face)) for face in made])


class Neighbours:
    """Finds and shows the nearest rows of a bank, one for each of the nearest people except the avatar's own.

    Args:
        bank: in the feature space of the avatar.
        exclude: the avatar's person, whose rows are never shown.
        faces: makes their images; the images are kept. By default they are rendered as people of the studio, so for a
            bank of other recordings give one, such as `raflib.lab.recordings.Recordings.faces`.
    """

    def __init__(self, bank: ExpressionBank, exclude: str, faces: Faces | None = None):
        self.bank, self.exclude = bank, exclude
        self._faces = faces or studio_faces
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        others = len(set(bank.people) - {exclude})
        if not others:
            raise RafError(f"puppet: the bank holds nobody beside {exclude}; give a bank of other people")
        self._count = min(COUNT, others)

    def html(self, expression: Float[np.ndarray, "d"]) -> str:
        """The row of images with person, sequence and distance (L2, feature units) below each."""
        query = np.asarray(expression, np.float32)[None]
        found = nearest_people(self.bank, query, self._count, self.exclude)
        distances, rows = found[0][0], found[1][0].tolist()
        new = [row for row in rows if row not in self._kept]
        if new:
            for row, image in zip(new, self._faces(self.bank, new), strict=True):
                self._kept[row] = jpeg(np.ascontiguousarray(image))
        cells = [self._cell(row, float(distance)) for row, distance in zip(rows, distances, strict=True)]
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return f'<div style="display:flex;gap:8px;line-height:1.25;font-size:11px">{"".join(cells)}</div>'

    def _cell(self, row: int, distance: float) -> str:
        self._kept.move_to_end(row)
        data = base64.b64encode(self._kept[row]).decode()
        person, sequence = (html.escape(str(column[row])) for column in (self.bank.subjects, self.bank.sequence))
        image = f'<img src="data:image/jpeg;base64,{data}" width="{SIZE}" alt="" style="border-radius:4px">'
        short = f"overflow:hidden;text-overflow:ellipsis;white-space:nowrap;width:{SIZE}px"
        text = f'{distance:.2f} · {person}<div style="{short}">{sequence}</div>'
        return f'<div title="{person} {sequence}" style="width:{SIZE}px">{image}<div>{text}</div></div>'
