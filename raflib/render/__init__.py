"""Differentiable rendering of 3D Gaussians: gsplat on CUDA, our own SIMD kernels on the CPU, the same numbers.

`rasterize(gaussians, cameras, size)` is the whole interface. Reading order: `gaussians`, `api`, `cpu`, then the kernels
in the order they run: `project`, `sort`, `raster`, `raster_backward`, `project_backward`. `reference` is the definition
the kernels are tested against.
"""

from raflib.render.api import rasterize
from raflib.render.gaussians import Gaussians

__all__ = ["Gaussians", "rasterize"]
