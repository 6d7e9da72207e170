"""How far apart people are in a feature space, and how far one person's frames are from each other.

Pure functions on arrays of tracked features, the same for real people and the studio's. Every person counts alike,
however many frames they have, and all distances are plain L2 in the features' own unit. Distances to the *nearest*
frame grow when frames are left out, so they compare only between recordings sampled alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from raflib.capture import HELD_OUT
from raflib.coverage.pairs import nearest_distance
from raflib.coverage.spread import spacing
from raflib.errors import RafError

if TYPE_CHECKING:
    import pandas

CALM = 0.05  # share of a person's frames, those of smallest norm, whose mean is called the neutral face
REST = 0.1
"""The share to take where features are moved by an estimate from few frames. Of 30 studio people, 60 frames each, the
tenth came nearest to what the tracker reads off the person at rest: 0.51 (a twentieth 0.53, three tenths 0.53; the mean
of all frames 0.64, and the estimate was nearer than that for 22 of them)."""
MOVES = 0.02  # a true action whose standard deviation is smaller does not move enough to be correlated with anything


def between(people: Sequence[Float[np.ndarray, "_ d"]]) -> float:
    """Root mean square distance of the persons' mean features to the mean of those means."""
    means = np.array([features.mean(0) for features in _checked(people)])
    return _rms(means - means.mean(0))


def within(people: Sequence[Float[np.ndarray, "_ d"]]) -> float:
    """Root mean square distance of a frame to its person's mean: squares are averaged in a person, then over people."""
    squares = [((features - features.mean(0)) ** 2).sum(1).mean() for features in _checked(people)]
    return float(np.sqrt(np.mean(squares)))


def neutral(features: Float[np.ndarray, "T d"], share: float = CALM) -> Float[np.ndarray, "d"]:
    """The mean of the `share` of frames (at least one) with the smallest norm: this person's face at rest."""
    (features,) = _checked([features])
    calmest = np.argsort(np.linalg.norm(features, axis=1), kind="stable")[: max(1, round(share * len(features)))]
    return features[calmest].mean(0)


def neutral_distance(people: Sequence[Float[np.ndarray, "_ d"]]) -> float:
    """Mean distance between the neutral faces of two different people."""
    from scipy.spatial.distance import pdist

    _several(people)
    return float(pdist(np.array([neutral(features) for features in people])).mean())


def spread(people: Sequence[Float[np.ndarray, "_ d"]]) -> dict[str, float]:
    """`between`, `within` and `neutral` (distance of neutral faces) of these people."""
    return {"between": between(people), "within": within(people), "neutral": neutral_distance(people)}


def deviations(people: Sequence[Float[np.ndarray, "_ d"]]) -> dict[str, Float[np.ndarray, "d"]]:
    """The same a dimension: standard deviation of persons' means (`between`) and root mean variance (`within`).

    For expression features their squares add up to those of `between` and `within`; for head angles they are degrees.
    """
    people = _checked(people)
    means = np.array([features.mean(0) for features in people])
    return {"between": means.std(0), "within": np.sqrt(np.mean([features.var(0) for features in people], axis=0))}


def sequence_distances(features: Float[np.ndarray, "T d"], sequence: Iterable[str]) -> dict[str, float]:
    """One person's mean nearest distances: of training sequences to the others, and of the held-out one to them all.

    `all` averages `raflib.coverage.spacing` over the training frames, `SEN`, `EMO` and `EXP` over the sequences whose
    names begin so; `FREE` is the distance of its frames to the nearest training frame. Kinds without frames are left
    out.
    """
    sequence = np.asarray(sequence).astype(str)
    train = sequence != HELD_OUT
    distance = spacing(np.asarray(features)[train], sequence[train])
    result = {"all": float(distance.mean())}
    for kind in ("SEN", "EMO", "EXP"):
        chosen = np.char.startswith(sequence[train], kind)
        if chosen.any():
            result[kind] = float(distance[chosen].mean())
    if not train.all():
        result[HELD_OUT] = float(nearest_distance(np.asarray(features)[~train], np.asarray(features)[train]).mean())
    return result


def from_other_people(people: Mapping[str, Float[np.ndarray, "_ d"]]) -> dict[str, float]:
    """Per person, the mean distance of everybody else's frames to the nearest of this person's; others count alike."""
    _several(list(people.values()))
    return {
        name: float(
            np.mean([nearest_distance(theirs, mine).mean() for other, theirs in people.items() if other != name])
        )
        for name, mine in people.items()
    }


def agreement(
    tracked: Mapping[str, Float[np.ndarray, "_ d"]], true: Mapping[str, Float[np.ndarray, "_ d"]], names: Sequence[str]
) -> pandas.DataFrame:
    """Correlation of tracked features with the true actions, a row an action that moves, the best followed first.

    Both hold the same people with the same frames; column i of either is the action `names[i]`. `pooled` is over all
    people's frames together, `within` the median over people of their own correlation, so that what the tracker reads
    into a face at rest lowers the first and not the second. A channel of the tracker that never moves has 0.
    """
    import pandas

    if set(tracked) != set(true) or any(np.shape(tracked[name]) != np.shape(true[name]) for name in tracked):
        raise RafError("agreement: tracked and true differ in people or frames; give both for the same frames")
    seen, done = np.concatenate(list(tracked.values())), np.concatenate([true[name] for name in tracked])
    rows = {}
    for i, name in enumerate(names):
        movers = [who for who in tracked if np.std(true[who][:, i]) > MOVES]
        if movers:
            own = [_correlation(tracked[who][:, i], true[who][:, i]) for who in movers]
            rows[name] = {"pooled": _correlation(seen[:, i], done[:, i]), "within": float(np.median(own))}
    table = pandas.DataFrame.from_dict(rows, orient="index", columns=["pooled", "within"])
    return table.sort_values("within", ascending=False, kind="stable")


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if np.std(x) < 1e-3 or np.std(y) < 1e-6:  # a dead channel: its noise would correlate with something by chance
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _rms(offsets: np.ndarray) -> float:
    return float(np.sqrt((offsets**2).sum(1).mean()))


def _several(people: Sequence[np.ndarray]) -> None:
    if len(people) < 2:
        raise RafError(f"people: features of {len(people)} persons, expected at least 2 to compare")


def _checked(people: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`people` as float64; RafError for no people, no frames, another number of dimensions, or NaN."""
    people = [np.asarray(features, np.float64) for features in people]
    for number, features in enumerate(people):
        if features.ndim != 2 or not len(features) or features.shape[1] != people[0].shape[-1]:
            raise RafError(f"people: person {number} has features of shape {features.shape}, expected [T,d], T > 0")
        if not np.isfinite(features).all():
            raise RafError(f"people: features of person {number} hold NaN or infinity; use detected frames only")
    if not people:
        raise RafError("people: nobody was given, expected features [T,d] a person")
    return people
