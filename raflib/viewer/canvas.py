"""The image of a puppet in the browser: shows frames, and sends back where the mouse turned the camera.

Frames travel as messages, not as traits. A trait is set under a lock that the browser's own messages use too, and
frames come from another thread.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from jaxtyping import UInt8
from PIL import Image

from raflib.viewer.newest import Pace

FOLDER = Path(__file__).parent
QUALITY = 92
"""JPEG quality of frames."""


class Canvas(anywidget.AnyWidget):
    """Frames of a scene with a label below each avatar, a coverage meter and the frame rate.

    The browser sends {kind: "orbit", azimuth, elevation, zoom} when the mouse has turned the camera, {kind: "ready"}
    when a view has appeared, {kind: "shown", number} for each frame it shows, and {kind: "rest"} when frames have
    stopped. `listen` gets all of these messages except "shown".

    Traits: `frame` (JPEG bytes of the first frame, which a stored notebook shows), `labels`, `height` and `width` of
    the image on the page in pixels, `meter` (the first reading, see `show`), `limits` of elevation and zoom.
    """

    _esm = FOLDER / "canvas.js"
    _css = FOLDER / "canvas.css"
    frame = traitlets.Bytes(b"").tag(sync=True)
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    width = traitlets.Int(256).tag(sync=True)
    height = traitlets.Int(256).tag(sync=True)
    meter = traitlets.Dict().tag(sync=True)
    limits = traitlets.Dict().tag(sync=True)

    def __init__(self, listen: Callable[[Mapping[str, Any]], None], **traits: Any):
        super().__init__(**traits)
        self.sent = 0
        self._pace, self._listen = Pace(), listen
        self.on_msg(self._received)

    def show(self, image: UInt8[np.ndarray, "H W 3"], meter: Mapping[str, object]) -> None:
        """Send a frame and its reading; waits while the browser has not shown the two frames before.

        `meter` has `distance`, `typical`, `edge` and `word` of `raflib.viewer.meter`.
        """
        data = jpeg(image)
        self._pace.wait(self.sent + 1)
        self.sent += 1
        self.send({"kind": "frame", "number": self.sent, "meter": dict(meter)}, buffers=[data])

    def place_camera(self, azimuth: float, elevation: float, zoom: float) -> None:
        """Tell the browser where the camera is, after a reset."""
        self.send({"kind": "camera", "azimuth": azimuth, "elevation": elevation, "zoom": zoom})

    def _received(self, _: object, content: Mapping[str, Any], __: object) -> None:
        if content.get("kind") == "shown":
            self._pace.answer(int(content["number"]))
        else:
            self._listen(content)


def jpeg(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """The image as JPEG bytes, colours at full resolution."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=QUALITY, subsampling=0)
    return data.getvalue()
