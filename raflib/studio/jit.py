"""`njit` as the studio uses it: fast single-precision code, kept on disk until any file of the studio changes.

numba's own cache notices a change of the file that a function stands in, and not of the files whose functions and
constants it uses. Here each kept function carries a hash of all of the studio's sources.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from raflib.render import compiled

STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


def njit(function: Callable | None = None, *, inline: bool = False, allocates: bool = False) -> Callable:
    """Decorator: compile on first call and keep on disk; the global lock is released; `inline` copies into callers.

    A function that makes arrays must say so by `allocates`. In all others numba counts no references: for arrays inside
    named tuples, counting costs a third of the shading time.
    """
    options = {"nogil": True, "fastmath": True, "boundscheck": False, "forceinline": inline, "_nrt": allocates}
    return compiled.njit(function, stamp=STAMP, **options)
