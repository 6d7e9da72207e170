"""Weightings of a feature space: features are mapped so that plain L2 distance between them is another distance.

    per_deviation = PerDeviation().fit(bank)
    bank, capture = per_deviation.of_bank(bank), per_deviation.of_capture(capture)
    RAF(bank, search=per_deviation.space)                       # "arkit52/per_deviation", a further space of both

A weighting is fitted on the rows of a bank and then maps the features x of any frames. Some also need the mean of the
person's frames. For a capture these are the frames that may be trained on. `WEIGHTINGS` holds all by name. The fit of a
further space of a bank is that of `bank.in_space(tag)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple, SupportsIndex

import numpy as np
from jaxtyping import Float

from raflib.coverage.pose import pose_slope
from raflib.errors import RafError, numbers, whole
from raflib.registry import enrol

if TYPE_CHECKING:
    from raflib.bank import ExpressionBank
    from raflib.capture import Capture

WEIGHTINGS: dict[str, type[Weighting]] = {}
"""Every weighting class by its name."""


class Frames(NamedTuple):
    """Features and head rotations (axis-angle in radians) of frames of one person; rotations may be unknown."""

    features: Float[np.ndarray, "F d"]
    rotation: Float[np.ndarray, "F 3"] | None = None


@dataclass(frozen=True, eq=False)
class Weighting:
    """Base of all weightings. A subclass has a `name`, a docstring with its formula, and `mapped`.

    `takes_mean` tells whether it needs the mean of the person's frames.
    """

    name: ClassVar[str]
    takes_mean: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if "name" in cls.__dict__:
            enrol(cls.name, cls, WEIGHTINGS)

    @property
    def label(self) -> str:
        """The name with its parameter, for the tag of a space."""
        return self.name

    def fit(self, bank: ExpressionBank) -> Fitted:
        """The weighting with everything that it takes from the rows of a bank; RafError where they do not fit it."""
        return Fitted(self, bank.feature_space, bank.features.shape[1], self.learned(bank))

    def learned(self, bank: ExpressionBank) -> Float[np.ndarray, "..."]:
        """The numbers that `mapped` needs from the bank."""
        return np.empty(0)

    def mapped(self, x: Float[np.ndarray, "F d"], frames: Frames, person: Frames, learned: np.ndarray) -> np.ndarray:
        """The features x of `frames`, in float64, mapped to [F,d2]."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Fitted:
    """A weighting that was fitted on a bank, from `Weighting.fit`.

    Attributes:
        weighting: the weighting.
        tag, width: the feature space that it maps.
        learned: the numbers that it takes from the bank.
    """

    weighting: Weighting
    tag: str
    width: int
    learned: Float[np.ndarray, "..."]

    @property
    def space(self) -> str:
        """Tag of the mapped features, such as "arkit52/per_deviation"."""
        return f"{self.tag}/{self.weighting.label}"

    def __call__(self, frames: Frames, person: Frames) -> Float[np.ndarray, "F _"]:
        """The features of `frames`, mapped, as float32. `person` holds the frames that the person's means are taken of.

        Raises RafError for another width, and for no frame of the person or missing rotations where the weighting needs
        them.
        """
        if frames.features.shape[1] != self.width:
            raise RafError(
                f"{self.space}: features have width {frames.features.shape[1]}, the weighting was fitted to "
                f"{self.tag} features of width {self.width}; fit it on a bank of the same space"
            )
        if self.weighting.takes_mean and not len(person.features):
            raise RafError(
                f"{self.space}: no frame of the person is given, expected at least one to take the mean of; give "
                "detected frames"
            )
        x = np.asarray(frames.features, np.float64)
        return self.weighting.mapped(x, frames, person, self.learned).astype(np.float32)

    def of_bank(self, bank: ExpressionBank) -> ExpressionBank:
        """The bank with the mapped features as the further space `space`; RafError where it lacks the space `tag`."""
        known = bank.in_space(self.tag)
        people, code = np.unique(bank.subjects, return_inverse=True)
        order = np.argsort(code, kind="stable")
        parts = []
        for rows in np.split(order, np.cumsum(np.bincount(code, minlength=len(people)))[:-1]):
            person = Frames(known.features[rows], None if bank.rotation is None else bank.rotation[rows])
            parts.append(self(person, person))
        return bank.with_space(self.space, np.concatenate(parts)[np.argsort(order)])

    def of_capture(self, capture: Capture) -> Capture:
        """The capture with the mapped features as the further space `space`.

        The person's means are taken of the frames that may be trained on. Rows are NaN where the features are not
        known. Raises RafError where the capture lacks the space `tag`, and where the weighting needs such a mean and
        there is no frame to take it of.
        """
        if self.tag not in (capture.feature_space, *capture.spaces):
            raise RafError(
                f"capture {capture.subject} has {', '.join([capture.feature_space, *capture.spaces])} features, the "
                f"weighting is of {self.tag}; add them with raflib.lab.spaces.with_space"
            )
        features = capture.expression if self.tag == capture.feature_space else capture.spaces[self.tag]
        known = capture.detected & np.isfinite(features).all(1)
        own = capture.train & known
        if self.weighting.takes_mean and not own.any():
            raise RafError(
                f"capture {capture.subject} has no training frame with {self.tag} features, expected at least one: "
                f"{self.weighting.label} takes the person's mean of them; track more sequences, or take another "
                "weighting"
            )
        person = Frames(features[own], capture.pose[own, :3])
        found = self(Frames(features[known], capture.pose[known, :3]), person)
        rows = np.full((len(capture), found.shape[1]), np.nan, np.float32)
        rows[known] = found
        return replace(capture, spaces={**capture.spaces, self.space: rows})


@dataclass(frozen=True, eq=False)
class AsIs(Weighting):
    """The features as they are: x."""

    name = "as_is"

    def mapped(self, x: Float[np.ndarray, "F d"], frames: Frames, person: Frames, learned: np.ndarray) -> np.ndarray:
        """x."""
        return x


@dataclass(frozen=True, eq=False)
class PerDeviation(Weighting):
    """Each column divided by its standard deviation over the bank: x_j / s_j, and 0 where s_j = 0."""

    name = "per_deviation"

    def learned(self, bank: ExpressionBank) -> Float[np.ndarray, "d"]:
        """1 / s_j."""
        deviation = np.std(bank.features, axis=0, dtype=np.float64)
        return np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)

    def mapped(self, x: Float[np.ndarray, "F d"], frames: Frames, person: Frames, learned: np.ndarray) -> np.ndarray:
        """x_j / s_j."""
        return x * learned


@dataclass(frozen=True, eq=False)
class ByMotion(Weighting):
    """Each column times the mean motion of the landmarks by one unit of it: x_j · (1/L) Σ_l ‖B_jl‖.

    B [d,L,3] is the expression basis of the face model whose coefficients the features are (`basis`).
    """

    basis: Float[np.ndarray, "d L 3"]
    name = "by_motion"

    def learned(self, bank: ExpressionBank) -> Float[np.ndarray, "d"]:
        """The mean motion of each column; RafError for a basis of another number of columns."""
        basis = numbers("by_motion: basis", self.basis, "f")
        if basis.ndim != 3 or basis.shape[::2] != (bank.features.shape[1], 3) or not np.isfinite(basis).all():
            raise RafError(
                f"by_motion: basis of shape {basis.shape}, expected finite [{bank.features.shape[1]}, L, 3] for "
                f"{bank.feature_space} features"
            )
        return np.linalg.norm(basis.astype(np.float64), axis=2).mean(1)

    def mapped(self, x: Float[np.ndarray, "F d"], frames: Frames, person: Frames, learned: np.ndarray) -> np.ndarray:
        """x_j times the column's mean motion."""
        return x * learned


@dataclass(frozen=True, eq=False)
class First(Weighting):
    """The first k columns: x_1 … x_k. Components of a face model are ordered by variance."""

    k: SupportsIndex
    name = "first"

    @property
    def label(self) -> str:
        """The name with k, such as "first10"."""
        return f"{self.name}{whole('first: k', self.k, 1)}"

    def learned(self, bank: ExpressionBank) -> Float[np.ndarray, "0"]:
        """Nothing; RafError for a k beyond the width."""
        whole("first: k", self.k, 1, bank.features.shape[1])
        return np.empty(0)

    def mapped(self, x: Float[np.ndarray, "F d"], frames: Frames, person: Frames, learned: np.ndarray) -> np.ndarray:
        """x_1 … x_k."""
        return x[:, : whole("first: k", self.k, 1)]


@dataclass(frozen=True, eq=False)
class WithoutPose(Weighting):
    """Head rotation regressed out: x − (r − r̄) S.

    r is the frame's head rotation and r̄ the person's mean. S [3,d] is the least-squares slope of features on rotation
    over the bank, both centred within each person (`raflib.coverage.pose.pose_slope`).
    """

    name = "without_pose"
    takes_mean = True

    def learned(self, bank: ExpressionBank) -> Float[np.ndarray, "3 d"]:
        """S; RafError for a bank without rotations."""
        if bank.rotation is None:
            raise RafError("without_pose: the bank does not hold head rotations; build one that does (make bank)")
        return pose_slope(bank.features, bank.rotation, np.asarray(bank.subjects))

    def mapped(self, x: Float[np.ndarray, "F d"], frames: Frames, person: Frames, learned: np.ndarray) -> np.ndarray:
        """x − (r − r̄) S."""
        if frames.rotation is None or person.rotation is None:
            raise RafError("without_pose: the frames do not have head rotations; give features and rotations")
        return (
            x - (np.asarray(frames.rotation, np.float64) - np.mean(person.rotation, axis=0, dtype=np.float64)) @ learned
        )


@dataclass(frozen=True, eq=False)
class LessPersonMean(Weighting):
    """Each person's mean subtracted: x − x̄. A query is compared after its own person's mean is subtracted."""

    name = "less_person_mean"
    takes_mean = True

    def mapped(self, x: Float[np.ndarray, "F d"], frames: Frames, person: Frames, learned: np.ndarray) -> np.ndarray:
        """x − x̄."""
        return x - np.mean(person.features, axis=0, dtype=np.float64)
