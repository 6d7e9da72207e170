"""Neighbours searched in one feature space, vectors given from another; the studio's upper bound."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import ball_capture

from raflib.bank import ExpressionBank
from raflib.capture import shown, shown_spaces
from raflib.config import train_config
from raflib.coverage.identity import REST, neutral
from raflib.coverage.pose import pose_slope, without_pose
from raflib.errors import RafError
from raflib.lab.ready import check_sampler, usable_samplers
from raflib.lab.recordings import Recordings
from raflib.sampler import RAF, SAMPLERS, sampler_from_name
from raflib.sampler.compare import compare_samplers
from raflib.training import fit
from raflib.training.trainer import Trainer

SEARCHING = (
    "raf", "raf_pose", "raf_relative", "raf_aligned", "raf_people", "raf_interpolated", "raf_adaptive", "noise_matched",
)  # fmt: skip
"""Samplers with an option `search`."""
WIDTH, FURTHER, PEOPLE, ROWS, FRAMES = 52, 6, 7, 40, 20


@pytest.fixture(scope="module")
def bank():
    """Rows whose further features have nothing to do with their features; 422's rows are among them."""
    draw = np.random.default_rng(0)
    names = draw.permutation(np.repeat(["422", *(f"B{number}" for number in range(1, PEOPLE))], ROWS))
    count = len(names)
    columns = draw.normal(0, 0.3, (count, WIDTH)), names, ["EXP-1-head"] * count, np.arange(count), "arkit52"
    spaces = {"open42": draw.normal(0, 1, (count, FURTHER)), "true52": draw.uniform(0, 1, (count, WIDTH))}
    return ExpressionBank(*columns, rotation=draw.normal(0, 0.2, (count, 3)), spaces=spaces)


@pytest.fixture(scope="module")
def given():
    """What `bind` takes; frame 5 has no face."""
    draw = np.random.default_rng(1)
    expression = draw.normal(0, 0.3, (FRAMES, WIDTH)).astype(np.float32)
    expression[5] = np.nan
    further = {"open42": draw.normal(0, 1, (FRAMES, FURTHER)), "true52": draw.uniform(0, 1, (FRAMES, WIDTH))}
    pose = draw.normal(0, 0.2, (FRAMES, 6))
    return expression, "422", "arkit52", pose, {tag: values.astype(np.float32) for tag, values in further.items()}


def seen_frames():
    return np.flatnonzero(np.arange(FRAMES) != 5)


def nearest(queries, rows, subjects, k=1):
    """Rows of other people by the definition, in float64."""
    others = np.flatnonzero(subjects != "422")
    apart = np.linalg.norm(queries[:, None].astype(np.float64) - rows[others], axis=-1)
    return np.sort(apart, 1)[:, :k], others[np.argsort(apart, axis=1, kind="stable")[:, :k]]


def test_neighbours_are_of_one_space_and_vectors_of_the_other(bank, given):
    condition = RAF(bank, 1.0, 3, search="open42").bind(*given)
    seen = seen_frames()
    apart, rows = nearest(given[4]["open42"][seen], bank.spaces["open42"], bank.subjects, 3)
    np.testing.assert_array_equal(condition.neighbours[seen], rows)
    np.testing.assert_allclose(condition.distances[seen], apart, rtol=1e-6)
    assert (condition.neighbours[5] == -1).all() and condition.bank is bank
    vectors = condition(torch.full((60,), 8), torch.Generator().manual_seed(0)).numpy()
    assert vectors.shape == (60, WIDTH)
    assert {tuple(row) for row in vectors} == {tuple(row) for row in bank.features[condition.neighbours[8]]}
    assert (condition.neighbours[seen] != RAF(bank, 1.0, 3).bind(*given).neighbours[seen]).mean() > 0.5
    itself = RAF(bank, 1.0, 3, search="arkit52").bind(*given)
    np.testing.assert_array_equal(itself.neighbours, RAF(bank, 1.0, 3).bind(*given).neighbours)


@pytest.mark.parametrize("method", SEARCHING)
def test_without_a_search_everything_stays(bank, given, method):
    plain = replace(bank, spaces=None)
    one, two = (sampler_from_name(method, known).bind(*more) for known, more in ((plain, given[:4]), (bank, given)))
    frames = torch.from_numpy(seen_frames())
    first, second = (condition(frames, torch.Generator().manual_seed(2)) for condition in (one, two))
    assert torch.equal(first, second) and one.summary() == two.summary()
    told = sampler_from_name(method, plain).describe()
    assert "search" not in told and set(told) == {"method", "bank", *SAMPLERS[method].options()} - {"search"}
    assert sampler_from_name(method, plain, search="x").describe()["search"] == "x"


def test_which_samplers_have_a_search():
    found = {name for name, cls in SAMPLERS.items() if "search" in cls.options()}
    assert found == set(SEARCHING) and "search" not in SAMPLERS["raf_oracle"].options()


def test_corrections_are_made_in_the_space_that_is_searched(bank, given):
    seen, subjects = seen_frames(), bank.subjects
    rows, own, turned = bank.spaces["open42"], given[4]["open42"][seen], given[3][seen, :3]
    others = subjects != "422"
    slope = pose_slope(rows[others], bank.rotation[others], subjects[others])
    there = without_pose(rows, bank.rotation, subjects, slope).astype(np.float32)
    here = without_pose(own, turned, np.full(len(own), "422"), slope).astype(np.float32)
    found = sampler_from_name("raf_pose", bank, search="open42").bind(*given).neighbours[seen]
    np.testing.assert_array_equal(found, nearest(here, there, subjects)[1])
    calm = np.stack([neutral(rows[subjects == name], REST) for name in subjects])
    moved = (rows - calm + neutral(own, REST)).astype(np.float32)
    for method in ("raf_relative", "raf_aligned"):
        condition = sampler_from_name(method, bank, p=1.0, search="open42").bind(*given)
        np.testing.assert_array_equal(condition.neighbours[seen], nearest(own, moved, subjects)[1])
    row = condition.neighbours[8, 0]
    random = torch.Generator().manual_seed(0)
    np.testing.assert_array_equal(condition(torch.tensor([8]), random).numpy()[0], bank.features[row])
    relative = sampler_from_name("raf_relative", bank, p=1.0, search="open42").bind(*given)
    calm = neutral(bank.features[subjects == subjects[row]], REST)
    expected = bank.features[row] - calm + neutral(given[0][seen], REST)
    np.testing.assert_allclose(relative(torch.tensor([8]), random).numpy()[0], expected, atol=1e-6)


def test_people_are_searched_there_and_noise_is_as_long_as_the_vectors_differ(bank, given):
    seen = seen_frames()
    people = sampler_from_name("raf_people", bank, people=3, search="open42").bind(*given)
    for place, frame in enumerate(seen):
        order = nearest(given[4]["open42"][seen], bank.spaces["open42"], bank.subjects, 240)[1][place]
        best = {}
        for row in order:
            best.setdefault(bank.subjects[row], row)
        assert people.neighbours[frame].tolist() == list(best.values())[:3]
    noise = sampler_from_name("noise_matched", bank, p=1.0, search="open42").bind(*given)
    raf = RAF(bank, search="open42").bind(*given)
    apart = np.linalg.norm(bank.features[raf.neighbours[seen, 0]] - given[0][seen], axis=1)
    ratio = noise.sigma.numpy()[seen] / apart
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


def test_what_is_missing_is_named(bank, given):
    expression, subject, _, pose, spaces = given
    broken = {"open42": spaces["open42"].copy()}
    broken["open42"][[7, 9]] = np.nan
    lost = replace(bank, spaces=None)
    both = r"search is 'open42', the bank holds {} features and the capture of subject '422' {}; set `search`"
    for call, words in [
        (lambda: RAF(bank, search="open42").bind(*given[:4]), both.format("arkit52, open42, true52", "arkit52")),
        (lambda: RAF(lost, search="open42").bind(*given), both.format("arkit52", "arkit52, open42, true52")),
        (lambda: RAF(bank, search="bfm64").bind(*given), "search is 'bfm64'"),
        (lambda: RAF(bank, search="open42").bind(*given[:4], broken), "frame 7 of subject '422' has no open42 .* 2 de"),
        (lambda: RAF(bank, search="open42").bind(*given[:4], {"open42": spaces["open42"][:5]}), r"expected \[20, d\]"),
        (lambda: RAF(bank, search="open42").bind(expression, subject, "bfm64", pose, spaces), "arkit52.*capture bfm64"),
        (lambda: RAF(bank, search="true52").bind(*given[:4], {"true52": spaces["open42"]}), "true52.*true52"),
        (lambda: RAF(bank).bind(expression, subject, "bfm64"), "arkit52.*bfm64.*`bank`.*`features`"),
        (lambda: sampler_from_name("raf_random", bank, search="open42"), "no option 'search'"),
    ]:
        with pytest.raises(RafError, match=words) as error:
            call()
        assert "\n" not in str(error.value)


# -- the upper bound -------------------------------------------------------------------------------------------------


def test_the_oracle_searches_true_actions_and_says_so(bank, given):
    oracle = sampler_from_name("raf_oracle", bank, p=0.25, top_k=2)
    condition, same = oracle.bind(*given), RAF(bank, 0.25, 2, search="true52").bind(*given)
    np.testing.assert_array_equal(condition.neighbours, same.neighbours)
    told = oracle.describe()
    assert told["search"] == "true52" and "studio" in told["label"] and told["p"] == 0.25 and told["top_k"] == 2
    with pytest.raises(RafError, match="no option 'search'"):
        sampler_from_name("raf_oracle", bank, search="")
    with pytest.raises(RafError, match="raf_oracle: search is 'true52', the bank holds arkit52 features"):
        sampler_from_name("raf_oracle", replace(bank, spaces=None)).bind(*given)


def test_notebooks_try_it_only_where_its_space_is(bank, capsys):
    from raflib.lab.parameters import NOTEBOOKS

    parameters, reading = NOTEBOOKS["09_beyond"](), Recordings()
    usable = usable_samplers(SAMPLERS, parameters, bank, reading, "422")
    assert list(usable) == [name for name in SAMPLERS if name != "raf_oracle"]
    assert "left out: raf_oracle: search is 'true52'" in capsys.readouterr().out
    assert list(usable_samplers(SAMPLERS, parameters, bank, reading, "422", spaces=["true52"])) == list(SAMPLERS)
    with pytest.raises(RafError, match="search is 'open42'"):
        check_sampler(RAF(bank, search="open42"), reading, "422")
    check_sampler(RAF(bank, search="open42"), reading, "422", spaces=["open42"])


# -- captures --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def capture():
    made = ball_capture("422", frames=30)
    draw = np.random.default_rng(2)
    return replace(made, spaces={"open42": draw.normal(0, 1, (len(made), FURTHER)).astype(np.float32)})


def test_held_out_frames_are_hidden_in_every_space(capture):
    hidden = shown_spaces(capture)["open42"]
    assert np.isnan(hidden[capture.free]).all() and capture.free.any()
    np.testing.assert_array_equal(hidden[capture.train], capture.spaces["open42"][capture.train])
    assert np.isnan(shown(capture)).any(1).tolist() == np.isnan(hidden).any(1).tolist()


def test_comparison_and_training_give_samplers_the_captures_spaces(capture, bank, tmp_path, monkeypatch):
    targets = {"E01": np.random.default_rng(3).normal(0, 0.3, (30, WIDTH)).astype(np.float32)}
    sampler = RAF(bank.restrict(exclude="422"), 1.0, search="open42")
    asked = []
    real = RAF.condition
    monkeypatch.setattr(RAF, "condition", lambda self, recording: asked.append(recording) or real(self, recording))
    train = replace(capture, sequence=np.where(capture.free, "FREE", np.arange(len(capture)) // 10).astype(str))
    compare_samplers({"raf": sampler}, train, targets, repeats=1, progress=False)
    config = train_config("tiny", size=32, steps=1, weight_perceptual=0.0, landmark_steps=0)
    config = replace(config, avatar=replace(config.avatar, points=100, mouth_points=10))
    monkeypatch.setattr(Trainer, "run", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fit(capture, sampler, config, tmp_path / "run", progress=False)
    assert len(asked) == 2
    for recording in asked:
        np.testing.assert_array_equal(recording.spaces["open42"], shown_spaces(capture)["open42"])


def test_a_captures_spaces_are_checked_and_told_apart(capture):
    own = replace(capture, spaces={})
    assert own.spaces == {} and len({own.fingerprint, capture.fingerprint}) == 2
    values = capture.spaces["open42"]
    other = values.copy()
    other[0, 0] += 1
    assert replace(capture, spaces={"open42": other}).fingerprint != capture.fingerprint
    assert replace(capture, spaces={"open43": values}).fingerprint != capture.fingerprint
    other[3] = np.nan
    assert len(replace(capture, spaces={"open42": other})) == len(capture)
    partly = values.copy()
    partly[3, 1] = np.nan
    for spaces, words in [
        ({"arkit52": values}, "named 'arkit52' and `expression` is arkit52"),
        ({"": values}, "named ''"),
        ({"open42": values[:, 0]}, r"open42 features have shape \[40\]"),
        ({"open42": values[:-1]}, r"shape \[39, 6\], expected one row for each of 40"),
        ({"open42": partly}, "a row of open42 features is partly NaN"),
    ]:
        with pytest.raises(RafError, match=words):
            replace(own, spaces=spaces)
