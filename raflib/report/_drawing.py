"""What all figures share: colours, lettering, and how a drawing becomes a picture and a file.

Colours are Okabe and Ito's, which colour-blind readers can tell apart, and a method has the same one in every figure.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageFont

from raflib.errors import RafError
from raflib.runs import atomic_write

PALETTE = {
    "vanilla": "#0072B2",
    "noise": "#E69F00",
    "raf": "#009E73",
    "control": "#7F7F7F",
    "truth": "#000000",
    "driver": "#56B4E9",
}
QUERIES = ("#D55E00", "#332288", "#882255", "#8C6BB1")
"""Colours of things that are no methods, in their order: queries and what was found for them, clips."""
KINDS = {
    "vanilla": (PALETTE["vanilla"], "own features"),
    "noise": (PALETTE["noise"], "noise added"),
    "raf": (PALETTE["raf"], "nearest neighbours"),
    "unretrieved": ("#CC79A7", "others' features, not the nearest"),
    "other": ("#999933", "another method"),
}
"""Kinds of methods, by what conditions a training step: their colour and their name in a legend."""
INK, QUIET, FAINT = "#222222", "#8A8A8A", "#D9D9D9"
FPS = 25
"""Frames a second of the studio's recordings; their frame numbers count these."""
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.fontsize": 9,
    "legend.title_fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def kind_of(method: str) -> str:
    """Which of `KINDS` a method is, by its name: "raf_aligned" is of the kind "raf"."""
    if method in ("person_shift", "raf_random"):
        return "unretrieved"
    first = method.lower().split("_")[0]
    return first if first in KINDS else "other"


def method_colour(method: str) -> str:
    """The colour of a method in every figure: that of its kind."""
    return KINDS[kind_of(method)][0]


def font(size: int) -> ImageFont.FreeTypeFont:
    """The lettering of pictures put together here; matplotlib brings the file along."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def portrait(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The middle of a frontal picture, where the head is: three quarters of its width and height, slightly high."""
    height, width = picture.shape[:2]
    top, left = round(0.06 * height), round(0.125 * width)
    return picture[top : top + round(0.75 * height), left : left + round(0.75 * width)]


def wrapped(text: str, lettering: ImageFont.FreeTypeFont, width: float | int) -> str:
    """`text` with line breaks, so that no line is wider than `width` pixels: after a space, "-", "_" or "+" where it
    can be, else inside a word."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for part in re.findall(r"[^ _+-]*[ _+-]*", paragraph):
            if line and lettering.getlength((line + part).rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            for letter in part:
                if line and lettering.getlength((line + letter).rstrip()) > width:
                    lines.append(line)
                    line = ""
                line += letter
        lines.append(line.rstrip())
    return "\n".join(lines)


def require_faces(what: str, rows: Iterable[int], faces: Mapping[int, np.ndarray]) -> None:
    """RafError naming the first of `rows` that `faces` does not show."""
    if absent := sorted(set(rows) - {int(row) for row in faces}):
        raise RafError(f"{what}: no face of row {absent[0]}; show it with openbank.faces first")


def plain_axes(ax: Axes) -> None:
    """Nothing but faint vertical lines behind what is drawn."""
    ax.tick_params(length=0)
    ax.grid(axis="x", color="#EEEEEE")
    ax.set_axisbelow(True)


def drawn(figure: Figure, path: str | Path | None, dpi: int = 160) -> Image.Image:
    """A matplotlib figure as a picture, written to `path` where one is given."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return saved(Image.open(buffer).convert("RGB"), path)


def saved(image: Image.Image, path: str | Path | None) -> Image.Image:
    """`image` itself, written to `path` where one is given: as JPEG for a name that ends in .jpg, else as PNG."""
    if path is not None:
        jpeg = {"format": "JPEG", "quality": 88, "subsampling": 0}
        options = jpeg if str(path).endswith(".jpg") else {"format": "PNG"}
        with atomic_write(path) as temporary:
            image.save(temporary, optimize=True, **options)
    return image
