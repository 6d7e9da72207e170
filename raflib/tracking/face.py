"""`FaceTracker`: one image → 52 expression scores, 478 landmarks and a head matrix, or None where there is no face.

MediaPipe's FaceLandmarker behind one function call. Every image is tracked on its own (mode "image"), so results do not
depend on order; mode "video" lets MediaPipe smooth over consecutive frames. The model file ships in `data` and is
checked by its hash; nothing is downloaded. An image without a face gives None; nothing is filled in.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from raflib.errors import RafError
from raflib.reading.names import content_hash
from raflib.runs import data_root
from raflib.system import APART, STOP_SIGNALS
from raflib.tracking import worker

MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
MODEL = "face_landmarker.task"
FOV_DEGREES = 63.0
"""Vertical field of view of the virtual camera MediaPipe's matrix refers to."""
MAX_SIDE = 32_766
"""Longest side (pixels) of an image; MediaPipe's image library counts pixels of a side in 16 bits."""

ARKIT52 = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
"""Names of the `arkit52` feature space in MediaPipe's order (it has `_neutral` and no tongueOut)."""


class ImageFailed(RafError):
    """MediaPipe failed on one image; the tracker goes on with others."""


@dataclass(frozen=True, eq=False)
class Observation:
    """One face in one image.

    Attributes:
        expression: [52] scores in [0, 1], in the order of `ARKIT52`.
        points: [478,2] pixels of the image (pixel centres at +0.5).
        depth: [478] relative depth in the same pixels, smaller is nearer; its origin is about the head's middle.
        matrix: [4,4] canonical face (cm) → MediaPipe's virtual camera over this image (x right, y up, looking to −z,
            vertical field of view `FOV_DEGREES`, principal point at the middle).
    """

    expression: Float[np.ndarray, "52"]
    points: Float[np.ndarray, "478 2"]
    depth: Float[np.ndarray, "478"]
    matrix: Float[np.ndarray, "4 4"]

    @property
    def rotation(self) -> Float[np.ndarray, "3"]:
        """Rotation of the head: axis-angle (radians) in the camera's axes of `raflib.geometry`, 0 for a face that looks
        into the camera. It is the tracker's own estimate, with a bias for every person."""
        from scipy.spatial.transform import Rotation

        turn = Rotation.from_matrix(self.matrix[:3, :3].astype(np.float64)).as_rotvec()
        return (turn * (1, -1, -1)).astype(np.float32)  # MediaPipe's y points up and its z at the viewer

    def in_larger_image(self, x: int, y: int, window: int, width: int, height: int) -> Observation:
        """The same face seen in the `width` × `height` image of which this one is the square window at (x, y).

        The matrix keeps its rotation; its translation is moved so that it projects to the same pixels at the same size.
        """
        matrix = self.matrix.copy()
        matrix[2, 3] *= height / window  # both cameras have the same angle of view, so focal lengths go as heights
        metres_a_pixel = -matrix[2, 3] * 2 * np.tan(np.radians(FOV_DEGREES) / 2) / height
        matrix[0, 3] += (x + window / 2 - width / 2) * metres_a_pixel
        matrix[1, 3] -= (y + window / 2 - height / 2) * metres_a_pixel
        return replace(self, points=self.points + np.float32([x, y]), matrix=matrix)


def default_model() -> Path:
    """Path of the model that ships with the project."""
    return data_root() / MODEL


def checked_model(path: str | Path | None = None) -> Path:
    """`path`, or the default model, after its hash was checked; RafError naming the file when missing or different."""
    return checked_content(
        default_model() if path is None else Path(path), MODEL, MODEL_SHA256, "the face tracker's model"
    )


def checked_content(path: Path, name: str, sha256: str, what: str) -> Path:
    """`path`, after its content was compared with `sha256`; RafError naming the file when missing or different.

    `name` is the file in `data` that ships with the project, and `what` describes it.
    """
    restore = f"it ships with the project: restore data/{name} (git checkout data/{name}), or pass model_path"
    if not path.is_file():
        raise RafError(f"{path}: {what} is missing; {restore}")
    if (found := content_hash(path)) != sha256:
        raise RafError(f"{path}: not the expected model (sha256 {found[:12]}…, not {sha256[:12]}…); {restore}")
    return path


def search_windows(height: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Square windows (x, y, side) to look for a small face in: halves of the shorter side, then quarters, overlapping.

    A face detector shrinks its input to 128 pixels, so it misses a face smaller than about a tenth of the image.
    """
    shorter = min(height, width)
    for divisor in (1, 2, 4):
        side = shorter // divisor
        if side < 64 or side == max(height, width):
            continue
        rows = np.linspace(0, height - side, max(1, round(2 * height / side) - 1)).astype(int)
        columns = np.linspace(0, width - side, max(1, round(2 * width / side) - 1)).astype(int)
        yield from ((int(x), int(y), side) for y in rows for x in columns)


class FaceTracker:
    """Callable that finds one face. `mode` is "image" (every call on its own) or "video" (consecutive frames).

    MediaPipe runs in a child process (see `worker`) that ends with `close()`, the `with` block or the program; one
    tracker serves one thread. Raises RafError for an unknown mode and for a missing or altered model. When the process
    dies over an image, that call raises RafError and the next one starts another process.
    """

    def __init__(self, mode: str = "image", model_path: str | Path | None = None):
        if mode not in ("image", "video"):
            raise RafError(f"FaceTracker: mode {mode!r} is unknown; use 'image' or 'video'")
        self.mode, self._model, self._closed = mode, checked_model(model_path), False
        self._start()

    def _start(self) -> None:
        self._answered = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, "-P", worker.__file__, str(self._model)],  # -P: no module of this folder shadows others
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **worker.OFFLINE},
            **APART,  # an interrupt in a notebook must not end the tracker between two frames
        )

    def __call__(self, image: np.ndarray) -> Observation | None:
        """The face in an RGB image (uint8 [H,W,3]), or None.

        A face too small to be found in the whole image is searched in smaller windows, then tracked in a window around
        it; its coordinates refer to the whole image. Raises RafError for an image of another kind or without pixels,
        and if MediaPipe fails on it; the tracker continues with the next image.
        """
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise RafError(f"FaceTracker: expected uint8 [H,W,3] RGB, got {image.dtype} {image.shape}; convert it")
        if not 1 <= min(image.shape[:2]) <= max(image.shape[:2]) <= MAX_SIDE:
            raise RafError(
                f"FaceTracker: expected uint8 [H,W,3] RGB with sides of 1 to {MAX_SIDE} pixels, got {image.shape}; "
                "check the crop"
            )
        found = self._ask(image, stream=int(self.mode == "video"))
        return self._small_face(image) if found is None else found

    def _small_face(self, image: np.ndarray) -> Observation | None:
        height, width = image.shape[:2]
        for x, y, side in search_windows(height, width):
            coarse = self._ask(image[y : y + side, x : x + side])
            if coarse is None:
                continue
            low, high = np.array([x, y]) + coarse.points.min(0), np.array([x, y]) + coarse.points.max(0)
            side = int(min(max(128, 2 * (high - low).max()), height, width))
            x, y = np.clip(((low + high - side) / 2).astype(int), 0, (width - side, height - side)).tolist()
            fine = self._ask(image[y : y + side, x : x + side])
            if fine is not None:
                return fine.in_larger_image(x, y, side, width, height)
        return None

    def _ask(self, image: np.ndarray, stream: int = 0) -> Observation | None:
        if self._closed:
            raise RafError("FaceTracker: this tracker is closed; make a new one")
        if self._process is None:
            self._start()
        try:
            self._process.stdin.write(worker.REQUEST.pack(stream, *image.shape[:2]))
            self._process.stdin.write(np.ascontiguousarray(image).data)
            self._process.stdin.flush()
            answer = self._read(1)
            if answer == worker.FAILED:
                words = self._read(worker.LENGTH.unpack(self._read(worker.LENGTH.size))[0]).decode()
            values = np.frombuffer(self._read(4 * worker.REPLY_FLOATS), "<f4") if answer == worker.FOUND else None
            self._answered = True
        except (OSError, EOFError):  # on Windows a broken pipe is a plain OSError
            reason = self._why_it_ended(image)
            self._stop()
            raise RafError(reason) from None
        except BaseException:  # an interrupt between request and reply would leave the two out of step
            self._stop()
            raise
        if answer == worker.FAILED:
            raise ImageFailed(
                f"FaceTracker: MediaPipe failed on an image of shape {image.shape} ({words}); leave it out"
            )
        if values is None:
            return None
        scores, points, matrix = np.split(values, [52, 52 + 3 * 478])
        points = points.reshape(478, 3)
        return Observation(scores.copy(), points[:, :2].copy(), points[:, 2].copy(), matrix.reshape(4, 4).copy())

    def _read(self, count: int) -> bytes:
        data = self._process.stdout.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def _why_it_ended(self, image: np.ndarray) -> str:
        """The reason why the process ended, as one line; a signal is named, because it is not in the log."""
        status = self._process.wait(timeout=10)
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        words = f", last words: {lines[-1]}" if lines else ""
        if _signal_name(-status) == "SIGKILL":
            words, remedy = "", "systems kill when memory runs out: close other programs or use smaller images"
        elif -status in STOP_SIGNALS:
            words, remedy = "", "another program ended it: run this again"
        else:
            remedy = "leave this image out" if self._answered else "check its installation, or leave this image out"
        ended = f"killed by signal {-status} ({_signal_name(-status)})" if status < 0 else f"exit status {status}"
        return f"FaceTracker: MediaPipe's process ended over an image of shape {image.shape} ({ended}{words}); {remedy}"

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(OSError):
                process.stdin.close()
            try:
                process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
            self._log.close()

    def close(self) -> None:
        """End MediaPipe's process; the tracker cannot be used afterwards. A second call does nothing."""
        self._closed = True
        self._stop()

    def __enter__(self) -> FaceTracker:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None:
            self.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no name
        return "unnamed"
