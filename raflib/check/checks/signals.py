"""Checks of the signals: missing, constant or outlying numbers, too few faces, and missing sequences."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Bool
from PIL import Image

from raflib.capture import HELD_OUT, Capture
from raflib.check.figures import curve_figure
from raflib.check.problems import ERROR, WARNING, Problem, register
from raflib.check.sample import Sample

LEAST_TRAIN = 10
"""Fewest training frames of an avatar."""
FEW_FACES = 0.8
"""Share of frames with a face below which the recording is doubted."""
FAR_OUT = 10.0
"""Distance from the median, over the median distance, from which a frame counts as an outlier."""


@register
def check_protocol(capture: Capture, sample: Sample) -> list[Problem]:
    """Too few training frames, no held-out sequence, few frames with a face."""
    found, count = [], int(capture.train.sum())
    if not count and capture.free.any():
        text = f"all frames with a face are of {HELD_OUT}, so this person can only drive; add training sequences"
        found.append(Problem("protocol", WARNING, text))
    elif count < LEAST_TRAIN:
        text = f"only {counted(capture.train)} may be trained on, expected {LEAST_TRAIN} or more; add sequences"
        found.append(Problem("protocol", ERROR, text))
    if not capture.free.any():
        text = f"no frame with a face is of the sequence {HELD_OUT}, so nothing can be evaluated; add it"
        found.append(Problem("protocol", WARNING, text))
    share = float(capture.detected.mean()) if len(capture) else 0.0
    if share < FEW_FACES:
        text = f"a face is known in only {share:.0%} of the frames; check the tracks of the others"
        known = {"face": capture.detected.astype(float)}
        labels = "row of the capture", "1: a face is known, 0: none"
        rows = np.arange(len(capture), dtype=float)
        found.append(Problem("few_faces", WARNING, text, partial(curve_figure, text, rows, known, labels)))
    return found


@register
def check_finite(capture: Capture, sample: Sample) -> list[Problem]:
    """NaN or infinity in frames that count as showing a face."""
    found = []
    for name in ("expression", "pose", "scale", "landmarks"):
        values = getattr(capture, name).reshape(len(capture), -1)
        rows = (capture.train if name == "landmarks" else capture.detected) & ~np.isfinite(values).all(1)
        if rows.any():
            first = int(rows.argmax())
            text = (
                f"{name} holds NaN or infinity in {counted(rows)} with a face (first: {capture.sequence[first]}, frame "
                f"{capture.frame[first]}); track again or mark as not detected"
            )
            found.append(Problem("finite", ERROR, text))
    return found


@register
def check_constant(capture: Capture, sample: Sample) -> list[Problem]:
    """Features, poses or single columns that never change."""
    rows = capture.detected & np.isfinite(capture.expression).all(1)
    if rows.sum() < 2:
        return []
    values = capture.expression[rows].astype(np.float64)
    still = np.ptp(values, axis=0) <= 1e-7 * np.maximum(1.0, np.abs(values).max(0))
    if still.all():
        text = "the features are the same in all frames; track the expressions again"
        return [Problem("constant", ERROR, text, partial(_over_frames, text, capture))]
    found = []
    if still.any():
        numbers = ", ".join(map(str, np.flatnonzero(still)[:6])) + (" …" if still.sum() > 6 else "")
        severity = ERROR if still.mean() > 0.5 else WARNING
        text = (
            f"{still.sum()} of {len(still)} features never change (columns {numbers}); check that the tracker gives "
            "them, or leave these columns out"
        )
        found.append(Problem("constant", severity, text))
    pose = capture.pose[capture.detected]
    if np.isfinite(pose).all() and not np.ptp(pose, axis=0).any():
        text = "the head pose is the same in all frames; check the tracks"
        found.append(Problem("constant", ERROR, text))
    return found


@register
def check_outliers(capture: Capture, sample: Sample) -> list[Problem]:
    """Frames whose features, head position or scale lie far from all others."""
    found = []
    for name, words in (("expression", "expression"), ("pose", "head position"), ("scale", "scale")):
        values = getattr(capture, name).astype(np.float64)
        values = values[:, 3:] if name == "pose" else values.reshape(len(capture), -1)
        rows = capture.detected & np.isfinite(values).all(1)
        if rows.sum() < LEAST_TRAIN:
            continue
        away = np.full(len(capture), np.nan)
        away[rows] = np.linalg.norm(values[rows] - np.median(values[rows], 0), axis=1)
        usual = max(float(np.nanmedian(away)), 1e-3 * float(np.abs(np.median(values[rows], 0)).max()), 1e-9)
        far = np.nan_to_num(away) > FAR_OUT * (max(usual, 0.03) if name == "pose" else usual)
        if far.any():
            first = int(np.nanargmax(away))
            text = (
                f"the {words} of {counted(far)} lies up to {away[first] / usual:.0f} times as far from the median as "
                f"usual (worst: {capture.sequence[first]}, frame {capture.frame[first]}); look there, and track again "
                "or mark as not detected"
            )
            rows, labels = np.arange(len(away), dtype=float), ("row of the capture", "distance from the median")
            figure = partial(curve_figure, text, rows, {words: away}, labels, far)
            found.append(Problem("outliers", WARNING, text, figure))
    return found


def counted(rows: Bool[np.ndarray, "T"]) -> str:
    """The number of frames in words."""
    return "1 frame" if rows.sum() == 1 else f"{rows.sum()} frames"


def _over_frames(title: str, capture: Capture) -> Image.Image:
    """Distance of the features from their mean over the rows."""
    away = np.linalg.norm(capture.expression - np.nanmean(capture.expression, 0), axis=1).astype(float)
    rows = np.arange(len(capture), dtype=float)
    return curve_figure(title, rows, {"features": away}, ("row of the capture", "distance from the mean"))
