"""The two backends give the same images and gradients (needs a CUDA device and gsplat)."""

import pytest
import torch

from raflib.render import Gaussians, rasterize
from raflib.render.gsplat_backend import probe

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def usable():
    problem = probe()
    if problem is not None:
        pytest.skip(problem)


def make_inputs(count: int, channels: int, batch: int):
    """Leaves in the order of the fields of `Gaussians`, and cameras 5 units away, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    focal = 140.0
    leaves = [
        0.8 * torch.nn.functional.normalize(torch.randn(batch, count, 3, generator=generator), dim=-1),
        torch.randn(batch, count, 4, generator=generator),
        5 / focal * (1 + 2 * torch.rand(batch, count, 3, generator=generator)),
        0.5 + 0.4 * torch.rand(batch, count, generator=generator),
        torch.rand(batch, count, channels, generator=generator),
    ]
    extrinsics = torch.eye(4).repeat(batch, 1, 1)
    extrinsics[:, 2, 3] = 5.0
    extrinsics[:, 0, 3] = torch.arange(batch) * 0.1
    intrinsics = torch.tensor([[focal, 0, 33.0], [0, focal, 30.0], [0, 0, 1]]).repeat(batch, 1, 1)
    return leaves, (extrinsics, intrinsics)


@pytest.mark.parametrize("channels", [1, 3, 5, 32, 40])
@pytest.mark.parametrize("antialiased", [False, True])
def test_backends_agree(channels, antialiased):
    leaves, cameras = make_inputs(500, channels, batch=2)
    generator = torch.Generator().manual_seed(1)
    background = torch.rand(60, 66, channels, generator=generator)
    weights = torch.randn(2, 60, 66, channels, generator=generator)
    results = []
    for device in ("cpu", "cuda"):
        inputs = [leaf.to(device).clone().requires_grad_() for leaf in (*leaves, background)]
        on_device = tuple(part.to(device) for part in cameras)
        image, alpha = rasterize(Gaussians(*inputs[:5]), on_device, (60, 66), inputs[5], antialiased=antialiased)
        ((image * weights.to(device)).sum() + alpha.sum()).backward()
        results.append([image.detach().cpu(), alpha.detach().cpu(), *(value.grad.cpu() for value in inputs)])
    for mine, theirs in zip(*(result[:2] for result in results), strict=True):
        # A splat near the limit of being skipped may be rendered by one backend only: 1/255 in a pixel.
        assert (mine - theirs).abs().mean() < 5e-6 and (mine - theirs).abs().max() < 2 / 255
    for mine, theirs in zip(*(result[2:] for result in results), strict=True):
        assert (mine - theirs).norm() < 5e-3 * theirs.norm()


def test_backends_agree_on_depth_and_on_one_set_seen_by_several_cameras():
    leaves, _ = make_inputs(500, 3, batch=1)
    _, cameras = make_inputs(1, 3, batch=3)
    weights = torch.randn(3, 60, 66, 1, generator=torch.Generator().manual_seed(1))
    results = []
    for device in ("cpu", "cuda"):
        inputs = [leaf.to(device).clone().requires_grad_() for leaf in (*leaves, cameras[0])]
        on_device = inputs[5], cameras[1].to(device)
        _, alpha, depth = rasterize(Gaussians(*inputs[:5]), on_device, (60, 66), depth=True)
        shown = (alpha.detach() > 0.5).cpu()
        (depth * (weights * shown).to(device)).sum().backward()
        results.append(
            [depth.detach().cpu() * shown, *(value.grad.cpu() for value in inputs if value.grad is not None)]
        )
    assert results[0][0].shape == (3, 60, 66, 1) and len(results[0]) == len(results[1])
    assert (results[0][0] - results[1][0]).abs().mean() < 1e-4
    for mine, theirs in zip(*(result[1:] for result in results), strict=True):
        assert (mine - theirs).norm() <= 5e-3 * theirs.norm()


def test_the_cpu_backend_refuses_gaussians_on_a_gpu():
    leaves, cameras = make_inputs(10, 3, batch=1)
    with pytest.raises(ValueError, match="backend cpu"):
        rasterize(Gaussians(*(leaf.cuda() for leaf in leaves)), cameras, 60, backend="cpu")
