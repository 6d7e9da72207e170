"""Metrics from the features of a network that regresses something from a face crop, with weights that the user brings.

A family of metrics is one file in `metrics/`: it makes a `Regressor` and calls `register_pair` for each distance. The
render and the image that it is compared with go through the same network. Both crops come from the tracker's landmarks,
and a render never chooses its own crop where there is a true image from the same camera: it gets the true image's. In
comparisons with the driver, the driver's image has its own landmarks. Frames without a face have no value (NaN).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Real
from torch import Tensor

from raflib.evaluation.metrics.base import Target, register_against_both
from raflib.evaluation.weights import Weights
from raflib.tracking.landmarks import IBUG68

Frame = Callable[[Float[np.ndarray, "478 2"]], Float[np.ndarray, "2 3"]]
"""Landmarks in pixels (centres at +0.5) → matrix from pixels of the crop to pixels of the image (centres at 0)."""
Distance = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network with weights from elsewhere.

    Attributes:
        name: of the network, as in tags.
        weights: the files that it needs.
        build: makes the network from `weights`.
    """

    name: str
    weights: tuple[Weights, ...]
    build: Callable[..., Any]

    def missing(self) -> str | None:
        """One sentence about the first file that is missing; None if all are there."""
        return next((line for line in (file.missing() for file in self.weights) if line), None)

    def load(self) -> None:
        """Load `network`, with its errors."""
        _ = self.network

    @cached_property
    def network(self) -> Any:
        """The network, loaded once. RafError naming a file that is missing, damaged or of another network."""
        return self.build(*self.weights)


@dataclass(frozen=True, eq=False)
class Regressor(Loaded):
    """A network that reads a square face crop: RGB [1,3,size,size] in [0,1] → features [1,n].

    Attributes:
        size: width and height of the crop in pixels.
        frame: where the crop is, from the landmarks.
    """

    size: int
    frame: Frame
    _recent: deque = field(default_factory=lambda: deque(maxlen=4), repr=False)

    def features(self, image: Real[np.ndarray, "H W 3"], points: Float[np.ndarray, "478 2"]) -> Float[np.ndarray, " n"]:
        """The network's output for the face at the landmarks `points` of an image, uint8 or float in [0,1].

        The results of the last four calls are kept, because several metrics compare the same images.
        """
        for seen, where, found in self._recent:
            if seen is image and where is points:
                return found
        with torch.no_grad():
            found = self.network(warped(image, self.frame(points), self.size))[0].double().numpy()
        self._recent.append((image, points, found))
        return found


def warped(image: Real[np.ndarray, "H W 3"], matrix: Float[np.ndarray, "2 3"], size: int) -> Float[Tensor, "1 3 S S"]:
    """A square crop, bilinear, black outside of the image; `matrix` as in `Frame`."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    pixels = pixels.float() / 255 if image.dtype == np.uint8 else pixels.float()
    across = np.stack([*np.meshgrid(np.arange(size), np.arange(size)), np.ones((size, size))], -1) @ matrix.T
    height, width = image.shape[:2]
    grid = torch.from_numpy(2 * across / np.maximum([width - 1, height - 1], 1) - 1).float()[None]
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def box68(points: Float[np.ndarray, "478 2"]) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """Centre and size (x, y) of the box around the 68 landmarks of iBUG, in pixels with centres at 0."""
    face = np.asarray(points, np.float64)[list(IBUG68)] - 0.5
    low, high = face.min(0), face.max(0)
    return (low + high) / 2, high - low


def l1(part: slice) -> Distance:
    """Mean absolute difference of a part of the features."""
    return lambda x, y: float(np.abs(x[part] - y[part]).mean())


def cosine(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Cosine of the angle between two features; NaN if one of them is 0."""
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / length if length else float("nan")


def compared(regressor: Regressor, distance: Distance, reference: str) -> Callable[..., float]:
    """`distance` between the features of a render and of another image, as the function of a `Metric`.

    `reference` is the field of `Target` with the observation of the other image: "driver_face" or "face".
    """

    def score(rendered: np.ndarray, face: Any, target: Target) -> float:
        wanted = getattr(target, reference)
        if face is None or wanted is None:
            return float("nan")
        image = target.image if wanted is target.face else target.driver_image
        assert image is not None  # an observation has an image
        own = target.face if target.face is not None and target.same_pose else face
        return distance(regressor.features(rendered, own.points), regressor.features(image, wanted.points))

    return score


def register_pair(tag: str, better: str, about: str, regressor: Regressor, distance: Distance) -> None:
    """Register a metric against the driver's image (`tag`) and against the true image (`tag`/truth)."""
    register_against_both(tag, better, about, partial(compared, regressor, distance), regressor)
