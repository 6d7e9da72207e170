"""Checks before a notebook renders or trains anything, so that minutes of work do not end in an avoidable error."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from raflib.bank import ExpressionBank
from raflib.bank.leaks import refuse_leaks
from raflib.errors import RafError
from raflib.lab import screen
from raflib.lab.recordings import Recordings
from raflib.runs import cache_root, check_writable, runs_root
from raflib.sampler import SAMPLERS, Sampler, sampler_from_name


def prepare(out: Path, parameters: Any) -> None:
    """Check that results can be written to `out` and captures to the cache, then set up the screen.

    Raises RafError naming the folder that cannot be written.
    """
    for folder, variable in ((out if out.exists() else runs_root(), "RAF_RUNS"), (cache_root(), "RAF_CACHE")):
        advice = f"free some space, or name another folder in the environment variable {variable}"
        check_writable(folder, advice)
    screen.set_up()
    if parameters.profile == "tiny":
        print(screen.TINY)


def sampler_of(method: str, parameters: Any, bank: ExpressionBank | None = None) -> Sampler:
    """The sampler called `method`, with those of its options that a notebook's parameters have."""
    options = {name: getattr(parameters, name) for name in SAMPLERS[method].options() if hasattr(parameters, name)}
    return sampler_from_name(method, bank, **options)


def usable_samplers(
    names: Iterable[str],
    parameters: Any,
    bank: ExpressionBank,
    recordings: Recordings,
    subject: str,
    unseen: Iterable[str] = (),
    spaces: Iterable[str] = (),
) -> dict[str, Sampler]:
    """The samplers called `names` that can serve `subject` with this bank; prints why others cannot.

    `spaces` are feature spaces that the subject's capture carries beside those that `recordings` gives it. Raises
    RafError where the bank itself cannot be used (`check_sampler` of the plain RAF).
    """
    check_sampler(sampler_of("raf", parameters, bank), recordings, subject, unseen)
    usable = {}
    for name in names:
        sampler = sampler_of(name, parameters, bank)
        try:
            check_sampler(sampler, recordings, subject, spaces=spaces)
        except RafError as error:
            print(f"left out: {error}")
        else:
            usable[name] = sampler
    return usable


def check_sampler(
    sampler: Sampler, recordings: Recordings, subject: str, unseen: Iterable[str] = (), spaces: Iterable[str] = ()
) -> None:
    """RafError for a sampler that cannot serve `subject`, found out on a single frame of zeros.

    A bank that is too small for `top_k`, has another feature space or holds one of the `unseen` people is an error
    before the subject's capture is rendered. The capture carries the space `search` of `recordings`, and `spaces`.
    """
    bank: Any = getattr(sampler, "bank", None)
    if bank is None:
        return
    refuse_leaks("the bank", bank, dict.fromkeys(unseen), allow=False)
    space, width = recordings.space(subject)
    held = bank.spaces
    further = {
        tag: np.zeros((1, held[tag].shape[1]), np.float32) for tag in (recordings.search, *spaces) if tag in held
    }
    sampler.bind(np.zeros((1, width), np.float32), subject, space, np.zeros((1, 6)), further)
