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

Only numpy, torch and the bank are needed: no renderer, no tracker, no studio. Samplers that go beyond the paper are in
`raflib.sampler.beyond`, which also makes any of them from its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import ClassVar, SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raflib.bank import ExpressionBank
from raflib.errors import RafError, as_float32, finite, numbers, whole
from raflib.registry import enrol

PAPER_METHODS = ("vanilla", "noise", "raf")
"""Names of the three methods that the paper compares (§5)."""
_SAMPLERS: dict[str, type[Sampler]] = {}
"""Every sampler by its name, once the module that defines it was imported; `raflib.sampler.beyond` imports them all."""


class Recording:
    """One subject's frames as a sampler sees them: what `bind` was given, checked.

    `expression` [T,d] has NaN rows where nothing may be learned from (no face, or held out): `detected` [T] is False
    there. `own` [F,d] are the other rows. Raises RafError for other shapes, rows that are partly NaN or infinite, no
    detected frame at all, and a subject that is not an id.
    """

    def __init__(
        self,
        expression: Float[np.ndarray, "T d"],
        subject: str,
        feature_space: str | None = None,
        pose: Float[np.ndarray, "T 6"] | None = None,
    ):
        expression = as_float32("bind: expression", expression)
        if expression.ndim != 2 or 0 in expression.shape:
            raise RafError(f"bind: expression of shape {expression.shape}, expected [T, d] with frames in it")
        if not isinstance(subject, str) or not subject:
            raise RafError(
                f"bind: subject is {subject!r}, expected an id string such as '074'; it tells whom to exclude"
            )
        self.detected = ~np.isnan(expression).all(1)
        if broken := np.flatnonzero(self.detected & ~np.isfinite(expression).all(1)).tolist():
            raise RafError(
                f"bind: expression of frame {broken[0]} is partly NaN or infinite; mark the whole row NaN instead"
            )
        if not self.detected.any():
            raise RafError(f"bind: no frame of subject {subject!r} has a tracked face; track the capture again")
        self.expression, self.subject, self.feature_space, self.pose = expression, subject, feature_space, pose

    @property
    def own(self) -> Float[np.ndarray, "F d"]:
        """The expressions of the detected frames."""
        return self.expression[self.detected]


class Conditioner:
    """A sampler bound to one subject: `conditioner(frame_index [B], generator)` gives the expressions [B,d] of a step.

    `frame_index` may be a mask of all frames as well; then those it marks are meant. Subclasses draw in `_draw`.
    Asking for a frame outside the recording, or one without a tracked face (NaN in `expression`), or with anything but
    whole numbers, raises RafError. Vectors come back on the device of `frame_index`; all randomness is `generator`'s,
    so saving its state is enough to resume exactly.

    Attributes:
        expression: [T,d] the subject's own; NaN where no face was tracked.
        detected: [T] whether a face was tracked.
        chance: [T] probability that a step of this frame sees something other than its own expression.
    """

    def __init__(self, recording: Recording):
        self.subject, self.detected = recording.subject, recording.detected
        self.expression = torch.from_numpy(recording.expression.copy())
        self.chance = torch.zeros(len(self.detected))
        self._usable = torch.from_numpy(self.detected)

    def __call__(
        self, frame_index: Tensor | np.ndarray | Sequence[int], generator: torch.Generator
    ) -> Float[Tensor, "B d"]:
        frames = self._frames(frame_index)
        inside = (frames >= 0) & (frames < len(self._usable))
        usable = self._usable[frames.clamp(0, len(self._usable) - 1)] & inside
        if not usable.all():
            frame = int(frames[~usable][0])
            raise RafError(
                f"frame {frame} of subject {self.subject!r} is outside 0..{len(self._usable) - 1} or shows no tracked "
                "face; sample from the detected frames"
            )
        drawn = self._draw(frames, generator)
        return drawn.to(frame_index.device) if isinstance(frame_index, Tensor) else drawn

    def _frames(self, index: Tensor | np.ndarray | Sequence[int]) -> Int[Tensor, " B"]:
        """Frame numbers, of a list of them or of a mask of all frames."""
        what = f"frames of subject {self.subject!r}"
        listed = numbers(what, index.cpu() if isinstance(index, Tensor) else index, "iub")
        if listed.dtype == bool and listed.shape == self.detected.shape:
            listed = np.flatnonzero(listed)
        if listed.ndim != 1 or listed.dtype == bool:
            raise RafError(f"{what} have shape {list(listed.shape)}, expected [B], or a mask [{len(self.detected)}]")
        return torch.from_numpy(listed.astype(np.int64))

    def _draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        return self.expression[frames]

    def summary(self) -> dict[str, float | int]:
        """How many frames there are, and how often a step of them sees something other than its own expression."""
        expected = float(self.chance[self._usable].double().mean())
        return {"frames": int(self.detected.sum()), "expected_p": expected}


class NoiseConditioner(Conditioner):
    """Own expression + σ·N(0, 1), drawn afresh in every step."""

    def __init__(self, recording: Recording, sigma: float | int):
        super().__init__(recording)
        self.sigma = sigma
        self.chance[:] = float(sigma > 0)

    def _draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        own = self.expression[frames]
        noise = torch.randn(own.shape, generator=generator, device=generator.device).to(own.device)
        return own + self.sigma * noise


class RAFConditioner(Conditioner):
    """Own expression or a neighbour's.

    `p` is one probability or one for each of the F frames with a face, `found` what `ExpressionBank.search` gave for
    those frames (distances [F,k], rows [F,k]). What a neighbour offers is its row of `offered` [N,d], by default of the
    bank's features.

    Attributes:
        neighbours: [T,k] bank rows, nearest first; -1 where no face was tracked.
        distances: [T,k] how far they were in the search; NaN where no face was tracked.
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
        self.own_rows = int((bank.subjects == self.subject).sum())
        self.neighbours = np.full((len(self.detected), self.top_k), -1, dtype=np.int64)
        self.distances = np.full((len(self.detected), self.top_k), np.nan)
        self.distances[self.detected], self.neighbours[self.detected] = found
        self.chance[self._usable] = torch.as_tensor(p, dtype=torch.float32)
        features = bank.features if offered is None else np.asarray(offered, dtype=np.float32)
        # Choice 0 of a frame is its own expression, choices 1..k its neighbours': a step is one index into this.
        self._choices = torch.cat([self.expression[:, None], torch.from_numpy(features[self.neighbours])], dim=1)

    def _draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        choice = replaced(self.chance[frames], generator).long()
        if self.top_k > 1:
            drawn = torch.randint(1, self.top_k + 1, choice.shape, generator=generator, device=generator.device)
            choice *= drawn.cpu()
        return self._choices[frames, choice]

    def summary(self) -> dict[str, float | int]:
        """What was retrieved: distances of the first neighbours, how many bank rows and people are in use."""
        rows = self.neighbours[self.detected]
        return {
            **super().summary(),
            "mean_distance": float(self.distances[self.detected, 0].mean()),
            "p95_distance": float(np.quantile(self.distances[self.detected, 0], 0.95)),
            "distinct_rows": len(np.unique(rows)),
            "distinct_people": len(np.unique(self.bank.subjects[rows])),
            "own_rows_excluded": self.own_rows,
        }


def replaced(chance: Float[Tensor, " B"], generator: torch.Generator) -> Bool[Tensor, " B"]:
    """For each frame of a step whether its expression is replaced, with the probability `chance`."""
    return torch.rand(len(chance), generator=generator, device=generator.device).cpu() < chance


class Sampler:
    """What every sampler is: a frozen dataclass of its options with a `name`, its key in `raflib.sampler.SAMPLERS`.

    Subclasses write `condition`. A `bank` among the options is what training checks for leaks. Raises RafError when two
    different classes take one name.
    """

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        if "name" in cls.__dict__:
            enrol(cls, _SAMPLERS)

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Names of its options, less the bank."""
        return tuple(option.name for option in fields(cls) if option.name != "bank")

    @classmethod
    def needs_bank(cls) -> bool:
        """Whether it takes a bank."""
        return any(option.name == "bank" for option in fields(cls))

    def bind(
        self,
        expression: Float[np.ndarray, "T d"],
        subject: str,
        feature_space: str | None = None,
        pose: Float[np.ndarray, "T 6"] | None = None,
    ) -> Conditioner:
        """A conditioner for one subject's frames, with all that can be looked up beforehand looked up.

        `expression` has NaN rows where nothing may be learned from (no face, or held out). `pose` is the head's
        (axis-angle in radians, then translation); only some samplers need it. Raises RafError as `Recording` does;
        where there is a bank, also for one of another width or, if `feature_space` is given, of another feature space,
        or with too few rows of other people.
        """
        return self.condition(Recording(expression, subject, feature_space, pose))

    def condition(self, recording: Recording) -> Conditioner:
        """What `bind` returns, for frames that were checked."""
        raise NotImplementedError

    def describe(self) -> dict[str, str | float | int]:
        """What a run must record to be repeated: the name and all options, a bank by its checksum."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        return {"method": self.name, **{key: getattr(value, "checksum", value) for key, value in values.items()}}


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

    The paper uses 0.08 and tried 0.5, for features whose average norm is near 0.08; in another feature space the same
    σ is another amount of noise. Raises RafError for a negative or infinite sigma.
    """

    sigma: Real = 0.08
    name = "noise"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", finite("RandomNoise: sigma", self.sigma, 0))

    def condition(self, recording: Recording) -> NoiseConditioner:
        """Each frame's own expression with fresh noise in every step."""
        return NoiseConditioner(recording, self.sigma)


@dataclass(frozen=True)
class FromBank(Sampler):
    """What samplers that replace expressions have in common: the `bank` and the probability `p` of a replacement.

    Raises RafError for anything but an ExpressionBank and for p outside [0, 1].
    """

    bank: ExpressionBank
    p: Real = 0.5

    def __post_init__(self) -> None:
        title, what = type(self).__name__, type(self.bank).__name__
        if not isinstance(self.bank, ExpressionBank):
            raise RafError(f"{title}: bank is a {what}, expected an ExpressionBank; load or build one")
        object.__setattr__(self, "p", finite(f"{title}: p", self.p, 0, 1))

    def nearest(
        self, recording: Recording, k: SupportsIndex = 1
    ) -> tuple[Float[np.ndarray, "F k"], Int[np.ndarray, "F k"]]:
        """Distances and bank rows of each detected frame's k nearest neighbours among people other than the subject."""
        where = {"exclude": recording.subject, "feature_space": recording.feature_space}
        return self.bank.search(recording.own, k=k, **where)

    def _check_count(self, option: str) -> None:
        """RafError unless an option is a whole number of at least 1."""
        object.__setattr__(self, option, whole(f"{type(self).__name__}: {option}", getattr(self, option), 1))


@dataclass(frozen=True)
class RAF(FromBank):
    """Retrieval-Augmented Faces.

    With probability `p` (§4.3, 0.5) a frame's expression e_t is replaced by ê_t = argmin over the bank of ‖e_i − e_t‖₂
    subject to ID(i) ≠ ID(t) (§4.1); with `top_k` > 1 by one of the k nearest, uniformly (ablation of §5: 5). In
    expectation over steps the loss is (1 − p)·L_self + p·L_RAF. Raises RafError for p outside [0, 1] or top_k < 1.
    """

    top_k: SupportsIndex = 1
    name = "raf"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_count("top_k")

    def condition(self, recording: Recording) -> RAFConditioner:
        """With the subject's neighbours looked up; rows of the subject in the bank are never among them."""
        return RAFConditioner(recording, self.bank, self.p, self.nearest(recording, self.top_k))
