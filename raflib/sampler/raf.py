"""Retrieval-Augmented Faces (paper §4): which expression vector conditions the avatar at each training step.

Training renders an avatar from an expression vector and compares it with the image of that vector's frame. RAF
sometimes replaces the vector by that of *another person* with nearly the same expression, and keeps the image. The
avatar therefore learns to understand other people's vectors. The paper compares three samplers:

    Vanilla      the frame's own expression, always
    RandomNoise  the frame's own expression plus Gaussian noise (the paper's baseline, Appendix 0.C)
    RAF          with probability p one of the frame's nearest neighbours in a bank of other people, else its own

`sampler.bind(expression, subject)` searches the bank once; a training step then costs one index. This is RAF in a
training loop of your own:

>>> import torch
>>> from raflib.bank import ExpressionBank
>>> from raflib.sampler import RAF
>>> bank = ExpressionBank.load("data/bank_open.npz")
>>> condition = RAF(bank, p=0.5).bind(expression, subject="422")     # expression [T,d]: your tracker's, as in the bank
>>> generator = torch.Generator().manual_seed(0)
>>> for step in range(100):
...     frame = torch.randint(len(expression), (8,), generator=generator)
...     loss = (model(condition(frame, generator)) - images[frame]).abs().mean()  # the image stays the frame's own
...     optimizer.zero_grad(), loss.backward(), optimizer.step()

Only numpy, torch and the bank are needed: no renderer, no tracker, no studio. `raflib.sampler.base` holds what all
samplers share. `raflib.sampler.beyond` holds samplers that are not in the paper, and makes any sampler from its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import SupportsFloat, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from raflib.bank import ExpressionBank
from raflib.errors import finite
from raflib.sampler.base import Conditioner, Recording, Retrieving, Sampler, replaced

PAPER_METHODS = ("vanilla", "noise", "raf")
"""Names of the three methods that the paper compares (§5)."""


@dataclass(frozen=True)
class Vanilla(Sampler):
    """No augmentation: the original training (L_self of §4)."""

    name = "vanilla"

    def condition(self, recording: Recording) -> Conditioner:
        """Each frame's own expression."""
        return Conditioner(recording)


@dataclass(frozen=True)
class RandomNoise(Sampler):
    """The paper's baseline: Gaussian noise of standard deviation `sigma` on each coefficient (Appendix 0.C).

    The paper uses 0.08 and tried 0.5, for coefficients of a face model. In another feature space the same sigma is
    another amount of noise. Raises RafError for a negative or infinite sigma.
    """

    sigma: SupportsFloat = 0.08
    name = "noise"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", finite("RandomNoise: sigma", self.sigma, 0))

    def condition(self, recording: Recording) -> NoiseConditioner:
        """Each frame's own expression with new noise in every step."""
        return NoiseConditioner(recording, float(self.sigma))


class NoiseConditioner(Conditioner):
    """The frame's own expression + σ·N(0, 1), with new noise in every step."""

    def __init__(self, recording: Recording, sigma: float):
        super().__init__(recording)
        self.sigma = sigma
        self.chance[:] = float(sigma > 0)

    def _sample(self, frames: Int[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, "B d"]:
        own = self.expression[frames]
        noise = torch.randn(own.shape, generator=generator, device=generator.device).to(own.device)
        return own + self.sigma * noise


@dataclass(frozen=True)
class RAF(Retrieving):
    """Retrieval-Augmented Faces.

    With probability `p` (0.5 in §4.3) a frame's expression e_t is replaced by its nearest neighbour in the bank among
    other people (§4.1):

        ê_t = argmin over bank rows e_i of ‖e_i − e_t‖₂  subject to ID(i) ≠ ID(t)

    With `top_k` > 1 it is replaced by one of the k nearest, each equally likely (ablation of §5: 5). In expectation
    over steps the loss is (1 − p)·L_self + p·L_RAF. With `search` neighbours are the nearest in another feature space,
    in which both the bank and the subject have features, and ê_t is still a row of the bank's `features`. Raises
    RafError for p outside [0, 1] or top_k < 1.
    """

    top_k: SupportsIndex = 1
    name = "raf"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_count("top_k")

    def condition(self, recording: Recording) -> RAFConditioner:
        """Search the neighbours of all frames; the bank's rows of the subject are never among them."""
        return RAFConditioner(recording, self.bank, float(self.p), self.nearest(recording, self.top_k))


class RAFConditioner(Conditioner):
    """The frame's own expression or a neighbour's.

    Args:
        recording: the subject's frames, F of them with a face.
        bank: where the neighbours are from.
        p: one probability of a replacement, or one for each of the F frames.
        found: the neighbours of those frames: distances [F,k] and bank rows [F,k], as `ExpressionBank.search` gives.
        offered: the vectors [N,d] that replace a frame's own, one per bank row; the bank's features by default.

    Attributes:
        neighbours: [T,k] bank rows, nearest first; -1 where no face was tracked.
        distances: [T,k] their distances in the search; NaN where no face was tracked.
        own_rows: how many rows of the bank are the subject's own. None of them is ever a neighbour.
    """

    def __init__(
        self,
        recording: Recording,
        bank: ExpressionBank,
        p: float | Float[np.ndarray, " F"],
        found: tuple[Float[np.ndarray, "F k"], Int[np.ndarray, "F k"]],
        offered: Float[np.ndarray, "N d"] | None = None,
    ):
        super().__init__(recording)
        self.bank, self.top_k = bank, found[1].shape[1]
        self.own_rows = int(np.sum(bank.subjects == self.subject))
        self.neighbours = np.full((len(self.detected), self.top_k), -1, dtype=np.int64)
        self.distances = np.full((len(self.detected), self.top_k), np.nan)
        self.distances[self.detected], self.neighbours[self.detected] = found
        self.chance[self._usable] = torch.as_tensor(p, dtype=torch.float32)
        features = bank.features if offered is None else np.asarray(offered, dtype=np.float32)
        # Choice 0 of a frame is its own expression, choices 1..k its neighbours': a step is one index into this.
        self._choices = torch.cat([self.expression[:, None], torch.from_numpy(features[self.neighbours])], dim=1)

    def _sample(self, frames: Int[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, "B d"]:
        choice = replaced(self.chance[frames], generator).long()
        if self.top_k > 1:
            rank = torch.randint(1, self.top_k + 1, choice.shape, generator=generator, device=generator.device)
            choice *= rank.cpu()
        return self._choices[frames, choice]

    def summary(self) -> dict[str, float | int]:
        """Distances of the first neighbours, and how many bank rows and people are among all neighbours."""
        rows = self.neighbours[self.detected]
        return {
            **super().summary(),
            "mean_distance": float(self.distances[self.detected, 0].mean()),
            "p95_distance": float(np.quantile(self.distances[self.detected, 0], 0.95)),
            "distinct_rows": len(np.unique(rows)),
            "distinct_people": len(np.unique(self.bank.subjects[rows])),
            "own_rows_excluded": self.own_rows,
        }
