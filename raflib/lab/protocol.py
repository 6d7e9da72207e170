"""The paper's protocol: evaluated subjects, their drivers and the people of the bank (RAF §5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BENCHMARK = ("388", "422", "443", "445", "475")
EXTERNAL = tuple(f"E{number:02d}" for number in range(1, 11))
"""Subjects of the NeRSemble benchmark (paper, Appendix 0.C), and the external drivers as the studio names them."""
NEW_PEOPLE = tuple(f"N{number:02d}" for number in range(1, 13))
"""People of the studio who were named before any of them was filmed, and who are in no bank, table or choice."""

FOLDERS = ("gha", "nersemble")
"""Sources that read a folder, which holds the folders of people."""

OWN_FRAMES = ALL_FRAMES, TRAINING_FRAMES = "all", "training"
"""Which of the subject's frames coverage is measured with: all of the training sequences, 25 a second as in the paper,
or those that an avatar is trained on."""


def own_frames(wanted: str, profile: str) -> str:
    """`wanted`, or where it is "" the profile's own: all frames, and with `tiny` those of the training."""
    return wanted or (TRAINING_FRAMES if profile == "tiny" else ALL_FRAMES)


def unseen_drivers(subject: str) -> list[str]:
    """Drivers of `subject` (paper §5): the other benchmark subjects and ten external people."""
    return [name for name in (*BENCHMARK, *EXTERNAL) if name != subject]


@dataclass(frozen=True)
class Roles:
    """Other people than the subject: those of the `bank` and the `drivers`. Nobody is both, so drivers are unseen."""

    bank: tuple[str, ...]
    drivers: tuple[str, ...]


def roles(subject: str, people: Iterable[str]) -> Roles:
    """Who is in the bank and who drives, among the people of a folder.

    As in the paper (§5), the benchmark subjects drive each other and everybody else is in the bank. Where the folder
    does not hold both kinds, as the monocular benchmark, whose five people are others, people take turns: in the order
    of their ids, beginning after the subject's, every second one drives.
    """
    others = sorted(name for name in people if name != subject)
    rest = [name for name in others if name not in BENCHMARK]
    if 2 <= len(rest) < len(others):
        return Roles(tuple(rest), tuple(name for name in others if name in BENCHMARK))
    turns = [name for name in others if name > subject] + [name for name in others if name < subject]
    return Roles(tuple(turns[0::2]), tuple(turns[1::2]))
