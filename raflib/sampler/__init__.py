"""What conditions each training step (paper §4).

`raf` holds the paper's three samplers and `base` what all samplers share. `beyond` and `corrected` hold others and
controls. `compare` measures the training sets that samplers give. `SAMPLERS` (all samplers by name) and
`sampler_from_name` are loaded when first used, so that RAF alone needs the bank and nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from raflib.sampler.base import Conditioner, Recording, Sampler
from raflib.sampler.raf import PAPER_METHODS, RAF, RandomNoise, Vanilla

if TYPE_CHECKING:
    from raflib.sampler.beyond import SAMPLERS, sampler_from_name

__all__ = [
    "PAPER_METHODS",
    "RAF",
    "SAMPLERS",
    "Conditioner",
    "RandomNoise",
    "Recording",
    "Sampler",
    "Vanilla",
    "sampler_from_name",
]


def __getattr__(name: str) -> object:
    if name in ("SAMPLERS", "sampler_from_name"):
        return getattr(import_module("raflib.sampler.beyond"), name)
    raise AttributeError(f"module 'raflib.sampler' has no attribute {name!r}")
