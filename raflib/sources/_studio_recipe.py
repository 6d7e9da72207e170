"""How the studio's captures are made: profiles, cameras, and a key of everything that images and tracks depend on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from raflib import studio, tracking
from raflib.errors import RafError
from raflib.runs import data_root, package_versions
from raflib.sources._store import ARITHMETIC
from raflib.studio.rig import FRONTAL
from raflib.tracking.face import MODEL_SHA256

FEATURE_SPACE = "arkit52"
TRACKING_CAMERAS = (FRONTAL, "222200036", "222200039", "222200049")
"""The frontal camera, 24 degrees to either side of it and 24 degrees above it."""


@dataclass(frozen=True)
class StudioProfile:
    """How much is recorded.

    Attributes:
        size, tracking_size: pixels a side of the capture's images, and of the images that are tracked.
        sequences: number of training sequences; None: all.
        per_sequence, free: frames of each training sequence and of FREE; None: all, 25 a second.
        cameras: serials of the capture's cameras; None: all.
        tracked: serials of the cameras whose images are tracked, at least two.
        refined: whether head poses are refined by the head's texture.
    """

    size: int = 192
    tracking_size: int = 256
    sequences: int | None = None
    per_sequence: int | None = 20
    free: int | None = 80
    cameras: tuple[str, ...] | None = None
    tracked: tuple[str, ...] = TRACKING_CAMERAS
    refined: bool = True


@cache
def made_by() -> str:
    """A key of everything that images and tracks of a performance depend on.

    These are the versions of studio and tracking, the head's data, the tracker's model, and the versions of packages.
    Caches are named by the key, so a file that was made in another way is never read. Raises RafError for missing data.
    """
    versions = studio.VERSION, tracking.VERSION, MODEL_SHA256, sorted(package_versions(ARITHMETIC).items())
    digest = hashlib.sha256(repr(versions).encode())
    data = [data_root() / name for name in ("head_model.npz", "landmarks.npz")]
    if missing := [path for path in data if not path.is_file()]:
        raise RafError(f"{missing[0]}: no such file; it ships with the project, restore it")
    for path in data:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
