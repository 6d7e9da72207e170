"""Commands and parameters that the project's texts tell their readers to type."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md", "notebooks/README.md", "notebooks/METRICS.md", "notebooks/RESULTS.md", "notebooks/VERDICT.md",
    "notebooks/GLOSSARY.md", "notebooks/PAPER_MAP.md", "data/README.md", "figures/README.md", "benchmarks/README.md",
)  # fmt: skip
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def texts() -> dict[str, str]:
    """Return every text for readers by its path: the pages, and the Markdown cells of each notebook."""
    found = {page: (ROOT / page).read_text() for page in PAGES}
    for path in NOTEBOOKS:
        cells = nbformat.read(path, 4).cells
        found[f"notebooks/{path.name}"] = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return found


def commands(program: str) -> list[tuple[str, list[str]]]:
    """Return (text's path, words) of each command that begins with `program`, in `code` or on a code block's line."""
    found = []
    for path, text in texts().items():
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        lines = [line.split("  #")[0] for block in blocks for line in block.splitlines()]
        spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
        found += [(path, shlex.split(line)) for line in [*lines, *spans] if line.startswith(f"{program} ")]
    return found


def parameters(words: list[str]) -> dict[str, object]:
    """The parameters of a papermill command, with the types that papermill gives them."""
    from papermill.cli import _resolve_type

    given = {}
    for i, word in enumerate(words):
        if word in ("-p", "-r"):
            given[words[i + 1]] = _resolve_type(words[i + 2]) if word == "-p" else words[i + 2]
    return given


def fragments() -> list[tuple[str, str, object]]:
    """Return (text's path, name, value) of each parameter that a text mentions alone, as in `-p bank half1`."""
    found = []
    for path, text in texts().items():
        for span in re.findall(r"`(-[pr] [^`\n]+)`", text):
            found += [(path, name, value) for name, value in parameters(shlex.split(span)).items()]
    return found
