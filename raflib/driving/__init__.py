"""What an avatar is given when another person drives it: driving maps, and head motion carried over."""

from raflib.driving.maps import (
    DRIVES,
    Centred,
    Direct,
    DrivingMap,
    Fitted,
    Nearest,
    Projected,
    Relative,
    drive_from_name,
)
from raflib.driving.transfer import NOMINAL_FPS, frames_to_play, rotations, transfer_pose, transfer_torso

__all__ = [
    "DRIVES", "NOMINAL_FPS", "Centred", "Direct", "DrivingMap", "Fitted", "Nearest", "Projected", "Relative",
    "drive_from_name", "frames_to_play", "rotations", "transfer_pose", "transfer_torso",
]  # fmt: skip
