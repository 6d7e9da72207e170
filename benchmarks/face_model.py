"""How well the open linear face model recovers faces of the studio: landmarks in millimetres, actions by correlation.

Six people outside the model's training are rendered by four cameras at 256² and tracked, four frames of every sequence.
Their recordings are fitted in several ways:

    exact     a control: the fit to the projections of the true landmarks
    frontal   the fit to one view. One view gives neither size nor distance, so its landmarks are aligned with the true
              ones, frame by frame, before they are compared
    views     the fit to all views
    points    the fit to the triangulated landmarks
    curved    the fit of `views`, with a Gaussian-kernel regression to actions
    scores    the tracker's own 52 scores, with the ridge regression to actions

A ridge regression predicts actions from the fitted expression. It is learned on other people in other sequences, fitted
in the same way. Each person's mean is subtracted first: it holds the person's face and the tracker's bias. The result
is the correlation with the true actions within each person. It counts only actions that the face can express in the
recording: they move landmarks by more than a millimetre (RMS, fully shown), and their standard deviation is above
`VARIES`.

For each action, left and right together, the table gives two numbers. `share` is the part of the true motion that
triangulated landmarks show. `clear` is this motion over the landmarks' other motion in the same direction (standard
deviations).

The model's own expression is measured too. The first `LARGE` coefficients of each fit are correlated with those of
`exact`, within each person. `coefficient_share` is their part of the expression's squared motion.

python benchmarks/face_model.py [--size 512] [--views 8]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

# This folder has a coverage.py; numba would import it instead of the package of that name.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402
from scipy.spatial.distance import cdist  # noqa: E402
from tqdm import tqdm  # noqa: E402

from raflib import studio  # noqa: E402
from raflib.geometry import rigid_align  # noqa: E402
from raflib.sources._studio_recipe import TRACKING_CAMERAS  # noqa: E402
from raflib.sources.studio import FRONTAL  # noqa: E402
from raflib.studio.true_landmarks import binding  # noqa: E402
from raflib.tracking import FaceTracker, fit_points, fit_views, open_model  # noqa: E402
from raflib.tracking.landmarks import RIGID  # noqa: E402
from raflib.tracking.multiview import triangulate_robust  # noqa: E402

PEOPLE = tuple(f"V{number:02d}" for number in range(1, 7))
OTHERS = tuple(f"M{number:03d}" for number in range(1, 13))
WAYS = ("exact", "views", "points", "frontal", "scores")
RIDGE, VARIES, LARGE, REACHED = 1.0, 0.05, 8, 0.9
WIDTH, KERNEL_RIDGE = 2.0, 0.1  # width over the median distance


def stations(size: int, views: int) -> list:
    """Return the tracking cameras of a capture, then those nearest to the frontal camera."""
    cameras = {camera.name: camera for camera in studio.rig(size)}
    axis = cameras[FRONTAL].extrinsic[2, :3]
    facing = {name: round(float(camera.extrinsic[2, :3] @ axis), 6) for name, camera in cameras.items()}
    others = sorted(set(cameras) - set(TRACKING_CAMERAS), key=lambda name: (-facing[name], name))
    return [cameras[name] for name in (*TRACKING_CAMERAS, *others)[:views]]


def watch(subject: str, per_sequence: int, cameras: list, tracker) -> dict[str, np.ndarray]:
    """Frames of a person with a face in the frontal view and in another one: `pixels` [T,V,478,2], NaN in views without
    one, `solid` [T,478,3] triangulated, the tracker's `scores`, true `landmarks` and `actions`, the `sequence` [T]."""
    person, seen = (
        studio.Identity(subject),
        {"pixels": [], "scores": [], "landmarks": [], "actions": [], "sequence": []},
    )
    frontal = [camera.name for camera in cameras].index(FRONTAL)
    for number, sequence in enumerate(studio.SEQUENCES):
        shown = studio.act(subject, sequence)
        for frame in (len(shown.actions) * (np.arange(per_sequence) + 0.5) / per_sequence).astype(int):
            act = shown.actions[frame], shown.angles[frame]
            found = [tracker(studio.render(person, *act, camera)[0]) for camera in cameras]
            if found[frontal] and sum(map(bool, found)) > 1:
                seen["pixels"].append([one.points if one else np.full((478, 2), np.nan) for one in found])
                seen["scores"].append(found[frontal].expression)
                seen["landmarks"].append(studio.landmarks(person, *act))
                seen["actions"].append(act[0])
                seen["sequence"].append(number)
    seen = {name: np.array(values, np.float64) for name, values in seen.items()}
    return seen | {"solid": triangulated(seen["pixels"], cameras)}


def fitted(way: str, seen: dict[str, np.ndarray], cameras: list) -> tuple[np.ndarray, np.ndarray | None]:
    """Return features [T,d] and landmarks [T,478,3] (or None) of one recording."""
    model = open_model()
    if way == "scores":
        return seen["scores"], None
    if way == "exact":
        pixels = np.stack([camera.project(seen["landmarks"]) for camera in cameras], 1)
        found = fit_views(model, pixels, cameras, tracked=False, progress=False)
    elif way == "views":
        found = fit_views(model, seen["pixels"], cameras, progress=False)
    elif way == "points":
        found = fit_points(model, seen["solid"], progress=False)
    else:
        front = [camera.name for camera in cameras].index(FRONTAL)
        found = fit_views(model, seen["pixels"][:, front], [cameras[front]], progress=False)
    return found.expression, found.landmarks


def triangulated(pixels: np.ndarray, cameras: list) -> np.ndarray:
    """Return landmarks [T,478,3], NaN where the views disagree."""
    solid = []
    for points in pixels:
        views = np.flatnonzero(np.isfinite(points).all((1, 2)))
        solid.append(triangulate_robust(points[views], [cameras[view] for view in views])[0])
    return np.array([np.full((478, 3), np.nan) if points is None else points for points in solid])


def about_mean(values: list[np.ndarray]) -> np.ndarray:
    """Return several people's values minus each person's mean, one person after another; NaN stays NaN."""
    return np.concatenate([part - np.nanmean(part, 0) for part in values])


def linear(known: np.ndarray, wanted: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the ridge regression of `wanted` on `known`, evaluated at `asked`."""
    return asked @ np.linalg.solve(known.T @ known + RIDGE * np.eye(known.shape[1]), known.T @ wanted)


def curved(known: np.ndarray, wanted: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the same with a Gaussian kernel."""
    width = WIDTH * np.median(cdist(known[::5], known[::5]))
    near, far = (np.exp(-((cdist(points, known) / width) ** 2)) for points in (known, asked))
    return far @ np.linalg.solve(near + KERNEL_RIDGE * np.eye(len(known)), wanted)


def correlations(learned: list, others: list[dict], features: list, people: list[dict], read=linear) -> np.ndarray:
    """Return correlations [P,52] of predicted and true actions; NaN where an action varies too little.

    `read` predicts the actions from each person's `features` [T,d]. It learns from other people, `learned` [T,d] each,
    in other sequences."""
    known, wanted = about_mean(learned), about_mean([seen["actions"] for seen in others])
    when, whole = np.concatenate([seen["sequence"] for seen in others]), np.isfinite(known).all(1)
    table = np.full((len(people), wanted.shape[1]), np.nan)
    for row, (asked, seen) in enumerate(zip(features, people, strict=True)):
        asked, guess = about_mean([asked]), np.full(seen["actions"].shape, np.nan)
        for number in np.unique(seen["sequence"]):
            kept, here = whole & (when != number), (seen["sequence"] == number) & np.isfinite(asked).all(1)
            guess[here] = read(known[kept], wanted[kept], asked[here])
        varies = np.flatnonzero(seen["actions"].std(0) > VARIES)
        table[row, varies] = [correlation(guess[:, index], seen["actions"][:, index]) for index in varies]
    return table


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two signals, over the frames that both have."""
    keep = np.isfinite(first) & np.isfinite(second)
    return float(np.corrcoef(first[keep], second[keep])[0, 1])


def action_sizes() -> np.ndarray:
    """Return for each action [52] the millimetres (RMS over landmarks) by which it moves them when fully shown."""
    bound = binding()
    moves = np.einsum("lc,alcd->ald", bound.shares, bound.actions[:, bound.corners])
    return np.sqrt((moves**2).sum(2).mean(1)) * 1000


def millimetres(found: np.ndarray, true: np.ndarray) -> float:
    """Return the median distance in millimetres."""
    return float(np.nanmedian(np.linalg.norm(found - true, axis=2)) * 1000)


def laid_on(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return landmarks [T,478,3], rotated, moved and scaled onto the true ones."""
    moves = [rigid_align(points, target, with_scale=True) for points, target in zip(found, true, strict=True)]
    return np.array(
        [scale * points @ turn.T + place for points, (turn, place, scale) in zip(found, moves, strict=True)]
    )


def clearness(people: list[dict[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return `share` and `clear` of each action [52]; NaN if it moves no landmark."""
    actions = about_mean([seen["actions"] for seen in people])
    true, tracked = (about_mean([on_head(seen[name]) for seen in people]) for name in ("landmarks", "solid"))
    actions, true, tracked = (values[np.isfinite(tracked).all(1)] for values in (actions, true, tracked))
    wanted, made = (linear(actions, moved, np.eye(actions.shape[1])) for moved in (true, tracked))
    length = np.linalg.norm(wanted, axis=1)
    length[length < 1e-9] = np.nan
    direction = wanted / length[:, None]
    share = (made * direction).sum(1) / length
    clear = share * length * actions.std(0) / ((tracked - actions @ made) @ direction.T).std(0)
    sides = [name.removesuffix("Left").removesuffix("Right") for name in studio.ACTIONS]
    both = np.array([[one == other for other in sides] for one in sides], float)
    both[:, np.isnan(share)] = 0
    return tuple(both @ np.nan_to_num(values) / np.where(both.any(1), both.sum(1), np.nan) for values in (share, clear))


def on_head(landmarks: np.ndarray) -> np.ndarray:
    """Return landmarks [T,478,3] as coordinates [T,1434] without head motion, aligned to the model by rigid points."""
    rigid, model = list(RIGID), open_model().mean / 10
    still = np.full(landmarks.shape, np.nan)
    for row in np.flatnonzero(np.isfinite(landmarks).all((1, 2))):
        turn, place, _ = rigid_align(landmarks[row, rigid], model[rigid])
        still[row] = landmarks[row] @ turn.T + place
    return still.reshape(len(landmarks), -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="width of the images in pixels")
    parser.add_argument("--views", type=int, default=4, choices=range(2, 17), metavar="2..16", help="number of cameras")
    arguments = parser.parse_args()
    cameras = stations(arguments.size, arguments.views)
    with FaceTracker() as tracker:
        others = [watch(subject, 2, cameras, tracker) for subject in tqdm(OTHERS, desc="others", unit="person")]
        people = [watch(subject, 4, cameras, tracker) for subject in tqdm(PEOPLE, desc="people", unit="person")]
    raw = [millimetres(seen["solid"], seen["landmarks"]) for seen in people]
    errors, tables, large = {}, {}, {}
    for way in tqdm(WAYS, desc="fitting", unit="way"):
        learned = [fitted(way, seen, cameras)[0] for seen in others]
        results = [fitted(way, seen, cameras) for seen in people]
        pairs = list(zip(results, people, strict=True))
        tables[way] = correlations(learned, others, [found[0] for found in results], people)
        if way == "views":
            tables["curved"] = correlations(learned, others, [found[0] for found in results], people, curved)
        if way == "scores":
            continue
        large[way] = [found[0][:, :LARGE] for found in results]
        if way == "exact":
            moved = about_mean([found[0] for found in results]).var(0) * (open_model().expression ** 2).sum((1, 2))
        if way == "frontal":
            pairs = [((None, laid_on(found[1], seen["landmarks"])), seen) for found, seen in pairs]
        errors[way] = [millimetres(found[1], seen["landmarks"]) for found, seen in pairs]
    figures = {"landmark_mm_triangulated": np.median(raw), "coefficient_share": moved[:LARGE].sum() / moved.sum()}
    print(f"mm per person: triangulated {np.round(raw, 2)}")
    report(figures, tables, errors, large, *clearness(others))


def report(figures: dict, tables: dict, errors: dict, large: dict, share: np.ndarray, clear: np.ndarray) -> None:
    """Print each action, each person, then `figures` and more."""
    sizes = action_sizes()
    print("action                 mm  share clear" + "".join(f"{way:>9}" for way in tables))
    for index in np.argsort(-sizes):
        if np.isfinite(tables["exact"][:, index]).any():
            row = "".join(f"{np.nanmedian(table[:, index]):9.2f}" for table in tables.values())
            print(f"{studio.ACTIONS[index]:22s} {sizes[index]:4.1f} {share[index]:5.2f} {clear[index]:5.2f}{row}")
    print("; ".join(f"{way} {np.round(values, 2)}" for way, values in errors.items()))
    figures |= {f"landmark_mm_{way}": np.median(values) for way, values in errors.items()}
    for way in list(large)[1:]:
        both = zip(large[way], large["exact"], strict=True)
        each = [[correlation(*pair) for pair in zip(a.T, b.T, strict=True)] for a, b in both]
        print(f"{way}: first coefficients {np.median(each, 0).round(2)}")
        figures[f"coefficient_correlation_{way}"] = np.median(each)
    expressed = np.isfinite(tables["exact"]) & (sizes > 1)
    for way, table in tables.items():
        figures[f"action_correlation_{way}"] = np.median(table[expressed])
        figures[f"actions_over_{REACHED}_{way}"] = np.mean(table[expressed] >= REACHED)
    for name, value in figures.items():
        print(f"figure {name} = {value:.3f}")


if __name__ == "__main__":
    main()
