"""Films as outputs of a notebook's cell."""

from __future__ import annotations

from pathlib import Path

from IPython.display import Video

from raflib.errors import RafError
from raflib.system import relative

EMBEDDED_BYTES = 8 * 2**20
"""Films up to this size are kept inside the notebook, larger ones are linked to."""


def show_video(path: str | Path) -> Video:
    """The film as an output of a notebook's cell, kept inside the notebook where it is small."""
    path = Path(path)
    if not path.is_file():
        raise RafError(f"{path}: no such film; write it first")
    embed = path.stat().st_size <= EMBEDDED_BYTES
    shown = path if embed else relative(path)  # a browser looks from the notebook's folder
    return Video(str(shown), embed=embed, mimetype="video/mp4", html_attributes="controls loop")
