"""The error budget of an avatar as one figure: an example with its regions, bars by region, by band and by kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from PIL import Image

from raflib.evaluation.error_budget import ErrorBudget
from raflib.evaluation.error_splits import KINDS
from raflib.evaluation.image_regions import NAMES
from raflib.report._style import FAINT, INK, PALETTE, STYLE, as_image, method_colour, plain_axes

COLOURS = dict(
    zip(
        NAMES,
        ("#D7191C", "#FDAE61", "#2C7BB6", "#66D9EF", "#8C510A", "#E7298A", "#FFE082", "#1B9E77", "#7570B3", "#A6A61D",
         "#BBBBBB", "#7570B3", "#BBBBBB"),
        strict=True,
    )
)  # fmt: skip
"""Colour of each region."""
SPLITS = {"train": "training frames", "free": "held-out frames"}
LIGHTER = 0.45
"""Opacity of bars of training frames."""
KIND_COLOURS = dict(zip(KINDS, ("#4D4D4D", "#E69F00", "#56B4E9"), strict=True))
GAIN = 4
"""Brightness of the error images, as a multiple of the absolute error."""


def error_budget_figure(budget: ErrorBudget, path: str | Path | None = None) -> Image.Image:
    """The figure of a budget, written to `path` where one is given.

    The upper row shows the example: the true image with its regions, the avatar, and absolute errors of avatar and
    control. Below are the share of squared error and the PSNR of each region, then the bands and the kinds.
    """
    colour = method_colour(budget.method)
    regions = [name for name in NAMES if name in set(budget.regions["region"])]
    with rc_context(STYLE):
        figure = Figure(figsize=(8.6, 6.2 + 0.3 * len(regions)))
        height = 0.3 * len(regions) + 0.8
        above, middle, below = figure.subfigures(3, 1, height_ratios=[2.7, height, 2.2])
        _plot_example(above, budget)
        left, right = middle.subplots(1, 2, sharey=True)
        _plot_shares(left, budget, regions, colour)
        _plot_psnr(right, budget, regions, colour)
        _add_legend(middle, budget, colour)
        left, right = below.subplots(1, 2, width_ratios=[1.25, 1])
        _plot_bands(left, budget, colour)
        _plot_kinds(right, budget)
        below.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=len(KINDS))
        return as_image(figure, path)


def _plot_example(figure: SubFigure, budget: ErrorBudget) -> None:
    example = budget.example
    errors = [np.clip(GAIN * np.abs(image - example.true), 0, 1) for image in (example.avatar, example.control)]
    tinted = 0.55 * example.true + 0.45 * _region_colours(example.labels)
    images = {"regions": tinted, budget.method: example.avatar, f"error × {GAIN}": errors[0]}
    images[f"error of the control × {GAIN}"] = errors[1]
    for ax, (title, image) in zip(figure.subplots(1, len(images)), images.items(), strict=True):
        ax.imshow(image, interpolation="lanczos")
        ax.set_title(title, loc="left")
        ax.set_axis_off()
    figure.suptitle(f"{example.title}, camera {budget.cameras[0]}", x=0.01, ha="left", fontsize=9, color=INK)


def _region_colours(labels: np.ndarray) -> Float[np.ndarray, "H W 3"]:
    palette = np.array([[int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)] for code in COLOURS.values()])
    return palette[labels]


def _plot_shares(ax: Axes, budget: ErrorBudget, regions: list[str], colour: str) -> None:
    """Share of squared error as bars, share of pixels as a mark."""
    splits = list(budget.frames)
    for split, place in _places(splits):
        table = budget.regions[budget.regions["split"] == split].set_index("region").reindex(regions)
        alpha = LIGHTER if split == "train" else 1
        ax.barh(np.arange(len(regions)) + place, 100 * table["error"].fillna(0), 0.36, color=colour, alpha=alpha)
    pixels = budget.regions.groupby("region")["pixels"].mean().reindex(regions)
    ax.plot(100 * pixels, np.arange(len(regions)), "|", color=INK, markersize=14, markeredgewidth=1.6)
    ax.set_yticks(range(len(regions)), regions)
    ax.set_ylim(len(regions) - 0.5, -0.5)
    for i, name in enumerate(regions):
        ax.plot(-0.02, i, "s", color=COLOURS[name], transform=ax.get_yaxis_transform(), clip_on=False, markersize=6)
    ax.tick_params(axis="y", pad=10)
    ax.set_title("share of squared error and of pixels", loc="left")
    ax.set_xlabel("%")
    plain_axes(ax)


def _plot_psnr(ax: Axes, budget: ErrorBudget, regions: list[str], colour: str) -> None:
    """A line from the control's PSNR to the avatar's."""
    for split, place in _places(list(budget.frames)):
        table = budget.regions[budget.regions["split"] == split].set_index("region").reindex(regions)
        alpha, rows = LIGHTER if split == "train" else 1, np.arange(len(regions)) + place
        ax.hlines(rows, table["control_psnr"], table["psnr"], color=FAINT, linewidth=2)
        ax.scatter(table["control_psnr"], rows, s=26, color=PALETTE["control"], alpha=alpha, linewidth=0)
        ax.scatter(table["psnr"], rows, s=26, color=colour, alpha=alpha, linewidth=0)
    ax.set_title("PSNR", loc="left")
    ax.set_xlabel("dB, right is better")
    plain_axes(ax)


def _add_legend(figure: SubFigure, budget: ErrorBudget, colour: str) -> None:
    """What bars and marks of the regions are."""
    names, handles = [], []
    for split, count in budget.frames.items():
        names.append(f"{budget.method}, {SPLITS[split]} ({count})")
        handles.append(Line2D([], [], color=colour, alpha=LIGHTER if split == "train" else 1, marker="s", linestyle=""))
    names += ["control", "share of pixels"]
    handles.append(Line2D([], [], color=PALETTE["control"], marker="o", linestyle=""))
    handles.append(Line2D([], [], color=INK, marker="|", markersize=14, markeredgewidth=1.6, linestyle=""))
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))


def _plot_bands(ax: Axes, budget: ErrorBudget, colour: str) -> None:
    names = list(dict.fromkeys(budget.bands["band"]))
    for split, place in _places(list(budget.frames)):
        table = budget.bands[budget.bands["split"] == split]
        bars = ax.bar(
            np.arange(len(names)) + place, 100 * table["error"], 0.36, color=colour,
            alpha=LIGHTER if split == "train" else 1,
        )  # fmt: skip
        texts = [f"{100 * value:.0f}" if value >= 0.01 else "" for value in table["relative"]]
        ax.bar_label(bars, texts, color=INK, padding=1)
    ax.margins(y=0.15)  # room for the numbers
    ax.set_xticks(range(len(names)), names)
    ax.set_title("face crop by wavelength in pixels\n(above the bars: error in % of the true image)", loc="left")
    ax.set_ylabel("% of squared error")
    ax.tick_params(length=0)


def _plot_kinds(ax: Axes, budget: ErrorBudget) -> None:
    lines = [(split, column) for split in budget.frames for column in ("error", "control_error")]
    for i, (split, column) in enumerate(lines):
        table, start = budget.kinds[budget.kinds["split"] == split].set_index("kind")[column], 0.0
        for kind in KINDS:
            ax.barh(i, 100 * table[kind], 0.6, left=start, color=KIND_COLOURS[kind], label=kind if i == 0 else None)
            start += 100 * table[kind]
    who = {"error": budget.method, "control_error": "control"}
    texts = [f"{who[column]}, {SPLITS[split].split()[0]}" for split, column in lines]
    ax.set_yticks(range(len(lines)), texts)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.set_xlim(0, 100)
    ax.set_title("aligned face crop by kind", loc="left")
    ax.set_xlabel("% of squared error")
    plain_axes(ax)


def _places(splits: list[str]) -> list[tuple[str, float]]:
    """Where the bars of each split lie beside the middle of a group."""
    return list(zip(splits, (-0.2, 0.2), strict=False)) if len(splits) > 1 else [(splits[0], 0.0)]
