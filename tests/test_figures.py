"""Figures can be read: lettering, nothing cut off or covered, axes and marks that show the differences, frames that
differ."""

import io
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from PIL import Image, ImageDraw
from synthetic import ball_capture

from raflib import coverage, report
from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.evaluation import ErrorBudget, error_splits
from raflib.evaluation.error_budget import Example
from raflib.evaluation.image_regions import NAMES
from raflib.lab.dose import DOSES
from raflib.report._style import KINDS, QUERIES, font, kind_of, method_colour, wrapped
from raflib.report.coverage_figures import CLIPS
from raflib.report.figures import _difference
from raflib.sampler import SAMPLERS
from raflib.tracking import ARKIT52

POINTS = 9
METRICS = ("mmd", "kl", "b2t")


@pytest.fixture
def figures(monkeypatch):
    """Every matplotlib figure that is drawn from here on; `texts` of each are those that were drawn on it."""
    found, save, draw = [], Figure.savefig, Text.draw

    def note(figure, *arguments, **options):
        figure.texts_drawn = {}
        found.append(figure)
        return save(figure, *arguments, **{**options, "dpi": figure.dpi})

    def note_text(text, renderer, *arguments, **options):
        if text.get_visible() and text.get_text().strip():
            text.get_figure(root=True).texts_drawn[id(text)] = text
        draw(text, renderer, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", note)
    monkeypatch.setattr(Text, "draw", note_text)
    return found


def check_readable(figure):
    """Lettering of at least `POINTS`, nothing beyond the edge, no text on another, and no legend on a plot."""
    edge, found = figure.bbox.padded(2), []
    assert figure.texts_drawn
    for text in figure.texts_drawn.values():
        name, box = text.get_text(), text.get_window_extent()
        assert text.get_fontsize() >= POINTS, f"{name!r} has {text.get_fontsize()} points"
        assert edge.containsx(box.x0) and edge.containsx(box.x1), f"{name!r} is cut off at the side"
        assert edge.containsy(box.y0) and edge.containsy(box.y1), f"{name!r} is cut off above or below"
        for other, place in found:
            assert not box.padded(-1).overlaps(place), f"{name!r} lies on {other!r}"
        found.append((name, box.padded(-1)))
    for legend in figure.findobj(Legend):
        box = legend.get_window_extent()
        assert not any(ax.get_visible() and box.overlaps(ax.bbox) for ax in figure.axes), "a legend lies on a plot"
    return True


def values(*subjects, gain=0.99):
    """Table 1's values: RAF differs from vanilla by `gain` and subjects by much more."""
    rows = []
    for i, subject in enumerate(subjects):
        for method, factor in (("vanilla", 1), ("raf", gain)):
            row = {name: (i + 3) * (1 + j) * factor for j, name in enumerate(METRICS)}
            rows.append({"subject": subject, "method": method, **row})
    return pd.DataFrame(rows)


def changes(*subjects):
    """A table as `report.table1` lays it out, with both intervals of every change."""
    parts = {"vanilla": 0.2, "raf": 0.19, "change": -0.01, "low": -0.02, "high": 0.005}
    parts |= {"draws_low": -0.05, "draws_high": 0.03}
    columns = pd.MultiIndex.from_product([METRICS, parts])
    wide = pd.DataFrame([list(parts.values()) * 3] * len(subjects), index=list(subjects), columns=columns)
    wide.loc["Average"] = [0.2, 0.19, -0.01, -0.03, 0.01, np.nan, np.nan] * 3
    wide.loc["the paper's"] = [0.2, 0.1, -0.4, np.nan, np.nan, np.nan, np.nan] * 3
    return wide


def differences(*names, baseline="vanilla", metric="psnr/face"):
    columns = pd.MultiIndex.from_product([[metric], ["mean", "low", "high"]])
    rows = [[-0.3 + 0.2 * i, -0.4 + 0.2 * i, -0.2 + 0.2 * i] for i in range(len(names))]
    return pd.DataFrame(rows, [f"{name} − {baseline}" for name in names], columns)


def clips(count=3, frames=40):
    train = np.random.default_rng(0).normal(size=(60, 4))
    names = ["own FREE (422)", *(f"E{i:02d}" for i in range(1, count))]
    return {name: coverage.clip_distance(train, np.resize(train, (frames, 4)) + i) for i, name in enumerate(names)}


def bank(people=5, frames=40):
    draw = np.random.default_rng(0)
    names = np.repeat([f"P{i}" for i in range(people)], frames)
    sequences = np.resize(["SEN-02-same_phrase_thirty_times", "FREE"], len(names))
    return ExpressionBank(draw.normal(size=(len(names), 5)), names, sequences, np.arange(len(names)), "toy")


def budget(count, *splits):
    """An error budget with the first `count` regions."""
    rng, splits = np.random.default_rng(0), splits or ("train", "free")
    tables = {"region": NAMES[:count], "band": error_splits.BANDS, "kind": error_splits.KINDS}
    columns = "pixels", "error", "control_error", "explained", "relative"
    regions, bands, kinds = (
        pd.DataFrame(
            [{"split": split, key: name, **dict(zip(columns, rng.dirichlet(np.ones(5)), strict=True))}
             for split in splits for name in names]
        ).assign(psnr=25.0, control_psnr=20.0)
        for key, names in tables.items()
    )  # fmt: skip
    images = rng.uniform(size=(3, 32, 32, 3)).astype(np.float32)
    example = Example("EXP-1-head, frame 12", *images, np.zeros((32, 32), np.uint8))
    return ErrorBudget("raf_aligned", regions, bands, kinds, dict.fromkeys(splits, 24), ["222200037"], [], example)


def study_shares(*groups):
    """The shares of figure 3 in two feature spaces."""
    ends = {"nearest_low": 0.7, "nearest_high": 0.8, "other_low": 0.1, "other_high": 0.2}
    row = {"raters": 36, "questions": 100, "nearest": 0.75, "tie": 0.1, "other": 0.15, **ends}
    keys = itertools.product(
        groups, ("arkit52", "open42"), ("nearest_vs_random", "whole_vs_small"), ("pose", "expression")
    )
    names = ("group", "space", "condition", "axis")
    return pd.DataFrame([{**dict(zip(names, each, strict=True)), **row} for each in keys])


def doses(*protocols):
    """Gains of RAF at every dose that `scripts/dose.py` tries."""
    return pd.DataFrame(
        [{"label": "raf", "protocol": protocol, "quantity": name, "value": value, "subject": subject, "gain": 0.1}
         for protocol in protocols for name, values in DOSES.items() for value in values for subject in ("422", "443")]
    )  # fmt: skip


def test_every_chart_is_readable(figures):
    report.coverage_figure(values("422"))
    report.coverage_figure(values("388", "422", "443", "445", "475"))
    report.change_figure(changes("422"))
    report.change_figure(changes("388", "422", "443", "445", "475"))
    report.clip_figure(clips(), seconds={name: np.arange(40) / 25 for name in clips()})
    report.clip_figure(clips(1))
    names = [f"SEN-{i:02d}-same_phrase_thirty_times" for i in range(22)]
    report.sequence_figure(pd.DataFrame({"sequence": names, "b2t_alone": 1.1, "nearest_share": 1 / 22}))
    actions = {"low": 0.0, "high": 0.5, "target_low": 0.0, "target_high": 0.9, "outside": 0.3, "share": 0.02}
    report.dimension_figure(pd.DataFrame({"name": ARKIT52, **actions}))
    two = differences(*SAMPLERS)
    report.differences_figure({f"{part}, − {m}": two for part in "abc" for m in ("vanilla", "raf")}, "psnr/face")
    report.differences_figure({"relative − direct": differences("vanilla", "raf")}, "psnr/face")
    log = pd.DataFrame({"step": np.arange(20), "l1": 0.1, "psnr": 25.0})
    report.training_curves({"raf": log})
    report.training_curves(dict.fromkeys(("vanilla", "noise", "raf", "raf_aligned"), log))
    moving = np.random.default_rng(0).uniform(size=(30, 4))
    report.signals_figure(np.arange(30) / 25, moving, moving**2, ARKIT52[:4])
    table = pd.DataFrame({"within": np.linspace(0.9, 0, 51), "pooled": np.linspace(0.8, 0, 51)}, ARKIT52[:51])
    report.agreement_figure(table)
    report.error_budget_figure(budget(11))
    report.error_budget_figure(budget(1, "free"))
    everybody = bank()
    report.variants_figure(everybody, {"half1": everybody})
    report.variants_figure(everybody, dict.fromkeys(("half1", "half2", "small"), everybody))
    found = np.array([[0, 41, 81], [120, 1, 2]])
    own, faces = (
        [np.zeros((8, 8, 3), np.uint8)] * 2,
        {row: np.zeros((8, 8, 3), np.uint8) for row in found.ravel().tolist()},
    )
    report.pca_figure(everybody, everybody.features[[7, 99]], found, labels=["FREE", "HAIR"])
    report.pca_figure(everybody, everybody.features[[7, 99]], found, None, ["FREE", "HAIR"], own, faces)
    report.study_figure(study_shares("people", "observer:truth"))
    report.nearness_figure(
        pd.DataFrame(
            [(space, axis, people, 0.2, 0.1, 0.3) for space in ("arkit52", "open42") for axis in ("pose", "expression")
             for people in (10, 40, 100, 414)],
            columns=["space", "axis", "people", "closer", "low", "high"],
        )
    )  # fmt: skip
    report.power_figure({"1,000 queries, 3 raters each": {3: 0.07, 36: 0.03}, "200 queries": {3: 0.08, 36: 0.05}})
    report.dose_figure(doses("cross", "self"))
    report.dose_figure(doses("cross").query("quantity == 'bias'"))
    labels = ["raf", "noise-matched", "raf-aligned", "vanilla-fitted"]
    spans = [(label, part, part / 4, (part + 1) / 4, 0.3, -0.1, 0.7) for label in labels for part in range(1, 5)]
    report.outside_figure(pd.DataFrame(spans, columns=["label", "part", "from", "to", "mean", "low", "high"]))
    gains = pd.DataFrame({"subject": list("abc"), "outside": [0.2, 0.3, 0.5], "gain": [0.1, -0.2, 0.4]})
    report.subject_figure(pd.concat([gains.assign(label=label) for label in labels]), {"raf": (0.1, -0.1, 0.3)})
    report.subject_figure(gains.assign(label="vanilla-fitted"))
    assert len(figures) == 28 and all(check_readable(figure) for figure in figures)


def test_a_check_that_finds_small_lettering_and_covered_plots(figures):
    figure = Figure(layout="constrained")
    figure.subplots().plot([0, 1], [0, 1], label="line")

    def check():
        figure.savefig(io.BytesIO())
        return check_readable(figure)

    assert check()
    legend = figure.axes[0].legend()
    with pytest.raises(AssertionError, match="lies on a plot"):
        check()
    legend.remove()
    note = figure.text(0.9, 0.5, "beyond the edge of the figure")
    with pytest.raises(AssertionError, match="cut off at the side"):
        check()
    note.remove()
    figure.axes[0].text(0.5, 0.5, "one on")
    note = figure.axes[0].text(0.5, 0.5, "the other")
    with pytest.raises(AssertionError, match="'the other' lies on 'one on'"):
        check()
    note.remove()
    figure.axes[0].set_title("small", fontsize=6)
    with pytest.raises(AssertionError, match="'small' has 6"):
        check()


def test_a_change_of_one_percent_is_seen_and_looks_small(figures):
    report.coverage_figure(values("422"))
    for ax in figures[0].axes:
        marks = [ax.transData.transform(mark.get_offsets())[0] for mark in ax.collections[:2]]
        assert ax.get_xlim()[0] > 0 and np.linalg.norm(marks[0] - marks[1]) > 15, "marks stand apart"
        across = abs(marks[0][0] - marks[1][0]) / ax.bbox.width
        assert 0.02 < across < 0.1, "a quarter of the value is the least that an axis spans"
        assert len({text.get_text() for text in ax.texts}) == 2, "both values are written"


def test_the_goal_of_the_effective_rank_is_drawn(figures):
    rows = pd.DataFrame({"subject": "422", "method": ["vanilla", "raf", "drivers"], "effective_rank": [8.5, 8.4, 12.2]})
    report.coverage_figure(rows)
    assert "12.2" in {text.get_text() for text in figures[0].axes[0].texts}
    assert figures[0].axes[0].get_xlim()[1] > 12.2
    assert [text.get_text() for text in figures[0].legends[0].texts][2].startswith("the drivers' own")


def test_both_intervals_of_a_change_are_drawn_on_one_axis(figures):
    report.change_figure(changes("388", "422"))
    for ax in figures[0].axes:
        drivers, draws = (lines.get_segments()[0] for lines in ax.collections if isinstance(lines, LineCollection))
        assert np.allclose(drivers[:, 0], [-2, 0.5]) and np.allclose(draws[:, 0], [-5, 3])
        assert abs(drivers[0, 1] - draws[0, 1]) > 0.2, "one does not hide the other"
        assert ax.get_xlim() == figures[0].axes[0].get_xlim() and ax.get_xlim()[0] > -10
        assert "−40 %" in {text.get_text() for text in ax.texts}, "the paper's is beyond the axis, and named"


def test_a_paper_within_the_axis_is_a_star(figures):
    wide = changes("422")
    wide.loc["the paper's", [(metric, "change") for metric in METRICS]] = -0.04
    report.change_figure(wide)
    assert not figures[0].axes[0].texts and "arrow" not in figures[0].legends[0].get_title().get_text()


def test_clips_are_drawn_over_seconds_and_leave_room_for_the_plot(figures):
    seconds = {name: np.arange(40) * 8 / 25 for name in clips()}
    report.clip_figure(clips(), seconds=seconds)
    ax = figures[0].axes[0]
    assert ax.get_xlabel().endswith(", s") and ax.lines[0].get_xdata()[-1] == pytest.approx(12.48)
    assert ax.bbox.width > 0.8 * figures[0].bbox.width and ax.bbox.height > 0.5 * figures[0].bbox.height


def test_a_colour_says_what_kind_of_method_it_is():
    assert {name: kind_of(name) for name in SAMPLERS} == {
        "vanilla": "vanilla", "noise": "noise", "noise_matched": "noise", "raf": "raf", "raf_pose": "raf",
        "raf_relative": "raf", "raf_aligned": "raf", "raf_people": "raf", "raf_oracle": "raf",
        "raf_interpolated": "raf", "raf_adaptive": "raf", "person_shift": "unretrieved", "raf_random": "unretrieved",
    }  # fmt: skip
    assert kind_of("mine") == "other"
    assert all(method_colour(name) == report.PALETTE[name] for name in ("vanilla", "noise", "raf"))
    others = {*report.PALETTE.values(), *(colour for colour, _ in KINDS.values())}
    assert not others & {*QUERIES}, "a query has no method's colour"
    assert not others & {*CLIPS[1:]}, "nor has a driver's clip"


def test_differences_show_what_is_sure_and_what_the_baseline_is(figures):
    panels = {"a": differences("raf", "raf_pose", "noise"), "b": differences("vanilla", "noise", baseline="raf")}
    report.differences_figure(panels, "psnr/face")
    first, second = figures[0].axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["vanilla", "noise", "raf", "raf_pose"]
    assert first.get_xlim() == second.get_xlim(), "panels can be compared"
    assert {text.get_text() for text in first.texts} == {"baseline"} and first.texts[0].xy[1] == 0
    full = [tuple(mark.get_facecolor()[0][:3]) != (1, 1, 1) for mark in first.collections]
    assert full == [True, False, False], "an interval that holds 0 has an empty mark"
    assert figures[0].legends[0].get_title().get_text() == "difference in psnr/face, dB; right of 0 is better"


def test_units_are_those_of_the_metric():
    assert _difference("apd/mediapipe/deg/truth").endswith("deg/truth, degrees; left of 0 is better")
    assert "degrees" not in _difference("apd/deca/l1") and _difference("psnr/face").startswith(
        "difference in psnr/face, dB"
    )


def test_lines_of_one_kind_can_be_told_apart(figures):
    log = pd.DataFrame({"step": np.arange(20), "l1": 0.1, "psnr": 25.0})
    report.training_curves({"raf": log, "raf_pose": log, "vanilla": log})
    lines = [line for line in figures[0].axes[0].lines if line.get_linewidth() > 1]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 3
    assert lines[0].get_color() == lines[1].get_color() == report.PALETTE["raf"]


def test_signals_refuse_other_names():
    with pytest.raises(RafError, match=r"true \(5, 2\), tracked \(5, 2\), expected \(5, 1\)"):
        report.signals_figure(np.arange(5.0), np.zeros((5, 2)), np.zeros((5, 2)), ["jawOpen"])


def test_a_channel_that_never_moves_is_named(figures):
    report.agreement_figure(pd.DataFrame({"within": [0.9, 0.0], "pooled": [0.8, 0.0]}, ["jawOpen", "cheekPuff"]))
    notes = {text.xy[1]: text.get_text() for text in figures[0].axes[0].texts}
    assert notes == {1: "the tracker's channel never moves"}


# --- sheets of images ------------------------------------------------------------------------------------------------


def test_long_names_go_on_in_the_next_line():
    lettering = font(14)
    for text in ("SEN-02-same_phrase_thirty_times", "a" * 60, "FREE\n1.2 s, held out", "one two three four five six"):
        lines = wrapped(text, lettering, 120).split("\n")
        assert "".join(lines).replace(" ", "") == text.replace("\n", "").replace(" ", "")
        assert all(0 < lettering.getlength(line) <= 120 for line in lines)
    assert wrapped("FREE", lettering, 120) == "FREE"


def test_a_heading_grows_only_where_a_name_needs_it():
    image = np.zeros((32, 32, 3), np.uint8)
    one, two = (report.strip([[image]], [name], tile=192) for name in ("truth", "SEN-02-same_phrase_thirty_times"))
    assert one.width == two.width and two.height - one.height == 14 + 6
    assert report.strip([[image]], ["x"], ["two\nlines"]).width < report.strip([[image]], ["x"], ["two lines"]).width


@pytest.mark.parametrize("sheet", ["strip", "gallery"])
def test_lettering_of_sheets_is_large_and_dark(sheet, monkeypatch):
    drawn, write = [], ImageDraw.ImageDraw.text

    def note(self, place, text, fill=None, font=None, *rest, **options):
        drawn.append((text, font.size, fill))
        return write(self, place, text, fill, font, *rest, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    image = np.full((32, 32, 3), 200, np.uint8)
    if sheet == "strip":
        report.strip([[image]], ["truth"], ["E01"], tile=96)
    else:
        everybody, rows = bank(), np.array([[0, 41]])
        faces = dict.fromkeys((0, 41), image)
        report.gallery(everybody, everybody.features[:1], rows, [image], faces, ["nearest"])
        captions = "\n".join(text for text, _, _ in drawn)
        assert "P0, 0.0 s" in captions and "P1, 1.6 s" in captions and "…" not in captions
        assert "".join(captions.split()).count("SEN-02-same_phrase_thirty_times") == 1
        assert min(size for _, size, _ in drawn) >= 16
    assert drawn and all(size >= 12 for _, size, _ in drawn)
    assert all(int(fill[1:3], 16) < 0x40 for _, _, fill in drawn), "no grey lettering"


def test_joined_sheets_stand_below_or_beside_each_other():
    red, blue = Image.new("RGB", (30, 10), "red"), Image.new("RGB", (20, 40), "blue")
    below, beside = report.joined([red, blue]), report.joined([red, blue], beside=True)
    assert below.size == (30, 62) and below.getpixel((5, 25)) == (0, 0, 255)
    assert beside.size == (62, 40) and beside.getpixel((45, 5)) == (0, 0, 255)


# --- frames that differ ----------------------------------------------------------------------------------------------


def performance(sequences=4, frames=10):
    """A capture whose expressions are small, but for one jaw a sequence, and blinks, each with another brow, which move
    more than anything else; and which frames have shut eyes."""
    capture = ball_capture(frames=sequences * frames)
    capture.expression[:] = np.random.default_rng(0).normal(0, 0.01, capture.expression.shape)
    capture.sequence[capture.train] = np.repeat([f"SEN-{i:02d}" for i in range(sequences)], frames)
    lids, brow, jaw = (ARKIT52.index(name) for name in ("eyeBlinkLeft", "browDownLeft", "jawForward"))
    blinks = np.arange(3, len(capture), 5)
    capture.expression[blinks, lids] = 0.8
    capture.expression[blinks, ARKIT52.index("eyeBlinkRight")] = 0.8
    capture.expression[blinks, brow + np.arange(len(blinks)) % 5] = 0.7
    for i, name in enumerate(np.unique(capture.sequence)):
        capture.expression[np.flatnonzero(capture.sequence == name)[1], jaw + i] = 0.6
    return capture, np.isin(np.arange(len(capture)), blinks)


def test_picked_frames_differ_and_are_not_all_blinks():
    capture, shut = performance()
    rows = report.different(capture, 4, capture.train)
    assert len(set(capture.sequence[rows])) == 4 and not set(capture.sequence[rows]) & {"FREE"}
    assert shut[rows].sum() == 1 and not shut[rows[0]]
    apart = np.linalg.norm(capture.expression[rows][:, None] - capture.expression[rows], axis=2)
    assert (apart + 9 * np.eye(4)).min() > 0.5
    assert np.array_equal(rows, report.different(capture, 4, capture.train))


def test_frames_beside_others_differ_from_them_too():
    capture, shut = performance()
    rows = report.different(capture, 3, capture.train)
    more = report.different(capture, 2, capture.free, beside=rows)
    assert shut[[*rows, *more]].sum() == 1 and capture.free[more].all() and len({*rows, *more}) == 5
    calm = capture.expression[capture.train].mean(0)
    first = report.different(capture, 1, capture.train, away_from=calm)[0]
    apart = np.linalg.norm(capture.expression - calm, axis=1)
    assert apart[first] == apart[capture.train & ~shut].max()


def test_few_frames_are_all_picked_and_none_is_an_error():
    capture, shut = performance()
    few = np.flatnonzero(capture.free)[:3]
    assert sorted(report.different(capture, 6, np.isin(np.arange(len(capture)), few))) == few.tolist()
    blinks = report.different(capture, 2, shut)
    assert len(set(blinks)) == 2 and shut[blinks].all()
    with pytest.raises(RafError, match="0 frames to pick 2 from"):
        report.different(capture, 2, np.zeros(len(capture), bool))


def test_headings_name_sequence_second_and_view():
    capture, _ = performance()
    assert report.moments(capture, [5, 42]) == ["SEN-00\n0.2 s", "FREE\n1.7 s, held out"]
    filmed = replace(capture, time=np.arange(len(capture)) / 30)
    assert report.moments(filmed, [5, 42]) == ["SEN-00\n0.2 s", "FREE\n1.4 s, held out"]
    assert report.views(capture.cameras[:1])[0].startswith("camera cam0\n34° ")
    turned = {text.split("\n")[1].split("° ")[1] for text in report.views([capture.cameras[0], capture.cameras[-1]])}
    assert turned == {"left", "right"}


def test_the_contact_sheet_names_people_and_expressions(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "scripts"))
    import contact_sheet

    told, strip = [], report.strip
    monkeypatch.setattr(
        report, "strip", lambda rows, *heads, **options: told.append(heads) or strip(rows, *heads, **options)
    )
    monkeypatch.setattr(contact_sheet, "faces", lambda name, size: [np.zeros((size, size, 3), np.uint8)] * 5)
    monkeypatch.setattr(
        sys, "argv", ["contact_sheet.py", "--people", "16", "--size", "64", "--out", str(tmp_path / "a.jpg")]
    )
    contact_sheet.main()
    assert told[0][0] == ["neutral", "laughing", "surprised", "angry", "sad"] == told[1][0]
    assert [*told[0][1], *told[1][1]][::15] == ["388\nsubject", "B001\nbank"] and "E10\ndriver" in told[1][1]
    assert Image.open(tmp_path / "a.jpg").width > 2 * 5 * 64
