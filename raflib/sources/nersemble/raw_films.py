"""Images of NeRSemble's videos: cut out, scaled, colours corrected, on white; one pass over a video makes all of them.

A square window around the lens's principal point, the same for all cameras, is cut from each frame. What it covers
outside the frame is white. The mask is a difference matte: it shows pixels that differ from the camera's image of the
empty room. It has hard edges and takes shadows for the person, so it is a stand-in for a segmentation. Without an image
of the empty room it is 255 everywhere, and the room stays in the images.
"""

from __future__ import annotations

import io
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import av
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.reading import damage_named, read_bytes
from raflib.sources._store import ImageStore
from raflib.sources._video_info import decoded, open_film
from raflib.sources.nersemble.raw_calibration import REMEDY
from raflib.sources.nersemble.raw_colour import corrected

DIFFERENCE = 20
"""Levels by which a pixel of the person differs from the empty room in at least one channel."""
SMALL = 0.05
"""Connected parts of the mask below this share of the largest one are noise."""
PLATE_BYTES = 2**27


@dataclass(frozen=True)
class Window:
    """The square that is cut from every frame: its top-left pixel and its side; it may reach beyond the frame."""

    x: int
    y: int
    side: int

    def cut(self, image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "side side c"]:
        """The window of an image, white outside the image."""
        height, width = image.shape[:2]
        page = np.full((self.side, self.side, image.shape[2]), 255, np.uint8)
        x, y, right, low = (
            max(self.x, 0),
            max(self.y, 0),
            min(self.x + self.side, width),
            min(self.y + self.side, height),
        )
        page[y - self.y : low - self.y, x - self.x : right - self.x] = image[y:low, x:right]
        return page


def window_around(camera: Camera, share: float) -> Window:
    """The window whose middle is the principal point; its side is `share` of the image's shorter side."""
    side = round(share * min(camera.width, camera.height))
    x, y = (round(float(centre) - side / 2) for centre in camera.intrinsic[:2, 2])
    return Window(x, y, side)


def covered(window: Window, size: int, shape: tuple[int, ...]) -> Bool[np.ndarray, "size size"]:
    """Which pixels of the window's image of `size` pixels a side lie inside a frame of `shape` (height, width, …)."""
    middles = (np.arange(size) + 0.5) * window.side / size
    rows, columns = (
        (middles >= -start) & (middles < end - start) for start, end in ((window.y, shape[0]), (window.x, shape[1]))
    )
    return rows[:, None] & columns


def matte(image: UInt8[np.ndarray, "H W 3"], plate: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
    """255 where an image differs from the `plate` of the empty room, with holes filled; 0 elsewhere."""
    far = np.abs(image.astype(np.int16) - plate).max(2) > DIFFERENCE
    parts, count = ndimage.label(far)
    if not count:
        return np.zeros(far.shape, np.uint8)
    sizes = np.bincount(parts.ravel())[1:]
    kept = np.append(False, sizes >= SMALL * sizes.max())
    return ndimage.binary_fill_holes(kept[parts]).astype(np.uint8) * 255


def packet_times(container: av.container.InputContainer, stream: av.VideoStream) -> list[int]:
    """When the frames of a video are shown, in its own units, in that order; nothing is decoded.

    Frames that the file promises but does not hold are left out.
    """
    times = []
    try:
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and not packet.is_corrupt and not packet.is_discard:
                times.append(packet.pts)
    except av.FFmpegError:  # what follows cannot be read
        pass
    return sorted(times)


def read_film(path: Path, wanted: Sequence[int]) -> Iterator[UInt8[np.ndarray, "h w 3"] | None]:
    """The frames `wanted` (increasing) of a video, None for one that cannot be decoded.

    Frames are decoded one after the other. They are told apart by the time at which they are shown, so a lost one does
    not shift those after it.
    """
    with open_film(path, REMEDY) as (container, stream):
        number_at = {time: number for number, time in enumerate(packet_times(container, stream))}
    waiting = iter(wanted)
    number = next(waiting, None)
    with open_film(path, REMEDY) as (container, stream):
        for frame in decoded(container, stream):
            if number is None:
                return
            shown = number_at.get(frame.pts, -1)
            while number is not None and number < shown:
                yield None
                number = next(waiting, None)
            if number == shown:
                yield np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
                number = next(waiting, None)
    while number is not None:
        yield None
        number = next(waiting, None)


@dataclass(frozen=True, eq=False)
class Look:
    """How the frames of one camera become images of `size` pixels a side.

    Attributes:
        window: the part of a frame that is shown.
        colours: [3,T] the camera's colour matrix.
        plate: the file of its image of the empty room; None without one.
    """

    window: Window
    size: int
    colours: Float[np.ndarray, "3 T"]
    plate: Path | None

    def image(self, frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "size size 3"]:
        """A frame's image with the room behind the person. Colours are corrected after scaling, as the kit does."""
        image = corrected(self._scaled(frame), self.colours)
        image[~covered(self.window, self.size, frame.shape)] = 255
        return image

    def images(
        self, frames: Iterator[np.ndarray | None]
    ) -> Iterator[tuple[UInt8[np.ndarray, "size size 3"], UInt8[np.ndarray, "size size"]] | None]:
        """(image, mask) of each frame, on white where the room is known; None for a frame that is None."""
        plate = None
        for frame in frames:
            if frame is None:
                yield None
                continue
            if self.plate is None:
                yield self.image(frame), np.full((self.size, self.size), 255, np.uint8)
                continue
            plate = self._scaled(read_plate(self.plate, frame.shape)) if plate is None else plate
            scaled = self._scaled(frame)
            mask = matte(scaled, plate) * covered(self.window, self.size, frame.shape)
            image = corrected(scaled, self.colours)
            image[mask == 0] = 255
            yield image, mask

    def _scaled(self, frame: np.ndarray) -> np.ndarray:
        cut = self.window.cut(frame)
        if self.window.side == self.size:
            return cut
        # Whole pixels are averaged down to three times the size first: as good, and five times as fast.
        filtered = Image.Resampling.LANCZOS
        return np.asarray(Image.fromarray(cut).resize((self.size, self.size), filtered, reducing_gap=3.0))


def read_plate(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "h w 3"]:
    """The image of the empty room; RafError naming the file where it is damaged or not of the frames' `shape`."""
    data = read_bytes(path, "background image", REMEDY, PLATE_BYTES)
    with damage_named(path, "background image", REMEDY):
        plate = np.asarray(Image.open(io.BytesIO(data), formats=["JPEG"]).convert("RGB"))
        if plate.shape != shape:
            raise ValueError(f"{plate.shape[1]}×{plate.shape[0]} pixels, the videos {shape[1]}×{shape[0]}")
    return plate


class FilmStore(ImageStore):
    """An image cache that is filled by passes over videos: what is missing of a video is made in one pass.

    Args:
        folder: where images are kept.
        films: the videos by sequence and serial number.
        looks: how each camera's frames become images, by serial number, in the order of the capture's cameras.
        sequence, number: [T] the video and the frame number there of each frame of the capture.
        total: the folder whose images count, and the most bytes they may take.
    """

    def __init__(
        self,
        folder: Path,
        films: Mapping[str, Mapping[str, Path]],
        looks: Mapping[str, Look],
        sequence: np.ndarray,
        number: Int[np.ndarray, "T"],
        total: tuple[Path, int],
    ):
        super().__init__(folder, self._made_in_passes)
        self._films, self._serials, self._looks = films, list(looks), looks
        self._sequence, self._number = sequence, number
        self._total, self._used = total, None
        self._passes: dict[tuple[str, int], Lock] = defaultdict(Lock)

    def _made_in_passes(self, t: int, c: int):
        raise AssertionError("images are made by _write")

    def _write(self, t: int, c: int) -> np.ndarray:
        sequence = str(self._sequence[t])
        with self._lock:
            lock = self._passes[sequence, c]
        with lock:
            kept = self._read(t, c)  # another thread may have made it meanwhile
            return self._pass(sequence, t, c) if kept is None else kept

    def _pass(self, sequence: str, t: int, c: int) -> np.ndarray:
        """Make the missing images of one video; the image of frame `t` is returned."""
        serial = self._serials[c]
        path, look = self._films[sequence][serial], self._looks[serial]
        rows = [
            r for r in np.flatnonzero(self._sequence == sequence).tolist() if r == t or not self.path(r, c).is_file()
        ]
        reserved, written = len(rows) * image_bytes(look.size), 0
        self._reserve(reserved)
        made, result = look.images(read_film(path, self._number[rows].tolist())), None
        bar = tqdm(rows, desc=f"{sequence} {serial}", unit="image", leave=False, delay=2)
        try:
            for row, pair in zip(bar, made, strict=True):
                if pair is not None:
                    rgba = self.put(row, c, *pair)
                    written += self.path(row, c).stat().st_size
                    result = rgba if row == t else result
        finally:
            with self._lock:
                self._used += written - reserved
        if result is None:
            raise RafError(f"{path}: frame {self._number[t]} cannot be decoded; {REMEDY}")
        return result

    def _reserve(self, more: int) -> None:
        """Count `more` bytes as used; RafError if they could exceed the limit or fill the disk."""
        folder, limit = self._total
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        with self._lock:
            if self._used is None:
                self._used = sum(path.stat().st_size for path in folder.rglob("*.png"))
            used = self._used
            if used + more <= limit and more <= free:
                self._used += more
                return
        raise RafError(
            f"{folder}: holds {in_gigabytes(used)}, one more video takes up to {in_gigabytes(more)}; "
            f"the limit is {in_gigabytes(limit)} and {in_gigabytes(free)} are free: raise RAF_CACHE_GB, delete "
            "what is not needed, choose a smaller profile, or move the cache with RAF_CACHE"
        )


def image_bytes(size: int) -> int:
    """Bytes of an image file of `size` pixels a side at most: a PNG of RGB and mask that could not be packed."""
    raw = size * (4 * size + 1)
    return raw + raw // 1000 + 1000


def in_gigabytes(count: int) -> str:
    """Bytes in words, by powers of ten."""
    return f"{count / 1e9:.1f} GB" if count >= 5e7 else f"{count / 1e6:.1f} MB"
