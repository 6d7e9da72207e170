"""Answers of a study as one table, read from its folder; what cannot be counted becomes a table of problems.

    answers/RATER.jsonl   our own lines, from the page, from `serve` or from an observer
    answers/NAME.csv      results as Mechanical Turk's requester page gives them

Files stay as they are. Every line is a row of the table, or replaced by a later line, or a row of problems.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from raflib.errors import RafError
from raflib.reading import damage_named, parsed_json, read_bytes
from raflib.study.format import ANSWERS, AXES, CHOICES, LARGEST, OBSERVER, Answer, Study

REMEDY = "restore the file, or take it out of the folder"
TURK = ("WorkerId", "AssignmentStatus", "Input.study", "Input.question")
"""Columns of Mechanical Turk's results that are needed beside the answers."""
COLUMNS = [field.name for field in fields(Answer) if field.name != "study"]
UNTIMED = "1970-01-01T00:00:00+00:00"
"""Time of an answer while it is checked whose own time is written in no fixed format."""
Row = tuple[str, str, str, str, float, str]
"""One answer: its entries of `COLUMNS`."""


@dataclass(frozen=True, eq=False)
class Answers:
    """All answers to a study.

    Attributes:
        table: one row per rater, question and axis: `rater`, `question`, `axis`, `choice`, `ms` (NaN if unknown),
            `time`, and `source` ("page" or "turk").
        problems: what is not in `table`: `file`, `line` (from 1), `rater`, `problem`.
    """

    table: pd.DataFrame
    problems: pd.DataFrame


def read_answers(study: Study) -> Answers:
    """All answers in the study's folder.

    A later line of our own files replaces the same rater's earlier answer to the same question and axis: that is how
    the page undoes. In Mechanical Turk's results the first of several assignments of one worker to one question counts.
    A question of which only one axis is answered is a problem, and not in the table. Raises RafError for a file that
    cannot be read at all.
    """
    latest: dict[tuple[str, str, str], tuple] = {}
    problems: list[dict] = []
    turk: set[tuple[str, str]] = set()
    folder = study.folder / ANSWERS
    sources = [("page", path, _page_rows(path, study)) for path in sorted(folder.glob("*.jsonl"))]
    sources += [("turk", path, _turk_rows(path, study, turk)) for path in sorted(folder.glob("*.csv"))]
    for source, path, lines in sources:
        for line, rater, found in lines:
            if isinstance(found, str):
                problems.append({"file": path.name, "line": line, "rater": rater, "problem": found})
            else:
                latest.update({row[:3]: (*row, source, path.name, line) for row in found})
    for rater, question, axis in sorted(latest):
        if any((rater, question, other) not in latest for other in AXES):
            *_, name, line = latest.pop((rater, question, axis))
            half = f"question {question} is answered for {axis} only"
            problems.append({"file": name, "line": line, "rater": rater, "problem": half})
    rows = [row[:-2] for row in latest.values()]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "source"]).astype({"ms": float})
    return Answers(table, pd.DataFrame(problems, columns=["file", "line", "rater", "problem"]))


def worker_name(study: Study, worker: str) -> str:
    """The rater's name of a Mechanical Turk worker: a hash, because worker ids can lead to a person."""
    return "w" + hashlib.sha256(f"{study.id}|{worker}".encode()).hexdigest()[:12]


def is_observer(rater: str) -> bool:
    """Whether a rater is a program."""
    return rater.startswith(OBSERVER)


def _page_rows(path: Path, study: Study) -> Iterator[tuple[int, str, list[Row] | str]]:
    """(line, rater, its answer or what is wrong) of each line."""
    lines = read_bytes(path, "file of answers", REMEDY, LARGEST).split(b"\n")
    for line, text in enumerate(lines[:-1] if not lines[-1] else lines, 1):
        try:
            answer = Answer.of(parsed_json(text), study)
        except (ValueError, RecursionError) as error:
            yield line, "", f"{error} in {text[:60]!r}"
        else:
            row = (answer.rater, answer.question, answer.axis, answer.choice, float(answer.ms), answer.time)
            yield line, answer.rater, [row]


def _turk_rows(path: Path, study: Study, seen: set[tuple[str, str]]) -> Iterator[tuple[int, str, list[Row] | str]]:
    """(line, rater, answers or what is wrong) of each row; RafError where the file is no table of results.

    `seen` collects workers with their questions over all files.
    """
    data = read_bytes(path, "file of Mechanical Turk results", REMEDY, LARGEST)
    with damage_named(path, "file of Mechanical Turk results", REMEDY):
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig", errors="replace"), newline=""))
        head = next(reader, [])
        if absent := [name for name in TURK if name not in head]:
            raise ValueError(f"column {absent[0]} is missing")
        if len(set(head)) < len(head):
            raise ValueError("a column comes twice")
        rows = [(reader.line_num, row) for row in reader if row]
    for line, row in rows:
        if len(row) != len(head):
            yield line, "", f"row has {len(row)} cells, expected {len(head)}"
            continue
        cells = dict(zip(head, row, strict=True))
        rater = worker_name(study, cells["WorkerId"])
        try:
            found: list[Row] | str = _of_cells(cells, rater, study)
        except RafError as error:
            found = str(error)
        if not isinstance(found, str):
            key = rater, cells["Input.question"]
            if key in seen:
                found = f"duplicated assignment: this worker has answered question {key[1]} already"
            seen.add(key)
        yield line, rater, found


def _of_cells(cells: dict[str, str], rater: str, study: Study) -> list[Row] | str:
    """Both answers of one assignment, or why it does not count; RafError as `Answer.of` raises it."""
    if not cells["WorkerId"]:
        return "there is no WorkerId"
    if cells["AssignmentStatus"] not in ("Submitted", "Approved"):
        return f"its status is {cells['AssignmentStatus'] or 'empty'}, expected Submitted or Approved"
    seconds, question = cells.get("WorkTimeInSeconds", ""), cells["Input.question"]
    ms = 1000.0 * int(seconds) if re.fullmatch("[0-9]{1,6}", seconds) else math.nan
    rows: list[Row] = []
    for axis in AXES:
        choice = _turk_choice(cells, axis)
        values = {"rater": rater, "question": question, "axis": axis, "choice": choice}
        Answer.of({"study": cells["Input.study"], **values, "ms": 0, "time": UNTIMED}, study)
        rows.append((rater, question, axis, choice, ms, cells.get("SubmitTime", "")))
    return rows


def _turk_choice(cells: dict[str, str], axis: str) -> str:
    """The choice in a column such as Answer.pose, or marked by "true" in one of Answer.pose.left, ….right, ….tie."""
    if cells.get(f"Answer.{axis}"):
        return cells[f"Answer.{axis}"]
    marked = [name for name in CHOICES if cells.get(f"Answer.{axis}.{name}", "").lower() == "true"]
    return marked[0] if len(marked) == 1 else " and ".join(marked)
