"""Strips of images, training curves, differences of methods, and the manifest that records how a figure was made.

Figures are returned as images, which a notebook shows, and written to `path` when one is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image, ImageDraw, ImageFont

from raflib.errors import RafError
from raflib.images import lanczos
from raflib.reading import read_json
from raflib.reading.names import content_hash
from raflib.report._style import (
    INK,
    KINDS,
    QUIET,
    STYLE,
    as_image,
    font,
    kind_of,
    method_colour,
    plain_axes,
    saved,
    wrapped,
)
from raflib.report.tables import arrow, require_columns
from raflib.runs import provenance, write_json


def strip(
    rows: Sequence[Sequence[np.ndarray | None]],
    columns: Sequence[str],
    labels: Sequence[str] | None = None,
    path: str | Path | None = None,
    tile: int = 192,
    size: int | None = None,
) -> Image.Image:
    """A grid of images: `columns` head it (driver, truth, control, vanilla, noise, RAF, ...), `labels` name its rows.

    Images are [H,W,3], uint8 or float in [0,1], scaled to `tile` pixels wide; None leaves a place empty. A heading that
    is wider than its column continues on the next line. `size` is the height of the text in pixels (default 14 for
    the default `tile`). Raises RafError when a row has another number of images than there are columns.
    """
    for row in rows:
        if len(row) != len(columns):
            raise RafError(f"strip: a row has {len(row)} images but there are {len(columns)} columns")
    gap, face = max(4, tile // 32), font(size or max(12, tile // 13))
    heads = [wrapped(name, face, tile) for name in columns]
    more = max((name.count("\n") for name in heads), default=0)
    head = face.size + more * (face.size + gap) + 2 * gap
    left = 2 * gap + _width(labels, face) if labels else gap
    first = next(image for row in rows for image in row if image is not None)
    height = round(tile * first.shape[0] / first.shape[1])
    sheet = Image.new("RGB", (left + len(columns) * (tile + gap), head + len(rows) * (height + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for c, name in enumerate(heads):
        x = left + c * (tile + gap) + tile / 2
        draw.text((x, head / 2), name, font=face, fill=INK, anchor="mm", align="center", spacing=gap)
    for r, row in enumerate(rows):
        y = head + r * (height + gap)
        if labels:
            draw.text((gap, y + height / 2), labels[r], font=face, fill=INK, anchor="lm", spacing=gap)
        for c, image in enumerate(row):
            x = left + c * (tile + gap)
            if image is None:
                draw.rectangle([x, y, x + tile - 1, y + height - 1], outline="#DDDDDD")
                continue
            if image.dtype != np.uint8:
                image = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
            sheet.paste(Image.fromarray(lanczos(image, tile, height)), (x, y))
    return saved(sheet, path)


def joined(
    sheets: Sequence[Image.Image], path: str | Path | None = None, beside: bool = False, gap: int = 12
) -> Image.Image:
    """Several images as one, `gap` white pixels apart: below each other, or next to each other with `beside`."""
    widths, heights = zip(*(sheet.size for sheet in sheets), strict=True)
    between = gap * (len(sheets) - 1)
    whole = (sum(widths) + between, max(heights)) if beside else (max(widths), sum(heights) + between)
    image, place = Image.new("RGB", whole, "white"), 0
    for sheet in sheets:
        image.paste(sheet, (place, 0) if beside else (0, place))
        place += gap + (sheet.width if beside else sheet.height)
    return saved(image, path)


LOGGED = {"psnr": "PSNR of the step's image, dB", "l1": "L1 loss of the step's image"}
"""Titles of columns of a training log; other columns keep their names."""
UNITS = {"psnr": "dB", "deg": "degrees"}
"""Units of metrics, by a part of their tags; other metrics have no unit."""
UNRANKED = "cannot rank: the truth is not best"
"""Second line of the title of a panel whose metric does not score the true image better than every method."""
DASHES = ("-", "--", ":", "-.")
"""Line styles of methods of one kind, in order."""


def training_curves(
    logs: Mapping[str, pd.DataFrame], columns: Sequence[str] = ("l1", "psnr"), path: str | Path | None = None
) -> Image.Image:
    """Training logs (`Run.log`): a panel for each column, a line for each run, thin as logged, thick as running mean.

    A line has the colour of its method. A further method of the same kind has another line style.
    """
    kinds = [kind_of(name.split()[0]) for name in logs]
    with rc_context(STYLE):
        figure = Figure(figsize=(3.8 * len(columns), 3.3))
        axes = figure.subplots(1, len(columns), squeeze=False)[0]
        for ax, column in zip(axes, columns, strict=True):
            for i, (name, log) in enumerate(logs.items()):
                require_columns(log, ["step", column])
                colour, dashes = KINDS[kinds[i]][0], DASHES[kinds[:i].count(kinds[i]) % len(DASHES)]
                smooth = log[column].rolling(max(1, len(log) // 20), min_periods=1).mean()
                ax.plot(log["step"], log[column], color=colour, linewidth=0.7, alpha=0.3)
                ax.plot(log["step"], smooth, color=colour, linewidth=1.8, linestyle=dashes, label=name)
            ax.set_title(LOGGED.get(column, column), loc="left")
            ax.set_xlabel("training step")
            ax.grid(color="#EEEEEE")
        title = "thin: as logged; thick: running mean"
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, title=title)
        return as_image(figure, path)


def differences_figure(
    panels: Mapping[str, pd.DataFrame], metric: str, path: str | Path | None = None, columns: int = 3
) -> Image.Image:
    """Paired differences with their intervals: a panel for each of `panels`, by title, `columns` next to each other.

    Each of `panels` is a table of `raflib.report.compare` that holds `metric`. Zero is the baseline, and a line is
    named by what is compared with it. The colour is that of the method's kind. An empty mark has an interval that
    holds 0. All panels have the same axis, and one without any value says that it was not measured. A panel is grey
    where the true image does not score better than every method. Raises RafError when there is no panel or one lacks
    the metric.
    """
    for title, table in panels.items():
        if metric not in table.columns.get_level_values(0):
            raise RafError(f"differences figure: panel {title!r} has no {metric}; compare with metrics=[{metric!r}]")
    if not panels:
        raise RafError("differences figure: no comparison was given; evaluate at least two runs first")
    shown = {title: table[metric].rename(lambda name: str(name).split(" − ")[0]) for title, table in panels.items()}
    names = list(dict.fromkeys(name for values in shown.values() for name in values.index))
    names = sorted(names, key=lambda name: (list(KINDS).index(kind_of(name)), names.index(name)))
    columns, kinds = min(columns, len(panels)), [kind for kind in KINDS if kind in map(kind_of, names)]
    lines = -(-len(panels) // columns)
    with rc_context(STYLE):
        figure = Figure(
            figsize=(2.7 * columns + 1.6, lines * (0.26 * len(names) + 0.8) + 0.5 + 0.5 * len(kinds) / columns)
        )
        axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for ax, (title, values) in zip(axes, shown.items(), strict=False):
            ax.axvline(0, color=QUIET, linewidth=1)
            blind = metric in panels[title].attrs.get("unranked", ())
            for name, row in values.iterrows():
                place, colour = names.index(name), QUIET if blind else method_colour(name)
                ax.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2)
                sure = row["low"] > 0 or row["high"] < 0
                ax.scatter(row["mean"], place, s=32, facecolor=colour if sure else "white", edgecolor=colour, zorder=2)
            measured = values["mean"].notna().any()
            if not measured:
                ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", va="center", backgroundcolor="w")
            for name in _baselines(panels[title]) & set(names) if measured else ():
                beside = {"textcoords": "offset points", "xytext": (5, 0), "va": "center"}
                ax.annotate("baseline", (0, names.index(name)), color=INK, **beside)
            ax.set_title(f"{title}\n{UNRANKED}" if blind else title, loc="left", color=QUIET if blind else INK)
            ax.set_yticks(range(len(names)), names)
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.locator_params(axis="x", nbins=5)
            plain_axes(ax)
            ax.tick_params(labelbottom=True)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        handles = [Line2D([], [], color=KINDS[kind][0], linewidth=2, marker="o") for kind in kinds]
        handles.append(Line2D([], [], color=QUIET, linewidth=2, marker="o", markerfacecolor="white"))
        texts = [*(KINDS[kind][1] for kind in kinds), "the interval holds 0"]
        figure.legend(handles, texts, loc="outside lower center", ncols=columns, title=_difference(metric))
        return as_image(figure, path)


def manifest(path: str | Path, notebook: str, parameters: Mapping[str, object]) -> None:
    """Record in `manifest.json` beside the figure `path` how it was made (notebook, parameters, commit, versions).

    Entries of other figures are kept. Raises RafError when the figure or a readable manifest is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise RafError(f"{path}: no such figure; make it before it is recorded in the manifest")
    where = path.parent / "manifest.json"
    entries = read_json(where) if where.exists() else {}
    entries[path.name] = {
        "notebook": notebook,
        "parameters": dict(parameters),
        "sha256": content_hash(path),
        **provenance(),
    }
    write_json(where, entries)


def _width(labels: Sequence[str], lettering: ImageFont.FreeTypeFont) -> int:
    """The widest line of `labels`, in pixels."""
    return max((int(lettering.getlength(line)) for label in labels for line in label.split("\n")), default=0)


def _baselines(table: pd.DataFrame) -> set[str]:
    """Baselines of a comparison, as far as the names of its rows contain them."""
    return {str(name).split(" − ")[1] for name in table.index if " − " in str(name)}


def _difference(metric: str) -> str:
    """Label of the axis of a difference: the metric, its unit, and the better side."""
    unit = next((UNITS[part] for part in metric.split("/") if part in UNITS), None)
    side = {"↑": "; right of 0 is better", "↓": "; left of 0 is better", "": ""}[arrow(metric)]
    return f"difference in {metric}" + (f", {unit}" if unit else "") + side
