"""AED, APD and jaw distance from the coefficients of DECA (Feng et al. 2021), which the paper measures (section 5).

DECA's encoder is a ResNet-50 (He et al. 2016) with two linear layers. From a face crop of 224² pixels it regresses 236
numbers: shape 100, texture 50, expression 50, pose 6 (head rotation, then jaw, both axis-angle in radians), camera 3
and light 27. Names of its parameters are those of the published file, so that it loads. The crop is the published one
for 68 landmarks: a square of 1.25 × 1.1 times the mean side of their box.
"""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raflib.evaluation.regressor import Regressor, box68, l1, register_pair
from raflib.evaluation.weights import Weights

SIZE = 224
PARTS = {"shape": 100, "tex": 50, "exp": 50, "pose": 6, "cam": 3, "light": 27}
"""Lengths of the parts of the code, in order."""
EXPRESSION, HEAD, JAW = slice(150, 200), slice(200, 203), slice(203, 206)
BLOCKS = (3, 4, 6, 3)
WEIGHTS = Weights(
    "deca_model.tar",
    "get DECA's pretrained model as https://github.com/yfeng95/DECA says (licence: non-commercial research, and "
    "FLAME's) and put it there",
)


class Bottleneck(nn.Module):
    """Three convolutions with a shortcut; the middle one has the stride."""

    def __init__(self, wide: int, narrow: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(wide, narrow, 1, bias=False), nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3, self.bn3 = nn.Conv2d(narrow, 4 * narrow, 1, bias=False), nn.BatchNorm2d(4 * narrow)
        self.downsample = nn.Sequential()
        if stride > 1 or wide != 4 * narrow:
            self.downsample = nn.Sequential(
                nn.Conv2d(wide, 4 * narrow, 1, stride, bias=False), nn.BatchNorm2d(4 * narrow)
            )

    def forward(self, x: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """Shortcut plus the three convolutions."""
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        return F.relu(self.bn3(self.conv3(inner)) + self.downsample(x))


class ResNet50(nn.Module):
    """The trunk of ResNet-50: [B,3,H,W] → [B,2048], the mean over the last layer's pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64)
        wide = 64
        for number, blocks in enumerate(BLOCKS):
            narrow = 64 * 2**number
            layer = nn.Sequential()
            for block in range(blocks):
                layer.append(Bottleneck(wide, narrow, 2 if number and not block else 1))
                wide = 4 * narrow
            self.add_module(f"layer{number + 1}", layer)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 2048"]:
        """Features of RGB images."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        for number in range(len(BLOCKS)):
            x = self.get_submodule(f"layer{number + 1}")(x)
        return x.mean((2, 3))


class Encoder(nn.Module):
    """DECA's coarse encoder: RGB crops in [0,1] → codes, in the order of `PARTS`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResNet50()
        self.layers = nn.Sequential(nn.Linear(2048, 1024), nn.ReLU(), nn.Linear(1024, sum(PARTS.values())))

    def forward(self, x: Float[Tensor, "B 3 224 224"]) -> Float[Tensor, "B 236"]:
        """Codes of face crops."""
        return self.layers(self.encoder(x))


def frame(points: Float[np.ndarray, "478 2"]) -> Float[np.ndarray, "2 3"]:
    """DECA's crop for 68 landmarks (see `raflib.evaluation.regressor.Frame`)."""
    centre, sides = box68(points)
    side = int(1.25 * 1.1 * sides.mean())
    step = side / (SIZE - 1)
    return np.array([[step, 0, centre[0] - side / 2], [0, step, centre[1] - side / 2]])


def build(weights: Weights) -> nn.Module:
    """The encoder with the published weights."""
    return weights.load(Encoder(), "E_flame")


DECA = Regressor("deca", (WEIGHTS,), build, SIZE, frame)
register_pair("aed/deca/l1", "lower", "mean |difference| of DECA's 50 expression coefficients", DECA, l1(EXPRESSION))
register_pair("apd/deca/l1", "lower", "mean |difference| of DECA's head rotation (axis-angle)", DECA, l1(HEAD))
register_pair("jaw/deca/l1", "lower", "mean |difference| of DECA's jaw rotation (axis-angle)", DECA, l1(JAW))
