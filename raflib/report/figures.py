"""The figures of the paper, drawn one way everywhere, and the manifest that says how each was made.

Figures are returned as pictures (a notebook shows them as they are) and written to `path` when one is given. Colours
are Okabe and Ito's, which colour-blind readers can tell apart, and a method has the same one in every figure.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from raflib.errors import RafError
from raflib.report.tables import arrow, require_columns
from raflib.runs import atomic_write, provenance, read_json, write_json

PALETTE = {
    "vanilla": "#0072B2",
    "noise": "#E69F00",
    "raf": "#009E73",
    "control": "#7F7F7F",
    "truth": "#000000",
    "driver": "#56B4E9",
}
SPARE = ("#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
_INK, _QUIET = "#222222", "#8A8A8A"
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _QUIET,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


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
    gap, font = max(4, tile // 32), _font(max(11, tile // 13))
    head = font.size + 2 * gap
    left = max((int(font.getlength(label)) for label in labels), default=0) + 2 * gap if labels else gap
    first = next(picture for row in rows for picture in row if picture is not None)
    height = round(tile * first.shape[0] / first.shape[1])
    size = (left + len(columns) * (tile + gap), head + len(rows) * (height + gap))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for c, name in enumerate(columns):
        x = left + c * (tile + gap) + tile / 2
        draw.text((x, head / 2), name, font=font, fill=_INK, anchor="mm")
    for r, row in enumerate(rows):
        y = head + r * (height + gap)
        if labels:
            draw.text((gap, y + height / 2), labels[r], font=font, fill=_INK, anchor="lm")
        for c, picture in enumerate(row):
            x = left + c * (tile + gap)
            if picture is None:
                draw.rectangle([x, y, x + tile - 1, y + height - 1], outline="#DDDDDD")
                continue
            if picture.dtype != np.uint8:
                picture = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
            sheet.paste(Image.fromarray(picture).resize((tile, height), Image.Resampling.LANCZOS), (x, y))
    return _saved(sheet, path)


def pca_figure(
    bank, queries: Float[np.ndarray, "Q d"], neighbours: Int[np.ndarray, "Q k"], path: str | Path | None = None
) -> Image.Image:
    """Figure 2: the bank in its first two principal components, queries as stars, their neighbours in their colour.

    `bank` is an `ExpressionBank` (or anything with `features` [N,d]); `neighbours` are rows of it, found in the
    original space, which is why they need not be the nearest in this plane.
    """
    features = np.asarray(bank.features, dtype=np.float64)
    centre = features.mean(0)
    _, vectors = np.linalg.eigh(np.cov(features - centre, rowvar=False))
    axes2 = vectors[:, ::-1][:, :2]
    # Signs of eigenvectors are arbitrary; the largest entry of each made positive draws the same picture everywhere.
    axes2 = axes2 * np.sign(axes2[np.abs(axes2).argmax(0), [0, 1]])
    points, stars = (features - centre) @ axes2, (np.asarray(queries) - centre) @ axes2
    share = points.var(0) / features.var(0).sum() * 100
    colours = [PALETTE["vanilla"], SPARE[0], PALETTE["raf"], PALETTE["noise"], *SPARE[1:]]
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.4, 4.6))
        ax = figure.subplots()
        ax.scatter(*points.T, s=3, color="#D9D9D9", linewidths=0, rasterized=True)
        for q, (star, near) in enumerate(zip(stars, neighbours, strict=True)):
            colour = colours[q % len(colours)]
            ax.scatter(*points[near].T, s=26, color=colour, edgecolor="white", linewidth=0.5, zorder=2)
            ax.scatter(*star, s=210, marker="*", color=colour, edgecolor="black", linewidth=0.9, zorder=3)
        ax.scatter([], [], s=90, marker="*", color="white", edgecolor="black", label="query")
        ax.scatter([], [], s=26, color=_QUIET, label=f"its {np.shape(neighbours)[1]} nearest, other people")
        ax.scatter([], [], s=10, color="#D9D9D9", label=f"bank ({len(features):,} frames)")
        ax.legend(loc="best")
        ax.set_xlabel(f"first principal component ({share[0]:.0f} % of variance)")
        ax.set_ylabel(f"second ({share[1]:.0f} %)")
        ax.set_aspect("equal", adjustable="datalim")
        return _drawn(figure, path)


def training_curves(
    logs: Mapping[str, pd.DataFrame], columns: Sequence[str] = ("l1", "psnr"), path: str | Path | None = None
) -> Image.Image:
    """Training logs (`Run.log`), a panel a column, a line a run: thin as logged, thick as running mean."""
    with rc_context(_STYLE):
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
        return _drawn(figure, path)


def differences_figure(panels: Mapping[str, pd.DataFrame], metric: str, path: str | Path | None = None) -> Image.Image:
    """Paired differences with their intervals: a panel for each of `panels`, by title, a line a method.

    Each is a table of `raflib.report.compare` that holds `metric`. Zero, the baseline, is marked. Raises RafError when
    there is no panel or one lacks the metric.
    """
    for title, table in panels.items():
        if metric not in table.columns.get_level_values(0):
            raise RafError(f"differences figure: panel {title!r} has no {metric}; compare with metrics=[{metric!r}]")
    if not panels:
        raise RafError("differences figure: no comparison was given; evaluate at least two runs first")
    names = list(dict.fromkeys(name for table in panels.values() for name in table.index))
    with rc_context(_STYLE):
        figure = Figure(figsize=(2.7 * len(panels) + 1.6, 0.3 * len(names) + 1.1))
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (title, table) in zip(axes, panels.items(), strict=True):
            values = table[metric].reindex(names)
            ax.axvline(0, color=_QUIET, linewidth=1)
            for place, (name, row) in enumerate(values.iterrows()):
                colour = PALETTE.get(str(name).split()[0], SPARE[0])
                ax.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2)
                ax.scatter(row["mean"], place, s=30, color=colour, zorder=2)
            ax.set_title(title, loc="left")
            ax.set_yticks(range(len(names)), names)
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.tick_params(length=0)
            ax.grid(axis="x", color="#EEEEEE")
            ax.set_axisbelow(True)
        figure.supxlabel(f"difference in {metric} {arrow(metric)}".rstrip(), fontsize=9)
        return _drawn(figure, path)


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


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _drawn(figure: Figure, path: str | Path | None, dpi: int = 160) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return _saved(Image.open(buffer).convert("RGB"), path)


def _saved(image: Image.Image, path: str | Path | None) -> Image.Image:
    if path is not None:
        with atomic_write(path) as temporary:
            image.save(temporary, format="PNG", optimize=True)
    return image
