"""`Matte`: the alpha of the person in an image, and the image with the person on white.

MediaPipe's selfie segmentation, run by OpenCV, tells person from room, but its outline is about two pixels wrong.
Around the outline, the alpha of a pixel is therefore read from its colour c: with the colours F of the person and B of
the room nearby, c = α F + (1 − α) B. F and B are local means over pixels that surely belong to one of them. Where the
camera stands still, `empty_room` learns B from other frames. The colour that the room adds to the outline is taken off,
so that no fringe remains on white. The model file ships in `data` and is checked by its hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from raflib.errors import RafError
from raflib.runs import data_root
from raflib.tracking.face import checked_content

MODEL = "selfie_segmentation.tflite"
MODEL_SHA256 = "8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27"
SIDE = 256
"""Pixels a side of the network's input. Lengths below are in pixels of an image of this size."""
BAND, REACH = 2, 4
"""How far the network's outline may be wrong, and the distance over which colours are averaged."""
SURE = 0.9
"""Alpha from which a pixel surely shows the person; below 1 − `SURE` it surely shows the room."""
CONTRAST, OFF_LINE = 0.06, 0.1
"""How much F and B must differ, and how far a colour may lie beside their line, to trust its alpha (colours in 0..1).
Where trust is low, the network's alpha stays."""
NEAR = 3
"""A part of the person within this distance of the rest belongs to it; other parts are left out."""
HOLE, SAME = 0.02, 0.1
"""Holes of less than this share of the image are filled, except where colours differ from the known room by less than
`SAME` (median)."""
SEEN, STEADY, STILL = 4, 6 / 255, 0.8
"""A pixel of the room is known if it is seen in so many frames and differs by at most `STEADY` (median); a camera
stands still if this holds for the share `STILL` of all pixels that are seen often enough."""


def checked_model(path: str | Path | None = None) -> Path:
    """`path`, or the model that ships, after its hash was checked; RafError naming the file if missing or different."""
    path = data_root() / MODEL if path is None else Path(path)
    return checked_content(path, MODEL, MODEL_SHA256, "the segmentation model")


class Matte:
    """Separates the person from the room in RGB images (uint8 [H,W,3]). One object serves one thread.

    Every image is treated on its own, so results do not depend on order. Raises RafError for a missing or altered
    model and for images of another kind.
    """

    def __init__(self, model_path: str | Path | None = None):
        import cv2

        self._network = cv2.dnn.readNetFromTFLite(np.frombuffer(checked_model(model_path).read_bytes(), np.uint8))

    def alpha(self, image: np.ndarray, room: Float[np.ndarray, "h w 3"] | None = None) -> UInt8[np.ndarray, "H W"]:
        """Alpha of the person, 0 to 255. `room` is the result of `empty_room` for images of the same camera."""
        return self.cut_out(image, room)[1]

    def cut_out(
        self, image: np.ndarray, room: Float[np.ndarray, "h w 3"] | None = None
    ) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
        """(the person on white, alpha); without a person the image is all white."""
        alpha, colour = _one_person(self.coarse(image)), image.astype(np.float32) / 255
        if room is not None and room.shape != image.shape:
            raise RafError(f"Matte: the room is {room.shape}, the image {image.shape}; give the room of this camera")
        white, alpha = _refined(colour, _filled(alpha, colour, room), room)
        return np.rint(255 * white).astype(np.uint8), np.rint(255 * alpha).astype(np.uint8)

    def coarse(self, image: np.ndarray) -> Float[np.ndarray, "H W"]:
        """The network's own alpha in 0..1, resized to the image."""
        import cv2

        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise RafError(f"Matte: expected uint8 [H,W,3] RGB, got {image.dtype} {image.shape}; convert it")
        height, width = image.shape[:2]
        way = cv2.INTER_AREA if min(height, width) > SIDE else cv2.INTER_CUBIC
        small = cv2.resize(image, (SIDE, SIDE), interpolation=way)
        self._network.setInput(cv2.dnn.blobFromImage(small, 1 / 255))
        return cv2.resize(self._network.forward()[0, 0], (width, height), interpolation=cv2.INTER_LINEAR)

    def empty_room(self, images: Sequence[UInt8[np.ndarray, "H W 3"]]) -> Float[np.ndarray, "H W 3"] | None:
        """The room behind the person in 0..1, NaN where it was never seen; None if the camera moves.

        `images` are some frames of one size, spread over a recording. A pixel is the median over the frames in which
        it surely shows the room.
        """
        outside = np.stack([_sure(_one_person(self.coarse(image)))[1] for image in images])
        often = outside.sum(0) >= SEEN
        room = np.full(images[0].shape, np.nan, np.float32)
        steady = np.zeros(often.shape, bool)
        for row in np.flatnonzero(often.any(1)):  # row by row: all frames at once may not fit into memory
            columns = np.flatnonzero(often[row])
            seen = np.stack([image[row, columns] for image in images]).astype(np.float32) / 255
            seen[~outside[:, row, columns]] = np.nan
            middle = np.nanmedian(seen, axis=0)
            steady[row, columns] = np.nanmedian(np.abs(seen - middle), axis=0).max(-1) <= STEADY
            room[row, columns] = middle
        if not often.any() or steady.sum() < STILL * often.sum():
            return None
        room[~steady] = np.nan
        return room


def without_gaps(room: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The room of `Matte.empty_room` as an image; where it was never seen, colours continue from the gap's border."""
    import cv2

    known = np.isfinite(room).all(-1)
    seen = np.rint(255 * np.nan_to_num(room)).astype(np.uint8)
    return cv2.inpaint(seen, (~known).astype(np.uint8), _pixels(REACH, room.shape), cv2.INPAINT_TELEA)


def _one_person(alpha: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Only the largest part of the alpha, with what is within `NEAR` of it: objects in the room are left out."""
    import cv2

    wide = (_grown(alpha, NEAR) > 0.5).astype(np.uint8)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(wide)
    if count <= 2:  # the outside is counted, too
        return alpha
    return np.where(labels == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax(), alpha, 0).astype(np.float32)


def _filled(
    alpha: Float[np.ndarray, "H W"], colour: Float[np.ndarray, "H W 3"], room: Float[np.ndarray, "H W 3"] | None
) -> Float[np.ndarray, "H W"]:
    """The alpha without small holes, as jewellery and patterns make them. A hole that shows the known room stays."""
    import cv2

    _, labels, statistics, _ = cv2.connectedComponentsWithStats((alpha < SURE).astype(np.uint8))
    left, top, width, height, area = statistics.T
    inner = (left > 0) & (top > 0) & (left + width < alpha.shape[1]) & (top + height < alpha.shape[0])
    filled = inner & (area < HOLE * alpha.size)
    filled[0] = False  # the person itself
    if room is not None:
        for number in np.flatnonzero(filled):
            away = np.abs(colour - room)[labels == number].max(-1)
            filled[number] = not np.median(away) < SAME  # NaN, an unknown room, counts as another colour
    return np.where(filled[labels], 1, alpha).astype(np.float32)


def _refined(
    colour: Float[np.ndarray, "H W 3"], alpha: Float[np.ndarray, "H W"], room: Float[np.ndarray, "H W 3"] | None
) -> tuple[Float[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]]:
    """(the person on white, alpha) after `alpha`, the network's, is refined around its outline."""
    inside, outside = _sure(alpha)
    person = _local_mean(colour, inside)
    # A learned room is compared with this frame nearby, because light and exposure change.
    known = np.zeros_like(colour) if room is None else np.nan_to_num(room)
    learned = np.zeros(alpha.shape, bool) if room is None else np.isfinite(room).all(-1)
    behind = known + _local_mean(colour - known, outside & learned)
    if not learned.all():
        behind = np.where(learned[..., None], behind, _local_mean(colour, outside))
    across, offset = person - behind, colour - behind
    contrast = (across**2).sum(-1)
    line = np.clip((offset * across).sum(-1) / (contrast + 1e-9), 0, 1)
    beside = ((offset - line[..., None] * across) ** 2).sum(-1)
    trust = contrast / (contrast + CONTRAST**2) * np.exp(-beside / OFF_LINE**2)
    refined = trust * line + (1 - trust) * alpha
    refined[inside], refined[outside] = 1, 0
    white = np.clip(colour + (1 - refined[..., None]) * (1 - behind), 0, 1)
    white[outside] = 1  # the room's noise is left out, too
    return white, refined


def _sure(alpha: Float[np.ndarray, "H W"]) -> tuple[Bool[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]:
    """Pixels that surely show the person, and pixels that surely show the room: at least `BAND` from the outline."""
    return 1 - _grown(1 - alpha, BAND) > SURE, _grown(alpha, BAND) < 1 - SURE


def _pixels(length: int, shape: tuple[int, ...]) -> int:
    return max(1, round(length * min(shape[:2]) / SIDE))


def _grown(values: Float[np.ndarray, "H W"], reach: int) -> Float[np.ndarray, "H W"]:
    import cv2

    side = 2 * _pixels(reach, values.shape) + 1
    return cv2.dilate(values.astype(np.float32), np.ones((side, side), np.uint8))


def _local_mean(colour: Float[np.ndarray, "H W 3"], where: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 3"]:
    """Mean colour of the pixels `where` around each pixel; where few are near, over four times the distance."""
    import cv2

    weight, reach = where.astype(np.float32), _pixels(REACH, where.shape)

    def mean(radius: int) -> tuple[np.ndarray, np.ndarray]:
        size = (2 * radius + 1, 2 * radius + 1)
        share = cv2.boxFilter(weight, -1, size)[..., None]
        return cv2.boxFilter(colour * weight[..., None], -1, size) / (share + 1e-9), share

    (near, share), (wide, _) = mean(reach), mean(4 * reach)
    trust = np.clip(share * (2 * reach + 1), 0, 1)
    return (trust * near + (1 - trust) * wide).astype(np.float32)
