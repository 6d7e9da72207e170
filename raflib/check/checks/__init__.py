"""Checks of captures, one file for each subject; every module of this folder registers its checks when it is imported.

A new check is a function `check_<name>(capture, sample) -> list[Problem]` with the decorator
`raflib.check.problems.register`, in one of these files or in a new one.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")
