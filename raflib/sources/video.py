"""Any video with a face → a monocular `Capture`.

The person is cut out with one fixed square window, found by looking at frames spread over the whole video; every frame
is tracked on its own, and metric landmarks come from one view with an assumed lens (see `raflib.tracking.pose`). There
is no segmentation: masks are 255 everywhere and the still background is the per-pixel median of the frames. The last
fifth of the video is named FREE and held out; what comes before is cut into clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from tqdm import tqdm

from raflib.capture import HELD_OUT, Capture
from raflib.errors import RafError
from raflib.runs import cache_root
from raflib.sources._store import PictureStore, load_tracks, save_tracks
from raflib.tracking import (
    FaceTracker,
    constant_size,
    head_poses,
    landmarks_from_matrix,
    neutral_face,
    single_view_camera,
)
from raflib.tracking.landmarks import GROUPS
from raflib.tracking.pose import MIN_FRAMES

FEATURE_SPACE = "arkit52"
TRACKS_VERSION = 1
"""Raised when tracks of the same video and settings would come out differently."""
SIGNALS = ("expression", "landmarks", "pose", "scale", "neutral", "sequence", "frame", "detected")
SCENE = ("background", "distance")
BACKGROUND_SAMPLES = 100


@dataclass(frozen=True)
class VideoProfile:
    """How a video is read: picture `size` and `tracking_size` (pixels), `max_fps` (faster videos are thinned out by a
    whole step), `max_frames` (spread over the whole video), crop `margin` (side over the largest extent of the face's
    box), the number of `clips` before the `held_out` share at the end, and how many frames are looked at for the crop
    (`probes`)."""

    size: int = 192
    tracking_size: int = 256
    max_fps: float = 30.0
    max_frames: int = 1_500
    margin: float = 2.0
    clips: int = 10
    held_out: float = 0.2
    probes: int = 16


PROFILES = {
    "tiny": VideoProfile(size=96, max_frames=60, clips=4, probes=6),
    "demo": VideoProfile(),
    "paper": VideoProfile(size=2048, tracking_size=512, max_frames=10_000),
}


def find_video(subject: str, root: str | Path | None) -> Path:
    """The file: `root` itself, `<subject>.*` in the folder `root`, or `subject` as a path; RafError if missing."""
    path = Path(subject if root is None else root)
    if path.is_dir():
        matches = sorted(file for file in path.iterdir() if file.stem == subject and file.is_file())
        if len(matches) != 1:
            raise RafError(f"{path}: holds {len(matches)} files named {subject}.*; name one video file as root")
        return matches[0]
    if not path.is_file():
        raise RafError(f"{path}: no such video; check the path")
    return path


def decode(path: Path, wanted: set[int] | None = None) -> Iterator[tuple[int, UInt8[np.ndarray, "H W 3"]]]:
    """(number, RGB picture) of the video's frames, in order; only those `wanted` if given.

    Pictures are upright (phones store portrait videos lying down with a note to turn them) and contiguous (a decoder
    pads rows, and a padded picture is no face to a tracker). Raises RafError naming the file when it is not a video.
    """
    try:
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if wanted is None or number in wanted:
                    picture = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                    yield number, np.ascontiguousarray(picture)
    except (av.FFmpegError, IndexError) as error:
        raise RafError(f"{path}: not a readable video ({error}); convert it to .mp4 and try again") from None


def frame_numbers(path: Path, profile: VideoProfile) -> list[int]:
    """Which frames are used: all of them, or every second, third, … where the profile's limits ask for it."""
    try:
        with av.open(str(path)) as container:
            rate = float(container.streams.video[0].average_rate or 25)
            count = sum(1 for packet in container.demux(video=0) if packet.size)
    except (av.FFmpegError, IndexError) as error:
        raise RafError(f"{path}: not a readable video ({error}); convert it to .mp4 and try again") from None
    step = max(1, int(np.ceil(rate / profile.max_fps - 1e-6)), int(np.ceil(count / profile.max_frames)))
    return list(range(0, count, step))


def square_window(boxes: Float[np.ndarray, "P 4"], height: int, width: int, margin: float) -> tuple[int, int, int]:
    """The fixed window (x, y, side) around a person's head and shoulders.

    `boxes` are the face's (left, top, right, bottom) in some frames. The window is as wide as `margin` times the larger
    side of the box they fill together, centred on it as far as the picture allows.
    """
    left, top = boxes[:, :2].min(0)
    right, bottom = boxes[:, 2:].max(0)
    extent = max(right - left, bottom - top)
    side = int(min(margin * extent, height, width))
    x = (left + right - side) / 2
    y = (top + bottom - side) / 2
    return int(np.clip(x, 0, width - side)), int(np.clip(y, 0, height - side)), side


def _find_window(path: Path, numbers: list[int], profile: VideoProfile, tracker: FaceTracker) -> tuple[int, int, int]:
    probes = {numbers[len(numbers) * probe // profile.probes] for probe in range(profile.probes) if numbers}
    boxes, looked, shape = [], 0, (0, 0)
    for _, picture in decode(path, probes):
        looked, shape = looked + 1, picture.shape[:2]
        found = tracker(picture)
        if found is not None:
            boxes.append(np.concatenate([found.points.min(0), found.points.max(0)]))
    if not boxes:
        raise RafError(f"{path}: no face in any of the {looked} frames looked at; use a video that shows a face")
    return square_window(np.array(boxes), *shape, profile.margin)


def name_sequences(count: int, profile: VideoProfile) -> np.ndarray:
    """[count] "clip-00", "clip-01", … and FREE for the last share of the frames."""
    train = count - round(count * profile.held_out)
    clip = np.arange(train) * profile.clips // max(train, 1)
    return np.array([f"clip-{number:02d}" for number in clip] + [HELD_OUT] * (count - train))


def _track(path: Path, profile: VideoProfile, store: PictureStore) -> dict[str, np.ndarray]:
    numbers = frame_numbers(path, profile)
    expression, landmarks, frame, still = [], [], [], []
    opaque = np.full((profile.size, profile.size), 255, np.uint8)
    with FaceTracker() as tracker:
        x, y, side = _find_window(path, numbers, profile, tracker)
        frames = tqdm(decode(path, set(numbers)), total=len(numbers), desc=f"tracking {path.name}")
        for row, (number, picture) in enumerate(frames):
            window = Image.fromarray(picture[y : y + side, x : x + side])
            small, large = (
                np.asarray(window.resize((size, size), Image.Resampling.LANCZOS))
                for size in (profile.size, profile.tracking_size)
            )
            found = tracker(large)
            if found is None:
                expression.append(np.full(52, np.nan))
                landmarks.append(np.full((478, 3), np.nan))
            else:
                ratio = profile.size / profile.tracking_size
                found = replace(found, points=found.points * ratio, depth=found.depth * ratio)
                expression.append(found.expression)
                landmarks.append(landmarks_from_matrix(found, profile.size))
            frame.append(number)
            store.put(row, 0, small, opaque)
            if row % max(1, len(numbers) // BACKGROUND_SAMPLES) == 0:
                still.append(small)
    count = len(expression)
    detected = np.array([np.isfinite(row).all() for row in expression])
    if detected.sum() < MIN_FRAMES:
        raise RafError(f"{path}: a face in only {detected.sum()} of {count} frames; use a video that shows a face")
    sequence = name_sequences(count, profile)
    points = constant_size(np.array(landmarks), detected)
    distance = float(np.nanmedian(points[..., 2]))
    points[..., 2] -= distance  # the world's origin is the middle of the head
    neutral, pose, scale = neutral_face(points, head_poses(points, detected, sequence, np.arange(count)), 0.1)
    return {
        "expression": np.array(expression, np.float32), "landmarks": points.astype(np.float32), "pose": pose,
        "scale": scale, "neutral": neutral, "sequence": sequence, "frame": np.array(frame), "detected": detected,
        "background": np.median(still, axis=0).astype(np.uint8), "distance": np.array(distance),
    }  # fmt: skip


def open(subject: str, profile: str = "demo", root: str | Path | None = None) -> Capture:
    """A monocular capture of the video `root` (or of `<subject>.*` in the folder `root`, or of the path `subject`).

    Tracks and cut-out pictures are cached by the file's hash and the settings. Raises RafError, one line naming the
    file, when it is missing, is not a video, shows no face (with the number of frames looked at), or when its cache is
    damaged.
    """
    if profile not in PROFILES:
        raise RafError(f"video profile {profile!r} is not known; choose one of {', '.join(PROFILES)}")
    path, settings = find_video(subject, root), PROFILES[profile]
    with path.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    key = hashlib.sha256(repr((content, asdict(settings), TRACKS_VERSION)).encode()).hexdigest()[:16]
    name = path.stem if root is None else subject
    tracks_path = cache_root() / "video" / f"{path.stem}-{key}.npz"

    def lost(t: int, c: int):
        raise RafError(f"{store.path(t, c)}: missing or damaged picture; delete {tracks_path} and open the video again")

    store = PictureStore(tracks_path.with_suffix(""), lost)
    tracks = load_tracks(tracks_path, SIGNALS + SCENE)
    if tracks is None:
        tracks = _track(path, settings, store)
        save_tracks(tracks_path, **tracks)
    camera = single_view_camera(settings.size, float(tracks.pop("distance")))
    background = tracks.pop("background").astype(np.float32) / 255
    return Capture(name, FEATURE_SPACE, cameras=[camera], groups=GROUPS, frames=store, background=background, **tracks)
