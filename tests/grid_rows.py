"""Made-up result rows of a grid of avatars, in the form of `raflib.lab.rows.gather`, with known variance components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from raflib.lab.cells import DEFAULTS, METHODS

DRIVERS = tuple(f"E{number:02d}" for number in range(1, 7))
PARTS = {"self": "held-out FREE", "cross": "cross-driving"}


def grid_rows(
    subjects: Sequence[str] = ("388", "422", "443"),
    labels: Sequence[str] = ("vanilla", "noise-0.08", "raf"),
    seeds: Sequence[int] = (0, 1),
    gain: Mapping[str, float] | None = None,
    spread: Mapping[str, float] | None = None,
    drivers: Sequence[str] = DRIVERS,
    frames: int = 3,
    seed: int = 0,
    extra: bool = True,
) -> pd.DataFrame:
    """Rows of self- and cross-driving, frames one second apart; with `extra` also controls and true images.

    A method's PSNR differs from vanilla's by its `gain` and by random effects of subject, driver, seed (one avatar) and
    frame, whose standard deviations are `spread`.
    """
    gain, draw = gain or {"raf": 0.5}, np.random.default_rng(seed)
    sd = {"subject": 0.1, "driver": 0.05, "seed": 0.05, "frame": 0.2, **(spread or {})}
    made = []
    for protocol, people in (("self", None), ("cross", drivers)):
        size = (len(subjects), len(people or (0,)), len(seeds), frames)
        level = 25 + 2 * draw.normal(size=(size[0], size[1], 1, frames))
        for label in labels:
            random = {
                "subject": draw.normal(size=(size[0], 1, 1, 1)), "driver": draw.normal(size=(1, size[1], 1, 1)),
                "seed": draw.normal(size=(size[0], 1, size[2], 1)),
                "frame": draw.normal(size=(size[0], size[1], 1, frames)),
            }  # fmt: skip
            effect = gain.get(label, 0) + sum(sd[name] * random[name] for name in sd)
            psnr = np.broadcast_to(level + (0 if label == "vanilla" else effect), size)
            s, d, r, f = (index.ravel() for index in np.indices(size))
            own = np.array(subjects, dtype=object)[s]
            rows = pd.DataFrame({
                "subject": own, "method": "", "seed": np.array(seeds)[r], "head_pose": "truth",
                "condition": "avatar", "protocol": protocol,
                "driver": own if people is None else np.array(people, dtype=object)[d], "sequence": "FREE",
                "frame": f * 25, "camera": "front", "detected": True, "reference_detected": True,
                "psnr/face": psnr.ravel(),
            }).assign(**parameters(label), part=PARTS[protocol])  # fmt: skip
            conditions = (("avatar", 0.0), ("control", -3.0), ("truth", np.inf)) if extra else (("avatar", 0.0),)
            made += [scored(rows.assign(condition=name), change) for name, change in conditions]
    return pd.concat(made, ignore_index=True)


def parameters(label: str) -> dict[str, object]:
    """The parameters of a run as columns of its rows have them."""
    given = {name: type(DEFAULTS[name])(value) for name, value in METHODS[label].items()}
    values = {**DEFAULTS, "profile": "tiny", **given}
    return {name: value for name, value in values.items() if name not in ("subject", "seed")}


def scored(rows: pd.DataFrame, change: float) -> pd.DataFrame:
    """Rows with PSNR moved by `change` and metrics that follow from it; the truth is not best at `aed/arkit52/l1`."""
    psnr = rows["psnr/face"] + change
    error = 10 ** (-psnr / 20)
    true = bool(np.isinf(change))
    cross = rows["protocol"] == "cross"
    metrics = {
        "psnr/face": psnr, "ssim/face": 1 - error, "lpips/stlpips-alex/face": error,
        "aed/arkit52/l1": np.where(cross & true, 0.2, error), "aed/arkit52/l1/truth": error,
        "apd/mediapipe/deg": 10 * error, "apd/mediapipe/deg/truth": 10 * error,
    }  # fmt: skip
    return rows.assign(**metrics)
