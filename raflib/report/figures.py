"""The figures of the paper, drawn one way everywhere, and the manifest that says how each was made.

Figures are returned as pictures (a notebook shows them as they are) and written to `path` when one is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from raflib.errors import RafError
from raflib.reading import read_json
from raflib.report._drawing import INK, PALETTE, QUIET, SPARE, STYLE, drawn, font, plain_axes, saved
from raflib.report.tables import arrow, require_columns
from raflib.runs import provenance, write_json


def strip(
    rows: Sequence[Sequence[np.ndarray | None]],
    columns: Sequence[str],
    labels: Sequence[str] | None = None,
    path: str | Path | None = None,
    tile: int = 192,
) -> Image.Image:
    """A grid of pictures: `columns` head it (driver, truth, control, vanilla, noise, RAF, ...), `labels` name its rows.

    Pictures are [H,W,3], uint8 or float in [0,1], scaled to `tile` pixels wide; None leaves a place empty.
    Raises RafError when a row has another number of pictures than there are columns.
    """
    for row in rows:
        if len(row) != len(columns):
            raise RafError(f"strip: a row has {len(row)} pictures but there are {len(columns)} columns")
    gap, face = max(4, tile // 32), font(max(11, tile // 13))
    head = face.size + 2 * gap
    left = max((int(face.getlength(label)) for label in labels), default=0) + 2 * gap if labels else gap
    first = next(picture for row in rows for picture in row if picture is not None)
    height = round(tile * first.shape[0] / first.shape[1])
    size = (left + len(columns) * (tile + gap), head + len(rows) * (height + gap))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for c, name in enumerate(columns):
        x = left + c * (tile + gap) + tile / 2
        draw.text((x, head / 2), name, font=face, fill=INK, anchor="mm")
    for r, row in enumerate(rows):
        y = head + r * (height + gap)
        if labels:
            draw.text((gap, y + height / 2), labels[r], font=face, fill=INK, anchor="lm")
        for c, picture in enumerate(row):
            x = left + c * (tile + gap)
            if picture is None:
                draw.rectangle([x, y, x + tile - 1, y + height - 1], outline="#DDDDDD")
                continue
            if picture.dtype != np.uint8:
                picture = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
            sheet.paste(Image.fromarray(picture).resize((tile, height), Image.Resampling.LANCZOS), (x, y))
    return saved(sheet, path)


def training_curves(
    logs: Mapping[str, pd.DataFrame], columns: Sequence[str] = ("l1", "psnr"), path: str | Path | None = None
) -> Image.Image:
    """Training logs (`Run.log`), a panel a column, a line a run: thin as logged, thick as running mean."""
    with rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(columns), 2.9))
        axes = figure.subplots(1, len(columns), squeeze=False)[0]
        for ax, column in zip(axes, columns, strict=True):
            for i, (name, log) in enumerate(logs.items()):
                require_columns(log, ["step", column])
                colour = PALETTE.get(name.split()[0].lower(), SPARE[i % len(SPARE)])
                smooth = log[column].rolling(max(1, len(log) // 20), min_periods=1).mean()
                ax.plot(log["step"], log[column], color=colour, linewidth=0.7, alpha=0.3)
                ax.plot(log["step"], smooth, color=colour, linewidth=1.8, label=name)
            ax.set_title(column, loc="left")
            ax.set_xlabel("step")
            ax.grid(color="#EEEEEE")
        axes[0].legend()
        return drawn(figure, path)


def differences_figure(
    panels: Mapping[str, pd.DataFrame], metric: str, path: str | Path | None = None, columns: int = 3
) -> Image.Image:
    """Paired differences with their intervals: a panel for each of `panels`, by title, `columns` beside each other.

    Each is a table of `raflib.report.compare` that holds `metric`; a line is named by what is compared with the
    baseline, and zero is the baseline. Raises RafError when there is no panel or one lacks the metric.
    """
    for title, table in panels.items():
        if metric not in table.columns.get_level_values(0):
            raise RafError(f"differences figure: panel {title!r} has no {metric}; compare with metrics=[{metric!r}]")
    if not panels:
        raise RafError("differences figure: no comparison was given; evaluate at least two runs first")
    shown = {title: table[metric].rename(lambda name: str(name).split(" − ")[0]) for title, table in panels.items()}
    names = list(dict.fromkeys(name for values in shown.values() for name in values.index))
    columns, spare = min(columns, len(panels)), [name for name in names if name not in PALETTE]
    colours = {**PALETTE, **{name: SPARE[i % len(SPARE)] for i, name in enumerate(spare)}}
    lines = -(-len(panels) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.7 * columns + 1.6, lines * (0.26 * len(names) + 0.7) + 0.3))
        axes = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
        for ax, (title, values) in zip(axes, shown.items(), strict=False):
            ax.axvline(0, color=QUIET, linewidth=1)
            for name, row in values.iterrows():
                place = names.index(name)
                ax.plot([row["low"], row["high"]], [place, place], color=colours[name], linewidth=2)
                ax.scatter(row["mean"], place, s=30, color=colours[name], zorder=2)
            ax.set_title(title, loc="left")
            ax.set_yticks(range(len(names)), names)
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.locator_params(axis="x", nbins=5)
            plain_axes(ax)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        figure.supxlabel(f"difference in {metric} {arrow(metric)}".rstrip(), fontsize=9)
        return drawn(figure, path)


def manifest(path: str | Path, notebook: str, parameters: Mapping[str, object]) -> None:
    """Note in `manifest.json` beside the figure `path` how it was made (notebook, parameters, commit, versions).

    Entries of other figures stay. Raises RafError when the figure or a readable manifest is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise RafError(f"{path}: no such figure; draw it before noting it in the manifest")
    where = path.parent / "manifest.json"
    entries = read_json(where) if where.exists() else {}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entries[path.name] = {"notebook": notebook, "parameters": dict(parameters), "sha256": digest, **provenance()}
    write_json(where, entries)
