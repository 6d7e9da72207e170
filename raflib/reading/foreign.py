"""Arrays from files of other programs: MATLAB (version 5 to 7.2) and HDF5.

Both formats can hold far more than numbers, and point at other files. Only arrays of numbers and text that lie in the
file itself are read, and their sizes are checked before. Neither format has a checksum over what it holds: a changed
digit is another digit. MATLAB files need scipy, HDF5 needs h5py.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from raflib.reading.files import FileError, allowed_bytes, checked_file, damage_named

MOST_BYTES = 2**31
NUMBERS = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
"""MATLAB's classes of plain arrays."""
CHUNK = 2**20


def read_matlab(
    path: str | Path, names: Sequence[str], what: str, remedy: str, most: int = MOST_BYTES
) -> dict[str, np.ndarray]:
    """Those of the arrays `names` that a .mat file of version 5 to 7.2 holds.

    Raises RafError naming the file when it is missing, larger than `most` bytes (packed or unpacked), damaged, of
    another version, or where one of them is no finite array of numbers.
    """
    path = checked_file(path, what, remedy, most)
    with damage_named(path, what, remedy):
        from scipy.io import loadmat, whosmat

        with open(path, "rb") as stream:
            _check_elements(stream, allowed_bytes(path, most))
            stream.seek(0)
            listed = whosmat(stream)
            kinds = {name: kind for name, _, kind in listed if name in names}
            if odd := sorted(name for name, kind in kinds.items() if kind not in NUMBERS):
                raise ValueError(f"{odd[0]} is of class {kinds[odd[0]]}, expected numbers")
            if not kinds:
                raise ValueError(f"it holds {', '.join(name for name, *_ in listed[:8]) or 'nothing'}")
            stream.seek(0)
            found = loadmat(stream, variable_names=list(kinds))
        arrays = {name: found[name] for name in kinds}
        for name, array in arrays.items():
            if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
                raise ValueError(f"{name} holds NaN, infinity or complex numbers")
        return arrays


def _check_elements(stream: BinaryIO, most: int) -> None:
    """ValueError unless the file's elements fill it, are whole, and unpack to at most `most` bytes."""
    header = stream.read(128)
    if len(header) < 128 or header[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise ValueError("not a MATLAB file of version 5 to 7.2")
    order, total = "<" if header[126:128] == b"IM" else ">", 0
    while head := stream.read(8):
        kind, length = struct.unpack(f"{order}II", head)
        if kind not in (14, 15):
            raise ValueError(f"an element of kind {kind}, expected arrays")
        total += length if kind == 14 else _unpacked(stream, length, most - total)
        if kind == 14:
            stream.seek(length, 1)
        if total > most:
            raise ValueError(f"it would unpack to more than {most} bytes")
    end = stream.tell()
    if end != stream.seek(0, 2):
        raise ValueError("it is cut short")


def _unpacked(stream: BinaryIO, length: int, most: int) -> int:
    """How long a compressed element is, at most a little over `most`."""
    reader, total = zlib.decompressobj(), 0
    while length and not reader.eof and total <= most:
        data = stream.read(min(CHUNK, length))
        if not data:
            raise EOFError("it is cut short")
        length -= len(data)
        while data and total <= most:
            total += len(reader.decompress(data, CHUNK))
            data = reader.unconsumed_tail
    if total <= most and (length or not reader.eof):
        raise EOFError("a compressed array is not whole")
    return total


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
            name: _dataset(file, name, part, allowed_bytes(path, most))
            for name, part in wanted.items()
            if name not in optional or name in file
        }


def _dataset(file, name: str, part: tuple[slice, ...], most: int):
    """One dataset's part; ValueError unless it is a plain one of bearable size."""
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
