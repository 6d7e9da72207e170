"""Lessons: their code is RAF, solutions of exercises pass and wrong answers fail, and figure 4 shows a real step."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import ball_capture

from raflib import report
from raflib.avatar import Canonical, GaussianAvatar
from raflib.bank import ExpressionBank
from raflib.config import NETWORKS
from raflib.errors import RafError
from raflib.lab import apart
from raflib.lab.exercises import EXERCISES, check, judge
from raflib.lab.watched import watch
from raflib.sampler import RAF
from raflib.training import fit

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted(ROOT.glob("notebooks/1?_*.ipynb"))
LONGEST = 60
"""Lines of bank, search and sampler in lesson 10, at most."""


def cells(path: Path, kind: str) -> dict[str, str]:
    """Return the source of each cell of this kind, by its id."""
    return {cell.id: cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == kind}


# --- RAF from nothing -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written() -> dict:
    """Return the names that lesson 10's code defines."""
    found = cells(ROOT / "notebooks" / "10_raf_from_nothing.ipynb", "code")
    source = "\n".join(text for name, text in found.items() if name.startswith("code-"))
    assert len(source.splitlines()) <= LONGEST
    assert "raflib" not in source
    names: dict = {}
    exec(compile(source, "lesson 10", "exec"), names)
    return names


@pytest.fixture(scope="module")
def made_up(written) -> tuple[np.ndarray, np.ndarray, ExpressionBank]:
    """Return a subject's vectors and a bank of eight people, as columns and as the library's."""
    random = np.random.default_rng(0)
    people = {name: random.normal(size=(50, 9)).astype(np.float32) for name in "ABCDEFGH"}
    features, owner = written["make_bank"](people, 30, 0)
    return people["A"], owner, ExpressionBank(features, owner, ["made up"] * len(owner), np.arange(len(owner)), "nine")


def test_the_bank_holds_random_rows_of_each_person(made_up):
    own, owner, bank = made_up
    assert len(bank) == 8 * 30 and {int((owner == name).sum()) for name in "ABCDEFGH"} == {30}
    assert {tuple(row) for row in bank.features[owner == "A"]} < {tuple(row) for row in own}


@pytest.mark.parametrize("k", [1, 5])
def test_the_search_finds_the_librarys_rows(written, made_up, k):
    own, owner, bank = made_up
    distances, rows = written["search"](own, bank.features, owner, "A", k)
    expected = bank.search(own, k, exclude="A")
    assert np.array_equal(rows, expected[1]) and np.allclose(distances, expected[0], atol=1e-6)
    assert "A" not in owner[rows]


@pytest.mark.parametrize(("p", "k"), [(0.0, 1), (0.5, 5), (1.0, 5)])
def test_the_sampler_makes_the_librarys_choices(written, made_up, p, k):
    own, owner, bank = made_up
    rows = written["search"](own, bank.features, owner, "A", k)[1]
    frames, vectors = torch.arange(50).repeat(40), (torch.from_numpy(own), torch.from_numpy(bank.features[rows]))
    mine = written["condition"](*vectors, frames, p, torch.Generator().manual_seed(3))
    theirs = RAF(bank, p=p, top_k=k).bind(own, "A")(frames, torch.Generator().manual_seed(3))
    assert torch.equal(mine, theirs)
    replaced = (mine != vectors[0][frames]).any(1).float().mean()
    assert abs(float(replaced) - p) < 0.05


# --- exercises ------------------------------------------------------------------------------------------------------


def solutions() -> dict[int, str]:
    """Return the code of each folded solution, by the exercise's number."""
    found: dict[int, str] = {}
    pattern = r"<details><summary>Solution of exercise (\d+)</summary>\s*```python\n(.*?)```\s*</details>"
    for path in LESSONS:
        for number, code in re.findall(pattern, "\n".join(cells(path, "markdown").values()), re.DOTALL):
            assert int(number) not in found, f"two solutions of exercise {number}"
            found[int(number)] = code
    return found


WRONG = {1: 0.5, 2: 1, 3: 1.0, 4: 2.5, 5: "KL", 6: 0.8, 7: 5.0, 8: 0.0}
"""Wrong answers that a mistake gives: forgetting k, one person for all rows, comparing row numbers, the mean over all
pairs, the wrong measure, forgetting what is in front, forgetting the blur, forgetting to square."""


def test_every_exercise_is_asked_in_a_lesson_and_has_one_solution():
    asked = [
        int(n) for path in LESSONS for n in re.findall(r"check\((\d+), None\)", "\n".join(cells(path, "code").values()))
    ]
    assert sorted(asked) == sorted(EXERCISES) == sorted(solutions()) == sorted(WRONG)
    for path in LESSONS:
        text = "\n".join(cells(path, "markdown").values())
        for number in (int(n) for n in re.findall(r"Solution of exercise (\d+)", text)):
            assert re.search(rf"^{number}\. \S", text, re.MULTILINE), f"{path.name} asks exercise {number} in words"


@pytest.mark.parametrize("number", sorted(EXERCISES))
def test_solutions_pass_and_wrong_answers_fail(number, capsys):
    exec(compile(solutions()[number], f"solution {number}", "exec"), {})
    assert capsys.readouterr().out.rstrip().splitlines()[-1].startswith(f"Exercise {number}: right. ")
    right, told = judge(number, WRONG[number])
    assert not right and told == f"Exercise {number}: wrong. {EXERCISES[number].hint}"
    assert str(EXERCISES[number].solve()) not in told, "a hint does not contain the answer"
    check(number, None)
    assert EXERCISES[number].question in capsys.readouterr().out


@pytest.mark.parametrize("answer", ["many", float("nan"), [1, 2], object()])
def test_what_is_no_number_is_not_right(answer):
    right, told = judge(4, answer)
    assert not right and "is not a number" in told


def test_numbers_and_words_may_have_other_types():
    assert judge(4, np.float32(2))[0] and judge(4, torch.tensor(2.0))[0] and judge(5, " b2t ")[0]
    with pytest.raises(RafError, match="no exercise 99; choose one from 1 to 8"):
        check(99, 1)


# --- one training step ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the steps of a watched training of a ball, its bank, and the run of the same training by `fit`."""
    capture = ball_capture()
    random = np.random.default_rng(0)
    features = np.concatenate([capture.expression + random.normal(0, 0.05, capture.expression.shape)] * 2)
    names = np.repeat(["B001", "B002"], len(capture.expression))
    bank = ExpressionBank(features.astype(np.float32), names, ["S"] * len(names), np.arange(len(names)), "arkit52")
    config = apart.lesson_config(steps=12, size=32, landmark_steps=2, cameras=2, weight_perceptual=0.0)
    config = replace(config, avatar=replace(config.avatar, points=200, mouth_points=20))
    steps = list(watch(capture, RAF(bank), config))
    run = fit(capture, RAF(bank), config, tmp_path_factory.mktemp("ball"), progress=False, device="cpu")
    return capture, bank, steps, run


def test_watched_steps_are_those_of_the_training(trained):
    capture, bank, steps, run = trained
    assert [step.number for step in steps] == list(range(12))
    assert steps[-1].terms["l1"] == pytest.approx(float(run.log["l1"].iloc[-1]), abs=1e-12), "the same training"
    kept = [step for step in steps if not step.replaced]
    assert kept and len(kept) < 12
    for step in steps:
        assert np.array_equal(step.own, capture.expression[step.t])
        row = int(bank.search(step.own[None], exclude=capture.subject)[1][0, 0])
        assert np.array_equal(step.given, bank.features[row] if step.replaced else step.own)
        assert step.render.shape == step.target.shape == (32, 32, 3)
        assert step.loss > 0


def test_figure_4_is_written_as_image_and_as_drawing(trained, tmp_path):
    *_, steps, _ = trained
    step, face = next(step for step in steps if step.replaced), np.full((64, 64, 3), 128, np.uint8)
    for name in ("one", "two"):
        image = report.swap_figure(step, face, ("900", "B001"), 0.25, 0.5, [], tmp_path / f"{name}.png")
    assert image.size == Image.open(tmp_path / "one.png").size
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    root = ET.parse(tmp_path / "one.svg").getroot()
    assert root.tag.endswith("svg") and len(list(root.iter("{http://www.w3.org/2000/svg}image"))) == 4
    with pytest.raises(RafError, match="kept the frame's own vector"):
        report.swap_figure(replace(step, given=step.own), face, ("900", "B001"), 0.0, 0.5)
    with pytest.raises(RafError, match=r"does not end in \.png"):
        report.swap_figure(step, face, ("900", "B001"), 0.0, 0.5, [], tmp_path / "one.svg")


def test_visits_tell_own_images_from_others():
    face = np.full((40, 40, 3), 255, np.uint8)
    image = np.asarray(report.visits_figure({"a": [(face, True), (face, False)]}))
    colours = {tuple(int(part[i : i + 2], 16) for i in (1, 3, 5)) for part in ("#0072B2", "#009E73")}
    assert colours <= {tuple(map(int, colour)) for colour in image.reshape(-1, 3)}


# --- networks, splats, coverage ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def avatar():
    """Return a small avatar with random networks."""
    torch.manual_seed(0)
    config = replace(apart.lesson_config().avatar, points=80, body="rigid", expression_dim=52)
    made = GaussianAvatar(config, Canonical.blank(config, 80, 10))
    with torch.no_grad():
        made.move(slice(None), 0.6 * torch.randn(80, 3))
        for parameter in made.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    made.refresh_blend()
    return made


def test_only_the_networks_that_are_awake_follow(avatar):
    calm, strong = torch.zeros(1, 52), torch.ones(1, 52)
    still, turned, scale = torch.zeros(1, 6), torch.tensor([[0.0, 0.4, 0, 0, 0, 0]]), torch.tensor([0.1])
    every = apart.awake(avatar, NETWORKS, calm, still)
    none = apart.awake(avatar, [], calm, still)
    assert torch.equal(every(strong, turned, scale).means, avatar(strong, turned, scale).means)
    assert torch.equal(none(strong, still, scale).means, avatar(calm, still, scale).means)
    colours = apart.awake(avatar, ["exp_color"], calm, still)(strong, still, scale)
    assert torch.equal(colours.means, avatar(calm, still, scale).means)
    assert not torch.equal(colours.features, avatar(calm, still, scale).features)
    assert set(apart.MOVES) == set(NETWORKS)
    with pytest.raises(RafError, match="no network 'nose'"):
        apart.awake(avatar, ["nose"], calm, still)


def test_weights_are_those_of_the_blend(avatar):
    squared = torch.cdist(avatar.xyz, avatar.landmarks_neutral).amin(1).square()
    expected = ((avatar.config.far - squared) / (avatar.config.far - avatar.config.near)).clamp(0, 1)
    assert torch.allclose(apart.weights(avatar), expected, atol=1e-6)


def test_figures_of_splats_and_coverage_are_plotted(tmp_path):
    random = np.random.default_rng(0)
    points = np.column_stack([random.normal(size=(4, 2)), [1.0, 2.0, 3.0, 4.0]])
    report.screen_figure(
        points, 8 * random.random((4, 2)), np.tile(np.eye(2), (4, 1, 1)), random.random((4, 3)), 8, tmp_path / "s.png"
    )
    target = random.normal(size=(60, 2))
    report.contributions_figure(target, {"alike": random.normal(size=(60, 2)), "far": target + 3}, tmp_path / "c.png")
    for name in ("s", "c"):
        assert np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")).std() > 5
    with pytest.raises(RafError, match="no training set"):
        report.contributions_figure(target, {})
