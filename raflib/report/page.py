"""Figure 2 as an interactive page: one HTML file that shows the face of the bank row under the cursor.

The file holds everything it needs (plotly's script, faces as small JPEGs), so it works without a network, from a disk,
and inside a notebook.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.images import lanczos
from raflib.report._style import QUERIES
from raflib.report.plane import Plane
from raflib.runs import atomic_write

FACE = 112
"""Width and height in pixels of the faces inside the page; each takes about 4 kB."""


def pca_page(
    bank: ExpressionBank,
    queries: Float[np.ndarray, "Q d"],
    neighbours: Int[np.ndarray, "Q k"],
    path: str | Path,
    images: Sequence[np.ndarray],
    faces: Mapping[int, np.ndarray],
    labels: Sequence[str],
    sample: int = 5000,
    seed: int = 0,
) -> Path:
    """Write the page at `path`, about 5 MB and 4 kB for each face, and return `path`.

    The page shows random rows of the bank as small dots, rows with a face as larger ones, neighbours in the colour of
    their query, and queries as stars. Pointing at any but a small dot shows face, person, sequence, frame and distance:
    to its own query for a neighbour, to the nearest query for other rows.

    Args:
        bank: the bank.
        queries: expression vectors [Q,d].
        neighbours: rows [Q,k] found for them.
        path: the HTML file.
        images: the queries' own images.
        faces: images of bank rows, by row; neighbours may lack one.
        labels: names of the queries.
        sample: number of small dots.
        seed: chooses them.

    Raises RafError when queries, neighbours, images and labels differ in number.
    """
    import plotly.graph_objects as go

    if not len(queries) == len(neighbours) == len(images) == len(labels):
        raise RafError(
            f"pca page: {len(queries)} queries, {len(neighbours)} lines of neighbours, {len(images)} images, "
            f"{len(labels)} labels; give one of each a query"
        )
    plane, album = Plane.of(bank.features), _Album()
    found = np.unique(neighbours)
    seen = np.setdiff1d(np.array(sorted(faces), np.int64), found)
    plain = np.setdiff1d(np.arange(len(bank)), [*seen, *found])
    plain = np.random.default_rng(seed).permutation(plain)[:sample]

    def points(features: Float[np.ndarray, "N d"], name: str, marker: dict, cards: list | None = None) -> None:
        x, y = plane(features).T
        # A small dot does not react to the cursor, which would find it instead of the larger dots around it.
        hover = {"hoverinfo": "skip"} if cards is None else {"hoverinfo": "none", "customdata": cards}
        figure.add_scatter(x=x, y=y, name=name, marker=marker, mode="markers", **hover)

    def cards(rows: Int[np.ndarray, " N"], query: int | None = None) -> list[list]:
        told = []
        for row in rows.tolist():
            apart = np.linalg.norm(bank.features[row] - queries, axis=1)
            q = int(apart.argmin()) if query is None else query
            where = f"{bank.sequence[row]}, frame {bank.frame[row]}"
            number = album(faces[row]) if row in faces else -1
            told.append([str(bank.subjects[row]), where, f"{apart[q]:.2f} from query {q + 1}", number])
        return told

    figure = go.Figure()
    small = {"size": 3, "color": "#C6C6C6"}
    points(bank.features[plain], f"bank: {len(plain):,} of {len(bank):,} frames", small)
    points(bank.features[seen], f"{len(seen)} more, with a face", {"size": 6, "color": "#7A7A7A"}, cards(seen))
    for q, label in enumerate(labels):
        colour = QUERIES[q % len(QUERIES)]
        dot = {"size": 9, "color": colour, "line": {"color": "white", "width": 1}}
        points(bank.features[neighbours[q]], f"neighbours of {q + 1}", dot, cards(neighbours[q], q))
        star = {
            "size": 18,
            "symbol": "star-open",
            "color": colour,
            "line": {"width": 2.5},
        }  # open, so that dots below stay visible
        points(queries[q : q + 1], f"{q + 1}: {label}", star, [[f"query {q + 1}", label, "", album(images[q])]])
    across, up = plane.name_axes()
    figure.update_layout(
        template="simple_white", margin={"l": 60, "r": 10, "t": 10, "b": 50}, hoverdistance=12, height=620,
        xaxis_title=across, yaxis={"title": up, "scaleanchor": "x"}, legend={"itemsizing": "constant", "y": 0.93},
    )  # fmt: skip
    script = _SCRIPT.replace("FACES", json.dumps(album.images))
    chart = figure.to_html(
        full_html=False, include_plotlyjs=True, div_id="plane", post_script=script, config={"displaylogo": False}
    )
    title = f"Expression bank: {len(bank):,} frames of {len(bank.people)} people"
    with atomic_write(path) as temporary:
        page = _PAGE.format(title=html.escape(title), size=FACE, chart=chart)
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return Path(path)


class _Album:
    """Faces that the page holds, as base64 JPEGs; a call adds one and returns its number."""

    def __init__(self) -> None:
        self.images: list[str] = []

    def __call__(self, image: np.ndarray) -> int:
        """Add an image and return its number."""
        buffer = io.BytesIO()
        face = Image.fromarray(lanczos(image, FACE, FACE))
        face.save(buffer, format="JPEG", quality=82, optimize=True)
        self.images.append(base64.b64encode(buffer.getvalue()).decode())
        return len(self.images) - 1


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px "DejaVu Sans", "Segoe UI", Helvetica, sans-serif; color: #222; margin: 12px; }}
h1 {{ font-size: 16px; margin: 0 0 4px; }} p {{ margin: 0 0 4px; color: #555; }}
#card {{ position: fixed; display: none; pointer-events: none; background: white; border: 1px solid #999;
  border-radius: 4px; padding: 6px 8px; box-shadow: 0 2px 8px #0003; z-index: 10; line-height: 1.35; }}
#card img {{ display: block; width: {size}px; height: {size}px; margin-bottom: 4px; }}
#card b {{ display: block; }}
</style></head><body>
<h1>{title}</h1>
<p>Point at a star, a coloured or a dark grey dot to see its face. Drag to zoom, double-click to come back, click in the
legend to hide.</p>
<div id="card"><img alt=""><b></b><span></span><br><span></span></div>
{chart}
</body></html>
"""

_SCRIPT = """
const faces = FACES, card = document.getElementById("card"), plane = document.getElementById("{plot_id}");
plane.on("plotly_hover", function (seen) {
  const [who, where, apart, face] = seen.points[0].customdata, spans = card.getElementsByTagName("span");
  const image = card.querySelector("img"), mouse = seen.event || {};
  image.style.display = face < 0 ? "none" : "block";
  if (face >= 0) image.src = "data:image/jpeg;base64," + faces[face];
  card.querySelector("b").textContent = who;
  spans[0].textContent = where;
  spans[1].textContent = apart;
  card.style.display = "block";
  const x = (mouse.clientX || 0) + 16, y = (mouse.clientY || 0) + 16;
  card.style.left = Math.max(0, Math.min(x, window.innerWidth - card.offsetWidth - 4)) + "px";
  card.style.top = Math.max(0, Math.min(y, window.innerHeight - card.offsetHeight - 4)) + "px";
});
plane.on("plotly_unhover", function () { card.style.display = "none"; });
"""
