"""Projects of small notebooks, for tests of what runs notebooks."""

from pathlib import Path

import nbformat


def write_notebooks(root: Path, sources: dict[str, str]) -> None:
    """Write notebooks with the parameters `subject` and `where`, and one cell of source each, to `root`/notebooks."""
    (root / "notebooks").mkdir()
    for name, source in sources.items():
        cells = [nbformat.v4.new_code_cell("subject = ''\nwhere = ''", metadata={"tags": ["parameters"]})]
        notebook = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(source)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")
