"""Emotion similarity from EmoNet (Toisoul et al. 2021), which the paper measures (section 5).

The network finds 68 face landmarks with two hourglasses (Bulat & Tzimiropoulos 2017), weights its features with the
sum of their heat maps, and regresses emotion from them. The metric is the cosine of its 256 features before the two
last linear layers. Names of parameters are those of the published file, so that it loads. The crop is the published
one: a square of 2/1.1 times the mean side of the box around 68 landmarks, 256² pixels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raflib.evaluation.regressor import Regressor, box68, cosine, register_pair
from raflib.evaluation.weights import Weights

SIZE = 256
WIDTH, POINTS, EMOTIONS = 256, 68, 8
LEVELS = (4, 3, 2, 1)
WEIGHTS = Weights(
    "emonet_8.pth",
    "download pretrained/emonet_8.pth of https://github.com/face-analysis/emonet (licence: CC BY-NC-ND 4.0) and put it "
    "there",
)


class Block(nn.Module):
    """Three convolutions, each after batch norm and ReLU; their outputs side by side are added to the shortcut."""

    def __init__(self, given: int, made: int):
        super().__init__()
        widths = (given, made // 2, made // 4, made // 4)
        for i in range(3):
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(widths[i]))
            self.add_module(f"conv{i + 1}", nn.Conv2d(widths[i], widths[i + 1], 3, padding=1, bias=False))
        self.downsample = nn.Sequential()
        if given != made:
            self.downsample = nn.Sequential(nn.BatchNorm2d(given), nn.ReLU(), nn.Conv2d(given, made, 1, bias=False))

    def forward(self, x: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B _ H W"]:
        """Shortcut plus the three outputs."""
        parts, inner = [], x
        for i in range(1, 4):
            inner = self.get_submodule(f"conv{i}")(F.relu(self.get_submodule(f"bn{i}")(inner)))
            parts.append(inner)
        return torch.cat(parts, 1) + self.downsample(x)


class Hourglass(nn.Module):
    """Four times down and up again; each size has a path of its own that is added on the way up."""

    def __init__(self) -> None:
        super().__init__()
        for level in LEVELS:
            for part in ("b1", "b2", "b3"):
                self.add_module(f"{part}_{level}", Block(WIDTH, WIDTH))
        self.b2_plus_1 = Block(WIDTH, WIDTH)

    def forward(self, x: Float[Tensor, "B 256 H W"]) -> Float[Tensor, "B 256 H W"]:
        """Features of the same size."""
        kept = []
        for level in LEVELS:
            kept.append(self.get_submodule(f"b1_{level}")(x))
            x = self.get_submodule(f"b2_{level}")(F.max_pool2d(x, 2))
        x = self.b2_plus_1(x)
        for level in reversed(LEVELS):
            x = kept.pop() + F.interpolate(self.get_submodule(f"b3_{level}")(x), scale_factor=2, mode="nearest")
        return x


class EmoNet(nn.Module):
    """RGB crops [B,3,256,256] in [0,1] → 256 features of emotion."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, padding=3), nn.BatchNorm2d(64)
        self.conv2, self.conv3, self.conv4 = Block(64, 128), Block(128, 128), Block(128, WIDTH)
        for i in range(2):
            self.add_module(f"m{i}", Hourglass())
            self.add_module(f"top_m_{i}", Block(WIDTH, WIDTH))
            self.add_module(f"conv_last{i}", nn.Conv2d(WIDTH, WIDTH, 1))
            self.add_module(f"bn_end{i}", nn.BatchNorm2d(WIDTH))
            self.add_module(f"l{i}", nn.Conv2d(WIDTH, POINTS, 1))
        self.bl0, self.al0 = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(POINTS, WIDTH, 1)
        self.conv1x1_input_emo_2 = nn.Conv2d(3 * WIDTH, WIDTH, 1)
        emotion = [part for _ in range(4) for part in (Block(WIDTH, WIDTH), nn.MaxPool2d(2))]
        self.emo_net_2 = nn.Sequential(*emotion)
        # The two last layers are not used, but they are part of the published file.
        self.emo_fc_2 = nn.Sequential(
            nn.Linear(WIDTH, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, EMOTIONS + 2)
        )

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 256"]:
        """Features of face crops."""
        x = F.max_pool2d(self.conv2(F.relu(self.bn1(self.conv1(x)))), 2)
        low = self.conv4(self.conv3(x))
        first, heat = self._landmarks(low, 0)
        first = self.bl0(first)
        second, heat = self._landmarks(low + first + self.al0(heat), 1)
        attended = torch.cat([first, second], 1) * heat.sum(1, keepdim=True)
        return self.emo_net_2(self.conv1x1_input_emo_2(torch.cat([low, attended], 1))).mean((2, 3))

    def _landmarks(
        self, x: Float[Tensor, "B 256 H W"], i: int
    ) -> tuple[Float[Tensor, "B 256 H W"], Float[Tensor, "B 68 H W"]]:
        """Features and heat maps after hourglass `i`."""
        x = self.get_submodule(f"top_m_{i}")(self.get_submodule(f"m{i}")(x))
        x = F.relu(self.get_submodule(f"bn_end{i}")(self.get_submodule(f"conv_last{i}")(x)))
        return x, self.get_submodule(f"l{i}")(x)


def frame(points: Float[np.ndarray, "478 2"]) -> Float[np.ndarray, "2 3"]:
    """EmoNet's crop for 68 landmarks (see `raflib.evaluation.regressor.Frame`)."""
    centre, sides = box68(points)
    side = 2 / 1.1 * sides.mean()
    step = side / SIZE
    return np.array([[step, 0, centre[0] - side / 2], [0, step, centre[1] - side / 2]])


def build(weights: Weights) -> nn.Module:
    """The network with the published weights. Further tensors are allowed, as its authors allow them."""
    return weights.load(EmoNet(), unused=("",))


EMONET = Regressor("emonet", (WEIGHTS,), build, SIZE, frame)
register_pair("emotion/emonet/cos", "higher", "cosine of EmoNet's 256 emotion features", EMONET, cosine)
