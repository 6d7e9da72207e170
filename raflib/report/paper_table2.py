"""Table 2 of the paper: vanilla, random noise and RAF in self- and cross-driving, ours beside the paper's numbers."""

from __future__ import annotations

import pandas as pd

from raflib.report.paper_layout import in_the_papers_layout
from raflib.report.sheet import Sheet

NAMES = {"vanilla": "Original (vanilla)", "noise-0.08": "Random noise (σ 0.08)", "raf": "RAF"}
"""The table's methods, by their labels (`raflib.lab.cells`)."""
COLUMNS = (
    ("self", "psnr"), ("self", "ssim"), ("self", "aed"), ("self", "apd"), ("self", "emotion"),
    ("cross", "aed"), ("cross", "apd"), ("cross", "emotion"),
)  # fmt: skip
"""Columns of the paper's tables 2 and 3: protocol, and measure (`raflib.report.paper_layout.MEASURES`)."""
PAPER2 = {
    "vanilla": (18.038, 0.7881, 0.24227, 0.13409, 0.82016, 0.27037, 0.12289, 0.78746),
    "noise-0.08": (18.004, 0.7890, 0.24998, 0.13023, 0.81604, 0.26920, 0.12105, 0.78770),
    "raf": (18.002, 0.7917, 0.23094, 0.12932, 0.85595, 0.26164, 0.12687, 0.80801),
}
"""The paper's averages over its five subjects on NeRSemble, in the order of `COLUMNS`, by label."""


def table2(rows: pd.DataFrame, about: str = "") -> Sheet:
    """Table 2 from labelled result rows (`raflib.lab.cells.labelled`): each subject, the average, and the paper's.

    Works with any part of the grid; `about`, the setting, begins the caption. Raises RafError where none of the three
    methods is in the rows.
    """
    return in_the_papers_layout(rows, "table2", NAMES, COLUMNS, PAPER2, f"Table 2. {about}")
