"""Table 1 in the paper's layout, as a table and as plain text, with the average and the paper's own averages."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from raflib.coverage.intervals import ratio
from raflib.coverage.table1 import METRICS
from raflib.errors import RafError

if TYPE_CHECKING:
    import pandas

PAPER = {"mmd": (0.187, 0.141), "kl": (42.915, 26.105), "b2t": (1.011, 0.594)}
"""The paper's averages over its five subjects, Vanilla and +RAF, on NeRSemble with its own features and bank."""
PAPER_ROW = "the paper's"


def table1(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Rows of `raflib.coverage.table` for one or more subjects, laid out as the paper's Table 1.

    There is a row for each subject, then "Average", then `PAPER_ROW` with the paper's averages and their changes.
    Columns are (metric, part). Parts are "vanilla", "raf", "change" (a share), its "low" and "high" for other drivers,
    and its "draws_low" and "draws_high" for other samples of the training vectors.

    The average's change is the change of the averages, as in the paper. Its interval is for other *subjects* (Student's
    t, on the linearised ratio; NaN for a single one). Subjects share drivers, so this interval is somewhat too narrow.
    Raises RafError when a subject and method are there twice or not at all.
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
        paper = *PAPER[metric], PAPER[metric][1] / PAPER[metric][0] - 1
        parts = {"vanilla": before, "raf": after, "change": known["change"]}
        parts |= {name: known[f"change_{name}"] for name in ("low", "high", "draws_low", "draws_high")}
        for (name, part), *below in zip_longest(parts.items(), average, paper, fillvalue=np.nan):
            wide[metric, name] = [*part, *below]
    return pandas.DataFrame(wide, index=pandas.Index([*value.index, "Average", PAPER_ROW], name="subject"))


def table1_text(wide: pandas.DataFrame) -> str:
    """`table1` as plain text of up to 100 columns: a block for each metric, changes in % with intervals, then notes."""
    single = len(wide) == 3  # one subject is its own average
    lines = [f"{'':7}{'subject':16}{'vanilla':>9}{'raf':>9}{'change %':>10}   {'other drivers':16} other samples"]
    for metric in METRICS:
        for i, (name, row) in enumerate(wide[metric].iterrows()):
            if single and name == "Average":
                continue
            label, change = "" if i else metric, _percent(row["change"])
            values = f"{row['vanilla']:9.3f}{row['raf']:9.3f}{change:>10}"
            spans = f"{_span(row['low'], row['high']):16} {_span(row['draws_low'], row['draws_high'])}"
            lines.append(f"{label:7}{name:16}{values}   {spans}".rstrip())
    lines += ["", "95 % intervals: other drivers in place of these (in the average's row: other subjects),"]
    lines += ["and these drivers with the training vectors sampled again. The paper's row: its averages on"]
    lines += ["NeRSemble, with other features, people and bank; compare changes only."]
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _span(low: float, high: float) -> str:
    return f"[{_percent(low)}, {_percent(high)}]" if np.isfinite(low) else ""
