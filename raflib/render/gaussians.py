"""`Gaussians`: the primitives that an avatar returns and the renderer renders."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raflib.errors import RafError, whole

_LAST = {"means": (3,), "quaternions": (4,), "scales": (3,), "opacities": (), "features": ("C",)}


@dataclass(frozen=True)
class Gaussians:
    """B sets of N anisotropic 3D Gaussians with C feature channels each, as float32 tensors on one device.

    means: world positions, metres. quaternions: wxyz, need not be normalised. scales: standard deviations along the
    Gaussian's own axes, metres (activated, not logarithms). opacities: in [0, 1]. features: rendered channels, usually
    colours in [0, 1]; any C >= 1.

    Raises RafError if shapes, dtypes or devices do not agree.
    """

    means: Float[Tensor, "B N 3"]
    quaternions: Float[Tensor, "B N 4"]
    scales: Float[Tensor, "B N 3"]
    opacities: Float[Tensor, "B N"]
    features: Float[Tensor, "B N C"]

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, Tensor):
                raise RafError(f"Gaussians.{field.name}: expected a torch tensor, got {type(value).__name__}")
        if self.means.ndim != 3:
            raise RafError(
                f"Gaussians.means: expected shape [B, N, 3], got {list(self.means.shape)}; "
                "add a batch dimension with tensor[None] for a single set"
            )
        batch, count = self.means.shape[:2]
        for name, last in _LAST.items():
            value = getattr(self, name)
            expected = (batch, count, *last)
            fits = len(value.shape) == len(expected) and all(
                want == "C" or got == want for got, want in zip(value.shape, expected, strict=True)
            )
            if not fits or (value.shape[-1:] == (0,) and name == "features"):
                shape = "[" + ", ".join(map(str, expected)) + "]"
                raise RafError(f"Gaussians.{name}: expected shape {shape}, got {list(value.shape)}")
            if value.dtype != torch.float32:
                raise RafError(f"Gaussians.{name}: expected float32, got {value.dtype}; convert it with .float()")
            if value.device != self.means.device:
                raise RafError(
                    f"Gaussians.{name}: is on {value.device} but means are on {self.means.device}; "
                    "move all of them with Gaussians.to(device)"
                )

    def __len__(self) -> int:
        """B, the number of sets."""
        return self.means.shape[0]

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.means.device

    @property
    def channels(self) -> int:
        """C, the number of feature channels."""
        return self.features.shape[-1]

    def to(self, device) -> "Gaussians":
        """The same Gaussians on another device (gradients flow through)."""
        return self._each(lambda tensor: tensor.to(device))

    def detach(self) -> "Gaussians":
        """The same Gaussians, cut from the autograd graph."""
        return self._each(Tensor.detach)

    def expand(self, count: int) -> "Gaussians":
        """A single set as `count` equal ones, without copying it."""
        return self._each(lambda tensor: tensor.expand(count, *tensor.shape[1:]))

    def __getitem__(self, index) -> "Gaussians":
        """The sets `index` (an int, slice, or index tensor over B); always keeps the batch dimension."""
        if not isinstance(index, (slice, Tensor, list, np.ndarray)):
            index = [whole("Gaussians[index]", index)]
        return self._each(lambda tensor: tensor[index])

    def _each(self, function) -> "Gaussians":
        return Gaussians(**{field.name: function(getattr(self, field.name)) for field in fields(self)})
