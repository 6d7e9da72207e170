"""Rendering and scoring the frames of a scene: one result row for each frame, camera and condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image

from raflib.capture import Capture
from raflib.errors import RafError
from raflib.evaluation.metrics.base import SLOW, Metric, Target, Tracker
from raflib.evaluation.metrics.mediapipe import ACTIONS, observe
from raflib.evaluation.scenes import Scene
from raflib.geometry import Camera
from raflib.images import face_box
from raflib.runs import atomic_write

KEYS = (
    "subject", "method", "seed", "drive", "head_pose", "condition", "protocol", "driver", "sequence", "frame", "camera",
)  # fmt: skip
"""Columns that tell result rows apart; no two rows have the same values in all of them."""


@runtime_checkable
class Avatar(Protocol):
    """What is evaluated, such as a `raflib.Run`.

    `control_expression` [d] is the training mean. `render` is given `torso` [B,6] (see `Capture.torso`) where the
    capture has one. Where it has them, `finished` says whether the training has ended, and `bank` holds the
    `raflib.bank.leaks.Fingerprints` of the bank it was trained with.
    """

    subject: str
    feature_space: str
    method: str
    config: Any

    @property
    def control_expression(self) -> Float[np.ndarray, "d"]: ...

    def render(
        self,
        expression: Float[np.ndarray, "B d"],
        pose: Float[np.ndarray, "B 6"],
        scale: Float[np.ndarray, "B"],
        cameras: list[Camera],
        torso: Float[np.ndarray, "B 6"] | None = None,
    ) -> Float[np.ndarray, "B H W 3"]: ...


def render(
    run: Avatar,
    expression: Float[np.ndarray, "B d"],
    pose: Float[np.ndarray, "B 6"],
    scale: Float[np.ndarray, "B"],
    cameras: list[Camera],
    torso: Float[np.ndarray, "B 6"] | None,
) -> Float[np.ndarray, "B H W 3"]:
    """Images of the avatar, which is given a torso only where there is one: others need not know the parameter."""
    known = {} if torso is None else {"torso": torso}
    return run.render(expression, pose, scale, cameras, **known)


def check_capture(what: str, run: Avatar, capture: Capture) -> None:
    """RafError, beginning with `what`, for a capture of another person or feature space than the avatar's, and for an
    avatar whose training has not ended."""
    if capture.subject != run.subject:
        raise RafError(f"{what}: the run is of subject {run.subject} but the capture of {capture.subject}")
    wanted = run.feature_space, len(run.control_expression)
    given = capture.feature_space, capture.expression.shape[1]
    if wanted != given:
        raise RafError(
            f"{what}: the run expects {wanted[1]} features in the space {wanted[0]}, but capture {capture.subject} has "
            f"{given[1]} of {given[0]}; open it with the features of the training"
        )
    if not getattr(run, "finished", True):
        info = getattr(run, "info", {})
        total = info.get("total_steps", getattr(run.config, "steps", "all"))
        steps = f"{info.get('steps', 'some')} of {total} steps"
        where = getattr(run, "path", f"run {run.subject}/{run.method}")
        raise RafError(f"{what}: {where} holds an avatar after {steps}; train it to the end first (run 04 again)")


def measurable(wanted: Sequence[Metric], default: bool, conditions: Sequence[str], scene: Scene) -> list[Metric]:
    """The metrics of `wanted` that this scene can measure.

    Of the default set, those that cannot be measured and the slow ones are left out. Of a set that was named, one that
    cannot be measured is a RafError, and so is the condition "truth" where the scene has none.
    """
    missing = set() if scene.truth else {"truth"}
    needy = [metric.tag for metric in wanted if metric.needs & missing and not default]
    needy += ["condition 'truth'"] if missing and "truth" in conditions else []
    if needy:
        raise RafError(f"evaluate: {needy[0]} needs a true image and driver {scene.driver} has none; leave it out")
    return [m for m in wanted if not default or (not m.needs & missing and m.tag not in SLOW)]


def score(
    run: Avatar,
    scene: Scene,
    places: Sequence[tuple[int, int]],
    metrics: Sequence[Metric],
    conditions: Sequence[str],
    tracker: Tracker | None,
    label: Mapping[str, object],
    folder: str | Path | None = None,
) -> list[dict[str, object]]:
    """Result rows of a batch of a scene's (frame, camera) `places`, in all conditions; `label` begins each row.

    All images are written into `folder`, where one is given.
    """
    usable = [(i, c) for i, c in places if np.isfinite(scene.pose[i]).all()]
    rendered = _rendered(run, scene, usable, conditions)
    rows = []
    for i, c in places:
        where = {
            "head_pose": scene.head_pose,
            "driver": scene.driver,
            "sequence": str(scene.sequence[i]),
            "frame": int(scene.frame[i]),
            "camera": scene.cameras[c].name,
        }
        target = _target(scene, i, c, tracker) if (i, c) in usable else None
        if folder is not None and target is not None:
            _write(Path(folder), where, {"truth": target.image, "driver": target.driver_image})
        for condition in conditions:
            row = {**label, **where, "condition": condition}
            if target is None:
                # The face was lost on the target's own images: there is no pose to render.
                row |= {"detected": False, "reference_detected": False, **{m.tag: np.nan for m in metrics}}
            else:
                image = target.image if condition == "truth" else rendered[condition, i, c]
                assert image is not None  # `measurable` refuses the condition "truth" where there is none
                row |= _scores(image, target, metrics, tracker, bool(scene.truth))
                if folder is not None:
                    _write(Path(folder), where, {condition: image})
            rows.append(row)
    return rows


def image_name(row: Mapping[Any, Any], kind: str) -> str:
    """File name of an image of a result row: of its condition, or "truth" or "driver" for what it is compared with."""
    return f"{row['driver']}_{row['sequence']}_{int(row['frame']):05d}_{row['camera']}_{kind}.png"


def _write(folder: Path, where: Mapping[str, object], images: Mapping[str, np.ndarray | None]) -> None:
    """Write images of one frame and camera as PNG, under their `image_name`; None is left out."""
    for kind, image in images.items():
        if image is not None:
            pixels = image if image.dtype == np.uint8 else (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
            with atomic_write(folder / image_name(where, kind)) as path:
                Image.fromarray(pixels).save(path, format="PNG")


def _rendered(
    run: Avatar, scene: Scene, places: Sequence[tuple[int, int]], conditions: Sequence[str]
) -> dict[tuple[str, int, int], Float[np.ndarray, "H W 3"]]:
    """Images of the avatar and of the control at `places`, by (condition, frame, camera)."""
    given = {"avatar": scene.expression, "control": np.broadcast_to(run.control_expression, scene.expression.shape)}
    images: dict[tuple[str, int, int], np.ndarray] = {}
    for condition in conditions:
        if condition not in given or not places:
            continue
        rows = [i for i, _ in places]
        signals = (given[condition][rows], scene.pose[rows], scene.scale[rows])
        expression, pose, scale = (np.ascontiguousarray(signal, np.float32) for signal in signals)
        torso = None if scene.torso is None else np.ascontiguousarray(scene.torso[rows], np.float32)
        made = render(run, expression, pose, scale, [scene.cameras[c] for _, c in places], torso)
        images |= {(condition, i, c): image for (i, c), image in zip(places, made, strict=True)}
    return images


def _target(scene: Scene, i: int, c: int, tracker: Tracker | None) -> Target:
    """What frame `i` from camera `c` is compared with."""
    driver_image = scene.driver_image(i, c)
    if scene.truth is None or scene.landmarks is None:
        return Target(driver_image=driver_image, driver_face=observe(tracker, driver_image))
    true = scene.truth(i, c)
    face = observe(tracker, true)
    driver_face = face if scene.truth is scene.driver_image else observe(tracker, driver_image)
    box = face_box(scene.landmarks[i], scene.cameras[c])
    same_pose = scene.head_pose != "driver"
    return Target(true.astype(np.float32) / 255, box, face, driver_image, driver_face, same_pose)


def _scores(
    rendered: Float[np.ndarray, "H W 3"],
    target: Target,
    metrics: Sequence[Metric],
    tracker: Tracker | None,
    has_truth: bool,
) -> dict[str, object]:
    """Metrics of one render, whether faces were found, and the tracked actions for `correlations`."""
    face = target.face if rendered is target.image else observe(tracker, rendered)
    wanted = target.face if has_truth else target.driver_face
    row: dict[str, object] = {
        "detected": face is not None or tracker is None,
        "reference_detected": tracker is None or (target.driver_face is not None and wanted is not None),
    }
    row |= {metric.tag: metric.function(rendered, face, target) for metric in metrics}
    if tracker is not None:
        from raflib.tracking import ARKIT52

        for kind, seen in (("rendered", face), ("target", wanted)):
            for action in ACTIONS:
                row[f"{kind}/{action}"] = np.nan if seen is None else float(seen.expression[ARKIT52.index(action)])
    return row
