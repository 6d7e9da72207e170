"""raflib: Retrieval-Augmented Faces for Gaussian head avatars.

Names are loaded when first used, so that ``from raflib.bank import ExpressionBank`` needs no renderer,
tracker or studio.
"""

from importlib import import_module

_WHERE = {
    "Capture": "raflib.capture",
    "ExpressionBank": "raflib.bank",
    "GaussianAvatar": "raflib.avatar",
    "Gaussians": "raflib.render",
    "RAF": "raflib.sampler",
    "RafError": "raflib.errors",
    "RandomNoise": "raflib.sampler",
    "Run": "raflib.training",
    "Vanilla": "raflib.sampler",
    "comparison_film": "raflib.export",
    "evaluate": "raflib.evaluation",
    "export_gha": "raflib.sources.gha",
    "export_html": "raflib.export",
    "export_ply_sequence": "raflib.export",
    "export_submission": "raflib.report.submission",
    "fit": "raflib.training",
    "open_capture": "raflib.sources",
    "plan_download": "raflib.sources.nersemble.plan",
    "rasterize": "raflib.render",
    "turntable": "raflib.export",
}
_ROOMS = (
    "bank", "check", "coverage", "driving", "export", "geometry", "openbank", "report", "sampler", "studio", "tracking",
)  # fmt: skip
__all__ = sorted([*_WHERE, *_ROOMS])


def __getattr__(name):
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in _ROOMS:
        return import_module(f"raflib.{name}")
    raise AttributeError(f"module 'raflib' has no attribute {name!r}")


def __dir__():
    return __all__
