"""What an export shows, frame by frame: the Gaussians that follow from the signals, and times."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from raflib.errors import RafError, finite
from raflib.render import Gaussians
from raflib.report.mp4 import MAX_FPS
from raflib.training import Run


@torch.no_grad()
def posed(
    run: Run, expression: np.ndarray, pose: np.ndarray, scale: np.ndarray, torso: np.ndarray | None = None
) -> Gaussians:
    """The avatar's Gaussians in F frames, on the CPU."""
    where = run.avatar.xyz.device
    frames = []
    for row in tqdm(range(len(expression)), desc="avatar", unit="frame"):
        signals = (expression, pose, scale, *(() if torso is None else (torso,)))
        given = (torch.from_numpy(values[row : row + 1]).to(where) for values in signals)
        frames.append(run.avatar(*given).to("cpu"))
    names = ("means", "quaternions", "scales", "opacities", "features")
    return Gaussians(**{name: torch.cat([getattr(frame, name) for frame in frames]) for name in names})


def starts(
    what: str | Path, frames: int, fps: float | int, times: Iterable[float | int] | None = None
) -> Float[np.ndarray, "T"]:
    """Seconds at which each of `frames` frames begins, and the end of the last one.

    Frames last 1/`fps` seconds. With `times` (seconds, increasing, one a frame) a frame lasts until the time of the
    next one, and the last one for the median duration. Raises RafError for other times and rates.
    """
    fps = finite(f"{what}: fps", fps, 0, MAX_FPS)
    if fps == 0:
        raise RafError(f"{what}: fps is 0, expected frames a second above 0")
    if times is None:
        return np.arange(frames + 1) / fps
    given = np.asarray(list(times), np.float64)
    if given.shape != (frames,) or not np.isfinite(given).all() or (np.diff(given) <= 0).any():
        raise RafError(f"{what}: expected {frames} increasing times in seconds, one a frame; or give fps instead")
    steps = np.diff(given)
    last = float(np.median(steps)) if len(steps) else 1 / fps
    return np.append(given, given[-1] + last) - given[0]
