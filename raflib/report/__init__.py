"""Tables with intervals and the figures of the paper."""

from raflib.report._style import PALETTE, portrait
from raflib.report.avatar_figures import avatars_figure
from raflib.report.contributions_figure import contributions_figure
from raflib.report.coverage_figures import (
    change_figure,
    clip_figure,
    coverage_figure,
    dimension_figure,
    sequence_figure,
)
from raflib.report.dose_figure import dose_figure
from raflib.report.dose_table import dose_sheets
from raflib.report.driving_figure import driving_figure
from raflib.report.error_budget_figure import error_budget_figure
from raflib.report.figures import differences_figure, joined, manifest, strip, training_curves
from raflib.report.gallery import gallery, nearest
from raflib.report.hierarchical import hierarchical
from raflib.report.hypotheses_figure import hypotheses_figure
from raflib.report.outside_figure import outside_figure
from raflib.report.outside_gains import gains_by_distance, gains_by_subject, rise_with_distance
from raflib.report.page import pca_page
from raflib.report.paper_table1 import PAPER, PAPER_ROW, table1, table1_text
from raflib.report.paper_table2 import table2
from raflib.report.paper_table3 import table3
from raflib.report.paper_tables import paper_tables
from raflib.report.picking import different, moments, seconds, views
from raflib.report.plane import evenly, pca_figure, variants_figure
from raflib.report.retrieval_figure import retrieval_figure
from raflib.report.sheet import Sheet, Value, csv_text, latex, markdown, write_sheet
from raflib.report.signal_figures import agreement_figure, signals_figure
from raflib.report.splat_figures import screen_figure
from raflib.report.study_figure import nearness_figure, power_figure, study_figure
from raflib.report.subject_figure import subject_figure
from raflib.report.swap_figure import framed, swap_figure, visits_figure
from raflib.report.tables import MARK, arrow, compare, one_truth, scale_note, table, to_markdown, unranked
from raflib.report.verdict import verdict_sheet

__all__ = [
    "PAPER",
    "PAPER_ROW",
    "table1",
    "table1_text",
    "MARK",
    "PALETTE",
    "Sheet",
    "Value",
    "agreement_figure",
    "arrow",
    "avatars_figure",
    "change_figure",
    "clip_figure",
    "compare",
    "contributions_figure",
    "coverage_figure",
    "csv_text",
    "differences_figure",
    "different",
    "dimension_figure",
    "dose_figure",
    "dose_sheets",
    "driving_figure",
    "error_budget_figure",
    "evenly",
    "framed",
    "gains_by_distance",
    "gains_by_subject",
    "gallery",
    "hierarchical",
    "hypotheses_figure",
    "joined",
    "latex",
    "manifest",
    "markdown",
    "moments",
    "nearest",
    "nearness_figure",
    "one_truth",
    "paper_tables",
    "outside_figure",
    "pca_figure",
    "pca_page",
    "portrait",
    "power_figure",
    "retrieval_figure",
    "rise_with_distance",
    "scale_note",
    "screen_figure",
    "seconds",
    "sequence_figure",
    "signals_figure",
    "strip",
    "study_figure",
    "subject_figure",
    "swap_figure",
    "table",
    "table2",
    "table3",
    "to_markdown",
    "training_curves",
    "unranked",
    "variants_figure",
    "verdict_sheet",
    "views",
    "visits_figure",
    "write_sheet",
]
