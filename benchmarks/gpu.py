"""Everything to know about a GPU machine, in one command of about ten minutes without network.

    python benchmarks/gpu.py --out runs/gpu [--minutes 10] [--capture 422.npz]
    python benchmarks/gpu.py --film 422.npz     # on any machine: films the small capture that --capture takes
    python benchmarks/gpu.py --out runs/dry --dry

It writes `gpu.json` and images into the folder `--out`. Its parts run one after the other, each in a process of its own
with a time limit. If one fails, the file says why and the others go on. The file is written anew after each part.

* setup: the card, versions, and how long gsplat takes to compile or load;
* raster: images and gradients of gsplat against the CPU renderer, and the speed of both;
* tests: tests/gpu;
* training_gpu, training_paper: steps a second, the parts of a step, images a second, peak memory;
* frames: images a second of the `gpu` avatar at 512² and 2048²;
* avatar: a `gpu` avatar of 422 trained for three minutes, or what time there is, and its scores on held-out frames;
* variants: steps a second of `paper` with bfloat16 and with the compiled upsampler, beside the plain one.

The avatar's capture is the file `--capture`. Without one, the studio films it here, which takes minutes of CPU time and
needs the tracker. `--dry` runs all parts in tiny sizes on the CPU. Without CUDA the command ends with status 2. It
ends with status 1 if a part failed or its results differ between the backends.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

# This folder has a coverage.py; numba (imported below) would import it instead of the package of that name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _HERE]

import torch  # noqa: E402

from raflib.runs import write_json  # noqa: E402


def load(name: str):
    """Return the module `<name>.py` of this folder."""
    spec = importlib.util.spec_from_file_location(name, _HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


parts = load("_gpu_parts")
PARTS, Failure = parts.PARTS, parts.Failure


def run_part(name: str, job: SimpleNamespace) -> dict:
    """Return what a part found, with the error if it failed."""
    try:
        return {"ok": True, **PARTS[name][0](job)}
    except Failure as error:
        return {"ok": False, "error": str(error), **error.found}
    except Exception as error:
        return {"ok": False, "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc().splitlines()}


def _in_process(name: str, options: argparse.Namespace, deadline: float) -> dict:
    """Run a part in a process of its own, until its limit or the deadline; return what it found."""
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder) / "result.json", Path(folder) / "log"
        words = [sys.executable, __file__, "--out", str(options.out), "--part", name, "--result", str(result)]
        limit = min(PARTS[name][1], deadline - time.time())
        words += ["--deadline", str(time.time() + limit)] + (["--dry"] if options.dry else [])
        words += ["--capture", str(options.capture)] if options.capture else []
        with log.open("w") as stream:
            child = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                status = f"ended with status {child.wait(limit)}"
            except subprocess.TimeoutExpired:
                status = f"was stopped after {limit:.0f} s"
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        found = json.loads(result.read_text()) if result.exists() else {"ok": False, "error": "no result"}
        if found["ok"]:
            return found
        return {**found, "error": f"{found['error']} (the process {status})", "log": log.read_text()[-2_000:]}


def main() -> None:
    """Run all parts, or one of them for the process that runs all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the folder of gpu.json and the images")
    parser.add_argument("--minutes", type=float, default=10.0, help="time budget (default 10)")
    parser.add_argument("--capture", type=Path, help="a capture that --film made")
    parser.add_argument("--film", type=Path, help="film the capture of 422 into this file, and stop")
    parser.add_argument("--dry", action="store_true", help="tiny sizes on the CPU")
    for name in ("--part", "--result", "--deadline"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.film:
        load("_carried").film("422", parts.look_at, options.film)
        return
    if options.out is None:
        parser.error("--out is missing")
    if not options.dry and not torch.cuda.is_available():
        print("no CUDA device: torch sees none (use --dry to try the parts on the CPU)", file=sys.stderr)
        sys.exit(2)
    device = torch.device("cpu" if options.dry else "cuda")
    if options.part:
        job = SimpleNamespace(dry=options.dry, device=device, out=options.out, capture=options.capture)
        job.deadline, job.result = float(options.deadline), Path(options.result)
        write_json(job.result, run_part(options.part, job))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    deadline, report = time.time() + 60 * options.minutes, {"dry": options.dry, "parts": {}}
    for name in PARTS:
        started = time.time()
        if deadline - started < 10:
            report["parts"][name] = {"ok": False, "error": "skipped, no time was left"}
        else:
            report["parts"][name] = {**_in_process(name, options, deadline), "part_seconds": time.time() - started}
        write_json(options.out / "gpu.json", report)
        part = report["parts"][name]
        print(f"{name}: {'ok' if part['ok'] else part['error']} ({time.time() - started:.0f} s)", flush=True)
    for name, part in report["parts"].items():
        for key, value in part.items():
            if isinstance(value, float):
                print(f"figure {name}_{key.replace(' ', '_')} = {value:.4g}")
    sys.exit(0 if all(part["ok"] for part in report["parts"].values()) else 1)


if __name__ == "__main__":
    main()
