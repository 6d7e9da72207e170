"""What a metric is, and the metrics that are known by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Real, UInt8

from raflib.errors import RafError
from raflib.images import Box
from raflib.perceptual import perceptual


@dataclass(frozen=True, eq=False)
class Target:
    """What a rendered frame is compared with.

    Attributes:
        image: the true image from the same camera, [H,W,3] in [0,1]; None where there is no truth.
        box: face crop (x, y, width, height) in pixels of `image`; None where there is no truth.
        face: the tracker's observation of `image` (`raflib.tracking.Observation`); None if no face was found.
        driver_image: the driver's image [H,W,3] uint8; in self-driving the true image.
        driver_face: the tracker's observation of `driver_image`; None if no face was found.
        same_pose: whether the render has the head pose of `image`, so that one crop suits both.
    """

    image: Float[np.ndarray, "H W 3"] | None = None
    box: Box | None = None
    face: Any | None = None
    driver_image: UInt8[np.ndarray, "h w 3"] | None = None
    driver_face: Any | None = None
    same_pose: bool = True

    @cached_property
    def _perceptual(self) -> dict[str, list]:
        return {}

    def perceptual_features(self, region: str) -> list[torch.Tensor]:
        """LPIPS features of the true image, computed once for all conditions compared with it."""
        if region not in self._perceptual:
            self._perceptual[region] = _features(_region(self.image, region, self.box))
        return self._perceptual[region]


@runtime_checkable
class Needed(Protocol):
    """A network whose weights are not part of this project, such as a `raflib.evaluation.regressor.Regressor`."""

    @property
    def name(self) -> str: ...

    def missing(self) -> str | None: ...

    def load(self) -> None: ...


@dataclass(frozen=True)
class Metric:
    """One way to score a rendered frame.

    Attributes:
        tag: column name in every table; it names the definition, not only the idea.
        better: "higher" or "lower".
        about: the definition in one line, for captions.
        function: (rendered [H,W,3] in [0,1], observation of it or None, Target) -> number, NaN where undefined.
        needs: any of "truth" (a true image) and "tracker" (the face must be tracked on the render).
        regressor: the network that it needs and whose weights the user brings; None for most metrics.
    """

    tag: str
    better: str
    about: str
    function: Callable[[np.ndarray, object, Target], float] = field(repr=False)
    needs: frozenset[str] = frozenset()
    regressor: Needed | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.better not in ("higher", "lower"):
            raise RafError(f"metric {self.tag}: better must be 'higher' or 'lower', got {self.better!r}")


Tracker = Callable[[np.ndarray], Any]
"""Image [H,W,3] uint8 -> observation of its face, or None; a `raflib.tracking.FaceTracker` is one."""
REGISTRY: dict[str, Metric] = {}
"""Metrics by their tags, in the order in which they were registered."""
SLOW = ("lpips/stlpips-alex/whole",)
"""Registered metrics that are measured only when they are named."""


def register(metric: Metric) -> Metric:
    """Make `metric` known by its tag; a second definition under the same tag is an error."""
    if metric.tag in REGISTRY and REGISTRY[metric.tag] is not metric:
        raise RafError(f"metric tag {metric.tag} is taken; give the new definition its own tag")
    REGISTRY[metric.tag] = metric
    return metric


def register_against_both(
    tag: str,
    better: str,
    about: str,
    score: Callable[[str], Callable[..., float]],
    regressor: Needed | None = None,
) -> None:
    """Register a metric against the driver's image (`tag`) and against the true image (`tag`/truth).

    `score` makes a metric's function from the field of `Target` with the observation to compare with.
    """
    both = (
        ("", "driver_face", "the driver's image", {"tracker"}),
        ("/truth", "face", "the true image", {"tracker", "truth"}),
    )
    for end, reference, where, needs in both:
        told = f"{about}, render against {where}"
        register(Metric(tag + end, better, told, score(reference), frozenset(needs), regressor))


def resolve(metrics: Iterable[str | Metric]) -> list[Metric]:
    """Metrics by tag or as they are; an unknown tag is an error that lists the known ones."""
    found = []
    for metric in metrics:
        if not isinstance(metric, Metric) and metric not in REGISTRY:
            raise RafError(f"metric {metric!r} is not known; choose from {', '.join(REGISTRY)}")
        found.append(metric if isinstance(metric, Metric) else REGISTRY[metric])
    return found


def measurable_here(metrics: Iterable[str | Metric] | None = None) -> list[Metric]:
    """The given metrics, by default all registered ones whose weights are on this machine, with their networks loaded.

    RafError for an unknown tag, for weights of a given metric that are missing, and for damaged weights.
    """
    if metrics is None:
        chosen = [m for m in REGISTRY.values() if m.regressor is None or m.regressor.missing() is None]
    else:
        chosen = resolve(metrics)
    for metric in chosen:
        if metric.regressor is not None:
            if (line := metric.regressor.missing()) is not None:
                raise RafError(f"metric {metric.tag}: {line}")
            metric.regressor.load()  # now, so that damaged weights are found before anything is rendered
    return chosen


def missing_weights() -> dict[str, str]:
    """One sentence for each network whose weights are not on this machine, by the network's name."""
    networks = {m.regressor.name: m.regressor for m in REGISTRY.values() if m.regressor is not None}
    lines = {name: network.missing() for name, network in networks.items()}
    return {name: line for name, line in lines.items() if line}


def regressed(tags: Iterable[str]) -> list[str]:
    """Those of `tags` that belong to metrics with weights of the user."""
    return [tag for tag in tags if tag in REGISTRY and REGISTRY[tag].regressor is not None]


def describe(metrics: Iterable[str | Metric] | None = None) -> pd.DataFrame:
    """Tag, direction and definition of metrics (default: all registered), for a notebook's caption."""
    chosen = REGISTRY.values() if metrics is None else resolve(metrics)
    return pd.DataFrame([{"metric": m.tag, "better": m.better, "definition": m.about} for m in chosen])


def crop(image: Real[np.ndarray, "H W *c"], box: Box) -> Real[np.ndarray, "h w *c"]:
    """The part of `image` inside `box` (x, y, width, height)."""
    x, y, width, height = box
    return image[y : y + height, x : x + width]


def _same_shape(x: Float[np.ndarray, "H W 3"], y: Float[np.ndarray, "h w 3"]) -> None:
    """RafError unless both images have one shape."""
    if x.shape != y.shape:
        raise RafError(f"images to compare must have one shape, got {x.shape} and {y.shape}")


def _region(image: Float[np.ndarray, "H W 3"] | None, region: str, box: Box | None) -> Float[np.ndarray, "h w 3"]:
    """The whole image for the region "whole", else its part inside `box`; RafError where there is none."""
    if image is None or (box is None and region != "whole"):
        raise RafError("evaluate: a metric of the image was asked for a target without a true image; leave it out")
    return image if box is None or region == "whole" else crop(image, box)


def _features(image: Float[np.ndarray, "H W 3"]) -> list[torch.Tensor]:
    """LPIPS features of an image, one tensor for each layer."""
    with torch.no_grad():
        return perceptual("alex").features(torch.from_numpy(np.ascontiguousarray(image[None], dtype=np.float32)))
