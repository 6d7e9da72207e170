"""The puppet in JupyterLab, with two trained avatars and the open bank: figures/puppet.jpg. It needs Chromium.

    python scripts/puppet_screenshot.py [--subject 422] [--profile demo] [--out figures/puppet.jpg]

The avatars are those of notebook 04 (`make demo`), methods vanilla and raf.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import nbformat
from chromium import Chromium
from lab_server import JupyterLab, run_all, until
from PIL import Image

from raflib.errors import RafError
from raflib.lab.folders import run_folder
from raflib.runs import atomic_write, project_root

TEXT = """# The puppet

Two avatars of one person on the same expression vector."""
LINES = """from raflib import ExpressionBank, Run, open_capture
from raflib.viewer import Puppet

capture, bank = open_capture("studio", "{subject}", "{profile}"), ExpressionBank.load("{bank}")
Puppet([Run.load("{vanilla}"), Run.load("{raf}")], capture, bank=bank)"""
MOVES = (("mouthSmile", 0.9), ("mouthUpperUp", 0.5), ("eyeSquint", 0.6), ("jawOpen", 0.2), ("yaw", -14))
"""Sliders that are moved, and their values."""
WIDTH, HEIGHT = 1180, 860


def notebook(folder: Path, subject: str, profile: str) -> Path:
    """Write the notebook into `folder`, with links to the runs and the bank beside it."""
    for name in ("vanilla", "raf"):
        run = run_folder("04_train", {"subject": subject, "profile": profile, "method": name})
        if not (run / "checkpoint.safetensors").is_file():
            raise RafError(f"{run}: holds no avatar; train it with notebook 04, method {name}")
        (folder / name).symlink_to(run)
    (folder / "bank.npz").symlink_to(project_root() / "data" / "bank_open.npz")
    names = {"bank": "bank.npz", "vanilla": "vanilla", "raf": "raf"}
    code = LINES.format(subject=subject, profile=profile, **names)
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(TEXT), nbformat.v4.new_code_cell(code)])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, folder / "puppet.ipynb")
    return folder / "puppet.ipynb"


LABEL = "[...document.querySelectorAll('.widget-label')].find((found) => found.textContent === NAME)"
SET = LABEL + ".parentElement.querySelector('.noUi-target').noUiSlider.set(VALUE)"


def move(page, name: str, value: float) -> None:
    """Move the slider with this name, as the mouse does."""
    page.run("void " + SET.replace("NAME", repr(name)).replace("VALUE", repr(value)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subject", default="422")
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--out", type=Path, default=project_root() / "figures" / "puppet.jpg")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        notebook(Path(folder), options.subject, options.profile)
        with JupyterLab(folder) as lab, Chromium() as browser:
            page = lab.open(browser, "puppet.ipynb", WIDTH, HEIGHT)
            run_all(page)
            until(page, "document.querySelector('.raf-frame')?.dataset.number")
            for name, value in MOVES:
                move(page, name, value)
            page.run(f"{LABEL}.scrollIntoView({{block: 'center'}})".replace("NAME", repr(MOVES[0][0])))
            time.sleep(2)
            until(page, "!document.querySelector('.raf-rate').textContent")
            time.sleep(2)
            until(page, "!document.body.textContent.includes('· searching')")
            page.screenshot(Path(folder) / "screen.png")
            if errors := page.errors():
                print("the browser reports:", *errors, sep="\n")
            image = Image.open(io.BytesIO((Path(folder) / "screen.png").read_bytes())).convert("RGB")
    with atomic_write(options.out) as path:
        image.save(path, "JPEG", quality=88, optimize=True)
    print(f"{options.out}: {image.width} × {image.height} pixels, {options.out.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
