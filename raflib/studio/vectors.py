"""Vectors of three numbers as tuples, and values at a point of a mesh, for compiled functions."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from raflib.studio.jit import njit


class Hit(NamedTuple):
    """A point of the mesh: its triangle, the triangle's corners and their barycentric shares."""

    triangle: int
    a: int
    b: int
    c: int
    wa: float
    wb: float
    wc: float


@njit(inline=True)
def blend(values, column, hit):
    """The value of one column of `values` [N,k] at a hit."""
    return hit.wa * values[hit.a, column] + hit.wb * values[hit.b, column] + hit.wc * values[hit.c, column]


@njit(inline=True)
def blend_vector(values, hit):
    """The vector of `values` [N,3] at a hit."""
    return blend(values, 0, hit), blend(values, 1, hit), blend(values, 2, hit)


@njit(inline=True)
def vector(rows, index):
    """One row of an array [n,3] as a tuple."""
    return rows[index, 0], rows[index, 1], rows[index, 2]


@njit(inline=True)
def dot(u, v):
    """Dot product of two vectors of three."""
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


@njit(inline=True)
def inverse_length(v, tiny):
    """1 / the length of a vector; `tiny` is added to its square."""
    return np.float32(1.0) / math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2] + tiny)


@njit(inline=True)
def unit(v, tiny):
    """The vector of length 1 in the direction of `v`."""
    scale = inverse_length(v, tiny)
    return v[0] * scale, v[1] * scale, v[2] * scale
