"""Files of a study: what raters see, what only the analysis may see, and the answers.

    study.json        the questions, their images and the lists of raters; the page needs nothing else
    key.json          the truth of each question (feature space, comparison, side of the nearest row, bank rows);
                      no server and no page ever reads it, so that raters stay blind
    images/NAME.webp  all images; a name is a hash that tells nothing about the face
    answers/RATER.jsonl  one answer per line, one file per rater; a later line replaces the same rater's earlier answer
                      to the same question and axis

A study folder is self-contained: it can be copied, served, or opened from disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from raflib import system
from raflib.errors import RafError
from raflib.reading import damage_named, read_json
from raflib.runs import write_json

VERSION = 1
STUDY, KEY, IMAGES, ANSWERS = "study.json", "key.json", "images", "answers"
LARGEST = 2**27
"""Largest study.json, key.json or file of answers in bytes."""
AXES = {
    "pose": {
        "question": "Which pair matches the head pose of the reference image better?",
        "note": "Ignore facial expression here, look only at head orientation.",
    },
    "expression": {
        "question": "Ignoring identity, which pair matches the facial expression of the reference image better?",
        "note": "Ignore head orientation here, look only at the expression (mouth/eyes/eyebrows).",
    },
}
"""The two questions about each pair of pairs, with their notes. They are quoted from the paper (Appendix B), so that
answers can be compared with its own."""
CHOICES = {"left": "Left pair", "right": "Right pair", "tie": "Tie / Can't tell"}
INSTRUCTIONS = (
    "You see two pairs of faces. Both pairs show the same reference image, each with another candidate. The people are "
    "different on purpose: ignore who they are."
)
CONDITIONS = {
    "nearest_vs_random": "nearest row of the whole bank, or a random row",
    "whole_vs_small": "nearest row of the whole bank, or nearest row of the small bank",
}
KINDS = ("real", "attention")
SIDES = ("left", "right")
OBSERVER = "observer:"
"""Prefix of raters that are programs, not people."""
_NAME = re.compile(rf"({OBSERVER})?[A-Za-z0-9][A-Za-z0-9_-]{{0,63}}")
_ID = re.compile(r"[a-z0-9]{1,32}")
_IMAGE = re.compile(rf"{IMAGES}/[a-z0-9]{{1,64}}\.(webp|png|jpg)")


@dataclass(frozen=True)
class Question:
    """Images of one question, as paths inside the study's folder; `id` tells nothing about the answer."""

    id: str
    reference: str
    left: str
    right: str


@dataclass(frozen=True)
class Truth:
    """What the analysis knows about a question.

    Attributes:
        id: of the question.
        space: feature space in which neighbours were searched; "" for an attention check.
        condition: a name in `CONDITIONS`; "" for an attention check.
        kind: "real" or "attention".
        nearest: side of the nearest row of the whole bank; of an attention check, the side that shows the reference.
        reference, left, right: rows of the queries and of the bank.
    """

    id: str
    space: str
    condition: str
    kind: str
    nearest: str
    reference: int
    left: int
    right: int


@dataclass(frozen=True)
class Study:
    """A study as raters see it. `lists` are question ids in the order of asking, one list for each rater."""

    folder: Path
    id: str
    title: str
    seed: int
    size: int
    questions: tuple[Question, ...]
    lists: tuple[tuple[str, ...], ...]

    @classmethod
    def load(cls, folder: str | Path) -> Study:
        """The study in `folder`; RafError naming study.json where it is missing, damaged or of another version."""
        path = Path(folder) / STUDY
        wanted = {"version": int, "id": str, "title": str, "seed": int, "size": int, "questions": list, "lists": list}
        told = read_json(path, wanted, "study", "build the study again", LARGEST)
        with damage_named(path, "study", "build the study again"):
            if told["version"] != VERSION:
                raise ValueError(f"its version is {told['version']}, expected {VERSION}")
            questions = tuple(Question(**question) for question in told["questions"])
            known = {question.id for question in questions}
            images = [name for each in questions for name in (each.reference, each.left, each.right)]
            if len(known) < len(questions) or not all(_ID.fullmatch(name) for name in known):
                raise ValueError("its question ids are repeated or malformed")
            if not all(_IMAGE.fullmatch(name) for name in images):
                raise ValueError(f"an image is outside {IMAGES}/")
            lists = tuple(tuple(each) for each in told["lists"])
            if not known.issuperset(name for each in lists for name in each):
                raise ValueError("a rater's list names an unknown question")
        return cls(Path(folder), told["id"], told["title"], told["seed"], told["size"], questions, lists)

    @cached_property
    def ids(self) -> frozenset[str]:
        """Ids of all questions."""
        return frozenset(question.id for question in self.questions)

    def truths(self) -> dict[str, Truth]:
        """The truth of each question, by its id; RafError where key.json is missing, damaged or of another study."""
        path = self.folder / KEY
        told = read_json(path, {"study": str, "questions": list}, "key of a study", "build the study again", LARGEST)
        with damage_named(path, "key of a study", "build the study again"):
            if told["study"] != self.id:
                raise ValueError(f"it is the key of study {told['study']}, expected {self.id}")
            truths = {truth.id: truth for truth in (Truth(**each) for each in told["questions"])}
            if truths.keys() != self.ids:
                raise ValueError("it does not tell the truth of exactly the study's questions")
        return truths


@dataclass(frozen=True)
class Answer:
    """One choice of one rater: milliseconds since the question was shown, and the time (ISO 8601, UTC)."""

    study: str
    rater: str
    question: str
    axis: str
    choice: str
    ms: int
    time: str

    def __post_init__(self) -> None:
        check_rater(self.rater)
        wrong = {
            "question": not _ID.fullmatch(self.question), "axis": self.axis not in AXES,
            "choice": self.choice not in CHOICES, "time": not _is_time(self.time),
            "ms": isinstance(self.ms, bool) or not isinstance(self.ms, int) or not 0 <= self.ms < 10**9,
        }  # fmt: skip
        if bad := [name for name, is_wrong in wrong.items() if is_wrong]:
            raise RafError(f"answer: {bad[0]} is {str(getattr(self, bad[0]))[:60]!r}, which is not allowed")

    @classmethod
    def of(cls, values: object, study: Study) -> Answer:
        """The answer in a JSON object with exactly the attributes' names; RafError for any other, and another study."""
        names = list(cls.__dataclass_fields__)
        if not isinstance(values, Mapping) or sorted(map(str, values)) != sorted(names):
            raise RafError(f"answer: expected an object with exactly the entries {', '.join(names)}")
        if odd := [name for name in names if type(values[name]) is not (int if name == "ms" else str)]:
            expected = "a whole number" if odd[0] == "ms" else "text"
            raise RafError(f"answer: {odd[0]} is of type {type(values[odd[0]]).__name__}, expected {expected}")
        answer = cls(**values)
        if answer.study != study.id:
            raise RafError(f"answer: it is of study {answer.study[:60]!r}, expected {study.id}")
        if answer.question not in study.ids:
            raise RafError(f"answer: question {answer.question!r} is not in study {study.id}")
        return answer


def check_rater(name: object) -> str:
    """`name` if it can name a rater: up to 64 letters, digits, "-" and "_"; programs begin with `OBSERVER`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RafError(f"rater is {str(name)[:60]!r}, expected 1 to 64 letters, digits, '-' and '_'")
    return name


def answers_file(folder: str | Path, rater: str) -> Path:
    """The file with the answers of one rater in the study's folder; ":" becomes "." in its name."""
    return Path(folder) / ANSWERS / f"{check_rater(rater).replace(':', '.')}.jsonl"


def append_answers(folder: str | Path, answers: Iterable[Answer]) -> None:
    """Append answers to their raters' files; they are on the disk when this returns.

    Each file grows by one write under a lock, so that several processes can append. A line that a killed process left
    unfinished is ended first, and the importer reports it. RafError where a file cannot be written.
    """
    lines: dict[Path, list[str]] = {}
    for answer in answers:
        lines.setdefault(answers_file(folder, answer.rater), []).append(json.dumps(asdict(answer)) + "\n")
    for path, added in lines.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a+b") as stream:
                system.lock(stream, wait=True)
                end = stream.seek(0, os.SEEK_END)
                stream.seek(max(0, end - 1))
                torn = end > 0 and stream.read(1) != b"\n"
                stream.write(("\n" * torn + "".join(added)).encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise RafError(f"{path}: cannot be written ({error.strerror}); the answers are not stored") from error


def study_id(title: str, seed: int, size: int, questions: Sequence[Question], lists: Sequence[Sequence[str]]) -> str:
    """A checksum of what raters are asked, so that answers to another study are recognised."""
    content = [VERSION, title, seed, size, [asdict(question) for question in questions], [list(each) for each in lists]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def write_study(
    folder: str | Path,
    title: str,
    seed: int,
    size: int,
    questions: Sequence[Question],
    truths: Sequence[Truth],
    lists: Sequence[Sequence[str]],
    about: Mapping[str, object],
) -> Study:
    """Write key.json (with `about`, facts for the analysis) and then study.json; returns the study."""
    name = study_id(title, seed, size, questions, lists)
    key = {"study": name, "about": dict(about), "questions": [asdict(truth) for truth in truths]}
    write_json(Path(folder) / KEY, key)
    texts = {"instructions": INSTRUCTIONS, "axes": AXES, "choices": CHOICES}
    told = {"version": VERSION, "id": name, "title": title, "seed": seed, "size": size, **texts}
    write_json(
        Path(folder) / STUDY,
        {**told, "questions": [asdict(question) for question in questions], "lists": [list(each) for each in lists]},
    )
    return Study.load(folder)


def _is_time(text: object) -> bool:
    try:
        return isinstance(text, str) and len(text) <= 40 and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
