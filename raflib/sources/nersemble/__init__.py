"""NeRSemble: the public benchmark's layouts and the dataset's own, as captures.

    open_capture("nersemble", "393", "demo", root="benchmark")

`root` holds `mono_flame_avatar/<person>` or `nvs/<person>`, or is one of these two folders, or the folder of the raw
dataset, `<person>/…`, or the person's own folder. A `root` that holds several recordings of a person is refused. The
layout is recognised by what the person's folder holds:

| layout | `intrinsics` of calibration/camera_params.json | sequences | features | held out |
|---|---|---|---|---|
| monocular benchmark | one matrix for each camera | with `tracking` | `flame109` | its four test sequences |
| novel-view benchmark | one matrix for each camera | without | `arkit52` | FREE, which only 443 has |
| raw, version 2 | one matrix for all cameras | without | `arkit52` | FREE |

The monocular benchmark has five people. Four of them make the bank of the fifth:

    others = [open_capture("nersemble", person, "demo", root) for person in MONO_PEOPLE if person != "393"]
    bank = ExpressionBank.build(others)

Lengths are metres. The capture's world has the axes of the frontal camera, and its origin is the middle of the rig.
Landmarks, poses and images are cached in `cache_root()/nersemble`, named by the content of the files, the settings and
how they are made.
"""

from __future__ import annotations

from pathlib import Path

from raflib.capture import Capture
from raflib.errors import RafError
from raflib.reading import read_json
from raflib.sources.nersemble.benchmark import PROFILES
from raflib.sources.nersemble.benchmark_films import CALIBRATION, REMEDY, WHAT
from raflib.sources.nersemble.flame import FlameTracks
from raflib.sources.nersemble.mono import TRACKS, open_mono, read_person
from raflib.sources.nersemble.names import MONO, MONO_PEOPLE, NVS, RAW, SEQUENCES
from raflib.sources.nersemble.nvs import open_nvs
from raflib.sources.nersemble.raw import open_raw

__all__ = ["MONO_PEOPLE", "PROFILES", "FlameTracks", "flame_tracks", "open"]


def open(subject: str, profile: str = "demo", root: str | Path | None = None) -> Capture:
    """The capture of one person, whose folder in `root` is named by the three digits of `subject`.

    Profiles are "tiny", "demo", "gpu", "paper", and "driver" for people who only drive; of the raw dataset also "bank",
    for a bank of many people. Images are never larger than the films. Frames in which no face was found, or whose track
    holds NaN, are marked and hold NaN. Warns when the person has no held-out sequence, and, for the novel-view layout,
    no film of a camera. Raises RafError for an unknown profile, without a root, and naming the file or folder that is
    missing, damaged or of another length than those beside it.
    """
    person = find_person(subject, root)
    layout = layout_of(person)
    if layout == RAW:
        return open_raw(subject, profile, person.parent)
    if profile not in PROFILES:
        raise RafError(f"nersemble profile {profile!r} is not known; choose one of {', '.join(PROFILES)}")
    return open_mono(subject, profile, person) if layout == MONO else open_nvs(subject, profile, person)


def flame_tracks(subject: str, root: str | Path) -> dict[str, FlameTracks]:
    """The FLAME tracks of all sequences of a person of the monocular benchmark, by name: also the shape and the neck,
    which captures do not have.

    Raises RafError naming the folder when it is of another layout, and naming a file that is missing or damaged.
    """
    person = find_person(subject, root)
    if (layout := layout_of(person)) != MONO:
        raise RafError(f"{person}: is of the layout {layout}, which has no FLAME tracks; give the folder {MONO}")
    return read_person(person, SEQUENCES)


def people(root: Path) -> list[str]:
    """Ids of the people with a folder in `root`, or in the folder of a benchmark in it."""
    folders = (path for place in (root / MONO, root / NVS, root) if place.is_dir() for path in place.iterdir())
    return list({path.name for path in folders if _is_id(path.name) and path.is_dir()})


def _is_id(name: str) -> bool:
    return len(name) == 3 and name.isascii() and name.isdigit()


def find_person(subject: str, root: str | Path | None) -> Path:
    """The folder of a person below `root`, or `root` if it is this folder.

    RafError where there is none, or several: the raw dataset and the benchmarks have people in common.
    """
    if root is None:
        raise RafError("source nersemble needs root, the folder that holds the people's folders or a benchmark's")
    if not _is_id(subject):
        raise RafError(f"subject {subject!r} is no person of NeRSemble; write the three digits, as in '074'")
    root = Path(root)
    if root.name == subject and (root / CALIBRATION).is_file():
        return root
    places = [root / MONO / subject, root / NVS / subject, root / subject]
    found = [place for place in places if place.is_dir()]
    if not found:
        raise RafError(f"{root}: holds none of {MONO}/{subject}, {NVS}/{subject} and {subject}; check root and subject")
    if len(found) > 1:
        raise RafError(
            f"{root}: holds several recordings of {subject}: {', '.join(map(str, found))}; keep the raw dataset and "
            "the benchmarks in separate folders, or give one of these as root"
        )
    return found[0]


def layout_of(person: Path) -> str:
    """The layout of a person's folder, "mono_flame_avatar", "nvs" or "raw", by its calibration and sequences."""
    stored = read_json(person / CALIBRATION, {"intrinsics": (dict, list)}, WHAT, REMEDY)
    if isinstance(stored["intrinsics"], list):
        return RAW
    tracked = person.parent.name == MONO or any((person / "sequences").glob(f"*/{TRACKS}"))
    return MONO if tracked else NVS
