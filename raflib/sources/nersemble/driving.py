"""What a submission of the monocular benchmark shows: the signals of its held-out sequences, and its four cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from raflib.capture import Capture
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.sources.nersemble.benchmark_films import CALIBRATION, read_calibration
from raflib.sources.nersemble.flame import skull_pose
from raflib.sources.nersemble.mono import TRACKS, MonoImages, read_person
from raflib.sources.nersemble.names import MONO_HELD_OUT, MONO_SERIALS


@dataclass(frozen=True, eq=False)
class Driving:
    """All F frames of one held-out sequence, as an avatar of the person is given them."""

    expression: Float[np.ndarray, "F 109"]
    pose: Float[np.ndarray, "F 6"]
    scale: Float[np.ndarray, "F"]


def driving_of(capture: Capture) -> dict[str, Driving]:
    """What drives the avatar of a monocular capture in each held-out sequence, whatever frames the capture has.

    A frame that is not complete repeats the one before it; at the start of a sequence, the first complete one. RafError
    naming the tracks that have no complete frame.
    """
    frames = capture.frames
    assert isinstance(frames, MonoImages)
    driving = {}
    for name, tracks in read_person(frames.person, MONO_HELD_OUT).items():
        if not tracks.complete.any():
            raise RafError(f"{frames.person / 'sequences' / name / TRACKS}: every frame holds NaN; download it again")
        pose, scale = skull_pose(tracks, frames.head.joint, frames.head.centre, frames.world)
        last = np.maximum.accumulate(np.where(tracks.complete, np.arange(len(tracks)), tracks.complete.argmax()))
        driving[name] = Driving(*(values[last].astype(np.float32) for values in (tracks.features, pose, scale)))
    return driving


def submission_cameras(capture: Capture) -> list[Camera]:
    """The four cameras that a submission shows, with images of the films' size.

    RafError naming the calibration where it lacks one.
    """
    frames = capture.frames
    assert isinstance(frames, MonoImages)
    calibration = read_calibration(frames.person)
    if absent := [serial for serial in MONO_SERIALS if serial not in calibration.intrinsics]:
        raise RafError(f"{frames.person / CALIBRATION}: camera {absent[0]} is missing; download this file again")
    size = frames.film_size
    return [calibration.camera(serial, size, frames.world) for serial in MONO_SERIALS]
