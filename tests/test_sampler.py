"""Samplers: the vector of each step, how often it is replaced and by whose; and the ten lines of the docstring."""

import doctest

import numpy as np
import pytest
import torch

from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.sampler import RAF, RandomNoise, Vanilla, sampler_from_name
from raflib.sampler import raf as sampler

FRAMES, WIDTH = 40, 52


@pytest.fixture(scope="module")
def bank():
    draw = np.random.default_rng(0)
    subjects = draw.permutation(np.repeat(["422", "B1", "B2", "B3"], 50))
    features = draw.normal(size=(200, WIDTH)).astype(np.float32)
    return ExpressionBank(features, subjects, ["EXP-1-head"] * 200, np.arange(200), "arkit52")


@pytest.fixture(scope="module")
def expression(bank):
    """Frames of 422, close to 422's own rows, so that only the exclusion keeps those from being the neighbours."""
    own = bank.features[bank.subjects == "422"][:FRAMES]
    return own + np.random.default_rng(1).normal(scale=1e-3, size=own.shape).astype(np.float32)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_vanilla_gives_the_frames_own_expression_and_draws_nothing(expression):
    random = generator()
    before = random.get_state()
    frames = torch.tensor([3, 3, 0, 39])
    given = Vanilla().bind(expression, "422")(frames, random)
    np.testing.assert_array_equal(given.numpy(), expression[frames])
    assert given.dtype == torch.float32 and torch.equal(random.get_state(), before)


def test_noise_has_the_stated_deviation_and_is_fresh(expression):
    condition = RandomNoise(sigma=0.5).bind(expression, "422")
    frames = torch.zeros(4000, dtype=torch.int64)
    random = generator()
    first, second = (condition(frames, random) - torch.from_numpy(expression[0]) for _ in range(2))
    assert abs(float(first.std()) - 0.5) < 0.005 and abs(float(first.mean())) < 0.005
    assert not torch.equal(first, second)
    np.testing.assert_array_equal(RandomNoise(0.0).bind(expression, "422")(frames[:1], random), expression[:1])
    assert RandomNoise().sigma == 0.08


def test_raf_neighbours_are_the_nearest_among_other_people(bank, expression):
    condition = RAF(bank, top_k=3).bind(expression, "422", "arkit52")
    others = np.flatnonzero(bank.subjects != "422")
    exact = np.linalg.norm(expression[:, None].astype(np.float64) - bank.features[others], axis=-1)
    np.testing.assert_array_equal(condition.neighbours, others[np.argsort(exact, axis=1, kind="stable")[:, :3]])
    np.testing.assert_allclose(condition.distances, np.sort(exact, axis=1)[:, :3], rtol=1e-6)
    assert "422" not in bank.subjects[condition.neighbours]
    assert condition.own_rows == 50
    assert condition.summary()["own_rows_excluded"] == 50
    assert condition.summary()["mean_distance"] == pytest.approx(exact.min(1).mean(), rel=1e-6)
    nearest_own = np.linalg.norm(expression[0] - bank.features[bank.subjects == "422"], axis=1).min()
    assert nearest_own < 0.1 < condition.distances[0, 0]  # without the exclusion it would have been 422 itself


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_raf_replaces_with_probability_p(bank, expression, p):
    condition = RAF(bank, p=p).bind(expression, "422")
    frames = torch.randint(FRAMES, (20_000,), generator=generator(7))
    given = condition(frames, generator()).numpy()
    own = (given == expression[frames]).all(1)
    neighbour = (given == bank.features[condition.neighbours[frames, 0]]).all(1)
    assert (own ^ neighbour).all()  # always exactly one of the two
    assert abs(neighbour.mean() - p) < (0.015 if 0 < p < 1 else 1e-12)


def test_top_k_picks_uniformly(bank, expression):
    condition = RAF(bank, p=0.8, top_k=5).bind(expression, "422")
    given = condition(torch.full((20_000,), 4), generator()).numpy()
    choices = np.concatenate([expression[4:5], bank.features[condition.neighbours[4]]])
    shares = [(given == choice).all(1).mean() for choice in choices]
    np.testing.assert_allclose(shares, [0.2] + [0.16] * 5, atol=0.012)


@pytest.mark.parametrize("top_k", [1, 5])
def test_draws_depend_on_the_generator_only_and_resume(bank, expression, top_k):
    condition = RAF(bank, top_k=top_k).bind(expression, "422")
    frames, random = torch.arange(FRAMES), generator(3)
    condition(frames, random)
    state = random.get_state()
    torch.manual_seed(123)
    expected = condition(frames, random)
    torch.manual_seed(456)
    again = RAF(bank, top_k=top_k).bind(expression, "422")(frames, generator().set_state(state))
    assert torch.equal(expected, again)
    assert not torch.equal(expected, condition(frames, random))


@pytest.mark.parametrize("method", ["vanilla", "noise", "raf"])
def test_frames_without_a_face_cannot_be_sampled(bank, expression, method):
    expression = expression.copy()
    expression[[5, 9]] = np.nan
    condition = sampler_from_name(method, bank if method == "raf" else None).bind(expression, "422")
    assert torch.isfinite(condition(torch.tensor([4, 6, 8, 10]), generator())).all()
    for frames in ([4, 5], [FRAMES], [-1]):
        with pytest.raises(RafError, match=rf"frame {frames[-1]} of subject '422'"):
            condition(torch.tensor(frames), generator())
    if method == "raf":
        assert (condition.neighbours[[5, 9]] == -1).all() and np.isnan(condition.distances[[5, 9]]).all()
        assert (condition.neighbours[condition.detected] >= 0).all()


def test_bad_parameters_are_refused(bank, expression):
    partly = expression.copy()
    partly[7, 3] = np.nan
    for call, word in [
        (lambda: RAF(bank, p=1.5), "p is 1.5"),
        (lambda: RAF(bank, p=float("nan")), "p is nan"),
        (lambda: RAF(bank, top_k=0), "top_k is 0"),
        (lambda: RandomNoise(-0.1), "sigma is -0.1"),
        (lambda: RandomNoise(float("inf")), "sigma is inf"),
        (lambda: RAF(bank).bind(expression, ""), "subject"),
        (lambda: Vanilla().bind(partly, "422"), "frame 7"),
        (lambda: Vanilla().bind(expression * np.float32(np.nan), "422"), "no frame"),
        (lambda: RAF(bank).bind(expression, "422", feature_space="bfm64"), "arkit52.*bfm64"),
        (lambda: RAF(bank).bind(expression[:, :50], "422"), "52.*50"),
        (lambda: RAF(bank, top_k=151).bind(expression, "422"), "150 rows"),
        (lambda: sampler_from_name("rag", bank), "rag"),
        (lambda: sampler_from_name("raf"), "needs an expression bank"),
        (lambda: sampler_from_name("noise", p=0.5), "'p'"),
    ]:
        with pytest.raises(RafError, match=word) as error:
            call()
        assert "\n" not in str(error.value)


def test_sampler_from_name(bank):
    assert sampler_from_name("vanilla") == Vanilla()
    assert sampler_from_name("noise", sigma=0.5) == RandomNoise(0.5)
    made = sampler_from_name("raf", bank, p=0.25, top_k=5)
    assert made == RAF(bank, 0.25, 5)
    assert made.describe() == {"method": "raf", "p": 0.25, "top_k": 5, "bank": bank.checksum}
    assert sampler_from_name("vanilla", bank) == Vanilla()  # notebooks pass the bank whatever the method is


def test_the_docstrings_ten_lines_run(bank, expression, tmp_path, monkeypatch, capsys):
    """The example runs unchanged; its model must have learned from both kinds of expression."""
    (tmp_path / "data").mkdir()
    bank.save(tmp_path / "data" / "bank_open.npz")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = torch.nn.Linear(WIDTH, 6)
    start = model.weight.detach().clone()
    names = {
        "expression": expression,
        "model": model,
        "images": torch.rand(FRAMES, 6),
        "optimizer": torch.optim.Adam(model.parameters(), 1e-2),
    }
    example = doctest.DocTestParser().get_doctest(sampler.__doc__, names, "sampler", None, None)
    lines = "".join(part.source for part in example.examples)
    assert 8 <= len(lines.splitlines()) <= 12
    exec(compile(lines, "docstring of raflib.sampler.raf", "exec"), names)
    assert names["step"] == 99 and names["loss"].item() < 1
    assert not torch.equal(model.weight, start)
    assert names["condition"].own_rows == 50
