"""How well the tracker's features follow what the studio's people truly did, action by action.

The open bank says of each row who showed it and in which frame of which sequence, and the studio knows that frame's
true actions, so nothing has to be filmed. A bank built from other performances than the present ones would be compared
with the wrong moments: build it again when performances change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from raflib.bank import ExpressionBank
from raflib.coverage import identity as people
from raflib.errors import RafError

if TYPE_CHECKING:
    import pandas


def true_actions(bank: ExpressionBank, subject: str) -> Float[np.ndarray, "N 52"]:
    """What the studio person `subject` truly did in their rows of the bank, in the order of `studio.ACTIONS`.

    Raises RafError for somebody who is not in the bank, and for a frame that the studio's performance does not have.
    """
    from raflib import studio

    own = bank.restrict(subjects=subject)
    actions = np.empty((len(own), len(studio.ACTIONS)), np.float32)
    for name in np.unique(own.sequence).tolist():
        rows, performed = own.sequence == name, studio.act(subject, name)
        if own.frame[rows].max() >= len(performed):
            raise RafError(
                f"bank: {subject} frame {own.frame[rows].max()} of {name}, but the performance has {len(performed)} "
                "frames; the bank is of other performances, build it again (make bank)"
            )
        actions[rows] = performed.actions[own.frame[rows]]
    return actions


def tracker_agreement(bank: ExpressionBank, subjects: Iterable[str]) -> pandas.DataFrame:
    """`people.agreement` of the bank's features with the truth, for the actions that the tracker also has a name for.

    `bank` holds `arkit52` features of studio people. Returns a table, a row an action: `pooled`, `within`.
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
    return people.agreement(tracked, true, names)
