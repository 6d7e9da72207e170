"""Image metrics, and what a metric is: a tagged function of a rendered frame and the target it is judged against.

Metrics of one name have many incompatible definitions, so each carries a tag that says which one it is and where it was
measured (`psnr/face`, `lpips/stlpips-alex/face`, `aed/arkit52/l1`), and the tag heads its column in every table. `face`
means the box around the projected face landmarks of the *target* frame: one crop a pair, so that a render cannot choose
its own crop. Whole-image values are mostly white background and hide what the face does.

A new metric is a `Metric` passed to `register` (or straight to `evaluate`); nothing else needs to know about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Real, UInt8

from raflib.errors import RafError
from raflib.images import Box
from raflib.perceptual import perceptual


@dataclass(frozen=True, eq=False)
class Target:
    """What a rendered frame is judged against.

    Attributes:
        image: the true picture from the same camera, [H,W,3] in [0,1]; None where there is no truth.
        box: face crop (x, y, width, height) in pixels of `image`; None where there is no truth.
        face: what the tracker sees in `image` (a `raflib.tracking` observation); None if no face was found.
        driver_image: the driver's picture [H,W,3] uint8; in self-driving the true picture.
        driver_face: what the tracker sees in `driver_image`; None if no face was found.
    """

    image: Float[np.ndarray, "H W 3"] | None = None
    box: Box | None = None
    face: object | None = None
    driver_image: UInt8[np.ndarray, "h w 3"] | None = None
    driver_face: object | None = None

    @cached_property
    def _perceptual(self) -> dict[str, list]:
        return {}

    def perceptual_features(self, region: str) -> list[torch.Tensor]:
        """LPIPS features of the true picture, computed once for all conditions compared with it."""
        if region not in self._perceptual:
            self._perceptual[region] = _features(_region(self.image, region, self.box))
        return self._perceptual[region]


@dataclass(frozen=True)
class Metric:
    """One way to score a rendered frame.

    Attributes:
        tag: column name in every table; says the definition, not only the idea.
        better: "higher" or "lower".
        about: the definition in one line, for captions.
        function: (rendered [H,W,3] in [0,1], observation of it or None, Target) -> number, NaN where undefined.
        needs: any of "truth" (a true picture) and "tracker" (the face must be tracked on the render).
    """

    tag: str
    better: str
    about: str
    function: Callable[[np.ndarray, object, Target], float] = field(repr=False)
    needs: frozenset[str] = frozenset()

    def __post_init__(self):
        if self.better not in ("higher", "lower"):
            raise RafError(f"metric {self.tag}: better must be 'higher' or 'lower', got {self.better!r}")


REGISTRY: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Make `metric` known by its tag; a second definition under the same tag is an error."""
    if metric.tag in REGISTRY and REGISTRY[metric.tag] is not metric:
        raise RafError(f"metric tag {metric.tag} is taken; give the new definition its own tag")
    REGISTRY[metric.tag] = metric
    return metric


def resolve(metrics: Iterable[str | Metric]) -> list[Metric]:
    """Metrics by tag or as they are; an unknown tag is an error that lists the known ones."""
    found = []
    for metric in metrics:
        if not isinstance(metric, Metric) and metric not in REGISTRY:
            raise RafError(f"metric {metric!r} is not known; choose from {', '.join(REGISTRY)}")
        found.append(metric if isinstance(metric, Metric) else REGISTRY[metric])
    return found


def describe(metrics: Iterable[str | Metric] | None = None) -> pd.DataFrame:
    """Tag, direction and definition of metrics (default: all registered), for a notebook's caption."""
    chosen = REGISTRY.values() if metrics is None else resolve(metrics)
    return pd.DataFrame([{"metric": m.tag, "better": m.better, "definition": m.about} for m in chosen])


def psnr(
    x: Float[np.ndarray, "H W 3"], y: Float[np.ndarray, "h w 3"], mask: Real[np.ndarray, "H W"] | None = None
) -> float:
    """Peak signal-to-noise ratio in dB for pictures in [0,1]; infinite for equal ones.

    `mask` weighs the pixels (0 leaves one out). Raises RafError for shapes that differ or an empty mask.
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
    """Shift-tolerant LPIPS, AlexNet trunk (`raflib.perceptual`), of pictures in [0,1]."""
    _same_shape(x, y)
    with torch.no_grad():
        return float(perceptual("alex").distance(_features(x), _features(y)))


def crop(image: Real[np.ndarray, "H W *c"], box: Box) -> Real[np.ndarray, "h w *c"]:
    """The part of `image` inside `box` (x, y, width, height)."""
    x, y, width, height = box
    return image[y : y + height, x : x + width]


def _same_shape(x: np.ndarray, y: np.ndarray) -> None:
    if x.shape != y.shape:
        raise RafError(f"pictures to compare must have one shape, got {x.shape} and {y.shape}")


def _region(image: np.ndarray, region: str, box: Box | None) -> np.ndarray:
    return image if region == "whole" else crop(image, box)


def _features(image: np.ndarray) -> list[torch.Tensor]:
    with torch.no_grad():
        return perceptual("alex").features(torch.from_numpy(np.ascontiguousarray(image[None], dtype=np.float32)))


def _image_metric(function: Callable[[np.ndarray, np.ndarray], float], region: str) -> Callable:
    def score(rendered: np.ndarray, face: object, target: Target) -> float:
        return function(_region(rendered, region, target.box), _region(target.image, region, target.box))

    return score


def _lpips_metric(region: str) -> Callable:
    def score(rendered: np.ndarray, face: object, target: Target) -> float:
        with torch.no_grad():
            found = _features(_region(rendered, region, target.box))
            return float(perceptual("alex").distance(found, target.perceptual_features(region)))

    return score


_TRUTH = frozenset({"truth"})
for _region_name, _where in (("whole", "whole picture"), ("face", "face crop")):
    register(
        Metric(f"psnr/{_region_name}", "higher", f"PSNR in dB, {_where}", _image_metric(psnr, _region_name), _TRUTH)
    )
    _about = f"SSIM (Gaussian window, sigma 1.5, data range 1), {_where}"
    register(Metric(f"ssim/{_region_name}", "higher", _about, _image_metric(ssim, _region_name), _TRUTH))
    _about = f"shift-tolerant LPIPS (AlexNet), {_where}"
    register(Metric(f"lpips/stlpips-alex/{_region_name}", "lower", _about, _lpips_metric(_region_name), _TRUTH))
