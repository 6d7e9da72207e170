"""`fit(capture, sampler, config, out) -> Run`: train one avatar, keep it on disk and load it again.

`fit` holds the step, `run` the run folder, `data` and `cache` the images of a training, `losses` its terms, and `start`
where the Gaussians begin.
"""

from raflib.training.fit import fit
from raflib.training.run import Run

__all__ = ["Run", "fit"]
