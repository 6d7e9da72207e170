"""Images of a person through any calibrated camera: 3×3 samples a pixel, z-buffer, soft shadow, white background.

Rendering is deterministic and single-threaded. Lights are fixed in the world, with small variations between people.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8

from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.studio import shading_inputs, wrinkles, zbuffer
from raflib.studio.identity import Identity
from raflib.studio.light import Lamps
from raflib.studio.materials import Paint
from raflib.studio.motion import angles_of, chain, checked_actions, skin, vertices
from raflib.studio.shade import Body, Samples, Shaded, scratch, shade
from raflib.studio.shading_inputs import SHADOW_SIZE, SHADOW_SPAN, ShadingMesh

SAMPLES = 3


@dataclass
class Buffers:
    """Sample buffers of one image size, reused between frames."""

    face: np.ndarray
    depth: np.ndarray
    shaded: Shaded


_scratch = threading.local()


def _buffers(height: int, width: int) -> Buffers:
    """Scratch space of this thread, kept for the last image size; other threads have their own."""
    shape = height * SAMPLES, width * SAMPLES
    kept = getattr(_scratch, "buffers", None)
    if kept is None or kept.face.shape != shape:
        kept = _scratch.buffers = Buffers(np.empty(shape, np.int32), np.empty(shape, np.float32), scratch(SAMPLES))
    return kept


def render(
    identity: Identity, actions: Float[np.ndarray, "actions"], angles: Float[np.ndarray, "angles"], camera: Camera
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """One frame: the image on white, and its coverage 0..255.

    Args:
        actions: [52] facial actions in [0,1] as they are shown; no style is applied.
        angles: yaw, pitch, roll of the head in degrees.
        camera: any calibrated camera; its extrinsic and intrinsic matrices are used exactly.

    Raises RafError for a camera over 2048 pixels a side, or arrays of the wrong shape.
    """
    return render_views(identity, actions, angles, [camera])[0]


def render_views(
    identity: Identity,
    actions: Float[np.ndarray, "actions"],
    angles: Float[np.ndarray, "angles"],
    cameras: Sequence[Camera],
) -> list[tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]]:
    """One frame through several cameras: what `render` returns for each of them, to the last bit.

    Points, normals and shadow map do not depend on the camera, so they are made once. Raises RafError as `render` does.
    """
    for camera in cameras:
        if not (1 <= camera.width <= 2048 and 1 <= camera.height <= 2048):
            size = f"{camera.width}×{camera.height}"
            raise RafError(f"camera {camera.name}: {size} pixels, expected 1 to 2048 a side; use camera.resized")
    actions = checked_actions(actions)
    mesh = shading_inputs.mesh(identity)
    appearance = identity.appearance
    points = vertices(identity, actions, angles)
    normals = np.empty_like(points)
    zbuffer.vertex_normals(points, mesh.skin, normals)
    tangents = np.zeros((1, 3), np.float32)
    if identity.strands is not None:
        locks, lock_normals, tangents = _posed_strands(identity, angles)
        points, normals = np.concatenate([points, locks]), np.concatenate([normals, lock_normals])
    opening = np.float32(min(1.0, shading_inputs.OPENERS @ actions))
    visible = appearance.shut + (appearance.open - appearance.shut) * opening
    body = Body(points, normals, tangents, visible, mesh.triangles, mesh.part)
    lighting = shading_inputs.lighting(identity.subject)
    centre = points[mesh.head_points].mean(0)
    shadow = _cast_shadow(points - centre, mesh, lighting.frame)
    map_scale = np.float32(SHADOW_SIZE / SHADOW_SPAN)
    lamps = Lamps(lighting.directions, lighting.colours, shadow, lighting.frame, centre, map_scale)
    fold_depths = wrinkles.depths(actions, identity.look.age)
    return [_seen(identity, body, lamps, fold_depths, camera) for camera in cameras]


def _seen(
    identity: Identity, body: Body, lamps: Lamps, fold_depths: Float32[np.ndarray, "G"], camera: Camera
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """The image and its coverage of a posed person through one camera."""
    mesh, appearance = shading_inputs.mesh(identity), identity.appearance
    points, normals = body.points, body.normals
    buffers = _buffers(camera.height, camera.width)
    x, y, nearness = _project(points, camera)
    if identity.strands is not None:
        bust = len(points) - len(body.tangents)
        to_eye = camera.centre.astype(np.float32) - points[bust:]
        away = (to_eye * normals[bust:]).sum(1) < -0.7 * np.linalg.norm(to_eye, axis=1)
        nearness[bust:][away & identity.strands.lying] = 0  # behind the skull, so not rendered
    buffers.face.fill(-1)
    buffers.depth.fill(0)
    zbuffer.fill(x, y, nearness, mesh.triangles, mesh.one_sided, len(mesh.skin), buffers.face, buffers.depth)
    small = min(camera.width, camera.height) * np.float32(0.335) < 400 * _view_height(camera)
    seen = Samples(buffers.face, buffers.depth, SAMPLES, x, y, nearness)
    paint = Paint(
        local=mesh.local,
        uv=mesh.uv,
        uv_corners=mesh.uv_corners,
        texture=appearance.half if small else appearance.full,
        scale=np.float32(0.5 if small else 1.0),
        fold_maps=wrinkles.maps(2 if small else 1),
        fold_depths=fold_depths,
        palette=mesh.palette,
        eyes=mesh.eyes,
        eye_radius=mesh.eye_radius,
        strands=mesh.strands,
    )
    image = np.empty((camera.height, camera.width, 3), np.uint8)
    alpha = np.empty((camera.height, camera.width), np.uint8)
    shade(seen, body, paint, lamps, camera.centre.astype(np.float32), buffers.shaded, image, alpha)
    return image, alpha


def perform(
    subject: str, actions: Float[np.ndarray, "actions"], pose: Float[np.ndarray, "pose"], camera: Camera
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """The image of `subject` with given actions and head rotation, for example another person's, and its coverage.

    Image and coverage are those of `render`. `pose` [6] is axis-angle and translation against the neutral head, as in
    `Truth.pose`. Only its rotation is used: the head's place follows from the subject's own neck.

    Raises RafError for an impossible subject, arrays of the wrong shape or with values that are not finite, and too
    large a camera.
    """
    pose = np.asarray(pose, np.float64)
    if pose.shape != (6,) or not np.isfinite(pose).all():
        raise RafError(f"pose: expected 6 finite numbers (axis-angle, translation), got {pose.tolist()}")
    return render(Identity(subject), actions, angles_of(pose[:3]), camera)


def _project(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample coordinates and 1/z of world points; 1/z is 0 behind the camera, so that such triangles are skipped."""
    local = points.astype(np.float64) @ camera.extrinsic[:3, :3].T + camera.extrinsic[:3, 3]
    image = local @ camera.intrinsic.T
    ahead = image[:, 2] > 0.02
    inverse = np.where(ahead, 1 / np.where(ahead, image[:, 2], 1), 0)
    x, y = image[:, 0] * inverse * SAMPLES, image[:, 1] * inverse * SAMPLES
    return x.astype(np.float32), y.astype(np.float32), inverse.astype(np.float32)


def _view_height(camera: Camera) -> float:
    """Metres of the world, at its origin, that fill the image's height."""
    distance = max(float(camera.extrinsic[2, 3]), 0.05)
    return camera.height * distance / float(camera.intrinsic[1, 1])


def _posed_strands(identity: Identity, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, normals and tangents of the hair, which turns with the head, and less where it hangs lower."""
    strands = identity.strands
    weights = np.zeros((len(strands.points), 5), np.float32)
    weights[:, 4], weights[:, 1] = strands.head_share, 1 - strands.head_share
    motions = chain(identity.pivots, angles)
    turns = motions * [1, 1, 1, 0]
    return (
        skin(strands.points, weights, motions),
        skin(strands.normals, weights, turns),
        skin(strands.tangents, weights, turns),
    )


def _cast_shadow(
    points: Float32[np.ndarray, "N 3"], mesh: ShadingMesh, frame: Float32[np.ndarray, "3 3"]
) -> Float32[np.ndarray, "S S"]:
    """The key's shadow map of `points` (metres from the head's middle)."""
    local = points @ frame.T * np.array([SHADOW_SIZE / SHADOW_SPAN] * 2 + [1], np.float32)
    local += np.array([SHADOW_SIZE / 2, SHADOW_SIZE / 2, zbuffer.FAR], np.float32)
    shadow, face = np.zeros((SHADOW_SIZE, SHADOW_SIZE), np.float32), np.empty((SHADOW_SIZE, SHADOW_SIZE), np.int32)
    x, y, nearness = (np.ascontiguousarray(column) for column in local.T)
    zbuffer.fill(x, y, nearness, mesh.casting, mesh.both_sides, len(mesh.casting), face, shadow)
    return shadow
