"""Which raters count, and the outcomes of their answers.

Rules are fixed before answers are looked at. A rater who breaks one is reported with the reason and not counted; the
answers stay in the files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from raflib.errors import finite
from raflib.study.answers import is_observer
from raflib.study.format import Study

OUTCOMES = ("nearest", "tie", "other")
"""What an answer says of the two candidates: the nearest row of the whole bank, neither, or the other one."""
ENOUGH = 20
"""Answers from which a preference for one side is judged."""


@dataclass(frozen=True)
class Rules:
    """When a rater counts.

    Attributes:
        attention: least share of attention checks passed.
        one_side: most answers on the same side, as a share. Sides are random, so an honest rater is near one half.
        seconds: least median time for a question.
        finished: least share of the rater's list that is answered. It applies to our own lists, not to Mechanical Turk,
            where workers take as many questions as they like.
    """

    attention: float | int = 0.75
    one_side: float | int = 0.9
    seconds: float | int = 1.5
    finished: float | int = 0.9

    def __post_init__(self) -> None:
        for name, most in (("attention", 1), ("one_side", 1), ("seconds", 3600), ("finished", 1)):
            finite(f"rules: {name}", getattr(self, name), 0, most)


def outcomes(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """`Answers.table` with the truth: columns `space`, `condition`, `kind`, `nearest` (side), and `outcome`.

    The outcome is one of `OUTCOMES`; of an attention check, "nearest" is the right answer.
    """
    truths = study.truths()
    columns = ["space", "condition", "kind", "nearest"]
    known = pd.DataFrame(
        [[getattr(truth, name) for name in columns] for truth in truths.values()], index=list(truths), columns=columns
    )
    told = table.reset_index(drop=True).join(known, on="question")
    named = np.where(told.choice == told.nearest, "nearest", "other")
    told["outcome"] = np.where(told.choice == "tie", "tie", named)
    return told


def judge(study: Study, told: pd.DataFrame, rules: Rules | None = None) -> pd.DataFrame:
    """One row per rater: what the rules measure, whether the rater is `counted`, and the `reason` if not.

    An attention check is passed unless the wrong side is chosen, or a tie for the expression. (A head pose can be equal
    by chance.) Rules about time and sides do not apply to observers, which are programs. Columns: `questions` answered,
    `listed` in the rater's list (NaN for Mechanical Turk), `checks`, `attention`, `one_side`, `seconds`.
    """
    rules, rows = rules or Rules(), []
    for rater, own in told.groupby("rater", sort=True):
        real, checks = own[own.kind == "real"], own[own.kind == "attention"]
        right = (checks.outcome == "nearest") | ((checks.outcome == "tie") & (checks.axis == "pose"))
        passed = right.groupby(checks.question).all() if len(checks) else right
        sided = real[real.choice != "tie"]
        row = {
            "rater": rater,
            "questions": own.question.nunique(),
            "listed": _listed(study, own),
            "checks": len(passed),
            "attention": float(passed.mean()) if len(passed) else np.nan,
            "one_side": float(sided.groupby("axis").choice.value_counts(normalize=True).max())
            if len(sided) >= ENOUGH
            else np.nan,
            "seconds": float(own.groupby("question").ms.max().median()) / 1000,
        }
        reason = _reason(row, rules, is_observer(str(rater)))
        rows.append({**row, "counted": not reason, "reason": reason})
    columns = ["questions", "listed", "checks", "attention", "one_side", "seconds", "counted", "reason"]
    return pd.DataFrame(rows, columns=["rater", *columns]).set_index("rater")


def counted(told: pd.DataFrame, raters: pd.DataFrame) -> pd.DataFrame:
    """Answers to real questions by raters who count, with a column `group`.

    The group is "people", or the observer's name up to "-", so that observers "observer:simulated-01" and the like form
    one group.
    """
    kept = told[(told.kind == "real") & told.rater.isin(raters.index[raters.counted.astype(bool)])].copy()
    kept["group"] = [rater.split("-")[0] if is_observer(rater) else "people" for rater in kept.rater]
    return kept.reset_index(drop=True)


def worker_counts(told: pd.DataFrame, raters: pd.DataFrame) -> dict[str, int]:
    """Numbers of people, of people who count, of observers, and of the questions and answers that count."""
    programs = np.array([is_observer(str(rater)) for rater in raters.index], bool)
    kept = counted(told, raters)
    by_people = kept[kept.group == "people"]
    return {
        "people": int((~programs).sum()),
        "people counted": int((~programs & raters.counted.to_numpy(bool)).sum()),
        "observers": int(programs.sum()),
        "questions answered by people": int(by_people.question.nunique()),
        "answers by people": len(by_people),
    }


def _listed(study: Study, own: pd.DataFrame) -> float:
    """Length of the list that holds all questions of this rater; NaN where there is none, and for Mechanical Turk."""
    asked = set(own.question)
    lengths = [len(each) for each in study.lists if asked <= set(each)] if (own.source == "page").all() else []
    return float(max(lengths)) if lengths else np.nan


def _reason(row: dict, rules: Rules, program: bool) -> str:
    """Why a rater does not count; "" for one who does."""
    if row["attention"] < rules.attention:
        return f"passed {row['attention']:.0%} of {row['checks']} attention checks, expected {rules.attention:.0%}"
    if program:
        return ""
    if row["listed"] > 0 and row["questions"] < rules.finished * row["listed"]:
        return f"stopped after {row['questions']} of {row['listed']:.0f} questions"
    if row["one_side"] > rules.one_side:
        return f"chose the same side in {row['one_side']:.0%} of all answers"
    if row["seconds"] < rules.seconds:
        return f"took {row['seconds']:.1f} s for a question, expected {rules.seconds:g} s"
    return ""
