"""`ImageCache`: as many images in memory as a limit allows, the others read shortly before they are needed.

Training visits images in a new random order every cycle. Dropping the least recently used image would then drop one
that is needed soon. So a fixed part is kept for good, and every image beyond it is read each time. The caller says
which images come next, and one background thread reads them ahead. The returned images never depend on that thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import UInt8

Loader = Callable[[int], UInt8[np.ndarray, "H W 3"]]


class ImageCache:
    """Images 0 … `count` − 1 as bytes, all of one shape.

    `load(index)` makes one; it must be deterministic and is called from a second thread too, though never twice at
    once. The first images are read at once and kept, as many as fit into `limit` bytes; a few more are in memory
    while they are read ahead.
    """

    def __init__(self, load: Loader, count: int, shape: tuple[int, int, int], limit: int):
        self._load = load
        self.kept = min(count, limit // int(np.prod(shape)))
        self._images = np.empty((self.kept, *shape), np.uint8)
        for index in range(self.kept):
            self._images[index] = load(index)
        self._waiting: dict[int, Future] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="images") if self.kept < count else None

    @property
    def held_bytes(self) -> int:
        """Bytes of the images kept for good."""
        return self._images.nbytes

    def get(self, index: int, upcoming: Iterable[int] = ()) -> UInt8[np.ndarray, "H W 3"]:
        """Image `index`, to be treated as read-only; `upcoming` are read ahead, in that order.

        An error that occurred while an image was read ahead is raised here, when that image is asked for.
        """
        upcoming = [i for i in upcoming if i >= self.kept]
        for unwanted in self._waiting.keys() - {index, *upcoming}:
            self._waiting.pop(unwanted).cancel()
        if self._thread is None:  # all images are kept
            return self._images[index]
        image = None
        if index >= self.kept:
            image = self._waiting.pop(index, None) or self._thread.submit(self._load, index)
        for later in upcoming:
            if later not in self._waiting:
                self._waiting[later] = self._thread.submit(self._load, later)
        return self._images[index] if image is None else image.result()

    def close(self) -> None:
        """Stop reading ahead; afterwards only kept images are available."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._waiting.clear()
