"""`evaluate(run, protocol, ...)`: drive an avatar and score every frame it renders, one row a frame and condition.

* **self** (paper §5): the avatar is driven by its own person's held-out FREE sequence and judged against the real
  pictures.
* **cross**: it is driven by the FREE sequences of other people. Expression and pose are compared with the *driver's*
  frame. Where the source owns the performance there is a truth too, the target performing the driver's exact expression
  (`raflib.capture.Truth.perform`); picture and landmark metrics and `aed/…/truth` are measured against that.

Every evaluation also renders the **control**: the same avatar, pose and camera with the expression held at its training
mean. A method that does not beat it has learnt nothing about expression; read every number next to that row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from PIL import Image
from tqdm import tqdm

from raflib.bank.leaks import refuse_leaks
from raflib.capture import Capture, Performed, most_frontal
from raflib.driving import DrivingMap, drive_from_name, transfer_pose
from raflib.errors import RafError, numbers, whole
from raflib.evaluation.metrics.base import REGISTRY, Metric, Target, resolve
from raflib.evaluation.metrics.mediapipe import ACTIONS, observe, tracking
from raflib.geometry import Camera
from raflib.images import face_box

Frames = int | Sequence[int] | np.ndarray | None
SLOW = ("lpips/stlpips-alex/whole",)
"""Registered metrics that are only measured when asked for by name."""
KEYS = ("subject", "method", "seed", "drive", "condition", "protocol", "driver", "sequence", "frame", "camera")


@dataclass(frozen=True, eq=False)
class Scene:
    """One driver's frames as the avatar performs them: signals [F,...], cameras [C], and pictures by (row, camera)."""

    driver: str
    sequence: np.ndarray
    frame: np.ndarray
    expression: Float[np.ndarray, "F d"]
    pose: Float[np.ndarray, "F 6"]
    scale: Float[np.ndarray, "F"]
    cameras: list[Camera]
    truth: Callable[[int, int], UInt8[np.ndarray, "H W 3"]] | None
    landmarks: Float[np.ndarray, "F L 3"] | None
    driver_image: Callable[[int, int], UInt8[np.ndarray, "h w 3"]]


def evaluate(
    run,
    protocol: str = "self",
    capture: Capture | None = None,
    drivers: Iterable[Capture] = (),
    cameras: Sequence[int] | None = None,
    frames: Frames = None,
    metrics: Iterable[str | Metric] | None = None,
    truth: str | bool | Callable[..., Performed] = "auto",
    split: str = "free",
    conditions: Sequence[str] = ("avatar", "control"),
    size: int | None = None,
    tracker: object | None = None,
    drive: str | DrivingMap = "direct",
    allow_leak: bool = False,
    batch: int = 8,
    progress: bool = True,
) -> pd.DataFrame:
    """Scores of a trained avatar, one row a frame, camera and condition.

    Args:
        run: a `raflib.Run`, or anything with its `subject`, `method`, `config.seed`, `control_expression` and `render`,
            and, where it has them, `finished` and the `bank` it was trained with (`raflib.bank.leaks.Fingerprints`).
        protocol: "self" or "cross".
        capture: the target person's own recording (both protocols need it).
        drivers: captures of other people, for "cross".
        cameras: indices into the target's cameras; default the three most frontal for "self", the frontal for "cross".
        frames: None for all, a number for that many evenly spaced, or row indices into the driving capture.
        metrics: tags or `Metric` objects; default all registered that the protocol can measure, but the slow ones.
        truth: "auto" uses the truth where both captures own it, False never, a function like
            `raflib.capture.Truth.perform` makes it another way.
        split: "free", or "train" to look at frames the avatar was trained on ("self" only).
        conditions: any of "avatar", "control" and "truth" (the true picture scored as if it were a render: what a
            perfect avatar would get from the tracker's metrics).
        size: render and compare at this width in pixels (default: the capture's own).
        tracker: a `FaceTracker`; by default one is started when a metric needs it.
        drive: what the avatar is given for the features that drive it, a name or a `raflib.driving.DrivingMap`. A map
            learns of the driver from the frames of the split that drives; in self-driving too, where it is not told
            who drives.
        allow_leak: measure even if the run's bank holds frames of the subject or of a driver (`raflib.bank.leaks`).

    Returns a frame with `subject, method, seed, drive, condition, protocol, driver, sequence, frame, camera`, then
    `detected` (a face was found in the render), `reference_detected` (and in every picture it is compared with), the
    metrics, and `rendered/<action>` and `target/<action>` scores for `correlations`. Metrics of a frame without a
    detected face are NaN. Raises RafError for captures of another person or feature space, unknown metrics or drives,
    an avatar whose training has not ended, or nothing to evaluate.
    """
    drivers = list(drivers)
    _check(run, protocol, split, capture, drivers, conditions, allow_leak)
    wanted = list(REGISTRY.values()) if metrics is None else resolve(metrics)
    if cameras is None:
        cameras = most_frontal(capture.cameras, 3 if protocol == "self" else 1)
    drive = drive_from_name(drive) if isinstance(drive, str) else drive
    label = {"subject": run.subject, "method": run.method, "seed": run.config.seed, "drive": drive.name}
    label["protocol"] = protocol
    rows: list[dict] = []
    with tracking(wanted, tracker) as track:
        if protocol == "self":
            picked = pick_frames(np.flatnonzero(getattr(capture, split)), frames)
            clip = capture.expression[getattr(capture, split)]
            scenes = iter([_self_scene(capture, picked, cameras, size, drive, clip)])
        else:  # one at a time: pictures of the truth are large
            scenes = (_cross_scene(capture, d, frames, cameras, truth, size, drive, track, progress) for d in drivers)
        for scene in scenes:
            chosen = _measurable(wanted, metrics is None, conditions, scene)
            shots = [(i, c) for c in range(len(scene.cameras)) for i in range(len(scene.frame))]
            title = f"{run.subject} ← {scene.driver}"
            with tqdm(total=len(shots), desc=title, disable=not progress, leave=False) as bar:
                for start in range(0, len(shots), batch):
                    part = shots[start : start + batch]
                    rows += _score(run, scene, part, chosen, conditions, track, label)
                    bar.update(len(part))
    table = pd.DataFrame(rows)
    order = [*KEYS, "detected", "reference_detected"]
    table = table[[*order, *(name for name in table if name not in order)]]
    return table.sort_values([*KEYS[KEYS.index("driver") :], "condition"], kind="stable", ignore_index=True)


def correlations(
    table: pd.DataFrame, by: Sequence[str] = ("method", "condition"), actions: Sequence[str] = ACTIONS
) -> pd.DataFrame:
    """Does the render's expression move with the true one? Pearson correlation over frames, an action a column.

    `table` comes from `evaluate`; `by` groups its rows. The values are MediaPipe's scores on the render and on the true
    picture (the driver's, where there is no truth). Columns: `by`, one an action, their `median`, and `frames` used.
    An action that hardly moves in the truth (deviation below 0.01) or not at all in the render has none (NaN).
    """
    rows = []
    for key, group in table.groupby(list(by), sort=False):
        values, used = {}, 0
        for action in actions:
            pair = group[[f"rendered/{action}", f"target/{action}"]].dropna().to_numpy()
            used = max(used, len(pair))
            still = len(pair) < 3 or (pair.std(0) < [1e-6, 0.01]).any()
            values[action] = np.nan if still else float(np.corrcoef(pair.T)[0, 1])
        known = [value for value in values.values() if np.isfinite(value)]
        median = float(np.median(known)) if known else np.nan
        rows.append({**dict(zip(by, key, strict=True)), **values, "median": median, "frames": used})
    return pd.DataFrame(rows)


def pick_frames(available: Sequence[int] | np.ndarray, frames: Frames) -> np.ndarray:
    """Row indices: all of `available`, that many evenly spaced, or the given ones if all are available."""
    available = np.asarray(available, dtype=int)
    if frames is None:
        return available
    if np.ndim(frames) == 0:
        frames = whole("evaluate: frames", frames, 1)
        return available[np.unique(np.linspace(0, len(available) - 1, min(frames, len(available))).round().astype(int))]
    frames = numbers("evaluate: frames", frames, "iu").astype(int)
    odd = np.setdiff1d(frames, available)
    if len(odd):
        raise RafError(f"evaluate: frame {odd[0]} is not a detected frame of the wanted split; leave it out")
    return frames


def _check(run, protocol, split, capture, drivers, conditions, allow_leak) -> None:
    """Every refusal that needs no picture, so that a long evaluation does not fail late."""
    if protocol not in ("self", "cross") or split not in ("free", "train") or (protocol, split) == ("cross", "train"):
        raise RafError(
            f"evaluate: protocol {protocol!r} with split {split!r}; use 'self' (free, train) or 'cross' (free)"
        )
    if capture is None:
        raise RafError(
            f"evaluate: pass the capture of subject {run.subject}, e.g. open_capture('studio', '{run.subject}')"
        )
    if capture.subject != run.subject:
        raise RafError(f"evaluate: the run is of subject {run.subject} but the capture of {capture.subject}")
    if not getattr(run, "finished", True):
        steps = f"{run.info['steps']} of {run.info['total_steps']} steps"
        raise RafError(f"evaluate: {run.path} holds an avatar after {steps}; train it to the end first (run 04 again)")
    if protocol == "cross" and not drivers:
        raise RafError("evaluate: cross-driving needs drivers, captures of other people")
    if not conditions or set(conditions) - {"avatar", "control", "truth"}:
        raise RafError(f"evaluate: conditions {tuple(conditions)} must be among avatar, control and truth")
    for driver in drivers:
        if driver.subject == run.subject:
            raise RafError(f"evaluate: subject {run.subject} cannot be its own driver; use protocol 'self'")
        if driver.feature_space != capture.feature_space:
            raise RafError(
                f"evaluate: driver {driver.subject} has {driver.feature_space} features but subject {run.subject} "
                f"{capture.feature_space}; track them with one tracker"
            )
    if capture.expression.shape[1] != len(run.control_expression):
        raise RafError(
            f"evaluate: the run expects {len(run.control_expression)} features but {capture.feature_space} of capture "
            f"{capture.subject} has {capture.expression.shape[1]}"
        )
    if not allow_leak and (bank := getattr(run, "bank", None)) is not None:
        people = {person.subject: person.expression[person.detected] for person in (capture, *drivers)}
        refuse_leaks(f"evaluate: the bank of run {run.subject}/{run.method}", bank, people, allow=False)


def _self_scene(
    capture: Capture, rows: np.ndarray, cameras: Sequence[int], size: int | None, drive: DrivingMap, clip: np.ndarray
) -> Scene:
    if not len(rows):
        raise RafError(f"evaluate: capture {capture.subject} has no detected frame in the wanted split")
    prefetch = getattr(capture.frames, "prefetch", None)
    if prefetch is not None:
        prefetch([(int(t), int(c)) for t in rows for c in cameras])
    chosen = [_sized(capture.cameras[c], size) for c in cameras]

    def picture(i: int, c: int) -> np.ndarray:
        return _resized(capture.image(int(rows[i]), int(cameras[c])), chosen[c])

    given = drive(capture.expression[rows], clip, capture.expression[capture.train])
    signals = (given, capture.pose[rows], capture.scale[rows])
    where = (capture.sequence[rows], capture.frame[rows])
    return Scene(capture.subject, *where, *signals, chosen, picture, capture.landmarks[rows], picture)


def _cross_scene(target: Capture, driver: Capture, frames, cameras, truth, size, drive, tracker, progress) -> Scene:
    rows = pick_frames(np.flatnonzero(driver.free), frames)
    if not len(rows):
        raise RafError(f"evaluate: driver {driver.subject} has no detected frame of the FREE sequence")
    chosen = [_sized(target.cameras[c], size) for c in cameras]
    # A driver filmed by the same rig is looked at from the camera that renders, so that both faces are seen alike.
    names = [camera.name for camera in driver.cameras]
    frontal = most_frontal(driver.cameras, 1)[0]
    views = [names.index(camera.name) if camera.name in names else frontal for camera in chosen]

    def driver_picture(i: int, c: int) -> np.ndarray:
        return driver.image(int(rows[i]), views[c])

    owned = target.truth is not None and driver.truth is not None and target.truth.perform is not None
    if truth is True and not owned:
        raise RafError(f"evaluate: {target.subject} driven by {driver.subject} has no truth; only the studio owns one")
    if callable(truth) or truth is True or (truth == "auto" and owned):
        make = truth if callable(truth) else target.truth.perform
        shown = make(target, driver, rows, chosen, tracker=tracker, progress=progress)
        pose, scale, landmarks = shown.pose, shown.scale, shown.landmarks

        def true_picture(i: int, c: int) -> np.ndarray:
            return shown.images[i, c]
    else:
        true_picture = landmarks = None
        pose, scale = transfer_pose(driver, target, rows)
    where = (driver.sequence[rows], driver.frame[rows])
    given = drive(driver.expression[rows], driver.expression[driver.free], target.expression[target.train])
    signals = (given, pose, scale)
    return Scene(driver.subject, *where, *signals, chosen, true_picture, landmarks, driver_picture)


def _measurable(wanted: list[Metric], default: bool, conditions: Sequence[str], scene: Scene) -> list[Metric]:
    """The wanted metrics; of the default set those this scene can measure, of a named one an error if it cannot."""
    missing = set() if scene.truth else {"truth"}
    needy = [metric.tag for metric in wanted if metric.needs & missing and not default]
    needy += ["condition 'truth'"] if missing and "truth" in conditions else []
    if needy:
        raise RafError(f"evaluate: {needy[0]} needs a true picture and driver {scene.driver} has none; leave it out")
    return [m for m in wanted if not default or (not m.needs & missing and m.tag not in SLOW)]


def _score(run, scene: Scene, shots: list[tuple[int, int]], chosen, conditions, track, label) -> list[dict]:
    """Rows of a batch of (row, camera) shots, all conditions."""
    usable = [(i, c) for i, c in shots if np.isfinite(scene.pose[i]).all()]
    given = {"avatar": scene.expression, "control": np.broadcast_to(run.control_expression, scene.expression.shape)}
    pictures: dict[tuple[str, int, int], np.ndarray] = {}
    for condition in conditions:
        if condition in given and usable:
            which = [i for i, _ in usable]
            signals = (given[condition][which], scene.pose[which], scene.scale[which])
            found = run.render(
                *(np.ascontiguousarray(s, np.float32) for s in signals), [scene.cameras[c] for _, c in usable]
            )
            pictures |= {(condition, i, c): image for (i, c), image in zip(usable, found, strict=True)}
    rows = []
    for i, c in shots:
        where = {
            "driver": scene.driver,
            "sequence": str(scene.sequence[i]),
            "frame": int(scene.frame[i]),
            "camera": scene.cameras[c].name,
        }
        target = _target(scene, i, c, track) if (i, c) in usable else None
        for condition in conditions:
            row = {**label, **where, "condition": condition}
            if target is None:
                # The face was lost in the target's own pictures: there is no pose to render, and nothing to blame.
                row |= {"detected": False, "reference_detected": False, **{m.tag: np.nan for m in chosen}}
            else:
                rendered = target.image if condition == "truth" else pictures[condition, i, c]
                row |= _scores(rendered, target, chosen, track, bool(scene.truth))
            rows.append(row)
    return rows


def _target(scene: Scene, i: int, c: int, track) -> Target:
    driver_image = scene.driver_image(i, c)
    if scene.truth is None:
        return Target(driver_image=driver_image, driver_face=observe(track, driver_image))
    true = scene.truth(i, c)
    face = observe(track, true)
    driver_face = face if scene.truth is scene.driver_image else observe(track, driver_image)
    box = face_box(scene.landmarks[i], scene.cameras[c])
    return Target(true.astype(np.float32) / 255, box, face, driver_image, driver_face)


def _scores(rendered, target: Target, chosen: list[Metric], track, has_truth: bool) -> dict:
    face = observe(track, rendered)
    wanted = target.face if has_truth else target.driver_face
    row = {
        "detected": face is not None or track is None,
        "reference_detected": track is None or (target.driver_face is not None and wanted is not None),
    }
    row |= {metric.tag: metric.function(rendered, face, target) for metric in chosen}
    if track is not None:
        from raflib.tracking import ARKIT52

        for kind, seen in (("rendered", face), ("target", wanted)):
            for action in ACTIONS:
                row[f"{kind}/{action}"] = np.nan if seen is None else float(seen.expression[ARKIT52.index(action)])
    return row


def _sized(camera: Camera, size: int | None) -> Camera:
    return camera if size is None else camera.resized(size)


def _resized(image: np.ndarray, camera: Camera) -> np.ndarray:
    if image.shape[:2] == (camera.height, camera.width):
        return image
    return np.asarray(Image.fromarray(image).resize((camera.width, camera.height), Image.Resampling.LANCZOS))
