"""Tables with intervals and the figures of the paper."""

from raflib.report.figures import (
    PALETTE,
    coverage_figure,
    differences_figure,
    manifest,
    pca_figure,
    strip,
    training_curves,
)
from raflib.report.tables import arrow, compare, table, to_markdown

__all__ = [
    "PALETTE",
    "arrow",
    "compare",
    "coverage_figure",
    "differences_figure",
    "manifest",
    "pca_figure",
    "strip",
    "table",
    "to_markdown",
    "training_curves",
]
