"""First values of an avatar's Gaussians: from masks and landmarks (`simple`), or on a learned surface (`guided`, the
first stage of Xu et al. 2024, with its signed distance `field` on a grid of `tetrahedra`)."""

from raflib.training.start.simple import initialise

__all__ = ["initialise"]
