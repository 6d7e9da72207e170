"""Hair that stands off the head: locks combed over the scalp, each a tapering ribbon.

A lock starts on the skin, follows the comb direction of its cut, falls by its weight, and curls. A map of the head's
radius in every direction keeps it outside the head. Locks lie at different heights, which gives the hair its volume.
Roots are chosen on the mean head; locks grow on the person's own head (metres).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32
from scipy.ndimage import gaussian_filter, maximum_filter

from raflib.studio.atlas import smoothstep
from raflib.studio.hair import Haircut, growth
from raflib.studio.head_model import EYE_LEVEL, SKIN, head_model

CENTRE = np.array([0.0, -0.02, 0.012])  # the middle of the skull: every lock is outside as seen from here
RADII = (40, 80)  # polar and azimuthal cells of the map of the head's radius
KNOT = np.array([0.0, -0.062, 0.108])  # where tied hair meets, on the mean head
REACH = 0.118  # metres from CENTRE within which hair is kept off the skin: shoulders do not push it outwards


@dataclass(frozen=True, eq=False)
class Strands:
    """Locks as one mesh of H points.

    Attributes:
        points, normals, tangents: on the neutral head, world metres.
        triangles: corners of each triangle.
        flow: place across all locks, and share of the way from the root to the tip.
        head_share: skin weight of the head bone.
        open: ambient visibility.
        lying: whether a point lies on the skull, which hides it from the other side.
    """

    points: Float32[np.ndarray, "H 3"]
    normals: Float32[np.ndarray, "H 3"]
    tangents: Float32[np.ndarray, "H 3"]
    triangles: Int32[np.ndarray, "G 3"]
    flow: Float32[np.ndarray, "H 2"]
    head_share: Float32[np.ndarray, "H"]
    open: Float32[np.ndarray, "H"]
    lying: Bool[np.ndarray, "H"]


def grow(skin: Float32[np.ndarray, "V 3"], cut: Haircut, generator: np.random.Generator) -> Strands | None:
    """The locks of a person whose neutral points are `skin`; None for a shaved head."""
    if not cut.locks:
        return None
    roots, own, outwards = _roots(skin, cut, generator)
    length = _lengths(roots, cut, generator)
    start, comb = _combing(roots, outwards, cut, generator)
    height = cut.thickness * generator.uniform(0.25, 1.0, len(roots)) * np.clip(growth(roots, cut) / 0.02, 0.15, 1)
    line = _trace(own, start, comb, length, height, cut, radius_map(skin))
    line = line[np.argsort(-height, kind="stable")]  # outermost first, so that hidden locks need not be rasterized
    bun = _bun(skin, cut, generator, len(line) // 6) if cut.tied else line[:0]
    wound = np.arange(len(line) + len(bun)) >= len(line)
    return _ribbons(np.concatenate([line, bun]), wound, cut, generator)


def _roots(
    skin: Float32[np.ndarray, "V 3"], cut: Haircut, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "K 3"], Float[np.ndarray, "K 3"], Float[np.ndarray, "K 3"]]:
    """Evenly spread roots of hair: on the mean head, on the person, and the outward direction there."""
    model = head_model()
    corners = model.triangles[model.part == SKIN]
    middle = model.mean[corners].mean(1)
    a, b, c = (model.mean[corners[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    barred = (np.abs(middle[:, 0]) > 0.073) & (middle[:, 1] > -0.050) & (middle[:, 2] < 0.045)  # ears
    barred |= (middle[:, 1] > 0.0) & (middle[:, 2] < 0.05)  # below them, and the neck
    barred |= (np.linalg.norm(middle - CENTRE, axis=1) < 0.06) | ~model.head[corners].all(1)
    share = np.clip((growth(middle, cut) - 0.001) / 0.012, 0, 1) * ~barred * area
    edges = np.cumsum(share)
    edges /= edges[-1]
    chosen = np.searchsorted(edges, (np.arange(cut.locks) + generator.random(cut.locks)) / cut.locks)
    u, v = generator.random((2, cut.locks))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    weights = np.stack([1 - u - v, u, v], 1)[..., None]
    roots, own = (points[corners[chosen]] * weights for points in (model.mean, skin))
    roots, own = roots.sum(1), own.sum(1)
    outwards = own - CENTRE
    return roots, own, outwards / np.linalg.norm(outwards, axis=1, keepdims=True)


def _lengths(roots: np.ndarray, cut: Haircut, generator: np.random.Generator) -> np.ndarray:
    up, behind = EYE_LEVEL - roots[:, 1], roots[:, 2]
    top = smoothstep(up - cut.fade + 0.3 * np.clip(behind - 0.05, 0, 0.05), 0, 0.035)
    length = cut.sides + (cut.length - cut.sides) * top
    if cut.fringe:
        front = _front(roots)
        length = length + (cut.fringe - length) * front
    return length * generator.uniform(0.82, 1.12, len(roots))


def _front(roots: np.ndarray) -> np.ndarray:
    """1 where a fringe starts, 0 elsewhere."""
    forward = np.clip((-0.030 - roots[:, 2]) / 0.012, 0, 1)
    return forward * np.clip((0.052 - np.abs(roots[:, 0])) / 0.012, 0, 1)


def _combing(
    roots: Float[np.ndarray, "K 3"], outwards: Float[np.ndarray, "K 3"], cut: Haircut, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "K 3"], Float[np.ndarray, "K 3"]]:
    """First direction [K,3] of each lock and the direction it is combed to [K,3]."""
    count = len(roots)
    side = np.tanh((roots[:, 0] - cut.part) / 0.002)
    along = np.array(cut.comb)
    comb = np.stack([side * along[0], np.full(count, along[1]), np.full(count, along[2])], 1)
    flank = np.clip((np.abs(roots[:, 0]) - 0.055) / 0.012, 0, 1)  # hair beside the face is combed down, not across
    comb = comb * (1 - flank[:, None] * [1, 0, 0]) + flank[:, None] * np.array([0, 0.6, 0.10])
    if cut.fringe:
        front = _front(roots)[:, None]
        comb = comb * (1 - front) + front * np.stack([0.25 * side, np.full(count, 0.5), np.full(count, -0.9)], 1)
    if cut.tied:
        comb = KNOT - roots
        comb /= np.linalg.norm(comb, axis=1, keepdims=True)
    comb = comb + cut.unruly * generator.normal(size=(count, 3))
    comb -= (comb * outwards).sum(1, keepdims=True) * outwards * (1 - cut.lift)
    comb /= np.linalg.norm(comb, axis=1, keepdims=True) + 1e-6
    return cut.lift * outwards + (1 - 0.5 * cut.lift) * comb, comb


def _trace(
    own: Float[np.ndarray, "K 3"],
    start: Float[np.ndarray, "K 3"],
    comb: Float[np.ndarray, "K 3"],
    length: Float[np.ndarray, "K"],
    height: Float[np.ndarray, "K"],
    cut: Haircut,
    radii: Float[np.ndarray, "polar azimuth"],
) -> Float[np.ndarray, "K steps 3"]:
    """Centre lines of locks.

    Args:
        own: roots on the person; `start` and `comb` are the first direction and the combed one.
        length, height: metres along the lock, and off the skin.
        radii: the map of the head's radius, see `radius_map`.
    """
    if cut.tied:
        length = np.linalg.norm(KNOT - own, axis=1) * 1.22
    line = np.empty((len(own), cut.steps + 1, 3))
    line[:, 0] = place = own
    heading = start / np.linalg.norm(start, axis=1, keepdims=True)
    step = (length / cut.steps)[:, None]
    for number in range(1, cut.steps + 1):
        grip = np.clip(1.3 - step * number / 0.085, 0, 1)  # the combed direction fades along the lock, weight does not
        pull = comb * cut.hold * grip + cut.weight * (1.6 - 0.6 * grip) * np.array([0, 1.0, 0])
        if cut.tied:
            pull = KNOT - place
            pull = 3 * pull / (np.linalg.norm(pull, axis=1, keepdims=True) + 1e-3)
        heading = heading + step * 38 * pull
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        out = (place - CENTRE) / np.linalg.norm(place - CENTRE, axis=1, keepdims=True)
        above = np.clip((0.01 - place[:, 1]) / 0.04, 0, 1) * (1 - cut.lift)  # hair lies on the skull and hangs below it
        heading = heading - out * ((heading * out).sum(1) * above)[:, None]
        lift = height * min(1.0, number * length.mean() / cut.steps / 0.02)
        place = _clear_face(_outside(place + step * heading, lift, radii), cut)
        line[:, number] = place
    return line + _curls(line, cut)


def _clear_face(place: np.ndarray, cut: Haircut) -> np.ndarray:
    """Long locks part before the face: below the hairline they stay to its sides."""
    if cut.length < 0.1 or cut.fringe:
        return place
    below = smoothstep(place[:, 1], -0.078, -0.043) * np.clip((0.02 - place[:, 2]) / 0.03, 0, 1)
    side = np.where(place[:, 0] < cut.part, -1.0, 1.0)
    least = below * cut.opening
    place[:, 0] = np.where(side * place[:, 0] < least, side * least, place[:, 0])
    return place


def _curls(line: np.ndarray, cut: Haircut) -> np.ndarray:
    """Sideways displacement of waves and curls, growing from the root."""
    if not cut.curl:
        return np.zeros_like(line)
    along = np.concatenate([np.zeros((len(line), 1)), np.linalg.norm(np.diff(line, axis=1), axis=2).cumsum(1)], 1)
    tangent = np.gradient(line, axis=1)
    out = line - CENTRE
    out /= np.linalg.norm(out, axis=2, keepdims=True)
    side = np.cross(tangent, out)
    side /= np.linalg.norm(side, axis=2, keepdims=True) + 1e-9
    phase = 2 * np.pi * (along / cut.wavelength + (np.arange(len(line)) * 0.618)[:, None] * cut.disorder)
    size = cut.curl * np.clip(along / 0.02, 0, 1)
    return (size * np.sin(phase))[..., None] * side + (0.6 * size * (1 + np.cos(phase)))[..., None] * out


def _bun(skin: np.ndarray, cut: Haircut, generator: np.random.Generator, count: int) -> np.ndarray:
    """Locks wound around a ball behind the knot, as arcs of great circles."""
    centre = KNOT + np.array([0, -0.004, 0.022])
    centre[2] += skin[:, 2][head_model().head].max() - head_model().mean[head_model().head, 2].max()
    first, second = generator.normal(size=(2, count, 3))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second -= (second * first).sum(1, keepdims=True) * first
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    turn = np.linspace(0, np.pi * 0.9, cut.steps + 1)[None, :, None]
    radius = 0.030 * generator.uniform(0.92, 1.05, (count, 1, 1))
    return centre + radius * (np.cos(turn) * first[:, None] + np.sin(turn) * second[:, None])


def radius_map(skin: Float32[np.ndarray, "V 3"]) -> np.ndarray:
    """Metres from `CENTRE` to the outermost skin in every direction, a grid over (polar, azimuth) angles."""
    corners = head_model().triangles[head_model().part == SKIN]
    a, b, c = (skin[corners[:, k]].astype(np.float64) for k in range(3))
    points = np.concatenate([skin, (a + b + c) / 3, (a + b) / 2, (b + c) / 2, (c + a) / 2])
    row, column, radius = _direction(points)
    radii = np.zeros(RADII)
    np.maximum.at(radii, (row.astype(int), column.astype(int)), radius)
    wide = maximum_filter(radii, 3, mode=("nearest", "wrap"))
    radii = np.where(radii > 0, radii, wide)
    radii = np.where(radii > 0, radii, np.median(radii[radii > 0]))
    return gaussian_filter(radii, 0.7, mode=("nearest", "wrap"))


def _direction(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    offset = points - CENTRE
    radius = np.linalg.norm(offset, axis=-1)
    polar = np.arccos(np.clip(offset[..., 1] / np.maximum(radius, 1e-9), -1, 1)) / np.pi
    azimuth = np.arctan2(offset[..., 0], offset[..., 2]) / (2 * np.pi) + 0.5
    return polar * (RADII[0] - 1e-6), azimuth * (RADII[1] - 1e-6), radius


def _outside(place: np.ndarray, lift: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Points moved out along their direction to at least `lift` metres off the skin."""
    row, column, radius = _direction(place)
    row, column = row - 0.5, column - 0.5
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    fr, fc = row - top, column - left
    above, below = np.clip(top, 0, RADII[0] - 1), np.clip(top + 1, 0, RADII[0] - 1)
    left, right = left % RADII[1], (left + 1) % RADII[1]
    upper = radii[above, left] * (1 - fc) + radii[above, right] * fc
    lower = radii[below, left] * (1 - fc) + radii[below, right] * fc
    least = upper * (1 - fr) + lower * fr + lift
    return (
        CENTRE + (place - CENTRE) * np.maximum(1, np.minimum(least, REACH + lift) / np.maximum(radius, 1e-6))[:, None]
    )


def _ribbons(line: np.ndarray, wound: np.ndarray, cut: Haircut, generator: np.random.Generator) -> Strands:
    """Ribbons along the centre lines [K,S,3], some `wound` [K] in a bun.

    They are flat on the head and pointed at the tip, and their normals make them look round."""
    count, steps = line.shape[:2]
    tangent = np.gradient(line, axis=1)
    tangent /= np.linalg.norm(tangent, axis=2, keepdims=True) + 1e-9
    out = line - (CENTRE * [1, 0, 1] + line * [0, 0.55, 0] + CENTRE * [0, 0.45, 0])
    out /= np.linalg.norm(out, axis=2, keepdims=True)
    side = np.cross(tangent, out)
    side /= np.linalg.norm(side, axis=2, keepdims=True) + 1e-9
    out = np.cross(side, tangent)
    share = np.linspace(0, 1, steps)
    taper = np.minimum(1, (1.04 - share) / (1.04 - cut.blunt)) * np.minimum(1, 0.55 + 3 * share)
    half = 0.5 * cut.width * generator.uniform(0.7, 1.3, (count, 1)) * taper
    reach = np.linalg.norm(np.diff(line, axis=1), axis=2).sum(1, keepdims=True)
    half = half * np.clip(reach / 0.035, 0.5, 1)  # short hair lies in finer locks
    left, right = line - side * half[..., None], line + side * half[..., None]
    points = np.stack([left, right], 2)
    rounded = np.stack([out - 0.55 * side, out + 0.55 * side], 2)
    rounded /= np.linalg.norm(rounded, axis=3, keepdims=True)
    place = (np.arange(count) * 0.3819) % 1
    flow = np.empty((count, steps, 2, 2))
    flow[..., 0, 0] = place[:, None]
    flow[..., 1, 0] = place[:, None] + half.max(1)[:, None] * 2.4
    flow[..., 1] = share[:, None]
    index = np.arange(count * steps * 2, dtype=np.int32).reshape(count, steps, 2)
    a, b, c, d = (part.ravel() for part in (index[:, :-1, 0], index[:, :-1, 1], index[:, 1:, 1], index[:, 1:, 0]))
    flat = points.reshape(-1, 3)
    _, _, radius = _direction(line)
    close = (line[..., 1] < -0.045) & (radius < REACH) & ~wound[:, None]
    lying = np.repeat(close[..., None], 2, 2).reshape(-1)
    crown = np.clip((EYE_LEVEL + 0.02 - line[..., 1]) / 0.10 + 0.62, 0.38, 1)
    buried = np.clip(1 - 26 * (np.quantile(radius, 0.9, axis=0)[None] - radius), 0.45, 1)
    light = np.repeat((crown * (0.45 + 0.55 * buried))[..., None], 2, 2)
    return Strands(
        points=flat.astype(np.float32),
        normals=rounded.reshape(-1, 3).astype(np.float32),
        tangents=np.repeat(tangent[:, :, None], 2, 2).reshape(-1, 3).astype(np.float32),
        triangles=np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]),
        flow=flow.reshape(-1, 2).astype(np.float32),
        head_share=np.clip(1 - (flat[:, 1] - 0.07) / 0.10, 0.35, 1).astype(np.float32),
        open=light.reshape(-1).astype(np.float32),
        lying=lying,
    )
