"""What the best possible driving map would gain, and how near each map of `raflib.driving` comes to it.

In the studio the subject can show a driver's true expression. What the tracker reads on *this* image is the vector
that the avatar should have been given: no driving map can know better. Two bounds follow:

* `READING`: the avatar receives this vector itself;
* `OFFSET`: the driver's vector plus the mean of what separates the two, so only the constant part is removed.

People who are in no bank and no benchmark can be the drivers, so that nothing is tuned on a benchmark's frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from tqdm import tqdm

from raflib import studio
from raflib.capture import Capture, most_frontal
from raflib.driving import DrivingMap, drive_from_name
from raflib.errors import RafError
from raflib.evaluation import pick_frames
from raflib.evaluation.metrics.base import crop
from raflib.evaluation.metrics.image import psnr
from raflib.evaluation.scoring import check_capture
from raflib.images import face_box
from raflib.sources._studio_recipe import StudioProfile
from raflib.studio.rig import FRONTAL
from raflib.tracking import FaceTracker

READING, OFFSET = "own reading", "own offset"
DIRECT = "direct"
KEYS = ("subject", "method", "seed")
PSNR, DISTANCE = "psnr/face", "distance"

Readings = Callable[[Capture, Capture, np.ndarray], np.ndarray]


def own_readings(target: Capture, driver: Capture, rows: Int[np.ndarray, "F"]) -> Float[np.ndarray, "F 52"]:
    """What the tracker reads on the studio's target person, who shows the driver's true expression of `rows`.

    Images are made and tracked as the studio's captures are, from the frontal camera; NaN where no face is found.
    Raises RafError where the driver has no truth.
    """
    if driver.truth is None:
        raise RafError(f"own_readings: {driver.subject} has no truth; only the studio knows what was performed")
    identity = studio.Identity(target.subject)
    cameras = [camera for camera in studio.rig(StudioProfile.tracking_size) if camera.name == FRONTAL]
    found = np.full((len(rows), target.expression.shape[1]), np.nan, np.float32)
    with FaceTracker() as tracker:
        for place, t in enumerate(rows):
            acted = driver.truth.actions[t], driver.truth.angles[t]
            ((image, _),) = studio.render_views(identity, *acted, cameras)
            if (seen := tracker(image)) is not None:
                found[place] = seen.expression
    return found


def driving_gains(
    avatars: Sequence[Any],
    target: Capture,
    drivers: Iterable[Capture],
    maps: Mapping[str, DrivingMap],
    frames: int = 8,
    readings: Readings = own_readings,
    progress: bool = True,
) -> pd.DataFrame:
    """PSNR of the face in cross-driving by each map and by the two bounds, a row for each frame, avatar and map.

    Args:
        avatars: each a `raflib.Run`, or what `raflib.evaluation.scoring.Avatar` says, all of one person.
        target: the capture of this person, with a truth.
        drivers: captures of others, with a truth, in the same feature space.
        maps: driving maps by name; "direct" is always there.
        frames: evenly spaced frames of each driver's FREE.
        readings: makes the vectors of `READING`.

    Returns the columns `KEYS`, driver, frame, map, `PSNR` (dB) and `DISTANCE`: the L2 distance of the map's vector to
    the own reading. Frames without a face on a true image are left out. Raises RafError for captures without truth,
    unfinished avatars, and those of another person or feature space.
    """
    if target.truth is None or target.truth.perform is None:
        raise RafError(f"driving_gains: {target.subject} has no truth; only the studio can film another's expression")
    for run in avatars:
        check_capture("driving_gains", run, target)
    camera = target.cameras[most_frontal(target.cameras, 1)[0]]
    own = target.expression[target.train]
    maps = {DIRECT: drive_from_name(DIRECT), **maps}
    records: list[dict[str, Any]] = []
    for driver in tqdm(list(drivers), desc=f"driving {target.subject}", unit="driver", disable=not progress):
        rows = pick_frames(np.flatnonzero(driver.free), frames)
        true = target.truth.perform(target, driver, rows, [camera], progress=False)
        best = readings(target, driver, rows)
        good = np.flatnonzero(true.detected & np.isfinite(best).all(1))
        if not len(good):
            continue
        given, best = driver.expression[rows][good], best[good]
        vectors = {name: made(given, driver.expression[driver.free], own) for name, made in maps.items()}
        vectors |= {OFFSET: given + (best - given).mean(0), READING: best}
        boxes = [face_box(true.landmarks[place], camera) for place in good]
        faces = [crop(true.images[t, 0], box).astype(np.float32) / 255 for t, box in zip(good, boxes, strict=True)]
        for run, (name, expression) in product(avatars, vectors.items()):
            signals = (values.astype(np.float32) for values in (expression, true.pose[good], true.scale[good]))
            images = run.render(*signals, [camera] * len(good))
            distance = np.linalg.norm(expression - best, axis=1)
            about = {"subject": run.subject, "method": run.method, "seed": run.config.seed, "driver": driver.subject}
            for place, image, box, face, apart in zip(good, images, boxes, faces, distance, strict=True):
                frame = int(driver.frame[rows[place]])
                score = {PSNR: psnr(crop(image, box), face), DISTANCE: float(apart)}
                records.append({**about, "frame": frame, "map": name, **score})
    if not records:
        raise RafError(f"driving_gains: no frame of a driver of {target.subject} shows a face on the true image")
    return pd.DataFrame(records)


def gain_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means of `driving_gains` over frames: a row for each avatar and for each method's mean over its avatars.

    Columns: the PSNR of "direct", then for each other map its gain in dB over "direct" on the same frames.
    """
    wide = rows.pivot_table(index=[*KEYS, "driver", "frame"], columns="map", values=PSNR)
    gains = wide.drop(columns=DIRECT).sub(wide[DIRECT], axis=0)
    order = [name for name in rows["map"].drop_duplicates() if name != DIRECT]
    table = pd.concat([wide[[DIRECT]], gains[order]], axis=1).groupby(level=list(KEYS), sort=False).mean()
    mean = table.groupby(level="method", sort=False).mean()
    mean.index = pd.MultiIndex.from_tuples([("mean", method, "") for method in mean.index], names=KEYS)
    return pd.concat([table, mean])


def distances(rows: pd.DataFrame) -> pd.Series:
    """Mean distance of each map's vectors to the own readings, over subjects' means."""
    return rows.groupby(["map", "subject"], sort=False)[DISTANCE].mean().groupby(level="map", sort=False).mean()
