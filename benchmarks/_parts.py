"""The parts of a training step: how long each takes, and how much work it is.

Each part is timed where it is called. In the backward pass, a part ends when the gradient arrives at its input. On CUDA
every part waits for the device, so their sum is longer than an undisturbed step.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch

from raflib.avatar import GaussianAvatar, networks
from raflib.render import cpu
from raflib.training.trainer import Trainer

PARTS = (
    "data", "networks_forward", "networks_backward", "projection", "raster_forward", "raster_backward",
    "upsampler_forward", "upsampler_backward", "losses_forward", "losses_backward", "optimiser", "rest",
)  # fmt: skip


def clock(device: torch.device) -> Callable[[], float]:
    """A function that returns milliseconds: CPU time with one thread, else elapsed time; on CUDA it waits first."""
    if device.type == "cuda":

        def now() -> float:
            torch.cuda.synchronize()
            return 1e3 * time.perf_counter()

        return now
    source = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    return lambda: 1e3 * source()


class Parts:
    """Adds up the time of nested parts; the time of an inner part does not count for the outer one."""

    def __init__(self, now: Callable[[], float]):
        self.now, self.spent, self.running, self.since = now, dict.fromkeys(PARTS, 0.0), [], 0.0

    def _settle(self) -> None:
        now = self.now()
        if self.running:
            self.spent[self.running[-1]] += now - self.since
        self.since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block as `name`."""
        self._settle()
        self.running.append(name)
        yield
        self._settle()
        self.running.pop()

    def switch(self, name: str) -> None:
        """Count the rest of the innermost block as `name`."""
        self._settle()
        self.running[-1] = name

    def timed(self, function: Callable, name: str, before: str = "", after: str = "") -> Callable:
        """`function`, counted as `name`. In the backward pass, `after` begins where the gradient reaches its result,
        and `before` where it reaches its first argument."""

        def call(*args, **kwargs):
            if before:
                self.at_gradient(args[0], before)
            with self.part(name):
                result = function(*args, **kwargs)
            if after:
                self.at_gradient(result, after)
            return result

        return call

    def at_gradient(self, value: object, name: str) -> None:
        """Switch to `name` when the gradient of a tensor, or of the tensors of Gaussians, is known."""
        tensors = [value] if isinstance(value, torch.Tensor) else list(vars(value).values())
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
                tensor.register_hook(lambda _: self.switch(name))


def split(trainer: Trainer, steps: int) -> dict[str, float]:
    """The milliseconds of each part of a training step, means of `steps`."""
    parts = Parts(clock(trainer.device))
    with ExitStack() as stack:

        def watch(owner: object, method: str, name: str, **hooks: str) -> None:
            stack.enter_context(patch.object(owner, method, parts.timed(getattr(owner, method), name, **hooks)))

        watch(trainer.images, "shot", "data")
        watch(trainer, "gaussians", "networks_forward", after="networks_backward")
        watch(trainer, "render", "raster_forward", after="raster_backward")
        watch(trainer.comparison, "terms", "losses_forward")
        if trainer.upsampler is not None:
            hooks = {"before": "losses_backward", "after": "upsampler_backward"}
            watch(trainer.comparison, "upsampled", "upsampler_forward", **hooks)
        if trainer.guide is not None:
            watch(trainer.guide, "distances", "losses_forward")
        watch(trainer.optimisers, "finite", "optimiser")
        watch(trainer.optimisers, "step", "optimiser")
        watch(torch.Tensor, "backward", "losses_backward")
        watch(cpu, "_prepare", "projection")
        run = cpu.threads.run

        def kernels(kernel, *arguments):
            if kernel is not cpu.project_backward:
                return run(kernel, *arguments)
            with parts.part("projection"):
                return run(kernel, *arguments)

        stack.enter_context(patch.object(cpu.threads, "run", kernels))
        for _ in range(steps):
            with parts.part("rest"):
                trainer.one_step()
    return {name: value / steps for name, value in parts.spent.items()}


def work(trainer: Trainer, pairs_of: Callable[..., int], steps: int = 4) -> tuple[float, float]:
    """Pairs of splat and pixel, and floating-point operations of the networks' matrices, of a training step.

    Operations are those of forward and backward. The networks of the landmark term do not count. On CUDA, 0 pairs.
    """
    pairs, flops, inside = 0, 0, False
    prepare, evaluate, gaussians = cpu._prepare, networks.evaluate, trainer.gaussians
    by_expression = GaussianAvatar.by_expression

    def counted_frame(*args):
        nonlocal pairs
        frame, (width, height) = prepare(*args), args[1:3]
        pairs += pairs_of(frame, height, width)
        return frame

    def counted_network(points, code, weights, *rest):
        nonlocal flops
        hidden = sum(matrix.numel() for matrix in weights.layers[::2])
        first = sum(matrix.numel() for matrix in (weights.point_in, weights.point_skip) if matrix is not None)
        times = 3 * hidden * len(code) + (3 if points.requires_grad else 2) * first
        flops += inside * 2 * len(points) * times
        return evaluate(points, code, weights, *rest)

    def counted_decoder(avatar, feature, encoded, code):
        nonlocal flops
        if avatar.config.exp_linear:
            bases = avatar.exp_linear.bases
            matrices = bases.weight.numel() + len(feature) * bases.out_features
            flops += inside * 2 * 3 * len(code) * matrices
        return by_expression(avatar, feature, encoded, code)

    def counted_gaussians(*args):
        nonlocal inside
        inside = True
        result = gaussians(*args)
        inside = False
        return result

    with (
        patch.object(cpu, "_prepare", counted_frame),
        patch.object(networks, "evaluate", counted_network),
        patch.object(GaussianAvatar, "by_expression", counted_decoder),
        patch.object(trainer, "gaussians", counted_gaussians),
    ):
        for _ in range(steps):
            trainer.one_step()
    return pairs / steps, flops / steps
