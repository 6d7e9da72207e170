"""Many avatars that are trained shortly and measured on few frames, for questions that need more avatars than a table.

An avatar is trained and measured in a process of its own, which has one thread and ends with the program, however that
ends. Its rows are kept, so a program that was stopped goes on with the other avatars, and a training with its last
checkpoint. Studies share the avatars that they have in common.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from raflib.config import train_config
from raflib.driving import drive_from_name
from raflib.errors import RafError
from raflib.evaluation import EvaluateOptions, evaluate
from raflib.lab.cells import METHODS
from raflib.lab.dose import NOTHING_CHANGED, Dose, World, changed, sampler_at
from raflib.lab.driver import thread_limits
from raflib.lab.launch import end_with
from raflib.lab.recordings import Recordings
from raflib.lab.rows import load_rows, save_rows
from raflib.runs import runs_root
from raflib.system import environment
from raflib.training import fit

IMAGE = ("psnr/face", "lpips/stlpips-alex/face")
FOLDER = "short_avatars"
"""Folder of their runs."""
METRICS = {"cross": (*IMAGE, "aed/arkit52/l1/truth"), "self": (*IMAGE, "aed/arkit52/l1")}
"""What is measured in each protocol."""
FRAMES = {"cross": 5, "self": 20}
"""Frames that are compared: of each driver, from one camera, and of the subject's own, from three."""

KNOWN = tuple(label for label, about in METHODS.items() if not set(about) - {"method", "drive"})
"""Labels of `raflib.lab.cells.METHODS` that short avatars can have: those with the usual bank and amounts."""


@dataclass(frozen=True)
class ShortAvatar:
    """One avatar: subject, method and seed, how long it is trained, and how it is driven.

    Attributes:
        subject, method, seed, profile: as in the notebooks.
        steps: of the training at its usual dose; 0 for the profile's own.
        dose: what is different from the usual training.
        drives: driving maps of cross-driving; in self-driving there is none.
    """

    subject: str
    method: str
    seed: int
    profile: str
    steps: int
    dose: Dose = NOTHING_CHANGED
    drives: tuple[str, ...] = ("direct",)

    @property
    def folder(self) -> Path:
        """Where it is trained, and where its rows are. It does not depend on how the avatar is driven."""
        length = f"_steps{self.steps}" if self.steps else ""
        name = f"{self.subject}_{self.method}_{self.dose.name}_{self.profile}{length}_{self.seed}"
        return runs_root() / FOLDER / name

    @property
    def parts(self) -> dict[Path, tuple[str, str]]:
        """What is measured: the file of each part's rows, with its protocol and driving map.

        Files are named by what is measured and how, too, so rows of other frames, metrics or maps are not taken for
        these.
        """
        pairs = [("self", "direct"), *(("cross", drive) for drive in self.drives)]
        return {self.folder / f"{'_'.join(pair)}_{_how(*pair)}.npz": pair for pair in pairs}

    @property
    def done(self) -> bool:
        """Whether it is trained and measured."""
        return all(path.is_file() for path in self.parts)

    def rows(self) -> pd.DataFrame:
        """What was measured, with the columns `profile` and `steps`."""
        rows = pd.concat([load_rows(path) for path in self.parts], ignore_index=True)
        return rows.assign(steps=self.steps, profile=self.profile)


def _how(protocol: str, drive: str) -> str:
    """A short name of the frames and metrics of a protocol, and of a driving map's settings."""
    about = FRAMES[protocol], METRICS[protocol], sorted(drive_from_name(drive).describe().items())
    return hashlib.sha256(repr(about).encode()).hexdigest()[:8]


def drives_of(labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The driving maps of each training method that these labels (`raflib.lab.cells.METHODS`) ask for, in their order.

    What differs only in the map shares an avatar. RafError for a label that needs a training of another kind.
    """
    drives: dict[str, tuple[str, ...]] = {}
    for label in labels:
        method, drive = _pair(label)
        drives[method] = (*drives.get(method, ()), drive)
    return drives


def with_labels(rows: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """The rows of these labels, with the column `label`. In self-driving no map is used."""
    names = {_pair(label): label for label in labels}
    found = [names.get(pair, "") for pair in zip(rows["method"], rows["drive"], strict=True)]
    return rows.assign(label=found)[np.array(found) != ""]


def _pair(label: str) -> tuple[str, str]:
    """Method and driving map of a label."""
    if label not in KNOWN:
        raise RafError(f"short avatars: {label!r} is no method with the usual settings; choose from {', '.join(KNOWN)}")
    return METHODS[label]["method"], METHODS[label].get("drive", "direct")


def setting(rows: pd.DataFrame) -> str:
    """Profile and number of steps of `ShortAvatar.rows`, for captions."""
    steps = ", ".join(f"{steps:,}" for steps in sorted(rows["steps"].unique()))
    return f"Profile {', '.join(sorted(rows['profile'].unique()))}, {steps} steps"


def make(one: ShortAvatar) -> None:
    """Train and measure an avatar, as far as it is not done. RafError as `raflib.fit` and `raflib.evaluate`."""
    if one.done:
        return
    recordings = Recordings(profile=one.profile)
    drivers = [recordings.driver_to_measure(name) for name in recordings.drivers(one.subject)]
    world = World(recordings.to_measure(one.subject), drivers, recordings.open_bank(one.subject))
    config = train_config(one.profile, seed=one.seed)
    config = replace(config, steps=one.steps or config.steps)
    world, config = changed(one.dose, world, config)
    sampler = sampler_at(one.dose, one.method, world.bank)
    avatar = fit(world.capture, sampler, config, one.folder / "run", progress=False)
    for path, (protocol, drive) in one.parts.items():
        if path.is_file():
            continue
        how = EvaluateOptions(frames=FRAMES[protocol], drive=drive, conditions=("avatar",))
        people = world.drivers if protocol == "cross" else ()
        rows = evaluate(avatar, protocol, world.capture, people, METRICS[protocol], how, progress=False)
        kept = [name for name in rows if not name.startswith(("rendered/", "target/"))]
        save_rows(rows[kept], path)


def make_all(avatars: Sequence[ShortAvatar], workers: int | None = None) -> list[ShortAvatar]:
    """Make avatars that are not done, `workers` at once (default: one for each core), and tell those that failed.

    Shows progress with the time that is left. Returns the avatars that are done, in their order.
    """
    left = [one for one in avatars if not one.done]
    context = multiprocessing.get_context("spawn")
    with (
        environment(thread_limits(1)),
        ProcessPoolExecutor(workers or os.cpu_count(), context, end_with, (os.getpid(),)) as pool,
    ):
        jobs = {pool.submit(make, one): one for one in left}
        for job in tqdm(as_completed(jobs), "avatars", total=len(jobs), unit="avatar"):
            try:
                job.result()
            except RafError as error:
                tqdm.write(f"{jobs[job].folder.name}: {error}", file=sys.stderr)
    done = [one for one in avatars if one.done]
    print(f"{len(done)} of {len(avatars)} avatars done")
    return done
