"""Learn the open linear face model from heads of the studio; writes `data/open_face_model.npz`.

    python scripts/build_linear_model.py

Identity: principal components of the neutral landmarks of many people, rigidly aligned to their mean by the points that
do not move with expression. Expression: principal components of the landmarks' motion from the neutral face, so that
coefficients of 0 are neutral. Both come from true geometry.

The face tracker is biased: its faces are nearer to an average face and move less. So some of the people are also
rendered and tracked in moments of their performances, and the tracker's errors are regressed on the true coefficients.
This gives the model of faces as they are tracked. It takes about eight minutes, mostly for tracking.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from raflib import runs, studio
from raflib.geometry import Camera, rigid_align
from raflib.sources._studio_recipe import TRACKING_CAMERAS
from raflib.sources.studio import FRONTAL
from raflib.studio.identity import named_generator
from raflib.studio.motion import chain
from raflib.tracking import FaceTracker, track_views
from raflib.tracking.face_model import OPEN_MODEL, Landmarks, LinearFaceModel, write_model
from raflib.tracking.landmarks import COUNT, RIGID

STILL = np.zeros(3)
RIDGE = 30.0
"""Weight of the ridge term when the tracker's errors are regressed on coefficients, in moments."""
SMALLEST = 0.02
"""Millimetres (RMS over landmarks, one deviation) below which an expression component is left out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=800)
    parser.add_argument("--performers", type=int, default=120)
    parser.add_argument("--watched", type=int, default=240, help="people whose performances are rendered and tracked")
    parser.add_argument("--identity", type=int, default=80, help="components, at most")
    parser.add_argument("--expression", type=int, default=64, help="components, at most")
    arguments = parser.parse_args()
    people = [f"N{number:04d}" for number in range(arguments.people)]
    faces = np.array([neutral(subject) for subject in tqdm(people, desc="people", unit="person")])
    mean, faces = aligned(faces)
    identity, left = components(faces - mean, arguments.identity)
    print(f"identity: {len(identity)} components, {left:.3f} mm RMS left of {rms(faces - mean):.2f}")
    moves = np.concatenate([performed(subject) for subject in tqdm(people[: arguments.performers], desc="performers")])
    expression, left = components(moves, arguments.expression)
    sizes = np.sqrt((expression**2).sum(2).mean(1)) * 100
    expression = expression[sizes > SMALLEST]
    print(
        f"expression: {len(expression)} components, {left:.4f} mm RMS left of {rms(moves):.2f}; sizes {sizes.round(3)}"
    )
    rows = np.arange(COUNT)
    model = LinearFaceModel("open", mean, identity, expression, rows, rows)
    model = replace(model, seen=as_tracked(model, people[: arguments.watched]))
    path = runs.data_root() / OPEN_MODEL
    write_model(model, path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, feature space {model.feature_space}")


def neutral(subject: str) -> np.ndarray:
    """Landmarks [L,3] of the neutral face in decimetres."""
    return studio.landmarks(studio.Identity(subject), np.zeros(len(studio.ACTIONS)), STILL).astype(np.float64) * 10


def aligned(faces: np.ndarray, rounds: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The mean face, origin in its rigid landmarks' middle, and all faces [N,L,3] rigidly moved onto it."""
    rigid = list(RIGID)
    faces = faces - faces[:, rigid].mean(1, keepdims=True)
    for _ in range(rounds):
        mean = faces.mean(0)
        for row, face in enumerate(faces):
            rotation, place, _ = rigid_align(face[rigid], mean[rigid])
            faces[row] = face @ rotation.T + place
    mean = faces.mean(0)
    return mean - mean[rigid].mean(0), faces - mean[rigid].mean(0)


def performed(subject: str, per_sequence: int = 8) -> np.ndarray:
    """Motion of a person's landmarks [N,L,3] from the neutral face by expressions (decimetres), head still."""
    identity, still = studio.Identity(subject), neutral(subject)
    moves = []
    for sequence in studio.SEQUENCES:
        actions = studio.act(subject, sequence).actions
        for frame in np.linspace(0, len(actions) - 1, per_sequence).round().astype(int):
            moves.append(studio.landmarks(identity, actions[frame], STILL) * 10 - still)
    return np.array(moves, np.float64)


def components(values: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Principal components [K,L,3] of `values` [N,L,3] about 0, a deviation long, and the RMS they leave (mm)."""
    flat = values.reshape(len(values), -1)
    strength, axes = np.linalg.eigh(flat.T @ flat / len(flat))
    strength, axes = strength[::-1][:count].clip(0), axes[:, ::-1][:, :count]
    left = flat - flat @ axes @ axes.T
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    return (axes * np.sqrt(strength)).T.reshape(-1, *values.shape[1:]), rms(left.reshape(values.shape))


def as_tracked(model: LinearFaceModel, people: list[str]) -> Landmarks:
    """The model as tracked: moved by the part of the tracker's errors that true coefficients predict."""
    cameras = [camera for camera in studio.rig(256) if camera.name in TRACKING_CAMERAS]
    with FaceTracker() as tracker:
        parts = [moments(model, subject, cameras, tracker) for subject in tqdm(people, desc="tracking", unit="person")]
    known, error = (np.concatenate(part) for part in zip(*parts, strict=True))
    print(f"tracker: {rms(error):.2f} mm RMS off in {len(error)} moments", end=", ")
    flat = error.reshape(len(error), -1)
    penalty = RIDGE * np.eye(known.shape[1])
    penalty[0, 0] = 0
    effect = np.linalg.solve(known.T @ known + penalty, known.T @ flat)
    print(f"{rms((flat - known @ effect).reshape(error.shape)):.2f} mm not predicted by the coefficients")
    effect = effect.reshape(-1, *model.mean.shape)
    identities = 1 + len(model.identity)
    return Landmarks(
        model.mean + effect[0], model.identity + effect[1:identities], model.expression + effect[identities:]
    )


def moments(
    model: LinearFaceModel, subject: str, cameras: list[Camera], tracker: FaceTracker, count: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Random moments of a person: 1 and true coefficients [M,1+I+E], the tracker's errors [M,L,3] on the head (dm)."""
    person, still, rigid = studio.Identity(subject), neutral(subject), list(RIGID)
    turn, place, _ = rigid_align(still[rigid], model.mean[rigid])
    identity = coefficients(model.identity, still @ turn.T + place - model.mean)
    frontal = [camera.name for camera in cameras].index(FRONTAL)
    generator = named_generator("watched", subject)
    known, error = [], []
    for sequence in generator.choice(studio.SEQUENCES, count, replace=False):
        performance = studio.act(subject, str(sequence))
        frame = generator.integers(len(performance.actions))
        actions, angles = performance.actions[frame], performance.angles[frame]
        images = [studio.render(person, actions, angles, camera)[0] for camera in cameras]
        sighting = track_views(images, cameras, tracker, frontal)
        if sighting is None:
            continue
        head = chain(person.pivots, angles)[-1][:, :3]
        move = (studio.landmarks(person, actions, STILL) * 10 - still) @ turn.T
        known.append(np.concatenate([[1], identity, coefficients(model.expression, move)]))
        error.append(10 * (sighting.landmarks - studio.landmarks(person, actions, angles)) @ head @ turn.T)
    return np.array(known).reshape(-1, 1 + len(model.identity) + len(model.expression)), np.array(error).reshape(
        -1, COUNT, 3
    )


def coefficients(basis: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Least squares of `shape` [L,3] in a basis [K,L,3]."""
    return np.linalg.lstsq(basis.reshape(len(basis), -1).T, shape.ravel(), rcond=None)[0]


def rms(values: np.ndarray) -> float:
    """Root mean square length in millimetres of [N,L,3] decimetres."""
    return float(np.sqrt((values**2).sum(2).mean()) * 100)


if __name__ == "__main__":
    main()
