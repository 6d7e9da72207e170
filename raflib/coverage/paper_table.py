"""Table 1 (paper §3): equal-sized Vanilla and +RAF training sets against unseen drivers, with intervals.

`table` measures one subject; `table1` lays the rows of several out as the paper does, with the average and the paper's
own averages below; `table1_text` prints that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from raflib.coverage.intervals import jackknife, measures, ratio
from raflib.errors import RafError
from raflib.leaks import refuse_leaks

if TYPE_CHECKING:
    import pandas

    from raflib.bank import ExpressionBank

METRICS = ("mmd", "kl", "b2t")
PAPER = {"mmd": (0.187, 0.141), "kl": (42.915, 26.105), "b2t": (1.011, 0.594)}
"""The paper's averages over its five subjects, Vanilla and +RAF, on NeRSemble with its own features and bank."""
PAPER_ROW = "the paper's"
COLUMNS = (
    "subject", "method", "metric", "value", "low", "high", "change", "change_low", "change_high", "draws_sd", "n",
    "leaked",
)  # fmt: skip


def table(
    expression: Float[np.ndarray, "T d"],
    subject: str,
    targets: Mapping[str, Float[np.ndarray, "M d"]] | Float[np.ndarray, "M d"],
    bank: ExpressionBank,
    n: int | None = None,
    repeats: int = 20,
    seed: int = 0,
    feature_space: str | None = None,
    allow_leak: bool = False,
) -> pandas.DataFrame:
    """One subject's row of Table 1 in long form, with the columns `COLUMNS`.

    `expression` are the subject's training frames, `targets` the unseen drivers' frames (by name, pooled). Vanilla is n
    of the subject's frames drawn without replacement. +RAF keeps the first n/2 of that draw and adds the bank's nearest
    neighbour, among other people, of each kept frame: the paper's "N/2 subject training expressions with N/2
    nearest-neighbor expressions (for those sampled training frames)", read literally. n defaults to all detected
    frames, made even (Vanilla is then the same in every draw). Undetected frames (NaN) are left out everywhere.
    MMD's bandwidth is the target's median distance, KL's PCA the target's, so both methods are measured with one ruler.

    `value` is the mean over `repeats` draws of the n vectors and `draws_sd` their standard deviation; `change` is the
    share by which +RAF differs, value_raf / value_vanilla − 1 (NaN in the rows of Vanilla, and where that is not
    positive). `low` … `high` and `change_low` … `change_high` are 95 % intervals for **other drivers**: what another
    set of as many people would have given, for this subject's recording and this bank. They come from leaving out one
    driver at a time (`intervals.jackknife`), everything computed anew, ruler included, for both methods on the same
    drivers and draws, which makes the change's interval a paired one; the standard error of the mean over draws is
    added. NaN for one driver. The training frames are not resampled: frames drawn twice would make every nearest
    neighbour and density look worse.

    Raises RafError when the bank holds a target's frames, by name or by their vectors, or the subject's under another
    name, unless `allow_leak` (`leaked` counts those rows); when n is odd or larger than the training set; and for
    another width or (if given) feature space.
    """
    import pandas

    targets = targets if isinstance(targets, Mapping) else {"target": targets}
    own, targets = _detected(expression), {name: _detected(frames) for name, frames in targets.items()}
    people = {**targets, subject: np.concatenate([own, targets.get(subject, own[:0])])}
    leaks = refuse_leaks("table: the bank", bank, people, allow_leak, excluded=subject)
    leaked = len(set().union(*(leak.rows.tolist() for leak in leaks)))
    n = len(own) // 2 * 2 if n is None else n
    if n < 2 or n % 2 or n > len(own) or repeats < 1:
        raise RafError(
            f"table: n is {n} and repeats {repeats}, expected an even n from 2 to {len(own)} and repeats from 1"
        )
    neighbours = bank.features[bank.search(own, exclude=subject, feature_space=feature_space)[1][:, 0]]
    pool, draw = np.concatenate([own, neighbours]), np.random.default_rng(seed)
    draws = [draw.permutation(len(own))[:n] for _ in range(repeats)]
    sets = [draws, [np.concatenate([chosen[: n // 2], chosen[: n // 2] + len(own)]) for chosen in draws]]
    drivers = [frames for frames in targets.values() if len(frames)] or [own[:0]]
    every = [drivers, *([drivers[:d] + drivers[d + 1 :] for d in range(len(drivers))] if len(drivers) > 1 else [])]
    values = np.empty((len(every), 2, repeats, len(METRICS)))
    for d, some in enumerate(tqdm(every, desc=f"coverage of {subject}", unit="driver", delay=5)):
        measure = measures(pool, np.concatenate(some))
        values[d] = [[measure(chosen) for chosen in method] for method in sets]
    means, by_draw = values.mean(2).swapaxes(0, 1), values[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(means[0] > 0, means[1] / means[0] - 1, np.nan)
        noise = (by_draw[1] / by_draw[0]).std(0) / np.sqrt(max(repeats - 1, 1))
    none, changes = np.full((3, len(METRICS)), np.nan), (change[0], *jackknife(change[0], change[1:], noise))
    rows = []
    for m, method in enumerate(("vanilla", "raf")):
        value, deviation = means[m, 0], by_draw[m].std(0)
        spread = jackknife(value, means[m, 1:], deviation / np.sqrt(max(repeats - 1, 1)))
        numbers = [value, *spread, *(changes if m else none), deviation]
        rows += [(subject, method, metric, *row, n, leaked) for metric, *row in zip(METRICS, *numbers, strict=True)]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def table1(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Rows of `table` for one or more subjects laid out as the paper's Table 1: a row a subject, "Average", its own.

    Columns are (metric, part): "vanilla", "raf", "change" (a share), its "low" and "high". A subject's interval is
    `table`'s, for other drivers. The average's change is that of the averages, as in the paper, and its interval is for
    other *subjects* (Student's, on the linearised ratio; NaN for a single one); drivers are partly shared between
    subjects, so it is somewhat too narrow. The row `PAPER_ROW` holds the paper's averages and their changes. Raises
    RafError when a subject and method are there twice or not at all.
    """
    import pandas

    counts = rows.groupby(["subject", "metric", "method"], sort=False).size().unstack(fill_value=0)
    if not {"vanilla", "raf"} <= set(counts) or (counts[["vanilla", "raf"]] != 1).any(axis=None):
        raise RafError("table1: every subject needs each metric once for vanilla and for raf; give rows of `table`")
    value, raf = rows.pivot(index="subject", columns=["metric", "method"], values="value"), rows[rows.method == "raf"]
    wide = {}
    for metric in METRICS:
        before, after = (value[metric, method] for method in ("vanilla", "raf"))
        known = raf[raf.metric == metric].set_index("subject").loc[value.index]
        average = before.mean(), after.mean(), *ratio(before.to_numpy(), after.to_numpy())
        paper = *PAPER[metric], PAPER[metric][1] / PAPER[metric][0] - 1, np.nan, np.nan
        parts = before, after, known["change"], known["change_low"], known["change_high"]
        for i, (name, part) in enumerate(zip(("vanilla", "raf", "change", "low", "high"), parts, strict=True)):
            wide[metric, name] = [*part, average[i], paper[i]]
    return pandas.DataFrame(wide, index=pandas.Index([*value.index, "Average", PAPER_ROW], name="subject"))


def table1_text(wide: pandas.DataFrame) -> str:
    """`table1` as plain text of 70 columns: a block a metric, changes in % with their intervals, notes below."""
    single = len(wide) == 3  # one subject is its own average
    lines = [f"{'':7}{'subject':16}{'vanilla':>9}{'raf':>9}{'change %':>10}   95 % interval"]
    for metric in METRICS:
        for i, (name, row) in enumerate(wide[metric].iterrows()):
            if single and name == "Average":
                continue
            change, low, high = (f"{100 * row[part]:+.1f}".replace("-", "−") for part in ("change", "low", "high"))
            interval = f"   [{low}, {high}]" if np.isfinite(row["low"]) else ""
            label = "" if i else metric
            values = f"{row['vanilla']:9.3f}{row['raf']:9.3f}{change:>10}"
            lines.append(f"{label:7}{name:16}{values}{interval}".rstrip())
    lines += ["", "Intervals of a subject: other drivers in place of these; of the average: other subjects."]
    lines += ["The paper's: its averages on NeRSemble, with other features, people and bank. Compare changes only."]
    return "\n".join(lines)


def _detected(expression: np.ndarray) -> np.ndarray:
    expression = np.asarray(expression)
    return expression[~np.isnan(expression).all(-1)]
