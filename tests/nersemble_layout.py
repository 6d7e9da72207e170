"""Folders in the layouts of the public NeRSemble benchmark, filled with people of the open studio.

FLAME tracks are made from the true motion: x = s · M · (N · (v − j) + j) + t places the studio's head exactly, with a
neck that turns on its own. Expression codes are a fixed linear map of the true actions to 100 numbers.
"""

import json
from functools import cache
from pathlib import Path

import av
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from raflib import studio
from raflib.geometry import axis_angle_to_matrix
from raflib.sources.nersemble.names import MONO, MONO_SERIALS, NVS, NVS_SERIALS, SERIALS

SCALE, JOINT, ORIGIN = 1.05, np.array([0.0, -0.1, -0.03]), np.array([0.004, 0.01, -0.02])
"""FLAME's metres in the world, its neck joint, and where its origin lies in the studio's neutral head."""
UPRIGHT = np.diag([1.0, -1.0, -1.0])
CODES = np.random.default_rng(100).normal(0, 0.3, (52, 100))


def write_film(path: Path, images, **options) -> None:
    """A film without loss, 24 frames a second; `options` are those of the container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264rgb", rate=24, options={"crf": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())


@cache
def performed(subject: str, sequence: str, count: int):
    """(actions, angles) of `count` evenly spaced frames of a sequence."""
    act = studio.act(subject, sequence)
    rows = np.linspace(0, len(act.actions) - 1, count).round().astype(int)
    return act.actions[rows], act.angles[rows]


def flame_tracks(subject: str, actions, angles, world) -> dict:
    """The arrays of `flame2023_tracking_v2.npz` for a performance; `world` moves the studio's world."""
    rng = np.random.default_rng([int(subject), len(actions)])
    head = np.stack([studio.head_pose(studio.Identity(subject), each) for each in angles]).astype(float)
    turn = axis_angle_to_matrix(torch.from_numpy(head[:, :3])).numpy()
    neck = rng.normal(0, 0.12, (len(head), 3))
    neck_matrix = axis_angle_to_matrix(torch.from_numpy(neck)).numpy()
    matrices = world[:3, :3] @ turn @ UPRIGHT @ neck_matrix.swapaxes(1, 2)
    place = (turn @ ORIGIN + head[:, 3:]) @ world[:3, :3].T + world[:3, 3]
    place -= SCALE * np.einsum("tij,tj->ti", matrices, JOINT - neck_matrix @ JOINT)
    values = {
        "shape": np.random.default_rng(int(subject)).normal(size=(1, 300)), "expression": actions @ CODES,
        "rotation": Rotation.from_matrix(matrices).as_euler("XYZ"), "rotation_matrices": matrices,
        "translation": place, "jaw": rng.normal(0, 0.1, (len(head), 3)), "neck": neck,
        "eyes": rng.normal(0, 0.1, (len(head), 6)), "scale": np.array([[SCALE]]),
    }  # fmt: skip
    frames = {"frames": np.arange(len(head), dtype=np.int64) * 3}
    return {name: value.astype(np.float32) for name, value in values.items()} | frames


def write_calibration(person: Path, serials, size, world, widen=(0, 0)) -> None:
    """`camera_params.json` of square studio cameras, their images widened by (x, y) pixels on all sides."""
    cameras = {camera.name: camera for camera in studio.rig(size) if camera.name in serials}
    back = np.linalg.inv(world)
    values = {"world_2_cam": {}, "intrinsics": {}}
    for serial in serials:
        wide = cameras[serial].cropped(-widen[0], -widen[1], size + 2 * widen[0], size + 2 * widen[1])
        values["world_2_cam"][serial] = (wide.extrinsic @ back).tolist()
        values["intrinsics"][serial] = wide.intrinsic.tolist()
    (person / "calibration").mkdir(parents=True, exist_ok=True)
    (person / "calibration" / "camera_params.json").write_text(json.dumps(values))


def write_sequence(folder: Path, subject, actions, angles, serials, size, widen=(0, 0)) -> None:
    """Films and alpha maps of one sequence."""
    identity = studio.Identity(subject)
    for camera in (camera for camera in studio.rig(size) if camera.name in serials):
        made = [studio.render(identity, *act, camera) for act in zip(actions, angles, strict=True)]
        pad = [(widen[1],) * 2, (widen[0],) * 2, (0, 0)]
        write_film(folder / "images" / f"cam_{camera.name}.mp4", [np.pad(i, pad, constant_values=255) for i, _ in made])
        masks = [np.pad(np.repeat(m[..., None], 3, 2), pad) for _, m in made]
        write_film(folder / "alpha_maps" / f"cam_{camera.name}.mp4", masks)


def write_mono(root: Path, subject: str, sequences: dict, size=80, unfilmed=(), world=None) -> Path:
    """A person of the monocular layout; `sequences` are the frame counts by name. `unfilmed` ones have tracks only."""
    person, world = root / MONO / subject, np.eye(4) if world is None else world
    write_calibration(person, MONO_SERIALS, size, world)
    for name, count in sequences.items():
        folder, act = person / "sequences" / name, performed(subject, name, count)
        (folder / "tracking").mkdir(parents=True)
        np.savez(folder / "tracking" / "flame2023_tracking_v2.npz", **flame_tracks(subject, *act, world))
        if name not in unfilmed:
            write_sequence(folder, subject, *act, MONO_SERIALS[:1], size)
    return person


def write_nvs(root: Path, subject: str, sequence: str, count=9, size=64, serials=NVS_SERIALS[:4]) -> Path:
    """A person of the novel-view layout, whose images are higher than wide."""
    person = root / NVS / subject
    write_calibration(person, SERIALS, size, np.eye(4), (0, 16))
    act = performed(subject, sequence, count)
    write_sequence(person / "sequences" / sequence, subject, *act, serials, size, (0, 16))
    return person
