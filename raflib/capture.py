"""`Capture`: one person's recording as all other modules read it.

A source (`raflib.sources`) makes captures; banks, samplers, training and evaluation read them and never ask where they
came from. Signals are plain arrays over frames; images are read lazily by (frame, camera). The features come from a
tracker. `truth` exists only where a source knows the true performance, and only evaluation may read it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from raflib.errors import RafError, whole
from raflib.geometry import Camera

HELD_OUT = "FREE"
"""The sequence that is never trained on (paper §5): self-driving and cross-driving are measured on it."""
APART = 100_000
"""How far the frame numbers of recordings that are held out together are apart."""


@runtime_checkable
class Frames(Protocol):
    """Images and masks of a capture. `t` indexes frames of the capture, `c` its cameras."""

    def image(self, t: int, c: int) -> UInt8[np.ndarray, "H W 3"]: ...

    def mask(self, t: int, c: int) -> UInt8[np.ndarray, "H W"]: ...


@dataclass(frozen=True, eq=False)
class Performed:
    """True images of the target and how its head was tracked on them.

    Attributes:
        images: [F,C,H,W,3] from each wanted camera.
        pose: [F,6] in the canonical frame of the target's training capture; NaN where the tracker lost the face.
        scale: [F] metres a canonical unit.
        landmarks: [F,L,3] world metres; NaN where the tracker lost the face.
        detected: [F].
    """

    images: UInt8[np.ndarray, "F C H W 3"]
    pose: Float[np.ndarray, "F 6"]
    scale: Float[np.ndarray, "F"]
    landmarks: Float[np.ndarray, "F L 3"]
    detected: Bool[np.ndarray, "F"]


@dataclass(frozen=True)
class Truth:
    """The true performance: `actions` [T,52] after personal style, head `angles` [T,3] (yaw, pitch, roll;
    degrees), the rigid head `pose` [T,6] relative to the neutral head (world metres), and where the tracker's
    `landmarks` [T,478,3] really are on the head (world metres). `perform(target, driver, rows, cameras, tracker,
    progress)`, if the source can, shows the target person performing those rows of the driver: the truth of
    cross-driving."""

    actions: Float[np.ndarray, "T 52"]
    angles: Float[np.ndarray, "T 3"]
    pose: Float[np.ndarray, "T 6"]
    landmarks: Float[np.ndarray, "T 478 3"]
    perform: Callable[..., Performed] | None = None


@dataclass(frozen=True, eq=False)
class Capture:
    """One person's recording.

    Attributes:
        subject: the person's id, a string ("074" stays "074").
        feature_space: tag of `expression`, e.g. "arkit52"; features of different spaces are never mixed.
        cameras: the calibrated views.
        expression: [T,d] tracked expression features; NaN where no face was found.
        pose: [T,6] head pose, axis-angle then translation (metres); NaN where no face was found.
        scale: [T] metres a canonical unit.
        landmarks: [T,L,3] world metres; NaN where no face was found.
        neutral: [L,3] the person's neutral landmarks in canonical head space (decimetres).
        groups: which landmark rows form "rigid" (do not move with expression), "blend" (spread over the face, for the
            avatar's distance blending) and "lips"; sources number landmarks differently.
        sequence, frame: [T] which recording a row belongs to and its frame number there.
        detected: [T] whether the tracker found the face. Frames without a face are marked, never filled in.
        frames: the images.
        head_map: where the source has one, the map of the head's texture that finds this person's pose, in the frame of
            `pose`, in other images of them (`raflib.tracking.HeadMap`).
        truth: only on sources that own the performance; for evaluation only.
        background: None for white; [H,W,3] in [0,1] where a single static camera sees a real room.
        time: [T] seconds from the start of its recording to each frame; None where the source does not know.
        torso: [T,6] rigid motion of the torso from its median place over the training frames, in the world: axis-angle
            (radians), then translation (metres), x ↦ R x + t. NaN where no face was found. None where the source does
            not follow it.
        recording: the source's own mark of what was recorded (content of a file, settings, versions), for
            `fingerprint`. Two recordings with other images have other marks.
        spaces: [T,d2] features of the same frames in further spaces, by tag; rows of NaN where they are not known.
    """

    subject: str
    feature_space: str
    cameras: list[Camera]
    expression: Float[np.ndarray, "T d"]
    pose: Float[np.ndarray, "T 6"]
    scale: Float[np.ndarray, "T"]
    landmarks: Float[np.ndarray, "T L 3"]
    neutral: Float[np.ndarray, "L 3"]
    groups: Mapping[str, tuple[int, ...]]
    sequence: np.ndarray
    frame: Int[np.ndarray, "T"]
    detected: Bool[np.ndarray, "T"]
    frames: Frames = field(repr=False)
    head_map: object | None = field(default=None, repr=False)
    truth: Truth | None = field(default=None, repr=False)
    background: Float[np.ndarray, "H W 3"] | None = field(default=None, repr=False)
    time: Float[np.ndarray, "T"] | None = field(default=None, repr=False)
    torso: Float[np.ndarray, "T 6"] | None = field(default=None, repr=False)
    recording: str = field(default="", repr=False)
    spaces: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        for name in ("sequence", "frame", "detected"):  # a list would compare as a whole, not frame by frame
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        for name in ("pose", "scale", "landmarks", "sequence", "frame", "detected"):
            if len(getattr(self, name)) != len(self.expression):
                raise RafError(
                    f"capture {self.subject}: {name} has {len(getattr(self, name))} rows but expression has "
                    f"{len(self.expression)}; every per-frame signal needs one row a frame"
                )
        if self.time is not None and len(self.time) != len(self.expression):
            raise RafError(f"capture {self.subject}: {len(self.time)} times for {len(self.expression)} frames")
        if self.torso is not None:
            if np.shape(self.torso) != (len(self), 6):
                raise RafError(
                    f"capture {self.subject}: torso has shape {list(np.shape(self.torso))}, expected {[len(self), 6]}"
                )
            if not np.isfinite(self.torso[self.detected]).all():
                raise RafError(
                    f"capture {self.subject}: torso of a detected frame is not finite; give it a motion in each frame "
                    "with a face"
                )
        missing = {"rigid", "blend", "lips"} - set(self.groups)
        if missing:
            raise RafError(f"capture {self.subject}: landmark groups {', '.join(sorted(missing))} are not given")
        if not np.isfinite(self.expression[self.detected]).all():
            raise RafError(
                f"capture {self.subject}: expression of a detected frame is not finite; mark the frame as not detected"
            )
        for tag, features in self.spaces.items():
            if not tag or tag == self.feature_space:
                raise RafError(
                    f"capture {self.subject}: a further space is named {tag!r} and `expression` is "
                    f"{self.feature_space}; give each space a name of its own"
                )
            if features.ndim != 2 or len(features) != len(self):
                raise RafError(
                    f"capture {self.subject}: {tag} features have shape {list(features.shape)}, expected one row for "
                    f"each of {len(self)} frames"
                )
            if not (np.isfinite(features).all(1) | np.isnan(features).all(1)).all():
                raise RafError(
                    f"capture {self.subject}: a row of {tag} features is partly NaN or infinite; mark the whole row NaN"
                )

    def __len__(self) -> int:
        return len(self.expression)

    @property
    def train(self) -> Bool[np.ndarray, "T"]:
        """Frames that may be trained on: a face was found and the sequence is not held out."""
        return self.detected & (self.sequence != HELD_OUT)

    @property
    def free(self) -> Bool[np.ndarray, "T"]:
        """Held-out frames with a face: only evaluation reads them."""
        return self.detected & (self.sequence == HELD_OUT)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the signals, the cameras and `recording`: the same for the same recording, whatever it is
        called, and another one for another recording of the same name. `subject` and `truth` are not part of it. The
        torso and further spaces are, where there are any."""
        digest = hashlib.sha256(repr((self.recording, self.feature_space, sorted(self.groups.items()))).encode())
        signals = (self.expression, self.pose, self.scale, self.landmarks, self.neutral, self.frame, self.detected)
        sequence = np.asarray(self.sequence).astype(str)
        cameras = [part for c in self.cameras for part in (c.extrinsic, c.intrinsic, np.array([c.width, c.height]))]
        more = (values for values in (self.background, self.torso) if values is not None)
        for values in (*signals, sequence, *cameras, *more):
            values = np.ascontiguousarray(values)
            digest.update(f"|{values.dtype.str}{values.shape}|".encode() + values.tobytes())
        for tag, features in sorted(self.spaces.items()):
            values = np.ascontiguousarray(features)
            digest.update(f"|{tag!r}{values.dtype.str}{values.shape}|".encode() + values.tobytes())
        return digest.hexdigest()

    @property
    def with_image(self) -> Bool[np.ndarray, "T"]:
        """Detected frames that have images, and so landmarks. A benchmark may give the expressions of a held-out
        sequence without its images."""
        return self.detected & np.isfinite(self.landmarks).any((1, 2))

    def torso_at(self, rows: Sequence[int] | Int[np.ndarray, "F"]) -> Float[np.ndarray, "F 6"] | None:
        """The torso's motion in the frames `rows`; None where the source does not follow it."""
        return None if self.torso is None else self.torso[rows]

    def image(self, t: int, c: int) -> UInt8[np.ndarray, "H W 3"]:
        """The image of frame `t` from camera `c`."""
        return self.frames.image(whole("frame", t, 0), whole("camera", c, 0))

    def mask(self, t: int, c: int) -> UInt8[np.ndarray, "H W"]:
        """Alpha (0..255) of the person in frame `t` from camera `c`."""
        return self.frames.mask(whole("frame", t, 0), whole("camera", c, 0))


def most_frontal(cameras: Sequence[Camera], count: int) -> list[int]:
    """Indices of the `count` cameras whose axes are nearest to the frontal camera's (+z), most frontal first."""
    return [int(i) for i in np.argsort([-camera.extrinsic[2, 2] for camera in cameras], kind="stable")[:count]]


def choose_cameras(capture: Capture, count: int, choice: str = "spread") -> list[int]:
    """Indices of `count` cameras (all if there are fewer): "spread" over the capture's views by azimuth, or "frontal",
    those nearest to the front."""
    if choice not in ("spread", "frontal"):
        raise RafError(f"camera_choice is {choice!r}; choose 'spread' or 'frontal'")
    if choice == "frontal":
        return sorted(most_frontal(capture.cameras, count))
    azimuth = [np.arctan2(camera.centre[0], -camera.centre[2]) for camera in capture.cameras]
    order = np.argsort(azimuth, kind="stable")
    picked = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return sorted(int(order[index]) for index in picked)


def hold_out(capture: Capture, names: Sequence[str]) -> Capture:
    """The capture with the sequences `names` held out in place of FREE, whose frames count as not detected.

    So settings can be compared without a look at FREE, and a recording whose FREE has no images can be evaluated. Frame
    numbers of the second sequence of `names` are raised by `APART`, of the third by twice that, so that each names one
    frame. Raises RafError for a sequence that the capture does not have, and where no sequence is left to train on.
    """
    sequence = np.asarray(capture.sequence).astype(str)
    if missing := sorted(set(names) - set(sequence) | {HELD_OUT} & set(names)):
        have = ", ".join(sorted(set(sequence) - {HELD_OUT}))
        raise RafError(
            f"capture {capture.subject} cannot hold out {', '.join(missing)} in place of {HELD_OUT}; choose from {have}"
        )
    free = sequence == HELD_OUT
    renamed = np.where(np.isin(sequence, names), HELD_OUT, np.where(free, "unused", sequence))
    order = {name: place for place, name in enumerate(dict.fromkeys(names))}
    frame = capture.frame + APART * np.array([order.get(name, 0) for name in sequence.tolist()])
    changed = replace(capture, sequence=renamed, frame=frame, detected=capture.detected & ~free)
    if not changed.train.any():
        raise RafError(f"capture {capture.subject}: all its sequences are held out; leave some to train on")
    return changed


def shown(capture: Capture) -> Float[np.ndarray, "T d"]:
    """The capture's expressions with NaN rows for all frames that may not be trained on, as `fit` shows them."""
    return np.where(capture.train[:, None], capture.expression, np.float32(np.nan))


def shown_spaces(capture: Capture) -> dict[str, Float[np.ndarray, "T _"]]:
    """The capture's features in further spaces, by tag, with NaN rows as `shown` has them."""
    hidden = np.float32(np.nan)
    return {tag: np.where(capture.train[:, None], features, hidden) for tag, features in capture.spaces.items()}
