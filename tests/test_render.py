"""The CPU renderer against its dense float64 definition, and the documented properties of `rasterize`."""

import multiprocessing
import os
import subprocess
import sys
import types

import jaxtyping
import numba
import numpy as np
import pytest
import torch

from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.render import Gaussians, gsplat_backend, kernels, rasterize, reference, threads
from raflib.render.api import _checked_cameras
from raflib.render.project import project
from raflib.render.raster import forward_kernel
from raflib.render.simd import LANES, exp, load, store

FIELDS = ("means", "quaternions", "scales", "opacities", "features")


def make_scene(count=400, size=64, channels=3, seed=0, sigma=(1.0, 3.0), batch=1):
    """Gaussians on a shell that fills half of the view of a camera 5 units away; sigma is in pixels on the screen."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(batch, count, *shape, generator=generator)

    focal = 2.2 * size
    means = torch.nn.functional.normalize(torch.randn(batch, count, 3, generator=generator), dim=-1)
    scales = 5.0 / focal * (sigma[0] + (sigma[1] - sigma[0]) * random(3))
    gaussians = Gaussians(
        0.8 * means,
        torch.randn(batch, count, 4, generator=generator),
        scales,
        0.5 + 0.4 * random(),
        random(channels),
    )
    extrinsic = torch.eye(4)
    extrinsic[:3, :3] = torch.linalg.matrix_exp(torch.tensor([[0, -0.2, 0.1], [0.2, 0, 0.3], [-0.1, -0.3, 0]]))
    extrinsic[2, 3] = 5.0
    intrinsic = torch.tensor([[focal, 0, 0.49 * size], [0, 1.1 * focal, 0.52 * size], [0, 0, 1.0]])
    return gaussians, extrinsic.repeat(batch, 1, 1), intrinsic.repeat(batch, 1, 1)


def compare(scene, size, background, **look):
    """Render and differentiate one scene both ways; return output errors (largest) and gradient errors (L2)."""
    gaussians, extrinsics, intrinsics = scene
    height, width = size
    inputs = [getattr(gaussians, name).clone().requires_grad_() for name in FIELDS]
    inputs += [extrinsics.clone().requires_grad_(), background.clone().requires_grad_()]
    image, alpha = rasterize(Gaussians(*inputs[:5]), (inputs[5], intrinsics), size, inputs[6], **look)
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(image.shape, generator=generator), torch.randn(alpha.shape, generator=generator)
    ((image * weights[0]).sum() + (alpha * weights[1]).sum()).backward()

    exact = [value.detach().double().requires_grad_() for value in inputs]
    set_0 = [value[0] for value in exact[:6]]
    image_64, alpha_64 = reference.draw_one(*set_0, intrinsics[0].double(), height, width, exact[6], **look)
    ((image_64 * weights[0][0]).sum() + (alpha_64 * weights[1][0]).sum()).backward()
    errors = {
        "image": (image[0] - image_64).abs().max().item(),
        "alpha": (alpha[0] - alpha_64).abs().max().item(),
    }
    names = (*FIELDS, "extrinsics", "background")
    gradients = {
        name: ((mine.grad - truth.grad).norm() / truth.grad.norm()).item()
        for name, mine, truth in zip(names, inputs, exact, strict=True)
    }
    return errors, gradients


def assert_exact(scene, size, background, tolerance=1e-5, **look):
    errors, gradients = compare(scene, size, background, **look)
    assert max(errors.values()) <= 5e-6, errors
    assert max(gradients.values()) <= tolerance, gradients


@pytest.mark.parametrize("channels", [1, 3, 5, 32])
@pytest.mark.parametrize("antialiased", [False, True])
def test_matches_the_dense_definition(channels, antialiased):
    assert_exact(make_scene(channels=channels), (64, 64), torch.rand(channels), antialiased=antialiased)


@pytest.mark.parametrize("antialiased", [False, True])
def test_any_blur_matches_the_dense_definition(antialiased):
    scene = make_scene(sigma=(0.4, 2.0))
    assert_exact(scene, (64, 64), torch.zeros(3), antialiased=antialiased, blur=0.1)
    sharp, usual = (rasterize(scene[0], scene[1:], 64, blur=blur)[0] for blur in (0.1, 0.3))
    assert (sharp - usual).abs().max() > 0.05
    with pytest.raises(RafError, match=r"blur .* expected a positive"):
        rasterize(scene[0], scene[1:], 64, blur=0.0)


@pytest.mark.parametrize("size", [(1, 1), (37, 61), (17, 130), (90, 65)])
def test_odd_sizes_and_a_picture_as_background(size):
    background = torch.rand(*size, 3, generator=torch.Generator().manual_seed(1))
    gaussians, extrinsics, intrinsics = make_scene(count=150, seed=2)
    intrinsics[:, :2, 2] = torch.tensor([0.49 * size[1], 0.52 * size[0]])
    assert_exact((gaussians, extrinsics, intrinsics), size, background)


def test_large_opaque_gaussians_finish_pixels():
    gaussians, *cameras = make_scene(count=150, size=80, seed=3, sigma=(2.0, 12.0))
    gaussians.opacities[:, ::3] = 1.0
    # An alpha of almost 0.999 divides float32 rounding by almost 0.001 in the backward pass.
    assert_exact((gaussians, *cameras), (80, 52), torch.zeros(3), tolerance=3e-5)


def test_thin_gaussians_antialiased():
    gaussians, *cameras = make_scene(count=200, seed=4, sigma=(0.2, 2.0))
    gaussians.scales[..., 0] *= 0.02
    assert_exact((gaussians, *cameras), (64, 64), torch.zeros(3), antialiased=True)


def test_behind_beside_and_near_the_camera():
    gaussians, *cameras = make_scene(count=500, seed=5)
    spread = gaussians.means * torch.tensor([3.0, 3.0, 8.0])
    gaussians = Gaussians(spread, *(getattr(gaussians, name) for name in FIELDS[1:]))
    depths = spread[0] @ cameras[0][0, 2, :3] + 5.0
    assert (depths < 0).any() and ((depths > 0.01) & (depths < 0.5)).any()
    assert_exact((gaussians, *cameras), (48, 64), torch.ones(3))


def test_no_gaussian_visible():
    gaussians, extrinsics, intrinsics = make_scene(count=20)
    extrinsics[:, 2, 3] = -5.0
    features = gaussians.features.requires_grad_()
    background = torch.rand(64, 64, 3)
    image, alpha = rasterize(gaussians, (extrinsics, intrinsics), 64, background)
    assert torch.equal(image[0], background) and not alpha.any()
    image.sum().backward()
    assert not features.grad.any()


def test_no_gaussians_at_all():
    gaussians, *cameras = make_scene(count=0)
    image, alpha = rasterize(gaussians, tuple(cameras), (10, 20), 0.25)
    assert image.shape == (1, 10, 20, 3) and alpha.shape == (1, 10, 20, 1)
    assert (image == 0.25).all() and not alpha.any()


def test_a_batch_is_its_images_one_by_one():
    gaussians, extrinsics, intrinsics = make_scene(batch=3)
    extrinsics[1, 0, 3], intrinsics[2, 0, 0] = 0.3, 90.0
    together, _ = rasterize(gaussians, (extrinsics, intrinsics), 64)
    for b in range(3):
        alone, _ = rasterize(gaussians[b], (extrinsics[b : b + 1], intrinsics[b : b + 1]), 64)
        assert torch.equal(alone[0], together[b])
    assert not torch.equal(together[0], together[1])


def test_one_set_is_drawn_by_several_cameras():
    gaussians, *_ = make_scene()
    _, extrinsics, intrinsics = make_scene(batch=3)
    extrinsics[1, 0, 3], intrinsics[2, 0, 0] = 0.3, 90.0
    weights = torch.randn(3, 64, 64, 3, generator=torch.Generator().manual_seed(3))
    results = []
    for several in (True, False):
        inputs = [getattr(gaussians, name).clone().requires_grad_() for name in FIELDS]
        views = extrinsics.clone().requires_grad_()
        sets = Gaussians(*inputs) if several else Gaussians(*inputs)[[0, 0, 0]]
        image, alpha = rasterize(sets, (views, intrinsics), 64)
        ((image * weights).sum() + alpha.sum()).backward()
        results.append([image.detach(), alpha.detach(), *(value.grad for value in (*inputs, views))])
    assert results[0][0].shape == (3, 64, 64, 3)
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected)
    named = [Camera(str(k), extrinsics[k].double().numpy(), intrinsics[k].double().numpy(), 64, 64) for k in range(3)]
    torch.testing.assert_close(rasterize(gaussians, named, 64)[0], results[0][0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [3, 6])
def test_depth_is_the_mean_depth_of_what_is_drawn(channels):
    gaussians, extrinsics, intrinsics = make_scene(channels=channels)
    inputs = [getattr(gaussians, name).clone().requires_grad_() for name in FIELDS]
    views = extrinsics.clone().requires_grad_()
    image, alpha, depth = rasterize(Gaussians(*inputs), (views, intrinsics), 64, 0.3, depth=True)
    plain, plain_alpha = rasterize(gaussians, (extrinsics, intrinsics), 64, 0.3)
    torch.testing.assert_close(image, plain, atol=1e-6, rtol=0)
    torch.testing.assert_close(alpha, plain_alpha, atol=1e-6, rtol=0)
    assert not depth[alpha == 0].any() and (alpha == 0).any()
    weights = (alpha > 0.2) * torch.randn(depth.shape, generator=torch.Generator().manual_seed(4))
    (depth * weights).sum().backward()

    exact = [value.detach().double().requires_grad_() for value in (*inputs, views)]
    means, *others = (value[0] for value in exact)
    z = (means @ others[-1][2, :3] + others[-1][2, 3])[:, None]
    drawn, covered = reference.draw_one(
        *(means, *others[:3], z, others[-1]), intrinsics[0].double(), 64, 64, torch.zeros(1).double()
    )
    expected = drawn / covered.clamp(min=1e-6)
    torch.testing.assert_close(depth[0][alpha[0] > 0.2].double(), expected[alpha[0] > 0.2], atol=2e-5, rtol=0)
    (expected * weights[0]).sum().backward()
    for name, mine, truth in zip((*FIELDS, "extrinsics"), (*inputs, views), exact, strict=True):
        if name != "features":
            assert (mine.grad - truth.grad).norm() <= 1e-5 * truth.grad.norm(), name


def test_cameras_are_resized_to_the_size():
    gaussians, extrinsics, intrinsics = make_scene()
    doubled = np.diag([2.0, 2.0, 1.0]) @ intrinsics[0].double().numpy()
    camera = Camera("front", extrinsics[0].double().numpy(), doubled, 128, 128)
    image, _ = rasterize(gaussians, [camera], 64)
    expected, _ = rasterize(gaussians, (extrinsics, intrinsics), 64)
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)
    with pytest.raises(RafError, match="camera front: is 128×128"):
        rasterize(gaussians, [camera], (64, 32))


@pytest.mark.parametrize("channels", [3, 5])
def test_same_bits_for_any_number_of_threads(monkeypatch, channels):
    gaussians, *cameras = make_scene(count=9000, size=200, channels=channels)
    results = []
    for count in (1, 2, 5):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        inputs = [getattr(gaussians, name).clone().requires_grad_() for name in FIELDS]
        extrinsics = cameras[0].clone().requires_grad_()
        image, _ = rasterize(Gaussians(*inputs), (extrinsics, cameras[1]), (150, 200))
        image.square().sum().backward()
        results.append([image.detach(), *(value.grad for value in (*inputs, extrinsics))])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_threads_run_every_part_once_and_pass_errors_on(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 4)
    seen = []
    threads.run(lambda k, tag: seen.append((k, tag)), [(k,) for k in range(50)], "x")
    assert sorted(seen) == [(k, "x") for k in range(50)]

    def fail(k):
        raise ZeroDivisionError(k)

    with pytest.raises(ZeroDivisionError):
        threads.run(fail, [(k,) for k in range(50)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_can_draw(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    gaussians, *cameras = make_scene(size=130)
    expected = rasterize(gaussians, tuple(cameras), 130)[0].sum().item()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def draw():
        torch.set_num_threads(1)  # as in the workers of a DataLoader: torch's thread pool does not survive a fork
        queue.put(rasterize(gaussians, tuple(cameras), 130)[0].sum().item())

    child = context.Process(target=draw)
    child.start()
    child.join(30)
    alive = child.is_alive()
    child.kill()
    assert not alive and queue.get() == pytest.approx(expected)


def test_one_compilation_serves_every_size():
    for size, count in (((20, 30), 10), (50, 100), ((64, 128), 5)):
        gaussians, *cameras = make_scene(count=count)
        for background in (0.0, torch.rand(3), torch.rand(*((size, size) if isinstance(size, int) else size), 3)):
            rasterize(gaussians, tuple(cameras), size, background)
    assert len(forward_kernel(3).signatures) == 1
    assert len(project.signatures) == 1


WARM_START = """
import time, torch
from raflib.render import Gaussians, rasterize
from raflib.render.raster import forward_kernel
from raflib.render.raster_backward import backward_kernel
start = time.process_time()
means = torch.zeros(1, 5, 3, requires_grad=True)
gaussians = Gaussians(means, torch.ones(1, 5, 4), torch.ones(1, 5, 3), torch.ones(1, 5), torch.ones(1, 5, 3))
extrinsic = torch.eye(4)
extrinsic[2, 3] = 5.0
image, _ = rasterize(gaussians, (extrinsic[None], torch.tensor([[[50.0, 0, 16], [0, 50, 16], [0, 0, 1]]])), 32)
image.sum().backward()
seconds = time.process_time() - start
for kernel in (forward_kernel(3), backward_kernel(3)):
    assert kernel.stats.cache_hits and not kernel.stats.cache_misses, kernel.stats
print(seconds)
"""


def test_a_second_process_starts_from_the_disk_cache():
    gaussians, *cameras = make_scene(count=5)
    gaussians.means.requires_grad_()
    rasterize(gaussians, tuple(cameras), 32)[0].sum().backward()  # in case this test runs alone
    seconds = []
    for _ in range(3):  # a busy machine may disturb some of them
        done = subprocess.run([sys.executable, "-c", WARM_START], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        seconds.append(float(done.stdout))
        if seconds[-1] < 1:
            break
    assert min(seconds) < 1, seconds


def _double(x):
    return x * 2


def test_the_disk_cache_sees_changes_anywhere_in_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def hits():
        compiled = kernels.njit(_double)
        assert compiled(1.5) == 3.0
        return sum(compiled.stats.cache_hits.values())

    assert (hits(), hits()) == (0, 1)
    monkeypatch.setattr(kernels, "STAMP", "other sources")
    assert (hits(), hits()) == (0, 1)


def test_without_gradients_nothing_is_recorded():
    gaussians, *cameras = make_scene(count=5)
    gaussians.means.requires_grad_()
    with torch.no_grad():
        image, _ = rasterize(gaussians, tuple(cameras), 32)
    assert not image.requires_grad


@numba.njit
def _exp_of(values, out):
    for i in range(0, values.shape[0], LANES):
        store(out, i, exp(load(values, i)))


def test_vector_exponential():
    values = np.linspace(-87, 87, 16 * 5000).astype(np.float32)
    out = np.empty_like(values)
    _exp_of(values, out)
    assert np.abs(out / np.exp(values.astype(np.float64)) - 1).max() < 6e-7
    near_zero = np.linspace(-6, 0, 16 * 5000).astype(np.float32)
    _exp_of(near_zero, out)
    assert np.abs(out / np.exp(near_zero.astype(np.float64)) - 1).max() < 3e-7


@pytest.fixture
def unannotated():
    """Without the tests' check of annotations, as for users; otherwise that check would raise first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("means", (4, 3), r"means: expected shape \[B, N, 3\], got \[4, 3\]"),
        ("quaternions", (1, 4, 3), r"quaternions: expected shape \[1, 4, 4\], got \[1, 4, 3\]"),
        ("scales", (1, 5, 3), r"scales: expected shape \[1, 4, 3\], got \[1, 5, 3\]"),
        ("opacities", (1, 4, 1), r"opacities: expected shape \[1, 4\], got \[1, 4, 1\]"),
        ("features", (2, 4, 3), r"features: expected shape \[1, 4, C\], got \[2, 4, 3\]"),
        ("features", (1, 4, 0), r"features: expected shape \[1, 4, C\], got \[1, 4, 0\]"),
    ],
)
def test_wrong_shapes_are_named(name, shape, expected):
    gaussians, *_ = make_scene(count=4)
    tensors = {field: getattr(gaussians, field) for field in FIELDS}
    with pytest.raises(RafError, match=expected) as caught:
        Gaussians(**{**tensors, name: torch.ones(shape)})
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("unannotated")
def test_cameras_of_two_counts_are_named():
    gaussians, extrinsics, intrinsics = make_scene(count=4)
    with pytest.raises(RafError, match=r"intrinsics: expected shape \[2, 3, 3\], got \[1, 3, 3\]"):
        rasterize(gaussians, (extrinsics.repeat(2, 1, 1), intrinsics), 64)


def test_wrong_dtype_is_named():
    gaussians, *_ = make_scene(count=4)
    with pytest.raises(RafError, match=r"means: expected float32, got torch\.float64"):
        Gaussians(gaussians.means.double(), *(getattr(gaussians, name) for name in FIELDS[1:]))


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_named(name, value):
    gaussians, *cameras = make_scene(count=40)
    getattr(gaussians, name)[0, 7] = value
    with pytest.raises(RafError, match=rf"Gaussians\.{name}: \d of \d+ numbers are NaN or infinite"):
        rasterize(gaussians, tuple(cameras), 64)


def test_other_arguments_are_checked():
    gaussians, extrinsics, intrinsics = make_scene(count=4)
    cameras = (extrinsics, intrinsics)
    with pytest.raises(RafError, match=r"extrinsics: expected shape \[2, 4, 4\], got \[3, 4, 4\]"):
        rasterize(gaussians[[0, 0]], (extrinsics.repeat(3, 1, 1), intrinsics.repeat(3, 1, 1)), 64)
    with pytest.raises(RafError, match="cameras: expected 1, one for each set of Gaussians, got 0"):
        rasterize(gaussians, [], 64)
    with pytest.raises(RafError, match="cameras: expected a sequence of Camera"):
        _checked_cameras(5, 1, 64, 64, torch.device("cpu"))
    with pytest.raises(RafError, match=r"size .* expected a whole number"):
        rasterize(gaussians, cameras, (64, 0))
    with pytest.raises(RafError, match=r"background: .* \[3\] or \[64, 64, 3\], got \[4\]"):
        rasterize(gaussians, cameras, 64, torch.ones(4))
    with pytest.raises(RafError, match="backend: expected one of auto, cpu, gsplat, got 'metal'"):
        rasterize(gaussians, cameras, 64, backend="metal")


def test_a_failed_compilation_is_told_in_one_line_with_the_compilers_last_words(monkeypatch):
    class Broken:
        """An importer in which gsplat.cuda._backend fails like torch's extension builder."""

        def find_spec(self, name, path=None, target=None):
            if name == "gsplat.cuda._backend":
                log = (
                    "Error building extension 'gsplat_cuda'\n[1/9] nvcc -c a.cu\n\na.cu(7): error: no sm_999\n1 error."
                )
                raise ImportError(log)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gsplat_backend.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(gsplat_backend, "version", lambda name: "1.5.3")
    for name in ("gsplat", "gsplat.cuda"):
        package = types.ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    problem = gsplat_backend.probe.__wrapped__()
    assert "([1/9] nvcc -c a.cu | a.cu(7): error: no sm_999 | 1 error.)" in problem and "\n" not in problem


def test_releases_1_5_and_1_6_of_gsplat_are_accepted_and_others_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gsplat_backend.importlib.util, "find_spec", lambda name: name)
    backend = types.ModuleType("gsplat.cuda._backend")
    backend._C = object()
    monkeypatch.setitem(sys.modules, "gsplat", types.ModuleType("gsplat"))
    monkeypatch.setitem(sys.modules, "gsplat.cuda", types.ModuleType("gsplat.cuda"))
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", backend)
    for installed, good in {"1.5.0": True, "1.6": True, "1.50.1": False, "1.4.9": False, "2.5.1": False}.items():
        monkeypatch.setattr(gsplat_backend, "version", lambda name, installed=installed: installed)
        problem = gsplat_backend.probe.__wrapped__()
        assert (problem is None) == good and (good or f"gsplat {installed} is installed" in problem)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_gsplat_is_refused_with_the_reason_where_it_cannot_run():
    gaussians, *cameras = make_scene(count=4)
    with pytest.raises(RafError, match="backend gsplat: torch sees no CUDA device"):
        rasterize(gaussians, tuple(cameras), 64, backend="gsplat")


def test_gsplat_is_called_with_its_own_conventions(monkeypatch):
    """A replacement with the signature of gsplat 1.5.3 renders as gsplat's documentation says."""

    def rasterization(
        means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane, eps2d, packed, tile_size,
        rasterize_mode, render_mode, channel_chunk,
    ):  # fmt: skip
        batch, count = means.shape[:2]
        assert viewmats.shape == (batch, 1, 4, 4) and Ks.shape == (batch, 1, 3, 3) and not packed
        assert opacities.shape == (batch, count) and colors.shape[:2] == (batch, count)
        assert (near_plane, render_mode) == (0.01, "RGB")
        sets = [
            reference.draw_one(
                *(value[b] for value in (means, quats, scales, opacities, colors)),
                *(viewmats[b, 0], Ks[b, 0], height, width, torch.zeros(colors.shape[-1])),
                antialiased=rasterize_mode == "antialiased",
                blur=eps2d,
            )
            for b in range(batch)
        ]
        return torch.stack([image for image, _ in sets])[:, None], torch.stack([a for _, a in sets])[:, None], {}

    monkeypatch.setitem(sys.modules, "gsplat", types.SimpleNamespace(rasterization=rasterization))
    gaussians, *cameras = make_scene(count=60, channels=5, batch=2)
    background = torch.rand(40, 50, 5)
    for antialiased, blur in ((False, 0.3), (True, 0.1)):
        image, alpha = gsplat_backend.draw(gaussians, *cameras, 40, 50, background, antialiased, blur)
        look = {"antialiased": antialiased, "blur": blur}
        ours, our_alpha = rasterize(gaussians, tuple(cameras), (40, 50), background, **look)
        torch.testing.assert_close(image, ours, atol=2e-5, rtol=0)
        torch.testing.assert_close(alpha, our_alpha, atol=2e-5, rtol=0)
