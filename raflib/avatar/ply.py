"""Splat files: Gaussians in the .ply layout that common viewers open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement

from raflib.errors import RafError
from raflib.render import Gaussians
from raflib.runs import atomic_write

SH_DC = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt π): splat files store (colour − 0.5) / it."""


def write_ply(path: str | Path, gaussians: Gaussians) -> None:
    """One set of Gaussians as a binary .ply in the layout of 3D Gaussian Splatting (Kerbl et al. 2023), SH degree 0.

    Positions are in metres, world axes (y down); colours are the first three channels, clamped to [0, 1]. Atomic.
    Raises RafError for more than one set, fewer channels, and numbers that no viewer can show: NaN, infinity, negative
    scales, opacities outside [0, 1], quaternions of length 0.
    """
    if len(gaussians) != 1 or gaussians.channels < 3:
        raise RafError(
            f"{path}: a splat file holds one set of Gaussians with 3 or more channels, got {len(gaussians)} with "
            f"{gaussians.channels}"
        )
    g = gaussians.detach().to("cpu")
    for name, wrong in {
        "means": ~g.means.isfinite(), "quaternions": ~g.quaternions.isfinite() | (g.quaternions == 0).all(-1, True),
        "scales": ~g.scales.isfinite() | (g.scales < 0), "opacities": ~((g.opacities >= 0) & (g.opacities <= 1)),
        "features": ~g.features[..., :3].isfinite(),
    }.items():  # fmt: skip
        if wrong.any():
            raise RafError(
                f"{path}: {int(wrong.sum())} of {wrong.numel()} numbers of the Gaussians' {name} are NaN, infinite or "
                "out of range, so no viewer could show them; use a frame with a face and an avatar that renders"
            )
    opacity = g.opacities[0].clamp(1e-6, 1 - 1e-6)
    columns = {name: g.means[0, :, i] for i, name in enumerate("xyz")}
    columns |= {name: torch.zeros(len(opacity)) for name in ("nx", "ny", "nz")}
    columns |= {f"f_dc_{i}": (g.features[0, :, i].clamp(0, 1) - 0.5) / SH_DC for i in range(3)}
    columns["opacity"] = opacity.logit()
    columns |= {f"scale_{i}": g.scales[0, :, i].clamp_min(1e-12).log() for i in range(3)}
    turned = torch.nn.functional.normalize(g.quaternions[0], dim=-1)
    columns |= {f"rot_{i}": turned[:, i] for i in range(4)}
    vertices = np.empty(len(opacity), [(name, "<f4") for name in columns])
    for name, value in columns.items():
        vertices[name] = value.numpy()
    with atomic_write(path) as temporary:
        PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(str(temporary))
