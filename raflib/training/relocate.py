"""Relocation: Gaussians that became invisible move to where the render still differs from the images.

The number of Gaussians never changes. A Gaussian whose opacity fell below a threshold contributes nothing. It restarts
beside a visible one, which is sampled in proportion to the recent gradient of its position (the root of Adam's running
mean of squared gradients). Both shrink, so that the render hardly changes.
"""

from __future__ import annotations

import torch

from raflib.avatar.model import GaussianAvatar

DEAD_OPACITY = 0.03
"""Gaussians below this opacity move."""
SOURCE_OPACITY = 0.10
"""Gaussians above this opacity may have others placed beside them."""
LARGEST_SHARE = 0.08
"""Largest share of all Gaussians that moves at once."""


@torch.no_grad()
def relocate(avatar: GaussianAvatar, optimiser: torch.optim.Adam, generator: torch.Generator) -> int:
    """Move dead Gaussians (at most 8 % at once) beside sources of large gradient; returns how many moved."""
    opacity = avatar.opacity_logit.sigmoid()[:, 0]
    dead = torch.nonzero(opacity < DEAD_OPACITY)[:, 0]
    moment = optimiser.state[avatar.xyz].get("exp_avg_sq")
    count = min(len(dead), int(LARGEST_SHARE * len(opacity)))
    if count == 0 or moment is None:
        return 0
    dead = dead[opacity[dead].argsort(stable=True)[:count]]
    pull = moment.sum(1).sqrt() * (opacity > SOURCE_OPACITY)
    if not bool((pull > 0).any()):
        return 0
    # the generator is on the CPU for every device, so that a seed gives the same samples
    source = torch.multinomial(pull.cpu(), count, replacement=True, generator=generator).to(pull.device)
    spread = avatar.log_scale[source].exp()
    offset = 0.7 * spread * torch.randn(count, 3, generator=generator).to(pull.device)
    for parameter in _per_gaussian(avatar):
        parameter[dead] = parameter[source]
        state = optimiser.state.get(parameter, {})
        for name in ("exp_avg", "exp_avg_sq"):
            if name in state:
                state[name][dead] = 0
    avatar.log_scale[dead] -= 0.5
    avatar.log_scale[source] -= 0.3
    avatar.move(dead, avatar.xyz[source] + offset)
    return count


def _per_gaussian(avatar: GaussianAvatar) -> list[torch.nn.Parameter]:
    every = (
        avatar.xyz,
        avatar.feature,
        avatar.log_scale,
        avatar.rotation,
        avatar.opacity_logit,
        avatar.colour,
        avatar.follow_logit,
    )
    return [parameter for parameter in every if parameter is not None]
