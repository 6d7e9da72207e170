"""The map leads from every part of the paper to files and names that exist; the glossary says each term once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ITEMS = (
    *(f"Section {name}" for name in ("1", "2", "3", "4", "4.1", "4.2", "4.3", "5", "6", "7")),
    *(f"Appendix 0.{letter}" for letter in "ABC"),
    *(f"Table {number}" for number in (1, 2, 3)),
    *(f"Figure {number}" for number in range(1, 7)),
    *(f"Equation of {name}" for name in ("Δx", "the blend", "L_self", "the argmin", "L_RAF", "L", "MMD", "KL", "B2T")),
)
"""What the map must hold: all sections, equations, tables and figures of the paper."""


def rows_of_the_map() -> list[list[str]]:
    """Return the four columns of each row of the map."""
    lines = (ROOT / "notebooks" / "PAPER_MAP.md").read_text().splitlines()
    rows = [[part.strip() for part in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in rows if row[0] != "paper"]


def defined(path: Path) -> set[str]:
    """Return functions, classes, their methods, and constants of a file, as "name" and "Class.method"."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_the_map_holds_every_part_of_the_paper():
    named = [re.sub(r"( \(|, ).*", "", row[0]) for row in rows_of_the_map()]
    assert set(named) == set(ITEMS)
    assert all(len(row) == 4 and re.search(r"\]\(\d\d_\w+\.ipynb\)", row[3]) for row in rows_of_the_map())


@pytest.mark.parametrize("row", rows_of_the_map(), ids=lambda row: row[0])
def test_the_map_leads_to_code_that_exists(row):
    links = re.findall(r"\[([^]]+)\]\(\.\./([^)]+)\)((?: `[\w.]+`)+)", row[2])
    assert links and row[2].count("](") == len(links), "each file is followed by names in it"
    for shown, target, names in links:
        assert shown == target and (ROOT / target).is_file()
        missing = set(re.findall(r"`([\w.]+)`", names)) - defined(ROOT / target)
        assert not missing, f"{target} does not define {missing}"


def test_the_glossary_is_in_order_and_says_each_term_once():
    lines = (ROOT / "notebooks" / "GLOSSARY.md").read_text().splitlines()
    terms = [line.split(" | ")[0].removeprefix("| ").lower() for line in lines if line.startswith("| ")][1:]
    assert terms == sorted(set(terms)) and len(terms) > 40
