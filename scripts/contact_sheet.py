"""A contact sheet of studio people: neutral, laughing, surprised, angry and sad, each seen from another side.

python scripts/contact_sheet.py [--people 20] [--size 128] [--out figures/studio_people.jpg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from raflib import openbank, report, studio
from raflib.lab.protocol import BENCHMARK, EXTERNAL
from raflib.runs import project_root
from raflib.studio import script
from raflib.studio.style import sides

EXPRESSIONS = {
    "neutral": {},
    "laughing": script.LAUGH,
    "surprised": script.SURPRISE,
    "angry": script.ANGER,
    "sad": script.SADNESS,
}
CAMERAS = ("222200037", "222200036", "222200037", "222200044", "222200039")
LETTERS = 20
"""Height of the text in pixels; the sheet is shown at half of its width."""


def intention(pose: script.Pose) -> Float[np.ndarray, "52"]:
    """A pose of the script as actions [52]."""
    actions = np.zeros(len(studio.ACTIONS), np.float32)
    for name, value in pose.items():
        actions[list(sides(name))] = value
    return actions


def faces(subject: str, size: int) -> list[UInt8[np.ndarray, "size size 3"]]:
    """One person's images, one for each of `EXPRESSIONS`."""
    person, cameras = studio.Identity(subject), {camera.name: camera for camera in studio.rig(size)}
    shown = [person.style.show(intention(pose)) for pose in EXPRESSIONS.values()]
    return [
        studio.render(person, actions, np.zeros(3), cameras[serial])[0]
        for actions, serial in zip(shown, CAMERAS, strict=True)
    ]


def part_of(subject: str) -> str:
    """The role of a person: subject, driver or bank."""
    return "subject" if subject in BENCHMARK else "driver" if subject in EXTERNAL else "bank"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=project_root() / "figures" / "studio_people.jpg")
    options = parser.parse_args()
    names = [*BENCHMARK, *EXTERNAL, *openbank.names(options.people)][: options.people]
    rows = [faces(name, options.size) for name in tqdm(names, desc="people")]
    labels, half = [f"{name}\n{part_of(name)}" for name in names], -(-len(names) // 2)
    parts = [slice(None, half), slice(half, None)] if len(names) > 1 else [slice(None)]
    sheets = [report.strip(rows[p], list(EXPRESSIONS), labels[p], tile=options.size, size=LETTERS) for p in parts]
    sheet = report.joined(sheets, options.out, beside=True)
    print(f"{options.out}: {len(names)} people, {sheet.width} × {sheet.height} pixels")


if __name__ == "__main__":
    main()
