"""The page of figure 2: one complete file, each point with its own card, and nothing loaded from a network."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from raflib import report
from raflib.bank import ExpressionBank
from raflib.errors import RafError

pytest.importorskip("plotly", reason="plotly is not installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return the page's text and the bank: two queries, two neighbours each, and one other row with a face."""
    draw = np.random.default_rng(0)
    names = [f"<b>P{i % 5}" for i in range(200)]
    bank = ExpressionBank(draw.normal(size=(200, 6)), names, ["FREE"] * 200, np.arange(200), "toy")
    faces = {row: np.full((48, 48, 3), 10 * row, np.uint8) for row in (3, 4, 5, 6, 20)}
    own = [np.full((48, 48, 3), 200, np.uint8), np.full((48, 48, 3), 240, np.uint8)]
    path = tmp_path_factory.mktemp("page") / "pca.html"
    neighbours = np.array([[3, 4], [5, 6]])
    made = report.pca_page(bank, bank.features[:2], neighbours, path, own, faces, ["calm", "laugh"], sample=50)
    assert made == path
    return path.read_text(), bank


def traces(text):
    return json.JSONDecoder().raw_decode(text, text.index("[", text.index("Plotly.newPlot(")))[0]


def test_one_file_and_nothing_fetched(page):
    text, _ = page
    assert 3_000_000 < len(text) < 10_000_000
    shell = text.replace(max(re.findall(r"<script[^>]*>.*?</script>", text, re.DOTALL), key=len), "")
    assert not re.findall(r"""(?:src|href)\s*=\s*["'][^"'d]""", shell)


def test_points_carry_person_moment_distance_and_face(page):
    text, bank = page
    found = {trace["name"]: trace for trace in traces(text)}
    assert set(found) >= {"bank: 50 of 200 frames", "1 more, with a face", "neighbours of 2", "1: calm"}
    assert found["bank: 50 of 200 frames"]["hoverinfo"] == "skip"
    pictures = json.loads(re.search(r"const faces = (\[.*?\]), card", text).group(1))

    def shade(number):
        return int(np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[number])))).mean().round())

    cards = found["neighbours of 2"]["customdata"]
    for row, (who, where, apart, face) in zip((5, 6), cards, strict=True):
        assert (who, where) == (bank.subjects[row], f"FREE, frame {row}")
        assert apart == f"{np.linalg.norm(bank.features[row] - bank.features[1]):.2f} from query 2"
        assert abs(shade(face) - 10 * row) <= 1
    other = found["1 more, with a face"]["customdata"][0]
    nearest = np.linalg.norm(bank.features[20] - bank.features[:2], axis=1)
    assert other[2] == f"{nearest.min():.2f} from query {nearest.argmin() + 1}" and abs(shade(other[3]) - 200) <= 1
    assert abs(shade(found["2: laugh"]["customdata"][0][3]) - 240) <= 1


def test_the_card_is_there_before_the_script_looks_for_it(page):
    text, _ = page
    assert text.index('id="card"') < text.index('getElementById("card")')
    assert "{plot_id}" not in text and "textContent = who" in text


def test_missing_parts_are_named(page, tmp_path):
    _, bank = page
    with pytest.raises(RafError, match="1 images"):
        own = [np.zeros((8, 8, 3), np.uint8)]
        report.pca_page(bank, bank.features[:2], np.array([[3], [4]]), tmp_path / "a.html", own, {}, ["a", "b"])
    assert not list(tmp_path.iterdir())
