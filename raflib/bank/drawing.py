"""Random frames of people's captures as rows of a bank (paper §4.2, §5). Needs only numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from raflib.bank.columns import COLUMNS
from raflib.errors import RafError

if TYPE_CHECKING:
    from raflib.capture import Capture


def draw_frames(
    captures: Iterable[Capture], per_subject: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], str, int]:
    """(columns, further spaces, feature space, people) of `per_subject` random detected frames of each capture.

    The choice for a person depends on `seed` and the subject only, among frames that have features of all the capture's
    further spaces. Raises RafError for an empty list, a person given twice, mixed feature spaces or widths, further
    spaces that not all captures have, and features that are not finite where a face was detected.
    """
    pieces: dict[str, list[np.ndarray]] = {}
    further: dict[str, list[np.ndarray]] = {}
    space, width = None, None
    for capture in captures:
        subject, expression = capture.subject, np.asarray(capture.expression)
        space, width = space or capture.feature_space, width or expression.shape[1]
        if subject in pieces:
            raise RafError(f"bank: subject {subject!r} was given twice; give each person's capture once")
        if (capture.feature_space, expression.shape[1]) != (space, width):
            raise RafError(
                f"bank: subject {subject!r} has {capture.feature_space} features of width {expression.shape[1]}, "
                f"the people before {space} of width {width}; build one bank for each feature space"
            )
        widths = {tag: np.shape(features)[1] for tag, features in sorted(capture.spaces.items())}
        known = widths if not pieces else {tag: parts[0].shape[1] for tag, parts in further.items()}
        if widths != known:
            raise RafError(
                f"bank: subject {subject!r} has further features {_listed(widths)}, the people before "
                f"{_listed(known)}; give all captures the same spaces"
            )
        detected = np.flatnonzero(capture.detected)
        if not len(detected):
            raise RafError(f"bank: subject {subject!r} has no detected frame; leave this person out")
        if len(broken := detected[~np.isfinite(expression[detected]).all(1)]):
            raise RafError(f"bank: subject {subject!r} frame {broken[0]} is detected but not finite; track again")
        for tag, features in capture.spaces.items():
            detected = detected[np.isfinite(np.asarray(features)[detected]).all(1)]
            if not len(detected):
                raise RafError(f"bank: subject {subject!r} has no detected frame with {tag} features; leave them out")
        random = np.random.default_rng([seed, *subject.encode()])
        chosen = np.sort(random.permutation(detected)[:per_subject])
        pose = np.asarray(capture.pose)[:, :3]
        columns = (expression, np.full(len(expression), subject), capture.sequence, capture.frame, pose)
        pieces[subject] = [np.asarray(column)[chosen] for column in columns]
        for tag in widths:
            further.setdefault(tag, []).append(np.asarray(capture.spaces[tag])[chosen])
    if space is None:
        raise RafError("bank: no capture was given; expected at least one")
    chosen_columns = dict(zip(COLUMNS, map(np.concatenate, zip(*pieces.values(), strict=True)), strict=True))
    return chosen_columns, {tag: np.concatenate(parts) for tag, parts in further.items()}, space, len(pieces)


def _listed(widths: Mapping[str, int]) -> str:
    """Further spaces with their widths, in words."""
    return ", ".join(f"{tag} of width {width}" for tag, width in widths.items()) or "none"
