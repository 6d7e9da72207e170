"""Arrays from .npz files: what the file declares is checked before anything is unpacked.

Only plain and deflated members of the zip format are opened, and only arrays of numbers, booleans and text.
`pack_arrays` writes files that can be read so.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raflib.reading.files import MOST_BYTES, allowed_bytes, checked_file, damage_named

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Array:
    """Required type and shape of an array in a file.

    `kinds` are numpy's letters of its type: "f" float, "i" signed and "u" unsigned integers, "b" booleans, "U" text.
    `shape` names or numbers its dimensions, as in "N 3"; "" is a single value, and one name means one length in the
    whole file. None takes any shape. `finite` refuses NaN and infinity. `optional` arrays may be missing.
    """

    kinds: str
    shape: str | None
    finite: bool = True
    optional: bool = False


@dataclass(frozen=True)
class _Member:
    """An array in the zip file: what was asked for, and what its header declares."""

    name: str
    info: zipfile.ZipInfo
    wanted: Array
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool
    offset: int


def read_arrays(
    path: str | Path, wanted: Mapping[str, Array], what: str, remedy: str, most: int = MOST_BYTES
) -> dict[str, np.ndarray]:
    """The arrays `wanted` of an .npz, by name; others in the file are left packed.

    A name that ends in "*" stands for all arrays whose names begin so, if any. Types, shapes and sizes are read from
    the arrays' headers and checked, against each other and the file's length, before anything is unpacked; checksums of
    the zip format are compared. `what` and `remedy` are the words of errors: "…: damaged <what> (…); <remedy>".
    Raises RafError naming the file when it is missing, damaged, larger than `most` bytes (packed or unpacked), or not
    what is wanted.
    """
    path = checked_file(path, what, remedy, most)
    with damage_named(path, what, remedy), zipfile.ZipFile(path) as file:
        infos = _named(file, wanted)
        needed = [name for name, array in wanted.items() if not array.optional and not name.endswith("*")]
        if missing := [name for name in needed if name not in infos]:
            raise ValueError(f"{', '.join(missing)} missing")
        members = [_member(file, name, info, array) for name, (info, array) in infos.items()]
        check_shapes({m.name: m.shape for m in members}, {m.name: m.wanted for m in members})
        total, packed = sum(member.info.file_size for member in members), path.stat().st_size
        if total > allowed_bytes(packed, most):
            raise ValueError(f"its {packed} bytes would unpack to {total}")
        return {member.name: _unpacked(file, member) for member in members}


def pack_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> int:
    """Write a compressed .npz without pickle; returns the bytes of the file or of its content, whichever are more.

    Content that is too large for its packed file would be refused as made to harm (`allowed_bytes`). Arrays are then
    stored as they are, first those that add the least to the file, until it would not. `raflib.runs.write_arrays` does
    the same atomically.
    """
    _pack(path, arrays)
    with zipfile.ZipFile(path) as file:
        infos = sorted(file.infolist(), key=lambda info: info.file_size - info.compress_size)
    content, packed, stored = sum(info.file_size for info in infos), path.stat().st_size, set()
    for info in infos:
        if content <= allowed_bytes(packed, content):
            break
        packed += info.file_size - info.compress_size
        stored.add(info.filename)
    if stored:
        _pack(path, arrays, stored)
    return max(content, path.stat().st_size)


def _pack(path: Path, arrays: Mapping[str, np.ndarray], stored: Collection[str] = ()) -> None:
    """Write an .npz, byte by byte as numpy does, with the members `stored` as they are and the others deflated."""
    with zipfile.ZipFile(path, "w") as file:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = zipfile.ZIP_STORED if info.filename in stored else zipfile.ZIP_DEFLATED
            with file.open(info, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)


def seal_of(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, types, shapes and numbers of arrays, to be kept beside them."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype.newbyteorder('=').str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _array(name: str, wanted: Mapping[str, Array]) -> Array | None:
    """The required type and shape of the array `name`."""
    fits = (array for key, array in wanted.items() if key.endswith("*") and name.startswith(key[:-1]))
    return wanted[name] if name in wanted else next(fits, None)


def _named(file: zipfile.ZipFile, wanted: Mapping[str, Array]) -> dict[str, tuple[zipfile.ZipInfo, Array]]:
    """The wanted zip members by the arrays' names, each with what is required of it."""
    found: dict[str, tuple[zipfile.ZipInfo, Array]] = {}
    for info in file.infolist():
        name = info.filename.removesuffix(".npy")
        with file.open(info):  # compares the name's two copies: a changed one must not pass for another array's
            pass
        if (array := _array(name, wanted)) is None:
            continue
        if name in found:
            raise ValueError(f"{name} is in it twice")
        if info.compress_type not in METHODS or info.flag_bits & 1:
            raise ValueError(f"{name} is encrypted or packed by another method than deflate")
        found[name] = info, array
    return found


def _member(file: zipfile.ZipFile, name: str, info: zipfile.ZipInfo, wanted: Array) -> _Member:
    """The type, shape and size in the header of one array; ValueError unless they are as required."""
    with file.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} is of .npy version {version}, expected 1 or 2")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        offset = stream.tell()
    if dtype.kind not in wanted.kinds or (dtype.kind != "U" and dtype.itemsize > 8):
        raise ValueError(f"{name} is of type {dtype}, expected one of kind {' or '.join(wanted.kinds)}")
    if min(shape, default=0) < 0 or info.file_size != offset + math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} takes {info.file_size} bytes, which is not {dtype} {list(shape)}")
    return _Member(name, info, wanted, dtype, shape, fortran, offset)


def check_shapes(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, Array]) -> None:
    """ValueError unless every array has the shape that is wanted, a name of a dimension being one length in all.

    `shapes` and `wanted` have the arrays' names.
    """
    lengths: dict[str, int] = {}
    for name, shape in shapes.items():
        expected = wanted[name].shape
        if expected is None:
            continue
        parts = expected.split()
        fits = len(parts) == len(shape) and all(
            size == (int(part) if part.isdigit() else lengths.setdefault(part, size))
            for part, size in zip(parts, shape, strict=True)
        )
        if not fits:
            words = ", ".join(f"{part} = {lengths[part]}" if part in lengths else part for part in parts)
            raise ValueError(f"{name} has shape {list(shape)}, expected [{words}]")


def _unpacked(file: zipfile.ZipFile, member: _Member) -> np.ndarray:
    """One array, in the machine's byte order; ValueError where it holds what its type does not allow."""
    content, done = bytearray(member.info.file_size - member.offset), 0
    with file.open(member.info) as stream:
        assert isinstance(stream, zipfile.ZipExtFile)  # declared as IO, which has no `readinto`
        stream.read(member.offset)
        while count := stream.readinto(memoryview(content)[done:]):
            done += count
        if done < len(content) or stream.read(1):  # the last read compares the checksum
            raise EOFError(f"{member.name} is not as long as it declares")
    array = np.frombuffer(content, member.dtype).reshape(member.shape, order="F" if member.fortran else "C")
    kind, name = member.dtype.kind, member.name
    if kind == "f" and member.wanted.finite and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    if kind == "b" and (np.frombuffer(content, np.uint8) > 1).any():
        raise ValueError(f"{name} holds bytes that are neither true nor false")
    if kind == "U":
        codes = np.frombuffer(content, np.dtype(np.uint32).newbyteorder(member.dtype.byteorder))
        if (codes > 0x10FFFF).any() or ((codes >= 0xD800) & (codes <= 0xDFFF)).any():
            raise ValueError(f"{name} holds numbers that stand for no letter")
    return np.asarray(array, member.dtype.newbyteorder("="), order="C")
