"""Metrics in the tracker's space: expression, head pose and landmarks of a rendered frame against the target's.

The paper measures AED and APD with DECA, which cannot be shipped; these use MediaPipe's face landmarker on both
images and say so in their tags. `aed` and `apd` compare with the *driver's* frame (paper §5). This also rewards an
avatar that reproduces the tracker's errors on the driver's face. `…/truth` and `lmd` compare with the true
image from the same camera. A frame without a detected face has no value (NaN): it is counted, never scored 0. Before
quoting a number, look at its scale with `calibrate`: what an identical pair and a shuffled pair score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from raflib.evaluation.metrics.base import Metric, Target, Tracker, register, register_against_both
from raflib.geometry import nearest_rotation

RIGHT_EYE, LEFT_EYE = (33, 133), (362, 263)
"""Corners of the subject's right and left eye in MediaPipe's 478 points: an eye's midpoint does not move with gaze."""
ACTIONS = ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "mouthSmileRight")
"""Blendshapes that MediaPipe reads reliably; their tracked values are kept in every row for `correlations`."""


def expression_distance(x: Float[np.ndarray, "d"], y: Float[np.ndarray, "d"]) -> float:
    """Mean absolute difference over the channels of two expression vectors (AED, paper §5; MediaPipe's 52 scores)."""
    return float(np.abs(np.asarray(x, dtype=np.float64) - y).mean())


def rotation_distance(x: Float[np.ndarray, "4 4"], y: Float[np.ndarray, "4 4"]) -> float:
    """Angle in degrees between the rotations of two face transforms (their common scale is divided out)."""
    first, second = (nearest_rotation(np.asarray(matrix, dtype=np.float64)[:3, :3]) for matrix in (x, y))
    relative = first.T @ second
    # The arctangent of both parts stays accurate near 0, where arccos of the trace alone loses half the digits.
    sine = np.linalg.norm(relative - relative.T) / np.sqrt(8)
    return float(np.degrees(np.arctan2(sine, (np.trace(relative) - 1) / 2)))


def landmark_distance(x: Float[np.ndarray, "L 2"], y: Float[np.ndarray, "L 2"]) -> float:
    """Mean distance of 2-D landmarks as a share of the interocular distance in `y` (between the eyes' midpoints)."""
    eyes = [y[list(eye)].mean(0) for eye in (RIGHT_EYE, LEFT_EYE)]
    return float(np.linalg.norm(x - y, axis=-1).mean() / np.linalg.norm(eyes[0] - eyes[1]))


def observe(tracker: Tracker | None, image: Real[np.ndarray, "H W 3"]) -> Any | None:
    """The tracker's observation of one image, uint8 or float in [0,1]; None without a face or without a tracker."""
    if tracker is None:
        return None
    if image.dtype != np.uint8:
        image = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return tracker(np.ascontiguousarray(image))


@contextmanager
def tracking(metrics: Iterable[Metric], tracker: Tracker | None = None) -> Iterator[Tracker | None]:
    """The tracker that the metrics need: `tracker` if given, else a new `FaceTracker`; None if no metric needs one."""
    if tracker is not None or not any("tracker" in metric.needs for metric in metrics):
        yield tracker
        return
    from raflib.tracking import FaceTracker

    with FaceTracker() as fresh:
        yield fresh


def _tracked_metric(function: Callable[[np.ndarray, np.ndarray], float], name: str, reference: str) -> Callable:
    """`function` of the observations' field `name`, as the function of a `Metric`; NaN without a face.

    `reference` is the field of `Target` that holds the observation to compare with.
    """

    def score(rendered: np.ndarray, face: object, target: Target) -> float:
        wanted = getattr(target, reference)
        if face is None or wanted is None:
            return float("nan")
        return function(getattr(face, name), getattr(wanted, name))

    return score


register_against_both(
    "aed/arkit52/l1",
    "lower",
    "mean |difference| of MediaPipe's 52 blendshape scores",
    partial(_tracked_metric, expression_distance, "expression"),
)
register_against_both(
    "apd/mediapipe/deg",
    "lower",
    "angle between MediaPipe's head rotations in degrees",
    partial(_tracked_metric, rotation_distance, "matrix"),
)
register(
    Metric(
        "lmd/mediapipe/iod",
        "lower",
        "mean 2-D distance of MediaPipe's 478 landmarks to those of the true image / interocular distance",
        _tracked_metric(landmark_distance, "points", "face"),
        frozenset({"tracker", "truth"}),
    )
)
