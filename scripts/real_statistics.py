"""Writes `data/real_people.json`: how far apart real people are in the tracker's features, as statistics only.

python scripts/real_statistics.py FOLDER [--people FILE]

FOLDER holds tracks, one .npz a clip: `blendshapes` [T,52] of MediaPipe's face landmarker in `raflib.tracking.ARKIT52`
order, `detected` [T] and `matrices` [T,4,4]. FILE says which clips show one person: a line a person, patterns of file
names between blanks; a clip in no line is a person by itself. No name and no value of a single person is written.
"""

from __future__ import annotations

import argparse
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from raflib.coverage import identity as people
from raflib.errors import RafError
from raflib.reading import Array, read_arrays
from raflib.runs import data_root, write_json
from raflib.tracking import ARKIT52

STORED = {
    "blendshapes": Array("f", "T 52", finite=False), "detected": Array("biu", "T"),
    "matrices": Array("f", "T 4 4", finite=False),
}  # fmt: skip
DEFINITIONS = {
    "between": "root mean square distance of the persons' mean features to the mean of those means",
    "within": "root mean square distance of a frame to its person's mean, every person counting alike",
    "neutral": f"mean distance of two persons' neutral faces (the {people.CALM:.0%} of frames of smallest norm)",
    "actions": "mean over people, standard deviation of the persons' means, root mean variance within a person",
    "head": "degrees; standard deviation of the persons' means, root mean variance within a person",
}


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features [T,52] and head angles [T,3] (degrees) of detected frames. RafError naming a file of another kind."""
    stored = read_arrays(path, STORED, "track", "expected blendshapes, detected and matrices")
    found = stored["detected"].astype(bool)
    features, matrices = stored["blendshapes"][found], stored["matrices"][found]
    if not len(features) or not np.isfinite(features).all() or not np.isfinite(matrices).all():
        raise RafError(f"{path}: no detected frame, or NaN in one; track the clip again")
    angles = Rotation.from_matrix(matrices[:, :3, :3].astype(np.float64)).as_euler("YXZ", degrees=True)
    return features.astype(np.float64), angles


def by_person(names: list[str], lines: list[str]) -> list[list[str]]:
    """Clip names grouped by person. RafError for a clip that two lines claim, or a line that names no clip."""
    groups: list[list[str]] = []
    for line in lines:
        groups.append([name for name in names if any(fnmatch(name, pattern) for pattern in line.split())])
        if not groups[-1]:
            raise RafError(f"people: the line {line!r} fits no clip; correct its patterns")
    claimed = [name for group in groups for name in group]
    if len(set(claimed)) < len(claimed):
        raise RafError(f"people: {max(claimed, key=claimed.count)} fits two lines; a clip shows one person")
    return groups + [[name] for name in names if name not in claimed]


def tracks_by_person(folder: Path, people: Path | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features and head angles, as `read` gives them, of each person in a folder of tracks, by their first clip's name.

    `people` is the file that says which clips show one person. RafError for a folder without tracks.
    """
    names = sorted(path.stem for path in folder.glob("*.npz"))
    if not names:
        raise RafError(f"{folder}: no .npz track in it; name the folder that holds them")
    told = people.read_text(encoding="utf-8") if people else ""
    groups = by_person(names, [line for line in told.splitlines() if line.strip()])
    persons = {}
    for group in groups:
        features, angles = zip(*(read(folder / f"{name}.npz") for name in group), strict=True)
        persons[group[0]] = np.concatenate(features), np.concatenate(angles)
    return persons


def statistics(features: list[np.ndarray], angles: list[np.ndarray], clips: int) -> dict:
    """The content of `data/real_people.json`, described in `DEFINITIONS`."""
    actions, heads = people.deviations(features), people.deviations(angles)
    mean = np.mean([rows.mean(0) for rows in features], axis=0)
    columns = {"mean": mean, **actions}
    return {
        "definitions": DEFINITIONS,
        "people": len(features),
        "clips": clips,
        "frames": sum(map(len, features)),
        "spread": {name: round(value, 4) for name, value in people.spread(features).items()},
        "actions": {
            name: {kind: round(float(values[i]), 4) for kind, values in columns.items()}
            for i, name in enumerate(ARKIT52)
        },
        "head": {
            f"{axis}_{kind}": round(float(values[i]), 3)
            for i, axis in enumerate(("yaw", "pitch", "roll"))
            for kind, values in heads.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=Path, help="which clips show one person")
    chosen = parser.parse_args()
    persons = tracks_by_person(chosen.folder, chosen.people)
    features, angles = (list(part) for part in zip(*persons.values(), strict=True))
    clips = len(list(chosen.folder.glob("*.npz")))
    path = data_root() / "real_people.json"
    write_json(path, statistics(features, angles, clips))
    print(f"wrote {path}: {len(persons)} people, {clips} clips")


if __name__ == "__main__":
    main()
