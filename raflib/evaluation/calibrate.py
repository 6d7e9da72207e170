"""The scale of each metric: what identical, shuffled and neutral pairs of images score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from raflib.capture import Capture
from raflib.coverage.identity import REST, neutral
from raflib.errors import RafError
from raflib.evaluation.metrics.base import Metric, Target, Tracker, measurable_here
from raflib.evaluation.metrics.mediapipe import observe, tracking
from raflib.images import face_box

KINDS = ("identical", "shuffled", "neutral")
"""Kinds of pairs, as columns of `calibrate`."""


def neutral_frame(capture: Capture) -> int:
    """The detected training frame whose features are nearest to the person's neutral feature. RafError without one."""
    rows = np.flatnonzero(capture.train)
    if not len(rows):
        raise RafError(f"capture {capture.subject}: no training frame with a face to show the neutral face")
    features = capture.expression[rows]
    return int(rows[np.linalg.norm(features - neutral(features, REST), axis=1).argmin()])


def calibrate(
    capture: Capture,
    cameras: Sequence[int],
    frames: Sequence[int] | np.ndarray,
    metrics: Iterable[str | Metric],
    tracker: Tracker | None = None,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """The scale of each metric: the scores of a perfect, of an unrelated and of a neutral render on these images.

    Each true image of `frames` × `cameras` is scored against itself ("identical"), against the true image of another
    frame from the same camera ("shuffled": a random cyclic order, in which no frame meets itself), and against the true
    image of the person's neutral face ("neutral": the frame `neutral_frame`). A method's value is read between them.

    Args:
        capture: the recording.
        cameras, frames: indices into it; at least two frames.
        metrics: tags or `Metric` objects.
        tracker: a `FaceTracker`; by default one is started when a metric needs it.
        seed: of the random order.
        progress: show a progress bar for each camera.

    Returns one row for each metric: `metric, better, identical, shuffled, neutral, pairs, undetected`, with means over
    detected pairs. `pairs` and `undetected` count shuffled pairs. Raises RafError for fewer than two frames.
    """
    if len(frames) < 2:
        raise RafError(f"calibrate: got {len(frames)} frame(s); shuffled pairs need at least two")
    chosen = measurable_here(metrics)
    order = np.random.default_rng(seed).permutation(len(frames))
    partner = {int(frames[a]): int(frames[b]) for a, b in zip(order, np.roll(order, 1), strict=True)}
    asked, still = list(dict.fromkeys(map(int, frames))), neutral_frame(capture)
    rows = []
    with tracking(chosen, tracker) as track:
        for c in cameras:
            seen = {}
            for t in tqdm(
                dict.fromkeys([*asked, still]),
                desc=f"calibrate {capture.cameras[c].name}",
                disable=not progress,
                leave=False,
            ):
                image = capture.image(t, int(c))
                seen[t] = (image, observe(track, image))
            for t in asked:
                image, face = seen[t]
                box = face_box(capture.landmarks[t], capture.cameras[c])
                target = Target(image.astype(np.float32) / 255, box, face, image, face)
                for kind, other in (("identical", t), ("shuffled", partner[t]), ("neutral", still)):
                    rendered, rendered_face = seen[other]
                    rendered = rendered.astype(np.float32) / 255
                    values = {m.tag: m.function(rendered, rendered_face, target) for m in chosen}
                    rows.append({"kind": kind, "detected": face is not None and rendered_face is not None, **values})
    table = pd.DataFrame(rows)
    return pd.DataFrame(
        {
            "metric": metric.tag,
            "better": metric.better,
            **{kind: table.loc[table.kind == kind, metric.tag].mean() for kind in KINDS},
            "pairs": int((table.kind == "shuffled").sum()),
            "undetected": int((~table.detected[table.kind == "shuffled"]).sum()) if "tracker" in metric.needs else 0,
        }
        for metric in chosen
    )
