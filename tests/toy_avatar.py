"""A small avatar without training, which moves and changes its colours with the expression, and what drives it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from synthetic import ball_capture

from raflib.avatar import GaussianAvatar
from raflib.capture import Capture
from raflib.config import train_config
from raflib.training import Run
from raflib.training.start import initialise

SIZE = 48


def toy_run(capture: Capture, points: int = 700, seed: int = 0) -> Run:
    """An avatar of `capture` with random colours, shapes and reactions to the expression."""
    torch.manual_seed(seed)
    config = replace(train_config("tiny"), size=SIZE)
    config = replace(config, avatar=replace(config.avatar, points=points, mouth_points=50))
    avatar = GaussianAvatar(config.avatar, initialise(capture, config.avatar, list(range(len(capture.cameras)))))
    with torch.no_grad():
        torch.nn.init.normal_(avatar.exp_linear.bases.weight, std=0.03)
        avatar.colour.uniform_(0, 1)
        avatar.rotation += 0.5 * torch.randn_like(avatar.rotation)
        avatar.log_scale += 0.5 * torch.randn_like(avatar.log_scale)
        avatar.opacity_logit += 2 + torch.randn_like(avatar.opacity_logit)
    names = Path("toy"), capture.subject, capture.feature_space, "raf"
    return Run(*names, config, avatar.eval(), None, None, {}, {"subject": capture.subject}, pd.DataFrame())


def toy_signals(capture: Capture, frames: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expressions, poses and scales of the first frames."""
    return capture.expression[:frames], capture.pose[:frames], capture.scale[:frames]


def toy_capture() -> Capture:
    """The recording behind the avatar."""
    return ball_capture("900", frames=12, size=SIZE, cameras=3)
