"""Cloth below the neckline, and beards: they raise the surface of the body and are painted in its texture.

Both are formulas of position on the mean head (metres), shared by texture and shape.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32

from raflib.studio import zbuffer
from raflib.studio.atlas import smoothstep
from raflib.studio.head_model import EYE_LEVEL, FACE_FRONT, SKIN, head_model
from raflib.studio.look import Look
from raflib.studio.shape import mask_at_points, mouth

CLOTH, BEARD = 0.0045, 0.0035  # metres from the skin to a sweater's edge and to a full beard's surface


def below_neckline(position: Float[np.ndarray, "*n 3"], look: Look) -> Float[np.ndarray, "*n"]:
    """Metres below the neckline, positive where there is cloth. The line is lower in front and higher behind."""
    across, down, behind = np.abs(position[..., 0]), position[..., 1] - EYE_LEVEL, position[..., 2] - FACE_FRONT
    dip = look.neckline_dip * np.exp(-((across / 0.040) ** 2)) * (1 - smoothstep(behind, 0.08, 0.12))
    return down - look.neckline - dip + 0.030 * smoothstep(behind, 0.06, 0.16)


def beard_body(position: Float[np.ndarray, "*n 3"], ragged: np.ndarray | float) -> Float[np.ndarray, "*n"]:
    """Density of a full beard, 0..1: jaw, chin and moustache; `ragged` (metres) roughens its edge."""
    across, up, behind = np.abs(position[..., 0]), EYE_LEVEL - position[..., 1], position[..., 2] - FACE_FRONT
    jaw = smoothstep(-up + ragged, 0.050, 0.066) * smoothstep(0.076 - across, 0, 0.010)
    jaw = jaw * smoothstep(0.088 - behind, 0, 0.014) * smoothstep(up + 0.140, 0, 0.02)
    cheek_line = smoothstep(-up - 0.056 + 0.35 * np.maximum(0, across - 0.030) + ragged, -0.004, 0.008)
    moustache = smoothstep(0.029 - across, 0, 0.008) * smoothstep(-up, 0.047, 0.052) * (up > -0.075)
    return np.maximum(jaw * np.maximum(cheek_line, smoothstep(-up, 0.07, 0.08)), moustache) * (behind < 0.10)


def dress(skin: Float32[np.ndarray, "V 3"], look: Look) -> Float32[np.ndarray, "V 3"]:
    """The neutral points with cloth and beard raised along the mean head's normals."""
    mean = head_model().mean
    cloth = CLOTH * smoothstep(below_neckline(mean, look), -0.002, 0.004) * (mean[:, 1] > EYE_LEVEL + 0.10)
    beard = BEARD * beard_body(mean, 0.0) * look.beard**2 * _chin_side()
    return (skin + _normals() * (cloth + beard)[:, None]).astype(np.float32)


@lru_cache(maxsize=1)
def _normals() -> Float32[np.ndarray, "V 3"]:
    model = head_model()
    normals = np.empty_like(model.mean)
    zbuffer.vertex_normals(model.mean, model.triangles[model.part == SKIN], normals)
    normals[~np.isin(np.arange(len(normals)), model.points_of(SKIN))] = 0
    return normals


@lru_cache(maxsize=1)
def _chin_side() -> Float32[np.ndarray, "V"]:
    """1 on outer skin away from the lips, 0 in the mouth and at its corners, where no beard grows."""
    mean, lips = head_model().mean, mouth()
    contact = mean[np.concatenate([lips.upper, lips.lower])]
    near = np.linalg.norm(mean[:, None] - contact[None], axis=-1).min(1)
    return (smoothstep(near, 0.007, 0.014) * (mask_at_points("mouth") < 0.1)).astype(np.float32)
