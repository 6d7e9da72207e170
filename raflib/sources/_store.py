"""Caches of images and tracks that survive a killed process and notice damage.

`ImageStore` keeps one PNG file for each image (RGB with the mask as alpha) and renders missing ones on demand. Four
bytes after the PNG's end hold a CRC-32 over it and its place, so a damaged or exchanged file is noticed and made again.
Tracks are one .npz file without pickle, with its own name and a checksum of its content. It is written last and
atomically: where it exists, everything that it refers to is complete.
"""

from __future__ import annotations

import io
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from raflib.errors import RafError
from raflib.reading import Array, damage_named, read_arrays, read_bytes, seal_of
from raflib.runs import atomic_write, write_arrays

TRACKS = {
    "expression": Array("f", "T d", finite=False), "landmarks": Array("f", "T L 3", finite=False),
    "pose": Array("f", "T 6", finite=False), "scale": Array("f", "T", finite=False), "neutral": Array("f", "L 3"),
    "detected": Array("b", "T"), "sequence": Array("U", "T"), "frame": Array("iu", "T"),
    "time": Array("f", "T"), "torso": Array("f", "T 6", finite=False), "notes": Array("U", "n"),
    "background": Array("u", "H W 3"), "distance": Array("f", ""), "images": Array("u", "T C H W 3"),
    "map_images": Array("u", "K V h w"), "map_key": Array("iu", "M"), "map_view": Array("iu", "M"),
    "map_pixels": Array("f", "M 2"), "map_points": Array("f", "M 3"),
}  # fmt: skip
"""What tracks may hold; where a frame has no face, its signals are NaN."""
SIGNALS = ("expression", "landmarks", "pose", "scale", "torso")
OTHER = Array("fiubU", None, finite=False)
NAMED, SEAL = "written_as", "seal"
REMEDY = "delete this file and try again"
MOST_BYTES = 2**32
ARITHMETIC = ("mediapipe", "opencv-contrib-python-headless", "numpy", "numba", "scipy", "torch")
"""Packages whose versions change images or tracks, and so name their caches."""
MEMORY_BYTES = 512 * 2**20
"""Memory limit for the decoded images of one store; the least recently used ones are dropped first."""

Maker = Callable[[int, int], tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]]


class ImageStore:
    """Images by (frame t, camera c) in `folder`; `make(t, c)` returns (image, mask) of a missing one.

    It implements `raflib.capture.Frames`. `make` must be deterministic and may be called from several threads at once.
    """

    def __init__(self, folder: str | Path, make: Maker, memory_bytes: int = MEMORY_BYTES):
        self.folder, self._make, self._memory_bytes = Path(folder), make, memory_bytes
        self._recent: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._held, self._lock = 0, Lock()

    def path(self, t: int, c: int) -> Path:
        """File of one image."""
        return self.folder / f"camera-{c:02d}" / f"{t:06d}.png"

    def image(self, t: int, c: int) -> UInt8[np.ndarray, "H W 3"]:
        """The image of frame `t` from camera `c`; treat it as read-only."""
        return self._rgba(t, c)[..., :3]

    def mask(self, t: int, c: int) -> UInt8[np.ndarray, "H W"]:
        """Alpha (0..255) of the person in the same image; treat it as read-only."""
        return self._rgba(t, c)[..., 3]

    def prefetch(self, pairs: Iterable[tuple], progress: bool = True, workers: int = 2) -> None:
        """Make the images of the (t, c) `pairs` that are missing on disk, with `workers` threads."""
        missing = sorted({(int(t), int(c)) for t, c in pairs if not self.path(int(t), int(c)).is_file()})
        with ThreadPoolExecutor(workers) as pool:
            tasks = [pool.submit(self._write, t, c) for t, c in missing]
            try:
                for task in tqdm(tasks, desc="images", unit="image", disable=not progress or not tasks):
                    task.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def put(self, t: int, c: int, image: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"]) -> np.ndarray:
        """Store one image and return it as RGBA [H,W,4]."""
        rgba = np.dstack([image, mask])
        stream = io.BytesIO()
        Image.fromarray(rgba).save(stream, "png", compress_level=1)
        data = stream.getvalue()
        with atomic_write(self.path(t, c)) as temporary:
            temporary.write_bytes(data + self._seal(data, t, c))
        return rgba

    def _write(self, t: int, c: int) -> np.ndarray:
        return self.put(t, c, *self._make(t, c))

    def _seal(self, data: bytes, t: int, c: int) -> bytes:
        """Checksum (four bytes) of an image's content and place."""
        return zlib.crc32(data, zlib.crc32(f"{self.folder.name} {c} {t}".encode())).to_bytes(4, "big")

    def _read(self, t: int, c: int) -> np.ndarray | None:
        path = self.path(t, c)
        if not path.exists():
            return None
        data = read_bytes(path, "image", REMEDY, MEMORY_BYTES)
        if len(data) < 8 or self._seal(data[:-4], t, c) != data[-4:]:
            return None
        with damage_named(path, "image", REMEDY):
            return np.asarray(Image.open(io.BytesIO(data[:-4]), formats=["PNG"]))

    def _rgba(self, t: int, c: int) -> np.ndarray:
        with self._lock:
            if (t, c) in self._recent:
                self._recent.move_to_end((t, c))
                return self._recent[t, c]
        rgba = self._read(t, c)
        rgba = self._write(t, c) if rgba is None else rgba
        with self._lock:
            if (t, c) not in self._recent:
                self._recent[t, c] = rgba
                self._held += rgba.nbytes
            while self._held > self._memory_bytes and len(self._recent) > 1:
                self._held -= self._recent.popitem(last=False)[1].nbytes
        return rgba


def save_tracks(path: Path, **arrays: np.ndarray) -> None:
    """Write `arrays` to an .npz file, atomically and without pickle; RafError where they are too large."""
    kept = {**arrays, NAMED: np.array(path.name)}
    kept |= {SEAL: np.array(seal_of(kept))}
    write_arrays(path, kept, "cache", "take a shorter recording", MOST_BYTES)


def load_tracks(path: Path, names: Iterable[str]) -> dict[str, np.ndarray] | None:
    """The arrays `names` of a file of `save_tracks`; None if there is no such file.

    Raises RafError naming the file when it is damaged, lacks an array, was written under another name, or holds NaN in
    a frame with a face.
    """
    if not path.exists():
        return None
    wanted = {name: TRACKS.get(name, OTHER) for name in names}
    marks = {NAMED: Array("U", ""), SEAL: Array("U", "")}
    stored = read_arrays(path, {**wanted, **marks, "*": OTHER}, "cache", REMEDY, MOST_BYTES)
    if str(stored.pop(SEAL)) != seal_of(stored):
        raise RafError(f"{path}: damaged cache (its content does not match its seal); {REMEDY}")
    if (name := str(stored.pop(NAMED))) != path.name:
        raise RafError(f"{path}: damaged cache (it was written as {name}); {REMEDY}")
    stored = {name: stored[name] for name in wanted}
    for name in stored if "detected" in stored else ():
        if name in SIGNALS and not np.isfinite(stored[name][stored["detected"]]).all():
            raise RafError(f"{path}: damaged cache ({name} holds NaN in a frame with a face); {REMEDY}")
    return stored
