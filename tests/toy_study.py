"""A small study with plain images: 30 questions, three lists of 20 of them, and a key that must stay secret."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from raflib.study import Question, Study, Truth
from raflib.study.format import write_study

QUESTIONS, LISTS, ASKED = 30, 3, 20


def toy_study(folder: Path, size: int = 8) -> Study:
    """Write the study into `folder` and return it; every image has a colour of its own."""
    (folder / "images").mkdir(parents=True)
    questions, truths = [], []
    for number in range(QUESTIONS):
        names = [f"images/{number:02d}{letter}.png" for letter in "abc"]
        for place, name in enumerate(names):
            colour = np.array([number * 8, place * 80, 100], np.uint8)
            Image.fromarray(np.broadcast_to(colour, (size, size, 3)).copy()).save(folder / name)
        questions.append(Question(f"q{number:04d}", *names))
        kind = "attention" if number % 10 == 0 else "real"
        space, condition = ("", "") if kind == "attention" else ("arkit52", "nearest_vs_random")
        truths.append(Truth(f"q{number:04d}", space, condition, kind, "left", number, number + 100, number + 200))
    draw = np.random.default_rng(0)
    lists = [[f"q{i:04d}" for i in draw.permutation(QUESTIONS)[:ASKED]] for _ in range(LISTS)]
    return write_study(folder, "Toy", 0, size, questions, truths, lists, {"seed": 0})
