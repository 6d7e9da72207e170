"""Captures → folders that the public code of Gaussian Head Avatar trains on, and that `raflib` reads back unchanged.

Each image is written twice. `image_<serial>.png` and `mask_<serial>.png` are the capture's, bit by bit, for `raflib`.
The .jpg files are for the public code, which looks for these names and sets images on white by their masks: so their
colours are those of the person alone. JPEG would change colours by several levels, and the layout has no other format.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from tqdm import tqdm

from raflib import system
from raflib.capture import Capture
from raflib.errors import RafError, numbers
from raflib.images import lanczos
from raflib.reading import pack_arrays
from raflib.runs import LOCK, TEMPORARY, folder_lock, json_text
from raflib.sources.gha.files import AXES, GROUPS, IBUG66, camera_path
from raflib.sources.gha.manifest import ARRAYS, MANIFEST
from raflib.tracking.landmarks import COUNT, IBUG68

JPEG = {"quality": 95, "subsampling": 0}
LOW = 256
"""Pixels a side of the `lowres` images, on which the public code trains its first stage."""


def export_gha(capture: Capture, folder: str | Path, rows: Sequence[int] | np.ndarray | None = None) -> Path:
    """Write the frames `rows` (default: all) of `capture` to a new subject's folder, and return its path.

    `open_capture("gha", subject, "paper", folder)` reads them back: signals, names, masks and images are equal, and
    cameras to 1e-6. Truth, the head's texture map and `recording` are not written. The public code trains on every
    frame of a folder, so export `np.flatnonzero(capture.train)` for it. Its `original_resolution` is the images' size.

    Raises RafError, and leaves no folder, where `folder` exists and is not empty, images are no squares of one size,
    a camera's name cannot be part of a file's name, or the folder cannot be written.
    """
    folder, chosen = Path(folder), _checked_rows(capture, rows)
    _check(capture, folder)
    unfinished = folder.with_name(f"{TEMPORARY}{folder.name}")  # always this name, so that a killed export's is found
    with folder_lock(unfinished, f"export of {capture.subject}"):
        try:
            for entry in unfinished.iterdir():
                if entry.name != LOCK:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            names = [f"{number:04d}" for number in range(len(chosen))]
            progress = tqdm(
                zip(names, chosen.tolist(), strict=True), f"exporting {capture.subject}", len(names), disable=None
            )
            for name, t in progress:
                _write_tracks(capture, t, unfinished / "params" / name)
                _write_views(capture, t, unfinished, name)
            _write_manifest(capture, chosen, names, unfinished)
        except BaseException as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            if isinstance(error, OSError):
                raise _unwritable(folder, error) from error
            raise
    try:
        if folder.is_dir():  # and empty; Windows does not replace folders
            folder.rmdir()
        system.replace(unfinished, folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _unwritable(folder: Path, error: OSError) -> RafError:
    return RafError(
        f"{folder}: cannot be written ({error.strerror or error}); free some space or choose another folder"
    )


def _checked_rows(capture: Capture, rows: Sequence[int] | np.ndarray | None) -> Int[np.ndarray, "F"]:
    chosen = np.arange(len(capture)) if rows is None else numbers("export_gha: rows", rows, "iu").astype(int).ravel()
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= len(capture) or len(np.unique(chosen)) < len(chosen):
        raise RafError(f"export_gha: rows must be frames from 0 to {len(capture) - 1}, at least one and each once")
    return chosen


def _check(capture: Capture, folder: Path) -> None:
    """RafError where the layout cannot hold the capture, or the folder is taken."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RafError(f"{folder}: exists already; choose a new folder, or remove this one")
    size, serials = capture.cameras[0].width, [camera.name for camera in capture.cameras]
    for camera in capture.cameras:
        if (camera.width, camera.height) != (size, size):
            raise RafError(
                f"capture {capture.subject}: camera {camera.name} is {camera.width}×{camera.height}, expected "
                f"{size}×{size}; the layout holds squares of one size, so crop the images first"
            )
        if not camera.name or set(camera.name) & set("/\\\0") or camera.name.startswith("lowres_"):
            raise RafError(f"capture {capture.subject}: camera {camera.name!r} cannot name a file; rename it")
    if len(set(serials)) < len(serials):
        raise RafError(f"capture {capture.subject}: two cameras have one name; rename one of them")


def ibug66(capture: Capture) -> Sequence[int] | None:
    """Rows of the capture's landmarks that are the layout's 66; None where it numbers landmarks in another way."""
    if capture.landmarks.shape[1] == COUNT:
        return np.array(IBUG68)[list(IBUG66)].tolist()
    return range(66) if tuple(capture.groups["lips"]) == GROUPS["lips"] else None


def _write_tracks(capture: Capture, t: int, folder: Path) -> None:
    """The files in `params` of a frame. Without the layout's 66 landmarks, all landmarks stand for them.

    The public code cannot do without vertices.npy, so all landmarks stand in for the vertices.
    """
    folder.mkdir(parents=True)
    pose = (capture.pose[t].reshape(2, 3) * AXES).reshape(1, 6)
    landmarks, marks = capture.landmarks[t] * AXES, ibug66(capture)
    np.savez(
        folder / "params.npz", id_coeff=np.zeros((1, 80), np.float32), exp_coeff=capture.expression[t][None],
        scale=capture.scale[t : t + 1], pose=pose,
    )  # fmt: skip
    np.save(folder / "lmk_3d.npy", landmarks if marks is None else landmarks[list(marks)])
    np.save(folder / "vertices.npy", landmarks)


def _write_views(capture: Capture, t: int, root: Path, name: str) -> None:
    """The files in `images` and `cameras` of a frame."""
    images = root / "images" / name
    images.mkdir(parents=True)
    (root / "cameras" / name).mkdir(parents=True)
    for c, camera in enumerate(capture.cameras):
        extrinsic = camera.extrinsic[:3].copy()
        extrinsic[:, :3] *= AXES
        np.savez(camera_path(root, name, camera.name), extrinsic=extrinsic, intrinsic=camera.intrinsic)
        image, mask = capture.image(t, c), capture.mask(t, c)
        kept = {"image": image, "mask": mask}
        for kind, values in kept.items():
            Image.fromarray(values).save(images / f"{kind}_{camera.name}.png", compress_level=1)
        # The public code reads the first of three channels of a mask.
        low = min(LOW, camera.width)
        shown = image if capture.background is not None else _person(image, mask)
        for kind, values in {"image": shown, "mask": np.dstack([mask] * 3)}.items():
            Image.fromarray(values).save(images / f"{kind}_{camera.name}.jpg", **JPEG)
            small = Image.fromarray(lanczos(values, low, low))
            small.save(images / f"{kind}_lowres_{camera.name}.jpg", **JPEG)


def _person(image: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Colours c of the person with image = mask · c + (1 − mask) · white; white where nobody is."""
    alpha = np.maximum(mask, 1)[..., None].astype(np.float64)
    colour = 255 - (255.0 - image) * 255 / alpha
    return np.where(mask[..., None] > 0, colour.round().clip(0, 255), 255).astype(np.uint8)


def _write_manifest(capture: Capture, rows: Int[np.ndarray, "F"], names: list[str], folder: Path) -> None:
    """`capture.json` and `capture.npz`, what the layout has no place for."""
    named = zip(capture.sequence[rows], names, strict=True)
    runs = [(str(name), [frame for _, frame in run]) for name, run in groupby(named, lambda pair: pair[0])]
    manifest: Mapping[str, object] = {
        "sequences": [[name, run[0], run[-1]] for name, run in runs],
        "feature_space": capture.feature_space,
        "resolution": capture.cameras[0].width,
        "cameras": [camera.name for camera in capture.cameras],
        "landmarks": "vertices",
        "groups": {name: [int(row) for row in rows] for name, rows in capture.groups.items()},
        "composited": True,
    }
    (folder / MANIFEST).write_text(json_text(manifest), encoding="utf-8", newline="\n")
    optional: dict[str, Float[np.ndarray, "..."]] = {}
    if capture.time is not None:
        optional["time"] = capture.time[rows]
    if capture.background is not None:
        optional["background"] = capture.background
    kept = {"name": np.array(names), "frame": capture.frame[rows], "detected": capture.detected[rows]}
    pack_arrays(folder / ARRAYS, {**kept, "neutral": capture.neutral, **optional})
