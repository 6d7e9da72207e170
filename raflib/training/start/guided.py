"""Stage 1 of Xu et al. 2024: learn a surface, then let the Gaussians start on it.

`learn_surface` starts a field (`raflib.training.start.field`) from what masks and landmarks suggest, then trains it and
the avatar's colour and displacement networks on images. `plant` puts the avatar's Gaussians on the surface found, flat
and with its features and colours. Both change the avatar in place; mouth points stay where `initialise` put them.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from raflib.avatar.model import GaussianAvatar
from raflib.capture import Capture
from raflib.config import SurfaceConfig, TrainConfig
from raflib.errors import RafError
from raflib.images import resized
from raflib.render import rasterize
from raflib.training.landmark_term import BESIDE, LandmarkGuide
from raflib.training.start.distance import first_distances, head_grid
from raflib.training.start.simple import carve, median_frames
from raflib.training.start.surface import Surface, flat
from raflib.training.start.tetrahedra import Mesh, uniform_laplacian, vertex_normals

NEAREST = 3
"""The density of landmarks at a point follows from the distance to this many-th nearest one."""

RARELY, UNSEEN = 0.03, 0.1
"""Faces seen by less than the first share of the cameras get the second share of the Gaussians they would else get."""


@runtime_checkable
class Shots(Protocol):
    """The training images as this stage reads them, see `raflib.training.data.TrainingImages`.

    A shot has its frame `t`, cameras, images [V,H,W,3], pose [1,6] and scale [1]. Only its first view is used.
    """

    def shot(self, step: int) -> Any: ...


def start_on_surface(
    avatar: GaussianAvatar,
    capture: Capture,
    images: Shots,
    guide: LandmarkGuide,
    config: TrainConfig,
    around: list[int],
    progress: bool = True,
) -> None:
    """Learn a surface, then put the avatar's Gaussians on it: `learn_surface` and `plant`."""
    surface = learn_surface(avatar, capture, images, guide, config, around, progress)
    normals = plant(avatar, surface, guide.neutral, config.seed)
    paint(avatar, normals, capture, around)


def learn_surface(
    avatar: GaussianAvatar,
    capture: Capture,
    images: Shots,
    guide: LandmarkGuide,
    config: TrainConfig,
    around: list[int],
    progress: bool = True,
) -> Surface:
    """The surface of `capture` from the cameras `around` (masks) and `images`; trains four of the avatar's networks.

    `guide` is the training's landmark term, whose sampler conditions the images too. The surface is on the avatar's
    device; on a CPU the same seed gives the same. Raises RafError when images are smaller than asked for, or no
    surface can be found.
    """
    s = config.surface
    if s is None:
        raise RafError("surface: the configuration has none; use initialisation 'guided'")
    if s.size > config.size:
        raise RafError(f"surface: images of {s.size} pixels asked for, those of the training have {config.size}")
    views = {camera.name: index for index, camera in enumerate(capture.cameras)}
    grid = head_grid(capture, s, around, config.seed).to(avatar.xyz.device)
    surface = Surface(avatar, grid, s, float(capture.neutral[:, 1].max()))
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + 700_001)
    surface.field.start(*first_distances(capture, grid, around, config.seed), guide.neutral, generator)
    networks = [*avatar.expression_networks, avatar.pose_deform, avatar.pose_color]
    rates = s.rate_field, s.rate_mlp
    groups = [list(surface.field.parameters()), [p for network in networks for p in network.parameters()]]
    optimiser = torch.optim.Adam([{"params": group} for group in groups], betas=(0.9, 0.99), fused=True)
    for step in tqdm(range(s.steps), desc="surface", disable=not progress, mininterval=1.0, leave=False):
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * s.decay ** (step / s.steps)
        if step % s.refresh == 0:
            surface.refresh()
        shot = images.shot(step)
        loss = total(losses(surface, shot, capture.mask(shot.t, views[shot.cameras[0].name]), guide, generator), s)
        if not torch.isfinite(loss):
            raise RafError(f"surface: the loss is not finite at step {step}; lower the rates of SurfaceConfig")
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    surface.refresh()
    return surface


def losses(
    surface: Surface, shot: Any, mask: UInt8[np.ndarray, "H W"], guide: LandmarkGuide, generator: torch.Generator
) -> dict[str, Tensor]:
    """The six terms of stage 1 for one image and its mask, each a number ≥ 0."""
    size, camera = surface.config.size, shot.cameras[0]
    device = shot.images.device
    alpha_true = resized(torch.tensor(mask, device=device)[None, ..., None] / 255, size, size)
    image = resized(shot.images[:1], size, size) * alpha_true + (1 - alpha_true)
    mesh = surface.mesh()
    expression = guide.condition(torch.tensor([shot.t]), generator).to(device)
    gaussians, moved = surface.splats(mesh, expression, shot.pose, shot.scale, camera)
    render, alpha = rasterize(gaussians, [camera], size, blur=surface.avatar.config.blur)
    both = (alpha * alpha_true).sum()
    at_landmarks = surface.field.at(guide.neutral)
    return {
        "rgb": (render - image).abs().mean(),
        "silhouette": 1 - both / (alpha.sum() + alpha_true.sum() - both),
        "landmarks": guide.distances(BESIDE, generator, at_landmarks[2]).mean(),
        "offset": moved.square().sum(-1).mean(),
        "distance": at_landmarks[0].abs().mean(),
        "laplacian": uniform_laplacian(mesh.vertices, mesh.faces).square().sum(-1).mean(),
    }


def total(parts: dict[str, Tensor], config: SurfaceConfig) -> Float[Tensor, ""]:
    """The weighted sum that stage 1 minimises."""
    return reduce(torch.add, (getattr(config, f"weight_{name}") * value for name, value in parts.items()))


@torch.no_grad()
def plant(
    avatar: GaussianAvatar, surface: Surface, landmarks: Float[Tensor, "L 3"], seed: int = 0
) -> Float[Tensor, "n 3"]:
    """Put the avatar's Gaussians on the surface: position, feature, colour, size and direction; mouth points get
    their features only. Returns the outward normals of the n others.

    A share `face_share` of them lies where the expression networks act, half of those evenly and half as densely as
    landmarks are; the others evenly on the rest.
    """
    c, s, mesh = avatar.config, surface.config, surface.mesh()
    generator = torch.Generator().manual_seed(seed * 1_000_003 + 800_011)
    count = c.points - c.mouth_points
    chosen = _faces(avatar, surface, mesh, landmarks, count, generator)
    weight = -torch.rand(count, 3, generator=generator).clamp(min=1e-9).log()
    weight = (weight / weight.sum(1, keepdim=True))[..., None].to(avatar.xyz.device)
    corners = mesh.faces[chosen]
    xyz, values = ((weight * part[corners]).sum(1) for part in (mesh.vertices, mesh.features))
    normals = normalize((weight * vertex_normals(mesh.vertices, mesh.faces)[corners]).sum(1), dim=1)
    places = xyz.cpu().numpy()
    spacing = cKDTree(places).query(places, 4)[0][:, 1:]
    width = torch.from_numpy(np.sqrt((spacing**2).mean(1))).to(xyz) * s.cover
    quaternion, size = flat(normals, width, s.flatness)
    inside = surface.field.at(avatar.xyz[count:])[2:]
    avatar.move(slice(count), xyz)
    avatar.log_scale[:count], avatar.rotation[:count] = size.log(), quaternion
    avatar.feature.copy_(torch.cat([values[:, : c.feature_dim], inside[0]]))
    avatar.opacity_logit[:count] = float(np.log(s.opacity / (1 - s.opacity)))
    if avatar.colour is not None:
        avatar.colour[:, :3] = torch.cat([values[:, c.feature_dim :], avatar.colour[count:, :3]])
    if avatar.follow_logit is not None:
        avatar.follow_logit.copy_(surface.follows_head(avatar.xyz))
    return normals


@torch.no_grad()
def paint(avatar: GaussianAvatar, normals: Float[Tensor, "n 3"], capture: Capture, around: list[int]) -> None:
    """Colour the planted Gaussians from the images of `median_frames`; those that no view sees keep theirs.

    An avatar without colours of its own stays as it is.
    """
    if avatar.colour is None:
        return
    near = median_frames(capture, np.flatnonzero(capture.train))
    points, outward = (part.cpu().double().numpy() for part in (avatar.xyz[: len(normals)], normals))
    colour = torch.from_numpy(carve(capture, near, around, points, outward)[1]).to(normals)
    rows = torch.nonzero(colour.sum(1) > 0)[:, 0]
    avatar.colour[rows, :3] = colour[rows]


def _faces(
    avatar: GaussianAvatar,
    surface: Surface,
    mesh: Mesh,
    landmarks: Float[Tensor, "L 3"],
    count: int,
    generator: torch.Generator,
) -> Int[Tensor, "n"]:
    """Faces sampled with replacement; few of them look away from all cameras."""
    c = avatar.config
    a, b, d = mesh.vertices[mesh.faces].unbind(1)
    across, centre = torch.linalg.cross(b - a, d - a), (a + b + d) / 3
    area = across.norm(dim=1) * torch.where(surface.seen(centre, across) > RARELY, 1.0, UNSEEN)
    squared = torch.cdist(centre, avatar.landmarks_neutral).min(1).values.square()
    on_face = squared < c.far
    face = round(c.face_share * count) if bool(on_face.any()) and not bool(on_face.all()) else 0
    if not face:
        return _systematic(area, count, generator)
    third = torch.cdist(centre, landmarks).topk(NEAREST, largest=False).values[:, -1]
    parts = (
        (area * on_face, face // 2),
        (area * on_face / third.clamp(min=0.02).square(), face - face // 2),
        (area * ~on_face, count - face),
    )
    return torch.cat([_systematic(weight, n, generator) for weight, n in parts])


def _systematic(weight: Float[Tensor, "F"], count: int, generator: torch.Generator) -> Int[Tensor, "n"]:
    """`count` indices in proportion to their weights, each as often as its share, rounded up or down: no clumps."""
    ends = weight.double().cumsum(0)
    places = ((torch.arange(count) + torch.rand(1, generator=generator)) / count).to(ends.device) * ends[-1]
    return torch.searchsorted(ends, places, right=True).clamp(max=len(weight) - 1)
