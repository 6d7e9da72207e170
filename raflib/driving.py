"""What an avatar is given when somebody's features come to drive it: maps at test time, no training.

Trackers are biased by person, so a driver's feature may ask for something the subject's recording never showed, and a
network extrapolates badly. A driving map carries the driver's features to where the avatar knows its way. Maps see the
driver's own clip, unlabelled, and the subject's training features; never a truth, and their rules have no numbers
fitted to held-out frames. `drive_from_name` makes each; another map is one class more, a frozen dataclass on
`DrivingMap` with a `name` and an `apply`. Pure functions on arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int

from raflib.capture import Capture
from raflib.coverage import nearest, pca
from raflib.coverage.identity import REST, neutral
from raflib.errors import RafError
from raflib.geometry import axis_angle_to_matrix, matrix_to_axis_angle, nearest_rotation
from raflib.registry import enrol

DRIVES: dict[str, type[DrivingMap]] = {}
"""Every driving map by its name."""


class DrivingMap:
    """What every map is: a frozen dataclass of its options with a `name`, under which it is in `DRIVES`.

    Raises RafError when two different classes take one name.
    """

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        enrol(cls, DRIVES)

    def __call__(
        self,
        features: Float[np.ndarray, "F d"],
        clip: Float[np.ndarray, "M d"],
        own: Float[np.ndarray, "N d"],
    ) -> Float[np.ndarray, "F d"]:
        """What the avatar is given for the driver's `features`.

        `clip` are all frames of the driver that are known at test time, `own` the subject's training features. Raises
        RafError for other widths, NaN, or nothing to learn from.
        """
        given = [np.asarray(values, dtype=np.float32) for values in (features, clip, own)]
        width = given[2].shape[-1]
        for what, values in zip(("features", "the driver's clip", "the subject's features"), given, strict=True):
            if values.ndim != 2 or values.shape[1] != width or not len(values) or not np.isfinite(values).all():
                raise RafError(
                    f"drive {self.name!r}: {what} of shape {values.shape}, expected finite [frames, {width}]; leave "
                    "undetected frames out"
                )
        return np.asarray(self.apply(*given), dtype=np.float32)

    def apply(
        self,
        features: Float[np.ndarray, "F d"],
        clip: Float[np.ndarray, "M d"],
        own: Float[np.ndarray, "N d"],
    ) -> Float[np.ndarray, "F d"]:
        """What a call returns, for arguments that were checked."""
        raise NotImplementedError

    def describe(self) -> dict[str, str | float | int]:
        """What must be recorded to repeat it: the name and all options."""
        return {"drive": self.name, **{option.name: getattr(self, option.name) for option in fields(self)}}


@dataclass(frozen=True)
class Direct(DrivingMap):
    """The driver's features as they are (paper §5)."""

    name = "direct"

    def apply(self, features: np.ndarray, clip: np.ndarray, own: np.ndarray) -> np.ndarray:
        """`features`."""
        return features


@dataclass(frozen=True)
class Relative(DrivingMap):
    """How far the driver is from rest, put on the subject's rest: e − n(driver) + n(subject).

    n is the mean of the tenth of the frames with the smallest norm (`raflib.coverage.identity.neutral`), of the
    driver's clip and of the subject's training features. Nothing is clipped.
    Refuted as a remedy if errors come from how strongly people move rather than from where their rest is read.
    """

    name = "relative"

    def apply(self, features: np.ndarray, clip: np.ndarray, own: np.ndarray) -> np.ndarray:
        """e − n(driver) + n(subject)."""
        return features - neutral(clip, REST) + neutral(own, REST)


@dataclass(frozen=True)
class Projected(DrivingMap):
    """The nearest thing that varies as the subject's training features do.

    Features are projected onto the first principal axes of the training features, as many as hold `share` of their
    variance (0.99), and each coordinate is held within its range over training frames; what lies off those axes goes.
    RafError for a share outside (0, 1].
    """

    share: float = 0.99
    name = "projected"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise RafError(f"Projected: share is {self.share!r}, expected a share of the variance above 0, at most 1")

    def apply(self, features: np.ndarray, clip: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The subject's mean and the clipped coordinates along its axes."""
        variance = np.linalg.eigvalsh(np.cov(own.T, dtype=np.float64))[::-1]
        held = np.cumsum(variance) / variance.sum()
        space = pca(own, int(np.searchsorted(held, self.share * (1 - 1e-12))) + 1)
        inside = space.project(own)
        return space.mean + np.clip(space.project(features), inside.min(0), inside.max(0)) @ space.axes.T


@dataclass(frozen=True)
class Nearest(DrivingMap):
    """The subject's own training feature nearest to the driver's: nothing the avatar has not seen.

    All the caution there can be: what is left of the errors is not the network's extrapolation. Motion becomes jumpy.
    """

    name = "nearest"

    def apply(self, features: np.ndarray, clip: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Rows of `own`."""
        return own[nearest(features, own)[1]]


def drive_from_name(drive: str, **options: float | int) -> DrivingMap:
    """The map of that name in `DRIVES`; RafError for another name or an option it does not have."""
    if drive not in DRIVES:
        raise RafError(f"drive is {drive!r}, expected one of {', '.join(DRIVES)}")
    allowed = [option.name for option in fields(DRIVES[drive])]
    if unknown := sorted(set(options) - set(allowed)):
        raise RafError(f"drive {drive!r} has no option {unknown[0]!r}, expected {', '.join(allowed) or 'none'}")
    return DRIVES[drive](**options)


NOMINAL_FPS = 25
"""Frames a second of recordings whose source does not say when a frame was taken (the studio's)."""


def frames_to_play(driver: Capture, seconds: float | int) -> tuple[Int[np.ndarray, "F"], Float[np.ndarray, "F"]]:
    """The driver's frames with a face in its first `seconds` after the first face, and their times from there.

    `seconds` are seconds of the driver, however many of its frames the capture holds. Times come from the capture;
    where it has none, frames are 1/25 s apart. Raises RafError for seconds that are not a number above 0 and when no
    frame shows a face.
    """
    if not (np.isfinite(seconds) and seconds > 0):
        raise RafError(f"seconds is {seconds}, expected how many seconds of the driver to play, above 0")
    rows = np.flatnonzero(driver.detected)
    if not len(rows):
        raise RafError(f"capture {driver.subject}: no frame with a face to play")
    times = np.arange(len(driver)) / NOMINAL_FPS if driver.time is None else np.asarray(driver.time, np.float64)
    times = times[rows] - times[rows[0]]
    played = times < seconds
    return rows[played], times[played]


def transfer_pose(
    driver: Capture, target: Capture, rows: Int[np.ndarray, "F"]
) -> tuple[Float[np.ndarray, "F 6"], Float[np.ndarray, "F"]]:
    """Poses [F,6] and scales [F] for the target from the driver's head motion in `rows`.

    Rotation and translation relative to the driver's own mean are applied to the target's mean, in world axes; means
    are over each capture's detected frames. Distances are taken as they are, in metres.
    """
    driver_rotation, driver_place = _mean_pose(driver)
    target_rotation, target_place = _mean_pose(target)
    turned = rotations(driver.pose[rows]) @ driver_rotation.T @ target_rotation
    moved = driver.pose[rows, 3:] - driver_place + target_place
    axis_angle = matrix_to_axis_angle(torch.from_numpy(turned)).numpy()
    scale = np.full(len(rows), np.median(target.scale[target.detected]), dtype=np.float32)
    return np.concatenate([axis_angle, moved], 1).astype(np.float32), scale


def transfer_expression(
    driver: Capture, target: Capture, rows: Int[np.ndarray, "F"], share: float = 0.98
) -> Float[np.ndarray, "F d"]:
    """Expression features for the target from the driver's in `rows`, where nobody knows the truth.

    Two trackers' biases differ by person even at rest, and an avatar knows nothing of features its recording never
    showed. So the driver's features are taken relative to their median over the driver's frames, put on the target's
    median over training frames, and each is held within the range that the middle `share` of the target's training
    frames covers. Benchmarks do not use this: there the driver's features go over as they are (paper §5).
    """
    if driver.feature_space != target.feature_space:
        raise RafError(
            f"driver {driver.subject} has {driver.feature_space} features but {target.subject} {target.feature_space}; "
            "track them with one tracker"
        )
    own = target.expression[target.train]
    moved = driver.expression[rows] - np.median(driver.expression[driver.detected], axis=0) + np.median(own, axis=0)
    low, high = np.quantile(own, [(1 - share) / 2, (1 + share) / 2], axis=0)
    return np.clip(moved, low, high).astype(np.float32)


def rotations(pose: Float[np.ndarray, "F 6"]) -> Float[np.ndarray, "F 3 3"]:
    """Rotation matrices of poses, float64."""
    return axis_angle_to_matrix(torch.from_numpy(np.asarray(pose[:, :3], dtype=np.float64))).numpy()


def _mean_pose(capture: Capture) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Mean rotation (the rotation nearest to the mean matrix) and mean translation over detected frames."""
    seen = capture.pose[capture.detected]
    if not len(seen):
        raise RafError(f"capture {capture.subject}: no detected frame to take a mean pose from")
    return nearest_rotation(rotations(seen).mean(0)), seen[:, 3:].astype(np.float64).mean(0)
