"""Inputs of the shading kernel besides the pose: one mesh for each person (bust and hair), and the studio's lamps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float32, Int32

from raflib.studio.head_model import ACTIONS, EYE, HAIR, LASHES, TEETH, TONGUE, head_model
from raflib.studio.identity import Identity, named_generator
from raflib.studio.visibility import frame_along

SHADOW_SIZE, SHADOW_SPAN = 256, 0.46  # samples and metres across the shadow map
# How much each action opens the mouth, for blending between ambient visibility with the mouth shut and open.
OPENERS = np.array(
    [{"jawOpen": 1.5, "mouthUpperUpLeft": 0.3, "mouthUpperUpRight": 0.3, "mouthFunnel": 0.4, "mouthLowerDownLeft": 0.3,
      "mouthLowerDownRight": 0.3, "mouthSmileLeft": 0.15, "mouthSmileRight": 0.15}.get(name, 0.0) for name in ACTIONS],
    np.float32,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ShadingMesh:
    """Arrays of one person for the kernel; N = V + H points, F triangles."""

    triangles: Int32[np.ndarray, "F 3"]
    skin: Int32[np.ndarray, "B 3"]  # triangles of the bust alone
    part: Int32[np.ndarray, "F"]
    one_sided: Bool[np.ndarray, "F"]
    casting: Int32[np.ndarray, "C 3"]
    both_sides: Bool[np.ndarray, "C"]
    uv: Float32[np.ndarray, "U 2"]
    uv_corners: Int32[np.ndarray, "F 3"]
    local: Float32[np.ndarray, "N 3"]
    head_points: Int32[np.ndarray, "h"]
    palette: Float32[np.ndarray, "6 3"]
    eyes: Float32[np.ndarray, "2 3"]
    eye_radius: np.float32
    strands: Float32[np.ndarray, "512"]


@lru_cache(maxsize=64)
def mesh(identity: Identity) -> ShadingMesh:
    """The mesh of a person, kept for the people rendered last."""
    model, look = head_model(), identity.look
    triangles, part, corners, local = model.triangles, model.part, model.uv_triangles, model.mean
    if (strands := identity.strands) is not None:
        triangles = np.concatenate([triangles, strands.triangles + len(local)])
        part = np.concatenate([part, np.full(len(strands.triangles), HAIR, np.int32)])
        corners = np.concatenate([corners, np.zeros_like(strands.triangles)])
        flow = np.concatenate([strands.flow, np.zeros((len(strands.flow), 1), np.float32)], 1)
        local = np.concatenate([local, flow])
    casts = part != LASHES
    if strands is not None:
        # Locks lie in many layers, so every fourth casts nearly the same shadow. One beside the face would cast a bar.
        lock = strands.triangles[:, 0] // (2 * (identity.haircut.steps + 1))
        corner = strands.points[strands.triangles]
        casts[len(model.triangles) :] = (lock % 4 == 0) & ((corner[..., 1] < -0.03) | (corner[..., 2] > 0.01)).all(1)
    casting = np.ascontiguousarray(triangles[casts])
    palette = np.zeros((6, 3), np.float32)
    palette[EYE], palette[HAIR] = look.iris, look.hair
    palette[TONGUE], palette[TEETH], palette[LASHES] = (0.60, 0.24, 0.23), (0.93, 0.89, 0.80), (0.03, 0.02, 0.016)
    eyes, radius = model.eyes()
    return ShadingMesh(
        triangles=np.ascontiguousarray(triangles),
        skin=model.triangles,
        part=np.ascontiguousarray(part),
        one_sided=(part != LASHES) & (part != HAIR),
        casting=casting,
        both_sides=np.zeros(len(casting), np.bool_),
        uv=model.uv,
        uv_corners=np.ascontiguousarray(corners),
        local=np.ascontiguousarray(local),
        head_points=np.flatnonzero(model.head).astype(np.int32),
        palette=palette,
        eyes=eyes,
        eye_radius=np.float32(radius),
        strands=np.random.default_rng(5).uniform(-1, 1, 512).astype(np.float32),
    )


@dataclass(frozen=True, eq=False)
class Lighting:
    """Unit directions to key and fill [2,3], colours of key, fill, sky and ground [4,3], the key's shadow frame."""

    directions: Float32[np.ndarray, "2 3"]
    colours: Float32[np.ndarray, "4 3"]
    frame: Float32[np.ndarray, "3 3"]


@lru_cache(maxsize=64)
def lighting(subject: str) -> Lighting:
    """The lamps for this person: bright and soft, with small variations of place, strength and warmth."""
    generator = named_generator("session", subject)
    key = np.array([-0.42, -0.62, -0.95]) + generator.normal(size=3) * [0.14, 0.07, 0.05]
    fill = np.array([0.75, -0.20, -0.70]) + generator.normal(size=3) * 0.05
    warmth = 1 + generator.normal() * 0.03 * np.array([1, 0, -1])
    strength = 1 + generator.normal() * 0.04
    colours = np.array([[0.92, 0.89, 0.85], [0.21, 0.21, 0.22], [0.46, 0.47, 0.49], [0.25, 0.24, 0.235]])
    directions = np.stack([key / np.linalg.norm(key), fill / np.linalg.norm(fill)])
    return Lighting(directions.astype(np.float32), (colours * warmth * strength).astype(np.float32), frame_along(key))
