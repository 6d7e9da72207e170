"""Tables with intervals and the figures of the paper."""

from raflib.report.coverage_figures import (
    change_figure,
    clip_figure,
    coverage_figure,
    dimension_figure,
    sequence_figure,
)
from raflib.report.figures import PALETTE, differences_figure, manifest, pca_figure, strip, training_curves
from raflib.report.tables import arrow, compare, table, to_markdown

__all__ = [
    "PALETTE",
    "arrow",
    "change_figure",
    "clip_figure",
    "compare",
    "coverage_figure",
    "differences_figure",
    "dimension_figure",
    "manifest",
    "pca_figure",
    "sequence_figure",
    "strip",
    "table",
    "to_markdown",
    "training_curves",
]
