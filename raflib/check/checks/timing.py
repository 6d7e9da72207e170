"""Checks of time: cameras out of step, images that do not follow their tracks, frames out of order, frozen frames."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from raflib.capture import Capture
from raflib.check.checks.calibration import names
from raflib.check.figures import MINE, curve_figure, heading, images_figure, marked, stacked
from raflib.check.problems import ERROR, WARNING, Problem, register
from raflib.check.sample import Sample, lags
from raflib.check.stillness import Moving

MOVES = 0.03
"""Motion of the landmarks in the images, over the face's size, below which images and tracks are not compared."""
BETTER, RISES = 1.06, 1.15
"""How many times as restless images must be with their own tracks, and with those both earlier and later than the best
ones, as with the best ones, for a camera to count as out of step."""
FOLLOWS, CHANCE = 0.7, 0.8
"""Unrest over that with tracks in random order: below the first, images follow their tracks; above the second, not.
Nine clips of real people and four studio captures reach 0.66 with the right tracks. Shuffled ones have at least 0.83,
and 0.77 at the best of all lags."""
RANDOM = 0.75
"""Path of the head through a sequence (squared steps over twice the variance; 1 for a random order) from which frames
count as out of order. Recordings reach 0.6 where a head is shaken at 4 frames a second."""
FROZEN = 0.02
"""Share of frames that may be equal to the frame before."""
ROWS = 12
"""Images of each sequence that are compared with their tracks."""


def _lag(shown: Moving, step: Int[np.ndarray, "K"]) -> tuple[float, Float[np.ndarray, "J"]]:
    """(frames by which images run ahead of their tracks, 0 where this is not clear; the unrest of all `lags`).

    `step` are the frames between rows; a lag below half of it is as good as 0, because tracks are interpolated.
    """
    tried = lags(step)
    curve = shown.curve(tried)
    best = int(curve.argmin())
    least, own = curve[best], curve[np.abs(tried).argmin()]
    if not 0 < best < len(curve) - 1 or abs(tried[best]) < np.median(step) / 2:
        return 0.0, curve
    rises = min(curve[:best].max(), curve[best + 1 :].max()) > RISES * least
    clear = rises and own > BETTER * least and least < FOLLOWS * shown.chance
    return (float(tried[best]) if clear else 0.0), curve


@register
def check_out_of_step(capture: Capture, sample: Sample) -> list[Problem]:
    """Cameras whose images show other moments than the tracks."""
    if sample.passage is None:
        return []
    _, rows, tracked = sample.passage
    step, told = np.diff(capture.frame[tracked]), {}
    for c in sample.trusted:
        shown = sample.moving(c, rows, tracked) if len(sample.frozen(c)) <= _few(sample) else None
        if shown is not None and shown.motion > MOVES:
            told[c] = _lag(shown, step)
    late = {c: lag for c, (lag, _) in told.items() if lag}
    groups = {lag: [c for c in late if late[c] == lag] for lag in sorted(set(late.values()))}
    found = []
    for lag, cameras in groups.items():
        way = "ahead of" if lag > 0 else "behind"
        text = (
            f"the images of {names(capture, cameras)} run {_frames(lag)} {way} the tracks; shift them, or find "
            "where frames were lost"
        )
        curves = {c: curve for c, (_, curve) in told.items()}
        figure = partial(_step_figure, text, capture, sample, cameras[0], lag, curves)
        found.append(Problem("out_of_step", ERROR, text, figure))
    return found


def _step_figure(
    text: str,
    capture: Capture,
    sample: Sample,
    c: int,
    lag: float,
    told: dict[int, Float[np.ndarray, "J"]],
) -> Image.Image:
    """Images with the landmarks of their own and of the fitting moment, above the unrest for all lags."""
    assert sample.passage is not None
    _, rows, tracked = sample.passage
    shown = sample.moving(c, rows, tracked)
    assert shown is not None
    own, other = shown.at(shown.frame), shown.at(shown.frame + lag)
    picked = np.argsort(-np.linalg.norm(own - other, axis=2).mean(1))[:3]
    images = [sample.image(int(rows[k]), c) for k in picked]
    tiles = [[marked(i, {MINE: dots[k]}) for i, k in zip(images, picked, strict=True)] for dots in (own, other)]
    heads = [heading(capture, int(rows[k]), capture.cameras[c]) for k in picked]
    after = f"{_frames(lag)}\n{'later' if lag > 0 else 'earlier'}"
    grid = images_figure(text, tiles, heads, ["landmarks of\nthis frame", after])
    curves = {f"camera {capture.cameras[c].name}": told[c]}
    if others := [curve for k, curve in told.items() if k != c]:
        curves["median of the others"] = np.median(others, 0)
    labels = "landmarks taken from so many frames later", "motion of the face\nthat is left, grey levels"
    tried = lags(np.diff(capture.frame[tracked]))
    return stacked(grid, curve_figure("", tried, curves, labels, lines={f"{lag:+.0f}": lag}))


@register
def check_pairing(capture: Capture, sample: Sample) -> list[Problem]:
    """Sequences whose images follow their tracks no better than tracks in random order."""
    camera = next((c for c in sample.front), None)
    if camera is None:
        return []
    wrong: dict[str, float] = {}
    kept: dict[str, tuple[np.ndarray, Moving]] = {}
    for name, rows, tracked in sample.passages(ROWS):
        shown = sample.moving(camera, rows, tracked)
        if shown is None or shown.motion < MOVES:
            continue
        share = shown.unrest(shown.at(shown.frame)) / shown.chance
        step = np.diff(capture.frame[tracked])
        if share > CHANCE and not _lag(shown, step)[0]:
            wrong[name], kept[name] = share, (rows, shown)
    if not wrong:
        return []
    worst = max(wrong, key=lambda name: wrong[name])
    text = (
        f"images of {_listed(wrong)} do not follow their tracks, no better than in random order; check that frames "
        "are sorted by number, not by name"
    )

    def figure() -> Image.Image:
        rows, shown = kept[worst]
        picked = np.linspace(0, len(rows) - 1, 4).round().astype(int)
        tiles = [marked(sample.image(int(rows[k]), camera), {MINE: shown.at(shown.frame)[k]}) for k in picked]
        return images_figure(text, [tiles], [heading(capture, int(rows[k]), capture.cameras[camera]) for k in picked])

    return [Problem("pairing", ERROR, text, figure)]


def path_ratio(values: Float[np.ndarray, "N d"]) -> float:
    """Squared steps from row to row over those in random order (von Neumann's ratio); 0 for a slow motion, about 1 for
    a random order. Columns are standardised, and those that do not move are left out."""
    spread = values.std(0)
    values = (values - values.mean(0))[:, spread > 1e-9] / spread[spread > 1e-9]
    count = len(values)
    steps, total = (np.diff(values, axis=0) ** 2).sum() / (count - 1), (values**2).sum() / count
    return float(steps / max(2 * total, 1e-12))


@register
def check_order(capture: Capture, sample: Sample) -> list[Problem]:
    """Sequences in which the head jumps from frame to frame as in a random order."""
    wrong = {}
    for name, _, rows in sample.passages(ROWS):
        values = np.concatenate([capture.pose[rows], capture.landmarks[rows].mean(1)], 1).astype(np.float64)
        if len(rows) >= ROWS and (ratio := path_ratio(values)) > RANDOM:
            wrong[name] = (ratio, rows)
    if not wrong:
        return []
    worst = max(wrong, key=lambda name: wrong[name][0])
    text = (
        f"in {_listed(wrong)} the head jumps from frame to frame as in a random order; sort the frames by number, not "
        "by name, unless they were picked far apart in time"
    )

    def figure() -> Image.Image:
        rows = wrong[worst][1]
        place = 1000 * capture.landmarks[rows].mean(1).astype(np.float64)
        curves = {f"{axis} in {worst}": place[:, k] - place[:, k].mean() for k, axis in enumerate("xyz")}
        return curve_figure(text, capture.frame[rows].astype(float), curves, ("frame", "middle of the landmarks, mm"))

    return [Problem("order", WARNING, text, figure)]


@register
def check_duplicates(capture: Capture, sample: Sample) -> list[Problem]:
    """Frames whose signals or images are bit for bit those of the frame before."""
    found = []
    rows = np.flatnonzero(capture.detected)
    values = np.concatenate([capture.expression, capture.pose], 1)[rows]
    same = (np.diff(values, axis=0) == 0).all(1) & (capture.sequence[rows[1:]] == capture.sequence[rows[:-1]])
    if same.sum() > max(1, FROZEN * len(rows)):
        first = int(rows[1:][same][0])
        text = (
            f"the tracks of {_frames(float(same.sum()))} are those of the frame before (first: "
            f"{capture.sequence[first]}, frame {capture.frame[first]}); remove repeated frames"
        )
        found.append(Problem("duplicates", WARNING, text))
    frozen = {c: again for c in range(len(capture.cameras)) if len(again := sample.frozen(c)) > _few(sample)}
    if frozen:
        c, again = next(iter(frozen.items()))
        text = (
            f"{sum(map(len, frozen.values()))} images of {names(capture, sorted(frozen))} are bit for bit those of the "
            "frame before; remove repeated frames, or find where the camera stopped"
        )
        found.append(Problem("duplicates", WARNING, text, partial(_frozen_figure, text, capture, sample, c, again[0])))
    return found


def _frozen_figure(text: str, capture: Capture, sample: Sample, c: int, t: int) -> Image.Image:
    """The image of row `t` beside the one before."""
    assert sample.passage is not None
    views = next([int(s), int(u)] for s, u in pairwise(sample.passage[1]) if u == t)
    heads = [heading(capture, row, capture.cameras[c]) for row in views]
    return images_figure(text, [[marked(sample.image(row, c), {}) for row in views]], heads)


def _few(sample: Sample) -> float:
    """Most repeated images of the passage that are no problem."""
    return max(1.0, FROZEN * len(sample.passage[1])) if sample.passage else 0.0


def _frames(count: float) -> str:
    return "1 frame" if abs(count) == 1 else f"{abs(count):.0f} frames"


def _listed(sequences: dict, most: int = 3) -> str:
    known = list(sequences)
    return ", ".join(known[:most]) + (f" and {len(known) - most} more sequences" if len(known) > most else "")
