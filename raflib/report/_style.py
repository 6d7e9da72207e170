"""What all figures share: colours, fonts, and how a matplotlib figure becomes an image and a file.

The colours are those of Okabe and Ito, which colour-blind readers can tell apart. A method has the same colour in every
figure.
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
"""Colours, in order, of what is not a method: queries with the rows found for them, and clips."""
KINDS = {
    "vanilla": (PALETTE["vanilla"], "own features"),
    "noise": (PALETTE["noise"], "noise added"),
    "raf": (PALETTE["raf"], "nearest neighbours"),
    "unretrieved": ("#CC79A7", "others' features, not the nearest"),
    "other": ("#999933", "another method"),
}
"""Kinds of methods, by what conditions a training step: (colour, name in a legend)."""
INK, QUIET, FAINT = "#222222", "#8A8A8A", "#D9D9D9"
FPS = 25
"""Frames a second of the studio's recordings, counted by their frame numbers."""
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
    """The kind (a key of `KINDS`) of a method, from its name: "raf_aligned" and "raf-half1" are of the kind "raf"."""
    if method in ("person_shift", "raf_random"):
        return "unretrieved"
    first = re.split("[_-]", method.lower())[0]
    return first if first in KINDS else "other"


def method_colour(method: str) -> str:
    """The colour of a method, which is that of its kind."""
    return KINDS[kind_of(method)][0]


def font(size: int) -> ImageFont.FreeTypeFont:
    """The font, `size` pixels high, of images that are put together here. matplotlib ships its file."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def portrait(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The part of a frontal image with the head: three quarters of its width and height, just above the middle."""
    height, width = image.shape[:2]
    top, left = round(0.06 * height), round(0.125 * width)
    return image[top : top + round(0.75 * height), left : left + round(0.75 * width)]


def wrapped(text: str, lettering: ImageFont.FreeTypeFont, width: float | int) -> str:
    """`text` with line breaks, so that no line is wider than `width` pixels.

    Lines break after a space, "-", "_" or "+" where possible, else inside a word.
    """
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
    """RafError naming the first of `rows` that has no image in `faces`; `what` begins the error."""
    if absent := sorted(set(rows) - {int(row) for row in faces}):
        raise RafError(f"{what}: no face of row {absent[0]}; render it with openbank.faces first")


def plain_axes(ax: Axes) -> None:
    """Remove tick marks and add faint vertical grid lines behind what is plotted."""
    ax.tick_params(length=0)
    ax.grid(axis="x", color="#EEEEEE")
    ax.set_axisbelow(True)


def as_image(figure: Figure, path: str | Path | None, dpi: int = 160) -> Image.Image:
    """A matplotlib figure as an image at `dpi` pixels an inch, written to `path` where one is given."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return saved(Image.open(buffer).convert("RGB"), path)


def saved(image: Image.Image, path: str | Path | None) -> Image.Image:
    """`image` unchanged, after writing it to `path` where one is given: JPEG for a name in .jpg, else PNG."""
    if path is not None:
        jpeg = {"format": "JPEG", "quality": 88, "subsampling": 0}
        options = jpeg if str(path).endswith(".jpg") else {"format": "PNG"}
        with atomic_write(path) as temporary:
            image.save(temporary, optimize=True, **options)
    return image
