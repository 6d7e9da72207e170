"""Tables with intervals and the figures of the paper."""

from raflib.report._style import PALETTE, portrait
from raflib.report.contributions_figure import contributions_figure
from raflib.report.coverage_figures import (
    change_figure,
    clip_figure,
    coverage_figure,
    dimension_figure,
    sequence_figure,
)
from raflib.report.error_budget_figure import error_budget_figure
from raflib.report.figures import differences_figure, joined, manifest, strip, training_curves
from raflib.report.gallery import gallery, nearest
from raflib.report.hypotheses_figure import hypotheses_figure
from raflib.report.page import pca_page
from raflib.report.paper_table1 import PAPER, PAPER_ROW, table1, table1_text
from raflib.report.picking import different, moments, seconds, views
from raflib.report.plane import evenly, pca_figure, variants_figure
from raflib.report.retrieval_figure import retrieval_figure
from raflib.report.signal_figures import agreement_figure, signals_figure
from raflib.report.splat_figures import screen_figure
from raflib.report.study_figure import nearness_figure, power_figure, study_figure
from raflib.report.swap_figure import framed, swap_figure, visits_figure
from raflib.report.tables import MARK, arrow, compare, one_truth, scale_note, table, to_markdown, unranked

__all__ = [
    "PAPER",
    "PAPER_ROW",
    "table1",
    "table1_text",
    "MARK",
    "PALETTE",
    "agreement_figure",
    "arrow",
    "change_figure",
    "clip_figure",
    "compare",
    "contributions_figure",
    "coverage_figure",
    "differences_figure",
    "different",
    "dimension_figure",
    "error_budget_figure",
    "evenly",
    "framed",
    "gallery",
    "hypotheses_figure",
    "joined",
    "manifest",
    "moments",
    "nearest",
    "nearness_figure",
    "one_truth",
    "pca_figure",
    "pca_page",
    "portrait",
    "power_figure",
    "retrieval_figure",
    "scale_note",
    "screen_figure",
    "seconds",
    "sequence_figure",
    "signals_figure",
    "strip",
    "study_figure",
    "swap_figure",
    "table",
    "to_markdown",
    "training_curves",
    "unranked",
    "variants_figure",
    "views",
    "visits_figure",
]
