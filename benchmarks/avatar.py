"""The avatar against a plain implementation of its architecture: CPU time of one thread, medians of interleaved runs.

    python benchmarks/avatar.py [--quick]

Both have the same weights of the published sizes (64 expression coefficients, 128-d features, 32 channels), and run
forward to the posed Gaussians and backward from them. The same run compares both with the plain implementation in
float64 and stops at a wrong result. The last lines are `figure <name> = <number>`: plain / ours, larger is better. The
first ones are for one frame per step, as in the published training, the others for two.
"""

import argparse
import importlib.util
import statistics
import sys
import time
from pathlib import Path

import torch

from raflib.avatar import GaussianAvatar
from raflib.avatar.axes import turned
from raflib.avatar.interop import sizes
from raflib.config import AvatarConfig
from raflib.geometry import quaternion_to_matrix

# This folder has a coverage.py; numba (imported from here on) would import it instead of the package of that name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _HERE]

CASES = ((20_000, 1), (100_000, 1), (20_000, 2))
QUICK = ((5_000, 1), (5_000, 2))
ROUNDS = 5
WIDTHS = {
    "exp_color": (192, 256, 256, 32), "pose_color": (182, 128, 32), "exp_attributes": (192, 256, 256, 256, 8),
    "pose_attributes": (182, 128, 128, 8), "exp_deform": (91, 256, 256, 256, 256, 256, 3),
    "pose_deform": (81, 256, 256, 3),
}  # fmt: skip
POINTS = {"xyz": "xyz", "feature": "feature", "scales": "log_scale", "opacity": "opacity_logit"}
"""Parameters of the Gaussians that are compared: the public name, and ours."""


def plain_module():
    """Return the module `_plain_avatar.py` of this folder."""
    spec = importlib.util.spec_from_file_location("_plain_avatar", _HERE / "_plain_avatar.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checkpoint(points: int) -> dict[str, torch.Tensor]:
    """Return a random state dict: an ellipsoid of the size of a head (dm) with 140 landmarks on its front."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    half = torch.tensor([0.75, 1.1, 0.95])
    direction = torch.nn.functional.normalize(random(points, 3) - torch.tensor([0, 0, 0.8]), dim=1)
    front = torch.nn.functional.normalize(random(140, 3) * 0.5 - torch.tensor([0, 0, 1.0]), dim=1)
    state = {
        "xyz": direction * half, "feature": random(points, 128), "landmarks_3d_neutral": front * half,
        "scales": -3 + 0.3 * random(points, 3), "rotation": random(points, 4), "opacity": random(points, 1),
    }  # fmt: skip
    for name, dims in WIDTHS.items():
        for i in range(len(dims) - 1):
            width = dims[i] + (dims[0] if i == len(dims) // 2 else 0)
            state[f"{name}_mlp.conv{i}.weight"] = random(dims[i + 1], width, 1) / width**0.5
            state[f"{name}_mlp.conv{i}.bias"] = 0.1 * random(dims[i + 1])
    return state


def frames(batch: int):
    """Return expression [B,64], pose [B,6] and scale [B]."""
    generator = torch.Generator().manual_seed(1)
    pose = torch.randn(batch, 6, generator=generator) * torch.tensor([0.2, 0.2, 0.2, 0.05, 0.05, 0.05])
    return torch.randn(batch, 64, generator=generator), pose, torch.full((batch,), 0.1)


def one_pass(model, inputs):
    """Return the CPU seconds of forward + backward, and the outputs (detached).

    The loss is half the sum of the squared outputs. A random loss is not suitable: its gradients nearly cancel over the
    Gaussians. One activation that float32 rounds to the other side of zero would then appear as a difference. Rotations
    are quaternions in one model and matrices in the other, so both get a gradient of zero and still count in the time.
    """
    model.zero_grad(set_to_none=True)
    start = time.process_time()
    outputs = model(*inputs)
    if not isinstance(outputs, tuple):
        g = outputs
        outputs = (g.means, g.quaternions, g.scales, g.opacities, g.features)
    gradients = [torch.zeros_like(value) if i == 1 else value.detach() for i, value in enumerate(outputs)]
    torch.autograd.backward(outputs, gradients)
    return time.process_time() - start, [value.detach() for value in outputs]


def gradients(model) -> dict[str, torch.Tensor]:
    """Return gradients by their public names: of the Gaussians, and of the first and last layer of every network."""
    own = isinstance(model, GaussianAvatar)
    result = {name: getattr(model, here if own else name).grad for name, here in POINTS.items()}
    for network in WIDTHS:
        if own:
            mlp = getattr(model, network)
            first = torch.cat([mlp.point_in.weight.grad, mlp.code_in.weight.grad], 1)
            last = mlp.layers[-1]
        else:
            mlp = getattr(model, f"{network}_mlp")
            first, last = mlp.conv0.weight.grad[..., 0], getattr(mlp, f"conv{mlp.count - 1}")
        result |= {f"{network}.first": first, f"{network}.last": last.bias.grad}
    return result


def check(name, state, inputs, mine, ours, plain) -> str:
    """Compare outputs and gradients with those in float64; return a line of text, and exit if they differ.

    When float32 rounds an activation to the other side of zero, its gradient jumps, in either model. So our error may
    be up to twice the plain model's error, if that is more than the bound.
    """
    exact = plain_module().PlainAvatar(state, WIDTHS).double()
    theirs = one_pass(exact, [value.double() for value in inputs])[1]
    turned = quaternion_to_matrix(torch.nn.functional.normalize(mine[1], dim=-1))
    pairs = [(mine[0], theirs[0]), (turned, theirs[1]), *zip(mine[2:], theirs[2:], strict=True)]
    output = max((a - b).abs().max().item() for a, b in pairs)
    truth = gradients(exact)
    errors, usual = (
        {key: ((value - truth[key]).norm() / truth[key].norm()).item() for key, value in gradients(model).items()}
        for model in (ours, plain)
    )
    worst, worst_plain = max(errors, key=errors.get), max(usual, key=usual.get)
    line = (
        f"against float64: outputs within {output:.1e}, gradients within {errors[worst]:.1e} ({worst}; plain "
        f"{usual[worst_plain]:.1e}, {worst_plain})"
    )
    if output > 1e-5 or errors[worst] > max(1e-4, 2 * usual[worst_plain]):
        sys.exit(f"{name}: the two disagree: {line}")
    return line


def main():
    """Run the cases and print one line for each, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="5,000 Gaussians only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ratios = {}
    for points, batch in QUICK if options.quick else CASES:
        name = f"{points // 1000}k" + (f"_{batch}_frames" if batch > 1 else "")
        state, inputs = checkpoint(points), frames(batch)
        # Turned into the axes of the public code, so that reading turns it back: both have the same axes.
        ours = GaussianAvatar.from_official(turned(state, sizes(state)), AvatarConfig())
        plain = plain_module().PlainAvatar(state, WIDTHS)
        times = {"ours": [], "plain": []}
        for round_ in range(ROUNDS + 1):
            seconds, _ = one_pass(plain, inputs)
            other, mine = one_pass(ours, inputs)
            if round_:  # the first run allocates memory
                times["plain"].append(seconds)
                times["ours"].append(other)
        agreement = check(name, state, inputs, mine, ours, plain)
        median = {key: statistics.median(value) for key, value in times.items()}
        ratios[name] = median["plain"] / median["ours"]
        print(
            f"{points} Gaussians, {batch} frame(s): ours {1e3 * median['ours']:.0f} ms, plain "
            f"{1e3 * median['plain']:.0f} ms, ratio {ratios[name]:.2f}; {agreement}",
            flush=True,
        )
    for name, ratio in ratios.items():
        print(f"figure avatar_vs_plain_{name} = {ratio:.2f}")


if __name__ == "__main__":
    main()
