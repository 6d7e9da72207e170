"""What the experiments on Table 1 say: changes with intervals, the gap between ways of fitting, and identity bias."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float

from raflib.coverage import effective_rank, fit_gap, identity_leakage, sensitivity, training_sets
from raflib.coverage.identity import between, within
from raflib.coverage.intervals import ratio, student
from raflib.lab.table1_grid import CAPTURES, FITTED, REPEATS, SCORES, Cast, bank_of, known
from raflib.lab.table1_ways import ONE_VIEW, OTHERS, SINGLE, WAYS, Way
from raflib.openbank.filming import names

REAL_ROWS = 60
"""Frames of each person when real people are compared with the studio's."""
DRIVERS = 12
"""Their drivers; the others are the bank."""
SHOWN = {"mmd": True, "mmd2": False, "kl8": True, "kl30": False, "b2t": True}
"""Metrics of the figure, and whether each has its usual definition."""


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """The change by +RAF under each condition: the change of the averages over subjects, as in the paper.

    `rows` are those of `raflib.lab.table1_grid.units`. Seeds of a subject are averaged first. Returns columns
    `experiment`, `condition`, `space`, `metric`, `subjects`, `n`, `people` (of the bank), `vanilla`, `raf`, `change`,
    `low`, `high`. The 95 % interval is for other subjects (`raflib.coverage.intervals.ratio`).
    """
    keys = ["experiment", "condition", "space", "metric"]
    found = []
    for key, part in rows.groupby(keys, sort=False):
        subjects = part.groupby("subject")[["vanilla", "raf", "n"]].mean()
        change, low, high = ratio(subjects.vanilla.to_numpy(), subjects.raf.to_numpy())
        means = {"vanilla": subjects.vanilla.mean(), "raf": subjects.raf.mean()}
        told = {"subjects": len(subjects), "n": round(subjects.n.mean()), "people": part.people.max(), **means}
        found.append({**dict(zip(keys, key, strict=True)), **told, "change": change, "low": low, "high": high})
    return pd.DataFrame(found)


def gaps(cast: Cast) -> pd.DataFrame:
    """The same frames fitted in two ways: captures' way against each other one, of subjects and of the bank's people.

    Returns one row per pair and group with the means over people of `raflib.coverage.fit_gap`, and of the ratios
    `gap_over_spread`, `constant_over_spread` and `gap_over_other`. `low` and `high` are the 95 % interval of
    `gap_over_spread` for other people.
    """
    found = []
    for group, people, ways in (
        ("subjects", cast.plan.subjects, WAYS),
        ("people", names(cast.plan.people), OTHERS),
    ):
        for way in ways[1:]:
            first, second = ({name: cast.features(name, one) for name in people} for one in (CAPTURES, way))
            told = fit_gap(first, second)
            told["gap_over_spread"] = told.gap / told.spread
            told["constant_over_spread"] = told.constant / told.spread
            told["gap_over_other"] = told.gap / told.other
            half = student(len(told) - 1) * told.gap_over_spread.std() / np.sqrt(len(told))
            means = told.drop(columns="person").mean()
            ends = {"low": means.gap_over_spread - half, "high": means.gap_over_spread + half}
            found.append({"group": group, "people": len(told), "way": way.label, **means, **ends})
    return pd.DataFrame(found)


def bias(cast: Cast, real: Mapping[str, Float[np.ndarray, "_ 52"]] | None = None) -> pd.DataFrame:
    """Identity bias of the people of the bank in each space and way, and of `real` people (features by name).

    Returns one row per group: the RMS distance of the persons' means to each other's mean (`between`) and of frames to
    their person's mean (`within`), the `rank` (effective number of dimensions) of the means and of the frames about
    them, and how well a probe tells the person (`leakage`, with its interval; studio only). All groups have as many
    people as the smallest one, because a rank grows with the number of people.
    """
    people = names(cast.plan.people)
    count = min(len(people), len(real) if real else len(people))
    groups: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for way in (None, *OTHERS):
        label = "MediaPipe's scores" if way is None else way.label
        groups["studio", label] = {name: cast.features(name, way) for name in people}
    if real:
        groups["real people", "MediaPipe's scores"] = {name: known(features) for name, features in real.items()}
    found = []
    for (who, label), features in groups.items():
        some = list(features)[:count]
        rows = [known(features[name]) for name in some]
        means = np.array([one.mean(0) for one in rows])
        told = {"who": who, "fit": label, "people": count, "between": between(rows), "within": within(rows)}
        told |= {"rank": effective_rank(means)}
        told |= {"rank_within": effective_rank(np.concatenate([one - one.mean(0) for one in rows]))}
        if who == "studio":
            seen = {name: np.isfinite(features[name]).all(1) for name in some}
            sequence = np.concatenate([cast.tracks[name].sequence[seen[name]] for name in some])
            leak = identity_leakage(np.concatenate(rows), np.repeat(some, [len(one) for one in rows]), sequence)
            told |= {"leakage": leak.accuracy, "leakage_low": leak.interval[0], "leakage_high": leak.interval[1]}
        found.append(told)
    return pd.DataFrame(found)


def of_people(people: Mapping[str, Float[np.ndarray, "_ d"]], who: str, seed: int = 0) -> pd.DataFrame:
    """Table 1 with each of these people in turn as the subject, with equal numbers for every group of people.

    Each person has `REAL_ROWS` random frames. For each subject, `DRIVERS` random others drive and the rest is the bank.
    People with fewer frames are left out. Rows are those of a unit of `raflib.lab.table1_grid`.
    """
    enough = {name: known(features) for name, features in people.items()}
    chosen = {
        name: rows[np.sort(np.random.default_rng([seed, *name.encode()]).permutation(len(rows))[:REAL_ROWS])]
        for name, rows in enough.items()
        if len(rows) >= REAL_ROWS
    }
    found = []
    for subject in chosen:
        others = [name for name in chosen if name != subject]
        order = np.random.default_rng([seed, *subject.encode()]).permutation(others)
        drivers, bank = order[:DRIVERS], order[DRIVERS:]
        targets = {name: chosen[name] for name in drivers}
        held = bank_of({name: chosen[name] for name in bank}, SCORES)
        sets = training_sets(chosen[subject], subject, targets, held, repeats=REPEATS, seed=seed)
        told = {"experiment": "real", "condition": who, "space": SCORES, "people": len(bank), "seed": seed}
        found.append(sensitivity(sets).assign(**told))
    return pd.concat(found, ignore_index=True)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `changes` that the figure shows, as `raflib.report.hypotheses_figure` takes them.

    `metric` is "mmd", "kl" or "b2t". `usual` is False for MMD² and for KL with 30 components.
    """
    found = []

    def add(group: str, label: str, experiment: str, condition: str, space: str) -> None:
        chosen = table[(table.experiment == experiment) & (table.condition == condition) & (table.space == space)]
        for metric, usual in SHOWN.items():
            for row in chosen[chosen.metric == metric].itertuples():
                told = {"group": group, "label": label, "metric": metric.rstrip("0123456789"), "usual": usual}
                found.append({**told, "change": row.change, "low": row.low, "high": row.high})

    def crossed(own: Way, others: Way, experiment: str = "crossing") -> tuple[str, str, str]:
        return experiment, f"{own.label} | {others.label}", FITTED

    sizes = [name for name in table.condition[table.experiment == "definitions"].unique() if name.startswith("bank")]
    whole = max(sizes, key=lambda name: int(name.split()[2]))
    few = int(table[table.experiment == "crossing"].people.max())
    everybody = int(table[table.experiment == "people"].subjects.max())
    width = {space: _width(table, space) for space in (SCORES, FITTED)}
    named = {SCORES: "scores", FITTED: "face model"}
    base = "as it is"
    for space in (SCORES, FITTED):
        add(base, f"{named[space]}, {whole}", "definitions", whole, space)
        add(base, f"{named[space]}, {whole}, {everybody} subjects", "people", "the studio's people", space)
    add(base, f"scores, bank of {few} people", "crossing", "MediaPipe's scores", SCORES)
    add(base, f"face model, bank of {few} people", *crossed(CAPTURES, CAPTURES))
    alike = crossed(CAPTURES, CAPTURES, "crossing of people")
    add(base, f"face model, bank of {few} people, {everybody} subjects", *alike)
    group = "H1: fitted otherwise"
    for own, others in ((ONE_VIEW, CAPTURES), (ONE_VIEW, SINGLE), (CAPTURES, ONE_VIEW), (CAPTURES, SINGLE)):
        add(group, f"subject {own.label}; others {others.label}", *crossed(own, others))
    add(group, f"the same, {everybody} subjects", *crossed(CAPTURES, SINGLE, "crossing of people"))
    add(group, f"subject {Way(4, 20).label}; others {CAPTURES.label}", *crossed(Way(4, 20), CAPTURES))
    add(group, f"only drivers {SINGLE.label}", *crossed(CAPTURES, SINGLE, "drivers"))
    for times, how in ((1, "as far as people differ"), (2, "twice as far")):
        add(group, f"scores, subject moved {how}", "bias", f"subject × {times}", SCORES)
        add(group, f"face model, subject moved {how}", "bias", f"subject × {times}", FITTED)
    group = "H2: identity bias"
    for space in (SCORES, FITTED):
        for rank in (1, 3, 10, width[space]):
            label = f"{named[space]}, random offsets in {rank} dimension{'s' if rank > 1 else ''}"
            add(group, label, "bias", f"everybody × 1, rank {rank}", space)
        label = f"{named[space]}, twice as large, {width[space]} dimensions"
        add(group, label, "bias", f"everybody × 2, rank {width[space]}", space)
    group = "H3: sampling"
    for space in (SCORES, FITTED):
        for per, label in ((10, "10 frames a sequence"), ("all", "all frames, 25 a second")):
            add(group, f"{named[space]}, {label}", "sampling", f"{per} frames a sequence", space)
    group = "H4: definitions (and open circles)"
    add(group, "scores, bank of 10 people", "definitions", "bank of 10 people", SCORES)
    for condition in table.condition[table.condition.str.startswith("N = ")].unique():
        add(group, f"scores, {condition}", "definitions", condition, SCORES)
    return pd.DataFrame(found)


def _width(table: pd.DataFrame, space: str) -> int:
    """The largest rank of the experiment on bias."""
    ranks = table.condition[(table.experiment == "bias") & (table.space == space)].str.extract(r"rank (\d+)$")[0]
    return int(ranks.dropna().astype(int).max())
