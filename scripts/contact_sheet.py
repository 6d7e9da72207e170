"""A contact sheet of the studio's people: each at rest, laughing, surprised, angry and sad, from four sides.

python scripts/contact_sheet.py [--people 20] [--size 128] [--out figures/studio_people.jpg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from raflib import studio
from raflib.evaluation.protocols import BENCHMARK, EXTERNAL
from raflib.openbank.people import names as openbank_names
from raflib.runs import atomic_write, project_root
from raflib.studio import script
from raflib.studio.style import sides

EXPRESSIONS = ({}, script.LAUGH, script.SURPRISE, script.ANGER, script.SADNESS)
CAMERAS = ("222200037", "222200036", "222200037", "222200044", "222200039")


def intention(pose: script.Pose) -> np.ndarray:
    """A pose of the script as actions [52]."""
    actions = np.zeros(len(studio.ACTIONS), np.float32)
    for name, value in pose.items():
        actions[list(sides(name))] = value
    return actions


def faces(subject: str, size: int) -> np.ndarray:
    """One person's row of pictures [size, 5 · size, 3]."""
    person, cameras = studio.Identity(subject), {camera.name: camera for camera in studio.rig(size)}
    shown = [person.style.show(intention(pose)) for pose in EXPRESSIONS]
    pictures = [
        studio.render(person, actions, np.zeros(3), cameras[serial])[0]
        for actions, serial in zip(shown, CAMERAS, strict=True)
    ]
    return np.concatenate(pictures, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=project_root() / "figures" / "studio_people.jpg")
    options = parser.parse_args()
    names = [*BENCHMARK, *EXTERNAL, *openbank_names(options.people)][: options.people]
    rows = [faces(name, options.size) for name in tqdm(names, desc="people")]
    half = (len(rows) + 1) // 2
    blank = [np.full_like(rows[0], 255)] * (2 * half - len(rows))
    sheet = np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:] + blank)], 1)
    with atomic_write(options.out) as temporary:
        Image.fromarray(sheet).save(temporary, "JPEG", quality=90)
    print(f"{options.out}: {len(names)} people, {sheet.shape[1]} × {sheet.shape[0]} pixels")


if __name__ == "__main__":
    main()
