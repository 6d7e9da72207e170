"""Arrays from pickled dictionaries, without unpickling: nothing that the file names is imported or called.

A pickle is a program, and Python's own reader calls every function that it names. This reader follows the program's
steps itself. Numbers, text and containers become what they are. The functions and classes by which arrays, scipy's
sparse matrices and chumpy's arrays are written become records of their name and contents. Any other function or class
is refused by its name.

    arrays = read_pickle(path, {"mean": Array("f", "V 3")}, "face model", "download it again")
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from raflib.reading.arrays import Array, check_shapes
from raflib.reading.files import damage_named, read_bytes

MOST_BYTES = 2**28
MOST_STEPS = 10_000
"""Most steps of a program; files of models have hundreds, so a longer one is no dictionary of a few arrays."""
ARRAY, DTYPE, CHUMPY, SPARSE = "numpy.ndarray", "numpy.dtype", "chumpy.ch.Ch", "scipy.sparse.csc_matrix"
RECONSTRUCT, BUFFER, SCALAR = "numpy reconstruct", "numpy frombuffer", "numpy scalar"
OBJECT, SET, ENCODE, COPY = "object", "set", "encode", "copyreg reconstructor"
GLOBALS = {
    "numpy.core.multiarray._reconstruct": RECONSTRUCT, "numpy._core.multiarray._reconstruct": RECONSTRUCT,
    "numpy.core.numeric._frombuffer": BUFFER, "numpy._core.numeric._frombuffer": BUFFER,
    "numpy.core.multiarray.scalar": SCALAR, "numpy._core.multiarray.scalar": SCALAR,
    "numpy.ndarray": ARRAY, "numpy.dtype": DTYPE, "chumpy.ch.Ch": CHUMPY, "_codecs.encode": ENCODE,
    "scipy.sparse.csc.csc_matrix": SPARSE, "scipy.sparse._csc.csc_matrix": SPARSE,
    "__builtin__.object": OBJECT, "builtins.object": OBJECT, "__builtin__.set": SET, "builtins.set": SET,
    "copy_reg._reconstructor": COPY, "copyreg._reconstructor": COPY,
}  # fmt: skip
"""What a file may name, in Python 2 and 3 and in older and newer versions of its packages."""
PUSHED = {
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
"""Steps that put their own argument on the stack."""
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
NUMBERS = re.compile(r"f[248]|[iu][1248]")


@dataclass(frozen=True, eq=False)
class _Name:
    """A function or class that the file names; it is one of the values of `GLOBALS`."""

    name: str


@dataclass(eq=False)
class _Record:
    """What the file would make by calling `kind` with `parts`, and the `state` that it would then set."""

    kind: str
    parts: tuple = ()
    state: object = None


def read_pickle(
    path: str | Path, wanted: Mapping[str, Array], what: str, remedy: str, most: int = MOST_BYTES
) -> dict[str, np.ndarray]:
    """The arrays `wanted` of a pickled dictionary, by name, in the machine's byte order; other entries are ignored.

    An array is numpy's, or chumpy's around one. Types, shapes and sizes that the file declares are compared with
    `wanted` and with the bytes that it holds before an array is made. Raises RafError naming the file when it is
    missing, damaged, larger than `most` bytes, names another function or class than those of `GLOBALS`, or is not what
    is wanted. `what` and `remedy` are the words of errors, as in `read_arrays`.
    """
    data = read_bytes(path, what, remedy, most)
    with damage_named(path, what, remedy):
        content = _followed(data)
        if not isinstance(content, dict):
            raise ValueError("it holds no dictionary")
        found = {name: _array(name, content[name], array) for name, array in wanted.items() if name in content}
        if missing := [name for name, array in wanted.items() if not array.optional and name not in found]:
            raise ValueError(f"{', '.join(missing)} missing")
        check_shapes({name: array.shape for name, array in found.items()}, wanted)
        return found


def _followed(data: bytes) -> object:
    """What the program in `data` leaves on its stack; ValueError for steps that are not allowed or do not fit."""
    machine = _Machine()
    try:
        for number, (step, argument, _) in enumerate(pickletools.genops(data)):
            if number >= MOST_STEPS:
                raise ValueError(f"it takes more than {MOST_STEPS} steps")
            if step.name == "STOP":
                return machine.pop()
            machine.follow(step.name, argument)
    except (IndexError, KeyError, TypeError, AttributeError):
        raise ValueError("its steps do not fit together") from None
    raise EOFError("it is cut short")


class _Machine:
    """The stack of a pickle's program, the stacks below its open marks, and what it stored by number."""

    def __init__(self) -> None:
        self.stack: list = []
        self.below: list[list] = []
        self.stored: dict[int, object] = {}

    def put(self, value: object) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> object:
        """Take the last value."""
        return self.stack.pop()

    def marked(self) -> list:
        """Take all values since the last mark, and the mark."""
        values, self.stack = self.stack, self.below.pop()
        return values

    def last(self, count: int) -> tuple:
        """Take the last `count` values, in the order in which they came."""
        if len(self.stack) < count:
            raise IndexError
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        return values

    def follow(self, step: str, argument: Any) -> None:
        """Follow one step; ValueError for one that is not allowed."""
        if step in PUSHED:
            self.put(CONSTANTS.get(step, argument))
            return
        match step:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "POP":
                self.pop()
            case "EMPTY_LIST":
                self.put([])
            case "EMPTY_DICT":
                self.put({})
            case "EMPTY_TUPLE":
                self.put(())
            case "EMPTY_SET":
                self.put(_Record(SET))
            case "LIST" | "TUPLE" | "DICT":
                values = self.marked()
                self.put(values if step == "LIST" else tuple(values) if step == "TUPLE" else _set_items({}, values))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.put(self.last(int(step[-1])))
            case "APPEND" | "APPENDS" | "ADDITEMS":
                added = [self.pop()] if step == "APPEND" else self.marked()
                if isinstance(self.stack[-1], list):
                    self.stack[-1].extend(added)
                elif step != "ADDITEMS" or not isinstance(self.stack[-1], _Record):  # sets are never looked at
                    raise TypeError
            case "SETITEM" | "SETITEMS":
                items = list(self.last(2)) if step == "SETITEM" else self.marked()
                _set_items(self.stack[-1], items)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.stored[argument] = self.stack[-1]
            case "MEMOIZE":
                self.stored[len(self.stored)] = self.stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self.put(self.stored[argument])
            case "GLOBAL":
                self.put(_named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                self.put(_named(*self.last(2)))
            case "REDUCE" | "NEWOBJ":
                self.put(_called(*self.last(2)))
            case "BUILD":
                state = self.pop()
                made = self.stack[-1]
                if not isinstance(made, _Record) or made.state is not None:
                    raise TypeError
                made.state = state
            case _:
                raise ValueError(f"it has a step {step}, which no dictionary of arrays needs")


def _set_items(items: object, values: list) -> dict:
    """`items`, a dictionary, with the keys and values that follow each other in `values`."""
    if not isinstance(items, dict) or len(values) % 2:
        raise TypeError
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not isinstance(key, (str, bytes, int, float, type(None))):
            raise ValueError(f"a dictionary has a key of type {type(key).__name__}, expected text")
        items[key] = value
    return items


def _named(module: object, name: object) -> _Name:
    """The record of a function or class; ValueError naming it unless it is one of `GLOBALS`."""
    whole = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "something without a name"
    if whole not in GLOBALS:
        raise ValueError(f"it asks for {whole[:200]}, which is no part of an array; nothing of it was run")
    return _Name(GLOBALS[whole])


def _called(function: object, parts: object) -> object:
    """The record of a call; the only result that is worked out is text as bytes."""
    if not isinstance(function, _Name) or not isinstance(parts, tuple):
        raise TypeError
    kind = function.name
    if kind == ENCODE:
        text, encoding = parts
        if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
            raise ValueError(f"bytes are written as {encoding!r:.40}, expected latin1")
        return text.encode("latin1")
    if kind in (COPY, RECONSTRUCT):  # both name the class of what they make
        kind = parts[0].name
        if kind not in ((ARRAY,) if function.name == RECONSTRUCT else (CHUMPY, SPARSE)):
            raise TypeError
        return _Record(kind)
    if kind in (BUFFER, DTYPE, SCALAR, SET, CHUMPY, SPARSE):
        return _Record(kind, parts)
    raise TypeError


def _array(name: str, value: Any, wanted: Array) -> np.ndarray:
    """The array that a record stands for; ValueError naming it where it is none, or not what is wanted."""
    shape, kind, fortran, data = _declared(name, value)
    dtype = _dtype(name, kind)
    if dtype.kind not in wanted.kinds:
        raise ValueError(f"{name} is of type {dtype}, expected one of kind {' or '.join(wanted.kinds)}")
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 8:
        raise ValueError(f"{name} has no shape")
    if isinstance(data, str):  # text of Python 2, whose letters are bytes
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)) or len(data) != math.prod(shape) * dtype.itemsize:
        size = f"{len(data)} bytes" if isinstance(data, (bytes, bytearray)) else f"a {type(data).__name__}"
        raise ValueError(f"{name} takes {size}, which is not {dtype} {list(shape)}")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    if dtype.kind == "f" and wanted.finite and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return np.asarray(array, dtype.newbyteorder("="), order="C")


def _declared(name: str, value: Any) -> tuple[Any, Any, Any, Any]:
    """(shape, type, whether columns come first, bytes) as the file declares them, all unchecked."""
    if isinstance(value, _Record) and value.kind == CHUMPY and isinstance(value.state, dict):
        value = value.state.get("x")
    if isinstance(value, _Record) and value.kind == ARRAY and isinstance(value.state, tuple) and len(value.state) == 5:
        return value.state[1:]
    if isinstance(value, _Record) and value.kind == BUFFER and len(value.parts) == 4:
        data, kind, shape, order = value.parts
        return shape, kind, order == "F", data
    kind = value.kind if isinstance(value, _Record) else type(value).__name__
    raise ValueError(f"{name} is {kind}, expected an array")


def _dtype(name: str, value: Any) -> np.dtype:
    """A type of numbers; ValueError for objects, text, structures and what is no type."""
    if not isinstance(value, _Record) or value.kind != DTYPE or not value.parts:
        raise ValueError(f"{name} has no type")
    text = value.parts[0]
    if not isinstance(text, str) or not NUMBERS.fullmatch(text):
        kind = "object" if isinstance(text, str) and text.startswith("O") else f"{text!r:.40}"
        raise ValueError(f"{name} is of type {kind}, expected numbers")
    orders: dict[Any, Literal["<", ">", "="]] = {"<": "<", ">": ">", "|": "=", "=": "="}
    order = value.state[1] if isinstance(value.state, tuple) and len(value.state) > 1 else "="
    if not isinstance(order, str) or order not in orders:
        raise ValueError(f"{name} has the byte order {order!r:.40}, expected < or >")
    return np.dtype(text).newbyteorder(orders[order])
