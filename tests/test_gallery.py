"""Galleries of neighbours: which rows are found with and without `spread`, and that each face is in its place."""

import numpy as np
import pytest
from PIL import Image

from raflib import report
from raflib.bank import ExpressionBank
from raflib.errors import RafError


def make_bank(people=6, frames=300, seed=0):
    """People apart from each other, so that the nearest frames of a query are mostly one person's."""
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(people, 1, 5)) + 0.2 * draw.normal(size=(people, frames, 5))
    names = np.repeat([f"P{i}" for i in range(people)], frames)
    return ExpressionBank(features.reshape(-1, 5), names, ["FREE"] * len(names), np.arange(len(names)), "toy")


def test_nearest_is_search_and_spread_is_the_best_of_each_person():
    bank = make_bank()
    queries = bank.features[[3, 700, 1500]]
    rows = report.nearest(bank, queries, 5, "P0")
    assert np.array_equal(rows, bank.search(queries, 5, exclude="P0")[1])
    spread = report.nearest(bank, queries, 5, "P0", spread=True)
    for query, line in zip(queries, spread, strict=True):
        assert sorted(bank.subjects[line]) == ["P1", "P2", "P3", "P4", "P5"]
        apart = np.linalg.norm(bank.features.astype(np.float64) - query, axis=1)
        assert np.all(np.diff(apart[line]) >= 0)
        for row in line:
            assert apart[row] == apart[bank.subjects == bank.subjects[row]].min()
    with pytest.raises(RafError, match="6 people asked for, the bank holds 5 besides 'P0'"):
        report.nearest(bank, queries, 6, "P0", spread=True)


def test_each_face_stands_in_its_line(tmp_path):
    bank = make_bank()
    colours = {7: (250, 0, 0), 8: (0, 250, 0), 9: (0, 0, 250), 10: (250, 0, 250)}
    faces = {row: np.full((32, 32, 3), colour, np.uint8) for row, colour in colours.items()}
    own = [np.zeros((32, 32, 3), np.uint8)] * 2
    rows = np.array([[7, 8], [9, 10]])
    image = report.gallery(bank, bank.features[:2], rows, own, faces, ["near", "far\nout"], tmp_path / "a.jpg", tile=64)
    pixels = np.asarray(image)
    middle = {row: np.argwhere((pixels == colour).all(-1)).mean(0) for row, colour in colours.items()}
    assert abs(middle[7][0] - middle[8][0]) < 1 < 64 < middle[9][0] - middle[7][0]
    assert middle[7][1] < middle[8][1] and abs(middle[7][1] - middle[9][1]) < 1
    below = pixels[int(middle[7][0]) + 34 : int(middle[9][0]) - 34, int(middle[7][1]) - 20 : int(middle[7][1]) + 20]
    assert (below < 128).any(), "the distance is written below"
    assert Image.open(tmp_path / "a.jpg").format == "JPEG"
    with pytest.raises(RafError, match="no face of row 10"):
        report.gallery(bank, bank.features[:2], rows, own, {r: faces[r] for r in (7, 8, 9)}, ["near", "far"])
    with pytest.raises(RafError, match="1 labels"):
        report.gallery(bank, bank.features[:2], rows, own, faces, ["near"])


def test_distances_of_another_search_are_written_instead():
    bank = make_bank()
    faces = {row: np.zeros((32, 32, 3), np.uint8) for row in (7, 8)}
    rows, own = np.array([[7, 8]]), [np.zeros((32, 32, 3), np.uint8)]
    apart = np.linalg.norm(bank.features[rows[0]].astype(np.float64) - bank.features[0], axis=1)
    images = [
        np.asarray(report.gallery(bank, bank.features[:1], rows, own, faces, ["near"], tile=64, distances=distances))
        for distances in (None, apart[None], apart[None] + 1)
    ]
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()
