"""The perceptual network: agreement with the published package, order, gradients, errors."""

import pytest
import torch

from raflib.errors import RafError
from raflib.perceptual import Perceptual, load_weights, perceptual, weight_file

# Computed once with stlpips-pytorch 0.0.2 itself on `pictures(height, width)` (normalize=True, float32).
PUBLISHED = {
    ("alex", 64, 64): 0.06390440,
    ("alex", 96, 81): 0.08791836,
    ("alex", 75, 110): 0.09866093,
    ("vgg", 64, 64): 0.13998947,
}


def pictures(height, width):
    """A smooth pair in [0,1], [1,3,H,W], that any machine makes alike."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    red, green = torch.sin(9 * x + 4 * y), torch.cos(13 * y * x + 1)
    first = [0.5 + 0.5 * red, 0.5 + 0.5 * green, (x * y + 0.3 * torch.sin(25 * x)).clamp(0, 1)]
    red, green = torch.sin(9 * x + 4 * y + 0.3), torch.cos(12 * y * x + 1)
    second = [0.5 + 0.5 * red, 0.5 + 0.45 * green, (x * y + 0.25 * torch.sin(27 * x)).clamp(0, 1)]
    return torch.stack(first)[None].float(), torch.stack(second)[None].float()


@pytest.mark.parametrize(("net", "height", "width"), PUBLISHED)
def test_agrees_with_the_published_package(net, height, width):
    value = perceptual(net)(*pictures(height, width)).item()
    assert value == pytest.approx(PUBLISHED[net, height, width], rel=5e-5)


def test_identical_pictures_have_distance_zero_and_noise_raises_it():
    picture, _ = pictures(48, 56)
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    noisy = torch.cat([(picture + sigma * noise).clamp(0, 1) for sigma in (0.0, 0.02, 0.05, 0.1, 0.2)])
    distances = perceptual()(noisy, picture.expand_as(noisy))
    assert distances[0] == 0
    assert (distances.diff() > 0).all()


def test_one_pixel_of_shift_costs_little():
    picture, other = pictures(64, 64)
    shifted = perceptual()(picture[..., 1:-1], picture[..., :-2]).item()
    different = perceptual()(picture[..., 1:-1], other[..., 1:-1]).item()
    assert 0 < shifted < 0.25 * different


def test_channels_last_batches_and_cached_targets_give_the_same():
    x, y = pictures(40, 44)
    network = perceptual()
    batch = torch.cat([x, y])
    first = network(batch, batch.flip(0))
    last = network(batch.permute(0, 2, 3, 1), batch.flip(0).permute(0, 2, 3, 1))
    assert torch.allclose(first, last, rtol=1e-5) and torch.allclose(first[0], first[1], rtol=1e-4)
    assert torch.equal(network.distance(network.features(x), network.features(y)), network(x, y))


def test_gradient_is_finite_even_on_a_flat_picture_and_points_downhill():
    x, y = pictures(48, 48)
    network = perceptual()
    for start in (x, torch.ones_like(x), torch.zeros_like(x)):
        start = start.clone().requires_grad_(True)
        value = network(start, y)
        (gradient,) = torch.autograd.grad(value.sum(), start)
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
        stepped = start.detach() - 1e-3 * gradient / gradient.abs().max()
        assert network(stepped, y).item() < value.item()


def test_nothing_is_trainable_or_saved():
    network = perceptual()
    assert not list(network.parameters()) and not network.state_dict()


def test_fewer_layers_are_another_metric_and_say_so():
    x, y = pictures(48, 48)
    part = Perceptual("alex", layers=(0, 1))
    assert part.tag == "lpips/stlpips-alex-01" and perceptual().tag == "lpips/stlpips-alex"
    assert 0 < part(x, y).item() < perceptual()(x, y).item()


def test_errors_name_the_thing(tmp_path, monkeypatch):
    with pytest.raises(RafError, match=r"squeeze.*alex"):
        weight_file("squeeze")
    with pytest.raises(RafError, match="too small"):
        perceptual()(torch.rand(1, 16, 64, 3), torch.rand(1, 16, 64, 3))
    with pytest.raises(RafError, match="one shape"):
        perceptual()(torch.rand(1, 64, 64, 3), torch.rand(1, 64, 60, 3))
    damaged = tmp_path / "alex.pth"
    damaged.write_bytes(weight_file("alex").read_bytes()[:-1])
    with pytest.raises(RafError, match=r"alex\.pth.*SHA-256"):
        load_weights(damaged, "alex")
    monkeypatch.setattr("raflib.perceptual.util.find_spec", lambda name: None)
    with pytest.raises(RafError, match=r"pip install.*stlpips-pytorch"):
        Perceptual()
