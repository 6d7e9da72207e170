"""Masks of one view over time → how the torso has moved in the image.

People shift in their seat, lean and lift their shoulders, and the head's pose does not tell. So the part of the person
below the face is compared with a template: the median of all frames, each moved back from its place. A place is a
displacement and a rotation in the image. First, whole displacements are tried; then Gauss-Newton steps make the squared
difference least. Template and places are found in turns. Turns to the side and the distance to the camera are not
found.
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
REACH = 12
"""The farthest displacement that is looked for."""
ROUNDS = 4
"""How often the template is made. The first half of the rounds tries displacements; the others refine."""
PIVOT = np.array([31.5, 59.5])
"""What the rotation leaves in its place (x, y), before the displacement: the middle of the chest."""
STEPS = 8
"""Most Gauss-Newton steps a round."""
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
STAY = np.array([1e-3, 5e-4, 0.3])
"""What the squares of a displacement by one pixel in x, of one in y and of a rotation by one radian add to the squared
difference. Where shoulders are seen, a pixel in y changes the difference a hundred times as much. Where hair or the
image's border hides them, this keeps the torso still."""


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
    views: Sequence[View],
    side: float,
    sequence: np.ndarray,
    frame: Int[np.ndarray, "T"],
    training: Bool[np.ndarray, "T"],
) -> Float[np.ndarray, "T 6"]:
    """Motion of the torso, as `Capture.torso`, from a `torso_view` of each frame: rotation about the camera's axis, and
    displacements across it.

    The camera looks along z at the origin, which the middle of the image shows. `side` is how many metres the image
    shows across at this distance. Frames that follow each other directly in one sequence pass a median of three, as in
    `head_poses`. Motions are relative to the median over the `training` frames.
    """
    shown, seen = (np.stack(part) for part in zip(*views, strict=True))
    places = median_of_three(torso_places(shown, seen), sequence, frame)
    return rigid_motion(places - np.median(places[training], axis=0), side)


def rigid_motion(places: Float[np.ndarray, "T 3"], side: float) -> Float[np.ndarray, "T 6"]:
    """Places of `torso_places` as motions about the origin: axis-angle (radians), then translation (metres)."""
    pivot = side * ((PIVOT + 0.5) / SIDE - 0.5)
    cos, sin = np.cos(places[:, 2]), np.sin(places[:, 2])
    turned = np.stack([cos * pivot[0] - sin * pivot[1], sin * pivot[0] + cos * pivot[1]], 1)
    motion = np.zeros((len(places), 6))
    motion[:, 2] = places[:, 2]
    motion[:, 3:5] = side * places[:, :2] + pivot - turned
    return motion


def torso_places(shown: Float[np.ndarray, "T S S"], seen: Bool[np.ndarray, "T S S"]) -> Float[np.ndarray, "T 3"]:
    """Place of the torso in the frames of `torso_view`: its displacement (x, y) as shares of the image's side, and its
    rotation about `PIVOT` (radians, from x to y).

    They are relative to the template. A frame that shows too little of the torso has the place of the frame before.
    """
    shown, places = np.ascontiguousarray(shown, np.float32), np.zeros((len(shown), 3))
    for turn in range(ROUNDS):
        template, known = _template(shown[::STRIDE], seen[::STRIDE], places[::STRIDE])
        for t in tqdm(range(len(shown)), desc=f"torso, round {turn + 1} of {ROUNDS}", leave=False):
            least = max(FEWEST, float(MOST * (seen[t] & known).sum()))
            if turn < ROUNDS // 2:
                found = _tried(shown[t], seen[t], template, known, least)
            else:
                found = _refined(shown[t], seen[t], template, known, least, places[max(t - 1, 0) : t + 2])
            places[t] = places[max(t - 1, 0)] if found is None else found
    return places / [SIDE, SIDE, 1]


def _template(
    shown: Float[np.ndarray, "K S S"], seen: Bool[np.ndarray, "K S S"], places: Float[np.ndarray, "K 3"]
) -> tuple[Float[np.ndarray, "S S"], Bool[np.ndarray, "S S"]]:
    """(median over the frames in which a pixel is seen, whether it is seen often enough), frames moved back."""
    moved = np.full(shown.shape, np.nan, np.float32)
    for image, mask, place, found in zip(shown, seen, places, moved, strict=True):
        _move_back(image, mask, place, PIVOT, found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels that are never seen stay NaN
        middle = np.nanmedian(moved, axis=0)
    known = np.isfinite(moved).mean(0) >= SHARE
    return np.where(known, middle, 0).astype(np.float32), known


def _tried(shown, seen, template, known, least):
    """The whole displacement with the least difference; None where all compare fewer than `least` pixels."""
    costs = np.full((2 * REACH + 1, 2 * REACH + 1), np.inf, np.float32)
    _compare(shown, seen, template, known, least, costs)
    if not np.isfinite(costs).any():
        return None
    steps = np.arange(-REACH, REACH + 1.0) ** 2
    y, x = divmod(int((costs + STAY[0] * steps + STAY[1] * steps[:, None]).argmin()), len(costs))
    return np.array([x - REACH, y - REACH, 0.0])


def _refined(shown, seen, template, known, least, starts):
    """The place with the least difference that Gauss-Newton steps reach from one of the `starts` [n,3]; None where they
    compare fewer than `least` pixels."""
    ends = [_steps(shown, seen, template, known, least, start) for start in starts]
    cost, place = min(ends, key=lambda end: end[0])
    return place if np.isfinite(cost) else None


def _steps(shown, seen, template, known, least, place):
    """(cost, place) after Gauss-Newton steps (Levenberg-Marquardt) from `place` [3]."""
    sums, tried, damping = np.empty((4, 4)), np.empty((4, 4)), 1e-3
    count = _difference(shown, seen, template, known, place, PIVOT, sums)
    if count < least:
        return np.inf, place
    cost = sums[3, 3] / count + STAY @ place**2
    for _ in range(STEPS):
        curved = sums[:3, :3] / count + np.diag(STAY)
        slope = sums[:3, 3] / count + STAY * place
        further = place - np.linalg.solve(curved + damping * np.diag(np.diag(curved)), slope)
        compared = _difference(shown, seen, template, known, further, PIVOT, tried)
        less = cost - (tried[3, 3] / compared + STAY @ further**2) if compared >= least else -np.inf
        if less > 0:
            place, cost, count, damping = further, cost - less, compared, damping / 5
            sums, tried = tried, sums
            if less < 1e-4 * cost:
                break
        else:
            damping *= 10
    return cost, place


@njit
def _compare(shown, seen, template, known, least, costs):
    """Write the mean squared difference at displacements that compare at least `least` pixels into `costs` [2R+1,2R+1]
    (y, x)."""
    reach, side = costs.shape[0] // 2, shown.shape[0]
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
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


@njit
def _difference(shown, seen, template, known, place, pivot, sums):
    """Write JᵀJ of the difference r of the frame to the template at `place`, Jᵀr and rᵀr into `sums` [4,4], and return
    how many pixels were compared. Derivatives in J are by the place."""
    side = shown.shape[0]
    cos, sin, count = np.cos(place[2]), np.sin(place[2]), 0
    sums[:] = 0
    row = np.empty(4)
    for i in range(side):
        for j in range(side):
            if not seen[i, j]:
                continue
            x, y = j - pivot[0] - place[0], i - pivot[1] - place[1]
            x, y = cos * x + sin * y, cos * y - sin * x
            here, value, by_u, by_v = _between(template, known, pivot[0] + x, pivot[1] + y)
            if not here:
                continue
            row[0] = by_u * cos - by_v * sin
            row[1] = by_u * sin + by_v * cos
            row[2] = by_v * x - by_u * y
            row[3] = shown[i, j] - value
            for p in range(4):
                for q in range(4):
                    sums[p, q] += row[p] * row[q]
            count += 1
    return count


@njit
def _move_back(shown, seen, place, pivot, found):
    """Write what the frame shows at each pixel of the template into `found` [S,S], where it is seen."""
    side = shown.shape[0]
    cos, sin = np.cos(place[2]), np.sin(place[2])
    for i in range(side):
        for j in range(side):
            x, y = j - pivot[0], i - pivot[1]
            u = pivot[0] + place[0] + cos * x - sin * y
            here, value, _, _ = _between(shown, seen, u, pivot[1] + place[1] + sin * x + cos * y)
            if here:
                found[i, j] = value


@njit
def _between(values, mask, u, v):
    """Whether the four pixels around (u, v) are in the mask, the value between them, and its derivatives by u and v."""
    side = values.shape[0]
    u, v = min(side - 1.001, max(0.0, u)), min(side - 1.001, max(0.0, v))
    k, m = int(v), int(u)
    b, a = v - k, u - m
    here = mask[k, m] and mask[k, m + 1] and mask[k + 1, m] and mask[k + 1, m + 1]
    above = values[k, m] + a * (values[k, m + 1] - values[k, m])
    below = values[k + 1, m] + a * (values[k + 1, m + 1] - values[k + 1, m])
    by_u = (1 - b) * (values[k, m + 1] - values[k, m]) + b * (values[k + 1, m + 1] - values[k + 1, m])
    return here, above + b * (below - above), by_u, below - above
