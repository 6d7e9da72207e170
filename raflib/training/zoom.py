"""`Zoom`: the random scale-and-crop between renderer and upsampler, so that the upsampler sees faces of many sizes.

The feature image and the true image go through the same change (Xu et al. 2024, public code: 0.8 to 1.25): scaled
by one factor, then cropped where that made them larger and placed on white where it made them smaller. The coarse size
stays a whole number of pixels and every offset is one in coarse pixels, times `factor` for the fine image, so a point
that lies at u in the features lies at exactly factor · u in the image, before and after.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from raflib.images import resized


@dataclass(frozen=True)
class Zoom:
    """One scale-and-crop of square images of `size` coarse pixels; fine images are `factor` times as large.

    The coarse image is scaled to `scaled` pixels; the window kept has its corner at (`x`, `y`) of the scaled image,
    negative where the image is smaller than the window. All in coarse pixels.
    """

    size: int
    factor: int
    scaled: int
    x: int
    y: int

    @classmethod
    def sample(cls, size: int, factor: int, between: tuple[float, float], generator: torch.Generator) -> Zoom:
        """A zoom of uniformly sampled scale (`between` two values) and place; three numbers of a CPU `generator`."""
        low, high = between
        scaled = max(1, round(size * (low + (high - low) * torch.rand((), generator=generator).item())))
        room = abs(scaled - size)
        place = torch.randint(room + 1, (2,), generator=generator).tolist()
        x, y = place if scaled > size else (-place[0], -place[1])
        return cls(size, factor, scaled, x, y)

    def features(self, images: Float[Tensor, "B S S C"]) -> Float[Tensor, "B S S C"]:
        """Rendered features, zoomed. They are not smoothed, because a render has no detail finer than its pixels."""
        return self._window(resized(images, self.scaled, self.scaled, smooth=False), 1)

    def images(self, images: Float[Tensor, "B F F 3"]) -> Float[Tensor, "B F F 3"]:
        """True images of `factor · size` pixels, zoomed alike."""
        side = self.factor * self.scaled
        return self._window(resized(images, side, side), self.factor)

    def box(self, boxes: Int[Tensor, "B 4"]) -> Int[Tensor, "B 4"]:
        """Boxes (x, y, width, height) of coarse pixels as boxes of fine pixels of the zoomed image, cut at its border
        (a box that was cropped away has no width or no height)."""
        ratio, corner = self.scaled / self.size, torch.tensor([self.x, self.y])
        low = self.factor * (boxes[:, :2] * ratio - corner)
        high = self.factor * ((boxes[:, :2] + boxes[:, 2:]) * ratio - corner)
        limit = self.factor * self.size
        low, high = low.floor().clamp(0, limit), high.ceil().clamp(0, limit)
        return torch.cat([low, high - low], 1).long()

    def _window(self, images: Tensor, unit: int) -> Tensor:
        x, y, side, gap = self.x * unit, self.y * unit, self.size * unit, (self.size - self.scaled) * unit
        if gap <= 0:
            return images[:, y : y + side, x : x + side]
        return functional.pad(images, (0, 0, -x, gap + x, -y, gap + y), value=1.0)
