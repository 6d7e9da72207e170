"""The main number of a folder of results, read from the small files in it, for the list in notebook 00."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from raflib.errors import RafError
from raflib.reading import read_json, read_table

UNREADABLE = "cannot be read"
LOGGED = 10
"""Rows of a training's log, 50 steps apart, over which its PSNR is averaged."""


def main_number(notebook: str, folder: Path) -> str:
    """The main number in a notebook's folder of results, with its name. PSNR is in dB.

    "" where the notebook has none, and `UNREADABLE` where its file is missing or damaged.
    """
    if notebook not in NUMBERS:
        return ""
    try:
        return NUMBERS[notebook](folder)
    except RafError:
        return UNREADABLE


def unfinished(folder: Path) -> str:
    """What an unfinished training has reached; "" for a finished one. RafError for a damaged `run.json`."""
    told = read_json(folder / "run.json", {"finished": bool, "steps": int, "total_steps": int})
    return "" if told["finished"] else f"not finished: step {told['steps']:,} of {told['total_steps']:,}"


def _trained(folder: Path) -> str:
    """PSNR of the last training images, or what an unfinished training has reached."""
    if reached := unfinished(folder):
        return reached
    psnr = read_table(folder / "log.csv", ["psnr"])["psnr"]
    return f"PSNR {psnr.tail(LOGGED).mean():.1f}"


def _evaluated(folder: Path) -> str:
    """Mean PSNR of the avatar's face crop on held-out frames, and in cross-driving where the truth is known."""
    rows = read_table(folder / "rows.csv", [], ["condition", "part", "psnr/face"])  # infinite for the truth
    values = pd.to_numeric(rows["psnr/face"], errors="coerce")[rows.condition == "avatar"]
    means = values.groupby(rows.part, sort=False).mean().dropna()
    held_out = [f"{mean:.1f}" for part, mean in means.items() if part.startswith("held-out")]
    shown = [*held_out, *(f"{part} {means[part]:.1f}" for part in ("cross-driving",) if part in means)]
    return f"PSNR face {', '.join(shown)}" if shown else ""


def _covered(folder: Path) -> str:
    """B2T of both training sets, averaged over the subjects of the table."""
    rows = read_table(folder / "rows.csv", ["value"], ["method", "metric"])
    means = rows[rows.metric == "b2t"].groupby("method")["value"].mean()
    shown = [f"{name} {means[name]:.2f}" for name in ("vanilla", "raf") if name in means]
    return f"B2T: {', '.join(shown)}" if shown else ""


def _searched(folder: Path) -> str:
    """Mean distance from the training frames to their nearest neighbours."""
    told = read_json(folder / "summary.json", {"mean_distance_to_nearest": float})
    return f"distance {told['mean_distance_to_nearest']:.2f}"


NUMBERS: dict[str, Callable[[Path], str]] = {
    "02_bank": _searched,
    "03_coverage": _covered,
    "04_train": _trained,
    "05_evaluate": _evaluated,
    "08_your_video": _trained,
}
