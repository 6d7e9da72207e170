"""Masks of one view over time → how far the torso has moved in the image.

People shift in their seat and lift their shoulders, and the head's pose does not tell. So the part of the person below
the face is compared with a template: the median of all frames, each moved to its place. The displacement with the least
squared difference is its place, and template and places are found in turns. Only displacements in the image are found;
turns and the distance to the camera are not.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from tqdm import tqdm

from raflib.images import lanczos
from raflib.render.compiled import njit
from raflib.tracking.head_pose import median_of_three

View = tuple[Float[np.ndarray, "S S"], Bool[np.ndarray, "S S"]]

SIDE = 64
"""Pixels a side of the images that are compared. Lengths below are in such pixels."""
REACH, CLOSE = 12, 3
"""The farthest displacement that is looked for, and the farthest from the last place once the template is sharp."""
ROUNDS = 4
"""How often the template is made; the first half of the rounds look everywhere."""
STRIDE = 5
"""Every so many frames make the template."""
SHARE = 0.1
"""Least share of the frames in which a pixel of the template is seen."""
FEWEST, MOST = 40, 0.7
"""Least number of compared pixels, and their least share of those without a displacement: one that compares little but
empty room would always fit. Frames with fewer pixels stay where the torso was before."""
BESIDE, LOWER = 0.5, 0.25
"""Beside the neck, the torso begins so many face widths from the middle, and this share of the face above the chin."""
BELOW = 0.15
"""Under the face, it begins this share of the face below the chin: the neck goes with the head."""
STAY = np.array([1e-3, 5e-4])
"""What a displacement by one pixel adds to the squared difference, in x and in y. Where shoulders are seen, a pixel in
y changes the difference a hundred times as much. Where hair or the image's border hides them, this keeps the torso
still."""


def torso_view(
    image: UInt8[np.ndarray, "H W 3"], alpha: UInt8[np.ndarray, "H W"], points: Float[np.ndarray, "L 2"]
) -> View:
    """(what is compared, where it may show the torso) of a square image with the face at the landmarks `points`.

    What is compared is the alpha, up to half as much again where the person is bright.
    """
    (left, top), (right, chin) = points.min(0), points.max(0)
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) * len(alpha) / SIDE
    aside = np.abs(x - points[:, 0].mean()) > BESIDE * (right - left)
    seen = (y > chin + BELOW * (chin - top)) | (aside & (y > chin - LOWER * (chin - top)))
    bright = image.mean(-1).astype(np.uint8)
    small = lanczos(np.dstack([alpha, bright, bright]), SIDE, SIDE) / np.float32(255)
    return small[..., 0] * (1 + small[..., 1] / 2), seen


def torso_motion(
    views: Sequence[View], side: float, sequence: np.ndarray, frame: Int[np.ndarray, "T"]
) -> Float[np.ndarray, "T 3"]:
    """Displacements of the torso in the camera's axes (metres), zero in depth, from a `torso_view` of each frame.

    `side` is how many metres an image shows across at the torso's distance. Frames that follow each other directly in
    one sequence pass a median of three, as in `head_poses`.
    """
    shown, seen = (np.stack(part) for part in zip(*views, strict=True))
    moved = side * median_of_three(torso_places(shown, seen), sequence, frame)
    return np.pad(moved, ((0, 0), (0, 1)))


def torso_places(shown: Float[np.ndarray, "T S S"], seen: Bool[np.ndarray, "T S S"]) -> Float[np.ndarray, "T 2"]:
    """Displacements (x, y) of the torso in the frames of `torso_view`, as shares of the image's side.

    They are relative to the template. A frame that shows too little of the torso has the place of the frame before.
    """
    places = np.zeros((len(shown), 2))
    costs = np.empty((2 * REACH + 1, 2 * REACH + 1), np.float32)
    for turn in range(ROUNDS):
        template, known = _template(shown[::STRIDE], seen[::STRIDE], np.rint(places[::STRIDE]).astype(int))
        near = REACH if turn < ROUNDS // 2 else CLOSE
        for t in tqdm(range(len(shown)), desc=f"torso, round {turn + 1} of {ROUNDS}", leave=False):
            x, y = np.rint(places[t]).astype(int)
            least = max(FEWEST, float(MOST * (seen[t] & known).sum()))
            costs.fill(np.inf)
            _compare(shown[t], seen[t], template, known, x, y, near, least, costs)
            places[t] = _lowest(costs, places[t - 1] if t else np.zeros(2))
    return places / SIDE


def _template(
    shown: Float[np.ndarray, "K S S"], seen: Bool[np.ndarray, "K S S"], places: np.ndarray
) -> tuple[Float[np.ndarray, "S S"], Bool[np.ndarray, "S S"]]:
    """(median over the frames in which a pixel is seen, whether it is seen often enough), frames moved back."""
    rows = np.arange(shown.shape[1])
    moved = np.full(shown.shape, np.nan, np.float32)
    for k, (x, y) in enumerate(places):
        line, column = (np.clip(rows + step, 0, len(rows) - 1) for step in (y, x))
        moved[k] = np.where(seen[k], shown[k], np.nan)[np.ix_(line, column)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels that are never seen stay NaN
        middle = np.nanmedian(moved, axis=0)
    known = np.isfinite(moved).mean(0) >= SHARE
    return np.where(known, middle, 0).astype(np.float32), known


@njit
def _compare(shown, seen, template, known, x, y, near, least, costs):
    """Write the mean squared difference at displacements within `near` of (x, y) that compare at least `least` pixels
    into `costs` [2R+1,2R+1] (y, x)."""
    reach, side = costs.shape[0] // 2, shown.shape[0]
    for down in range(max(-reach, y - near), min(reach, y + near) + 1):
        for right in range(max(-reach, x - near), min(reach, x + near) + 1):
            total, count = 0.0, 0
            for i in range(side):
                k = min(side - 1, max(0, i - down))
                for j in range(side):
                    m = min(side - 1, max(0, j - right))
                    if seen[i, j] and known[k, m]:
                        total += (shown[i, j] - template[k, m]) ** 2
                        count += 1
            if count >= least:
                costs[down + reach, right + reach] = total / count


def _lowest(costs: Float[np.ndarray, "D D"], before: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
    """The displacement (x, y) of the lowest cost, to a part of a pixel; `before` where nothing was compared."""
    if not np.isfinite(costs).any():
        return before
    steps = np.arange(-REACH, REACH + 1.0) ** 2
    total = costs + STAY[0] * steps + STAY[1] * steps[:, None]
    y, x = divmod(int(total.argmin()), len(total))
    return np.array([_between(total[y], x), _between(total[:, x], y)]) - REACH


def _between(costs: Float[np.ndarray, "D"], lowest: int) -> float:
    """The lowest point of the parabola through the lowest cost and its two neighbours, where all are known."""
    around = costs[max(lowest - 1, 0) : lowest + 2]
    if len(around) < 3 or not np.isfinite(around).all():
        return float(lowest)
    curved = around[0] - 2 * around[1] + around[2]
    return float(lowest) if curved <= 0 else float(lowest + (around[0] - around[2]) / (2 * curved))
