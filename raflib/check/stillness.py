"""How still a face stands once its images are moved by its tracks.

Each image is warped so that the projected rigid landmarks lie where they lie on average. If images and tracks belong
to the same moments, the face then stands still, and what is left is its expression. With tracks of other moments it
moves. This needs no face detection, so it works from the side and from behind, and with masks that are full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from raflib.capture import Capture

SIDE = 48
"""Pixels a side of a warped image."""
MARGIN = 0.6
"""Side of the warped part of an image over the larger extent of the projected landmarks: nose, eyes and forehead.
Ears and outline turn in other ways, so a larger part would hide the motion."""
DRAWS = 10
"""Random assignments of tracks to images that the given one is compared with."""


@dataclass(frozen=True, eq=False)
class Moving:
    """Images of one camera and the pixels of the tracks around them.

    Attributes:
        greys: [N,H,W] the images in float32.
        frame: [N] their frame numbers.
        track_frame: [M] increasing frame numbers with tracks.
        pixels: [M,K,2] projected rigid landmarks there.
        size: pixels of the larger extent of all projected landmarks.
    """

    greys: Float[np.ndarray, "N H W"]
    frame: Float[np.ndarray, "N"]
    track_frame: Float[np.ndarray, "M"]
    pixels: Float[np.ndarray, "M K 2"]
    size: float

    @property
    def motion(self) -> float:
        """Standard deviation of the landmarks' pixels over the images, over the face's size."""
        return float(np.sqrt(self.at(self.frame).var(0).sum(1).mean())) / self.size

    def at(self, frame: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N K 2"]:
        """Pixels of the landmarks at frame numbers, interpolated."""
        row = np.interp(frame, self.track_frame, np.arange(len(self.track_frame)))
        before = row.astype(int).clip(0, len(self.pixels) - 2)
        share = (row - before)[:, None, None]
        return (1 - share) * self.pixels[before] + share * self.pixels[before + 1]

    def unrest(self, pixels: Float[np.ndarray, "N K 2"]) -> float:
        """Mean absolute difference (grey levels) of the images, moved by `pixels`, from their median."""
        import cv2

        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = [
            cv2.warpAffine(grey, (self._solve @ own).T, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            for grey, own in zip(self.greys, pixels, strict=True)
        ]
        stack = np.stack(moved)
        return float(np.abs(stack - np.median(stack, 0)).mean())

    @cached_property
    def _solve(self) -> Float[np.ndarray, "3 K"]:
        """Pixels of landmarks → the affine map (transposed) from a warped image to theirs, by least squares."""
        middle = self.at(self.frame).mean(0)
        place = (middle - middle.mean(0)) / (MARGIN * self.size) * SIDE + SIDE / 2
        return np.linalg.pinv(np.concatenate([place, np.ones((len(place), 1))], 1))

    def curve(self, lags: Float[np.ndarray, "J"]) -> Float[np.ndarray, "J"]:
        """The unrest where each image takes the tracks of `lags` frames later."""
        return np.array([self.unrest(self.at(self.frame + lag)) for lag in lags])

    @cached_property
    def chance(self) -> float:
        """The mean unrest for tracks in random order."""
        rng, own = np.random.default_rng(0), self.at(self.frame)
        return max(float(np.mean([self.unrest(own[rng.permutation(len(own))]) for _ in range(DRAWS)])), 1e-9)


def moving(
    capture: Capture,
    camera: int,
    rows: Int[np.ndarray, "N"],
    tracked: Int[np.ndarray, "M"],
    images: Sequence[np.ndarray],
) -> Moving:
    """The `images` of `rows` from one camera, with the tracks of the rows `tracked` of the same sequence."""
    pixels = capture.cameras[camera].project(capture.landmarks[tracked])
    middle = pixels.mean(0)
    size = float((middle.max(0) - middle.min(0)).max())
    greys = np.stack([image.astype(np.float32).mean(2) for image in images])
    frame = capture.frame.astype(np.float64)
    return Moving(greys, frame[rows], frame[tracked], pixels[:, list(capture.groups["rigid"])], size)
