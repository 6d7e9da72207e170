"""A synthetic capture: a shaded ball whose colour follows the first expression channel, seen by a few cameras.

It is so small that an avatar of it trains in seconds. Its poses, landmarks and masks are exact by construction.
"""

import numpy as np
import torch

from raflib.capture import Capture
from raflib.geometry import Camera, axis_angle_to_matrix
from raflib.training import trainer as training

RADIUS = 1.0  # canonical units (dm)


def ring_of_cameras(count: int, size: int, spread: float = 1.2, distance: float = 0.9) -> list[Camera]:
    """`count` cameras on an arc around the origin, looking at it; the middle one is frontal."""
    focal = size * distance / 0.33
    intrinsic = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
    cameras = []
    for index, angle in enumerate(np.linspace(-spread / 2, spread / 2, count)):
        extrinsic = np.eye(4)
        extrinsic[:3, :3] = axis_angle_to_matrix(torch.tensor([0.0, angle, 0.0], dtype=torch.float64)).numpy()
        extrinsic[2, 3] = distance
        cameras.append(Camera(f"cam{index}", extrinsic, intrinsic, size, size))
    return cameras


class BallFrames:
    """Images of the ball: rays against a sphere, shaded by the normal."""

    def __init__(self, cameras, centres, redness):
        self.cameras, self.centres, self.redness = cameras, centres, redness

    def _hit(self, t, c):
        camera = self.cameras[c]
        grid = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), -1) + 0.5
        rays = np.concatenate([grid, np.ones((*grid.shape[:2], 1))], -1) @ np.linalg.inv(camera.intrinsic).T
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        centre = camera.to_camera(self.centres[t])
        along = rays @ centre
        miss2 = centre @ centre - along**2
        hit = miss2 < (RADIUS * 0.1) ** 2
        point = rays * (along - np.sqrt(np.maximum((RADIUS * 0.1) ** 2 - miss2, 0)))[..., None]
        return hit, (point - centre) / (RADIUS * 0.1)

    def mask(self, t, c):
        return (self._hit(t, c)[0] * 255).astype(np.uint8)

    def image(self, t, c):
        hit, normal = self._hit(t, c)
        shade = 0.4 + 0.5 * np.clip(-normal[..., 2:], 0, 1)
        colour = shade * np.array([self.redness[t], 0.5, 1 - self.redness[t]])
        return np.where(hit[..., None], colour * 255, 255).astype(np.uint8)


def ball_capture(subject="900", frames=12, size=48, cameras=4, seed=0, expression_dim=52) -> Capture:
    """`frames` training frames and a third as many FREE ones; expression[:, 0] drives the ball's colour."""
    rng = np.random.default_rng(seed)
    total = frames + frames // 3
    expression = rng.normal(0, 0.1, (total, expression_dim)).astype(np.float32)
    expression[:, 0] = rng.uniform(0, 1, total)
    pose = np.zeros((total, 6), np.float32)
    pose[:, :3] = rng.normal(0, 0.05, (total, 3))
    pose[:, 3:] = rng.normal(0, 0.003, (total, 3))
    index = np.arange(60)
    height = 1 - 2 * (index + 0.5) / 60
    around = np.sqrt(1 - height**2)
    neutral = np.stack([around * np.cos(2.4 * index), height, around * np.sin(2.4 * index)], 1) * RADIUS
    rotation = axis_angle_to_matrix(torch.from_numpy(pose[:, :3]).double()).numpy()
    landmarks = np.einsum("tij,lj->tli", rotation, 0.1 * neutral) + pose[:, None, 3:]
    views = ring_of_cameras(cameras, size)
    sequence = np.array(["EXP-1-head"] * frames + ["FREE"] * (total - frames))
    return Capture(
        subject=subject, feature_space="arkit52", cameras=views, expression=expression, pose=pose,
        scale=np.full(total, 0.1, np.float32), landmarks=landmarks.astype(np.float32),
        neutral=neutral.astype(np.float32),
        groups={"rigid": tuple(range(60)), "blend": tuple(range(60)), "lips": (28, 29, 30, 31)},
        sequence=sequence, frame=np.arange(total), detected=np.ones(total, bool),
        frames=BallFrames(views, pose[:, 3:].astype(float), np.clip(expression[:, 0], 0, 1)),
    )  # fmt: skip


def dying_at(step):
    """Return a training step that is interrupted at step number `step`."""
    one_step = training.Trainer.one_step

    def dies(self):
        if self.step == step:
            raise KeyboardInterrupt
        return one_step(self)

    return dies
