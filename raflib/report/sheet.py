"""A finished table, and its text as Markdown, CSV and LaTeX: one function each."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from raflib.runs import atomic_write


class Value(NamedTuple):
    """A number with an optional 95 % interval, as it is printed: with `digits`, bold, and followed by `mark`."""

    mean: float
    low: float = math.nan
    high: float = math.nan
    digits: int = 3
    bold: bool = False
    mark: str = ""

    @property
    def text(self) -> str:
        """ "mean [low, high] mark"; "–" for NaN and "∞" for infinity."""
        if not math.isfinite(self.mean):
            return "∞" if self.mean == math.inf else "–"
        rounded = (round(number, self.digits) + 0.0 for number in self[:3])  # no "-0.00"
        numbers = [f"{number:.{self.digits}f}" for number in rounded]
        interval = f" [{numbers[1]}, {numbers[2]}]" if self.interval else ""
        return " ".join(filter(None, (numbers[0] + interval, self.mark))).replace("-", "−")

    @property
    def interval(self) -> bool:
        """Whether it has an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


Entry = str | int | Value


@dataclass(frozen=True)
class Sheet:
    """A table with its caption.

    Attributes:
        name: name of its files, and its label in LaTeX.
        columns: headings.
        rows: one entry for each column: a text, a whole number or a `Value`. A new block begins where the first entry
            changes.
        caption: what the numbers are, in sentences.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Entry]]
    caption: str


def markdown(sheet: Sheet) -> str:
    """The table as Markdown, with its caption below."""
    rule = [" --- " if _words(sheet, c) else " ---: " for c in range(len(sheet.columns))]
    lines = [[_cell(entry) for entry in row] for row in sheet.rows]
    table = ["| " + " | ".join(_plain(cell) for cell in line) + " |" for line in [list(sheet.columns), *lines]]
    return "\n".join([table[0], "|" + "|".join(rule) + "|", *table[1:], "", sheet.caption]) + "\n"


def csv_text(sheet: Sheet) -> str:
    """The table as CSV with all digits. A column with intervals becomes three: value, low and high."""
    wide = [any(isinstance(row[c], Value) and row[c].interval for row in sheet.rows) for c in range(len(sheet.columns))]
    ends = ("", " low", " high")
    head = [
        name + end for name, three in zip(sheet.columns, wide, strict=True) for end in (ends if three else ends[:1])
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for row in sheet.rows:
        cells: list[object] = []
        for entry, three in zip(row, wide, strict=True):
            numbers = list(entry[:3]) if isinstance(entry, Value) else [entry, "", ""]
            numbers = ["" if isinstance(number, float) and math.isnan(number) else number for number in numbers]
            cells += numbers if three else numbers[:1]
        writer.writerow(cells)
    return out.getvalue()


def latex(sheet: Sheet) -> str:
    """The table in LaTeX with the rules of the package booktabs. Texts are escaped."""
    align = "".join("l" if _words(sheet, c) else "r" for c in range(len(sheet.columns)))
    lines, before = [], None
    for row in sheet.rows:
        if before not in (None, row[0]):
            lines.append(r"\addlinespace")
        before = row[0]
        lines.append(" & ".join(_latex_cell(entry) for entry in row) + r" \\")
    head = " & ".join(escaped(name) for name in sheet.columns) + r" \\"
    begin = [r"\begin{table}", r"\centering", rf"\caption{{{escaped(sheet.caption)}}}", rf"\label{{tab:{sheet.name}}}"]
    begin += [rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule"]
    return "\n".join([*begin, *lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def write_sheet(sheet: Sheet, folder: str | Path) -> list[Path]:
    """Write the table as .md, .csv and .tex into `folder`; returns the paths."""
    paths = []
    for end, text in ((".md", markdown(sheet)), (".csv", csv_text(sheet)), (".tex", latex(sheet))):
        paths.append(Path(folder) / f"{sheet.name}{end}")
        with atomic_write(paths[-1]) as path:
            path.write_text(text, encoding="utf-8", newline="\n")
    return paths


SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "*": r"\textasteriskcentered{}", "†": r"\dag{}", "§": r"\S{}", "…": r"\ldots{}",
    "“": "``", "”": "''", "’": "'", "–": "--", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$",
    "√": r"$\surd$", "∞": r"$\infty$", "≈": r"$\approx$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "σ": r"$\sigma$",
    "°": r"$^{\circ}$", "→": r"$\rightarrow$", "`": r"\textasciigrave{}",
}  # fmt: skip
"""Characters that LaTeX reads as commands or does not know, and what prints them."""


def escaped(text: str) -> str:
    """A text for LaTeX."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def _cell(entry: Entry) -> str:
    if not isinstance(entry, Value):
        return str(entry)
    return f"**{entry.text}**" if entry.bold else entry.text


def _latex_cell(entry: Entry) -> str:
    text = escaped(entry.text if isinstance(entry, Value) else str(entry))
    return rf"\textbf{{{text}}}" if isinstance(entry, Value) and entry.bold else text


def _plain(cell: str) -> str:
    """A cell of Markdown: "|" would end it."""
    return cell.replace("|", "\\|")


def _words(sheet: Sheet, column: int) -> bool:
    """Whether a column holds texts."""
    return all(isinstance(row[column], str) for row in sheet.rows)
