"""Images that show a problem: landmarks and mask outlines on images, the rig from above, curves over frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from raflib.capture import Capture
from raflib.geometry import Camera
from raflib.images import lanczos
from raflib.report import PALETTE, strip
from raflib.report._style import INK, QUERIES, QUIET, STYLE, as_image, font, wrapped

LOOK: Any = STYLE
TILE, NARROW = 320, 640
"""Width of an image in pixels, and the least width of a figure."""
NAMED = 8
"""Most cameras that are all named in a figure; of more, only the wrong ones are."""
MINE, SEEN, EDGE, BAD = PALETTE["noise"], PALETTE["driver"], "#CC79A7", QUERIES[0]
"""Colours of projected landmarks, of the face that the tracker finds, of a mask's outline, and of what is wrong."""


def titled(image: Image.Image, title: str) -> Image.Image:
    """`image` under a title in large letters."""
    lettering, width = font(17), max(image.width, NARROW)
    text = wrapped(title[:1].upper() + title[1:], lettering, width - 24)
    lines = text.count("\n") + 1
    head = 16 + 23 * lines if title else 0
    sheet = Image.new("RGB", (width, image.height + head), "white")
    ImageDraw.Draw(sheet).multiline_text((12, 10), text, font=lettering, fill=INK, spacing=5)
    sheet.paste(image, (0, head))
    return sheet


def marked(
    image: UInt8[np.ndarray, "H W 3"],
    points: Mapping[str, np.ndarray | None],
    mask: UInt8[np.ndarray, "H W"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """An image, `TILE` pixels wide, with dots at `points` (pixels [L,2] by colour) and the outline of its mask."""
    height, width = image.shape[:2]
    ratio = TILE / width
    shown = Image.fromarray(lanczos(np.ascontiguousarray(image), TILE, round(height * ratio)))
    if mask is not None:
        large = lanczos(np.repeat(mask[..., None], 3, 2), TILE, shown.height)[..., 0] > 127
        canvas = np.array(shown)
        canvas[_outline(large)] = _rgb(EDGE)
        shown = Image.fromarray(canvas)
    draw = ImageDraw.Draw(shown)
    for colour, places in points.items():
        for x, y in () if places is None else places[np.isfinite(places).all(1)] * ratio:
            if -9 < x < TILE + 9 and -9 < y < shown.height + 9:
                draw.ellipse((x - 1.6, y - 1.6, x + 1.6, y + 1.6), fill=colour)
    return np.asarray(shown)


def images_figure(
    title: str, rows: Sequence[Sequence[np.ndarray | None]], columns: Sequence[str], labels: Sequence[str] | None = None
) -> Image.Image:
    """A titled grid of images, with headings and names of its rows."""
    size = 13
    return titled(strip(rows, columns, labels, tile=TILE, size=size), title)


def rig_figure(title: str, capture: Capture, wrong: Sequence[int] = ()) -> Image.Image:
    """The cameras from above, with the way they look and the head; those at index `wrong` in another colour."""
    points = capture.landmarks[capture.detected]
    points = points[np.isfinite(points).all((1, 2))]
    with rc_context(LOOK):
        figure = Figure(figsize=(6.4, 6.0))
        ax = figure.subplots()
        if len(points):
            cloud = np.median(points, 0)
            ax.scatter(cloud[:, 0], cloud[:, 2], s=4, color=MINE, label="landmarks")
        places = [camera.centre for camera in capture.cameras]
        reach = 0.15 * max((float(np.linalg.norm(place)) for place in places), default=1.0)
        for c, (camera, place) in enumerate(zip(capture.cameras, places, strict=True)):
            colour = BAD if c in wrong else QUIET
            ahead = camera.extrinsic[2, :3] * reach
            ax.annotate(
                "", (place[0] + ahead[0], place[2] + ahead[2]), (place[0], place[2]),
                arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.6},
            )  # fmt: skip
            ax.scatter(place[0], place[2], s=26, color=colour)
            if c not in wrong and len(capture.cameras) > NAMED:
                continue
            ax.annotate(camera.name, (place[0], place[2]), textcoords="offset points", xytext=(5, -9), color=colour)
        ax.set_aspect("equal", "datalim")
        ax.invert_yaxis()
        ax.set_xlabel("x, metres")
        ax.set_ylabel("z, metres")
        ax.grid(color="#EEEEEE")
        ax.legend(loc="upper right")
        return titled(as_image(figure, None, 110), title)


def curve_figure(
    title: str,
    across: Float[np.ndarray, "N"],
    curves: Mapping[str, Float[np.ndarray, "N"]],
    labels: tuple[str, str],
    marks: Bool[np.ndarray, "N"] | None = None,
    lines: Mapping[str, float] | None = None,
) -> Image.Image:
    """Curves over `across` by name; the first one in the colour of what is wrong, with dots at `marks`.

    `labels` name the axes, and `lines` are vertical lines by name.
    """
    with rc_context(LOOK):
        figure = Figure(figsize=(7.2, 3.4))
        ax = figure.subplots()
        for number, (name, values) in enumerate(curves.items()):
            colour = BAD if number == 0 else QUIET
            ax.plot(across, values, color=colour, linewidth=1.8 if number == 0 else 1.2, marker=".", label=name)
            if marks is not None and number == 0:
                ax.scatter(across[marks], values[marks], s=40, facecolor="none", edgecolor=BAD, zorder=3)
        for name, place in (lines or {}).items():
            ax.axvline(place, color=INK, linewidth=1, linestyle=":")
            ax.annotate(name, (place, 1.0), xycoords=("data", "axes fraction"), va="bottom", ha="center")
        ax.set_xlabel(labels[0])
        ax.set_ylabel(labels[1])
        ax.grid(color="#EEEEEE")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return titled(as_image(figure, None, 110), title)


def heading(capture: Capture, t: int, camera: Camera) -> str:
    """Title of a view: camera, sequence and frame."""
    return f"camera {camera.name}\n{capture.sequence[t]}, frame {capture.frame[t]}"


def stacked(one: Image.Image, other: Image.Image) -> Image.Image:
    """Two images, one above the other."""
    sheet = Image.new("RGB", (max(one.width, other.width), one.height + other.height), "white")
    sheet.paste(one, (0, 0))
    sheet.paste(other, (0, one.height))
    return sheet


def _outline(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels of the mask within two pixels of its border; the image's border is none."""
    inner = mask.copy()
    for shift in (1, 2):
        for axis in (0, 1):
            inner &= np.take(mask, np.arange(mask.shape[axis]).clip(shift) - shift, axis)
            upper = (np.arange(mask.shape[axis]) + shift).clip(max=mask.shape[axis] - 1)
            inner &= np.take(mask, upper, axis)
    return mask & ~inner


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5))
