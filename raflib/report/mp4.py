"""Films of avatars: images to an MP4 file that browsers play, at the speed of the recording."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from raflib.capture import Capture
from raflib.errors import RafError
from raflib.reading.names import short_name
from raflib.runs import atomic_write

TICKS = 90_000
"""Units of a film's time stamps in a second; frames of the usual rates last a whole number of them."""
MAX_FPS = 1_000
"""Frames a second, at most."""
CLIPPED = 0.5
"""How far float colours may lie outside [0,1]. They are clipped; a frame with colours farther out is refused."""


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float | int = 25,
    times: Iterable[float] | None = None,
    crf: int = 18,
) -> Path:
    """`frames` as H.264 in `path`, written atomically; returns `path`.

    Frames are [H,W,3] or grey [H,W], uint8 or float in [0,1], all of one size. Sides are cut to even numbers of pixels,
    as the codec requires. Every frame is shown for 1/`fps` seconds. Where `times` are given (seconds, increasing, one
    for each frame), a frame is shown until the time of the next one, and the last one for the median duration. `crf` is
    the codec's quality: 0 loses nothing, 18 looks alike, 51 is the worst. Raises RafError naming `path` and the frame
    when there is no frame, when one has another type or size, and for times or a rate that cannot be played.
    """
    path = Path(path)
    starts = None if times is None else _ticks(path, times)
    if not 0 < fps <= MAX_FPS:  # not true of NaN either
        raise RafError(f"{path}: {fps} frames a second; expected a number above 0, at most {MAX_FPS}")
    count, size, lengths = 0, None, {}
    with atomic_write(path) as temporary, _encoder_errors(path), _container(temporary) as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "medium"})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.max_b_frames = 0  # frames keep their order, so that each one's length can be written
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
        for count, frame in enumerate(frames, 1):
            image = _even(f"{path}: frame {count - 1}", np.asarray(frame))
            if size is None:
                size = stream.height, stream.width = image.shape[:2]
            if image.shape[:2] != size:
                raise RafError(f"{path}: frame {count - 1} is {image.shape[:2]}, expected {size} like the first")
            if starts is not None and count >= len(starts):
                raise RafError(f"{path}: more frames than the {len(starts) - 1} times; give one time a frame")
            ends = starts or {n: round(n * TICKS / fps) for n in (count - 1, count)}
            start, end = ends[count - 1], ends[count]
            shown = av.VideoFrame.from_ndarray(image, format="rgb24")
            shown.pts, shown.time_base = start, stream.time_base
            lengths[start] = end - start
            _mux(container, stream.encode(shown), lengths)
        if count == 0:
            raise RafError(f"{path}: no frames were given; a film needs at least one")
        if starts is not None and count != len(starts) - 1:
            raise RafError(f"{path}: {count} frames for {len(starts) - 1} times; give one time a frame")
        _mux(container, stream.encode(), lengths)
    return path


def film_name(target: Capture, driver: Capture, drive: str, seconds: float | int) -> str:
    """Name of the film in which `driver` drives the avatar of `target` through the map `drive`.

    Recordings of one name get different names.
    """
    names = f"{short_name(target.subject)}_driven_by_{short_name(driver.subject)}"
    return f"{names}_{driver.fingerprint[:8]}_{drive}_{seconds:g}s.mp4"


def _container(path: Path) -> av.container.OutputContainer:
    return av.open(f"file:{path.absolute()}", "w", format="mp4")  # a colon in a name would be taken for a protocol


@contextmanager
def _encoder_errors(path: Path) -> Iterator[None]:
    """Errors of the encoder as RafError naming `path`."""
    try:
        yield
    except av.FFmpegError as error:
        raise RafError(f"{path}: cannot be written ({error.strerror}); free some space or make it smaller") from None


def _ticks(path: Path, times: Iterable[float]) -> list[int]:
    """Time stamps at which each frame begins and the last one ends; RafError for times that do not increase."""
    times = [float(time) for time in times]
    if not times:
        raise RafError(f"{path}: no times were given; a film needs one a frame")
    if not all(map(math.isfinite, times)):
        raise RafError(f"{path}: times of its frames are not finite; give seconds")
    starts = [round((time - times[0]) * TICKS) for time in times]
    steps = np.diff(starts)
    if (steps <= 0).any():
        late = int(np.flatnonzero(steps <= 0)[0])
        raise RafError(f"{path}: frame {late + 1} is not after frame {late}; give increasing times in seconds")
    return [*starts, starts[-1] + (int(np.median(steps)) if len(steps) else TICKS // 25)]


def _even(what: str, frame: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """The frame as contiguous uint8 with three channels and even sides; RafError beginning with `what` otherwise."""
    if frame.ndim == 2:
        frame = np.repeat(frame[..., None], 3, axis=2)
    if frame.ndim != 3 or frame.shape[2] != 3 or min(frame.shape[:2]) < 2:
        raise RafError(f"{what}: shape {frame.shape}, expected [H,W,3] or grey [H,W] of at least 2 by 2 pixels")
    if np.issubdtype(frame.dtype, np.floating):
        low, high = float(frame.min()), float(frame.max())
        if not -CLIPPED <= low <= high <= 1 + CLIPPED:  # not true of NaN either
            raise RafError(f"{what}: float colours from {low:g} to {high:g}, expected [0,1]; divide by 255 or check it")
        frame = (np.clip(frame, 0, 1) * 255 + 0.5).astype(np.uint8)
    if frame.dtype != np.uint8:
        raise RafError(f"{what}: {frame.dtype}, expected uint8 (0 to 255) or float in [0,1]; convert it")
    height, width = (side // 2 * 2 for side in frame.shape[:2])
    return np.ascontiguousarray(frame[:height, :width])


def _mux(container: av.container.OutputContainer, packets: list[av.Packet], lengths: dict[int, int]) -> None:
    """Write packets to the film; `lengths` holds the duration of each frame by its time stamp."""
    for packet in packets:
        packet.duration = lengths.pop(packet.pts)
        container.mux(packet)
