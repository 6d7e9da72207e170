"""Command `python -m raflib.check FOLDER`: a report of each person in a folder, with an image of each problem.

The exit status is 0 when there is no error, 1 when there is one, and 2 for a wrong call.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from raflib.check.inspection import Report, inspect
from raflib.check.places import SOURCES, Place, people_in
from raflib.check.problems import ERROR, Problem
from raflib.check.sample import Look
from raflib.errors import RafError
from raflib.runs import runs_root
from raflib.tracking import FaceTracker


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m raflib.check", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of one or more people, or a video file")
    parser.add_argument("--source", choices=SOURCES, help="what the folder is; by default it is recognised")
    parser.add_argument("--subject", help="the only person to check; by default all are")
    parser.add_argument("--profile", default="demo", help="how much is read, as in the notebooks (default: demo)")
    parser.add_argument("--out", type=Path, help="folder for the images (default: runs/check_<subject>)")
    parser.add_argument("--images", type=int, default=24, help="images to look at, at least 8 (default: 24)")
    arguments = parser.parse_args(given)
    if arguments.images < 8:
        parser.error(f"--images is {arguments.images}, expected at least 8")
    return arguments


def main(given: Sequence[str] | None = None) -> int:
    """Print the reports and return the exit status."""
    arguments = _arguments(given)
    try:
        places = people_in(arguments.folder, arguments.source)
        if arguments.subject is not None:
            known = ", ".join(place.subject for place in places)
            places = [place for place in places if place.subject == arguments.subject]
            if not places:
                raise RafError(f"{arguments.folder}: holds no person {arguments.subject}, but {known}")
    except RafError as error:
        print(error, file=sys.stderr)
        return 2
    if len(places) > 1:
        print(f"{len(places)} people: {', '.join(place.subject for place in places)}\n")
    wrong = 0
    with FaceTracker() as tracker:
        for place in places:
            report = _report(place, arguments, _out(place, arguments.out, len(places)), tracker)
            wrong += report.errors
            print(report, end="\n\n")
    return int(wrong > 0)


def _out(place: Place, given: Path | None, people: int) -> Path:
    """The folder for a person's images."""
    if given is None:
        return runs_root() / f"check_{place.subject}"
    return given / place.subject if people > 1 else given


def _report(place: Place, arguments: argparse.Namespace, out: Path, look: Look) -> Report:
    about = {"source": f"{place.source}, {place.layout}", "on disk": f"{_words(place.bytes)} in {place.path}"}
    try:
        capture, notes, refusal = place.open(arguments.profile)
        report = inspect(capture, out, arguments.images, look, notes, progress=sys.stderr.isatty())
    except RafError as error:
        return Report(place.subject, about, (Problem("open", ERROR, str(error)),))
    refused = (Problem("open", ERROR, refusal),) if refusal else ()
    return Report(report.subject, about | report.holds, (*refused, *report.problems))


def _words(count: int) -> str:
    """Bytes in words, by powers of ten."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


if __name__ == "__main__":
    sys.exit(main())
