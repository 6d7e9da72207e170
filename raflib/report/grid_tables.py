"""Tables of the whole grid (subjects × methods × seeds): true errors, and paired differences with what may be claimed.

They are made from labelled result rows (`raflib.lab.cells`), from any part of the grid. Each caption says which
subjects, seeds and drivers the rows hold.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from raflib.errors import RafError
from raflib.lab.cells import METHODS, presence
from raflib.report.hierarchical import LEVELS, MISSED, claims, counted, hierarchical
from raflib.report.paper_layout import POSE, digits, driven_by
from raflib.report.sheet import Entry, Sheet, Value
from raflib.report.tables import MARK, NOTE, arrow, one_truth

TRUTH = ("psnr/face", "lpips/stlpips-alex/face", "aed/arkit52/l1/truth", "apd/mediapipe/deg/truth")
"""Metrics against the true image, which in cross-driving only the studio has."""
AGAINST_DRIVER = (
    "aed/deca/l1", "aed/arkit52/l1", "apd/deca/l1", "apd/mediapipe/deg", "emotion/emonet/cos", "emotion/fer/cos",
)  # fmt: skip
"""Metrics against the driver's image, as in the paper. In self-driving it is the true image."""
COMPARED = {
    "self": ("psnr/face", "ssim/face", "lpips/stlpips-alex/face", *AGAINST_DRIVER),
    "cross": (*TRUTH, *AGAINST_DRIVER),
}
"""Metrics of the paired differences, by protocol."""
PROTOCOLS = {"self": "self-driving", "cross": "cross-driving"}
STAR = "*"
MISSED_NOTE = (
    f"“{MISSED.capitalize()}” is the half width of the interval: true differences up to this size may go unseen."
)


def truth_table(rows: pd.DataFrame, about: str = "") -> Sheet:
    """The true error of cross-driving, which only the studio can measure: each method, vanilla's control, the truth.

    Means over subjects of their means over seeds and frames. The caption names every method of the grid that is
    missing. Raises RafError where the rows have no true image.
    """
    part = driven_by(rows, "cross")
    tags = [tag for tag in TRUTH if tag in part and part[tag].notna().any()]
    if not tags:
        raise RafError("true error of cross-driving: the rows hold no comparison with true images; use the studio's")
    avatars, control = part[part["condition"] == "avatar"], part[part["condition"] == "control"]
    labels = ordered(avatars["label"])
    groups = {label: avatars[avatars["label"] == label] for label in labels}
    groups["control (vanilla's)"] = control[control["label"] == "vanilla"]
    table = [_means(label, group, tags) for label, group in groups.items() if len(group)]
    if len(true := one_truth(part[part["condition"] == "truth"])):
        name, subjects, _, *values = _means("truth", true, tags)
        table.append([name, subjects, "", *values])
    wanted = list(dict.fromkeys([*METHODS, *labels]))
    begin = "True error of cross-driving: renders against true images of the subject with the driver's expression."
    head = ["method", "subjects", "avatars", *(f"{tag} {arrow(tag)}".strip() for tag in tags)]
    return Sheet("cross_truth", head, table, " ".join(filter(None, (begin, about, presence(rows, wanted), POSE))))


def difference_sheets(rows: pd.DataFrame, baseline: str, about: str = "") -> tuple[list[Sheet], pd.DataFrame]:
    """Paired differences of all methods to `baseline`: a sheet for each protocol, and all claims as one table.

    An interval that excludes 0 is marked with `STAR` where the metric can rank methods. A protocol without the baseline
    and another method is left out.
    """
    sheets, told = [], [pd.DataFrame()]
    for protocol, title in PROTOCOLS.items():
        summary = differences(rows, baseline, protocol)
        if summary is not None:
            told.append(claims(summary, title))
            sheets.append(_differences(summary, f"differences_{protocol}_{baseline}", title, about, counted(told[-1])))
    return sheets, pd.concat(told, ignore_index=True)


def differences(rows: pd.DataFrame, baseline: str, protocol: str) -> pd.DataFrame | None:
    """`hierarchical` of all avatars of a protocol, in the order of `METHODS`; None where nothing can be compared.

    A method that shares no subject and seed with the baseline is left out.
    """
    part = driven_by(rows, protocol)
    part = part[part["condition"] != "control"]
    avatars = part[["label", "subject", "seed"]].drop_duplicates()
    shared = avatars.merge(avatars[avatars["label"] == baseline], on=["subject", "seed"])["label_x"]
    part = part[part["label"].isin(set(shared))]
    tags = [tag for tag in COMPARED[protocol] if tag in part and part[tag].notna().any()]
    names = [f"{label} − {baseline}" for label in ordered(part["label"]) if label != baseline]
    if not tags or not names:
        return None
    summary = hierarchical(part, baseline, metrics=tags)
    attributes = summary.attrs
    summary = summary.loc[names]
    summary.attrs = attributes
    return summary


def claims_sheet(told: pd.DataFrame, name: str, about: str = "") -> Sheet:
    """`raflib.report.hierarchical.claims` of one or more comparisons as a sheet."""
    table: list[list[Entry]] = []
    for row in told.to_dict("records"):
        places = digits(row["metric"])
        counts = [row[key] for key in (*LEVELS, "frames")]
        difference = Value(row["difference"], row["low"], row["high"], places)
        missed = Value(row[MISSED], digits=places)
        table.append(
            [row["protocol"], row["comparison"], row["metric"], *counts, difference, missed, row["claim"] or "–"]
        )
    head = ["protocol", "comparison", "metric", *LEVELS, "frames", "difference", MISSED, "claim"]
    begin = "Paired differences with hierarchical 95 % intervals."
    return Sheet(name, head, table, " ".join(filter(None, (begin, about, counted(told), MISSED_NOTE))))


def starred(tag: str, mean: float, low: float, high: float) -> Value:
    """A difference in metric `tag`, with `STAR` where its interval excludes 0."""
    return Value(mean, low, high, digits(tag), mark=STAR if low > 0 or high < 0 else "")


def _differences(summary: pd.DataFrame, name: str, title: str, about: str, count: str) -> Sheet:
    tags = list(dict.fromkeys(tag for tag, part in summary.columns if part == "mean"))
    blind = set(summary.attrs["unranked"])
    table: list[list[Entry]] = []
    for label, row in summary.iterrows():
        values = []
        for tag in tags:
            mean, low, high = (float(row[tag, part]) for part in ("mean", "low", "high"))
            value = starred(tag, mean, low, high)
            values.append(value._replace(mark=MARK) if tag in blind else value)
        table.append([str(label), *values, *(int(row[what, ""]) for what in (*LEVELS, "frames"))])
    head = ["difference", *(f"{tag} {arrow(tag)}".strip() for tag in tags), *LEVELS, "frames"]
    notes = [f"{title.capitalize()}.", about, summary.attrs["caption"], f"{STAR} The interval excludes 0.", count]
    notes += [f"{MARK} {NOTE}"] if blind & set(tags) else []
    return Sheet(name, head, table, " ".join(filter(None, notes)))


def _means(label: str, part: pd.DataFrame, tags: Iterable[str]) -> list[Entry]:
    avatars = len(part[["subject", "seed"]].drop_duplicates())
    means = part.groupby("subject")[list(tags)].mean().mean()
    values = [Value(float(means[tag]), digits=digits(tag)) for tag in tags]
    return [label, int(part["subject"].nunique()), avatars, *values]


def ordered(labels: Iterable[str]) -> list[str]:
    """Labels in the order of `METHODS`, then the others."""
    there = set(labels)
    return [label for label in METHODS if label in there] + sorted(there - set(METHODS))
