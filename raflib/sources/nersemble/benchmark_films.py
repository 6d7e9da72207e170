"""Cameras and films of the public benchmark's layouts.

A person's folder holds `calibration/camera_params.json` and, for each sequence and camera, one film of images without
their background and one of alpha maps. Films are decoded from their first frame to the last wanted one, because a jump
into a film of this kind may land on another frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import Float, UInt8

from raflib.errors import RafError
from raflib.geometry import Camera, nearest_to_axes
from raflib.images import lanczos
from raflib.reading import damage_named, read_json
from raflib.sources._store import ImageStore
from raflib.sources._video_info import Reading, decoded, open_film
from raflib.sources.nersemble.names import FRONTAL, MONO_HELD_OUT

CALIBRATION = "calibration/camera_params.json"
WHAT, REMEDY = "calibration", "download this file again"
FILM_REMEDY = "download this film again"
TOLERANCE = 1e-3
"""Largest error of an entry of R · Rᵀ in a camera's rotation."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Extrinsics [4,4] (world→camera, OpenCV, metres) and intrinsics [3,3] (pixels of the films) by serial number."""

    extrinsics: dict[str, Float[np.ndarray, "4 4"]]
    intrinsics: dict[str, Float[np.ndarray, "3 3"]]

    def camera(self, serial: str, size: tuple[int, int], world: Float[np.ndarray, "4 4"]) -> Camera:
        """One camera of films of `size` (width, height), in the world that `world` moves the file's world to."""
        return Camera(serial, self.extrinsics[serial] @ np.linalg.inv(world), self.intrinsics[serial], *size)

    def world(self) -> Float[np.ndarray, "4 4"]:
        """The rigid motion from the file's world to that of `raflib.geometry`.

        Its axes are those of the frontal camera. Its origin is the point nearest to the optical axes of all cameras;
        with a single camera the origin stays.
        """
        turn = self.extrinsics[FRONTAL][:3, :3]
        motion = np.eye(4)
        motion[:3, :3] = turn
        if (point := nearest_to_axes(list(self.extrinsics.values()))) is not None:
            motion[:3, 3] = -turn @ point
        return motion


def read_calibration(person: Path) -> Calibration:
    """The calibration of a person's folder.

    Raises RafError naming the file when it is missing or damaged, lacks the frontal camera or half of a camera, or
    holds a matrix that is no rotation or no intrinsic.
    """
    path = person / CALIBRATION
    stored = read_json(path, {"world_2_cam": dict, "intrinsics": dict}, WHAT, REMEDY)
    with damage_named(path, WHAT, REMEDY):
        if odd := sorted(set(stored["world_2_cam"]) ^ set(stored["intrinsics"])):
            raise ValueError(f"camera {odd[0]} has only one of world_2_cam and intrinsics")
        if FRONTAL not in stored["intrinsics"]:
            raise ValueError(f"the frontal camera {FRONTAL} is missing")
        extrinsics = {serial: _matrix(serial, rows, 4) for serial, rows in stored["world_2_cam"].items()}
        intrinsics = {serial: _matrix(serial, rows, 3) for serial, rows in stored["intrinsics"].items()}
        for serial, matrix in extrinsics.items():
            turn = matrix[:3, :3]
            if np.abs(turn @ turn.T - np.eye(3)).max() > TOLERANCE or np.linalg.det(turn) < 0:
                raise ValueError(f"world_2_cam of camera {serial} is no rotation")
            if (matrix[3] != (0, 0, 0, 1)).any():
                raise ValueError(f"world_2_cam of camera {serial} does not end in 0 0 0 1")
        for serial, matrix in intrinsics.items():
            if min(matrix[0, 0], matrix[1, 1]) <= 0 or (matrix[2] != (0, 0, 1)).any() or matrix[1, 0]:
                raise ValueError(f"intrinsics of camera {serial} are no pinhole camera's")
    return Calibration(extrinsics, intrinsics)


def _matrix(serial: str, rows: object, size: int) -> np.ndarray:
    matrix = np.array(rows)
    if matrix.shape != (size, size) or matrix.dtype.kind not in "fi":
        raise ValueError(f"a matrix of camera {serial} has shape {list(matrix.shape)}, expected {size} by {size}")
    return matrix.astype(np.float64)


def film(sequence: Path, kind: str, serial: str) -> Path:
    """The file of one film; `kind` is "images" or "alpha_maps"."""
    return sequence / kind / f"cam_{serial}.mp4"


def _present(path: Path) -> None:
    if path.is_file():
        return
    why = "the benchmarks keep the images of held-out sequences, of which only tracks can be read"
    raise RafError(f"{path}: no such film; {why if path.parts[-3] in MONO_HELD_OUT else FILM_REMEDY}")


def film_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels. RafError naming a film that is missing or cannot be opened."""
    _present(path)
    with open_film(path, FILM_REMEDY) as (_, stream):
        return stream.width, stream.height


def count_frames(path: Path) -> int:
    """Number of frames that a film promises, without decoding them. RafError naming a film that cannot be opened."""
    with open_film(path, FILM_REMEDY) as (container, stream), damage_named(path, "film", FILM_REMEDY):
        return sum(packet.size > 0 for packet in container.demux(stream))


def read_film(
    path: Path, wanted: Sequence[int], size: tuple[int, int]
) -> Iterator[tuple[int, UInt8[np.ndarray, "H W 3"]]]:
    """(number, RGB image) of the frames `wanted`, ascending. Raises RafError naming the film where one is missing,
    damaged, or has another (width, height) than `size`."""
    numbers, last = set(wanted), max(wanted, default=-1)
    _present(path)
    with open_film(path, FILM_REMEDY) as (container, stream):
        reading, number = Reading(), -1
        for number, frame in enumerate(decoded(container, stream, reading)):
            if reading.lost or number > last:
                break
            if (frame.width, frame.height) != size:
                shape = f"{frame.width}×{frame.height}"
                raise RafError(f"{path}: frame {number} is {shape}, expected {size[0]}×{size[1]}; {FILM_REMEDY}")
            if number in numbers:
                yield number, np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
        if reading.lost:
            raise RafError(f"{path}: damaged film (it cannot be decoded after frame {number}); {FILM_REMEDY}")
    if number < last:
        raise RafError(f"{path}: has {number + 1} frames, expected at least {last + 1}; {FILM_REMEDY}")


@dataclass(frozen=True)
class Window:
    """A square of a film's images: its top-left pixel (x, y) and side, and the side `size` that it is shown with."""

    x: int
    y: int
    side: int
    size: int

    def cut(self, image: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "S S C"]:
        """The window of an image, resized."""
        window = np.ascontiguousarray(image[self.y : self.y + self.side, self.x : self.x + self.side])
        return lanczos(window, self.size, self.size)


class FilmImages(ImageStore):
    """Images of a capture, decoded from its films when the first one of a film is wanted.

    Args:
        folder: the cache.
        sequences: [T] the folder of each frame's sequence, and `rows` [T] its number in the films.
        cameras: the serial number of each camera with the size of its films and the window that is shown.
    """

    def __init__(
        self,
        folder: Path,
        sequences: Sequence[Path],
        rows: Sequence[int],
        cameras: Sequence[tuple[str, tuple[int, int], Window]],
    ):
        super().__init__(folder, self._film)
        self._sequences, self._rows, self._cameras, self._films = list(sequences), list(rows), list(cameras), Lock()

    def _film(self, t: int, c: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and mask of one frame. All wanted frames of its film are stored on the way."""
        with self._films:
            kept = self._read(t, c)
            if kept is None:
                for _ in self.decode(self._sequences[t], c):
                    pass
                kept = self._read(t, c)
        assert kept is not None
        return kept[..., :3], kept[..., 3]

    def decode(self, sequence: Path, c: int) -> Iterator[tuple[int, UInt8[np.ndarray, "H W 3"]]]:
        """Store the wanted frames of one sequence from camera `c`, and yield each one's t and image of the film.

        Raises RafError naming a film that is missing or damaged. The benchmarks keep the images of held-out sequences
        for themselves, so their films may not exist at all.
        """
        serial, size, window = self._cameras[c]
        number = {self._rows[t]: t for t, place in enumerate(self._sequences) if place == sequence}
        images = read_film(film(sequence, "images", serial), sorted(number), size)
        alphas = read_film(film(sequence, "alpha_maps", serial), sorted(number), size)
        for (row, image), (_, alpha) in zip(images, alphas, strict=True):
            self.put(number[row], c, window.cut(image), np.ascontiguousarray(window.cut(alpha)[..., 0]))
            yield number[row], image
