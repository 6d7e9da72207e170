"""Metrics, one file for each family; every module of this folder registers its metrics when the folder is imported.

`base` defines what a metric is. A new family is a new file here, or a `Metric` given to `evaluate` directly.
"""

from importlib import import_module
from pkgutil import iter_modules

FIRST = ("base", "image", "mediapipe")
"""Modules whose metrics come first in tables: they need nothing that the project does not have."""

for _module in sorted((module.name for module in iter_modules(__path__)), key=lambda name: (name not in FIRST, name)):
    import_module(f"{__name__}.{_module}")
