"""How well the tracker's features follow the true actions of the studio's people, action by action.

The open bank holds the person, sequence and frame of each row, and the studio knows that frame's true actions, so no
image has to be rendered. A bank built from other performances than the present ones is compared with the wrong frames:
build it again when performances change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from raflib.bank import ExpressionBank
from raflib.capture import Capture
from raflib.coverage.identity import agreement
from raflib.driving import rotations
from raflib.errors import RafError
from raflib.geometry import matrix_to_axis_angle, nearest_rotation
from raflib.sampler.beyond import TRUE_ACTIONS

if TYPE_CHECKING:
    import pandas


def true_actions(bank: ExpressionBank, subject: str) -> Float[np.ndarray, "N 52"]:
    """True actions of the studio person `subject` in their rows of the bank, in the order of `studio.ACTIONS`.

    Raises RafError for a person who is not in the bank, and for a frame that the studio's performance does not have.
    """
    own = bank.restrict(subjects=subject)
    return _performed(subject, np.asarray(own.sequence), own.frame)[0]


def with_true_actions(bank: ExpressionBank, progress: bool = True) -> ExpressionBank:
    """The bank with the true actions of its studio people as a further space, "true52".

    Raises RafError for a frame that the studio's performance does not have.
    """
    return bank.with_space(TRUE_ACTIONS, true_motion(bank, progress)[0])


def true_motion(
    bank: ExpressionBank, progress: bool = True
) -> tuple[Float[np.ndarray, "N 52"], Float[np.ndarray, "N 3"]]:
    """True actions of the rows of studio people, and true head angles (yaw, pitch, roll; degrees).

    It takes half a second for each person. Raises RafError for a frame that the studio's performance does not have.
    """
    from raflib import studio

    actions, angles = np.empty((len(bank), len(studio.ACTIONS)), np.float32), np.empty((len(bank), 3), np.float32)
    people, code = np.unique(bank.subjects, return_inverse=True)
    order = np.argsort(code, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(code))[:-1])
    told = tqdm(zip(people.tolist(), groups, strict=True), "true actions", len(people), disable=not progress)
    for subject, rows in told:
        actions[rows], angles[rows] = _performed(subject, bank.sequence[rows], bank.frame[rows])
    return actions, angles


def with_truth(capture: Capture) -> Capture:
    """The capture with its true actions as a further space, "true52"; RafError where they are not known."""
    if capture.truth is None:
        raise RafError(f"capture {capture.subject} has no truth; only the studio knows the true actions")
    return replace(capture, spaces={**capture.spaces, TRUE_ACTIONS: capture.truth.actions.astype(np.float32)})


def tracker_agreement(bank: ExpressionBank, subjects: Iterable[str]) -> pandas.DataFrame:
    """Correlation of the bank's features with the true actions (`raflib.coverage.identity.agreement`).

    `bank` holds `arkit52` features of studio people. Only actions that the tracker also knows are compared. Returns a
    table with one row for each action and the columns `pooled` and `within`.
    """
    from raflib import studio
    from raflib.tracking import ARKIT52

    if bank.feature_space != "arkit52":
        raise RafError(f"bank: features are {bank.feature_space}, expected arkit52, whose columns are named actions")
    names = [name for name in ARKIT52 if name in studio.ACTIONS]
    seen, done = [ARKIT52.index(name) for name in names], [studio.ACTIONS.index(name) for name in names]
    subjects = list(subjects)
    tracked = {name: bank.features[bank.subjects == name][:, seen] for name in subjects}
    true = {name: true_actions(bank, name)[:, done] for name in subjects}
    return agreement(tracked, true, names)


def pose_errors(capture: Capture) -> tuple[Float[np.ndarray, "T"], Float[np.ndarray, "T"]]:
    """Errors of tracked head poses: degrees [T] and millimetres [T], NaN where there is no face.

    A capture has a canonical frame of its own. The constant motion between it and the truth's frame that fits the
    training frames best is therefore removed first. Raises RafError when the capture has no truth, and when it has no
    training frame to fit the motion to.
    """
    if capture.truth is None:
        raise RafError(f"capture {capture.subject} has no truth; only the studio knows the true head pose")
    fit = capture.train
    if not fit.any():
        raise RafError(
            f"capture {capture.subject} has no training frame with a face, expected at least one: the motion between "
            "its frame and the truth's is fitted to them; track more sequences"
        )
    tracked, true = rotations(np.nan_to_num(capture.pose)), rotations(capture.truth.pose)
    place, true_place = capture.pose[:, 3:].astype(np.float64), capture.truth.pose[:, 3:].astype(np.float64)
    constant = nearest_rotation(np.einsum("tji,tjk->ik", tracked[fit], true[fit]))
    between = np.einsum("tji,tjk->tik", tracked @ constant, true)
    degrees = np.degrees(np.linalg.norm(matrix_to_axis_angle(torch.from_numpy(between)).numpy(), axis=1))
    offset = np.linalg.lstsq(tracked[fit].reshape(-1, 3), (true_place - place)[fit].ravel(), rcond=None)[0]
    millimetres = 1000 * np.linalg.norm(tracked @ offset + place - true_place, axis=1)
    return np.where(capture.detected, degrees, np.nan), np.where(capture.detected, millimetres, np.nan)


def _performed(
    subject: str, sequence: np.ndarray, frame: Int[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, "N 52"], Float[np.ndarray, "N 3"]]:
    """True actions and head angles of one person in frames of sequences.

    RafError for a frame that the performance does not have.
    """
    from raflib import studio

    actions, angles = np.empty((len(frame), len(studio.ACTIONS)), np.float32), np.empty((len(frame), 3), np.float32)
    for name in np.unique(sequence).tolist():
        rows, performed = sequence == name, studio.act(subject, name)
        if frame[rows].max() >= len(performed):
            raise RafError(
                f"bank: {subject} frame {frame[rows].max()} of {name}, but the performance has {len(performed)} "
                "frames; the bank is of other performances, build it again (make bank)"
            )
        actions[rows], angles[rows] = performed.actions[frame[rows]], performed.angles[frame[rows]]
    return actions, angles
