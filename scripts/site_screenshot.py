"""The site, its front page beside a page of a notebook: figures/site.jpg. It needs Chromium.

    python scripts/site_screenshot.py [--site build/site/html] [--out figures/site.jpg]

`make site` builds the site from the notebooks of `make demo`. A page that asks for anything from the web is an error.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from chromium import Chromium
from PIL import Image

from raflib.errors import RafError
from raflib.runs import atomic_write, project_root

PAGES = {"index.html": "", "notebooks/04_train.html": "look-at-it"}
"""Pages, and the heading that each is scrolled to, if any."""
WIDTH, HEIGHT = 1280, 900
SCALE = 0.75
"""Pixels of the image for one pixel of a page."""


def screenshots(site: Path, folder: Path) -> list[Image.Image]:
    """Return a screenshot of each of `PAGES`; RafError where one is missing, shows an error or loads from the web."""
    images = []
    with Chromium() as browser:
        for path, heading in PAGES.items():
            if not (site / path).is_file():
                raise RafError(f"{site / path}: does not exist; build the site with make site, or name it with --site")
            page = browser.open((site / path).absolute().as_uri(), WIDTH, HEIGHT)
            if heading:
                page.run(f"document.getElementById('{heading}').scrollIntoView({{behavior: 'instant'}})")
            page.wait("[...document.images].every((image) => image.complete)")
            if errors := page.errors():
                raise RafError(f"{path}: the browser reports: {errors[0]}")
            page.screenshot(folder / "screen.png")
            with Image.open(folder / "screen.png") as image:
                images.append(image.convert("RGB"))
        asked = [event["params"]["request"]["url"] for event in browser.events if "request" in event["params"]]
    if outside := [url for url in asked if not url.startswith(("file:", "data:"))]:
        raise RafError(f"a page asks for {outside[0]}; the site must need no network")
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", type=Path, default=project_root() / "build" / "site" / "html")
    parser.add_argument("--out", type=Path, default=project_root() / "figures" / "site.jpg")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = screenshots(options.site, Path(folder))
    both = Image.new("RGB", (WIDTH * len(images), HEIGHT))
    for number, image in enumerate(images):
        both.paste(image, (WIDTH * number, 0))
    both = both.resize((round(both.width * SCALE), round(both.height * SCALE)), Image.Resampling.LANCZOS)
    with atomic_write(options.out) as path:
        both.save(path, "JPEG", quality=85, optimize=True)
    print(f"{options.out}: {both.width} × {both.height} pixels, {options.out.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
