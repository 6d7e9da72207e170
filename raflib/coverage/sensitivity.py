"""How Table 1 depends on what the paper leaves open, and how far two ways of fitting the same frames lie apart.

`sensitivity` measures the same training sets by several definitions. `fit_gap` compares two feature sets of the same
frames, for example fitted to one camera and to four. `moved` adds an artificial identity bias of a given rank. Pure
functions on arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from jaxtyping import Float

from raflib.coverage.metrics import DensityRuler, KernelRuler, b2t
from raflib.coverage.pairs import nearest_distance
from raflib.coverage.table1 import TrainingSets
from raflib.errors import RafError, finite, whole

if TYPE_CHECKING:
    import pandas

COMPONENTS = (8, 16, 24, 30)
"""Numbers of PCA components with which KL is measured."""


def sensitivity(sets: TrainingSets, components: Iterable[SupportsIndex] = COMPONENTS) -> pandas.DataFrame:
    """Vanilla and +RAF by several definitions of the metrics, against all drivers: one row per definition.

    The metrics are `mmd` (the root), `mmd2` (its square), `kl8`, `kl16`, … (by the number of components) and `b2t`.
    Returns columns `subject`, `n`, `metric`, `vanilla`, `raf`: means over the repeats. `raflib.coverage.table` has
    intervals. Numbers of components beyond the width, or of n/2 and more, are left out: neighbours may repeat, so
    +RAF's set is sure of n/2 different vectors only. Raises RafError where the drivers' frames do not vary along as
    many axes.
    """
    import pandas as pd
    from threadpoolctl import threadpool_limits

    target = np.concatenate(sets.drivers).astype(np.float64)
    pool = np.asarray(sets.pool, np.float64)
    most = min(pool.shape[1], sets.n // 2 - 1)
    counts = [count for count in (whole("components", count, 1) for count in components) if count <= most]
    with threadpool_limits(1):
        kernel = KernelRuler.fit(target)
        scaled = kernel.scaled(pool)
        similarity = kernel.across(scaled)
        densities = {count: DensityRuler.fit(target, count) for count in counts}
        flat = {count: ruler.scaled(pool) for count, ruler in densities.items()}
        known = {count: ruler.across(flat[count]) for count, ruler in densities.items()}

        def measured(rows: np.ndarray) -> dict[str, float]:
            squared = max(kernel.squared(scaled[rows], similarity[rows]), 0.0)
            found = {"mmd": float(np.sqrt(squared)), "mmd2": squared}
            found |= {f"kl{c}": ruler.divergence(flat[c][rows], known[c][rows]) for c, ruler in densities.items()}
            return {**found, "b2t": b2t(pool[rows], target)}

        vanilla, raf = (pd.DataFrame(map(measured, draws)).mean() for draws in (sets.vanilla, sets.raf))
    values = pd.DataFrame({"vanilla": vanilla, "raf": raf}).rename_axis("metric").reset_index()
    values.insert(0, "subject", sets.subject)
    values.insert(1, "n", sets.n)
    return values


def fit_gap(
    first: Mapping[str, Float[np.ndarray, "_ d"]], second: Mapping[str, Float[np.ndarray, "_ d"]]
) -> pandas.DataFrame:
    """How far two feature sets of the same people's same frames lie apart: one row per person.

    Rows that are NaN in either are left out. Returns columns in feature units:

    * `gap`: mean distance between the two features of a frame;
    * `constant`: length of the mean difference, the part of the gap that is alike in all frames;
    * `spread`: root mean square distance of a frame of `first` to the person's mean;
    * `other`: mean distance of a frame of `first` to the nearest frame of another person in `first`.

    Raises RafError for other people or shapes, fewer than two people, and a person without a common frame.
    """
    import pandas as pd

    if set(first) != set(second) or len(first) < 2:
        raise RafError(
            f"fit_gap: {len(first)} and {len(second)} people, expected the same ones in both, and at least 2"
        )
    pairs = {}
    for name, features in first.items():
        one, two = np.asarray(features, np.float64), np.asarray(second[name], np.float64)
        if one.shape != two.shape or one.ndim != 2:
            raise RafError(
                f"fit_gap: features of {name} have shapes {one.shape} and {two.shape}, expected [T, d] twice"
            )
        known = np.isfinite(one).all(1) & np.isfinite(two).all(1)
        if not known.any():
            raise RafError(f"fit_gap: no frame of {name} has both features; leave this person out")
        pairs[name] = one[known], two[known]
    rows = []
    for name, (one, two) in pairs.items():
        others = np.concatenate([features for other, (features, _) in pairs.items() if other != name])
        apart, away = one - two, one - one.mean(0)
        rows.append(
            {
                "person": name,
                "gap": np.linalg.norm(apart, axis=1).mean(),
                "constant": np.linalg.norm(apart.mean(0)),
                "spread": np.sqrt((away**2).sum(1).mean()),
                "other": nearest_distance(one, others).mean(),
            }
        )
    return pd.DataFrame(rows)


def moved(
    people: Mapping[str, Float[np.ndarray, "_ d"]], size: float | int, rank: SupportsIndex, seed: SupportsIndex = 0
) -> dict[str, Float[np.ndarray, "_ d"]]:
    """The features of these people, each person moved by a random offset of RMS length `size` in `rank` dimensions.

    Offsets are normal in a random subspace, the same one for all people of a seed. A person's offset depends on the
    seed and the name only. Raises RafError for no people, a negative size, and a rank beyond the width.
    """
    if not people:
        raise RafError("moved: no people were given, expected features [T, d] of each person")
    width = np.shape(next(iter(people.values())))[1]
    size, rank = finite("moved: size", size, 0), whole("moved: rank", rank, 1, width)
    seed = whole("seed", seed, 0)
    axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, rank)))[0]
    result = {}
    for name, features in people.items():
        offset = np.random.default_rng([seed, *name.encode()]).normal(size=rank) * size / np.sqrt(rank)
        result[name] = np.asarray(features, np.float64) + axes @ offset
    return result
