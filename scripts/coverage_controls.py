"""Is it the retrieval that changes Table 1? Neighbours against random rows and against noise of the same length.

    python scripts/coverage_controls.py [--subjects 388 422 …] [--profile demo]

For each subject, half of the training vectors get a partner: their neighbour in `arkit52` or `open42`, a random row of
another person, or themselves with noise as long as the distance to the neighbour in `open42`. Printed are the changes
of MMD, KL and B2T against the same number of own vectors, in percent, and the mean distance to the partner.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from raflib import RAF, coverage
from raflib.bank import ExpressionBank
from raflib.config import PROFILES
from raflib.coverage import TrainingSets
from raflib.coverage.intervals import ratio
from raflib.lab.protocol import BENCHMARK
from raflib.lab.recordings import Recordings
from raflib.sampler.compare import sets_of

SPACE = "open42"
"""The space of the second search."""


def with_partners(sets: TrainingSets, partners: Float[np.ndarray, "N d"]) -> TrainingSets:
    """`sets` with other vectors in place of the neighbours of its N own vectors."""
    return replace(sets, pool=np.concatenate([sets.pool[: len(partners)], partners]).astype(sets.pool.dtype))


def conditions(sets: dict[str, TrainingSets], bank: ExpressionBank, subject: str, seed: int) -> dict[str, TrainingSets]:
    """All conditions by name, from the sets of both searches."""
    rng, near = np.random.default_rng(seed), sets[SPACE]
    own, found = np.split(near.pool, 2)
    others = np.flatnonzero(bank.subjects != subject)
    directions = rng.normal(size=own.shape)
    directions *= np.linalg.norm(found - own, axis=1, keepdims=True) / np.linalg.norm(directions, axis=1, keepdims=True)
    return {
        **{f"neighbours in {space}": one for space, one in sets.items()},
        "random rows": with_partners(near, bank.features[rng.choice(others, len(own))]),
        "noise of the same length": with_partners(near, own + directions),
    }


def changes(tables: pd.DataFrame) -> pd.DataFrame:
    """Rows of `coverage.table` with a column `condition` → changes of the average over subjects, with intervals."""
    records = []
    for (condition, metric), part in tables.groupby(["condition", "metric"], sort=False):
        values = part.pivot(index="subject", columns="method", values="value")
        change, low, high = (100 * x for x in ratio(values["vanilla"].to_numpy(), values["raf"].to_numpy()))
        records.append({"condition": condition, "metric": metric, "change": f"{change:+.1f} [{low:+.1f}, {high:+.1f}]"})
    return pd.DataFrame(records).pivot(index="condition", columns="metric", values="change")


def main() -> None:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=list(BENCHMARK))
    parser.add_argument("--profile", default="demo", choices=PROFILES)
    parser.add_argument("--repeats", type=int, default=10, help="random selections of the sets")
    chosen = parser.parse_args()
    recordings, tables, distances = Recordings(search=SPACE, profile=chosen.profile), [], []
    for subject in chosen.subjects:
        bank, capture = recordings.open_bank(subject), recordings.open(subject)
        drivers = {name: recordings.driver(name) for name in recordings.unseen(subject)}
        targets = {name: driver.expression[driver.free] for name, driver in drivers.items()}
        searches = {space: RAF(bank, search=space) for space in (bank.feature_space, SPACE)}
        sets = {space: sets_of(raf, capture, targets, chosen.repeats) for space, raf in searches.items()}
        for condition, one in conditions(sets, bank, subject, 0).items():
            tables.append(coverage.table(one).assign(condition=condition))
            own, partners = np.split(one.pool, 2)
            distance = np.linalg.norm(partners - own, axis=1).mean()
            distances.append({"condition": condition, "subject": subject, "distance": distance})
    print(changes(pd.concat(tables)).to_string())
    print(pd.DataFrame(distances).pivot(index="condition", columns="subject", values="distance").round(2).to_string())


if __name__ == "__main__":
    main()
