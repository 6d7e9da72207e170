"""The template-free Gaussian head avatar of Xu et al. 2024: canonical Gaussians moved by six small networks."""

from raflib.avatar.initialise import Canonical, initialise
from raflib.avatar.model import GaussianAvatar

__all__ = ["Canonical", "GaussianAvatar", "initialise"]
