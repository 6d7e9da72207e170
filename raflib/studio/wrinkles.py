"""Folds of the skin that depend on the expression: their places on the face, and the actions that cause them.

Each group of folds is a map over the texture atlas, negative in a groove and positive on the bulge beside it; the
shading kernel adds the groups, weighted by the shown actions, and darkens or lightens the skin by the sum.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Int8

from raflib.studio.atlas import atlas, smoothstep, value_noise
from raflib.studio.head_model import ACTIONS, EYE_LEVEL, FACE_FRONT, INDEX

Map = Float[np.ndarray, "R C"]
EYE_CORNER, NOSE_WING = (0.0475, -0.002), (0.0195, -0.034)  # across, up from the eyes (metres, mean head)
# For each group, the actions that cause it, and how strongly.
CAUSED_BY: dict[str, dict[str, float]] = {
    "forehead": {"browInnerUp": 0.5, "browOuterUpLeft": 0.3, "browOuterUpRight": 0.3},
    "frown": {"browDownLeft": 0.45, "browDownRight": 0.45, "noseSneerLeft": 0.1, "noseSneerRight": 0.1},
    "nose": {"noseSneerLeft": 0.45, "noseSneerRight": 0.45},
    "chin": {"mouthShrugLower": 0.8, "mouthFrownLeft": 0.2, "mouthFrownRight": 0.2, "mouthPressLeft": 0.08,
             "mouthPressRight": 0.08},
    "feetLeft": {"cheekSquintLeft": 0.45, "eyeSquintLeft": 0.3, "mouthSmileLeft": 0.3, "eyeBlinkLeft": 0.12},
    "feetRight": {"cheekSquintRight": 0.45, "eyeSquintRight": 0.3, "mouthSmileRight": 0.3, "eyeBlinkRight": 0.12},
    "cheekLeft": {"mouthSmileLeft": 0.75, "noseSneerLeft": 0.5, "mouthUpperUpLeft": 0.4, "mouthDimpleLeft": 0.3,
                  "mouthStretchLeft": 0.3},
    "cheekRight": {"mouthSmileRight": 0.75, "noseSneerRight": 0.5, "mouthUpperUpRight": 0.4, "mouthDimpleRight": 0.3,
                   "mouthStretchRight": 0.3},
}  # fmt: skip
GROUPS = tuple(CAUSED_BY)
AGEING = np.array([0.5, 0.5, 0.1, 0.2, 0.45, 0.45, 0.8, 0.8], np.float32)  # share of each group that stays on old faces
_MIXING = np.zeros((len(GROUPS), len(ACTIONS)), np.float32)
for _row, _causes in enumerate(CAUSED_BY.values()):
    for _name, _amount in _causes.items():
        _MIXING[_row, INDEX[_name]] = _amount


def depths(actions: Float32[np.ndarray, "52"], age: float) -> Float32[np.ndarray, "G"]:
    """Depth of each group of folds for shown `actions` on a person of `age` (0.6 young .. 0.84 elderly)."""
    older = np.float32(np.clip((age - 0.6) / 0.24, 0, 1))
    folded = np.minimum(_MIXING @ actions, 1) * (0.50 + 0.35 * older)
    return (folded + AGEING * (0.04 + 0.22 * older * older)).astype(np.float32)


@lru_cache(maxsize=2)
def maps(step: int = 1) -> Int8[np.ndarray, "R C G"]:
    """The groups' maps at every `step`-th texel, 127 for the highest bulge."""
    position = atlas(step).position
    wave = 0.0007 * np.sin(position[..., 0] * 95 + 0.7) + 0.0003 * np.sin(position[..., 0] * 260 + 1)
    across, up = position[..., 0], EYE_LEVEL - position[..., 1]
    front = _fade(position[..., 2] - FACE_FRONT, 0.045, 0.02)
    both = np.abs(across)
    left = {"feet": _feet(both, up), "cheek": _cheek(both, up)}
    values = {
        "forehead": _forehead(both, up, wave),
        "frown": _frown(both, up),
        "nose": _nose(both, up),
        "chin": _chin(both, up, value_noise(position, 330, 11)),
        **{f"{name}Left": value * (across > 0) for name, value in left.items()},
        **{f"{name}Right": value * (across < 0) for name, value in left.items()},
    }
    stacked = np.stack([np.clip(values[name] * front, -1, 1) for name in GROUPS], -1)
    return np.ascontiguousarray(np.round(stacked * 127).astype(np.int8))


def _fade(value: np.ndarray, end: float, width: float) -> np.ndarray:
    """1 well below `end`, 0 at it."""
    return 1 - smoothstep(value, end - width, end)


def _groove(distance: np.ndarray, width: float) -> np.ndarray:
    """Across a fold: dark at 0, a slightly lighter bulge on its positive side and a fainter one on the other.

    The bulges are faint: they scale the skin's colour, and a strong one would shine on dark skin like a white line.
    """
    scaled = distance / width
    return (
        -np.exp(-(scaled**2))
        + 0.16 * np.exp(-(((scaled - 2.1) / 1.3) ** 2))
        + 0.08 * np.exp(-(((scaled + 2) / 1.3) ** 2))
    )


def _segment(
    across: Map, up: Map, begin: tuple[float, float], end: tuple[float, float], bend: float = 0.0
) -> tuple[Map, Map]:
    """Signed distance to a bent segment, and a window that is 1 along it and fades at both ends."""
    direction = np.subtract(end, begin)
    length = np.hypot(*direction)
    direction = direction / length
    x, y = across - begin[0], up - begin[1]
    along = (x * direction[0] + y * direction[1]) / length
    distance = -x * direction[1] + y * direction[0] - bend * 4 * along * (1 - along)
    return distance, np.exp(-((np.clip(np.abs(along - 0.5) - 0.30, 0, None) / 0.16) ** 2))


def _forehead(across: Map, up: Map, wave: Map) -> Map:
    total = sum(_groove(up - level - wave * (1 + number), 0.0014) for number, level in enumerate((0.034, 0.043, 0.052)))
    return 0.8 * total * _fade(across, 0.046, 0.018) * _fade(up, 0.062, 0.006) * _fade(-up, -0.024, 0.006)


def _frown(across: Map, up: Map) -> Map:
    distance, window = _segment(across, up, (0.0085, 0.006), (0.0060, 0.030), 0.0008)
    root, short = _groove(up - 0.003, 0.0013), _fade(across, 0.012, 0.006)
    return _groove(distance, 0.0015) * window + 0.5 * root * short


def _nose(across: Map, up: Map) -> Map:
    total = np.zeros_like(up)
    for shift in (0.0, 0.005):
        distance, window = _segment(across, up, (0.005, -0.010 - shift), (0.016, -0.016 - shift))
        total += 0.8 * _groove(distance, 0.0011) * window
    return total


def _chin(across: Map, up: Map, noise: Map) -> Map:
    """The crease below the lip, and shallow dimples of uneven sizes (from `noise`) on the raised chin."""
    crease = _groove(up + 0.083 + 6 * across**2, 0.0026) * _fade(across, 0.022, 0.012)
    dimples = np.minimum(noise, 0) * np.exp(-(((up + 0.097) / 0.009) ** 2) - (across / 0.014) ** 2)
    return 0.8 * crease + 0.45 * dimples


def _feet(across: Map, up: Map) -> Map:
    total = np.zeros_like(up)
    for degrees, length in ((34, 0.014), (8, 0.018), (-18, 0.017), (-42, 0.014)):
        turn = np.deg2rad(degrees)
        begin = (EYE_CORNER[0] + 0.004 * np.cos(turn), EYE_CORNER[1] + 0.004 * np.sin(turn))
        end = (begin[0] + length * np.cos(turn), begin[1] + length * np.sin(turn))
        distance, window = _segment(across, up, begin, end, 0.0006)
        total += 0.7 * _groove(distance, 0.0009) * window
    distance, window = _segment(across, up, (0.020, -0.013), (0.046, -0.012), -0.0035)  # under the eye
    return total + 0.6 * _groove(distance, 0.0014) * window


def _cheek(across: Map, up: Map) -> Map:
    distance, window = _segment(across, up, NOSE_WING, (0.0345, -0.072), 0.0030)
    return 0.62 * _groove(distance, 0.0034) * window
