"""A small studio capture in one file, which a machine without the face tracker can train on.

`film` records the studio's person and keeps the images that `used` asks for. `read` returns the same capture from the
file. Images are JPEG (quality 95, colour not subsampled) and masks PNG, so the file holds a few dozen MB.
"""

import io
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from raflib.capture import Capture
from raflib.geometry import Camera
from raflib.runs import atomic_write

SIGNALS = ("expression", "pose", "scale", "landmarks", "neutral", "sequence", "frame", "detected")


class Packed:
    """Images and masks by (frame, camera), as encoded bytes: `raflib.capture.Frames`."""

    def __init__(self, encoded: dict[tuple[int, int], tuple[bytes, bytes]]):
        self.encoded = encoded

    def image(self, t: int, c: int) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self.encoded[t, c][0])))

    def mask(self, t: int, c: int) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self.encoded[t, c][1])))


class Noting:
    """Frames that note which of another's frames are asked for."""

    def __init__(self, frames):
        self.frames, self.asked = frames, set()

    def image(self, t: int, c: int) -> np.ndarray:
        self.asked.add((t, c))
        return self.frames.image(t, c)

    def mask(self, t: int, c: int) -> np.ndarray:
        self.asked.add((t, c))
        return self.frames.mask(t, c)


def film(subject: str, used: Callable[[Capture], object], path: Path) -> None:
    """Record `subject` at 512², 8 frames of each training sequence and 40 of FREE; write what `used` looks at."""
    from raflib.sources import studio

    studio.PROFILES["bench"] = studio.StudioProfile(size=512, per_sequence=8, free=40)
    keep(studio.open(subject, "bench"), used, path)


def keep(capture: Capture, used: Callable[[Capture], object], path: Path) -> None:
    """Write the signals of `capture`, and those of its images that `used` looks at."""
    noting = Noting(capture.frames)
    used(replace(capture, frames=noting, truth=None, head_map=None))
    pairs = sorted(noting.asked)
    blobs = []
    for t, c in pairs:
        for image, options in ((capture.image(t, c), {"quality": 95, "subsampling": 0}), (capture.mask(t, c), {})):
            stream = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(image)).save(stream, "jpeg" if options else "png", **options)
            blobs.append(stream.getvalue())
    cameras = [(c.name, c.extrinsic.tolist(), c.intrinsic.tolist(), c.width, c.height) for c in capture.cameras]
    about = {"subject": capture.subject, "feature_space": capture.feature_space, "groups": dict(capture.groups)}
    about |= {"cameras": cameras, "recording": capture.recording + " packed"}
    with atomic_write(path) as temporary:
        np.savez(
            temporary,
            **{name: getattr(capture, name) for name in SIGNALS},
            about=np.array(json.dumps(about)),
            pairs=np.array(pairs),
            ends=np.cumsum([len(blob) for blob in blobs]),
            data=np.frombuffer(b"".join(blobs), np.uint8),
        )


def read(path: Path) -> Capture:
    """The capture of a file that `keep` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        values = {name: stored[name] for name in stored.files}
    about = json.loads(str(values["about"]))
    data, ends = values["data"].tobytes(), [0, *values["ends"].tolist()]
    blobs = [data[first:last] for first, last in itertools.pairwise(ends)]
    pairs = [(int(t), int(c)) for t, c in values["pairs"]]
    cameras = [Camera(name, np.array(e), np.array(i), w, h) for name, e, i, w, h in about["cameras"]]
    return Capture(
        subject=about["subject"], feature_space=about["feature_space"], recording=about["recording"], cameras=cameras,
        groups={name: tuple(rows) for name, rows in about["groups"].items()},
        frames=Packed(dict(zip(pairs, zip(blobs[::2], blobs[1::2], strict=True), strict=True))),
        **{name: values[name] for name in SIGNALS},
    )  # fmt: skip
