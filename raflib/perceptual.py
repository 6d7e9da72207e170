"""Perceptual distance between images: shift-tolerant LPIPS in plain torch, for training and for evaluation.

The weights are those of Ghildyal & Liu, "Shift-tolerant Perceptual Similarity Metric" (ECCV 2022): an ImageNet trunk
(AlexNet or VGG16) with blur-pool, and one non-negative weight a channel at five depths. They are read from the files
of the installed `stlpips-pytorch` wheel without importing it, because its Python needs torchvision. Numbers agree with
that package to float precision (a test holds fixed values of it); they are not those of the original LPIPS, so results
are tagged `lpips/stlpips-alex` or `lpips/stlpips-vgg`.

Nothing here is trained: weights are buffers that no checkpoint carries. Gradients reach the images only.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from functools import lru_cache
from importlib import util
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raflib.errors import RafError
from raflib.reading import damage_named, read_bytes

PACKAGE = "stlpips_pytorch"
SHA256 = {
    "alex": "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
    "vgg": "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250",
}
MIN_SIDE = 32
"""Smallest image side in pixels: below it the last layers are narrower than the blur-pool's reflected border."""

# Per depth: max-pool size before it (0: none), then its convolutions as (layer number in the weight file, padding).
# A blur-pool follows every max-pool. AlexNet's first convolution is followed by a blur-pool of its own (see `_stem`).
_TRUNKS: dict[str, tuple[tuple[int, tuple[tuple[int, int], ...]], ...]] = {
    "alex": ((0, ()), (3, ((5, 2),)), (3, ((9, 1),)), (0, ((11, 1),)), (0, ((13, 1),))),
    "vgg": (
        (0, ((0, 1), (2, 1))),
        (2, ((6, 1), (8, 1))),
        (2, ((12, 1), (14, 1), (16, 1))),
        (2, ((20, 1), (22, 1), (24, 1))),
        (2, ((28, 1), (30, 1), (32, 1))),
    ),
}


def weight_file(net: str) -> Path:
    """Path of the weights of `net` in the installed wheel; RafError with what to install when it is missing."""
    if net not in SHA256:
        raise RafError(f"perceptual network {net!r} is unknown; choose one of {sorted(SHA256)}")
    spec = util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise RafError(f"package {PACKAGE} is not installed; run `pip install --no-deps stlpips-pytorch==0.0.2`")
    return Path(spec.origin).parent / "weights" / "vST0.0" / f"{net}_shift_tolerant.pth"


def load_weights(path: Path, net: str) -> dict[str, Tensor]:
    """The state dict in `path` after checking its SHA-256; RafError naming the file otherwise.

    Needs torch 2.6 or newer, before which `weights_only` could be got round.
    """
    advice = "run `pip install --force-reinstall --no-deps stlpips-pytorch==0.0.2`"
    content = read_bytes(path, f"file of {net} weights", advice)
    if hashlib.sha256(content).hexdigest() != SHA256[net]:
        raise RafError(f"{path}: not the {net} weights of stlpips-pytorch 0.0.2 (SHA-256 differs); {advice}")
    with damage_named(path, f"file of {net} weights", advice):
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


class Perceptual(nn.Module):
    """Shift-tolerant LPIPS: `Perceptual("alex")(x, y) -> [B]`, 0 for equal images, larger for more different ones.

    Args:
        net: "alex" (default) or "vgg".
        layers: which of the five depths are summed (default all, which is the published metric). Fewer is a cheaper
            training loss, since the trunk is not run past the last of them, and another number: never report it as
            the metric.

    Raises RafError when the weights are missing or damaged, or `layers` names a depth that does not exist.
    """

    shift: Tensor
    scale: Tensor
    stem_weight: Tensor
    stem_bias: Tensor
    stem_full: Tensor
    stem_right: Tensor
    stem_bottom: Tensor
    stem_corner: Tensor

    def __init__(self, net: str = "alex", layers: Sequence[int] = (0, 1, 2, 3, 4)):
        super().__init__()
        self.net = net
        self.layers = tuple(sorted(set(layers)))
        if not self.layers or not set(self.layers) <= set(range(5)):
            raise RafError(f"perceptual layers {tuple(layers)} must name depths between 0 and 4")
        weights = load_weights(weight_file(net), net)
        self._hold("shift", weights["scaling_layer.shift"])
        self._hold("scale", weights["scaling_layer.scale"])
        if net == "alex":
            self._hold("stem_weight", weights["net.slice1.0.weight"])
            self._hold("stem_bias", weights["net.slice1.0.bias"])
            for name, kernel in _stem_kernels(self.stem_weight).items():
                self._hold(name, kernel)
        for depth, (_, convolutions) in enumerate(_TRUNKS[net][: self.layers[-1] + 1]):
            for number, _ in convolutions:
                for part in ("weight", "bias"):
                    self._hold(f"{part}_{number}", weights[f"net.slice{depth + 1}.{number}.{part}"])
        for depth in self.layers:
            self._hold(f"head_{depth}", weights[f"lin{depth}.model.1.weight"])

    @property
    def tag(self) -> str:
        """Name of the metric in tables."""
        return f"lpips/stlpips-{self.net}" + ("" if len(self.layers) == 5 else "-" + "".join(map(str, self.layers)))

    def forward(self, x: Float[Tensor, "B ..."], y: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
        """Distance of each image in `x` to its partner in `y`, both [B,H,W,3] or [B,3,H,W] in [0,1]."""
        if x.shape != y.shape:
            raise RafError(f"images to compare must have one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
        return self.distance(self.features(x), self.features(y))

    def features(self, x: Float[Tensor, "B ..."]) -> list[Float[Tensor, "B _ _ _"]]:
        """Unit-length channel vectors at each chosen depth, to compare one target with many images (`distance`)."""
        h = (2 * _channels_first(x) - 1 - self.shift) / self.scale
        h = h.contiguous(memory_format=torch.channels_last)
        found = []
        for depth, (pool, convolutions) in enumerate(_TRUNKS[self.net][: self.layers[-1] + 1]):
            if depth == 0 and self.net == "alex":
                h = F.relu(self._stem(h))
            if pool:
                h = _blur(F.max_pool2d(h, pool, stride=1))
            for number, padding in convolutions:
                weight, bias = getattr(self, f"weight_{number}"), getattr(self, f"bias_{number}")
                h = F.relu(F.conv2d(h, weight, bias, padding=padding))
            if depth in self.layers:
                # A pixel whose channels are all off has length 0: the tiny term inside the root keeps its gradient 0.
                found.append(h / ((h * h).sum(1, keepdim=True) + 1e-20).sqrt())
        return found

    def distance(self, x: list[Float[Tensor, "B _ _ _"]], y: list[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B"]:
        """LPIPS from both sides' `features`: weighted squared differences, mean over pixels, summed over depths."""
        total = x[0].new_zeros(len(x[0]))
        for depth, a, b in zip(self.layers, x, y, strict=True):
            total = total + F.conv2d((a - b) ** 2, getattr(self, f"head_{depth}")).mean((1, 2, 3))
        return total

    def _hold(self, name: str, tensor: Tensor) -> None:
        four = tensor.ndim == 4 and tensor.shape[-1] > 1
        tensor = tensor.contiguous(memory_format=torch.channels_last) if four else tensor
        self.register_buffer(name, tensor, persistent=False)

    def _stem(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 64 h w"]:
        """AlexNet's 11×11 convolution followed by its blur-pool, as one 13×13 convolution of stride 2.

        Both are linear and nothing lies between them, so they fuse exactly except where the blur's reflected border
        is read. Over n = H − 6 rows of the plain convolution the first output row repeats the second (the blur is
        symmetric); the last repeats its neighbour for odd n, and for even n it is (c[n−2] + c[n−1]) / 2, one strip of
        its own. Columns alike. This is about 3 times faster than the two steps with their large intermediate image.
        """
        height, width = x.shape[-2:]
        inner = F.conv2d(x, self.stem_full, self.stem_bias, stride=2, padding=2)
        if width % 2:
            inner = torch.cat([inner, inner[..., -1:]], -1)
        else:
            right = F.conv2d(F.pad(x[..., width - 10 :], (0, 2, 2, 2)), self.stem_right, self.stem_bias, stride=2)
            inner = torch.cat([inner, right], -1)
        if height % 2:
            inner = torch.cat([inner, inner[..., -1:, :]], -2)
        else:
            strip = F.pad(x[..., height - 10 :, :], (2, 2, 0, 2))
            bottom = F.conv2d(strip, self.stem_bottom, self.stem_bias, stride=2)
            if width % 2:
                corner = bottom[..., -1:]
            else:
                corner = F.conv2d(strip[..., width - 8 :], self.stem_corner, self.stem_bias)
            inner = torch.cat([inner, torch.cat([bottom, corner], -1)], -2)
        inner = torch.cat([inner[..., :1], inner], -1)
        return torch.cat([inner[..., :1, :], inner], -2)


def _stem_kernels(weight: Float[Tensor, "C 3 11 11"]) -> dict[str, Tensor]:
    """The stem's kernels blurred for the inside ([1,2,1]/4) and for an even far border ([1,1]/2), per axis."""
    inside, border = weight.new_tensor([0.25, 0.5, 0.25]), weight.new_tensor([0.5, 0.5])

    def blurred(rows: Tensor, columns: Tensor) -> Tensor:
        blur = rows[:, None] * columns[None, :]
        flat = weight.reshape(-1, 1, 11, 11)
        padding = (len(rows) - 1, len(columns) - 1)
        return F.conv2d(flat, blur[None, None], padding=padding).reshape(
            *weight.shape[:2], 10 + len(rows), 10 + len(columns)
        )

    return {
        "stem_full": blurred(inside, inside),
        "stem_right": blurred(inside, border),
        "stem_bottom": blurred(border, inside),
        "stem_corner": blurred(border, border),
    }


def _blur(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """Blur-pool: [1,2,1]/4 both ways (two box filters), stride 2, two reflected pixels around."""
    return F.avg_pool2d(F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 2, stride=1), 2, stride=2)


def _channels_first(x: Tensor) -> Float[Tensor, "B 3 H W"]:
    if x.ndim == 4 and x.shape[-1] == 3:
        x = x.permute(0, 3, 1, 2)
    if x.ndim != 4 or x.shape[1] != 3:
        raise RafError(f"images must be [B,H,W,3] or [B,3,H,W], got {tuple(x.shape)}")
    if min(x.shape[-2:]) < MIN_SIDE:
        raise RafError(f"images of {x.shape[-1]}x{x.shape[-2]} px are too small; use {MIN_SIDE} px or more")
    return x


@lru_cache(maxsize=4)
def perceptual(net: str = "alex") -> Perceptual:
    """The published metric on `net`, read once a process (CPU)."""
    return Perceptual(net)
