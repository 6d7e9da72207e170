"""Exercises of the lessons: `check(3, answer)` says whether an answer is right, and gives a hint where it is not.

A right answer is computed when it is asked for: from the bank that ships, or by the same code that trains and renders.
So it stays right when the bank changes. No hint contains the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int

from raflib import coverage
from raflib.bank import ExpressionBank
from raflib.config import AvatarConfig
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.lab.banks import bank_variant, open_bank
from raflib.render import reference
from raflib.sampler import RAF


@dataclass(frozen=True)
class Exercise:
    """One question with a computed answer.

    Attributes:
        question: what is asked, with the form of the answer.
        solve: returns the right answer, a number or a word.
        hint: shown with a wrong answer; it does not contain the right one.
        reason: shown with the right answer.
        tolerance: largest difference of a number from the right one that still counts as right.
    """

    question: str
    solve: Callable[[], float | str]
    hint: str
    reason: str
    tolerance: float = 0.0


def check(number: int, answer: object) -> None:
    """Print whether `answer` to exercise `number` is right: the reason, or a hint. None prints the question.

    Raises RafError for a number without an exercise.
    """
    print(judge(number, answer)[1])


def judge(number: int, answer: object) -> tuple[bool, str]:
    """Whether `answer` to exercise `number` is right, and what `check` prints about it. Raises RafError as it does."""
    if number not in EXERCISES:
        raise RafError(f"check: there is no exercise {number!r}; choose one from 1 to {max(EXERCISES)}")
    exercise = EXERCISES[number]
    if answer is None:
        return False, f"Exercise {number}: {exercise.question} Put your answer in place of None."
    right = exercise.solve()
    if isinstance(right, str):
        correct = str(answer).strip().lower() == right.lower()
    else:
        given = _number(answer)
        if given is None:
            return False, f"Exercise {number}: {answer!r} is not a number. {exercise.question}"
        correct = abs(given - right) <= exercise.tolerance
    return correct, f"Exercise {number}: " + (f"right. {exercise.reason}" if correct else f"wrong. {exercise.hint}")


def _number(answer: object) -> float | None:
    """`answer` as a finite number; None where it is none."""
    try:
        value = float(answer)  # type: ignore[arg-type]  # whatever cannot be converted is reported to the reader
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


# --- right answers --------------------------------------------------------------------------------------------------


@cache
def _bank() -> ExpressionBank:
    return open_bank()


def _neighbours(bank: ExpressionBank) -> Int[np.ndarray, " F"]:
    """The nearest row for each row of the first person of the bank that ships."""
    first = _bank().people[0]
    return bank.search(_bank().features[_bank().subjects == first], exclude=first)[1][:, 0]


def _second_of_five() -> float:
    """How often a frame's second neighbour is chosen, by the sampler itself: its `p` over its number of neighbours."""
    sampler = RAF(_bank(), p=0.5, top_k=5)
    return float(sampler.p) / int(sampler.top_k)


def _people_found() -> float:
    return float(len(set(_bank().subjects[_neighbours(_bank())])))


def _kept_by_half() -> float:
    half = bank_variant(_bank(), "half1")
    nearest = _bank().features[_neighbours(_bank())], half.features[_neighbours(half)]
    return float((nearest[0] == nearest[1]).all(1).mean())


TRAIN = np.array([[0.0, 0.0], [4.0, 0.0]])
TARGET = np.array([[0.0, 3.0], [4.0, 1.0], [2.0, 0.0]])
"""Training and target frames of the exercise on B2T."""


def _blind_measure() -> str:
    """The measure that changes least where a hundred far frames join the training set."""
    random = np.random.default_rng(0)
    target, train = random.normal(size=(2, 300, 2))
    more = np.concatenate([train, 30 + random.normal(size=(100, 2))])
    measures = {"MMD": coverage.mmd, "KL": lambda x, y: coverage.kl(x, y, components=2), "B2T": coverage.b2t}
    change = {name: abs(measure(more, target) - measure(train, target)) for name, measure in measures.items()}
    return min(change, key=lambda name: change[name])


CAMERA = Camera("front", np.eye(4), np.array([[500.0, 0, 16.5], [0, 500.0, 16.5], [0, 0, 1.0]]), 33, 33)
"""The camera of the exercises on splats, at the origin; it looks along z."""


def _rendered(depths: list[float], opacities: list[float]) -> Float[np.ndarray, "33 33 N"]:
    """How much of each of N Gaussians of 1 cm on the camera's axis each pixel shows, by the exact renderer."""
    n = len(depths)
    means = torch.tensor([[0.0, 0.0, depth] for depth in depths], dtype=torch.float64)
    turned = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64).repeat(n, 1)
    view, lens = torch.from_numpy(CAMERA.extrinsic), torch.from_numpy(CAMERA.intrinsic)
    seen = torch.tensor(opacities, dtype=torch.float64), torch.eye(n, dtype=torch.float64)
    size, black = torch.full((n, 3), 0.01, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    return reference.draw_one(means, turned, size, *seen, view, lens, 33, 33, black)[0].numpy()


def _light_of_the_last() -> float:
    return float(_rendered([1.0, 1.1, 1.2], [0.5, 0.5, 0.8])[16, 16, 2])


def _width_on_screen() -> float:
    """Standard deviation (pixels) of a splat, from the fall of its brightness from its centre to the next pixel."""
    image = _rendered([1.0], [0.5])[16, :, 0]
    return float(1 / np.sqrt(2 * np.log(image[16] / image[17])))


def _weight() -> float:
    """The blend weight 4 cm from the nearest landmark: d is 0.4² dm²."""
    config = AvatarConfig()
    return float(np.clip((config.far - 0.4**2) / (config.far - config.near), 0, 1))


EXERCISES: Mapping[int, Exercise] = {
    1: Exercise(
        "With p = 0.5 and the 5 nearest neighbours, how likely does a step give a frame its second neighbour?",
        _second_of_five,
        "Two things must happen: the vector is replaced, and of the five neighbours it is this one.",
        "A replacement has probability p, and then each of k neighbours has 1/k: p/k.",
        1e-9,
    ),
    2: Exercise(
        "The first person of the bank is your subject. How many different people are among the nearest rows, one for "
        "each of the subject's rows?",
        _people_found,
        "Search all rows of bank.people[0] with exclude=bank.people[0] and k=1, then count the different names.",
        "One person finds many people: each expression has its own neighbours. That is where variety comes from.",
    ),
    3: Exercise(
        "The same subject, and the bank half1: for which share (0 to 1) of the rows is the nearest vector the same as "
        "with the whole bank?",
        _kept_by_half,
        "Row numbers differ between the two banks. Compare the vectors themselves: the features of the rows found.",
        "A neighbour stays if its person is in the half. The others are replaced by the nearest row that is left.",
        0.005,
    ),
    4: Exercise(
        "Training frames (0, 0), (4, 0); target frames (0, 3), (4, 1), (2, 0). What is B2T?",
        lambda: coverage.b2t(TRAIN, TARGET),
        "Take the targets one by one: how far is the nearer of the two training frames? Then take the mean.",
        "The three distances are those of the targets; how many training frames are near one target does not count.",
        1e-6,
    ),
    5: Exercise(
        "A hundred frames far from every driver join the training set. Which measure stays the same: MMD, KL or B2T?",
        _blind_measure,
        "Two of the measures average over the training frames. Look for the one that averages over the targets only.",
        "The nearest frame of each target stays the same, so B2T cannot see frames that nobody needs.",
    ),
    6: Exercise(
        "Three Gaussians cover a pixel with alpha 0.5, 0.5 and 0.8, from front to back. How much of the last one's "
        "colour does the pixel show (0 to 1)?",
        _light_of_the_last,
        "Each Gaussian lets 1 − alpha of the light pass. Multiply what the two in front let pass, then the last alpha.",
        "Its weight is its alpha times the transmittance of everything in front of it.",
        1e-3,
    ),
    7: Exercise(
        "A round Gaussian of 1 cm stands 1 m in front of a camera with a focal length of 500 pixels. What is its "
        "standard deviation on the screen in pixels, to two decimals? The renderer adds 0.3 pixels² of blur.",
        _width_on_screen,
        "Focal length times size over depth gives pixels. The blur is a variance: square, add, and take the root.",
        "Variances add, standard deviations do not. The blur matters only for splats of about a pixel.",
        6e-3,
    ),
    8: Exercise(
        "A Gaussian is 4 cm from the nearest landmark. With the published near = 0.1 dm² and far = 0.25 dm², what is "
        "its weight w of the expression?",
        _weight,
        "d is the squared distance in dm². Bring 4 cm to dm and square it before you use the equation.",
        "Between near and far the weight falls linearly in the squared distance.",
        1e-6,
    ),
}
"""All exercises by number: 1 to 3 belong to notebook 10, 4 and 5 to 11, 6 to 8 to 12."""
