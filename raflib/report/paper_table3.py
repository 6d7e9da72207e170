"""Table 3 of the paper: RAF with half of the bank, with five neighbours, and as it is, ours beside the paper's."""

from __future__ import annotations

from math import nan

import pandas as pd

from raflib.report.paper_layout import in_the_papers_layout
from raflib.report.paper_table2 import COLUMNS, PAPER2
from raflib.report.sheet import Sheet

NAMES = {"raf-half1": "Half bank #1", "raf-half2": "Half bank #2", "raf-top5": "RAF (top 5)", "raf": "RAF"}
"""The table's methods, by their labels (`raflib.lab.cells`)."""
PAPER3 = {
    "raf-half1": (18.070, 0.7926, 0.23513, 0.13226, 0.85169, 0.27079, 0.12495, 0.80305),
    "raf-half2": (18.137, 0.7941, 0.24693, 0.13225, 0.85616, 0.26828, 0.12295, 0.80733),
    "raf-top5": (nan, nan, 0.23927, 0.17058, 0.88228, 0.26687, 0.15089, 0.83073),
    "raf": PAPER2["raf"],
}
"""The paper's averages over its five subjects on NeRSemble, in the order of `COLUMNS`, by label. It prints no PSNR and
SSIM for the top five neighbours."""


def table3(rows: pd.DataFrame, about: str = "") -> Sheet:
    """Table 3 from labelled result rows, as `raflib.report.paper_table2.table2`."""
    return in_the_papers_layout(rows, "table3", NAMES, COLUMNS, PAPER3, f"Table 3. {about}")
