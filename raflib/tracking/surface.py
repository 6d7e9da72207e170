"""Face models whose landmarks lie on triangles: each is a weighted mean of three vertices, in every shape of the face.

A `LinearFaceModel` has landmarks at vertices, so the landmarks are added as further vertices. They are linear in the
coefficients, as all vertices are, so nothing is lost. The files of such models are in metres, with x to the subject's
left, y up and z out of the face.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from raflib.tracking.face_model import LinearFaceModel
from raflib.tracking.landmarks import COUNT, LEFT_EYE, LIPS_OUTER, NOSE, RIGHT_EYE

METRE = np.array([10.0, -10.0, -10.0])
"""A metre of the files in canonical decimetres, along each axis."""
EYES_APART = (0.4, 1.0)
"""Smallest and largest distance of the eyes' middles in decimetres, for any adult head."""


def canonical(vertices: Float[np.ndarray, "*k V 3"]) -> Float[np.ndarray, "*k V 3"]:
    """Vertices or components of a file in canonical decimetres, in single precision."""
    with np.errstate(over="ignore"):  # the model refuses infinite values
        return (vertices * METRE).astype(np.float32)


def numbered(name: str, values: np.ndarray) -> Int[np.ndarray, "*shape"]:
    """Numbers of vertices, triangles or landmarks, which some files hold as floats; ValueError unless all are whole."""
    with np.errstate(invalid="ignore"):  # numbers beyond the range become others, which are refused
        whole = values.astype(np.int64)
    if (whole != values).any():
        raise ValueError(f"{name} holds numbers that are not whole")
    return whole


def surface_model(
    name: str,
    mean: Float[np.ndarray, "V 3"],
    bases: tuple[Float[np.ndarray, "I V 3"], Float[np.ndarray, "E V 3"]],
    triangles: Int[np.ndarray, "F 3"],
    corners: Int[np.ndarray, "L 3"],
    weights: Float[np.ndarray, "L 3"],
    tracker: Int[np.ndarray, "L"],
) -> LinearFaceModel:
    """The model with V + L vertices, of which the last L are its landmarks.

    Args:
        mean, bases: in canonical decimetres; identity and expression for one standard deviation.
        corners, weights: the three vertices of each landmark, and their shares.
        tracker: number of each landmark among MediaPipe's 478.

    Raises ValueError where landmarks do not belong to the mesh or do not lie where a face has them.
    """
    if not len(corners) or corners.min() < 0 or corners.max() >= len(mean):
        raise ValueError(f"landmarks lie at vertices from {corners.min(initial=0)} to {corners.max(initial=0)}, and "
                         f"the model has 0 to {len(mean) - 1}")  # fmt: skip
    if weights.min() < -0.01 or np.abs(weights.sum(1) - 1).max() > 0.01:
        raise ValueError("shares of the corners of a landmark are negative or do not add up to 1")
    if tracker.min() < 0 or tracker.max() >= COUNT or len(np.unique(tracker)) < len(tracker):
        raise ValueError(f"landmarks are not each another one of the tracker's 0 to {COUNT - 1}")

    def extended(vertices: np.ndarray) -> np.ndarray:
        points = np.einsum("...lcx,lc->...lx", vertices[..., corners, :], weights.astype(vertices.dtype))
        return np.concatenate([vertices, points], -2)

    whole = extended(mean)
    _check_face(whole[len(mean) :], tracker)
    added = np.arange(len(mean), len(whole))
    return LinearFaceModel(name, whole, extended(bases[0]), extended(bases[1]), added, tracker, triangles)


def _check_face(points: Float[np.ndarray, "L 3"], tracker: Int[np.ndarray, "L"]) -> None:
    """ValueError unless eyes, nose and mouth lie as in canonical head space: notices other units, axes and orders."""
    parts = {"right eye": RIGHT_EYE, "left eye": LEFT_EYE, "nose": NOSE, "mouth": LIPS_OUTER}
    found = {name: points[np.isin(tracker, numbers)] for name, numbers in parts.items()}
    if missing := [name for name, here in found.items() if not len(here)]:
        raise ValueError(f"it has no landmarks of the {' and the '.join(missing)}")
    right, left, _, mouth = (here.mean(0) for here in found.values())
    eyes, apart = (left + right) / 2, float(left[0] - right[0])
    if not EYES_APART[0] <= apart <= EYES_APART[1]:
        raise ValueError(
            f"the left eye lies {100 * apart:.4g} mm to the left of the right eye, expected "
            f"{100 * EYES_APART[0]:g} to {100 * EYES_APART[1]:g}; its unit, axes or landmarks are others"
        )
    if mouth[1] <= eyes[1] or found["nose"][:, 2].min() >= eyes[2]:
        raise ValueError("its mouth is not below its eyes, or its nose not before them; its axes are others")
