"""A grid of tetrahedra and marching tetrahedra: from signed distances at grid points to a mesh, with gradients.

Every cube of a regular grid is cut into the six tetrahedra that share its main diagonal (Kuhn's cut). The cut is the
same in all cubes, so the diagonals of a face that two cubes share coincide, no crack can open, and an edge of the grid
is known by its lower corner and one of seven directions: meshes come out watertight without comparing positions.

Signs choose the topology, values the positions: a vertex lies where the distance, linear along a crossing edge, is
zero, and gradients reach the distances, the grid points and whatever is interpolated (Shen et al., "Deep Marching
Tetrahedra", 2021; the first stage of Xu et al. 2024 uses it).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raflib.errors import RafError

SMALLEST = 1e-6
"""Distances are kept at least this far from zero, so that a gradient stays finite where the surface grazes a point."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with outward orientation (counter-clockwise seen from where the distance is positive).

    `features` are interpolated along the crossing edges as the positions are.
    """

    vertices: Float[Tensor, "M 3"]
    faces: Int[Tensor, "F 3"]
    features: Float[Tensor, "M f"]


@dataclass(frozen=True, eq=False)
class Topology:
    """How the mesh of given signs is connected: what marching tetrahedra decide before any position is known.

    `ends` are the grid points whose values reach the mesh and `inside` their signs; vertex m lies on the edge from
    `ends[low[m]]` to `ends[high[m]]`.
    """

    faces: Int[Tensor, "F 3"]
    ends: Int[Tensor, "E"]
    inside: Bool[Tensor, "E"]
    low: Int[Tensor, "M"]
    high: Int[Tensor, "M"]

    def mesh(self, distance: Float[Tensor, "E"], points: Float[Tensor, "E 3"], features: Float[Tensor, "E f"]) -> Mesh:
        """Vertices where the distance, linear along each edge, is zero. A distance whose sign has changed since the
        topology was found counts as almost zero: the vertex waits at the end of its edge."""
        distance = torch.where(self.inside, distance.clamp(max=-SMALLEST), distance.clamp(min=SMALLEST))
        share = (distance[self.low] / (distance[self.low] - distance[self.high]))[:, None]
        return Mesh(
            vertices=torch.lerp(points[self.low], points[self.high], share),
            faces=self.faces,
            features=torch.lerp(features[self.low], features[self.high], share),
        )


class TetrahedralGrid:
    """Points of a grid spanned by three ascending coordinate lists `axes`, and the tetrahedra between them.

    `points` [V,3] run fastest along z; `border` [V] marks those on the box's sides. Spacing may vary along an axis
    (finer where a face is).
    """

    def __init__(self, x: Float[Tensor, "a"], y: Float[Tensor, "b"], z: Float[Tensor, "c"]):
        axes = (x, y, z)
        for name, axis in zip("xyz", axes, strict=True):
            if len(axis) < 2 or not bool((axis.diff() > 0).all()):
                raise RafError(f"tetrahedral grid: coordinates along {name} must be at least two, each above the last")
        self.shape = tuple(len(axis) for axis in axes)
        self.axes = axes
        self.points = torch.cartesian_prod(*axes)
        inner = torch.zeros(self.shape, dtype=torch.bool, device=x.device)
        inner[1:-1, 1:-1, 1:-1] = True
        self.border = ~inner.view(-1)
        self._stride = torch.tensor([self.shape[1] * self.shape[2], self.shape[2], 1], device=x.device)

    @classmethod
    def regular(cls, low: Sequence[float], high: Sequence[float], cells: int) -> TetrahedralGrid:
        """The box from `low` to `high` in `cells` equal steps along each axis."""
        return cls(*(torch.linspace(float(a), float(b), cells + 1) for a, b in zip(low, high, strict=True)))

    def to(self, device: torch.device | str) -> TetrahedralGrid:
        """The same grid on another device: meshes are made where the distances are."""
        return TetrahedralGrid(*(axis.to(device) for axis in self.axes))

    def smallest_cells(self) -> Float[Tensor, "V"]:
        """The shortest edge along an axis at each grid point."""
        around = []
        for axis in self.axes:
            step = axis.diff()
            around.append(torch.minimum(torch.cat([step[:1], step]), torch.cat([step, step[-1:]])))
        return torch.cartesian_prod(*around).min(1).values

    def locate(self, points: Float[Tensor, "N 3"]) -> tuple[Int[Tensor, "N 8"], Float[Tensor, "N 8"]]:
        """(corners of the cube around each point, their trilinear weights); outside the box, the nearest of it."""
        cell, share = [], []
        for axis, value in zip(self.axes, points.unbind(1), strict=True):
            index = (torch.searchsorted(axis, value.contiguous(), right=True) - 1).clamp(0, len(axis) - 2)
            cell.append(index)
            share.append(((value - axis[index]) / (axis[index + 1] - axis[index])).clamp(0, 1))
        corner = torch.arange(8, device=points.device)
        high = torch.stack([corner & 1, corner >> 1 & 1, corner >> 2 & 1]).bool()
        weight = torch.where(high[:, None], torch.stack(share)[..., None], 1 - torch.stack(share)[..., None]).prod(0)
        return self._rows(torch.stack(cell, 1))[:, None] + self._steps(corner), weight

    def topology(self, inside: Bool[Tensor, "V"]) -> Topology:
        """The mesh between grid points inside and outside. Raises RafError where all are on one side."""
        grid, (a, b, c) = inside.view(self.shape), (side - 1 for side in self.shape)
        corners = [grid[i : i + a, j : j + b, k : k + c] for i, j, k in itertools.product((0, 1), repeat=3)]
        count = torch.stack(corners).sum(0)
        cubes = self._rows(torch.nonzero((count > 0) & (count < 8)))
        if not len(cubes):
            raise RafError("marching: the signed distance does not change its sign in the box; there is no surface")
        tetrahedra = cubes[:, None, None] + self._steps(_CUT.to(cubes.device))
        tetrahedra = tetrahedra.reshape(-1, 4)
        case = (inside[tetrahedra] * tetrahedra.new_tensor([1, 2, 4, 8])).sum(1)
        pairs = [
            tetrahedra[case == key][:, edges.to(cubes.device)].reshape(-1, 3, 2) for key, edges in _TRIANGLES.items()
        ]
        low, high = torch.cat(pairs).sort(-1).values.unbind(-1)
        edges, faces = torch.unique(low * 7 + self._direction(high - low), return_inverse=True)
        low = edges // 7
        both, index = torch.unique(torch.stack([low, low + self._steps(edges % 7 + 1)]), return_inverse=True)
        return Topology(faces=faces, ends=both, inside=inside[both], low=index[0], high=index[1])

    def march(
        self,
        distance: Float[Tensor, "V"],
        features: Float[Tensor, "V f"] | None = None,
        points: Float[Tensor, "V 3"] | None = None,
    ) -> Mesh:
        """The mesh where `distance` (negative inside) is zero; `points` replaces the grid points, moved a little.

        Raises RafError where no distance changes sign, or one is NaN.
        """
        points = self.points if points is None else points
        features = distance.new_zeros(len(points), 0) if features is None else features
        if distance.shape != (len(self.points),) or len(features) != len(points) or points.shape != self.points.shape:
            raise RafError(f"marching: a grid of {len(self.points)} points needs as many distances, features, points")
        if torch.isnan(distance.detach().sum()):
            raise RafError("marching: a signed distance is not a number; lower the learning rates")
        found = self.topology(distance.detach() < 0)
        return found.mesh(distance[found.ends], points[found.ends], features[found.ends])

    def _rows(self, cell: Int[Tensor, "*n 3"]) -> Int[Tensor, "*n"]:
        """Place in the list of points by place along each axis; a sum, as CUDA multiplies no integer matrices."""
        return (cell * self._stride).sum(-1)

    def _steps(self, corner: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """How far in the list of points corner i + 2j + 4k of a cube is from its lowest."""
        return self._rows(torch.stack([corner & 1, corner >> 1 & 1, corner >> 2 & 1], -1))

    def _direction(self, step: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """Inverse of `_steps` less one; steps differ because each axis has at least two points."""
        table = step.new_zeros(int(self._stride.sum()) + 1)
        corner = torch.arange(1, 8, device=step.device)
        table[self._steps(corner)] = corner - 1
        return table[step]


def uniform_laplacian(vertices: Float[Tensor, "M 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "M 3"]:
    """Mean of each vertex's neighbours less the vertex; a neighbour counts once a triangle they share (twice, if the
    mesh is closed). Vertices of no triangle get zero."""
    corners, index = vertices[faces], faces.reshape(-1)
    others = (corners.sum(1, keepdim=True) - corners).reshape(-1, 3)
    around = torch.zeros_like(vertices).index_add(0, index, others)
    count = 2 * index.bincount(minlength=len(vertices))[:, None]
    return torch.where(count > 0, around / count.clamp(min=1) - vertices, torch.zeros_like(vertices))


def vertex_normals(vertices: Float[Tensor, "M 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "M 3"]:
    """Unit normals, the mean of the triangles around weighted by area; outward for the meshes of `march`."""
    a, b, c = vertices[faces].unbind(1)
    across = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices).index_add(0, faces.reshape(-1), across.repeat_interleave(3, 0))
    return torch.nn.functional.normalize(total, dim=-1)


def vertex_spacing(vertices: Float[Tensor, "M 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "M"]:
    """Square root of each vertex's share of the area around it: how far apart vertices are there."""
    a, b, c = vertices[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1) / 6
    return vertices.new_zeros(len(vertices)).index_add(0, faces.reshape(-1), area.repeat_interleave(3)).sqrt()


def _even(order: tuple[int, ...]) -> bool:
    return sum(a > b for a, b in itertools.combinations(order, 2)) % 2 == 0


def _kuhn() -> Tensor:
    """[6,4] corners of a cube's tetrahedra, from corner 0 to corner 7 an axis at a time, each of positive volume."""
    cut = []
    for order in itertools.permutations(range(3)):
        path = [0, 1 << order[0], (1 << order[0]) + (1 << order[1]), 7]
        cut.append(path if _even(order) else [path[0], path[2], path[1], path[3]])
    return torch.tensor(cut)


def _triangles() -> dict[int, Tensor]:
    """Which corners are inside (bits) → [T,3,2]: T triangles of three crossing edges, each a pair of corners."""
    table = {}
    for order in itertools.permutations(range(4)):
        if not _even(order):
            continue
        a, b, c, d = order
        around = [(a, b), (a, c), (a, d)]
        table[1 << a] = torch.tensor([around])
        table[15 - (1 << a)] = torch.tensor([around[::-1]])
        table[(1 << a) + (1 << b)] = torch.tensor(
            [[(a, c), (a, d), (b, d)], [(a, c), (b, d), (b, c)]],
        )
    return dict(sorted(table.items()))


_CUT, _TRIANGLES = _kuhn(), _triangles()
