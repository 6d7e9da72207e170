"""Make the open expression bank (a killed build goes on where it was), or check one with --verify.

415 people × 200 frames take about two hours on 2 cores. The last line is the checksum that data/README.md repeats.
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
"""Smallest share of frames with a face that can be fitted; below it the rendered faces are probably wrong."""


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    from raflib import openbank

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=openbank.PEOPLE, help="how many people (default %(default)s)")
    parser.add_argument("--frames", type=int, default=openbank.FRAMES, help="frames of each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the frames (default 0)")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="cores to use (default all)")
    parser.add_argument("--out", type=Path, help="the file (default data/bank_open.npz, for the whole bank only)")
    parser.add_argument(
        "--verify",
        type=float,
        metavar="SHARE",
        help="render this share of the rows of --out again and compare, e.g. 0.01",
    )
    options = parser.parse_args(arguments)
    start, whole = time.monotonic(), (openbank.PEOPLE, openbank.FRAMES, 0)
    try:
        if options.out is None:
            options.out = data_root() / "bank_open.npz"
            if options.verify is None and (options.people, options.frames, options.seed) != whole:
                raise RafError(
                    f"{options.out}: is for {whole[0]} people × {whole[1]} frames with seed {whole[2]}; name another "
                    "file for this bank with --out"
                )
        if options.verify is not None:
            bank = ExpressionBank.load(options.out)
            print(f"{options.out}: {openbank.verify(bank, options.verify, options.seed, options.cores)}")
            return 0
        bank = openbank.build(options.out, options.people, options.frames, options.seed, options.cores)
    except RafError as error:
        print(f"build_bank: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("build_bank: stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    rate, size = float(bank.provenance["detection_rate"]), options.out.stat().st_size / 1e6
    print(
        f"{len(bank)} rows of {len(bank.people)} people, {size:.1f} MB, {(time.monotonic() - start) / 60:.1f} minutes"
    )
    print(f"{rate:.2%} of {bank.provenance['looked_at']} frames show a face")
    print(f"{hashlib.sha256(options.out.read_bytes()).hexdigest()}  {options.out}")
    if rate < DETECTED:
        print(f"build_bank: expected a face in at least {DETECTED:.1%}; look at the images first", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
