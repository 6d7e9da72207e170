"""Make mediapipe load on a machine without graphics libraries; part of `make env`. It does nothing where they exist.

mediapipe's shared library requires libEGL.so.1 and libGLESv2.so.2, although tracking on the CPU never calls them. Where
the system has neither, this script writes two libraries of the same names, whose functions all return 0, into the
folder of the environment that mediapipe searches first. The system is not changed. Tracking gives the same numbers
either way.
"""

from __future__ import annotations

import ctypes
import platform
import re
import struct
import sys
from importlib.util import find_spec
from pathlib import Path

NEEDED = {"libEGL.so.1": rb"egl[A-Z]\w*", "libGLESv2.so.2": rb"gl[A-Z]\w*"}
RETURN_ZERO = {"x86_64": (62, b"\x31\xc0\xc3"), "aarch64": (183, b"\x00\x00\x80\xd2\xc0\x03\x5f\xd6")}
"""ELF machine number and code of `return 0`."""
FOLDERS = ("CEGL", "CGLESv3")
"""Ends of the two folder names in mediapipe's search path that precede the system's."""


def shared_library(soname: str, functions: list[str], machine: str) -> bytes:
    """A little-endian ELF64 shared object named `soname` in which every one of `functions` returns 0."""
    number, code = RETURN_ZERO[machine]
    names = b"\0" + soname.encode() + b"\0"
    symbols = bytes(24)
    offsets = []
    for function in functions:
        offsets.append(len(names))
        names += function.encode() + b"\0"
    head = 64 + 3 * 56
    code_at = (head + 15) // 16 * 16
    strings_at = code_at + 16
    symbols_at = (strings_at + len(names) + 7) // 8 * 8
    for offset in offsets:
        symbols += struct.pack("<IBBHQQ", offset, 0x12, 0, 1, code_at, len(code))  # global function, default visibility
    hash_at = symbols_at + len(symbols)
    count = len(offsets) + 1
    chain = [0, *range(2, count), 0] if offsets else [0]
    table = struct.pack(f"<{3 + count}I", 1, count, min(1, len(offsets)), *chain)
    dynamic_at = (hash_at + len(table) + 7) // 8 * 8
    entries = [(14, 1), (4, hash_at), (5, strings_at), (6, symbols_at), (10, len(names)), (11, 24), (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    size = dynamic_at + len(dynamic)
    # One read-execute segment for everything but the dynamic section, which the loader relocates in place: read-write,
    # on a page of its own in memory.
    page = 0x10000
    segments = [
        (1, 5, 0, 0, dynamic_at, page),
        (1, 6, dynamic_at, dynamic_at + page, len(dynamic), page),
        (2, 6, dynamic_at, dynamic_at + page, len(dynamic), 8),
    ]
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 3, number, 1, 0, 64, 0, 0, 64, 56, len(segments), 64, 0, 0)
    for kind, flags, start, address, length, align in segments:
        elf += struct.pack("<IIQQQQQQ", kind, flags, start, address, address, length, length, align)
    image = bytearray(size)
    for start, part in ((0, elf), (code_at, code), (strings_at, names), (symbols_at, symbols), (hash_at, table)):
        image[start : start + len(part)] = part
    image[dynamic_at:] = dynamic
    return bytes(image)


def missing() -> list[str]:
    """Which of the needed libraries the system cannot load."""
    absent = []
    for soname in NEEDED:
        try:
            ctypes.CDLL(soname)
        except OSError:
            absent.append(soname)
    return absent


def main() -> int:
    """Write the stand-ins where they are needed; 1 and a line that says what to install where that cannot be done."""
    spec = find_spec("mediapipe")
    if spec is None or sys.platform != "linux" or not missing():
        return 0
    library = Path(spec.origin).parent / "tasks" / "c" / "libmediapipe.so"
    machine = platform.machine()
    content = library.read_bytes() if library.is_file() else b""
    searched = {Path(name.decode()).name for name in re.findall(rb"\$ORIGIN/[^:\0]*_solib[^:\0]*", content)}
    advice = "install the system packages libegl1 and libgles2 and run make env again"
    for soname, folder in zip(NEEDED, FOLDERS, strict=True):
        found = [name for name in searched if folder in name]
        if not found or machine not in RETURN_ZERO:
            print(f"{soname}: not on this machine and mediapipe needs it; {advice}", file=sys.stderr)
            return 1
        functions = sorted(set(re.findall(rb"(?<=\0)" + NEEDED[soname] + rb"(?=\0)", content)))
        target = library.parents[3].parent / "_solib_k8" / found[0] / soname
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(shared_library(soname, [f.decode() for f in functions], machine))
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        print(f"mediapipe cannot be loaded ({error}); {advice}", file=sys.stderr)
        return 1
    print("no graphics libraries on this machine: stand-ins for mediapipe were put into the environment")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
