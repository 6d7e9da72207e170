"""`PoseCorrections`: learned corrections of the tracked head pose of each frame, kept by the frame's name.

A tracker's pose is a little wrong in every frame, and the image loss shows in which direction (Xu et al. 2024 learn the
poses with the avatar). Corrections belong to frames called "<sequence>/<frame>", not to rows: a capture to which
frames were added, or whose frames are sorted otherwise, still finds its own. Their mean over the frames trained on is
kept at zero, so that the canonical head stays where the tracker puts it on frames never trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from raflib.capture import Capture
from raflib.errors import RafError

METRES = 0.1
"""Translations are learned in decimetres: one learning rate then suits angles and positions."""


def frame_names(capture: Capture) -> list[str]:
    """ "<sequence>/<frame>" of every row. RafError naming the first that occurs twice."""
    names = [f"{sequence}/{frame}" for sequence, frame in zip(capture.sequence, capture.frame, strict=True)]
    if len(set(names)) < len(names):
        twice = next(name for row, name in enumerate(names) if name in names[:row])
        raise RafError(f"capture {capture.subject}: frame {twice} occurs twice; poses are kept by frame name")
    return names


def in_metres(values: Float[Tensor, "B 6"]) -> Float[Tensor, "B 6"]:
    """Corrections as poses are given: axis-angle in radians, translation in metres."""
    return values * values.new_tensor([1, 1, 1, METRES, METRES, METRES])


class PoseCorrections(nn.Module):
    """One correction a frame of a capture, zero at first; gradients are sparse (use `torch.optim.SparseAdam`).

    `names` of all frames, `trained` where one is trained on; other frames keep zeros.
    """

    trained: Tensor

    def __init__(self, names: Sequence[str], trained: Bool[np.ndarray, "T"]):
        super().__init__()
        self.names = list(names)
        self.register_buffer("trained", torch.from_numpy(np.flatnonzero(trained)), persistent=False)
        self.table = nn.Embedding(len(self.names), 6, sparse=True, _weight=torch.zeros(len(self.names), 6))

    def forward(self, t: int) -> Float[Tensor, "1 6"]:
        """The correction added to the tracked pose of row `t` (radians, metres)."""
        return in_metres(self.table(torch.tensor([t], device=self.table.weight.device)))

    @torch.no_grad()
    def centre(self) -> None:
        """Take the mean over the trained frames away from each of them."""
        self.table.weight[self.trained] -= self.table.weight[self.trained].mean(0)

    @torch.no_grad()
    def restore(self, names: Sequence[str], stored: Float[Tensor, "S 6"]) -> None:
        """Take over the corrections `stored` of the frames `names`. Frames without one start at zero; where the frames
        are not the same, the mean is taken away again."""
        self.table.weight.copy_(by_name(stored, names, self.names))
        if set(names) != set(self.names):
            self.centre()


def by_name(values: Float[Tensor, "S 6"], stored: Sequence[str], wanted: Sequence[str]) -> Float[Tensor, "T 6"]:
    """Rows of `values`, called `stored`, in the order `wanted`; zeros for names that are not stored."""
    if len(stored) != len(values):
        raise RafError(f"pose corrections: {len(values)} rows but {len(stored)} frame names; the checkpoint is damaged")
    row = {name: index for index, name in enumerate(stored)}
    result = values.new_zeros(len(wanted), values.shape[1])
    here = [index for index, name in enumerate(wanted) if name in row]
    result[here] = values[[row[wanted[index]] for index in here]]
    return result


def as_table(names: Sequence[str], stored: Float[Tensor, "S 6"]) -> Mapping[str, Float[np.ndarray, "6"]]:
    """Corrections by frame name (radians, metres)."""
    return dict(zip(names, in_metres(stored.cpu()).numpy(), strict=True))
