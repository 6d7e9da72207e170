"""Posed points and head pose: facial actions, then the neck chain. Angles are yaw, pitch, roll in degrees.

Yaw turns the nose to the subject's left (image right), pitch raises it, roll tips the crown to the image's right. The
neck shares the turn: each bone of the chain reaches a fraction of it, the head all of it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from raflib.errors import RafError
from raflib.studio.head_model import ACTIONS, head_model
from raflib.studio.identity import Identity

FRACTIONS = (0.12, 0.30, 0.55, 1.0)  # of the turn, reached by neck01, neck02, neck03 and the head


def rotation(angles: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation matrix of yaw, pitch, roll (degrees) in world axes: Ry(−yaw) Rx(−pitch) Rz(roll)."""
    yaw, pitch, roll = np.deg2rad(np.asarray(angles, np.float64)) * (-1, -1, 1)
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def angles_of(axis_angle: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    """Yaw, pitch, roll (degrees) of a rotation given as axis-angle in world axes; the inverse of `rotation`."""
    from scipy.spatial.transform import Rotation

    yaw, pitch, roll = Rotation.from_rotvec(axis_angle).as_euler("YXZ", degrees=True)
    return np.array([-yaw, -pitch, roll])


def chain(pivots: Float32[np.ndarray, "5 3"], angles: Float[np.ndarray, "3"]) -> Float[np.ndarray, "5 3 4"]:
    """Rigid motion [R|t] of each bone, from the still root to the head."""
    motions = [np.eye(3, 4)]
    for bone, fraction in enumerate(FRACTIONS, 1):
        before = motions[-1]
        pivot = pivots[bone].astype(np.float64)
        moved = before[:, :3] @ pivot + before[:, 3]
        turn = rotation(np.asarray(angles) * fraction)
        motions.append(np.concatenate([turn, (moved - turn @ pivot)[:, None]], 1))
    return np.stack(motions)


def head_pose(identity: Identity, angles: Float[np.ndarray, "angles"]) -> Float32[np.ndarray, "6"]:
    """Rigid motion of the head against the neutral head: axis-angle, then translation (world metres).

    All six are 0 for the neutral pose. A head point with neutral expression at x moves to R @ x + t. Raises
    RafError unless `angles` is three finite numbers.
    """
    from scipy.spatial.transform import Rotation

    head = chain(identity.pivots, checked_angles(angles))[-1]
    axis_angle = Rotation.from_matrix(head[:, :3]).as_rotvec()
    return np.concatenate([axis_angle, head[:, 3]]).astype(np.float32)


def vertices(
    identity: Identity, actions: Float[np.ndarray, "actions"], angles: Float[np.ndarray, "angles"]
) -> Float32[np.ndarray, "V 3"]:
    """World positions (metres) of the head model's points for shown `actions` in [0,1] and head `angles` (degrees).

    Raises RafError when the arrays have other shapes or hold NaN.
    """
    model = head_model()
    return moved(identity, identity.vertices, model.actions, model.weights, actions, angles)


def moved(
    identity: Identity,
    points: Float32[np.ndarray, "N 3"],
    ways: Float32[np.ndarray, "52 N 3"],
    weights: Float32[np.ndarray, "N 5"],
    actions: Float[np.ndarray, "actions"],
    angles: Float[np.ndarray, "angles"],
) -> Float32[np.ndarray, "N 3"]:
    """World positions (metres) of `points` of the neutral head that each action moves along `ways` and bones carry by
    `weights`, for `actions` and `angles` as in `vertices`; raises RafError as it does."""
    actions = checked_actions(actions)
    shown = np.flatnonzero(actions)
    if len(shown):
        points = points + np.tensordot(actions[shown] * identity.action_gain[shown], ways[shown], 1)
    return skin(points, weights, chain(identity.pivots, checked_angles(angles)))


def skin(
    points: Float32[np.ndarray, "N 3"], weights: Float32[np.ndarray, "N 5"], motions: Float[np.ndarray, "5 3 4"]
) -> Float32[np.ndarray, "N 3"]:
    """Linear blend skinning."""
    blended = (weights @ motions.reshape(len(motions), 12).astype(np.float32)).reshape(-1, 3, 4)
    return np.einsum("nij,nj->ni", blended[:, :, :3], points) + blended[:, :, 3]


def checked_actions(actions: np.ndarray) -> Float32[np.ndarray, "52"]:
    """`actions` as float32 in [0,1]; RafError when the shape is wrong or a value is not finite."""
    actions = np.asarray(actions, np.float32)
    if actions.shape != (len(ACTIONS),) or not np.isfinite(actions).all():
        raise RafError(f"actions: expected {len(ACTIONS)} finite numbers (studio.ACTIONS), got shape {actions.shape}")
    return np.clip(actions, 0, 1)


def checked_angles(angles: np.ndarray) -> np.ndarray:
    """`angles` as float64; RafError unless they are three finite numbers."""
    angles = np.asarray(angles, np.float64)
    if angles.shape != (3,) or not np.isfinite(angles).all():
        raise RafError(f"angles: expected finite yaw, pitch, roll in degrees, got {angles.tolist()}")
    return angles
