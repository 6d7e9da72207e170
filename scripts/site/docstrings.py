"""What docstrings write as in Markdown, for Sphinx: indented lines are code or equations, and tables have bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:", "Yields:", "Example:")


def restructured(lines: Iterable[str]) -> list[str]:
    """The lines of a docstring with a literal block for each indented block, and a list table for each table."""
    written: list[str] = []
    block: list[str] = []
    for line in [*lines, ""]:
        inside = line.startswith("|") if block and block[0].startswith("|") else line.startswith("    ") or not line
        if block and not inside:
            written += _table(block) if block[0].startswith("|") else _literal(block)
            block = []
        if block or _begins(line, written):
            block.append(line)
        else:
            written.append(line)
    return written + (_literal(block) if block else [])


def _begins(line: str, before: list[str]) -> bool:
    """Whether this line begins a block: a row of a table, or an indented line after an empty one."""
    if line.startswith("|"):
        return True
    said = [text for text in before if text]
    section = bool(said) and any(text in SECTIONS for text in before[_last_paragraph(before) :])
    return line.startswith("    ") and bool(before) and not before[-1] and not section


def _last_paragraph(before: list[str]) -> int:
    """Index of the first line of the paragraph that `before` ends with."""
    end = len(before)
    while end and not before[end - 1]:
        end -= 1
    while end and before[end - 1]:
        end -= 1
    return end


def _literal(block: list[str]) -> list[str]:
    while block and not block[-1]:
        block = block[:-1]
    return [".. code-block:: text", "", *block, ""]


def _table(block: list[str]) -> list[str]:
    rows = [[cell.strip() for cell in row.strip("| ").split("|")] for row in block]
    rows = [row for row in rows if not all(set(cell) <= set("-: ") for cell in row)]
    listed = [f"   {'* -' if not number else '  -'} {cell}" for row in rows for number, cell in enumerate(row)]
    return ["", ".. list-table::", "   :header-rows: 1", "", *listed, ""]


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx, before the sections of docstrings are read."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("autodoc-process-docstring", _keep_values, priority=600)
    app.connect("env-updated", _drop_builtins)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = restructured(lines)
    if what in ("data", "attribute"):
        _values[name] = list(lines)


def _keep_values(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put a value's description back: Sphinx's reader of sections takes what stands before a colon for a type."""
    if name in _values:
        lines[:] = _values.pop(name)


_values: dict[str, list[str]] = {}


def _drop_builtins(app: Any, env: Any) -> list[str]:
    """Modules without a Python file have no page of source code, and nothing may link to one."""
    known = getattr(env, "_viewcode_modules", {})
    for name in [name for name, source in known.items() if source is False]:
        del known[name]
    return []
