"""The page of a study in a real browser: whole sessions by keyboard and mouse, reloads, lost connections, two tabs."""

from __future__ import annotations

import json
import random
import re
import sys
import time
from pathlib import Path

import pytest
from toy_study import ASKED, toy_study

from raflib.study import Answer, export_page, export_turk, read_answers, serve

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
try:
    import chromium
finally:
    sys.path.pop(0)

AXES, CHOICES = ("pose", "expression"), ("left", "right", "tie")
READY = "document.querySelector('.study').dataset.state === 'ready'"
DONE = "document.querySelector('.study').dataset.state === 'done'"


@pytest.fixture
def study(tmp_path):
    return toy_study(tmp_path / "study")


def place(page) -> int:
    """The number of the question that the page shows, from 1."""
    return int(re.match(r"Question (\d+) of 20", page.run("document.getElementById('place').textContent"))[1])


def choose(page, axis: str, choice: str, by: str) -> None:
    """One choice, by key or click, when the page is ready for it."""
    page.wait(READY)
    if by == "key":
        page.wait(f"document.getElementById('{axis}').classList.contains('active')")
        page.press(str(1 + CHOICES.index(choice)))
    else:
        page.click(f"#{axis} [data-choice={choice}]")


def answer_question(page, number: int, plan: dict, by: str) -> None:
    """Answer question `number` (from 0) as planned, and wait until the next one or the end is shown."""
    page.wait(READY)
    assert place(page) == number + 1
    for axis in AXES if by == "key" else AXES[:: 1 - 2 * (number % 2)]:
        choose(page, axis, plan[number][axis], by)
    page.wait(DONE if number + 1 == len(plan) else f"document.getElementById('bar').value === {number + 1}")


def planned(seed: int) -> dict[int, dict[str, str]]:
    """Random choices for all questions of a rater."""
    draw = random.Random(seed)
    return {number: {axis: draw.choice(CHOICES) for axis in AXES} for number in range(ASKED)}


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def choices_of(lines: list[dict]) -> dict[tuple[str, str], str]:
    """The choice that counts, by question and axis."""
    return {(line["question"], line["axis"]): line["choice"] for line in lines}


def expected(study, asked: int, plan: dict) -> dict[tuple[str, str], str]:
    return {(study.lists[asked][number], axis): plan[number][axis] for number in plan for axis in AXES}


def stored(page) -> None:
    """Wait until the page says that the server has everything."""
    page.wait("document.getElementById('stored').textContent")


def test_whole_sessions_of_two_raters_with_reloads_and_lost_connections(browser, study):
    first, second = planned(1), planned(2)
    server = serve(study.folder)
    one, two = (browser.open(server.links[name], 1280, 800) for name in ("rater01", "rater02"))
    for number in range(ASKED):
        if number == 5:  # a reload between the two choices of a question
            one.wait(READY)
            choose(one, "pose", first[5]["pose"], "key")
            one.reload()
            one.wait(READY)
            assert one.run("document.querySelector('#pose [aria-pressed=true]').dataset.choice") == first[5]["pose"]
            choose(one, "expression", first[5]["expression"], "key")
            one.wait("document.getElementById('bar').value === 6")
        else:
            if number == 8:  # the connection is lost for three questions
                stored(one)
                assert one.errors() == []
                one.offline(True)
            answer_question(one, number, first, "key" if number % 2 else "click")
            if number == 10:
                one.wait("document.getElementById('notice').textContent.startsWith('No connection. 6 answers are')")
                one.offline(False)
                stored(one)
        if number == 17:  # the server ends before the last two questions
            stored(one)
            stored(two)
            assert two.errors() == []
            server.close()
        answer_question(two, number, second, "click" if number % 2 else "key")
    one.wait("document.getElementById('notice').textContent.startsWith('No connection. 4 answers are')")
    one.wait("document.getElementById('thanks').textContent.startsWith('Please keep this page open')")
    server = serve(study.folder)
    for page in (one, two):
        page.wait("document.getElementById('thanks').textContent === 'You can close this page.'")
        lost = "Failed to load resource: net::ERR_"  # the browser itself reports each lost connection
        assert [text for text in page.errors() if not text.startswith(lost)] == []
        page.close()
    server.close()
    for asked, plan in enumerate((first, second)):
        lines = lines_of(study.folder / "answers" / f"rater{asked + 1:02d}.jsonl")
        assert [Answer.of(line, study).rater for line in lines] == [f"rater{asked + 1:02d}"] * 2 * ASKED
        assert choices_of(lines) == expected(study, asked, plan), "exactly what was chosen, nothing twice"
        assert all(0 <= line["ms"] < 10**6 for line in lines)


def test_undo_double_clicks_and_held_keys(browser, study):
    plan = {0: {"pose": "left", "expression": "right"}, 1: {"pose": "tie", "expression": "tie"}}
    with serve(study.folder, 1) as server:
        page = browser.open(server.links["rater01"])
        page.wait(READY)
        assert page.run("document.getElementById('undo').disabled")
        choose(page, "pose", "left", "key")
        choose(page, "expression", "left", "key")
        page.wait("document.getElementById('bar').value === 1")
        page.wait(READY)
        stored(page)
        page.press("u")
        page.wait(READY)
        assert place(page) == 1 and page.run("document.activeElement.id") == "expression"
        choose(page, "expression", "right", "key")
        page.wait("document.getElementById('place').textContent.startsWith('Question 2')")
        for _ in range(2):
            page.wait(READY)
            page.click("#undo")
        page.wait(READY)
        assert place(page) == 1 and page.run("document.querySelector('.question.active').id") == "pose"
        page.click("#keep")
        page.wait("document.getElementById('place').textContent.startsWith('Question 2')")
        page.wait(READY)
        page.press("3", times=5)  # held down
        page.wait("document.querySelector('#pose [aria-pressed=true]')")
        page.click("#expression [data-choice=tie]", times=2)  # a double click
        page.wait("document.getElementById('place').textContent.startsWith('Question 3')")
        page.wait(READY)
        time.sleep(0.05)
        assert not page.run("document.querySelector('[aria-pressed=true]')")
        stored(page)
        assert page.errors() == []
        page.close()
    lines = lines_of(study.folder / "answers" / "rater01.jsonl")
    assert choices_of(lines) == expected(study, 0, plan)
    assert len(lines) == 5, "four choices, and the one that replaced another"


def test_two_tabs_and_two_browsers_of_one_rater(browser, study):
    plan = planned(3)
    with serve(study.folder, 1) as server:
        link = server.links["rater01"]
        tabs = [browser.open(link), browser.open(link), browser.open(link, private=True)]
        for number in range(6):  # the tabs take turns; each shows what another tab has answered
            tab = tabs[number % 2]
            tab.wait(f"document.getElementById('place').textContent === 'Question {number + 1} of 20'")
            answer_question(tab, number, plan, "key")
        stored(tabs[0])
        stored(tabs[1])
        tabs[2].reload()
        tabs[2].wait(READY)
        assert place(tabs[2]) == 7, "another browser goes on where the server is"
        assert [tab.errors() for tab in tabs] == [[], [], []]
        for tab in tabs:
            tab.close()
    lines = lines_of(study.folder / "answers" / "rater01.jsonl")
    assert len(lines) == 12
    assert choices_of(lines) == expected(study, 0, {number: plan[number] for number in range(6)})


def test_a_page_from_a_disk_gives_its_answers_as_a_file(browser, study, tmp_path):
    plan = planned(4)
    index = export_page(study.folder, tmp_path / "page")
    (tmp_path / "down").mkdir()
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "down"))
    page = browser.open(index.as_uri(), 390, 844, phone=True)
    page.click(".numbers a:nth-of-type(2)")
    page.wait("document.getElementById('place').textContent === 'Question 1 of 20'")
    for number in range(ASKED):
        if number == 7:
            page.reload()
        if number == 9:
            page.close()
            page = browser.open(index.as_uri() + "#2", 1280, 800)
        page.wait(READY)
        for axis in AXES:
            choose(page, axis, plan[number][axis], "click" if number < 9 else "key")
        page.wait(f"document.getElementById('bar').value === {number + 1}")
    page.wait(DONE)
    page.click("#download")
    end = time.monotonic() + chromium.PATIENCE
    while not (found := list((tmp_path / "down").glob("*.jsonl"))) and time.monotonic() < end:
        time.sleep(0.02)
    rater = page.run(f"JSON.parse(localStorage.getItem('raf-study/{study.id}/list2'))")
    assert [path.name for path in found] == [f"answers_{study.id}_{rater}.jsonl"]
    lines = lines_of(found[0])
    assert {Answer.of(line, study).rater for line in lines} == {rater} and len(lines) == 2 * ASKED
    assert choices_of(lines) == expected(study, 1, plan)
    (study.folder / "answers").mkdir()
    found[0].rename(study.folder / "answers" / found[0].name)
    imported = read_answers(study)
    assert len(imported.table) == 2 * ASKED and imported.problems.empty
    assert page.errors() == []
    page.close()


def test_mechanical_turk_gets_both_answers_or_none(browser, study, tmp_path):
    layout = (export_turk(study.folder, tmp_path / "turk", "https://example.org") / "layout.html").read_text()
    question = study.questions[4]
    values = {"study": study.id, "question": question.id}
    values |= {name: (study.folder / getattr(question, name)).as_uri() for name in ("reference", "left", "right")}
    for name, value in values.items():
        layout = layout.replace(f"${{{name}}}", value)
    task = tmp_path / "task.html"
    task.write_text(f"<!DOCTYPE html><form id=f action='sent.html'>{layout}<input type=submit id=send></form>")
    (tmp_path / "sent.html").write_text("sent")
    for phone in (False, True):
        page = browser.open(task.as_uri(), *((390, 844) if phone else (1280, 800)), phone=phone, private=True)
        page.wait(READY)
        page.click("#send")
        page.wait("document.getElementById('notice').textContent === 'Please answer both questions first.'")
        choose(page, "expression", "tie", "click")
        page.click("#send")
        choose(page, "pose", "left", "click")
        choose(page, "pose", "right", "click")  # a change of mind
        page.wait("document.getElementById('notice').textContent.endsWith('Please submit.')")
        sent = "JSON.stringify(Object.fromEntries(new FormData(document.getElementById('f'))))"
        assert json.loads(page.run(sent)) == {"pose": "right", "expression": "tie"}
        assert page.run("localStorage.length") == 0
        page.click("#send")
        page.wait("location.pathname.endsWith('sent.html')")
        assert page.errors() == []
        page.close()


@pytest.mark.parametrize(("width", "height", "phone"), [(1280, 800, False), (390, 844, True), (320, 640, True)])
def test_faces_are_large_equal_and_visible(browser, study, width, height, phone):
    with serve(study.folder, 1) as server:
        page = browser.open(server.links["rater01"], width, height, phone=phone)
        page.wait(READY)
        sizes = page.run(
            "[...document.images].map(i => {const b = i.getBoundingClientRect(); return [b.width, b.height]})"
        )
        assert len({round(side) for size in sizes for side in size}) == 1
        assert sizes[0][0] > (0.2 if width > 700 else 0.38) * width
        assert page.run("document.documentElement.scrollWidth") == width, "nothing to scroll sideways"
        assert page.run("[...document.querySelectorAll('#pose button')].every(b => b.offsetHeight >= 44)")
        if height >= 800:
            assert page.run("document.documentElement.scrollHeight") <= height, "everything is visible at once"
        page.close()
