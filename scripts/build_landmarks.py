"""Find where the face tracker's 478 landmarks lie on the studio's head; writes `data/landmarks.npz`.

    python scripts/build_landmarks.py

Several people of the studio show a neutral face and a few expressions, turned a little, before the cameras that
captures are tracked with. Each moment is tracked and triangulated, which gives a path of every landmark over all people
and expressions; the mesh knows the path of each of its points. A landmark is bound to the point of a triangle whose
path is nearest to its own (robustly: distances beyond `REACH` count no more), so that lips and lids are told apart by
how they move even where they touch. The result is then made symmetric: a landmark and its mirror image are bound to
mirrored places. About two minutes.
"""

from __future__ import annotations

import argparse
import re

import numpy as np
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from raflib import runs, studio
from raflib.sources._studio_recipe import TRACKING_CAMERAS
from raflib.sources.studio import FRONTAL
from raflib.studio.head_model import ACTIONS, EYE, INDEX, SKIN, head_model
from raflib.studio.true_landmarks import SHIPPED
from raflib.tracking import FaceTracker, track_views
from raflib.tracking.landmarks import COUNT, MESH_COUNT

SHOWN = (
    {}, {"jawOpen": 0.6}, {"mouthSmile": 0.9}, {"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.6},
    {"eyeBlink": 1.0}, {"mouthPucker": 0.9}, {"browDown": 0.8, "noseSneer": 0.7}, {"jawOpen": 0.35, "mouthFunnel": 0.8},
    {"mouthUpperUp": 0.8, "mouthLowerDown": 0.8},
)  # fmt: skip
"""Expressions that tell neighbouring parts apart; sides are shown together."""
ANGLES = ((0, 0, 0), (14, 0, 0), (-14, 0, 0), (0, 9, 0), (0, -9, 3))
REACH = 0.006
"""Metres at which a tracked landmark counts as lost in one moment."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=48)
    arguments = parser.parse_args()
    seen, points = watch([f"L{number:03d}" for number in range(1, arguments.people + 1)])
    corners, shares = bind(seen, points)
    corners, shares = symmetric(corners, shares)
    found = np.einsum("lc,slcd->sld", shares, points[:, corners])
    offset = np.linalg.norm(seen - found, axis=2) * 1000
    print(f"tracked to bound landmarks, mm: median {np.median(offset):.2f}, 95 % {np.quantile(offset, 0.95):.2f}")
    arrays = {"corners": corners.astype(np.uint16), "shares": shares.astype(np.float32)}
    path = runs.data_root() / SHIPPED
    with runs.atomic_write(path) as temporary:
        np.savez_compressed(temporary, **arrays, points=len(head_model().mean))
    print(f"{path}: {path.stat().st_size} bytes")


def watch(people: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Tracked landmarks [S,478,3] and mesh points [S,V,3] of all moments in which the views agree (world metres)."""
    cameras = [camera for camera in studio.rig(256) if camera.name in TRACKING_CAMERAS]
    frontal = [camera.name for camera in cameras].index(FRONTAL)
    seen, points = [], []
    with FaceTracker() as tracker:
        for number, subject in enumerate(tqdm(people, desc="people", unit="person")):
            person = studio.Identity(subject)
            for moment, shown in enumerate(SHOWN):
                actions = np.zeros(len(ACTIONS), np.float32)
                for name, value in shown.items():
                    actions[[INDEX[form] for form in (name, name + "Left", name + "Right") if form in INDEX]] = value
                angles = np.array(ANGLES[(number + moment) % len(ANGLES)], np.float64)
                images = [studio.render(person, actions, angles, camera)[0] for camera in cameras]
                sighting = track_views(images, cameras, tracker, frontal)
                if sighting is not None:
                    seen.append(sighting.landmarks)
                    points.append(studio.vertices(person, actions, angles))
    return np.array(seen, np.float32), np.array(points, np.float32)


def bind(seen: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corner points [L,3] and their shares [L,3] for landmark paths [S,L,3] over mesh paths [S,V,3]."""
    model = head_model()
    corners, shares = np.zeros((seen.shape[1], 3), int), np.zeros((seen.shape[1], 3))
    for landmark in tqdm(range(seen.shape[1]), desc="landmarks", unit="landmark"):
        part = SKIN if landmark < MESH_COUNT else EYE
        triangles = model.triangles[model.part == part]
        target = seen[:, landmark]
        near = np.unique(triangles)
        near = near[np.linalg.norm(points[:, near].mean(0) - target.mean(0), axis=1) < 0.02]
        distance = np.linalg.norm(points[:, near] - target[:, None], axis=2)
        best = near[np.argsort(np.minimum(distance, REACH).mean(0) + 0.01 * distance.mean(0))[:6]]
        around = triangles[np.isin(triangles, best).any(1)]
        fits = [nearest_on(points[:, triangle].astype(np.float64), target) for triangle in around]
        chosen = int(np.argmin([cost for _, cost in fits]))
        corners[landmark], shares[landmark] = around[chosen], fits[chosen][0]
    return corners, shares


def nearest_on(corners: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Shares [3] of the corners [S,3,3] (moment, corner, axis) whose point follows `target` [S,3] best; its cost."""
    weights = np.ones(len(target))
    for _ in range(4):
        weighted = weights[:, None, None] * corners
        shares = nearest_in_triangle(*weighted.transpose(1, 0, 2), weights[:, None] * target)
        distance = np.linalg.norm(np.einsum("c,scd->sd", shares, corners) - target, axis=1)
        weights = np.sqrt(1 / (1 + (distance / REACH) ** 2))
    return shares, float((distance**2 / (distance**2 + REACH**2)).mean())


def nearest_in_triangle(a: np.ndarray, b: np.ndarray, c: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Shares of the point of triangle abc nearest to `target`, in a space of any dimension."""
    a, b, c, target = (np.ravel(point) for point in (a, b, c, target))
    edges = np.stack([b - a, c - a], 1)
    inner = np.linalg.lstsq(edges, target - a, rcond=None)[0]
    shares = np.array([1 - inner.sum(), *inner])
    if (shares >= 0).all():
        return shares
    options = []
    for start, end in ((0, 1), (1, 2), (2, 0)):
        here, there = (a, b, c)[start], (a, b, c)[end]
        along = np.clip((target - here) @ (there - here) / max((there - here) @ (there - here), 1e-20), 0, 1)
        option = np.zeros(3)
        option[start], option[end] = 1 - along, along
        options.append((np.linalg.norm(here + along * (there - here) - target), option))
    return min(options, key=lambda pair: pair[0])[1]


def symmetric(corners: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same binding, averaged with its mirror image on the mean head and on every action."""
    model = head_model()
    other = {"Left": "Right", "Right": "Left"}
    sides = [re.sub("(Left|Right)$", lambda side: other[side[0]], name) for name in ACTIONS]
    order = [0, *(1 + INDEX[name] for name in sides)]
    points = np.concatenate([model.mean[None], model.mean + model.actions])
    path = np.einsum("lc,slcd->sld", shares, points[:, corners])
    flipped = path[order] * np.array([-1, 1, 1])
    cost = np.linalg.norm(path.mean(0)[:, None] - flipped.mean(0), axis=2)
    cost[:MESH_COUNT, MESH_COUNT:] = cost[MESH_COUNT:, :MESH_COUNT] = 1.0  # a landmark of the mesh is no iris
    mirror = linear_sum_assignment(cost)[1]
    assert (mirror[mirror] == np.arange(COUNT)).all(), "landmarks do not pair up"
    return bind((path + flipped[:, mirror]) / 2, points)


if __name__ == "__main__":
    main()
