"""Observers: programs that answer a study where no people are. Their names begin with "observer:".

    answer_all(study, [truth_observer(study, bank), network_observer(study)])

An observer measures how far each candidate is from the reference and names the nearer one. It calls a tie where the two
distances differ by less than its threshold. The observer `observer:truth` knows what the studio's people truly do. So
it tells whether a neighbour *is* nearer, not whether people see it. `observer:lpips` sees the images alone, through a
network that was trained on photographs of things; it cannot ignore who is shown. Neither replaces people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from tqdm import tqdm

from raflib.bank import ExpressionBank
from raflib.errors import RafError, finite
from raflib.images import lanczos
from raflib.openbank import true_motion
from raflib.reading import read_json
from raflib.study.format import AXES, CONDITIONS, KEY, LARGEST, OBSERVER, SIDES, Answer, Study, append_answers
from raflib.study.making import read_image
from raflib.study.sampling import REFERENCE
from raflib.study.truth import pose_vectors

EXPRESSION_TIE, POSE_TIE, NETWORK_TIE = 0.1, 2.0, 0.01
"""Smallest differences that count: length in the space of 52 actions (a full action is 1), degrees, LPIPS."""
AT_ONCE = 32
"""Images in the network at a time."""


@dataclass(frozen=True, eq=False)
class Observer:
    """Distances of an observer: for each axis [Q,2], from the reference to the left and to the right candidate.

    `ties` holds, for each axis, the difference of distances below which the observer calls a tie.
    """

    name: str
    distance: dict[str, Float[np.ndarray, "Q 2"]]
    ties: dict[str, float | int]

    def choices(self, axis: str) -> np.ndarray:
        """ "left", "right" or "tie" for each question of the study, [Q]."""
        left, right = self.distance[axis].T
        named = np.where(left < right, *SIDES)
        return np.where(np.abs(left - right) < self.ties[axis], "tie", named)


def truth_observer(
    study: Study,
    bank: ExpressionBank,
    queries: ExpressionBank | None = None,
    expression_tie: float | int = EXPRESSION_TIE,
    pose_tie: float | int = POSE_TIE,
    progress: bool = True,
) -> Observer:
    """The studio's truth: L2 distance of true actions, and the angle in degrees between true head rotations.

    Args:
        bank, queries: as in `make_study`; people of the studio.
        expression_tie, pose_tie: smallest differences of two distances that are seen.
        progress: show a progress bar.

    Raises RafError for other banks than the study's, and for rows that the studio's people do not perform.
    """
    queries = bank if queries is None else queries
    about = read_json(study.folder / KEY, {"about": dict}, "key of a study", most=LARGEST)["about"]
    for name, held in (("bank", bank), ("query_bank", queries)):
        if about.get(name) != held.checksum:
            raise RafError(f"{study.folder}: the study was made from another {name.replace('_', ' ')}; give that one")
    truths = study.truths()
    rows = np.array(
        [[truths[each.id].reference, truths[each.id].left, truths[each.id].right] for each in study.questions]
    )
    shown = rows if queries is bank else rows[:, 1:]
    known = _looked_up(bank, shown[shown != REFERENCE], progress)
    asked = known if queries is bank else _looked_up(queries, rows[:, 0], progress)
    distance = {axis: np.zeros((len(rows), 2)) for axis in AXES}
    for place, (query, *candidates) in enumerate(rows.tolist()):
        for side, row in enumerate(candidates):
            if row != REFERENCE:
                (actions, turn), (other_actions, other_turn) = asked[query], known[row]
                distance["expression"][place, side] = np.linalg.norm(actions - other_actions)
                distance["pose"][place, side] = angle(turn, other_turn)
    return Observer(f"{OBSERVER}truth", distance, {"expression": expression_tie, "pose": pose_tie})


def network_observer(study: Study, tie: float | int = NETWORK_TIE, size: int = 128, progress: bool = True) -> Observer:
    """LPIPS (`raflib.perceptual`, AlexNet) between the images at `size` pixels, the same for both axes.

    The network sees everything in the images, above all who they show. `tie` is the smallest difference that counts.
    RafError for a missing or damaged image.
    """
    import torch

    from raflib.perceptual import perceptual

    ties = dict.fromkeys(AXES, float(finite("network: tie", tie, 0)))
    network = perceptual()
    pairs = [(each.reference, side) for each in study.questions for side in (each.left, each.right)]
    unique = sorted(set(pairs))
    found: dict[tuple[str, str], float] = {}
    with torch.no_grad(), tqdm(total=len(unique), desc="network", unit="pair", disable=not progress) as bar:
        for start in range(0, len(unique), AT_ONCE):
            part = unique[start : start + AT_ONCE]
            images = [
                np.stack([lanczos(read_image(study.folder / pair[side]), size, size) for pair in part])
                for side in (0, 1)
            ]
            first, second = (torch.from_numpy(each).float() / 255 for each in images)
            found.update(zip(part, network(first, second).tolist(), strict=True))
            bar.update(len(part))
    distance = np.array([found[pair] for pair in pairs]).reshape(-1, 2)
    return Observer(f"{OBSERVER}lpips", dict.fromkeys(AXES, distance), ties)


def answer_all(study: Study, observers: Sequence[Observer] | Iterable[Observer]) -> None:
    """Append the answers of observers to all questions, as the page appends those of people."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for observer in observers:
        chosen = {axis: observer.choices(axis) for axis in AXES}
        append_answers(
            study.folder,
            [
                Answer(study.id, observer.name, question.id, axis, str(chosen[axis][place]), 0, now)
                for place, question in enumerate(study.questions)
                for axis in AXES
            ],
        )


def tie_levels(study: Study, observer: Observer, axis: str, levels: Iterable[float | int]) -> pd.DataFrame:
    """What an observer would answer with other thresholds for ties, comparing the nearest row with a random one.

    One row per level: the shares `nearest`, `tie` and `other`, and `decided`, the share of the nearest row among
    answers that are no tie.
    """
    real = _sides(study, "nearest_vs_random")
    rows = []
    for level in levels:
        chosen = replace(observer, ties={axis: level}).choices(axis)
        tie = float(np.mean([chosen[place] == "tie" for place in real]))
        nearest = float(np.mean([chosen[place] == side for place, side in real.items()]))
        decided = nearest / (1 - tie) if tie < 1 else np.nan
        rows.append(
            {"threshold": level, "nearest": nearest, "tie": tie, "other": 1 - nearest - tie, "decided": decided}
        )
    return pd.DataFrame(rows).set_index("threshold")


def mean_distances(study: Study, observer: Observer) -> pd.DataFrame:
    """Mean distances from the reference to the `nearest` and to the `other` candidate, by comparison and axis.

    `preferred` is the share of questions in which the nearest candidate is nearer for this observer, without ties.
    """
    rows = []
    for condition in CONDITIONS:
        sides = _sides(study, condition)
        if not sides:
            continue
        for axis in AXES:
            pairs = np.array(
                [observer.distance[axis][place] if side == "left" else observer.distance[axis][place][::-1]
                 for place, side in sides.items()]
            )  # fmt: skip
            nearest, other = pairs.mean(0)
            row = {"condition": condition, "axis": axis, "nearest": nearest, "other": other}
            rows.append({**row, "preferred": float((pairs[:, 0] < pairs[:, 1]).mean())})
    return pd.DataFrame(rows).set_index(["condition", "axis"])


def angle(first: Float[np.ndarray, "3"], second: Float[np.ndarray, "3"]) -> float:
    """Angle in degrees of the rotation between two head rotations, given as axis-angle in degrees."""
    from scipy.spatial.transform import Rotation

    turns = [Rotation.from_rotvec(each, degrees=True) for each in (first, second)]
    return float(np.degrees((turns[0].inv() * turns[1]).magnitude()))


def _sides(study: Study, condition: str) -> dict[int, str]:
    """The side of the nearest candidate by a question's place in the study, for one comparison."""
    truths = study.truths()
    asked = ((place, truths[question.id]) for place, question in enumerate(study.questions))
    return {place: truth.nearest for place, truth in asked if truth.condition == condition}


def _looked_up(
    bank: ExpressionBank, rows: Int[np.ndarray, " n"], progress: bool
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """True actions and head rotation (axis-angle, degrees) by row."""
    rows = np.unique(rows)
    actions, angles = true_motion(bank.restrict(rows=rows), progress)
    return {int(row): (a, r) for row, a, r in zip(rows, actions, pose_vectors(angles), strict=True)}
