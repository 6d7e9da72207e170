"""`export_html`: a driven avatar as one page that plays in a browser, without a network and without other files.

The page holds the Gaussians of every frame (`raflib.export.packing`) and a player: four files in
`raflib/export/player`. It renders by the rules of `raflib.render`, so its images are those of `Run.render`: the
mean difference is less than half a grey level. A reader can turn the view, zoom, stop and scrub.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import Float

from raflib.errors import RafError
from raflib.export.cameras import depth_of, frontal_camera, head_middle
from raflib.export.motion import posed, starts
from raflib.export.packing import pack
from raflib.geometry import Camera
from raflib.runs import atomic_write
from raflib.training import Run
from raflib.training.signals import checked_signals, checked_torso

ENDINGS = (".html", ".htm")


def export_html(
    run: Run,
    expression: Float[np.ndarray, "F d"],
    pose: Float[np.ndarray, "F 6"],
    scale: Float[np.ndarray, "F"],
    path: str | Path,
    camera: Camera | None = None,
    fps: float | int = 25,
    times: Iterable[float | int] | None = None,
    title: str = "",
    torso: Float[np.ndarray, "F 6"] | None = None,
) -> Path:
    """Write the avatar, driven by F frames, as the page `path`, and return `path`.

    The page shows the first three channels on white; it cannot run an upsampler. It needs a browser with WebGL 2, which
    all have had since 2021. The demo's avatar (12,000 Gaussians) takes 4.3 MB for ten seconds (250 frames).

    Args:
        run: the trained avatar.
        expression: features of the avatar's own feature space.
        pose: head poses, axis-angle (radians) then translation (metres).
        scale: metres a canonical unit.
        path: a file in .html.
        camera: the first view, and the size at which Gaussians are blurred as in training; by default a camera in front
            of the face with the size of the training's images.
        fps: frames a second.
        times: in place of `fps`, seconds at which frames begin, increasing.
        title: heading of the page; by default "Avatar of" and the subject.
        torso: how the torso moves (see `Capture.torso`); by default it rests.

    Raises RafError for signals that the avatar cannot be driven with, another file ending, and times that do not
    increase.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise RafError(f"{path}: a page ends in .html; choose such a name")
    signals = checked_signals(path, run.avatar.config.expression_dim, expression, pose, scale)
    begin = starts(path, len(signals[0]), fps, times)
    camera = frontal_camera(run) if camera is None else camera
    middle = head_middle(*signals[1:])
    moved = checked_torso(path, len(signals[0]), torso)
    packed = pack(posed(run, *signals, moved), depth_of(camera, middle) / camera.intrinsic[0, 0])
    header = packed.header() | {
        "times": np.round(begin, 5).tolist(),
        "camera": _described(camera, run.config.avatar.blur * run.config.avatar.upsampling**2),
        "pivot": middle.tolist(),
    }
    note = f"{packed.count:,} Gaussians, {packed.frames} frames. Method: {run.method}. Made with raf-lab."
    texts = {
        "title": html.escape(title or f"Avatar of {run.subject}"),
        "note": html.escape(note),
        "style": template("player.css"),
        "scene": template("scene.js"),
        "player": template("player.js"),
        "header": json.dumps(header).replace("<", "\\u003c"),  # no text can end the script element
        "data": base64.b64encode(packed.data()).decode(),
    }
    with atomic_write(path) as temporary:
        page = re.sub(r"@(\w+)@", lambda mark: texts[mark[1]], template("page.html"))
        temporary.write_text(page, encoding="utf-8", newline="")
    return path


def template(name: str) -> str:
    """The text of one file of the player."""
    return (resources.files("raflib.export") / "player" / name).read_text(encoding="utf-8")


def _described(camera: Camera, blur: float) -> dict[str, object]:
    """A camera as the page reads it; `blur` is the variance that is added to every splat, in pixels² of this camera."""
    k = camera.intrinsic
    return {
        "turn": camera.extrinsic[:3, :3].tolist(),
        "shift": camera.extrinsic[:3, 3].tolist(),
        "lens": [k[0, 0], k[1, 1], k[0, 2], k[1, 2]],
        "blur": blur,
        "width": camera.width,
        "height": camera.height,
    }
