"""The user study of the paper (Figures 3 and 6, Appendix B), to be repeated on any bank.

Raters see a reference face twice, beside two candidates, and say which pair matches better in head pose and in
expression. `raflib.study.format` describes the folder of a study.
"""

from raflib.study.format import Answer, Question, Study, Truth, append_answers
from raflib.study.pages import export_page, export_turk
from raflib.study.server import Server, serve

__all__ = [
    "Answer", "Question", "Server", "Study", "Truth", "append_answers", "export_page", "export_turk", "serve",
]  # fmt: skip
