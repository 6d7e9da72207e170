"""First Gaussians of an avatar: from the visual hull of its masks, or its tracked landmarks' surface.

With several calibrated views, points are sampled in a box around the tracked head and kept where (almost) every mask of
frames near the median pose covers them. The shell nearest to the outside is the surface of the head as far as
silhouettes show it. A share of the points (`face_share`) lies on the surface that the
tracked landmarks span instead, densest where landmarks are: around eyes and mouth, which silhouettes do not show.

With one view there is no such hull: points are sampled on the surface spanned by the tracked landmarks, on an ellipsoid
that closes the skull behind it and on a slab for the body, as far as masks cover them. Both ways add points inside the
mouth (Xu et al. 2024: a box around the lips, 1.6 × their extent). Nothing here reads truth.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial import Delaunay, cKDTree
from torch import Tensor

from raflib.avatar.canonical import Canonical
from raflib.capture import Capture
from raflib.config import AvatarConfig
from raflib.errors import RafError
from raflib.geometry import Camera, axis_angle_to_matrix

NEIGHBOURS = 3
"""The first size of a Gaussian is its distance to so many others."""
HULL_FRAMES = 12
HULL_AGREEMENT = 0.95
HULL_SAMPLES_A_POINT = 12
COARSE_SAMPLES = 10_000
SHELL_SHARE = 0.4
FACE_REACH, FACE_DEPTH = 0.15, 0.015
"""Canonical units: how far the hull stays from landmarks with points of their own, and how far those scatter."""

MASK_ROUNDS = 10
"""How often points of skull and body that no mask covers are sampled again, with one view."""
BELOW_CHIN, FOLLOWS = 0.3, (4.0, -2.0)
"""How far below the chin (dm) the head ends; logits of following it: sigmoid 0.98 for the head, 0.12 for the body."""


def initialise(capture: Capture, config: AvatarConfig, cameras: list[int], seed: int = 0) -> Canonical:
    """Canonical Gaussians for `capture` from the training frames and the given cameras (indices).

    Raises RafError when the capture has no training frame or its masks leave no hull, and for numbers of Gaussians that
    cannot be trained.
    """
    if config.points <= NEIGHBOURS:
        raise RafError(
            f"AvatarConfig.points is {config.points}, expected at least {NEIGHBOURS + 1} to train: the first size of a "
            f"Gaussian is its distance to {NEIGHBOURS} others"
        )
    if config.mouth_points > config.points:
        raise RafError(
            f"AvatarConfig.mouth_points is {config.mouth_points}, expected at most points, {config.points}; lower it, "
            "or take more points"
        )
    rng = np.random.default_rng([seed, 11])
    train = np.flatnonzero(capture.train)
    if not len(train):
        raise RafError(f"capture {capture.subject}: no training frame with a face; nothing to build an avatar from")
    rows = median_frames(capture, train)
    neutral = capture.neutral
    if len(cameras) >= 3:
        points, colours = _visual_hull(capture, rows, cameras, config, rng)
    else:
        points, colours = _landmark_surface(capture, rows, cameras, config.points - config.mouth_points, rng)
    lips = neutral[list(capture.groups["lips"])]
    centre, extent = lips.mean(0), 1.6 * (lips.max(0) - lips.min(0)).max()
    mouth = centre + rng.uniform(-0.5, 0.5, (config.mouth_points, 3)) * extent
    # the face looks towards −z: from the innermost lip landmark inwards
    mouth[:, 2] = lips[:, 2].max() + rng.uniform(0, 0.5, config.mouth_points) * extent
    xyz = np.concatenate([points, mouth])
    colour = np.concatenate([colours, np.tile([0.35, 0.16, 0.15], (len(mouth), 1))])
    spacing = cKDTree(xyz).query(xyz, NEIGHBOURS + 1)[0][:, 1:]
    log_scale = 0.5 * np.log(np.maximum((spacing**2).mean(1), 1e-8)) + np.log(config.initial_spread)
    follows_head = np.where(xyz[:, 1] < neutral[:, 1].max() + BELOW_CHIN, *FOLLOWS)
    features = _fourier_features(xyz, config.feature_dim, rng)
    pad = config.colour_channels - 3
    expression = capture.expression[train].astype(np.float64)
    distance = np.sqrt(np.square(expression - expression.mean(0)).sum(1).mean())
    return Canonical(
        xyz=_f32(xyz),
        feature=_f32(features),
        log_scale=_f32(log_scale)[:, None].repeat(1, 3),
        colour=_f32(np.pad(colour, ((0, 0), (0, pad)), constant_values=0.5)),
        follow_logit=_f32(follows_head)[:, None],
        landmarks=_f32(neutral[list(capture.groups["blend"])]),
        expression_mean=_f32(capture.expression[train].mean(0)),
        expression_rms=_f32(distance if distance > 0 else np.float64(1)),  # 0: no frame differs from the mean
        median_pose=_f32(np.median(capture.pose[train], axis=0)),
        median_scale=_f32(np.median(capture.scale[train])),
    )


def _f32(values: Float[np.ndarray, "..."] | np.floating) -> Float[Tensor, "..."]:
    return (
        torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        if np.ndim(values)
        else torch.tensor(float(values), dtype=torch.float32)
    )


def _fourier_features(xyz: Float[np.ndarray, "N 3"], width: int, rng: np.random.Generator) -> Float[np.ndarray, "N f"]:
    """Random Fourier features of position: neighbours start alike, so that the MLPs start smooth over the face."""
    phase = xyz @ rng.normal(0.0, 1.2, (3, (width + 1) // 2))
    return 0.7 * np.concatenate([np.sin(phase), np.cos(phase)], 1)[:, :width]


def median_frames(capture: Capture, train: Int[np.ndarray, "F"]) -> list[int]:
    """The training frames whose head pose is nearest to the median pose (rotation in radians, translation in dm)."""
    pose = capture.pose[train] * [1, 1, 1, 10, 10, 10]
    distance = np.linalg.norm(pose - np.median(pose, axis=0), axis=1)
    return train[np.argsort(distance, kind="stable")[:HULL_FRAMES]].tolist()


def _to_world(points: Float[np.ndarray, "N 3"], capture: Capture, t: int) -> Float[np.ndarray, "N 3"]:
    rotation = axis_angle_to_matrix(torch.from_numpy(capture.pose[t, :3].astype(np.float64))).numpy()
    return capture.scale[t] * points @ rotation.T + capture.pose[t, 3:]


def _sample(
    image: UInt8[np.ndarray, "H W *c"], pixels: Float[np.ndarray, "N 2"]
) -> tuple[Bool[np.ndarray, "N"], UInt8[np.ndarray, "N *c"]]:
    """(inside the image?, its value at the nearest pixel) for pixel coordinates [N,2]."""
    height, width = image.shape[:2]
    with np.errstate(invalid="ignore"):
        index = np.floor(np.nan_to_num(pixels, nan=-1.0)).astype(int)
    inside = (index >= 0).all(1) & (index[:, 0] < width) & (index[:, 1] < height)
    index = np.where(inside[:, None], index, 0)
    return inside, image[index[:, 1], index[:, 0]]


def hull_box(
    capture: Capture, rows: list[int], cameras: list[int], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """(lowest, highest corner) of a box around what the masks of the frames `rows` agree on, canonical units."""
    neutral = capture.neutral
    centre, half = (neutral.max(0) + neutral.min(0)) / 2, (neutral.max(0) - neutral.min(0)).max()
    low = centre - half * np.array([1.15, 1.3, 0.9])
    high = centre + half * np.array([1.15, 1.3, 1.6])  # the skull reaches back along +z
    coarse = rng.uniform(low, high, (COARSE_SAMPLES, 3))
    found = coarse[carve(capture, rows, cameras, coarse)[0]]
    if not len(found):
        return low, high
    margin = 0.05 * half
    return found.min(0) - margin, found.max(0) + margin


def _visual_hull(
    capture: Capture, rows: list[int], cameras: list[int], config: AvatarConfig, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """(points [count,3], colours [count,3]) on the shell of the masks' hull."""
    neutral, count = capture.neutral, config.points - config.mouth_points
    low, high = hull_box(capture, rows, cameras, rng)
    points = rng.uniform(low, high, (HULL_SAMPLES_A_POINT * count, 3))
    kept, colours = carve(capture, rows, cameras, points)
    face_count = int(config.face_share * count)
    kept &= (face_count == 0) | (cKDTree(neutral).query(points)[0] > FACE_REACH)
    count -= face_count
    if kept.sum() < count:
        raise RafError(
            f"capture {capture.subject}: its masks agree on only {int(kept.sum())} of {len(points)} points, {count} "
            "are needed; check the masks and the calibration"
        )
    depth = cKDTree(points[~kept]).query(points[kept])[0]
    hull = np.flatnonzero(kept)
    shell = hull[np.argsort(depth, kind="stable")[: max(count, int(SHELL_SHARE * len(hull)))]]
    chosen = rng.choice(shell, count, replace=False)
    if not face_count:
        return points[chosen], colours[chosen]
    half = face_count // 2
    parts = on_face(neutral, half, rng, even=True), on_face(neutral, face_count - half, rng, even=False)
    face = np.concatenate(parts)
    face += rng.normal(0, FACE_DEPTH, face.shape)
    face_colours = carve(capture, rows, cameras, face)[1]
    return np.concatenate([points[chosen], face]), np.concatenate([colours[chosen], face_colours])


def on_face(
    neutral: Float[np.ndarray, "L 3"], count: int, rng: np.random.Generator, even: bool
) -> Float[np.ndarray, "N 3"]:
    """Points on the surface spanned by the landmarks: spread evenly, or as many on each triangle, so that they are
    densest where landmarks are."""
    triangles = Delaunay(neutral[:, :2]).simplices
    corners = neutral[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    share = area if even else np.ones(len(area))
    chosen = rng.choice(len(triangles), count, p=share / share.sum())
    return np.einsum("nk,nkd->nd", rng.dirichlet([1, 1, 1], count), corners[chosen])


def carve(
    capture: Capture,
    rows: list[int],
    cameras: list[int],
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"] | None = None,
) -> tuple[Bool[np.ndarray, "N"], Float[np.ndarray, "N 3"]]:
    """(inside almost every mask? [N], mean colour over the views that see the point in the mask [N,3]).

    With outward unit `normals` [N,3] (canonical), views count by how squarely they see the surface, from behind not.
    """
    seen, inside = np.zeros(len(points)), np.zeros(len(points))
    total, weight = np.zeros((len(points), 3)), np.zeros(len(points))
    for t in rows:
        world = _to_world(points, capture, t)
        outward = None if normals is None else _to_world(points + normals, capture, t) - world
        for c in cameras:
            pixels = capture.cameras[c].project(world)
            visible, alpha = _sample(capture.mask(t, c), pixels)
            _, colour = _sample(capture.image(t, c), pixels)
            person = visible & (alpha > 100)
            seen += visible
            inside += person
            share = person * (1.0 if outward is None else _facing(world, outward, capture.cameras[c]))
            weight += share
            total += share[:, None] * colour / 255.0
    kept = (seen > 0.3 * len(rows) * len(cameras)) & (inside >= HULL_AGREEMENT * seen)
    return kept, total / np.where(weight > 0, weight, 1)[:, None]


def _facing(
    world: Float[np.ndarray, "N 3"], outward: Float[np.ndarray, "N 3"], camera: Camera
) -> Float[np.ndarray, "N"]:
    """Squared cosine between normal and viewing direction; zero (almost) from behind."""
    towards = camera.centre - world
    along = np.linalg.norm(towards, axis=1) * np.linalg.norm(outward, axis=1)
    return np.clip((towards * outward).sum(1) / np.maximum(along, 1e-12), 1e-3, 1) ** 2


def skull_and_body(capture: Capture) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(centre, radii of the skull's ellipsoid, lowest, highest corner of the body's slab) as landmarks suggest them."""
    neutral = capture.neutral
    rigid = neutral[list(capture.groups["rigid"])].mean(0)
    width = neutral[:, 0].max() - neutral[:, 0].min()
    centre = np.array([rigid[0], rigid[1] - 0.05 * width, neutral[:, 2].max() - 0.1 * width])
    body = np.array([rigid[0], neutral[:, 1].max(), neutral[:, 2].min()])
    low, high = np.array([-1.2, 0.0, 0.2]), np.array([1.2, 0.9, 0.9])
    return centre, width * np.array([0.58, 0.75, 0.75]), body + low * width, body + high * width


def _landmark_surface(
    capture: Capture, rows: list[int], cameras: list[int], count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """(points [count,3], colours [count,3]): face surface, skull ellipsoid and a slab for neck and shoulders."""
    neutral = capture.neutral
    face_count, skull_count = int(0.5 * count), int(0.3 * count)
    face = on_face(neutral, face_count, rng, even=True)
    centre, radius, low, high = skull_and_body(capture)
    skull = _on_ellipsoid(centre, radius, skull_count, rng)
    body = rng.uniform(low, high, (count - face_count - skull_count, 3))
    for _ in range(MASK_ROUNDS):
        off_skull, off_body = (_off_the_masks(capture, rows, cameras, points) for points in (skull, body))
        skull[off_skull] = _on_ellipsoid(centre, radius, int(off_skull.sum()), rng)
        body[off_body] = rng.uniform(low, high, (int(off_body.sum()), 3))
    points = np.concatenate([face, skull, body])
    total, seen = np.zeros((count, 3)), np.zeros(count)
    for colour, _, person in _samples(capture, rows, cameras, points):
        total += np.where(person[:, None], colour / 255.0, 0)
        seen += person
    return points, np.where(seen[:, None] > 0, total / np.maximum(seen, 1)[:, None], 0.5)


def _on_ellipsoid(
    centre: Float[np.ndarray, "3"], radius: Float[np.ndarray, "3"], count: int, rng: np.random.Generator
) -> Float[np.ndarray, "N 3"]:
    """Points on the half of an ellipsoid that is behind its centre."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 2] = np.abs(direction[:, 2])
    return centre + direction * radius


def _samples(
    capture: Capture, rows: list[int], cameras: list[int], points: Float[np.ndarray, "N 3"]
) -> Iterator[tuple[UInt8[np.ndarray, "N 3"], Bool[np.ndarray, "N"], Bool[np.ndarray, "N"]]]:
    """(colour, inside the image?, on the person?) of the points in each view of each frame."""
    for t in rows:
        world = _to_world(points, capture, t)
        for c in cameras:
            pixels = capture.cameras[c].project(world)
            visible, colour = _sample(capture.image(t, c), pixels)
            _, alpha = _sample(capture.mask(t, c), pixels)
            yield colour, visible, visible & (alpha > 100)


def _off_the_masks(
    capture: Capture, rows: list[int], cameras: list[int], points: Float[np.ndarray, "N 3"]
) -> Bool[np.ndarray, "N"]:
    """Which points are on the person in less than half of the views that show their place."""
    seen, inside = np.zeros(len(points)), np.zeros(len(points))
    for _, visible, person in _samples(capture, rows, cameras, points):
        seen += visible
        inside += person
    return inside < 0.5 * seen
