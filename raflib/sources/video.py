"""Any video with a face → a monocular `Capture`.

One square window around the main person is found in frames spread over the whole video, without black bars. It is
fixed, or slowly follows a face that moves too far. Every frame is tracked on its own, and a cut starts a new sequence.
Metric landmarks come from one view, whose lens the file names or is assumed (see `raflib.sources._lens`). Masks are the
person's alpha (see `raflib.tracking.matte`), and they show where the torso is (see `raflib.tracking.torso`). Where the
camera stands still, images keep the room and the empty room is the background; otherwise they show the person on white.
The last fifth of the frames with a face is named FREE and held out; the frames before it are cut into clips. `time`
says when each frame is shown.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from tqdm import tqdm

from raflib.capture import HELD_OUT, Capture
from raflib.errors import RafError
from raflib.images import lanczos
from raflib.reading.names import content_hash, short_name
from raflib.runs import cache_root
from raflib.sources._following import Windows, find_windows
from raflib.sources._lens import window_angle
from raflib.sources._main_face import MainFace
from raflib.sources._store import ImageStore, load_tracks, save_tracks
from raflib.sources._tracked import evenly, films_tracked_by
from raflib.sources._video_frames import read_frames
from raflib.sources._video_info import VideoInfo, open_film, read_info, typical_spacing
from raflib.tracking import (
    FaceTracker,
    Matte,
    constant_size,
    head_poses,
    landmarks_from_matrix,
    neutral_face,
    single_view_camera,
)
from raflib.tracking.head_pose import MIN_FRAMES, SINGLE_VIEW_FOV
from raflib.tracking.landmarks import GROUPS
from raflib.tracking.matte import MODEL_SHA256, without_gaps
from raflib.tracking.torso import torso_motion, torso_view

FEATURE_SPACE = "arkit52"
TRACKS_VERSION = 7
"""Raised when tracks of the same video and settings would come out differently."""
SIGNALS = ("expression", "landmarks", "pose", "scale", "neutral", "sequence", "frame", "detected", "time", "torso")
SCENE = ("background", "distance", "angle", "notes")
ROOM_SAMPLES = 32
"""Frames from which the room behind the person is learned."""
TOLD = 5
"""Cuts whose times are told."""


@dataclass(frozen=True)
class VideoProfile:
    """How a video is read.

    Attributes:
        size, tracking_size: pixels a side of the capture's images, and of the images that are tracked.
        max_fps: frames a second; faster videos are thinned out by the nearest whole step.
        max_frames: most frames, spread over the video's time.
        margin: side of the crop over the largest extent of the face's boxes.
        clips: number of clips before the held-out part.
        held_out: share of the frames with a face, at the end, that is held out.
        probes: frames in which the crop is searched.
    """

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
    "gpu": VideoProfile(size=512, tracking_size=512, max_frames=3_000),
    "paper": VideoProfile(size=2048, tracking_size=512, max_frames=10_000),
}


def find_video(subject: str, root: str | Path | None) -> Path:
    """The file: `root` itself, `<subject>.*` in the folder `root`, or `subject` as a path; RafError if missing."""
    path = Path(subject if root is None else root)
    try:
        if path.is_dir():
            matches = sorted(file for file in path.iterdir() if file.stem == subject and file.is_file())
            if len(matches) != 1:
                raise RafError(f"{path}: holds {len(matches)} files named {subject}.*; name one video file as root")
            return matches[0]
        if path.is_file():
            return path
    except OSError as error:
        raise RafError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    raise RafError(f"{path}: no such video; check the path")


def check_video(path: str | Path) -> None:
    """RafError naming the file if it is missing or no video. It is only opened: its frames may still be damaged."""
    with open_film(find_video(Path(path).stem, path)):
        pass


def decode(path: Path, wanted: set[int] | None = None) -> Iterator[tuple[int, UInt8[np.ndarray, "H W 3"]]]:
    """(number, RGB image) of the video's frames, in the order they are shown; only the frames `wanted` if given.

    Images are upright, with square pixels and all of one size. Raises RafError naming the file when it is not a
    video.
    """
    yield from read_frames(read_info(path), wanted)


def frame_numbers(path: Path, profile: VideoProfile) -> list[int]:
    """Numbers of the frames that are used: all, or fewer, evenly spread in time, where the profile has limits."""
    return thinned(read_info(path).times, profile).tolist()


def thinned(times: Float[np.ndarray, "N"], profile: VideoProfile) -> Int[np.ndarray, "K"]:
    """Indices of the frames that are used; frames are shown at `times` (seconds, increasing).

    A video with more than `max_fps` frames a second is thinned by the nearest whole step (60 to 30; 30.3 stays); one
    with more than `max_frames` frames is thinned until these are as evenly spread in time as they can be.
    """
    count = len(times)
    spacing = typical_spacing(times) if count > 1 else 1.0
    step = max(1, round(1 / (spacing * profile.max_fps)))
    if step == 1 and count <= profile.max_frames:
        return np.arange(count)
    length = times[-1] + spacing
    rows = _nearest_to_grid(times, step * spacing, length)
    if len(rows) <= profile.max_frames:
        return rows
    close, wide = step * spacing, length / profile.max_frames
    rows = _nearest_to_grid(times, wide, length)
    for _ in range(50 if len(rows) < 0.8 * profile.max_frames else 0):  # the video has long gaps: try smaller spacings
        middle = (close + wide) / 2
        closer = _nearest_to_grid(times, middle, length)
        if len(closer) <= profile.max_frames:
            wide, rows = middle, closer
        else:
            close = middle
    return rows


def _nearest_to_grid(times: np.ndarray, spacing: float, length: float) -> np.ndarray:
    """Indices of the frames nearest to 0, `spacing`, 2 · `spacing`, … below `length`; none where no frame is near."""
    point = np.floor(times / spacing + 0.5 - 1e-6)
    away = np.abs(times - point * spacing)
    order = np.lexsort((away, point))
    _, first = np.unique(point[order], return_index=True)
    rows = order[first]
    return rows[point[rows] < round(length / spacing)]


def name_sequences(detected: Bool[np.ndarray, "T"], profile: VideoProfile, cuts: Sequence[int] = ()) -> np.ndarray:
    """Sequence names [T]: "clip-00", "clip-01", …, then FREE from the held-out share of frames with a face to the end.

    Clips hold equally many frames with a face, except that a further one begins at each of the `cuts` (rows). At least
    one frame with a face is held out.
    """
    found = int(detected.sum())
    train = found - max(1, round(found * profile.held_out))
    before = np.cumsum(detected) - detected  # frames with a face before each frame
    clip = np.minimum(before, max(train - 1, 0)) * profile.clips // max(train, 1)
    clip += np.searchsorted(np.asarray(cuts, int), np.arange(len(detected)), side="right")
    return np.where(before < train, [f"clip-{number:02d}" for number in clip], HELD_OUT)


def _some_crops(info: VideoInfo, numbers: Int[np.ndarray, "T"], windows: Windows, size: int) -> list[np.ndarray]:
    """The windows of some frames, `size` pixels a side."""
    rows = evenly(len(numbers), ROOM_SAMPLES).tolist()
    shown = read_frames(info, set(numbers[rows].tolist()))
    return [lanczos(windows.cut(image, int(np.searchsorted(numbers, number))), size, size) for number, image in shown]


def _track(info: VideoInfo, profile: VideoProfile, store: ImageStore) -> dict[str, np.ndarray]:
    numbers, path = thinned(info.times, profile), info.path
    if len(numbers) < MIN_FRAMES:
        raise RafError(f"{path}: holds {len(info.times)} frames, at least {MIN_FRAMES} are needed; use a longer video")
    expression, landmarks, frame, bodies, matte = [], [], [], [], Matte()
    with FaceTracker() as tracker:
        windows = find_windows(info, numbers, profile.probes, profile.margin, tracker)
        angle = SINGLE_VIEW_FOV
        if info.focal_35mm is not None:
            angle = window_angle(info.focal_35mm, info.width, info.height, windows.side)
        room = None if windows.move else matte.empty_room(_some_crops(info, numbers, windows, profile.size))
        main_face = MainFace(tracker, profile.tracking_size, typical_spacing(info.times[numbers]))
        frames = read_frames(info, set(numbers.tolist()))
        for number, image in tqdm(frames, total=len(numbers), desc=f"tracking {path.name[:40]}"):
            window = windows.cut(image, int(np.searchsorted(numbers, number)))
            small, large = (lanczos(window, size, size) for size in (profile.size, profile.tracking_size))
            try:
                found = main_face(large)
            except RafError as error:
                raise RafError(f"{path}: frame {number}: {error}") from None
            if found is None:
                expression.append(np.full(52, np.nan))
                landmarks.append(np.full((478, 3), np.nan))
            else:
                ratio = profile.size / profile.tracking_size
                found = replace(found, points=found.points * ratio, depth=found.depth * ratio)
                expression.append(found.expression)
                landmarks.append(landmarks_from_matrix(found, profile.size, angle))
            row = len(frame)
            frame.append(number)
            white, alpha = matte.cut_out(small, room)
            store.put(row, 0, white if room is None else small, alpha)
            if found is not None:
                bodies.append(torso_view(small, alpha, found.points))
    count, cuts = len(expression), main_face.cuts
    notes = [*info.notes, *filter(None, [windows.note, _cuts_told(info.times[frame][cuts])])]
    detected = np.array([np.isfinite(row).all() for row in expression])
    if detected.sum() < MIN_FRAMES:
        seen = f" ({'; '.join(notes)})" if notes else ""
        raise RafError(
            f"{path}: a face in only {detected.sum()} of {count} frames{seen}; use a video that shows one face"
        )
    if not np.ptp(np.array(landmarks)[detected], axis=0).any():
        raise RafError(f"{path}: the face does not move at all, as in a photograph; use a video of a moving face")
    times = info.times[frame]
    sequence = name_sequences(detected, profile, cuts)
    # Poses are smoothed over frames that follow each other. A gap in time or a cut counts as a missing number. So does
    # a step over frames that were left out.
    apart = np.diff(times) > 1.5 * max(typical_spacing(info.times), 1 / profile.max_fps)
    apart[np.array(cuts, int) - 1] = True
    order = np.concatenate([[0], np.cumsum(np.where(apart, 2, 1))])
    points = constant_size(np.array(landmarks), detected)
    distance = float(np.nanmedian(points[..., 2]))
    points[..., 2] -= distance  # the world's origin is the middle of the head
    background = np.zeros((0, 0, 3), np.uint8) if room is None else without_gaps(room)
    neutral, pose, scale = neutral_face(points, head_poses(points, detected, sequence, order), 0.1)
    side = 2 * distance * math.tan(math.radians(angle) / 2)  # metres across the image, at the head's distance
    torso = np.full((count, 6), np.nan, np.float32)
    torso[detected] = torso_motion(bodies, side, sequence[detected], order[detected], sequence[detected] != HELD_OUT)
    return {
        "expression": np.array(expression, np.float32), "landmarks": points.astype(np.float32), "pose": pose,
        "scale": scale, "neutral": neutral, "sequence": sequence, "frame": np.array(frame), "detected": detected,
        "time": times, "torso": torso, "background": background, "distance": np.array(distance),
        "angle": np.array(angle), "notes": np.array(notes, dtype=str),
    }  # fmt: skip


def _cuts_told(times: Float[np.ndarray, "K"]) -> str:
    """A sentence about the cuts at `times` (seconds); "" without a cut."""
    if not len(times):
        return ""
    shown = ", ".join(f"{time:.1f}" for time in times[:TOLD]) + (" …" if len(times) > TOLD else "")
    return f"it has {len(times)} cut{'s' if len(times) > 1 else ''} (at {shown} s); each starts a new sequence"


def open(subject: str, profile: str = "demo", root: str | Path | None = None) -> Capture:
    """A monocular capture of the video `root` (or of `<subject>.*` in the folder `root`, or of the path `subject`).

    Tracks and cut-out images are cached by the file's hash, the settings and how they are made. Warns, naming the
    file, if it is cut short, changes its size, has cuts, or shows faces in several places. Raises RafError, one line
    naming the file, if it is missing, is not a video, shows no face (with the number of frames searched), or if its
    cache is damaged.
    """
    if profile not in PROFILES:
        raise RafError(f"video profile {profile!r} is not known; choose one of {', '.join(PROFILES)}")
    path, settings = find_video(subject, root), PROFILES[profile]
    made = (*films_tracked_by(TRACKS_VERSION), MODEL_SHA256)
    recording = hashlib.sha256(repr((content_hash(path), asdict(settings), made)).encode()).hexdigest()
    name = path.stem if root is None else subject
    tracks_path = cache_root() / "video" / f"{short_name(path.stem)}-{recording[:16]}.npz"

    def lost(t: int, c: int) -> NoReturn:
        raise RafError(f"{store.path(t, c)}: missing or damaged image; delete {tracks_path} and open the video again")

    store = ImageStore(tracks_path.with_suffix(""), lost)
    tracks = load_tracks(tracks_path, SIGNALS + SCENE)
    if tracks is None:
        tracks = _track(read_info(path), settings, store)
        save_tracks(tracks_path, **tracks)
    for note in tracks.pop("notes"):
        warnings.warn(f"{path}: {note}", stacklevel=3)
    camera = single_view_camera(settings.size, float(tracks.pop("distance")), float(tracks.pop("angle")))
    room = tracks.pop("background").astype(np.float32) / 255
    return Capture(
        name, FEATURE_SPACE, cameras=[camera], groups=GROUPS, frames=store, background=room if room.size else None,
        recording=recording, **tracks,
    )  # fmt: skip
