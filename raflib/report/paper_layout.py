"""The layout of the paper's tables 2 and 3: methods × subjects with averages, ours beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from raflib.errors import RafError
from raflib.lab.cells import expected_subjects, presence
from raflib.report.sheet import Entry, Sheet, Value
from raflib.report.tables import MARK, NOTE, arrow, require_columns

MEASURES = {
    "psnr": ("PSNR", ("psnr/face",)),
    "ssim": ("SSIM", ("ssim/face",)),
    "aed": ("AED", ("aed/deca/l1", "aed/arkit52/l1")),
    "apd": ("APD", ("apd/deca/l1", "apd/mediapipe/deg")),
    "emotion": ("emotion", ("emotion/emonet/cos", "emotion/fer/cos")),
}
"""Measures of the paper's tables 2 and 3: name, and our metrics by preference. The one that was measured for the
most avatars is used, the first of several; a table names it, because AED and APD have many definitions."""
PRINTED = {"psnr": 3, "ssim": 4, "aed": 5, "apd": 5, "emotion": 5}
"""Digits that the paper prints."""
DIGITS = {"psnr": 2, "apd": 3, "ssim": 4, "lpips": 4, "aed": 4, "emotion": 4}
"""Digits that we print, by the first part of a metric's tag."""
POSE = "In the studio's cross-driving, avatars have the head pose that was found on the true images (an oracle)."


@dataclass(frozen=True)
class Column:
    """A column: protocol, measure, the metric that was measured, and its values.

    `means` are by label and subject, `truth` is the average score of the true images (NaN where they were not scored).
    `whole` are the labels all of whose avatars have a value.
    """

    protocol: str
    measure: str
    tag: str | None
    means: Mapping[str, Mapping[str, float]]
    truth: float
    whole: frozenset[str] = frozenset()

    @property
    def heading(self) -> str:
        name = f"{self.protocol} {MEASURES[self.measure][0]}"
        return f"{name} {arrow(self.tag)} ({self.tag})" if self.tag else f"{name} (not measured)"

    @property
    def averages(self) -> dict[str, float]:
        """The average over the subjects of each label all of whose avatars have a value."""
        return {label: float(np.mean(list(self.means[label].values()))) for label in self.means if label in self.whole}

    @property
    def ranking(self) -> dict[str, float]:
        """The averages, negative where lower is better."""
        sign = -1 if self.tag and arrow(self.tag) == "↓" else 1
        return {label: sign * value for label, value in self.averages.items()}

    @property
    def blind(self) -> bool:
        """Whether it cannot rank methods: the true image does not score better than every method."""
        if self.tag is None or np.isnan(self.truth) or not self.ranking:
            return False
        return not (-self.truth if arrow(self.tag) == "↓" else self.truth) > max(self.ranking.values())

    def value(self, number: float, bold: bool = False, mark: str = "") -> Value:
        return Value(number, digits=digits(self.tag) if self.tag else 3, bold=bold, mark=mark)

    def average(self, label: str, fair: bool) -> Value:
        """The average of a label; bold where it is the best of several and they are `fair`."""
        best = fair and not self.blind and len(self.ranking) > 1 and label in self.ranking
        best = best and self.ranking[label] == max(self.ranking.values())
        return self.value(self.averages.get(label, np.nan), best, MARK if self.blind else "")


def driven_by(rows: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Rows of self-driving by held-out frames ("self") or of cross-driving ("cross")."""
    require_columns(rows, ["protocol", "condition", "label", "part"])
    return rows[(rows["protocol"] == protocol) & (rows["part"] != "training frames")]


def digits(tag: str) -> int:
    """Digits after the point of a metric."""
    return DIGITS.get(tag.split("/")[0], 3)


def in_the_papers_layout(
    rows: pd.DataFrame,
    name: str,
    names: Mapping[str, str],
    columns: Sequence[tuple[str, str]],
    paper: Mapping[str, Sequence[float]],
    caption: str,
) -> Sheet:
    """A table in the layout of the paper's tables 2 and 3.

    There is a block for each method of `names`: a row for each subject (mean over seeds and frames), the average over
    subjects, and the paper's average. A method without any avatar has the last one only. The true image, scored as a
    render, is the last row. A column that does not score it better than every method is marked and never bold. The best
    average is bold where all averages are over the same avatars. A method has no average in a column that some of its
    avatars lack.

    Args:
        rows: labelled result rows of one setting.
        name: the sheet's name.
        names: the methods' names by their labels.
        columns: (protocol, key of `MEASURES`) of each column.
        paper: the paper's numbers by label, in the order of `columns`.
        caption: how the caption begins.

    Raises RafError where no method of `names` is in the rows.
    """
    mine = rows[rows["label"].isin(list(names))]
    if not len(mine):
        raise RafError(f"{name}: the rows hold none of {', '.join(names)}; gather rows of these methods")
    avatars = {label: part[["subject", "seed"]].drop_duplicates() for label, part in mine.groupby("label")}
    known = {label: set(pairs.itertuples(False, None)) for label, pairs in avatars.items()}
    made = [_column(driven_by(mine, protocol), protocol, measure, known) for protocol, measure in columns]
    fair = len(known) > 1 and len(set(map(frozenset, known.values()))) == 1
    table: list[list[Entry]] = []
    for label, printed in names.items():
        mine_here = known.get(label, set())
        for subject in expected_subjects(mine) if mine_here else ():
            numbers = [column.value(column.means.get(label, {}).get(subject, np.nan)) for column in made]
            table.append([printed, subject, str(sum(owner == subject for owner, _ in mine_here)), *numbers])
        if mine_here:
            people = len({owner for owner, _ in mine_here})
            numbers = [column.average(label, fair) for column in made]
            table.append([printed, f"average of {people}", str(len(mine_here)), *numbers])
        theirs = zip(paper[label], made, strict=True)
        numbers = [Value(number, digits=PRINTED[column.measure]) for number, column in theirs]
        table.append([printed, "the paper's", "", *numbers])
    if not all(np.isnan(column.truth) for column in made):
        numbers = [column.value(column.truth, mark=MARK if column.blind else "") for column in made]
        table.append(["truth", "average", "", *numbers])
    head = ["method", "subject", "avatars", *(column.heading for column in made)]
    return Sheet(name, head, table, _caption(caption, presence(rows, names), made, fair))


def _column(part: pd.DataFrame, protocol: str, measure: str, known: Mapping[str, set[tuple[str, int]]]) -> Column:
    """The column with the first metric that most of the avatars `known` by label have."""
    drives, having = part[part["condition"] == "avatar"], {}
    for tag in (tag for tag in MEASURES[measure][1] if tag in part):
        avatars = drives.loc[drives[tag].notna(), ["label", "subject", "seed"]].drop_duplicates()
        having[tag] = set(avatars.itertuples(False, None))
    tag = max(having, key=lambda tag: len(having[tag]), default=None)
    if tag is None or not having[tag]:
        return Column(protocol, measure, None, {}, np.nan)
    whole = frozenset(label for label in known if having[tag] >= {(label, *avatar) for avatar in known[label]})
    means = drives.groupby(["label", "subject"])[tag].mean()
    by_label = {label: group.droplevel("label").to_dict() for label, group in means.groupby("label")}
    truth = part[part["condition"] == "truth"].groupby("subject")[tag].mean()
    return Column(protocol, measure, tag, by_label, float(truth.mean()) if len(truth) else np.nan, whole)


def _caption(begin: str, there: str, columns: Iterable[Column], fair: bool) -> str:
    columns = list(columns)
    sentences = [begin.strip(), there]
    sentences.append("The paper's rows: NeRSemble, published size, DECA and EmoNet; compare only signs of differences.")
    if any(column.tag is None for column in columns):
        sentences.append("A measure is “not measured” where its weights were missing.")
    partly = [column.heading for column in columns if column.tag and set(column.means) - column.whole]
    if partly:
        sentences.append(f"Not measured for all avatars, so some averages are missing: {', '.join(partly)}.")
    sentences.append(POSE)
    if not fair:
        sentences.append("The averages are over different avatars, so none is bold; read the paired differences.")
    return " ".join(sentences + ([f"{MARK} {NOTE}"] if any(column.blind for column in columns) else []))
