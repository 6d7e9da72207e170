"""Further feature spaces of a bank's rows, by tag: their checks, and the bank seen in one of them.

    bank = bank.with_space("open42", features)      [N,d2], one row of the bank each
    bank.in_space("open42").search(...)             the same rows, searched by these features

`raflib.sampler.RAF(bank, search="open42")` searches neighbours in one space and gives the avatar the features of
another. Needs only numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from raflib.bank.columns import check_finite, check_space
from raflib.errors import RafError, as_float32

if TYPE_CHECKING:
    from raflib.bank.bank import ExpressionBank

Spaces = Mapping[str, np.ndarray]
"""Features [N,d2] of the same rows in further spaces, by tag."""


def checked_spaces(given: Spaces, feature_space: str, count: int) -> dict[str, np.ndarray]:
    """Further spaces of `count` rows as read-only float32 copies, sorted by tag.

    Raises RafError for something other than a mapping, a tag that is no printable name or the tag of `features`, other
    shapes than [N, d], and features that are not finite.
    """
    if not isinstance(given, Mapping):
        raise RafError(f"bank: spaces is a {type(given).__name__}, expected features by tag, such as {{'open42': …}}")
    found: dict[str, np.ndarray] = {}
    for tag, features in given.items():
        if not isinstance(tag, str) or not tag or not tag.isprintable():
            raise RafError(f"bank: a further feature space is named {tag!r}, expected a name such as 'open42'")
        if tag == feature_space:
            raise RafError(f"bank: {tag} is the space of `features` already; give further spaces other names")
        found[tag] = np.array(as_float32(f"bank: {tag} features", features), order="C")
        if found[tag].ndim != 2 or len(found[tag]) != count or not found[tag].shape[1]:
            raise RafError(f"bank: {tag} features have shape {list(found[tag].shape)}, expected [{count}, d]")
        check_finite(found[tag], f"bank: {tag} features of row")
        found[tag].flags.writeable = False
    return dict(sorted(found.items()))


def taken(spaces: Spaces, rows: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
    """The further spaces of some rows."""
    return {tag: features[rows] for tag, features in spaces.items()}


def joined(mine: Spaces, theirs: Spaces) -> dict[str, np.ndarray]:
    """The spaces that both have, one's rows after the other's; RafError where a space has two widths."""
    both = [tag for tag in mine if tag in theirs]
    for tag in both:
        check_space((tag, mine[tag].shape[1]), (tag, theirs[tag].shape[1]), "the other bank")
    return {tag: np.concatenate([mine[tag], theirs[tag]]) for tag in both}


def seen_in(bank: ExpressionBank, tag: str) -> ExpressionBank:
    """The bank whose `features` are those of the further space `tag`; the present ones become one of its `spaces`.

    Raises RafError where the bank does not have the space.
    """
    if tag not in bank.spaces:
        raise RafError(
            f"the bank holds {' and '.join([bank.feature_space, *bank.spaces])} features, not {tag!r}; choose one of "
            "these, or add the space with bank.with_space(tag, features)"
        )
    others = {name: features for name, features in bank.spaces.items() if name != tag}
    spaces = {bank.feature_space: bank.features, **others}
    return replace(bank, features=bank.spaces[tag], feature_space=tag, spaces=spaces)
