"""FLAME, read from the user's own files: `read_flame(path)`.

FLAME needs a registration and may not be shipped. `generic_model.pkl` (FLAME 2020), `flame2023.pkl` and
`flame2023_no_jaw.pkl` are pickled dictionaries with arrays of numpy and chumpy; they are read without running anything
in them and without chumpy (`raflib.reading.read_pickle`). An .npz with the same names is read, too: `v_template`
[V,3], `shapedirs` [V,3,400] (300 components of shape, then 100 of expression) and triangles `f` [F,3].

The landmarks come from `mediapipe_landmark_embedding.npz`, which lies beside the model: for 105 of MediaPipe's points
the triangle `lmk_face_idx`, the shares of its corners `lmk_b_coords`, and the point's number `landmark_indices`.

**Joints stay at zero.** FLAME turns neck, jaw and eyes by joints, which a linear model does not have. With
`flame2023_no_jaw.pkl` the expression components open the mouth, so it is the best of the three here. With the other two
they explain an open jaw only partly. The codes then differ from those of trackers that turn the jaw, such as the
benchmark's FLAME tracks, whose features `flame109` hold the jaw and the eyes beside the expression.
"""

from __future__ import annotations

from pathlib import Path

from raflib.errors import whole
from raflib.reading import Array, checked_file, damage_named, read_arrays, read_pickle
from raflib.tracking.face_model import LinearFaceModel
from raflib.tracking.surface import canonical, numbered, surface_model

SHAPES, EXPRESSIONS = 300, 100
EMBEDDING = "mediapipe_landmark_embedding.npz"
"""The file of landmarks, looked for beside the model."""
MODEL, POINTS_OF, REMEDY = "FLAME model", "landmark embedding of FLAME", "download it again"
STORED = {
    "v_template": Array("f", "V 3"), "shapedirs": Array("f", f"V 3 {SHAPES + EXPRESSIONS}"), "f": Array("iuf", "F 3"),
}  # fmt: skip
POINTS = {
    "lmk_face_idx": Array("iuf", "L"), "lmk_b_coords": Array("f", "L 3"), "landmark_indices": Array("iuf", "L"),
}  # fmt: skip


def read_flame(
    path: str | Path,
    embedding: str | Path | None = None,
    identity: int = SHAPES,
    expression: int = EXPRESSIONS,
) -> LinearFaceModel:
    """The first components of the FLAME model in `path`: by default its feature space is "flame100".

    Args:
        embedding: the file of landmarks; None stands for `EMBEDDING` in the model's folder.
        identity, expression: numbers of components.

    Raises RafError naming the file when it or the embedding is missing, damaged, or of another layout, and for numbers
    of components that FLAME does not have.
    """
    counts = whole("identity", identity, 0, SHAPES), whole("expression", expression, 0, EXPRESSIONS)
    path = checked_file(path, MODEL, "get it from its authors and give the path of the file")
    with damage_named(path, MODEL, REMEDY), path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    stored = (read_arrays if zipped else read_pickle)(path, STORED, MODEL, REMEDY)
    points = Path(embedding) if embedding is not None else path.parent / EMBEDDING
    marks = read_arrays(points, POINTS, POINTS_OF, f"put FLAME's {EMBEDDING} beside the model")
    mean, basis = stored["v_template"], stored["shapedirs"].transpose(2, 0, 1)
    with damage_named(path, MODEL, REMEDY):
        faces = numbered("f", stored["f"])
        if not len(faces) or faces.min() < 0 or faces.max() >= len(mean):
            raise ValueError(f"f names vertices that are not among its {len(mean)}")
    with damage_named(points, POINTS_OF, f"use it and {path} as their authors give them"):
        on = numbered("lmk_face_idx", marks["lmk_face_idx"])
        if len(on) and not 0 <= on.min() <= on.max() < len(faces):
            raise ValueError(f"it lists triangles from {on.min()} to {on.max()}, and the model has {len(faces)}")
        bases = canonical(basis[: counts[0]]), canonical(basis[SHAPES:][: counts[1]])
        tracker = numbered("landmark_indices", marks["landmark_indices"])
        return surface_model("flame", canonical(mean), bases, faces, faces[on], marks["lmk_b_coords"], tracker)
