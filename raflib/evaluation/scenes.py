"""Scenes: what an avatar has to perform, and the images it is compared with, in self- and in cross-driving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from raflib.capture import Capture, Performed, most_frontal
from raflib.driving import transfer_pose, transfer_torso
from raflib.errors import RafError
from raflib.evaluation.metrics.base import Tracker
from raflib.evaluation.options import EvaluateOptions, pick_frames
from raflib.geometry import Camera
from raflib.images import lanczos

TrueImage = Callable[[int, int], UInt8[np.ndarray, "H W 3"]]
"""The image of a scene's frame (0 to F−1) from its camera (0 to C−1)."""


@dataclass(frozen=True, eq=False)
class Scene:
    """Frames of one driver as the avatar performs them.

    Attributes:
        driver: the driver's id; in self-driving the subject's own.
        sequence, frame: [F] sequence and frame number of each row in the driver's recording.
        expression: [F,d] features that the avatar is given.
        pose: [F,6] head pose; NaN where the face was lost on the target's own images.
        scale: [F] metres a canonical unit.
        cameras: [C] cameras that render, at the size of comparison.
        truth: the true images; None where there are none.
        landmarks: [F,L,3] world landmarks of the true images (metres); None without a truth.
        driver_image: the driver's images; in self-driving the true ones.
        head_pose: where `pose` comes from: "own" images, the "truth" of cross-driving, or the "driver".
        torso: [F,6] its motion (see `Capture.torso`); None where driver or target have none.
    """

    driver: str
    sequence: np.ndarray
    frame: np.ndarray
    expression: Float[np.ndarray, "F d"]
    pose: Float[np.ndarray, "F 6"]
    scale: Float[np.ndarray, "F"]
    cameras: list[Camera]
    truth: TrueImage | None
    landmarks: Float[np.ndarray, "F L 3"] | None
    driver_image: TrueImage
    head_pose: str = "own"
    torso: Float[np.ndarray, "F 6"] | None = None


def self_scene(capture: Capture, cameras: Sequence[int], options: EvaluateOptions) -> Scene:
    """The subject's own frames of the split; the truth are its real images. RafError where no frame has a face."""
    clip = getattr(capture, options.split)
    rows = pick_frames(np.flatnonzero(clip), options.frames)
    if not len(rows):
        raise RafError(f"evaluate: capture {capture.subject} has no detected frame in the wanted split")
    prefetch = getattr(capture.frames, "prefetch", None)
    if prefetch is not None:
        prefetch([(int(t), int(c)) for t in rows for c in cameras])
    chosen = [_sized(capture.cameras[c], options.size) for c in cameras]

    def image(i: int, c: int) -> UInt8[np.ndarray, "H W 3"]:
        return lanczos(capture.image(int(rows[i]), int(cameras[c])), chosen[c].width, chosen[c].height)

    given = options.driving_map(capture.expression[rows], capture.expression[clip], capture.expression[capture.train])
    signals = given, capture.pose[rows], capture.scale[rows]
    where = capture.sequence[rows], capture.frame[rows]
    landmarks, torso = capture.landmarks[rows], capture.torso_at(rows)
    return Scene(capture.subject, *where, *signals, chosen, image, landmarks, image, torso=torso)


def cross_scene(
    target: Capture,
    driver: Capture,
    cameras: Sequence[int],
    options: EvaluateOptions,
    tracker: Tracker | None,
    progress: bool,
) -> Scene:
    """The driver's FREE frames, performed by the target.

    The driver is seen from the cameras that render where both were filmed by one rig, else from its most frontal one,
    so that both faces are compared from like views. RafError where the driver has no detected FREE frame, and for a
    truth that is required but not owned.
    """
    rows = pick_frames(np.flatnonzero(driver.free), options.frames)
    if not len(rows):
        raise RafError(f"evaluate: driver {driver.subject} has no detected frame of the FREE sequence")
    chosen = [_sized(target.cameras[c], options.size) for c in cameras]
    names = [camera.name for camera in driver.cameras]
    frontal = most_frontal(driver.cameras, 1)[0]
    views = [names.index(camera.name) if camera.name in names else frontal for camera in chosen]

    def driver_image(i: int, c: int) -> UInt8[np.ndarray, "H W 3"]:
        return driver.image(int(rows[i]), views[c])

    performed = _performed(target, driver, rows, chosen, options.truth, tracker, progress)
    if performed is None:
        truth = landmarks = None
        pose, scale = transfer_pose(driver, target, rows)
    else:
        pose, scale, landmarks = performed.pose, performed.scale, performed.landmarks
        if options.head_pose == "driver":
            transferred, scale = transfer_pose(driver, target, rows)
            # A frame whose face was lost on the true images has no crop either, so it stays without a pose.
            pose = np.where(np.isfinite(pose), transferred, np.float32(np.nan))

        def truth(i: int, c: int) -> UInt8[np.ndarray, "H W 3"]:
            return performed.images[i, c]

    where = driver.sequence[rows], driver.frame[rows]
    own = target.expression[target.train]
    given = options.driving_map(driver.expression[rows], driver.expression[driver.free], own)
    origin = "driver" if truth is None else options.head_pose
    torso = transfer_torso(driver, target, rows)
    return Scene(driver.subject, *where, given, pose, scale, chosen, truth, landmarks, driver_image, origin, torso)


def _performed(
    target: Capture,
    driver: Capture,
    rows: Int[np.ndarray, " F"],
    cameras: list[Camera],
    wanted: str | bool | Callable[..., Performed],
    tracker: Tracker | None,
    progress: bool,
) -> Performed | None:
    """The target performing the driver's rows, where that truth is `wanted` (see `EvaluateOptions.truth`)."""
    own = None if target.truth is None or driver.truth is None else target.truth.perform
    if wanted is True and own is None:
        raise RafError(f"evaluate: {target.subject} driven by {driver.subject} has no truth; only the studio owns one")
    perform = wanted if callable(wanted) else own if wanted is True or wanted == "auto" else None
    if perform is None:
        return None
    return perform(target, driver, rows, cameras, tracker=tracker, progress=progress)


def _sized(camera: Camera, size: int | None) -> Camera:
    """The camera with images `size` pixels wide; unchanged for None."""
    return camera if size is None else camera.resized(size)
