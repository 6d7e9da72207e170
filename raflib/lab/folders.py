"""Where a notebook's results go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from raflib.runs import runs_root
from raflib.variants import bank_suffix


def run_folder(notebook: str, parameters: Mapping[str, str]) -> Path:
    """The folder in `runs_root()` of what `notebook` makes with these parameters, others at their defaults."""
    p = {"bank": "", "seed": 0, "top_k": 1, "initialisation": "", "drive": "direct", "method": "raf", **parameters}
    name = f"{notebook}_{p['subject']}"
    if notebook in ("04_train", "05_evaluate"):
        name += f"_{p['method']}_{p['profile']}_{p['seed']}{bank_suffix(p['bank'], p['method'], int(p['top_k']))}"
        last = p["initialisation"] if notebook == "04_train" else p["drive"].replace("direct", "")
        return runs_root() / (f"{name}_{last}" if last else name)
    seed = f"_{p['seed']}" if notebook in ("06_tables", "09_beyond") else ""
    return runs_root() / f"{name}_{p['profile']}{seed}{bank_suffix(p['bank'])}"
