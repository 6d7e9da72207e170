"""One moment seen by several calibrated cameras → expression and metric landmarks.

Each view is tracked on its own; the landmarks are triangulated from the views that agree with each other. A view that
disagrees (a misplaced face) is left out after a reprojection check. The result is None if no two views agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from raflib.errors import RafError
from raflib.geometry import Camera, triangulate
from raflib.tracking.face import Observation

MAX_ERROR = 0.03
"""Largest median reprojection error of a view that agrees, in face sizes (diagonal of the face's box). Typical errors
on studio heads are 0.005."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """One tracked moment.

    Attributes:
        expression: [52] scores of the frontal view.
        landmarks: [478,3] world metres.
        views: [V] the views that the landmarks come from.
        error: the largest median reprojection error among those views, in face sizes.
    """

    expression: Float[np.ndarray, "52"]
    landmarks: Float[np.ndarray, "478 3"]
    views: Bool[np.ndarray, "V"]
    error: float


def _view_errors(
    landmarks: np.ndarray, points: np.ndarray, sizes: np.ndarray, cameras: Sequence[Camera]
) -> Float[np.ndarray, "V"]:
    offsets = [camera.project(landmarks) - seen for camera, seen in zip(cameras, points, strict=True)]
    medians = np.array([np.median(np.linalg.norm(offset, axis=1)) for offset in offsets])
    return np.nan_to_num(medians, nan=np.inf) / sizes


def triangulate_robust(
    points: Float[np.ndarray, "V L 2"],
    cameras: Sequence[Camera],
    max_error: float = MAX_ERROR,
) -> tuple[Float[np.ndarray, "L 3"] | None, Bool[np.ndarray, "V"], float]:
    """Landmarks from the largest set of views that agree: (landmarks or None, views used, largest view error).

    Starts with all views and, while the worst view's median reprojection error exceeds `max_error` face sizes, drops
    the view without which the others agree best. Fewer than two views, or two that disagree, give None.
    """
    points = np.asarray(points, dtype=np.float64)
    sizes = np.maximum(np.linalg.norm(np.ptp(points, axis=1), axis=1), 1e-6)

    def attempt(views: list[int]) -> tuple[np.ndarray, float]:
        chosen = [cameras[view] for view in views]
        landmarks = triangulate(points[views], chosen)
        return landmarks, float(_view_errors(landmarks, points[views], sizes[views], chosen).max())

    views = list(range(len(points)))
    while len(views) >= 2:
        landmarks, error = attempt(views)
        if error <= max_error:
            return landmarks, np.isin(np.arange(len(points)), views), error
        if len(views) == 2:
            break
        smaller = [[view for view in views if view != left_out] for left_out in views]
        views = min(smaller, key=lambda kept: attempt(kept)[1])
    return None, np.zeros(len(points), dtype=bool), np.inf


def track_views(
    images: Sequence[np.ndarray],
    cameras: Sequence[Camera],
    tracker: Callable[[np.ndarray], Observation | None],
    frontal: int,
) -> Sighting | None:
    """Expression and landmarks of one moment.

    Args:
        images: V images, uint8 [H,W,3].
        cameras: their V cameras.
        tracker: finds the face in an image.
        frontal: the view whose scores become the expression.

    Returns None if the frontal view has no face, if fewer than two views have one, or if the frontal view disagrees
    with the others. Raises RafError for a wrong number of images or a frontal index out of range.
    """
    if len(images) != len(cameras) or not 0 <= frontal < len(cameras):
        raise RafError(
            f"track_views: {len(images)} images, {len(cameras)} cameras, frontal view {frontal}; "
            f"give one image a camera and a frontal index among them"
        )
    front = tracker(images[frontal])
    if front is None:
        return None
    seen = {view: front if view == frontal else tracker(image) for view, image in enumerate(images)}
    found = [view for view, observation in seen.items() if observation is not None]
    if len(found) < 2:
        return None
    points = np.stack([seen[view].points for view in found])
    landmarks, used, error = triangulate_robust(points, [cameras[view] for view in found])
    if landmarks is None or not used[found.index(frontal)]:
        return None
    views = np.zeros(len(cameras), dtype=bool)
    views[np.array(found)[used]] = True
    return Sighting(front.expression, landmarks, views, error)
