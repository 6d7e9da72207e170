"""Figure 2: the plane is the principal one, figures show their input, and faces are spread evenly."""

import numpy as np
import pytest
from PIL import Image

from raflib import report
from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.report._style import QUERIES
from raflib.report.plane import Plane


def make_bank(rows=400, people=8, seed=0):
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(rows, 6)) * [3, 0.1, 2, 0.1, 0.1, 0.1] + 5
    names = [f"P{i % people}" for i in range(rows)]
    return ExpressionBank(features, names, ["FREE"] * rows, np.arange(rows), "toy")


def count(image, colour):
    value = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(np.asarray(image).astype(int) - value).sum(-1) < 12).sum()


def solid(*colour):
    return np.full((24, 24, 3), colour, np.uint8)


def test_the_plane_keeps_the_largest_variance():
    features = make_bank().features.astype(np.float64)
    plane = Plane.of(features)
    assert np.abs(plane.axes[0, 0]) > 0.99 and np.abs(plane.axes[2, 1]) > 0.99
    assert plane.axes[0, 0] > 0 and plane.axes[2, 1] > 0, "signs are fixed"
    points = plane(features)
    assert np.allclose(points.mean(0), 0) and np.allclose(points.var(0) / features.var(0).sum(), plane.share)
    with pytest.raises(RafError, match="at least 2 rows"):
        Plane.of(features[:1])


def test_pca_figure_draws_queries_and_neighbours_and_is_the_same_twice(tmp_path):
    bank, draw = make_bank(), np.random.default_rng(1)
    queries, neighbours = bank.features[:3] + 0.01, draw.integers(0, 400, (3, 10))
    image = report.pca_figure(bank, queries, neighbours, tmp_path / "pca.png")
    assert all(count(image, colour) > 100 for colour in QUERIES[:3])
    assert count(image, QUERIES[3]) < 20, "three queries have three colours"
    assert np.array_equal(np.asarray(image), np.asarray(report.pca_figure(bank, queries, neighbours)))
    assert Image.open(tmp_path / "pca.png").size == image.size
    with pytest.raises(RafError, match="2 labels for 3 queries"):
        report.pca_figure(bank, queries, neighbours, labels=["calm", "loud"])


def test_pca_figure_shows_each_person_once_beside_the_plane(tmp_path):
    bank = make_bank()
    queries, neighbours = bank.features[:1] + 0.01, np.array([[0, 8, 1, 16, 2]])  # P0, P0, P1, P0, P2
    faces = {0: solid(250, 0, 250), 8: solid(0, 250, 250), 1: solid(250, 250, 0), 2: solid(120, 0, 250)}
    arguments = bank, queries, neighbours, tmp_path / "pca.png", ["laugh"], [solid(0, 250, 0)]
    image = report.pca_figure(*arguments, faces)
    for colour in ("#00FA00", "#FA00FA", "#FAFA00", "#7800FA"):
        assert count(image, colour) > 1000, colour
    assert count(image, "#00FAFA") == 0, "the second frame of the same person"
    with pytest.raises(RafError, match="no face of row 2"):
        report.pca_figure(*arguments, {0: faces[0], 1: faces[1]})


def test_variants_figure_leaves_grey_what_a_part_lacks():
    bank = make_bank(4000)
    left = bank.restrict(rows=bank.features[:, 0] < 5)
    image = report.variants_figure(bank, {"left": left})
    whole = report.variants_figure(bank, {"all": bank})
    key = 700  # pixels of the legend's own grey
    assert count(image, "#D0D0D0") > 3 * key > key > count(whole, "#D0D0D0") > 0
    assert report.variants_figure(bank, {"left": left, "all": bank}).width > 1.8 * image.width


def test_evenly_is_evener_than_a_draw_and_meets_few_people():
    bank = make_bank(4000, people=40)
    rows = report.evenly(bank, 60, people=10)
    assert len(set(rows.tolist())) == 60 and len(set(bank.subjects[rows])) <= 10
    points = Plane.of(bank.features)(bank.features)

    def closest(chosen):
        apart = np.linalg.norm(points[chosen][:, None] - points[chosen], axis=2)
        return (apart + 99 * np.eye(len(chosen))).min()

    assert closest(rows) > 3 * closest(np.random.default_rng(0).permutation(4000)[:60])
    assert np.array_equal(rows, report.evenly(bank, 60, people=10))
    assert len(report.evenly(make_bank(12), 60)) == 12
