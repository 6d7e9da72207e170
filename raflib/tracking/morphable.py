"""Faces fitted with a linear face model.

`fit_views` finds one person's identity, and expression and pose of every frame, from pixels in one or many calibrated
views; `fit_points` does so from triangulated landmarks; `refit` gives a capture the model's expression as its features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from raflib.capture import Capture
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.tracking import fitting
from raflib.tracking.face_model import Landmarks, LinearFaceModel


@dataclass(frozen=True, eq=False)
class FaceFit:
    """A fitted recording.

    Attributes:
        identity: [I] coefficients of the person.
        expression: [T,E] coefficients, NaN where the frame is not fitted.
        pose: [T,6] axis-angle and place in world metres, NaN where the frame is not fitted.
        scale: metres of a canonical unit, the person's size included.
        landmarks: [T,L,3] the model's landmarks in world metres.
        residual: [T] median distance to the observed landmarks, in pixels (`fit_views`) or metres (`fit_points`).
        fitted: [T] whether enough landmarks were observed.
    """

    identity: Float[np.ndarray, "I"]
    expression: Float[np.ndarray, "T E"]
    pose: Float[np.ndarray, "T 6"]
    scale: float
    landmarks: Float[np.ndarray, "T L 3"]
    residual: Float[np.ndarray, "T"]
    fitted: Bool[np.ndarray, "T"]


def fit_views(
    model: LinearFaceModel,
    points: Float[np.ndarray, "*shape"],
    cameras: Sequence[Camera],
    tracked: bool = True,
    progress: bool = True,
) -> FaceFit:
    """Fit a model to one person's recording in pixels of V calibrated cameras.

    Args:
        points: [T,V,P,2] the tracker's landmarks, NaN where a view has none; with one camera V may be left out.
        tracked: whether they come from the face tracker, whose errors some models know (`LinearFaceModel.seen`); False
            for landmarks at their true places, such as the studio's.

    One view says little about the size of a face. Size and distance then follow the priors and can be wrong by a tenth,
    alike in all frames; rotation and expression are still found. Raises RafError for arrays that do not fit the model
    or the cameras, and when no frame shows enough landmarks.
    """
    points = np.asarray(points, np.float64)
    points = points[:, None] if points.ndim == 3 else points
    if points.ndim != 4 or points.shape[1] != len(cameras) or points.shape[-1] != 2:
        raise RafError(
            f"fit_views: {len(cameras)} cameras need points [T,{len(cameras)},P,2], got {list(points.shape)}"
        )
    points = _chosen(model, points)
    looks = model.seen if tracked and model.seen else model.landmarks()
    rotation, place, fitted = fitting.first_poses(looks.mean, points, cameras)
    return _fit(model, looks, rotation, place, fitted, fitting.pixels_seen(points[fitted], cameras), progress)


def fit_points(
    model: LinearFaceModel, landmarks: Float[np.ndarray, "*shape"], tracked: bool = True, progress: bool = True
) -> FaceFit:
    """Fit a model to one person's triangulated landmarks [T,P,3] (world metres), NaN where there is none.

    `tracked` is as in `fit_views`. Raises RafError for arrays that do not fit the model, and when no frame shows
    enough.
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.ndim != 3 or landmarks.shape[-1] != 3:
        raise RafError(f"fit_points: expected landmarks [T,P,3], got {list(landmarks.shape)}")
    landmarks = _chosen(model, landmarks)
    looks = model.seen if tracked and model.seen else model.landmarks()
    rotation, place, fitted = fitting.first_poses_of_points(looks.mean, landmarks)
    return _fit(model, looks, rotation, place, fitted, fitting.points_seen(landmarks[fitted]), progress)


def refit(capture: Capture, model: LinearFaceModel, one_view: bool = False, progress: bool = True) -> Capture:
    """`capture` with the model's expression coefficients as its features, tagged with the model's feature space.

    Args:
        one_view: for captures tracked by a single camera, whose landmarks have no reliable depth: they are projected
            into the capture's first camera and fitted there. Otherwise landmarks are fitted in space.

    Frames without a face, or with too few landmarks to fit, are marked as not detected. Nothing else changes.
    """
    if one_view:
        seen = np.where(capture.detected[:, None, None], capture.cameras[0].project(capture.landmarks), np.nan)
        found = fit_views(model, seen, capture.cameras[:1], progress=progress)
    else:
        seen = np.where(capture.detected[:, None, None], capture.landmarks, np.nan)
        found = fit_points(model, seen, progress=progress)
    return replace(
        capture, expression=found.expression.astype(np.float32), feature_space=model.feature_space,
        detected=capture.detected & found.fitted,
    )  # fmt: skip


def _chosen(model: LinearFaceModel, points: np.ndarray) -> np.ndarray:
    """The model's landmarks among the tracker's points."""
    if points.shape[-2] <= np.max(model.tracker):
        raise RafError(
            f"face model {model.name} wants point {np.max(model.tracker)} of the tracker but only {points.shape[-2]} "
            f"were given; pass all points of the tracker, or a model with another `tracker` table"
        )
    return points[..., model.tracker, :]


def _fit(
    model: LinearFaceModel,
    looks: Landmarks,
    rotation: Float[np.ndarray, "T 3 3"],
    place: Float[np.ndarray, "T 3"],
    fitted: Bool[np.ndarray, "T"],
    observe: fitting.Observe,
    progress: bool,
) -> FaceFit:
    if not fitted.any():
        raise RafError(f"face model {model.name}: no frame of {len(fitted)} shows enough landmarks to fit")
    solver = fitting.solve(
        looks.mean, looks.identity, looks.expression, observe, rotation[fitted], place[fitted], progress
    )
    own, frames = model.landmarks(), np.arange(int(fitted.sum()))
    left = solver.residuals(frames).reshape(len(frames), -1)
    shape = own.mean + np.tensordot(solver.shape, own.identity, 1) + np.tensordot(solver.shown, own.expression, 1)
    scale = fitting.UNIT * float(np.exp(solver.size))
    landmarks = scale * shape @ solver.rotation.transpose(0, 2, 1) + solver.place[:, None]

    def spread(values: np.ndarray) -> np.ndarray:
        full = np.full((len(fitted), *values.shape[1:]), np.nan)
        full[fitted] = values
        return full

    return FaceFit(
        identity=solver.shape,
        expression=spread(solver.shown),
        pose=spread(fitting.join_poses(solver.rotation, solver.place)),
        scale=scale,
        landmarks=spread(landmarks),
        residual=spread(np.nanmedian(left, axis=1)),
        fitted=fitted,
    )
