"""Samplers beyond the paper: other ways to choose what conditions a training step, and three controls.

All have the interface of `raflib.sampler.raf`; `sampler_from_name` makes every one. Another one is one class more: a
frozen dataclass on `FromBank` (or `Sampler`) with `name` and `condition`; notebooks and `make beyond` know it from
then on. Each docstring says why the idea might help and what would refute it; `notebooks/09_beyond` has what was found.
Rows of the subject are never used, whatever the sampler; nothing looks at frames that are held out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import lgamma
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raflib.bank import ExpressionBank, nearest_people
from raflib.coverage.identity import REST, neutral
from raflib.coverage.pose import pose_slope, without_pose
from raflib.errors import RafError
from raflib.sampler.raf import _SAMPLERS as SAMPLERS
from raflib.sampler.raf import RAF, Conditioner, FromBank, RAFConditioner, Recording, Sampler, replaced

__all__ = ["SAMPLERS", "sampler_from_name"]


def sampler_from_name(method: str, bank: ExpressionBank | None = None, **options: float | int) -> Sampler:
    """The sampler of that name in `SAMPLERS`; `options` are its own, e.g. sigma of "noise", p and top_k of "raf".

    A bank is ignored by samplers that need none. Raises RafError for another name, an option the sampler does not
    have, a missing bank, or what the sampler itself refuses.
    """
    if method not in SAMPLERS:
        raise RafError(f"method is {method!r}, expected one of {', '.join(SAMPLERS)}")
    allowed = SAMPLERS[method].options()
    for option in options:
        if option not in allowed:
            raise RafError(f"method {method!r} has no option {option!r}, expected {', '.join(allowed) or 'none'}")
    if not SAMPLERS[method].needs_bank():
        return SAMPLERS[method](**options)
    if bank is None:
        raise RafError(f"method {method!r} needs an expression bank; load one with ExpressionBank.load(path)")
    return SAMPLERS[method](bank, **options)


@dataclass(frozen=True)
class PoseRAF(RAF):
    """RAF whose neighbours are found with head pose taken out of the features.

    Over the bank's other people, features are regressed on head rotation (least squares, both centred within a person:
    `raflib.coverage.pose`), and that part is subtracted from the bank's features, with the bank's rotations, and from
    the subject's, with theirs, before the search. What conditions a step is the neighbour's feature as it is.

    Why: neighbours share head pose (paper §6), so RAF feeds pose-correlated codes that compete with the explicit pose.
    Refuted if neighbours' poses stay as correlated, or if they do not and avatars follow pose no better than RAF's.
    Needs `pose` when bound and a bank with rotations; RafError otherwise.
    """

    name = "raf_pose"

    def condition(self, recording: Recording) -> RAFConditioner:
        """Neighbours by what is left of the features."""
        bank, own = _in_memory(self.bank), recording.own
        if bank.rotation is None:
            raise RafError(
                f"raf_pose: this bank of {len(bank)} rows does not hold how heads were turned (rotation); build one "
                "that does (make bank)"
            )
        if recording.pose is None or np.shape(recording.pose) != (len(recording.detected), 6):
            raise RafError(
                f"raf_pose: pose of shape {np.shape(recording.pose)}, expected [{len(recording.detected)}, 6]; "
                "bind(expression, subject, feature_space, pose)"
            )
        turned = np.asarray(recording.pose)[recording.detected, :3]
        if len(broken := np.flatnonzero(~np.isfinite(turned).all(1))):
            raise RafError(f"raf_pose: pose of detected frame {broken[0]} is not finite; mark its expression NaN")
        others = bank.subjects != recording.subject
        slope = pose_slope(bank.features[others], bank.rotation[others], bank.subjects[others])
        there = replace(bank, features=without_pose(bank.features, bank.rotation, bank.subjects, slope))
        here = without_pose(own, turned, np.full(len(own), recording.subject), slope)
        where = {"exclude": recording.subject, "feature_space": recording.feature_space}
        return RAFConditioner(recording, bank, self.p, there.search(here, k=self.top_k, **where))


@dataclass(frozen=True)
class RelativeRAF(RAF):
    """RAF on features that say how far a face is from its own rest.

    Everybody's neutral (`raflib.coverage.identity.neutral`: the mean of the tenth of their frames with the smallest
    norm) is subtracted and the subject's added, for the search and for what conditions the step:
    f_i − n(person i) + n(subject).
    Values may leave the tracker's range.

    Why: trackers read other people's rest as an expression, and that constant is most of the distance between people.
    Refuted if avatars driven by others' features as they are do no better: at test time nobody subtracts the driver's
    neutral unless a driving map does (`raflib.driving`).
    """

    name = "raf_relative"

    def condition(self, recording: Recording) -> RAFConditioner:
        """Neighbours whose rest was moved onto the subject's."""
        bank = _in_memory(self.bank)
        there = _on_rest_of(recording, bank)
        found = replace(self, bank=there).nearest(recording, self.top_k)
        return RAFConditioner(recording, bank, self.p, found, offered=there.features)


@dataclass(frozen=True)
class AlignedRAF(RAF):
    """RAF whose neighbours show the same change from *their* rest, fed as they are.

    The search is `RelativeRAF`'s, on f_i − n(person i) + n(subject); what conditions a step is f_i itself.

    Why: the nearest row of all is of somebody whose resting face the tracker reads like the subject's, so RAF seldom
    shows the constant that sets a driver apart. The nearest *change* is anybody's, and comes with their constant.
    Refuted if `person_shift` does as well: then the constants help and retrieval is idle.
    """

    name = "raf_aligned"

    def condition(self, recording: Recording) -> RAFConditioner:
        """Neighbours by their change from rest."""
        bank = _in_memory(self.bank)
        there = _on_rest_of(recording, bank)
        return RAFConditioner(recording, bank, self.p, replace(self, bank=there).nearest(recording, self.top_k))


@dataclass(frozen=True)
class PersonShift(FromBank):
    """A control: with probability `p` the frame's own expression on the rest of a random person: e − n(subject) + n(i).

    Why: the trackers' idea of a face is the same constant in all of a driver's frames. A network that saw its own
    pictures under many such constants cannot read them as expressions. Nothing else of other people is used.
    Refuted if drivers differ by how they move (gains, habits) rather than by a constant.
    """

    name = "person_shift"

    def condition(self, recording: Recording) -> ShiftConditioner:
        """With everybody's rest taken."""
        self.nearest(recording)  # refuses a bank that does not fit
        bank = self.bank.restrict(exclude=recording.subject)
        first = np.unique(bank.subjects, return_index=True)[1]
        return ShiftConditioner(recording, _rests(bank)[first] - neutral(recording.own, REST), self.p)


class ShiftConditioner(Conditioner):
    """Own expression, or moved by a random one of `shifts` [P,d]."""

    def __init__(self, recording: Recording, shifts: Float[np.ndarray, "P d"], p: float):
        super().__init__(recording)
        self.shifts = torch.as_tensor(shifts, dtype=torch.float32)
        self.chance[self._usable] = p

    def _draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        other = replaced(self.chance[frames], generator)
        people = torch.randint(len(self.shifts), frames.shape, generator=generator, device=generator.device).cpu()
        return self.expression[frames] + self.shifts[people] * other[:, None]

    def summary(self) -> dict[str, float | int]:
        """How many frames and people there are."""
        return {**super().summary(), "distinct_people": len(self.shifts)}


@dataclass(frozen=True)
class PeopleRAF(FromBank):
    """One of the k nearest *people*, uniformly, each by their best row.

    Why: the k nearest rows of a frame often belong to one person, so that RAF's top_k adds little that is new.
    Refuted if avatars are no better than with RAF's top_k = k: then who the neighbour is does not matter.
    """

    people: SupportsIndex = 5
    name = "raf_people"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_count("people")

    def condition(self, recording: Recording) -> RAFConditioner:
        """With each frame's best row of its nearest people looked up."""
        self.nearest(recording)  # refuses a bank that does not fit
        others = len(set(self.bank.people) - {recording.subject})
        if others < self.people:
            raise RafError(
                f"raf_people: people is {self.people}, the bank has {others} without {recording.subject!r}; lower it"
            )
        found = nearest_people(self.bank, recording.own, self.people, recording.subject)
        return RAFConditioner(recording, self.bank, self.p, found)


@dataclass(frozen=True)
class InterpolatedRAF(RAF):
    """Somewhere between the frame's own expression and its neighbour's: own + u · (neighbour − own), u ~ U(0, 1).

    Why: RAF shows only the two ends; a network asked for the way between them is smooth where test features fall.
    Refuted if it is no better than RAF with half the distance would be: compare at equal displacement.
    """

    name = "raf_interpolated"

    def condition(self, recording: Recording) -> InterpolatingConditioner:
        """RAF's neighbours, drawn between."""
        return InterpolatingConditioner(recording, self.bank, self.p, self.nearest(recording, self.top_k))


class InterpolatingConditioner(RAFConditioner):
    """Own expression, or a random point on the way to a neighbour's."""

    def _draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        share = torch.rand((len(frames), 1), generator=generator, device=generator.device).cpu()
        return torch.lerp(self.expression[frames], super()._draw(frames, generator), share)


@dataclass(frozen=True)
class AdaptiveRAF(RAF):
    """RAF that trusts near neighbours more: p_t = p^(d_t / m), d_t the distance of frame t's nearest neighbour and m
    the median of d over the subject's frames. So p_t is 1 at distance 0, `p` at the median, and falls from there.

    Why: a far neighbour is another expression, and the step then teaches a wrong picture.
    Refuted if leaving out just the near ones, or RAF at the same expected p (`summary`), does as well.
    """

    name = "raf_adaptive"

    def condition(self, recording: Recording) -> RAFConditioner:
        """RAF's neighbours with a probability for each frame."""
        distances, rows = self.nearest(recording, self.top_k)
        scale = max(float(np.median(distances[:, 0])), np.finfo(np.float64).tiny)
        return RAFConditioner(recording, self.bank, self.p ** (distances[:, 0] / scale), (distances, rows))


@dataclass(frozen=True)
class MatchedNoise(FromBank):
    """A control: with probability `p` Gaussian noise whose expected norm for frame t is its neighbour's distance.

    Why: it displaces every frame as far as RAF does, without anybody's face. If it does what RAF does, then RAF is
    regularisation by displacement, and the bank only tells how far.
    """

    name = "noise_matched"

    def condition(self, recording: Recording) -> MatchedConditioner:
        """With each frame's amount of noise computed."""
        return MatchedConditioner(recording, self.p, self.nearest(recording)[0][:, 0])


class MatchedConditioner(Conditioner):
    """Own expression, or with noise of expected norm `distance` [F]. `sigma` [T] is its deviation a coefficient."""

    def __init__(self, recording: Recording, p: float, distance: Float[np.ndarray, " F"]):
        super().__init__(recording)
        width = self.expression.shape[1]
        mean_norm = np.sqrt(2) * np.exp(lgamma((width + 1) / 2) - lgamma(width / 2))  # of N(0, 1) in `width` dimensions
        self.sigma = torch.full((len(self.detected),), torch.nan)
        self.sigma[self._usable] = torch.as_tensor(distance / mean_norm, dtype=torch.float32)
        self.chance[self._usable] = p

    def _draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        amount = self.sigma[frames] * replaced(self.chance[frames], generator)
        own = self.expression[frames]
        noise = torch.randn(own.shape, generator=generator, device=generator.device).cpu()
        return own + amount[:, None] * noise


@dataclass(frozen=True)
class RandomRAF(FromBank):
    """A control: with probability `p` any row of other people in the bank, evenly.

    Why: if it does what RAF does, then retrieval is idle and other people's codes are all that matters.
    """

    name = "raf_random"

    def condition(self, recording: Recording) -> RandomConditioner:
        """All rows but the subject's."""
        self.nearest(recording)  # refuses a bank that does not fit
        return RandomConditioner(recording, self.bank, self.p)


class RandomConditioner(Conditioner):
    """Own expression or a random row of `offered` [M,d], the bank's rows of other people."""

    def __init__(self, recording: Recording, bank: ExpressionBank, p: float):
        super().__init__(recording)
        others = bank.subjects != self.subject
        self.offered, self._people = torch.from_numpy(bank.features[others]), len(np.unique(bank.subjects[others]))
        self.chance[self._usable] = p

    def _draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        other = replaced(self.chance[frames], generator)
        rows = torch.randint(len(self.offered), frames.shape, generator=generator, device=generator.device).cpu()
        return torch.where(other[:, None], self.offered[rows], self.expression[frames])

    def summary(self) -> dict[str, float | int]:
        """How many frames, rows and people there are."""
        return {**super().summary(), "distinct_rows": len(self.offered), "distinct_people": self._people}


def _in_memory(bank: ExpressionBank) -> ExpressionBank:
    """The bank as an ordinary one, whose features can be changed; RafError where it is too large for that."""
    return bank if type(bank) is ExpressionBank else bank.restrict()


def _on_rest_of(recording: Recording, bank: ExpressionBank) -> ExpressionBank:
    """The bank with everybody's rest exchanged for the recorded subject's."""
    return replace(bank, features=bank.features - _rests(bank) + neutral(recording.own, REST))


def _rests(bank: ExpressionBank) -> Float[np.ndarray, "N d"]:
    """For each row its person's neutral."""
    people, code = np.unique(bank.subjects, return_inverse=True)
    return np.stack([neutral(bank.features[bank.subjects == person], REST) for person in people])[code]
