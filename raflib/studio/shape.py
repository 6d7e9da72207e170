"""Face shapes: sampled from the head model's identity space, corrected so that lips meet and eyelids can close."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int32

from raflib.studio.atlas import smoothstep
from raflib.studio.head_model import ACTIONS, CHAIN, EYE, EYE_LEVEL, INDEX, LASHES, SKIN, head_model

SPREAD = 1.15  # standard deviation of a component; above 1, so that faces are easy to tell apart
CROWN = 0.007  # metres
SLIMMER, NECK_AXIS = 0.10, 0.030  # share of its width; metres behind the middle of the head
LIMIT = 2.1  # standard deviations at which a component is cut


def sample(
    generator: np.random.Generator, attributes: dict[str, float]
) -> tuple[Float32[np.ndarray, "V 3"], Float32[np.ndarray, "5 3"], Float32[np.ndarray, "52"]]:
    """Neutral points and neck pivots (world metres), and a factor for each action that fits it to this face."""
    model = head_model()
    values = np.array([attributes[name] for name in model.attribute_names]) - model.attribute_mean
    scores = np.clip(generator.normal(size=len(model.components)) * SPREAD, -LIMIT, LIMIT)
    offset = np.tensordot(values, model.attribute_effects, 1) + np.tensordot(scores, model.components, 1)
    offset = offset.astype(np.float32)
    points = model.mean + offset[:-CHAIN]
    # Head sizes stay within what fits the cameras' view.
    tall = np.ptp(points[model.head, 1]) / np.ptp(model.mean[model.head, 1])
    size = np.float32(np.clip(tall, 0.95, 1.04) / tall)
    wide = model.actions[INDEX["eyeWideLeft"]] + model.actions[INDEX["eyeWideRight"]]
    smile = model.actions[INDEX["mouthSmileLeft"]] + model.actions[INDEX["mouthSmileRight"]]
    # Some people's eyes are opened wider than others', and the corners of their mouths are higher.
    points = points + np.float32(generator.uniform(0.22, 0.52)) * wide + np.float32(generator.uniform(0, 0.3)) * smile
    skin = trim_lashes(close_lips(proportions(points) * size), 0.30 + 0.35 * (1 - attributes["gender"]))
    return skin, (model.pivots + offset[-CHAIN:]) * size, fit_actions(skin)


def proportions(points: Float32[np.ndarray, "V 3"]) -> Float32[np.ndarray, "V 3"]:
    """The points with a higher skull and a slimmer neck than the source's heads have; the face stays where it is.

    The skull grows by up to `CROWN` metres above the hairline. The neck narrows around its axis by the share `SLIMMER`
    between jaw and shoulders.
    """
    mean = head_model().mean
    up = EYE_LEVEL - mean[:, 1]
    grown = points.copy()
    grown[:, 1] -= CROWN * smoothstep(up, 0.060, 0.112) * head_model().head
    on_neck = (1 - head_model().weights[:, CHAIN - 1]) * smoothstep(up, -0.205, -0.155)
    axis = np.array([0, 0, NECK_AXIS], np.float32)
    narrowed = (grown - axis) * (1 - SLIMMER * on_neck[:, None]) + axis
    grown[:, ::2] = narrowed[:, ::2]
    return grown.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Mouth:
    """Where the lips touch on the mean head, and how far a correction there reaches."""

    upper: Int32[np.ndarray, "n"]  # contact points of the upper lip, sorted by x
    lower: Int32[np.ndarray, "n"]  # their partners
    points: Int32[np.ndarray, "m"]  # points that a correction moves
    share: Float32[np.ndarray, "m n"]  # signed share of each contact's gap that a point takes


@lru_cache(maxsize=1)
def mouth() -> Mouth:
    """Contacts: upper and lower lip points that nearly coincide on the mean head and part when the jaw opens."""
    model = head_model()
    value = mask_at_points("lips")
    inner = mask_at_points("mouth")
    drop = model.actions[INDEX["jawOpen"]][:, 1]
    deepest = np.quantile(model.mean[value > 0.4, 2], 0.98)
    lips = np.where((value > 0.4) | ((inner > 0.4) & (model.mean[:, 2] < deepest)))[0]
    upper, lower = lips[drop[lips] < 0.004], lips[drop[lips] > 0.012]
    distance = np.linalg.norm(model.mean[upper][:, None] - model.mean[lower][None], axis=-1)
    partner = distance.argmin(1)
    touching = distance[np.arange(len(upper)), partner] < 0.0028
    upper, lower = upper[touching], lower[partner[touching]]
    order = np.argsort(model.mean[upper, 0], kind="stable")
    upper, lower = upper[order], lower[order]
    near = np.linalg.norm(model.mean[:, None] - model.mean[upper][None], axis=-1).min(1)
    skin = np.zeros(len(model.mean), bool)
    skin[model.points_of(SKIN)] = True
    points = np.where((near < 0.022) & skin)[0]
    across = np.abs(model.mean[points, 0][:, None] - model.mean[upper, 0][None])
    weight = np.exp(-0.5 * (across / 0.0035) ** 2) + 1e-9
    weight /= weight.sum(1, keepdims=True)
    reach = np.exp(-0.5 * (near[points] / 0.009) ** 2)
    # Above the contact line points go down by half the gap, below it up; jawOpen tells the two lips apart.
    side = np.where(drop[points] > 0.35 * drop[lower].mean(), -0.5, 0.5)
    share = (weight * (reach * side)[:, None]).astype(np.float32)
    return Mouth(upper.astype(np.int32), lower.astype(np.int32), points.astype(np.int32), share)


def close_lips(skin: Float32[np.ndarray, "V 3"]) -> Float32[np.ndarray, "V 3"]:
    """Move the lips so that they touch as on the mean head; changes of identity separate or cross them."""
    model, lips = head_model(), mouth()
    closed = skin.copy()
    usual = model.mean[lips.lower, 1] - model.mean[lips.upper, 1]
    for _ in range(4):  # the reach of a point is below one, so a few passes
        gap = closed[lips.lower, 1] - closed[lips.upper, 1] - np.minimum(usual, 0.0006)
        closed[lips.points, 1] += lips.share @ gap.astype(np.float32)
    return closed


def trim_lashes(skin: Float32[np.ndarray, "V 3"], length: float) -> Float32[np.ndarray, "V 3"]:
    """Shorten the lashes to the share `length` of the head model's (a third of that below the eye)."""
    model, trimmed = head_model(), skin.copy()
    lashes = model.points_of(LASHES)
    middles, radius = model.eyes()
    own = eye_centres(skin)
    for side, sign in enumerate((-1, 1)):
        points = lashes[np.sign(model.mean[lashes, 0]) == sign]
        outwards = model.mean[points] - middles[side]
        distance = np.linalg.norm(outwards, axis=1)
        kept = np.where(outwards[:, 1] < 0.001, length, length / 3)
        factor = 1 - (1 - kept) * np.clip(distance - 1.04 * radius, 0, None) / distance
        trimmed[points] = own[side] + (skin[points] - own[side]) * factor[:, None].astype(np.float32)
    return trimmed


def fit_actions(skin: Float32[np.ndarray, "V 3"]) -> Float32[np.ndarray, "52"]:
    """Factors on the actions: blinks scale with the eye opening, mouth and jaw actions with the size of the mouth."""
    model = head_model()
    factor = np.ones(len(ACTIONS), np.float32)
    for side, sign in (("Right", -1), ("Left", 1)):
        blink = model.actions[INDEX[f"eyeBlink{side}"]]
        moved = blink[:, 1] > 0.7 * blink[:, 1].max()  # the upper lid's edge
        lower = _lower_lid(sign)
        opening = skin[lower, 1].mean() - skin[moved, 1].mean()
        usual = model.mean[lower, 1].mean() - model.mean[moved, 1].mean()
        factor[INDEX[f"eyeBlink{side}"]] = np.clip(opening / usual, 0.75, 1.6)
    return factor


def _lower_lid(sign: int) -> Int32[np.ndarray, "n"]:
    """Skin points on the edge of one lower lid: close to the eyeball, below its centre, near its middle."""
    model = head_model()
    centres, radius = model.eyes()
    centre = centres[0 if sign < 0 else 1]
    offset = model.mean[model.points_of(SKIN)] - centre
    close = (np.linalg.norm(offset, axis=1) < radius * 1.12) & (offset[:, 2] < -0.6 * radius)
    low = (offset[:, 1] > 0.002) & (offset[:, 1] < 0.006) & (np.abs(offset[:, 0]) < 0.006)
    return model.points_of(SKIN)[close & low]


def eye_centres(points: Float32[np.ndarray, "V 3"]) -> Float32[np.ndarray, "2 3"]:
    """Mean position of each eyeball (right, left) in a posed head."""
    model = head_model()
    ball = model.points_of(EYE)
    right = model.mean[ball, 0] < 0
    return np.stack([points[ball[right]].mean(0), points[ball[~right]].mean(0)])


def mask_at_points(name: str) -> Float32[np.ndarray, "V"]:
    """A painted region's strength in [0,1] at every point of the skin."""
    model = head_model()
    skin = model.part == SKIN
    place = np.zeros((len(model.mean), 2), np.float32)
    place[model.triangles[skin].ravel()] = model.uv[model.uv_triangles[skin].ravel()]
    mask = model.masks[name]
    rows = np.clip(place[:, 1].astype(int), 0, mask.shape[0] - 1)
    columns = np.clip(place[:, 0].astype(int), 0, mask.shape[1] - 1)
    return mask[rows, columns].astype(np.float32) / 255
