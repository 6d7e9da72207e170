"""Why Table 1 is smaller here than in the paper: the experiments, unit by unit, on people of the studio.

Four hypotheses, each with experiments that would differ if it were true:

* **fit**: the paper's subject was fitted otherwise than bank and drivers (`crossing`, `drivers`);
* **bias**: the studio's identity bias has too few dimensions (`bias`);
* **sampling**: the paper's own set has all frames at 25 frames a second (`sampling`);
* **definitions**: N, KL's components, MMD or its square, and the size of the bank (`definitions`, and all metrics of
  `raflib.coverage.sensitivity` in every row).

A unit is one subject under one condition. Its rows depend on nothing but the unit and the tracks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Float
from tqdm import tqdm

from raflib.bank import ExpressionBank
from raflib.capture import HELD_OUT
from raflib.coverage import sensitivity, training_sets
from raflib.coverage.identity import between
from raflib.coverage.sensitivity import moved
from raflib.lab.banks import open_bank
from raflib.lab.protocol import BENCHMARK, EXTERNAL
from raflib.lab.table1_tracks import Moments, Tracks, even_moments, random_moments, tracks_of
from raflib.lab.table1_ways import CAPTURES, ONE_VIEW, OTHERS, WAYS, Way, fitted
from raflib.openbank.filming import names
from raflib.sources._tracked import evenly

REPEATS = 5
"""Random selections of the sets for each unit."""
SEEDS = 3
"""Random biases for each size and rank."""
SCORES = "arkit52"
FITTED = "open42"

Features = Mapping[str, Float[np.ndarray, "_ d"]]
Sets = tuple[Float[np.ndarray, "T d"], Features, ExpressionBank]
"""The subject's own frames, the drivers' by name, and the bank."""


@dataclass(frozen=True)
class Plan:
    """Whom the experiments film, and how much of them.

    Attributes:
        subjects: the subjects, who also drive each other.
        externals: the other drivers, of whom the held-out sequence is filmed.
        people: number of people of the bank, and each in turn as a further subject.
        dense: subjects who are also filmed by the frontal camera in all frames, 25 a second.
        own, free: frames of each training sequence and of the held-out one.
        rows: random frames of each person of the bank.
    """

    subjects: tuple[str, ...] = BENCHMARK
    externals: tuple[str, ...] = EXTERNAL
    people: int = 40
    dense: tuple[str, ...] = ("422", "443", "445")
    own: int = 10
    free: int = 40
    rows: int = 48

    @property
    def filmed(self) -> list[tuple[str, Callable[[], Moments], bool]]:
        """All recordings: person, their frames, and whether from several views."""
        found: list[tuple[str, Callable[[], Moments], bool]] = []
        found += [(name, partial(even_moments, name, self.own, self.free), True) for name in self.subjects]
        found += [(name, partial(even_moments, name, 0, self.free), True) for name in self.externals]
        found += [(name, partial(random_moments, name, self.rows), True) for name in names(self.people)]
        return found + [(name, partial(even_moments, name, None, 0), False) for name in self.dense]


TINY = Plan(("422", "443"), ("E01",), 3, (), 2, 12, 12)
"""A plan that takes two minutes, samples no dense set, and shows only that the rest runs."""


class Cast:
    """Tracks and features of everybody in a plan, computed when they are first asked for."""

    def __init__(self, plan: Plan, shipped: ExpressionBank | None = None):
        self.plan, self._shipped = plan, shipped
        self._features: dict[tuple[str, Way | None], Float[np.ndarray, "T d"]] = {}
        self._banks: dict[Way | None, ExpressionBank] = {}

    @cached_property
    def tracks(self) -> dict[str, Tracks]:
        """Tracks by person."""
        return self._filmed(True)

    @cached_property
    def dense(self) -> dict[str, Tracks]:
        """Tracks of all training frames of the frontal camera, by person."""
        return self._filmed(False)

    def _filmed(self, several_views: bool) -> dict[str, Tracks]:
        wanted = [(name, moments) for name, moments, several in self.plan.filmed if several == several_views]
        told = tqdm(wanted, "tracks" if several_views else "tracks of all frames", unit="person")
        return {name: tracks_of(name, moments(), several_views, progress=False) for name, moments in told}

    @cached_property
    def shipped(self) -> ExpressionBank:
        """The open bank."""
        return open_bank() if self._shipped is None else self._shipped

    @cached_property
    def spaces(self) -> list[str]:
        """The feature spaces of the open bank that are compared."""
        return [SCORES, *(tag for tag in self.shipped.spaces if tag == FITTED)]

    def features(self, name: str, way: Way | None) -> Float[np.ndarray, "T d"]:
        """Features of a person: MediaPipe's scores, or for a `way` the fitted model's coefficients."""
        if (name, way) not in self._features:
            tracks = self.tracks[name]
            self._features[name, way] = tracks.expression if way is None else fitted(tracks, way)
        return self._features[name, way]

    def own(self, name: str, way: Way | None) -> Float[np.ndarray, "T d"]:
        """Training frames of a person: of the people of the bank all frames that are not held out."""
        return self.features(name, way)[~self.tracks[name].free]

    def drivers(self, subject: str, way: Way | None) -> Features:
        """Held-out frames of everybody who drives this subject."""
        wanted = [name for name in (*self.plan.subjects, *self.plan.externals) if name != subject]
        return {name: self.features(name, way)[self.tracks[name].free] for name in wanted}

    def bank(self, way: Way | None) -> ExpressionBank:
        """The bank of the people that the plan films."""
        if way not in self._banks:
            people = {name: self.features(name, way) for name in names(self.plan.people)}
            self._banks[way] = bank_of(people, tag_of(way))
        return self._banks[way]


def tag_of(way: Way | None) -> str:
    """The feature space of a way."""
    return SCORES if way is None else FITTED


def bank_of(features: Features, tag: str) -> ExpressionBank:
    """A bank of these people's known features."""
    known = {name: rows[np.isfinite(rows).all(1)] for name, rows in features.items()}
    subjects = np.repeat(list(known), [len(rows) for rows in known.values()])
    frame = np.concatenate([np.arange(len(rows)) for rows in known.values()])
    return ExpressionBank(np.concatenate(list(known.values())), subjects, ["all"] * len(subjects), frame, tag)


@dataclass(frozen=True)
class Unit:
    """One subject under one condition: its name is unique, and `rows` computes it."""

    name: str
    rows: Callable[[], pd.DataFrame]


def units(cast: Cast) -> Iterator[Unit]:
    """All units of the experiments, in order."""
    yield from _shipped(cast)
    yield from _crossing(cast)
    yield from _bias(cast)
    yield from _sampling(cast)


def _unit(
    experiment: str,
    condition: str,
    subject: str,
    space: str,
    sets: Callable[[], Sets],
    n: int | None = None,
    seed: int = 0,
) -> Unit:
    """A unit that compares Vanilla and +RAF on what `sets` gives."""

    def rows() -> pd.DataFrame:
        own, drivers, bank = sets()
        chosen = training_sets(own, subject, drivers, bank, n=n, repeats=REPEATS, seed=seed)
        people = len(set(bank.people) - {subject})
        told = {"experiment": experiment, "condition": condition, "space": space, "people": people, "seed": seed}
        return sensitivity(chosen).assign(**told)

    return Unit(f"{experiment}: {condition}: {space}: {subject}: {n or 'all'}: {seed}", rows)


def _shipped(cast: Cast) -> Iterator[Unit]:
    """Five subjects and the people of the bank in turn, against the open bank, by its size and by N."""
    whole = len(cast.shipped.people)
    sizes = sorted({min(size, whole) for size in (10, 40, 100, whole)})
    for space in cast.spaces:
        for subject in cast.plan.subjects:
            own = int((~cast.tracks[subject].free).sum())
            for size in sizes:
                sets = partial(_against_shipped, cast, subject, space, size)
                yield _unit("definitions", f"bank of {size} people", subject, space, sets)
            for n in sorted({own // 8 * 2, own // 4 * 2} - {0}):
                sets = partial(_against_shipped, cast, subject, space, whole)
                yield _unit("definitions", f"N = {n}", subject, space, sets, n)
        for subject in names(cast.plan.people):
            sets = partial(_person_of_shipped, cast, subject, space)
            yield _unit("people", "the studio's people", subject, space, sets)


def _way_of(space: str) -> Way | None:
    """The way in which the open bank was fitted."""
    return None if space == SCORES else CAPTURES


def _against_shipped(cast: Cast, subject: str, space: str, size: int) -> Sets:
    bank = cast.shipped.in_space(space)
    some = np.random.default_rng(0).permutation(bank.people)[:size].tolist()
    way = _way_of(space)
    return cast.own(subject, way), cast.drivers(subject, way), bank.restrict(subjects=some)


def _person_of_shipped(cast: Cast, name: str, space: str) -> Sets:
    """A person of the open bank as the subject: their rows that are not held out, and the others as the bank."""
    bank = cast.shipped.in_space(space)
    own = bank.restrict(subjects=name)
    trained = own.features[np.asarray(own.sequence) != HELD_OUT]
    return trained, cast.drivers(name, _way_of(space)), bank


def _crossing(cast: Cast) -> Iterator[Unit]:
    """How the subject was fitted against how bank and drivers were, and the drivers alone."""
    subjects, people = cast.plan.subjects, names(cast.plan.people)
    for subject in (*subjects, *people):
        whose = "" if subject in subjects else " of people"
        scores = partial(_against, cast, subject, None, None, None)
        yield _unit(f"crossing{whose}", "MediaPipe's scores", subject, SCORES, scores)
        for own in WAYS if subject in subjects else OTHERS:
            for others in OTHERS:
                sets = partial(_against, cast, subject, own, others, others)
                yield _unit(f"crossing{whose}", f"{own.label} | {others.label}", subject, FITTED, sets)
        for own, others in ((OTHERS[0], OTHERS[2]), (OTHERS[2], OTHERS[0])):
            sets = partial(_against, cast, subject, own, others, own)
            yield _unit(f"drivers{whose}", f"{own.label} | {others.label}", subject, FITTED, sets)


def _against(cast: Cast, subject: str, own: Way | None, drivers: Way | None, bank: Way | None) -> Sets:
    """A subject against drivers and bank that the plan films, each fitted in its way."""
    return cast.own(subject, own), cast.drivers(subject, drivers), cast.bank(bank)


def _bias(cast: Cast) -> Iterator[Unit]:
    """Persons' means exchanged for random ones of the same size, in 1 to all dimensions; or the subject moved."""
    for space in (SCORES, FITTED):
        width = cast.features(cast.plan.subjects[0], _way_of(space)).shape[1]
        for subject, times, seed in product(cast.plan.subjects, (1, 2), range(SEEDS)):
            for rank in (1, 3, 10, width):
                sets = partial(_exchanged, cast, subject, space, times, rank, seed)
                yield _unit("bias", f"everybody × {times}, rank {rank}", subject, space, sets, seed=seed)
            sets = partial(_offset, cast, subject, space, times, seed)
            yield _unit("bias", f"subject × {times}", subject, space, sets, seed=seed)


def size_of_bias(cast: Cast, way: Way | None) -> float:
    """RMS distance of the persons' means to their mean, over the people of the bank."""
    return between([known(cast.features(name, way)) for name in names(cast.plan.people)])


def known(features: Float[np.ndarray, "T d"]) -> Float[np.ndarray, "_ d"]:
    """The rows without NaN."""
    return features[np.isfinite(features).all(1)]


def _exchanged(cast: Cast, subject: str, space: str, times: int, rank: int, seed: int) -> Sets:
    """Everybody with a random mean: normal in `rank` dimensions, `times` as large as the people's own means are."""
    way = _way_of(space)
    everybody = {name: cast.features(name, way) for name in cast.tracks}
    centred = {name: rows - np.nanmean(rows, axis=0) for name, rows in everybody.items()}
    shifted = moved(centred, times * size_of_bias(cast, way), rank, seed)
    drivers = {name: shifted[name][cast.tracks[name].free] for name in cast.drivers(subject, way)}
    people = {name: shifted[name] for name in names(cast.plan.people)}
    return shifted[subject][~cast.tracks[subject].free], drivers, bank_of(people, space)


def _offset(cast: Cast, subject: str, space: str, times: int, seed: int) -> Sets:
    """Only the subject moved, by a random offset in all dimensions."""
    way = _way_of(space)
    own = cast.own(subject, way)
    offset = moved({subject: own}, times * size_of_bias(cast, way), own.shape[1], seed)[subject]
    return offset, cast.drivers(subject, way), cast.bank(way)


def _sampling(cast: Cast) -> Iterator[Unit]:
    """Own sets of 5 to all frames of each sequence, 25 a second, and N of the sparse set from the dense frames."""
    for subject, space in product(cast.plan.dense, (SCORES, FITTED)):
        for per in (5, 10, 20, 40, None):
            sets = partial(_sampled, cast, subject, space, per)
            yield _unit("sampling", f"{per or 'all'} frames a sequence", subject, space, sets)
        counts = np.unique(cast.dense[subject].sequence, return_counts=True)[1]
        n = int(np.minimum(counts, 10).sum()) // 2 * 2
        sets = partial(_sampled, cast, subject, space, None)
        yield _unit("sampling", "N of 10 a sequence, from all frames", subject, space, sets, n)


def _sampled(cast: Cast, subject: str, space: str, per: int | None) -> Sets:
    """The frontal camera's frames, `per` of each sequence, against frames of the same camera."""
    tracks, way = cast.dense[subject], None if space == SCORES else ONE_VIEW
    features = tracks.expression if way is None else fitted(tracks, way)
    rows = [np.flatnonzero(tracks.sequence == name) for name in dict.fromkeys(tracks.sequence.tolist())]
    chosen = np.concatenate([part[evenly(len(part), per)] for part in rows])
    return features[chosen], cast.drivers(subject, way), cast.shipped if way is None else cast.bank(way)
