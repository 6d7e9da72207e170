"""`export_ply_sequence`: a driven avatar as splat files, one per frame, for viewers and other programs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from raflib.errors import RafError
from raflib.training import Run
from raflib.training.signals import checked_signals

_NAME = re.compile(r"frame_(\d{5,})\.ply")


def export_ply_sequence(
    run: Run,
    expression: Float[np.ndarray, "F d"],
    pose: Float[np.ndarray, "F 6"],
    scale: Float[np.ndarray, "F"],
    folder: str | Path,
) -> list[Path]:
    """Write `frame_00000.ply`, `frame_00001.ply`, … into `folder`, and return their paths.

    Each file is that of `GaussianAvatar.export_ply` for one frame: expression [d], pose (axis-angle in radians, then
    metres) and scale (metres a canonical unit). Files of the same names are replaced, so an interrupted export can be
    repeated. Raises RafError for signals that the avatar cannot be driven with, and where the folder holds further
    frames of a longer sequence.
    """
    folder = Path(folder)
    signals = checked_signals(folder, run.avatar.config.expression_dim, expression, pose, scale)
    if folder.exists() and not folder.is_dir():
        raise RafError(f"{folder}: is a file, expected a folder; choose another name")
    names = (_NAME.fullmatch(path.name) for path in folder.glob("frame_*.ply"))
    there = [int(name[1]) for name in names if name is not None]
    if max(there, default=-1) >= len(signals[0]):
        raise RafError(
            f"{folder}: holds frames up to {max(there)} of a longer sequence; delete them or choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"frame_{row:05d}.ply" for row in range(len(signals[0]))]
    expression, pose, scale = signals
    for row, path in enumerate(tqdm(paths, desc="splat files", unit="frame")):
        given = torch.from_numpy(expression[row]), torch.from_numpy(pose[row]), float(scale[row])
        run.avatar.export_ply(path, *given)
    return paths
