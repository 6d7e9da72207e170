"""The original LPIPS (Zhang et al. 2018, version 0.1, AlexNet), whose trunk the user brings.

It differs from `lpips/stlpips-alex`: its trunk has no blur-pool, and values of the two must not be compared. The trunk
is torchvision's AlexNet, trained on ImageNet. The non-negative weights of the channels are in the wheel of the package
`lpips`. Names of parameters are those of the two published files.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raflib.evaluation.metrics.base import Metric, Target, _region, _same_shape, register
from raflib.evaluation.regressor import Loaded
from raflib.evaluation.weights import Weights, fill
from raflib.reading import damage_named

CONVOLUTIONS = {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}
"""Number in the trunk → (channels given, channels made, width of the kernel)."""
POOLED = (3, 6)
"""Convolutions after a max-pool of 3 with stride 2."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
TRUNK = Weights(
    "alexnet-owt-7be5be79.pth",
    "download https://download.pytorch.org/models/alexnet-owt-7be5be79.pth (licence of torchvision: BSD-3-Clause) "
    "and put it there",
)
HEADS = Weights(
    "weights/v0.1/alex.pth",
    "run `pip install --no-deps lpips==0.1.4` (licence: BSD-2-Clause)",
    package="lpips",
    sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
)


class Lpips(nn.Module):
    """LPIPS with AlexNet: `features` of each image, then `distance` of two of them."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Module()
        for number, (given, made, kernel) in CONVOLUTIONS.items():
            stride, padding = (4, 2) if not number else (1, kernel // 2)
            self.trunk.add_module(str(number), nn.Conv2d(given, made, kernel, stride, padding))
        self.heads = nn.ParameterList([torch.zeros(1, made, 1, 1) for _, made, _ in CONVOLUTIONS.values()])
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)

    def features(self, image: Float[np.ndarray, "H W 3"]) -> list[Float[Tensor, "1 _ _ _"]]:
        """Unit-length channel vectors at five depths of an image in [0,1]."""
        x = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)).permute(2, 0, 1)[None]
        x, found = (2 * x - 1 - self.shift) / self.scale, []
        for number in CONVOLUTIONS:
            x = F.max_pool2d(x, 3, 2) if number in POOLED else x
            x = F.relu(self.trunk.get_submodule(str(number))(x))
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    def distance(self, x: list[Tensor], y: list[Tensor]) -> float:
        """Weighted squared differences, mean over pixels, summed over depths."""
        parts = zip(self.heads, x, y, strict=True)
        return float(sum(((a - b).square() * head).sum(1).mean() for head, a, b in parts))


def build(trunk: Weights, heads: Weights) -> Lpips:
    """The network with the published weights. The trunk's classifier is not used."""
    state = {name.replace("features.", "trunk.", 1): value for name, value in trunk.state().items()}
    for name, value in heads.state().items():
        state[name.replace("lin", "heads.", 1).removesuffix(".model.1.weight")] = value
    network = Lpips()
    with damage_named(trunk.checked_path(), "file of weights", trunk.source):
        fill(network, state, unused=("classifier.",))
    return network


LPIPS = Loaded("lpips", (TRUNK, HEADS), build)


def _metric(region: str) -> Callable[[np.ndarray, object, Target], float]:
    """LPIPS on a region, as the function of a `Metric`."""

    def score(rendered: np.ndarray, face: object, target: Target) -> float:
        images = [_region(image, region, target.box) for image in (rendered, target.image)]
        _same_shape(*images)
        with torch.no_grad():
            return LPIPS.network.distance(*(LPIPS.network.features(image) for image in images))

    return score


for _where, _about in (("face", "face crop"), ("whole", "whole image")):
    register(
        Metric(
            f"lpips/alex/{_where}",
            "lower",
            f"original LPIPS 0.1 (AlexNet), {_about}",
            _metric(_where),
            frozenset({"truth"}),
            LPIPS,
        )
    )
