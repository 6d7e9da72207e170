"""The template-free Gaussian head avatar of Xu et al. 2024: canonical Gaussians moved by six small networks, and an
upsampler."""

from raflib.avatar.canonical import Canonical
from raflib.avatar.model import GaussianAvatar
from raflib.avatar.upsampler import Upsampler

__all__ = ["Canonical", "GaussianAvatar", "Upsampler"]
