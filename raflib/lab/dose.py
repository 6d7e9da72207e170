"""Doses: when does retrieval help? One thing about the training is varied at a time, and everything else stays.

A `World` is what an experiment knows: the subject, the drivers and the bank. A `Dose` is one value of one quantity that
may decide whether retrieval helps:

| quantity | values | what changes |
|---|---|---|
| `steps` | share of the training steps | how long the avatar is trained |
| `sequences` | number of training sequences | how much the subject's own recording shows |
| `bias` | length of the offsets (features' units) | every person's features move by an offset of their own |
| `p` | probability | how often RAF replaces a vector |
| `top_k` | number of neighbours | among how many RAF chooses |
| `half` | 0, 1 or 2 | the whole bank, or `half1` or `half2` of it (`raflib.lab.banks`) |

`changed` gives the world and the settings of a dose. The avatar of each dose is compared with the one of another method
at the same dose, except that `p`, `top_k` and `half` do not exist for methods without a bank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from raflib.bank import ExpressionBank
from raflib.capture import Capture
from raflib.config import TrainConfig
from raflib.coverage.sensitivity import moved
from raflib.errors import RafError, finite, whole
from raflib.lab.banks import bank_variant
from raflib.sampler import SAMPLERS, Sampler, sampler_from_name

USUAL: dict[str, float | int] = {"steps": 1.0, "sequences": 22, "bias": 0.0, "p": 0.5, "top_k": 1, "half": 0}
"""Every quantity with its value in the other tables."""
OF_RAF = ("p", "top_k", "half")
"""Quantities that only samplers with a bank have."""
COUNTS = {"sequences": 1, "top_k": 1, "half": 0}
"""Quantities that are whole numbers, with their smallest value."""
DOSES: dict[str, tuple[float | int, ...]] = {
    "steps": (0.5, 1.0, 3.0), "sequences": (4, 10, 22), "bias": (0.0, 0.4, 0.8, 1.2), "p": (0.25, 0.5, 0.75, 1.0),
    "top_k": (1, 5, 20, 100), "half": (0, 1, 2),
}  # fmt: skip
"""The values that `scripts/dose.py` tries."""


@dataclass(frozen=True)
class Dose:
    """One `value` of one `quantity`, both as in the table above. RafError for others."""

    quantity: str
    value: float | int

    def __post_init__(self) -> None:
        if self.quantity not in USUAL:
            raise RafError(f"dose: quantity is {self.quantity!r}, expected one of {', '.join(USUAL)}")
        if self.quantity in COUNTS:
            object.__setattr__(self, "value", whole(f"dose: {self.quantity}", self.value, COUNTS[self.quantity]))
            if self.quantity == "half" and self.value > 2:
                raise RafError(f"dose: half is {self.value}, expected 0 (the whole bank), 1 or 2")
        elif finite(f"dose: {self.quantity}", self.value, 0) > 1 and self.quantity == "p":
            raise RafError(f"dose: p is {self.value}, expected a probability")

    @property
    def usual(self) -> bool:
        """Whether this is the value of the other tables, so that nothing changes."""
        return self.value == USUAL[self.quantity]

    @property
    def name(self) -> str:
        """Its name, such as "bias-0.4"; "usual" where nothing changes."""
        return "usual" if self.usual else f"{self.quantity}-{self.value:g}"


NOTHING_CHANGED = Dose("steps", USUAL["steps"])
"""The dose of the other tables."""


def dose_named(name: str) -> Dose:
    """The dose with this name; `NOTHING_CHANGED` where it is the usual one. RafError for other texts."""
    if name == NOTHING_CHANGED.name:
        return NOTHING_CHANGED
    quantity, _, text = name.partition("-")
    try:
        value = float(text)
    except ValueError:
        raise RafError(f"dose: {name!r}, expected a quantity and its value, such as p-0.25") from None
    dose = Dose(quantity, int(value) if value.is_integer() else value)
    return NOTHING_CHANGED if dose.usual else dose


FRAME = ["subject", "seed", "driver", "sequence", "frame", "camera"]
"""Columns that name a frame of an avatar."""


@dataclass(frozen=True)
class World:
    """What an experiment knows: the subject's capture, the drivers' captures, and the bank of other people."""

    capture: Capture
    drivers: Sequence[Capture]
    bank: ExpressionBank


def changed(dose: Dose, world: World, config: TrainConfig, seed: int = 0) -> tuple[World, TrainConfig]:
    """The world and the training settings at this dose. `seed` chooses sequences and offsets.

    Raises RafError for more sequences than the capture has.
    """
    if dose.usual or dose.quantity in OF_RAF:
        return world, config
    if dose.quantity == "steps":
        usual = config.total_steps(int(world.capture.train.sum()))
        return world, replace(config, steps=max(1, round(usual * dose.value)))
    if dose.quantity == "sequences":
        return replace(world, capture=with_sequences(world.capture, int(dose.value), seed)), config
    return with_bias(world, dose.value, seed), config


def exists(dose: Dose, method: str) -> bool:
    """Whether the sampler called `method` has the quantity of this dose; the usual dose exists for all."""
    wanted = SAMPLERS[method]
    of_bank = dose.quantity == "half" and wanted.needs_bank()
    return dose.usual or dose.quantity not in OF_RAF or of_bank or dose.quantity in wanted.options()


def sampler_at(dose: Dose, method: str, bank: ExpressionBank) -> Sampler:
    """The sampler called `method` at this dose. RafError for a quantity that it does not have."""
    wanted = SAMPLERS[method]
    if not exists(dose, method):
        raise RafError(f"dose: {method} has no {dose.quantity}; choose a sampler with a bank, such as raf")
    options = {name: USUAL[name] for name in OF_RAF if name in wanted.options()}
    if dose.quantity in options:
        options[dose.quantity] = dose.value
    if dose.quantity == "half" and not dose.usual:
        bank = bank_variant(bank, f"half{dose.value}")
    return sampler_from_name(method, bank if wanted.needs_bank() else None, **options)


def with_sequences(capture: Capture, count: int, seed: int = 0) -> Capture:
    """The capture with `count` of its training sequences, those that a random order names first.

    Frames of the others count as not detected. More sequences contain the fewer ones of the same seed. Raises RafError
    for more than the capture has.
    """
    names = sorted(set(np.asarray(capture.sequence)[capture.train].astype(str)))
    if not 1 <= count <= len(names):
        raise RafError(f"capture {capture.subject}: {count} training sequences wanted, it has {len(names)}")
    kept = np.random.default_rng([seed, *capture.subject.encode()]).permutation(names)[:count]
    known = np.isin(np.asarray(capture.sequence).astype(str), kept)
    return replace(capture, detected=capture.detected & (known | ~capture.train))


def with_bias(world: World, size: float, seed: int = 0) -> World:
    """The world as a worse tracker would see it: each person's features are moved by a random offset of their own.

    `size` is the RMS length of the offsets, in all dimensions of the feature space (`raflib.coverage.moved`). The
    subject's, the drivers' and every bank person's features move; images and the truth stay.
    """
    width = world.capture.expression.shape[1]
    known, place = np.unique(np.asarray(world.bank.subjects).astype(str), return_inverse=True)
    everybody = {*known.tolist(), world.capture.subject, *(driver.subject for driver in world.drivers)}
    still = np.zeros((1, width))
    offsets = {
        name: rows[0].astype(np.float32)
        for name, rows in moved(dict.fromkeys(everybody, still), size, width, seed).items()
    }

    def seen(capture: Capture) -> Capture:
        return replace(capture, expression=capture.expression + offsets[capture.subject])

    of_rows = np.stack([offsets[name] for name in known.tolist()])[place]
    bank = replace(world.bank, features=world.bank.features + of_rows)
    return World(seen(world.capture), [seen(driver) for driver in world.drivers], bank)


def frame_gains(
    rows: pd.DataFrame, metrics: Sequence[str], label: str = "raf", baseline: str = "vanilla"
) -> pd.DataFrame:
    """Gain of `label` over `baseline` on each frame that both have at the same dose.

    Args:
        rows: result rows of one protocol, with the columns `dose` (`Dose.name`), label and `FRAME`.
        metrics: the columns to compare.

    Quantities of `OF_RAF` are compared with the baseline at its usual dose. Returns the columns dose, `FRAME` and
    `metrics`.
    """
    columns = ["dose", *FRAME, *metrics]
    left, right = (rows.loc[rows["label"] == name, columns] for name in (label, baseline))
    of_raf = [name for name in left["dose"].unique() if dose_named(name).quantity in OF_RAF]
    left = left.assign(at=left["dose"].mask(left["dose"].isin(of_raf), NOTHING_CHANGED.name))
    return _less(left, right.rename(columns={"dose": "at"}), ["at", *FRAME], metrics)


def changes(gains: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """How much larger the gain of each frame of `frame_gains` is at each dose than at the usual one."""
    usual = gains["dose"] == NOTHING_CHANGED.name
    return _less(gains[~usual], gains.loc[usual, [*FRAME, *metrics]], FRAME, metrics)


def _less(left: pd.DataFrame, right: pd.DataFrame, on: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """`metrics` of `left` less those of `right` where they agree in `on`: dose, `FRAME` and `metrics`."""
    both = left.merge(right, on=list(on), suffixes=("", " less"))
    for name in metrics:
        both[name] -= both[f"{name} less"]
    return both[["dose", *FRAME, *metrics]]


def mean_gains(gains: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Means of `frame_gains` by quantity, value, subject and seed, in the column `gain`.

    The usual dose stands among the values of each quantity.
    """
    per_avatar = gains.groupby(["dose", "subject", "seed"])[metric].mean().rename("gain").reset_index()
    doses = [dose_named(name) for name in per_avatar["dose"].unique() if name != NOTHING_CHANGED.name]
    doses += [Dose(name, USUAL[name]) for name in dict.fromkeys(dose.quantity for dose in doses)]
    parts = [
        per_avatar[per_avatar["dose"] == dose.name].assign(quantity=dose.quantity, value=float(dose.value))
        for dose in doses
    ]
    columns = ["quantity", "value", "subject", "seed", "gain"]
    return pd.concat([pd.DataFrame(columns=columns), *parts])[columns].sort_values(columns, ignore_index=True)
