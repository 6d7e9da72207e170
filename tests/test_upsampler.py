"""The upsampler is the published network with its published names; the zoom keeps features and image aligned."""

import jaxtyping
import numpy as np
import pytest
import torch

from raflib.avatar import Upsampler
from raflib.errors import RafError
from raflib.images import resized
from raflib.training.zoom import Zoom

PUBLISHED = {
    "inc.double_conv.0.weight": (128, 32, 3, 3), "inc.double_conv.3.weight": (128, 128, 3, 3),
    "up1.conv.double_conv.0.weight": (64, 128, 3, 3), "up1.conv.double_conv.3.weight": (64, 64, 3, 3),
    "up2.conv.double_conv.0.weight": (32, 64, 3, 3), "up2.conv.double_conv.3.weight": (32, 32, 3, 3),
    "outc.conv.weight": (3, 32, 1, 1), "outc.conv.bias": (3,),
}  # fmt: skip


def convolved(x, weight):
    """3×3 convolution of [c,H,W], zeros outside, as a sum over its nine taps."""
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    taps = [(i, j) for i in range(3) for j in range(3)]
    return sum(np.tensordot(weight[:, :, i, j], padded[:, i : i + height, j : j + width], 1) for i, j in taps)


def double_conv(x, weights, name):
    for layer in (0, 3):
        x = convolved(x, weights[f"{name}.double_conv.{layer}.weight"])
        x = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
        x = np.maximum(x, 0)
    return x


def doubled(x):
    """Linear interpolation to twice the size with corners on corners, one axis after the other."""
    for axis in (1, 2):
        count = x.shape[axis]
        place = np.linspace(0, count - 1, 2 * count)
        low = np.minimum(place.astype(int), count - 2)
        part = (place - low).reshape((-1, 1) if axis == 1 else -1)
        x = (1 - part) * np.take(x, low, axis) + part * np.take(x, low + 1, axis)
    return x


def restated(features, weights):
    """The published network on one [H,W,C] in float64."""
    x = double_conv(features.transpose(2, 0, 1), weights, "inc")
    for stage in ("up1", "up2"):
        if f"{stage}.conv.double_conv.0.weight" in weights:
            x = double_conv(doubled(x), weights, f"{stage}.conv")
    x = np.tensordot(weights["outc.conv.weight"][:, :, 0, 0], x, 1) + weights["outc.conv.bias"][:, None, None]
    return (1 / (1 + np.exp(-x))).transpose(1, 2, 0)


def test_names_and_shapes_are_the_published_ones():
    assert {name: tuple(value.shape) for name, value in Upsampler().state_dict().items()} == PUBLISHED
    assert set(Upsampler().to_official()) == {f"upsampler.{name}" for name in PUBLISHED}


@pytest.mark.parametrize(("channels", "capacity", "factor"), [(5, 4, 4), (32, 32, 4), (3, 6, 2)])
def test_it_computes_what_the_paper_describes(channels, capacity, factor):
    torch.manual_seed(0)
    network = Upsampler(channels, capacity, factor)
    features = torch.rand(2, 6, 9, channels)
    with torch.no_grad():
        images = network(features)
    assert images.shape == (2, factor * 6, factor * 9, 3)
    weights = {name: value.double().numpy() for name, value in network.state_dict().items()}
    for mine, given in zip(images, features, strict=True):
        np.testing.assert_allclose(mine.numpy(), restated(given.double().numpy(), weights), atol=2e-5)


def test_it_compiles_as_one_graph(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # without the checks of these tests
    network = Upsampler(8, 4, 4)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    features = torch.rand(1, 8, 8, 8)
    torch.testing.assert_close(compiled(features), network(features))
    assert not any("_orig_mod" in name for name in network.state_dict())


@pytest.mark.parametrize(("channels", "capacity", "factor"), [(32, 32, 4), (8, 4, 4), (8, 4, 2)])
def test_published_weights_go_both_ways_bit_by_bit(channels, capacity, factor):
    network = Upsampler(channels, capacity, factor)
    published = network.to_official()
    again = Upsampler.from_official(published)
    assert again.factor == factor and all(parameter.requires_grad for parameter in again.parameters())
    assert all(torch.equal(value, again.to_official()[name]) for name, value in published.items())
    with torch.no_grad():
        published["upsampler.outc.conv.bias"].add_(1)  # copies both ways: nothing is shared
    assert not torch.equal(again.outc.conv.bias, published["upsampler.outc.conv.bias"])
    features = torch.rand(1, 4, 4, channels)
    assert torch.equal(network(features), again(features))


def test_wrong_published_weights_are_listed_all_at_once():
    weights = Upsampler().to_official()
    weights["upsampler.up3.weight"] = torch.zeros(1)
    weights["xyz"] = torch.zeros(1)
    weights["upsampler.up1.conv.double_conv.0.weight"] = torch.zeros(64, 128, 1, 1)
    weights["upsampler.up2.conv.double_conv.3.weight"] = weights["upsampler.up2.conv.double_conv.3.weight"].half()
    del weights["upsampler.outc.conv.bias"]
    with pytest.raises(RafError) as caught:
        Upsampler.from_official(weights)
    for part in (
        "upsampler.up3.weight is unknown", "xyz is unknown", "upsampler.outc.conv.bias is missing",
        "double_conv.0.weight is [64, 128, 1, 1], expected [64, 128, 3, 3]", "is torch.float16, expected float32",
    ):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(RafError, match=r"inc\.double_conv\.0\.weight is missing"):
        Upsampler.from_official({})
    with pytest.raises(RafError, match="factor is 3"):
        Upsampler(factor=3)


@pytest.mark.parametrize("scale", [0.8, 0.9, 1.0, 1.1, 1.25])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_point_stays_aligned_between_features_and_picture(scale, factor):
    """Two blobs are at known places in both sizes: after the zoom each is at factor times its coarse place."""
    size, generator = 40, torch.Generator().manual_seed(int(10 * scale) + factor)
    zoom = Zoom.sample(size, factor, (scale, scale), generator)
    assert zoom.scaled == round(scale * size)

    def blob(u, v, side, width):
        """1 minus a bump around (u, v), in pixels of an image whose pixel centres lie at +0.5."""
        grid = torch.arange(side) + 0.5
        bump = torch.exp(-(((grid - u) / width) ** 2))[None] * torch.exp(-(((grid - v) / width) ** 2))[:, None]
        return 1 - bump[None, ..., None].repeat(1, 1, 1, 3)

    def found(picture):
        weight = 1 - picture[0, ..., 0].double()
        grid = torch.arange(len(weight)) + 0.5
        return torch.stack([(weight.sum(0) * grid).sum(), (weight.sum(1) * grid).sum()]) / weight.sum()

    u, v = 21.3, 18.6
    features = zoom.features(blob(u, v, size, 2.0))
    picture = zoom.images(blob(factor * u, factor * v, factor * size, 2.0 * factor))
    assert features.shape == (1, size, size, 3) and picture.shape == (1, factor * size, factor * size, 3)
    expected = torch.tensor([u, v]) * zoom.scaled / size - torch.tensor([zoom.x, zoom.y])
    torch.testing.assert_close(found(features).float(), expected, atol=0.02, rtol=0)
    torch.testing.assert_close(found(picture).float(), factor * expected, atol=0.02 * factor, rtol=0)
    x, y, width, height = zoom.box(torch.tensor([[21, 18, 1, 1]]))[0].tolist()
    assert x <= factor * expected[0] <= x + width and y <= factor * expected[1] <= y + height


def test_a_small_picture_lies_on_white_and_a_large_one_is_cropped():
    black = torch.zeros(1, 20, 20, 2)
    small, large = Zoom(20, 4, 16, -3, -1), Zoom(20, 4, 25, 5, 0)
    placed = small.features(black)
    assert (placed[:, 1:17, 3:19] == 0).all() and placed.sum() == 2 * (20 * 20 - 16 * 16)
    placed = small.images(torch.zeros(1, 80, 80, 3))
    assert (placed[:, 4:68, 12:76] == 0).all() and placed.sum() == 3 * (80 * 80 - 64 * 64)
    ramp = torch.arange(20.0)[None, None, :, None].expand(1, 20, 20, 1)
    cropped = large.features(ramp)
    assert cropped.shape == ramp.shape and cropped[..., 0, 0].min() > 3 and cropped.max() == 19
    assert large.box(torch.tensor([[0, 0, 2, 2]]))[0].tolist() == [0, 0, 0, 10]  # cropped away on the left


def test_zooms_fill_their_range_and_follow_the_generator():
    drawn = [Zoom.sample(32, 4, (0.8, 1.25), torch.Generator().manual_seed(seed)) for seed in range(300)]
    assert drawn == [Zoom.sample(32, 4, (0.8, 1.25), torch.Generator().manual_seed(seed)) for seed in range(300)]
    assert {zoom.scaled for zoom in drawn} == set(range(26, 41))
    for zoom in drawn:
        low, high = sorted((0, zoom.scaled - 32))
        assert low <= zoom.x <= high and low <= zoom.y <= high
    assert {zoom.x for zoom in drawn if zoom.scaled == 40} >= {0, 8} or len({zoom.x for zoom in drawn}) > 10


def test_shrinking_averages_and_does_not_move_the_picture():
    fine = torch.zeros(1, 16, 16, 1)
    fine[:, ::2] = 1  # stripes of one pixel
    coarse = resized(fine, 4, 4)
    assert (coarse - 0.5).abs().max() < 0.1
    assert resized(fine, 16, 16) is fine
