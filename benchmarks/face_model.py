"""How well the open linear face model recovers faces of the studio: landmarks in millimetres, actions by correlation.

Six people who had no part in the model are filmed by four cameras at 256², four frames of every sequence, and tracked.
Their recordings are fitted in several ways; `exact` is a control that fits the projections of the true landmarks. The
fitted expression becomes actions by a ridge regression learned on other people fitted the same way; it is judged by the
correlation with the true actions within each person, over the actions the face can express in that recording: those
that move landmarks by more than a millimetre (RMS, fully shown) and vary by more than `VARIES` (deviation).
`scores` are the tracker's own 52, put through the same regression. Beside that, the first `LARGE` coefficients of each
way are correlated with those of `exact`. `frontal` has one view, which knows neither size nor distance: its landmarks
are laid onto the true ones, frame by frame, before they are compared.

python benchmarks/face_model.py
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

# This folder holds a coverage.py, which numba would take for the package of that name.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

from raflib import studio  # noqa: E402
from raflib.geometry import rigid_align  # noqa: E402
from raflib.sources.studio import FRONTAL, TRACKING_CAMERAS  # noqa: E402
from raflib.studio.landmarks import binding  # noqa: E402
from raflib.tracking import FaceTracker, fit_points, fit_views, open_model  # noqa: E402
from raflib.tracking.multiview import triangulate_robust  # noqa: E402

PEOPLE = tuple(f"V{number:02d}" for number in range(1, 7))
OTHERS = tuple(f"M{number:03d}" for number in range(1, 13))
WAYS = ("exact", "views", "points", "frontal", "scores")
RIDGE, VARIES, LARGE = 1.0, 0.05, 8


def watch(subject: str, per_sequence: int, cameras: list, tracker) -> dict[str, np.ndarray]:
    """A person's moments in which every view has a face: `pixels` [T,V,478,2], tracker's `scores`, true `landmarks` and
    `actions`."""
    person, seen = studio.Identity(subject), {"pixels": [], "scores": [], "landmarks": [], "actions": []}
    frontal = [camera.name for camera in cameras].index(FRONTAL)
    for sequence in studio.SEQUENCES:
        shown = studio.act(subject, sequence)
        for frame in np.linspace(0, len(shown.actions) - 1, per_sequence).round().astype(int):
            act = shown.actions[frame], shown.angles[frame]
            found = [tracker(studio.render(person, *act, camera)[0]) for camera in cameras]
            if all(found):
                seen["pixels"].append([one.points for one in found])
                seen["scores"].append(found[frontal].expression)
                seen["landmarks"].append(studio.landmarks(person, *act))
                seen["actions"].append(act[0])
    return {name: np.array(values, np.float64) for name, values in seen.items()}


def fitted(way: str, seen: dict[str, np.ndarray], cameras: list) -> tuple[np.ndarray, np.ndarray | None]:
    """(features [T,d], landmarks [T,478,3] or None) of one recording."""
    model = open_model()
    if way == "scores":
        return seen["scores"], None
    if way == "exact":
        pixels = np.stack([camera.project(seen["landmarks"]) for camera in cameras], 1)
        found = fit_views(model, pixels, cameras, tracked=False, progress=False)
    elif way == "views":
        found = fit_views(model, seen["pixels"], cameras, progress=False)
    elif way == "points":
        found = fit_points(model, triangulated(seen["pixels"], cameras), progress=False)
    else:
        front = [camera.name for camera in cameras].index(FRONTAL)
        found = fit_views(model, seen["pixels"][:, front], [cameras[front]], progress=False)
    return found.expression, found.landmarks


def triangulated(pixels: np.ndarray, cameras: list) -> np.ndarray:
    """Landmarks [T,478,3], NaN where the views disagree."""
    solid = [triangulate_robust(points, cameras)[0] for points in pixels]
    return np.array([np.full((478, 3), np.nan) if points is None else points for points in solid])


def regression(features: list[np.ndarray], actions: list[np.ndarray]) -> np.ndarray:
    """Ridge weights [d+1,52] from features to actions, the constant last."""
    known = np.concatenate([np.append(part, np.ones((len(part), 1)), 1) for part in features])
    keep = np.isfinite(known).all(1)
    known, wanted = known[keep], np.concatenate(actions)[keep]
    penalty = RIDGE * np.eye(known.shape[1])
    penalty[-1, -1] = 0
    return np.linalg.solve(known.T @ known + penalty, known.T @ wanted)


def correlations(features: np.ndarray, actions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[52] within one person, NaN where the action varies too little."""
    keep = np.isfinite(features).all(1)
    guess, true = np.append(features[keep], np.ones((keep.sum(), 1)), 1) @ weights, actions[keep]
    result = [np.corrcoef(guess[:, index], true[:, index])[0, 1] for index in range(true.shape[1])]
    return np.where(true.std(0) > VARIES, result, np.nan)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Of two signals, over the frames that both have."""
    keep = np.isfinite(first) & np.isfinite(second)
    return float(np.corrcoef(first[keep], second[keep])[0, 1])


def action_sizes() -> np.ndarray:
    """[52] millimetres (RMS over landmarks) by which each action, fully shown, moves them."""
    bound = binding()
    moves = np.einsum("lc,alcd->ald", bound.shares, bound.actions[:, bound.corners])
    return np.sqrt((moves**2).sum(2).mean(1)) * 1000


def millimetres(found: np.ndarray, true: np.ndarray) -> float:
    """Median distance."""
    return float(np.nanmedian(np.linalg.norm(found - true, axis=2)) * 1000)


def laid_on(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Landmarks [T,478,3] turned, moved and scaled onto the true ones."""
    moves = [rigid_align(points, target, with_scale=True) for points, target in zip(found, true, strict=True)]
    return np.array(
        [scale * points @ turn.T + place for points, (turn, place, scale) in zip(found, moves, strict=True)]
    )


def main() -> None:
    cameras = [camera for camera in studio.rig(256) if camera.name in TRACKING_CAMERAS]
    with FaceTracker() as tracker:
        others = [watch(subject, 2, cameras, tracker) for subject in tqdm(OTHERS, desc="others", unit="person")]
        people = [watch(subject, 4, cameras, tracker) for subject in tqdm(PEOPLE, desc="people", unit="person")]
    raw = [millimetres(triangulated(seen["pixels"], cameras), seen["landmarks"]) for seen in people]
    errors, tables, large = {}, {}, {}
    for way in tqdm(WAYS, desc="fitting", unit="way"):
        learned = [fitted(way, seen, cameras)[0] for seen in others]
        weights = regression(learned, [seen["actions"] for seen in others])
        results = [fitted(way, seen, cameras) for seen in people]
        pairs = list(zip(results, people, strict=True))
        tables[way] = np.array([correlations(found[0], seen["actions"], weights) for found, seen in pairs])
        if way == "scores":
            continue
        large[way] = [found[0][:, :LARGE] for found in results]
        if way == "frontal":
            pairs = [((None, laid_on(found[1], seen["landmarks"])), seen) for found, seen in pairs]
        errors[way] = [millimetres(found[1], seen["landmarks"]) for found, seen in pairs]
    report(tables, errors, large, raw)


def report(tables: dict, errors: dict, large: dict, raw: list[float]) -> None:
    """Actions one by one, people one by one, then the figures."""
    sizes = action_sizes()
    print("action                 mm   " + "".join(f"{way:>9}" for way in WAYS))
    for index in np.argsort(-sizes):
        if np.isfinite(tables["exact"][:, index]).any():
            row = "".join(f"{np.nanmedian(tables[way][:, index]):9.2f}" for way in WAYS)
            print(f"{studio.ACTIONS[index]:22s} {sizes[index]:4.1f} {row}")
    print(f"mm a person: triangulated {np.round(raw, 2)}")
    print("; ".join(f"{way} {np.round(values, 2)}" for way, values in errors.items()))
    figures = {"landmark_mm_triangulated": np.median(raw)}
    figures |= {f"landmark_mm_{way}": np.median(values) for way, values in errors.items()}
    for way in list(large)[1:]:
        both = zip(large[way], large["exact"], strict=True)
        each = [[correlation(*pair) for pair in zip(a.T, b.T, strict=True)] for a, b in both]
        print(f"{way}: first coefficients {np.median(each, 0).round(2)}")
        figures[f"coefficient_correlation_{way}"] = np.median(each)
    figures |= {f"action_correlation_{way}": np.nanmedian(table[:, sizes > 1]) for way, table in tables.items()}
    for name, value in figures.items():
        print(f"figure {name} = {value:.3f}")


if __name__ == "__main__":
    main()
