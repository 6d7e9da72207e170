"""What is checked before a notebook films anything: minutes of work must not end in an error known from the start."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from raflib.bank import ExpressionBank
from raflib.bank.leaks import refuse_leaks
from raflib.errors import RafError
from raflib.lab import screen
from raflib.lab.parameters import Parameters
from raflib.runs import cache_root, runs_root
from raflib.sampler import SAMPLERS, Sampler, sampler_from_name


def prepare(out: Path, parameters: Parameters) -> None:
    """Before anything else: results can be written to `out` and captures kept; then the screen is set up.

    Raises RafError naming the folder that cannot be written.
    """
    for folder, variable in ((out if out.exists() else runs_root(), "RAF_RUNS"), (cache_root(), "RAF_CACHE")):
        check_writable(folder, variable)
    screen.set_up()
    if parameters.profile == "tiny":
        print(screen.TINY)


def check_writable(folder: Path, variable: str) -> None:
    """RafError unless files can be made in `folder` (made if need be); the environment's `variable` moves it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"1")
            stream.flush()
    except OSError as error:
        raise RafError(
            f"{folder}: cannot be written ({error.strerror}); free some space, or name another folder in the "
            f"environment variable {variable}"
        ) from None


def sampler_of(method: str, parameters: Parameters, bank: ExpressionBank | None = None) -> Sampler:
    """The sampler `method` with those of its options that a notebook's parameters have."""
    options = {name: getattr(parameters, name) for name in SAMPLERS[method].options() if hasattr(parameters, name)}
    return sampler_from_name(method, bank, **options)


def check_sampler(sampler: Sampler, subject: str, unseen: Iterable[str] = ()) -> None:
    """RafError for a sampler that cannot serve `subject`, found out on a single frame that nobody filmed.

    So a bank too small for `top_k`, of another kind, or with one of the `unseen` people in it, is an error before the
    subject stands before the cameras.
    """
    bank: Any = getattr(sampler, "bank", None)
    if bank is None:
        return
    from raflib.sources._studio_recipe import FEATURE_SPACE
    from raflib.tracking import ARKIT52

    refuse_leaks("the bank", bank, dict.fromkeys(unseen), allow=False)
    sampler.bind(np.zeros((1, len(ARKIT52)), np.float32), subject, FEATURE_SPACE, np.zeros((1, 6)))
