"""When does retrieval help? Avatars with and without RAF while one thing about their training changes at a time.

    python scripts/dose.py --subjects 422 443 445 --steps 2500 --workers 2

`raflib.lab.dose` explains the quantities and lists their values. Each avatar is driven by the fourteen drivers and
compared with the studio's true images, and by its own held-out sequence. A program that was stopped goes on where it
was; a training goes on from its last checkpoint. It writes `dose.npz` (all rows), `gains.csv` and `dose.png` into
runs/dose, and prints the gains. With `--rows FILE` it trains nothing and reads such a file instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from raflib import report
from raflib.config import PROFILES
from raflib.errors import RafError
from raflib.lab.dose import DOSES, NOTHING_CHANGED, OF_RAF, USUAL, Dose, gains
from raflib.lab.rows import load_rows, save_rows
from raflib.lab.short_avatars import IMAGE, METRICS, ShortAvatar, make_all
from raflib.runs import atomic_write, runs_root
from raflib.sampler import SAMPLERS


def planned(options: argparse.Namespace) -> list[ShortAvatar]:
    """All avatars, the usual ones first: quantities that only RAF has are not varied for other methods."""
    found: dict[ShortAvatar, None] = {}
    doses = [Dose(name, value) for name in options.quantities for value in DOSES[name]]
    for dose in sorted(doses, key=lambda dose: not dose.usual):
        for seed in options.seeds:
            for subject in options.subjects:
                for method in options.methods:
                    known = SAMPLERS[method].options()
                    if dose.quantity in OF_RAF and not dose.usual and dose.quantity not in known:
                        continue
                    plain = NOTHING_CHANGED if dose.usual else dose
                    found[ShortAvatar(subject, method, seed, options.profile, options.steps, plain)] = None
    return list(found)


def gathered(done: Sequence[ShortAvatar]) -> pd.DataFrame:
    """Rows of all finished avatars; those of the usual dose stand once for each quantity."""
    parts = []
    for one in done:
        doses = [(name, USUAL[name]) for name in DOSES] if one.dose.usual else [(one.dose.quantity, one.dose.value)]
        parts += [one.rows().assign(quantity=name, value=float(value)) for name, value in doses]
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
    parser.add_argument("--workers", type=int, help="avatars at once, one thread each (default: one for each core)")
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
    wanted = planned(options)
    done = make_all(wanted, options.workers)
    if done:
        tell(gathered(done), out)
    return 0 if len(done) == len(wanted) else 1


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
