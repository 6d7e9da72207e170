"""Gaussians that move, as few bytes: the mean over time and the directions in which they change, quantised.

The attributes of an avatar change together, so a few directions describe all frames. Each attribute is a matrix with
one row per frame. Its principal components are kept until the rest is smaller than a tolerance. Means have 16 bits.
Components have 8 bits, or 16 where 8 would exceed the tolerance. The page's script `scene.js` reads the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from raflib.errors import RafError
from raflib.render import Gaussians
from raflib.render.constants import MIN_ALPHA

TOLERANCES = {"means": 0.03, "quaternions": 0.01, "sizes": 0.02, "looks": 0.002}
"""Allowed error of each attribute, root mean square over frames and Gaussians: positions in pixels of the camera that
the caller names, unit quaternions, natural logarithms of scales, opacity and colour in [0,1]."""
LEAST_SIZE = 0.002
"""Scales below this many pixels are raised to it, because the renderer's blur hides the difference."""
MOST = 2**25
"""Most Gaussians times frames, which keeps the work below a few gigabytes."""
_WIDE, _NARROW = 32767, 127


@dataclass(frozen=True)
class Part:
    """One attribute over time, quantised: low + step · mean, plus coefficients times components."""

    name: str
    low: Float[np.ndarray, "c"]
    step: Float[np.ndarray, "c"]
    mean: Integer[np.ndarray, "c N"]
    wide: Integer[np.ndarray, "w c N"]
    narrow: Integer[np.ndarray, "n c N"]
    coefficients: Float[np.ndarray, "F k"]

    def values(self, frame: int) -> Float[np.ndarray, "c N"]:
        """The attribute in one frame, as the page computes it."""
        k = len(self.wide)
        moved = np.tensordot(self.coefficients[frame, :k], self.wide.astype(np.float32), 1)
        moved = moved + np.tensordot(self.coefficients[frame, k:], self.narrow.astype(np.float32), 1)
        return self.low[:, None] + self.step[:, None] * self.mean.astype(np.float32) + moved


@dataclass(frozen=True)
class Packed:
    """All attributes of N Gaussians in F frames."""

    parts: tuple[Part, ...]
    frames: int
    count: int

    def header(self) -> dict[str, Any]:
        """What a reader of `data` must know: numbers of frames and Gaussians, and the sizes of each part."""
        sizes = [
            {"name": part.name, "channels": len(part.mean), "wide": len(part.wide), "narrow": len(part.narrow)}
            for part in self.parts
        ]
        return {"frames": self.frames, "count": self.count, "parts": sizes}

    def data(self) -> bytes:
        """All numbers, little-endian.

        First come low, step and coefficients of each part as float32, then all means and wide components as 16 bits,
        then all narrow components as 8 bits. So every array begins where its numbers may lie in memory.
        """
        blocks = [array.astype("<f4") for part in self.parts for array in (part.low, part.step, part.coefficients)]
        blocks += [part.mean.astype("<u2") for part in self.parts]
        blocks += [part.wide.astype("<i2") for part in self.parts]
        blocks += [part.narrow for part in self.parts]
        return b"".join(block.tobytes() for block in blocks)

    def gaussians(self, frame: int) -> Gaussians:
        """The Gaussians of one frame as the page shows them."""
        found = {part.name: torch.from_numpy(part.values(frame).T.astype(np.float32)[None]) for part in self.parts}
        return Gaussians(
            means=found["means"],
            quaternions=found["quaternions"],
            scales=found["sizes"].exp(),
            opacities=found["looks"][..., 0].clamp(0, 1),
            features=found["looks"][..., 1:],
        )


def visible(gaussians: Gaussians) -> Bool[Tensor, "F N"]:
    """Which Gaussians cover at least 1/255 of a pixel."""
    return gaussians.opacities >= MIN_ALPHA


def check_size(frames: int, count: int) -> None:
    """RafError where so many frames of so many Gaussians are too large for a page."""
    if frames * count > MOST:
        raise RafError(f"{frames} frames of {count} Gaussians are more than {MOST}; export fewer frames at a time")


def pack(gaussians: Gaussians, pixel: float) -> Packed:
    """The F sets of `gaussians` as frames of one motion; `pixel` is the size of a pixel at the head (metres).

    Colours are the first three channels. Gaussians that cover less than 1/255 in every frame are left out. Raises
    RafError for too many Gaussians or frames, and where nothing is left.
    """
    g = gaussians.detach().to("cpu")
    seen = visible(g).any(0)
    frames, count = len(g), int(seen.sum())
    if not count:
        raise RafError("no Gaussian covers 1/255 of a pixel in any frame; export an avatar that renders something")
    check_size(frames, count)
    turned = torch.nn.functional.normalize(g.quaternions[:, seen], dim=-1)
    turned = turned * torch.where((turned * turned[:1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)  # q and −q turn alike
    attributes = {
        "means": g.means[:, seen],
        "quaternions": turned,
        "sizes": g.scales[:, seen].clamp_min(LEAST_SIZE * pixel).log(),
        "looks": torch.cat([g.opacities[:, seen, None], g.features[:, seen, :3]], -1),
    }
    units = {"means": pixel, "quaternions": 1.0, "sizes": 1.0, "looks": 1.0}
    parts = [_part(name, value.numpy(), TOLERANCES[name] * units[name]) for name, value in attributes.items()]
    return Packed(tuple(parts), frames, count)


def _part(name: str, values: Float[np.ndarray, "F N c"], tolerance: float) -> Part:
    """One attribute, with the fewest components whose error stays below `tolerance`."""
    frames, count, channels = values.shape
    values = values.transpose(0, 2, 1)
    middle = values.mean(0, dtype=np.float64)
    low, high = middle.min(1), middle.max(1)
    step = np.maximum(high - low, 1e-12) / 65535
    mean = np.rint((middle - low[:, None]) / step[:, None]).astype(np.uint16)
    moved = (values - middle).reshape(frames, -1).astype(np.float32)
    energy, over_time = np.linalg.eigh((moved @ moved.T).astype(np.float64))
    energy, over_time = np.maximum(energy[::-1], 0), over_time[:, ::-1]
    left = np.sqrt(np.append(np.cumsum(energy[::-1])[::-1], 0) / (frames * count))  # error with the first k components
    kept = int(np.argmax(left <= tolerance))
    components = over_time[:, :kept].T.astype(np.float32) @ moved
    largest = np.maximum(np.abs(components).max(1, initial=0), 1e-30)
    rounding = largest / _NARROW * np.sqrt(channels / 12 / frames)  # error of 8 bits, as `tolerance` counts it
    precise = np.flatnonzero(rounding > 0.5 * tolerance)
    wide = int(precise[-1]) + 1 if len(precise) else 0
    levels = np.where(np.arange(kept) < wide, _WIDE, _NARROW)
    whole = np.rint(components * (levels / largest)[:, None]).reshape(kept, channels, count)
    coefficients = over_time[:, :kept] * (largest / levels)
    return Part(
        name,
        low.astype(np.float32),
        step.astype(np.float32),
        mean,
        whole[:wide].astype(np.int16),
        whole[wide:].astype(np.int8),
        coefficients.astype(np.float32),
    )
