"""Paired differences of methods with intervals for other subjects, drivers and seeds, not only for other frames.

A method may gain on one subject and lose on the next one, so intervals over frames say nothing about new people. The
bootstrap here resamples whole subjects, drivers and seeds, and then blocks of frames. The result has the form of
`raflib.report.compare`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from raflib.coverage.intervals import student
from raflib.errors import RafError
from raflib.evaluation import KEYS
from raflib.report.tables import _blocks, _caption, _interval, _metric_columns, arrow, paired

LEVELS = ("subjects", "drivers", "seeds")
"""What is resampled before blocks of frames, from top to bottom."""
CERTAIN, MISSED = "the interval excludes 0", "could be missed"


def hierarchical(
    rows: pd.DataFrame,
    baseline: str,
    column: str = "label",
    metrics: Sequence[str] | None = None,
    block: int = 25,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Difference to `baseline` on the same frames, a row for each other value of `column`.

    A mean is the mean over subjects of their means over frames. In each resample, subjects and drivers are sampled
    independently of each other, because every driver drives all subjects; seeds within each subject, because a seed is
    one avatar that all drivers share; and blocks of frames within each subject and driver. A level with a single member
    is not resampled. The interval is

        mean ± t · √(n / (n−1)) · standard deviation of the resampled means

    where n is the number of subjects, or of drivers where these are fewer, or of seeds where there is one subject and
    they are fewest; t is Student's 97.5 % quantile for n − 1 degrees of freedom. With five subjects, percentiles of the
    resampled means would cover 84 % instead of 95 % where subjects differ much. Resampling several levels counts the
    variance of the lower ones more than once, so intervals are too wide where seeds or frames vary most. Where only
    blocks are resampled, the interval is that of `compare`.

    Args:
        rows: result rows of one protocol.
        baseline: a value of `column`.
        column: what is compared, such as "label" (`raflib.lab.cells`) or "method".
        metrics, block, resamples, seed: as for `raflib.report.compare`.

    A metric that only some avatars have is compared on these, with an interval for as few as they are. Returns columns
    (metric, "mean" | "low" | "high"), then the numbers of subjects, drivers, seeds and frames; `counts` tells those of
    one metric. What was resampled is in `.attrs["caption"]`, which names metrics with fewer of them. Raises RafError as
    `compare` does, and for a frame that is there twice.
    """
    metrics = _metric_columns(rows, metrics)
    if column == "label" and "label" in rows:  # a label says how the avatar is driven, too
        rows = rows.assign(method=rows[column], drive="")
    column = "method" if column == "label" else column
    if rows.duplicated([key for key in KEYS if key in rows]).any():
        raise RafError("hierarchical: a frame of a method is there twice; give the rows of one protocol and setting")
    blind, differences = paired(rows, baseline, column, metrics)
    records, resampled, of_metrics = [], dict.fromkeys((*LEVELS, "blocks"), 0), []
    for difference in differences.values():
        record, known = {}, {}
        for tags, part in _measured_alike(difference, metrics):
            found, members = bootstrap(part, tags, block, resamples, seed)
            resampled = {name: max(resampled[name], members.get(name, 0)) for name in resampled}
            record |= {(tag, end): found[end][i] for i, tag in enumerate(tags) for end in ("mean", "low", "high")}
            here = {name: part[name[:-1]].nunique() if name[:-1] in part else 1 for name in LEVELS}
            here |= {"drivers": members.get("drivers", 1), "frames": len(part)}  # in self-driving all have one driver
            known |= dict.fromkeys(tags, here)
        of_metrics.append(known)
        most = {name: max(here[name] for here in known.values()) for name in (*LEVELS, "frames")}
        records.append({**record, **{(name, ""): count for name, count in most.items()}})
    ends = [(tag, end) for tag in metrics for end in ("mean", "low", "high")]
    columns = pd.MultiIndex.from_tuples([*ends, *((name, "") for name in (*LEVELS, "frames"))])
    index = pd.Index(list(differences), name=column)
    summary = pd.DataFrame(records, columns=columns, index=index)
    summary.attrs |= {"paired": True, "unranked": blind, "counts": dict(zip(index, of_metrics, strict=True))}
    summary.attrs["caption"] = " ".join([told(resampled, block, resamples), *_fewer(summary)])
    return summary


def counts(summary: pd.DataFrame, name: str, tag: str) -> dict[str, int]:
    """How many subjects, drivers, seeds and frames the interval of metric `tag` in row `name` of `hierarchical` has."""
    return dict(summary.attrs["counts"][name][tag])


def _measured_alike(difference: pd.DataFrame, metrics: Sequence[str]) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """Metrics that the same subjects, drivers and seeds have, with the rows of these; all rows for one nobody has."""
    keys = [key for key in ("subject", "driver", "seed") if key in difference]
    has = difference[list(metrics)].notna()
    if keys:
        has = has.groupby([difference[key] for key in keys]).transform("any")
    has.loc[:, ~has.any()] = True
    alike: dict[bytes, list[str]] = {}
    for tag in metrics:
        alike.setdefault(has[tag].to_numpy().tobytes(), []).append(tag)
    for tags in alike.values():
        yield tags, difference[has[tags[0]]]


def _fewer(summary: pd.DataFrame) -> list[str]:
    """A sentence for the caption where a metric has fewer subjects, drivers or seeds than its row; none elsewhere."""
    odd = []
    for name, row in summary.iterrows():
        for tag, known in summary.attrs["counts"][name].items():
            few = [f"{known[level]} {level}" for level in LEVELS if known[level] < row[level, ""]]
            odd += [f"{tag}, {name}: {', '.join(few)}"] if few else []
    return [f"Measured on fewer: {'; '.join(odd)}."] if odd else []


def bootstrap(
    difference: pd.DataFrame, metrics: Sequence[str], block: int = 25, resamples: int = 1000, seed: int = 0
) -> tuple[dict[str, Float[np.ndarray, " M"]], dict[str, int]]:
    """Means with the intervals of `hierarchical`, of numbers that each frame has.

    Args:
        difference: a row for each frame, with the columns `metrics` and the frame's subject, driver, seed, sequence and
            frame (a missing one of the first three counts as a single member).
        metrics, block, resamples, seed: as for `hierarchical`.

    Returns "mean", "low" and "high" of each metric, and the number of members of each level that was resampled.
    """
    values = difference[list(metrics)]
    subject, driver, run = (
        difference[key].factorize()[0] if key in difference else np.zeros(len(difference), int)
        for key in ("subject", "driver", "seed")
    )
    blocks = _blocks(difference, block)
    apart = pd.DataFrame({"subject": subject, "driver": driver, "seed": run, "block": blocks})
    per_subject = apart.groupby("subject")
    members = {"subjects": per_subject.ngroups}
    if (per_subject["driver"].nunique() > 1).any():
        members["drivers"] = apart["driver"].nunique()
    members["seeds"] = int(per_subject["seed"].nunique().max())
    members["blocks"] = int(apart.groupby(["subject", "driver"])["block"].nunique().max())
    members = {name: count for name, count in members.items() if count > 1}
    if not set(members) & set(LEVELS):
        return _interval(values, blocks, resamples, seed), members
    rng = np.random.default_rng(seed)
    drivers = _weights(rng, int(driver.max()) + 1, resamples) if "drivers" in members else None
    parts = [(values[subject == one], apart[subject == one]) for one in range(subject.max() + 1)]
    means = np.stack([_resampled(rng, *part, drivers, resamples) for part in parts])
    weights = _weights(rng, len(means), resamples)[:, None] * np.isfinite(means)
    with np.errstate(invalid="ignore"):
        samples = (weights * np.nan_to_num(means)).sum(0) / weights.sum(0)
    mean = values.groupby(subject).mean().mean().to_numpy()
    above = {name: count for name, count in members.items() if name in ("subjects", "drivers")}
    n = min((above if "subjects" in above else {**above, "seeds": members.get("seeds", np.inf)}).values())
    half = student(n - 1) * np.sqrt(n / (n - 1)) * _spread(samples)
    return {"mean": mean, "low": mean - half, "high": mean + half}, members


def claims(summary: pd.DataFrame, about: str = "") -> pd.DataFrame:
    """A comparison of `hierarchical` as one row for each method and metric: what may be claimed, and what not.

    The column "claim" says "better" or "worse" only where the interval excludes 0 and the metric can rank methods.
    `MISSED` is the half width of the interval: true differences up to about this size could have been missed. `about`,
    the protocol, is the first column.
    """
    records = []
    for tag in [tag for tag, part in summary.columns if part == "mean"]:
        for name, row in summary.iterrows():
            mean, low, high = (float(row[tag, part]) for part in ("mean", "low", "high"))
            if not np.isfinite(mean):
                continue
            known = counts(summary, str(name), tag)
            record = {"protocol": about, "comparison": name, "metric": f"{tag} {arrow(tag)}".strip(), **known}
            record |= {"difference": mean, "low": low, "high": high, MISSED: (high - low) / 2}
            blind = tag in summary.attrs.get("unranked", ())
            records.append({**record, "claim": "cannot rank" if blind else verdict(tag, low, high)})
    return pd.DataFrame(records)


def verdict(tag: str, low: float, high: float) -> str:
    """ "better" or "worse" where the interval of a difference in metric `tag` excludes 0, else ""."""
    if not (low > 0 or high < 0) or not arrow(tag):
        return ""
    return "better" if (low > 0) == (arrow(tag) == "↑") else "worse"


def counted(table: pd.DataFrame) -> str:
    """How many intervals `claims` holds, and how many of them exclude 0, as a sentence for a caption."""
    known = table[np.isfinite(table["low"]) & np.isfinite(table["high"])]
    sure = int(((known["low"] > 0) | (known["high"] < 0)).sum())
    return (
        f"Comparisons: {len(known)}; intervals that exclude 0: {sure}. If no method differed, about "
        f"{0.05 * len(known):.1f} of them would exclude it by chance."
    )


def _resampled(
    rng: np.random.Generator,
    values: pd.DataFrame,
    apart: pd.DataFrame,
    drivers: Float[np.ndarray, "D B"] | None,
    resamples: int,
) -> Float[np.ndarray, "M B"]:
    """Means of one subject in each resample, with the weights of all drivers; NaN where none of its drivers is in."""
    cells, number = np.unique(apart[["driver", "seed", "block"]].to_numpy(), axis=0, return_inverse=True)
    driver, run, block = cells.T
    sums, counts = (getattr(values.groupby(number.ravel()), kind)().to_numpy() for kind in ("sum", "count"))
    weights = np.ones((len(cells), resamples)) if drivers is None else drivers[driver]
    runs, run = np.unique(run, return_inverse=True)
    weights = weights * _weights(rng, len(runs), resamples)[run]
    for one in np.unique(driver):
        places = np.flatnonzero(driver == one)
        blocks, place = np.unique(block[places], return_inverse=True)
        weights[places] *= _weights(rng, len(blocks), resamples)[place]
    with np.errstate(invalid="ignore"):
        return (sums.T @ weights) / (counts.T @ weights)


def _weights(rng: np.random.Generator, members: int, resamples: int) -> Float[np.ndarray, "n B"]:
    """How often each of `members` is in each resample."""
    chosen = rng.multinomial(members, np.full(members, 1 / members), size=resamples)
    return np.ascontiguousarray(chosen.T, dtype=np.float64)


def _spread(samples: Float[np.ndarray, "M B"]) -> Float[np.ndarray, " M"]:
    """Standard deviation of each row, without NaN; NaN for a row of fewer than two numbers."""
    known = [row[np.isfinite(row)] for row in samples]
    return np.array([row.std(ddof=1) if len(row) > 1 else np.nan for row in known])


def told(resampled: Mapping[str, int], block: int, resamples: int) -> str:
    """The caption: which levels, with how many members, were resampled in at least one row of the table."""
    levels = [f"{name} (up to {resampled[name]})" for name in LEVELS if resampled.get(name)]
    if not levels:
        return "Paired differences on the same frames. " + _caption(block, resamples)
    frames = [f"blocks of {block} frames"] if resampled.get("blocks") else []
    *first, last = [*levels, *frames]
    names = f"{', '.join(first)} and {last}" if first else last
    single = [name for name in LEVELS if not resampled.get(name)]
    rest = f" Single members, not resampled: {', '.join(single)}." if single else ""
    return (
        "Paired differences on the same frames, averaged over subjects [95 % interval of a hierarchical bootstrap that "
        f"resamples {names}; {resamples} resamples, Student's t]." + rest
    )
