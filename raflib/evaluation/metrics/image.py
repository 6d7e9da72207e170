"""Image metrics: PSNR, SSIM and LPIPS of the whole image and of the face.

Metrics of one name have many incompatible definitions. So each has a tag that names its definition and where it is
measured (`psnr/face`, `lpips/stlpips-alex/face`, `aed/arkit52/l1`), and the tag is its column in every table. `face` is
the box around the projected face landmarks of the *target* frame, so a render cannot choose its own crop. Whole-image
values are dominated by the white background.

A new metric is a `Metric` passed to `register` or directly to `evaluate`; no other code needs to change.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Real

from raflib.errors import RafError
from raflib.evaluation.metrics.base import Metric, Target, _features, _region, _same_shape, register
from raflib.perceptual import perceptual


def psnr(
    x: Float[np.ndarray, "H W 3"], y: Float[np.ndarray, "h w 3"], mask: Real[np.ndarray, "H W"] | None = None
) -> float:
    """Peak signal-to-noise ratio in dB for images in [0,1]; infinite for equal ones.

    `mask` holds the weights of the pixels; 0 leaves a pixel out. RafError for shapes that differ or an empty mask.
    """
    _same_shape(x, y)
    squared = ((x.astype(np.float64) - y) ** 2).mean(-1)
    if mask is not None:
        if not np.any(mask):
            raise RafError("psnr: the mask is empty; no pixel to compare")
        error = float((squared * mask).sum() / np.asarray(mask, dtype=np.float64).sum())
    else:
        error = float(squared.mean())
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def ssim(x: Float[np.ndarray, "H W 3"], y: Float[np.ndarray, "h w 3"]) -> float:
    """Structural similarity of Wang et al. 2004 (scikit-image): Gaussian window of sigma 1.5 (11 px), population
    covariance, data range 1, mean over the RGB channels."""
    from skimage.metrics import structural_similarity

    _same_shape(x, y)
    return float(
        structural_similarity(
            x, y, channel_axis=-1, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def lpips(x: Float[np.ndarray, "H W 3"], y: Float[np.ndarray, "h w 3"]) -> float:
    """Shift-tolerant LPIPS, AlexNet trunk (`raflib.perceptual`), of images in [0,1]."""
    _same_shape(x, y)
    with torch.no_grad():
        return float(perceptual("alex").distance(_features(x), _features(y)))


def _image_metric(function: Callable[[np.ndarray, np.ndarray], float], region: str) -> Callable:
    """`function(rendered, true)` on a region, as the function of a `Metric`."""

    def score(rendered: np.ndarray, face: object, target: Target) -> float:
        return function(_region(rendered, region, target.box), _region(target.image, region, target.box))

    return score


def _lpips_metric(region: str) -> Callable:
    """LPIPS on a region, as the function of a `Metric`; the true image's features are computed once."""

    def score(rendered: np.ndarray, face: object, target: Target) -> float:
        with torch.no_grad():
            wanted = target.perceptual_features(region)
            found = wanted if rendered is target.image else _features(_region(rendered, region, target.box))
            return float(perceptual("alex").distance(found, wanted))

    return score


_TRUTH = frozenset({"truth"})
for _region_name, _where in (("whole", "whole image"), ("face", "face crop")):
    register(
        Metric(f"psnr/{_region_name}", "higher", f"PSNR in dB, {_where}", _image_metric(psnr, _region_name), _TRUTH)
    )
    _about = f"SSIM (Gaussian window, sigma 1.5, data range 1), {_where}"
    register(Metric(f"ssim/{_region_name}", "higher", _about, _image_metric(ssim, _region_name), _TRUTH))
    _about = f"shift-tolerant LPIPS (AlexNet), {_where}"
    register(Metric(f"lpips/stlpips-alex/{_region_name}", "lower", _about, _lpips_metric(_region_name), _TRUTH))
