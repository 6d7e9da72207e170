"""Which part of a head each pixel of an image shows: lips, eyelids, hair, cloth and others.

Regions follow from the tracked landmarks of the true image, its mask and its colours. A render never changes them.
Each pixel belongs to one region. Where several claim it, the first of `REGIONS` gets it.

Facial features are polygons of MediaPipe's landmarks. What lies outside of the face is told apart by simple rules, as
no segmentation is available: skin is what has the colour of the face, and hair is what is not skin above the chin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.tracking.landmarks import COUNT, LEFT_EYE, LIPS_INNER, LIPS_OUTER, MESH_COUNT, RIGHT_EYE

REGIONS = {
    "mouth interior": "inside the inner lip contour, where the mouth is open",
    "lips": "between the two lip contours",
    "eyeballs": "inside the lid contours, where the eyes are open",
    "eyelids": "between the lid contour and the lid's fold; closed eyes whole",
    "brows": "the eyebrows",
    "silhouette": "a band along both sides of the mask's edge, 1 % of the image's width each",
    "rest of face": "the hull of all landmarks, and skin up to the hair: nose, cheeks, chin, forehead, beard",
    "ears and neck": "other skin below the brows",
    "hair": "what else is above the brows, and what is not skin down to the chin",
    "cloth": "below the chin, not skin; long hair too",
    "background": "outside of the mask",
    "person": "the mask's inside, where the landmarks are not MediaPipe's",
    "surroundings": "all that has no other region, where there is no mask",
}
"""Region → what it holds, by precedence: the first of them that claims a pixel gets it."""
NAMES = tuple(REGIONS)

RIGHT_LIDS = (130, 247, 30, 29, 27, 28, 56, 190, 243, 112, 26, 22, 23, 24, 110, 25)
LEFT_LIDS = (359, 467, 260, 259, 257, 258, 286, 414, 463, 341, 256, 252, 253, 254, 339, 255)
RIGHT_BROW = (46, 70, 63, 105, 66, 107, 55, 65, 52, 53)
LEFT_BROW = (276, 300, 293, 334, 296, 336, 285, 295, 282, 283)
FEATURES: dict[str, tuple[Sequence[int], ...]] = {
    "brows": (RIGHT_BROW, LEFT_BROW),
    "eyelids": (RIGHT_LIDS, LEFT_LIDS),
    "eyeballs": (RIGHT_EYE, LEFT_EYE),
    "lips": (LIPS_OUTER,),
    "mouth interior": (LIPS_INNER,),
}
"""Outlines of the facial features, in MediaPipe's landmarks. A later one lies inside of an earlier one, or apart."""
FOREHEAD, CHIN, BROW_TOPS = 10, 152, (105, 334)

FOREHEAD_RISE = 0.2
"""How far skin above the hull is forehead, as a share of the distance from chin to forehead."""
BAND = 0.01
"""Half the width of the silhouette's band, as a share of the image's width; one pixel at least."""
SKIN_CHROMA, SKIN_LIGHT = 0.04, (0.4, 1.6)
"""How far skin may be from the face's median colour: in its shares of red and green, and as a ratio of brightness."""


def image_regions(
    image: UInt8[np.ndarray, "H W 3"],
    mask: UInt8[np.ndarray, "h w"] | None,
    landmarks: Float[np.ndarray, "L 3"],
    camera: Camera,
) -> UInt8[np.ndarray, "H W"]:
    """The region of each pixel, as an index into `NAMES`.

    Args:
        image: the true image.
        mask: alpha of the person; None where nothing is known. Then everything outside of the face is "surroundings".
        landmarks: world metres. Facial features need MediaPipe's 478; with others there is only "person".
        camera: the camera of the image, at its size.

    Landmarks that the head hides are not left out, so views from the side show features too large. Raises RafError for
    a mask or camera of another size and for landmarks behind the camera.
    """
    size = image.shape[:2]
    if (camera.height, camera.width) != size or (mask is not None and mask.shape != size):
        shape = "no mask" if mask is None else f"mask {mask.shape}"
        raise RafError(f"regions: image {size}, camera {(camera.height, camera.width)}, {shape}; give one size")
    labels = np.full(size, NAMES.index("surroundings"), np.uint8)
    inside = np.ones(size, bool) if mask is None else mask >= 128
    if mask is not None:
        _set(labels, "background", ~inside)
        _set(labels, "person", inside)
    points = camera.project(landmarks) if len(landmarks) == COUNT else None
    if points is not None:
        if not np.isfinite(points).all():
            raise RafError(f"regions: a landmark is missing or behind camera {camera.name}; leave this frame out")
        face = _hull(points[:MESH_COUNT], size) & inside
        if mask is not None:
            _label_outside(labels, image, inside, face, points)
        _set(labels, "rest of face", face)
    if mask is not None:
        _set(labels, "silhouette", _edge_band(inside))
    if points is not None:
        for name, outlines in FEATURES.items():
            for outline in outlines:
                _set(labels, name, _polygon(points[list(outline)], size) & inside)
    return labels


def has_mask(mask: UInt8[np.ndarray, "H W"]) -> bool:
    """Whether a mask tells anything: sources without segmentation give 255 everywhere."""
    return bool((mask < 255).any())


def _set(labels: np.ndarray, name: str, where: Bool[np.ndarray, "H W"]) -> None:
    labels[where] = NAMES.index(name)


def _label_outside(
    labels: np.ndarray, image: np.ndarray, inside: np.ndarray, face: np.ndarray, points: Float[np.ndarray, "478 2"]
) -> None:
    """Hair, ears and neck, cloth, and the forehead above the landmarks: the mask's inside without the face."""
    rows, columns = np.indices(inside.shape)
    up = points[FOREHEAD] - points[CHIN]
    height = (columns + 0.5) * up[0] + (rows + 0.5) * up[1]
    above_brows = height > (points[list(BROW_TOPS)] @ up).max()
    below_chin = rows + 0.5 > points[:MESH_COUNT, 1].max()
    skin = _skin(image, face) & inside
    forehead = _hull(np.concatenate([points, points + FOREHEAD_RISE * up]), inside.shape) & above_brows
    _set(labels, "cloth", inside & below_chin)
    _set(labels, "hair", inside & ~below_chin)
    _set(labels, "ears and neck", skin & ~above_brows)
    _set(labels, "rest of face", skin & forehead)


def _skin(image: np.ndarray, face: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels with about the median colour of the face, in light or shadow."""
    if not face.any():
        return np.zeros(face.shape, bool)
    light = image.astype(np.float64).sum(-1) + 1
    chroma = image[..., :2] / light[..., None]
    away = np.abs(chroma - np.median(chroma[face], 0)).max(-1)
    ratio = light / np.median(light[face])
    return (away < SKIN_CHROMA) & (ratio > SKIN_LIGHT[0]) & (ratio < SKIN_LIGHT[1])


def _edge_band(inside: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels near the edge between inside and outside. The image's border is no edge."""
    from scipy.ndimage import distance_transform_edt

    if inside.all() or not inside.any():
        return np.zeros(inside.shape, bool)
    away = np.where(inside, distance_transform_edt(inside), distance_transform_edt(~inside))
    return away <= max(1.0, BAND * inside.shape[1])


def _polygon(points: Float[np.ndarray, "n 2"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Pixels whose centres lie inside the polygon of pixel positions (x, y)."""
    from skimage.draw import polygon

    filled = np.zeros(size, bool)
    filled[polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, size)] = True
    return filled


def _hull(points: Float[np.ndarray, "n 2"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Pixels inside the convex hull of pixel positions (x, y)."""
    from scipy.spatial import ConvexHull

    return _polygon(points[ConvexHull(points).vertices], size)
