"""Compare settings on training sequences that are left out of training: FREE stays unseen while settings are chosen.

    python scripts/left_out.py --subjects 422 443 --set steps=8000
    python scripts/left_out.py --subjects 422 443 --set steps=5500 avatar.exp_linear=false avatar.deform_scale=0.3

Each avatar is trained with `vanilla` on all training sequences but `LEFT_OUT`, in one thread, and scored on those and
on 40 training frames. A line for each avatar says its settings, CPU seconds, PSNR and LPIPS of the face, and the same
for its control (expression held at the training mean). Trained avatars stay in `--out`; the next time they are only
scored.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from raflib import evaluate, fit, open_capture
from raflib.capture import hold_out
from raflib.config import AvatarConfig, TrainConfig, to_dict, train_config, train_config_from_dict
from raflib.errors import RafError
from raflib.evaluation import EvaluateOptions
from raflib.runs import runs_root
from raflib.sampler import Vanilla

LEFT_OUT = ("EXP-2-eyes", "EXP-4-lips", "EMO-2-surprise+fear", "SEN-04-two_plus_seven")
METRICS = ("psnr/face", "lpips/stlpips-alex/face")


def changed(config: TrainConfig, settings: Sequence[str]) -> TrainConfig:
    """`config` with settings like "steps=8000" or "avatar.blur=0.3", values as in JSON; RafError for unknown ones."""
    values = to_dict(config)
    for setting in settings:
        name, _, text = setting.partition("=")
        into, cls = (values["avatar"], AvatarConfig) if name.startswith("avatar.") else (values, TrainConfig)
        name = name.removeprefix("avatar.")
        if name not in into:
            raise RafError(f"--set {setting}: {cls.__name__} has no setting {name!r}")
        try:
            into[name] = json.loads(text)
        except json.JSONDecodeError:
            raise RafError(
                f"--set {setting}: expected name=value with a value as in JSON, e.g. true, 0.5 or [64]"
            ) from None
    return train_config_from_dict(values)


def score(subject: str, seed: int, options: argparse.Namespace) -> str:
    """Train one avatar and return its line."""
    capture = hold_out(open_capture("studio", subject, options.profile), options.left_out)
    config = changed(train_config(options.profile, seed=seed), options.set)
    named = hashlib.sha256(json.dumps([options.profile, options.left_out, sorted(options.set)]).encode()).hexdigest()
    started = time.process_time()
    run = fit(capture, Vanilla(), config, options.out / f"{subject}_{seed}_{named[:10]}")
    seconds = time.process_time() - started
    parts = [f"{subject} seed {seed} {' '.join(options.set)}: {config.steps} steps, {seconds:.0f} CPU s"]
    for split, frames in (("free", None), ("train", 40)):
        wanted = EvaluateOptions(split=split, frames=frames)
        rows = evaluate(run, "self", capture, metrics=METRICS, options=wanted)
        for condition, part in rows.groupby("condition"):
            means = [part[metric].mean() for metric in METRICS]
            label = "left out" if split == "free" else "training"
            parts.append(f"{label} {condition} {means[0]:.2f} dB LPIPS {means[1]:.4f}")
    return " | ".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=["422"], help="studio subjects")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of the training")
    parser.add_argument("--profile", default="demo", help="profile of studio and training")
    parser.add_argument("--left-out", nargs="+", default=list(LEFT_OUT), help="training sequences that are scored")
    parser.add_argument("--set", nargs="*", default=[], help="settings that differ from the profile's, as name=value")
    parser.add_argument("--out", type=Path, default=runs_root() / "left_out", help="folder of the avatars")
    options = parser.parse_args(arguments)
    for subject in options.subjects:
        for seed in options.seeds:
            print(score(subject, seed, options), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
