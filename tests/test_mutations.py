"""Damaged files of every kind that the project reads: an error names the file, or its content is unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from face_files import flame_parts, gnm_parts, landmark_rows, write
from mutations import AGAIN, BAD, GOOD, Kind, mutations, watched
from scipy.io import savemat
from synthetic import ball_capture

from raflib import runs
from raflib.avatar import GaussianAvatar, Upsampler
from raflib.bank import ExpressionBank, sharded_search, write_mapped
from raflib.bank.leaks import Fingerprints
from raflib.config import train_config
from raflib.lab.steps import Step, fingerprint, finished
from raflib.perceptual import load_weights, weight_file
from raflib.reading import read_json, read_table
from raflib.sampler import RAF
from raflib.sources import _store, video
from raflib.studio.head_model import read_head_model
from raflib.studio.true_landmarks import read_binding
from raflib.tracking import matte
from raflib.tracking.basel import read_basel
from raflib.tracking.face import checked_model, default_model
from raflib.tracking.face_model import LinearFaceModel, read_model
from raflib.tracking.flame import EMBEDDING, read_flame
from raflib.tracking.gnm import LANDMARKS, read_gnm
from raflib.tracking.landmarks import IBUG68
from raflib.training import Run, fit

DRAW = np.random.default_rng(0)
QUERIES = DRAW.normal(size=(3, 52)).astype(np.float32)
V = 80


def digest(*values: object) -> str:
    """Return a digest of arrays, tensors, mappings and plain values, with types and shapes."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, dict):
            value = [part for key in sorted(value) for part in (key, value[key])]
        if isinstance(value, (list, tuple)):
            found.update(digest(*value).encode())
            continue
        if isinstance(value, torch.Tensor):
            value = value.detach().numpy()
        if isinstance(value, np.ndarray) and value.dtype.kind != "O":
            found.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()


# --- banks


def small_bank(people=("B1", "B2", "B3")) -> ExpressionBank:
    count = 20 * len(people)
    draw = np.random.default_rng([0, *people[0].encode()])
    features = draw.normal(0, 0.2, (count, 52)).astype(np.float32)
    names = np.repeat(people, 20)
    return ExpressionBank(
        features, names, ["FREE"] * count, np.arange(count), "arkit52", {}, draw.normal(0, 0.1, (count, 3))
    )


def bank_file(folder: Path) -> Path:
    small_bank().save(folder / "bank.npz")
    return folder / "bank.npz"


def mapped(name: str):
    def make(folder: Path) -> Path:
        write_mapped(folder / "bank", [small_bank()])
        return folder / "bank" / name

    return make


def read_bank(path: Path) -> object:
    bank = ExpressionBank.load(path)
    columns = (bank.features, np.asarray(bank.subjects), np.asarray(bank.sequence), bank.frame, bank.rotation)
    return digest(*columns, bank.feature_space, bank.provenance, bank.search(QUERIES, 2)[1])


def shards(folder: Path) -> Path:
    for number, people in enumerate((["A1", "A2"], ["C1"])):
        write_mapped(folder / f"shard_{number}", [small_bank(people)])
    return folder / "shard_1" / "lines.npy"


def fingerprints(folder: Path) -> Path:
    Fingerprints.of(small_bank()).save(folder / "bank_fingerprints.npz")
    return folder / "bank_fingerprints.npz"


# --- runs


def run_file(name: str):
    def make(folder: Path) -> Path:
        config = train_config("tiny", size=32, steps=2, views_per_frame=2, weight_perceptual=0.0, favour_expressive=0.0)
        config = replace(config, avatar=replace(config.avatar, points=60, mouth_points=5))
        fit(ball_capture(), RAF(small_bank()), config, folder / "run", progress=False)
        return folder / "run" / name

    return make


def read_run(path: Path) -> object:
    run = Run.load(path.parent, "cpu")
    known = run.bank
    parts = (run.subject, run.method, run.info, dict(run.avatar.state_dict()), run.pose_corrections, run.log.to_csv())
    return digest(*parts, np.asarray(known.subjects), np.asarray(known.sequence), known.row, known.checksum)


def rows_file(folder: Path) -> Path:
    (folder / "rows.csv").write_text(
        "subject,driver,method,psnr,detected\n" + "".join(f"074,0{i},raf,{20 + i / 7},True\n" for i in range(50))
    )
    return folder / "rows.csv"


STEP = Step("01_subjects", {"subject": "422", "profile": "tiny"})


def receipt(folder: Path) -> Path:
    left = runs.runs_root() / "kept" / "a.txt"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text("result")
    marks = {"kept/a.txt": hashlib.sha256(b"result").hexdigest()}
    told = {"fingerprint": fingerprint(STEP, runs.project_root()), "read": {}, "left": marks}
    path = folder / f"{STEP.name}.json"
    runs.write_json(path, told)
    path.with_suffix(".ipynb").write_text("{}")
    return path


def read_receipt(path: Path) -> object:
    return "holds" if finished(STEP, runs.project_root(), path.parent) else AGAIN


# --- what is recorded


def tracks_file(folder: Path) -> Path:
    count = 10
    signals = {name: np.full((count, *rest), np.nan, np.float32) for name, rest in
               (("expression", (52,)), ("landmarks", (60, 3)), ("pose", (6,)), ("scale", ()))}  # fmt: skip
    for value in signals.values():
        value[:7] = DRAW.normal(size=value[:7].shape)
    signals |= {"neutral": np.ones((60, 3)), "detected": np.arange(count) < 7, "frame": np.arange(count)}
    _store.save_tracks(folder / "422-key.npz", **signals, sequence=np.array(["clip-00"] * count))
    return folder / "422-key.npz"


def read_tracks(path: Path) -> object:
    names = ("expression", "landmarks", "pose", "scale", "neutral", "sequence", "frame", "detected")
    found = _store.load_tracks(path, names)
    return AGAIN if found is None else digest(found)


def picture_file(folder: Path) -> Path:
    return picture_store(folder).path(3, 1)


def picture_store(folder: Path) -> _store.ImageStore:
    def make(t: int, c: int):
        draw = np.random.default_rng(t)
        return draw.integers(0, 255, (24, 24, 3), dtype=np.uint8), draw.integers(0, 255, (24, 24), np.uint8)

    store = _store.ImageStore(folder / "422-key", make)
    store.image(3, 1)
    return store


def read_picture(path: Path) -> object:
    store = picture_store(path.parents[2])
    return digest(store.image(3, 1), store.mask(3, 1))


def film(name: str, codec: str):
    def make(folder: Path) -> Path:
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for number in range(12):
                picture = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
                frame = av.VideoFrame.from_ndarray(np.kron(picture, np.ones((8, 8, 1), np.uint8)), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return folder / name

    return make


def read_film(path: Path) -> object:
    numbers = video.frame_numbers(path, video.PROFILES["tiny"])
    return digest(numbers, [picture for _, picture in video.decode(path)])


# --- data that ships and models of others


def copied(source: Path, name: str):
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(source.read_bytes())
        return folder / name

    return make


def read_face_model(path: Path) -> object:
    return digest(vars_of(read_model(path)))


def vars_of(model: LinearFaceModel) -> list:
    return [vars(value) if hasattr(value, "__dict__") else value for value in vars(model).values()]


def merged_basel(folder: Path) -> Path:
    draw = np.random.default_rng(1)
    savemat(folder / "BFM_model_front.mat", {
        "meanshape": draw.normal(size=(1, 3 * V)), "idBase": draw.normal(size=(3 * V, 6)),
        "exBase": draw.normal(size=(3 * V, 6)), "keypoints": np.arange(11, 79)[None], "tri": np.array([[1, 2, 3]]),
    }, do_compression=True)  # fmt: skip
    return folder / "BFM_model_front.mat"


def basel_2009(name: str):
    def make(folder: Path) -> Path:
        draw, trimmed = np.random.default_rng(2), np.arange(1, V - 1)
        shape = {"shapeMU": draw.normal(size=(3 * V, 1)), "shapePC": draw.normal(size=(3 * V, 6))}
        savemat(folder / "01_MorphableModel.mat", {**shape, "shapeEV": np.ones((6, 1))})
        values = draw.normal(size=(5, 3 * len(trimmed))).astype("<f4")
        (folder / "Exp_Pca.bin").write_bytes(np.int32(4).tobytes() + values.tobytes())
        np.savetxt(folder / "std_exp.txt", np.ones(4))
        savemat(folder / "BFM_exp_idx.mat", {"trimIndex": trimmed[:, None]})
        return folder / name

    return make


def basel_2017(folder: Path) -> Path:
    import h5py

    path, draw = folder / "model2017.h5", np.random.default_rng(3)
    with h5py.File(path, "w") as file:
        for part in ("shape", "expression"):
            file[f"{part}/model/mean"] = draw.normal(size=3 * V)
            file.create_dataset(f"{part}/model/pcaBasis", data=draw.normal(size=(3 * V, 6)), compression="gzip")
            file[f"{part}/model/pcaVariance"] = np.ones(6)
        file["metadata/landmarks/json"] = json.dumps([{"id": "center.nose.tip", "coordinates": [0.0, 0.0, 1.0]}])
    return path


def read_basel_model(path: Path) -> object:
    file = path if path.suffix == ".h5" or path.name == "BFM_model_front.mat" else path.parent / "01_MorphableModel.mat"
    vertices = None if path.name == "BFM_model_front.mat" else range(68)
    return digest(vars_of(read_basel(file, vertices)))


def official_file(folder: Path) -> Path:
    torch.manual_seed(0)
    torch.save(Upsampler(32, 2).to_official(), folder / "supres_latest.pth")
    return folder / "supres_latest.pth"


def read_upsampler(path: Path) -> object:
    return digest(dict(Upsampler.from_official(path).state_dict()))


def head_file(folder: Path) -> Path:
    from test_interop import official

    torch.save(official(points=20), folder / "gaussianhead_latest.pt")
    return folder / "gaussianhead_latest.pt"


def read_head(path: Path) -> object:
    return digest(dict(GaussianAvatar.from_official(path).state_dict()))


def flame_file(name: str):
    def make(folder: Path) -> Path:
        model = write(folder, flame_parts())
        return model if name == model.name else folder / name

    return make


def gnm_file(name: str):
    def make(folder: Path) -> Path:
        np.savez_compressed(folder / "gnm_head.npz", **gnm_parts())
        (folder / LANDMARKS[1]).write_text(landmark_rows(IBUG68))
        return folder / name

    return make


DATA = runs.data_root()
KINDS = [
    Kind("bank", bank_file, read_bank),
    *(Kind(f"bank on disk: {name}", mapped(name), lambda path: read_bank(path.parent))
      for name in ("bank.json", "lines.npy", "frame.npy", "sequence.npy", "rotation.npy")),
    Kind("shard", shards, lambda path: digest(*sharded_search(sorted(path.parents[1].glob("shard_*")), QUERIES, 2))),
    *(Kind(f"run: {name}", run_file(name), read_run)
      for name in ("checkpoint.safetensors", "run.json", "log.csv", "bank_fingerprints.npz")),
    Kind("receipt", receipt, read_receipt),
    Kind("results", rows_file, lambda path: digest(read_table(path, ("psnr",), ("subject",)).to_csv()), "nothing"),
    Kind("head model", copied(DATA / "head_model.npz", "head_model.npz"),
         lambda path: digest(vars(read_head_model(path))), "bytes"),
    Kind("landmarks", copied(DATA / "landmarks.npz", "landmarks.npz"),
         lambda path: digest(vars(read_binding(path))), "bytes"),
    Kind("face model", copied(DATA / "open_face_model.npz", "open_face_model.npz"), read_face_model, "bytes"),
    *(Kind(name, copied(DATA / name, name), lambda path: digest(read_json(path)), "nothing")
      for name in ("head_model.json", "real_people.json")),
    Kind("tracks", tracks_file, read_tracks),
    Kind("picture", picture_file, read_picture),
    Kind("mp4", film("film.mp4", "mpeg4"), read_film, "nothing"),
    Kind("webm", film("film.webm", "libvpx"), read_film, "nothing"),
    Kind("Basel, merged", merged_basel, read_basel_model),
    *(Kind(f"Basel 2009: {name}", basel_2009(name), read_basel_model, "nothing")
      for name in ("01_MorphableModel.mat", "Exp_Pca.bin", "std_exp.txt", "BFM_exp_idx.mat")),
    Kind("Basel 2017", basel_2017, read_basel_model, "nothing"),
    Kind("FLAME", flame_file("generic_model.pkl"), lambda path: digest(vars_of(read_flame(path))), "nothing"),
    Kind("FLAME: landmarks", flame_file(EMBEDDING),
         lambda path: digest(vars_of(read_flame(path.parent / "generic_model.pkl"))), "bytes"),
    Kind("GNM", gnm_file("gnm_head.npz"), lambda path: digest(vars_of(read_gnm(path, identity=5))), "bytes"),
    Kind("GNM: landmarks", gnm_file(LANDMARKS[1]),
         lambda path: digest(vars_of(read_gnm(path.parent / "gnm_head.npz", path, 5))), "nothing"),
    Kind("perceptual weights", copied(weight_file("alex"), "alex.pth"),
         lambda path: digest(load_weights(path, "alex"))),
    Kind("tracker", copied(default_model(), "face_landmarker.task"),
         lambda path: digest(checked_model(path).read_bytes())),
    Kind("matte", copied(DATA / matte.MODEL, matte.MODEL), lambda path: digest(matte.checked_model(path).read_bytes())),
    Kind("official upsampler", official_file, read_upsampler),
    Kind("official head", head_file, read_head),
]  # fmt: skip


def table_of(found: dict[str, list[tuple[str, str, str]]]) -> str:
    """Return a table of the number of mutations for each kind and outcome."""
    lines = [f"{'kind':32}" + "".join(f"{name:>10}" for name in (*GOOD, *BAD))]
    counts = {kind: Counter(outcome for outcome, *_ in outcomes) for kind, outcomes in found.items()}
    counts["together"] = sum(counts.values(), Counter())
    for kind, count in counts.items():
        lines.append(f"{kind:32}" + "".join(f"{count[name]:10}" for name in (*GOOD, *BAD)))
    return "\n".join(lines)


def mutated(tmp_path: Path, kinds: list[Kind], count: int) -> dict[str, list[tuple[str, str, str]]]:
    """Outcomes of `count` mutations of each kind."""
    paths = {}
    for number, kind in enumerate(kinds):
        folder = tmp_path / str(number)
        folder.mkdir()
        paths[kind.name] = kind.make(folder)
    others = {path.suffix: path.read_bytes() for path in paths.values() if path.stat().st_size < 10**6}
    chosen = {kind: mutations(kind, paths[kind.name], others, count, seed=0) for kind in kinds}
    return {kind.name: watched(kind, paths[kind.name], chosen[kind]) for kind in kinds}


def complaints(found: dict[str, list[tuple[str, str, str]]]) -> list[str]:
    return [f"{kind}, {label}: {outcome}: {words}" for kind, outcomes in found.items()
            for outcome, label, words in outcomes if outcome in BAD]  # fmt: skip


def in_a_fresh_process(tmp_path: Path, count: int, *without: str) -> dict[str, list[tuple[str, str, str]]]:
    """`mutated`, for all kinds but those whose names begin with `without`, in a process of one thread.

    Readers are watched in forked processes, and a fork of a process that has computed with several threads can hang.
    """
    alone = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "NUMBA", "MKL", "OPENBLAS")}
    paths = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent), os.environ["PYTHONPATH"]])
    command = [sys.executable, __file__, str(tmp_path), str(count), *without]
    ran = subprocess.run(command, env={**os.environ, **alone, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads((tmp_path / "outcomes.json").read_text())


def test_a_few_mutations_of_every_kind(tmp_path):
    found = in_a_fresh_process(tmp_path, 2, "run", "head model", "perceptual", "webm", "receipt")
    assert len(found) > 20 and not complaints(found), "\n".join(complaints(found))


@pytest.mark.minutes
def test_no_mutated_file_is_believed(tmp_path):
    """Of 1,500 and more: no raw error, none that names no file, no hang, no blow-up, no other content where a checksum
    could tell. "unsealed" counts other contents of formats without one (films, text, models of other programs), and
    well-formed models that another program could have written."""
    found = in_a_fresh_process(tmp_path, 52)
    print(f"\n{table_of(found)}")
    assert sum(map(len, found.values())) >= 1500
    assert not complaints(found), "\n".join(complaints(found))


if __name__ == "__main__":
    target, number, *omitted = sys.argv[1:]
    kept = [kind for kind in KINDS if not kind.name.startswith(tuple(omitted))] if omitted else KINDS
    outcomes = mutated(Path(target), kept, int(number))
    (Path(target) / "outcomes.json").write_text(json.dumps(outcomes))
