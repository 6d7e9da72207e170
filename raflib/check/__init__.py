"""Checks of a capture before anything is trained on it: what it holds, what is missing, what looks wrong.

    python -m raflib.check FOLDER

The same for a capture in a notebook:

    print(inspect(open_capture("gha", "031", "demo", "NeRSemble"), out="runs/check_031"))

The checks are the functions in `raflib.check.checks`.
"""

from raflib.check.inspection import Report, inspect
from raflib.check.problems import CHECKS, Problem, register

__all__ = ["CHECKS", "Problem", "Report", "inspect", "register"]
