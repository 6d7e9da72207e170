"""Tracks of NeRSemble's videos: expression, landmarks and head pose of every frame, kept after each sequence.

The videos of the tracked cameras are decoded side by side. Frames are tracked as the studio's are: expression from the
frontal camera, landmarks by triangulation, head pose from landmarks and the head's texture. With the frontal camera
alone, landmarks come from one view: enough for a bank, whose rows are expressions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.sources._store import load_tracks, save_tracks
from raflib.sources._tracked import tracked_signals
from raflib.sources.nersemble.raw_films import Look, read_film
from raflib.sources.nersemble.raw_folder import Films
from raflib.tracking import FaceTracker, constant_size, grey, landmarks_from_matrix, track_views
from raflib.tracking.head_pose import MIN_FRAMES

STEP = 3
"""Every third frame is used (paper §5: 25 frames a second)."""
SIGNALS = ("expression", "landmarks", "pose", "scale", "neutral", "detected", "sequence", "frame")
SEEN = ("expression", "landmarks", "detected", "frame", "greys", "lost")
"""What is kept of one sequence; `greys` are the images that head poses are refined with."""


class SequenceTracker:
    """Tracks the sequences of one person; what is done is kept in `folder`.

    Args:
        videos: the videos by sequence and serial number.
        cameras: the tracked cameras of square images; the frontal one is the first.
        looks: how their frames become images.
    """

    def __init__(self, folder: Path, videos: Films, cameras: Sequence[Camera], looks: Sequence[Look], refined: bool):
        self._folder, self._videos, self._cameras, self._looks = folder, videos, cameras, looks
        self._refined = refined and len(cameras) > 1

    def __call__(self, subject: str, names: np.ndarray, frame: Int[np.ndarray, "T"]) -> dict[str, np.ndarray]:
        """Signals of all frames, and notes; as `raflib.sources.studio` tracks."""
        parts: list[dict[str, np.ndarray]] = []
        notes = []
        with FaceTracker() as tracker, tqdm(total=len(frame), desc=f"tracking {subject}", unit="frame") as bar:
            for sequence in self._videos:
                path, rows = self._folder / f"{sequence}.npz", frame[names == sequence]
                part = load_tracks(path, SEEN)
                if part is None:
                    part = self._sequence(sequence, rows, tracker, bar)
                    save_tracks(path, **part)
                else:
                    bar.update(len(rows))
                parts.append(part)
                if lost := int(part["lost"]):
                    notes.append(f"{sequence}: {lost} frames cannot be decoded in a tracked camera; they are marked")
        expression, landmarks, detected = (np.concatenate([part[name] for part in parts]) for name in SEEN[:3])
        if len(self._cameras) == 1 and detected.any():
            landmarks = self._in_world(constant_size(landmarks, detected))
        if detected.sum() < MIN_FRAMES or not np.ptp(landmarks[detected], axis=0).any():
            raise RafError(
                f"participant {subject}: a moving face was found in {detected.sum()} of {len(frame)} frames, "
                f"{MIN_FRAMES} are needed; check that videos and calibration belong together"
            )
        greys = None
        if self._refined:
            greys = np.empty((len(frame), *parts[0]["greys"].shape[1:]), np.uint8)
            for sequence, part in zip(self._videos, parts, strict=True):
                greys[names == sequence] = part.pop("greys")  # one copy in memory at a time
        tracks = tracked_signals(expression, landmarks, detected, names, frame, self._cameras, greys)
        return {**tracks, "sequence": names, "frame": frame, "notes": np.array(notes, dtype=str)}

    def _sequence(
        self, sequence: str, frame: Int[np.ndarray, "K"], tracker: FaceTracker, bar: tqdm
    ) -> dict[str, np.ndarray]:
        """What is seen in one sequence; its videos are decoded side by side."""
        count, size = len(frame), self._looks[0].size
        expression, landmarks = np.full((count, 52), np.nan, np.float32), np.full((count, 478, 3), np.nan)
        greys = np.zeros((count, len(self._cameras) if self._refined else 0, size, size), np.uint8)
        films, lost = (read_film(self._videos[sequence][c.name], (STEP * frame).tolist()) for c in self._cameras), 0
        for row, shots in enumerate(zip(*films, strict=True)):
            bar.update()
            if any(shot is None for shot in shots):
                lost += 1
                continue
            images = [look.image(shot) for look, shot in zip(self._looks, shots, strict=True)]
            if self._refined:
                greys[row] = [grey(image) for image in images]
            if len(images) == 1:
                found = tracker(images[0])
                if found is not None:
                    expression[row], landmarks[row] = found.expression, landmarks_from_matrix(found, size, self._fov)
                continue
            sighting = track_views(images, self._cameras, tracker, 0)
            if sighting is not None:
                expression[row], landmarks[row] = sighting.expression, sighting.landmarks
        detected = np.isfinite(expression).all(1)
        values = (expression, landmarks, detected, frame, greys, np.array(lost))
        return dict(zip(SEEN, values, strict=True))

    @property
    def _fov(self) -> float:
        """Degrees that the frontal camera's square image covers."""
        camera = self._cameras[0]
        return float(np.degrees(2 * np.arctan(camera.width / 2 / camera.intrinsic[0, 0])))

    def _in_world(self, landmarks: Float[np.ndarray, "T L 3"]) -> Float[np.ndarray, "T L 3"]:
        """Landmarks of one view (camera frame) in the world, with the head where the cameras look at.

        One view does not show the distance: landmarks are scaled about the optical centre, so their pixels stay.
        """
        ahead = self._cameras[0].extrinsic[:3, 3]
        return landmarks * (ahead[2] / np.nanmedian(landmarks[..., 2])) - ahead
