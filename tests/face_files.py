"""Synthetic files of FLAME and GNM Head in their published layouts, around the open model's face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pickle_writer import Chumpy, Sparse, python2

from raflib.tracking import open_model
from raflib.tracking.flame import EMBEDDING
from raflib.tracking.landmarks import IBUG68

HOUSE = np.array([1.0, -1.0, -1.0])
"""The axes of both models in those of raflib."""
TEMPLATE = open_model().mean * HOUSE / 10
"""478 vertices in metres, y up and z out of the face; their numbers are MediaPipe's."""
TRIANGLES = np.stack([(np.arange(478) + corner) % 478 for corner in range(3)], 1)
BASIS = np.random.default_rng(0).normal(0, 0.002, (478, 3, 400))
POINTS = np.array([*IBUG68[17:], 46, 52, 53, 65, 276, 282, 283, 295])
"""MediaPipe's numbers of the embedding's landmarks."""
SHARES = (0.9, 0.06, 0.04)
"""Shares of a landmark's corners, of which the first is the vertex of its number."""


def flame_parts(vertices: int = 478) -> dict[str, object]:
    """The entries of FLAME's pickle, with further random vertices where more than 478 are wanted."""
    template, basis, more = TEMPLATE, BASIS, vertices - len(TEMPLATE)
    if more:
        draw = np.random.default_rng(2)
        template = np.concatenate([template, draw.normal(0, 0.1, (more, 3))])
        basis = np.concatenate([basis, draw.normal(0, 0.002, (more, 3, 400))])
    sparse = {"_shape": (5, vertices), "data": np.ones(3), "indices": np.zeros(3, np.int32), "indptr": np.arange(4)}
    return {
        "f": TRIANGLES.astype(np.uint32), "v_template": Chumpy(template), "shapedirs": Chumpy(basis),
        "J_regressor": Sparse(sparse), "posedirs": np.zeros((vertices, 3, 2)), "bs_style": "lbs",
        "kintree_table": np.array([[2**32 - 1, 0], [0, 1]], np.int64), "J": Chumpy(np.zeros((5, 3))),
    }  # fmt: skip


def embedding(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of the landmark embedding; triangle k has the vertices k, k + 1 and k + 2."""
    shares = np.tile(SHARES, (len(POINTS), 1))
    return {"lmk_face_idx": POINTS, "lmk_b_coords": shares, "landmark_indices": POINTS, **changes}


def write(
    folder: Path, content: object, name: str = "generic_model.pkl", marks: dict[str, np.ndarray] | None = None
) -> Path:
    """Write a FLAME model, given as bytes or as the dictionary to pickle, and its embedding; return its path."""
    np.savez(folder / EMBEDDING, **(embedding() if marks is None else marks))
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else python2(content))
    return path


def gnm_parts(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """The entries of gnm_head.npz that are read, and one that is not."""
    draw = np.random.default_rng(3)
    return {
        "template_vertex_positions": TEMPLATE.astype(np.float32), "triangles": TRIANGLES.astype(np.int32),
        "vertex_identity_basis": draw.normal(0, 0.002, (253, 478, 3)).astype(np.float16),
        "expression_basis": draw.normal(0, 0.002, (383, 478, 3)).astype(np.float16),
        "version": np.array("3.0"), **changes,
    }  # fmt: skip


def landmark_rows(numbers: list[int] | tuple[int, ...] | range) -> str:
    """Lines of a landmark file of GNM for the landmarks `numbers` of MediaPipe."""
    return "".join(f"{k} {SHARES[0]} {(k + 1) % 478} {SHARES[1]} {(k + 2) % 478} {SHARES[2]}\n" for k in numbers)
