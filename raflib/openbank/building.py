"""The open bank made anew, person by person.

A person's frames are sampled uniformly from everything they perform, FREE included, at 25 frames a second. Only those
frames are rendered and tracked, and a frame without a face is replaced by the next one of the random order. A row has
features in two spaces: `arkit52` from the frontal view, and `open42` from the open face model, fitted to all rows of
the person at once. Every finished person is a file in a folder whose name is a key of everything the rows follow from.
A build that was killed goes on from there and ends in the same bytes, with any number of cores.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from raflib import studio, tracking
from raflib.bank import ExpressionBank
from raflib.bank.columns import COLUMNS
from raflib.errors import RafError
from raflib.openbank.filming import CAMERAS, SIZE, Person, See, Seen, film_people, names, open_features
from raflib.reading.names import content_hash
from raflib.runs import cache_root, data_root, package_versions
from raflib.sources._studio_recipe import FEATURE_SPACE
from raflib.tracking.face import MODEL_SHA256
from raflib.tracking.face_model import OPEN_MODEL

DRAW_VERSION = 2
"""Increased with every change after which other frames are sampled or other people rendered."""
OPEN = "open42"
"""The rows' further feature space."""
PEOPLE, FRAMES = 415, 200
"""The size of the paper's bank: 83,000 vectors."""
ARITHMETIC = ("raflib", "mediapipe", "numpy", "numba", "scipy", "torch")
"""Packages that a bank's numbers follow from."""


def film_bank(
    path: Path, people: int, frames: int, seed: int, cores: int | None, folder: Path, progress: bool
) -> ExpressionBank:
    """What `raflib.openbank.build` does once its arguments are checked; `folder` is that of `folder_of`."""
    everybody = names(people)
    missing = [name for name in everybody if _finished(folder, name, frames) is None]

    def film(name: str, see: See) -> None:
        film_person(name, frames, seed, see).save(folder / f"{name}.npz")

    done = (people - len(missing)) * frames
    with tqdm(total=people * frames, initial=done, desc="bank", unit="frame", disable=not progress) as bar:
        film_people(missing, film, cores, bar)
    parts = [ExpressionBank.load(folder / f"{name}.npz") for name in everybody]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    spaces = {OPEN: np.concatenate([part.spaces[OPEN] for part in parts])}
    looked_at = sum(int(part.provenance["looked_at"]) for part in parts)
    draw = {"people": people, "per_subject": frames, "seed": seed, "recipe": folder.name}
    faces = {"looked_at": looked_at, "detection_rate": f"{people * frames / looked_at:.5f}"}
    provenance = {**draw, **faces, **_made_from(), **_versions()}
    ExpressionBank(**columns, feature_space=FEATURE_SPACE, provenance=provenance, spaces=spaces).save(path, half=True)
    return ExpressionBank.load(path)


def folder_of(frames: int, seed: int, cache: str | Path | None = None) -> Path:
    """The folder of `cache` (default `cache_root()/openbank`) that keeps finished people of this recipe."""
    return (cache_root() / "openbank" if cache is None else Path(cache)) / recipe(frames, seed)


def film_person(name: str, frames: int, seed: int, see: See) -> ExpressionBank:
    """`frames` random frames of one person in both spaces, in the order of their sequences.

    `provenance["looked_at"]` counts all rendered frames, those without a face included. RafError for a person who
    shows a face in fewer frames.
    """
    person = Person(name)
    moments = [(sequence, frame) for sequence, acted in person.acted.items() for frame in range(len(acted))]
    found: dict[int, Seen] = {}
    looked_at = 0
    for row in np.random.default_rng([seed, *name.encode()]).permutation(len(moments)).tolist():
        if len(found) == frames:
            break
        seen, looked_at = see(person.images(*moments[row])), looked_at + 1
        if seen is not None:
            found[row] = seen
    if len(found) < frames:
        raise RafError(f"{name}: {len(found)} of {len(moments)} frames show a face, expected {frames}; ask for fewer")
    rows = sorted(found)
    sequence, frame = zip(*(moments[row] for row in rows), strict=True)
    features = np.stack([found[row].expression for row in rows])
    rotation = np.stack([found[row].rotation for row in rows])
    spaces = {OPEN: open_features(np.stack([found[row].landmarks for row in rows]))}
    origin = {"looked_at": looked_at}
    return ExpressionBank(features, [name] * frames, sequence, frame, FEATURE_SPACE, origin, rotation, spaces)


def recipe(frames: int, seed: int) -> str:
    """A key of everything a person's rows follow from: studio, cameras, tracker, face model, choice of frames and
    versions."""
    cameras = [camera.name for camera in CAMERAS]
    made = DRAW_VERSION, studio.VERSION, tracking.VERSION, frames, seed, SIZE, cameras, sorted(_versions().items())
    digest = hashlib.sha256(repr(made).encode())
    for name in ("head_model.npz", OPEN_MODEL):
        digest.update(bytes.fromhex(content_hash(data_root() / name)))
    return digest.hexdigest()[:16]


def _made_from() -> dict[str, str]:
    """What the features of each space are, as text by the space's tag."""
    return {
        FEATURE_SPACE: "scores of the frontal view",
        OPEN: f"{OPEN_MODEL} fitted to landmarks from cameras {', '.join(camera.name for camera in CAMERAS)}, all rows "
        "of a person together",
    }


def _finished(folder: Path, name: str, frames: int) -> ExpressionBank | None:
    """The rows of a person made before; None where the file is missing, damaged or holds another person."""
    try:
        person = ExpressionBank.load(folder / f"{name}.npz")
    except RafError:
        return None
    return person if person.people == (name,) and len(person) == frames and OPEN in person.spaces else None


def _versions() -> dict[str, str]:
    """Versions of the packages that a bank's numbers follow from, and the checksum of the tracker's model."""
    return {**package_versions(ARITHMETIC), "face_landmarker": MODEL_SHA256}
