"""What a recording of one person lacks, told before an avatar is trained from it.

Limits come from clips of real people who speak or act: sharp clips and the same clips blurred, and what the tracker's
scores reach in them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from raflib.capture import Capture
from raflib.coverage import ClipDistance, by_dimension, clip_distance, effective_rank
from raflib.driving import NOMINAL_FPS, Centred, rotations
from raflib.errors import RafError
from raflib.images import face_box, lanczos
from raflib.tracking import ARKIT52

FOUND = 0.9
"""Share of the frames in which a face should be found."""
LOOKED_AT, SIDE = 40, 96
"""Frames in which sharpness is measured, and the largest side of the face there (pixels)."""
SHARP = 0.05
"""Sharp clips have 0.1 to 0.6, and 0.02 to 0.06 after a blur of one pixel at `SIDE`."""
SECONDS, TURN = 8.0, 15.0
"""Seconds of training frames, and degrees between the head's directions to the left and right, that should be there."""
DIRECTIONS = 3.0
"""Effective number of directions in which expressions should vary; clips of people who speak or act have 4 to 12."""
FAR = 0.3
"""Share of the driver's frames that may lie beyond the training frames."""
ACTIONS: dict[tuple[str, ...], tuple[float, str]] = {
    ("eyeBlinkLeft", "eyeBlinkRight"): (0.35, "the eyes never close: blink a few times"),
    ("jawOpen",): (0.2, "the mouth never opens wide: say 'ah'"),
    ("mouthSmileLeft", "mouthSmileRight"): (0.3, "there is no smile: smile and laugh"),
    ("mouthPucker",): (0.3, "the lips never pucker: say 'oo' and whistle"),
    ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"): (0.15, "the brows never rise: look surprised"),
    ("browDownLeft", "browDownRight"): (0.1, "the brows never lower: frown"),
}
"""Actions → what the strongest of them should reach in 1 % of the frames, and the advice if it does not."""
MOST = 3
"""Most pieces of advice in a sentence."""


def driver_distance(capture: Capture, driver: Capture) -> ClipDistance:
    """How far each frame of `driver` is from the training frames of `capture`, in features.

    The driver's vectors are moved as the driving map `centred` moves them, but not yet kept in the training's range.
    RafError for another feature space, and where no frame has a face.
    """
    return clip_distance(_own(capture), _moved(capture, driver))


def recording_report(capture: Capture, driver: Capture | None = None) -> pd.DataFrame:
    """A table of what `capture` holds, with the columns measure, value and advice ("" where nothing is missing).

    Rows: frames with a face, seconds to train on, sharpness of the face (variance of the Laplacian over that of the
    image), frames blurred by motion, directions in which expressions vary, head turn, single actions of `arkit52`, and
    the distance of the `driver`, if there is one. RafError where no training frame has a face.
    """
    own, found = _own(capture), float(capture.detected.mean())
    seconds = _seconds(capture)
    sharpness = _sharpness(capture)
    sharp, moved = float(np.median(sharpness)), float((sharpness < np.median(sharpness) / 2).mean())
    turn = _turn(capture)
    rank = effective_rank(own) if np.ptp(own, axis=0).any() else 1.0
    rows = [
        ("frames with a face", f"{100 * found:.1f} % of {len(capture)}", found >= FOUND,
         "the face is often lost: keep it in the image, in good light, without hands before it"),
        ("seconds to train on", f"{seconds:.1f}", seconds >= SECONDS, "the video is short: record 10 to 60 seconds"),
        ("sharpness of the face", f"{sharp:.2f}", sharp >= SHARP,
         "the face is blurred: clean the lens, come closer, use more light"),
        ("frames blurred by motion", f"{100 * moved:.0f} %", moved <= 0.2, "motion blurs the face: move more slowly"),
        ("directions of expressions", f"{rank:.1f}", rank >= DIRECTIONS,
         "expressions vary little: speak, laugh, frown and look surprised"),
        ("head turn to both sides", f"{turn:.0f}°", turn >= TURN, "the head hardly turns: turn it to both sides"),
    ]  # fmt: skip
    if capture.feature_space == "arkit52":
        for names, (least, advice) in ACTIONS.items():
            reached = float(np.quantile(own[:, [ARKIT52.index(name) for name in names]].max(1), 0.99))
            rows.append((names[0].removesuffix("Left"), f"up to {reached:.2f}", reached >= least, advice))
    if driver is not None:
        rows.append(_driver_row(capture, driver))
    return pd.DataFrame(
        [(measure, value, "" if good else advice) for measure, value, good, advice in rows],
        columns=["measure", "value", "advice"],
    )


def what_to_film(report: pd.DataFrame) -> str:
    """The report's most important advice as one sentence."""
    advice = [words for words in report["advice"] if words]
    if not advice:
        return "Nothing is missing: train."
    more = f"; and {len(advice) - MOST} more in the table" if len(advice) > MOST else ""
    return f"Film again if you can: {'; '.join(advice[:MOST])}{more}."


def _own(capture: Capture) -> Float[np.ndarray, "N d"]:
    if not capture.train.any():
        raise RafError(f"capture {capture.subject}: no training frame with a face; use a longer video")
    return capture.expression[capture.train].astype(np.float64)


def _moved(capture: Capture, driver: Capture) -> Float[np.ndarray, "T d"]:
    if driver.feature_space != capture.feature_space or not driver.detected.any():
        raise RafError(
            f"driver {driver.subject}: {driver.feature_space} features, {int(driver.detected.sum())} frames with a "
            f"face; expected {capture.feature_space} and at least one"
        )
    return Centred().apply(driver.expression, driver.expression[driver.detected], _own(capture))


def _driver_row(capture: Capture, driver: Capture) -> tuple[str, str, bool, str]:
    own, moved = _own(capture), _moved(capture, driver)
    distance = clip_distance(own, moved)
    names = ARKIT52 if capture.feature_space == "arkit52" else None
    parts = by_dimension(own, moved[driver.detected], names)
    outside = parts[parts["excess"] > 0]
    worst = "" if outside.empty else f", most of all in {outside['name'].iloc[0]}"
    value = f"{distance.mean:.2f}; {100 * distance.beyond:.0f} % of the frames beyond {distance.yardstick:.2f}"
    return (
        f"distance of {driver.subject}", value, distance.beyond <= FAR,
        f"the driver goes beyond your expressions{worst}: make stronger ones",
    )  # fmt: skip


def _seconds(capture: Capture) -> float:
    """Seconds that the training frames last, from the typical time between frames."""
    count = int(capture.train.sum())
    if capture.time is None or len(capture.time) < 2:
        return count / NOMINAL_FPS
    return float(count * np.median(np.diff(capture.time)))


def _sharpness(capture: Capture) -> Float[np.ndarray, "K"]:
    """Variance of the Laplacian of the face, over the variance of the face, in some frames."""
    from scipy.ndimage import laplace

    rows = np.flatnonzero(capture.detected)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).astype(int))]
    values = []
    for t in rows.tolist():
        x, y, width, height = face_box(capture.landmarks[t], capture.cameras[0], 0.0)
        face = np.ascontiguousarray(capture.image(t, 0)[y : y + height, x : x + width])
        grey = lanczos(face, min(width, SIDE), min(height, SIDE)).mean(-1)
        values.append(laplace(grey).var() / max(grey.var(), 1e-9))
    return np.array(values)


def _turn(capture: Capture) -> float:
    """Degrees between the head's directions to the left and to the right: the middle 98 % of the training frames."""
    towards = -rotations(capture.pose[capture.train])[:, :, 2]  # the face looks towards −z
    return float(np.ptp(np.quantile(np.degrees(np.arctan2(towards[:, 0], -towards[:, 2])), (0.01, 0.99))))
