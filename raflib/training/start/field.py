"""Fields that stage 1 learns over space: signed distance, shift of the grid point, feature and colour.

`NetworkField` is the published one, a network on encoded positions (Xu et al. 2024, §3.3). `TableField` keeps the
values at the grid points themselves, linear in between. It takes its first values directly instead of being fitted to
them, and needs no network evaluation, which suits a coarse grid on a CPU. Both return rows of the same four parts.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from raflib.avatar.networks import encode
from raflib.config import SurfaceConfig
from raflib.training.start.tetrahedra import TetrahedralGrid

TRUNCATED = 0.4
"""Largest distance that is told apart (dm): only distances near the surface matter."""
FIT_DECAY = 0.1
CHUNK = 65_536

Parts = tuple[Float[Tensor, "N"], Float[Tensor, "N 3"], Float[Tensor, "N f"], Float[Tensor, "N c"]]
"""Signed distance (dm, negative inside), shift in (−1, 1), feature, colour."""


class NetworkField(nn.Module):
    """An MLP on encoded positions, which join again at its middle layer as in the avatar's networks."""

    def __init__(self, grid: TetrahedralGrid, config: SurfaceConfig, feature_dim: int, colour_dim: int):
        super().__init__()
        self.grid, self.config, self.sizes = grid, config, [1, 3, feature_dim, colour_dim]
        entry = 3 * (1 + 2 * config.frequencies)
        widths = [entry, *config.hidden, sum(self.sizes)]
        self.join = len(widths) // 2
        layers = [
            nn.Linear(a + entry * (index == self.join), b) for index, (a, b) in enumerate(itertools.pairwise(widths))
        ]
        self.layers = nn.ModuleList(layers)
        with torch.no_grad():  # grid points start (almost) unshifted
            layers[-1].weight[1:4].mul_(0.01)
            layers[-1].bias[1:4].zero_()

    def at(self, points: Float[Tensor, "N 3"]) -> Parts:
        """The four parts anywhere."""
        encoded = hidden = encode(points, self.config.frequencies)
        for index, layer in enumerate(self.layers):
            hidden = layer(torch.cat([hidden, encoded], 1) if index == self.join else hidden)
            if index < len(self.layers) - 1:
                hidden = nn.functional.leaky_relu(hidden, inplace=True)
        distance, shift, feature, colour = hidden.split(self.sizes, 1)
        return distance[:, 0], shift.tanh(), feature, colour

    def at_grid(self, rows: Int[Tensor, "N"]) -> Parts:
        """The four parts at grid points."""
        return self.at(self.grid.points[rows])

    @torch.no_grad()
    def distances(self) -> Float[Tensor, "V"]:
        """Signed distances of all grid points."""
        return torch.cat([self.at(part)[0] for part in self.grid.points.split(CHUNK)])

    def start(
        self,
        distance: Float[Tensor, "V"],
        colour: Float[Tensor, "V 3"],
        landmarks: Float[Tensor, "L 3"],
        generator: torch.Generator,
    ) -> None:
        """Fit to distances and colours at grid points, and to zero at the landmarks; half of every batch is near the
        surface, half anywhere."""
        c, wanted = self.config, distance.clamp(-TRUNCATED, TRUNCATED)
        near = torch.nonzero(distance.abs() < TRUNCATED)[:, 0]
        optimiser = torch.optim.Adam(self.parameters(), lr=c.rate_fit, betas=(0.9, 0.99), fused=True)
        half = c.batch // 2
        for step in range(c.fit_steps):
            optimiser.param_groups[0]["lr"] = c.rate_fit * FIT_DECAY ** (step / c.fit_steps)
            # the generator is on the CPU for every device, so that a seed gives the same samples
            sampled = [torch.randint(len(some), (half,), generator=generator) for some in (near, distance)]
            close, anywhere = (rows.to(near.device) for rows in sampled)
            rows = torch.cat([near[close], anywhere])
            found, shift, _, painted = self.at_grid(rows)
            loss = (
                (found - wanted[rows]).abs().mean() + shift.square().mean() + 0.1 * self.at(landmarks)[0].abs().mean()
            )
            if painted.shape[1]:
                loss = loss + 0.3 * (painted - colour[rows])[:half].abs().mean()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)


class TableField(nn.Module):
    """Values at the grid points, linear along the axes between them."""

    def __init__(self, grid: TetrahedralGrid, feature_dim: int, colour_dim: int):
        super().__init__()
        self.grid, count = grid, len(grid.points)
        self.distance = nn.Parameter(torch.zeros(count))
        self.shift = nn.Parameter(torch.zeros(count, 3))
        self.feature = nn.Parameter(torch.zeros(count, feature_dim))
        self.colour = nn.Parameter(torch.zeros(count, colour_dim))

    def at(self, points: Float[Tensor, "N 3"]) -> Parts:
        """The four parts anywhere in the box."""
        rows, weight = self.grid.locate(points)
        distance, *others = (part.unflatten(0, rows.shape) for part in self.at_grid(rows.reshape(-1)))
        return (distance * weight).sum(1), *((part * weight[..., None]).sum(1) for part in others)

    def at_grid(self, rows: Int[Tensor, "N"]) -> Parts:
        """The four parts at grid points."""
        return self.distance[rows], self.shift[rows].tanh(), self.feature[rows], self.colour[rows]

    @torch.no_grad()
    def distances(self) -> Float[Tensor, "V"]:
        """Signed distances of all grid points."""
        return self.distance.clone()

    @torch.no_grad()
    def start(
        self,
        distance: Float[Tensor, "V"],
        colour: Float[Tensor, "V 3"],
        landmarks: Float[Tensor, "L 3"],
        generator: torch.Generator,
    ) -> None:
        """Take the distances and colours as they are; features are random waves over space, so that neighbours start
        alike. `landmarks` is not used: the distances already pass near them."""
        self.distance.copy_(distance.clamp(-TRUNCATED, TRUNCATED))
        if self.colour.shape[1]:
            self.colour.copy_(colour)
        half = self.feature.shape[1] // 2
        waves = 1.2 * torch.randn(3, half, generator=generator)
        phase = self.grid.points @ waves.to(self.grid.points)
        self.feature[:, : 2 * half] = 0.7 * torch.cat([phase.sin(), phase.cos()], 1)
