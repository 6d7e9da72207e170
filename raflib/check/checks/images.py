"""Checks of images and masks: readable, right colours, masks of the person."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from raflib.capture import Capture
from raflib.check.checks.calibration import names
from raflib.check.figures import MINE, heading, images_figure, marked
from raflib.check.fits import MOST_UNSURE, inside_mask, top_corners
from raflib.check.problems import ERROR, WARNING, Problem, register
from raflib.check.sample import Sample

DARK, BRIGHT = 30.0, 0.3
"""Median brightness (of 255) of a face below which it is too dark, and share of its pixels that may be white."""


@register
def check_readable(capture: Capture, sample: Sample) -> list[Problem]:
    """Images of frames with a face that cannot be read."""
    if not sample.views and not len(sample.placed):
        return [Problem("readable", ERROR, "no frame has a face with landmarks and pose; check the tracks")]
    if not sample.unreadable:
        return []
    (t, c), why = next(iter(sample.unreadable.items()))
    count = "an image" if len(sample.unreadable) == 1 else f"{len(sample.unreadable)} images"
    where = f"{capture.sequence[t]}, frame {capture.frame[t]}, camera {capture.cameras[c].name}"
    return [Problem("readable", ERROR, f"{count} cannot be read (first: {where}): {why}")]


@register
def check_faces(capture: Capture, sample: Sample) -> list[Problem]:
    """Images that are turned, or in which the face tracker finds hardly any face."""
    if not sample.views or not (sample.faceless or sample.turned):
        return []
    if sample.turned:
        whose = names(capture, sorted(sample.away)) if sample.away and not sample.faceless else "the cameras"
        text = f"the images of {whose} look {sample.turned}; turn them back"
    else:
        text = (
            f"the face tracker finds a face in {len(sample.faces)} of {len(sample.views)} images; check that images "
            "are upright and show the face"
        )
    views = [view for view in sample.views if sample.faceless or view[1] in sample.away][:4]
    return [Problem("faces", ERROR, text, partial(_shown, text, capture, sample, views))]


@register
def check_masks(capture: Capture, sample: Sample) -> list[Problem]:
    """Masks that are inverted, empty, or full where the background is not known."""
    empty, full, inverted = [], [], []
    for t, c in sample.views:
        mask = sample.mask(t, c)
        share = float(mask.mean()) / 255
        if share < MOST_UNSURE:
            empty.append((t, c))
        elif share > 1 - MOST_UNSURE:
            full.append((t, c))
        elif top_corners(mask) > 0.5 and _on_face(capture, sample, mask, t, c) < 0.5:
            inverted.append((t, c))
    found = []
    for views, what, remedy in (
        (empty, "empty", "make the masks again, white where the person is"),
        (inverted, "inverted, high in the corners and low on the face,", "use 255 minus the masks"),
    ):
        if views:
            whose = names(capture, sorted({c for _, c in views}))
            text = f"the masks of {whose} are {what} in {len(views)} of {len(sample.views)} images; {remedy}"
            show = partial(_shown, text, capture, sample, views[:4])
            found.append(Problem("masks", ERROR, text, show))
    if 2 * len(full) > len(sample.views) and capture.background is None:
        text = (
            f"masks are 255 everywhere in {len(full)} of {len(sample.views)} images and the background is not known, "
            "so an avatar learns the room; make masks of the person"
        )
        found.append(Problem("masks", WARNING, text, partial(_shown, text, capture, sample, full[:4])))
    return found


def _on_face(capture: Capture, sample: Sample, mask: UInt8[np.ndarray, "H W"], t: int, c: int) -> float:
    """Mean of a mask where the face is seen, or else where landmarks project to."""
    face = sample.face(t, c)
    return inside_mask(mask, capture.cameras[c].project(capture.landmarks[t]) if face is None else face)


@register
def check_colours(capture: Capture, sample: Sample) -> list[Problem]:
    """Faces that are bluer than red, too dark or too bright."""
    found_faces = [(view, sample.face(*view)) for view in sample.faces]
    skin = [_inside(sample.image(*view), face) for view, face in found_faces if face is not None]
    skin = [pixels for pixels in skin if len(pixels)]
    if not skin:
        return []
    red, green, blue = np.median([np.median(pixels, 0) for pixels in skin], 0)
    views, found = sample.faces[:4], []
    if red < blue:
        text = f"skin is bluer ({blue:.0f}) than red ({red:.0f}), so images look like BGR; exchange red and blue"

        def figure() -> Image.Image:
            shown = [sample.image(*view) for view in views]
            rows = [[marked(i, {}) for i in shown], [marked(i[..., ::-1], {}) for i in shown]]
            heads = [heading(capture, t, capture.cameras[c]) for t, c in views]
            return images_figure(text, rows, heads, ["as they are", "exchanged"])

        found.append(Problem("colours", ERROR, text, figure))
    light = 0.3 * red + 0.6 * green + 0.1 * blue
    if light < DARK:
        dark = f"faces are very dark ({light:.0f} of 255); use more light or brighten the images"
        found.append(Problem("colours", WARNING, dark, partial(_shown, dark, capture, sample, views)))
    white = float(np.median([(pixels >= 254).all(1).mean() for pixels in skin]))
    if white > BRIGHT:
        bright = f"{white:.0%} of the faces' pixels are white; record with a shorter exposure"
        found.append(Problem("colours", WARNING, bright, partial(_shown, bright, capture, sample, views)))
    return found


def _inside(image: UInt8[np.ndarray, "H W 3"], face: Float[np.ndarray, "478 2"]) -> UInt8[np.ndarray, "P 3"]:
    """Pixels inside the middle half of a face: cheeks and nose, without hair and background."""
    middle, half = face.mean(0), np.ptp(face, axis=0) / 4
    height, width = image.shape[:2]
    (x0, y0), (x1, y1) = (middle - half).round().astype(int), (middle + half).round().astype(int)
    part = image[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    return part.reshape(-1, 3)


def _shown(text: str, capture: Capture, sample: Sample, views: list[tuple[int, int]]) -> Image.Image:
    """Views with projected landmarks and the outline of their masks, and the masks below."""
    tiles, masks = [], []
    for t, c in views:
        image, mask = sample.image(t, c), sample.mask(t, c)
        tiles.append(marked(image, {MINE: capture.cameras[c].project(capture.landmarks[t])}, mask))
        masks.append(marked(np.repeat(mask[..., None], 3, 2), {}))
    heads = [heading(capture, t, capture.cameras[c]) for t, c in views]
    return images_figure(text, [tiles, masks], heads, ["image", "mask"])
