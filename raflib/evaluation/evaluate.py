"""`evaluate(run, protocol, ...)`: drive an avatar and score every frame it renders, one row a frame and condition.

* **self** (paper §5): the avatar is driven by its own person's held-out FREE sequence and compared with the real
  images.
* **cross**: it is driven by the FREE sequences of other people. Expression and pose are compared with the *driver's*
  frame. Where the source owns the performance there is a truth too, the target performing the driver's exact expression
  (`raflib.capture.Truth.perform`). Image and landmark metrics and `…/truth` are measured against that.

Every evaluation also renders the **control**: the same avatar, pose and camera with the expression held at its training
mean. A method that does not beat the control has learned nothing about expression.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np
import pandas as pd
from tqdm import tqdm

from raflib.bank.leaks import refuse_leaks
from raflib.capture import Capture, most_frontal
from raflib.errors import RafError
from raflib.evaluation.metrics.base import Metric, Tracker, measurable_here
from raflib.evaluation.metrics.mediapipe import tracking
from raflib.evaluation.options import EvaluateOptions
from raflib.evaluation.scenes import Scene, cross_scene, self_scene
from raflib.evaluation.scoring import KEYS, Avatar, check_capture, measurable, score

DEFAULTS = EvaluateOptions()


def evaluate(
    run: Avatar,
    protocol: str = "self",
    capture: Capture | None = None,
    drivers: Iterable[Capture] = (),
    metrics: Iterable[str | Metric] | None = None,
    options: EvaluateOptions = DEFAULTS,
    tracker: Tracker | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Scores of a trained avatar, one row a frame, camera and condition.

    Args:
        run: a `raflib.Run`, or anything that has what `raflib.evaluation.scoring.Avatar` says.
        protocol: "self" or "cross".
        capture: the target person's own recording (both protocols need it).
        drivers: captures of other people, for "cross".
        metrics: tags or `Metric` objects. By default all registered metrics that the protocol can measure and whose
            weights are here, without the slow ones.
        options: frames, cameras, conditions and everything else that has a default.
        tracker: a `FaceTracker`. By default one is started when a metric needs it.
        progress: show a progress bar for each driver.

    Returns a table with the columns `raflib.evaluation.KEYS`, then `detected` (a face was found in the render) and
    `reference_detected` (a face was found in every image it is compared with), the metrics, and `rendered/<action>` and
    `target/<action>` scores for `correlations`. Metrics of a frame without a detected face are NaN. Raises RafError for
    captures of another person or feature space, unknown metrics, an avatar whose training has not ended,
    or nothing to evaluate.
    """
    drivers = list(drivers)
    capture = _checked(run, protocol, capture, drivers, options)
    wanted = measurable_here(metrics)
    cameras = _cameras(capture, protocol, options.cameras)
    label = {"subject": run.subject, "method": run.method, "seed": run.config.seed, "drive": options.driving_map.name}
    label["protocol"] = protocol
    rows: list[dict[str, object]] = []
    with tracking(wanted, tracker) as track:
        if protocol == "self":
            scenes = iter([self_scene(capture, cameras, options)])
        else:  # one at a time, because the true images are large
            scenes = (cross_scene(capture, driver, cameras, options, track, progress) for driver in drivers)
        for scene in scenes:
            chosen = measurable(wanted, metrics is None, options.conditions, scene)
            places = [(i, c) for c in range(len(scene.cameras)) for i in range(len(scene.frame))]
            title = f"{run.subject} ← {scene.driver}"
            with tqdm(total=len(places), desc=title, disable=not progress, leave=False) as bar:
                for part in _batches(scene, places, options.batch):
                    rows += score(run, scene, part, chosen, options.conditions, track, label, options.images)
                    bar.update(len(part))
    table = pd.DataFrame(rows)
    order = [*KEYS, "detected", "reference_detected"]
    table = table[[*order, *(name for name in table if name not in order)]]
    return table.sort_values([*KEYS[KEYS.index("driver") :], "condition"], kind="stable", ignore_index=True)


def _batches(scene: Scene, places: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    """The (frame, camera) `places` in order, at most `size` together, each batch with images of one size."""

    def pixels(place: tuple[int, int]) -> tuple[int, int]:
        camera = scene.cameras[place[1]]
        return camera.width, camera.height

    for _, alike in groupby(places, pixels):
        part = list(alike)
        yield from (part[start : start + size] for start in range(0, len(part), size))


def _cameras(capture: Capture, protocol: str, chosen: Sequence[int] | np.ndarray | None) -> list[int]:
    """Indices of the target's cameras. RafError naming one that it does not have."""
    if chosen is None:
        return most_frontal(capture.cameras, 3 if protocol == "self" else 1)
    if max(chosen) >= len(capture.cameras):
        count = len(capture.cameras)
        raise RafError(f"evaluate: camera {max(chosen)} of capture {capture.subject}, which has 0 to {count - 1}")
    return [int(camera) for camera in chosen]


def _checked(
    run: Avatar, protocol: str, capture: Capture | None, drivers: Sequence[Capture], options: EvaluateOptions
) -> Capture:
    """The capture. RafError for all that can be refused before an image is needed, so no long evaluation fails late."""
    if protocol not in ("self", "cross") or (protocol, options.split) == ("cross", "train"):
        raise RafError(
            f"evaluate: protocol {protocol!r} with split {options.split!r}; use 'self' (free, train) or 'cross' (free)"
        )
    if capture is None:
        raise RafError(
            f"evaluate: pass the capture of subject {run.subject}, e.g. open_capture('studio', '{run.subject}')"
        )
    check_capture("evaluate", run, capture)
    if protocol == "cross" and not drivers:
        raise RafError("evaluate: cross-driving needs drivers, captures of other people")
    for driver in drivers:
        if driver.subject == run.subject:
            raise RafError(f"evaluate: subject {run.subject} cannot be its own driver; use protocol 'self'")
        if driver.feature_space != capture.feature_space:
            raise RafError(
                f"evaluate: driver {driver.subject} has {driver.feature_space} features but subject {run.subject} "
                f"{capture.feature_space}; track them with one tracker"
            )
    if not options.allow_leak and (bank := getattr(run, "bank", None)) is not None:
        people = {person.subject: person.expression[person.detected] for person in (capture, *drivers)}
        refuse_leaks(f"evaluate: the bank of run {run.subject}/{run.method}", bank, people, allow=False)
    return capture
