"""When does retrieval help? Avatars with and without RAF while one thing about their training changes at a time.

    python scripts/dose.py --subjects 422 443 445 --steps 2500 --workers 2

`raflib.lab.dose` explains the quantities and lists their values. Each avatar is driven by the fourteen drivers and
compared with the studio's true images, and by its own held-out sequence. A program that was stopped goes on where it
was; a training goes on from its last checkpoint. It writes `dose.npz` (all rows), `gains.csv` and `dose.png` into
runs/dose, and prints the gains. With `--rows FILE` it trains nothing and reads such a file instead.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from raflib import evaluate, fit, report
from raflib.config import PROFILES, train_config
from raflib.errors import RafError
from raflib.evaluation import EvaluateOptions
from raflib.lab.dose import DOSES, OF_RAF, USUAL, Dose, World, changed, gains, sampler_at
from raflib.lab.driver import thread_limits
from raflib.lab.recordings import Recordings
from raflib.lab.rows import load_rows, save_rows
from raflib.runs import atomic_write, runs_root
from raflib.sampler import SAMPLERS

IMAGE = ("psnr/face", "lpips/stlpips-alex/face")
METRICS = {"cross": (*IMAGE, "aed/arkit52/l1/truth"), "self": (*IMAGE, "aed/arkit52/l1")}
"""What is measured in each protocol."""
FRAMES = {"cross": 5, "self": 20}
"""Frames that are compared: of each driver, from one camera, and of the subject's own, from three."""
ROWS = "rows.npz"


@dataclass(frozen=True)
class Cell:
    """One avatar: subject, method and seed at a dose, and how long an avatar of the usual dose is trained."""

    subject: str
    method: str
    seed: int
    dose: Dose
    profile: str
    steps: int

    @property
    def folder(self) -> Path:
        """Where it is trained, and where its rows are."""
        length = f"_steps{self.steps}" if self.steps else ""
        return (
            runs_root() / "dose" / f"{self.subject}_{self.method}_{self.dose.name}_{self.profile}{length}_{self.seed}"
        )


def cells(options: argparse.Namespace) -> list[Cell]:
    """All avatars, the usual ones first: quantities that only RAF has are not varied for other methods."""
    found: dict[Cell, None] = {}
    doses = [Dose(name, value) for name in options.quantities for value in DOSES[name]]
    for dose in sorted(doses, key=lambda dose: not dose.usual):
        for seed in options.seeds:
            for subject in options.subjects:
                for method in options.methods:
                    known = SAMPLERS[method].options()
                    if dose.quantity in OF_RAF and not dose.usual and dose.quantity not in known:
                        continue
                    plain = Dose("steps", USUAL["steps"]) if dose.usual else dose
                    found[Cell(subject, method, seed, plain, options.profile, options.steps)] = None
    return list(found)


def run(cell: Cell) -> Path:
    """Train and evaluate the avatar of a cell; the file of its rows, which may be there already."""
    path = cell.folder / ROWS
    if path.is_file():
        return path
    recordings = Recordings(profile=cell.profile)
    drivers = [recordings.driver_to_measure(name) for name in recordings.drivers(cell.subject)]
    world = World(recordings.to_measure(cell.subject), drivers, recordings.open_bank(cell.subject))
    config = train_config(cell.profile, seed=cell.seed)
    config = replace(config, steps=cell.steps or config.steps)
    world, config = changed(cell.dose, world, config)
    sampler = sampler_at(cell.dose, cell.method, world.bank)
    avatar = fit(world.capture, sampler, config, cell.folder / "run", progress=False)
    parts = []
    for protocol, metrics in METRICS.items():
        how = EvaluateOptions(frames=FRAMES[protocol], conditions=("avatar",))
        given = world.drivers if protocol == "cross" else ()
        parts.append(evaluate(avatar, protocol, world.capture, given, metrics, how, progress=False))
    rows = pd.concat(parts, ignore_index=True)
    kept = [name for name in rows if not name.startswith(("rendered/", "target/"))]
    save_rows(rows[kept], path)
    return path


def gathered(done: Sequence[Cell]) -> pd.DataFrame:
    """Rows of all finished cells; those of the usual dose stand once for each quantity."""
    parts = []
    for cell in done:
        rows = load_rows(cell.folder / ROWS).assign(steps=cell.steps, profile=cell.profile)
        doses = [(name, USUAL[name]) for name in DOSES] if cell.dose.usual else [(cell.dose.quantity, cell.dose.value)]
        parts += [rows.assign(quantity=name, value=float(value)) for name, value in doses]
    return pd.concat(parts, ignore_index=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=["422", "443", "445"])
    parser.add_argument("--methods", nargs="+", default=["vanilla", "raf"], choices=SAMPLERS)
    parser.add_argument("--quantities", nargs="+", default=list(DOSES), choices=DOSES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--profile", default="demo", choices=PROFILES)
    parser.add_argument("--steps", type=int, default=2500, help="steps of the usual training (0: the profile's own)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="avatars at once, one thread each")
    parser.add_argument("--rows", type=Path, help="file of rows; nothing is trained")
    parser.add_argument("--out", type=Path, help="folder of the results (default runs/dose)")
    options = parser.parse_args(arguments)
    out = options.out or runs_root() / "dose"
    if options.rows:
        try:
            rows = load_rows(options.rows)
            tell(rows.assign(value=rows.value.astype(float).round(6)), out)  # a file has 32-bit numbers
        except RafError as error:
            print(f"dose: {error}", file=sys.stderr)
            return 1
        return 0
    wanted = cells(options)
    done = [cell for cell in wanted if (cell.folder / ROWS).is_file()]
    left = [cell for cell in wanted if cell not in done]
    failed = 0
    os.environ.update(thread_limits(1))  # of each worker
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(run, cell): cell for cell in left}
        for job in tqdm(as_completed(jobs), "avatars", total=len(jobs), unit="avatar"):
            try:
                job.result()
                done.append(jobs[job])
            except RafError as error:
                failed += 1
                tqdm.write(f"dose: {jobs[job].folder.name}: {error}", file=sys.stderr)
    if done:
        tell(gathered(done), out)
    print(f"{len(done)} of {len(wanted)} avatars done")
    return 1 if failed else 0


def tell(rows: pd.DataFrame, out: Path) -> None:
    """Write rows, gains and the figure, and print the gains in PSNR by protocol, quantity and value."""
    save_rows(rows, out / "dose.npz")
    others = [name for name in rows.method.unique() if name != "vanilla"]
    tables = [
        gains(part, metric, name).assign(method=name, metric=metric, protocol=protocol)
        for protocol, part in rows.groupby("protocol")
        for metric in METRICS[protocol]
        for name in others
    ]
    table = pd.concat(tables, ignore_index=True)
    with atomic_write(out / "gains.csv") as path:
        table.to_csv(path, index=False)
    first = table[table.metric == IMAGE[0]]
    if len(first):
        report.dose_figure(first, out / "dose.png")
        shown = first.pivot_table("gain", ["protocol", "method", "quantity", "value"], "subject")
        print(shown.assign(mean=shown.mean(axis=1)).round(2).to_string())


if __name__ == "__main__":
    raise SystemExit(main())
