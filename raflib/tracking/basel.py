"""Basel Face Models, read from the user's own files (they may not be shipped): `read_basel(path)`.

Three layouts are recognised by their content:

* `BFM_model_front.mat`, the merged model that most reconstruction codes use: `meanshape`, `idBase`, `exBase`
  (decimetres for a coefficient of one standard deviation), `tri` and 68 `keypoints`, counted from 1.
* `01_MorphableModel.mat`, the Basel Face Model of 2009: `shapeMU`, `shapePC`, `shapeEV` (deviations), `tl`, in
  micrometres. It has no expressions; the basis in `Exp_Pca.bin` (a count, a mean, then the components, for the 53,215
  vertices that `BFM_exp_idx.mat` lists as `trimIndex`) with its deviations in `std_exp.txt` comes from the same folder.
* `model2017-1_….h5` and `model2019_….h5`: groups `shape` and `expression` with `model/mean`, `pcaBasis`, `pcaVariance`
  in millimetres, and named landmarks in `metadata/landmarks/json`. Reading them needs h5py.

All have x to the subject's left, y up and z out of the face. In `raflib`, y points down and the face looks to −z.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from raflib.errors import RafError
from raflib.geometry import HALF_TURN
from raflib.reading import FileError, checked_file, damage_named, read_bytes, read_hdf5, read_matlab
from raflib.tracking.face_model import LinearFaceModel
from raflib.tracking.landmarks import IBUG68

AXES = np.array(HALF_TURN)
MICROMETRES, MILLIMETRES, DECIMETRES = 1e-5, 1e-2, 1.0
"""In decimetres."""
MODEL, REMEDY = "Basel Face Model", "download it again"
MERGED, OF_2009 = ("meanshape", "idBase", "exBase", "tri", "keypoints"), ("shapeMU", "shapePC", "shapeEV", "tl")
NAMES_2009 = ("Exp_Pca.bin", "std_exp.txt", "BFM_exp_idx.mat")
"""Files with the expressions for the model of 2009."""
NAMED = {
    "center.chin.tip": 8, "center.nose.tip": 30, "center.nose.attachement_to_philtrum": 33,
    "right.nose.wing.outer": 31, "left.nose.wing.outer": 35,
    "right.eye.corner_outer": 36, "right.eye.corner_inner": 39,
    "left.eye.corner_inner": 42, "left.eye.corner_outer": 45,
    "right.lips.corner": 48, "center.lips.upper.outer": 51, "left.lips.corner": 54, "center.lips.lower.outer": 57,
    "center.lips.upper.inner": 62, "center.lips.lower.inner": 66,
}  # fmt: skip
"""Number among iBUG's 68 points of each named landmark."""

Parts = tuple[np.ndarray, list[np.ndarray], np.ndarray | None, np.ndarray | dict[int, int] | None]
"""Mean [V,3], bases of identity and expression [K,V,3], triangles [F,3] and landmark vertices by iBUG number; None
where the file has none."""


def read_basel(
    path: str | Path,
    vertices: Mapping[int, int] | Sequence[int] | None = None,
    identity: int = 80,
    expression: int = 64,
) -> LinearFaceModel:
    """The first components of the Basel Face Model in `path`: by default its feature space is "bfm64".

    Args:
        identity, expression: components at most; the feature space counts those that the file has.
        vertices: landmark vertices, counted from 0: the 68 of iBUG in order, or {iBUG number: vertex}. Needed where the
            file carries none (2009); otherwise it replaces the file's own.

    Raises RafError naming the file when it is missing, unreadable, of another layout or without landmarks.
    """
    if min(identity, expression) < 0:
        raise RafError(f"read_basel: {identity} and {expression} components, expected whole numbers of at least 0")
    path = checked_file(path, MODEL, "get it from its authors and give the path of the file", 2**31)
    with damage_named(path, MODEL, REMEDY):
        with path.open("rb") as file:
            read = _read_h5 if file.read(8) == b"\x89HDF\r\n\x1a\n" else _read_mat
        mean, bases, triangles, own = read(path, (identity, expression))
    marks = own if vertices is None else vertices
    if marks is None:
        raise RafError(f"{path}: carries no landmarks; give `vertices`, the vertex of each of iBUG's 68 points")
    if not isinstance(marks, Mapping):
        if len(marks) != len(IBUG68):
            raise RafError(f"{path}: {len(marks)} landmark vertices, expected 68; give a mapping for fewer")
        marks = dict(enumerate(marks))
    if set(marks) - set(range(len(IBUG68))):
        raise RafError(f"{path}: landmark numbers {sorted(set(marks) - set(range(68)))} are not among iBUG's 0 to 67")
    order = sorted(marks)
    rows, tracker = np.array([int(marks[number]) for number in order]), np.array(IBUG68)[order]
    with damage_named(path, MODEL, "give vertices of this model, or download it again"):
        return LinearFaceModel("bfm", mean, *bases, rows, tracker, triangles)


def _converted(values: np.ndarray, unit: float) -> Float[np.ndarray, "*k V 3"]:
    """Flat x y z x y z … in a file's unit, as [.., V, 3] in decimetres and the axes of `raflib`."""
    return values.reshape(*values.shape[:-1], -1, 3) * (AXES * unit)


def _basis(columns: np.ndarray, deviations: np.ndarray, unit: float) -> Float[np.ndarray, "K V 3"]:
    """Columns [3V,K] of unit length (or not) times their deviations."""
    with np.errstate(over="ignore"):  # the model refuses infinite values
        columns = columns.astype(np.float32) * deviations.ravel().astype(np.float32)
        return _converted(columns.T, unit).astype(np.float32)


def _read_mat(path: Path, counts: tuple[int, int]) -> Parts:
    stored = read_matlab(path, (*MERGED, *OF_2009), MODEL, REMEDY)
    if "meanshape" in stored:
        mean, names = _converted(stored["meanshape"].ravel(), DECIMETRES), ("idBase", "exBase")
        parts = [stored[name][:, :count] for name, count in zip(names, counts, strict=True)]
        bases = [_basis(part, np.ones(1), DECIMETRES) for part in parts]
        return mean, bases, _triangles(stored.get("tri"), 1), stored["keypoints"].ravel().astype(int) - 1
    if "shapeMU" in stored:
        return _of_2009(path, stored, counts)
    raise ValueError(f"holds {', '.join(stored)}; expected meanshape … (merged model) or shapeMU … (2009)")


def _of_2009(path: Path, stored: dict[str, np.ndarray], counts: tuple[int, int]) -> Parts:
    mean, kept = _converted(stored["shapeMU"].ravel(), MICROMETRES), slice(counts[0])
    identity = _basis(stored["shapePC"][:, kept], stored["shapeEV"].ravel()[kept], MICROMETRES)
    components, trimmed = _expressions(path.parent, len(mean), counts[1])
    expression = np.zeros((len(components), *mean.shape), np.float32)
    expression[:, trimmed] = components
    return mean, [identity, expression], _triangles(stored.get("tl"), 1), None


def _expressions(folder: Path, vertices: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first expression components [K,n,3] in decimetres and the n vertices they belong to."""
    binary, deviations, index = (folder / name for name in NAMES_2009)
    what, remedy = "part of the Basel Face Model of 2009", f"get {', '.join(NAMES_2009)} again"
    for file in (binary, deviations, index):
        checked_file(file, what, remedy)
    trimmed = read_matlab(index, ("trimIndex",), what, remedy)["trimIndex"].ravel().astype(int) - 1
    if not len(trimmed) or trimmed.min() < 0 or trimmed.max() >= vertices or len(np.unique(trimmed)) < len(trimmed):
        raise FileError(f"{index}: damaged {what} (it does not list vertices from 1 to {vertices} once); {remedy}")
    with damage_named(deviations, what, remedy):
        sizes = np.array(read_bytes(deviations, what, remedy, 2**20).decode("ascii").split(), np.float64)
    with damage_named(binary, what, remedy):
        data = read_bytes(binary, what, remedy)
        number, values = int(np.frombuffer(data, "<i4", 1)[0]), np.frombuffer(data, "<f4", offset=4)
        width = 3 * len(trimmed)
        if len(values) != (number + 1) * width or len(sizes) != number:
            raise ValueError(
                f"{len(values)} values and {len(sizes)} deviations are not a mean and {number} components of "
                f"{len(trimmed)} vertices; the three files must belong together"
            )
        if not np.isfinite(values).all() or not np.isfinite(sizes).all():
            raise ValueError("it or its deviations hold NaN or infinity")
    return _basis(values[width:].reshape(number, width)[:count].T, sizes[:count], MICROMETRES), trimmed


def _read_h5(path: Path, counts: tuple[int, int]) -> Parts:
    everything, cells, text = (slice(None),), "shape/representer/cells", "metadata/landmarks/json"
    wanted = {cells: everything, text: everything}
    for part, count in zip(("shape", "expression"), counts, strict=True):
        wanted[f"{part}/model/mean"] = everything
        wanted[f"{part}/model/pcaVariance"] = (slice(count),)
        wanted[f"{part}/model/pcaBasis"] = (slice(None), slice(count))
    stored = read_hdf5(path, wanted, MODEL, REMEDY, optional=(cells, text))
    bases = []
    for part in ("shape", "expression"):
        variances = stored[f"{part}/model/pcaVariance"]
        if (variances < 0).any():
            raise ValueError(f"variances of {part} are negative")
        bases.append(_basis(stored[f"{part}/model/pcaBasis"], np.sqrt(variances), MILLIMETRES))
    mean = _converted(stored["shape/model/mean"].astype(np.float64) + stored["expression/model/mean"], MILLIMETRES)
    return mean, bases, _triangles(stored.get(cells), 0), _nearest(stored[text], mean) if text in stored else None


def _nearest(text: object, mean: Float[np.ndarray, "V 3"]) -> dict[int, int]:
    """Vertices nearest to the file's named landmarks, by iBUG number."""
    text = np.ravel(text)
    text = text[0] if len(text) == 1 else bytes(text.astype(np.uint8))  # one string, or its bytes
    places = {}
    for entry in json.loads(text):
        place = np.array(entry["coordinates"], np.float64)
        if place.shape != (3,) or not np.isfinite(place).all():
            raise ValueError(f"landmark {entry['id']} has no place")
        places[entry["id"]] = place * AXES * MILLIMETRES
    found = {NAMED[name]: place for name, place in places.items() if name in NAMED}
    return {number: int(((mean - place) ** 2).sum(1).argmin()) for number, place in found.items()}


def _triangles(cells: np.ndarray | None, first: int) -> np.ndarray | None:
    """Corners [F,3] counted from 0; a file lists them by row or by column."""
    if cells is None:
        return None
    cells = np.asarray(cells).astype(np.int32) - first
    return np.ascontiguousarray(cells if cells.ndim == 2 and cells.shape[1] == 3 else cells.T)
