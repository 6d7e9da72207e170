"""Metrics in the tracker's space: expression, head pose and landmarks of a rendered frame against the wanted ones.

The paper measures AED and APD with DECA, which cannot be shipped; these use MediaPipe's face landmarker on both
pictures and say so in their tags. `aed` and `apd` compare with the *driver's* frame (paper §5), which also rewards an
avatar for carrying over what the tracker misreads in the driver's face; `…/truth` and `lmd` compare with the true
picture from the same camera. A frame without a detected face has no value (NaN): it is counted, never scored 0. Before
quoting a number, look at its scale with `calibrate`: what an identical pair and a shuffled pair score.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from jaxtyping import Float, Real
from tqdm import tqdm

from raflib.capture import Capture
from raflib.errors import RafError
from raflib.evaluation.metrics import Metric, Target, register, resolve
from raflib.geometry import nearest_rotation
from raflib.images import face_box

RIGHT_EYE, LEFT_EYE = (33, 133), (362, 263)
"""Corners of the subject's right and left eye in MediaPipe's 478 points: an eye's midpoint does not move with gaze."""
ACTIONS = ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "mouthSmileRight")
"""Blendshapes whose tracked values are kept in every row, for `correlations`: those MediaPipe reads reliably."""


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


def observe(tracker: object | None, image: Real[np.ndarray, "H W 3"]) -> object | None:
    """What `tracker` sees in one picture, uint8 or float in [0,1]; None if it finds no face or there is no tracker."""
    if tracker is None:
        return None
    if image.dtype != np.uint8:
        image = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return tracker(np.ascontiguousarray(image))


def calibrate(
    capture: Capture,
    cameras: Sequence[int],
    frames: Sequence[int] | np.ndarray,
    metrics: Iterable[str | Metric],
    tracker: object | None = None,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """The scale of each metric: what a perfect and an unrelated render would score on these pictures.

    Each true picture of `frames` × `cameras` is scored against itself ("identical") and against the true picture of
    another of the frames from the same camera ("shuffled", a random cyclic order, so none meets itself). Returns one
    row a metric: `metric, better, identical, shuffled, pairs, undetected` (means over detected pairs). A method's value
    is read between the two. Raises RafError for fewer than two frames.
    """
    if len(frames) < 2:
        raise RafError(f"calibrate: got {len(frames)} frame(s); shuffled pairs need at least two")
    chosen = resolve(metrics)
    order = np.random.default_rng(seed).permutation(len(frames))
    partner = {int(frames[a]): int(frames[b]) for a, b in zip(order, np.roll(order, 1), strict=True)}
    rows = []
    with tracking(chosen, tracker) as track:
        for c in cameras:
            seen = {}
            for t in tqdm(frames, desc=f"calibrate {capture.cameras[c].name}", disable=not progress, leave=False):
                picture = capture.image(int(t), int(c))
                seen[int(t)] = (picture, observe(track, picture))
            for t, (picture, face) in seen.items():
                box = face_box(capture.landmarks[t], capture.cameras[c])
                target = Target(picture.astype(np.float32) / 255, box, face, picture, face)
                for kind, other in (("identical", t), ("shuffled", partner[t])):
                    rendered, rendered_face = seen[other]
                    rendered = rendered.astype(np.float32) / 255
                    values = {m.tag: m.function(rendered, rendered_face, target) for m in chosen}
                    rows.append({"kind": kind, "detected": face is not None and rendered_face is not None, **values})
    table = pd.DataFrame(rows)
    return pd.DataFrame(
        {
            "metric": metric.tag,
            "better": metric.better,
            **{kind: table.loc[table.kind == kind, metric.tag].mean() for kind in ("identical", "shuffled")},
            "pairs": int((table.kind == "shuffled").sum()),
            "undetected": int((~table.detected[table.kind == "shuffled"]).sum()) if "tracker" in metric.needs else 0,
        }
        for metric in chosen
    )


@contextmanager
def tracking(metrics: Iterable[Metric], tracker: object | None = None) -> Iterator[object | None]:
    """The tracker the metrics need: `tracker` if given, else a `FaceTracker` of this block, None if none needs one."""
    if tracker is not None or not any("tracker" in metric.needs for metric in metrics):
        yield tracker
        return
    from raflib.tracking import FaceTracker

    with FaceTracker() as fresh:
        yield fresh


def _tracked_metric(function, name: str, reference: str):
    def score(rendered: np.ndarray, face: object, target: Target) -> float:
        wanted = getattr(target, reference)
        if face is None or wanted is None:
            return float("nan")
        return function(getattr(face, name), getattr(wanted, name))

    return score


register(
    Metric(
        "aed/arkit52/l1",
        "lower",
        "mean |difference| of MediaPipe's 52 blendshape scores, render against the driver's picture",
        _tracked_metric(expression_distance, "expression", "driver_face"),
        frozenset({"tracker"}),
    )
)
register(
    Metric(
        "aed/arkit52/l1/truth",
        "lower",
        "mean |difference| of MediaPipe's 52 blendshape scores, render against the true picture",
        _tracked_metric(expression_distance, "expression", "face"),
        frozenset({"tracker", "truth"}),
    )
)
register(
    Metric(
        "apd/mediapipe/deg",
        "lower",
        "angle between MediaPipe's head rotations in degrees, render against the driver's picture",
        _tracked_metric(rotation_distance, "matrix", "driver_face"),
        frozenset({"tracker"}),
    )
)
register(
    Metric(
        "lmd/mediapipe/iod",
        "lower",
        "mean 2-D distance of MediaPipe's 478 landmarks to those of the true picture / interocular distance",
        _tracked_metric(landmark_distance, "points", "face"),
        frozenset({"tracker", "truth"}),
    )
)
