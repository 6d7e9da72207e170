"""Finer scalp for the head model: a Catmull-Clark step where the source is coarse and hair needs a round outline.

Used by `build_head_model.py`. Everything is expressed as sparse matrices that make new points from old ones, so that
shapes, actions and skin weights are refined by the same linear map.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix


def coarse_scalp(quads: np.ndarray, part: np.ndarray, template: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """[F] bool: body faces of the top and back of the head with edges over 6 mm."""
    place = template[quads[..., 0]].mean(1) - eye
    longest = np.linalg.norm(np.diff(template[quads[..., 0]], axis=1), axis=-1).max(1)
    head = (part == 0) & (np.abs(place[:, 0]) < 0.12) & (place[:, 1] > -0.3)
    return head & (longest > 0.006) & ((place[:, 1] < -0.04) | ((place[:, 2] > 0.062) & (place[:, 1] < 0.05)))


def refine_scalp(
    quads: np.ndarray, part: np.ndarray, template: np.ndarray, uv_count: int, fine: np.ndarray
) -> tuple[list[list[tuple[int, int]]], list[int], csr_matrix, csr_matrix]:
    """One Catmull-Clark step (1978) on the faces marked in `fine` [F], so that hair has a round outline.

    Returns faces as lists of (point, uv) pairs (quads, and polygons where a coarse face meets a fine one), their parts,
    and two sparse matrices that make the new points and uvs from the old. The border of the region stays where it is.
    """
    point_rows = [{index: 1.0} for index in range(len(template))]
    uv_rows = [{index: 1.0} for index in range(uv_count)]
    body = np.flatnonzero(part == 0)
    edge_faces: dict[tuple[int, int], list[int]] = {}
    for face in body:
        for a, b in edges_of(quads[face, :, 0]):
            edge_faces.setdefault((min(a, b), max(a, b)), []).append(face)
    centre_of, middle_of, uv_middle_of = {}, {}, {}

    def add(rows: list[dict[int, float]], parts: list[tuple[float, dict[int, float]]]) -> int:
        mixed: dict[int, float] = {}
        for weight, row in parts:
            for index, value in row.items():
                mixed[index] = mixed.get(index, 0.0) + weight * value
        rows.append(mixed)
        return len(rows) - 1

    for face in np.flatnonzero(fine):
        corners = [(0.25, point_rows[index]) for index in quads[face, :, 0]]
        uv_corners = [(0.25, uv_rows[index]) for index in quads[face, :, 1]]
        centre_of[face] = (add(point_rows, corners), add(uv_rows, uv_corners))
    for (a, b), faces in edge_faces.items():
        inside = [face for face in faces if fine[face]]
        if not inside:
            continue
        ends = [(0.5, point_rows[a]), (0.5, point_rows[b])]
        if len(inside) == 2:
            ends = [(0.25, point_rows[a]), (0.25, point_rows[b])]
            ends += [(0.25, point_rows[centre_of[face][0]]) for face in inside]
        middle_of[a, b] = add(point_rows, ends)
    smoothed = smoothed_corners(edge_faces, fine, quads, point_rows, centre_of)
    polygons, labels = [], []
    for face, quad in enumerate(quads):
        ring = []
        for corner, following in zip(quad.tolist(), np.roll(quad, -1, 0).tolist(), strict=True):
            ring.append(tuple(corner))
            edge = (min(corner[0], following[0]), max(corner[0], following[0]))
            if part[face] == 0 and edge in middle_of:
                uv_edge = (min(corner[1], following[1]), max(corner[1], following[1]))
                if uv_edge not in uv_middle_of:
                    uv_middle_of[uv_edge] = add(uv_rows, [(0.5, uv_rows[uv_edge[0]]), (0.5, uv_rows[uv_edge[1]])])
                ring.append((middle_of[edge], uv_middle_of[uv_edge]))
        if fine[face]:
            for corner in range(4):
                polygons.append([ring[2 * corner], ring[2 * corner + 1], centre_of[face], ring[2 * corner - 1]])
        else:  # a fan must start at an added point, or it would leave a gap along the edge that has it
            first = next((place for place, item in enumerate(ring) if item[0] >= len(template)), 0)
            polygons.append(ring[first:] + ring[:first])
        labels += [part[face]] * (4 if fine[face] else 1)
    for index, row in smoothed.items():
        point_rows[index] = row
    return polygons, labels, as_matrix(point_rows, len(template)), as_matrix(uv_rows, uv_count)


def smoothed_corners(
    edge_faces: dict[tuple[int, int], list[int]],
    fine: np.ndarray,
    quads: np.ndarray,
    rows: list[dict[int, float]],
    centre_of: dict[int, tuple[int, int]],
) -> dict[int, dict[int, float]]:
    """Catmull-Clark rows of the old points that lie inside the region: (F + 2R + (n − 3)P) / n."""
    faces_of: dict[int, set[int]] = {}
    ends_of: dict[int, set[int]] = {}
    open_points: set[int] = set()
    for (a, b), faces in edge_faces.items():
        for point, other in ((a, b), (b, a)):
            faces_of.setdefault(point, set()).update(faces)
            ends_of.setdefault(point, set()).add(other)
            if len(faces) != 2:
                open_points.add(point)
    result = {}
    for point, faces in faces_of.items():
        if point in open_points or not all(fine[face] for face in faces):
            continue
        count = len(faces)
        row = {point: (count - 3) / count + 1 / count}  # P's own share and its half of each edge's middle
        for face in faces:
            for index, value in rows[centre_of[face][0]].items():
                row[index] = row.get(index, 0.0) + value / count**2
        for other in ends_of[point]:
            row[other] = row.get(other, 0.0) + 1 / count**2
        result[point] = row
    return result


def edges_of(corners: np.ndarray) -> list[tuple[int, int]]:
    """Edges of a face as pairs of its corners, in order."""
    ring = corners.tolist()
    return list(zip(ring, ring[1:] + ring[:1], strict=True))


def as_matrix(rows: list[dict[int, float]], columns: int) -> csr_matrix:
    """Sparse [len(rows), columns] matrix of dictionaries column → value."""
    values = [value for row in rows for value in row.values()]
    places = [index for row in rows for index in row]
    starts = np.cumsum([0, *(len(row) for row in rows)])
    return csr_matrix((values, places, starts), shape=(len(rows), columns))
