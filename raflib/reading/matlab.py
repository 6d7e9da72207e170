"""Arrays of numbers from MATLAB files of version 5 to 7.2, sizes checked first.

This reader covers the small part of the format that is needed, because scipy's ends the process on some damaged files.
The format has no checksum over what it holds, unless it is compressed: a changed digit is another digit.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from raflib.reading.files import allowed_bytes, checked_file, damage_named

MOST_BYTES = 2**31
MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""How numbers are stored: types of the format, and numpy's."""
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""MATLAB's classes of numbers; the others are cells, structures, objects, text, sparse arrays and functions."""
COMPLEX = 0x0800
CHUNK = 2**20


@dataclass(frozen=True)
class _Matrix:
    """One array of a file: its class, what follows its name, and whether it has an imaginary part."""

    name: str
    kind: int
    imaginary: bool
    shape: tuple[int, ...]
    rest: bytes


def read_matlab(
    path: str | Path, names: Sequence[str], what: str, remedy: str, most: int = MOST_BYTES
) -> dict[str, np.ndarray]:
    """The arrays `names` that a .mat file of version 5 to 7.2 holds, at least one of them.

    Raises RafError naming the file when it is missing, larger than `most` bytes (packed or unpacked), damaged, of
    another version, holds none of them, or where one is no finite array of real numbers.
    """
    path = checked_file(path, what, remedy, most)
    with damage_named(path, what, remedy), open(path, "rb") as stream:
        header = stream.read(128)
        if header[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
            raise ValueError("not a MATLAB file of version 5 to 7.2")
        order = "<" if header[126:128] == b"IM" else ">"
        arrays, others = {}, []
        for content in _contents(stream, order, allowed_bytes(path.stat().st_size, most)):
            matrix = _matrix(content, order)
            if matrix.name not in names:
                others.append(matrix.name)
            elif matrix.name in arrays:
                raise ValueError(f"{matrix.name} is in it twice")
            else:
                arrays[matrix.name] = _numbers(matrix, order)
        if not arrays:
            raise ValueError(f"it holds {', '.join(others[:8]) or 'nothing'}")
        return arrays


def _contents(stream: BinaryIO, order: str, most: int) -> Iterator[bytes]:
    """Bytes of each array of the file, unpacked; ValueError beyond `most` bytes in total."""
    total = 0
    while head := stream.read(8):
        kind, length = struct.unpack(f"{order}II", head)
        if kind not in (MATRIX, COMPRESSED):
            raise ValueError(f"a part of type {kind}, expected arrays")
        content = stream.read(length) if kind == MATRIX else _unpacked(stream, length, order, most - total)
        if kind == MATRIX and len(content) < length:
            raise EOFError("it is cut short")
        total += len(content)
        if total > most:
            raise ValueError(f"it would unpack to more than {most} bytes")
        yield content


def _unpacked(stream: BinaryIO, length: int, order: str, most: int) -> bytes:
    """The array inside a compressed part."""
    reader, parts, total = zlib.decompressobj(), [], 0
    while length and not reader.eof:
        data = stream.read(min(CHUNK, length))
        if not data:
            raise EOFError("it is cut short")
        length -= len(data)
        while data and not reader.eof:
            parts.append(reader.decompress(data, CHUNK))
            data, total = reader.unconsumed_tail, total + len(parts[-1])
            if total > most:
                raise ValueError(f"it would unpack to more than {most} bytes")
    content = b"".join(parts)
    if length or not reader.eof or len(content) < 8:
        raise EOFError("a compressed array is not whole")
    kind, inside = struct.unpack(f"{order}II", content[:8])
    if kind != MATRIX or inside != len(content) - 8:
        raise ValueError("a compressed part is no array")
    return content[8:]


def _element(content: bytes, start: int, order: str) -> tuple[int, bytes, int]:
    """(type, bytes, where the next one starts) of one element of an array; short ones share their head."""
    word, length = struct.unpack_from(f"{order}II", content, start)
    if word >> 16:
        kind, length, data = word & 0xFFFF, word >> 16, content[start + 4 : start + 8]
        end = start + 8
    else:
        kind, data = word, content[start + 8 : start + 8 + length]
        end = start + 8 + (length + 7) // 8 * 8
    if length > len(data):
        raise EOFError("an array is longer than its part of the file")
    return kind, data[:length], end


def _matrix(content: bytes, order: str) -> _Matrix:
    flags, place = _element(content, 0, order)[1:]
    kind, sizes, place = _element(content, place, order)
    name, place = _element(content, place, order)[1:]
    word = struct.unpack(f"{order}II", flags)[0]
    if kind != 5 or not 8 <= len(sizes) <= 256:
        raise ValueError("an array without sizes")
    shape = tuple(np.frombuffer(sizes, f"{order}i4").tolist())
    return _Matrix(name.decode("ascii"), word & 0xFF, bool(word & COMPLEX), shape, content[place:])


def _numbers(matrix: _Matrix, order: str) -> np.ndarray:
    """The array itself, in its class's type."""
    if matrix.kind not in CLASSES or matrix.imaginary:
        raise ValueError(f"{matrix.name} is of class {matrix.kind}, expected an array of real numbers")
    kind, data, _ = _element(matrix.rest, 0, order)
    if kind not in STORED:
        raise ValueError(f"{matrix.name} is stored as type {kind}, expected numbers")
    values = np.frombuffer(data, f"{order}{STORED[kind]}")
    if min(matrix.shape) < 0 or math.prod(matrix.shape) != len(values):
        raise ValueError(f"{matrix.name} has {len(values)} numbers, its sizes are {list(matrix.shape)}")
    if not np.isfinite(values).all():
        raise ValueError(f"{matrix.name} holds NaN or infinity")
    return values.reshape(matrix.shape, order="F").astype(CLASSES[matrix.kind])
