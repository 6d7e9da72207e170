"""True places of the face tracker's 478 landmarks on a studio head.

Each landmark is bound to a point of one triangle of the head model: three corners and their shares. Eye landmarks lie
on the eyeball and follow the gaze. `scripts/build_landmarks.py` found the binding by tracking studio people, so the
landmarks are where the tracker places them on average. Its deviations on one face or in one frame are errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int32

from raflib import runs
from raflib.errors import RafError
from raflib.reading import Array, damage_named, read_arrays
from raflib.studio.head_model import head_model
from raflib.studio.identity import Identity
from raflib.studio.motion import moved
from raflib.tracking.landmarks import COUNT

STORED = {"corners": Array("iu", "478 3"), "shares": Array("f", "478 3"), "points": Array("iu", "")}
SHIPPED = "landmarks.npz"
"""The binding that ships, in `data_root()`."""


@dataclass(frozen=True, eq=False)
class Binding:
    """Landmarks on the mesh: `used` [n] are the P points needed, `corners` [478,3] index into them, with `shares`
    [478,3]; `actions` [52,n,3] (metres) and skin `weights` [n,5] are the head model's at those points."""

    used: Int32[np.ndarray, "n"]
    corners: Int32[np.ndarray, "478 3"]
    shares: Float32[np.ndarray, "478 3"]
    actions: Float32[np.ndarray, "52 n 3"]
    weights: Float32[np.ndarray, "n 5"]


@lru_cache(maxsize=1)
def binding() -> Binding:
    """The binding that ships, read once in a process. RafError naming the file when it is missing or damaged."""
    return read_binding(runs.data_root() / SHIPPED)


def read_binding(path: str | Path) -> Binding:
    """A binding from `path`. RafError naming the file when it is missing, damaged or made for another head model."""
    path, model = Path(path), head_model()
    remedy = "it ships with the project, restore it or run scripts/build_landmarks.py"
    stored = read_arrays(path, STORED, "landmark binding", remedy, most=2**24)
    with damage_named(path, "landmark binding", remedy):
        corners, shares = stored["corners"].astype(np.int32), stored["shares"].astype(np.float32)
        points = int(stored["points"])
        if shares.min() < -1e-4 or not np.allclose(shares.sum(1), 1, atol=1e-4):
            raise ValueError(f"its shares are not those of {COUNT} points in triangles")
        if points == len(model.mean) and not 0 <= corners.min() <= corners.max() < points:
            raise ValueError("its corners lie beyond the mesh")
    if points != len(model.mean):
        raise RafError(
            f"{path}: made for a head of {points} points but the head model has {len(model.mean)}; "
            f"run scripts/build_landmarks.py"
        )
    used, places = np.unique(corners, return_inverse=True)
    return Binding(
        used, places.reshape(corners.shape).astype(np.int32), shares, model.actions[:, used].copy(), model.weights[used]
    )


def landmarks(
    identity: Identity, actions: Float[np.ndarray, "actions"], angles: Float[np.ndarray, "angles"]
) -> Float32[np.ndarray, "478 3"]:
    """True landmarks in world metres, in the tracker's order, for shown `actions` in [0,1] and head `angles` (degrees).

    The same arguments as `vertices` and `render`; only the points that landmarks need are moved. Raises RafError when
    the arrays have other shapes or hold NaN.
    """
    bound = binding()
    points = moved(identity, identity.vertices[bound.used], bound.actions, bound.weights, actions, angles)
    return np.einsum("lc,lcd->ld", bound.shares, points[bound.corners])
