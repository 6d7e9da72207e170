"""The page on which raters answer (Figure 6): as a folder that works from a disk, and for Mechanical Turk.

The template is three files in `raflib/study/page`. Its data are one script file, because a page that is opened from a
disk must not fetch anything. No export holds key.json or anything from it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from raflib.errors import RafError
from raflib.reading import read_bytes
from raflib.runs import atomic_write, write_json
from raflib.study.format import AXES, CHOICES, IMAGES, INSTRUCTIONS, Question, Study

LARGEST_IMAGE = 2**24
COUNTRIES = ("US", "GB", "AU", "CA", "IN")
"""Countries of the paper's workers (Appendix B): United States, United Kingdom, Australia, Canada, India."""
APPROVAL = 98
"""Least share of a worker's former tasks that were approved, in percent (Appendix B)."""
MASTERS = "2F1QJWKUDD8XADTFD2Q0G6UTO95ALH"
"""Mechanical Turk's id of the Masters qualification on its production site."""
COLUMNS = ("study", "question", "reference", "left", "right")
"""Columns of the input table for Mechanical Turk, which are the variables of its layout."""
_TEMPLATE = ("page.html", "page.css", "page.js")
_BASE = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?")


def template(name: str) -> str:
    """The text of one file of the page's template: page.html, page.css or page.js."""
    return (resources.files("raflib.study") / "page" / name).read_text(encoding="utf-8")


def page_data(mode: str, study: Study, questions: Sequence[Mapping[str, str]], **more: object) -> str:
    """The script that gives a page its texts and questions as `window.STUDY`.

    Args:
        mode: where answers go: "server", "disk" or "turk".
        study: the study.
        questions: id, reference, left and right of each question, the last three as addresses of images.
        more: further entries: `rater` for "server", `lists` for "disk"; or others instead, such as `id`.
    """
    texts = {"title": study.title, "instructions": INSTRUCTIONS, "axes": AXES, "choices": CHOICES}
    text = json.dumps({"mode": mode, "id": study.id, **texts, "questions": list(questions), **more})
    return f"window.STUDY = {text};\n".replace("<", "\\u003c")  # no text can end the script element


def export_page(folder: str | Path, out: str | Path) -> Path:
    """Write the study's page as a folder that raters open from their disk; returns its index.html.

    Send each rater the folder and a number from 1 to the number of the study's lists. The page keeps all answers in the
    rater's browser and offers them as a file that `raflib.study` imports. Raises RafError where the study is damaged,
    an image is missing, or `out` is not a folder of this page alone.
    """
    study, out = Study.load(folder), _fresh(Path(folder), Path(out), "data.js")
    data = page_data("disk", study, [asdict(each) for each in study.questions], lists=study.lists)
    for name in sorted({name for each in study.questions for name in images_of(each)}):
        content = read_bytes(study.folder / name, "image", "build the study again", LARGEST_IMAGE)
        with atomic_write(out / name) as temporary:
            temporary.write_bytes(content)
    for name in _TEMPLATE:
        _write(out / name.replace("page.html", "index.html"), template(name))
    _write(out / "data.js", data)
    return out / "index.html"


def export_turk(folder: str | Path, out: str | Path, base_url: str) -> Path:
    """Write the study for Mechanical Turk, one task a question, as the paper did; returns the folder `out`.

    It holds layout.html (the page with variables), input.csv (their values, one question a row) and qualifications.json
    (which workers Appendix B allows, and how many are asked). Upload the study's images before: the image
    `images/NAME` must be at `base_url/images/NAME`, and key.json must not be there.

    Raises RafError where the study is damaged, `base_url` is not a plain https address (browsers load no other images
    into the workers' page), or `out` is not a folder of this export alone.
    """
    if not _BASE.fullmatch(base_url):
        raise RafError(f"base_url is {base_url[:200]!r}, expected an address such as https://example.org/study")
    study, out = Study.load(folder), _fresh(Path(folder), Path(out), "layout.html")
    asked = Counter(name for each in study.lists for name in each)
    qualifications = {
        "assignments_per_task": max(asked.values(), default=1),
        "website": {
            "Require that Workers be Masters": "Yes",
            "HIT Approval Rate (%) for all Requesters' HITs": f"greater than or equal to {APPROVAL}",
            "Location": f"is one of {', '.join(COUNTRIES)}",
        },
        "QualificationRequirements": [
            {
                "QualificationTypeId": "00000000000000000071",
                "Comparator": "In",
                "LocaleValues": [{"Country": country} for country in COUNTRIES],
            },
            {
                "QualificationTypeId": "000000000000000000L0",
                "Comparator": "GreaterThanOrEqualTo",
                "IntegerValues": [APPROVAL],
            },
            {"QualificationTypeId": MASTERS, "Comparator": "Exists"},
        ],
    }
    table = io.StringIO(newline="")
    rows = csv.writer(table)
    rows.writerow(COLUMNS)
    for each in study.questions:
        rows.writerow([study.id, each.id, *(f"{base_url.rstrip('/')}/{name}" for name in images_of(each))])
    _write(out / "layout.html", turk_layout(study))
    _write(out / "input.csv", table.getvalue())
    write_json(out / "qualifications.json", qualifications)
    return out


def turk_layout(study: Study) -> str:
    """The page as a layout of Mechanical Turk: one piece of HTML with variables such as ${reference}."""
    marks = {name: f"@@{name}@@" for name in COLUMNS}
    question = {"id": marks["question"], **{name: marks[name] for name in COLUMNS[2:]}}
    data = page_data("turk", study, [question], id=marks["study"]).replace("$", "\\u0024")  # in texts, no variable
    for name, mark in marks.items():
        data = data.replace(mark, f"${{{name}}}")
    body = template("page.html").split("<!-- page -->")[1].split("<!-- /page -->")[0]
    style, script = template("page.css"), template("page.js")
    return f"<style>\n{style}</style>\n{body.strip()}\n<script>\n{data}</script>\n<script>\n{script}</script>\n"


def images_of(question: Question) -> tuple[str, str, str]:
    """Paths of the three images of a question inside the study's folder: reference, left, right."""
    return question.reference, question.left, question.right


def _fresh(folder: Path, out: Path, mark: str) -> Path:
    """`out`, a new or empty folder or an earlier export (which holds `mark`), without the study's own files."""
    if folder.resolve().is_relative_to(out.resolve()):
        raise RafError(f"{out}: holds the study with its key, which raters must not see; choose another folder")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / mark).is_file())):
        raise RafError(f"{out}: holds other files, expected a new or empty folder; choose another one")
    (out / IMAGES if mark == "data.js" else out).mkdir(parents=True, exist_ok=True)
    return out


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
