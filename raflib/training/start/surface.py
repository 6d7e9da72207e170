"""A head as the zero set of a learned signed distance, rendered as surface splats (stage 1 of Xu et al. 2024, §3.3).

A small network maps a position to a signed distance, a shift of the grid point there, a feature and, where the avatar
has colours of its own, a colour. Marching tetrahedra make a mesh of it, whose vertices the *avatar's own* colour and
displacement networks move and colour by expression and pose, so what they learn here they keep. The Gaussian renderer
renders the mesh: each vertex is an opaque flat Gaussian in its tangent plane, as wide as vertices are apart.

Only the ends of edges that the surface crosses reach the mesh; of the other grid points only the sign is used. Signs
are computed now and then (`refresh`), and in between the mesh moves without changing its triangles.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raflib.avatar.model import GaussianAvatar
from raflib.config import SurfaceConfig
from raflib.errors import RafError
from raflib.geometry import Camera, axis_angle_to_matrix
from raflib.render import Gaussians
from raflib.training.start.field import NetworkField, TableField
from raflib.training.start.simple import BELOW_CHIN, FOLLOWS
from raflib.training.start.tetrahedra import Mesh, TetrahedralGrid, Topology, vertex_normals, vertex_spacing

OPACITY = 0.95
TURNED_AWAY = -0.1
"""Cosine between normal and viewing direction below which a vertex is hidden by the rest of a closed surface."""
RECALLED = 64
"""Number of last camera positions that are kept to find the parts of the surface which the cameras see."""
SHIFT = 0.45
"""Largest shift of a grid point, in cells: neighbours cannot pass each other."""


class Surface(nn.Module):
    """The field on a grid and the avatar whose networks move its mesh, both on one device. The avatar is not
    a submodule, so that its parameters are not among the surface's."""

    def __init__(self, avatar: GaussianAvatar, grid: TetrahedralGrid, config: SurfaceConfig, chin: float):
        super().__init__()
        self._avatar, self.grid, self.config = [avatar], grid, config
        c = avatar.config
        self.colours = 3 if avatar.colour is not None else 0
        sizes = c.feature_dim, self.colours
        field = NetworkField(grid, config, *sizes) if config.hidden else TableField(grid, *sizes)
        self.field = field.to(grid.points.device)
        self.cell = grid.smallest_cells()
        self.chin = chin
        self.topology: Topology | None = None
        self.eyes: list[Float[Tensor, "3"]] = []

    @property
    def avatar(self) -> GaussianAvatar:
        """The avatar whose networks move the mesh."""
        return self._avatar[0]

    @torch.no_grad()
    def refresh(self) -> None:
        """Evaluate every grid point and connect the mesh anew. Points on the box's sides count as outside, so that
        the mesh is closed."""
        distance = self.field.distances()
        if torch.isnan(distance.sum()):
            raise RafError("surface: a signed distance is not a number; lower the rates of SurfaceConfig")
        self.topology = self.grid.topology((distance < 0) & ~self.grid.border)

    def mesh(self) -> Mesh:
        """The mesh as the field is now; its features are the avatar's features, then colours."""
        if self.topology is None:
            raise RafError("surface: it has no mesh yet; call refresh first")
        ends = self.topology.ends
        distance, shift, feature, colour = self.field.at_grid(ends)
        points = self.grid.points[ends] + SHIFT * self.cell[ends, None] * shift
        return self.topology.mesh(distance, points, torch.cat([feature, colour], 1))

    def follows_head(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 1"]:
        """Logit of how far each point follows the head, as `initialise` sets it."""
        return torch.where(points[:, 1:2] < self.chin + BELOW_CHIN, *FOLLOWS)

    def splats(
        self, mesh: Mesh, expression: Float[Tensor, "1 d"], pose: Float[Tensor, "1 6"], scale: Float[Tensor, "1"],
        camera: Camera,
    ) -> tuple[Gaussians, Float[Tensor, "1 M 3"]]:  # fmt: skip
        """(world Gaussians of the vertices that face the camera, how far the networks moved each)."""
        a, c = self.avatar, self.avatar.config
        with torch.no_grad():
            normals = vertex_normals(mesh.vertices, mesh.faces)
            width = vertex_spacing(mesh.vertices, mesh.faces)
            eye = (pose.new_tensor(camera.centre) - pose[0, 3:]) @ axis_angle_to_matrix(pose[0, :3]) / scale[0]
            self.eyes.append(eye)
            towards = nn.functional.normalize(eye - mesh.vertices, dim=1)
            shown = torch.nonzero((towards * normals).sum(1) > TURNED_AWAY)[:, 0]
            quaternion, size = flat(normals[shown], self.config.spread * width[shown], self.config.flatness)
        vertices, features = mesh.vertices[shown], mesh.features[shown]
        moved, colour = self._networks(vertices, features[:, : c.feature_dim], expression, pose)
        if self.colours:
            colour = colour + features[:, c.feature_dim :]
        follow_logit = None if a.follow_logit is None else self.follows_head(vertices.detach())
        means, quaternions, size = a.to_world(vertices + moved, quaternion[None], size[None], pose, scale, follow_logit)
        opacity = vertices.new_full((1, len(shown)), OPACITY)
        return Gaussians(means, quaternions, size, opacity, colour), moved

    @torch.no_grad()
    def seen(self, points: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Share of the cameras so far (the last `RECALLED` splats, as the head saw them) that a surface point faces."""
        if not self.eyes:
            return points.new_ones(len(points))
        towards = torch.stack(self.eyes[-RECALLED:])[:, None] - points
        return ((towards * normals).sum(-1) > 0).float().mean(0)

    def _networks(
        self,
        vertices: Float[Tensor, "M 3"],
        features: Float[Tensor, "M f"],
        expression: Float[Tensor, "1 d"],
        pose: Float[Tensor, "1 6"],
    ) -> tuple[Float[Tensor, "1 M 3"], Float[Tensor, "1 M 3"]]:
        """(displacement, colour) by the avatar's networks, blended by the distance to landmarks as the avatar does."""
        a, c = self.avatar, self.avatar.config
        with torch.no_grad():
            blend = a.blend(vertices)
        code, pose_code = a.code(expression), a.pose_code(pose)
        near, far = features[blend.near], features[blend.far]
        by_expression = a.displacement(near, blend.near_encoded, code), a.colour_change(near, code)[..., :3]
        by_pose = c.deform_scale * a.pose_deform(blend.far_encoded, pose_code), a.pose_color(far.tanh(), pose_code)
        change = vertices.new_zeros(1, len(vertices), 6)
        change = change.index_add(1, blend.near, blend.by_expression * torch.cat(by_expression, -1))
        change = change.index_add(1, blend.far, blend.by_pose * torch.cat([by_pose[0], by_pose[1][..., :3]], -1))
        return change.split(3, -1)


def flat(
    normals: Float[Tensor, "N 3"], width: Float[Tensor, "N"], flatness: float
) -> tuple[Float[Tensor, "N 4"], Float[Tensor, "N 3"]]:
    """(quaternions, sizes) of Gaussians `width` wide in the tangent plane, `flatness` of that along the normal.

    The third axis is turned onto the normal or its opposite, whichever is nearer: both are the same Gaussian.
    """
    n = torch.where(normals[:, 2:] < 0, -normals, normals)
    quaternion = torch.stack([1 + n[:, 2], -n[:, 1], n[:, 0], torch.zeros_like(n[:, 0])], 1)
    size = width[:, None] * width.new_tensor([1.0, 1.0, flatness])
    return nn.functional.normalize(quaternion, dim=1), size.clamp(min=1e-4)
