"""Figures 1 and 5: frames by a rule, subjects without avatars left out, images and error maps in their places."""

import numpy as np
import pytest
from grid_rows import grid_rows
from synthetic import ball_capture

from raflib import report
from raflib.errors import RafError
from raflib.lab.cells import labelled
from raflib.report import avatar_figures
from raflib.report.avatar_figures import GAIN, METRIC, moments_by_rule, spread_subjects

SUBJECTS = ("388", "422", "443", "445")
GREY = {"vanilla": 0.2, "noise-0.08": 0.4, "raf": 0.6}


class Grey:
    """An avatar that is a plain grey; the grey tells its method."""

    feature_space, method, config = "arkit52", "made up", None

    def __init__(self, subject: str, grey: float) -> None:
        self.subject, self.grey, self.control_expression = subject, grey, np.zeros(52, np.float32)

    def render(self, expression, pose, scale, cameras):
        return np.full((len(expression), cameras[0].height, cameras[0].width, 3), self.grey, np.float32)


def made(protocol, **changes):
    rows = labelled(grid_rows(SUBJECTS, seeds=[1, 2], **changes))
    return rows.assign(frame=12 + rows["frame"] // 25, camera="cam1")


def captures(person, drives):
    return ball_capture(person, frames=12, size=32, cameras=3, seed=int(drives))


def avatar(subject, label, seed):
    return None if (subject, label) == ("445", "noise-0.08") else Grey(subject, GREY[label])


def test_frames_are_those_at_the_quantiles_of_the_difference():
    rows = made("cross")
    chosen = moments_by_rule(rows, "cross", {"422": 1})
    assert [moment.quantile for moment in chosen] == [0.1, 0.5, 0.9]
    sides = rows[(rows["condition"] == "avatar") & (rows["protocol"] == "cross") & (rows["subject"] == "422")]
    sides = sides[sides["seed"] == 1].set_index(["driver", "frame"])
    gains = sides[sides["label"] == "raf"][METRIC] - sides[sides["label"] == "vanilla"][METRIC]
    for moment in chosen:
        wanted = np.quantile(gains, moment.quantile)
        assert moment.difference == pytest.approx(gains[moment.driver, moment.frame])
        assert abs(moment.difference - wanted) == pytest.approx(np.abs(gains - wanted).min())
        assert moment.seed == 1 and moment.label.startswith(f"422 ← {moment.driver}\n")
    assert chosen == moments_by_rule(rows.sample(frac=1, random_state=0), "cross", {"422": 1}), "order means nothing"
    assert moments_by_rule(rows[rows["label"] != "raf"], "cross", {"422": 1}) == []


def test_the_shown_subjects_span_the_gains():
    rows = made("cross", spread={"subject": 1.0})
    part = rows[(rows["condition"] == "avatar") & (rows["protocol"] == "cross")]
    means = part.groupby(["subject", "label"])[METRIC].mean().unstack()
    order = (means["raf"] - means["vanilla"]).sort_values().index.tolist()
    shown = spread_subjects(rows, "cross", SUBJECTS)
    assert shown[0] == order[0] and shown[-1] == order[-1] and len(shown) == 3
    assert spread_subjects(rows, "cross", ["422"]) == ["422"]
    assert spread_subjects(rows[rows["label"] == "raf"], "cross", SUBJECTS) == []


def test_the_seed_is_the_first_one_whose_avatars_are_trained(strips, capsys):
    rows = made("self")
    rows = rows[~((rows["subject"] == "422") & (rows["label"] == "raf"))]
    assert avatar_figures.shared_seeds(rows, "self") == {"388": [1, 2], "443": [1, 2], "445": [1, 2]}

    def trained(subject, label, seed):
        return None if seed == 1 and subject == "388" and label == "raf" else avatar(subject, label, seed)

    report.avatars_figure(rows, "self", trained, captures)
    moments = moments_by_rule(rows, "self", {"388": 2, "443": 1})
    assert strips[0][2] == [moment.label for moment in moments]
    assert "figure of 422 left out: the rows hold no self-driving by both vanilla and RAF" in capsys.readouterr().out


@pytest.fixture
def strips(monkeypatch):
    """What `strip` receives: rows of images, headings, labels."""
    given = []
    real = avatar_figures.strip
    monkeypatch.setattr(avatar_figures, "strip", lambda *about, **more: given.append(about[:3]) or real(*about, **more))
    return given


@pytest.mark.parametrize(("protocol", "first"), [("cross", ["driver", "truth"]), ("self", ["truth"])])
def test_each_image_has_its_place(protocol, first, strips, tmp_path, capsys):
    sheet = report.avatars_figure(made(protocol), protocol, avatar, captures, tmp_path / "figure.png", tile=32)
    assert capsys.readouterr().out == (
        "figure of 445 left out: no trained avatar of seed 1: noise-0.08; seed 2: noise-0.08\n"
    )
    ((images, heads, labels),) = strips
    errors = [f"{name}: error × {GAIN}" for name in ("vanilla", "+noise", "+RAF")]
    assert heads == [*first, "vanilla", "+noise", "+RAF", *errors]
    assert [label.split("\n")[1] for label in labels] == ["10 % quantile", "50 % quantile", "90 % quantile"] * 3
    for row in images:
        shown = dict(zip(heads, row, strict=True))
        assert [shown[name].mean() for name in ("vanilla", "+noise", "+RAF")] == pytest.approx(list(GREY.values()))
    assert (tmp_path / "figure.png").is_file() and sheet.height > 9 * 32


def test_error_maps_are_differences_from_the_truth_and_need_it(strips):
    rows = made("self")
    report.avatars_figure(rows, "self", avatar, captures)
    moment = moments_by_rule(rows, "self", {"388": 1})[0]
    shown = dict(zip(strips[0][1], strips[0][0][0], strict=True))
    true = captures("388", False).image(moment.frame, 1)
    assert np.array_equal(shown["truth"], true) and moment.camera == "cam1"
    np.testing.assert_allclose(
        shown[f"+RAF: error × {GAIN}"], np.clip(GAIN * np.abs(0.6 - true / 255), 0, 1), atol=1e-6
    )
    report.avatars_figure(made("cross"), "cross", avatar, captures)
    unknown = dict(zip(strips[1][1], strips[1][0][0], strict=True))
    assert unknown["truth"] is None and unknown[f"+RAF: error × {GAIN}"] is None, "these balls have no true image"
    assert np.array_equal(unknown["driver"].shape, true.shape)


def test_no_avatar_is_no_figure_and_a_strange_frame_is_named(capsys):
    assert report.avatars_figure(made("self"), "self", lambda *about: None, captures) is None
    told = capsys.readouterr().out
    assert "figure of 388 left out: no trained avatar of seed 1: vanilla, noise-0.08, raf; seed 2: vanilla" in told
    late = made("self").assign(frame=lambda rows: rows["frame"] + 90)
    with pytest.raises(RafError, match=r"FREE, frame \d+, camera cam1 of the rows is not in the capture of 388"):
        report.avatars_figure(late, "self", avatar, captures)
