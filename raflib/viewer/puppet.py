"""`Puppet`: a trained avatar with sliders, in a notebook.

The browser's messages only change the current `View` and post it to a thread that renders the newest one
(`raflib.viewer.newest`). Nearest faces are found in a second thread, when the browser says that frames have stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

import ipywidgets as w
import numpy as np
from jaxtyping import Float, UInt8

from raflib.bank import ExpressionBank
from raflib.capture import Capture
from raflib.driving import NOMINAL_FPS
from raflib.errors import RafError
from raflib.training import Run
from raflib.viewer.canvas import Canvas, jpeg
from raflib.viewer.controls import kinds_of_controls
from raflib.viewer.drive import Drive, drives
from raflib.viewer.meter import Coverage
from raflib.viewer.neighbours import Faces, Neighbours
from raflib.viewer.newest import Newest
from raflib.viewer.scene import LIMITS, Scene, View

WIDTHS = (360, 256)
"""Width of an avatar on the page in pixels: one alone, and each of several."""
TURNS = {"yaw": 60, "pitch": 40, "roll": 40}
"""Largest turn of the head in degrees."""
NOTHING = "nothing: use the sliders"
HEADING = "<b>Nearest faces of the bank</b>: distance and person, sequence"


class Puppet(w.VBox):
    """A live avatar: sliders, head turns, camera by mouse, drivers, nearest bank faces, coverage meter.

    Drag the image to turn the camera, turn the wheel to zoom, double-click to come back. The first frame is rendered at
    once, so a puppet can also be made where no browser shows it. Faces are searched only where one does.

    Args:
        runs: a trained avatar, or several of the same person, which get the same expression, pose and camera.
        capture: a recording of this person; gives training frames, cameras and its own sequences as drivers.
        drivers: captures of other people in the same feature space, or `Drive` objects.
        bank: shows its nearest faces, those of the person left out; in the capture's feature space.
        faces: makes images of rows of the bank, see `raflib.viewer.neighbours.Neighbours`.
        size: longest side of a rendered image in pixels, see `Scene`.

    Attributes:
        scene: what is shown.
        coverage: the meter.
        canvas: the widget with the image.
        renders: the thread that renders, with the numbers of `done` and `skipped` views.

    Raises RafError as `Scene`, `drives` and `Neighbours` do, and for a bank of another feature space.
    """

    def __init__(
        self,
        runs: Run | Sequence[Run],
        capture: Capture,
        drivers: Sequence[Capture | Drive] = (),
        bank: ExpressionBank | None = None,
        faces: Faces | None = None,
        size: int | None = None,
    ):
        self._workers: list[Newest[View]] = []
        self.scene, self.coverage = Scene(runs, capture, size), Coverage(capture)
        self._drives = {drive.name: drive for drive in drives(capture, drivers)}
        self._kinds = kinds_of_controls(capture)
        self._neighbours = None if bank is None else _neighbours(bank, capture, faces)
        self._view, self._quiet = self.scene.start, False
        self._searched: Float[np.ndarray, "d"] = np.empty(0)
        self._boxes: dict[str, list[w.FloatSlider]] = {}
        width = WIDTHS[len(self.scene.runs) > 1] * len(self.scene.runs)
        height, rendered = self.scene.shape
        self.canvas = Canvas(
            self._heard, frame=jpeg(self.image()), labels=self.scene.labels, width=width,
            height=round(width * height / rendered), meter=self._reading(self._view),
            limits={name: list(ends) for name, ends in LIMITS.items()},
        )  # fmt: skip
        self._make_controls()
        super().__init__([self._top(), self._below()])
        self.renders = Newest(self._render, self._failed, "puppet")
        self._searches = Newest(self._search, self._failed, "puppet faces")
        self._workers += [self.renders, self._searches]

    @property
    def view(self) -> View:
        """What is shown, or will be in a moment. Set it to show something else."""
        return self._view

    @view.setter
    def view(self, view: View) -> None:
        self._view = view
        self.renders.post(view)

    @property
    def expression(self) -> Float[np.ndarray, "d"]:
        """A copy of the current expression vector. Set it to show another one; sliders follow."""
        return np.array(self._view.expression)

    @expression.setter
    def expression(self, expression: Float[np.ndarray, "d"]) -> None:
        width = len(self.scene.start.expression)
        if np.shape(expression) != (width,) or not np.isfinite(expression).all():
            raise RafError(f"puppet: expression of shape {np.shape(expression)}, expected {width} finite numbers")
        self.view = replace(self._view, expression=np.array(expression, np.float64))
        self._follow()

    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        """The image of the current view, rendered now."""
        return self.scene.image(self._view)

    def reset(self) -> None:
        """Back to the neutral expression, head pose and camera, with no driver."""
        self._play.playing, self._menu.value = False, NOTHING
        with self._silent():
            for slider in self._turns.values():
                slider.value = 0
        self.view = self.scene.start
        self.canvas.place_camera(self._view.azimuth, self._view.elevation, self._view.zoom)
        self._settle()

    def close(self) -> None:
        """End the threads and remove the puppet from the page."""
        for worker in self._workers:
            worker.close()
        super().close()

    # --- messages, on the notebook's own thread

    def _heard(self, message: Mapping[str, Any]) -> None:
        """A message of the canvas."""
        if message.get("kind") == "orbit":
            azimuth, elevation, zoom = (float(message[name]) for name in ("azimuth", "elevation", "zoom"))
            self.view = replace(self._view, azimuth=azimuth, elevation=elevation, zoom=zoom)
        elif message.get("kind") == "ready":
            self.renders.post(self._view)
            self._settle()
        elif message.get("kind") == "rest":
            self._settle()

    def _slid(self, kind: str, slider: int, change: Mapping[str, Any]) -> None:
        if not self._quiet:
            expression = self._kinds[kind].write(self._view.expression, slider, change["new"])
            self.view = replace(self._view, expression=expression)

    def _turned(self, _: object) -> None:
        if not self._quiet:
            yaw, pitch, roll = (float(self._turns[name].value) for name in TURNS)
            self.view = replace(self._view, yaw=yaw, pitch=pitch, roll=roll)

    def _chosen(self, change: Mapping[str, Any]) -> None:
        """A driver was chosen in the menu: go to its first moment, or leave the expression as it is."""
        drive = self._drives.get(change["new"])
        with self._silent():
            self._play.playing = False
            last = 0 if drive is None else drive.ticks - 1
            for bar in (self._play, self._position):
                bar.value, bar.max = 0, last
        self._player.layout.display = "none" if drive is None else None
        if drive is None:
            self.view = replace(self._view, pose=self.scene.start.pose)
        else:
            self._drive_to(0)

    def _moved(self, change: Mapping[str, Any]) -> None:
        if not self._quiet:
            self._drive_to(change["new"])

    def _drive_to(self, tick: int) -> None:
        if (drive := self._drives.get(self._menu.value)) is not None:
            expression, pose = drive.at(tick)
            self.view = replace(self._view, expression=expression, pose=self.scene.start.pose if pose is None else pose)

    def _settle(self) -> None:
        """Frames have stopped: sliders follow the expression, and its neighbours are searched."""
        self._follow()
        if self._neighbours is not None and not np.array_equal(self._searched, self._view.expression):
            self._searched = self._view.expression
            self._heading.value = f"{HEADING} · searching"
            self._searches.post(self._view)

    def _follow(self) -> None:
        """Set the visible sliders to the current expression."""
        kind = self._kind.value
        with self._silent():
            for slider, value in zip(self._boxes[kind], self._kinds[kind].read(self._view.expression), strict=True):
                value = float(np.clip(round(value, 3), slider.min, slider.max))
                if abs(slider.value - value) > 1e-3:
                    slider.value = value

    @contextmanager
    def _silent(self) -> Any:
        """Controls that are set in here change nothing but themselves."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    # --- the threads

    def _reading(self, view: View) -> dict[str, object]:
        found = self.coverage.read(view.expression)
        ends = {"typical": self.coverage.typical, "edge": self.coverage.edge}
        return {"distance": found.distance, "word": found.word, **ends}

    def _render(self, view: View) -> None:
        self.canvas.show(self.scene.image(view), self._reading(view))
        if self._problem.value:
            self._problem.value = ""

    def _search(self, view: View) -> None:
        assert self._neighbours is not None
        self._faces.value = self._neighbours.html(view.expression)
        if self._searched is view.expression:
            self._heading.value = HEADING

    def _failed(self, error: Exception) -> None:
        self._heading.value = HEADING
        self._problem.value = f'<span style="color:#c62828">{escape(str(error))}</span>'

    # --- layout

    def _make_controls(self) -> None:
        """Make all widgets beside the image."""
        self._kind = w.Dropdown(options=list(self._kinds), layout=w.Layout(width="210px"))
        self._kind.observe(lambda _: self._fill(), "value")
        self._reset = w.Button(description="Reset", tooltip="neutral expression, head pose and camera", icon="undo")
        self._reset.layout.width = "90px"
        self._reset.on_click(lambda _: self.reset())
        self._sliders = w.GridBox(layout=w.Layout(max_height="232px", overflow="auto"))
        self._sliders.layout.grid_template_columns = "repeat(auto-fill, minmax(240px, 1fr))"
        style = {"description_width": "36px"}
        self._turns = {
            name: w.IntSlider(0, -end, end, description=name, style=style, layout=w.Layout(width="33%"))
            for name, end in TURNS.items()
        }
        for slider in self._turns.values():
            slider.observe(self._turned, "value")
        names = [NOTHING, *self._drives]
        self._menu = w.Dropdown(options=names, description="driven by", layout=w.Layout(width="250px"))
        self._menu.style.description_width = "64px"
        self._menu.observe(self._chosen, "value")
        self._play = w.Play(interval=1000 // NOMINAL_FPS, min=0, max=0)
        self._position = w.IntSlider(0, 0, 0, readout=False, layout=w.Layout(width="100%"))
        self._position.observe(self._moved, "value")
        w.jslink((self._play, "value"), (self._position, "value"))
        self._player = w.HBox([self._play, self._position], layout=w.Layout(display="none", flex="1 1 auto"))
        self._faces, self._problem, self._heading = w.HTML(), w.HTML(), w.HTML(HEADING)
        self._fill()

    def _fill(self) -> None:
        """Show the sliders of the chosen kind."""
        kind = self._kind.value
        if kind not in self._boxes:
            controls, made = self._kinds[kind], []
            for i, name in enumerate(controls.names):
                low, high = float(controls.low[i]), float(controls.high[i])
                slider = w.FloatSlider(
                    value=low, min=low, max=high, step=(high - low) / 100, description=name, readout_format=".2f",
                    style={"description_width": "112px"}, layout=w.Layout(width="auto"),
                )  # fmt: skip
                slider.observe(partial(self._slid, kind, i), "value")
                made.append(slider)
            self._boxes[kind] = made
        self._sliders.children = self._boxes[kind]
        self._follow()

    def _top(self) -> w.Box:
        """The image, and the controls beside it, or below where the page is narrow."""
        heading = w.HBox([self._kind, self._reset])
        turns, driver = w.HBox(list(self._turns.values())), w.HBox([self._menu, self._player])
        controls = w.VBox([heading, self._sliders, turns, driver])
        controls.add_class("raf-controls")
        wrap = w.Layout(display="flex", flex_flow="row wrap", grid_gap="12px", align_items="flex-start")
        return w.Box([self.canvas, controls], layout=wrap)

    def _below(self) -> w.VBox:
        """Nearest faces and problems."""
        if self._neighbours is None:
            return w.VBox([self._problem])
        return w.VBox([self._heading, self._faces, self._problem])


def _neighbours(bank: ExpressionBank, capture: Capture, faces: Faces | None) -> Neighbours:
    if capture.feature_space not in (bank.feature_space, *bank.spaces):
        raise RafError(
            f"puppet: the bank holds {bank.feature_space} features, but capture {capture.subject} has "
            f"{capture.feature_space}; give a bank of the same feature space"
        )
    return Neighbours(bank.in_space(capture.feature_space), capture.subject, faces)
