"""How near neighbours truly are, at the size of the open bank: the table and the figure of notebook 02 in full.

    python scripts/retrieval.py [--bank FILE] [--sizes 10 40 100 414] [--subjects 40] [--out FOLDER]

People of the bank take turns as the subject, in every space of the bank and with every weighting. It writes
`retrieval.csv` (one row a subject), `retrieval_shares.csv` (medians over subjects with intervals) and `retrieval.png`.
The studio performs everybody of the bank again for the truth, half a second a person.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from raflib import report
from raflib.lab.banks import open_bank
from raflib.lab.nearness import nearness, nearness_table, shares
from raflib.runs import atomic_write, runs_root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", default="", help="a bank of studio people; default the one that ships")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 40, 100, 414], help="other people in the bank")
    parser.add_argument("--subjects", type=int, default=40, help="people who are the subject in turn")
    parser.add_argument("--queries", type=int, default=50, help="rows of each subject")
    parser.add_argument("--faces", type=int, default=10, help="rendered queries of each subject")
    parser.add_argument("--out", type=Path, default=runs_root() / "retrieval")
    chosen = parser.parse_args()
    bank = open_bank(chosen.bank)
    table = nearness_table(bank, chosen.sizes, (1, 5), chosen.queries, chosen.subjects, chosen.faces)
    summary = nearness(table)
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("retrieval.csv", table), ("retrieval_shares.csv", summary)):
        with atomic_write(chosen.out / name) as path:
            rows.to_csv(path, index=False, lineterminator="\n")
    report.retrieval_figure(summary, chosen.out / "retrieval.png")
    print(shares(summary).to_string())
    print(f"wrote {chosen.out}")


if __name__ == "__main__":
    main()
