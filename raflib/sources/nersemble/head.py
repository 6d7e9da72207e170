"""Landmarks of one view, placed where the FLAME tracks say that the head is; with them FLAME's neck joint.

The benchmark gives tracks without landmarks, and a capture needs both in one frame. The face tracker finds the points
in the image, which fixes their rays. Their depths relative to each other are the tracker's; the depth of their middle
is the tracks'. So every landmark projects onto the point that was found, and moves with the tracked head.

The tracks place the middle of the rigid points at s · M · (N · (c − j) + j) + t (`raflib.sources.nersemble.flame`).
The two unknown points c and j (FLAME's metres) are the least-squares solution over all frames with a face: the middle
must lie on the ray on which the tracker sees it. c and j have normal priors around FLAME's origin, so that a person who
hardly moves gets small values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from raflib.geometry import Camera, axis_angle_to_matrix
from raflib.sources.nersemble.flame import CANONICAL, UPRIGHT, FlameTracks, neck_rotations, skull_pose
from raflib.tracking import Observation, neutral_face
from raflib.tracking.face import FOV_DEGREES
from raflib.tracking.landmarks import RIGID

RAY_ERROR, CENTRE_SPREAD, JOINT_SPREAD = 0.003, 0.1, 0.15
"""Metres: error of the middle of the rigid points across its ray, and deviations of the priors of c and j."""


@dataclass(frozen=True, eq=False)
class Head:
    """What the pose of one person needs besides the tracks: `joint` and `centre` [3], the j and c in FLAME's metres,
    and the person's `neutral` [478,3] landmarks in canonical decimetres about c."""

    joint: Float[np.ndarray, "3"]
    centre: Float[np.ndarray, "3"]
    neutral: Float[np.ndarray, "478 3"]


def landmarks_along_rays(observation: Observation, camera: Camera) -> Float[np.ndarray, "478 3"]:
    """Landmarks in the camera's frame (metres) that project onto the points found by the tracker.

    The head's distance is the one at which MediaPipe's average face has the size that was found. `observation` is of
    the camera's image.
    """
    focal = float(np.sqrt(camera.intrinsic[0, 0] * camera.intrinsic[1, 1]))
    assumed = camera.height / 2 / np.tan(np.radians(FOV_DEGREES) / 2)
    distance = -float(observation.matrix[2, 3]) / 100 * focal / assumed
    depth = distance * (1 + observation.depth.astype(np.float64) / focal)
    seen = np.concatenate([observation.points.astype(np.float64), np.ones((len(observation.points), 1))], 1)
    return seen @ np.linalg.inv(camera.intrinsic).T * depth[:, None]


def _equations(
    tracks: FlameTracks, rows: Int[np.ndarray, "K"], camera: Camera, world: Float[np.ndarray, "4 4"]
) -> tuple[Float[np.ndarray, "K 3 6"], Float[np.ndarray, "K 3"]]:
    """(A, b) with A · (c, j) + b the middle of the rigid points in the camera's frame, in the frames `rows`."""
    matrices, neck = tracks.matrices[rows], neck_rotations(tracks)[rows]
    motion = camera.extrinsic @ world
    outer = tracks.scale * motion[:3, :3] @ matrices
    unknown = np.concatenate([outer @ neck, outer @ (np.eye(3) - neck)], 2)
    return unknown, tracks.translation[rows] @ motion[:3, :3].T + motion[:3, 3]


Recording = tuple[FlameTracks, Int[np.ndarray, "_"], Float[np.ndarray, "_ 478 3"]]
"""The tracks of a sequence, some of its rows, and the landmarks found there in the camera's frame."""


def find_head(recordings: list[Recording], camera: Camera, world: Float[np.ndarray, "4 4"]) -> Head:
    """The head of one person.

    Args:
        recordings: each sequence with its complete rows in which a face was found (`landmarks_along_rays`).
        camera: the view, in the capture's world.
        world: the motion from the benchmark's world to the capture's.
    """
    parts = [_equations(tracks, rows, camera, world) for tracks, rows, _ in recordings]
    landmarks = np.concatenate([seen for _, _, seen in recordings])
    unknown, known = (np.concatenate(part) for part in zip(*parts, strict=True))
    middle = landmarks[:, RIGID].mean(1)
    across = middle[:, :2] / middle[:, 2:]
    left = unknown[:, :2] - across[..., None] * unknown[:, 2:]
    right = across * known[:, 2:] - known[:, :2]
    prior = np.diag(RAY_ERROR / np.repeat([CENTRE_SPREAD, JOINT_SPREAD], 3))
    solution = np.linalg.lstsq(
        np.concatenate([left.reshape(-1, 6), prior]), np.concatenate([right.ravel(), np.zeros(6)]), rcond=None
    )[0]
    centre, joint = solution[:3], solution[3:]

    # Sequences may differ in scale, so the neutral face is found in metres of FLAME.
    places, poses = [], []
    for tracks, rows, seen in recordings:
        places.append(place_landmarks(tracks, rows, seen, (centre, joint), camera, world) / tracks.scale)
        pose = skull_pose(tracks, joint, centre, world)[0][rows]
        poses.append(pose / np.repeat([1.0, tracks.scale], 3))
    pose = np.concatenate(poses)
    neutral, moved, _ = neutral_face(np.concatenate(places), pose, CANONICAL)
    turn = axis_angle_to_matrix(torch.from_numpy(pose[0, :3])).numpy()
    shift = turn.T @ (moved[0, 3:].astype(np.float64) - pose[0, 3:])  # FLAME's metres, canonical axes
    return Head(joint, centre + UPRIGHT @ shift, neutral)


def place_landmarks(
    tracks: FlameTracks,
    rows: Int[np.ndarray, "K"],
    landmarks: Float[np.ndarray, "K 478 3"],
    points: tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]],
    camera: Camera,
    world: Float[np.ndarray, "4 4"],
) -> Float[np.ndarray, "K 478 3"]:
    """World landmarks (metres) of the frames `rows`: each along its ray, their middle as far away as the tracks say.

    `landmarks` are in the camera's frame, `points` are c and j, and `camera` and `world` are those of `find_head`.
    """
    unknown, known = _equations(tracks, rows, camera, world)
    depth = unknown[:, 2] @ np.concatenate(points) + known[:, 2]
    seen = landmarks * (depth / landmarks[:, RIGID, 2].mean(1))[:, None, None]
    return (seen - camera.extrinsic[:3, 3]) @ camera.extrinsic[:3, :3]
