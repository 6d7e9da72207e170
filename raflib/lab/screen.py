"""What one sees of a run in a notebook: one progress bar at a time, whole tables, and a word on tiny runs."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pandas as pd
from tqdm import tqdm

TINY = "Profile tiny: this proves only that it runs. Numbers and images say nothing about the method."
SINGLE = "start_single"
"""Name of tqdm's `__init__` once it is `single_bar`'s."""


def set_up() -> None:
    """In a notebook's kernel: progress bars and tables as this module has them. Elsewhere nothing changes."""
    if not hasattr(builtins, "__IPYTHON__"):
        return
    pd.set_option("display.max_colwidth", None, "display.max_columns", None, "display.max_rows", 500)
    if tqdm.__init__.__name__ != SINGLE:
        tqdm.__init__ = single_bar(tqdm.__init__)


def single_bar(start: Any) -> Any:
    """tqdm's `__init__` for notebooks: every bar on the same line of standard output, and gone when it has ended.

    tqdm writes to standard error, which JupyterLab shows on red, and leaves a line for every bar that ever ran. A bar
    of nothing, and one of less than a second, is not shown.
    """

    def start_single(self: Any, iterable: Any = None, *args: Any, **options: Any) -> None:
        total = options.get("total", len(iterable) if hasattr(iterable, "__len__") else None)
        options["disable"] = options.get("disable") or total == 0
        start(self, iterable, *args, **{"delay": 1, **options, "file": sys.stdout, "leave": False, "position": 0})

    start_single.__name__ = SINGLE
    return start_single


def about(text: str, profile: str) -> str:
    """`text`, the heading of a result, and in a tiny run what it is worth."""
    return f"{text}\n\n{TINY}" if profile == "tiny" else text
