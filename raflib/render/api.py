"""`rasterize`: renders Gaussians on the CPU or on CUDA through one call.

It checks its arguments, picks the backend (gsplat where the Gaussians are on a CUDA device, our own kernels where they
are on the CPU) and returns the same numbers either way, to float32 rounding. The rules are gsplat's: screen covariance
blurred by 0.3 px² (unless asked otherwise), alpha at most 0.999, coverage below 1/255 skipped, a pixel finished at
transmittance 1e-4, nothing nearer than 0.01.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Real
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raflib.errors import RafError, finite, whole
from raflib.geometry import Camera, stack_cameras
from raflib.render.constants import BLUR
from raflib.render.gaussians import Gaussians

BACKENDS = ("auto", "cpu", "gsplat")
LARGEST = 16384
"""Most pixels of an image's side."""
_LEAST_ALPHA = 1e-6  # below the least coverage that is rendered, 1/255


def rasterize(
    gaussians: Gaussians,
    cameras: Sequence[Camera] | tuple[Float[Tensor, "B 4 4"], Float[Tensor, "B 3 3"]],
    size: SupportsIndex | Sequence[SupportsIndex] | np.ndarray,
    background: float | Float[Tensor, "C"] | Float[Tensor, "H W C"] = 1.0,
    backend: str = "auto",
    antialiased: bool = False,
    blur: float = BLUR,
    depth: bool = False,
) -> tuple[Float[Tensor, "B H W _"], ...]:
    """Render each set of Gaussians with its own camera, or one set with all of them.

    cameras: B `Camera`s (any number for a single set), which are resized to `size` (their aspect has to fit), or a
    tuple of world→camera extrinsics and intrinsics in pixels of `size`, taken as they are (skew is ignored). size:
    H = W, or (H, W). background: what shows through, one number, a colour, or an image shared by the B images.
    backend: "auto", "cpu" or "gsplat". antialiased: scale opacities by sqrt(det Σ / det(Σ + blur)), so that small
    Gaussians do not grow brighter when blurred (Yu et al., "Mip-Splatting", 2024, eq. 10). blur: variance in pixels²
    added to every splat on the screen (gsplat's eps2d); 0.3 is the usual value, 0.1 keeps edges as sharp as a pixel
    of a small image can show them.

    Returns the image [B,H,W,C] and its alpha [B,H,W,1], which is 1 where the background is hidden. With `depth` also
    the expected depth [B,H,W,1], the mean camera z of the Gaussians rendered in a pixel, weighted as their colours are
    (metres; 0 where nothing is). Differentiable in the Gaussians' tensors, the extrinsics and the background. On the
    CPU the result is the same bits for any number of threads.

    Raises RafError if shapes, dtypes or devices do not fit, if a tensor of the Gaussians, of the cameras or of the
    background is not finite or a focal length not positive (checked on the CPU only, where the check costs little), or
    if the backend cannot run here.
    """
    height, width = _checked_size(size)
    extrinsics, intrinsics = _checked_cameras(cameras, len(gaussians), height, width, gaussians.device)
    background = _checked_background(background, height, width, gaussians)
    if len(gaussians) == 1 and len(extrinsics) > 1:
        gaussians = gaussians.expand(len(extrinsics))
    blur = float(finite("blur (pixels²)", blur, 0, 100))
    if blur == 0:
        raise RafError("blur (pixels²) is 0, expected a positive number")
    if _chosen(backend, gaussians) == "gsplat":
        from raflib.render.gsplat_backend import draw
    else:
        from raflib.render.cpu import draw

        for name in ("means", "quaternions", "scales", "opacities", "features"):
            _check_finite(f"Gaussians.{name}", getattr(gaussians, name).detach())
    look = bool(antialiased), float(blur)
    if not depth:
        return draw(gaussians, extrinsics, intrinsics, height, width, background, *look)
    # Depth is one more colour, over black: its distance from the mean, which loses fewer digits than depth itself.
    z = (gaussians.means * extrinsics[:, None, 2, :3]).sum(-1, keepdim=True) + extrinsics[:, None, 2:3, 3]
    middle = z.detach().mean(1, keepdim=True) if z.shape[1] else z.new_zeros(len(z), 1, 1)
    deep = replace(gaussians, features=torch.cat([gaussians.features, z - middle], -1))
    background = torch.cat([background, background.new_zeros(*background.shape[:-1], 1)], -1)
    image, alpha = draw(deep, extrinsics, intrinsics, height, width, background, *look)
    offset = image[..., -1:] / alpha.clamp_min(_LEAST_ALPHA)
    return image[..., :-1], alpha, torch.where(alpha > 0, middle[..., None] + offset, 0.0)


def _chosen(backend: str, gaussians: Gaussians) -> str:
    if backend not in BACKENDS:
        raise RafError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    kind = gaussians.device.type
    if backend == "auto":
        backend = "gsplat" if kind == "cuda" else "cpu"
    if backend == "cpu" and kind != "cpu":
        raise RafError(f"backend cpu: the Gaussians are on {gaussians.device}; move them with .to('cpu')")
    if backend == "gsplat":
        from raflib.render.gsplat_backend import probe

        problem = probe()
        if problem is not None:
            raise RafError(f"backend gsplat: {problem}; or move the Gaussians with .to('cpu')")
        if kind != "cuda":
            raise RafError(f"backend gsplat: the Gaussians are on {gaussians.device}; move them with .to('cuda')")
    return backend


def _checked_size(size: SupportsIndex | Sequence[SupportsIndex] | np.ndarray) -> tuple[int, int]:
    if isinstance(size, Sequence) or (isinstance(size, np.ndarray) and size.ndim == 1):
        pair = tuple(size)
    else:
        pair = (size, size)
    if len(pair) != 2:
        raise RafError(f"size: expected H or (H, W) in pixels, got {size!r}")
    return whole("size (pixels)", pair[0], 1, LARGEST), whole("size (pixels)", pair[1], 1, LARGEST)


def _checked_cameras(
    cameras: object, batch: int, height: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    if isinstance(cameras, tuple) and len(cameras) == 2 and all(isinstance(part, Tensor) for part in cameras):
        extrinsics, intrinsics = cameras
    else:
        given = list(cameras) if isinstance(cameras, Iterable) else []
        listed = [camera for camera in given if isinstance(camera, Camera)]
        if not isinstance(cameras, Iterable) or isinstance(cameras, Camera) or len(listed) < len(given):
            raise RafError("cameras: expected a sequence of Camera or a tuple (extrinsics [B,4,4], intrinsics [B,3,3])")
        if len(listed) != batch and (batch > 1 or not listed):
            raise RafError(f"cameras: expected {batch}, one for each set of Gaussians, got {len(listed)}")
        extrinsics, intrinsics = stack_cameras([_resized(camera, height, width) for camera in listed])
    views = len(extrinsics) if batch == 1 and extrinsics.ndim == 3 and len(extrinsics) else batch
    for name, value, side in (("extrinsics", extrinsics, 4), ("intrinsics", intrinsics, 3)):
        if value.shape != (views, side, side):
            raise RafError(f"{name}: expected shape [{views}, {side}, {side}], got {list(value.shape)}")
        _check_finite(name, value.detach())
    if intrinsics.device.type == "cpu":
        lenses = intrinsics.detach()[:, [0, 1], [0, 1]]
        if not (lenses > 0).all():
            raise RafError(f"intrinsics: focal lengths {lenses.min():g}, expected positive ones, in pixels")
    return extrinsics.to(device, torch.float32), intrinsics.to(device, torch.float32)


def _resized(camera: Camera, height: int, width: int) -> Camera:
    if (camera.height, camera.width) == (height, width):
        return camera
    if abs(camera.width * height - camera.height * width) > max(camera.width, camera.height):
        raise RafError(
            f"camera {camera.name}: is {camera.width}×{camera.height}, which cannot be resized to {width}×{height} "
            "without stretching; use Camera.cropped first or pass a size (H, W) of its aspect"
        )
    return camera.resized(width, height)


def _checked_background(background: object, height: int, width: int, gaussians: Gaussians) -> Tensor:
    channels = gaussians.channels
    if isinstance(background, Real):
        return torch.full((channels,), float(finite("background", background)), device=gaussians.device)
    if not isinstance(background, Tensor) or background.shape not in ((channels,), (height, width, channels)):
        got = list(background.shape) if isinstance(background, Tensor) else type(background).__name__
        raise RafError(
            f"background: expected a number or shape [{channels}] or [{height}, {width}, {channels}], got {got}"
        )
    _check_finite("background", background.detach())
    return background.to(gaussians.device, torch.float32)


def _check_finite(name: str, value: Tensor) -> None:
    # A sum is twenty times cheaper than isfinite().all(), and infinite or NaN as soon as one number is.
    if value.device.type == "cpu" and not torch.isfinite(value.sum()) and not torch.isfinite(value).all():
        bad = int((~torch.isfinite(value)).sum())
        raise RafError(f"{name}: {bad} of {value.numel()} numbers are NaN or infinite; expected finite ones")
