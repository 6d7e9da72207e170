"""Splits of the squared error of an image: by region, by frequency band, and constant or varying over time.

The parts of each split add up to the whole squared error.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, UInt8

from raflib.capture import Capture
from raflib.evaluation.image_regions import NAMES
from raflib.geometry import Camera
from raflib.images import face_box

WAVELENGTHS = (32.0, 16.0, 8.0, 4.0)
BANDS = ("mean", "above 32", "16 to 32", "8 to 16", "4 to 8", "below 4")
"""Frequency bands, named by wavelength in pixels of the image. "mean" is the image's mean colour."""
KINDS = ("constant", "brightness", "varying")
"""Kinds of error, defined in `kind_energies`."""
SIDE = 128
"""Largest side of a head-aligned crop, in pixels."""


def region_errors(
    difference: Float[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"]
) -> tuple[Float[np.ndarray, "R"], Int[np.ndarray, "R"]]:
    """Sum of the squared difference, and number of pixels, of each region of `image_regions.NAMES`."""
    squared = np.square(difference, dtype=np.float64).sum(-1)
    places, count = labels.ravel(), len(NAMES)
    return np.bincount(places, squared.ravel(), count), np.bincount(places, minlength=count)


def band_energies(values: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "B"]:
    """Sum of the squares of an image in each of `BANDS`.

    A band is a ring of the orthonormal cosine transform, which sees no jump at the image's borders. Its element (i, j)
    has the frequency √((i/2h)² + (j/2w)²) in cycles per pixel.
    """
    from scipy.fft import dctn

    squared = np.square(dctn(values.astype(np.float64), axes=(0, 1), norm="ortho")).sum(-1)
    height, width = squared.shape
    frequency = np.hypot(np.arange(height)[:, None] / (2 * height), np.arange(width) / (2 * width))
    band = 1 + np.searchsorted(1 / np.array(WAVELENGTHS), frequency, side="right")
    band[0, 0] = 0
    return np.bincount(band.ravel(), squared.ravel(), len(BANDS))


def kind_energies(
    renders: Float[np.ndarray, "F h w 3"], truths: Float[np.ndarray, "F h w 3"]
) -> Float[np.ndarray, "K"]:
    """Squared error of the frames of one view in each of `KINDS`.

    * constant: the squared mean of the error over the frames. Of errors that are unrelated from frame to frame, 1/F is
      counted here.
    * brightness: what a multiple of each render, added to it, would remove from the rest.
    * varying: what is left. It changes with expression and pose.
    """
    error = renders.astype(np.float64) - truths
    mean = error.mean(0)
    rest = error - mean
    along = np.einsum("fhwc,fhwc->f", rest, renders)
    power = np.einsum("fhwc,fhwc->f", renders, renders, dtype=np.float64)
    brightness = (along**2 / np.maximum(power, 1e-12)).sum()
    return np.array([len(error) * np.square(mean).sum(), brightness, np.square(rest).sum() - brightness])


def aligned_grids(capture: Capture, rows: Int[np.ndarray, "F"], camera: Camera) -> Iterator[Float[np.ndarray, "2 s s"]]:
    """Image positions (row, column) of a square face crop that follows the head, for each of the frames `rows`.

    A similarity carries the mean of the projected rigid landmarks to those of the frame, and the crop with it. A turn
    of the head out of the image plane is not undone.
    """
    rigid = camera.project(capture.landmarks[rows][:, list(capture.groups["rigid"])]) @ [1, 1j]
    mean = rigid.mean(0)
    around = mean - mean.mean()
    boxes = np.array([face_box(capture.landmarks[t], camera) for t in rows])
    left, top = np.median(boxes[:, :2], 0)
    side = float(np.median(boxes[:, 2:].max(1)))
    count = min(SIDE, round(side))
    steps = (np.arange(count) + 0.5) * side / count
    crop = (left + steps)[None, :] + 1j * (top + steps)[:, None] - mean.mean()
    for points in rigid:
        turn = np.vdot(around, points - points.mean()) / np.vdot(around, around)
        places = points.mean() + turn * crop
        yield np.stack([places.imag, places.real]) - 0.5


def sampled(image: Float[np.ndarray, "H W 3"], grid: Float[np.ndarray, "2 s s"]) -> Float[np.ndarray, "s s 3"]:
    """The image at the positions of a crop, bilinear. Positions outside of the image take the nearest pixel."""
    from scipy.ndimage import map_coordinates

    return np.stack([map_coordinates(image[..., k], grid, order=1, mode="nearest") for k in range(3)], -1)
