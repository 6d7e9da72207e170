"""Inspection of a capture by all checks, and the report of what it holds and what looks wrong."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap

import numpy as np
from tqdm import tqdm

from raflib.capture import HELD_OUT, Capture
from raflib.check import checks as checks  # registers all of them
from raflib.check.fits import MOST_UNSURE
from raflib.check.problems import CHECKS, ERROR, WARNING, Problem
from raflib.check.sample import Look, Sample
from raflib.errors import RafError, whole
from raflib.report._style import saved
from raflib.tracking import FaceTracker

WIDTH = 110
"""Letters in a line of a report."""


@dataclass(frozen=True)
class Report:
    """What a capture holds and what looks wrong; `print` it.

    Attributes:
        subject: the person.
        holds: what the capture holds, by topic.
        problems: what is wrong, errors first.
    """

    subject: str
    holds: dict[str, str]
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> int:
        """Number of errors."""
        return sum(problem.severity == ERROR for problem in self.problems)

    def __str__(self) -> str:
        lines = [f"person {self.subject}"]
        for name, text in self.holds.items():
            lines += _line(f"  {name:<11}", text)
        counts = ((self.errors, ERROR), (len(self.problems) - self.errors, WARNING))
        told = ", ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in counts if count)
        lines.append(f"  {'problems':<11}{told or 'none'}")
        for problem in self.problems:
            lines += _line(f"  {problem.severity + ':':<11}", problem.text)
            if problem.image is not None:
                lines.append(f"{'':13}see {problem.image}")
        return "\n".join(lines)


def inspect(
    capture: Capture,
    out: str | Path | None = None,
    images: int = 24,
    look: Look | None = None,
    notes: Sequence[str] = (),
    progress: bool = False,
) -> Report:
    """The report of a capture: what it holds, and the problems that all checks of `CHECKS` find.

    Args:
        capture: the recording. Some of its images are read, and faces are searched in them.
        out: a folder for an image of each problem that can be seen; None writes none.
        images: number of images that are looked at, and of frames in which all cameras are compared; at least 8.
        look: finds faces; by default a `FaceTracker` that is closed at the end.
        notes: what the source warned about; each becomes a warning of the report.
        progress: whether to show a bar.

    Raises RafError for a capture without frames or cameras, and where the tracker's model is missing or `out` cannot be
    written.
    """
    if not len(capture) or not capture.cameras:
        raise RafError(
            f"capture {capture.subject}: holds no {'cameras' if len(capture) else 'frames'} to check; add some"
        )
    with ExitStack() as stack:
        sample = Sample(
            capture, whole("images", images, 8), stack.enter_context(FaceTracker()) if look is None else look
        )
        found = [Problem("source", WARNING, note) for note in notes]
        for name, check in (bar := tqdm(CHECKS.items(), disable=not progress, leave=False, unit="check")):
            bar.set_description(f"{capture.subject}: {name}")
            found += check(capture, sample)
        holds = described(capture, sample)
    if sample.broken:
        found.append(Problem("tracker", ERROR, f"{sample.broken}; checks that need faces were left out"))
    found.sort(key=lambda problem: problem.severity != ERROR)
    if out is not None:
        found = [_written(problem, Path(out), number) for number, problem in enumerate(found, 1)]
    return Report(capture.subject, holds, tuple(found))


def described(capture: Capture, sample: Sample) -> dict[str, str]:
    """What a capture holds, in words by topic."""
    sizes = sorted({f"{camera.width} × {camera.height}" for camera in capture.cameras})
    names = ", ".join(camera.name for camera in capture.cameras)
    count, held_out = len(capture), int((capture.sequence == HELD_OUT).sum())
    faces = float(capture.detected.mean()) if count else 0.0
    parts = []
    for name in dict.fromkeys(capture.sequence.tolist()):
        rows = capture.sequence == name
        lost = int((rows & ~capture.detected).sum())
        parts.append(f"{name} {rows.sum()}" + (f" ({lost} without a face)" if lost else ""))
    known = capture.expression[capture.train if capture.train.any() else capture.detected].astype(np.float64)
    spread = float(np.sqrt(((known - known.mean(0)) ** 2).sum(1).mean())) if len(known) else np.nan
    shares = [float(sample.mask(t, c).mean()) / 255 for t, c in sample.views]
    full = sum(share > 1 - MOST_UNSURE for share in shares)
    if not shares:
        masks = "unknown, no image was looked at"
    elif full == len(shares):
        masks = "255 everywhere" + (", background known" if capture.background is not None else "")
    else:
        masks = f"the person covers {np.median(shares):.0%} of the images"
        masks += f"; 255 everywhere in {full} of {len(shares)}" if full else ""
    return {
        "cameras": f"{len(capture.cameras)} of {' and '.join(sizes)} pixels: {names}",
        "frames": f"{count}: {count - held_out} for training, {held_out} held out, {faces:.0%} with a face",
        "sequences": ", ".join(parts),
        "held out": f"{HELD_OUT} {'exists' if held_out else 'is missing'}",
        "features": f"{capture.feature_space}, {capture.expression.shape[1]} wide, spread {spread:.3g} (RMS distance "
        "from the mean)",
        "masks": masks,
        "looked at": f"{len(sample.views)} images, a face found in {len(sample.faces)}",
    }


def _line(start: str, text: str) -> list[str]:
    """`start` and `text`, with further lines below the text."""
    return wrap(text, WIDTH, initial_indent=start, subsequent_indent=" " * 13, break_on_hyphens=False) or [start]


def _written(problem: Problem, out: Path, number: int) -> Problem:
    if problem.figure is None:
        return problem
    path = out / f"{number:02d}_{problem.kind}.png"
    saved(problem.figure(), path)
    return replace(problem, image=path)
