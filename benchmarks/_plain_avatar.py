"""A plain implementation of the published avatar. `benchmarks/avatar.py` times it, and tests compare with it.

Every network is a stack of 1×1 convolutions over the joined features of points and code (Xu et al. 2024). Frames are
processed one by one, and every call searches the nearest landmarks. It reads the public code's state dict and imports
nothing of `raflib`.
"""

import torch
from torch import nn


class JoinedMLP(nn.Module):
    """Layers conv0, conv1, …; layer len(dims) // 2 receives the input again."""

    def __init__(self, dims, bounded):
        super().__init__()
        self.skip, self.count, self.bounded = len(dims) // 2, len(dims) - 1, bounded
        for i in range(self.count):
            width = dims[i] + (dims[0] if i == self.skip else 0)
            self.add_module(f"conv{i}", nn.Conv1d(width, dims[i + 1], 1))

    def forward(self, joined):
        """Map [1,i,N] to [1,o,N]."""
        value = joined
        for i in range(self.count):
            value = getattr(self, f"conv{i}")(torch.cat([value, joined], 1) if i == self.skip else value)
            if i < self.count - 1:
                value = nn.functional.leaky_relu(value)
        return value.tanh() if self.bounded else value


def embed(values, octaves):
    """Return x, sin x, cos x, sin 2x, cos 2x, …"""
    parts = [values]
    for k in range(octaves):
        parts += [torch.sin(values * 2.0**k), torch.cos(values * 2.0**k)]
    return torch.cat(parts, -1)


class PlainAvatar(nn.Module):
    """`dims` maps the six networks to their widths, input and output included."""

    def __init__(self, state, dims, octaves=4, near=0.1, far=0.25, deform_scale=0.3, attribute_scale=0.2):
        super().__init__()
        for name in ("xyz", "feature", "scales", "rotation", "opacity"):
            setattr(self, name, nn.Parameter(torch.zeros_like(state[name])))
        self.register_buffer("landmarks_3d_neutral", torch.zeros_like(state["landmarks_3d_neutral"]))
        for name, widths in dims.items():
            setattr(self, f"{name}_mlp", JoinedMLP(widths, bounded=name.endswith("deform")))
        self.octaves, self.near, self.far = octaves, near, far
        self.deform_scale, self.attribute_scale = deform_scale, attribute_scale
        self.load_state_dict(state)

    def forward(self, expression, pose, scale):
        """Return means, rotation matrices, scales, opacities and features of B frames, each [B,N,…]."""
        frames = [self._one(*frame) for frame in zip(expression, pose, scale, strict=True)]
        return tuple(torch.stack(part) for part in zip(*frames, strict=True))

    def _one(self, expression, pose, scale):
        squared = torch.cdist(self.xyz, self.landmarks_3d_neutral).min(1)
        squared = (self.xyz - self.landmarks_3d_neutral[squared.indices]).square().sum(1, keepdim=True)
        by_expression = ((self.far - squared) / (self.far - self.near)).clamp(0, 1)
        by_pose = 1 - by_expression
        near, far = (squared < self.far)[:, 0], (squared > self.near)[:, 0]
        feature, code = self.feature.tanh(), embed(pose, self.octaves)

        def run(mlp, points, of_frame):
            return mlp(torch.cat([points.t(), of_frame[:, None].repeat(1, len(points))], 0)[None])[0].t()

        def blended(name, points, channels):
            result = points.new_zeros(len(points), channels)
            for kind, rows, weight, of_frame in (
                ("exp", near, by_expression, expression),
                ("pose", far, by_pose, code),
            ):
                value = run(getattr(self, f"{kind}_{name}_mlp"), points[rows], of_frame)
                result[rows] += value * weight[rows]
            return result

        last = getattr(self.exp_color_mlp, f"conv{self.exp_color_mlp.count - 1}")
        colour = blended("color", feature, last.out_channels)
        change = self.attribute_scale * blended("attributes", feature, 8)
        moved = self.deform_scale * blended("deform", embed(self.xyz, self.octaves), 3)
        head = torch.linalg.matrix_exp(_cross_matrix(pose[:3]))
        means = scale * (self.xyz + moved) @ head.T + pose[3:]
        own = _matrices(nn.functional.normalize(self.rotation + change[:, 3:7], dim=1))
        sizes = scale * (self.scales + change[:, :3]).exp()
        return means, head @ own, sizes, (self.opacity + change[:, 7:]).sigmoid()[:, 0], colour


def _cross_matrix(v):
    zero = v.new_zeros(())
    return torch.stack([zero, -v[2], v[1], v[2], zero, -v[0], -v[1], v[0], zero]).reshape(3, 3)


def _matrices(q):
    w, x, y, z = q.unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, -1).reshape(-1, 3, 3)
