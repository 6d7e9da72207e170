"""3-vectors and 3×3 matrices as tuples (a matrix is its three rows) inside numba kernels."""

import math

import numpy as np

from raflib.render.kernels import njit


@njit(inline=True)
def dot(a, b):
    """a · b"""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(inline=True)
def cross(a, b):
    """a × b"""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@njit(inline=True)
def combine(s, a, t, b):
    """s a + t b for scalars s, t"""
    return s * a[0] + t * b[0], s * a[1] + t * b[1], s * a[2] + t * b[2]


@njit(inline=True)
def times(a, b):
    """The elementwise product."""
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]


@njit(inline=True)
def row_times_matrix(a, rows):
    """aᵀ M"""
    return (
        a[0] * rows[0][0] + a[1] * rows[1][0] + a[2] * rows[2][0],
        a[0] * rows[0][1] + a[1] * rows[1][1] + a[2] * rows[2][1],
        a[0] * rows[0][2] + a[1] * rows[1][2] + a[2] * rows[2][2],
    )


@njit(inline=True)
def matrix_times_column(rows, a):
    """M a"""
    return dot(rows[0], a), dot(rows[1], a), dot(rows[2], a)


@njit(inline=True)
def row_of(array, i):
    """The first three entries of row i of a 2-D array, in float64."""
    return np.float64(array[i, 0]), np.float64(array[i, 1]), np.float64(array[i, 2])


@njit(inline=True)
def unit_quaternion(quaternions, i):
    """(w, x, y, z) of row i normalised, and 1 / its norm (a zero quaternion gives the identity rotation)."""
    w, x, y, z = (
        np.float64(quaternions[i, 0]),
        np.float64(quaternions[i, 1]),
        np.float64(quaternions[i, 2]),
        np.float64(quaternions[i, 3]),
    )
    inverse_norm = 1.0 / max(math.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    return w * inverse_norm, x * inverse_norm, y * inverse_norm, z * inverse_norm, inverse_norm


@njit(inline=True)
def rotation_rows(w, x, y, z):
    """The rotation matrix of a unit quaternion."""
    return (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
        (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)),
        (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
    )


@njit(inline=True)
def quaternion_gradient(w, x, y, z, inverse_norm, g):
    """Gradient of the unnormalised quaternion from g, the gradient of the rotation matrix's rows."""
    dw = 2.0 * (x * (g[2][1] - g[1][2]) + y * (g[0][2] - g[2][0]) + z * (g[1][0] - g[0][1]))
    dx = 2.0 * (w * (g[2][1] - g[1][2]) + y * (g[0][1] + g[1][0]) + z * (g[0][2] + g[2][0]))
    dx -= 4.0 * x * (g[1][1] + g[2][2])
    dy = 2.0 * (w * (g[0][2] - g[2][0]) + x * (g[0][1] + g[1][0]) + z * (g[1][2] + g[2][1]))
    dy -= 4.0 * y * (g[0][0] + g[2][2])
    dz = 2.0 * (w * (g[1][0] - g[0][1]) + x * (g[0][2] + g[2][0]) + y * (g[1][2] + g[2][1]))
    dz -= 4.0 * z * (g[0][0] + g[1][1])
    # Normalising removes what points along the quaternion.
    along = dw * w + dx * x + dy * y + dz * z
    return (
        (dw - along * w) * inverse_norm,
        (dx - along * x) * inverse_norm,
        (dy - along * y) * inverse_norm,
        (dz - along * z) * inverse_norm,
    )
