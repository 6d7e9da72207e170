"""Command `raf` (also `python -m raflib`): train, evaluate, export and check, for machines without `make`.

    raf train 422 --method raf --profile demo
    raf evaluate 422 --method raf --profile demo
    raf export 04_train_422_raf_demo_0 --html avatar.html
    raf check FOLDER

`train` and `evaluate` run notebooks 04 and 05, so results are the same as theirs and lie in the same folders. The exit
status is 0, or 1 after an error, or 2 for a wrong call.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from raflib.errors import RafError
from raflib.system import print_any_text

RUN = {"train": "04_train", "evaluate": "05_evaluate"}
"""Command → the notebook that it runs."""


def main(given: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    print_any_text()
    given = list(sys.argv[1:] if given is None else given)
    if given[:1] == ["check"]:  # it has a parser of its own
        from raflib.check.__main__ import main as check

        return check(given[1:])
    options = _parser(given[:1]).parse_args(given)
    try:
        return _export(options) if options.command == "export" else _notebook(options)
    except RafError as error:
        print(f"raf {options.command}: {error}", file=sys.stderr)
        return 1


def _parser(command: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; parameters of notebooks are read only for the `command` that needs them, because that takes long."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="raf", description=__doc__, formatter_class=formatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, notebook in RUN.items():
        what = {"train": "train one avatar", "evaluate": "measure a trained avatar"}[name]
        words = f"{what} (notebook {notebook})"
        one = commands.add_parser(name, help=words, description=f"{words}. Options are its parameters.")
        one.add_argument("subject", help="the person, such as 422")
        if list(command) == [name]:
            _add_parameters(one, notebook)
    export = commands.add_parser("export", help="write a trained avatar as page, splat files or turntable")
    export.add_argument("run", help="folder of a trained avatar, or its name in runs/")
    export.add_argument("--html", type=Path, metavar="FILE", help="a page that plays in a browser")
    export.add_argument("--ply", type=Path, metavar="FOLDER", help="one splat file per frame")
    export.add_argument("--turntable", type=Path, metavar="FILE", help="a film in .mp4 or .gif, around the head")
    export.add_argument("--driver", default="", help="who drives the avatar (default: its own held-out frames)")
    export.add_argument("--root", default="", help="folder of captures, for avatars of other sources than the studio")
    export.add_argument("--frames", type=int, default=0, help="at most so many frames (default: all)")
    commands.add_parser("check", help="say what a recording holds and what looks wrong", add_help=False)
    return parser


def _add_parameters(parser: argparse.ArgumentParser, notebook: str) -> None:
    """Add each parameter of a notebook as an option; values are checked later, as in the notebook."""
    from raflib.lab.parameters import NOTEBOOKS

    for field in fields(NOTEBOOKS[notebook]):
        if field.name != "subject":
            option, text = f"--{field.name.replace('_', '-')}", f"(default: {field.default!r})"
            parser.add_argument(option, dest=field.name, default=None, metavar="VALUE", help=text)


def _notebook(options: argparse.Namespace) -> int:
    """Run a notebook as `make demo` does, unless an earlier run with these parameters is finished."""
    from raflib.lab.driver import run_stage
    from raflib.lab.parameters import parameters_of
    from raflib.lab.steps import Step
    from raflib.runs import project_root, runs_root

    notebook = RUN[options.command]
    given = {name: value for name, value in vars(options).items() if name != "command" and value is not None}
    parameters_of(notebook, given)  # wrong values are found before anything starts
    if not (project_root() / "notebooks" / f"{notebook}.ipynb").is_file():
        raise RafError(
            f"{project_root()}: holds no notebooks; go to the project's folder, or name it in the environment variable "
            "RAF_ROOT"
        )
    step = Step(notebook, given)
    cores = int(given.get("threads", os.cpu_count() or 1))
    run_stage([[step]], project_root(), runs_root() / "notebooks" / step.results.name, cores)
    print(step.results)
    return 0


def _export(options: argparse.Namespace) -> int:
    """Write what was asked for, and print its paths."""
    from raflib.export import export_html, export_ply_sequence, turntable
    from raflib.training import Run

    if not (options.html or options.ply or options.turntable):
        raise RafError("nothing to write; give --html FILE, --ply FOLDER or --turntable FILE")
    if options.frames < 0:
        raise RafError(f"--frames is {options.frames}, expected a number of frames, 0 for all")
    run = Run.load(_folder(options.run))
    if options.turntable:
        print(turntable(run, run.control_expression, options.turntable))
    if options.html or options.ply:
        (expression, pose, scale), times = _driving(run.subject, run.info, options)
        if options.html:
            print(export_html(run, expression, pose, scale, options.html, times=times))
        if options.ply:
            export_ply_sequence(run, expression, pose, scale, options.ply)
            print(options.ply)
    return 0


def _folder(name: str) -> Path:
    """The folder of a trained avatar: a path, or a name in `runs_root()`."""
    from raflib.runs import runs_root

    found = [path for path in (Path(name), runs_root() / name) if path.is_dir()]
    if not found:
        raise RafError(f"{name}: no such folder, neither here nor in {runs_root()}; train the avatar with raf train")
    return found[0]


def _driving(subject: str, info: dict, options: argparse.Namespace) -> tuple[tuple, Sequence[float]]:
    """(expression, pose, scale) of the driver's held-out frames for the avatar of `subject`, and their times."""
    import numpy as np

    from raflib.driving import transfer_pose
    from raflib.lab.recordings import Recordings
    from raflib.report import seconds

    told = {name: str(info.get(name, default)) for name, default in (("source", "studio"), ("profile", "demo"))}
    if told["source"] == "video":
        raise RafError("this avatar is of a video; notebook 08, which drives it, writes its page beside the film")
    recordings = Recordings(**told, root=options.root, features=str(info.get("features", "")))
    target = recordings.open(subject)
    driver = recordings.driver(options.driver) if options.driver else target
    rows = np.flatnonzero(driver.free)[: options.frames or None]
    if not len(rows):
        raise RafError(f"capture {driver.subject}: no held-out frame with a face to drive the avatar with")
    pose, scale = (target.pose[rows], target.scale[rows]) if driver is target else transfer_pose(driver, target, rows)
    return (driver.expression[rows], pose, scale), list(seconds(driver)[rows])


if __name__ == "__main__":
    raise SystemExit(main())
