"""Samplers beyond the paper: each does what its rule says, never with the subject's own rows, and resumes exactly."""

import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from synthetic import ball_capture, dying_at, training

from raflib.bank import ExpressionBank, nearest_people, write_mapped
from raflib.config import train_config
from raflib.coverage.identity import REST, neutral
from raflib.coverage.pose import centred, pose_correlation
from raflib.errors import RafError
from raflib.sampler import PAPER_METHODS, SAMPLERS, Vanilla, sampler_from_name
from raflib.sampler.base import Conditioner, FromBank, Sampler
from raflib.training import fit

PEOPLE, ROWS, FRAMES, WIDTH = 8, 50, 40, 10
METHODS = tuple(name for name in SAMPLERS if name != "raf_oracle")  # test_search.py tests that
BEYOND = tuple(name for name in METHODS if name not in PAPER_METHODS)


@pytest.fixture(scope="module")
def bank():
    """Non-negative features with a bias for each person and a part that follows the head; 422's rows are among them."""
    draw = np.random.default_rng(0)
    names = np.repeat(["422", *(f"B{number}" for number in range(1, PEOPLE))], ROWS)
    turn = draw.normal(0, 0.3, (len(names), 3))
    bias = np.repeat(draw.uniform(0, 0.5, (PEOPLE, WIDTH)), ROWS, 0)
    features = bias + draw.exponential(0.3, (len(names), WIDTH)) + turn @ draw.normal(0, 1, (3, WIDTH))
    order = draw.permutation(len(names))
    zero = np.repeat(draw.normal(0, 0.2, (PEOPLE, 3)), ROWS, 0)
    columns = features[order], names[order], ["EXP-1-head"] * len(names), np.arange(len(names)), "arkit52"
    return ExpressionBank(*columns, rotation=(turn + zero)[order])


@pytest.fixture(scope="module")
def recording(bank):
    """Frames of 422, near 422's own rows so that only the exclusion keeps those away; frame 5 has no face."""
    own = np.flatnonzero(bank.subjects == "422")[:FRAMES]
    expression = bank.features[own] + np.random.default_rng(1).normal(0, 1e-3, (FRAMES, WIDTH)).astype(np.float32)
    pose = np.hstack([bank.rotation[own] + 0.7, np.zeros((FRAMES, 3), np.float32)])
    expression[5], pose[5] = np.nan, np.nan
    return SimpleNamespace(expression=expression, pose=pose, seen=np.flatnonzero(np.arange(FRAMES) != 5))


def bound(method, bank, recording, **options):
    sampler = sampler_from_name(method, bank, **options)
    return sampler.bind(recording.expression, "422", "arkit52", recording.pose)


def draws(condition, frame, count=4000, seed=0):
    return condition(torch.full((count,), frame), torch.Generator().manual_seed(seed)).numpy()


def distances(bank, expression):
    others = np.flatnonzero(bank.subjects != "422")
    return others, np.linalg.norm(expression[:, None].astype(np.float64) - bank.features[others], axis=-1)


def test_the_registry_is_the_one_list_of_methods():
    assert METHODS[:3] == PAPER_METHODS == ("vanilla", "noise", "raf")
    assert set(BEYOND) == {
        "raf_pose", "raf_relative", "raf_aligned", "person_shift", "raf_people", "raf_interpolated", "raf_adaptive",
        "noise_matched", "raf_random",
    }  # fmt: skip
    for cls in SAMPLERS.values():
        assert cls.__doc__ and ("bank" in cls.options()) is False
    for name in BEYOND:
        words = SAMPLERS[name].__doc__
        told = "Why:" in words and re.search(r"Refuted if|[Ii]f it does what RAF does", words)
        assert told, f"{name}: its docstring says why, and what would refute it"


def test_a_class_is_all_it_takes_and_names_are_taken_once(bank, recording):
    @dataclass(frozen=True)
    class Zero(FromBank):
        """No expression at all."""

        name = "zero"

        def condition(self, recording):
            return Conditioner(recording)

    try:
        assert bound("zero", bank, recording, p=0.25).chance.sum() == 0
        with pytest.raises(RafError, match=r"the name 'zero' is .*Zero's"):
            type("Another", (Sampler,), {"name": "zero"})
    finally:
        del SAMPLERS["zero"]


@pytest.mark.parametrize("method", METHODS)
def test_draws_follow_the_generator_alone_and_resume(bank, recording, method):
    frames = torch.from_numpy(recording.seen)
    random = torch.Generator().manual_seed(3)
    condition = bound(method, bank, recording)
    condition(frames, random)
    state = random.get_state()
    torch.manual_seed(1)
    expected = condition(frames, random)
    torch.manual_seed(2)
    again = bound(method, bank, recording)(frames, torch.Generator().set_state(state))
    assert torch.equal(expected, again) and torch.isfinite(expected).all()
    assert expected.dtype == torch.float32 and expected.shape == (FRAMES - 1, WIDTH)
    assert method == "vanilla" or not torch.equal(expected, condition(frames, random))
    with pytest.raises(RafError, match="frame 5 of subject '422'"):
        condition(torch.tensor([5]), random)
    np.testing.assert_array_equal(condition.expression.numpy(), recording.expression)  # nothing writes into it


@pytest.mark.parametrize("method", BEYOND)
def test_the_chance_is_what_is_drawn_and_nobody_is_their_own_neighbour(bank, recording, method):
    condition = bound(method, bank, recording, p=0.3)
    for frame in (0, 17):
        given = draws(condition, frame)
        changed = np.abs(given - recording.expression[frame]).max(1) > 1e-6
        assert changed.mean() == pytest.approx(float(condition.chance[frame]), abs=0.03)
        own = bank.features[bank.subjects == "422"]
        assert not (given[changed][:200, None] == own).all(-1).any()
    assert condition.summary()["expected_p"] == pytest.approx(float(condition.chance[recording.seen].mean()), abs=1e-6)
    assert condition.chance[5] == 0
    if hasattr(condition, "neighbours"):
        assert "422" not in bank.subjects[condition.neighbours[recording.seen]]
        assert (condition.neighbours[5] == -1).all()


@pytest.mark.parametrize("method", BEYOND)
def test_describe_tells_all(bank, method):
    sampler = sampler_from_name(method, bank, p=0.25)
    told = sampler.describe()
    assert told.pop("method") == method and told.pop("bank") == bank.checksum and told["p"] == 0.25
    assert set(told) == set(sampler.options()) - {"search"}
    assert sampler_from_name(method, bank, **told) == sampler


def test_pose_is_taken_out_of_the_search(bank, recording):
    plain, without = bound("raf", bank, recording), bound("raf_pose", bank, recording)
    own = recording.pose[recording.seen, :3]
    turned = centred(bank.rotation, bank.subjects)

    def alike(condition):
        return pose_correlation(own - own.mean(0), turned[condition.neighbours[recording.seen, 0]])["all"]

    assert alike(plain) > 0.5 > 0.3 > alike(without)
    given = draws(without, 3)
    np.testing.assert_array_equal(
        given[given[:, 0] != recording.expression[3, 0]][0], bank.features[without.neighbours[3, 0]]
    )
    shifted = replace(bank, rotation=bank.rotation + np.float32([0.1, -0.4, 0.2]))  # another zero changes nothing
    np.testing.assert_array_equal(bound("raf_pose", shifted, recording).neighbours, without.neighbours)


def test_pose_sampler_says_what_is_missing(bank, recording):
    with pytest.raises(RafError, match=r"does not hold how heads were turned"):
        bound("raf_pose", replace(bank, rotation=None), recording)
    with pytest.raises(RafError, match=r"pose of shape \(\), expected \[40, 6\]"):
        sampler_from_name("raf_pose", bank).bind(recording.expression, "422")
    broken = recording.pose.copy()
    broken[7] = np.nan
    with pytest.raises(RafError, match="not finite"):
        sampler_from_name("raf_pose", bank).bind(recording.expression, "422", pose=broken)


def test_relative_codes_keep_the_subjects_rest(bank, recording):
    condition = bound("raf_relative", bank, recording)
    rest = neutral(recording.expression[recording.seen], REST)
    for frame in (0, 20):
        row = condition.neighbours[frame, 0]
        expected = bank.features[row] - neutral(bank.features[bank.subjects == bank.subjects[row]], REST) + rest
        given = draws(condition, frame)
        given = given[np.abs(given - recording.expression[frame]).max(1) > 0]
        np.testing.assert_allclose(given, np.tile(expected, (len(given), 1)), atol=1e-6)
        assert condition.distances[frame, 0] == pytest.approx(
            np.linalg.norm(expected - recording.expression[frame]), abs=1e-5
        )
    bias = np.float32(3.0) * (bank.subjects == "B4")[:, None]
    biased = replace(bank, features=bank.features + bias)  # the bias is in B4's rest as well
    # (norms change the order of frames by calm, so only rows at rest in both can be expected to be the same)
    assert "B4" in biased.subjects[bound("raf_relative", biased, recording).neighbours[recording.seen]]
    assert "B4" not in biased.subjects[bound("raf", biased, recording).neighbours[recording.seen]]


def test_aligned_neighbours_are_the_relative_ones_as_they_are(bank, recording):
    condition, relative = bound("raf_aligned", bank, recording), bound("raf_relative", bank, recording)
    np.testing.assert_array_equal(condition.neighbours, relative.neighbours)
    given = draws(condition, 20)
    given = given[np.abs(given - recording.expression[20]).max(1) > 0]
    np.testing.assert_array_equal(given, np.tile(bank.features[condition.neighbours[20, 0]], (len(given), 1)))


def test_shifts_put_the_expression_on_anybodys_rest_but_the_subjects(bank, recording):
    condition = bound("person_shift", bank, recording, p=1.0)
    rest = neutral(recording.expression[recording.seen], REST)
    others = [name for name in bank.people if name != "422"]
    expected = np.stack([neutral(bank.features[bank.subjects == name], REST) for name in others]) - rest
    apart = np.linalg.norm((draws(condition, 8) - recording.expression[8])[:, None] - expected, axis=-1)
    assert apart.min(1).max() < 1e-5
    shares = np.bincount(apart.argmin(1), minlength=len(others)) / len(apart)
    np.testing.assert_allclose(shares, 1 / len(others), atol=0.03)
    assert condition.summary()["distinct_people"] == PEOPLE - 1


def test_people_are_the_nearest_and_different(bank, recording):
    condition = bound("raf_people", bank, recording, people=4)
    others, apart = distances(bank, recording.expression[recording.seen])
    for place, frame in enumerate(recording.seen):
        best = {}
        for row in others[np.argsort(apart[place], kind="stable")]:
            best.setdefault(bank.subjects[row], row)
        assert condition.neighbours[frame].tolist() == list(best.values())[:4]
    assert condition.summary()["distinct_people"] > 3
    given = draws(condition, 2, 8000)
    shares = [(given == bank.features[row]).all(1).mean() for row in condition.neighbours[2]]
    np.testing.assert_allclose(shares, 0.125, atol=0.015)
    alone = nearest_people(bank, recording.expression[:3], 1, "422")
    np.testing.assert_array_equal(alone[1], bank.search(recording.expression[:3], exclude="422")[1])
    with pytest.raises(RafError, match="people is 8, the bank has 7"):
        bound("raf_people", bank, recording, people=8)


def test_interpolated_lies_between(bank, recording):
    condition = bound("raf_interpolated", bank, recording, p=1.0)
    own, other = recording.expression[8], bank.features[condition.neighbours[8, 0]]
    given = draws(condition, 8)
    share = (given - own) @ (other - own) / ((other - own) ** 2).sum()
    np.testing.assert_allclose(given, own + share[:, None] * (other - own), atol=1e-5)
    assert share.min() >= 0 and share.max() <= 1
    np.testing.assert_allclose(np.quantile(share, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)


def test_adaptive_trusts_the_near(bank, recording):
    condition = bound("raf_adaptive", bank, recording)
    distance, chance = condition.distances[recording.seen, 0], condition.chance[recording.seen].numpy()
    np.testing.assert_allclose(chance, 0.5 ** (distance / np.median(distance)), rtol=1e-5)
    assert (np.argsort(distance, kind="stable") == np.argsort(-chance, kind="stable")).all()
    assert chance[distance == np.median(distance)] == pytest.approx(0.5)
    itself = bound("raf_adaptive", bank, replace_expression(recording, bank.features[bank.subjects == "B2"][:FRAMES]))
    np.testing.assert_array_equal(itself.chance.numpy(), 1)  # distance 0 everywhere


def replace_expression(recording, expression):
    return SimpleNamespace(expression=expression, pose=recording.pose)


def test_matched_noise_goes_as_far_as_the_neighbour(bank, recording):
    condition = bound("noise_matched", bank, recording, p=1.0)
    _, apart = distances(bank, recording.expression[recording.seen])
    for place in (0, 30):
        frame = int(recording.seen[place])
        moved = draws(condition, frame, 20_000) - recording.expression[frame]
        assert np.linalg.norm(moved, axis=1).mean() == pytest.approx(apart[place].min(), rel=0.01)
        assert np.abs(moved.mean(0)).max() < 0.02 * apart[place].min()


def test_random_rows_are_anybodys_but_the_subjects(bank, recording):
    condition = bound("raf_random", bank, recording, p=1.0)
    others = bank.features[bank.subjects != "422"]
    given = draws(condition, 0, 20_000)
    counts = (given[:, None, 0] == others[:, 0]).sum(0)
    assert counts.sum() == len(given) and counts.min() > 20_000 / len(others) / 2
    assert condition.summary()["distinct_people"] == PEOPLE - 1


@pytest.mark.parametrize("method", BEYOND)
def test_a_bank_on_the_disk_gives_the_same(bank, recording, method, tmp_path):
    sorted_bank = bank.restrict(rows=np.argsort(bank.subjects, kind="stable"))
    mapped = write_mapped(tmp_path / "bank", [sorted_bank])
    first, second = (draws(bound(method, known, recording), 3, 50) for known in (sorted_bank, mapped))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("width", [1, WIDTH - 1, WIDTH + 1])
@pytest.mark.parametrize("method", BEYOND)
def test_expressions_of_another_width_are_refused(bank, recording, method, width):
    odd = np.resize(recording.expression.T, (width, FRAMES)).T
    with pytest.raises(RafError, match=rf"the bank holds arkit52 features of width 10 and .* of width {width};"):
        bound(method, bank, SimpleNamespace(expression=odd, pose=recording.pose))


def test_bad_options_are_refused(bank, recording):
    for call, message in [
        (lambda: sampler_from_name("raf_pose"), "'raf_pose' needs an expression bank"),
        (lambda: sampler_from_name("raf_people", bank, top_k=2), "no option 'top_k'"),
        (lambda: sampler_from_name("raf_people", bank, people=0), "people is 0"),
        (lambda: sampler_from_name("noise_matched", bank, p=2), "MatchedNoise: p is 2"),
        (lambda: bound("raf_people", bank.restrict(subjects="422"), recording), "0 rows"),
        (lambda: sampler_from_name("raf_random", bank).bind(recording.expression, "422", "bfm64"), "arkit52.*bfm64"),
    ]:
        with pytest.raises(RafError, match=message):
            call()


def test_training_shows_a_sampler_the_pose_and_no_held_out_frame_and_resumes(tmp_path, monkeypatch):
    capture = ball_capture()
    config = train_config("tiny", size=32, steps=8, checkpoint_every=3, weight_perceptual=0.0, landmark_steps=2)
    config = replace(config, avatar=replace(config.avatar, points=200, mouth_points=20))
    draw = np.random.default_rng(0)
    names = np.repeat(["B1", "B2", "B3"], 30)
    columns = draw.uniform(0, 0.3, (90, 52)), names, ["EXP-1-head"] * 90, np.arange(90), "arkit52"
    bank = ExpressionBank(*columns, rotation=draw.normal(0, 0.2, (90, 3)))
    sampler, seen = sampler_from_name("raf_pose", bank), []

    class Watched:
        name, bank, describe = sampler.name, sampler.bank, sampler.describe

        def bind(self, *given):
            seen.append(given)
            return sampler.bind(*given)

    whole = fit(capture, Watched(), config, tmp_path / "whole", progress=False)
    expression, subject, space, pose, spaces = seen[0]
    assert np.isnan(expression[capture.free]).all() and np.isfinite(expression[capture.train]).all()
    assert (subject, space) == ("900", "arkit52") and pose is capture.pose and spaces == {}
    monkeypatch.setattr(training.Trainer, "one_step", dying_at(5))
    with pytest.raises(KeyboardInterrupt):
        fit(capture, sampler, config, tmp_path / "killed", progress=False)
    monkeypatch.undo()
    resumed = fit(capture, sampler, config, tmp_path / "killed", progress=False)
    for name, value in whole.avatar.state_dict().items():
        assert torch.equal(value, resumed.avatar.state_dict()[name]), name
    assert resumed.info["sampler"]["bank"] == bank.checksum and resumed.method == "raf_pose"
    assert Vanilla().describe() == {"method": "vanilla"}
