"""`fit(capture, sampler, config, out) -> Run`: train one avatar into a run folder, or continue what is there.

Each step takes one frame as one or a few cameras saw it and asks the sampler which expression conditions it. This is
all that RAF changes (RAF §4). The step then renders the avatar and compares the render with the images of that frame
(`raflib.training.trainer`). Everything random in step s is sampled from a generator seeded by (seed, s). A run killed
at any moment therefore resumes from its last checkpoint to the same bits, on a CPU with the same number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from raflib.bank.leaks import Fingerprints, refuse_leaks
from raflib.capture import Capture
from raflib.config import TrainConfig, to_dict
from raflib.errors import RafError, whole
from raflib.runs import folder_lock, json_text, provenance
from raflib.training.process import random_numbers_kept, use_threads
from raflib.training.run import BANK, Run, choose_device, stored_run, write_copies
from raflib.training.trainer import Trainer

__all__ = ["Run", "fit"]


def fit(
    capture: Capture,
    sampler: Any,
    config: TrainConfig,
    out: str | Path,
    details: Mapping[str, Any] | None = None,
    threads: int = 1,
    progress: bool = True,
    device: str = "auto",
    allow_leak: bool = False,
) -> Run:
    """Train an avatar of `capture` into the run folder `out`, resuming what is there.

    A finished run is returned as it is. The first interrupt saves a checkpoint and then stops the training; a second
    one stops it at once.

    Args:
        capture: the recording to train on. The sampler sees the expressions of its training frames alone.
        sampler: Vanilla, RandomNoise, RAF, one of `raflib.sampler.beyond`, or any object with their `name`, `bind` and
            `describe`.
        config: sizes and settings of the training. The width of the expression is always the capture's.
        out: the run folder.
        details: further entries of run.json, under other names than its own.
        threads: number of CPU threads.
        progress: whether to show progress bars and messages.
        device: "cpu", "cuda" or "auto", which takes the GPU where the renderer can use one. A run may be continued on
            another device.
        allow_leak: train even if the sampler's bank holds the subject's own frames.

    Raises RafError and leaves the stored run as it is when the folder holds a run of another subject, recording,
    sampler or configuration, when another process uses it, and when the sampler's `bank` holds the subject's own
    frames, under whatever name (unless `allow_leak`), and for details that JSON cannot hold. Also raises RafError when
    a loss, gradient or weight is not finite; the last checkpoint is kept.
    """
    out, where = Path(out), choose_device(device)
    threads = whole("fit: threads", threads, least=1)
    if where.type != "cuda" and (config.compile or config.precision != "float32"):
        raise RafError(
            f"precision {config.precision!r} and compile {config.compile} are for CUDA and this training is on the "
            "CPU; use float32 and no compile"
        )
    bank, known = getattr(sampler, "bank", None), None
    used: dict[str, Any] = {}
    if bank is not None:
        known = Fingerprints.of(bank)
        own = {capture.subject: capture.expression[capture.detected]}
        leaks = refuse_leaks("fit: the bank", known, own, allow_leak)
        used = {"bank": {"checksum": bank.checksum, "rows": len(bank), "people": len(bank.people)}}
        used["leaks"] = [str(leak) for leak in leaks]
    config = replace(config, avatar=replace(config.avatar, expression_dim=capture.expression.shape[1]))
    identity = {"subject": capture.subject, "recording": capture.fingerprint, "sampler": sampler.describe()}
    identity["config"] = to_dict(config)
    label = {"feature_space": capture.feature_space, "method": sampler.name, "seed": config.seed}
    label |= {"threads": threads, "device": where.type}
    own = {**identity, **used, **label, **provenance(), "continued": [], "finished": False, "steps": 0, "seconds": 0.0}
    info = {**_checked(details or {}, own), **own}
    locked = folder_lock(out, f"training {capture.subject} {sampler.name}")
    with locked, use_threads(threads), random_numbers_kept(where):
        stored = stored_run(out, identity)
        if stored is not None and stored[1]["info"]["finished"]:
            write_copies(out, stored[1])  # a process killed while saving leaves older ones
        else:
            trainer = Trainer(capture, sampler, config, out, info, progress, where)
            if known is not None:
                known.save(out / BANK)
            trainer.start(stored)
            stored = trainer.run()
    return Run.of(out, *stored, where)


def _checked(details: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """The details. RafError for one with a name that a run's own entries have, and where JSON cannot hold them."""
    taken = sorted(set(details) & {*own, "bank", "leaks", "total_steps"})
    if taken:
        raise RafError(f"fit: details name {', '.join(taken)}, as the run's own entries do; choose other names")
    try:
        json_text(details)
    except (TypeError, ValueError) as error:
        raise RafError(f"fit: details cannot be written into run.json ({error}); use texts and plain numbers") from None
    return details
