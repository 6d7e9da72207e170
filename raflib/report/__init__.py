"""Tables with intervals and the figures of the paper."""

from raflib.report._drawing import PALETTE, portrait
from raflib.report.coverage_figures import (
    change_figure,
    clip_figure,
    coverage_figure,
    dimension_figure,
    sequence_figure,
)
from raflib.report.figures import differences_figure, manifest, strip, training_curves
from raflib.report.gallery import gallery, nearest
from raflib.report.page import pca_page
from raflib.report.plane import evenly, pca_figure, variants_figure
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
    "evenly",
    "gallery",
    "manifest",
    "nearest",
    "pca_figure",
    "sequence_figure",
    "pca_page",
    "portrait",
    "strip",
    "table",
    "to_markdown",
    "training_curves",
    "variants_figure",
]
