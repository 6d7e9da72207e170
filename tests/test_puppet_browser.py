"""The puppet in JupyterLab with a real browser: notebook 04 runs, a slider and the mouse change the image."""

from __future__ import annotations

import base64
import io
import os
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
try:
    import chromium
    import lab_server
finally:
    sys.path.pop(0)

FRAME = "document.querySelector('.raf-frame')"
NOISE = ("favicon", "too long to activate", "ms to activate")
"""Words of messages that JupyterLab itself writes to the console."""


def tiny_notebook(folder: Path) -> str:
    """Notebook 04 with profile tiny, as a user would change its parameters."""
    made = nbformat.read(ROOT / "notebooks" / "04_train.ipynb", 4)
    cell = next(cell for cell in made.cells if "parameters" in cell.metadata.get("tags", []))
    for old, new in (('profile = "demo"', 'profile = "tiny"'), ('method = "raf"', 'method = "vanilla"')):
        assert old in cell.source
        cell.source = cell.source.replace(old, new)
    nbformat.write(made, folder / "04 ä.ipynb")
    return "04 ä.ipynb"


def pixels(page) -> np.ndarray:
    """What the page shows of the avatar."""
    box = page.run(f"(() => {{ const b = {FRAME}.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; }})()")
    clip = dict(zip(("x", "y", "width", "height"), box, strict=True), scale=1)
    data = page.call("Page.captureScreenshot", format="png", clip=clip)["data"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def drag(page, start: tuple[float, float], way: tuple[float, float], steps: int) -> None:
    """Press the mouse at `start`, move it along `way`, and release it."""
    for step in range(-1, steps + 2):
        kind = "mousePressed" if step < 0 else "mouseMoved" if step <= steps else "mouseReleased"
        share = min(max(step, 0), steps) / steps
        x, y = (a + share * b for a, b in zip(start, way, strict=True))
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


@pytest.mark.minutes
@pytest.mark.skipif(chromium.program() is None, reason="no Chromium on the path")
def test_notebook_04_shows_a_live_avatar(tmp_path, capsys):
    with lab_server.JupyterLab(tmp_path) as lab, chromium.Chromium() as browser:
        page = lab.open(browser, tiny_notebook(tmp_path), 1280, 1000)
        lab_server.run_all(page)
        lab_server.until(page, f"{FRAME}?.dataset.number")
        page.run(f"{FRAME}.scrollIntoView({{block: 'center'}})")
        lab_server.until(page, "!document.querySelector('.raf-rate').textContent")
        before = pixels(page)
        number = page.run(f"Number({FRAME}.dataset.number)")

        handle = page.run(
            "(() => { const label = [...document.querySelectorAll('.widget-label')].find((l) => l.textContent === "
            "'jawOpen'); const b = label.parentElement.querySelector('.noUi-handle').getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        drag(page, handle, (60, 0), 30)
        lab_server.until(page, f"Number({FRAME}.dataset.number) > {number}")
        lab_server.until(page, "!document.querySelector('.raf-rate').textContent")
        opened = pixels(page)
        assert np.abs(opened - before).mean() > 0.05, "the slider changed the image"

        middle = page.run(f"(() => {{ const b = {FRAME}.getBoundingClientRect(); return [b.x + 150, b.y + 150]; }})()")
        number = page.run(f"Number({FRAME}.dataset.number)")
        begin = page.run("performance.now()")
        drag(page, middle, (120, 30), 60)
        lab_server.until(page, f"Number({FRAME}.dataset.number) > {number}")
        lab_server.until(page, "!document.querySelector('.raf-rate').textContent")
        spent = page.run("performance.now()") - begin - 400
        shown = page.run(f"Number({FRAME}.dataset.number)") - number
        assert np.abs(pixels(page) - opened).mean() > 0.5, "the mouse turned the camera"
        with capsys.disabled():
            print(f"\npuppet in JupyterLab: {shown} frames in {spent / 1000:.1f} s while the mouse moved")
        assert [error for error in page.errors() if not any(word in error for word in NOISE)] == []
        if folder := os.environ.get("RAF_SCREENS"):
            page.screenshot(Path(folder) / "puppet_04.png")
