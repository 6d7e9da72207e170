"""The CUDA backend: the same call through gsplat (releases 1.5 and 1.6).

gsplat compiles its kernels when first used, which takes minutes and needs the CUDA toolkit. `probe` says whether it can
be used at all. Backgrounds are composited here, because gsplat takes one colour only.
"""

import functools
import importlib.util
from importlib.metadata import PackageNotFoundError, version

import torch
from jaxtyping import Float
from torch import Tensor

from raflib.render.constants import NEAR
from raflib.render.gaussians import Gaussians

_SUPPORTED = ("1.5", "1.6")
_LAST_LINES = 3


@functools.cache
def probe() -> str | None:
    """Why gsplat cannot be used here, in one line with what to do, or None if it can."""
    if not torch.cuda.is_available():
        return "torch sees no CUDA device (a CPU build of torch, or no GPU or driver)"
    if importlib.util.find_spec("gsplat") is None:
        return "gsplat is not installed; install it with: pip install gsplat==1.5.3"
    try:
        installed = version("gsplat")
    except PackageNotFoundError:
        return "gsplat has no package metadata; install it with: pip install gsplat==1.5.3"
    if ".".join(installed.split(".")[:2]) not in _SUPPORTED:
        return f"gsplat {installed} is installed, 1.5 or 1.6 is expected; install it with: pip install gsplat==1.5.3"
    try:
        from gsplat.cuda._backend import _C
    except (ImportError, OSError, RuntimeError) as error:
        return (
            f"gsplat's CUDA code did not compile or load ({_end_of(error)}); check the CUDA toolkit's version against "
            "torch's"
        )
    if _C is None:
        return "gsplat found no CUDA toolkit to compile its kernels with; install one (nvcc) and set CUDA_HOME"
    return None


def _end_of(error: Exception) -> str:
    """The last lines of what went wrong, on one: a compiler says there what it could not do."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:]) or type(error).__name__


def draw(
    gaussians: Gaussians,
    extrinsics: Float[Tensor, "B 4 4"],
    intrinsics: Float[Tensor, "B 3 3"],
    height: int,
    width: int,
    background: Float[Tensor, "..."],
    antialiased: bool,
    blur: float,
) -> tuple[Float[Tensor, "B H W C"], Float[Tensor, "B H W 1"]]:
    """Images over the background ([C] or [H,W,C]) and their alpha; arguments as checked by `rasterize`."""
    from gsplat import rasterization

    # gsplat's leading dimension is the scene, then come the views of that scene: ours has one view each.
    image, alpha, _ = rasterization(
        means=gaussians.means,
        quats=gaussians.quaternions,
        scales=gaussians.scales,
        opacities=gaussians.opacities,
        colors=gaussians.features,
        viewmats=extrinsics[:, None],
        Ks=intrinsics[:, None],
        width=width,
        height=height,
        near_plane=NEAR,
        eps2d=blur,
        packed=False,
        tile_size=16,
        rasterize_mode="antialiased" if antialiased else "classic",
        render_mode="RGB",
        channel_chunk=32,
    )
    image, alpha = image[:, 0], alpha[:, 0]
    return image + (1.0 - alpha) * background, alpha
