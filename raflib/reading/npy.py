"""One array from an .npy file: what the file declares is checked before anything is allocated."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np

from raflib.reading.arrays import Array
from raflib.reading.files import MOST_BYTES, damage_named, read_bytes


def read_npy(path: str | Path, wanted: Array, what: str, remedy: str, most: int = MOST_BYTES) -> np.ndarray:
    """The array in an .npy file, in the machine's byte order; it cannot be written to.

    Its type, shape and size are compared with `wanted` and with the file's length. `what` and `remedy` are the words of
    errors, as in `read_arrays`. Only numbers and booleans are read. Raises RafError naming the file when it is missing,
    damaged, larger than `most` bytes, or not what is wanted.
    """
    data = read_bytes(path, what, remedy, most)
    with damage_named(path, what, remedy):
        stream = io.BytesIO(data)
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"it is of .npy version {version}, expected 1 or 2")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.kind not in wanted.kinds or dtype.kind not in "fiub" or dtype.itemsize > 8:
            raise ValueError(f"it is of type {dtype}, expected one of kind {' or '.join(wanted.kinds)}")
        if len(data) != stream.tell() + math.prod(shape) * dtype.itemsize:
            raise ValueError(f"it takes {len(data)} bytes, which is not {dtype} {list(shape)}")
        parts = [str(size) for size in shape] if wanted.shape is None else wanted.shape.split()
        sizes = zip(parts, shape, strict=False)
        if len(parts) != len(shape) or any(part.isdigit() and int(part) != size for part, size in sizes):
            raise ValueError(f"it has shape {list(shape)}, expected [{', '.join(parts)}]")
        array = np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
        if dtype.kind == "f" and wanted.finite and not np.isfinite(array).all():
            raise ValueError("it holds NaN or infinity")
        return np.asarray(array, dtype.newbyteorder("="), order="C")
