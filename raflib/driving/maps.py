"""Maps from a driver's features to the features that an avatar receives, at test time and without training.

A tracker's bias differs by person, so a driver's feature may lie outside the subject's recording, where a network
extrapolates badly. A driving map moves the driver's features closer to the subject's. It knows the driver's own clip
and the subject's training features, but no ground truth, and none of its numbers is fitted to held-out frames.
`drive_from_name` makes each map. A new map is one class: a frozen dataclass on `DrivingMap` with a `name` and a method
`apply`. Maps are pure functions on arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from raflib.coverage import nearest, pca
from raflib.coverage.identity import REST, neutral
from raflib.errors import RafError
from raflib.registry import enrol

DRIVES: dict[str, type[DrivingMap]] = {}
"""Every driving map by its name."""


@dataclass(frozen=True)
class DrivingMap:
    """Base of all maps: a frozen dataclass of options with a `name`, its key in `DRIVES`.

    Raises RafError when two different classes take one name.
    """

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        enrol(cls.name, cls, DRIVES)

    def __call__(
        self,
        features: Float[np.ndarray, "F d"],
        clip: Float[np.ndarray, "M d"],
        own: Float[np.ndarray, "N d"],
    ) -> Float[np.ndarray, "F d"]:
        """The features that the avatar receives for the driver's `features`, float32.

        `clip` holds all frames of the driver that are known at test time, `own` the subject's training features. Raises
        RafError for other widths, NaN, or an empty array.
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
        """The result of a call, for arguments that were checked."""
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
    """The driver's change from their neutral feature, added to the subject's: e − n(driver) + n(subject).

    n is the mean of the tenth of the frames with the smallest norm (`raflib.coverage.identity.neutral`), of the
    driver's clip and of the subject's training features. Nothing is clipped.
    Refuted as a remedy if errors come from how strongly people move rather than from their neutral features.
    """

    name = "relative"

    def apply(self, features: np.ndarray, clip: np.ndarray, own: np.ndarray) -> np.ndarray:
        """e − n(driver) + n(subject)."""
        return features - neutral(clip, REST) + neutral(own, REST)


@dataclass(frozen=True)
class Centred(DrivingMap):
    """A share of the way from the mean of the driver's clip to the mean of the subject's training features, added.

    e + share · (mean of own − mean of clip). The difference of two people's means has two parts: the tracker reads the
    same expression differently on different faces, and people differ in how they act. Only the first part is an error.
    The two cannot be separated without the true expression, so only a share of the difference is added. The share of
    0.4 was chosen with eight studio people outside of bank and benchmark (`scripts/driving_bound.py`).

    Why: the truth of cross-driving keeps how the driver acts, and the tracker's offset moves every frame. Refuted if
    the tracked features of the subject, who shows the driver's expression, are not nearer to the result than to e.
    Raises RafError for a share outside [0, 1].
    """

    share: float = 0.4
    name = "centred"

    def __post_init__(self) -> None:
        _check_share(self, 0 <= self.share <= 1, "from 0 to 1, the share of the difference of means to add")

    def apply(self, features: np.ndarray, clip: np.ndarray, own: np.ndarray) -> np.ndarray:
        """e + share · (mean of own − mean of clip), with means in float64."""
        return features + self.share * (own.mean(0, dtype=np.float64) - clip.mean(0, dtype=np.float64))


@dataclass(frozen=True)
class Projected(DrivingMap):
    """The driver's features, projected into the space in which the subject's training features vary.

    The space has the first principal axes of the training features, as many as hold `share` of their variance (0.99).
    Each coordinate is clipped to its range over training frames. Raises RafError for a share outside (0, 1], and when
    it is applied to training features without two different frames.
    """

    share: float = 0.99
    name = "projected"

    def __post_init__(self) -> None:
        _check_share(self, 0 < self.share <= 1, "a share of the variance above 0, at most 1")

    def apply(self, features: np.ndarray, clip: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The subject's mean and the clipped coordinates along its axes."""
        if not np.ptp(own, axis=0).any():
            raise RafError(
                f"drive {self.name!r}: the subject's {len(own)} training frame(s) do not vary, expected at least 2 "
                "different ones to project onto; give more of them, or choose another map"
            )
        width = own.shape[1]
        variance = np.linalg.eigvalsh(np.cov(own.T, dtype=np.float64).reshape(width, width))[::-1]
        held = np.cumsum(variance) / variance.sum()
        space = pca(own, int(np.searchsorted(held, self.share * (1 - 1e-12))) + 1)
        inside = space.project(own)
        return space.mean + np.clip(space.project(features), inside.min(0), inside.max(0)) @ space.axes.T


@dataclass(frozen=True)
class Fitted(DrivingMap):
    """`Centred`, then `Projected`: first a share of the difference of means is added, then vectors are kept in range.

    Why: the two mend different errors. The tracker's offset moves all vectors, and what remains may still lie where the
    subject's recording has nothing, so that the network extrapolates. Refuted if it is no better than either map alone.
    Options are those of the two maps; RafError as they raise.
    """

    share: float = Centred.share
    variance: float = Projected.share
    name = "fitted"

    def __post_init__(self) -> None:
        Centred(self.share), Projected(self.variance)  # refuse what they refuse

    def apply(self, features: np.ndarray, clip: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The centred features, projected."""
        moved = Centred(self.share).apply(features, clip, own)
        return Projected(self.variance).apply(moved, clip, own)


@dataclass(frozen=True)
class Nearest(DrivingMap):
    """The subject's own training feature nearest to the driver's: a vector that the avatar was trained with.

    Remaining errors are therefore not the network's extrapolation. Motion is not smooth.
    """

    name = "nearest"

    def apply(self, features: np.ndarray, clip: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Rows of `own`."""
        return own[nearest(features, own)[1]]


def _check_share(drive: Centred | Projected, good: bool, expected: str) -> None:
    """RafError that names the map and its share, unless it is `good`."""
    if not good:
        raise RafError(f"drive {drive.name!r}: share is {drive.share!r}, expected {expected}")


def drive_from_name(drive: str, **options: float | int) -> DrivingMap:
    """The map of that name in `DRIVES`; RafError for another name or an option it does not have."""
    if drive not in DRIVES:
        raise RafError(f"drive is {drive!r}, expected one of {', '.join(DRIVES)}")
    allowed = [option.name for option in fields(DRIVES[drive])]
    if unknown := sorted(set(options) - set(allowed)):
        raise RafError(f"drive {drive!r} has no option {unknown[0]!r}, expected {', '.join(allowed) or 'none'}")
    made: Callable[..., DrivingMap] = DRIVES[drive]
    return made(**options)
