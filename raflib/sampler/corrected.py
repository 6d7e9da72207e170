"""Samplers that correct features for the tracker's bias: head pose that it mixes in, or a person's constant offset.

They replace expressions as `raflib.sampler.raf.RAF` does, after a correction of the bank's features, the subject's, or
both. Each docstring says why the idea might help and what would refute it. Rows of the subject are never used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from raflib.bank import ExpressionBank
from raflib.coverage.identity import REST, neutral
from raflib.coverage.pose import pose_slope, without_pose
from raflib.errors import RafError
from raflib.sampler.base import Conditioner, FromBank, Recording, replaced
from raflib.sampler.raf import RAF, RAFConditioner


@dataclass(frozen=True)
class PoseRAF(RAF):
    """RAF whose neighbours are found with head pose taken out of the features.

    Features of the bank's other people are regressed on head rotation (least squares, both centred within a person:
    `raflib.coverage.pose`). Before the search, the predicted part is subtracted from the bank's features and from the
    subject's. The neighbour's original feature conditions the step.

    Why: neighbours share head pose (paper §6), so the vectors that RAF gives carry pose and compete with the explicit
    pose. Refuted if neighbours' poses stay as correlated, or if avatars follow pose no better although they do not.
    `bind` needs `pose`, and the bank needs rotations; RafError otherwise.
    """

    name = "raf_pose"

    def condition(self, recording: Recording) -> RAFConditioner:
        """Neighbours by the features without head pose."""
        bank = _in_memory(self.bank)
        if bank.rotation is None:
            raise RafError(
                f"raf_pose: this bank of {len(bank)} rows does not hold how heads were turned (rotation); build one "
                "that does (make bank)"
            )
        shape = () if recording.pose is None else np.shape(recording.pose)
        if shape != (len(recording.detected), 6):
            raise RafError(
                f"raf_pose: pose of shape {shape}, expected [{len(recording.detected)}, 6]; "
                "bind(expression, subject, feature_space, pose)"
            )
        turned = np.asarray(recording.pose)[recording.detected, :3]
        if len(broken := np.flatnonzero(~np.isfinite(turned).all(1))):
            raise RafError(f"raf_pose: pose of detected frame {broken[0]} is not finite; mark its expression NaN")
        others = bank.subjects != recording.subject
        people = np.asarray(bank.subjects)
        known, seen = replace(self, bank=bank).searched(recording)
        slope = pose_slope(known.features[others], bank.rotation[others], people[others])
        there = replace(known, features=without_pose(known.features, bank.rotation, people, slope))
        here = without_pose(seen.own, turned, np.full(len(turned), recording.subject), slope)
        where = {"exclude": recording.subject, "feature_space": seen.feature_space}
        return RAFConditioner(recording, bank, float(self.p), there.search(here, k=self.top_k, **where))


@dataclass(frozen=True)
class RelativeRAF(RAF):
    """RAF on features relative to each person's neutral face.

    A person's neutral feature n (`raflib.coverage.identity.neutral`) is the mean of the tenth of their frames with the
    smallest norm. Each bank row f_i becomes f_i − n(person i) + n(subject), for the search and for what conditions the
    step. Values may leave the tracker's range.

    Why: trackers read another person's neutral face as an expression, and most of the distance between people is that
    constant. Refuted if avatars driven by others' unchanged features do no better: at test time the driver's neutral
    feature is subtracted only if a driving map does so (`raflib.driving`).
    """

    name = "raf_relative"

    def condition(self, recording: Recording) -> RAFConditioner:
        """Neighbours whose neutral feature was moved onto the subject's."""
        bank = _in_memory(self.bank)
        there, found = _by_change(replace(self, bank=bank), recording)
        if there.feature_space != bank.feature_space:
            there = _on_neutral_of(recording, bank)
        return RAFConditioner(recording, bank, float(self.p), found, offered=there.features)


@dataclass(frozen=True)
class AlignedRAF(RAF):
    """RAF whose neighbours show the same change from *their* neutral face.

    The search is `RelativeRAF`'s, on f_i − n(person i) + n(subject). The unchanged f_i conditions the step.

    Why: the nearest row is often of a person whose neutral feature is like the subject's, so RAF seldom shows the
    constant by which a driver differs. The row with the nearest *change* can be of any person, and has their constant.
    Refuted if `person_shift` does as well: then the constants help and retrieval does not matter.
    """

    name = "raf_aligned"

    def condition(self, recording: Recording) -> RAFConditioner:
        """Neighbours by their change from the neutral face."""
        bank = _in_memory(self.bank)
        return RAFConditioner(recording, bank, float(self.p), _by_change(replace(self, bank=bank), recording)[1])


@dataclass(frozen=True)
class PersonShift(FromBank):
    """A control: with probability `p` the own expression moved to a random person's neutral: e − n(subject) + n(i).

    Why: a tracker adds the same constant to all frames of a driver. A network that saw its own images under many such
    constants cannot read them as expressions. Nothing else of other people is used. Refuted if drivers differ by how
    they move (gains, habits) rather than by a constant.
    """

    name = "person_shift"

    def condition(self, recording: Recording) -> ShiftConditioner:
        """Take the neutral feature of each person in the bank."""
        self.nearest(recording)  # refuses a bank that does not fit
        bank = self.bank.restrict(exclude=recording.subject)
        first = np.unique(bank.subjects, return_index=True)[1]
        return ShiftConditioner(recording, _neutrals(bank)[first] - neutral(recording.own, REST), float(self.p))


class ShiftConditioner(Conditioner):
    """The frame's own expression, or that moved by a random row of `shifts` [P,d]."""

    def __init__(self, recording: Recording, shifts: Float[np.ndarray, "P d"], p: float):
        super().__init__(recording)
        self.shifts = torch.as_tensor(shifts, dtype=torch.float32)
        self.chance[self._usable] = p

    def _sample(self, frames: Int[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, "B d"]:
        other = replaced(self.chance[frames], generator)
        people = torch.randint(len(self.shifts), frames.shape, generator=generator, device=generator.device).cpu()
        return self.expression[frames] + self.shifts[people] * other[:, None]

    def summary(self) -> dict[str, float | int]:
        """The base class's numbers, and how many people's shifts there are."""
        return {**super().summary(), "distinct_people": len(self.shifts)}


def _in_memory(bank: ExpressionBank) -> ExpressionBank:
    """The bank as an ordinary one, whose features can be changed; RafError where it is too large for that."""
    return bank if type(bank) is ExpressionBank else bank.restrict()


def _by_change(
    sampler: RAF, recording: Recording
) -> tuple[ExpressionBank, tuple[Float[np.ndarray, "F k"], Int[np.ndarray, "F k"]]]:
    """(bank, neighbours): the searched bank, each neutral feature exchanged for the subject's, and what was found."""
    bank, seen = sampler.searched(recording)
    there = _on_neutral_of(seen, bank)
    return there, there.search(seen.own, sampler.top_k, exclude=seen.subject, feature_space=seen.feature_space)


def _on_neutral_of(recording: Recording, bank: ExpressionBank) -> ExpressionBank:
    """The bank with each person's neutral feature exchanged for the recorded subject's."""
    return replace(bank, features=bank.features - _neutrals(bank) + neutral(recording.own, REST))


def _neutrals(bank: ExpressionBank) -> Float[np.ndarray, "N d"]:
    """For each row its person's neutral feature."""
    people, code = np.unique(bank.subjects, return_inverse=True)
    return np.stack([neutral(bank.features[bank.subjects == person], REST) for person in people])[code]
