"""The page of a user study as raters see it, on a desktop and on a phone: figures/study_page.jpg. It needs Chromium.

python scripts/study_screenshot.py [--people 8] [--seed 1] [--out figures/study_page.jpg]
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from chromium import Chromium
from PIL import Image

from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.runs import atomic_write, data_root, project_root
from raflib.study import Design, make_study, serve

SCREENS = {"rater01": (1280, 800, False), "rater02": (390, 844, True)}
"""Width, height, and whether it is a phone, of each rater's screen."""
READY = "document.querySelector('.study').dataset.state === 'ready'"
GAP, BACK = 24, "#8a9099"


def screens(folder: Path) -> list[Image.Image]:
    """Screenshots of the first question, with its first half answered."""
    images = []
    with serve(folder, list(SCREENS)) as server, Chromium() as browser:
        for name, (width, height, phone) in SCREENS.items():
            page = browser.open(server.links[name], width, height, phone)
            page.wait(READY)
            page.press("1")
            page.wait("document.getElementById('stored').textContent")
            page.screenshot(folder / "screen.png")
            if errors := page.errors():
                raise RafError(f"study page: the browser reports {errors[0]}; correct the page")
            image = Image.open(io.BytesIO((folder / "screen.png").read_bytes())).convert("RGB")
            images.append(image.resize((width, height), Image.Resampling.LANCZOS))
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=8, help="people of the bank in this small study")
    parser.add_argument("--seed", type=int, default=1, help="chooses them and the questions")
    parser.add_argument("--out", type=Path, default=project_root() / "figures" / "study_page.jpg")
    options = parser.parse_args()
    bank = ExpressionBank.load(data_root() / "bank_open.npz")
    names = sorted(set(bank.subjects))[options.seed :: len(set(bank.subjects)) // options.people][: options.people]
    with tempfile.TemporaryDirectory() as folder:
        design = Design(queries=6, each=2, length=20, size=384, seed=options.seed)
        study = make_study(Path(folder) / "study", bank.restrict(subjects=names), design, spaces=[bank.feature_space])
        images = screens(study.folder)
    width = sum(image.width for image in images) + GAP * (len(images) + 1)
    sheet = Image.new("RGB", (width, max(image.height for image in images) + 2 * GAP), BACK)
    left = GAP
    for image in images:
        sheet.paste(image, (left, GAP))
        left += image.width + GAP
    with atomic_write(options.out) as path:
        sheet.save(path, "JPEG", quality=88, optimize=True)
    print(f"{options.out}: {sheet.width} × {sheet.height} pixels, {options.out.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
