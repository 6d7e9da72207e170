"""Exports of a study's page: complete, without the key, and for Mechanical Turk as Appendix B describes."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from toy_study import toy_study

import raflib
from raflib.errors import RafError
from raflib.study import Study, export_page, export_turk, read_answers
from raflib.study.format import AXES, INSTRUCTIONS
from raflib.study.pages import template

FILES = Path(raflib.__file__).parent / "study" / "page"
BASE = "https://example.org/faces"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return toy_study(tmp_path_factory.mktemp("pages") / "study")


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_template_is_installed_and_asks_no_other_host():
    package = tomllib.loads((FILES.parents[2] / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    installed = {path for pattern in package["raflib"] for path in (FILES.parents[1]).glob(pattern)}
    assert set(FILES.iterdir()) <= installed
    for name in ("page.html", "page.css", "page.js"):
        assert not re.findall(r"//[\w.]+\.\w|@import|url\(|innerHTML|eval\(", template(name)), name
        assert "${" not in template(name), "Mechanical Turk would take it for a variable"


def test_the_page_tells_screen_readers_everything_but_the_answer():
    text = template("page.html")
    alts = re.findall(r'<img [^>]*alt="([^"]+)"', text)
    assert len(alts) == text.count("<img ") == 4 and len(set(alts)) == 3
    assert 'lang="en"' in text and text.count('role="group"') == 4 and text.count('role="status"') == 2
    known = set(re.findall(r'id="([^"]+)"', text))
    for attribute in ("aria-labelledby", "aria-describedby"):
        assert set(re.findall(rf'{attribute}="([^"]+)"', text)) <= known


def test_a_page_for_disks_is_complete_and_holds_no_secret(study, tmp_path):
    index = export_page(study.folder, tmp_path / "page")
    images = {str(path.relative_to(study.folder)) for path in study.folder.glob("images/*")}
    assert index == tmp_path / "page" / "index.html"
    assert names(index.parent) == {"index.html", "page.css", "page.js", "data.js"} | images
    assert all((index.parent / name).read_bytes() == (study.folder / name).read_bytes() for name in images)
    data = (index.parent / "data.js").read_text()
    told = json.loads(data.removeprefix("window.STUDY = ").removesuffix(";\n"))
    assert sorted(told) == ["axes", "choices", "id", "instructions", "lists", "mode", "questions", "title"]
    assert told["lists"] == [list(each) for each in study.lists] and len(told["questions"]) == 30
    assert told["axes"] == AXES and told["instructions"] == INSTRUCTIONS
    assert not re.search("attention|nearest|arkit", data)


def test_no_export_mixes_with_other_files(study, tmp_path):
    for export in (export_page, lambda folder, out: export_turk(folder, out, BASE)):
        for place in (study.folder, study.folder.parent, study.folder / "images" / ".."):
            with pytest.raises(RafError, match="with its key, which raters must not see"):
                export(study.folder, place)
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / "file").write_text("mine")
        (tmp_path / "file").write_text("mine")
        for place in (tmp_path / "other", tmp_path / "file"):
            with pytest.raises(RafError, match="expected a new or empty folder"):
                export(study.folder, place)
        assert names(tmp_path) == {"file", "other/file"}


def test_a_missing_image_is_named(tmp_path):
    study = toy_study(tmp_path / "study")
    (study.folder / study.questions[3].left).unlink()
    with pytest.raises(RafError, match=r"images/03b\.png: no such image; build the study again"):
        export_page(study.folder, tmp_path / "page")


def test_mechanical_turk_gets_layout_table_and_qualifications(study, tmp_path):
    out = export_turk(study.folder, tmp_path / "turk", BASE + "/")
    assert export_turk(study.folder, out, BASE) == out, "also into the folder of an earlier export"
    assert names(out) == {"layout.html", "input.csv", "qualifications.json"}
    layout = (out / "layout.html").read_text()
    with open(out / "input.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["study", "question", "reference", "left", "right"]
    assert set(re.findall(r"\$\{(.*?)\}", layout)) == set(rows[0]), "each variable is a column"
    assert len(layout.encode()) < 65535, "the limit of Mechanical Turk"
    assert "<form" not in layout and "<html" not in layout and "<link" not in layout and " src=" not in layout
    assert [row["question"] for row in rows] == [each.id for each in study.questions]
    assert {row["study"] for row in rows} == {study.id}
    first = study.questions[0]
    assert [rows[0][name] for name in ("reference", "left", "right")] == [
        f"{BASE}/{name}" for name in (first.reference, first.left, first.right)
    ]
    told = json.loads((out / "qualifications.json").read_text())
    place, approval, masters = told["QualificationRequirements"]
    assert [each["Country"] for each in place["LocaleValues"]] == ["US", "GB", "AU", "CA", "IN"]
    assert (approval["Comparator"], approval["IntegerValues"]) == ("GreaterThanOrEqualTo", [98])
    assert masters["Comparator"] == "Exists"
    asked = [sum(each.id in names for names in study.lists) for each in study.questions]
    assert told["assignments_per_task"] == max(asked)
    assert not re.search("attention|nearest|arkit", layout + (out / "input.csv").read_text())


def test_results_of_the_exported_table_are_read(study, tmp_path):
    """The site's results repeat the columns of input.csv as `Input.…` and the layout's radio names as `Answer.…`."""
    folder = tmp_path / "study"
    shutil.copytree(study.folder, folder)
    out = export_turk(folder, tmp_path / "turk", BASE)
    asked = list(csv.DictReader(io.StringIO((out / "input.csv").read_text())))
    layout = (out / "layout.html").read_text()
    (folder / "answers").mkdir(exist_ok=True)
    with open(folder / "answers" / "results.csv", "w", newline="") as stream:
        names = ["HITId", "WorkerId", "AssignmentStatus", "WorkTimeInSeconds", "SubmitTime"]
        rows = csv.writer(stream)
        rows.writerow([*names, *(f"Input.{name}" for name in asked[0]), "Answer.pose", "Answer.expression"])
        for number, row in enumerate(asked):
            told = [f"h{number}", "A1", "Approved", "9", "Sat Nov 28 09:00:00 PST 2026"]
            rows.writerow([*told, *row.values(), "left", "tie"])
    found = read_answers(Study.load(folder))
    assert found.problems.empty and len(found.table) == 2 * len(asked)
    assert found.table.groupby("axis").choice.unique().str[0].to_dict() == {"expression": "tie", "pose": "left"}
    assert all(f"${{{name}}}" in layout for name in asked[0])


@pytest.mark.parametrize(
    "base",
    [
        "http://example.org", "example.org", "https://", "https://a.org/x?y=1", 'https://a.org/"', "https://a.org/${x}",
        "https://a.org/<b>", "https://a.org/ b", "file:///tmp", "https://a.org/x\n",
    ],
)  # fmt: skip
def test_an_address_that_no_worker_can_load(study, tmp_path, base):
    with pytest.raises(RafError, match=r"base_url is .* expected an address such as https://example\.org/study"):
        export_turk(study.folder, tmp_path / "turk", base)
    assert not (tmp_path / "turk").exists()


def test_texts_cannot_end_the_script(tmp_path):
    study = toy_study(tmp_path / "study")
    path = study.folder / "study.json"
    path.write_text(path.read_text().replace('"Toy"', json.dumps("</script><script>alert(1)</script> ${x}")))
    layout = (export_turk(study.folder, tmp_path / "turk", BASE) / "layout.html").read_text()
    assert layout.count("</script>") == 2 and "alert(1)" in layout and "${x}" not in layout
