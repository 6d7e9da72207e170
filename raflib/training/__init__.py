"""`fit(capture, sampler, config, out) -> Run`: train one avatar, keep it on disk and load it again.

`trainer` holds the steps, `run` the run folder, `data` and `cache` the training images, `comparison` and `losses` the
terms of the loss, and `start` the first values of the Gaussians.
"""

from raflib.training.fit import fit
from raflib.training.run import Run

__all__ = ["Run", "fit"]
