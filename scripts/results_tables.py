"""The tables of notebooks/RESULTS.md and notebooks/VERDICT.md that follow from the result rows that ship.

    python scripts/results_tables.py            compare, exit status 1 where a page is out of date
    python scripts/results_tables.py --write    write them

A table stands between the comments `<!-- rows: NAME -->` and `<!-- end of rows: NAME -->`. Everything else of the pages
stays as it is. `--rows FILE` takes other rows, such as those of `make paper`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import dose
import pandas as pd
from new_people import STUDY, compared

from raflib.errors import RafError
from raflib.lab.cells import shipped_rows
from raflib.lab.rows import load_rows
from raflib.report import markdown, paper_tables, verdict_sheet
from raflib.runs import atomic_write, data_root, project_root

PAGES = ("notebooks/RESULTS.md", "notebooks/VERDICT.md")
BLOCK = re.compile(r"(?P<begin><!-- rows: (?P<name>\S+) -->\n).*?(?P<end><!-- end of rows: (?P=name) -->)", re.DOTALL)
NAMES = (
    "table2", "table3", "cross_truth", "differences_cross_vanilla", "differences_cross_raf", "differences_self_vanilla",
)  # fmt: skip
"""Tables of the grid that pages may hold, beside "verdict"."""
NOTHING = "*Not measured yet: no result rows ship in `data/results`. `make paper` makes rows.*\n"


def blocks(rows: pd.DataFrame | None) -> dict[str, str]:
    """The text of each table by its name; tables of several settings follow each other."""
    texts = dict.fromkeys(NAMES, "")
    for tables in paper_tables(rows) if rows is not None else ():
        for sheet in tables.sheets:
            for name in texts:
                if sheet.name == name or sheet.name.startswith(f"{name}_"):
                    texts[name] += f"\n{markdown(sheet)}"
    return {name: (text or f"\n{NOTHING}") + "\n" for name, text in texts.items()} | {
        "verdict": f"\n{markdown(verdict_sheet(rows))}\n"
    }


def of_short_avatars() -> dict[str, str]:
    """The text of each table of the new people and of the doses, by its name; none without their files of rows."""
    texts = {}
    if (path := data_root() / "results" / f"{STUDY}.npz").is_file():
        texts = {f"{STUDY}_{sheet.name}": markdown(sheet) for sheet in compared(load_rows(path))[0]}
    if (path := data_root() / "results" / "dose.npz").is_file():
        texts |= {sheet.name: markdown(sheet) for sheet in dose.sheets(load_rows(path))}
    return {name: f"\n{text}\n" for name, text in texts.items()}


def filled(page: str, texts: Mapping[str, str], where: str) -> str:
    """The text of a page with its tables replaced. RafError naming a table that is not known or has no end."""

    def replaced(found: re.Match) -> str:
        if found["name"] not in texts:
            raise RafError(f"{where}: no table is called {found['name']}; choose from {', '.join(texts)}")
        return found["begin"] + texts[found["name"]] + found["end"]

    marks = len(re.findall(r"<!-- (?:end of )?rows: ", page))
    text, count = BLOCK.subn(replaced, page)
    if marks != 2 * count:
        raise RafError(f"{where}: a table lacks its end; close it with <!-- end of rows: NAME -->")
    return text


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the pages")
    parser.add_argument("--rows", type=Path, help="file of rows (default: those in data/results)")
    options = parser.parse_args(arguments)
    stale = []
    try:
        texts = blocks(load_rows(options.rows) if options.rows else shipped_rows()) | of_short_avatars()
        for name in PAGES:
            path = project_root() / name
            before = path.read_text(encoding="utf-8")
            after = filled(before, texts, name)
            stale += [name] if after != before else []
            if options.write and after != before:
                with atomic_write(path) as temporary:
                    temporary.write_text(after, encoding="utf-8", newline="\n")
    except RafError as error:
        print(f"results_tables: {error}", file=sys.stderr)
        return 1
    print(f"{'written' if options.write else 'out of date'}: {', '.join(stale) or 'nothing'}")
    return 1 if stale and not options.write else 0


if __name__ == "__main__":
    raise SystemExit(main())
