"""How far apart people are in a feature space, and how far one person's frames are from each other.

Pure functions on arrays of tracked features, the same for real people and the studio's. Every person has the same
weight, whatever their number of frames. All distances are L2 in the features' own unit. Distances to the *nearest*
frame grow when frames are left out, so compare them only between recordings that were sampled in the same way.
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

CALM = 0.05  # share of a person's frames, those of smallest norm, whose mean is the neutral feature
REST = 0.1
"""The share to use where few frames are known and features are moved by the estimate.

For 30 studio people with 60 frames each, the share of 0.1 gave the smallest distance to the tracked feature of the true
neutral face: 0.51 (0.53 for shares of 0.05 and 0.3). The mean of all frames is at 0.64, and farther for 22 of the 30.
"""
MOVES = 0.02  # a true action whose standard deviation is smaller does not move enough to be correlated with anything


def between(people: Sequence[Float[np.ndarray, "_ d"]]) -> float:
    """Root mean square distance of the persons' mean features to the mean of those means."""
    means = np.array([features.mean(0) for features in _checked(people)])
    return _rms(means - means.mean(0))


def within(people: Sequence[Float[np.ndarray, "_ d"]]) -> float:
    """Root mean square distance of a frame to its person's mean, averaged within each person, then over people."""
    squares = [((features - features.mean(0)) ** 2).sum(1).mean() for features in _checked(people)]
    return float(np.sqrt(np.mean(squares)))


def neutral(features: Float[np.ndarray, "T d"], share: float = CALM) -> Float[np.ndarray, "d"]:
    """This person's neutral feature: the mean of the `share` of frames (at least one) with the smallest norm."""
    (features,) = _checked([features])
    calmest = np.argsort(np.linalg.norm(features, axis=1), kind="stable")[: max(1, round(share * len(features)))]
    return features[calmest].mean(0)


def neutral_distance(people: Sequence[Float[np.ndarray, "_ d"]]) -> float:
    """Mean distance between the neutral features of two different people."""
    from scipy.spatial.distance import pdist

    _several(people)
    return float(pdist(np.array([neutral(features) for features in people])).mean())


def spread(people: Sequence[Float[np.ndarray, "_ d"]]) -> dict[str, float]:
    """`between`, `within` and `neutral` (`neutral_distance`) of these people."""
    return {"between": between(people), "within": within(people), "neutral": neutral_distance(people)}


def deviations(people: Sequence[Float[np.ndarray, "_ d"]]) -> dict[str, Float[np.ndarray, "d"]]:
    """Per dimension, the standard deviation of persons' means (`between`) and the root mean variance (`within`).

    Their squares add up to the squares of the functions `between` and `within`. Units are those of the features.
    """
    people = _checked(people)
    means = np.array([features.mean(0) for features in people])
    return {"between": means.std(0), "within": np.sqrt(np.mean([features.var(0) for features in people], axis=0))}


def sequence_distances(features: Float[np.ndarray, "T d"], sequence: Iterable[str]) -> dict[str, float]:
    """One person's mean nearest distances: of training sequences to the others, and of the held-out one to them all.

    `all` averages `raflib.coverage.spacing` over the training frames. `SEN`, `EMO` and `EXP` average it over sequences
    with these prefixes. `FREE` is the mean distance of its frames to the nearest training frame. Kinds without frames
    are left out.
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
    """Per person, the mean distance from others' frames to the nearest of this person's, averaged over the others."""
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
    """Correlation of tracked features with the true actions: one row per action that moves, the highest first.

    Both arguments hold the same people with the same frames, and column i of either is the action `names[i]`. `pooled`
    is over all people's frames together; `within` is the median over people of their own correlation. A person's
    constant offset therefore lowers `pooled` only. A tracked feature that never moves has correlation 0.
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


def _correlation(x: Float[np.ndarray, " T"], y: Float[np.ndarray, " T"]) -> float:
    """Pearson's correlation; 0 where either hardly varies."""
    if np.std(x) < 1e-3 or np.std(y) < 1e-6:  # a dead channel: its noise would correlate with something by chance
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _rms(offsets: Float[np.ndarray, "N d"]) -> float:
    """Root mean square length of vectors."""
    return float(np.sqrt((offsets**2).sum(1).mean()))


def _several(people: Sequence[Float[np.ndarray, "_ d"]]) -> None:
    """Raise RafError for fewer than two people."""
    if len(people) < 2:
        raise RafError(f"people: features of {len(people)} persons, expected at least 2 to compare")


def _checked(people: Sequence[Float[np.ndarray, "_ d"]]) -> list[Float[np.ndarray, "_ d"]]:
    """`people` as float64; RafError for no people, no frames, another number of dimensions, or NaN."""
    people = [np.asarray(features, np.float64) for features in people]
    for number, features in enumerate(people):
        if features.ndim != 2 or not len(features) or features.shape[1] != people[0].shape[-1]:
            raise RafError(f"people: person {number} has features of shape {features.shape}, expected [T,d], T > 0")
        if not np.isfinite(features).all():
            raise RafError(f"people: features of person {number} hold NaN or infinity; use detected frames only")
    if not people:
        raise RafError("people: nobody was given, expected features [T,d] of each person")
    return people
