"""Cached pictures and tracks, safe to kill and safe to read.

`PictureStore` keeps one PNG a picture (RGB with the mask as alpha) and makes missing ones on demand; four bytes after
the PNG's end hold its CRC-32, so a damaged file is noticed and made again. Tracks are one .npz without pickle, written
last and atomically: where it exists, everything it speaks of is complete.
"""

from __future__ import annotations

import io
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from zipfile import BadZipFile

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from raflib.errors import RafError
from raflib.runs import atomic_write

MEMORY_BYTES = 512 * 2**20
"""Most that the decoded pictures of one store take; the least recently used go first."""

Maker = Callable[[int, int], tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]]


class PictureStore:
    """Pictures by (frame t, camera c) in `folder`; `make(t, c)` returns (image, mask) of one that is not there yet.

    It implements `raflib.capture.Frames`. `make` must be deterministic and may be called from several threads at once.
    """

    def __init__(self, folder: str | Path, make: Maker, memory_bytes: int = MEMORY_BYTES):
        self.folder, self._make, self._memory_bytes = Path(folder), make, memory_bytes
        self._recent: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._held, self._lock = 0, Lock()

    def path(self, t: int, c: int) -> Path:
        """File of one picture."""
        return self.folder / f"camera-{c:02d}" / f"{t:06d}.png"

    def image(self, t: int, c: int) -> UInt8[np.ndarray, "H W 3"]:
        """The picture of frame `t` from camera `c`; treat it as read-only."""
        return self._picture(t, c)[..., :3]

    def mask(self, t: int, c: int) -> UInt8[np.ndarray, "H W"]:
        """Alpha (0..255) of the person in the same picture; treat it as read-only."""
        return self._picture(t, c)[..., 3]

    def prefetch(self, pairs: Iterable[tuple], progress: bool = True, workers: int = 2) -> None:
        """Makes those of the (t, c) `pairs` that are missing on disk, with `workers` threads."""
        missing = sorted({(int(t), int(c)) for t, c in pairs if not self.path(int(t), int(c)).is_file()})
        with ThreadPoolExecutor(workers) as pool:
            tasks = [pool.submit(self._write, t, c) for t, c in missing]
            try:
                for task in tqdm(tasks, desc="pictures", unit="picture", disable=not progress or not tasks):
                    task.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def put(self, t: int, c: int, image: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"]) -> np.ndarray:
        """Stores one picture and returns it as RGBA [H,W,4]."""
        picture = np.dstack([image, mask])
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "png", compress_level=1)
        data = stream.getvalue()
        with atomic_write(self.path(t, c)) as temporary:
            temporary.write_bytes(data + zlib.crc32(data).to_bytes(4, "big"))
        return picture

    def _write(self, t: int, c: int) -> np.ndarray:
        return self.put(t, c, *self._make(t, c))

    def _read(self, t: int, c: int) -> np.ndarray | None:
        try:
            data = self.path(t, c).read_bytes()
        except FileNotFoundError:
            return None
        if len(data) < 8 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "big"):
            return None
        return np.asarray(Image.open(io.BytesIO(data)))

    def _picture(self, t: int, c: int) -> np.ndarray:
        with self._lock:
            if (t, c) in self._recent:
                self._recent.move_to_end((t, c))
                return self._recent[t, c]
        picture = self._read(t, c)
        picture = self._write(t, c) if picture is None else picture
        with self._lock:
            if (t, c) not in self._recent:
                self._recent[t, c] = picture
                self._held += picture.nbytes
            while self._held > self._memory_bytes and len(self._recent) > 1:
                self._held -= self._recent.popitem(last=False)[1].nbytes
        return picture


def save_tracks(path: Path, **arrays: np.ndarray) -> None:
    """Writes `arrays` to an .npz, atomically and without pickle."""
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def load_tracks(path: Path, names: Iterable[str]) -> dict[str, np.ndarray] | None:
    """The arrays `names` of an .npz of `save_tracks`; None if there is no such file.

    Raises RafError naming the file when it is damaged or lacks an array (the .npz format checks its own CRCs).
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (BadZipFile, zlib.error, KeyError, ValueError, OSError, EOFError) as error:
        raise RafError(f"{path}: damaged cache ({error}); delete this file and try again") from None
