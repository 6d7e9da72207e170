"""Films of avatars: pictures to an MP4 that browsers play."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np

from raflib.errors import RafError
from raflib.runs import atomic_write


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: int = 25) -> Path:
    """`frames` ([H,W,3], uint8 or float in [0,1], all of one size) as H.264 in `path`, written atomically.

    Sides are cut to even numbers, which the codec wants. Raises RafError naming `path` when there is no frame or a
    frame has another size than the first.
    """
    path, count = Path(path), 0
    with atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18", "preset": "medium"})
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            picture = _even(frame)
            if count == 0:
                stream.height, stream.width = picture.shape[:2]
            elif picture.shape[:2] != (stream.height, stream.width):
                first = (stream.height, stream.width)
                raise RafError(f"{path}: frame {count} is {picture.shape[:2]}, expected {first} like the first")
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
            count += 1
        if count == 0:
            raise RafError(f"{path}: no frames were given; a film needs at least one")
        for packet in stream.encode():
            container.mux(packet)
    return path


def _even(frame: np.ndarray) -> np.ndarray:
    """uint8 with even sides, contiguous."""
    if frame.dtype != np.uint8:
        frame = (np.clip(frame, 0, 1) * 255 + 0.5).astype(np.uint8)
    height, width = (side // 2 * 2 for side in frame.shape[:2])
    return np.ascontiguousarray(frame[:height, :width])
