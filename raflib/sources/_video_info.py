"""Properties of a video file (`VideoInfo`), and functions that open it and decode its frames.

Container and codec say which stream is the video and which is a cover image, the shape of a pixel, whether images are
rotated or mirrored, how their colours are encoded, and when each frame is shown. Frames are counted in the order in
which they are shown; only frames that can be decoded are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from raflib.errors import RafError
from raflib.sources._lens import focal_length_35mm

FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,h264,hevc,m4v,ivf,mxf,dv"
"""Containers that are opened, by FFmpeg's names. None of them refers to other files or to the network."""
FORMATS_IN_WORDS = ".mp4, .mov, .mkv, .webm, .avi, .mpg, .ts, .flv, .ogv, .wmv or .gif"
HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions (ITU-T H.273 codes) with values brighter than a screen's white: SMPTE ST 2084, ARIB STD-B67."""
MAX_PIXELS = 8192 * 8192
MAX_PIXEL_SHAPE = 8
"""A ratio of a pixel's sides above this means a damaged header."""
SQUARE = 0.01
"""Pixels whose sides differ by at most this share count as square."""
COVERS = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails | av.stream.Disposition.still_image
UPRIGHT = (1, 0, 0, 1)


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """Properties of a video that are known before its images are read.

    Attributes:
        path: the file.
        width, height: size of its images as they are shown: upright, with square pixels. Where the size changes
            inside the video, this is the size of most frames.
        pixel_shape: width over height of a stored pixel.
        times: [N] seconds from the first frame to each frame that can be decoded, strictly increasing.
        hdr: "PQ" or "HLG" where the video holds values brighter than a screen's white, else "".
        focal_35mm: focal length on 35 mm film, in millimetres, where the file names it, else None.
        lost: packets and frames that could not be decoded.
        notes: one sentence about each problem of the file.
    """

    path: Path
    width: int
    height: int
    pixel_shape: Fraction
    times: Float[np.ndarray, "N"]
    hdr: str
    focal_35mm: float | None
    lost: int
    notes: tuple[str, ...]

    @property
    def spacing(self) -> float:
        """Seconds from one frame to the next."""
        return typical_spacing(self.times)


@contextmanager
def open_film(path: Path, remedy: str | None = None) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """(container, stream of the video) of a file; RafError naming the file if it cannot be decoded, with
    what to do: by default, to convert it."""
    unreadable = remedy or f"convert it to .mp4 and try again; {FORMATS_IN_WORDS} can be read"
    try:
        empty = path.stat().st_size == 0
        # With an explicit protocol, the part of a name before a colon is not taken for one.
        container = None if empty else av.open(f"file:{path.absolute()}", options={"format_whitelist": FORMATS})
    except av.ArgumentError:
        raise RafError(f"{path}: not a video of a format that is read here; {unreadable}") from None
    except (OSError, ValueError, av.FFmpegError) as error:
        words = getattr(error, "strerror", None) or error
        raise RafError(f"{path}: not a readable video ({words}); {unreadable}") from None
    if container is None:
        raise RafError(f"{path}: the file is empty; copy or download it again")
    with container:
        films = [stream for stream in container.streams.video if not stream.disposition & COVERS]
        films = [stream for stream in films if stream.codec_context is not None] or films
        if not films:
            what = "only a cover image" if container.streams.video else "no images"
            raise RafError(f"{path}: holds {what}, no video; give a video file that shows a face")
        best = container.streams.best("video")
        stream = best if best in films else films[0]
        if stream.codec_context is None:
            raise RafError(f"{path}: its codec is not known here; {unreadable}")
        yield container, stream


@dataclass
class Reading:
    """Result of one reading of a file: packets and frames that could not be decoded, and the second it ends at."""

    lost: int = 0
    end: float = 0.0


def decoded(
    container: av.container.InputContainer, stream: av.VideoStream, reading: Reading | None = None
) -> Iterator[av.VideoFrame]:
    """The frames that can be decoded, in the order they are shown; `reading` counts the others."""
    reading = Reading() if reading is None else reading
    packets = container.demux()
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:  # nothing after it can be read
            reading.lost += 1
            return
        if packet is None:
            return
        if packet.pts is not None:
            reading.end = max(reading.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream is not stream:  # a closing packet has no index of its own
            continue
        try:
            frames = packet.decode()
        except av.FFmpegError:
            reading.lost += 1
            continue
        good = [frame for frame in frames if not frame.is_corrupt]
        reading.lost += len(frames) - len(good)
        yield from good


def orientation(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """The display matrix (a, b, c, d) of a frame: column x, row y is shown at column a·x + c·y, row b·x + d·y."""
    for data in frame.side_data:
        if data.type == av.sidedata.sidedata.Type.DISPLAYMATRIX:
            values = np.frombuffer(bytes(data), "<i4")
            return tuple(int(value) for value in (values[0], values[1], values[3], values[4]))
    return UPRIGHT


def lies_on_its_side(matrix: tuple[int, int, int, int]) -> bool:
    """Whether width and height are swapped when the image is shown."""
    a, b, c, d = map(abs, matrix)
    return b + c > a + d


def shown_size(frame: av.VideoFrame, pixel_shape: Fraction) -> tuple[int, int]:
    """(width, height) of a frame as it is shown: upright, of square pixels, no side smaller than it is stored."""
    width = round(frame.width * max(pixel_shape, 1))
    height = round(frame.height / min(pixel_shape, 1))
    return (height, width) if lies_on_its_side(orientation(frame)) else (width, height)


def typical_spacing(times: Float[np.ndarray, "N"]) -> float:
    """Seconds from one frame to the next: the mean, or the median where gaps make the two differ by over a tenth."""
    steps = np.diff(times)
    mean, median = float(steps.mean()), float(np.median(steps))
    return mean if abs(mean / median - 1) < 0.1 else median


def _steady_times(stamps: list[float | None], rate: float) -> Float[np.ndarray, "N"]:
    """Seconds from the first frame. Without time stamps, frames are 1/`rate` apart; a frame that is not after the one
    before it (a recording that was joined from two) follows it at the usual distance."""
    if None in stamps or len(stamps) < 2:
        return np.arange(len(stamps)) / rate
    steps = np.diff(np.array(stamps, float))
    if (steps <= 0).mean() > 0.5:
        return np.arange(len(stamps)) / rate
    steps[steps <= 0] = np.median(steps[steps > 0])
    return np.concatenate([[0.0], np.cumsum(steps)])


def _pixel_shape(path: Path, stream: av.VideoStream) -> Fraction:
    shape = stream.sample_aspect_ratio
    if not shape or abs(shape - 1) <= SQUARE:
        return Fraction(1)
    if not 1 / MAX_PIXEL_SHAPE <= shape <= MAX_PIXEL_SHAPE:
        raise RafError(f"{path}: says that its pixels are {shape} as wide as high; convert it to .mp4 and try again")
    return Fraction(shape)


def read_info(path: Path) -> VideoInfo:
    """`VideoInfo` of a file. All frames are decoded once, so that tracking knows which of them can be.

    Raises RafError naming the file when it is not a video or no frame of it can be decoded.
    """
    reading, stamps, sizes, first_of, hdr = Reading(), [], Counter(), {}, ""
    with open_film(path) as (container, stream):
        shape = _pixel_shape(path, stream)
        rate = float(stream.guessed_rate or stream.average_rate or 25)
        frames = decoded(container, stream, reading)
        for frame in tqdm(frames, desc=f"reading {path.name}", unit="frame", delay=5, leave=False):
            if frame.width * frame.height > MAX_PIXELS:
                raise RafError(f"{path}: images of {frame.width}×{frame.height} are too large; make it smaller")
            size = shown_size(frame, shape)
            first_of.setdefault(size, len(stamps))
            sizes[size] += 1
            stamps.append(frame.time)
            hdr = hdr or HDR.get(int(frame.color_trc), "")
        length = (container.duration or 0) / av.time_base
        focal = focal_length_35mm(stream.metadata, container.metadata)
    if not stamps:
        raise RafError(f"{path}: none of its frames can be decoded; copy or download it again, or convert it to .mp4")
    times = _steady_times(stamps, rate)
    notes = _missing(len(times), reading, length)
    if len(sizes) > 1:
        later = ", ".join(f"{w}×{h} from {times[first_of[w, h]]:.1f} s on" for w, h in sizes)
        notes.append(f"its images change size ({later}); all are fitted into the size of most frames")
    (width, height), _ = sizes.most_common(1)[0]
    return VideoInfo(path, width, height, shape, times, hdr, focal, reading.lost, tuple(notes))


def _missing(count: int, reading: Reading, length: float) -> list[str]:
    """A sentence when frames cannot be read, or when the file ends before the second that its header promises."""
    if length - reading.end > max(0.1, 0.02 * length):
        return [
            f"it is cut short: {count} frames ({reading.end:.1f} of {length:.1f} seconds) can be read and are used; "
            "copy or download it again for the rest"
        ]
    if reading.lost:
        return [f"it is damaged or cut short: {count} frames can be read and are used, {reading.lost} cannot"]
    return []
