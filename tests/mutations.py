"""Damages files in many ways, and reads them in a separate process that may die.

A mutation is (label, change): `change(path)` does something to a whole file. `watched` reads each mutated file in a
forked process under limits of time and memory and says how it went: one of `GOOD` or of `BAD`.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import resource
import select
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raflib.errors import RafError

GOOD = ("named", "right", "unsealed")
BAD = ("raw", "unnamed", "time", "memory", "wrong", "died")
SECONDS, BYTES = 5.0, 400 * 2**20
"""Memory that reading one file may use beyond that of its process."""
BUILT = "well-formed, "
"""First part of the labels of mutations that are complete files of the format."""
AGAIN = "made again"
Change = Callable[[Path], None]


@dataclass(frozen=True)
class Kind:
    """A kind of file that the project reads.

    `make(folder)` writes a good one (and what lies beside it) and returns its path; `read(path)` returns its content
    as a string that changes with it, or `AGAIN` where it would be made again. `sealed` says what a checksum
    covers: the content ("all"), the file's bytes ("bytes"; another well-formed file cannot be told from the right one)
    or "nothing".
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    sealed: str = "all"


def of_bytes(good: bytes, others: dict[str, bytes], draw: np.random.Generator) -> Iterator[tuple[str, Change]]:
    """Yield mutations of any file without end, rarer ones first; `others` are good files of other kinds, by suffix."""
    size = len(good)

    def placed(content: bytes) -> Change:
        return lambda path: path.write_bytes(content)

    yield "empty", placed(b"")
    yield "directory", _directory
    yield "pipe", _pipe
    yield "link to itself", lambda path: _link(path, path)
    yield "link to /dev/zero", lambda path: _link(path, Path("/dev/zero"))
    yield "link to a good one", _linked
    yield "missing", lambda path: path.unlink()
    yield "appended", placed(good + draw.bytes(100))
    yield "twice", placed(good + good)
    yield "noise", placed(draw.bytes(min(size, 10_000)))
    yield "zeros", placed(bytes(min(size, 10_000)))
    yield "gzip", placed(gzip.compress(good[:10_000]))
    yield "pickle", placed(pickle.dumps({"a": np.arange(3)}))
    yield "text", placed("Grüße, none of yours\n".encode() * 20)
    yield "html", placed(b"<!DOCTYPE html><html><body>404 Not Found</body></html>")
    for suffix, other in others.items():
        if other != good:
            yield f"a good {suffix}", placed(other)
    while True:
        place, length = int(draw.integers(size)), int(draw.integers(1, max(2, min(size, 2000))))
        flipped = bytearray(good)
        for bit in draw.integers(8 * size, size=int(draw.choice([1, 1, 1, 8, 64]))).tolist():
            flipped[bit // 8] ^= 1 << bit % 8
        yield "flipped bits", placed(bytes(flipped))
        early = bytearray(good)  # headers are small: places near either end
        near = int(draw.integers(min(size, 300)))
        early[near if draw.random() < 0.5 else size - 1 - near] = int(draw.integers(256))
        yield "changed byte of a header", placed(bytes(early))
        yield "cut short", placed(good[:place])
        yield "zeroed block", placed(good[:place] + bytes(len(good[place : place + length])) + good[place + length :])
        yield "doubled block", placed(good[: place + length] + good[place:])
        yield "inserted bytes", placed(good[:place] + draw.bytes(length % 64 + 1) + good[place:])
        yield "missing block", placed(good[:place] + good[place + length :])


def of_npz(good: bytes, draw: np.random.Generator) -> Iterator[tuple[str, Change]]:
    """Well-formed .npz files of other content."""
    with np.load(io.BytesIO(good)) as file:
        arrays = dict(file)
    for name, value in arrays.items():
        for label, other in _other_arrays(value):
            yield f"{name}: {label}", _saved({**arrays, name: other})
        yield f"{name}: missing", _saved({key: kept for key, kept in arrays.items() if key != name})
        lying = {"descr": value.dtype.str, "fortran_order": False, "shape": (2**40, *value.shape[1:])}
        yield f"{name}: declares 2^40", _lying(arrays, name, lying, np.ascontiguousarray(value).tobytes())
        yield f"{name}: declares nonsense", _lying(arrays, name, {**lying, "shape": (-1,)}, b"")
    name = max(arrays, key=lambda key: arrays[key].nbytes)
    rest = arrays[name].shape[1:]
    long = {"descr": "<f8", "fortran_order": False, "shape": (int(1.2 * BYTES / 8 / np.prod(rest)), *rest)}
    yield f"{name}: bomb", _lying(arrays, name, long, None)
    yield "another array beside", _saved({**arrays, "more": np.arange(3)})
    yield "only another array", _saved({"more": np.arange(3)})
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"method {method}", _lying(arrays, None, None, None, method)


def of_npy(good: bytes, draw: np.random.Generator) -> Iterator[tuple[str, Change]]:
    """Well-formed .npy files of other content."""
    value = np.load(io.BytesIO(good))
    for label, other in _other_arrays(value):
        yield label, lambda path, other=other: path.write_bytes(_npy(other))
    for shape in ((2**40, *value.shape[1:]), (-1, *value.shape[1:]), (value.size,), ()):
        head = _header({"descr": value.dtype.str, "fortran_order": False, "shape": shape})
        yield f"declares {shape}", lambda path, head=head: path.write_bytes(head + value.tobytes())


def of_json(good: bytes, draw: np.random.Generator) -> Iterator[tuple[str, Change]]:
    """Well-formed JSON of other content, and JSON beyond bounds."""

    def placed(value: object) -> Change:
        return lambda path: path.write_text(value if isinstance(value, str) else json.dumps(value))

    told = json.loads(good)
    deep = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"
    texts = ("[]", "null", '"x"', "3", "{}", deep, deep[:50_000], '{"a": ' + "9" * 10_000 + "}", '{"a": 1e999}')
    for text in texts:
        yield f"other JSON {text[:12]}", placed(text)
    yield "byte order mark", lambda path: path.write_bytes(b"\xef\xbb\xbf" + good)
    yield "not UTF-8", lambda path: path.write_bytes(good.replace(b'"', b'"\xff', 1))
    yield "huge", lambda path: path.write_bytes(good.rstrip()[:-1] + b" " * 2**27 + b"}")
    for key in list(told)[:12] if isinstance(told, dict) else []:
        for other in (None, -1, "../../x", [], {}, float("nan"), 10**30, "x" * 5000, True):
            yield f"{key} = {str(other)[:9]}", placed({**told, key: other})
        yield f"{key} missing", placed({name: value for name, value in told.items() if name != key})
        yield f"{key} twice", placed(json.dumps(told)[:-1] + f', "{key}": 1}}')


def of_csv(good: bytes, draw: np.random.Generator) -> Iterator[tuple[str, Change]]:
    """Tables of other content."""
    head, *rows = good.decode().splitlines()
    first = head.split(",")[0]
    for label, text in {
        "no rows": head, "no head": "\n".join(rows), "a column twice": f"{first},{good.decode()}",
        "ragged": good.decode() + "1,2\n", "quote": good.decode() + '"', "infinite": good.decode().replace("0", "inf"),
        "null byte": good.decode() + "\0", "long cell": good.decode() + "9" * 200_000, "column gone": good.decode()[1:],
        "words": good.decode().replace(rows[0].split(",")[-1], "word") if rows else "", "formula": head + "\n=1+1,",
    }.items():  # fmt: skip
        yield label, lambda path, text=text: path.write_text(text)


STRUCTURED = {".npz": of_npz, ".npy": of_npy, ".json": of_json, ".csv": of_csv}


def mutations(kind: Kind, path: Path, others: dict[str, bytes], count: int, seed: int) -> list[tuple[str, Change]]:
    """`count` mutations of a kind's good file: a third of them well-formed files of other content, if there are any."""
    good, draw = path.read_bytes(), np.random.default_rng([seed, *kind.name.encode()])
    make = STRUCTURED.get(path.suffix)
    built = [(f"{BUILT}{label}", change) for label, change in make(good, draw)] if make else []
    chosen = [built[i] for i in sorted(draw.permutation(len(built))[: -(-count // 2)])]
    bytewise = of_bytes(good, others, draw)
    return [*chosen, *(next(bytewise) for _ in range(count - len(chosen)))]


def watched(kind: Kind, path: Path, chosen: list[tuple[str, Change]]) -> list[tuple[str, str, str]]:
    """(outcome, label, words) of reading each mutation of the file at `path`, which is as before afterwards."""
    good, found = path.read_bytes(), []
    while len(found) < len(chosen):
        found += _in_a_child(kind, path, good, chosen[len(found) :])
    _restore(path, good)
    return found


def _in_a_child(kind: Kind, path: Path, good: bytes, chosen: list[tuple[str, Change]]) -> list[tuple[str, str, str]]:
    """Outcomes until all are done, or the child died or was killed over one."""
    inner, outer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inner)
        with os.fdopen(outer, "wb") as out:
            _read_all(kind, path, good, chosen, out)
        os._exit(0)
    os.close(outer)
    found = []
    with os.fdopen(inner, "rb") as stream:
        while len(found) < len(chosen):
            ready = select.select([stream], [], [], 3 * SECONDS)[0]
            line = stream.readline() if ready else b""
            if not line:
                os.kill(child, signal.SIGKILL)
                words = "its process died" if ready else f"not done after {3 * SECONDS:.0f} s"
                found.append(("died" if ready else "time", chosen[len(found)][0], words))
                break
            found.append(tuple(json.loads(line)))
    os.waitpid(child, 0)
    return found


def _read_all(kind: Kind, path: Path, good: bytes, chosen: list[tuple[str, Change]], out) -> None:
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 4 * BYTES, mapped + 4 * BYTES))
    _restore(path, good)
    right = kind.read(path)
    for label, change in chosen:
        _restore(path, good)
        change(path)
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        outcome, words = _outcome(kind, path, right, label)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if time.monotonic() - start > SECONDS:
            outcome, words = "time", f"{time.monotonic() - start:.0f} s, {outcome}: {words}"
        elif grown > BYTES:
            outcome, words = "memory", f"{grown >> 20} MiB, {outcome}: {words}"
        out.write(json.dumps([outcome, label, words[:300]]).encode() + b"\n")
        out.flush()


def _outcome(kind: Kind, path: Path, right: object, label: str) -> tuple[str, str]:
    try:
        found = kind.read(path)
    except RafError as error:
        words = str(error)
        return ("named" if str(path) in words or words.startswith(str(path.parent)) else "unnamed"), words
    except BaseException as error:
        return "raw", f"{type(error).__name__}: {error}"
    if found in (right, AGAIN):
        return "right", ""
    well_formed = label.startswith(BUILT)
    known = kind.sealed == "all" or (kind.sealed == "bytes" and not well_formed)
    return ("wrong" if known else "unsealed"), "another content was accepted"


def _restore(path: Path, good: bytes) -> None:
    if path.is_symlink() or path.is_fifo():
        path.unlink()
    elif path.is_dir():
        path.rmdir()
    for left in path.parent.glob("good-one-*"):
        left.unlink()
    path.write_bytes(good)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def _linked(path: Path) -> None:
    other = path.with_name(f"good-one-{path.name}")
    path.rename(other)
    path.symlink_to(other)


def _other_arrays(value: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays that are not quite `value`."""
    yield "objects", np.array({"a": 1}, dtype=object)
    yield "bytes", np.array(b"bytes")
    yield "one dimension more", value[None]
    yield "complex", np.zeros(value.shape, complex)
    yield "text", np.full(value.shape, "text")
    yield "structured", np.zeros(value.shape, [("a", "<f4")])
    if value.dtype.kind in "fiu":
        yield "text of numbers", value.astype(str)
        yield "negated", -value.astype(float) - 1
    if value.dtype.kind == "f":
        for wrong in (np.nan, np.inf):
            other = value.copy()
            other.flat[:1] = wrong
            yield str(wrong), other
    elif value.dtype.kind in "iu":
        yield "beyond", np.full(value.shape, np.iinfo(value.dtype).max, value.dtype)
    elif value.dtype.kind == "U":
        yield "numbers", np.zeros(value.shape)
    if value.ndim:
        yield "flat", value.ravel()
        yield "empty", value[:0]
        yield "a row less", value[:-1]


def _saved(arrays: dict[str, np.ndarray]) -> Change:
    return lambda path: np.savez_compressed(path, **arrays)


def _npy(value: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, value)
    return stream.getvalue()


def _header(declared: dict) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, declared)
    return stream.getvalue()


def _lying(arrays: dict, name: str | None, declared: dict | None, content: bytes | None, method: int = 8) -> Change:
    """An .npz whose array `name` declares something else; without `content` it is as many zeros as declared."""

    def change(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method, compresslevel=1 if method == 8 else None) as file:
            for key, value in arrays.items():
                if key != name:
                    file.writestr(f"{key}.npy", _npy(value))
            if name is None:
                return
            with file.open(f"{name}.npy", "w", force_zip64=True) as stream:
                stream.write(_header(declared))
                if content is not None:
                    stream.write(content)
                    return
                left = int(np.prod(declared["shape"])) * 8
                while left:
                    left -= stream.write(bytes(min(left, 2**22)))

    return change
