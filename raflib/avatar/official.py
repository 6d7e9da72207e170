"""Files of the public Gaussian Head Avatar code (`torch.save` of a state dict), read with all sizes checked."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from raflib.errors import RafError
from raflib.reading import checked_file, damage_named

WHAT, REMEDY = "official checkpoint", "download it again, or save the state dict with torch.save"
MOST_BYTES = 2**32
SHOWN = 20
"""Most keys that an error lists."""


def read_official(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file of the public code (`torch.save`), for `GaussianAvatar` and `Upsampler.from_official`.

    Nothing in it is run (`weights_only`, which needs torch 2.6 or newer). Raises RafError naming the file when it is
    missing, damaged, larger than `MOST_BYTES`, of torch's format before 1.6, or holds anything but named tensors.
    """
    path = checked_file(path, WHAT, REMEDY, MOST_BYTES)
    with damage_named(path, WHAT, REMEDY):
        # torch compares no checksums, so it reads a copy whose checksums were compared here.
        compared = io.BytesIO()
        with zipfile.ZipFile(path) as file, zipfile.ZipFile(compared, "w") as copy:
            members = file.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("it is packed, as torch never packs a file")
            for member in members:
                copy.writestr(member.filename, file.read(member))
            held = sorted(member.file_size for member in members if "/data/" in member.filename)
        compared.seek(0)
        state = torch.load(compared, map_location="cpu", weights_only=True)
        check_tensors(state)
        # torch trusts the length that a storage declares, and would read beyond the end of the file's.
        storages = {value.untyped_storage()._cdata: value.untyped_storage().nbytes() for value in state.values()}
        if sorted(storages.values()) != held:
            raise ValueError("its tensors are not as long as they declare")
        return dict(state)


@contextmanager
def official_state(given: object) -> Iterator[Mapping[str, Tensor]]:
    """The given state dict, or the one in the file at the given path; errors inside the block then name that file."""
    if isinstance(given, (str, Path)):
        state = read_official(given)
        with damage_named(given, WHAT, REMEDY):
            yield state
    else:
        yield check_tensors(given)


def check_tensors(state: object) -> Mapping[str, Tensor]:
    """The state. RafError unless it maps names to dense, finite tensors that hold all the numbers of their shape."""
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise RafError(f"{WHAT}: is a {type(state).__name__}, expected a dict of named tensors")
    for key, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise RafError(f"{WHAT}: {key[:99]} is no plain tensor")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise RafError(f"{WHAT}: {key[:99]} declares shape {list(value.shape)} but holds fewer numbers")
        if value.is_floating_point() and not value.isfinite().all():
            raise RafError(f"{WHAT}: {key[:99]} holds NaN or infinity; take a checkpoint from before training failed")
    return state


def listed(keys: list[str], between: str = ", ") -> str:
    """The first `SHOWN` of many names, each cut to 200 characters."""
    shown = between.join(key if len(key) < 200 else f"{key[:199]}…" for key in keys[:SHOWN])
    return shown if len(keys) <= SHOWN else f"{shown} and {len(keys) - SHOWN} more"
