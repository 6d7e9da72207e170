"""Tables from result rows: means with intervals, paired differences, Markdown.

Neighbouring video frames are nearly equal, so whole blocks of frames are resampled. Intervals over single frames would
be several times too narrow. Every caption says what was resampled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from raflib.errors import RafError
from raflib.evaluation import KEYS, REGISTRY
from raflib.evaluation.calibrate import KINDS

LOWER_IS_BETTER = ("mmd", "kl", "b2t")
"""Measures of `raflib.coverage`; the direction of other columns is in the metric registry."""

MARK = "†"
NOTE = "The true image does not score better than every method here, so these numbers cannot rank methods."


def arrow(tag: str) -> str:
    """The arrow of a metric: "↑" where higher is better, "↓" where lower is better, "" where it is unknown."""
    better = REGISTRY[tag].better if tag in REGISTRY else ("lower" if tag in LOWER_IS_BETTER else None)
    return {"higher": "↑", "lower": "↓", None: ""}[better]


def table(
    rows: pd.DataFrame,
    by: Sequence[str] = ("method", "condition"),
    metrics: Sequence[str] | None = None,
    block: int = 25,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean and 95 % interval of each metric, one row for each group of `by`.

    The interval is the percentile bootstrap over blocks. A block holds the frames of one subject, driver and sequence
    whose numbers fall into the same stretch of `block` frames (25 are one second), all cameras together. The interval
    is for new frames of these people, not for new people. Frames where a metric is NaN (no face) are left out of its
    mean. `detected` is the share of renders with a detected face among frames whose references have one.

    Args:
        rows: result rows of `raflib.evaluate`.
        by: columns that form groups.
        metrics: columns to average; all registered metrics by default.
        block: frames in a block.
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Returns columns (metric, "mean" | "low" | "high"), then ("frames", ""), ("detected", "%"); the caption is in
    `.attrs["caption"]`. Intervals of a single block are NaN. Raises RafError for columns that are not there.
    """
    metrics = _metric_columns(rows, metrics)
    require_columns(rows, [*by, *metrics])
    result = []
    for _, group in rows.groupby(list(by), sort=False):
        found = _interval(group[metrics], _blocks(group, block), resamples, seed)
        record = {(tag, part): found[part][i] for i, tag in enumerate(metrics) for part in ("mean", "low", "high")}
        record["frames", ""] = len(group)
        if "detected" in group:
            known = group[group.reference_detected.astype(bool)] if "reference_detected" in group else group
            record["detected", "%"] = 100 * known.detected.mean() if len(known) else np.nan
        result.append(record)
    keys = rows[list(by)].drop_duplicates()
    index = pd.Index(keys[by[0]], name=by[0]) if len(by) == 1 else pd.MultiIndex.from_frame(keys)
    summary = pd.DataFrame(result, columns=pd.MultiIndex.from_tuples(result[0]), index=index)
    summary.attrs["caption"] = _caption(block, resamples)
    return summary


def compare(
    rows: pd.DataFrame,
    baseline: str,
    column: str = "method",
    metrics: Sequence[str] | None = None,
    block: int = 25,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Difference to `baseline` on the same frames, with the block bootstrap of `table`; a row for each other value.

    Frames differ far more from each other than methods do, so intervals of paired differences are much narrower than
    two separate intervals suggest. All other keys (subject, seed, driver, frame, camera, …) agree within a pair. Frames
    that only one side has are left out, and `frames` counts the rest. Rows of the condition "truth" are not compared.
    They tell which metrics cannot rank methods (`unranked`); these are in `.attrs["unranked"]`.

    Args:
        rows: result rows of `raflib.evaluate`.
        baseline: a value of `column`.
        column: what is compared, such as "method" or "condition".
        metrics, block, resamples, seed: as for `table`.

    Raises RafError if `baseline` is not there, or nothing else is.
    """
    metrics = _metric_columns(rows, metrics)
    blind, differences = paired(rows, baseline, column, metrics)
    result = []
    for difference in differences.values():
        found = _interval(difference[metrics], _blocks(difference, block), resamples, seed)
        record = {(tag, part): found[part][i] for i, tag in enumerate(metrics) for part in ("mean", "low", "high")}
        result.append({**record, ("frames", ""): len(difference)})
    summary = pd.DataFrame(
        result, columns=pd.MultiIndex.from_tuples(result[0]), index=pd.Index(list(differences), name=column)
    )
    summary.attrs["caption"] = "Paired differences on the same frames. " + _caption(block, resamples)
    summary.attrs |= {"paired": True, "unranked": blind}
    return summary


def paired(
    rows: pd.DataFrame, baseline: str, column: str, metrics: Sequence[str]
) -> tuple[list[str], dict[str, pd.DataFrame]]:
    """Differences to `baseline` on the same frames, as `compare` summarises them.

    Returns the metrics that cannot rank methods, and by the name of each comparison ("raf − vanilla") a row for each
    frame that both sides have: keys and differences of `metrics`. A comparison without such a frame is left out.
    Raises RafError as `compare` does, and where all are left out.
    """
    require_columns(rows, [column, *metrics])
    blind = _blind(rows, metrics)
    rows = rows[rows["condition"] != "truth"] if "condition" in rows else rows
    if baseline not in set(rows[column]):
        raise RafError(f"compare: no row has {column} = {baseline!r}; found {', '.join(sorted(set(rows[column])))}")
    keys = [key for key in KEYS if key in rows and key != column]
    sides = {name: group.set_index(keys)[list(metrics)] for name, group in rows.groupby(column, sort=False)}
    result = {}
    for name in [name for name in sides if name != baseline]:
        difference = sides[name].sub(sides[baseline].reindex(sides[name].index))
        shared = difference[difference.notna().any(axis=1)].reset_index()
        if len(shared):
            result[f"{name} − {baseline}"] = shared
    if not result and len(sides) > 1:
        raise RafError(f"compare: no row is of a frame that {baseline!r} has, too; give rows of the same frames")
    if not result:
        raise RafError(f"compare: every row has {column} = {baseline!r}; add the rows to compare with it")
    return blind, result


def one_truth(rows: pd.DataFrame) -> pd.DataFrame:
    """Result rows in which each true image is scored once. It is the same for all methods, so its method is "–"."""
    true = (rows["condition"] == "truth").to_numpy()
    keys = [key for key in KEYS if key in rows and key not in ("method", "seed", "drive")]
    once = rows[true].drop_duplicates(keys).assign(method="–")
    return pd.concat([rows[~true], once], ignore_index=True)


def unranked(summary: pd.DataFrame) -> pd.DataFrame:
    """Which means of `table` cannot rank methods: True where the true image does not score better than every method.

    A metric whose best score is not the truth's measures something else than nearness to it, such as noise of the
    tracker. Rows that agree in all levels of the index but method, condition, seed and drive are compared. Where no row
    has the condition "truth", nothing is known, and all are False. Returns [rows, metrics], in the order of `summary`.
    """
    tags = list(dict.fromkeys(tag for tag, part in summary.columns if part == "mean"))
    found = pd.DataFrame(False, index=range(len(summary)), columns=tags)
    keys = summary.index.to_frame(index=False)
    if "condition" not in keys:
        return found
    for places in _competing(keys):
        kind = keys["condition"].to_numpy()[places]
        for tag in [tag for tag in tags if arrow(tag)]:
            sign = -1 if arrow(tag) == "↓" else 1
            values = sign * summary[tag, "mean"].to_numpy()[places]
            truth, methods = values[kind == "truth"], values[~np.isin(kind, ("truth", "control"))]
            methods = methods[~np.isnan(methods)]
            found.loc[places, tag] = len(truth) > 0 and len(methods) > 0 and not truth.min() > methods.max()
    return found


def _competing(keys: pd.DataFrame) -> list[np.ndarray]:
    """Places of rows that are of the same frames: they agree in all of `keys` but those that make a method."""
    others = [name for name in keys if name not in ("method", "condition", "seed", "drive", "label")]
    return list(keys.groupby(others, sort=False).indices.values()) if others else [np.arange(len(keys))]


def to_markdown(summary: pd.DataFrame, digits: int = 3, bold: bool = True, colour: bool = False) -> str:
    """A table of `table` or `compare` as Markdown: arrows for directions, "mean [low, high]", the caption below.

    The best mean of a metric is bold, except in paired differences. Rows compete that agree in all levels of the index
    but method, condition, seed and drive; those of the condition "truth" do not.
    Means that cannot rank methods (`unranked`) are marked with `MARK`, never bold, and explained below the table. With
    `colour` they are also grey, for a notebook's display. Metrics that no row has are left out.
    """
    names = [name for name in summary.index.names if name]
    tags = list(dict.fromkeys(tag for tag, part in summary.columns if part == "mean"))
    empty = [tag for tag in tags if summary[tag]["mean"].isna().all()]
    summary = summary.drop(columns=empty, level=0) if empty else summary
    tags = [tag for tag in tags if tag not in empty]
    rest = [column for column in summary.columns if column[0] not in tags]
    header = (
        names + [f"{tag} {arrow(tag)}".strip() for tag in tags] + [" ".join(filter(None, column)) for column in rest]
    )
    keys = summary.index.to_frame(index=False)
    fair = keys["condition"].ne("truth").to_numpy() if "condition" in keys else np.ones(len(keys), dtype=bool)
    columns = [keys[name].astype(str).tolist() for name in names]
    marked = _marked(summary, tags)
    for tag in tags:
        part = summary[tag]
        cells = [_cell(*part.iloc[i][["mean", "low", "high"]], digits) for i in range(len(part))]
        compete = fair & ~marked[tag].to_numpy() & part["mean"].notna().to_numpy()
        sign = -1 if arrow(tag) == "↓" else 1
        for places in _competing(keys) if bold and arrow(tag) and not summary.attrs.get("paired") else ():
            places = places[compete[places]]
            score = sign * part["mean"].to_numpy()[places]
            best = np.isclose(score, score.max(initial=-np.inf), rtol=0, atol=10.0 ** -(digits + 2))
            for i in places[best] if len(places) > 1 else ():
                cells[i] = f"**{cells[i]}**"
        grey = "<span style='color:#999999'>{}</span>" if colour else "{}"
        columns.append(
            [grey.format(f"{cell} {MARK}") if mark else cell for cell, mark in zip(cells, marked[tag], strict=True)]
        )
    for column in rest:
        columns.append([f"{value:.0f}" if np.isfinite(value) else "–" for value in summary[column]])
    lines = ["| " + " | ".join(row) + " |" for row in zip(*columns, strict=True)]
    rule = "|" + "|".join([" --- "] * len(names) + [" ---: "] * (len(header) - len(names))) + "|"
    note = f"{MARK} {NOTE}" if marked.any(axis=None) else ""
    below = [line for text in (note, summary.attrs.get("caption", "")) if text for line in ("", text)]
    return "\n".join(["| " + " | ".join(header) + " |", rule, *lines, *below]) + "\n"


def scale_note(scale: pd.DataFrame) -> str:
    """The pairs of `raflib.evaluation.calibrate` as one sentence for a caption."""
    kinds = [kind for kind in KINDS if kind in scale]
    values = [
        f"{row['metric']} " + " / ".join(_cell(row[kind], np.nan, np.nan, 3) for kind in kinds)
        for row in scale.to_dict("records")
    ]
    return f"Scale of the metrics on true images of the subject ({' / '.join(kinds)} pair): {'; '.join(values)}."


def _marked(summary: pd.DataFrame, tags: Sequence[str]) -> pd.DataFrame:
    """`unranked`; of paired differences, what `compare` found in the rows."""
    if not summary.attrs.get("paired"):
        return unranked(summary)
    found = [[tag in summary.attrs.get("unranked", ()) for tag in tags]] * len(summary)
    return pd.DataFrame(found, columns=list(tags), dtype=bool)


def _blind(rows: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Metrics that cannot rank the methods of these result rows (`unranked`); empty where no true image was scored."""
    if "condition" not in rows or "method" not in rows or not (rows["condition"] == "truth").any():
        return []
    means = one_truth(rows).groupby(["method", "condition"], sort=False)[list(metrics)].mean()
    means.columns = pd.MultiIndex.from_product([metrics, ["mean"]])
    found = unranked(means)
    return [tag for tag in metrics if found[tag].any()]


def _metric_columns(rows: pd.DataFrame, metrics: Sequence[str] | None) -> list[str]:
    """`metrics`, by default all registered ones among the columns."""
    return [name for name in rows if name in REGISTRY] if metrics is None else list(metrics)


def require_columns(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """RafError naming the first of `columns` that `rows` lacks, or saying that there are no rows."""
    missing = [name for name in columns if name not in rows]
    if missing:
        found = ", ".join(map(str, rows.columns))
        raise RafError(f"report: column {missing[0]!r} is not in the rows; found {found}; if it is new, evaluate again")
    if not len(rows):
        raise RafError("report: there are no rows to summarise; evaluate a run first")


def _blocks(rows: pd.DataFrame, block: int) -> Int[np.ndarray, " N"]:
    """The number of each row's block: rows of one subject, driver, sequence and stretch of `block` frames share it."""
    keys = [rows[key] for key in ("subject", "driver", "sequence") if key in rows]
    stretch = rows["frame"] // block if "frame" in rows else pd.Series(np.arange(len(rows)), index=rows.index)
    return (
        pd.concat([*keys, stretch], axis=1)
        .groupby([*[key.name for key in keys], stretch.name or 0])
        .ngroup()
        .to_numpy()
    )


def _interval(
    values: pd.DataFrame, blocks: Int[np.ndarray, " N"], resamples: int, seed: int
) -> dict[str, Float[np.ndarray, " M"]]:
    """ "mean", "low" and "high" of each column: percentile bootstrap over blocks; NaNs are left out."""
    mean = values.mean().to_numpy()
    sums, counts = values.groupby(blocks).sum().to_numpy(), values.groupby(blocks).count().to_numpy()
    if len(sums) < 2:
        return {"mean": mean, "low": np.full(len(mean), np.nan), "high": np.full(len(mean), np.nan)}
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (draws @ sums) / (draws @ counts)
    known = np.isfinite(means).any(0)
    low, high = np.full((2, len(mean)), np.nan)
    if known.any():
        low[known], high[known] = np.nanpercentile(means[:, known], [2.5, 97.5], axis=0)
    return {"mean": mean, "low": low, "high": high}


def _caption(block: int, resamples: int) -> str:
    return f"Mean [95 % percentile bootstrap interval over blocks of {block} frames, {resamples} resamples]."


def _cell(mean: float, low: float, high: float, digits: int) -> str:
    """One cell of a Markdown table; "–" for a mean that is NaN."""
    if not np.isfinite(mean):
        return "∞" if mean == np.inf else "–"
    return f"{mean:.{digits}f}" + (f" [{low:.{digits}f}, {high:.{digits}f}]" if np.isfinite([low, high]).all() else "")
