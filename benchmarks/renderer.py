"""The CPU renderer against gsplat's torch reference: CPU time of forward + backward, medians of interleaved runs.

    python benchmarks/renderer.py [--quick]

Both render every scene in turn, on one thread. The same run compares their images and gradients and stops at a wrong
result. The last lines are `figure <name> = <number>`. Ratios (reference / ours, larger is better) come first. The
speed-up by a second thread follows; it is in elapsed time and needs an idle machine. The last ones are the peak memory
of each beyond the scene itself, in MiB.
"""

import argparse
import importlib.util
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path

import torch

from raflib.render import Gaussians, rasterize

# This folder has a coverage.py; numba (imported from here on) would import it instead of the package of that name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _HERE]

FULL = ((256, 20_000, 3), (256, 20_000, 32), (512, 50_000, 3), (512, 50_000, 32))
QUICK = ((256, 20_000, 3), (256, 20_000, 32))
NAMES = ("means", "quaternions", "scales", "opacities", "features")


def scene(size: int, count: int, channels: int):
    """Return an ellipsoid of Gaussians over about half of the image, screen sigma 1 to 3 px, opacity 0.5 to 0.9."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    distance, focal = 5.0, 2.2 * size
    tensors = [
        directions * torch.tensor([0.72, 0.9, 0.8]),
        torch.randn(count, 4, generator=generator),
        distance / focal * (1 + 2 * torch.rand(count, 3, generator=generator)),
        0.5 + 0.4 * torch.rand(count, generator=generator),
        torch.rand(count, channels, generator=generator),
    ]
    extrinsic = torch.eye(4)
    extrinsic[2, 3] = distance
    intrinsic = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
    image_grad = torch.randn(size, size, channels, generator=generator)
    alpha_grad = torch.randn(size, size, 1, generator=generator)
    return [tensor.requires_grad_() for tensor in tensors], extrinsic, intrinsic, image_grad, alpha_grad


def ours(tensors, extrinsic, intrinsic, size):
    """Call `rasterize` on one set of Gaussians, over black."""
    cameras = (extrinsic[None], intrinsic[None])
    image, alpha = rasterize(Gaussians(*(tensor[None] for tensor in tensors)), cameras, size, background=0.0)
    return image[0], alpha[0]


def one_pass(draw, case):
    """Return CPU seconds of forward and of forward + backward, the outputs and the gradients."""
    tensors, extrinsic, intrinsic, image_grad, alpha_grad = case
    for tensor in tensors:
        tensor.grad = None
    start = time.process_time()
    image, alpha = draw(tensors, extrinsic, intrinsic, image_grad.shape[0])
    middle = time.process_time()
    torch.autograd.backward([image, alpha], [image_grad, alpha_grad])
    end = time.process_time()
    return middle - start, end - start, (image.detach(), alpha.detach()), [tensor.grad for tensor in tensors]


def threads_allowed() -> int:
    """Return how many threads the renderer may use (NUMBA_NUM_THREADS)."""
    import numba

    return numba.config.NUMBA_NUM_THREADS


def two_threads(case) -> float:
    """Return the elapsed time of forward + backward on one thread over that on two, medians of interleaved rounds."""
    import numba

    times = {1: [], 2: []}
    for _ in range(9):
        for count, seconds in times.items():
            numba.set_num_threads(count)  # torch keeps one thread: it computes little here
            start = time.perf_counter()
            one_pass(ours, case)
            seconds.append(time.perf_counter() - start)
    use_one_thread()
    return statistics.median(times[1]) / statistics.median(times[2])


def check(case_name: str, mine, theirs) -> str:
    """Compare outputs and gradients; return a line of text, and exit if they differ.

    Both compute in float32. A Gaussian near the limit of being skipped (1/255) may be rendered by only one of them, so
    single pixels may differ by 1/255. So the bound of the image is on its mean, and the bound of the gradients is
    looser than in the tests.
    """
    images = [(a - b).abs().double().mean().item() for a, b in zip(mine[0], theirs[0], strict=True)]
    gradients = [((a - b).norm() / b.norm()).item() for a, b in zip(mine[1], theirs[1], strict=True)]
    if max(images) > 2e-6 or max(gradients) > 5e-3:
        sys.exit(f"{case_name}: the two renderers disagree: images {images}, gradients {gradients}")
    worst = max(zip(gradients, NAMES, strict=True))
    return f"mean difference {max(images):.1e}, gradients within {worst[0]:.1e} ({worst[1]})"


def peak_mib(which: str, package, size: int, count: int, channels: int) -> float:
    """Return the growth of the peak resident memory by one forward + backward, measured in a separate process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measure_peak, args=(send, which, package, size, count, channels))
    process.start()
    send.close()
    try:
        return receive.recv()
    finally:
        process.join()


def _measure_peak(send, which, package, size, count, channels):
    use_one_thread()
    draw = ours if which == "ours" else reference_draw(package)
    one_pass(draw, scene(32, 200, channels))  # compile before timing
    case = scene(size, count, channels)
    before = _resident_mib("VmRSS")
    one_pass(draw, case)
    send.send(_resident_mib("VmHWM") - before)


def _resident_mib(which: str) -> float:
    """Return the resident memory of this process in MiB, now (VmRSS) or at its peak (VmHWM), as Linux reports it.

    getrusage is not suitable: it inherits the peak of the parent process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))


def reference_module():
    """Return the module `_gsplat_reference.py` of this folder."""
    spec = importlib.util.spec_from_file_location("_gsplat_reference", _HERE / "_gsplat_reference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # numba's disk cache needs the module of its functions
    spec.loader.exec_module(module)
    return module


def use_one_thread():
    """Limit torch and our kernels to one thread."""
    import numba

    torch.set_num_threads(1)
    numba.set_num_threads(1)


def reference_draw(package):
    """Return gsplat's reference with the signature of `ours`."""
    draw = reference_module().load(package)
    return lambda tensors, extrinsic, intrinsic, size: draw(*tensors, extrinsic, intrinsic, size)


def main():
    """Run the scenes and print one line for each, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the 256² scenes only, fewer rounds, no memory")
    options = parser.parse_args()
    package = reference_module().find()
    if package is None:
        sys.exit("gsplat's reference was not found in this environment; install it with: pip install gsplat==1.5.3")
    use_one_thread()
    reference = reference_draw(package)
    ratios, peaks, speed_ups = {}, {}, {}
    for size, count, channels in QUICK if options.quick else FULL:
        name = f"{size}_c{channels}"
        case = scene(size, count, channels)
        for draw in (ours, reference):  # compile, and allocate memory
            one_pass(draw, scene(64, 500, channels))
        one_pass(ours, case)
        times = {"ours": [], "reference": []}
        for _ in range(2 if options.quick else 3):
            forward, total, *theirs = one_pass(reference, case)
            times["reference"].append((forward, total))
            for _ in range(5):
                forward, total, *mine = one_pass(ours, case)
                times["ours"].append((forward, total))
        agreement = check(name, mine, theirs)
        forward, total = ({k: statistics.median(pair[i] for pair in v) for k, v in times.items()} for i in (0, 1))
        ratios[name] = total["reference"] / total["ours"]
        print(
            f"{size}² {count} Gaussians C={channels}: ours {1e3 * forward['ours']:.1f} ms forward, "
            f"{1e3 * total['ours']:.1f} ms with backward; reference {1e3 * forward['reference']:.0f}, "
            f"{1e3 * total['reference']:.0f} ms; ratio {ratios[name]:.1f}; {agreement}",
            flush=True,
        )
        if min(os.cpu_count() or 1, threads_allowed()) > 1:
            speed_ups[name] = two_threads(case)
            print(f"    two threads {speed_ups[name]:.2f} times as fast as one", flush=True)
        if not options.quick and Path("/proc/self/status").exists():
            peaks[name] = [peak_mib(which, package, size, count, channels) for which in ("ours", "reference")]
            print(f"    peak memory {peaks[name][0]:.0f} MiB, reference {peaks[name][1]:.0f} MiB", flush=True)
    for name, ratio in ratios.items():
        print(f"figure cpu_vs_reference_{name} = {ratio:.1f}")
    for name, ratio in speed_ups.items():
        print(f"figure cpu_two_threads_{name} = {ratio:.2f}")
    for name, (mine, theirs) in peaks.items():
        print(f"figure cpu_peak_mib_{name} = {mine:.0f}")
        print(f"figure reference_peak_mib_{name} = {theirs:.0f}")


if __name__ == "__main__":
    main()
