"""The images of a video as a player shows them: upright, with square pixels, of one size, in a screen's colours."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter
from jaxtyping import UInt8

from raflib.sources._video_info import (
    HDR,
    VideoInfo,
    decoded,
    lies_on_its_side,
    open_film,
    orientation,
    shown_size,
)


def read_frames(
    info: VideoInfo, wanted: set[int] | None = None
) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
    """(number, RGB image) of the video's frames in the order they are shown; only the frames `wanted` if given.

    Numbers count the frames of `info.times`. Images are [info.height, info.width, 3] and contiguous: a decoder pads
    rows, and a tracker finds no face in a padded image. Raises RafError naming the file when it is not a video.
    """
    last = len(info.times) - 1 if wanted is None else max(wanted, default=-1)
    reformatter = VideoReformatter()  # one for all frames: it keeps its tables
    with open_film(info.path) as (container, stream):
        for number, frame in enumerate(decoded(container, stream)):
            if number > last:
                return
            if wanted is None or number in wanted:
                yield number, _image(frame, info, reformatter)


def _image(frame: av.VideoFrame, info: VideoInfo, reformatter: VideoReformatter) -> np.ndarray:
    matrix = orientation(frame)
    width, height = _fitted(shown_size(frame, info.pixel_shape), (info.width, info.height))
    stored = (height, width) if lies_on_its_side(matrix) else (width, height)
    light = {}
    if int(frame.color_trc) in HDR:  # reference white becomes white; brighter values are cut off
        light = {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}
    same = stored == (frame.width, frame.height)
    way = {} if same else {"interpolation": "BICUBIC"}
    made = reformatter.reformat(frame, *stored, "rgb24", **way, **light).to_ndarray()
    made = turned(made, matrix)
    if (width, height) == (info.width, info.height):
        return np.ascontiguousarray(made)
    page = np.zeros((info.height, info.width, 3), np.uint8)
    top, left = (info.height - height) // 2, (info.width - width) // 2
    page[top : top + height, left : left + width] = made
    return page


def turned(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """A stored image [H,W,…] as it is shown: rotated by the nearest quarter turn, and mirrored if `matrix` says so."""
    a, b, c, d = matrix
    if lies_on_its_side(matrix):
        image, down, across = image.swapaxes(0, 1), b, c
    else:
        down, across = d, a
    return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def _fitted(size: tuple[int, int], page: tuple[int, int]) -> tuple[int, int]:
    """The largest (width, height) of the shape of `size` that fits into `page`."""
    ratio = min(Fraction(page[0], size[0]), Fraction(page[1], size[1]))
    return max(1, min(page[0], round(size[0] * ratio))), max(1, min(page[1], round(size[1] * ratio)))
