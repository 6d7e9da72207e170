"""The scale of each metric: what identical and shuffled pairs of images score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from raflib.capture import Capture
from raflib.errors import RafError
from raflib.evaluation.metrics.base import Metric, Target, resolve
from raflib.evaluation.metrics.mediapipe import observe, tracking
from raflib.images import face_box


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
