"""Files in a folder of the public preprocessing of Gaussian Head Avatar (Xu et al. 2024), one subject a folder.

    images/<frame>/image_<serial>.jpg   mask_<serial>.jpg   visible_<serial>.jpg (optional); .png is read, too
    cameras/<frame>/camera_<serial>.npz   extrinsic [3,4] world→camera (OpenCV), intrinsic [3,3]
    params/<frame>/params.npz             exp_coeff [1,64], scale [1], pose [1,6] (axis-angle, then translation)
    params/<frame>/lmk_3d.npy [66,3]      vertices.npy [V,3] (optional)

World and canonical axes of the layout have y up and z out of the face. Those of `raflib` are turned by half a circle
about x (`AXES`). Only signs change, so nothing is rounded.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError

from raflib.errors import RafError
from raflib.geometry import HALF_TURN
from raflib.reading import Array, damage_named, read_arrays, read_bytes, read_npy

AXES = np.array(HALF_TURN, np.float32)
IBUG66 = tuple(number for number in range(68) if number not in (48, 54))
"""The layout's landmarks: iBUG's 68 without the outer corners of the mouth."""
GROUPS = {"rigid": (*range(27, 36), 36, 39, 42, 45), "blend": tuple(range(66)), "lips": tuple(range(48, 66))}
"""Landmark groups of those 66: nose and eye corners are rigid."""
TRACK_FILES = {
    "lmk_3d": ("params.npz", "lmk_3d.npy"), "vertices": ("params.npz", "vertices.npy"),
    "both": ("params.npz", "lmk_3d.npy", "vertices.npy"),
}  # fmt: skip
"""The files of a frame's tracks, by where its landmarks come from."""
VERTEX_STEP = 100
"""The public code adds every hundredth vertex to the landmarks."""
REMEDY = "write it again, or delete it and its frame is marked as not detected"
MOST_PIXELS = 2**27
_IMAGE = re.compile(r"(image|mask|visible)_(?!lowres_)(.+)\.(jpg|png)")
_CAMERA = re.compile(r"camera_(.+)\.npz")


@dataclass(frozen=True, eq=False)
class Listing:
    """What lies in a subject's folder; nothing was opened.

    Attributes:
        images: file name of (frame, kind, serial), kind being "image", "mask" or "visible"; .png goes before .jpg.
        cameras: (frame, serial) with a camera's file.
        frames: names of all frames in `images` or `params`, by their number.
    """

    path: Path
    images: dict[tuple[str, str, str], str]
    cameras: set[tuple[str, str]]
    frames: list[str]

    @classmethod
    def of(cls, path: Path) -> Listing:
        """The listing of a subject's folder. RafError where it holds no frames or a folder without a number."""
        folders = {part: _folders(path / part) for part in ("images", "cameras", "params")}
        found = folders["images"] | folders["params"]
        if not found:
            raise RafError(f"{path}: holds no frames; expected folders images/0000, images/0001, …")
        numbers: dict[int, str] = {}
        for name in sorted(found):
            if (other := numbers.setdefault(int(name), name)) != name:
                raise RafError(f"{path}: frames {other} and {name} have the same number; rename one of them")
        images, cameras = {}, set()
        for frame in folders["images"]:
            for file in sorted(os.listdir(path / "images" / frame)):  # .png comes last and wins
                if match := _IMAGE.fullmatch(file):
                    images[frame, match[1], match[2]] = file
        for frame in folders["cameras"]:
            names = map(_CAMERA.fullmatch, os.listdir(path / "cameras" / frame))
            cameras |= {(frame, match[1]) for match in names if match}
        return cls(path, images, cameras, [numbers[number] for number in sorted(numbers)])

    @property
    def serials(self) -> list[str]:
        """Serials of all cameras with an image in any frame, sorted."""
        return sorted({serial for _, kind, serial in self.images if kind == "image"})

    def missing(self, frame: str, serial: str) -> Path | None:
        """The first file that the view of a frame lacks: its image, its mask or its camera; None if it is complete."""
        for kind in ("image", "mask"):
            if (frame, kind, serial) not in self.images:
                return self.path / "images" / frame / f"{kind}_{serial}.jpg"
        return None if (frame, serial) in self.cameras else camera_path(self.path, frame, serial)

    def image_path(self, frame: str, kind: str, serial: str) -> Path:
        """Path of an image that is listed."""
        return self.path / "images" / frame / self.images[frame, kind, serial]


def _folders(path: Path) -> set[str]:
    """Names of the frames' folders in `path`; RafError for one that is no number. Hidden folders are left out."""
    try:
        names = {entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise RafError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    if odd := sorted(name for name in names if not re.fullmatch(r"[0-9]{1,9}", name)):
        raise RafError(f"{path / odd[0]}: its name is not a frame's number such as 0000; rename or remove it")
    return names


def camera_path(path: Path, frame: str, serial: str) -> Path:
    """Path of a camera's file."""
    return path / "cameras" / frame / f"camera_{serial}.npz"


def read_camera(path: Path) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "3 3"]]:
    """(extrinsic, intrinsic) of a camera's file, the world turned to `raflib`'s axes. RafError naming the file."""
    what, remedy = "camera", "write it again"
    wanted = {"extrinsic": Array("f", "row 4"), "intrinsic": Array("f", "3 3")}
    stored = read_arrays(path, wanted, what, remedy)
    given, intrinsic = (stored[name].astype(np.float64) for name in ("extrinsic", "intrinsic"))
    with damage_named(path, what, remedy):
        if len(given) not in (3, 4) or (len(given) == 4 and (np.abs(given[3] - [0, 0, 0, 1]) > 1e-9).any()):
            raise ValueError(f"extrinsic is not [3,4], or [4,4] with the last row 0 0 0 1, but {list(given.shape)}")
        rotation = given[:3, :3]
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
            raise ValueError("the first three columns of extrinsic are not a rotation")
        if min(intrinsic[0, 0], intrinsic[1, 1]) <= 0 or np.abs(intrinsic[2] - [0, 0, 1]).max() > 1e-9:
            raise ValueError("intrinsic needs positive focal lengths and the last row 0 0 1")
    extrinsic = np.eye(4)
    extrinsic[:3] = given[:3]
    extrinsic[:3, :3] *= AXES
    return extrinsic, intrinsic


def read_tracks(path: Path, frame: str, landmarks: str) -> dict[str, np.ndarray] | None:
    """expression [d], pose [6], scale [] and landmarks [L,3] of a frame in `raflib`'s axes; they may hold NaN.

    `landmarks` says where these come from: the files "lmk_3d" or "vertices", or "both": every hundredth vertex follows
    the 66. None where a file is missing. Raises RafError naming a file that is damaged.
    """
    folder = path / "params" / frame
    paths = [folder / name for name in TRACK_FILES[landmarks]]
    if not all(map(os.path.lexists, paths)):
        return None
    wanted = {
        "exp_coeff": Array("f", "1 d", finite=False), "pose": Array("f", "1 6", finite=False),
        "scale": Array("f", "1", finite=False),
    }  # fmt: skip
    stored = read_arrays(paths[0], wanted, "track", REMEDY)
    points = [read_npy(path, Array("f", "L 3", finite=False), "landmarks", REMEDY) for path in paths[1:]]
    if landmarks == "both":
        points[1] = points[1][::VERTEX_STEP]
    pose = (stored["pose"][0].reshape(2, 3) * AXES).reshape(6)
    every = np.concatenate(points) * AXES
    return {"expression": stored["exp_coeff"][0], "pose": pose, "scale": stored["scale"][0], "landmarks": every}


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) that an image file declares. RafError naming the file."""
    return _opened(path).size


def read_image(path: Path, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """An image of the given (width, height), grey ones as three equal channels.

    The format is told by the content. RafError naming the file when it is damaged, of another size or mode.
    """
    image = _opened(path)
    with damage_named(path, "image", REMEDY):
        if image.size != size:
            raise ValueError(f"it is {image.size[0]}×{image.size[1]}, expected {size[0]}×{size[1]}")
        return np.asarray(image.convert("RGB"))


def _opened(path: Path) -> Image.Image:
    data = read_bytes(path, "image", REMEDY)
    with damage_named(path, "image", REMEDY):
        try:
            image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG"])
        except UnidentifiedImageError:
            raise ValueError("it is neither JPEG nor PNG") from None
        if image.mode not in ("RGB", "L"):
            raise ValueError(f"its mode is {image.mode}, expected RGB or L (grey)")
        if image.size[0] * image.size[1] > MOST_PIXELS:
            raise ValueError(f"it would unpack to {image.size[0]}×{image.size[1]} pixels")
        return image
