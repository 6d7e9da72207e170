"""Weights of other people's networks: where their files are, what to do when one is missing, and how they are read.

These weights have licences of their own, so they are not shipped and not downloaded. A file that the user brings is in
`raflib.runs.weights_root()` under the name that its `Weights` gives. A file of an installed package is read without
importing that package. `notebooks/METRICS.md` lists all of them.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raflib.reading import FileError, damage_named, read_bytes
from raflib.runs import weights_root

MOST_BYTES = 2**31
COUNTER = "num_batches_tracked"
"""Counter of training steps in a batch norm. Evaluation does not use it, and old files do not have it."""


@dataclass(frozen=True)
class Weights:
    """A file of weights that is not part of this project.

    Attributes:
        file: its name in `weights_root()`, or its path inside `package`.
        source: where it comes from and under which licence, as the end of a sentence.
        package: the installed package that contains it; "" for a file that the user brings.
        sha256: of its content; "" where it is not known.
    """

    file: str
    source: str
    package: str = ""
    sha256: str = ""

    def path(self) -> Path | None:
        """Where the file is expected; None if its package is not installed."""
        if not self.package:
            return weights_root() / self.file
        spec = util.find_spec(self.package)
        return None if spec is None or spec.origin is None else Path(spec.origin).parent / self.file

    def missing(self) -> str | None:
        """One sentence that says what is missing and where to get it; None if the file is there."""
        path = self.path()
        if path is not None and path.is_file():
            return None
        return f"{f'package {self.package} is not installed' if path is None else f'{path} is missing'}; {self.source}"

    def checked_path(self) -> Path:
        """The path of the file, which exists. RafError where it does not, or is another file than expected."""
        path = self.path()
        if path is None or not path.is_file():
            raise FileError(str(self.missing()))
        if self.sha256 and hashlib.sha256(self.content(path)).hexdigest() != self.sha256:
            raise FileError(f"{path}: not the published file (its SHA-256 differs); {self.source}")
        return path

    def content(self, path: Path) -> bytes:
        """The bytes of the file. RafError naming it where it cannot be read."""
        return read_bytes(path, "file of weights", self.source, MOST_BYTES)

    def state(self, *names: str) -> dict[str, Tensor]:
        """The named tensors in a file of `torch.save`, from the dictionary found by following `names` inside it.

        Nothing in the file is run (`weights_only`). Raises RafError naming the file where it is missing, damaged, or
        has no such dictionary of tensors.
        """
        path = self.checked_path()
        content = self.content(path)
        with damage_named(path, "file of weights", self.source):
            found: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            for name in names:
                if not isinstance(found, Mapping) or name not in found:
                    raise ValueError(f"{name} is missing")
                found = found[name]
            if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
                raise ValueError("it holds something else than named tensors")
            _check_lengths(content, found)
            return {str(name).removeprefix("module."): value for name, value in found.items()}

    def load(self, network: nn.Module, *names: str, unused: Sequence[str] = ()) -> nn.Module:
        """`network`, for evaluation, with its weights from the file; `names` as for `state`.

        Tensors whose names begin with one of `unused` may be in the file without being needed. Raises RafError naming
        the file and the first tensor that is missing, unknown or of another shape.
        """
        state = self.state(*names)
        with damage_named(self.checked_path(), "file of weights", self.source):
            fill(network, state, unused)
        return network


def fill(network: nn.Module, state: Mapping[str, Tensor], unused: Sequence[str] = ()) -> None:
    """Copy `state` into `network` and set it to evaluation.

    ValueError naming the first tensor that is missing, unknown, not finite or of another shape.
    """
    own = network.state_dict()
    needed = [name for name in own if not name.endswith(COUNTER)]
    if missing := [name for name in needed if name not in state]:
        raise ValueError(f"{missing[0]} is missing ({len(missing)} of {len(needed)} tensors)")
    known = tuple(unused)
    if unknown := [name for name in state if name not in own and not name.startswith(known)]:
        raise ValueError(f"{unknown[0]} is not part of the network ({len(unknown)} such tensors)")
    for name in needed:
        if state[name].shape != own[name].shape:
            raise ValueError(f"{name} has shape {list(state[name].shape)}, expected {list(own[name].shape)}")
        if not torch.isfinite(state[name]).all():
            raise ValueError(f"{name} holds NaN or infinity")
    network.load_state_dict({name: state[name] for name in needed}, strict=False)
    network.eval().requires_grad_(False)


def _check_lengths(content: bytes, state: Mapping[str, Tensor]) -> None:
    """ValueError where a tensor is longer than any part of a zip file: torch trusts the declared length."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return  # torch's older format is read in order, so a length beyond the file's end is an error there
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        sizes = {member.file_size for member in file.infolist()}
    for name, value in state.items():
        if value.untyped_storage().nbytes() not in sizes:
            raise ValueError(f"{name} is not as long as it declares")
