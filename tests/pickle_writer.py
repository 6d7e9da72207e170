"""Pickles written step by step as Python 2 wrote FLAME's files, and damaged on purpose; chumpy is not needed."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np


@dataclass
class Chumpy:
    """An array inside an object of chumpy."""

    array: np.ndarray
    name: str = "chumpy.ch.Ch"


@dataclass
class Sparse:
    """A sparse matrix, as the arrays that it holds."""

    parts: dict


@dataclass
class Declared:
    """An array whose file declares another shape or type than its bytes have."""

    array: np.ndarray
    shape: tuple | None = None
    kind: str | None = None


def step_global(name: str) -> bytes:
    """Return the step that names a function or class."""
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def steps(value: object) -> bytes:
    """Return the steps that make a value, in protocol 2 with the text of Python 2."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value) if abs(value) < 2**31 else b"\x8a\x09" + value.to_bytes(9, "little")
    if isinstance(value, str):
        value = value.encode("latin1")
    if isinstance(value, bytes):
        return b"T" + struct.pack("<I", len(value)) + value
    if isinstance(value, tuple):
        return b"(" + b"".join(map(steps, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(steps, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(steps(part) for item in value.items() for part in item) + b"u"
    if isinstance(value, Chumpy):
        state = {"x": value.array, "_dirty_vars": set(), "_itr": None, "_depends_on_deps": {"r": {"value": None}}}
        return step_global(value.name) + b")\x81" + steps(state) + b"b"
    if isinstance(value, set):
        return step_global("__builtin__.set") + steps((list(value),)) + b"R"
    if isinstance(value, Sparse):
        parts = (step_global("scipy.sparse.csc.csc_matrix"), step_global("__builtin__.object"), b"N")
        return step_global("copy_reg._reconstructor") + b"(" + b"".join(parts) + b"tR" + steps(value.parts) + b"b"
    declared = value if isinstance(value, Declared) else Declared(value)
    array = declared.array
    kind, order = declared.kind or array.dtype.str[1:], array.dtype.str[0]
    made = step_global("numpy.core.multiarray._reconstruct") + b"(" + step_global("numpy.ndarray") + steps((0,))
    dtype = step_global("numpy.dtype") + steps((kind, 0, 1)) + b"R"
    dtype += steps((3, order, None, None, None, -1, -1, 0)) + b"b"
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    shape = array.shape if declared.shape is None else declared.shape
    content = steps(1) + steps(shape) + dtype + steps(fortran) + steps(array.tobytes("F" if fortran else "C"))
    return made + steps("b") + b"tR(" + content + b"tb"


def python2(value: object) -> bytes:
    """Return a whole pickle."""
    return b"\x80\x02" + steps(value) + b"."
