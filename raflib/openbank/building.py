"""`build`: the bank made anew, person by person.

A person's frames are drawn evenly from everything they perform, FREE included, at 25 frames a second; only those are
filmed and tracked, and a frame without a face makes way for the next of the draw. Every finished person is a file of
their own in a folder named by a key of all that it follows from, so that a build killed at any moment goes on where it
was and ends in the same bytes, with any number of cores.
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
from raflib.openbank.people import SIZE, Look, Person, film_everybody, names
from raflib.runs import cache_root, data_root, package_versions
from raflib.sources._studio_recipe import FEATURE_SPACE
from raflib.tracking.face import MODEL_SHA256, Observation

DRAW_VERSION = 1
"""Raised with every change after which other frames are drawn or other people filmed."""
PEOPLE, FRAMES = 415, 200
"""The size of the paper's bank: 83,000 vectors."""
ARITHMETIC = ("raflib", "mediapipe", "numpy", "numba", "scipy")
"""Packages that a bank's numbers follow from."""


def build(
    path: str | Path,
    people: int = PEOPLE,
    frames: int = FRAMES,
    seed: int = 0,
    cores: int | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> ExpressionBank:
    """Film and track `frames` random frames of each of `people` and save the bank at `path`, in half precision.

    A person's rows depend on who they are, `frames` and `seed`, so that more people only add rows. `cores` threads
    (default all of this machine) work side by side. Finished people stay in a folder of `cache` (default
    `cache_root()/openbank`) and are not made again; a damaged file there is. The bank's `provenance` tells the draw,
    the versions, the key, how many pictures were `looked_at` and which share of them showed a face (`detection_rate`).
    Raises RafError for numbers out of range and for a person who shows fewer than `frames` faces.
    """
    if frames < 1:
        raise RafError(f"frames is {frames}, expected at least 1 a person")
    everybody, key = names(people), recipe(frames, seed)
    folder = (cache_root() / "openbank" if cache is None else Path(cache)) / key
    missing = [name for name in everybody if _finished(folder, name, frames) is None]

    def film(name: str, look: Look) -> None:
        film_person(name, frames, seed, look).save(folder / f"{name}.npz")

    done = (people - len(missing)) * frames
    with tqdm(total=people * frames, initial=done, desc="bank", unit="frame", disable=not progress) as bar:
        film_everybody(missing, film, cores, bar)
    parts = [ExpressionBank.load(folder / f"{name}.npz") for name in everybody]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    looked_at = sum(int(part.provenance["looked_at"]) for part in parts)
    draw = {"people": people, "per_subject": frames, "seed": seed, "recipe": key}
    faces = {"looked_at": looked_at, "detection_rate": f"{people * frames / looked_at:.5f}"}
    provenance = {**draw, **faces, **_versions()}
    ExpressionBank(**columns, feature_space=FEATURE_SPACE, provenance=provenance).save(path, half=True)
    return ExpressionBank.load(path)


def film_person(name: str, frames: int, seed: int, look: Look) -> ExpressionBank:
    """`frames` random frames of one person, in the order of their sequences.

    `provenance["looked_at"]` counts all pictures, those without a face included.
    """
    person = Person(name)
    moments = [(sequence, frame) for sequence, acted in person.acted.items() for frame in range(len(acted))]
    found: dict[int, Observation] = {}
    looked_at = 0
    for row in np.random.default_rng([seed, *name.encode()]).permutation(len(moments)).tolist():
        if len(found) == frames:
            break
        seen, looked_at = look(person.picture(*moments[row])), looked_at + 1
        if seen is not None:
            found[row] = seen
    if len(found) < frames:
        raise RafError(f"{name}: {len(found)} of {len(moments)} frames show a face, expected {frames}; ask for fewer")
    rows = sorted(found)
    sequence, frame = zip(*(moments[row] for row in rows), strict=True)
    features = np.stack([found[row].expression for row in rows])
    rotation = np.stack([found[row].rotation for row in rows])
    origin = {"looked_at": looked_at}
    return ExpressionBank(features, [name] * frames, sequence, frame, FEATURE_SPACE, origin, rotation)


def recipe(frames: int, seed: int) -> str:
    """A key of all that a person's rows follow from: looks, performances, camera, tracker, draw and versions."""
    made = DRAW_VERSION, studio.VERSION, tracking.VERSION, frames, seed, SIZE, sorted(_versions().items())
    digest = hashlib.sha256(repr(made).encode())
    digest.update(hashlib.sha256((data_root() / "head_model.npz").read_bytes()).digest())
    return digest.hexdigest()[:16]


def _finished(folder: Path, name: str, frames: int) -> ExpressionBank | None:
    """A person made before; None where the file is missing, damaged or somebody else's."""
    try:
        person = ExpressionBank.load(folder / f"{name}.npz")
    except RafError:
        return None
    return person if person.people == (name,) and len(person) == frames else None


def _versions() -> dict[str, str]:
    return {**package_versions(ARITHMETIC), "face_landmarker": MODEL_SHA256}
