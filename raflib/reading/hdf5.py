"""Arrays and text from HDF5 files, which can hold far more than these, and point at other files.

Only what lies in the file itself is read, and its size is checked before. The format has no checksum over what it
holds: a changed digit is another digit. Needs h5py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raflib.reading.files import FileError, allowed_bytes, checked_file, damage_named

if TYPE_CHECKING:
    import h5py

MOST_BYTES = 2**31


def read_hdf5(
    path: str | Path,
    wanted: Mapping[str, tuple[slice, ...]],
    what: str,
    remedy: str,
    optional: Sequence[str] = (),
    most: int = MOST_BYTES,
) -> dict[str, np.ndarray | bytes | str]:
    """The parts `wanted` of datasets in an HDF5 file, by their paths; those `optional` may be missing.

    Links to other places and files, data kept outside the file, and filters other than gzip's are refused. Raises
    RafError naming the file when h5py is not installed, and when the file is missing, larger than `most` bytes (packed
    or unpacked), damaged, or a dataset is no finite array of numbers and no text.
    """
    path = checked_file(path, what, remedy, most)
    try:
        import h5py
    except ImportError:
        raise FileError(f"{path}: reading it needs h5py, which is not installed; run `pip install h5py`") from None
    with damage_named(path, what, remedy), h5py.File(path, "r") as file:
        return {
            name: _dataset(file, name, part, allowed_bytes(path.stat().st_size, most))
            for name, part in wanted.items()
            if name not in optional or name in file
        }


def _dataset(file: h5py.File, name: str, part: tuple[slice, ...], most: int) -> np.ndarray | bytes | str:
    """A part of one dataset; ValueError unless it is a plain one of allowed size."""
    import h5py

    place = file
    for step in name.split("/"):
        if not isinstance(place, h5py.Group) or step not in place:
            raise ValueError(f"{name} is missing")
        if not isinstance(place.get(step, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link to another place")
        place = place[step]
    if not isinstance(place, h5py.Dataset) or place.is_virtual or place.external:
        raise ValueError(f"{name} is not an array that lies in the file")
    made = place.id.get_create_plist()
    filters = {made.get_filter(number)[0] for number in range(made.get_nfilters())}
    if filters - {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}:
        raise ValueError(f"{name} is packed by another method than gzip's")
    if math.prod(place.shape) * place.dtype.itemsize > most:
        raise ValueError(f"{name} would unpack to {place.shape} {place.dtype}")
    if h5py.check_string_dtype(place.dtype):
        return place[()]
    if place.dtype.kind not in "fiu":
        raise ValueError(f"{name} is of type {place.dtype}, expected numbers")
    values = place[part]
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return values
