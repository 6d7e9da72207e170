"""RAF itself: which expression vector conditions the avatar at each training step.

Training shows the avatar a frame and an expression vector and asks for that frame's picture. RAF (paper §4) sometimes
swaps the vector for that of *somebody else* who makes nearly the same face, and keeps the picture. Three samplers:

    Vanilla      the frame's own expression, always
    RandomNoise  the frame's own expression plus Gaussian noise (the paper's baseline, Appendix 0.C)
    RAF          with probability p one of the frame's nearest neighbours in the bank among other people, else its own

`sampler.bind(expression, subject)` looks everything up once and gives a conditioner; a step then costs one index. RAF
in somebody else's training loop, whole:

>>> import torch
>>> from raflib.bank import ExpressionBank
>>> from raflib.sampler import RAF
>>> bank = ExpressionBank.load("data/bank_arkit52.npz")
>>> condition = RAF(bank, p=0.5).bind(expression, subject="422")     # expression [T,d]: your tracker's, as in the bank
>>> generator = torch.Generator().manual_seed(0)
>>> for step in range(100):
...     frame = torch.randint(len(expression), (8,), generator=generator)
...     loss = (model(condition(frame, generator)) - pictures[frame]).abs().mean()  # the picture stays the frame's own
...     optimizer.zero_grad(), loss.backward(), optimizer.step()

Only numpy, torch and the bank are needed: no renderer, no tracker, no studio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from raflib.bank import ExpressionBank
from raflib.errors import RafError

METHODS = ("vanilla", "noise", "raf")


class Conditioner:
    """A sampler bound to one subject: `conditioner(frame_index [B], generator)` gives the expressions [B,d] of a step.

    Subclasses draw in `_draw`. Asking for a frame outside the recording, or one without a tracked face (NaN in
    `expression`), raises RafError. Vectors come back on the device of `frame_index`; all randomness is `generator`'s,
    so saving its state is enough to resume exactly.
    """

    def __init__(self, expression: Float[np.ndarray, "T d"], subject: str):
        expression = np.asarray(expression, dtype=np.float32)
        if expression.ndim != 2 or 0 in expression.shape:
            raise RafError(f"bind: expression of shape {expression.shape}, expected [T, d] with frames in it")
        if not isinstance(subject, str) or not subject:
            raise RafError(
                f"bind: subject is {subject!r}, expected an id string such as '074'; it tells whom to exclude"
            )
        self.subject = subject
        self.detected = ~np.isnan(expression).all(1)
        if broken := np.flatnonzero(self.detected & ~np.isfinite(expression).all(1)).tolist():
            raise RafError(
                f"bind: expression of frame {broken[0]} is partly NaN or infinite; mark the whole row NaN instead"
            )
        if not self.detected.any():
            raise RafError(f"bind: no frame of subject {subject!r} has a tracked face; track the capture again")
        self.expression = torch.from_numpy(expression.copy())
        self._usable = torch.from_numpy(self.detected)

    def __call__(self, frame_index: Int[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, "B d"]:
        frames = frame_index.to("cpu", torch.int64)
        inside = (frames >= 0) & (frames < len(self._usable))
        usable = self._usable[frames.clamp(0, len(self._usable) - 1)] & inside
        if not usable.all():
            frame = int(frames[~usable][0])
            raise RafError(
                f"frame {frame} of subject {self.subject!r} is outside 0..{len(self._usable) - 1} or shows no tracked "
                "face; sample from the detected frames"
            )
        return self._draw(frames, generator).to(frame_index.device)

    def _draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        return self.expression[frames]


class NoiseConditioner(Conditioner):
    """Own expression + σ·N(0, 1), drawn afresh in every step."""

    def __init__(self, expression: Float[np.ndarray, "T d"], subject: str, sigma: float | int):
        super().__init__(expression, subject)
        self.sigma = sigma

    def _draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        own = self.expression[frames]
        noise = torch.randn(own.shape, generator=generator, device=generator.device).to(own.device)
        return own + self.sigma * noise


class RAFConditioner(Conditioner):
    """Own expression or a neighbour's.

    Attributes:
        neighbours: [T,k] bank rows, nearest first; -1 where no face was tracked.
        distances: [T,k] their L2 distances; NaN where no face was tracked.
        own_rows: how many rows of the bank are the subject's own. None of them is ever a neighbour.
    """

    def __init__(
        self,
        expression: Float[np.ndarray, "T d"],
        subject: str,
        bank: ExpressionBank,
        p: float | int,
        top_k: int,
        feature_space: str | None,
    ):
        super().__init__(expression, subject)
        self.bank, self.p, self.top_k = bank, p, top_k
        self.own_rows = int((bank.subjects == subject).sum())
        self.neighbours = np.full((len(self.detected), top_k), -1, dtype=np.int64)
        self.distances = np.full((len(self.detected), top_k), np.nan)
        queries = self.expression.numpy()[self.detected]
        found = bank.search(queries, k=top_k, exclude=subject, feature_space=feature_space)
        self.distances[self.detected], self.neighbours[self.detected] = found
        # Choice 0 of a frame is its own expression, choices 1..k its neighbours': a step is one index into this.
        self._choices = torch.cat([self.expression[:, None], torch.from_numpy(bank.features[self.neighbours])], dim=1)

    def _draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        choice = (torch.rand(len(frames), generator=generator, device=generator.device) < self.p).long()
        if self.top_k > 1:
            choice *= torch.randint(1, self.top_k + 1, choice.shape, generator=generator, device=generator.device)
        return self._choices[frames, choice.cpu()]

    def summary(self) -> dict[str, float | int]:
        """What was retrieved: L2 distances of the first neighbours, how many bank rows and people are in use."""
        rows = self.neighbours[self.detected]
        return {
            "frames": len(rows),
            "mean_distance": float(self.distances[self.detected, 0].mean()),
            "p95_distance": float(np.quantile(self.distances[self.detected, 0], 0.95)),
            "distinct_rows": len(np.unique(rows)),
            "distinct_people": len(np.unique(self.bank.subjects[rows])),
            "own_rows_excluded": self.own_rows,
        }


@dataclass(frozen=True)
class Vanilla:
    """No augmentation: the original training (L_self of §4)."""

    name = "vanilla"

    def bind(self, expression: Float[np.ndarray, "T d"], subject: str, feature_space: str | None = None) -> Conditioner:
        """A conditioner that gives each frame its own expression. Raises RafError as `Conditioner` does."""
        return Conditioner(expression, subject)

    def describe(self) -> dict[str, str | float | int]:
        """What a run must record to be repeated."""
        return {"method": self.name}


@dataclass(frozen=True)
class RandomNoise:
    """The paper's baseline: Gaussian noise of standard deviation `sigma` on each coefficient (Appendix 0.C).

    The paper uses 0.08 and tried 0.5, for features whose average norm is near 0.08; in another feature space the same
    σ is another amount of noise. Raises RafError for a negative or infinite sigma.
    """

    sigma: float | int = 0.08
    name = "noise"

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise RafError(f"RandomNoise: sigma is {self.sigma!r}, expected a finite number of at least 0")

    def bind(
        self, expression: Float[np.ndarray, "T d"], subject: str, feature_space: str | None = None
    ) -> NoiseConditioner:
        """A conditioner that adds fresh noise in every step. Raises RafError as `Conditioner` does."""
        return NoiseConditioner(expression, subject, self.sigma)

    def describe(self) -> dict[str, str | float | int]:
        """What a run must record to be repeated."""
        return {"method": self.name, "sigma": self.sigma}


@dataclass(frozen=True)
class RAF:
    """Retrieval-Augmented Faces.

    With probability `p` (§4.3, 0.5) a frame's expression e_t is replaced by ê_t = argmin over the bank of ‖e_i − e_t‖₂
    subject to ID(i) ≠ ID(t) (§4.1); with `top_k` > 1 by one of the k nearest, uniformly (ablation of §5: 5). In
    expectation over steps the loss is (1 − p)·L_self + p·L_RAF. Raises RafError for p outside [0, 1] or top_k < 1.
    """

    bank: ExpressionBank
    p: float | int = 0.5
    top_k: int = 1
    name = "raf"

    def __post_init__(self) -> None:
        if not isinstance(self.bank, ExpressionBank):
            raise RafError(f"RAF: bank is a {type(self.bank).__name__}, expected an ExpressionBank; load or build one")
        if not 0 <= self.p <= 1:
            raise RafError(f"RAF: p is {self.p!r}, expected a probability from 0 to 1")
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 1:
            raise RafError(f"RAF: top_k is {self.top_k!r}, expected a whole number of at least 1")

    def bind(
        self, expression: Float[np.ndarray, "T d"], subject: str, feature_space: str | None = None
    ) -> RAFConditioner:
        """A conditioner with the subject's neighbours looked up; rows of `subject` in the bank are never among them.

        Raises RafError as `Conditioner` does, for a bank of another width or, if `feature_space` is given, of another
        feature space, and for fewer than `top_k` rows of other people.
        """
        return RAFConditioner(expression, subject, self.bank, self.p, self.top_k, feature_space)

    def describe(self) -> dict[str, str | float | int]:
        """What a run must record to be repeated."""
        return {"method": self.name, "p": self.p, "top_k": self.top_k, "bank": self.bank.checksum}


Sampler = Vanilla | RandomNoise | RAF


def sampler_from_name(method: str, bank: ExpressionBank | None = None, **options: float | int) -> Sampler:
    """The sampler called "vanilla", "noise" or "raf", as notebooks name them; `options` are its own (sigma; p, top_k).

    Raises RafError for another name, an option the sampler does not have, "raf" without a bank, or a bank with another.
    """
    allowed = {"vanilla": (), "noise": ("sigma",), "raf": ("p", "top_k")}
    if method not in allowed:
        raise RafError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    for option in options:
        if option not in allowed[method]:
            raise RafError(
                f"method {method!r} has no option {option!r}, expected {', '.join(allowed[method]) or 'none'}"
            )
    if method == "raf":
        if bank is None:
            raise RafError("method 'raf' needs an expression bank; load one with ExpressionBank.load(path)")
        return RAF(bank, **options)
    return RandomNoise(**options) if method == "noise" else Vanilla()
