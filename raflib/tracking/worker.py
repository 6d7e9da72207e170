"""The process that runs MediaPipe: images come in on stdin, observations go out on stdout, until stdin closes.

MediaPipe's wheel writes to stderr from C++ and (since 0.10.35) reports its own use to play.googleapis.com. In a process
of its own it can do neither: `FaceTracker` starts this module with stderr in a file and with web proxies that lead
nowhere, without touching the environment of the program that uses the tracker. Nothing is pickled: a request is
`REQUEST` then H·W·3 bytes of RGB, a reply is one byte, `NOTHING`, `FOUND` or `FAILED`. After `FOUND` come
`REPLY_FLOATS` float32: 52 scores, 478 × (x, y, z) with x and y in pixels and z in pixels of the image's width, and the
4×4 matrix, row by row. After `FAILED` come `LENGTH` and that many bytes of UTF-8: MediaPipe's message.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mediapipe.tasks.python.vision import FaceLandmarker, FaceLandmarkerResult

REQUEST = struct.Struct("<BII")
"""Stream (0 = independent image, 1 = next frame of a video), height, width."""
NOTHING, FOUND, FAILED = b"\0", b"\1", b"\2"
LENGTH = struct.Struct("<I")
REPLY_FLOATS = 52 + 478 * 3 + 16
FRAME_MS = 40
OFFLINE = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:9"),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), ""),
}
"""Environment in which no web request leaves the machine: each goes to a local port without a listener."""


def _landmarker(model: bytes, video: bool) -> FaceLandmarker:
    from mediapipe.tasks.python import BaseOptions, vision

    return vision.FaceLandmarker.create_from_options(
        vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=model),
            running_mode=vision.RunningMode.VIDEO if video else vision.RunningMode.IMAGE,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
            num_faces=1,
        )
    )


def _reply(result: FaceLandmarkerResult, height: int, width: int) -> bytes:
    if not result.face_landmarks or not result.face_blendshapes or not result.facial_transformation_matrixes:
        return NOTHING
    points = np.array([(point.x, point.y, point.z) for point in result.face_landmarks[0]]) * (width, height, width)
    scores = [category.score for category in result.face_blendshapes[0]]
    values = np.concatenate([scores, points.ravel(), np.ravel(result.facial_transformation_matrixes[0])])
    if values.size != REPLY_FLOATS or not np.isfinite(values).all():
        return NOTHING
    return FOUND + values.astype("<f4").tobytes()


def main(path: str) -> None:
    """Serve requests until stdin closes. `path` is that of the face_landmarker.task bundle."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not get between two replies
    import mediapipe as mp

    # The file is read here, because MediaPipe does not open every path on Windows.
    model, landmarkers, frame = Path(path).read_bytes(), {}, 0
    while len(head := source.read(REQUEST.size)) == REQUEST.size:
        stream, height, width = REQUEST.unpack(head)
        pixels = np.frombuffer(source.read(height * width * 3), np.uint8).reshape(height, width, 3)
        if stream not in landmarkers:
            landmarkers[stream] = _landmarker(model, video=bool(stream))
        frame += stream
        try:
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=pixels.copy())
            if stream:
                result = landmarkers[stream].detect_for_video(image, frame * FRAME_MS)
            else:
                result = landmarkers[stream].detect(image)
            reply = _reply(result, height, width)
        except Exception as error:  # it concerns this image only: the caller is told, and the next image follows
            words = " ".join(str(error).split()).encode()
            reply = FAILED + LENGTH.pack(len(words)) + words
            landmarkers.pop(stream)  # its graph may be left in an error; the next image gets a fresh one
        sink.write(reply)
        sink.flush()
    os._exit(0)  # skips MediaPipe's own exit, which waits for its usage report


if __name__ == "__main__":
    main(sys.argv[1])
