"""The paper's claims about avatars (its tables 2 and 3), each with our effect, its interval and a verdict.

A verdict follows from the rows by a rule, so it can be made again whenever more rows are there:

* *supported*: the interval of the paired difference excludes 0 on the claimed side. A claim of no effect is supported
  where the whole interval is smaller than the effect that the paper reports for RAF.
* *not supported*: the interval excludes 0 on the other side. A claim of no effect is not supported where the interval
  excludes 0 and the effect is larger than the paper's effect of RAF.
* *cannot tell*: everything else, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from raflib.lab.cells import largest_setting, title
from raflib.report.grid_tables import differences
from raflib.report.hierarchical import counts, verdict
from raflib.report.paper_layout import POSE, digits, driven_by
from raflib.report.paper_table2 import COLUMNS, PAPER2
from raflib.report.paper_table3 import PAPER3
from raflib.report.sheet import Sheet, Value

TAGS = {
    "psnr": ("psnr/face",),
    "ssim": ("ssim/face",),
    "aed": ("aed/deca/l1", "aed/arkit52/l1", "aed/arkit52/l1/truth"),
    "apd": ("apd/deca/l1", "apd/mediapipe/deg", "apd/mediapipe/deg/truth"),
    "emotion": ("emotion/emonet/cos", "emotion/fer/cos"),
}
"""Our metrics for each measure of the paper. Of those that can rank methods, the one that was measured for the
most avatars counts, the first of several."""
SUPPORTED, REFUTED, UNKNOWN = "supported", "not supported", "cannot tell"
PAPER = {**PAPER2, **PAPER3}


@dataclass(frozen=True)
class Claim:
    """One claim: `label` against `baseline` by `measure` is "better", "worse" or the "same".

    `text` says it in words, `where` names its place in the paper.
    """

    text: str
    where: str
    label: str
    baseline: str
    protocol: str
    measure: str
    wanted: str

    @property
    def command(self) -> str:
        """What measures it."""
        return f'`make paper PAPER_ARGS="--methods {self.baseline} {self.label}"`'

    @property
    def papers(self) -> str:
        """The paper's two averages and their change."""
        now, before = (self._printed(label) for label in (self.label, self.baseline))
        if not np.isfinite([now, before]).all():
            return "no number"
        return f"{before:g} → {now:g} ({100 * (now / before - 1):+.1f} %)".replace("-", "−")

    def _printed(self, label: str) -> float:
        column = (self.protocol, self.measure)
        return float(PAPER[label][COLUMNS.index(column)]) if label in PAPER and column in COLUMNS else np.nan

    def margin(self) -> float:
        """The paper's relative change by RAF in this measure, the least effect that would matter."""
        known = COLUMNS.index((self.protocol, self.measure))
        return abs(PAPER2["raf"][known] / PAPER2["vanilla"][known] - 1)


T2, T3 = "section 5, table 2", "section 5, table 3"
CLAIMS = (
    Claim("RAF improves expressions in cross-driving", T2, "raf", "vanilla", "cross", "aed", "better"),
    Claim("RAF improves expressions in cross-driving over noise", T2, "raf", "noise-0.08", "cross", "aed", "better"),
    Claim("RAF improves emotion similarity in cross-driving", T2, "raf", "vanilla", "cross", "emotion", "better"),
    Claim("RAF improves expressions in self-driving", T2, "raf", "vanilla", "self", "aed", "better"),
    Claim("RAF improves expressions in self-driving over noise", T2, "raf", "noise-0.08", "self", "aed", "better"),
    Claim("RAF improves emotion similarity in self-driving", T2, "raf", "vanilla", "self", "emotion", "better"),
    Claim("RAF improves SSIM in self-driving", T2, "raf", "vanilla", "self", "ssim", "better"),
    Claim("Noise does not improve expressions in cross-driving", T2, "noise-0.08", "vanilla", "cross", "aed", "same"),
    Claim("RAF improves head pose in self-driving", T2, "raf", "vanilla", "self", "apd", "better"),
    Claim("RAF harms head pose in cross-driving", T2, "raf", "vanilla", "cross", "apd", "worse"),
    Claim("Noise improves head pose in cross-driving", T2, "noise-0.08", "vanilla", "cross", "apd", "better"),
    Claim("More noise improves head pose more", "appendix C", "noise-0.5", "noise-0.08", "cross", "apd", "better"),
    Claim("Half of the bank (#1) harms expressions", T3, "raf-half1", "raf", "cross", "aed", "worse"),
    Claim("Half of the bank (#2) harms expressions", T3, "raf-half2", "raf", "cross", "aed", "worse"),
    Claim("Five neighbours improve emotion similarity", T3, "raf-top5", "raf", "cross", "emotion", "better"),
    Claim("Five neighbours harm expressions", T3, "raf-top5", "raf", "cross", "aed", "worse"),
    Claim("Five neighbours harm head pose", T3, "raf-top5", "raf", "cross", "apd", "worse"),
)
"""The paper's claims that its tables 2 and 3 stand for."""
OURS = (
    Claim("RAF's images are nearer to the truth in cross-driving", "ours", "raf", "vanilla", "cross", "psnr", "better"),
    Claim("`raf_aligned` beats vanilla on the truth", "ours", "raf-aligned", "vanilla", "cross", "psnr", "better"),
    Claim("`raf_aligned` beats RAF on the truth", "ours", "raf-aligned", "raf", "cross", "psnr", "better"),
    Claim("Neighbours beat matched noise", "ours", "raf", "noise-matched", "cross", "psnr", "better"),
    Claim("Neighbours among true actions beat RAF", "ours", "oracle", "raf", "cross", "psnr", "better"),
    Claim("The driving map `fitted` helps vanilla", "ours", "vanilla-fitted", "vanilla", "cross", "psnr", "better"),
    Claim("The driving map `fitted` helps RAF", "ours", "raf-fitted", "raf", "cross", "psnr", "better"),
    Claim("Vanilla with `fitted` beats RAF without", "ours", "vanilla-fitted", "raf", "cross", "psnr", "better"),
    Claim("RAF with `fitted` beats vanilla without", "ours", "raf-fitted", "vanilla", "cross", "psnr", "better"),
)
"""Questions that only true images answer."""


def verdict_sheet(rows: pd.DataFrame | None) -> Sheet:
    """Every claim with the paper's numbers, our effect and a verdict.

    Of the settings in the rows, the one with the most avatars is used. Without rows, nothing can be told yet, and each
    line names the command that would measure it.
    """
    about, part = "No result rows ship yet.", None
    if rows is not None and (largest := largest_setting(rows)) is not None:
        chosen, part = largest
        about = title(chosen)
    known: dict[tuple[str, str], pd.DataFrame | None] = {}
    table, told = [], 0
    for claim in (*CLAIMS, *OURS):
        key = claim.baseline, claim.protocol
        if part is not None and key not in known:
            known[key] = differences(part, *key)
        words, effect = _judged(claim, known.get(key), part)
        told += effect is not None
        table.append([claim.text, claim.where, claim.papers, effect or "–", words])
    head = ["claim", "paper", "the paper's averages", "our difference [95 %]", "verdict"]
    caption = f"{about} {told} of {len(table)} claims were measured, one comparison each. Intervals are hierarchical."
    if part is not None and part["seed"].nunique() == 1:
        caption += " There is one seed: chance in a training counts as a difference between subjects."
    if part is not None:
        caption += f" {POSE} So APD there says little about the paper's claims on head pose."
    if told:
        caption += f" If nothing differed, about {0.05 * told:.1f} of them would exclude 0 by chance."
    return Sheet("verdict", head, table, caption)


def _judged(claim: Claim, summary: pd.DataFrame | None, part: pd.DataFrame | None) -> tuple[str, str | None]:
    """The verdict in words, and the effect with its interval, None where it was not measured."""
    name = f"{claim.label} − {claim.baseline}"
    if summary is None or part is None or name not in summary.index:
        return f"{UNKNOWN}: not measured yet; {claim.command}", None
    row, blind = summary.loc[name], set(summary.attrs["unranked"])
    measured = [tag for tag in TAGS[claim.measure] if (tag, "mean") in row and np.isfinite(row[tag, "mean"])]
    if not measured:
        return f"{UNKNOWN}: not measured, its weights were missing ([METRICS.md](METRICS.md))", None
    known = {tag: counts(summary, name, tag) for tag in measured}
    tag = max(measured, key=lambda tag: (tag not in blind, known[tag]["subjects"] * known[tag]["seeds"]))
    mean, low, high = (float(row[tag, part_of]) for part_of in ("mean", "low", "high"))
    people, seeds = (known[tag][level] for level in ("subjects", "seeds"))
    effect = f"`{tag}` {Value(mean, low, high, digits(tag)).text}; subjects {people}, seeds {seeds}"
    if tag in blind:
        return f"{UNKNOWN}: the true image does not score best by this metric", effect
    if people < 2 or not np.isfinite([low, high]).all():
        return f"{UNKNOWN}: one subject", effect
    if claim.wanted == "same":
        base = driven_by(part, claim.protocol)
        base = base[(base["label"] == claim.baseline) & (base["condition"] == "avatar")]
        usual = float(base.groupby("subject")[tag].mean().mean())  # rows hold 32-bit numbers
        return _same(low, high, mean, claim.margin() * usual), effect
    found = verdict(tag, low, high)
    if not found:
        missed = Value((high - low) / 2, digits=digits(tag)).text
        return f"{UNKNOWN}: the interval holds 0; effects up to {missed} could be missed", effect
    return SUPPORTED if found == claim.wanted else REFUTED, effect


def _same(low: float, high: float, mean: float, margin: float) -> str:
    """The verdict on a claim of no effect."""
    if -margin < low and high < margin:
        return SUPPORTED
    if (low > 0 or high < 0) and abs(mean) > margin:
        return REFUTED
    return f"{UNKNOWN}: an effect as large as the paper's of RAF is not excluded"
