"""What every sampler has: checked frames (`Recording`), a bound form (`Conditioner`), and options (`Sampler`).

A sampler is a small frozen dataclass of options. `sampler.bind(expression, subject)` checks a subject's frames, looks
up everything that can be looked up beforehand, and returns a conditioner. A new sampler is one subclass of `Sampler`
(or of `FromBank`) with a `name` and a method `condition`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar, SupportsFloat, SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raflib.bank import ExpressionBank
from raflib.bank.columns import check_space
from raflib.errors import RafError, as_float32, finite, numbers, whole
from raflib.registry import enrol

ENROLLED: dict[str, type[Sampler]] = {}
"""Every imported sampler class by its name. `raflib.sampler.SAMPLERS` imports all modules and is this dictionary."""


class Recording:
    """One subject's frames as a sampler sees them: the checked arguments of `Sampler.bind`.

    Raises RafError for other shapes, rows that are partly NaN or infinite, no detected frame at all, and a subject that
    is not an id.

    Attributes:
        expression: [T,d] float32; rows of NaN where nothing may be learned from (no face, or held out).
        detected: [T] boolean; False in those rows.
        subject, feature_space, pose, spaces: as given to `Sampler.bind`.
    """

    def __init__(
        self,
        expression: Float[np.ndarray, "T d"],
        subject: str,
        feature_space: str | None = None,
        pose: Float[np.ndarray, "T 6"] | None = None,
        spaces: Mapping[str, np.ndarray] | None = None,
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
        self.spaces = dict(spaces or {})

    def in_space(self, tag: str) -> Recording:
        """The same frames with `expression` of the further space `tag`.

        Raises RafError where these features have other shapes or a detected frame does not have them.
        """
        features = as_float32(f"bind: {tag} features", self.spaces[tag])
        if features.ndim != 2 or len(features) != len(self.detected):
            raise RafError(f"bind: {tag} features of shape {features.shape}, expected [{len(self.detected)}, d]")
        if len(lost := np.flatnonzero(self.detected & ~np.isfinite(features).all(1))):
            raise RafError(
                f"bind: frame {lost[0]} of subject {self.subject!r} has no {tag} features, and {len(lost)} detected "
                "frames do not; mark them as not detected, or search in another space"
            )
        hidden = np.where(self.detected[:, None], features, np.float32(np.nan))
        return Recording(hidden, self.subject, tag, self.pose)

    @property
    def own(self) -> Float[np.ndarray, "F d"]:
        """The expressions of the F detected frames."""
        return self.expression[self.detected]


class Conditioner:
    """A sampler bound to one subject: `conditioner(frame_index [B], generator)` gives the expressions [B,d] of a step.

    This base class returns each frame's own expression. Subclasses override `_sample`. All randomness comes from
    `generator`, so saving the generator's state is enough to resume exactly.

    Attributes:
        expression: [T,d] the subject's own; NaN where no face was tracked.
        detected: [T] whether a face was tracked.
        chance: [T] probability that a step gives this frame another expression than its own.
    """

    def __init__(self, recording: Recording):
        self.subject, self.detected = recording.subject, recording.detected
        self.expression = torch.from_numpy(recording.expression.copy())
        self.chance = torch.zeros(len(self.detected))
        self._usable = torch.from_numpy(self.detected)

    def __call__(
        self, frame_index: Tensor | np.ndarray | Sequence[int], generator: torch.Generator
    ) -> Float[Tensor, "B d"]:
        """Expressions for the frames `frame_index` [B], or for the frames that a boolean mask [T] marks.

        The result is on the device of `frame_index`. Raises RafError for a frame outside the recording, a frame without
        a tracked face, and anything but whole numbers.
        """
        frames = self._frames(frame_index)
        inside = (frames >= 0) & (frames < len(self._usable))
        usable = self._usable[frames.clamp(0, len(self._usable) - 1)] & inside
        if not usable.all():
            frame = int(frames[~usable][0])
            raise RafError(
                f"frame {frame} of subject {self.subject!r} is outside 0..{len(self._usable) - 1} or shows no tracked "
                "face; sample from the detected frames"
            )
        sampled = self._sample(frames, generator)
        return sampled.to(frame_index.device) if isinstance(frame_index, Tensor) else sampled

    def summary(self) -> dict[str, float | int]:
        """The number of detected `frames`, and `expected_p`, the mean of `chance` over them."""
        expected = float(self.chance[self._usable].double().mean())
        return {"frames": int(self.detected.sum()), "expected_p": expected}

    def _sample(self, frames: Int[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, "B d"]:
        """The expressions of a step, for frames that were checked."""
        return self.expression[frames]

    def _frames(self, index: Tensor | np.ndarray | Sequence[int]) -> Int[Tensor, " B"]:
        """Frame numbers, from a list of them or from a mask of all frames."""
        what = f"frames of subject {self.subject!r}"
        listed = numbers(what, index.cpu() if isinstance(index, Tensor) else index, "iub")
        if listed.dtype == bool and listed.shape == self.detected.shape:
            listed = np.flatnonzero(listed)
        if listed.ndim != 1 or listed.dtype == bool:
            raise RafError(f"{what} have shape {list(listed.shape)}, expected [B], or a mask [{len(self.detected)}]")
        return torch.from_numpy(listed.astype(np.int64))


def replaced(chance: Float[Tensor, " B"], generator: torch.Generator) -> Bool[Tensor, " B"]:
    """For each frame of a step whether its expression is replaced; True with the probability `chance`."""
    return torch.rand(len(chance), generator=generator, device=generator.device).cpu() < chance


@dataclass(frozen=True)
class Sampler:
    """Base of all samplers: a frozen dataclass of options with a `name`, its key in `raflib.sampler.SAMPLERS`.

    Subclasses write `condition`. Training checks the option `bank`, if there is one, for leaks. Raises RafError when
    two different classes take one name.
    """

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        if "name" in cls.__dict__:
            enrol(cls.name, cls, ENROLLED)

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Names of the options, without the bank."""
        return tuple(option.name for option in fields(cls) if option.init and option.name != "bank")

    @classmethod
    def needs_bank(cls) -> bool:
        """Whether the sampler takes a bank."""
        return any(option.name == "bank" for option in fields(cls))

    def bind(
        self,
        expression: Float[np.ndarray, "T d"],
        subject: str,
        feature_space: str | None = None,
        pose: Float[np.ndarray, "T 6"] | None = None,
        spaces: Mapping[str, np.ndarray] | None = None,
    ) -> Conditioner:
        """Return a conditioner for one subject's frames, after looking up everything that does not change by step.

        Raises RafError as `Recording` does. With a bank, also raises it for another width, for another feature space
        than `feature_space` (if given), and for too few rows of other people.

        Args:
            expression: the subject's features; rows of NaN where nothing may be learned from (no face, or held out).
            subject: the subject's id; rows of this person in a bank are never used.
            feature_space: the name of the features' space, such as "arkit52"; None is not checked.
            pose: the head's axis-angle (radians), then translation; only some samplers need it.
            spaces: the subject's features [T,d2] in further spaces, by tag; samplers with a `search` need them.
        """
        return self.condition(Recording(expression, subject, feature_space, pose, spaces))

    def condition(self, recording: Recording) -> Conditioner:
        """What `bind` returns, for frames that were checked."""
        raise NotImplementedError

    def describe(self) -> dict[str, str | float | int]:
        """What a run must record to be repeated: the name and all options, a bank by its checksum."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        return {"method": self.name, **{key: getattr(value, "checksum", value) for key, value in values.items()}}


@dataclass(frozen=True)
class FromBank(Sampler):
    """Base of samplers that replace expressions: the `bank`, and the probability `p` of a replacement.

    Raises RafError for anything but an ExpressionBank and for p outside [0, 1].
    """

    bank: ExpressionBank
    p: SupportsFloat = 0.5

    def __post_init__(self) -> None:
        title, what = type(self).__name__, type(self.bank).__name__
        if not isinstance(self.bank, ExpressionBank):
            raise RafError(f"{title}: bank is a {what}, expected an ExpressionBank; load or build one")
        object.__setattr__(self, "p", finite(f"{title}: p", self.p, 0, 1))

    def nearest(
        self, recording: Recording, k: SupportsIndex = 1
    ) -> tuple[Float[np.ndarray, "F k"], Int[np.ndarray, "F k"]]:
        """(distances, bank rows) of each detected frame's k nearest neighbours among people other than the subject."""
        bank, seen = self.searched(recording)
        return bank.search(seen.own, k, exclude=seen.subject, feature_space=seen.feature_space)

    def searched(self, recording: Recording) -> tuple[ExpressionBank, Recording]:
        """The bank and the recording with the features by which neighbours are searched; here, as they are."""
        return self.bank, recording

    def _check_count(self, option: str) -> None:
        """Raise RafError unless an option is a whole number of at least 1."""
        object.__setattr__(self, option, whole(f"{type(self).__name__}: {option}", getattr(self, option), 1))


@dataclass(frozen=True)
class Retrieving(FromBank):
    """Base of samplers whose neighbours are searched in the feature space `search`.

    The vectors that condition a step are the bank's own `features` in any case. "" searches in these. Another space is
    one of the bank's `spaces`, and of the `spaces` that `bind` is given. `bind` raises RafError where one of the two
    does not have it.
    """

    search: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.search, str):
            raise RafError(f"{type(self).__name__}: search is {self.search!r}, expected a name such as 'open42' or ''")

    def searched(self, recording: Recording) -> tuple[ExpressionBank, Recording]:
        """The bank and the recording with the features of the space `search`.

        Raises RafError where bank or recording do not have them, and for another width or feature space of the bank's
        own features and the recording's.
        """
        elsewhere = self.search not in ("", self.bank.feature_space)
        own = recording.feature_space or self.bank.feature_space
        if elsewhere and (self.search not in self.bank.spaces or self.search not in recording.spaces):
            raise RafError(
                f"{self.name}: search is {self.search!r}, the bank holds "
                f"{', '.join([self.bank.feature_space, *self.bank.spaces])} features and the capture of subject "
                f"{recording.subject!r} {', '.join([own, *recording.spaces])}; set `search` to a space of both, or add "
                "it to both (with_space)"
            )
        held = self.bank.feature_space, self.bank.features.shape[1]
        check_space(held, (own, recording.expression.shape[1]), "the capture")
        return (
            (self.bank.in_space(self.search), recording.in_space(self.search)) if elsewhere else (self.bank, recording)
        )

    def describe(self) -> dict[str, str | float | int]:
        """What a run must record to be repeated; `search` only where it is set."""
        told = super().describe()
        return told if self.search else {key: value for key, value in told.items() if key != "search"}
