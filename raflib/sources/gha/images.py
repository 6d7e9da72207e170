"""Cameras and images of a folder of Gaussian Head Avatar's layout.

The layout has a camera's file for every frame, and a `Capture` one camera for all frames, so they are compared. Images
are set on white by their masks; what `visible` hides counts as background. They are resized, and the intrinsics with
them. The renderer takes any principal point, so no image is shifted to centre it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from raflib.capture import Frames
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.images import lanczos
from raflib.reading import read_bytes
from raflib.reading.names import short_name
from raflib.runs import cache_root, package_versions
from raflib.sources._store import ImageStore, Maker
from raflib.sources.gha.files import Listing, camera_path, image_size, read_camera, read_image
from raflib.sources.gha.manifest import MANIFEST

CAMERA, AGAIN = "camera", "write it again"


class DirectFrames:
    """Images that are made anew each time; only the last few are kept. Implements `raflib.capture.Frames`."""

    def __init__(self, make: Maker):
        self._make = lru_cache(4)(make)

    def image(self, t: int, c: int) -> UInt8[np.ndarray, "H W 3"]:
        """The image of frame `t` from camera `c`; treat it as read-only."""
        return self._make(t, c)[0]

    def mask(self, t: int, c: int) -> UInt8[np.ndarray, "H W"]:
        """Alpha (0..255) of the person in the same image; treat it as read-only."""
        return self._make(t, c)[1]


def read_cameras(
    listing: Listing, frames: Sequence[str], serials: Sequence[str], resolution: int | None
) -> list[Camera]:
    """The cameras `serials` at the size of their images; `resolution` is the size that the intrinsics are for.

    RafError where a camera has no complete frame or differs between frames, and where images are not squares of one
    size.
    """
    cameras: list[Camera] = []
    for serial in serials:
        own = [frame for frame in frames if listing.missing(frame, serial) is None]
        if not own:
            raise RafError(
                f"{listing.missing(frames[0], serial)}: no such file, and no frame has all of image, mask and camera "
                f"of {serial}; add what is missing, or list the cameras to use in {MANIFEST}"
            )
        extrinsic, intrinsic = _fixed_camera(listing.path, own, serial)
        path = listing.image_path(own[0], "image", serial)
        width, height = image_size(path)
        size = cameras[0].width if cameras else width
        if (width, height) != (size, size):
            raise RafError(f"{path}: is {width}×{height}, expected {size}×{size}; images must be squares of one size")
        within, centre = resolution or size, intrinsic[:2, 2]
        if not (centre > 0).all() or not (centre < within).all():
            raise RafError(
                f"{camera_path(listing.path, own[0], serial)}: the principal point {centre.round(1).tolist()} lies "
                f"outside of {within}×{within} pixels; write the size that intrinsics are for as `resolution` into "
                f"{MANIFEST}"
            )
        cameras.append(Camera(serial, extrinsic, intrinsic, within, within).resized(size))
    return cameras


def _fixed_camera(
    path: Path, frames: Sequence[str], serial: str
) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "3 3"]]:
    """(extrinsic, intrinsic) of a camera, the same in all `frames`; RafError naming the first frame that differs."""
    first = camera_path(path, frames[0], serial)
    content, camera = read_bytes(first, CAMERA, AGAIN), read_camera(first)
    for frame in frames[1:]:
        other = camera_path(path, frame, serial)
        if read_bytes(other, CAMERA, AGAIN) == content:  # spares parsing thousands of equal files
            continue
        for name, mine, theirs in zip(("extrinsic", "intrinsic"), camera, read_camera(other), strict=True):
            if not np.allclose(mine, theirs, rtol=1e-6, atol=1e-6):
                raise RafError(
                    f"{other}: {name} differs from that of frame {frames[0]} by {np.abs(mine - theirs).max():.3g}; a "
                    "capture has one fixed camera for each serial"
                )
    return camera


def read_frames(
    listing: Listing, frames: Sequence[str], cameras: Sequence[Camera], size: int, composited: bool
) -> tuple[Frames, str]:
    """(the images at `size` × `size` pixels, a mark of the files that they are made of).

    `cameras` are those of the files. Images of another size are cached, in a folder named by all that they depend on.
    `composited` says that .png images already stand on their background.
    """

    def make(t: int, c: int) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
        frame, camera = frames[t], cameras[c]
        if (missing := listing.missing(frame, camera.name)) is not None:
            raise RafError(f"{missing}: no such file, so its frame is marked as not detected; use detected frames")
        read = {
            kind: read_image(listing.image_path(frame, kind, camera.name), (camera.width, camera.height))
            for kind in ("image", "mask", "visible")
            if (frame, kind, camera.name) in listing.images
        }
        image, alpha = read["image"], read["mask"][..., 0]
        if "visible" in read:
            alpha = _product(alpha, read["visible"][..., 0])
        if not composited or listing.images[frame, "image", camera.name].endswith(".jpg"):
            image = _product(image, alpha[..., None]) + (255 - alpha)[..., None]
        return lanczos(image, size, size), lanczos(np.dstack([alpha] * 3), size, size)[..., 0]

    found = [
        (name, os.stat(f"{listing.path}/images/{frame}/{name}"))  # building paths takes longer than reading sizes
        for frame in frames for kind in ("image", "mask", "visible") for camera in cameras
        if (name := listing.images.get((frame, kind, camera.name))) is not None
    ]  # fmt: skip
    mark = repr((size, composited, list(frames), [(name, about.st_size) for name, about in found]))
    recording = hashlib.sha256(mark.encode()).hexdigest()
    if size == cameras[0].width:
        return DirectFrames(make), recording
    made = recording, [about.st_mtime_ns for _, about in found], package_versions(("pillow",))
    key = hashlib.sha256(repr(made).encode()).hexdigest()[:16]
    return ImageStore(cache_root() / "gha" / f"{short_name(listing.path.name)}-{key}", make), recording


def _product(a: UInt8[np.ndarray, "..."], b: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """a · b / 255, rounded."""
    return ((a.astype(np.uint16) * b + 127) // 255).astype(np.uint8)
