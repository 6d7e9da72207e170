"""The site: its pages, links and looks, and that it needs no network (`scripts/build_site.py`)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
try:
    import build_site
finally:
    sys.path.pop(0)

FRONT, NOTEBOOK = "index.html", "notebooks/03_coverage.html"
SCREENS = {"desktop": (1280, 800, False), "phone": (390, 844, True)}


def stream(text: str, name: str = "stdout") -> dict:
    return {"output_type": "stream", "name": name, "text": text}


def markdown(text: str) -> dict:
    return {"output_type": "display_data", "metadata": {}, "data": {"text/markdown": text}}


def executed_copy(path: Path, notebook: str, *outputs: dict) -> None:
    """A stored copy of a notebook, whose code cells all have these outputs, with a receipt."""
    copy = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())
    for cell in copy["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = list(outputs)
    path.write_text(json.dumps(copy))
    path.with_suffix(".json").write_text("{}")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The whole site, with one executed notebook and nothing run."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "copies").mkdir()
    outputs = [stream("seventeen drivers\n"), markdown("| part | PSNR |\n| --- | --- |\n| FREE | 26.6 |\n")]
    executed_copy(folder / "copies" / "03_coverage_422_tiny.ipynb", "03_coverage", *outputs)
    arguments = ["--as-is", "--brief", "--notebooks", str(folder / "copies"), "--out", str(folder)]
    assert build_site.main(arguments) == 0, "a link is broken, or Sphinx failed"
    return folder / "html"


def test_every_notebook_and_public_room_has_a_page(site):
    for name in (*build_site.NOTEBOOKS, "RESULTS", "METRICS"):
        assert (site / "notebooks" / f"{name}.html").is_file(), name
    front = (site / FRONT).read_text()
    assert all(caption in front for caption in (*build_site.PAGES, "Reference"))
    reference = (site / "reference" / "bank.html").read_text()
    assert 'id="raflib.bank.ExpressionBank.search"' in reference
    assert "seventeen drivers" in (site / NOTEBOOK).read_text()


def test_code_of_a_notebook_links_to_the_reference(site):
    assert "reference/coverage.html#raflib.coverage.table" in (site / NOTEBOOK).read_text()


def test_a_table_among_the_results_is_shown_as_a_table(site):
    assert re.search(r"<td>\s*(<p>)?26\.6", (site / NOTEBOOK).read_text())


def test_equations_need_no_script(site):
    pages = [path.read_text() for path in site.rglob("*.html")]
    assert not any(re.search("<script[^>]*mathjax", page.lower()) for page in pages)
    assert any("<math" in page for page in pages) == bool(_equations())


def _equations() -> list[str]:
    """Text cells of notebooks that hold an equation."""
    notebooks = [json.loads(path.read_text()) for path in (ROOT / "notebooks").glob("*.ipynb")]
    texts = ["".join(cell["source"]) for notebook in notebooks for cell in notebook["cells"]]
    return [text for text in texts if re.search(r"\$[^$]+\$", text)]


@pytest.mark.parametrize("screen", SCREENS)
def test_pages_fit_the_screen_and_load_nothing_from_the_web(site, browser, screen):
    width, height, phone = SCREENS[screen]
    browser.events.clear()
    page = browser.open((site / FRONT).as_uri(), width, height, phone)
    for path in sorted(site.rglob("*.html")):
        if "_modules" in path.parts:
            continue
        page.go(path.as_uri())
        wide = page.run("document.documentElement.scrollWidth")
        assert wide <= width, f"{path.relative_to(site)} is {wide} pixels wide"
        assert not page.errors(), path
    asked = [
        event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked and not [url for url in asked if not url.startswith(("file:", "data:"))]


def test_the_search_works_from_disk(site, browser):
    page = browser.open((site / "search.html").as_uri() + "?q=jackknife")
    page.wait("document.querySelectorAll('#search-results li').length > 0")
    assert not page.errors()


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="b.html#x">b</a><a href="c.html">c</a><img src="d.png">'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#top">a</a><a href="https://example.org/none">elsewhere</a>')
    assert build_site.broken_links(tmp_path) == [
        "a.html: link to b.html#x, which has no such heading",
        "a.html: link to c.html, which does not exist",
        "a.html: link to d.png, which does not exist",
    ]


def test_progress_bars_and_widgets_are_left_out():
    cell = nbformat.v4.new_code_cell("fit()")
    widget = {"output_type": "display_data", "metadata": {}, "data": {"application/vnd.jupyter.widget-view+json": {}}}
    bar = "steps:  10%|# | 1/10\rsteps: 100%|##| 10/10\n"
    cell["outputs"] = [stream(bar), stream("a warning\n", "stderr"), stream(f"before\n{bar}after\n"), widget]
    cleaned = build_site.cleaned({"cells": [cell], "metadata": {"widgets": {}}})
    assert [output["text"] for output in cleaned["cells"][0]["outputs"]] == ["before\nafter\n"]
    assert cleaned["metadata"] == {}


def test_the_copy_with_the_largest_profile_is_shown(tmp_path):
    for name in ("04_train_422_vanilla_demo", "04_train_422_raf_tiny", "04_train_422_raf_demo", "03_coverage_422_tiny"):
        executed_copy(tmp_path / f"{name}.ipynb", name[: name.index("_422")])
    (tmp_path / "05_evaluate_422_raf_demo.ipynb").write_text("{}")  # no receipt: it was not finished
    shown = {name: path.stem for name, path in build_site.executed(tmp_path).items()}
    assert shown == {"03_coverage": "03_coverage_422_tiny", "04_train": "04_train_422_raf_demo"}
