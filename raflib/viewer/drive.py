"""Performances that drive a puppet: expression vectors and head poses over time. A puppet's torso rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from raflib.capture import Capture
from raflib.driving import NOMINAL_FPS, transfer_pose
from raflib.errors import RafError

LONGEST_GAP = 2.0
"""Seconds between two frames from which on they count as two recordings, which are joined without this gap."""


@dataclass(frozen=True, eq=False)
class Drive:
    """A performance of T ≥ 1 frames.

    Attributes:
        name: what a menu calls it.
        expression: [T,d] expression vectors, finite.
        pose: [T,6] head poses of the avatar's person; None leaves the head still.
        time: [T] seconds, ascending; None for 25 frames a second.

    Raises RafError for other shapes, NaN, or times that do not ascend.
    """

    name: str
    expression: Float[np.ndarray, "T d"]
    pose: Float[np.ndarray, "_ 6"] | None = None
    time: Float[np.ndarray, "_"] | None = None

    def __post_init__(self) -> None:
        frames = len(self.expression)
        if self.time is None:
            object.__setattr__(self, "time", np.arange(frames) / NOMINAL_FPS)
        for what, values in (("expression", self.expression), ("pose", self.pose), ("time", self.time)):
            if values is not None and (len(values) != frames or not frames or not np.isfinite(values).all()):
                raise RafError(
                    f"drive {self.name}: {what} of shape {values.shape}, expected {frames or 'some'} finite rows"
                )
        if (np.diff(self._time) <= 0).any():
            raise RafError(f"drive {self.name}: the times do not ascend; sort the frames by time")

    @property
    def _time(self) -> Float[np.ndarray, "T"]:
        assert self.time is not None
        return self.time

    @property
    def ticks(self) -> int:
        """How many moments of 1/25 s it has, at least one."""
        return round(float(self._time[-1] - self._time[0]) * NOMINAL_FPS) + 1

    def at(self, tick: int) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "6"] | None]:
        """(expression, pose) at moment `tick` of 1/25 s, from 0.

        Between two frames, both are interpolated: expression and translation linearly, rotation at constant speed.
        """
        moment = self._time[0] + tick / NOMINAL_FPS
        after = int(np.clip(np.searchsorted(self._time, moment), 1, max(1, len(self._time) - 1)))
        after, before = min(after, len(self._time) - 1), min(after, len(self._time) - 1) - (len(self._time) > 1)
        length = self._time[after] - self._time[before]
        share = float(np.clip((moment - self._time[before]) / length, 0, 1)) if length else 0.0
        expression = (1 - share) * self.expression[before] + share * self.expression[after].astype(np.float64)
        if self.pose is None:
            return expression, None
        first, last = self.pose[before].astype(np.float64), self.pose[after].astype(np.float64)
        start = Rotation.from_rotvec(first[:3])
        way = (Rotation.from_rotvec(last[:3]) * start.inv()).as_rotvec()
        turned = (Rotation.from_rotvec(share * way) * start).as_rotvec()
        return expression, np.concatenate([turned, (1 - share) * first[3:] + share * last[3:]])


def drives(target: Capture, drivers: Sequence[Capture | Drive]) -> list[Drive]:
    """What can drive the avatar of `target`: its own sequences, then those of `drivers`, and drives as they are.

    Features of another person are passed on unchanged (paper §5). Their head motion is transferred to the target's mean
    pose (`raflib.driving.transfer_pose`). Frames without a face are left out. RafError for other feature spaces.
    """
    found: list[Drive] = []
    for driver in (target, *drivers):
        found += [driver] if isinstance(driver, Drive) else _sequences(target, driver)
    for drive in found:
        if drive.expression.shape[1] != target.expression.shape[1]:
            raise RafError(
                f"drive {drive.name}: {drive.expression.shape[1]} features, but the avatar takes "
                f"{target.expression.shape[1]}; use features of one tracker"
            )
    return found


def _sequences(target: Capture, driver: Capture) -> list[Drive]:
    """One drive for each sequence of a capture that shows a face."""
    if driver.feature_space != target.feature_space:
        raise RafError(
            f"driver {driver.subject} has {driver.feature_space} features but {target.subject} {target.feature_space}; "
            "track them with one tracker"
        )
    made, posed = [], driver.detected & np.isfinite(driver.pose).all(1)
    for name in dict.fromkeys(driver.sequence[posed].tolist()):
        rows = np.flatnonzero(posed & (driver.sequence == name))
        pose = driver.pose[rows] if driver is target else transfer_pose(driver, target, rows)[0]
        label = str(name) if driver is target else f"{driver.subject}: {name}"
        made.append(Drive(label, driver.expression[rows], pose, _seconds(driver, rows)))
    return made


def _seconds(driver: Capture, rows: np.ndarray) -> Float[np.ndarray, "T"]:
    """Seconds of these frames from the first one, ascending. Without times, frame numbers count at 25 a second."""
    source = driver.frame / NOMINAL_FPS if driver.time is None else driver.time
    step = np.diff(source[rows].astype(np.float64))
    return np.concatenate([[0.0], np.where((step > 0) & (step < LONGEST_GAP), step, 1 / NOMINAL_FPS).cumsum()])
