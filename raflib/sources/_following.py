"""The window of each frame of a video: one fixed window, or one that slowly follows a face which it cannot hold.

Landmarks and head poses of a crop belong to a camera that looks at the middle of the crop (see
`raflib.tracking.head_pose`), so this camera moves with the window. A face that is elsewhere all at once is another
person, or another seat, and is not followed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from raflib.sources._tracked import evenly
from raflib.sources._video_frames import read_frames
from raflib.sources._video_info import VideoInfo
from raflib.sources._window import box_of, find_window
from raflib.tracking import Observation

LOOKED_AT = 60
"""Frames in which the face is looked for."""
STEP = 1.0
"""The farthest that a face travels between two of them, in face sizes."""
ROOM = 1.25
"""How much larger the window is than around a face that does not move."""
SLOW = 1.0
"""Seconds over which the window's path is smoothed (standard deviation)."""

Rectangle = tuple[int, int, int, int]
"""left, top, right, bottom in pixels."""


@dataclass(frozen=True, eq=False)
class Windows:
    """The square window of each of T frames.

    Attributes:
        corners: (x, y) of each window (pixels of the image).
        side: their side.
        move: whether they differ.
        note: a sentence to tell, or "".
    """

    corners: Int[np.ndarray, "T 2"]
    side: int
    move: bool
    note: str

    def cut(self, image: np.ndarray, row: int) -> np.ndarray:
        """The window of frame `row`; contiguous, as trackers need it."""
        x, y = self.corners[row]
        return np.ascontiguousarray(image[y : y + self.side, x : x + self.side])


def find_windows(
    info: VideoInfo,
    numbers: Int[np.ndarray, "T"],
    probes: int,
    margin: float,
    tracker: Callable[[np.ndarray], Observation | None],
) -> Windows:
    """The windows of the frames `numbers` of a video. RafError naming the file if no probe shows a face.

    Args:
        info: the video.
        numbers: its frames that are used, increasing.
        probes: frames in which the fixed window is searched.
        margin: side of the window over the extent of the face.
        tracker: returns the face in an image, or None.
    """
    looked_at = {int(numbers[len(numbers) * probe // probes]) for probe in range(probes)}
    fixed = find_window(str(info.path), (image for _, image in read_frames(info, looked_at)), margin, tracker)
    if fixed.note:
        closer = set(numbers[evenly(len(numbers), LOOKED_AT)].tolist())
        seen = [(number, found) for number, image in read_frames(info, closer) if (found := tracker(image))]
        boxes, rows = np.array([box_of(found) for _, found in seen], float), [number for number, _ in seen]
        path = following_window(boxes, info.times[rows], info.times[numbers], fixed.inner, margin)
        if path is not None:
            note = "the face moves through the image; the window follows it, and the person is shown on white"
            return Windows(*path, True, note)
    return Windows(np.tile([fixed.x, fixed.y], (len(numbers), 1)), fixed.side, False, fixed.note)


def following_window(
    boxes: Float[np.ndarray, "K 4"],
    seen_at: Float[np.ndarray, "K"],
    times: Float[np.ndarray, "T"],
    inner: Rectangle,
    margin: float,
) -> tuple[Int[np.ndarray, "T 2"], int] | None:
    """((x, y) of the window in each frame, its side), or None where the face does not travel steadily.

    Args:
        boxes: (left, top, right, bottom) of the face in some frames.
        seen_at: seconds of those frames.
        times: seconds of all frames.
        inner: the part of the image that the window may show.
        margin: side of the window over the size of a face that does not move.
    """
    from scipy.ndimage import gaussian_filter1d

    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(1)
    steps = np.linalg.norm(np.diff(centre, axis=0), axis=1) / np.minimum(size[1:], size[:-1])
    if len(boxes) < 2 or steps.max() > STEP:
        return None
    left, top, right, bottom = inner
    side = int(min(ROOM * margin * np.quantile(size, 0.9), right - left, bottom - top))
    even = np.linspace(times[0], times[-1], max(2, len(times)))
    sigma = SLOW / max(even[1] - even[0], 1e-9)
    path = np.stack([np.interp(even, seen_at, centre[:, axis]) for axis in (0, 1)], 1)
    beyond = min(int(4 * sigma), len(path) - 1)  # the travel goes on at both ends, so that the window does not lag
    path = np.pad(path, ((beyond, beyond), (0, 0)), "reflect", reflect_type="odd")
    path = gaussian_filter1d(path, sigma, axis=0)[beyond : len(path) - beyond] - side / 2
    path = np.stack([np.interp(times, even, path[:, axis]) for axis in (0, 1)], 1)
    return np.clip(path, [left, top], [right - side, bottom - side]).astype(int), side
