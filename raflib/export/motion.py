"""What an export shows, frame by frame: the Gaussians that follow from the signals, and times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from raflib.errors import RafError, finite
from raflib.export.packing import check_size, visible
from raflib.render import Gaussians
from raflib.report.mp4 import MAX_FPS
from raflib.training import Run


@torch.no_grad()
def posed(
    run: Run, expression: np.ndarray, pose: np.ndarray, scale: np.ndarray, torso: np.ndarray | None = None
) -> Gaussians:
    """The avatar's Gaussians in F frames, on the CPU, with the three channels of colour.

    RafError before memory is spent where they are too large for a page.
    """
    where, frames = run.avatar.xyz.device, len(expression)
    made: dict[str, torch.Tensor] = {}
    for row in tqdm(range(frames), desc="avatar", unit="frame"):
        signals = (expression, pose, scale, *(() if torso is None else (torso,)))
        given = (torch.from_numpy(values[row : row + 1]).to(where) for values in signals)
        one = run.avatar(*given)
        shown = {field.name: getattr(one, field.name)[0] for field in fields(one)}
        shown["features"] = shown["features"][:, :3]
        if not made:
            check_size(frames, int(visible(one).sum()))
            made = {name: torch.empty(frames, *values.shape) for name, values in shown.items()}
        for name, values in shown.items():
            made[name][row] = values
    return Gaussians(**made)


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
