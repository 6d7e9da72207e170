"""Crops and sizes of images: face boxes, square images of one size, tensors of another size."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional

from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.perceptual import MIN_SIDE

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""
MARGIN = 0.15
"""How far the face crop reaches beyond the landmarks, as a share of their larger side."""


def face_box(landmarks: Float[np.ndarray, "L 3"], camera: Camera, margin: float = MARGIN) -> Box:
    """Integer box (x, y, width, height) around the projected landmarks, inside the image.

    `landmarks` [L,3] world metres (NaN rows are skipped) of the *target* frame. The box is widened by `margin` × its
    larger side on every side, cut at the image's border, and never smaller than the perceptual network takes.
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


def shrunk(image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """A square image at `size` × `size` pixels, Lanczos filter. RafError where it is not square."""
    if image.shape[0] != image.shape[1]:
        raise RafError(f"training needs square images, got {image.shape[1]}×{image.shape[0]}; crop them in the source")
    return lanczos(image, size, size)


def resized(images: Float[Tensor, "B h w C"], height: int, width: int, smooth: bool = True) -> Tensor:
    """`images` at `height` × `width` pixels [B,height,width,C], bilinear, pixel areas kept in place.

    `smooth` averages over all pixels that fall into one when shrinking; without it, finer detail than the new pixels
    can show turns into noise.
    """
    if images.shape[1:3] == (height, width):
        return images
    planes = images.permute(0, 3, 1, 2)
    return functional.interpolate(planes, (height, width), mode="bilinear", antialias=smooth).permute(0, 2, 3, 1)


def lanczos(image: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> UInt8[np.ndarray, "H W 3"]:
    """`image` at `width` × `height` pixels, Lanczos filter; the image itself where it has that size."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
