"""What of NeRSemble to download for the paper's experiment, how large it is, and the official kit's commands.

The kit (`pip install nersemble-data`) asks before it downloads, continues an interrupted download, and needs the
address from the access mail. The dataset's tables hold no sizes: a video counts with the kit's own average, so sizes
are estimates.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raflib.errors import RafError, whole
from raflib.reading import read_table
from raflib.sources.nersemble.names import BACKGROUND, FRONTAL, NVS_SEQUENCE, SEQUENCES, SERIALS, SKIPPED
from raflib.sources.nersemble.raw_calibration import REMEDY
from raflib.sources.nersemble.raw_folder import short

VIDEO_BYTES = 1_490_000_000_000 // 170_631
"""Average of a video (8.7 MB): the kit states 1,490 GB for all 170,631 videos."""
BACKGROUND_BYTES, CALIBRATION_BYTES = 1_500_000, 20_000
"""Assumed sizes of a background image, and of a person's two calibration files."""
SUBJECTS = tuple(NVS_SEQUENCE)
PEOPLE = 415
"""People of the paper's bank."""
TABLE = "metadata_sequences.csv"
RECORDED = ("x", "m")
"""Marks in `TABLE` of a sequence that a participant recorded."""


@dataclass(frozen=True)
class Download:
    """One part of the download: a command of the kit.

    Attributes:
        purpose: what the part is for.
        participants: their numbers; empty for all participants.
        people: how many they are.
        sequences, cameras: what is downloaded of each of them.
        videos: how many videos that is; where a table is missing, as if everyone had recorded everything.
        size: bytes, an estimate.
        command: the kit's command line.
    """

    purpose: str
    participants: tuple[str, ...]
    people: int
    sequences: tuple[str, ...]
    cameras: tuple[str, ...]
    videos: int
    size: int
    command: str


@dataclass(frozen=True)
class DownloadPlan:
    """The parts of a download and what is known about their sizes; `print` shows it as a table with the commands."""

    parts: tuple[Download, ...]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all parts, an estimate."""
        return sum(part.size for part in self.parts)

    def __str__(self) -> str:
        lines = [f"{'part':10}{'people':>8}{'sequences':>11}{'cameras':>9}{'videos':>9}{'GB (estimate)':>15}"]
        for part in self.parts:
            counts = f"{part.people:8}{len(part.sequences):11}{len(part.cameras):9}{part.videos:9}"
            lines.append(f"{part.purpose:10}{counts}{part.size / 1e9:15.1f}")
        lines.append(f"{'all':10}{'':37}{self.size / 1e9:15.1f}")
        return "\n".join([*lines, "", *(part.command for part in self.parts), "", *self.notes])


def plan_download(
    folder: str | Path = "nersemble",
    subjects: Sequence[str] = SUBJECTS,
    bank_people: int = PEOPLE,
    drivers: Sequence[str] = (),
    cameras: Sequence[str] = SERIALS,
) -> DownloadPlan:
    """The download for avatars of `subjects`, a bank, and external drivers.

    Avatars need every sequence but those with glasses or the tongue, from all `cameras`. A bank needs the frontal
    camera only: expression features come from it (profile "bank"). Drivers need FREE from the frontal camera and its
    neighbours; which cameras these are, the calibration says, so all are planned.

    Args:
        folder: the dataset's folder. Where it holds `metadata_sequences.csv`, only what people recorded is counted,
            and the bank's people are named: the first ones that are neither subjects nor drivers.
        subjects: people whose avatars are trained; the paper's five by default.
        bank_people: people in the bank; 0 for no bank.
        drivers: external drivers, by their numbers.
        cameras: serial numbers of the avatars' cameras.

    Raises RafError for a name that is no participant or camera, and for a damaged table, naming it.
    """
    whole("bank_people", bank_people, 0)
    for name in (*subjects, *drivers):
        if not str(name).isdigit():
            raise RafError(f"participant {name!r} is no number; NeRSemble counts its participants, as in '422'")
    if unknown := [serial for serial in cameras if serial not in SERIALS] or (["none"] if not cameras else []):
        raise RafError(f"cameras {', '.join(unknown)} are not NeRSemble's; choose from {', '.join(SERIALS)}")
    recorded = _recorded(Path(folder) / TABLE)
    if recorded and (missing := [name for name in (*subjects, *drivers) if int(name) not in recorded]):
        raise RafError(f"{Path(folder) / TABLE}: participants {', '.join(missing)} are not in it; choose others")
    names = _names(recorded)
    trained = tuple(name for name in names if short(name) not in map(short, SKIPPED))
    parts, notes = [], []
    if subjects:
        parts.append(_part(folder, "avatars", tuple(subjects), len(subjects), trained, tuple(cameras), recorded))
    if drivers:
        parts.append(_part(folder, "drivers", tuple(drivers), len(drivers), ("FREE",), SERIALS, recorded))
    if bank_people:
        others = [str(person) for person in recorded if person not in {int(n) for n in (*subjects, *drivers)}]
        if recorded and len(others) < bank_people:
            notes.append(
                f"{len(others)} people are left for the bank, fewer than the {bank_people} that were asked for."
            )
        people = tuple(others[:bank_people])
        count = len(people) if recorded else bank_people
        if count:
            parts.append(_part(folder, "bank", people, count, trained, (FRONTAL,), recorded))
    notes.append(
        f"Sizes are estimates: {VIDEO_BYTES / 1e6:.1f} MB a video (the kit's average over the dataset), "
        f"{BACKGROUND_BYTES / 1e6:.1f} MB a background image (assumed)."
    )
    if not recorded:
        first = f"nersemble-data download {shlex.quote(str(folder))} --assets"
        notes.append(
            f"{Path(folder) / TABLE} is not there: every person counts with every sequence, and the bank's command "
            "takes all participants. Some sequences may be spelled differently by the kit, "
            "which stops at a name that it does not know. Get the tables and plan again: "
            f"{first} metadata_participants metadata_sequences"
        )
    return DownloadPlan(tuple(parts), tuple(notes))


def _recorded(path: Path) -> dict[int, tuple[str, ...]]:
    """The recorded sequences of each participant, by number; empty where the table is not there."""
    if not path.exists():
        return {}
    table = read_table(path, numbers=("ID",), what="table of sequences", remedy=REMEDY)
    names = [name for name in table.columns if short(name) in {short(known) for known in (*SEQUENCES, BACKGROUND)}]
    if table["ID"].isna().any() or table["ID"].duplicated().any() or not names:
        raise RafError(
            f"{path}: expected a number of its own for every participant, and columns of sequences; {REMEDY}"
        )
    marks = table[names].isin(RECORDED).to_numpy()
    return {
        int(person): tuple(name for name, mark in zip(names, row, strict=True) if mark and name != BACKGROUND)
        for person, row in zip(table["ID"], marks, strict=True)
    }


def _names(recorded: dict[int, tuple[str, ...]]) -> tuple[str, ...]:
    """All sequences, spelled as in the table where there is one."""
    if not recorded:
        return SEQUENCES
    return tuple(dict.fromkeys(name for person in recorded.values() for name in person))


def _part(
    folder: str | Path,
    purpose: str,
    participants: tuple[str, ...],
    people: int,
    sequences: tuple[str, ...],
    cameras: tuple[str, ...],
    recorded: dict[int, tuple[str, ...]],
) -> Download:
    per_camera = people * len(sequences)
    if recorded:
        per_camera = sum(name in sequences for person in participants for name in recorded[int(person)])
    videos = per_camera * len(cameras)
    size = videos * VIDEO_BYTES + people * (len(cameras) * BACKGROUND_BYTES + CALIBRATION_BYTES)
    words = ["nersemble-data", "download", shlex.quote(str(folder))]
    words += ["--participant", ",".join(str(int(person)) for person in participants) or "all"]
    words += ["--sequence", ",".join(sequences)]
    if set(cameras) != set(SERIALS):
        words += ["--camera", ",".join(cameras)]
    command = " ".join([*words, "--n_workers", "4"])
    return Download(purpose, participants, people, sequences, cameras, videos, size, command)
