"""Linear face models (3DMM): a mean, an identity basis and an expression basis.

Every model has the same conventions: canonical head space (x = the subject's left, y down, the face looks to −z) in
decimetres, and bases scaled so that a coefficient of 1 is one standard deviation. `open_model()` ships and is free;
Basel Face Models are read from the user's own files (`raflib.tracking.basel`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from raflib import runs
from raflib.errors import RafError
from raflib.reading import Array, damage_named, read_arrays

OPEN_MODEL = "open_face_model.npz"
PARTS = ("mean", "identity", "expression")
STORED = {
    "name": Array("U", ""), "mean": Array("f", "V 3"), "identity": Array("f", "I V 3"),
    "expression": Array("f", "E V 3"), "vertices": Array("iu", "L"), "tracker": Array("iu", "L"),
    "triangles": Array("iu", "F 3", optional=True), "seen_mean": Array("f", "L 3", optional=True),
    "seen_identity": Array("f", "I L 3", optional=True), "seen_expression": Array("f", "E L 3", optional=True),
}  # fmt: skip
"""Arrays of a file of `write_model`."""
REMEDY = "restore the file or make it again"
FEWEST = 6
"""Fewest landmarks of a model; with fewer, pose and shape cannot be separated."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Landmarks of a model: `mean` [L,3], bases `identity` [I,L,3] and `expression` [E,L,3], in decimetres."""

    mean: Float[np.ndarray, "L 3"]
    identity: Float[np.ndarray, "I L 3"]
    expression: Float[np.ndarray, "E L 3"]


@dataclass(frozen=True, eq=False)
class LinearFaceModel:
    """A face as mean + identity · basis + expression · basis.

    Attributes:
        name: family, such as "open" or "bfm"; with the number of expressions it is the `feature_space` ("bfm64").
        mean: [V,3] canonical decimetres.
        identity, expression: [I,V,3], [E,V,3] decimetres for one standard deviation.
        vertices: [L] rows of `mean` that are landmarks.
        tracker: [L] number of each landmark among the fitted points (MediaPipe's 478, for the face tracker).
        triangles: [F,3] for rendering, or None.
        seen: the landmarks as the face tracker places them, if that was learned. The same coefficients mean the same
            face, but the tracker pulls it towards usual faces and moves it less.

    Raises RafError when shapes do not fit together or an index is out of range.
    """

    name: str
    mean: Float[np.ndarray, "*shape"]
    identity: Float[np.ndarray, "*components"]
    expression: Float[np.ndarray, "*movements"]
    vertices: Int[np.ndarray, "*rows"]
    tracker: Int[np.ndarray, "*points"]
    triangles: Int[np.ndarray, "F 3"] | None = None
    seen: Landmarks | None = None

    def __post_init__(self) -> None:
        for field in ("mean", "identity", "expression"):
            value = getattr(self, field)
            wanted = (*value.shape[: value.ndim - 2], len(self.mean), 3)
            if value.ndim != (2 if field == "mean" else 3) or value.shape != wanted or not np.isfinite(value).all():
                raise RafError(
                    f"face model {self.name}: {field} has shape {list(value.shape)}; expected finite values for "
                    f"{len(self.mean)} vertices, {'[V,3]' if field == 'mean' else '[K,V,3]'}"
                )
        vertices, tracker = np.asarray(self.vertices), np.asarray(self.tracker)
        if vertices.ndim != 1 or vertices.shape != tracker.shape or len(vertices) < FEWEST:
            raise RafError(
                f"face model {self.name}: {vertices.size} landmark vertices for {tracker.size} tracker points; "
                f"give one vertex a point, and at least {FEWEST}"
            )
        if vertices.min() < 0 or vertices.max() >= len(self.mean) or tracker.min() < 0:
            raise RafError(
                f"face model {self.name}: landmark vertices must lie in 0 to {len(self.mean) - 1} and tracker points "
                f"from 0 up; indexes of MATLAB files start at 1"
            )
        corners = np.zeros((0, 3), int) if self.triangles is None else np.asarray(self.triangles)
        if corners.ndim != 2 or corners.shape[1] != 3 or (corners < 0).any() or (corners >= len(self.mean)).any():
            raise RafError(
                f"face model {self.name}: triangles of shape {list(corners.shape)}; expected [F,3] corners from 0 to "
                f"{len(self.mean) - 1}"
            )
        wanted = {"mean": (), "identity": (len(self.identity),), "expression": (len(self.expression),)}
        for part, count in wanted.items() if self.seen is not None else ():
            if getattr(self.seen, part).shape != (*count, len(vertices), 3):
                raise RafError(
                    f"face model {self.name}: seen.{part} has shape {list(getattr(self.seen, part).shape)}, expected "
                    f"{[*count, len(vertices), 3]} as the model's own landmarks"
                )

    @property
    def feature_space(self) -> str:
        """The feature space of the model's expression coefficients."""
        return f"{self.name}{len(self.expression)}"

    def truncated(self, identity: int, expression: int) -> LinearFaceModel:
        """The first components only: "bfm64" is a Basel model truncated to (80, 64). RafError if it has fewer."""
        for wanted, basis, what in ((identity, self.identity, "identity"), (expression, self.expression, "expression")):
            if not 0 <= wanted <= len(basis):
                raise RafError(f"face model {self.name}: {wanted} {what} components wanted, it has {len(basis)}")
        seen = self.seen and Landmarks(self.seen.mean, self.seen.identity[:identity], self.seen.expression[:expression])
        return replace(self, identity=self.identity[:identity], expression=self.expression[:expression], seen=seen)

    def landmarks(self) -> Landmarks:
        """Mean and bases at the landmarks, at their true places."""
        bases = (basis[:, self.vertices].astype(np.float64) for basis in (self.identity, self.expression))
        return Landmarks(self.mean[self.vertices].astype(np.float64), *bases)

    def shape(
        self, identity: Float[np.ndarray, "I"], expression: Float[np.ndarray, "*t E"]
    ) -> Float[np.ndarray, "*t V 3"]:
        """Vertices in canonical decimetres."""
        person = self.mean + np.tensordot(identity, self.identity, 1)
        return person + np.tensordot(expression, self.expression, 1)


def open_model() -> LinearFaceModel:
    """The model that ships: the tracker's 478 landmarks, learned from heads of the open studio."""
    return read_model(runs.data_root() / OPEN_MODEL)


def read_model(path: str | Path) -> LinearFaceModel:
    """A model written by `write_model`. RafError naming the file when it is missing or damaged."""
    path = Path(path)
    stored = read_arrays(path, STORED, "face model", REMEDY)
    with damage_named(path, "face model", REMEDY):
        arrays = {name: stored[name].astype(np.float64) for name in PARTS}
        arrays |= {name: stored[name].astype(np.int64) for name in ("vertices", "tracker")}
        name, triangles, seen = str(stored["name"]), stored.get("triangles"), None
        if any(part.startswith("seen_") for part in stored):
            seen = Landmarks(*(stored[f"seen_{part}"].astype(np.float64) for part in PARTS))
        return LinearFaceModel(name, **arrays, triangles=triangles, seen=seen)


def write_model(model: LinearFaceModel, path: str | Path) -> None:
    """Writes a model, its bases in half precision (a thousandth of each value), atomically and without pickle."""
    arrays = {"name": np.array(model.name)}
    for prefix, source in (("", model), ("seen_", model.seen)):
        if source is not None:
            arrays[f"{prefix}mean"] = source.mean.astype(np.float32)
            arrays |= {f"{prefix}{part}": getattr(source, part).astype(np.float16) for part in PARTS[1:]}
    arrays |= {name: np.asarray(getattr(model, name), np.int32) for name in ("vertices", "tracker")}
    if model.triangles is not None:
        arrays["triangles"] = np.asarray(model.triangles, np.int32)
    runs.write_arrays(path, arrays, "face model", "take fewer landmarks or components")
