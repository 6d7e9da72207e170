"""What drives an avatar, frame by frame: expression, head pose and scale, and where it has one, the torso."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from raflib.errors import RafError, as_float32

Signals = tuple[Float[np.ndarray, "F d"], Float[np.ndarray, "F 6"], Float[np.ndarray, "F"]]
"""Expression, pose (axis-angle in radians, then metres) and scale (metres a canonical unit) of F frames."""


def checked_signals(what: str | Path, width: int, expression: object, pose: object, scale: object) -> Signals:
    """Expression [F,d] for an avatar of `width` features, pose [F,6] and scale [F], as float32; `what` begins errors.

    Raises RafError for no frames, other shapes, features of another width, numbers that are not finite, and scales that
    are not positive.
    """
    found = as_float32(f"{what}: expression", expression)
    if found.ndim != 2 or found.shape[1] != width:
        raise RafError(
            f"{what}: expression has shape {list(found.shape)}, expected [frames, {width}]: the features that this "
            "avatar was trained on"
        )
    if not len(found):
        raise RafError(f"{what}: no frames were given; give at least one")
    frames = len(found)
    signals = (
        _checked(what, "expression", found, (frames, width)),
        _checked(what, "pose", pose, (frames, 6)),
        _checked(what, "scale", scale, (frames,)),
    )
    if not (signals[2] > 0).all():
        raise RafError(f"{what}: scale is {signals[2].min():g} in a frame, expected metres a unit, above 0")
    return signals


def checked_torso(what: str | Path, frames: int, torso: object | None) -> Float[np.ndarray, "F 6"] | None:
    """The torso's motion in F frames (see `Capture.torso`) as float32; None stays None. RafError for other shapes and
    numbers that are not finite."""
    if torso is None:
        return None
    return _checked(what, "torso", torso, (frames, 6))


def _checked(what: str | Path, name: str, values: object, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """A signal of this shape, all finite, as float32."""
    found = as_float32(f"{what}: {name}", values)
    if found.shape != shape:
        raise RafError(f"{what}: {name} has shape {list(found.shape)}, expected {list(shape)}")
    if not np.isfinite(found).all():
        raise RafError(f"{what}: {name} holds NaN or infinite numbers; leave frames without a face out")
    return found
