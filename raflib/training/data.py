"""Training images: which (frame, camera) pairs, at which size, in which order.

Pairs are sampled once from the seed, and the order of a cycle from (seed, cycle). The images of step s are therefore a
function of s alone: a resumed run continues exactly, and images of the next steps can be read ahead. A cycle visits
each pair once, so it is as many epochs of `TrainConfig` as a frame has steps in it. With `favour_expressive` it visits
expressive frames more often, because most frames of a recording are nearly neutral.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from raflib.capture import Capture
from raflib.config import TrainConfig
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.images import face_box, shrunk
from raflib.training.cache import ImageCache

AHEAD = 8
"""Steps whose images are read ahead when not all of them fit into memory."""


def random_square(box: Int[Tensor, "4"], size: int, full: int, generator: torch.Generator) -> tuple[int, int, int]:
    """A square (x, y, size) inside an image of `full` pixels whose centre lies inside `box`, as far as that fits."""
    x, y, width, height = box.tolist()
    jitter = torch.rand(2, generator=generator).tolist()
    left = round(x + jitter[0] * width - size / 2)
    top = round(y + jitter[1] * height - size / 2)
    return min(max(left, 0), full - size), min(max(top, 0), full - size), size


@dataclass(frozen=True)
class Shot:
    """One training example: a frame seen by V cameras.

    Attributes:
        t: index of the frame in the capture.
        cameras: the views, at the rendered size.
        images: true images in [0,1], at the upsampled size.
        pose: tracked head pose (radians, metres).
        scale: metres a canonical unit.
        torso: motion of the torso (radians, metres); None where the capture has none.
        boxes: face boxes (x, y, width, height) in pixels of the rendered size, always on the CPU.
    """

    t: int
    cameras: list[Camera]
    images: Float[Tensor, "V F F 3"]
    pose: Float[Tensor, "1 6"]
    scale: Float[Tensor, "1"]
    torso: Float[Tensor, "1 6"] | None
    boxes: Int[Tensor, "V 4"]


class TrainingImages:
    """The training images of a capture, as bytes: squares of `config.size` × `config.avatar.upsampling` pixels.

    At most `config.cache_gib` GiB of them stay in memory, the others are read again shortly before
    their step. Examples are on `device`. Call `close` when no more are needed.
    """

    def __init__(self, capture: Capture, cameras: list[int], config: TrainConfig, device: torch.device | str = "cpu"):
        train = np.flatnonzero(capture.train)
        rng = np.random.default_rng([config.seed, 7])
        views = min(config.views_per_frame, len(cameras))
        self.pairs = [(int(t), int(c)) for t in train for c in rng.permutation(cameras)[:views]]
        if not self.pairs:
            raise RafError(f"capture {capture.subject}: no training frame with a face")
        prefetch = getattr(capture.frames, "prefetch", None)
        if prefetch is not None:
            prefetch(self.pairs)
        self.seed, size, self.full = config.seed, config.size, config.size * config.avatar.upsampling
        seen = (capture.cameras[c] for c in cameras)
        small = next((camera for camera in seen if min(camera.width, camera.height) < self.full), None)
        if small is not None:
            raise RafError(
                f"capture {capture.subject}: camera {small.name} filmed {small.width}×{small.height} pixels, training "
                f"wants {self.full} (size {size} × upsampling {config.avatar.upsampling}) and enlarges nothing; film "
                "larger images or lower the size"
            )
        self.cameras = [capture.cameras[c].resized(size, size) for _, c in self.pairs]
        self._capture = capture
        self.cache = ImageCache(self._read, len(self.pairs), (self.full, self.full, 3), int(config.cache_gib * 2**30))
        boxes = [
            face_box(capture.landmarks[t], camera) for (t, _), camera in zip(self.pairs, self.cameras, strict=True)
        ]
        self.boxes = torch.tensor(boxes)
        self.device = torch.device(device)
        self.pose = torch.from_numpy(capture.pose.astype(np.float32)).to(device)
        self.scale = torch.from_numpy(capture.scale.astype(np.float32)).to(device)
        self.torso = None
        if capture.torso is not None:
            self.torso = torch.from_numpy(capture.torso.astype(np.float32)).to(device)
        together = min(config.views_per_step, views)
        firsts = [k for k in range(len(self.pairs)) if k % views % together == 0]  # a frame has `views` pairs in a row
        ends = [min(k + together, k - k % views + views) for k in firsts]
        self.groups = [list(range(first, end)) for first, end in zip(firsts, ends, strict=True)]
        self.share = _expressiveness(capture, [self.pairs[first][0] for first in firsts], config.favour_expressive)
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        """Number of steps in a cycle."""
        return len(self.groups)

    def shot(self, step: int) -> Shot:
        """The example of training step `step`. RafError naming the image when it cannot be read."""
        group = self._group(step)
        ahead: list[int] = []
        if self.cache.kept < len(self.pairs):
            ahead = [index for later in range(1, AHEAD + 1) for index in self._group(step + later)]
        read = [self.cache.get(index, [*group[k + 1 :], *ahead]) for k, index in enumerate(group)]
        images = torch.from_numpy(np.stack(read)).to(self.device).float().div_(255)
        t = self.pairs[group[0]][0]
        cameras, rows = [self.cameras[index] for index in group], slice(t, t + 1)
        torso = None if self.torso is None else self.torso[rows]
        return Shot(t, cameras, images, self.pose[rows], self.scale[rows], torso, self.boxes[group])

    def close(self) -> None:
        """Stop reading ahead."""
        self.cache.close()

    def _group(self, step: int) -> list[int]:
        cycle, place = divmod(step, len(self.groups))
        if cycle not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e == cycle - 1}
            self._orders[cycle] = self._shuffled(cycle)
        return self.groups[self._orders[cycle][place]]

    def _read(self, index: int) -> UInt8[np.ndarray, "F F 3"]:
        t, c = self.pairs[index]
        try:
            return np.array(shrunk(self._capture.image(t, c), self.full), order="C")
        except RafError:
            raise
        except Exception as error:  # a source may raise anything, also in another thread; the message names the image
            path = getattr(self._capture.frames, "path", None)
            where = f"frame {self._capture.sequence[t]}/{self._capture.frame[t]}, camera {self.cameras[index].name}"
            if path is not None:
                where = f"{path(t, c)} ({where})"
            raise RafError(f"{where}: the image cannot be read ({type(error).__name__}: {error})") from error

    def _shuffled(self, cycle: int) -> Int[np.ndarray, "G"]:
        """Systematic sampling: a group's number of visits is its share of the cycle, rounded up or down at random."""
        rng = np.random.default_rng([self.seed, 8, cycle])
        visits = np.diff(np.floor(np.cumsum(self.share) + rng.random()), prepend=0).astype(int)
        order = np.repeat(np.arange(len(self.groups)), visits)
        return rng.permutation(np.resize(order, len(self.groups)))  # rounding may make it one too short


def _expressiveness(capture: Capture, frames: list[int], strength: float) -> Float[np.ndarray, "G"]:
    """Visits of each group in a cycle, 1 on average: (1 − s) + s · (distance from the mean expression / its mean).

    All groups are visited equally often where the expressions do not differ.
    """
    expression = capture.expression[frames]
    distance = np.linalg.norm(expression - expression.mean(0), axis=1)
    if distance.mean() <= 1e-6 * np.abs(expression).max():
        return np.ones(len(frames))
    return (1 - strength) + strength * distance / distance.mean()
