"""AED, APD and jaw distance from coefficients that programs outside of this project made (EMOCA, SMIRK).

Such a program cannot run here, so it reads images from a folder and its coefficients come back in a file:

    evaluate(run, ..., options=EvaluateOptions(images=folder))  # then let the program read every image of the folder
    rows = add_coefficients(rows, "coefficients.npz", "smirk")

The .npz has `image` [N] (file names in the folder, text), `expression` [N,k], and where they are known `pose` [N,3] and
`jaw` [N,3] (axis-angle, radians). An image that the program could not read is left out of the file, and metrics of its
frame have no value (NaN).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from raflib.errors import RafError
from raflib.evaluation.metrics.base import REGISTRY, Metric, Target, register
from raflib.evaluation.scoring import image_name
from raflib.reading import Array, read_arrays

KINDS = {"aed": "expression", "apd": "pose", "jaw": "jaw"}
"""First part of a tag → array of the file."""
PROGRAMS = {"emoca": "EMOCA's", "smirk": "SMIRK's"}
REMEDY = "write it again as raflib.evaluation.metrics.coefficients says"


@dataclass(frozen=True)
class FromFile:
    """A program whose coefficients come from a file, so that a render cannot be measured directly."""

    name: str

    def missing(self) -> str:
        """How to get its metrics."""
        return "its coefficients come from a file; raflib.evaluation.metrics.coefficients says how to make it"

    def load(self) -> None:
        """RafError: there is nothing to load."""
        raise RafError(f"{self.name}: {self.missing()}")


def _unmeasured(rendered: np.ndarray, face: object, target: Target) -> float:
    """NaN: the values come from `add_coefficients`."""
    return float("nan")


for _program, _whose in PROGRAMS.items():
    for _kind, _array in KINDS.items():
        for _end, _where in (("", "the driver's image"), ("/truth", "the true image")):
            _about = f"mean |difference| of {_whose} {_array} coefficients, render against {_where}"
            register(Metric(f"{_kind}/{_program}/l1{_end}", "lower", _about, _unmeasured, regressor=FromFile(_program)))


def add_coefficients(rows: pd.DataFrame, path: str | Path, program: str) -> pd.DataFrame:
    """The result rows of one evaluation with the metrics of a program's coefficients as further columns.

    Args:
        rows: result rows of `evaluate`, whose images were written.
        path: the file of coefficients.
        program: "emoca" or "smirk".

    Raises RafError for an unknown program, a damaged file, an image that is there twice, or a file without any image of
    these rows.
    """
    if program not in PROGRAMS:
        raise RafError(f"coefficients of {program!r} are not known; choose one of {', '.join(PROGRAMS)}")
    wanted = {"image": Array("U", "N"), "expression": Array("f", "N k")}
    wanted |= {name: Array("f", "N 3", optional=True) for name in ("pose", "jaw")}
    arrays = read_arrays(path, wanted, "file of coefficients", REMEDY)
    places = {str(name): place for place, name in enumerate(arrays["image"])}
    if len(places) < len(arrays["image"]):
        raise RafError(f"{path}: an image is in it twice; {REMEDY}")
    own = np.array([places.get(image_name(row, row["condition"]), -1) for row in rows.to_dict("records")])
    if (own < 0).all():
        raise RafError(f"{path}: holds no image of these rows; evaluate with EvaluateOptions(images=...) first")
    result = rows.copy()
    for end, kind in (("", "driver"), ("/truth", "truth")):
        other = np.array([places.get(image_name(row, kind), -1) for row in rows.to_dict("records")])
        known = (own >= 0) & (other >= 0)
        for tag, name in KINDS.items():
            if name in arrays:
                difference = np.abs(arrays[name][own] - arrays[name][other]).mean(1)
                result[f"{tag}/{program}/l1{end}"] = np.where(known, difference, np.nan)
    assert set(result) - set(rows) <= set(REGISTRY)
    return result
