"""Finer head poses: the texture of the rigid head is followed from a few key frames to all others.

Landmarks drift together by about a pixel from frame to frame, so head poses fitted to them have errors of about a
degree and two millimetres. Images allow more: forehead, nose bridge, temples and hair have texture that moves with the
skull, and optical flow follows it to a quarter of a pixel. Corners of that texture are found in key frames of different
head poses. They are followed to every frame, forwards and back, and dropped if they do not return. Bundle adjustment
then estimates the corners' places on the head together with all poses. Corners that move against the skull, as on
brows, get almost no weight (Geman-McClure).

The result is a `HeadMap`, which also finds the pose of the same head in images that it was not made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from tqdm import tqdm

from raflib.errors import RafError
from raflib.geometry import Camera, farthest_row
from raflib.tracking.bundle import adjust, common_lens, extrinsics_of, join, project, resected, split
from raflib.tracking.landmarks import FACE_OVAL, LEFT_EYE, RIGHT_EYE

KEYS = 4
CORNERS = 36
"""Number of key frames, and of corners in each view of a key frame."""
ADJUSTED_FRAMES = 400
"""Most frames of the bundle adjustment, evenly spaced; the others are located in its result."""
WINDOW, RETURN, REACH = 15, 0.7, 8.0
"""Optical flow, all in pixels: window, largest distance of a returned corner from its start, and from the guess."""
NOSE_TIP = 1


@dataclass(frozen=True, eq=False)
class HeadMap:
    """Corners on one head.

    Attributes:
        images: [K,V,H,W] grey key frames.
        key, view: [M] the key frame and the view in which each corner was found.
        pixels: [M,2] its place in that image.
        points: [M,3] its place on the head in metres, in the frame that poses refer to.
    """

    images: UInt8[np.ndarray, "K V H W"]
    key: Int[np.ndarray, "M"]
    view: Int[np.ndarray, "M"]
    pixels: Float[np.ndarray, "M 2"]
    points: Float[np.ndarray, "M 3"]

    def locate(
        self, images: UInt8[np.ndarray, "F V H W"], poses: Float[np.ndarray, "F 6"], cameras: Sequence[Camera]
    ) -> tuple[Float[np.ndarray, "F 6"], Bool[np.ndarray, "F"]]:
        """Poses of this head in grey `images` by the V cameras of the map, starting from rough `poses`.

        Returns (poses, found). A frame with too few corners, or with a rough pose of NaN, keeps its rough pose.
        """
        rotations, places = split(poses)
        known = np.flatnonzero(np.isfinite(poses).all(1))
        seen = np.full((len(poses), len(self.key), 2), np.nan)
        for row in known:
            seen[row] = self._follow(images[row], rotations[row], places[row], cameras)
        return resected(poses, known, seen, self.points, extrinsics_of(cameras)[self.view], common_lens(cameras))

    def about(self, before: Float[np.ndarray, "T 6"], after: Float[np.ndarray, "T 6"]) -> HeadMap:
        """This map for poses whose origin moved on the head, from `before` to `after` (with the same rotations)."""
        rotations, places = split(before)
        moved = np.einsum("tij,ti->tj", rotations, split(after)[1] - places)
        return replace(self, points=self.points - np.median(moved[np.isfinite(before).all(1)], axis=0))

    def _follow(
        self,
        images: UInt8[np.ndarray, "V H W"],
        rotation: Float[np.ndarray, "3 3"],
        place: Float[np.ndarray, "3"],
        cameras: Sequence[Camera],
    ) -> Float[np.ndarray, "M 2"]:
        """Place of each corner in one frame, NaN where it was lost."""
        guess = project(
            self.points, rotation[None], place[None], extrinsics_of(cameras)[self.view], common_lens(cameras)
        )[0][0]
        found = np.full((len(self.key), 2), np.nan)
        for key, shots in enumerate(self.images):
            for view, (start, now) in enumerate(zip(shots, images, strict=True)):
                rows = np.flatnonzero((self.key == key) & (self.view == view))
                if len(rows):
                    found[rows] = _flow(start, now, self.pixels[rows], guess[rows])
        return found


def grey(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
    """Luma of an RGB image (ITU-R BT.601 weights)."""
    return (image[..., :3].astype(np.float32) @ np.float32([0.299, 0.587, 0.114]) + 0.5).astype(np.uint8)


def map_head(
    images: UInt8[np.ndarray, "T V H W"],
    cameras: Sequence[Camera],
    landmarks: Float[np.ndarray, "T L 3"],
    poses: Float[np.ndarray, "T 6"],
    progress: bool = True,
) -> tuple[HeadMap, Float[np.ndarray, "T 6"], Bool[np.ndarray, "T"]]:
    """The map of a head, and its refined poses.

    Args:
        images: grey images of every frame by V cameras of one size.
        landmarks: world metres, NaN where there is no face.
        poses: rough poses, as from `head_poses`, NaN where there is no face.

    Returns (map, poses [T,6], refined [T]); a frame with too few corners keeps its rough pose and is not `refined`.
    Raises RafError for images that do not fit the cameras or the frames, or without enough frames.
    """
    if images.ndim != 4 or images.shape[:2] != (len(poses), len(cameras)):
        raise RafError(
            f"map_head: {len(poses)} poses and {len(cameras)} cameras need grey images "
            f"[{len(poses)},{len(cameras)},H,W], got {list(images.shape)}"
        )
    known = np.flatnonzero(np.isfinite(poses).all(1))
    if len(known) < KEYS:
        raise RafError(f"map_head: a face was found in {len(known)} frames but {KEYS} are needed; add frames")
    rotations, places = split(poses)
    keys = _key_frames(poses[known, :3], known)
    start = _corners(images[keys], landmarks[keys], rotations[keys], places[keys], cameras)
    seen = np.full((len(poses), len(start.key), 2), np.nan)

    def follow(row: int) -> np.ndarray:
        return start._follow(images[row], rotations[row], places[row], cameras)

    with ThreadPoolExecutor(2) as pool:  # optical flow lets other threads run
        found = tqdm(
            pool.map(follow, known.tolist()), total=len(known), desc="head texture", unit="frame", disable=not progress
        )
        for row, corners in zip(known, found, strict=True):
            seen[row] = corners
    rows = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), ADJUSTED_FRAMES)).round().astype(int))]
    views, lens = extrinsics_of(cameras)[start.view], common_lens(cameras)
    points, turned, moved = adjust(start.points, rotations[rows], places[rows], seen[rows], views, lens)
    rough = np.array(poses, dtype=np.float64)
    rough[rows] = join(turned, moved)
    located, found = resected(rough, known, seen, points, views, lens)
    located[~found] = poses[~found]
    return HeadMap(start.images, start.key, start.view, start.pixels, points), located, found


def _key_frames(turns: Float[np.ndarray, "R 3"], known: Int[np.ndarray, "R"]) -> list[int]:
    """Rows of different head poses: the most usual one, then each time the one farthest from all chosen so far."""
    chosen = [int(np.linalg.norm(turns - np.median(turns, 0), axis=1).argmin())]
    while len(chosen) < KEYS:
        chosen.append(farthest_row(turns, chosen))
    return known[chosen].tolist()


def _corners(
    images: UInt8[np.ndarray, "K V H W"],
    landmarks: Float[np.ndarray, "K L 3"],
    rotations: Float[np.ndarray, "K 3 3"],
    places: Float[np.ndarray, "K 3"],
    cameras: Sequence[Camera],
) -> HeadMap:
    """Corners above the nose tip, away from the eyes, at the depth of the nearest landmarks."""
    import cv2

    key, view, pixels, points = [], [], [], []
    for k, (shots, seen) in enumerate(zip(images, landmarks, strict=True)):
        for v, (image, camera) in enumerate(zip(shots, cameras, strict=True)):
            marks, depth = camera.project(seen), camera.to_camera(seen)[:, 2]
            found = cv2.goodFeaturesToTrack(image, CORNERS, 0.005, 5, mask=_rigid_region(marks, image.shape))
            if found is None:
                continue
            found = found[:, 0].astype(np.float64)
            nearest = np.argsort(((found[:, None] - marks) ** 2).sum(2), axis=1)[:, :3]
            ray = np.concatenate([found, np.ones((len(found), 1))], 1) @ np.linalg.inv(camera.intrinsic).T
            world = (ray * depth[nearest].mean(1)[:, None] - camera.extrinsic[:3, 3]) @ camera.extrinsic[:3, :3]
            points.append((world - places[k]) @ rotations[k])
            pixels.append(found)
            key.append(np.full(len(found), k))
            view.append(np.full(len(found), v))
    if not points:
        raise RafError("map_head: the key frames show no texture to follow")
    return HeadMap(images, *(np.concatenate(part) for part in (key, view, pixels, points)))


def _rigid_region(marks: Float[np.ndarray, "L 2"], shape: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """255 from the nose tip to the hair above the forehead, 0 elsewhere and around the eyes."""
    oval = marks[list(FACE_OVAL)]
    low, high = oval.min(0), oval.max(0)
    height, width = high[1] - low[1], high[0] - low[0]
    mask = np.zeros(shape, np.uint8)
    left, right = int(max(low[0] - 0.12 * width, 0)), int(max(high[0] + 0.12 * width, 0))
    mask[int(max(low[1] - 0.45 * height, 0)) : int(max(marks[NOSE_TIP, 1], 0)), left:right] = 255
    for eye in (LEFT_EYE, RIGHT_EYE):
        low, high = marks[list(eye)].min(0) - 4, marks[list(eye)].max(0) + 5
        mask[int(max(low[1], 0)) : int(max(high[1], 0)), int(max(low[0], 0)) : int(max(high[0], 0))] = 0
    return mask


def _flow(
    start: UInt8[np.ndarray, "H W"],
    now: UInt8[np.ndarray, "H W"],
    pixels: Float[np.ndarray, "M 2"],
    guess: Float[np.ndarray, "M 2"],
) -> Float[np.ndarray, "M 2"]:
    """Corners `pixels` of image `start` in image `now` by pyramidal Lucas-Kanade, NaN where they do not return."""
    import cv2

    settings = {"winSize": (WINDOW, WINDOW), "maxLevel": 1, "criteria": (3, 20, 0.01)}
    settings["flags"] = cv2.OPTFLOW_USE_INITIAL_FLOW
    origin, aim = (np.ascontiguousarray(values, np.float32) for values in (pixels, guess))
    there, ok, _ = cv2.calcOpticalFlowPyrLK(start, now, origin, aim.copy(), **settings)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(now, start, there, origin.copy(), **settings)
    good = (ok[:, 0] > 0) & (returned[:, 0] > 0)
    good &= np.linalg.norm(back - origin, axis=1) < RETURN
    good &= np.linalg.norm(there - aim, axis=1) < REACH
    return np.where(good[:, None], there, np.nan)
