"""How an avatar is evaluated: which frames, cameras and conditions, at what size, against which truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raflib.capture import Performed
from raflib.driving import DrivingMap, drive_from_name
from raflib.errors import RafError, numbers, whole

FrameChoice = int | Sequence[int] | np.ndarray | None
"""Which frames are evaluated: all (None), that many evenly spaced ones, or these rows of a capture."""
SPLITS = ("free", "train")
CONDITIONS = ("avatar", "control", "truth")
HEAD_POSES = ("truth", "driver")


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluateOptions:
    """The choices of `evaluate` that have a default. RafError for a value that cannot work, when they are made.

    Attributes:
        frames: None for all frames of the split, a number (at least 1) for that many evenly spaced ones, or row indices
            into the driving capture.
        cameras: indices into the target's cameras; None for the three most frontal in self-driving and the most frontal
            one in cross-driving.
        split: "free" for the held-out sequence, "train" for frames the avatar was trained on (self-driving only).
        drive: how the driver's features become what the avatar is given: a name in `raflib.driving.DRIVES` or a map. A
            map learns about the driver from the frames of the split, and is not told who drives.
        conditions: any of "avatar", "control" and "truth". The truth is the true image scored like a render: what a
            perfect avatar would get from the tracker's metrics.
        truth: true images of cross-driving. "auto" uses them where both captures own a truth, True requires them, False
            leaves them out, and a function like `raflib.capture.Truth.perform` makes them.
        head_pose: head pose of cross-driving. "truth" is the pose found on the true images, where there are some: no
            method could know it. "driver" is the driver's head motion (`raflib.driving.transfer_pose`), as it is known
            in use. Without true images both are the driver's.
        size: width in pixels at which images are rendered and compared (at least 1); None for the capture's own.
        batch: images rendered at once (at least 1); changes memory and speed, not the scores.
        images: a folder into which all scored images are written as PNG, for programs outside of this project
            (`raflib.evaluation.metrics.coefficients`); None writes none.
        allow_leak: evaluate even if the run's bank holds frames of the subject or of a driver (`raflib.bank.leaks`).
    """

    frames: FrameChoice = None
    cameras: Sequence[int] | np.ndarray | None = None
    split: str = "free"
    drive: str | DrivingMap = "direct"
    conditions: Sequence[str] = ("avatar", "control")
    truth: str | bool | Callable[..., Performed] = "auto"
    head_pose: str = "truth"
    size: int | None = None
    batch: int = 8
    images: str | Path | None = None
    allow_leak: bool = False

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise RafError(f"evaluate: split {self.split!r}; choose one of {', '.join(SPLITS)}")
        if isinstance(self.conditions, str) or not self.conditions or set(self.conditions) - set(CONDITIONS):
            raise RafError(f"evaluate: conditions {self.conditions!r} must be a list of {', '.join(CONDITIONS)}")
        if isinstance(self.truth, str) and self.truth != "auto":
            raise RafError(f"evaluate: truth is {self.truth!r}; choose 'auto', True, False or a function")
        if self.head_pose not in HEAD_POSES:
            raise RafError(f"evaluate: head pose {self.head_pose!r}; choose one of {', '.join(HEAD_POSES)}")
        if isinstance(self.drive, str):
            drive_from_name(self.drive)
        if self.frames is not None and np.ndim(self.frames):
            numbers("evaluate: frames", self.frames, "iu")
        elif self.frames is not None:
            whole("evaluate: frames", self.frames, 1)
        if self.cameras is not None and not len(self.cameras):
            raise RafError("evaluate: cameras is empty; name at least one, or leave it out for the default ones")
        for camera in () if self.cameras is None else self.cameras:
            whole("evaluate: camera", camera, 0)
        if self.size is not None:
            whole("evaluate: size", self.size, 1)
        whole("evaluate: batch", self.batch, 1)

    @property
    def driving_map(self) -> DrivingMap:
        """The map that `drive` names or is."""
        return drive_from_name(self.drive) if isinstance(self.drive, str) else self.drive


def pick_frames(available: Sequence[int] | np.ndarray, frames: FrameChoice) -> np.ndarray:
    """Row indices: all of `available`, that many evenly spaced, or the given ones if all are available.

    RafError naming the first given frame that is not available.
    """
    available = np.asarray(available, dtype=int)
    if frames is None:
        return available
    if np.ndim(frames) == 0:
        frames = whole("evaluate: frames", frames, 1)
        return available[np.unique(np.linspace(0, len(available) - 1, min(frames, len(available))).round().astype(int))]
    frames = numbers("evaluate: frames", frames, "iu").astype(int)
    odd = np.setdiff1d(frames, available)
    if len(odd):
        raise RafError(f"evaluate: frame {odd[0]} is not a detected frame of the wanted split; leave it out")
    return frames
