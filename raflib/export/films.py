"""Films of avatars, as MP4 or GIF by the ending of their name: methods side by side, and a camera around the head."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image
from tqdm import tqdm

from raflib.capture import Capture, most_frontal
from raflib.errors import RafError, finite, whole
from raflib.export.cameras import frontal_camera, head_middle
from raflib.export.motion import starts
from raflib.geometry import Camera
from raflib.lab.recordings import driven, image_of
from raflib.report import seconds, strip
from raflib.report.mp4 import write_video
from raflib.runs import atomic_write
from raflib.training import Run
from raflib.training.signals import checked_signals

ENDINGS = (".mp4", ".gif")
COLOURS = 256
"""Colours of a GIF, the same in all its frames, so that nothing flickers."""
NEARLY_WHITE = 248
"""Colours of which all parts are at least this become white, so that a white background stays white."""
SAMPLED = 8
"""Frames from which these colours are chosen."""


def comparison_film(
    runs: Mapping[str, Run],
    target: Capture,
    driver: Capture,
    rows: Int[np.ndarray, "F"],
    path: str | Path,
    camera: Camera | None = None,
    fps: float | int | None = None,
    tile: int = 192,
) -> Path:
    """Write a film of avatars next to each other, all driven by the same frames, and return `path`.

    The columns are the driver, the truth where the source knows it, and one avatar for each of `runs`, with a label
    above each. Head poses are those of `raflib.lab.recordings.driven`.

    Args:
        runs: trained avatars of the target by their labels, such as {"vanilla": …, "noise": …, "RAF": …}.
        target: the capture that the avatars were trained on.
        driver: the capture that drives them; the target itself for self-driving.
        rows: the driver's frames to show, in order.
        path: a file in .mp4 or .gif.
        camera: one of the target's cameras; by default the most frontal one.
        fps: frames a second; by default frames are shown at the times of the driver's recording.
        tile: width of each column in pixels.

    Raises RafError for no avatars or frames, frames without a face, avatars of another person or of other features,
    another file ending, and frames that are not in the order of their times when `fps` is not given.
    """
    path = _film(path)
    rows = np.asarray(rows)
    if not runs:
        raise RafError(f"{path}: no avatars were given; give at least one by its label")
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows) or rows.min() < 0 or rows.max() >= len(driver):
        listed = str(rows.tolist())[:80]
        raise RafError(f"{path}: rows are {listed}, expected frame numbers from 0 to {len(driver) - 1}, at least one")
    if not driver.detected[rows].all():
        lost = rows[~driver.detected[rows]]
        raise RafError(f"{path}: frame {lost[0]} of {driver.subject} shows no face; leave such frames out")
    for name, run in runs.items():
        if run.subject != target.subject:
            raise RafError(f"{path}: avatar {name} is of {run.subject}, expected {target.subject}, the target")
    times = None if fps is not None else seconds(driver)[rows]
    begin = starts(path, len(rows), 25 if fps is None else fps, times)
    camera = target.cameras[most_frontal(target.cameras, 1)[0]] if camera is None else camera
    pose, scale, torso, true = driven(target, driver, rows, camera)
    signals = {
        name: checked_signals(path, run.avatar.config.expression_dim, driver.expression[rows], pose, scale)
        for name, run in runs.items()
    }
    heads = ["driver", *(["truth"] if true else []), *runs]

    def frames() -> Iterator[np.ndarray]:
        for i in tqdm(range(len(rows)), desc="film", unit="frame"):
            images = [image_of(driver, rows[i]), *([true[i]] if true else [])]
            for name, run in runs.items():
                code, head, unit = (values[i : i + 1] for values in signals[name])
                body = None if torso is None else torso[i : i + 1]
                images.append(run.render(code, head, unit, [camera], body)[0])
            yield np.asarray(strip([images], heads, tile=tile))

    return _written(path, frames(), begin)


def turntable(
    run: Run,
    expression: Float[np.ndarray, "d"],
    path: str | Path,
    pose: Float[np.ndarray, "6"] | None = None,
    scale: float | None = None,
    camera: Camera | None = None,
    length: float | int = 6,
    fps: float | int = 25,
) -> Path:
    """Write a film of one expression in which the camera goes once around the head, and return `path`.

    Training saw the head from some sides only, so the others may look wrong.

    Args:
        run: the trained avatar.
        expression: features of the avatar's own feature space.
        path: a file in .mp4 or .gif.
        pose: head pose, axis-angle (radians) then translation (metres); by default the median of the training.
        scale: metres a canonical unit; by default the median of the training.
        camera: where the camera starts; by default in front of the face, for images of the training's size.
        length: of the film in seconds.
        fps: frames a second.

    Raises RafError for signals that the avatar cannot be driven with, another file ending, and no frames.
    """
    path = _film(path)
    length = finite(f"{path}: length (seconds)", length, 0)
    starts(path, 1, fps)  # checks the rate
    count = whole(f"{path}: number of frames", round(length * fps), 1)
    pose = run.avatar.median_pose.cpu().numpy() if pose is None else pose
    scale = float(run.avatar.median_scale) if scale is None else scale
    signals = checked_signals(
        path, run.avatar.config.expression_dim, np.asarray(expression)[None], np.asarray(pose)[None], [scale]
    )
    middle = head_middle(*signals[1:])
    camera = frontal_camera(run) if camera is None else camera
    angles = [2 * math.pi * i / count for i in range(count)]
    views = (camera.orbited(middle, angle) for angle in tqdm(angles, desc="turntable", unit="frame"))
    return _written(path, (run.render(*signals, [view])[0] for view in views), starts(path, count, fps))


def write_gif(path: str | Path, frames: Iterable[np.ndarray], begin: Float[np.ndarray, "T"]) -> Path:
    """Write `frames` ([H,W,3], uint8 or float in [0,1]) as a GIF that repeats; returns `path`.

    `begin` are the seconds at which frames begin, and the end of the last one; a GIF keeps hundredths of a second.
    Raises RafError for no frames and frames of different sizes.
    """
    path, images = Path(path), []
    for frame in frames:
        pixels = frame if frame.dtype == np.uint8 else (np.clip(frame, 0, 1) * 255 + 0.5).astype(np.uint8)
        images.append(Image.fromarray(pixels))
        if images[-1].size != images[0].size:
            raise RafError(f"{path}: frame {len(images) - 1} is {images[-1].size}, expected {images[0].size}")
    if not images:
        raise RafError(f"{path}: no frames were given; a film needs at least one")
    some = [images[i] for i in np.unique(np.linspace(0, len(images) - 1, SAMPLED).astype(int))]
    sheet = Image.fromarray(np.concatenate([np.asarray(image) for image in some]))
    colours = sheet.quantize(COLOURS - 1, Image.Quantize.MEDIANCUT)
    chosen = np.full((COLOURS, 3), 255, np.uint8)
    found = np.array(colours.getpalette(), np.uint8).reshape(-1, 3)[: COLOURS - 1]
    chosen[: len(found)] = np.where((found >= NEARLY_WHITE).all(1, keepdims=True), 255, found)
    colours.putpalette(chosen.tobytes())
    shown = [image.quantize(palette=colours, dither=Image.Dither.NONE) for image in images]
    ends = np.rint(100 * begin).astype(int)
    lengths = [max(2, int(step)) * 10 for step in np.diff(ends)]  # browsers slow shorter frames down
    with atomic_write(path) as temporary:
        options = {"save_all": True, "append_images": shown[1:], "duration": lengths, "loop": 0}
        shown[0].save(temporary, format="GIF", **options)
    return path


def _film(path: str | Path) -> Path:
    """`path`; RafError where its ending names no film."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise RafError(f"{path}: a film ends in {' or '.join(ENDINGS)}; choose such a name")
    return path


def _written(path: Path, frames: Iterator[np.ndarray], begin: Float[np.ndarray, "T"]) -> Path:
    """Write a film whose frames begin at these seconds, the last number being its end."""
    if path.suffix.lower() == ".gif":
        return write_gif(path, frames, begin)
    return write_video(path, frames, times=begin[:-1]) if len(begin) > 2 else write_video(path, frames, 1 / begin[-1])
