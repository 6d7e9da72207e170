"""From 3D Gaussians to screen ellipses: forward projection, one Gaussian at a time.

For every Gaussian this writes its splat (screen centre, inverse covariance, opacity), the pixel box outside which it
covers less than 1/255, its depth, and how many tiles the box touches (0: not visible). The screen covariance is the
EWA one, J R Σ Rᵀ Jᵀ + blur · I with the Jacobian J of the perspective at the centre (Zwicker et al., "EWA splatting",
2002, eq. 31), J's direction being clamped slightly outside the image as 3DGS and gsplat do.

Arithmetic is float64 (it costs little beside rasterising and keeps the gradients accurate); results are float32.
"""

import math

import numpy as np

from raflib.render.constants import (
    FRUSTUM_MARGIN,
    MIN_ALPHA,
    MIN_DETERMINANT,
    NEAR,
    TILE_HEIGHT,
    TILE_WIDTH,
)
from raflib.render.kernels import njit
from raflib.render.linear import (
    combine,
    cross,
    dot,
    rotation_rows,
    row_of,
    row_times_matrix,
    times,
    unit_quaternion,
)

# Columns of a splat. HALF_A, B, HALF_C: the exponent is -(HALF_A dx² + B dx dy + HALF_C dy²).
CENTRE_X, CENTRE_Y, HALF_A, B, HALF_C, OPACITY = range(6)
SPLAT_COLUMNS = 6

# Boxes are grown a little against rounding: a pixel too many costs nothing, one too few is a wrong pixel.
_LOG_SLACK = 1e-3
_PIXEL_SLACK = 1e-3


def lens_of(intrinsic, width: int, height: int, blur: float) -> np.ndarray:
    """(fx, fy, cx, cy, min x/z, max x/z, min y/z, max y/z, blur); four are the Jacobian's clamp. Skew is ignored."""
    fx, fy, cx, cy = (float(intrinsic[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    margin_x, margin_y = FRUSTUM_MARGIN * 0.5 * width / fx, FRUSTUM_MARGIN * 0.5 * height / fy
    return np.array(
        [
            fx,
            fy,
            cx,
            cy,
            -cx / fx - margin_x,
            (width - cx) / fx + margin_x,
            -cy / fy - margin_y,
            (height - cy) / fy + margin_y,
            blur,
        ]
    )


@njit(inline=True)
def to_camera(view, mean):
    """World point to camera coordinates."""
    return (
        dot(row_of(view, 0), mean) + view[0, 3],
        dot(row_of(view, 1), mean) + view[1, 3],
        dot(row_of(view, 2), mean) + view[2, 3],
    )


@njit(inline=True)
def perspective_jacobian(lens, x, y, z):
    """The four non-zero entries j00, j02, j11, j12 of the 2×3 Jacobian, and the clamped x/z and y/z it is taken at."""
    slope_x = min(max(x / z, lens[4]), lens[5])
    slope_y = min(max(y / z, lens[6]), lens[7])
    return lens[0] / z, -lens[0] * slope_x / z, lens[1] / z, -lens[1] * slope_y / z, slope_x, slope_y


@njit(inline=True)
def screen_covariance(u0, u1, blur):
    """Blurred covariance (c00, c01, c11) of the ellipse with half-axes matrix U (rows u0, u1), its determinant, and the
    determinant without blur. Both are sums of squares (Lagrange's identity), so thin ellipses lose no digits."""
    c00, c01, c11 = dot(u0, u0), dot(u0, u1), dot(u1, u1)
    normal = cross(u0, u1)
    sharp = dot(normal, normal)
    return c00 + blur, c01, c11 + blur, sharp + blur * (c00 + c11) + blur * blur, sharp


@njit(inline=True)
def scaled_axes(rotation, scale):
    """R diag(s), the matrix whose product with its transpose is the 3D covariance."""
    return times(rotation[0], scale), times(rotation[1], scale), times(rotation[2], scale)


@njit(inline=True)
def _pixel_range(centre, extent, size):
    """First and past-the-end pixel whose centre (at +0.5) lies within `extent` of `centre`, inside the image."""
    first = max(math.ceil(centre - extent - 0.5), 0.0)
    last = min(math.floor(centre + extent - 0.5) + 1.0, float(size))
    if not last > first:
        return 0, 0
    return int(first), int(last)


@njit
def project(
    first,
    last,
    means,
    quaternions,
    scales,
    opacities,
    view,
    lens,
    width,
    height,
    antialiased,
    splats,
    boxes,
    depths,
    tiles,
):
    """Project Gaussians first..last-1.

    Inputs: means [N,3], quaternions [N,4] wxyz, scales [N,3], opacities [N] (all float32), view [4,4] float64
    world→camera, lens from `lens_of`. Outputs: splats [N,6], boxes [N,4] int32 (x from, x to, y from, y to), depths [N]
    camera z, tiles [N] int32 the number of tiles under the box. Only the rows with tiles > 0 are defined.
    """
    for i in range(first, last):
        tiles[i] = 0
        opacity = np.float64(opacities[i])
        x, y, z = to_camera(view, row_of(means, i))
        if not (z > NEAR and opacity >= MIN_ALPHA):
            continue
        w, qx, qy, qz, _ = unit_quaternion(quaternions, i)
        axes = scaled_axes(rotation_rows(w, qx, qy, qz), row_of(scales, i))
        j00, j02, j11, j12, _, _ = perspective_jacobian(lens, x, y, z)
        u0 = row_times_matrix(combine(j00, row_of(view, 0), j02, row_of(view, 2)), axes)
        u1 = row_times_matrix(combine(j11, row_of(view, 1), j12, row_of(view, 2)), axes)
        c00, c01, c11, determinant, sharp = screen_covariance(u0, u1, lens[8])
        if not (determinant > MIN_DETERMINANT):
            continue
        if antialiased:
            opacity *= math.sqrt(sharp / determinant)
            if not (opacity >= MIN_ALPHA):
                continue
        reach = 2.0 * (math.log(opacity / MIN_ALPHA) + _LOG_SLACK)
        centre_x, centre_y = lens[0] * x / z + lens[2], lens[1] * y / z + lens[3]
        x0, x1 = _pixel_range(centre_x, math.sqrt(reach * c00) + _PIXEL_SLACK, width)
        y0, y1 = _pixel_range(centre_y, math.sqrt(reach * c11) + _PIXEL_SLACK, height)
        if x1 <= x0 or y1 <= y0:
            continue
        splats[i, CENTRE_X] = centre_x
        splats[i, CENTRE_Y] = centre_y
        splats[i, HALF_A] = 0.5 * c11 / determinant
        splats[i, B] = -c01 / determinant
        splats[i, HALF_C] = 0.5 * c00 / determinant
        splats[i, OPACITY] = opacity
        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = x0, x1, y0, y1
        depths[i] = z
        across = (x1 - 1) // TILE_WIDTH - x0 // TILE_WIDTH + 1
        tiles[i] = across * ((y1 - 1) // TILE_HEIGHT - y0 // TILE_HEIGHT + 1)
