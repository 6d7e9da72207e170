"""Identity similarity from a face recogniser (CSIM): does the render still look like the subject?

The network is the ResNet-50 of the public ArcFace code (Deng et al. 2019), with weights that the user brings. The
metric is the cosine of its 512 features. It needs a true image of the subject, so it has no value against a driver.
Names of parameters are those of the published file. Faces are aligned as in that code: a similarity transform moves
eyes, nose and corners of the mouth to fixed places in 112² pixels.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from raflib.evaluation.metrics.base import Metric, register
from raflib.evaluation.metrics.mediapipe import LEFT_EYE, RIGHT_EYE
from raflib.evaluation.regressor import Regressor, compared, cosine
from raflib.evaluation.weights import Weights

SIZE = 112
BLOCKS = (3, 4, 14, 3)
FEATURES = 512
PLACES = (38.2946 + 51.6963j, 73.5318 + 51.5014j, 56.0252 + 71.7366j, 41.5493 + 92.3655j, 70.7299 + 92.2041j)
"""Places (x + iy) of the subject's right and left eye, tip of the nose, right and left corner of the mouth."""
NOSE, MOUTH = 4, (61, 291)
"""MediaPipe's points of the tip of the nose and of the corners of the mouth."""
WEIGHTS = Weights(
    "arcface_r50.pth",
    "download backbone.pth of ms1mv3_arcface_r50_fp16 from the model list of "
    "https://github.com/deepinsight/insightface (licence: non-commercial research) and put it there under this name",
)


class Block(nn.Module):
    """Two convolutions with three batch norms and a shortcut; the second one has the stride."""

    def __init__(self, given: int, made: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(given), nn.Conv2d(given, made, 3, padding=1, bias=False)
        self.bn2, self.prelu = nn.BatchNorm2d(made), nn.PReLU(made)
        self.conv2, self.bn3 = nn.Conv2d(made, made, 3, stride, padding=1, bias=False), nn.BatchNorm2d(made)
        self.downsample = nn.Sequential()
        if stride > 1 or given != made:
            self.downsample = nn.Sequential(nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made))

    def forward(self, x: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B _ h w"]:
        """Shortcut plus the two convolutions."""
        inner = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(inner)) + self.downsample(x)


class FaceResNet50(nn.Module):
    """RGB crops [B,3,112,112] in [0,1] → features of identity [B,512]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        given = 64
        for number, blocks in enumerate(BLOCKS):
            layer, made = nn.Sequential(), 64 * 2**number
            for block in range(blocks):
                layer.append(Block(given, made, 1 if block else 2))
                given = made
            self.add_module(f"layer{number + 1}", layer)
        self.bn2 = nn.BatchNorm2d(given)
        self.fc, self.features = nn.Linear(given * 7 * 7, FEATURES), nn.BatchNorm1d(FEATURES)

    def forward(self, x: Float[Tensor, "B 3 112 112"]) -> Float[Tensor, "B 512"]:
        """Features of aligned faces."""
        x = self.prelu(self.bn1(self.conv1(2 * x - 1)))
        for number in range(len(BLOCKS)):
            x = self.get_submodule(f"layer{number + 1}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


def frame(points: Float[np.ndarray, "478 2"]) -> Float[np.ndarray, "2 3"]:
    """The aligned crop (see `raflib.evaluation.regressor.Frame`): a least-squares similarity transform."""
    points = np.asarray(points, np.float64) - 0.5
    five = [*(points[list(eye)].mean(0) for eye in (RIGHT_EYE, LEFT_EYE)), points[NOSE], *points[list(MOUTH)]]
    seen, wanted = np.array(five) @ [1, 1j], np.array(PLACES)
    # A similarity of the plane is w = a·z + b with complex a (rotation and scale) and b (translation).
    centred = seen - seen.mean()
    turn = (centred.conj() @ (wanted - wanted.mean())) / (centred.conj() @ centred)
    back, start = 1 / turn, seen.mean() - wanted.mean() / turn
    return np.array([[back.real, -back.imag, start.real], [back.imag, back.real, start.imag]])


def build(weights: Weights) -> nn.Module:
    """The network with the published weights."""
    return weights.load(FaceResNet50())


ARCFACE = Regressor("arcface", (WEIGHTS,), build, SIZE, frame)
register(
    Metric(
        "identity/arcface/cos",
        "higher",
        "cosine of ArcFace's 512 identity features (ResNet-50), render against the true image",
        compared(ARCFACE, cosine, "face"),
        frozenset({"tracker", "truth"}),
        ARCFACE,
    )
)
