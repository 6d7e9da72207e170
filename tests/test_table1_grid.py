"""The experiments on Table 1: what is filmed and fitted, what a unit compares, and what the tables say."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from raflib import coverage, report, studio
from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.lab import table1_answer as answer
from raflib.lab import table1_grid as grid
from raflib.lab import table1_tracks, table1_ways
from raflib.lab.table1_tracks import Tracks
from raflib.lab.table1_ways import CAPTURES, ONE_VIEW, OTHERS, SINGLE, WAYS, Way
from raflib.report.coverage_figures import MEASURES
from raflib.studio import TRAIN_SEQUENCES
from raflib.studio.rig import FRONTAL
from raflib.tracking import Observation

PLAN = grid.Plan(("422", "443"), ("E01", "E02"), 2, ("422",), 2, 8, 48)
FEW = (CAPTURES, Way(4, 20), SINGLE)


def made_tracks(name, moments, several):
    """Tracks without landmarks: scores with an offset for each person."""
    draw = np.random.default_rng([1, *name.encode()])
    sequence, frame = (np.array(column) for column in zip(*moments, strict=True))
    scores = (draw.normal(size=(len(frame), 52)) + 0.5 * draw.normal(size=52)).astype(np.float32)
    scores[3] = np.nan
    points, landmarks = (np.zeros((len(frame), 478, width), np.float32) for width in (2, 3))
    return Tracks(name, scores, points, landmarks, sequence, frame)


def made_fit(tracks, way):
    """Features that lie 3 apart for 1 and 4 views, and differ a little by the number of frames."""
    wide = np.tile(tracks.expression[:, :42], (1, 1)).copy()
    wide[:, 0] += 3 * (way.views == 1)
    wide[:, 1] += 0.1 * way.frames
    return wide


@pytest.fixture(scope="module")
def cast():
    """Two people of a bank, two subjects and two others, whose features are made up."""
    names = [*PLAN.subjects, *PLAN.externals, *(f"B{i:03d}" for i in range(1, 3))]
    sequences = [*TRAIN_SEQUENCES[:8], "FREE"]
    moments = [(name, t) for name in sequences for t in range(6)]
    draw = np.random.default_rng(0)
    people = np.repeat(names[4:], 60)
    bank = ExpressionBank(
        draw.normal(size=(120, 52)), people, np.resize(sequences, 120), np.arange(120), grid.SCORES,
        spaces={grid.FITTED: draw.normal(size=(120, 42))},
    )  # fmt: skip
    cast = grid.Cast(PLAN, bank)
    cast.tracks = {name: made_tracks(name, moments, True) for name in names}
    cast.dense = {"422": made_tracks("422", [(name, t) for name in sequences[:3] for t in range(25)], False)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "fitted", made_fit)
        yield cast


@pytest.fixture(scope="module")
def rows(cast):
    """The rows of all units, with few ways of fitting the subject and one definition of KL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "REPEATS", 1)
        patch.setattr(grid, "SEEDS", 1)
        patch.setattr(grid, "WAYS", FEW)
        patch.setattr(grid, "sensitivity", partial(coverage.sensitivity, components=(8,)))
        units = list(grid.units(cast))
        assert len({unit.name for unit in units}) == len(units)
        return pd.concat([unit.rows() for unit in units], ignore_index=True)


def test_every_experiment_is_there_and_a_unit_is_the_table_of_its_sets(cast, rows):
    counts = rows[rows.metric == "b2t"].groupby("experiment").size()
    ways, others = len(FEW), len(OTHERS)
    assert counts["crossing"] == 2 * (1 + ways * others) and counts["crossing of people"] == 2 * (1 + others**2)
    assert counts["drivers"] == 4 and counts["people"] == 4 and counts["bias"] == 2 * 2 * 2 * 5
    assert counts["sampling"] == 2 * 6 and counts["definitions"] == 2 * 2 * 3  # the bank has two people: one size
    told = rows[(rows.condition == f"{CAPTURES.label} | {ONE_VIEW.label}") & (rows.subject == "422")]
    told = told.set_index("metric")
    drivers = {name: made_fit(cast.tracks[name], ONE_VIEW)[-6:] for name in ("443", "E01", "E02")}
    own = made_fit(cast.tracks["422"], CAPTURES)[:-6]
    held = grid.bank_of({name: made_fit(cast.tracks[name], ONE_VIEW) for name in cast.shipped.people}, grid.FITTED)
    assert len(held) == 2 * 53 and told.people["mmd"] == 2 and told.n["mmd"] == 46
    sets = coverage.training_sets(own, "422", drivers, held, repeats=1)
    expected = coverage.sensitivity(sets, (8,)).set_index("metric")
    np.testing.assert_allclose(told.vanilla, expected.vanilla[told.index])
    np.testing.assert_allclose(told.raf, expected.raf[told.index])


def test_a_subject_who_was_fitted_otherwise_gains_and_one_who_was_not_does_not(rows):
    table = answer.changes(rows)
    change = table[(table.experiment == "crossing") & (table.metric == "b2t")].set_index("condition").change
    assert change[f"{CAPTURES.label} | {ONE_VIEW.label}"] < -0.02
    assert change[f"{CAPTURES.label} | {ONE_VIEW.label}"] < change[f"{CAPTURES.label} | {CAPTURES.label}"] - 0.02


def test_changes_are_those_of_the_averages_with_an_interval_over_subjects(rows):
    part = rows[(rows.experiment == "bias") & (rows.condition == "subject × 2") & (rows.space == grid.SCORES)]
    told = answer.changes(part).set_index("metric").loc["mmd"]
    means = part[part.metric == "mmd"].groupby("subject")[["vanilla", "raf"]].mean()
    assert told.subjects == 2 and told.change == pytest.approx(means.raf.mean() / means.vanilla.mean() - 1)
    assert told.low < told.change < told.high


def test_the_gap_and_the_bias_say_what_was_put_in(cast):
    gaps = answer.gaps(cast).set_index(["group", "way"])
    assert gaps.constant["subjects", Way(1, 20).label] == pytest.approx(np.hypot(3, 2), rel=1e-4)
    assert gaps.gap["people", SINGLE.label] == pytest.approx(np.hypot(3, 0.1), rel=1e-4)
    assert (gaps.gap_over_spread - gaps.gap / gaps.spread).abs().max() < 0.05 and len(gaps) == len(WAYS) - 1 + 2
    draw = np.random.default_rng(0)
    real = {f"real{i}": draw.normal(size=(80, 52)) + 3 * i * np.eye(52)[0] for i in range(2)}
    bias = answer.bias(cast, real).set_index(["who", "fit"])
    assert (bias.people == 2).all() and bias["rank"]["real people", "MediaPipe's scores"] < 1.7
    assert bias.between["studio", ONE_VIEW.label] == pytest.approx(bias.between["studio", CAPTURES.label], rel=1e-5)
    assert (bias.leakage.dropna() > 0.5).all(), "offsets of half a deviation in 52 dimensions are told"


def test_equal_numbers_of_real_people_and_studio(monkeypatch):
    monkeypatch.setattr(answer, "REAL_ROWS", 40)
    monkeypatch.setattr(answer, "DRIVERS", 2)
    draw = np.random.default_rng(0)
    people = {f"R{i}": draw.normal(size=(50 - 20 * (i == 5), 12)) for i in range(6)}
    told = answer.of_people(people, "real people")
    assert set(told.subject) == {"R0", "R1", "R2", "R3", "R4"} and (told.people == 2).all() and (told.n == 40).all()


def test_the_figure_has_a_line_for_each_condition(rows):
    table = answer.shown(answer.changes(rows))
    assert set(table.metric) == {"mmd", "kl", "b2t"} <= set(MEASURES) and len(table.group.unique()) == 5
    image = report.hypotheses_figure(table)
    assert image.width > 1000
    with pytest.raises(RafError, match="there are no rows"):
        report.hypotheses_figure(table[:0])


def test_groups_hold_every_frame_once():
    for frames, sizes in ((0, [45]), (200, [45]), (20, [20, 20, 5]), (1, [1] * 45)):
        found = table1_ways.groups("422", 45, frames)
        assert [len(group) for group in found] == sizes
        np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(45))
    assert not np.array_equal(table1_ways.groups("422", 45, 20)[0], table1_ways.groups("443", 45, 20)[0])


def test_tracks_hold_what_each_view_saw_and_fits_what_they_say(tmp_path, monkeypatch):
    """A tracker that finds the true landmarks: they are triangulated, fitted, and kept."""

    class TrueTracker:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __call__(self, points):
            if not np.isfinite(points).all():
                return None
            return Observation(
                np.full(52, 0.5, np.float32), points, np.zeros(478, np.float32), np.eye(4, dtype=np.float32)
            )

    def points_of(identity, actions, angles, camera):
        hidden = len(filmed) >= 8 and camera.name == FRONTAL  # the third frame shows no face
        filmed.append(camera.name)
        points = camera.project(studio.landmarks(identity, actions, angles)).astype(np.float32)
        return np.where(hidden, np.nan, points).astype(np.float32), None

    filmed, moments = [], [("EXP-4-lips", 40), ("FREE", 100), ("FREE", 101)]
    monkeypatch.setenv("RAF_CACHE", str(tmp_path))
    monkeypatch.setattr(table1_tracks, "FaceTracker", TrueTracker)
    monkeypatch.setattr(studio, "render_views", lambda *about: [points_of(*about[:3], camera) for camera in about[3]])
    tracks = table1_tracks.tracks_of("422", moments, progress=False)
    assert list(tracks.seen) == [True, True, False] and list(tracks.free) == [False, True, True] and len(filmed) == 12
    acted = studio.act("422", "FREE")
    true = studio.landmarks(studio.Identity("422"), acted.actions[100], acted.angles[100])
    np.testing.assert_allclose(tracks.landmarks[1], true, atol=1e-4)
    assert np.isnan(tracks.landmarks[2]).all() and np.isnan(tracks.points[2]).all()
    found = {way: table1_ways.fitted(tracks, way) for way in (CAPTURES, SINGLE)}
    assert all(
        features.shape == (3, 42) and list(np.isfinite(features).all(1)) == [True, True, False]
        for features in found.values()
    )
    assert not np.allclose(found[CAPTURES][1], found[SINGLE][1], atol=0.1)
    monkeypatch.setattr(table1_tracks, "FaceTracker", None)
    monkeypatch.setattr(table1_ways, "_fit", None)
    again = table1_tracks.tracks_of("422", moments)
    np.testing.assert_array_equal(again.landmarks, tracks.landmarks)
    np.testing.assert_array_equal(table1_ways.fitted(again, SINGLE), found[SINGLE])
    single = table1_tracks.Tracks(
        "422", tracks.expression, tracks.points, 0 * tracks.landmarks, tracks.sequence, tracks.frame
    )
    with pytest.raises(TypeError, match="not callable"):  # other landmarks are another fit
        table1_ways.fitted(single, CAPTURES)


def test_the_frames_are_those_that_are_asked_for(monkeypatch):
    monkeypatch.setattr(studio, "act", lambda person, name: range(30))
    own = table1_tracks.even_moments("422", 3, 5)
    assert len(own) == 3 * len(TRAIN_SEQUENCES) + 5 and own[:3] == [(TRAIN_SEQUENCES[0], t) for t in (0, 14, 29)]
    assert own[-1] == ("FREE", 29) and len(table1_tracks.even_moments("422", None, 0)) == 30 * len(TRAIN_SEQUENCES)
    few, more = (set(table1_tracks.random_moments("B001", count)) for count in (4, 9))
    assert len(few) == 4 and few < more, "further frames are added, as in the open bank"
    assert [len(moments()) for _, moments, _ in grid.TINY.filmed] == [2 * 22 + 12] * 2 + [12] * 4
