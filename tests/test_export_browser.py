"""The exported page in a real browser, without a network: its images are the renderer's, and its controls work."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from toy_avatar import SIZE, toy_capture, toy_run, toy_signals

from raflib.export import export_html
from raflib.export.cameras import head_middle

READY = "document.getElementById('player').dataset.state === 'ready'"
SOFTWARE = ("Automatic fallback to software WebGL", "GPU stall due to ReadPixels")
"""What the browser itself says about a machine without a graphics card."""


@pytest.fixture(scope="module")
def toy():
    capture = toy_capture()
    return toy_run(capture), capture


@pytest.fixture(scope="module")
def exported(toy, tmp_path_factory):
    run, capture = toy
    path = tmp_path_factory.mktemp("with space 片") / "page.html"
    return export_html(run, *toy_signals(capture), path, capture.cameras[1], fps=5)


def opened(browser, path: Path, width: int = 400, height: int = 560, phone: bool = False):
    """The page, stopped at its first frame."""
    page = browser.open(path.as_uri(), width, height, phone=phone)
    page.wait(READY)
    page.run("avatar.seek(0)")
    return page


def pixels(page, frame: int | None = None, yaw: float = 0, pitch: float = 0) -> np.ndarray:
    """What the page shows, [H,W,3] in [0,1]; by default as it is, else another frame and view."""
    if frame is not None:
        page.run(f"avatar.seek({frame}), avatar.look({yaw}, {pitch}, 1)")
    rows = np.frombuffer(base64.b64decode(page.run(f"avatar.pixels({SIZE})")), np.uint8)
    return rows.reshape(SIZE, SIZE, 4)[::-1, :, :3] / 255


def complaints(page) -> list[str]:
    return [text for text in page.errors() if not any(words in text for words in SOFTWARE)]


def test_the_page_shows_what_the_renderer_shows(browser, exported, toy):
    run, capture = toy
    page = opened(browser, exported)
    page.offline(True)
    page.reload()
    page.wait(READY)
    expression, pose, scale = toy_signals(capture)
    middle, seen = head_middle(pose, scale), []
    for frame, yaw, pitch in ((0, 0, 0), (7, 0, 0), (3, 0.5, 0.2), (9, -1.0, -0.4)):
        one = [values[frame : frame + 1] for values in (expression, pose, scale)]
        true = run.render(*one, [capture.cameras[1].orbited(middle, yaw, pitch)])[0]
        seen.append(pixels(page, frame, yaw, pitch))
        psnr = -10 * np.log10(np.mean((seen[-1] - true) ** 2))
        assert psnr >= 40, f"frame {frame}: {psnr:.1f} dB"
    assert np.abs(seen[0] - seen[1]).max() > 0.1, "frames differ over time"
    asked = {event["params"]["request"]["url"] for event in page.browser.events if "request" in event.get("params", {})}
    assert {url for url in asked if not url.startswith("data:")} == {exported.as_uri()}
    assert complaints(page) == []
    page.close()


def test_it_plays_and_its_controls_work(browser, exported):
    page = opened(browser, exported)
    first = pixels(page)
    page.click("#play")
    page.wait("avatar.state.playing && avatar.state.frame > 0")
    page.press(" ")
    page.wait("!avatar.state.playing && document.getElementById('play').getAttribute('aria-label') === 'Play'")
    page.run("avatar.seek(0)")
    page.press("ArrowRight", times=2)
    page.wait("document.getElementById('time').textContent === '0.4 of 2.0 s'")
    page.press("ArrowLeft")
    page.wait("document.getElementById('frame').value === '1'")
    page.run("const f = document.getElementById('frame'); f.value = 0; f.dispatchEvent(new Event('input'))")
    x, y = page.run("(() => { const b = document.getElementById('view').getBoundingClientRect();"
                    "return [b.x + b.width / 2, b.y + b.height / 2]; })()")  # fmt: skip
    for kind, dx in (("mousePressed", 0), ("mouseMoved", 60), ("mouseReleased", 60)):
        page.call("Input.dispatchMouseEvent", type=kind, x=x + dx, y=y, button="left", buttons=1, clickCount=1)
    page.wait("avatar.state.yaw < -0.3")
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-150)
    page.wait("avatar.state.zoom > 1.1")
    assert np.abs(pixels(page) - first).max() > 0.1, "the view has changed"
    page.click("#front")
    page.wait("avatar.state.yaw === 0 && avatar.state.zoom === 1")
    assert np.abs(pixels(page) - first).max() < 0.01, "back at the first view"
    assert complaints(page) == []
    page.close()


def test_a_phone_shows_everything_and_two_fingers_zoom(browser, exported):
    page = opened(browser, exported, 390, 844, phone=True)
    assert page.run("document.documentElement.scrollWidth") == 390, "nothing to scroll sideways"
    assert page.run("document.documentElement.scrollHeight") <= 844
    assert page.run("document.getElementById('view').clientWidth") > 340
    assert page.run("[...document.querySelectorAll('button')].every((b) => b.offsetHeight >= 44)")
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 90), ("touchEnd", None)):
        points = [] if apart is None else [{"x": 195 + s * apart, "y": 250, "id": i} for i, s in enumerate((-1, 1))]
        page.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    page.wait("avatar.state.zoom > 1.5")
    assert page.run("avatar.state.yaw") == 0
    assert complaints(page) == []
    page.close()


def test_the_page_goes_on_after_a_lost_graphics_context(browser, exported):
    page = opened(browser, exported)
    first = pixels(page, 4)
    page.run(
        "window.lost = document.getElementById('view').getContext('webgl2').getExtension('WEBGL_lose_context'),"
        "window.lost.loseContext()"
    )
    page.wait("document.getElementById('view').getContext('webgl2').isContextLost()")
    page.run("new Promise((done) => setTimeout(done, 50))")
    page.run("document.getElementById('view').addEventListener('webglcontextrestored', () => { window.back = true; })")
    page.run("window.lost.restoreContext()")
    page.wait("window.back")
    assert np.abs(pixels(page) - first).max() == 0 and not page.run("avatar.state.playing")
    page.close()


def lacking(browser, exported, script: str):
    """The page in a browser that lacks something: `script` runs before the page's own scripts."""
    page = browser.open(exported.as_uri(), 400, 560)
    page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    page.run("window.isOld = true")
    page.call("Page.reload")
    page.wait("!window.isOld && document.getElementById('player').dataset.state !== 'loading'")
    return page


def test_a_browser_without_fine_colours_shows_coarser_ones(browser, exported, toy):
    run, capture = toy
    page = lacking(browser, exported, "WebGL2RenderingContext.prototype.getExtension = () => null;")
    true = run.render(*(values[2:3] for values in toy_signals(capture)), [capture.cameras[1]])[0]
    assert -10 * np.log10(np.mean((pixels(page, 2) - true) ** 2)) >= 35
    page.close()


def test_a_browser_without_webgl_says_so(browser, exported):
    page = lacking(browser, exported, "HTMLCanvasElement.prototype.getContext = () => null;")
    assert page.run("document.getElementById('player').dataset.state") == "failed"
    assert "no WebGL 2" in page.run("document.getElementById('problem').textContent")
    page.close()
