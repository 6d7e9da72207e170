"""Writes studio people in the layout of NeRSemble's second version, small and without loss."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

from raflib import studio
from raflib.geometry import Camera

WIDTH, HEIGHT = 110, 160
SERIALS = ("222200037", "222200038", "222200046", "222200043")
"""The frontal camera and the three nearest to it in the studio."""
SEQUENCES = ("EXP-5-mouth", "FREE")
WORLD = np.array([[0.36, 0.48, -0.8, 0.1], [-0.8, 0.6, 0, -0.3], [0.48, 0.64, 0.6, 0.2], [0, 0, 0, 1.0]])
"""Motion from the dataset's world, whose axes are not those of the frontal camera, to the studio's."""
PLATE = (196, 190, 184)
COLOURS = {
    serial: [[0.9 + 0.01 * index, 0.06, 0.02], [0.03, 0.93, 0.0], [0.01, 0.05, 0.9]]
    for index, serial in enumerate(SERIALS)
}


@dataclass(frozen=True)
class Written:
    """`root` of the dataset; `cameras` of whole frames in the studio's world; frames [n,H,W,3], their `masks` and
    `stills` (frames of the empty room) by (sequence, serial)."""

    root: Path
    cameras: list[Camera]
    frames: dict[tuple[str, str], np.ndarray]
    masks: dict[tuple[str, str], np.ndarray]


def whole_cameras() -> list[Camera]:
    """The studio's cameras with images of 110×160 pixels."""
    rig = {camera.name: camera for camera in studio.rig(HEIGHT)}
    return [rig[serial].cropped((HEIGHT - WIDTH) // 2, 0, WIDTH, HEIGHT) for serial in SERIALS]


def write_film(path: Path, frames: np.ndarray) -> None:
    """Encode frames without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=73)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "rgb24"
        stream.options = {"qp": "0", "preset": "ultrafast", "g": "6"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def write_person(root: Path, subject: str = "422", moments: int = 9) -> Written:
    """Film `moments` of each sequence; the two frames after each moment show something else."""
    cameras, identity, folder = whole_cameras(), studio.Identity(subject), root / f"{int(subject):03d}"
    rig = {camera.name: camera for camera in studio.rig(HEIGHT)}
    motions = {camera.name: (camera.extrinsic @ WORLD).tolist() for camera in studio.rig(HEIGHT)}
    calibration = {"world_2_cam": motions, "intrinsics": cameras[0].intrinsic.tolist()}
    (folder / "calibration").mkdir(parents=True)
    (folder / "calibration/camera_params.json").write_text(json.dumps(calibration))
    (folder / "calibration/color_calibration.json").write_text(json.dumps(COLOURS))
    left, frames, masks = (HEIGHT - WIDTH) // 2, {}, {}
    for sequence in SEQUENCES:
        performed = studio.act(subject, sequence)
        rows = np.linspace(0, len(performed.actions) - 1, moments).round().astype(int)
        for serial in SERIALS:
            shots, alphas = [], []
            for row in rows:
                seen = studio.render(identity, performed.actions[row], performed.angles[row], rig[serial])
                image, mask = (values[:, left : left + WIDTH] for values in seen)
                alpha = mask[..., None] / 255
                shot = (image - 255.0 * (1 - alpha) + np.array(PLATE) * (1 - alpha)).round().clip(0, 255)
                shots += [shot.astype(np.uint8), np.full_like(image, 7), 255 - image]
                alphas.append(mask)
            frames[sequence, serial], masks[sequence, serial] = np.array(shots[:-2]), np.array(alphas)
            write_film(folder / f"sequences/{sequence}/images/cam_{serial}.mp4", frames[sequence, serial])
    for serial in SERIALS:
        path = folder / f"sequences/BACKGROUND/image_{serial}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), PLATE, np.uint8)).save(path, quality=100, subsampling=0)
    write_tables(root, [subject])
    return Written(root, cameras, frames, masks)


def write_tables(root: Path, people: list[str]) -> None:
    """The two tables of the dataset, for participants who recorded all sequences of this writer."""
    head = ["ID", "wears_glasses", "BACKGROUND", *SEQUENCES]
    lines = [",".join([str(int(person)), "", *["x"] * (len(head) - 2)]) for person in people]
    (root / "metadata_sequences.csv").write_text("\n".join([",".join(head), *lines]) + "\n")
    (root / "metadata_participants.csv").write_text("\n".join(["ID", *(str(int(person)) for person in people)]) + "\n")
