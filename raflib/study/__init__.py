"""The user study of the paper (Figures 3 and 6, Appendix B), to be repeated on any bank.

Raters see a reference face twice, beside two candidates, and say which pair matches better in head pose and in
expression.

    study = make_study("runs/my_study", bank, Design(queries=1000))      # a self-contained folder
    answer_all(study, [truth_observer(study, bank)])                     # or people: serve(study.folder)
    found = read_answers(study)                                          # .table, and .problems
    told = outcomes(study, found.table)
    kept = counted(told, judge(study, told))                             # raters who pass the rules
    report.study_figure(preferences(kept))                               # Figure 3
"""

from raflib.study.agreement import agreement, krippendorff
from raflib.study.answers import Answers, read_answers
from raflib.study.format import Answer, Question, Study, Truth, append_answers
from raflib.study.making import Design, image_folder, make_study, question_images
from raflib.study.observers import Observer, answer_all, mean_distances, network_observer, tie_levels, truth_observer
from raflib.study.pages import export_page, export_turk
from raflib.study.power import Crowd, common_parts, half_width, raters_needed, simulated_answers
from raflib.study.raters import Rules, counted, judge, outcomes, worker_counts
from raflib.study.server import Server, serve
from raflib.study.shares import Share, preferences, share
from raflib.study.truth import closer_than_random

__all__ = [
    "Answer",
    "Answers",
    "Crowd",
    "Design",
    "Observer",
    "Question",
    "Rules",
    "Server",
    "Share",
    "Study",
    "Truth",
    "agreement",
    "answer_all",
    "append_answers",
    "closer_than_random",
    "common_parts",
    "counted",
    "export_page",
    "export_turk",
    "half_width",
    "image_folder",
    "judge",
    "krippendorff",
    "make_study",
    "mean_distances",
    "network_observer",
    "outcomes",
    "preferences",
    "question_images",
    "raters_needed",
    "read_answers",
    "serve",
    "share",
    "simulated_answers",
    "tie_levels",
    "truth_observer",
    "worker_counts",
]
