"""Which frames of a recording a figure shows, and the titles of frames and cameras."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from raflib.capture import APART, HELD_OUT, Capture
from raflib.errors import RafError
from raflib.geometry import Camera, farthest_row
from raflib.report._style import FPS

LIDS = "eyeBlinkLeft", "eyeBlinkRight"
SHUT = 0.4
"""Tracker's score above which a lid counts as shut: below 0.3 in a neutral face, 0.5 to 0.9 in a blink."""


def different(
    capture: Capture,
    count: int,
    among: Bool[np.ndarray, " T"] | None = None,
    away_from: Float[np.ndarray, " d"] | None = None,
    beside: Iterable[int | np.integer] = (),
) -> Int[np.ndarray, " R"]:
    """Frames of a capture whose expressions differ as much as possible.

    Each frame after the first is the one farthest from all before it. No sequence comes twice before every sequence
    came once. Lids move more than anything else, so the farthest frames alone would be blinks: while frames with open
    eyes are left, shut eyes come at most once, and not first.

    Args:
        capture: the recording.
        count: how many frames (fewer where there are not as many).
        among: frames [T] to choose from; all with a face by default.
        away_from: an expression [d]; the first frame is the farthest from it. By default it is the frame nearest to the
            mean of `among`.
        beside: frames that the figure shows already; all chosen ones are far from them.

    Raises RafError when `among` has no frame with a face.
    """
    rows = np.flatnonzero(capture.detected if among is None else among & capture.detected)
    if not len(rows) or count < 1:
        raise RafError(f"figure of {capture.subject}: {len(rows)} frames to pick {count} from, expected at least one")
    expression, shut = np.asarray(capture.expression, np.float64), _shut(capture)
    shown, picked = [int(row) for row in beside], []
    centre = expression[rows].mean(0) if away_from is None else away_from
    apart = np.linalg.norm(expression - centre, axis=1) * (-1 if away_from is None else 1)
    while len(picked) < min(count, len(rows)):
        left = np.setdiff1d(rows, picked)
        open_eyes = left[~shut[left]]
        if len(open_eyes) and (not shown or shut[shown].any()):
            left = open_eyes
        fresh = left[~np.isin(capture.sequence[left], capture.sequence[shown])]
        left = fresh if len(fresh) else left
        picked.append(farthest_row(expression, shown, left) if shown else int(left[apart[left].argmax()]))
        shown.append(picked[-1])
    return np.array(picked)


def moments(capture: Capture, rows: Iterable[int | np.integer]) -> list[str]:
    """Titles of frames `rows` of a capture: sequence, second, and whether the sequence is held out."""
    held_out = {True: ", held out", False: ""}
    return [
        f"{capture.sequence[t]}\n{seconds(capture)[t]:.1f} s{held_out[capture.sequence[t] == HELD_OUT]}" for t in rows
    ]


def views(cameras: Sequence[Camera]) -> list[str]:
    """Titles of cameras: name, and the angle to the frontal camera in degrees, as seen from it."""
    names = []
    for camera in cameras:
        x, y, z = camera.centre
        yaw, up = np.degrees(np.arctan2(x, -z)), np.degrees(np.arctan2(-y, np.hypot(x, z)))
        across = f"{abs(yaw):.0f}° {'right' if yaw > 0 else 'left'}" if abs(yaw) >= 0.5 else ""
        rise = f"{abs(up):.0f}° {'up' if up > 0 else 'down'}" if abs(up) >= 0.5 else ""
        names.append(f"camera {camera.name}\n{', '.join(filter(None, (across, rise))) or 'frontal'}")
    return names


def seconds(capture: Capture) -> Float[np.ndarray, " T"]:
    """Time of each frame of a capture, in seconds from the start of its recording.

    Where the capture has no times, frame numbers are divided by the studio's 25 frames a second.
    """
    return np.asarray(capture.frame % APART, np.float64) / FPS if capture.time is None else capture.time


def _shut(capture: Capture) -> Bool[np.ndarray, " T"]:
    """Frames with both lids shut; none in a feature space whose columns are not named actions."""
    if capture.feature_space != "arkit52":
        return np.zeros(len(capture), bool)
    from raflib.tracking import ARKIT52

    return (capture.expression[:, [ARKIT52.index(name) for name in LIDS]] > SHUT).all(1)
