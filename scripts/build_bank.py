"""The open expression bank: make it (all cores; a killed build goes on where it was), or check one with --verify.

415 people × 200 frames take about half an hour on 2 cores. The last line is the checksum that data/README.md repeats.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.runs import data_root

DETECTED = 0.995
"""A tracker that misses more than 1 of 200 frontal faces says that something is wrong with the faces."""


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    from raflib import openbank

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=openbank.PEOPLE, help="how many people (default %(default)s)")
    parser.add_argument("--frames", type=int, default=openbank.FRAMES, help="frames of each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="draws the frames (default 0)")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="cores to use (default all)")
    parser.add_argument("--out", type=Path, default=data_root() / "bank_arkit52.npz", help="the file (default in data)")
    parser.add_argument(
        "--verify",
        type=float,
        metavar="SHARE",
        help="film this share of the rows of --out again and compare, e.g. 0.01",
    )
    options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        if options.verify is not None:
            bank = ExpressionBank.load(options.out)
            print(f"{options.out}: {openbank.verify(bank, options.verify, options.seed, options.cores)}")
            return 0
        bank = openbank.build(options.out, options.people, options.frames, options.seed, options.cores)
    except RafError as error:
        print(f"build_bank: {error}", file=sys.stderr)
        return 1
    rate, size = float(bank.provenance["detection_rate"]), options.out.stat().st_size / 1e6
    print(
        f"{len(bank)} rows of {len(bank.people)} people, {size:.1f} MB, {(time.monotonic() - start) / 60:.1f} minutes"
    )
    print(f"faces found in {rate:.2%} of {bank.provenance['looked_at']} pictures")
    print(f"{hashlib.sha256(options.out.read_bytes()).hexdigest()}  {options.out}")
    if rate < DETECTED:
        print(f"build_bank: expected faces in at least {DETECTED:.1%}; look at the pictures first", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
