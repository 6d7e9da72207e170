"""Compiled kernels under the studio's renderer: triangles to depth, vertex normals, soft shadow maps.

Everything is float32 and single-threaded, so images are the same in every run. Screen coordinates are in samples:
sample (row, column) is taken at (column + 0.5, row + 0.5). Depth buffers hold a nearness that is positive and larger
where nearer: 1/z in perspective, `FAR` + distance along the axis in orthographic maps. 0 means empty.
"""

from __future__ import annotations

import math

import numpy as np

from raflib.studio.jit import njit

FAR = 10.0  # metres, added to orthographic nearness to keep it positive


@njit
def behind(depth, x, y, nearness):
    """Whether the buffer holds something nearer at (x, y); False outside it."""
    column, row = int(x), int(y)
    if column < 0 or row < 0 or column >= depth.shape[1] or row >= depth.shape[0]:
        return False
    return depth[row, column] > nearness


@njit
def fill(x, y, nearness, triangles, one_sided, locks, face, depth):
    """Keep in `face` [H,W] the nearest triangle of every sample and in `depth` its interpolated nearness.

    `x`, `y`, `nearness` [V]; `one_sided` [F] marks triangles seen only from their front (counter-clockwise with y
    down means front here: negative signed area). Triangles from index `locks` on are hair in many layers: a triangle
    whose corners and middle are hidden by earlier ones counts as hidden.
    """
    height, width = depth.shape
    half, zero = np.float32(0.5), np.float32(0.0)
    for index in range(triangles.shape[0]):
        a, b, c = triangles[index, 0], triangles[index, 1], triangles[index, 2]
        x0, y0, x1, y1, x2, y2 = x[a], y[a], x[b], y[b], x[c], y[c]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0 or (one_sided[index] and area > 0):
            continue
        left = max(0, math.ceil(min(x0, x1, x2) - half))
        right = min(width - 1, math.floor(max(x0, x1, x2) - half))
        top = max(0, math.ceil(min(y0, y1, y2) - half))
        bottom = min(height - 1, math.floor(max(y0, y1, y2) - half))
        if left > right or top > bottom:
            continue
        inverse = np.float32(1.0) / area
        za, zb, zc = nearness[a], nearness[b], nearness[c]
        if za <= 0 or zb <= 0 or zc <= 0:
            continue
        if index >= locks:
            third = np.float32(1 / 3)
            mx, my, mz = (x0 + x1 + x2) * third, (y0 + y1 + y2) * third, (za + zb + zc) * third
            if (
                behind(depth, mx, my, mz)
                and behind(depth, x0, y0, za)
                and behind(depth, x1, y1, zb)
                and behind(depth, x2, y2, zc)
            ):
                continue
        step_a, step_b = (y1 - y2) * inverse, (y2 - y0) * inverse
        step_c = -step_a - step_b
        step_z = step_a * za + step_b * zb + step_c * zc
        one, tiny = np.float32(1.0), np.float32(1e-12)
        run_a = one / (step_a if abs(step_a) > tiny else tiny)
        run_b = one / (step_b if abs(step_b) > tiny else tiny)
        run_c = one / (step_c if abs(step_c) > tiny else tiny)
        span = np.float32(right - left)
        px = np.float32(left) + half
        for row in range(top, bottom + 1):
            py = np.float32(row) + half
            wa = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) * inverse
            wb = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) * inverse
            wc = one - wa - wb
            # The row's samples inside all three edges: about, with one more to either side, then exactly.
            ca, cb, cc = -wa * run_a, -wb * run_b, -wc * run_c
            first, last = zero, span
            if run_a > 0:
                first = max(first, ca)
            else:
                last = min(last, ca)
            if run_b > 0:
                first = max(first, cb)
            else:
                last = min(last, cb)
            if run_c > 0:
                first = max(first, cc)
            else:
                last = min(last, cc)
            if first > last + 1:
                continue
            begin, end = int(first), min(right - left, int(last) + 1)
            while begin <= end:
                at = np.float32(begin)
                if min(wa + step_a * at, wb + step_b * at, wc + step_c * at) >= 0:
                    break
                begin += 1
            while begin <= end:
                at = np.float32(end)
                if min(wa + step_a * at, wb + step_b * at, wc + step_c * at) >= 0:
                    break
                end -= 1
            z = wa * za + wb * zb + wc * zc
            depths, faces = depth[row, left : right + 1], face[row, left : right + 1]
            for column in range(begin, end + 1):
                here = z + step_z * np.float32(column)
                if here > depths[column]:
                    depths[column] = here
                    faces[column] = index


@njit
def vertex_normals(points, triangles, normals):
    """Area-weighted unit normals [V,3] of a triangle mesh, written into `normals`."""
    normals[:] = 0
    for index in range(triangles.shape[0]):
        a, b, c = triangles[index, 0], triangles[index, 1], triangles[index, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in range(3):
            vertex = triangles[index, corner]
            normals[vertex, 0] += nx
            normals[vertex, 1] += ny
            normals[vertex, 2] += nz
    for vertex in range(points.shape[0]):
        nx, ny, nz = normals[vertex, 0], normals[vertex, 1], normals[vertex, 2]
        scale = np.float32(1.0) / math.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-30))
        normals[vertex, 0] = nx * scale
        normals[vertex, 1] = ny * scale
        normals[vertex, 2] = nz * scale


@njit
def soft_shadow(shadow, column, row, nearness, softness):
    """Share of light in [0,1] at shadow-map position (column, row): 3×3 soft comparisons, each bilinearly placed.

    A sample counts as blocked gradually over `softness` metres of depth, which is what avoids bands on curved skin.
    """
    size = shadow.shape[0]
    left, top = math.floor(column - np.float32(0.5)), math.floor(row - np.float32(0.5))
    fx, fy = column - np.float32(0.5) - left, row - np.float32(0.5) - top
    lit, total = np.float32(0.0), np.float32(0.0)
    for dy in range(-1, 3):
        wy = np.float32(1.0)
        if dy == -1:
            wy = np.float32(1.0) - fy
        elif dy == 2:
            wy = fy
        for dx in range(-1, 3):
            weight = wy
            if dx == -1:
                weight *= np.float32(1.0) - fx
            elif dx == 2:
                weight *= fx
            total += weight
            x, y = left + dx, top + dy
            if x < 0 or y < 0 or x >= size or y >= size:
                lit += weight
            else:
                blocked = (shadow[y, x] - nearness) / softness
                lit += weight * (np.float32(1.0) - min(max(blocked, np.float32(0.0)), np.float32(1.0)))
    return lit / total


@njit(allocates=True)
def openness(points, normals, directions, axes, triangles, size, scale, centre):
    """Ambient visibility [V] in [0,1]: cosine-weighted share of `directions` [D,3] that reach each point unblocked.

    Of all `points` that `triangles` join, the first V have `normals` [V,3] and are asked for; the others only block.
    `axes` [D,3,3] holds an orthonormal frame a direction (its last row is the direction); each gets one orthographic
    depth map of `size`² samples at `scale` samples a metre around `centre`.
    """
    count, asked = points.shape[0], normals.shape[0]
    reached, total = np.zeros(count, np.float32), np.zeros(count, np.float32)
    x, y, nearness = np.empty(count, np.float32), np.empty(count, np.float32), np.empty(count, np.float32)
    depth, face = np.empty((size, size), np.float32), np.empty((size, size), np.int32)
    both_sides = np.zeros(triangles.shape[0], np.bool_)
    middle = np.float32(size / 2)
    for index in range(directions.shape[0]):
        frame = axes[index]
        for vertex in range(count):
            dx, dy, dz = points[vertex, 0] - centre[0], points[vertex, 1] - centre[1], points[vertex, 2] - centre[2]
            x[vertex] = (frame[0, 0] * dx + frame[0, 1] * dy + frame[0, 2] * dz) * scale + middle
            y[vertex] = (frame[1, 0] * dx + frame[1, 1] * dy + frame[1, 2] * dz) * scale + middle
            nearness[vertex] = frame[2, 0] * dx + frame[2, 1] * dy + frame[2, 2] * dz + np.float32(FAR)
        depth[:] = 0
        fill(x, y, nearness, triangles, both_sides, len(triangles), face, depth)
        for vertex in range(asked):
            facing = (
                normals[vertex, 0] * frame[2, 0] + normals[vertex, 1] * frame[2, 1] + normals[vertex, 2] * frame[2, 2]
            )
            if facing <= 0:
                continue
            column = min(max(int(x[vertex]), 0), size - 1)
            row = min(max(int(y[vertex]), 0), size - 1)
            blocked = (depth[row, column] - nearness[vertex] - np.float32(0.003)) / np.float32(0.006)
            total[vertex] += facing
            reached[vertex] += facing * (np.float32(1.0) - min(max(blocked, np.float32(0.0)), np.float32(1.0)))
    return (reached / np.maximum(total, np.float32(1e-6)))[:asked]
