"""Checks of the cameras: rotations, intrinsics, the convention, and the unit of lengths."""

from __future__ import annotations

from functools import partial

import numpy as np
from PIL import Image

from raflib.capture import Capture
from raflib.check.figures import MINE, SEEN, heading, images_figure, marked, rig_figure, stacked
from raflib.check.fits import AWAY, away_from_face, corrected
from raflib.check.problems import ERROR, WARNING, Problem, register
from raflib.check.sample import Sample

HEAD = 0.07, 0.35
"""Smallest and largest extent of the landmarks of a head, in metres."""
UNITS = {1000.0: "millimetres", 100.0: "centimetres", 10.0: "decimetres"}


def names(capture: Capture, cameras: list[int], most: int = 4) -> str:
    """Cameras in words: "camera 1", "cameras 1 and 2", "all 16 cameras"."""
    if len(cameras) == len(capture.cameras) > 1:
        return f"all {len(cameras)} cameras"
    known = [capture.cameras[c].name for c in cameras]
    if len(known) == 1:
        return f"camera {known[0]}"
    if len(known) > most:
        return f"cameras {', '.join(known[:most])} and {len(known) - most} more"
    return f"cameras {', '.join(known[:-1])} and {known[-1]}"


@register
def check_rotations(capture: Capture, sample: Sample) -> list[Problem]:
    """Extrinsics that stretch or mirror, or do not end in 0 0 0 1."""
    turns = np.stack([camera.extrinsic[:3, :3] for camera in capture.cameras])
    stretch = np.abs(turns @ turns.swapaxes(1, 2) - np.eye(3)).max((1, 2))
    odd = [c for c in range(len(turns)) if stretch[c] >= 1e-3]
    mirrored = [c for c in range(len(turns)) if c not in odd and np.linalg.det(turns[c]) < 0]
    ends = [c for c, camera in enumerate(capture.cameras) if np.abs(camera.extrinsic[3] - [0, 0, 0, 1]).max() > 1e-6]
    found = []
    for cameras, what in (
        (odd, f"no rotation (R · Rᵀ differs from the identity by up to {stretch.max():.2g}); calibrate again"),
        (mirrored, "a mirroring (its determinant is −1); one axis has the wrong sign, so correct the conversion"),
        (ends, "a matrix that does not end in 0 0 0 1; write [4,4] matrices world→camera"),
    ):
        if cameras:
            text = f"the extrinsic of {names(capture, cameras)} is {what}"
            found.append(Problem("rotations", ERROR, text, partial(rig_figure, text, capture, cameras)))
    return found


@register
def check_intrinsics(capture: Capture, sample: Sample) -> list[Problem]:
    """Intrinsics that are no pinhole camera's, or whose principal point lies outside of the image."""
    odd, outside = [], []
    for c, camera in enumerate(capture.cameras):
        lens, size = camera.intrinsic, np.array([camera.width, camera.height])
        if min(lens[0, 0], lens[1, 1]) <= 0 or np.abs(lens[2] - [0, 0, 1]).max() > 1e-6:
            odd.append(c)
        elif not ((lens[:2, 2] > 0) & (lens[:2, 2] < size)).all():
            outside.append(c)
    found = []
    if odd:
        text = f"the intrinsic of {names(capture, odd)} has no positive focal lengths or does not end in 0 0 1"
        found.append(Problem("intrinsics", ERROR, f"{text}; calibrate again"))
    if outside:
        text = f"the principal point of {names(capture, outside)} lies outside of the image; scale intrinsics with the "
        found.append(Problem("intrinsics", ERROR, f"{text}images and shift them with crops"))
    return found


@register
def check_convention(capture: Capture, sample: Sample) -> list[Problem]:
    """Landmarks that do not project onto the face; says which other convention of the cameras would fit."""
    sound = [p for check in (check_rotations, check_intrinsics) for p in check(capture, sample)]
    away = [c for c in range(len(capture.cameras)) if c not in sample.trusted]
    if sound or not away or not sample.views or sample.faceless or sample.turned or _unit(capture) is not None:
        return []
    seen, words, whose = sample.away, sample.convention, names(capture, away)
    if not seen:
        how = f"the landmarks, projected by {whose}, lie outside of the masks"
    elif np.isfinite(share := float(np.median([sample.distances[c] for c in seen]))):
        how = f"the landmarks, projected by {whose}, lie away from the face by {share:.0%} of its size"
    else:
        how = f"the landmarks lie behind {whose}"
    advice = words or "check that the extrinsics are world→camera (OpenCV, metres) and belong to these cameras"
    text = f"{how}; {advice}"
    # A tracker may be wrong about a few views from the side, so these alone are no error.
    sure = words or 2 * len(away) > len(capture.cameras) or any(sample.outside(c) for c in away)
    return [
        Problem(
            "convention",
            ERROR if sure else WARNING,
            text,
            partial(_convention_figure, text, capture, sample, away, words),
        )
    ]


def _convention_figure(text: str, capture: Capture, sample: Sample, away: list[int], words: str) -> Image.Image:
    """Views of up to three wrong cameras as they are and, under the convention `words`, as they should be."""
    shown: list[list[np.ndarray | None]] = [[], []]
    heads = []
    for c in sorted(away, key=lambda c: c not in sample.distances)[:3]:
        t = next((t for t, own in (*sample.faces, *sample.views) if own == c), None)
        if t is None:
            continue
        cameras = [capture.cameras[c], *([corrected(capture, c, words, [(t, sample.face(t, c))])] if words else [])]
        for row, camera in zip(shown, cameras, strict=False):
            dots = {SEEN: sample.face(t, c), MINE: camera.project(capture.landmarks[t])}
            row.append(marked(sample.image(t, c), dots, sample.mask(t, c)))
        heads.append(heading(capture, t, capture.cameras[c]))
    labels = ["as it is", "as proposed"] if words else ["as it is"]
    grid = images_figure(f"{text}.\nOrange: projected landmarks. Blue: the face that is found.", shown[: len(labels)],
                         heads, labels)  # fmt: skip
    return stacked(grid, rig_figure("The cameras from above", capture, away))


def _unit(capture: Capture) -> tuple[float, float] | None:
    """(extent of the landmarks, by how much lengths seem too large) where it is not a head's in metres."""
    points = capture.landmarks[capture.detected]
    points = points[np.isfinite(points).all((1, 2))].astype(np.float64)
    if not len(points):
        return None
    extent = float(np.median(np.ptp(points, axis=1).max(1)))
    if HEAD[0] <= extent <= HEAD[1]:
        return None
    return extent, next((unit for unit in UNITS if HEAD[0] <= extent / unit <= HEAD[1]), 1.0)


@register
def check_scale(capture: Capture, sample: Sample) -> list[Problem]:
    """Landmarks of a head that is not 0.07 to 0.35 metres high."""
    if (found := _unit(capture)) is None:
        return []
    extent, unit = found
    text = f"the landmarks of the head span {extent:.3g} m, expected 0.1 to 0.3 m"
    if unit > 1:
        also = "landmarks, poses and cameras"
        faces = {c: [(t, sample.face(t, c)) for t, own in sample.faces if own == c] for c in sample.distances}
        told = [away_from_face(capture, capture.cameras[c], own, 1 / unit) for c, own in faces.items()]
        if told and np.median(told) < AWAY:
            also = "landmarks and poses; the cameras are in metres"
        text = f"{text}; lengths look like {UNITS[unit]}, so divide by {unit:.0f} those of {also}"
    else:
        text = f"{text}; give all lengths in metres"
    return [Problem("scale", ERROR, text, partial(rig_figure, text, capture))]
