"""The head model: reads `data/head_model.npz` and names its arrays.

All people share one bust: V points in world axes (metres, x = the subject's left, y down, the face looks to −z, origin
in the middle of the head), triangles with a part label, 52 facial actions as displacements, skin weights and pivots of
the chain root → neck01 → neck02 → neck03 → head, and an identity space. `scripts/build_head_model.py` writes the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from raflib import runs
from raflib.reading import Array, damage_named, read_arrays

SKIN, EYE, TONGUE, TEETH, LASHES, HAIR = range(6)
CHAIN = 5  # bones from the root to the head
ATLAS_SHAPE = (1024, 1024)
EYE_LEVEL, FACE_FRONT = -0.012, -0.075  # metres on the mean head: height of the eyes, depth of the cheeks

# The head model's order: alphabetical, as its source lists them. tests/test_studio.py holds it against the file.
ACTIONS: tuple[str, ...] = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
STORED = {
    "triangles": Array("iu", "F 3"), "uv_triangles": Array("iu", "F 3"), "part": Array("iu", "F"),
    "uv": Array("f", "U 2"), "action_names": Array("U", "52"), "action_mm": Array("f", "52 V 3"),
    "weights": Array("f", "V 5"), "mean": Array("f", "P 3"), "attribute_names": Array("U", "A"),
    "attribute_mean": Array("f", "A"), "attribute_mm": Array("f", "A P 3"), "identity_mm": Array("f", "K P 3"),
    **{f"mask_{name}": Array("u", "1024 1024") for name in ("lips", "eyelids", "ears", "mouth")},
}  # fmt: skip
"""Arrays of the file: P = V + 5 with the pivots last, lengths in millimetres."""
INDEX = {name: index for index, name in enumerate(ACTIONS)}


@dataclass(frozen=True, eq=False)
class HeadModel:
    """Arrays of the shared head; lengths in metres. V points, F triangles, U texture points, K identity components."""

    mean: Float32[np.ndarray, "V 3"]
    pivots: Float32[np.ndarray, "5 3"]
    attribute_names: tuple[str, ...]
    attribute_mean: Float32[np.ndarray, "A"]
    attribute_effects: Float32[np.ndarray, "A P 3"]  # P = V + 5, the pivots last
    components: Float32[np.ndarray, "K P 3"]  # scaled to one standard deviation each
    actions: Float32[np.ndarray, "52 V 3"]
    weights: Float32[np.ndarray, "V 5"]
    triangles: Int32[np.ndarray, "F 3"]
    part: Int32[np.ndarray, "F"]
    uv: Float32[np.ndarray, "U 2"]  # atlas pixels (column, row)
    uv_triangles: Int32[np.ndarray, "F 3"]
    masks: dict[str, UInt8[np.ndarray, "1024 1024"]]

    @property
    def head(self) -> np.ndarray:
        """[V] bool: points that move rigidly with the skull (weight of the head bone above 0.999)."""
        return self.weights[:, CHAIN - 1] > 0.999

    def points_of(self, part: int) -> Int32[np.ndarray, "n"]:
        """Sorted indices of the points used by one part."""
        return np.unique(self.triangles[self.part == part]).astype(np.int32)

    def eyes(self) -> tuple[Float32[np.ndarray, "2 3"], float]:
        """Centres of the mean's right and left eyeball (x < 0, x > 0) and their common radius."""
        ball = self.mean[self.points_of(EYE)]
        sides = [ball[ball[:, 0] < 0], ball[ball[:, 0] > 0]]
        centres = np.stack([(side.max(0) + side.min(0)) / 2 for side in sides])
        return centres.astype(np.float32), float(np.ptp(sides[1][:, 0]) / 2)


@lru_cache(maxsize=1)
def head_model() -> HeadModel:
    """The model that ships, read once in a process. RafError naming the file when it is missing or damaged."""
    return read_head_model(runs.data_root() / "head_model.npz")


def read_head_model(path: str | Path) -> HeadModel:
    """A head model from `path`. RafError naming the file when it is missing, damaged or of another layout."""
    remedy = "it ships with the project, restore it or run build_head_model.py"
    stored = read_arrays(path, STORED, "head model", remedy, most=2**28)
    with damage_named(path, "head model", remedy):
        return _arranged(stored)


def _arranged(stored: dict[str, np.ndarray]) -> HeadModel:
    if tuple(stored["action_names"].tolist()) != ACTIONS:
        raise ValueError("its actions are not the 52 expected ones")

    points, corners = len(stored["weights"]), {"triangles": len(stored["weights"]), "uv_triangles": len(stored["uv"])}
    if len(stored["mean"]) != points + CHAIN:
        raise ValueError(f"its {len(stored['mean'])} places are not {points} points and {CHAIN} pivots")
    for name, most in corners.items():
        if stored[name].min() < 0 or stored[name].max() >= most:
            raise ValueError(f"its {name} lie beyond 0 to {most - 1}")
    if not set(np.unique(stored["part"]).tolist()) <= set(range(HAIR + 1)):
        raise ValueError(f"its parts are not among 0 to {HAIR}")

    def metres(name: str) -> np.ndarray:
        return stored[name].astype(np.float32) * np.float32(1e-3)

    mean = metres("mean")
    masks = {name[5:]: stored[name] for name in stored if name.startswith("mask_")}
    return HeadModel(
        mean=mean[:-CHAIN],
        pivots=mean[-CHAIN:],
        attribute_names=tuple(stored["attribute_names"].tolist()),
        attribute_mean=stored["attribute_mean"],
        attribute_effects=metres("attribute_mm"),
        components=metres("identity_mm"),
        actions=metres("action_mm"),
        weights=stored["weights"].astype(np.float32),
        triangles=stored["triangles"].astype(np.int32),
        part=stored["part"].astype(np.int32),
        uv=stored["uv"],
        uv_triangles=stored["uv_triangles"].astype(np.int32),
        masks=masks,
    )
