"""`Run`: a trained avatar on disk, and the images that it renders.

A checkpoint is one safetensors file. It holds the avatar's tensors under "avatar.", the upsampler's under their
published names ("upsampler."), the learned background, the pose corrections with the names of their frames, and the
state of the optimisers. Its sealed header also holds the run's info and log. `run.json` and `log.csv` repeat those for
people and other programs. They are written after the checkpoint and compared with it when a run is loaded.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from raflib.avatar import Canonical, GaussianAvatar, Upsampler
from raflib.avatar.upsampler import PREFIX
from raflib.bank.leaks import Fingerprints
from raflib.config import TrainConfig, train_config_from_dict
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.images import resized
from raflib.reading import read_bytes
from raflib.render import rasterize
from raflib.runs import atomic_write, json_text, load_tensors, write_json
from raflib.training.pose_corrections import as_table
from raflib.training.signals import checked_signals, checked_torso

CHECKPOINT = "checkpoint.safetensors"
BANK = "bank_fingerprints.npz"
IDENTITY = ("subject", "recording", "sampler", "config")
"""Entries of a run's info that must be the same when its folder is continued."""
Stored = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors and header of a checkpoint."""


@dataclass(eq=False)
class Run:
    """A trained (or training) avatar on disk.

    `info` is `run.json`: subject, recording (`Capture.fingerprint`), feature space, method, sampler, bank,
    configuration, seed, threads, device, commit, versions, machine, steps (made so far) and total steps, seconds,
    whether it is finished, and under `continued` who made later steps, where that is another commit, version or
    machine. `log` holds step, seconds, the terms of the loss and the PSNR of the step's image, a row every 50 steps.
    `background` has the renderer's channels at the rendered size. `pose_corrections` holds the learned correction of
    each frame's tracked pose, by "<sequence>/<frame>" (axis-angle in radians, translation in metres).
    """

    path: Path
    subject: str
    feature_space: str
    method: str
    config: TrainConfig
    avatar: GaussianAvatar
    upsampler: Upsampler | None
    background: Float[Tensor, "H W C"] | None
    pose_corrections: Mapping[str, Float[np.ndarray, "6"]] = field(repr=False)
    info: dict[str, Any] = field(repr=False)
    log: pd.DataFrame = field(repr=False)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Run:
        """Read a run folder onto `device` ("auto", "cpu" or "cuda", see `choose_device`).

        Of an unfinished run, this is the avatar of its last checkpoint. Raises RafError naming the file when one is
        missing, damaged, of another run or of another version.
        """
        path, where = Path(path), choose_device(device)
        tensors, header = load_tensors(path / CHECKPOINT)
        _compare_copies(path, header)
        return cls.of(path, tensors, header, where)

    @classmethod
    def of(cls, path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], device: torch.device) -> Run:
        """The run of a checkpoint that was read; RafError naming its file when it is of another version."""
        try:
            info, log = header["info"], _log_text(header["log"])
            config = train_config_from_dict(header["config"])
            model = below(tensors, "avatar.")
            with torch.random.fork_rng(devices=[]):  # first values are overwritten
                blank = Canonical.blank(config.avatar, len(model["xyz"]), len(model["landmarks_neutral"]))
                avatar, upsampler = GaussianAvatar(config.avatar, blank), make_upsampler(config)
            avatar.load_state_dict(model)
            background = tensors.get("background")
            if upsampler is not None:
                upsampler.load_state_dict(below(tensors, PREFIX))
                upsampler.to(device).eval()
            corrections: Mapping[str, np.ndarray] = {}
            if "pose_correction" in tensors:
                corrections = as_table(header["pose_frames"], tensors["pose_correction"])
            names = (path, info["subject"], info["feature_space"], info["method"], config)
        except (RafError, RuntimeError, LookupError, TypeError) as error:
            words = str(error).splitlines()[0]
            raise RafError(f"{path / CHECKPOINT}: not an avatar of this version ({words}); train it again") from None
        background = None if background is None else background.to(device)
        rows = pd.read_csv(io.StringIO(log)) if header["log"] else pd.DataFrame()
        return cls(*names, avatar.to(device).eval(), upsampler, background, corrections, info, rows)

    @property
    def finished(self) -> bool:
        """Whether all steps of the configuration were made."""
        return self.info["finished"]

    @property
    def control_expression(self) -> Float[np.ndarray, "d"]:
        """The training mean of the expression, the constant expression of every evaluation's control."""
        return self.avatar.expression_mean.cpu().numpy()

    @property
    def bank(self) -> Fingerprints | None:
        """Fingerprints of the bank this avatar was trained with; None where there was none.

        RafError naming the file when it is missing, damaged or another bank's.
        """
        if self.info.get("bank") is None:
            return None
        known, checksum = Fingerprints.load(self.path / BANK), self.info["bank"]["checksum"]
        if known.checksum != checksum:
            raise RafError(
                f"{self.path / BANK}: of bank {known.checksum[:16]}, but the run was trained with {checksum[:16]}; "
                "copy whole run folders, or train again"
            )
        return known

    @torch.no_grad()
    def render(
        self,
        expression: Float[np.ndarray, "B d"],
        pose: Float[np.ndarray, "B 6"],
        scale: Float[np.ndarray, "B"],
        cameras: list[Camera],
        torso: Float[np.ndarray, "B 6"] | None = None,
    ) -> Float[np.ndarray, "B H W 3"]:
        """Images in [0,1] of the avatar, one a row, each by its own camera (all of one size). Without `torso` (see
        `Capture.torso`), the torso rests.

        Raises RafError for signals of other shapes or with NaN (`raflib.training.signals`), and for another number of
        cameras than rows, or cameras of several sizes. With an upsampler, features are rendered at the camera's size
        divided by `upsampling`; RafError when that is not a whole number of pixels. Such a network knows faces of the
        sizes it was trained on, so ask for images of about the training's `size` × `upsampling`.
        """
        images, factor = [], self.config.avatar.upsampling
        signals = checked_signals("render", self.avatar.config.expression_dim, expression, pose, scale)
        moved = checked_torso("render", len(signals[0]), torso)
        if len(cameras) != len(signals[0]):
            raise RafError(f"render: {len(cameras)} cameras for {len(signals[0])} rows; give each row its own camera")
        if len(sizes := sorted({f"{camera.width}×{camera.height}" for camera in cameras})) > 1:
            raise RafError(f"render: cameras of {' and '.join(sizes)} pixels; render those of one size at a time")
        for row, camera in enumerate(cameras):
            if camera.height % factor or camera.width % factor:
                raise RafError(
                    f"camera {camera.name}: {camera.width}×{camera.height} pixels cannot be divided by {factor}, as "
                    "this avatar's upsampler needs; use Camera.resized or Camera.cropped first"
                )
            height, width = camera.height // factor, camera.width // factor
            given = (self._row(values, row) for values in (*signals, *(() if moved is None else (moved,))))
            backdrop = 1.0 if self.background is None else resized(self.background[None], height, width)[0]
            blur = self.config.avatar.blur
            image, _ = rasterize(self.avatar(*given), [camera], (height, width), background=backdrop, blur=blur)
            shown = image[..., :3] if self.upsampler is None else self.upsampler(image)
            images.append(shown[0].clamp(0, 1).cpu().numpy())
        return np.stack(images)

    def _row(self, values: np.ndarray, row: int) -> Tensor:
        return torch.from_numpy(values[row : row + 1]).to(self.avatar.xyz.device)


def choose_device(device: str) -> torch.device:
    """ "cpu", "cuda", or with "auto" the GPU where the renderer can use it and the CPU elsewhere.

    RafError for another name, and for "cuda" where the renderer cannot use one.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise RafError(f"device is {device!r}; choose 'auto', 'cpu' or 'cuda'")
    if device == "cpu":
        return torch.device("cpu")
    from raflib.render.gsplat_backend import probe

    problem = probe()
    if problem is not None and device == "cuda":
        raise RafError(f"device 'cuda': {problem}; or use device='cpu'")
    return torch.device("cuda" if problem is None else "cpu")


def stored_run(out: Path, identity: Mapping[str, Any]) -> Stored | None:
    """The checkpoint of `identity` in `out`, None where there is none; RafError where the folder holds another run."""
    if not (out / CHECKPOINT).exists():
        return None
    tensors, header = load_tensors(out / CHECKPOINT)
    info = header.get("info", {})
    odd = [key for key in IDENTITY if _plain(info.get(key)) != _plain(identity[key])]
    if odd:
        raise RafError(f"{out}: holds a run with another {', '.join(odd)}; choose another folder or delete it")
    return tensors, header


def write_copies(out: Path, header: Mapping[str, Any]) -> None:
    """Write log.csv and run.json as the checkpoint's header has them."""
    with atomic_write(out / "log.csv") as path:
        path.write_text(_log_text(header["log"]), encoding="utf-8", newline="\n")
    write_json(out / "run.json", header["info"])


def _log_text(rows: list[dict[str, Any]]) -> str:
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


def _compare_copies(path: Path, header: Mapping[str, Any]) -> None:
    """RafError naming run.json or log.csv where it differs from the checkpoint's header."""
    try:
        copies = {"run.json": json_text(header["info"]), "log.csv": _log_text(header["log"])}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RafError(f"{path / CHECKPOINT}: not of this version ({error!r}); train it again") from None
    for name, text in copies.items():
        remedy = "train with the same settings once more, which writes it from the checkpoint"
        if read_bytes(path / name, "record of the run", remedy) != text.encode():
            raise RafError(
                f"{path / name}: differs from {CHECKPOINT} beside it; it was changed, or belongs to another run, or "
                "training was killed while saving; train with the same settings once more, which writes it anew"
            )


def make_upsampler(config: TrainConfig) -> Upsampler | None:
    """A new upsampler of the configured sizes (random values from torch's global generator), None at factor 1."""
    a = config.avatar
    return None if a.upsampling == 1 else Upsampler(a.colour_channels, a.upsampler_capacity, a.upsampling)


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _plain(value: Any) -> Any:
    """The value as JSON gives it back, so that stored and fresh values compare equal. `cache_gib` is left out: it
    changes no result, so a run may be continued with more or less memory for its images."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if key != "cache_gib"}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
