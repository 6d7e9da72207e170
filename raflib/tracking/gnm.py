"""GNM Head, read from the user's own files: `read_gnm(path)`.

GNM Head is Google's model of the head (Apache-2.0, github.com/google/GNM): 17,821 vertices, 253 identity components
(170 of the head, 3 of the eyeballs, 80 of the teeth) and 383 expression components (100 for each eye region, 150 of the
lower face with the jaw, 32 of the tongue, one of the pupils). A coefficient of 1 is one standard deviation.
`gnm_head.npz` holds `template_vertex_positions` [V,3], `vertex_identity_basis` [I,V,3], `expression_basis` [E,V,3] and
`triangles` [T,3]. Joints turn neck, head and eyeballs; they stay at zero here.

**Landmarks.** GNM's own file `head_sparse_68.txt` has a row for each of iBUG's 68 points: three times a vertex and its
share. The first 17, along the jaw, are left out, because trackers let them slide over the face when it turns. A file of
the same form with 468 rows, one for each point of MediaPipe's mesh, is better where you have one
(`head_dense_468.txt`). Landmarks do not show tongue, pupils and teeth: these coefficients stay near 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from raflib.errors import whole
from raflib.reading import Array, FileError, checked_file, damage_named, read_arrays, read_bytes
from raflib.tracking.face_model import LinearFaceModel
from raflib.tracking.landmarks import IBUG68, MESH_COUNT
from raflib.tracking.surface import canonical, numbered, surface_model

IDENTITIES, EXPRESSIONS, HEAD_IDENTITIES = 253, 383, 170
LANDMARKS = ("head_dense_468.txt", "head_sparse_68.txt")
"""Files of landmarks, in the order in which they are looked for."""
JAW = 17
"""The first rows of the 68, along the jaw."""
MODEL, POINTS_OF, REMEDY = "GNM Head model", "landmark file of GNM", "download it again"
BASES = ("vertex_identity_basis", "expression_basis")
STORED = {
    "template_vertex_positions": Array("f", "V 3"), "vertex_identity_basis": Array("f", f"{IDENTITIES} V 3"),
    "expression_basis": Array("f", f"{EXPRESSIONS} V 3"), "triangles": Array("iuf", "T 3"),
}  # fmt: skip


def read_gnm(
    path: str | Path,
    landmarks: str | Path | None = None,
    identity: int = HEAD_IDENTITIES,
    expression: int = EXPRESSIONS,
) -> LinearFaceModel:
    """The first components of the GNM Head model in `path`: by default its feature space is "gnm383".

    Args:
        landmarks: the file of landmarks; None stands for the first of `LANDMARKS` in the model's folder, or in
            `landmarks` two folders up, as in GNM's repository.
        identity, expression: numbers of components. By default identity has those of the head.

    Raises RafError naming the file when it or the landmarks are missing, damaged, or of another layout, and for numbers
    of components that GNM does not have.
    """
    counts = whole("identity", identity, 0, IDENTITIES), whole("expression", expression, 0, EXPRESSIONS)
    path = checked_file(path, MODEL, "download gnm_head.npz from Google and give the path of the file")
    points = Path(landmarks) if landmarks is not None else landmark_file(path)
    corners, weights, tracker = _read_landmarks(points)
    stored = read_arrays(path, STORED, MODEL, REMEDY)
    identities, expressions = (canonical(stored[name][:count]) for name, count in zip(BASES, counts, strict=True))
    with damage_named(path, MODEL, REMEDY):
        faces = numbered("triangles", stored["triangles"])
    with damage_named(points, POINTS_OF, f"use it and {path} as their authors give them"):
        mean = canonical(stored["template_vertex_positions"])
        return surface_model("gnm", mean, (identities, expressions), faces, corners, weights, tracker)


def landmark_file(path: Path) -> Path:
    """The file of landmarks that belongs to the model in `path`; RafError where there is none."""
    folders = (path.parent, path.parent.parent.parent / "landmarks")
    found = [folder / name for name in LANDMARKS for folder in folders if (folder / name).is_file()]
    if not found:
        raise FileError(f"{path}: carries no landmarks; put GNM's {LANDMARKS[1]} into the same folder")
    return found[0]


def _read_landmarks(
    path: Path,
) -> tuple[Int[np.ndarray, "L 3"], Float[np.ndarray, "L 3"], Int[np.ndarray, "L"]]:
    """Vertices, shares and tracker numbers of landmarks; RafError naming the file where it is damaged."""
    data = read_bytes(path, POINTS_OF, REMEDY, 2**20)
    with damage_named(path, POINTS_OF, REMEDY):
        rows = [line.split() for line in data.decode("ascii").splitlines() if line.strip()]
        if any(len(row) != 6 for row in rows) or len(rows) not in (len(IBUG68), MESH_COUNT):
            raise ValueError(
                f"it has {len(rows)} rows, expected 68 or {MESH_COUNT} with a vertex and a share three times"
            )
        numbers = np.array(rows, np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError("it holds NaN or infinity")
        corners = numbered("a column of vertices", numbers[:, ::2])
    if len(rows) == MESH_COUNT:
        return corners, numbers[:, 1::2], np.arange(MESH_COUNT)
    return corners[JAW:], numbers[JAW:, 1::2], np.array(IBUG68[JAW:])
