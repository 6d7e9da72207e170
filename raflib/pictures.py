"""The pictures a training looks at: which (frame, camera) pairs, at which size, in which order.

Pairs are drawn once from the seed and the order of an epoch from (seed, epoch), so that the picture of step s is a
function of s alone and a resumed run continues exactly. An epoch visits each pair once, or expressive frames more often
and mild ones less (`favour_expressive`): most frames of a recording are mild, and teach little about expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from raflib.capture import Capture
from raflib.config import TrainConfig
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.perceptual import MIN_SIDE

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""
MARGIN = 0.15
"""How far the face crop reaches beyond the landmarks, as a share of their larger side."""


def most_frontal(cameras: Sequence[Camera], count: int) -> list[int]:
    """Indices of the `count` cameras whose axes are nearest to the frontal camera's (+z), most frontal first."""
    return [int(i) for i in np.argsort([-camera.extrinsic[2, 2] for camera in cameras], kind="stable")[:count]]


def choose_cameras(capture: Capture, count: int, choice: str = "spread") -> list[int]:
    """Indices of `count` cameras (all if there are fewer): "spread" over the capture's views by azimuth, or "frontal",
    those nearest to the front."""
    if choice not in ("spread", "frontal"):
        raise RafError(f"camera_choice is {choice!r}; choose 'spread' or 'frontal'")
    if choice == "frontal":
        return sorted(most_frontal(capture.cameras, count))
    azimuth = [np.arctan2(camera.centre[0], -camera.centre[2]) for camera in capture.cameras]
    order = np.argsort(azimuth, kind="stable")
    picked = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return sorted(int(order[index]) for index in picked)


def face_box(landmarks: Float[np.ndarray, "L 3"], camera: Camera, margin: float = MARGIN) -> Box:
    """Integer box (x, y, width, height) around the projected landmarks, inside the picture.

    `landmarks` [L,3] world metres (NaN rows are skipped) of the *target* frame. The box is widened by `margin` × its
    larger side on every side, cut at the picture's border, and never smaller than the perceptual network takes.
    Raises RafError when no landmark is in front of the camera.
    """
    points = camera.project(landmarks)
    points = points[np.isfinite(points).all(-1)]
    if not len(points):
        raise RafError(
            f"face crop: no landmark projects into camera {camera.name}; is the face detected in this frame?"
        )
    low, high = points.min(0), points.max(0)
    pad = margin * float((high - low).max())
    box = []
    for first, last, limit in zip(low - pad, high + pad, (camera.width, camera.height), strict=True):
        first, last = np.clip(np.floor(first), 0, limit), np.clip(np.ceil(last), 0, limit)
        size = int(max(last - first, min(MIN_SIDE, limit)))
        box.append((int(np.clip(first, 0, limit - size)), size))
    (x, width), (y, height) = box
    return x, y, width, height


@dataclass(frozen=True)
class Shot:
    """One training example: frame index `t`, camera, picture [1,H,W,3] in [0,1], pose [1,6], scale [1], face box."""

    t: int
    camera: Camera
    picture: Float[Tensor, "1 H W 3"]
    pose: Float[Tensor, "1 6"]
    scale: Float[Tensor, "1"]
    box: Int[Tensor, "1 4"]

    def crop(self, size: int, full: int, generator: torch.Generator) -> tuple[int, int, int]:
        """A random square (x, y, size) whose centre lies inside the face box."""
        x, y, width, height = self.box[0].tolist()
        jitter = torch.rand(2, generator=generator).tolist()
        left = round(x + jitter[0] * width - size / 2)
        top = round(y + jitter[1] * height - size / 2)
        return min(max(left, 0), full - size), min(max(top, 0), full - size), size


class Pictures:
    """All training pictures of a capture in memory as bytes, `config.size` pixels square."""

    def __init__(self, capture: Capture, cameras: list[int], config: TrainConfig):
        train = np.flatnonzero(capture.train)
        rng = np.random.default_rng([config.seed, 7])
        views = min(config.views_per_frame, len(cameras))
        self.pairs = [(int(t), int(c)) for t in train for c in rng.permutation(cameras)[:views]]
        if not self.pairs:
            raise RafError(f"capture {capture.subject}: no training frame with a face")
        prefetch = getattr(capture.frames, "prefetch", None)
        if prefetch is not None:
            prefetch(self.pairs)
        self.seed, size = config.seed, config.size
        self.cameras = [capture.cameras[c].resized(size, size) for _, c in self.pairs]
        self.images = np.stack([_shrunk(capture.image(t, c), size) for t, c in self.pairs])
        boxes = [
            face_box(capture.landmarks[t], camera) for (t, _), camera in zip(self.pairs, self.cameras, strict=True)
        ]
        self.boxes = torch.tensor(boxes)
        self.pose = torch.from_numpy(capture.pose.astype(np.float32))
        self.scale = torch.from_numpy(capture.scale.astype(np.float32))
        self.share = _expressiveness(capture, [t for t, _ in self.pairs], config.favour_expressive)
        self._epoch, self._order = -1, np.empty(0, int)

    def __len__(self) -> int:
        return len(self.pairs)

    def shot(self, step: int) -> Shot:
        """The example of training step `step`."""
        epoch, place = divmod(step, len(self.pairs))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        index = int(self._order[place])
        t = self.pairs[index][0]
        picture = torch.from_numpy(self.images[index]).float().div_(255)[None]
        rows = slice(t, t + 1)
        return Shot(t, self.cameras[index], picture, self.pose[rows], self.scale[rows], self.boxes[index : index + 1])

    def _shuffled(self, epoch: int) -> np.ndarray:
        """Systematic sampling: a picture's number of visits is its share of the epoch, rounded up or down by chance."""
        rng = np.random.default_rng([self.seed, 8, epoch])
        visits = np.diff(np.floor(np.cumsum(self.share) + rng.random()), prepend=0).astype(int)
        order = np.repeat(np.arange(len(self.pairs)), visits)
        return rng.permutation(np.resize(order, len(self.pairs)))  # rounding may make it one too short


def _expressiveness(capture: Capture, frames: list[int], strength: float) -> np.ndarray:
    """Visits an epoch of each picture, 1 on average: (1 − s) + s · (distance from the mean expression / its mean)."""
    expression = capture.expression[frames]
    distance = np.linalg.norm(expression - expression.mean(0), axis=1)
    return (1 - strength) + strength * distance / max(distance.mean(), 1e-9)


def _shrunk(image: np.ndarray, size: int) -> np.ndarray:
    if image.shape[:2] == (size, size):
        return image
    if image.shape[0] != image.shape[1]:
        raise RafError(
            f"training needs square pictures, got {image.shape[1]}×{image.shape[0]}; crop them in the source"
        )
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))
