"""What a puppet shows, without a widget: trained avatars with one expression, one head pose and one camera.

A `View` describes an image, a `Scene` renders it. The renderer is `raflib.rasterize`, through `Run.render`: an image of
the scene is the image that an evaluation would score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from raflib.capture import Capture, most_frontal
from raflib.coverage.identity import REST, neutral
from raflib.errors import RafError, finite, whole
from raflib.geometry import HEAD_DEPTH, Camera, transform_points
from raflib.training import Run

SIZE = 256
"""Longest side of an image in pixels, for avatars without an upsampler."""
NECK = np.array([0.0, 1.0, 0.6])
"""Where the head turns when a capture does not tell: below and behind the rigid landmarks (canonical, dm)."""
CERTAIN = 1e-2
"""Weight of `NECK` against a capture. About 6 degrees of head motion (standard deviation) outweigh it."""
LIMITS = {"elevation": (-85.0, 85.0), "zoom": (0.5, 6.0)}
"""Smallest and largest elevation (degrees) and zoom."""


@dataclass(frozen=True, eq=False)
class View:
    """What the avatars do, and from where they are seen.

    Attributes:
        expression: [d] expression vector.
        pose: [6] head pose before it is turned, axis-angle (radians) then translation (metres).
        yaw, pitch, roll: turn of the head in degrees, about the neck. Yaw turns the nose to the image's right, pitch
            raises it, roll tips the crown to the image's right.
        azimuth, elevation: how far the camera has moved around the head, in degrees to the image's right and upwards.
        zoom: factor of the focal length.
    """

    expression: Float[np.ndarray, "d"]
    pose: Float[np.ndarray, "6"]
    yaw: float | int = 0.0
    pitch: float | int = 0.0
    roll: float | int = 0.0
    azimuth: float | int = 0.0
    elevation: float | int = 0.0
    zoom: float | int = 1.0


class Scene:
    """Avatars of one person side by side, each a trained `Run`, with the cameras and training frames of a capture.

    Attributes:
        runs: the avatars, from left to right.
        camera: the most frontal camera of the capture at the size of the images.
        start: the neutral view: the person's neutral expression and the median head pose, from the front.
        pivot: [3] where the head turns (canonical, dm).

    Args:
        runs: one run, or several of the same person and feature space.
        capture: a recording of this person, whose cameras and training frames are used.
        size: longest side of an image in pixels. By default 256, and with an upsampler the size it was trained for.

    Raises RafError for runs of another person than the capture's, other widths of the expression or other sizes.
    """

    def __init__(self, runs: Run | Sequence[Run], capture: Capture, size: int | None = None):
        self.runs = [runs] if isinstance(runs, Run) else list(runs)
        _check(self.runs, capture)
        first = self.runs[0]
        factor = max(run.config.avatar.upsampling for run in self.runs)
        size = (SIZE if factor == 1 else first.config.size * factor) if size is None else whole("size", size, 16, 4096)
        view = capture.cameras[most_frontal(capture.cameras, 1)[0]]
        ratio = size / max(view.width, view.height)
        self.camera = view.resized(
            *(max(1, round(side * ratio / factor)) * factor for side in (view.width, view.height))
        )
        self.scale = float(first.avatar.median_scale)
        pose = first.avatar.median_pose.cpu().numpy().astype(np.float64)
        self.start = View(neutral(capture.expression[capture.train], REST).astype(np.float64), pose)
        self.pivot = turning_point(capture.pose[capture.train], capture.scale[capture.train])
        self._centre = _in_world(np.array([0.0, 0.0, HEAD_DEPTH]), pose, self.scale)

    @property
    def labels(self) -> list[str]:
        """A name for each avatar: its method, and the folder's name where two have the same method."""
        methods = [run.method for run in self.runs]
        return [m if methods.count(m) == 1 else run.path.name for m, run in zip(methods, self.runs, strict=True)]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images, all avatars together."""
        return self.camera.height, self.camera.width * len(self.runs)

    def image(self, view: View) -> UInt8[np.ndarray, "H W 3"]:
        """The image of all avatars side by side. RafError for an expression of another width or a number not finite."""
        expression = np.asarray(view.expression, np.float32)[None]
        if not (np.isfinite(expression).all() and np.isfinite(view.pose).all()):
            raise RafError("puppet: the expression or the head pose holds NaN; leave frames without a face out")
        pose, scale = self.pose(view).astype(np.float32)[None], np.array([self.scale], np.float32)
        images = [run.render(expression, pose, scale, [self.seen_from(view)])[0] for run in self.runs]
        return (np.concatenate(images, 1) * 255).round().astype(np.uint8)

    def pose(self, view: View) -> Float[np.ndarray, "6"]:
        """The view's head pose after its turn by yaw, pitch and roll about the neck; axes are those of the world."""
        turn = _rotation(view.yaw, view.pitch, view.roll)
        if turn.magnitude() == 0:
            return np.asarray(view.pose, np.float64)
        still = _in_world(self.pivot, view.pose, self.scale)
        turned = (turn * Rotation.from_rotvec(np.asarray(view.pose[:3], np.float64))).as_rotvec()
        return np.concatenate([turned, turn.apply(view.pose[3:] - still) + still])

    def seen_from(self, view: View) -> Camera:
        """The camera of a view: the capture's frontal camera, moved around the head's middle."""
        azimuth = finite("azimuth (degrees)", view.azimuth)
        elevation = finite("elevation (degrees)", view.elevation, *LIMITS["elevation"])
        zoom = finite("zoom", view.zoom, *LIMITS["zoom"])
        lens = self.camera.intrinsic * np.array([[zoom, zoom, 1], [zoom, zoom, 1], [1, 1, 1]])
        moved = self.camera.orbited(self._centre, math.radians(azimuth), math.radians(elevation))
        return replace(moved, intrinsic=lens)


def turning_point(pose: Float[np.ndarray, "T 6"], scale: Float[np.ndarray, "T"]) -> Float[np.ndarray, "3"]:
    """The point of the head that moves least over these head poses: where the neck turns (canonical, dm).

    With R, t and s of each frame, it is the p of min over p and q of mean ‖R (s p) + t − q‖² + λ ‖s (p − NECK)‖². The
    last term decides where the head hardly turns.
    """
    size = float(np.median(scale))
    turns = Rotation.from_rotvec(np.asarray(pose[:, :3], np.float64)).as_matrix() * size
    turns = turns - turns.mean(0)
    moves = pose[:, 3:].astype(np.float64) - pose[:, 3:].mean(0, dtype=np.float64)
    weight = CERTAIN * size**2
    system = np.einsum("tij,tik->jk", turns, turns) / len(pose) + weight * np.eye(3)
    return np.linalg.solve(system, weight * NECK - np.einsum("tij,ti->j", turns, moves) / len(pose))


def _rotation(yaw: float | int, pitch: float | int, roll: float | int) -> Rotation:
    """The rotation of these degrees in world axes, with the signs of `View`."""
    return Rotation.from_euler("YXZ", [-yaw, -pitch, roll], degrees=True)


def _in_world(point: np.ndarray, pose: np.ndarray, scale: float) -> Float[np.ndarray, "3"]:
    """A canonical point (dm) in the world (metres), carried by the head."""
    values = (torch.from_numpy(np.array(value, np.float64)) for value in (point[None], pose, scale))
    return transform_points(*values)[0].numpy()


def _check(runs: Sequence[Run], capture: Capture) -> None:
    if not runs:
        raise RafError("puppet: no run; give one trained avatar or several")
    width = capture.expression.shape[1]
    for run in runs:
        if run.subject != capture.subject:
            raise RafError(
                f"puppet: {run.path} is an avatar of {run.subject}, but the capture is of {capture.subject}; give a "
                "capture of the avatar's own person"
            )
        if run.config.avatar.expression_dim != width:
            raise RafError(
                f"puppet: {run.path} was trained on {run.config.avatar.expression_dim} features, but the capture has "
                f"{width} ({capture.feature_space}); open the capture in the avatar's feature space"
            )
    if len({run.config.avatar.upsampling for run in runs}) > 1:
        raise RafError("puppet: the runs have upsamplers of different factors; show them one by one")
    if not capture.train.any():
        raise RafError(f"puppet: capture {capture.subject} has no training frame with a face")
