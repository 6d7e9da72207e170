"""The projection's hand-written backward pass (see `project`): from gradients of splats to gradients of Gaussians.

Nothing of the forward pass is stored but the splats: the rest is cheaper to compute again than to read back.
"""

import math

import numpy as np

from raflib.render.kernels import njit
from raflib.render.linear import (
    combine,
    dot,
    matrix_times_column,
    quaternion_gradient,
    rotation_rows,
    row_of,
    row_times_matrix,
    times,
    unit_quaternion,
)
from raflib.render.project import (
    OPACITY,
    perspective_jacobian,
    scaled_axes,
    screen_covariance,
    to_camera,
)


@njit(inline=True)
def _covariance_gradient(c00, c01, c11, determinant, g_a, g_b, g_c):
    """Gradient (v00, v01, v11) of the symmetric covariance from that of its inverse Q: V = -Q G Q.

    g_a, g_b, g_c belong to Q00, Q01 and Q11 of the exponent -(Q00 dx²/2 + Q01 dx dy + Q11 dy²/2), where Q01 stands for
    both off-diagonal entries; v01 is the gradient of one of the two.
    """
    q00, q01, q11 = c11 / determinant, -c01 / determinant, c00 / determinant
    half = 0.5 * g_b
    left00, left01 = q00 * g_a + q01 * half, q00 * half + q01 * g_c
    left10, left11 = q01 * g_a + q11 * half, q01 * half + q11 * g_c
    return -(left00 * q00 + left01 * q01), -(left00 * q01 + left01 * q11), -(left10 * q01 + left11 * q11)


@njit(inline=True)
def _compensation_gradient(c00, c01, c11, determinant, sharp, blur, g_opacity, opacity):
    """Antialiasing's share: gradients of c00, c01, c11 and the opacity through opacity · sqrt(sharp / determinant)."""
    ratio = sharp / determinant
    factor = math.sqrt(ratio)
    g_ratio = g_opacity * opacity * 0.5 / max(factor, 1e-6) / determinant
    v00 = g_ratio * ((c11 - blur) - ratio * c11)
    v11 = g_ratio * ((c00 - blur) - ratio * c00)
    return v00, -g_ratio * c01 * (1.0 - ratio), v11, g_opacity * factor


@njit(inline=True)
def _point_gradient(lens, x, y, z, slope_x, slope_y, g_u, g_v, g_j00, g_j02, g_j11, g_j12):
    """Gradient of the camera-space centre, through the screen centre (g_u, g_v) and through the Jacobian's entries."""
    fx_z, fy_z = lens[0] / z, lens[1] / z
    gx, gy = fx_z * g_u, fy_z * g_v
    gz = -(fx_z * x * g_u + fy_z * y * g_v) / z
    gz -= (fx_z * g_j00 + fy_z * g_j11) / z
    # j02 = -fx (x/z) / z while x/z is inside the clamp, else -fx · constant / z; the same for j12.
    if lens[4] <= x / z <= lens[5]:
        gx -= fx_z / z * g_j02
        gz += 2.0 * fx_z * slope_x / z * g_j02
    else:
        gz += fx_z * slope_x / z * g_j02
    if lens[6] <= y / z <= lens[7]:
        gy -= fy_z / z * g_j12
        gz += 2.0 * fy_z * slope_y / z * g_j12
    else:
        gz += fy_z * slope_y / z * g_j12
    return gx, gy, gz


@njit(inline=True)
def _write(array, i, values):
    array[i, 0], array[i, 1], array[i, 2] = values


@njit
def project_backward(
    first,
    last,
    block,
    means,
    quaternions,
    scales,
    opacities,
    view,
    lens,
    antialiased,
    tiles,
    splat_grads,
    mean_grads,
    quaternion_grads,
    scale_grads,
    opacity_grads,
    view_grads,
):
    """Gradients of Gaussians first..last-1, and this block's share of the camera's.

    splat_grads [N,6] holds the gradients of screen centre, Q00, Q01, Q11 (see `_covariance_gradient`) and opacity. The
    outputs have their tensors' shapes; view_grads [blocks,3,4] float64 gets the sum over the block at index `block`.
    Gaussians that are not visible (tiles 0) get zeros.
    """
    view_grads[block] = 0.0
    for i in range(first, last):
        if tiles[i] == 0:
            mean_grads[i], quaternion_grads[i], scale_grads[i], opacity_grads[i] = 0.0, 0.0, 0.0, 0.0
            continue
        mean, scale = row_of(means, i), row_of(scales, i)
        x, y, z = to_camera(view, mean)
        w, qx, qy, qz, inverse_norm = unit_quaternion(quaternions, i)
        rotation = rotation_rows(w, qx, qy, qz)
        axes = scaled_axes(rotation, scale)
        j00, j02, j11, j12, slope_x, slope_y = perspective_jacobian(lens, x, y, z)
        right, down, forward = row_of(view, 0), row_of(view, 1), row_of(view, 2)
        t0, t1 = combine(j00, right, j02, forward), combine(j11, down, j12, forward)
        u0, u1 = row_times_matrix(t0, axes), row_times_matrix(t1, axes)
        c00, c01, c11, determinant, sharp = screen_covariance(u0, u1, lens[8])

        g_u, g_v, g_a = row_of(splat_grads, i)
        g_b, g_c, g_opacity = (
            np.float64(splat_grads[i, 3]),
            np.float64(splat_grads[i, 4]),
            np.float64(splat_grads[i, OPACITY]),
        )
        v00, v01, v11 = _covariance_gradient(c00, c01, c11, determinant, g_a, g_b, g_c)
        if antialiased:
            a00, a01, a11, g_opacity = _compensation_gradient(
                c00, c01, c11, determinant, sharp, lens[8], g_opacity, np.float64(opacities[i])
            )
            v00, v01, v11 = v00 + a00, v01 + a01, v11 + a11
        opacity_grads[i] = g_opacity

        # Covariance = U Uᵀ (+ blur), U = T A, T = J R_view, A = R diag(s).
        w0 = combine(2.0 * v00, u0, 2.0 * v01, u1)
        w1 = combine(2.0 * v01, u0, 2.0 * v11, u1)
        g_t0, g_t1 = matrix_times_column(axes, w0), matrix_times_column(axes, w1)
        g_axes = (
            combine(t0[0], w0, t1[0], w1),
            combine(t0[1], w0, t1[1], w1),
            combine(t0[2], w0, t1[2], w1),
        )
        p0, p1, p2 = times(g_axes[0], rotation[0]), times(g_axes[1], rotation[1]), times(g_axes[2], rotation[2])
        _write(scale_grads, i, (p0[0] + p1[0] + p2[0], p0[1] + p1[1] + p2[1], p0[2] + p1[2] + p2[2]))
        g_rotation = scaled_axes(g_axes, scale)
        gw, gx, gy, gz = quaternion_gradient(w, qx, qy, qz, inverse_norm, g_rotation)
        quaternion_grads[i, 0], quaternion_grads[i, 1] = gw, gx
        quaternion_grads[i, 2], quaternion_grads[i, 3] = gy, gz

        g_point = _point_gradient(
            lens,
            x,
            y,
            z,
            slope_x,
            slope_y,
            g_u,
            g_v,
            dot(g_t0, right),
            dot(g_t0, forward),
            dot(g_t1, down),
            dot(g_t1, forward),
        )
        _write(mean_grads, i, row_times_matrix(g_point, (right, down, forward)))
        for k in range(3):
            view_grads[block, 0, k] += g_point[0] * mean[k] + j00 * g_t0[k]
            view_grads[block, 1, k] += g_point[1] * mean[k] + j11 * g_t1[k]
            view_grads[block, 2, k] += g_point[2] * mean[k] + j02 * g_t0[k] + j12 * g_t1[k]
            view_grads[block, k, 3] += g_point[k]
