"""The lens of a video, where the file names it.

Some phones write the focal length into the file as the length that would give the same angle of view on 35 mm film,
measured along the image's diagonal. Where a file says nothing, `raflib.tracking.head_pose.SINGLE_VIEW_FOV` is assumed.
The lens is not estimated from tracked points: these follow the tracker's own perspective. On three studio people seen
through windows of 12, 20 and 34 degrees, a face model fitted the points best at 20 degrees each time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

FOCAL_KEY = "camera.focal_length.35mm_equivalent"
"""End of the metadata's key, with or without a vendor's prefix."""
FILM_DIAGONAL = math.hypot(36, 24)
"""Millimetres."""
PLAUSIBLE = 8.0, 1200.0
"""Focal lengths on 35 mm film, millimetres; others are damage, or a placeholder such as 0 or -13."""


def focal_length_35mm(*metadata: Mapping[str, str]) -> float | None:
    """The focal length on 35 mm film, in millimetres, that the first of `metadata` names; None where none does."""
    for tags in metadata:
        for key, value in tags.items():
            number = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:mm)?\s*", value)
            if key.endswith(FOCAL_KEY) and number and PLAUSIBLE[0] <= float(number[1]) <= PLAUSIBLE[1]:
                return float(number[1])
    return None


def window_angle(focal_35mm: float, width: int, height: int, side: int) -> float:
    """Angle of view, in degrees, of a square window of `side` pixels in an image of `width` × `height` pixels.

    The image is taken to use the whole sensor. A film that is stabilised or cropped in the camera has a smaller angle.
    """
    focal = focal_35mm / FILM_DIAGONAL * math.hypot(width, height)
    return 2 * math.degrees(math.atan(side / 2 / focal))
