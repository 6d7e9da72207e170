"""Display of a run in a notebook: one progress bar at a time, whole tables, and a note on tiny runs."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pandas as pd
from tqdm import tqdm

TINY = "Profile tiny: this proves only that it runs. Numbers and images say nothing about the method."
SINGLE = "start_single"
"""Name of tqdm's `__init__` after `single_bar` has replaced it."""


def set_up() -> None:
    """Set up progress bars and tables in a notebook's kernel; elsewhere do nothing."""
    if not hasattr(builtins, "__IPYTHON__"):
        return
    pd.set_option("display.max_colwidth", None, "display.max_columns", None, "display.max_rows", 500)
    if tqdm.__init__.__name__ != SINGLE:
        tqdm.__init__ = single_bar(tqdm.__init__)


def single_bar(start: Any) -> Any:
    """tqdm's `__init__` for notebooks: all bars use one line of standard output and are removed at their end.

    By default tqdm writes to standard error, which JupyterLab shows on red, and leaves a line for every bar. Bars
    without items and bars of less than a second are not shown.
    """

    def start_single(self: Any, iterable: Any = None, *args: Any, **options: Any) -> None:
        total = options.get("total", len(iterable) if hasattr(iterable, "__len__") else None)
        options["disable"] = options.get("disable") or total == 0
        start(self, iterable, *args, **{"delay": 1, **options, "file": sys.stdout, "leave": False, "position": 0})

    start_single.__name__ = SINGLE
    return start_single


def about(text: str, profile: str) -> str:
    """`text`, the heading of a result, followed by `TINY` in a tiny run."""
    return f"{text}\n\n{TINY}" if profile == "tiny" else text
