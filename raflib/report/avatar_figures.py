"""Figures 1 and 5 of the paper: avatars of several methods beside the truth, with maps of their errors.

The frames follow from result rows by a rule, so nobody chooses them by eye: of the differences in `METRIC` between RAF
and vanilla on the same frames, those at the 10 %, 50 % and 90 % quantiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from PIL import Image

from raflib.capture import Capture
from raflib.errors import RafError
from raflib.evaluation.scoring import Avatar, render
from raflib.lab.recordings import driven, image_of
from raflib.report.error_budget_figure import GAIN
from raflib.report.figures import strip
from raflib.report.paper_layout import driven_by
from raflib.report.tables import paired

METRIC = "psnr/face"
METHODS = {"vanilla": "vanilla", "noise-0.08": "+noise", "raf": "+RAF"}
"""The figures' methods by their labels (`raflib.lab.cells`), with their headings."""
QUANTILES = (0.1, 0.5, 0.9)
Found = Callable[[str, str, int], Avatar | None]
"""(subject, label, seed) -> the trained avatar, None where there is none."""
Opened = Callable[[str, bool], Capture]
"""(person, whether the person drives another one) -> capture."""


@dataclass(frozen=True)
class Moment:
    """A frame of a figure: who is shown, who drives, the frame, its camera, and RAF − vanilla in `METRIC`."""

    subject: str
    seed: int
    driver: str
    sequence: str
    frame: int
    camera: str
    quantile: float
    difference: float

    @property
    def label(self) -> str:
        """The text beside its images."""
        driver = "" if self.driver == self.subject else f" ← {self.driver}"
        sign = f"{self.difference:+.2f} dB".replace("-", "−")
        return f"{self.subject}{driver}\n{100 * self.quantile:.0f} % quantile\nRAF − vanilla\n{sign}"


def shared_seeds(rows: pd.DataFrame, protocol: str) -> dict[str, list[int]]:
    """The seeds of which the rows hold both vanilla and RAF, by subject; subjects without any are left out."""
    part = driven_by(rows, protocol)
    part = part[part["condition"] == "avatar"]
    known = {label: set(zip(mine["subject"], mine["seed"], strict=True)) for label, mine in part.groupby("label")}
    found: dict[str, list[int]] = {}
    for subject, seed in sorted(known.get("vanilla", set()) & known.get("raf", set())):
        found.setdefault(str(subject), []).append(int(seed))
    return found


def moments_by_rule(
    rows: pd.DataFrame, protocol: str, seeds: Mapping[str, int], quantiles: Sequence[float] = QUANTILES
) -> list[Moment]:
    """The frames whose difference RAF − vanilla is nearest to each quantile, of each subject's seed in `seeds`.

    Of equally near frames, the first in the order of driver, sequence, frame and camera is taken. Seeds of which the
    rows lack one of both methods are left out.
    """
    part = driven_by(rows, protocol)
    part = part[(part["condition"] == "avatar") & part["label"].isin(["vanilla", "raf"])]
    there = shared_seeds(rows, protocol)
    chosen = []
    for subject, seed in seeds.items():
        if seed not in there.get(subject, []):
            continue
        mine = part[(part["subject"] == subject) & (part["seed"] == seed)]
        mine = mine.assign(method=lambda table: table["label"])
        found = paired(mine, "vanilla", "method", [METRIC])[1]["raf − vanilla"]
        found = found.sort_values(["driver", "sequence", "frame", "camera"], kind="stable", ignore_index=True)
        values = found[METRIC].to_numpy()
        for quantile in quantiles:
            row = found.loc[int(np.abs(values - np.quantile(values, quantile)).argmin())]
            where = {key: str(row[key]) for key in ("driver", "sequence", "camera")}
            about = {"seed": seed, "frame": int(row["frame"]), "quantile": quantile}
            chosen.append(Moment(subject=subject, difference=float(row[METRIC]), **where, **about))
    return chosen


def spread_subjects(rows: pd.DataFrame, protocol: str, among: Sequence[str], count: int = 3) -> list[str]:
    """`count` of the subjects `among` that span RAF's gains: those with the least, the middle and the largest one."""
    part = driven_by(rows, protocol)
    part = part[(part["condition"] == "avatar") & part["subject"].isin(list(among))]
    means = part.groupby(["subject", "label"])[METRIC].mean().unstack().reindex(columns=["raf", "vanilla"])
    gains = (means["raf"] - means["vanilla"]).dropna().sort_values(kind="stable")
    places = np.unique(np.linspace(0, len(gains) - 1, min(count, len(gains))).round().astype(int))
    return [str(gains.index[place]) for place in places]


def avatars_figure(
    rows: pd.DataFrame,
    protocol: str,
    run_of: Found,
    capture_of: Opened,
    path: str | Path | None = None,
    count: int = 3,
    tile: int = 160,
) -> Image.Image | None:
    """Figure 1 (`protocol` "cross": driver, truth, methods) or figure 5 ("self": truth, methods), with error maps.

    Figure 1 shows `count` subjects (`spread_subjects`), figure 5 all. Each has three frames (`moments_by_rule`), its
    label says at which quantile, and the difference RAF − vanilla. An error map is the absolute difference from the
    truth, times `GAIN`. A subject's avatars are those of its first seed of which all three methods are trained; where
    there is none, the subject is left out and the reason is printed. None where nobody is left.

    Args:
        rows: labelled result rows of one setting.
        protocol: "self" or "cross".
        run_of: finds trained avatars.
        capture_of: opens captures.
        path: file to write, or None.
        count: subjects of figure 1.
        tile: width of an image in pixels.
    """
    runs: dict[str, dict[str, Avatar]] = {}
    seeds: dict[str, int] = {}
    there = shared_seeds(rows, protocol)
    for subject in sorted(set(rows["subject"])):
        if subject not in there:
            print(f"figure of {subject} left out: the rows hold no {protocol}-driving by both vanilla and RAF")
            continue
        lacking = []
        for seed in there[subject]:
            found = {label: run for label in METHODS if (run := run_of(subject, label, seed)) is not None}
            if len(found) == len(METHODS):
                runs[subject], seeds[subject] = found, seed
                break
            lacking.append(f"seed {seed}: {', '.join(label for label in METHODS if label not in found)}")
        else:
            print(f"figure of {subject} left out: no trained avatar of {'; '.join(lacking)}")
    subjects = spread_subjects(rows, protocol, sorted(runs), count) if protocol == "cross" else sorted(runs)
    images, labels = [], []
    for moment in moments_by_rule(rows, protocol, {subject: seeds[subject] for subject in subjects}):
        images.append(_images(moment, runs[moment.subject], capture_of))
        labels.append(moment.label)
    if not images:
        return None
    errors = [f"{name}: error × {GAIN}" for name in METHODS.values()]
    heads = [*(["driver"] if protocol == "cross" else []), "truth", *METHODS.values(), *errors]
    return strip(images, heads, labels, path, tile=tile)


def _images(moment: Moment, runs: Mapping[str, Avatar], capture_of: Opened) -> list[np.ndarray | None]:
    """Driver (in cross-driving), truth, renders, error maps; places of unknown truth stay empty."""
    capture = capture_of(moment.subject, False)
    own = moment.driver == moment.subject
    driver = capture if own else capture_of(moment.driver, True)
    places = np.flatnonzero((driver.sequence == moment.sequence) & (driver.frame == moment.frame))
    cameras = [camera for camera in capture.cameras if camera.name == moment.camera]
    if len(places) != 1 or not cameras:
        raise RafError(
            f"figure: {moment.sequence}, frame {moment.frame}, camera {moment.camera} of the rows is not in the capture"
            f" of {moment.driver}; evaluate again"
        )
    pose, scale, torso, true = driven(capture, driver, places, cameras[0])
    given = driver.expression[places], pose, scale, cameras, torso
    shown = [render(run, *given)[0] for run in runs.values()]
    errors = [_error(image, true[0]) if true else None for image in shown]
    return [*([] if own else [image_of(driver, places[0])]), true[0] if true else None, *shown, *errors]


def _error(image: Float[np.ndarray, "H W 3"], true: np.ndarray) -> Float[np.ndarray, "H W 3"]:
    return np.clip(GAIN * np.abs(image - true.astype(np.float32) / 255), 0, 1)
