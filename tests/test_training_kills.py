"""A training that is killed many times at random moments ends in the same bits, and leaves no process or file."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raflib.runs import TEMPORARY, load_tensors

KILLS = int(os.environ.get("RAF_KILLS", "3"))
"""How often it is killed; more kills take longer and find more errors."""
STEPS = 300
PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from synthetic import ball_capture, training

from raflib.bank import ExpressionBank
from raflib.config import train_config
from raflib.sampler import RAF
from raflib.training import fit

training.SAVE_SECONDS = 0.05  # between other steps in every process
run = training.Trainer.run
one_step = training.Trainer.one_step
training.Trainer.run = lambda self: (print("started", flush=True), run(self))[1]
training.Trainer.one_step = lambda self: (one_step(self), print("step", flush=True))[0]
draw = np.random.default_rng(0)
rows = draw.normal(0, 0.2, (20, 52))
bank = ExpressionBank(rows, ["B1", "B2"] * 10, ["FREE"] * 20, range(20), "arkit52")
config = train_config("tiny", size=48, steps=int(sys.argv[2]), checkpoint_every=40, relocate_every=20, landmark_steps=5,
                      weight_perceptual=0.0)
config = replace(config, avatar=replace(config.avatar, points=300, mouth_points=20))
fit(ball_capture(), RAF(bank), config, Path(sys.argv[1]), progress=False, device="cpu")
"""


def train(out: Path, steps: int | None = None, seconds: float = 0.0) -> int:
    """Run the training in a separate process, killed `seconds` after it made some `steps`; return its exit status."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent), os.environ["PYTHONPATH"]])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-c", PROGRAM, str(out), str(STEPS)]
    with subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"started\n"
        for _ in range(STEPS if steps is None else steps):
            process.stdout.readline()
        if steps is not None:
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


@pytest.mark.slow
def test_killed_at_random_moments_a_training_ends_in_the_same_bits(tmp_path):
    assert train(tmp_path / "whole") == 0
    draw = random.Random(0)
    for kill in range(KILLS):  # the first time before a step, so that nothing was stored
        steps = draw.randrange(STEPS // 2 // KILLS) if kill else 0
        assert train(tmp_path / "killed", steps, draw.uniform(0.0, 0.05)) == -signal.SIGKILL
    assert train(tmp_path / "killed") == 0
    names = [sorted(path.name for path in (tmp_path / run).iterdir()) for run in ("whole", "killed")]
    assert names[0] == names[1] and not any(name.startswith(TEMPORARY) for name in names[0])
    (whole, told), (killed, _) = (
        load_tensors(tmp_path / run / "checkpoint.safetensors") for run in ("whole", "killed")
    )
    assert told["step"] == STEPS and whole.keys() == killed.keys()
    assert all((whole[name] == killed[name]).all() for name in whole)
