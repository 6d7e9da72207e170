"""Samplers beyond the paper: other ways to choose what conditions a training step, and controls.

`sampler_from_name` makes every sampler. `raflib.sampler.corrected` holds those that correct features first. A new
sampler is one class: a frozen dataclass on `FromBank` (or `Sampler`) with `name` and `condition`, here or in a module
that this one imports; notebooks and `make beyond` then know it. Each docstring says why the idea might help and what
would refute it; `notebooks/09_beyond` shows the results. Rows of the subject and held-out frames are never used.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from math import lgamma
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from raflib.bank import ExpressionBank, nearest_people
from raflib.errors import RafError
from raflib.sampler import corrected  # noqa: F401  (its classes enter SAMPLERS)
from raflib.sampler.base import ENROLLED as SAMPLERS
from raflib.sampler.base import Conditioner, FromBank, Recording, Retrieving, Sampler, replaced
from raflib.sampler.raf import RAF, RAFConditioner

__all__ = ["SAMPLERS", "sampler_from_name"]

TRUE_ACTIONS = "true52"
"""Tag of the studio's 52 true actions as a feature space."""


def sampler_from_name(method: str, bank: ExpressionBank | None = None, **options: float | int | str) -> Sampler:
    """The sampler called `method` in `SAMPLERS`, with its `options`: sigma of "noise", p, top_k and search of "raf".

    Samplers that need no bank ignore `bank`. Raises RafError for another name, an option that the sampler does not
    have, a missing bank, or a value that the sampler refuses.
    """
    if method not in SAMPLERS:
        raise RafError(f"method is {method!r}, expected one of {', '.join(SAMPLERS)}")
    allowed = SAMPLERS[method].options()
    for option in options:
        if option not in allowed:
            raise RafError(f"method {method!r} has no option {option!r}, expected {', '.join(allowed) or 'none'}")
    made: Callable[..., Sampler] = SAMPLERS[method]
    if not SAMPLERS[method].needs_bank():
        return made(**options)
    if bank is None:
        raise RafError(f"method {method!r} needs an expression bank; load one with ExpressionBank.load(path)")
    return made(bank, **options)


@dataclass(frozen=True)
class PeopleRAF(Retrieving):
    """One of the nearest `people` *people*, each equally likely, by that person's nearest row.

    Why: the k nearest rows of a frame often belong to one person, so RAF's top_k adds little variety.
    Refuted if avatars are no better than with RAF's top_k = k: then it does not matter who the neighbour is.
    """

    people: SupportsIndex = 5
    name = "raf_people"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_count("people")

    def condition(self, recording: Recording) -> RAFConditioner:
        """Search each frame's nearest people."""
        self.nearest(recording)  # refuses a bank that does not fit
        others = len(set(self.bank.people) - {recording.subject})
        if others < operator.index(self.people):
            raise RafError(
                f"raf_people: people is {self.people}, the bank has {others} without {recording.subject!r}; lower it"
            )
        bank, seen = self.searched(recording)
        found = nearest_people(bank, seen.own, self.people, seen.subject)
        return RAFConditioner(recording, self.bank, float(self.p), found)


@dataclass(frozen=True)
class InterpolatedRAF(RAF):
    """A point between the frame's own expression and its neighbour's: own + u · (neighbour − own), u ~ U(0, 1).

    Why: RAF shows only the two ends. A network trained on the points between them is smooth where test features fall.
    Refuted if it is no better than RAF at equal displacement.
    """

    name = "raf_interpolated"

    def condition(self, recording: Recording) -> InterpolatingConditioner:
        """RAF's neighbours, with a point between sampled in each step."""
        return InterpolatingConditioner(recording, self.bank, float(self.p), self.nearest(recording, self.top_k))


class InterpolatingConditioner(RAFConditioner):
    """The frame's own expression, or a random point between it and a neighbour's."""

    def _sample(self, frames: Int[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, "B d"]:
        share = torch.rand((len(frames), 1), generator=generator, device=generator.device).cpu()
        return torch.lerp(self.expression[frames], super()._sample(frames, generator), share)


@dataclass(frozen=True)
class AdaptiveRAF(RAF):
    """RAF that uses near neighbours more often: frame t's probability is p_t = p^(d_t / m).

    d_t is the distance of the frame's nearest neighbour and m the median of d over the subject's frames. So p_t is 1 at
    distance 0, `p` at the median, and smaller beyond.

    Why: a far neighbour is another expression, and the step then teaches a wrong image.
    Refuted if leaving out just the near ones, or RAF at the same expected p (`summary`), does as well.
    """

    name = "raf_adaptive"

    def condition(self, recording: Recording) -> RAFConditioner:
        """RAF's neighbours with a probability for each frame."""
        distances, rows = self.nearest(recording, self.top_k)
        scale = max(float(np.median(distances[:, 0])), np.finfo(np.float64).tiny)
        return RAFConditioner(recording, self.bank, float(self.p) ** (distances[:, 0] / scale), (distances, rows))


@dataclass(frozen=True)
class OracleRAF(RAF):
    """An upper bound, for the studio only: RAF whose neighbours are the nearest in true actions.

    Why: the difference to RAF is what perfect retrieval would bring. Real people's true actions are not known.
    Refuted if it is no better than RAF: then wrong neighbours are not what limits RAF. Bank and subject need the space
    "true52", which `raflib.openbank` adds.
    """

    search: str = field(default=TRUE_ACTIONS, init=False)
    name = "raf_oracle"

    def describe(self) -> dict[str, str | float | int]:
        """What a run must record to be repeated, and what the sampler is."""
        return {**super().describe(), "label": "upper bound: neighbours by the studio's true actions"}


@dataclass(frozen=True)
class MatchedNoise(Retrieving):
    """A control: with probability `p` Gaussian noise whose expected norm for frame t is its neighbour's distance.

    The distance is between the vectors that RAF exchanges, wherever the neighbour was searched.
    Why: it moves every frame as far as RAF does, without other people's features. If it does what RAF does, then RAF is
    regularisation by displacement, and the bank only gives the distance.
    """

    name = "noise_matched"

    def condition(self, recording: Recording) -> MatchedConditioner:
        """Compute each frame's amount of noise."""
        distances, rows = self.nearest(recording)
        if self.search:
            distances = np.linalg.norm(self.bank.features[rows] - recording.own[:, None].astype(np.float64), axis=2)
        return MatchedConditioner(recording, float(self.p), distances[:, 0])


class MatchedConditioner(Conditioner):
    """The frame's own expression, or that with noise of expected norm `distance` [F].

    `sigma` [T] is the noise's standard deviation of each coefficient.
    """

    def __init__(self, recording: Recording, p: float, distance: Float[np.ndarray, " F"]):
        super().__init__(recording)
        width = self.expression.shape[1]
        mean_norm = np.sqrt(2) * np.exp(lgamma((width + 1) / 2) - lgamma(width / 2))  # of N(0, 1) in `width` dimensions
        self.sigma = torch.full((len(self.detected),), torch.nan)
        self.sigma[self._usable] = torch.as_tensor(distance / mean_norm, dtype=torch.float32)
        self.chance[self._usable] = p

    def _sample(self, frames: Int[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, "B d"]:
        amount = self.sigma[frames] * replaced(self.chance[frames], generator)
        own = self.expression[frames]
        noise = torch.randn(own.shape, generator=generator, device=generator.device).cpu()
        return own + amount[:, None] * noise


@dataclass(frozen=True)
class RandomRAF(FromBank):
    """A control: with probability `p` a random row of other people in the bank, each equally likely.

    Why: if it does what RAF does, then retrieval does not matter and any vector of other people helps.
    """

    name = "raf_random"

    def condition(self, recording: Recording) -> RandomConditioner:
        """Take all rows but the subject's."""
        self.nearest(recording)  # refuses a bank that does not fit
        return RandomConditioner(recording, self.bank, float(self.p))


class RandomConditioner(Conditioner):
    """The frame's own expression or a random row of `offered` [M,d], the bank's rows of other people."""

    def __init__(self, recording: Recording, bank: ExpressionBank, p: float):
        super().__init__(recording)
        others = bank.subjects != self.subject
        self.offered, self._people = torch.from_numpy(bank.features[others]), len(np.unique(bank.subjects[others]))
        self.chance[self._usable] = p

    def _sample(self, frames: Int[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, "B d"]:
        other = replaced(self.chance[frames], generator)
        rows = torch.randint(len(self.offered), frames.shape, generator=generator, device=generator.device).cpu()
        return torch.where(other[:, None], self.offered[rows], self.expression[frames])

    def summary(self) -> dict[str, float | int]:
        """The base class's numbers, and how many rows and people there are to choose from."""
        return {**super().summary(), "distinct_rows": len(self.offered), "distinct_people": self._people}
